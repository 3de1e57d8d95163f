package recovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// Prober looks at functions on this node, by the order of a leader.
type Prober struct {
	Store *member.Store
	Node  string
	Env   func() probe.Env
	Pause time.Duration // between two looks; default 2 s
}

// Carry looks until every probe has passed twice in a row, or the time of the
// order is over.
func (p *Prober) Carry(ctx context.Context, o order.Order, progress func(order.Progress)) (map[string]string, string, error) {
	of, err := planOf(ctx, p.Store, o.Run)
	if err != nil {
		return nil, "", err
	}
	specs, err := p.specs(of, o)
	if err != nil {
		return nil, "", err
	}
	within, err := time.ParseDuration(o.Args["within"])
	if err != nil || within <= 0 {
		within = 10 * time.Minute
	}
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pause := p.Pause
	if pause <= 0 {
		pause = 2 * time.Second
	}
	for passed, looks := 0, 1; ; looks++ {
		facts, bad, good := p.look(limited, specs)
		if passed++; len(bad) > 0 {
			passed = 0
		}
		progress(order.Progress{Words: fmt.Sprintf("look %d", looks), Done: int64(good), Total: int64(len(specs)), Unit: "probes"})
		facts["looks"] = fmt.Sprint(looks)
		if passed == 2 {
			return facts, fmt.Sprintf("All %d probes passed, twice.", len(specs)), nil
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return facts, "", ctx.Err()
			}
			if len(bad) == 0 {
				bad = []string{"there was no time for a second look"}
			}
			return facts, "", problem.New(problem.Conflict, "recovery-validation-failed", fmt.Sprintf("%d of %d probes did not pass in %s: %s", len(bad), len(specs), plan.FormatDuration(within), strings.Join(bad, "; ")))
		case <-time.After(pause):
		}
	}
}

// look looks by every probe once, all at the same time.
func (p *Prober) look(ctx context.Context, specs []probe.Spec) (facts map[string]string, bad []string, good int) {
	results := make(chan probe.Result, len(specs))
	env := p.Env()
	for _, s := range specs {
		go func() { results <- probe.Run(ctx, s, env) }()
	}
	facts = map[string]string{}
	for range specs {
		r := <-results
		facts[r.Probe] = r.Words
		if r.OK {
			good++
		} else { // what shows nothing does not show that it works
			bad = append(bad, r.Probe+": "+r.Words)
		}
	}
	slices.Sort(bad)
	return facts, bad, good
}

// specs are the looks that an order asks for.
func (p *Prober) specs(of *plan.Plan, o order.Order) (out []probe.Spec, err error) {
	lost := lines(o.Args["lost"])
	for _, name := range lines(o.Args["functions"]) {
		f := of.Function(name)
		if f == nil {
			return nil, problem.New(problem.Invalid, "recovery-function-unknown", "The plan of the run has no function "+name+".")
		}
		for _, one := range probesOf(f) {
			out = append(out, probe.Spec{Name: name + "/" + one.Name, Function: name, Node: p.Node, Kind: probe.Signal(one.Kind), Target: p.aim(of, f, one, lost, o.Args["address"])})
		}
	}
	if len(out) == 0 {
		return nil, problem.New(problem.Invalid, "recovery-no-probes", "There is nothing to look at.")
	}
	return out, nil
}

// aim turns a target to this node: what names a lost node asks this one, and a
// host name is asked here, whatever it resolves to, for it has not moved yet.
func (p *Prober) aim(of *plan.Plan, f *plan.Function, one plan.Probe, lost []string, address string) string {
	t, err := probe.Parse(probe.Signal(one.Kind), one.Target)
	if err != nil {
		return one.Target // its result says so
	}
	if slices.Contains(lost, t.Host) {
		return strings.Replace(one.Target, t.Host, p.Node, 1)
	}
	its := slices.Contains(f.Hostnames, t.Host) || len(f.Hostnames) == 0 && common(f.Host, lost)
	if t.Host == "" || of.Node(t.Host) != nil || !its || strings.Contains(one.Target, " at=") {
		return one.Target
	}
	if address == "" {
		address = p.here()
	}
	at := one.Target + " at=" + address
	if address == "" {
		return one.Target
	}
	if _, err := probe.Parse(probe.Signal(one.Kind), at); err != nil {
		return strings.Replace(one.Target, t.Host, address, 1) // this kind needs no name
	}
	return at
}

// here is where this node can be asked.
func (p *Prober) here() string {
	if env := p.Env(); env.Address != nil {
		if host, ok := env.Address(p.Node); ok {
			return host
		}
	}
	return ""
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// Carries are what this package does on a node.
func (p *Prober) Carries() (kinds map[string]order.Carry, again map[string]bool) {
	kinds = map[string]order.Carry{OrderProbe: p.Carry}
	again = map[string]bool{}
	for kind := range maps.Keys(kinds) {
		again[kind] = true // it only looks
	}
	return kinds, again
}
