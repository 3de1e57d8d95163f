package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Probe is a request that must be denied.
type Probe struct {
	Name string // what is asked, and as whom; no secret
	Want []int  // the HTTP statuses that deny it
	Do   func(ctx context.Context) (status int, err error)
}

// Denials checks that real requests without the right to what they ask for are
// denied (O-16).
func Denials(probes func() []Probe, notCovered ...string) Collect {
	return func(ctx context.Context, progress func(string)) ([]Finding, error) {
		f := Finding{Subject: "negative probes", NotCovered: notCovered}
		var bad []string
		for _, p := range probes() {
			progress(p.Name)
			status, err := p.Do(ctx)
			if err != nil {
				f.Result, f.Reason, f.Covered = Inconclusive, fmt.Sprintf("%s could not be asked: %s", p.Name, sentence(err)), nil
				return []Finding{f}, nil
			}
			f.Covered = append(f.Covered, fmt.Sprintf("%s: %d", p.Name, status))
			if !slices.Contains(p.Want, status) {
				bad = append(bad, fmt.Sprintf("%s was answered with %d", p.Name, status))
			}
		}
		switch {
		case len(bad) > 0:
			f = f.fail("Not denied: " + strings.Join(bad, "; ") + ".")
		case len(f.Covered) == 0:
			f.Result, f.Reason = Inconclusive, "There was nothing to ask."
		default:
			f = f.pass(fmt.Sprintf("All %d requests were denied.", len(f.Covered)))
		}
		return []Finding{f}, nil
	}
}

// Route is a destination that a canary request would have.
type Route struct {
	Name      string // provider and model
	Forbidden bool   // the policy asked with does not allow this destination
	Refused   bool   // the gateway would not call it
	Reason    string // what the gateway says
}

// Disallowed checks that the gateway refuses to call providers that the policy
// does not allow (O-03). routes asks it, for every provider there is.
func Disallowed(routes func(ctx context.Context) ([]Route, error)) Collect {
	return func(ctx context.Context, progress func(string)) ([]Finding, error) {
		all, err := routes(ctx)
		if err != nil {
			return nil, err
		}
		f := Finding{Subject: "canary calls", NotCovered: []string{"the network: the gateway was asked for its decision, and nothing was sent", "traffic that does not go through the gateway: the firewall's business", "policies of organisations other than the default one"}}
		for _, r := range all {
			if !r.Forbidden {
				continue
			}
			f.Covered = append(f.Covered, r.Name)
			if !r.Refused {
				return []Finding{f.fail(fmt.Sprintf("The gateway would call %s, which the policy forbids.", r.Name))}, nil
			}
		}
		if len(f.Covered) == 0 {
			f.Result, f.Reason = Inconclusive, "Every configured provider is allowed by the default policy: there is nothing to refuse."
			return []Finding{f}, nil
		}
		if len(f.Covered) == 1 {
			return []Finding{f.pass("Under the default policy it refuses " + f.Covered[0] + ". " + all[0].Reason)}, nil
		}
		return []Finding{f.pass(fmt.Sprintf("It refuses all %d destinations that the default policy forbids. %s", len(f.Covered), all[0].Reason))}, nil
	}
}

// SyntheticOptions say how an access is made, found and proven.
type SyntheticOptions struct {
	Act   func(ctx context.Context) (target string, err error)             // makes an access that must be audited
	Find  func(ctx context.Context, target string) (bool, error)           // whether the audit log has it
	Prove func(ctx context.Context, target string) (ready bool, err error) // whether a valid inclusion proof exists; ready false: not yet; nil: proofs are not built in
	Limit time.Duration                                                    // within which it must be there; 0: 10 s
}

// SyntheticAccess checks that an access appears in the audit log, with a valid
// proof, within seconds (O-17).
func SyntheticAccess(o SyntheticOptions) Collect {
	if o.Limit == 0 {
		o.Limit = 10 * time.Second
	}
	return func(ctx context.Context, progress func(string)) ([]Finding, error) {
		began := time.Now()
		target, err := o.Act(ctx)
		if err != nil {
			return nil, fmt.Errorf("the synthetic access could not be made: %w", err)
		}
		f := Finding{Subject: "synthetic access", Covered: []string{"one denied access by a probe"}, NotCovered: []string{"accesses of other kinds: the tests of every route cover those"}}
		progress("waiting for the entry")
		found, err := within(ctx, o.Limit, func() (bool, error) { return o.Find(ctx, target) })
		if err != nil {
			return nil, err
		}
		if !found {
			return []Finding{f.fail(fmt.Sprintf("It is not in the audit log after %s.", o.Limit))}, nil
		}
		if o.Prove == nil {
			f.Result, f.Reason = Inconclusive, "It is in the audit log, but its proof was not checked."
			f.NotCovered = append(f.NotCovered, "the entry's inclusion proof")
			return []Finding{f}, nil
		}
		progress("waiting for the proof")
		proven, err := within(ctx, o.Limit, func() (bool, error) { return o.Prove(ctx, target) })
		if err != nil {
			return []Finding{f.fail("It is in the audit log, but its proof does not hold: " + sentence(err))}, nil
		}
		f.Covered = append(f.Covered, "the entry's inclusion proof")
		if !proven {
			return []Finding{f.fail(fmt.Sprintf("It is in the audit log, but has no proof after %s.", o.Limit))}, nil
		}
		return []Finding{f.pass(fmt.Sprintf("It was in the audit log with a valid proof after %s.", time.Since(began).Round(time.Millisecond)))}, nil
	}
}

// within asks again until the answer is yes, or the time is over.
func within(ctx context.Context, limit time.Duration, ask func() (bool, error)) (bool, error) {
	end := time.After(limit)
	for {
		ok, err := ask()
		if ok || err != nil {
			return ok, err
		}
		select {
		case <-end:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// ErrNotDenied is what a sign-in probe returns when it got in.
var ErrNotDenied = errors.New("the sign-in was let in")

// Part is one of several checks of a control.
type Part struct {
	Name    string
	Collect Collect // nil: not built in
	Missing string  // what to say then
}

// Parts joins checks. One that is not built in makes the control inconclusive:
// a promise is kept whole or not at all. So does one that fails to look, while
// the others are still heard.
func Parts(parts ...Part) Collect {
	return func(ctx context.Context, progress func(string)) (out []Finding, err error) {
		for _, p := range parts {
			if p.Collect == nil {
				out = append(out, unclear(p.Name, p.Missing))
				continue
			}
			found, err := p.Collect(ctx, progress)
			if err != nil {
				found = append(found, unclear(p.Name, "The collector failed: "+sentence(err)))
			}
			if len(found) == 0 {
				found = []Finding{unclear(p.Name, "The collector found nothing to look at.")}
			}
			out = append(out, found...)
		}
		return out, ctx.Err()
	}
}
