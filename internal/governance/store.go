package governance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/problem"
)

// lockPlans lets one transaction at a time decide what is in force.
func lockPlans(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('foundry plan', 0))`)
	return err
}

func insertRevision(ctx context.Context, tx pgx.Tx, r *Revision, sealed []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO plan_revisions (id, hash, sealed, note, actor, needs, errors, warnings, notes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		r.ID, r.Hash, sealed, r.Note, r.By, r.Needs, r.Errors, r.Warnings, r.Notes)
	if err != nil {
		return fmt.Errorf("keeping a plan: %w", err)
	}
	return nil
}

const revisionColumns = `r.id, r.hash, r.note, r.actor, r.submitted_at, r.needs, r.errors, r.warnings, r.notes, f.since_at,
	coalesce(f.n = (SELECT max(n) FROM plan_in_force), false),
	EXISTS (SELECT 1 FROM plan_decisions d WHERE d.revision = r.id AND NOT d.approved)
	FROM plan_revisions r LEFT JOIN plan_in_force f ON f.revision = r.id`

func scanRevision(row pgx.CollectableRow) (r Revision, err error) {
	var newest, rejected bool
	err = row.Scan(&r.ID, &r.Hash, &r.Note, &r.By, &r.Submitted, &r.Needs, &r.Errors, &r.Warnings, &r.Notes, &r.Since, &newest, &rejected)
	switch {
	case newest:
		r.State = InForce
	case r.Since != nil:
		r.State = Superseded
	case rejected:
		r.State = Rejected
	default:
		r.State = Waiting
	}
	r.Decisions = []Decision{}
	return r, err
}

// selectRevisions reads every revision, the newest first.
func selectRevisions(ctx context.Context, tx pgx.Tx) ([]Revision, error) {
	rows, err := tx.Query(ctx, `SELECT `+revisionColumns+` ORDER BY r.id DESC`)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, scanRevision)
	if err != nil {
		return nil, err
	}
	return out, addDecisions(ctx, tx, out)
}

func selectRevision(ctx context.Context, tx pgx.Tx, id uuid.UUID) (Revision, error) {
	rows, err := tx.Query(ctx, `SELECT `+revisionColumns+` WHERE r.id = $1`, id)
	if err != nil {
		return Revision{}, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRevision)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, problem.New(problem.NotFound, "plan-unknown", "There is no such revision of the plan.").WithField("id").WithMend("`foundry plan revisions` lists them.")
	}
	if err != nil {
		return r, err
	}
	one := []Revision{r}
	err = addDecisions(ctx, tx, one)
	return one[0], err
}

func addDecisions(ctx context.Context, tx pgx.Tx, revisions []Revision) error {
	rows, err := tx.Query(ctx, `SELECT revision, actor, person, approved, reason, decided_at FROM plan_decisions ORDER BY decided_at, actor`)
	if err != nil {
		return err
	}
	at := map[uuid.UUID]*Revision{}
	for i := range revisions {
		at[revisions[i].ID] = &revisions[i]
	}
	var id uuid.UUID
	var d Decision
	_, err = pgx.ForEachRow(rows, []any{&id, &d.By, &d.As, &d.Approved, &d.Reason, &d.At}, func() error {
		if r := at[id]; r != nil {
			r.Decisions = append(r.Decisions, d)
		}
		return nil
	})
	return err
}

func selectSealed(ctx context.Context, tx pgx.Tx, id uuid.UUID) (sealed []byte, err error) {
	err = tx.QueryRow(ctx, `SELECT sealed FROM plan_revisions WHERE id = $1`, id).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, problem.New(problem.NotFound, "plan-unknown", "There is no such revision of the plan.").WithField("id").WithMend("`foundry plan revisions` lists them.")
	}
	return sealed, err
}

// selectBefore is the revision that was in force before this one, or before
// now when this one never was.
func selectBefore(ctx context.Context, tx pgx.Tx, id uuid.UUID) (before uuid.UUID, err error) {
	err = tx.QueryRow(ctx, `SELECT revision FROM plan_in_force
		WHERE revision <> $1 AND n < coalesce((SELECT n FROM plan_in_force WHERE revision = $1), 9223372036854775807) ORDER BY n DESC LIMIT 1`, id).Scan(&before)
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, nil
	}
	return before, err
}

func insertDecision(ctx context.Context, tx pgx.Tx, id uuid.UUID, actor, as string, approved bool, reason string) error {
	_, err := tx.Exec(ctx, `INSERT INTO plan_decisions (revision, actor, person, approved, reason) VALUES ($1, $2, $3, $4, $5)`, id, actor, as, approved, reason)
	return err
}

func insertInForce(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	_, err := tx.Exec(ctx, `INSERT INTO plan_in_force (revision) VALUES ($1)`, id)
	return err
}

// insertAcknowledgement reports whether it was there already.
func insertAcknowledgement(ctx context.Context, tx pgx.Tx, hash, actor string) (again bool, err error) {
	tag, err := tx.Exec(ctx, `INSERT INTO plan_acknowledgements (hash, actor) VALUES ($1, $2) ON CONFLICT DO NOTHING`, hash, actor)
	return err == nil && tag.RowsAffected() == 0, err
}

func selectAcknowledgements(ctx context.Context, tx pgx.Tx, hash string) ([]Acknowledgement, error) {
	rows, err := tx.Query(ctx, `SELECT actor, at FROM plan_acknowledgements WHERE hash = $1 ORDER BY at, actor`, hash)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Acknowledgement])
}

func insertReview(ctx context.Context, tx pgx.Tx, id, revision uuid.UUID, because []string, due time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO plan_reviews (id, revision, because, due_at) VALUES ($1, $2, $3, $4)`, id, revision, because, due)
	return err
}

