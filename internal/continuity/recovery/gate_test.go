package recovery

import (
	"errors"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
)

const small = `version: 1
organisation: {name: Small, approvals: 2}
people: [{name: ann}, {name: bob}]
nodes: [{name: n1}, {name: n2}]
functions: [{name: web, host: [n1]}]
recovery:
  - name: back
    functions: [web]
    onto: [n2]
    steps:
      - {name: fence, kind: fence, node: n1}
      - {name: start, kind: start}
      - {name: validate, kind: validate}
      - {name: move, kind: dns}
      - {name: wipe, kind: wipe, node: n1, approved_by: [ann, bob]}
`

// stand is a run of the small plan in which the first n steps are done.
func stand(t *testing.T, n int) (*Run, *World) {
	t.Helper()
	p, err := plan.Parse("fleet.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	r := fresh(p, p.RecoveryPlan("back"), Start{Incident: "inc-1"}, "person:starter", now)
	r.ID, r.Lost = "rec-1", []string{"n1"}
	w := &World{Now: now, Epoch: 7, Node: "n2", Plan: p, Incident: incident.Fold(nil), Doers: map[string]bool{}, Mine: map[string]int{}, Passed: map[string]instant{}, Spares: map[string]bool{}}
	for i := range n {
		receipt := Receipt{Outcome: Done, By: "node:n2"}
		if i == 0 {
			receipt.Fences = []Fence{{Node: "n1", By: FencedByPower, Facts: map[string]string{"state": "off"}}}
		}
		apply(&r, action{what: actBegin, step: i}, w)
		apply(&r, action{what: actSettle, step: i, receipt: &receipt}, w)
		w.Passed[r.Steps[i].Name] = instant{attempt: 1}
	}
	return &r, w
}

func held(t *testing.T, r *Run, i int, w *World) string {
	t.Helper()
	var h *Held
	switch err := Gate(r, i, w); {
	case err == nil:
		return ""
	case errors.As(err, &h):
		return h.Code
	default:
		t.Fatal(err)
		return ""
	}
}

func TestAGateHolds(t *testing.T) {
	for name, c := range map[string]struct {
		done, step int
		change     func(*Run, *World)
		want       string
	}{
		"a start before its fence":                         {0, 1, func(r *Run, _ *World) { r.Steps[0].State = Skipped }, "recovery-unfenced"},
		"a start after a fence that was not read back":     {1, 1, func(r *Run, _ *World) { r.Steps[0].Receipt.Fences[0].Facts = nil }, "recovery-unfenced"},
		"a start after the fence of another node":          {1, 1, func(r *Run, _ *World) { r.Lost = []string{"n1", "n3"} }, "recovery-unfenced"},
		"no start after a fence":                           {1, 1, nil, ""},
		"names while their validation has failed":          {3, 3, func(r *Run, _ *World) { r.Steps[2].State = Failed }, "recovery-order"},
		"no names right after their validation":            {3, 3, nil, ""},
		"names more than five minutes after it":            {3, 3, func(_ *Run, w *World) { w.Passed["validate"] = instant{1, stale + time.Second} }, "recovery-validation-old"},
		"names of which another leader saw the validation": {3, 3, func(_ *Run, w *World) { delete(w.Passed, "validate") }, "recovery-validation-old"},
		"names whose validation is of an attempt before":   {3, 3, func(r *Run, _ *World) { r.Steps[2].Attempt = 2 }, "recovery-validation-old"},
		"names while something is being started again":     {3, 3, func(r *Run, w *World) { apply(r, action{what: actBegin, step: 1}, w) }, "recovery-unvalidated"},
		"names that somebody validated long ago": {3, 3, func(r *Run, w *World) {
			delete(w.Passed, "validate")
			r.Steps[2].Receipt.By, w.Now = "person:1", w.Now.Add(time.Hour)
		}, "recovery-validation-old"},
		"no names that somebody has validated just now": {3, 3, func(r *Run, w *World) {
			delete(w.Passed, "validate")
			r.Steps[2].Receipt.By = "person:1"
		}, ""},
		"a wipe that one of two has approved": {4, 4, func(r *Run, _ *World) { r.Steps[4].Said = []Saying{{What: SaidApprove, By: "person:1", Person: "ann"}} }, "recovery-unapproved"},
		"a wipe that one has approved twice": {4, 4, func(r *Run, _ *World) {
			r.Steps[4].Said = []Saying{{What: SaidApprove, By: "person:1", Person: "ann"}, {What: SaidApprove, By: "person:1", Person: "ann"}}
		}, "recovery-unapproved"},
		"a wipe that was approved before it was tried again": {4, 4, func(r *Run, _ *World) {
			r.Steps[4].Said = []Saying{{What: SaidApprove, By: "person:1", Person: "ann"}, {What: SaidApprove, By: "person:2", Person: "bob"}}
			r.Steps[4].Round = 1
		}, "recovery-unapproved"},
		"a wipe under a legal hold": {4, 4, func(r *Run, w *World) { w.Incident.OnHold = true }, "recovery-interlock"},
		"no wipe that both have approved": {4, 4, func(r *Run, _ *World) {
			r.Steps[4].Said = []Saying{{What: SaidApprove, By: "person:1", Person: "ann"}, {What: SaidApprove, By: "person:2", Person: "bob"}}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := stand(t, c.done)
			if c.change != nil {
				c.change(r, w)
			}
			if got := held(t, r, c.step, w); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTryingAgainAsksForApprovalsAnew(t *testing.T) {
	r, w := stand(t, 4)
	s := &r.Steps[4]
	s.State, s.Attempt, s.Said = Failed, 1, []Saying{{What: SaidRetry, By: "person:1", Attempt: 1}}
	a, ok := heard(r, w.recoveryPlan(r), 4, w)
	if !ok || a.state != Waiting {
		t.Fatalf("got %+v", a)
	}
	apply(r, a, w)
	if s.Round != 1 || s.State != Waiting {
		t.Errorf("got %+v", s)
	}
}

func TestWhatWasSaidOfAnAttemptBeforeChangesNothing(t *testing.T) {
	r, w := stand(t, 1)
	s := &r.Steps[1]
	s.State, s.Attempt, s.Need, s.Said = NeedsPerson, 2, &Need{What: NeedSay}, []Saying{{What: SaidDone, By: "person:1", Attempt: 1}}
	if a, ok := heard(r, w.recoveryPlan(r), 1, w); !ok || a.state != NeedsPerson || a.receipt != nil {
		t.Errorf("got %+v", a)
	}
}

func TestAPlanThatWaitsForItselfIsFound(t *testing.T) {
	rp := &plan.RecoveryPlan{Steps: []plan.Step{{Name: "a", After: []string{"b"}}, {Name: "b", After: []string{"a"}}}}
	if name, found := circle(rp); !found || name == "" {
		t.Error("a circle was not found")
	}
	if _, found := circle(&plan.RecoveryPlan{Steps: []plan.Step{{Name: "a"}, {Name: "b", After: []string{"gone"}}}}); !found {
		t.Error("a step that waits for one that there is not was not found")
	}
	if _, found := circle(&plan.RecoveryPlan{Steps: []plan.Step{{Name: "a"}, {Name: "b"}, {Name: "c", After: []string{"a"}}}}); found {
		t.Error("a plan without a circle has one")
	}
}

func TestAFrozenPlanComesBackAsItWas(t *testing.T) {
	p, err := plan.Load("../../../examples/missionops-fixed")
	if err != nil {
		t.Fatal(err)
	}
	f, err := freeze(p)
	if err != nil {
		t.Fatal(err)
	}
	back, err := f.thaw()
	if err != nil || back.Hash() != p.Hash() || len(back.Books) != len(p.Books) {
		t.Fatalf("got %v", err)
	}
	f.Hash = "another"
	if _, err := f.thaw(); err == nil {
		t.Error("a plan that is not the one of the run was taken")
	}
}
