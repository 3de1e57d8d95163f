package lint

import (
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// phases are what a security incident goes through after it was detected, and
// the kinds of steps that belong to each.
var phases = []struct {
	name  string
	kinds []string
}{
	{"containment", []string{"isolate", "fence"}},
	{"capture of evidence", []string{"capture"}},
	{"investigation", []string{"investigate"}},
	{"remediation", []string{"restore", "rebuild", "wipe", "replay", "promote", "start", "switch"}},
	{"review", []string{"review"}},
}

func incidentPhaseMissing(c *Context) {
	reviewed := slices.ContainsFunc(c.Duties, func(d plan.Duty) bool { return d.Kind == "post-incident-review" })
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		if s.Kind != "security" {
			continue
		}
		if len(s.Recovery) == 0 {
			c.Report(at("scenarios", i), about("scenario", s.Name), "No recovery plan says what is done when scenario %q has happened.", s.Name)
			continue
		}
		var missing, paths []string
		for _, p := range phases {
			if !c.hasPhase(s, p.kinds) && !(p.name == "review" && reviewed) {
				missing = append(missing, p.name)
			}
		}
		for j := range c.Recovery {
			if slices.Contains(s.Recovery, c.Recovery[j].Name) {
				paths = append(paths, at("recovery", j))
			}
		}
		if len(missing) > 0 {
			c.Report(at("scenarios", i, "recovery"), about("scenario", s.Name), "What follows scenario %q has no %s.", s.Name, strings.Join(missing, ", no ")).With(paths...)
		}
	}
}

// hasPhase reports whether a recovery plan of a scenario has a step of a phase.
func (c *Context) hasPhase(s *plan.Scenario, kinds []string) bool {
	return slices.ContainsFunc(s.Recovery, func(name string) bool {
		r := c.RecoveryPlan(name)
		return r != nil && hasStep(r, kinds...)
	})
}

func noticeContentMissing(c *Context) {
	for i := range c.Notices {
		n := &c.Notices[i]
		required := contents(n)
		missing := slices.DeleteFunc(slices.Clone(required), func(s string) bool { return slices.Contains(n.States, s) })
		switch {
		case len(missing) == 0:
		case len(n.States) == 0:
			c.Report(at("notices", i), about("notice", n.Name), "Notice %q does not say what it must state.", n.Name).
				Saying("Write states: %s.", strings.Join(required, ", ")).As(Note)
		default:
			c.Report(at("notices", i, "states"), about("notice", n.Name), "Notice %q states no %s.", n.Name, strings.Join(missing, ", no ")).
				Saying("Add to states: %s.", strings.Join(missing, ", "))
		}
	}
}

// contents are what a notice of an incident has to state.
func contents(n *plan.Notice) []string {
	switch {
	case n.Event == "personal-data-breach" && n.To == "regulator":
		return []string{"nature", "contact", "remediation"}
	case (n.Event == "personal-data-breach" || n.Event == "security-incident") && n.To == "clients":
		return []string{"nature", "data-affected", "remediation"}
	}
	return nil
}
