package console

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/a-h/templ"
	exercises "github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/problem"
)

const toExercises = "/console/exercises"

func exerciseLink(id string) templ.SafeURL {
	return templ.SafeURL(toExercises + "/" + url.PathEscape(id))
}

func (c *Console) exerciseRoutes() []Route {
	of := func(do bounded) func(*visit) error { return within(nil, do) }
	return []Route{
		{Pattern: "GET " + toExercises, Action: "exercise.read", do: of(c.exercisesPage)},
		{Pattern: "GET " + toExercises + "/{id}", Action: "exercise.read", do: of(c.exercisePage)},
		{Pattern: "GET " + toExercises + "/{id}/report", Action: "exercise.read", do: of(c.exerciseReport)},
	}
}

type exercisesData struct {
	v         *visit
	now       time.Time
	gone      bool // the database does not answer
	standing  []governance.Rehearsal
	exercises []exercises.Held
	actions   []governance.Due
}

// exercisesPage shows how each scenario of the plan stands. Exercises are kept
// in the database: without it the page says so, and where to look meanwhile.
func (c *Console) exercisesPage(ctx context.Context, v *visit) error {
	d := exercisesData{v: v, now: c.Clock()}
	err := func() (err error) {
		if d.exercises, err = c.Exercises.List(ctx, v.who()); err != nil {
			return err
		}
		if d.standing, err = c.Exercises.Standing(ctx, v.who()); err != nil {
			return err
		}
		d.actions, err = c.Plans.ActionRegister(ctx, v.who())
		return err
	}()
	if d.gone = away(err); err != nil && !d.gone {
		return err
	}
	return v.show(page{Title: "Exercises", Path: toExercises, Live: true}, exercisesBody(d))
}

type exerciseData struct {
	v   *visit
	now time.Time
	s   exercises.Shown
}

func (c *Console) exercisePage(ctx context.Context, v *visit) error {
	s, err := c.Exercises.Get(ctx, v.who(), v.r.PathValue("id"))
	if away(err) {
		return problem.New(problem.Unavailable, "exercise-away", "The database is away, and exercises are kept in it.").WithMend("The directory that `foundry exercise run` wrote holds the whole report.").Wrap(err)
	}
	if err != nil {
		return err
	}
	return v.show(page{Title: s.Title, Path: toExercises, Crumbs: []crumb{{"Exercises", toExercises}}}, exerciseBody(exerciseData{v, c.Clock(), s}))
}

// exerciseReport gives the whole report, made from the verified record. It may
// do nothing: no script runs in it, and it is of no origin.
func (c *Console) exerciseReport(ctx context.Context, v *visit) error {
	page, err := c.Exercises.Report(ctx, v.who(), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", exercises.PagePolicy()+"; frame-ancestors 'none'; sandbox")
	_, _ = v.w.Write(page)
	return nil
}

func outcomeState(o exercises.Outcome) state {
	switch o {
	case exercises.Passed:
		return state{ok, "Passed"}
	case exercises.Missed:
		return state{warn, "Something was missing"}
	case exercises.Inconclusive:
		return state{warn, "Not all was measured"}
	case exercises.Aborted:
		return state{idle, "Not at its end"}
	}
	return state{bad, "Failed"}
}

func rehearsalState(r *governance.Rehearsal) state {
	switch {
	case r.Result == evidence.Pass:
		return state{ok, "As planned"}
	case r.Last == "":
		return state{bad, "Never"}
	case r.Result == evidence.Fail:
		return state{bad, "Failed"}
	case r.Lapsed:
		return state{warn, "Overdue"}
	}
	return state{warn, "Not known"}
}

func leftState(d *governance.Due) state {
	switch d.State {
	case governance.Lapsed:
		return state{bad, "Late"}
	case governance.Soon:
		return state{warn, "Due soon"}
	}
	return state{info, "Open"}
}

func exerciseActionState(a *exercises.Action, now time.Time) state {
	switch {
	case !a.Done.IsZero():
		return state{ok, "Done"}
	case a.Due.Before(now):
		return state{bad, "Late"}
	}
	return state{info, "Open"}
}

func keptState(m *exercises.Measure) state {
	switch {
	case !m.Aimed:
		return state{idle, "No target"}
	case !m.Known:
		return state{warn, "Not measured"}
	case m.Kept():
		return state{ok, "Kept"}
	}
	return state{bad, "Missed"}
}

// openOf is how many of an exercise's actions are open.
func openOf(h *exercises.Held) (n int) {
	for _, a := range h.Actions {
		if a.Done.IsZero() {
			n++
		}
	}
	return n
}

// targetsIn says how many targets were kept, and how many there are.
func targetsIn(h *exercises.Held) string {
	all := len(h.Kept) + len(h.Missed) + len(h.Unknown)
	if all == 0 {
		return "none"
	}
	return fmt.Sprintf("%d of %d kept", len(h.Kept), all)
}

// across is where a moment stands in the picture, of a thousand.
func (d exerciseData) across(t time.Time) string {
	r := d.s.Record
	first, last := r.Began, r.Ended
	if len(r.Moments) > 0 {
		first, last = r.Moments[0].At, r.Moments[0].At
		for _, m := range r.Moments {
			if m.At.Before(first) {
				first = m.At
			}
			if m.At.After(last) {
				last = m.At
			}
		}
	}
	if !last.After(first) {
		return "500"
	}
	return fmt.Sprintf("%.0f", 20+960*float64(t.Sub(first))/float64(last.Sub(first)))
}

func planWords(hash string) string {
	if hash == "" {
		return "none was in force"
	}
	return hash[:min(12, len(hash))]
}

func measureName(name string) string {
	if name == "dns" {
		return "DNS"
	}
	return capital(name)
}
