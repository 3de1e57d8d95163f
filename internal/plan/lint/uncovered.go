package lint

import (
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

func functionUncovered(c *Context) {
	scenarios := c.lossesOf()
	tightest := c.tightestRTO()
	for i := range c.Functions {
		f := &c.Functions[i]
		if !f.IsCritical() || len(f.Host) > 1 || slices.ContainsFunc(f.Fallbacks, func(fb plan.Fallback) bool { return fb.Serves != "non-critical" }) {
			continue
		}
		homes := c.homeOf(f)
		if c.alternativesFor(f) || slices.ContainsFunc(c.Recovery, func(r plan.RecoveryPlan) bool {
			return slices.Contains(r.Functions, f.Name) && scenarios.coversLoss(r.Name, homes)
		}) {
			continue
		}
		missing := []string{"no recovery plan"}
		if len(f.Host) > 0 {
			missing = []string{fmt.Sprintf("no recovery plan for the loss of %s", quotedThing(plan.Thing{Kind: plan.KindNode, Name: f.Host[0]}))}
		}
		if len(f.Fallbacks) == 0 {
			missing = append([]string{"no fallback"}, missing...)
		} else {
			missing = append([]string{"no fallback for what is critical of it"}, missing...)
		}
		if len(c.BackupsOf(f)) == 0 && !slices.Contains(passing, f.Kind) {
			missing = append(missing, "no backup")
		}
		if !scenarios.anyLoses(homes) {
			missing = append(missing, "no scenario")
		}
		why := ""
		if f.RTO.Known() && f.RTO.Longest() == tightest {
			why = fmt.Sprintf("; its RTO of %s is the tightest of the plan", f.RTO)
		} else if f.RTO.Known() {
			why = fmt.Sprintf("; its RTO is %s", f.RTO)
		}
		c.Report(at("functions", i), about("function", f.Name), "%q has %s%s.", f.Name, listed(missing), why)
	}
}

// homeOf lists the names whose loss is the loss of a function's own place.
func (c *Context) homeOf(f *plan.Function) []string {
	names := append([]string{f.Name}, f.Host...)
	for _, host := range f.Host {
		if n := c.Node(host); n != nil && n.Site != "" {
			names = append(names, n.Site)
		}
	}
	if len(f.Host) == 0 {
		names = append(names, f.Suppliers...)
	}
	return names
}

// alternativesFor reports whether a function that suppliers run has, for each
// of them, another that could take over by a runbook or within a known time.
func (c *Context) alternativesFor(f *plan.Function) bool {
	if len(f.Host) > 0 || len(f.Suppliers) == 0 {
		return false
	}
	return !slices.ContainsFunc(f.Suppliers, func(name string) bool {
		s := c.Supplier(name)
		return s == nil || !slices.ContainsFunc(s.Alternatives, func(a plan.Alternative) bool { return a.Runbook != "" || a.Within.Known() })
	})
}

// tightestRTO is the shortest of the critical functions; 0 when none has one.
func (c *Context) tightestRTO() (shortest time.Duration) {
	for i := range c.Functions {
		if f := &c.Functions[i]; f.RTO.Known() && f.IsCritical() && (shortest == 0 || f.RTO.Longest() < shortest) {
			shortest = f.RTO.Longest()
		}
	}
	return shortest
}

// losses is what the scenarios of each recovery plan take away.
type losses struct {
	of    map[string][]*plan.Scenario // recovery plan → scenarios that use it
	names map[string]bool             // everything that any scenario loses
}

func (c *Context) lossesOf() losses {
	l := losses{of: map[string][]*plan.Scenario{}, names: map[string]bool{}}
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		for _, r := range s.Recovery {
			l.of[r] = append(l.of[r], s)
		}
		for _, name := range s.Loses {
			l.names[name] = true
		}
	}
	return l
}

func (l losses) anyLoses(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return l.names[name] })
}

// coversLoss reports whether a recovery plan is for the loss of one of the
// names: a scenario of it loses that, or no scenario says what it is for. A
// plan against intruders or for planned work does not bring back a lost node.
func (l losses) coversLoss(recovery string, names []string) bool {
	all := l.of[recovery]
	if len(all) == 0 {
		return true
	}
	return slices.ContainsFunc(all, func(s *plan.Scenario) bool {
		switch {
		case s.Kind == "security" || s.Kind == "planned" || s.Kind == "person-away":
			return false
		case len(s.Loses) == 0:
			return true
		}
		return slices.ContainsFunc(s.Loses, func(lost string) bool { return slices.Contains(names, lost) })
	})
}