const reviewColumns = `v.id, v.because, v.opened_at, v.due_at, x.closed_at, coalesce(x.actor, ''), coalesce(x.finding, '')
	FROM plan_reviews v LEFT JOIN plan_review_results x ON x.review = v.id`

// selectReviews reads every review, the open ones first.
func selectReviews(ctx context.Context, tx pgx.Tx) ([]Review, error) {
	rows, err := tx.Query(ctx, `SELECT `+reviewColumns+` ORDER BY x.closed_at IS NOT NULL, v.due_at, v.id`)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Review])
	if out == nil {
		out = []Review{}
	}
	return out, err
}

func selectReview(ctx context.Context, tx pgx.Tx, id uuid.UUID) (Review, error) {
	rows, err := tx.Query(ctx, `SELECT `+reviewColumns+` WHERE v.id = $1`, id)
	if err != nil {
		return Review{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Review])
}

func insertReviewResult(ctx context.Context, tx pgx.Tx, id uuid.UUID, actor, finding string) error {
	tag, err := tx.Exec(ctx, `INSERT INTO plan_review_results (review, actor, finding) SELECT id, $2, $3 FROM plan_reviews WHERE id = $1 ON CONFLICT DO NOTHING`, id, actor, finding)
	if err == nil && tag.RowsAffected() == 0 {
		return problem.New(problem.Conflict, "plan-review-closed", "There is no such review, or it is closed.").WithField("id").WithMend("`foundry plan status` lists the open ones.")
	}
	return err
}

type confirmation struct {
	Done  time.Time
	Actor string
	Note  string
}

func insertConfirmation(ctx context.Context, tx pgx.Tx, n NewConfirmation, actor string) error {
	_, err := tx.Exec(ctx, `INSERT INTO plan_confirmations (id, entry, actor, done_at, note) VALUES ($1, $2, $3, $4, $5)`, uuid.Must(uuid.NewV7()), n.Entry, actor, n.Done, n.Note)
	return err
}

// selectConfirmations reads the newest confirmation of each entry.
func selectConfirmations(ctx context.Context, tx pgx.Tx) (map[string]confirmation, error) {
	rows, err := tx.Query(ctx, `SELECT DISTINCT ON (entry) entry, done_at, actor, note FROM plan_confirmations ORDER BY entry, done_at DESC, id DESC`)
	if err != nil {
		return nil, err
	}
	out := map[string]confirmation{}
	var entry string
	var c confirmation
	_, err = pgx.ForEachRow(rows, []any{&entry, &c.Done, &c.Actor, &c.Note}, func() error {
		out[entry] = c
		return nil
	})
	return out, err
}

// insertReminder reports whether the reminder was not sent before.
func insertReminder(ctx context.Context, tx pgx.Tx, entry string, due time.Time, stage string) (bool, error) {
	tag, err := tx.Exec(ctx, `INSERT INTO plan_reminders (entry, due_at, stage) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, entry, due, stage)
	return err == nil && tag.RowsAffected() == 1, err
}
