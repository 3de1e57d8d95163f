package recovery

import (
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// writers are the kinds of steps after which something may write that the lost
// node wrote before. They wait for its fence, whoever asks otherwise.
var writers = []string{"promote", "restore", "replay", "start"}

// destroyers are the kinds after which what was there is gone. They wait for a
// person.
var destroyers = []string{"wipe", "failback"}

// gates are the kinds that nobody may skip, nor say by word of mouth where a
// machine has said otherwise.
var gates = []string{"confirm", "fence", "decide", "approve", "validate"}

// spoken are the kinds that consist of what people say.
var spoken = map[string]string{"approve": NeedApprove, "decide": NeedDecide}

// stale is how old a validation may be when names are moved (O-54).
const stale = 5 * time.Minute

// gate says whether a step may not be skipped.
func gate(s *plan.Step) bool { return slices.Contains(gates, s.Kind) || len(s.Approve) > 0 }

// functionsOf are the functions that a step is about.
func functionsOf(r *plan.RecoveryPlan, s *plan.Step) []string {
	if len(s.Functions) > 0 {
		return s.Functions
	}
	return r.Functions
}

// after lists the steps that have to end before step i begins.
func after(r *plan.RecoveryPlan, i int) (out []int) {
	s := &r.Steps[i]
	if len(s.After) == 0 && i > 0 {
		return []int{i - 1}
	}
	for _, name := range s.After {
		out = append(out, slices.IndexFunc(r.Steps, func(o plan.Step) bool { return o.Name == name }))
	}
	return out
}

// circle finds a step that waits for itself, or for one that there is not.
func circle(r *plan.RecoveryPlan) (name string, found bool) {
	const open, closed = 1, 2
	marks := make([]int, len(r.Steps))
	var walk func(i int) bool
	walk = func(i int) bool {
		if i < 0 || marks[i] == open {
			return true
		}
		if marks[i] == closed {
			return false
		}
		marks[i] = open
		if slices.ContainsFunc(after(r, i), walk) {
			return true
		}
		marks[i] = closed
		return false
	}
	for i := range r.Steps {
		if walk(i) {
			return r.Steps[i].Name, true
		}
	}
	return "", false
}

// common says whether two lists share a name.
func common(a, b []string) bool {
	return slices.ContainsFunc(a, func(name string) bool { return slices.Contains(b, name) })
}

// bound is how long a doer may take before nobody waits for it any more: what
// the runbook says, or else three times what the plan expects.
func bound(p *plan.Plan, s *plan.Step) time.Duration {
	if b := bookStep(p, s); b != nil && b.Bound.Known() {
		return b.Bound.Longest()
	}
	if s.Takes.Known() {
		return max(3*s.Takes.Longest(), 10*time.Minute)
	}
	return time.Hour
}

// bookStep finds what the step's runbook says of it: by its name, or as the
// only one of its kind.
func bookStep(p *plan.Plan, s *plan.Step) *plan.BookStep {
	if p == nil || s.Runbook == "" {
		return nil
	}
	steps, err := p.BookSteps(s.Runbook)
	if err != nil {
		return nil // the linter says so
	}
	of := -1
	for i := range steps {
		switch {
		case steps[i].Name == s.Name:
			return &steps[i]
		case steps[i].Kind != s.Kind:
		case of >= 0:
			return nil
		default:
			of = i
		}
	}
	if of < 0 {
		return nil
	}
	return &steps[of]
}
