package recovery

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
)

// World is what a run is decided by, beside itself.
type World struct {
	Now      time.Time
	Epoch    int64
	Node     string // that leads
	Plan     *plan.Plan
	InForce  string             // hash of the plan in force; empty: not known
	Incident *incident.State    // nil: it could not be read
	Doers    map[string]bool    // kinds of steps that this leader can do
	Mine     map[string]int     // step → attempt that this process is at
	Passed   map[string]instant // step → when this process saw it pass, by its own monotonic clock
	Spares   map[string]bool    // steps of which a doer has said that they destroy nothing
}

// instant is a moment of an attempt, by a clock that nobody can set.
type instant struct {
	attempt int
	age     time.Duration
}

func (w *World) recoveryPlan(r *Run) *plan.RecoveryPlan { return w.Plan.RecoveryPlan(r.Name) }

// Held is why a gate holds a step.
type Held struct {
	Code  string
	Words string
	Need  *Need // what a person has to do; nil: nothing that a person could
	Again []int // steps that have to be done again first
}

// Error says why.
func (h *Held) Error() string { return h.Words }

// Gate says whether step i may begin, as the run and the world stand; nil: it
// may. It is asked right before the beginning is written, and decides nothing
// else. What holds is a *Held.
func Gate(r *Run, i int, w *World) error {
	if h := hold(r, i, w); h != nil {
		return h
	}
	return nil
}

func hold(r *Run, i int, w *World) *Held {
	rp := w.recoveryPlan(r)
	for _, g := range []func(*Run, *plan.RecoveryPlan, int, *World) *Held{ordered, unfenced, interlock, approval, names} {
		if h := g(r, rp, i, w); h != nil {
			return h
		}
	}
	return nil
}

