package api

import (
	"context"
	"net/http"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/governance"
)

type submitExercise struct {
	Caller
	Body exercise.Handed
}

type oneExercise struct {
	Caller
	ID string `path:"id" maxLength:"64"`
}

type changeExerciseAction struct {
	Caller
	ID     string `path:"id" maxLength:"64"`
	Action string `path:"action" maxLength:"64"`
	Body   exercise.ActionChange
}

// ExerciseReport is a report as one page that needs nothing else.
type ExerciseReport struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// Rehearsed is which scenarios of the plan were exercised when, and every
// exercise that was handed in.
type Rehearsed struct {
	Scenarios []governance.Rehearsal `json:"scenarios"`
	Exercises []exercise.Held        `json:"exercises"`
}

// exercises registers what is remembered of exercises. They are held without
// any node; see `foundry exercise run`.
func (a *API) exercises() {
	register(a, http.MethodGet, "/exercises", "exercise-list", "List the exercises that were handed in, and how each scenario of the plan stands", func(ctx context.Context, in *struct{ Caller }) (r Rehearsed, err error) {
		if r.Exercises, err = a.Exercises.List(ctx, in.Principal); err == nil {
			r.Scenarios, err = a.Exercises.Standing(ctx, in.Principal)
		}
		return r, err
	})
	register(a, http.MethodPost, "/exercises", "exercise-submit", "Hand in an exercise that was held: it is verified as a whole", func(ctx context.Context, in *submitExercise) (exercise.Held, error) {
		return a.Exercises.Submit(ctx, in.Principal, in.Body)
	})
	register(a, http.MethodGet, "/exercises/{id}", "exercise-show", "Show an exercise with its record", func(ctx context.Context, in *oneExercise) (exercise.Shown, error) {
		return a.Exercises.Get(ctx, in.Principal, in.ID)
	})
	register(a, http.MethodGet, "/exercises/{id}/report", "exercise-report", "Make the report of an exercise, from its verified record", func(ctx context.Context, in *oneExercise) (ExerciseReport, error) {
		page, err := a.Exercises.Report(ctx, in.Principal, in.ID)
		return ExerciseReport{in.ID, string(page)}, err
	})
	register(a, http.MethodGet, "/exercise-actions", "exercise-actions", "List what exercises and incidents left to be done, what is late first", func(ctx context.Context, in *struct{ Caller }) ([]governance.Due, error) {
		return a.Plans.ActionRegister(ctx, in.Principal)
	})
	register(a, http.MethodPost, "/exercises/{id}/actions/{action}", "exercise-action-change", "Say that an action of an exercise is done, put off, or somebody else's", func(ctx context.Context, in *changeExerciseAction) (exercise.Action, error) {
		return a.Exercises.Do(ctx, in.Principal, in.ID, in.Action, in.Body)
	})
}
