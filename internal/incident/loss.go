package incident

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/plan"
)

// Acts that the fleet itself enters: a loss that it confirmed, and its end.
const (
	ActLost = "fleet.lost"
	ActBack = "fleet.back"
)

// Reached is what a loss has reached by the plan: the functions that nothing
// serves now, and the clients that use them.
func Reached(p *plan.Plan, lost ...plan.Thing) (s Scope) {
	for _, t := range lost {
		switch t.Kind {
		case plan.KindNode:
			s.Nodes = joined(s.Nodes, []string{t.Name})
		case plan.KindFunction:
			s.Functions = joined(s.Functions, []string{t.Name})
		}
	}
	if p == nil {
		return s
	}
	for _, f := range p.Falls(plan.Measured{}, lost...).Functions {
		if f.State == plan.Down || f.State == plan.Degraded {
			s.Functions = joined(s.Functions, []string{f.Name})
		}
	}
	for i := range p.Clients {
		c := &p.Clients[i]
		if len(c.Functions) == 0 && len(s.Functions) > 0 || slices.ContainsFunc(c.Functions, func(f string) bool { return slices.Contains(s.Functions, f) }) {
			s.Clients = joined(s.Clients, []string{c.Name})
		}
	}
	return s
}

// ScenarioOf finds what the plan calls such a loss: a scenario that names one
// of the things, or else the only one of their kind that names nothing.
func ScenarioOf(p *plan.Plan, lost ...plan.Thing) *plan.Scenario {
	if p == nil {
		return nil
	}
	var loose *plan.Scenario
	for i := range p.Scenarios {
		s := &p.Scenarios[i]
		if slices.ContainsFunc(lost, func(t plan.Thing) bool { return slices.Contains(s.Loses, t.Name) }) {
			return s
		}
		if len(s.Loses) == 0 && loose == nil && slices.ContainsFunc(lost, func(t plan.Thing) bool { return s.Kind == t.Kind+"-loss" }) {
			loose = s
		}
	}
	return loose
}

// CategoryOf is what kind of incident a scenario is.
func CategoryOf(s *plan.Scenario) Category {
	if s == nil {
		return Outage
	}
	switch s.Kind {
	case "security":
		return Security
	case "supplier-loss":
		return SupplierLoss
	case "person-away":
		return PersonAway
	}
	return Outage
}

// NoPlan is what an incident says that has no clocks.
const NoPlan = "No plan is in force: nobody has said how long anything may take, and this incident has no clocks."

// plannedOpening fills in what the plan says: scope, clocks, approvals. Without
// a plan there are no clocks, and the first entry says so.
func plannedOpening(p *plan.Plan, o Opened) Opened {
	if p == nil {
		o.Words = strings.TrimSpace(o.Words + " " + NoPlan)
		return o
	}
	o.Plan, o.Approvals = p.Hash(), p.Organisation.Approvals
	o.Scope.Plan = o.Plan
	o.Rules = clock.Rules(p, clock.Scope{Events: []string{string(o.Category)}, Scenario: o.Scenario, Functions: o.Scope.Functions, Clients: o.Scope.Clients, Isolate: isolated(o.Category, o.Scope.Nodes)})
	return o
}

func isolated(c Category, nodes []string) []string {
	if c == Security || c == Personal {
		return nodes
	}
	return nil
}

// thing names what a verdict is about as the plan does.
func thing(subject string) (plan.Thing, bool) {
	for _, kind := range []string{plan.KindNode, plan.KindFunction} {
		if name, ok := strings.CutPrefix(subject, kind+"/"); ok {
			return plan.Thing{Kind: kind, Name: name}, true
		}
	}
	return plan.Thing{}, false
}

// LossName is what an incident is called that a verdict opens: the same on
// every node that holds the verdict.
func LossName(v *verdict.Verdict) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, v.Subject)
	return fmt.Sprintf("%s-%s", v.Since.UTC().Format("20060102t150405"), strings.Trim(name[:min(len(name), 40)], "-"))
}

// Loss is the opening of an incident by a verdict that the fleet holds.
func Loss(p *plan.Plan, v *verdict.Verdict, now time.Time) Opened {
	t, _ := thing(v.Subject)
	sc := ScenarioOf(p, t)
	o := Opened{Title: fmt.Sprintf("%s is lost", t), Category: CategoryOf(sc), Mode: Real, Started: notAfter(v.Since, now), Scope: Reached(p, t),
		Words: "The fleet confirmed it: " + v.Words}
	o.Detected = notAfter(detected(v), now)
	if o.Detected.Before(o.Started) {
		o.Detected = o.Started
	}
	if sc != nil {
		o.Scenario = sc.Name
		if sc.Title != "" {
			o.Title += ": " + sc.Title
		}
	}
	return plannedOpening(p, o)
}

// detected is when somebody first heard that it is so.
func detected(v *verdict.Verdict) time.Time {
	at := v.Decided
	for i := range v.For {
		if h := v.For[i].Heard; !h.IsZero() && h.Before(at) {
			at = h
		}
	}
	return at
}

func notAfter(t, now time.Time) time.Time {
	if t.IsZero() || t.After(now) {
		return now
	}
	return t
}

// maxSignals bounds what one verdict brings into a timeline.
const maxSignals = 12

// lossSignals are the observations that a verdict rests on, one of each
// observer and kind.
func lossSignals(v *verdict.Verdict, now time.Time) (out []Signal) {
	for i := range v.For {
		o := &v.For[i]
		if len(out) == maxSignals {
			break
		}
		if slices.ContainsFunc(out, func(s Signal) bool { return s.Source == o.Signal && s.From == o.Observer }) {
			continue
		}
		words := "It does not answer"
		if o.Code != "" {
			words += ": " + o.Code
		}
		out = append(out, Signal{Source: o.Signal, From: o.Observer, Subject: v.Subject, At: notAfter(o.Since, now), OK: o.OK, Words: words + "."})
	}
	return out
}