// ordered wants what comes before to have ended.
func ordered(r *Run, rp *plan.RecoveryPlan, i int, _ *World) *Held {
	var open []string
	for _, k := range after(rp, i) {
		if k >= 0 && !r.Steps[k].State.Over() {
			open = append(open, r.Steps[k].Name)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return &Held{Code: "recovery-order", Words: "It comes after " + strings.Join(open, " and ") + "."}
}

// unfenced wants every lost node to be unable to write before anything writes in
// its place (invariant 8). No person can say otherwise.
func unfenced(r *Run, rp *plan.RecoveryPlan, i int, _ *World) *Held {
	if !slices.Contains(writers, r.Steps[i].Kind) {
		return nil
	}
	for _, node := range r.Lost {
		if _, ok := r.fenced(node); ok {
			continue
		}
		words := node + " is not fenced: nothing shows that it writes no more."
		if !fencible(rp, node, i) {
			words += " The plan has no step that fences it before this one: abandon this run, and write one."
		}
		return &Held{Code: "recovery-unfenced", Words: words}
	}
	return nil
}

// fencible says whether a plan fences a node by a step that does not wait for
// step i.
func fencible(rp *plan.RecoveryPlan, node string, i int) bool {
	for k := range rp.Steps {
		if s := &rp.Steps[k]; s.Kind == "fence" && (s.Node == "" || s.Node == node) && !waitsFor(rp, k, i) {
			return true
		}
	}
	return false
}

// waitsFor says whether step k comes after step i, directly or not.
func waitsFor(rp *plan.RecoveryPlan, k, i int) bool {
	for _, before := range after(rp, k) {
		if before == i || before >= 0 && waitsFor(rp, before, i) {
			return true
		}
	}
	return false
}

// names wants every function whose names move to be validated: by each step
// that covers it, after everything that could have changed it, and just now
// (invariant 9).
func names(r *Run, rp *plan.RecoveryPlan, i int, w *World) *Held {
	if r.Steps[i].Kind != "dns" {
		return nil
	}
	moved := functionsOf(rp, &rp.Steps[i])
	var again []int
	var whys []string
	for m := range rp.Steps {
		if o := &r.Steps[m]; slices.Contains(writers, o.Kind) && o.From > o.To && common(moved, functionsOf(rp, &rp.Steps[m])) {
			return &Held{Code: "recovery-unvalidated", Words: o.Name + " has not ended: names do not move meanwhile."}
		}
	}
	for _, name := range moved {
		covering := 0
		for k := range rp.Steps {
			if rp.Steps[k].Kind != "validate" || !slices.Contains(functionsOf(rp, &rp.Steps[k]), name) || waitsFor(rp, k, i) {
				continue // one that looks again after the names have moved cannot be waited for
			}
			covering++
			s := &r.Steps[k]
			if s.State != Done {
				return &Held{Code: "recovery-unvalidated", Words: fmt.Sprintf("%s has not passed: its names stay where they are.", s.Name)}
			}
			if why := outdated(r, rp, k, w); why != "" && !slices.Contains(again, k) {
				again, whys = append(again, k), append(whys, why)
			}
		}
		if covering == 0 {
			return &Held{Code: "recovery-unvalidated", Words: "No step of the plan validates " + name + " before this one: its names stay where they are. Abandon this run, and write one."}
		}
	}
	if len(moved) == 0 {
		return &Held{Code: "recovery-unvalidated", Words: "The plan does not say of which functions the names move, so nothing shows that they work. Abandon this run, and write it."}
	}
	if len(again) > 0 {
		return &Held{Code: "recovery-validation-old", Words: strings.Join(whys, " "), Again: again}
	}
	return nil
}

// outdated says why a validation that passed counts no more; "": it counts.
func outdated(r *Run, rp *plan.RecoveryPlan, k int, w *World) string {
	s := &r.Steps[k]
	covers := functionsOf(rp, &rp.Steps[k])
	for m := range rp.Steps {
		o := &r.Steps[m]
		if slices.Contains(writers, o.Kind) && o.From > 0 && o.To > s.From && common(covers, functionsOf(rp, &rp.Steps[m])) {
			return fmt.Sprintf("%s was validated before %s had ended.", s.Name, o.Name)
		}
	}
	at, seen := w.Passed[s.Name]
	switch {
	case seen && at.attempt == s.Attempt && at.age <= stale:
		return ""
	case !seen && s.Receipt != nil && strings.HasPrefix(s.Receipt.By, "person:"):
		// A person's word has no clock of this process; a leader before heard it.
		if age := w.Now.Sub(s.Ended); age >= -time.Minute && age <= stale {
			return ""
		}
	}
	return fmt.Sprintf("%s passed more than %s ago, or another leader saw it.", s.Name, plan.FormatDuration(stale))
}

// interlock asks the incident before anything is destroyed (O-62).
func interlock(r *Run, rp *plan.RecoveryPlan, i int, w *World) *Held {
	if r.Steps[i].Kind != "wipe" && r.Steps[i].Kind != "failback" {
		return nil
	}
	if w.Incident == nil {
		return &Held{Code: "recovery-incident-unread", Words: "The incident cannot be read: whether something must be kept as evidence is not known."}
	}
	if err := w.Incident.MayDestroy(rp.Steps[i].Node); err != nil {
		return &Held{Code: "recovery-interlock", Words: err.Error()}
	}
	return nil
}

// approval wants the people whose word the plan asks for.
func approval(r *Run, rp *plan.RecoveryPlan, i int, w *World) *Held {
	s, need := &rp.Steps[i], approvalOf(r, rp, i, w)
	if need == nil {
		return nil
	}
	given := approvers(r, i, need.Who)
	if len(given) >= need.Count {
		if len(given) > 1 || given[0] != r.Starter || len(need.Who) == 0 {
			return nil
		}
		need.Words = s.Name + ": who asked for it cannot be the only one to approve it. " + need.Words
	}
	return &Held{Code: "recovery-unapproved", Words: need.Words, Need: need}
}

// approvalOf is whose word a step needs; nil: nobody's.
func approvalOf(r *Run, rp *plan.RecoveryPlan, i int, w *World) *Need {
	s := &rp.Steps[i]
	org := &w.Plan.Organisation
	who, count := s.Approve, 1
	switch {
	case len(who) > 0:
		count = max(1, min(org.Approvals, len(who)))
	case s.Kind == "approve":
		if who = org.Approvers; len(who) > 0 {
			count = max(1, min(org.Approvals, len(who)))
		}
	case slices.Contains(destroyers, s.Kind):
	case s.Kind == "restore" && (rp.Starts != "automatic" || !w.Spares[s.Name]):
	default:
		return nil
	}
	n := &Need{What: NeedApprove, Who: who, Count: count, Code: "recovery-unapproved"}
	switch {
	case len(who) > 0:
		n.Words = fmt.Sprintf("%s waits for %s of: %s.", s.Name, people(count), strings.Join(who, ", "))
	default:
		n.Words = fmt.Sprintf("%s may destroy what is there: somebody has to agree.", s.Name)
	}
	return n
}

func people(n int) string {
	if n == 1 {
		return "the approval of one"
	}
	return fmt.Sprintf("the approvals of %d different people", n)
}

// approvers are the principals who have approved the step in this round, each
// once, and of those who are named, if any are. Who has taken it back with a
// later word is none of them.
func approvers(r *Run, i int, named []string) (out []string) {
	s := &r.Steps[i]
	for k := range s.Said {
		said := &s.Said[k]
		if said.Round != s.Round || len(named) > 0 && !slices.Contains(named, said.Person) {
			continue
		}
		switch said.What {
		case SaidApprove:
			if !slices.Contains(out, said.By) {
				out = append(out, said.By)
			}
		case SaidReject:
			out = slices.DeleteFunc(out, func(by string) bool { return by == said.By })
		}
	}
	return out
}
