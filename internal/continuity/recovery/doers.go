package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/plan"
)

// pollEvery is how often a step that waits for the incident looks at it.
const pollEvery = 2 * time.Second

// poll looks at the incident until see has found what the step waits for. need
// is what people have to do for it meanwhile.
func poll(ctx context.Context, t Task, see func(*incident.State) (Receipt, *Need)) (Receipt, error) {
	for {
		state, err := t.Incident(ctx)
		if err == nil {
			r, need := see(state)
			t.Ask(need)
			if need == nil {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return Receipt{}, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// Confirm waits until two signals that do not depend on each other stand in the
// incident, and confirms it by them (O-49).
func Confirm() Doer {
	return Doer{Again: true, Patient: true,
		Says: func(Task) string {
			return "Waits until two signals of different kinds and from different observers stand in the incident, and confirms it by them."
		},
		Do: func(ctx context.Context, t Task) (Receipt, error) {
			return poll(ctx, t, func(s *incident.State) (Receipt, *Need) {
				if f := s.Known(clock.Confirmed, ""); f != nil {
					return Receipt{Words: "The incident is confirmed.", Facts: map[string]string{"evidence": strings.Join(f.Evidence, " "), "confirmed-at": f.At.UTC().Format(time.RFC3339)}}, nil
				}
				a, b := independent(s.Signals)
				if a == nil {
					return Receipt{}, &Need{What: NeedRecord, Who: t.Step.By, Words: "One kind of signal, or one observer, confirms nothing: record a second one of another kind and from somebody else with `foundry incident signal " + t.Run.Incident + "`.", Guide: guide(t.Plan, &t.Step)}
				}
				evidence := []string{fmt.Sprintf("entry:%d", a.Entry), fmt.Sprintf("entry:%d", b.Entry)}
				at := s.Last
				if _, err := t.Record(ctx, &incident.Fact{Fact: clock.Confirmed, At: at, Evidence: evidence, Words: "Two signals that do not depend on each other show it."}); err != nil {
					return Receipt{}, &Need{What: NeedRecord, Who: t.Step.By, Words: "The confirmation was not taken up: " + err.Error()}
				}
				return Receipt{Words: fmt.Sprintf("%s from %s and %s from %s show it.", a.Source, a.From, b.Source, b.From), Facts: map[string]string{"evidence": strings.Join(evidence, " ")}}, nil
			})
		}}
}

// independent finds two signals of different kinds and from different
// observers.
func independent(all []incident.SignalSeen) (a, b *incident.SignalSeen) {
	for i := range all {
		for k := range all[:i] {
			a, b = &all[k], &all[i]
			if !a.OK && !b.OK && a.Source != b.Source && a.From != b.From {
				return a, b
			}
		}
	}
	return nil, nil
}

// Notify waits until everybody whom the step's notice is for has been told, as
// the incident has it: with a receipt of the carrier.
func Notify() Doer {
	return Doer{Again: true, Patient: true,
		Says: func(t Task) string {
			return "Waits until " + strings.Join(recipients(t.Plan, t.Step.Notice, t.Run.Name), ", ") + " have been told, with receipts."
		},
		Do: func(ctx context.Context, t Task) (Receipt, error) {
			who := recipients(t.Plan, t.Step.Notice, t.Run.Name)
			if len(who) == 0 {
				return Receipt{}, ByHand("The plan does not say whom to tell.")
			}
			return poll(ctx, t, func(s *incident.State) (Receipt, *Need) {
				facts, missing := map[string]string{}, []string{}
				for _, to := range who {
					if how := told(s, to); how != "" {
						facts["told-"+to] = how
					} else {
						missing = append(missing, to)
					}
				}
				if len(missing) == 0 {
					return Receipt{Words: "Told: " + strings.Join(who, ", ") + ".", Facts: facts}, nil
				}
				return Receipt{}, &Need{What: NeedRecord, Who: t.Step.By, Words: "Not told yet: " + strings.Join(missing, ", ") + ". Send the notice with `foundry incident notice`.", Guide: guide(t.Plan, &t.Step)}
			})
		}}
}

// told says how somebody was told, or why they need not be; "": they were not.
func told(s *incident.State, to string) string {
	for i := range s.Notices {
		n := &s.Notices[i]
		regulator := to == "regulator" && n.Audience == incident.ToRegulator
		if (n.To == to || regulator) && !n.ToldAt.IsZero() {
			return fmt.Sprintf("entry:%d", n.Entry)
		}
	}
	if s.Approved("no-notice", to) {
		return "decided not to"
	}
	if a := s.Assessment(); to == "regulator" && a != nil && (!a.Personal || a.Risk == incident.RiskUnlikely) {
		return fmt.Sprintf("entry:%d", a.Entry)
	}
	return ""
}

// recipients are those whom a notice is for: clients of the functions that are
// brought back, or whom it names.
func recipients(p *plan.Plan, notice, recovery string) (out []string) {
	n := p.Notice(notice)
	if n == nil {
		return nil
	}
	if n.To != "clients" {
		return []string{n.To}
	}
	rp := p.RecoveryPlan(recovery)
	for i := range p.Clients {
		c := &p.Clients[i]
		if len(c.Functions) == 0 || rp == nil || len(rp.Functions) == 0 || common(c.Functions, rp.Functions) {
			out = append(out, c.Name)
		}
	}
	if len(out) == 0 {
		out = []string{clock.Everybody}
	}
	return out
}

// Review waits until the review stands in the incident.
func Review() Doer {
	return Doer{Again: true, Patient: true,
		Says: func(Task) string { return "Waits until the review stands in the incident." },
		Do: func(ctx context.Context, t Task) (Receipt, error) {
			return poll(ctx, t, func(s *incident.State) (Receipt, *Need) {
				if s.Review != nil {
					return Receipt{Words: "The review was held: " + s.Review.Cause, Facts: map[string]string{"held-at": s.Review.Held.UTC().Format(time.RFC3339)}}, nil
				}
				return Receipt{}, &Need{What: NeedRecord, Who: t.Step.By, Words: "Hold the review, and record it with `foundry incident review`."}
			})
		}}
}

// Watch looks at the functions for as long as the plan says. down says whether
// the fleet holds that one is lost, and why.
func Watch(down func(function string) (words string, lost bool)) Doer {
	return Doer{Again: true, Patient: true,
		Says: func(t Task) string {
			return "Looks at " + strings.Join(t.Functions, ", ") + " for " + t.Step.Takes.String() + "."
		},
		Do: func(ctx context.Context, t Task) (Receipt, error) {
			all := t.Step.Takes.Longest()
			for began := time.Now(); ; {
				for _, f := range t.Functions {
					if words, lost := down(f); lost {
						return Receipt{Outcome: Failed, Code: "recovery-lost-again", Words: f + " is lost again: " + words}, nil
					}
				}
				gone := time.Since(began) // of this leader: another watches from the beginning
				if gone >= all {
					return Receipt{Words: "Nothing was lost for " + plan.FormatDuration(all) + "."}, nil
				}
				t.Progress(order.Progress{Words: "watching", Done: int64(gone / time.Second), Total: int64(all / time.Second), Unit: "seconds"})
				select {
				case <-ctx.Done():
					return Receipt{}, ctx.Err()
				case <-time.After(min(pollEvery, all-gone)):
				}
			}
		}}
}

// OrderProbe is the kind of order by which a node looks at functions.
const OrderProbe = "recovery.probe"

// Validate has the node that takes over look at every function of the step by
// all of its probes; all must pass, twice. address says where clients reach a
// node, or "".
func Validate(desk *order.Desk, address func(node string) string) Doer {
	return Doer{Again: true,
		Says: func(t Task) string {
			return "From " + nonempty(t.Node(), "the node that takes over") + ": every probe of " + strings.Join(t.Functions, ", ") + " must pass, twice."
		},
		Do: func(ctx context.Context, t Task) (Receipt, error) {
			node := t.Node()
			if node == "" {
				return Receipt{}, ByHand("The plan does not say from where to look.")
			}
			if t.Plan.Node(node) != nil && t.Plan.Node(node).Isolated || !inFleet(ctx, desk.Store, node) {
				return Receipt{}, ByHand(node + " takes no orders of this fleet: somebody looks there.")
			}
			for _, name := range t.Functions {
				if f := t.Plan.Function(name); f == nil || len(probesOf(f)) == 0 {
					return Receipt{}, ByHand("The plan has no probe that shows that " + name + " works: somebody looks.")
				}
			}
			within := 10 * time.Minute
			if t.Step.Takes.Known() {
				within = t.Step.Takes.Longest()
			}
			args := map[string]string{"functions": strings.Join(t.Functions, "\n"), "within": within.String(), "lost": strings.Join(t.Run.Lost, "\n")}
			if a := address(node); a != "" {
				args["address"] = a
			}
			a, err := desk.GiveTold(ctx, t.Term, t.Order(node, OrderProbe, args), func(a order.Answer) {
				if a.Progress != nil {
					t.Progress(*a.Progress)
				}
			})
			if err != nil && a.Code == "order-kind" {
				return Receipt{}, ByHand(node + " is not set up to look: somebody looks there.")
			}
			return Receipt{Words: a.Words, Code: a.Code, Facts: a.Facts, By: "node:" + node}, err
		}}
}

func nonempty(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// inFleet says whether a node takes orders; where that cannot be read it may.
func inFleet(ctx context.Context, s *member.Store, node string) bool {
	_, err := s.Get(ctx, "nodes/"+node)
	return !errors.Is(err, member.ErrAbsent)
}

// probesOf are the probes that show that a function works where it is. Names
// are looked at only where they are the function: they move last.
func probesOf(f *plan.Function) (out []plan.Probe) {
	for _, p := range f.Probes {
		if p.Kind != "dns" && p.Kind != "backup-age" || p.Kind == "dns" && f.Kind == "dns" {
			out = append(out, p)
		}
	}
	return slices.Clip(out)
}
