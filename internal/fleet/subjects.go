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

// subjectsOf lists the functions of a plan, the other fleets that it looks at
// from outside, and who of the fleet looks at each; and the nodes whose loss the
// plan wants known sooner than the fleet would say it.
func subjectsOf(p *plan.File, nodes []string) (out []verdict.Subject) {
	if p == nil {
		return nil
	}
	from := map[string][]string{}
	for _, node := range nodes {
		for _, spec := range probe.FromPlan(p, node) {
			subject := verdict.Function(spec.Function)
			if spec.Outside != "" {
				subject = verdict.Outside(spec.Outside)
			}
			if by := from[subject]; !slices.Contains(by, node) {
				from[subject] = append(by, node)
			}
		}
	}
	for _, f := range p.Functions {
		out = append(out, verdict.Subject{Name: verdict.Function(f.Name), Hosts: slices.Clone(f.Host), From: from[verdict.Function(f.Name)],
			Confirm: confirmWithin(p, append([]string{f.Name}, f.Host...))})
	}
	for _, node := range nodes {
		if within := confirmWithin(p, []string{node}); within > 0 { // the others are judged by the fleet's own time
			out = append(out, verdict.Subject{Name: verdict.Node(node), Confirm: within})
		}
	}
	for _, w := range p.Watches {
		out = append(out, verdict.Subject{Name: verdict.Outside(w.Name), From: from[verdict.Outside(w.Name)]})
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
