package governance_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
)

const rehearsing = `version: 1
organisation: {name: Harbour Works, owner: head, country: DE}
people: [{name: head}]
nodes: [{name: one}]
scenarios: [{name: lost, kind: node-loss, loses: [one]}]
duties:
  - {name: talk, kind: exercise, every: annually, form: desktop, last: 2025-05-01}
  - {name: break, kind: exercise, every: 6 months, form: sandbox}
`

func TestAnExerciseConfirmsTheDutiesThatItFulfilsAndNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.inForce(rehearsing)
	operator := person(principal.PlatformOperator)
	hash, now, err := w.g.When(t.Context(), time.Now())
	must(t, err)
	if hash != r.Hash || now == nil {
		t.Fatalf("in force is %q", hash)
	}
	if hash, _, err := w.g.When(t.Context(), time.Now().AddDate(-1, 0, 0)); err != nil || hash != "" {
		t.Errorf("a year ago there was %q (%v)", hash, err)
	}
	held := w.clock().Add(-time.Hour)
	must(t, w.d.Org(t.Context(), uuid.Nil, func(tx pgx.Tx) error {
		return w.g.Held(t.Context(), tx, operator, now, governance.Exercise{ID: "exc-1", Scenario: "lost", Mode: "desktop", Outcome: "missed", At: held})
	}))
	due := map[string]governance.Due{}
	all, err := w.g.Register(t.Context(), operator)
	must(t, err)
	for _, d := range all {
		due[d.Key] = d
	}
	if d := due["duty talk"]; !d.Done.Equal(held) || !strings.Contains(d.Note, "exc-1 (desktop): missed") {
		t.Errorf("%+v", d)
	}
	if d := due["duty break"]; !d.Done.IsZero() {
		t.Errorf("talking it through confirmed what has to be tried: %+v", d)
	}
}

func TestActionsStandInTheRegistersAndAlarmOnceWhenTheyAreLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	action := governance.Action{Key: "exercise exc-1/gap-1", Of: "exercise exc-1", Title: "Somebody had no key", Owner: "head", Due: w.clock().AddDate(0, 0, 20)}
	w.actions = func(context.Context) ([]governance.Action, error) { return []governance.Action{action}, nil }
	w.inForce(rehearsing)
	stateOf := func() string {
		t.Helper()
		all, err := w.g.ActionRegister(t.Context(), person(principal.PlatformOperator))
		must(t, err)
		if len(all) != 1 || all[0].Title != action.Title || all[0].Owner != "head" {
			t.Fatalf("%+v", all)
		}
		return all[0].State
	}
	late := func() (n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, a := range w.alarms {
			if strings.Contains(a, "exc-1") {
				n++
			}
			if strings.Contains(a, action.Title) {
				t.Errorf("the alarm says what people wrote: %s", a)
			}
		}
		return n
	}
	for _, c := range []struct {
		days   int
		state  string
		alarms int
	}{{0, governance.Current, 0}, {14, governance.Soon, 1}, {21, governance.Lapsed, 2}, {30, governance.Lapsed, 2}} {
		w.mu.Lock()
		w.now = action.Due.AddDate(0, 0, c.days-20)
		w.mu.Unlock()
		must(t, w.g.Look(t.Context()))
		if is := stateOf(); is != c.state || late() != c.alarms {
			t.Errorf("after %d days: %s, %d alarms; want %s, %d", c.days, is, late(), c.state, c.alarms)
		}
	}
	_, err := w.g.Confirm(t.Context(), person(principal.PlatformOperator), governance.NewConfirmation{Entry: "action " + action.Key})
	refused(t, err, "plan-entry-action")
}

func TestADutyAsksForAFormAndOfWhat(t *testing.T) {
	t.Parallel()
	read, err := plan.Parse("fleet.yaml", []byte(strings.Replace(rehearsing, "form: sandbox", "form: sandbox, of: [lost]", 1)))
	must(t, err)
	for _, c := range []struct {
		scenario, mode string
		want           []string
	}{
		{"lost", "", []string{"talk", "break"}}, {"other", "", []string{"talk"}},
		{"lost", "desktop", []string{"talk"}}, {"lost", "sandbox", []string{"break"}}, {"lost", "live", []string{"talk", "break"}},
	} {
		var names []string
		for _, d := range governance.ExerciseDuties(read, c.scenario, c.mode) {
			names = append(names, d.Name)
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%s %s: %v, want %v", c.scenario, c.mode, names, c.want)
		}
	}
}
