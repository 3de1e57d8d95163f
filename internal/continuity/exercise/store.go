package exercise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/problem"
)

// stored is a row of exercises, as it is listed.
type stored struct {
	Held
	Summary []byte // sealed
}

// insertExercise stores an exercise. Of the same one that is handed in twice,
// and of two with one id, the second is refused.
func insertExercise(ctx context.Context, tx pgx.Tx, e *Held, summary, bundle []byte) error {
	tag, err := tx.Exec(ctx, `INSERT INTO exercises (id, scenario, plan_scenario, mode, outcome, plan_hash, head, began_at, ended_at, summary, bundle, actor)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING`,
		e.ID, e.Scenario, e.Of, e.Mode, e.Outcome, e.Plan, e.Head, e.Began, e.Ended, summary, bundle, e.By)
	if err != nil {
		return fmt.Errorf("keeping an exercise: %w", err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	var head string
	if err := tx.QueryRow(ctx, `SELECT head FROM exercises WHERE id = $1`, e.ID).Scan(&head); err != nil {
		return fmt.Errorf("keeping an exercise: %w", err)
	}
	if head == e.Head {
		return problem.New(problem.Conflict, "exercise-known", fmt.Sprintf("The exercise %s was handed in already.", e.ID)).WithMend("`foundry exercise show " + e.ID + "` shows it.")
	}
	return problem.New(problem.Conflict, "exercise-other", fmt.Sprintf("Another exercise %s was handed in, whose timeline ends with %s.", e.ID, head[:16])).WithMend("Compare the two: one of them was changed or went on since. An exercise that goes on is handed in at its end.")
}

func selectExercises(ctx context.Context, tx pgx.Tx) ([]stored, error) {
	rows, err := tx.Query(ctx, `SELECT id, scenario, plan_scenario, mode, outcome, plan_hash, head, began_at, ended_at, actor, submitted_at, summary FROM exercises ORDER BY began_at DESC, id`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s stored, err error) {
		err = row.Scan(&s.ID, &s.Scenario, &s.Of, &s.Mode, &s.Outcome, &s.Plan, &s.Head, &s.Began, &s.Ended, &s.By, &s.Submitted, &s.Summary)
		return s, err
	})
}

func selectBundle(ctx context.Context, tx pgx.Tx, id string) (bundle []byte, err error) {
	err = tx.QueryRow(ctx, `SELECT bundle FROM exercises WHERE id = $1`, id).Scan(&bundle)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errUnknown
	}
	return bundle, err
}

func insertAction(ctx context.Context, tx pgx.Tx, exercise string, x *Action) error {
	_, err := tx.Exec(ctx, `INSERT INTO exercise_actions (exercise, action, owner, due_at) VALUES ($1, $2, $3, $4)`, exercise, x.ID, x.Owner, x.Due)
	return err
}

const actionColumns = `a.exercise, a.action, coalesce(c.owner, a.owner), coalesce(c.due_at, a.due_at), c.done_at, coalesce(c.words, ''), coalesce(c.actor, '')
	FROM exercise_actions a LEFT JOIN LATERAL
		(SELECT owner, due_at, done_at, words, actor FROM exercise_action_changes c WHERE c.exercise = a.exercise AND c.action = a.action ORDER BY n DESC LIMIT 1) c ON true`

func scanAction(row pgx.Row, exercise *string, x *Action) error {
	var done *time.Time
	if err := row.Scan(exercise, &x.ID, &x.Owner, &x.Due, &done, &x.Words, &x.By); err != nil {
		return err
	}
	if done != nil {
		x.Done = *done
	}
	return nil
}

// selectActions reads every action, by exercise.
func selectActions(ctx context.Context, tx pgx.Tx) (map[string][]Action, error) {
	rows, err := tx.Query(ctx, `SELECT `+actionColumns+` ORDER BY 4, a.exercise, a.action`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string][]Action{}
	for rows.Next() {
		var exercise string
		var x Action
		if err := scanAction(rows, &exercise, &x); err != nil {
			return nil, err
		}
		out[exercise] = append(out[exercise], x)
	}
	return out, rows.Err()
}

// selectActionForChange reads an action, and lets one at a time change those of
// its exercise.
func selectActionForChange(ctx context.Context, tx pgx.Tx, exercise, action string) (x Action, err error) {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('foundry exercise ' || $1, 0))`, exercise); err != nil {
		return x, err
	}
	err = scanAction(tx.QueryRow(ctx, `SELECT `+actionColumns+` WHERE a.exercise = $1 AND a.action = $2`, exercise, action), &exercise, &x)
	if errors.Is(err, pgx.ErrNoRows) {
		return x, problem.New(problem.NotFound, "exercise-action-unknown", "There is no such action.").WithMend("`foundry exercise actions` lists them.")
	}
	return x, err
}

func insertActionChange(ctx context.Context, tx pgx.Tx, exercise string, x *Action) error {
	var done *time.Time
	if !x.Done.IsZero() {
		done = &x.Done
	}
	_, err := tx.Exec(ctx, `INSERT INTO exercise_action_changes (exercise, action, owner, due_at, done_at, words, actor) VALUES ($1, $2, $3, $4, $5, $6, $7)`, exercise, x.ID, x.Owner, x.Due, done, x.Words, x.By)
	return err
}
