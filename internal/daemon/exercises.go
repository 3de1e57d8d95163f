package daemon

import (
	"context"
	"errors"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/principal"
)

// makeExercises makes the memory of exercises.
func (d *Daemon) makeExercises(context.Context) error {
	d.exercises = exercise.NewArchive(exercise.ArchiveOptions{DB: d.db, Guard: d.guard, Vault: d.vault, Plan: d.plans.When, Held: d.plans.Held, Changed: d.exercised, Clock: d.clock, Log: d.log})
	return nil
}

// heldExercises are those that were handed in, for the plan's controls.
func (d *Daemon) heldExercises(ctx context.Context) ([]governance.Exercise, error) {
	return d.exercises.Exercises(ctx)
}

// exercised runs the controls that an exercise answers, and those of gaps.
func (d *Daemon) exercised() {
	d.running.Go(func() {
		if err := d.controls.RunNow(d.life, principal.Node("exercise"), []string{"O-76", "O-76.exercised", "O-77"}, nil); err != nil && d.life.Err() == nil {
			d.log.Warn("the controls of exercises were not run; they are when they are due", "error", err)
		}
	})
}

// openActions are what exercises and incidents left to be done. Exercises of
// the incident desk are left out while they last: their gaps are handed in with
// them.
func (d *Daemon) openActions(ctx context.Context) (out []governance.Action, err error) {
	if d.db.Healthy() {
		out, err = d.exercises.Open(ctx)
	}
	if d.book == nil {
		return out, err
	}
	all, broken, berr := d.book.All(ctx)
	for _, b := range broken {
		err = errors.Join(err, b)
	}
	for _, t := range all {
		if t.State.Mode != incident.Real {
			continue
		}
		for _, a := range t.State.Actions {
			if a.Done.IsZero() {
				out = append(out, governance.Action{Key: "incident " + t.State.ID + "/" + a.ID, Of: "incident " + t.State.ID, Title: a.Title, Owner: a.Owner, Due: a.Due})
			}
		}
	}
	return out, errors.Join(err, berr)
}
