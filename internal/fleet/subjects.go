package fleet

import (
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/plan"
)

// quickest is the shortest time in which a loss may be confirmed, whatever the
// plan says: two kinds of signal have to fail more than once.
const quickest = 10 * time.Second

// subjectsOf lists the functions of a plan, and who of the fleet looks at each.
func subjectsOf(p *plan.File, nodes []string) (out []verdict.Subject) {
	if p == nil {
		return nil
	}
	from := map[string][]string{}
	for _, node := range nodes {
		for _, spec := range probe.FromPlan(p, node) {
			if by := from[spec.Function]; !slices.Contains(by, node) {
				from[spec.Function] = append(by, node)
			}
		}
	}
	for _, f := range p.Functions {
		out = append(out, verdict.Subject{Name: verdict.Function(f.Name), Hosts: slices.Clone(f.Host), From: from[f.Name],
			Confirm: confirmWithin(p, append([]string{f.Name}, f.Host...))})
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
