package fleet

import (
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/plan"
)

// quickest is the shortest time in which a loss may be confirmed, whatever the
// plan says: two kinds of signal have to fail more than once.
const quickest = 10 * time.Second

// subjectsOf lists the functions of a plan that somebody looks at.
func subjectsOf(p *plan.File) (out []verdict.Subject) {
	if p == nil {
		return nil
	}
	for _, f := range p.Functions {
		s := verdict.Subject{Name: verdict.Function(f.Name), Hosts: slices.Clone(f.Host), Confirm: confirmWithin(p, append([]string{f.Name}, f.Host...))}
		for _, pr := range f.Probes {
			if len(pr.From) == 0 {
				s.From = nil
				break
			}
			for _, from := range pr.From {
				if !slices.Contains(s.From, from) {
					s.From = append(s.From, from)
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// confirmWithin is how soon the scenarios of a plan want the loss of any of
// these known, where that is sooner than the fleet's own time.
func confirmWithin(p *plan.File, names []string) (soonest time.Duration) {
	for _, sc := range p.Scenarios {
		if !slices.ContainsFunc(sc.Loses, func(lost string) bool { return slices.Contains(names, lost) }) || !sc.ConfirmWithin.Known() {
			continue
		}
		if d := sc.ConfirmWithin.Longest(); d > 0 && (soonest == 0 || d < soonest) {
			soonest = d
		}
	}
	if soonest == 0 || soonest >= verdict.Default().Confirm {
		return 0
	}
	return max(soonest, quickest)
}
