package access

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// readConfirmed lists the digests that a review let stay: an entry counts as
// explained as long as it is as it was confirmed.
func readConfirmed(ctx context.Context, tx pgx.Tx) (map[string]bool, error) {
	rows, err := tx.Query(ctx, `SELECT DISTINCT encode(i.facts, 'hex') FROM access_review_results r
		JOIN access_review_items i ON i.review_id = r.review_id AND i.kind = r.kind AND i.entry = r.entry WHERE r.result = 'keep'`)
	if err != nil {
		return nil, err
	}
	digests, err := pgx.CollectRows(rows, pgx.RowTo[string])
	out := make(map[string]bool, len(digests))
	for _, d := range digests {
		out[d] = true
	}
	return out, err
}

func insertReview(ctx context.Context, tx pgx.Tx, v *AccessReview, within time.Duration, items []Access) error {
	err := tx.QueryRow(ctx, `INSERT INTO access_reviews (id, organisation_id, title, started_by, due_at) VALUES ($1, $2, $3, $4, now() + $5::interval)
		RETURNING started_at, due_at`, v.ID, v.Organisation, v.Title, v.StartedBy, within).Scan(&v.StartedAt, &v.DueAt)
	if err != nil {
		return err
	}
	var kinds, entries, summaries, subjects []string
	var facts [][]byte
	for i := range items {
		e := &items[i]
		digest, err := hex.DecodeString(e.Digest())
		if err != nil {
			return err
		}
		summary := e.What
		if e.Unexplained != "" {
			summary += " (" + e.Unexplained + ")"
		}
		kinds, entries, facts = append(kinds, e.Kind), append(entries, e.ID), append(facts, digest)
		summaries, subjects = append(summaries, summary), append(subjects, e.Subject)
	}
	_, err = tx.Exec(ctx, `INSERT INTO access_review_items (review_id, organisation_id, kind, entry, facts, summary, subject)
		SELECT $1, $2, x.* FROM unnest($3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[]) x`,
		v.ID, v.Organisation, kinds, entries, facts, summaries, subjects)
	return err
}

func insertResult(ctx context.Context, tx pgx.Tx, v *AccessReview, item *ReviewItem, actor, result, note string) error {
	_, err := tx.Exec(ctx, `INSERT INTO access_review_results (id, review_id, organisation_id, kind, entry, subject, result, actor, note)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, uuid.Must(uuid.NewV7()), v.ID, v.Organisation, item.Kind, item.Entry, item.Subject, result, actor, note)
	return err
}

// readReviews lists campaigns of one organisation, or (nil) of all that the
// transaction sees.
func readReviews(ctx context.Context, tx pgx.Tx, org uuid.UUID) ([]AccessReview, error) {
	rows, err := tx.Query(ctx, `SELECT v.id, v.organisation_id, v.title, v.started_by, v.started_at, v.due_at,
			count(i.review_id), count(i.review_id) - count(r.id), count(r.id) FILTER (WHERE r.result = 'remove'), max(r.at), now()
		FROM access_reviews v
		LEFT JOIN access_review_items i ON i.review_id = v.id
		LEFT JOIN access_review_results r ON r.review_id = i.review_id AND r.kind = i.kind AND r.entry = i.entry
		WHERE $1::uuid = '00000000-0000-0000-0000-000000000000' OR v.organisation_id = $1
		GROUP BY v.id ORDER BY v.id DESC LIMIT 1000`, org)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v AccessReview, err error) {
		var last *time.Time
		var now time.Time
		err = row.Scan(&v.ID, &v.Organisation, &v.Title, &v.StartedBy, &v.StartedAt, &v.DueAt, &v.Items, &v.Open, &v.Removed, &last, &now)
		if v.Open == 0 {
			v.CompletedAt = last
		}
		v.Overdue, v.Reviewers = v.Open > 0 && now.After(v.DueAt), reviewers(v.Organisation)
		return v, err
	})
}

func readReview(ctx context.Context, tx pgx.Tx, id uuid.UUID) (v AccessReview, err error) {
	var org uuid.UUID
	err = tx.QueryRow(ctx, `SELECT organisation_id FROM access_reviews WHERE id = $1`, id).Scan(&org)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, problem.New(problem.NotFound, "review-unknown", fmt.Sprintf("There is no review %s.", id)).WithField("id").
			WithMend("`foundry access review list` shows them.")
	}
	if err != nil {
		return v, err
	}
	all, err := readReviews(ctx, tx, org)
	if err != nil {
		return v, err
	}
	for _, r := range all {
		if r.ID == id {
			v = r
		}
	}
	rows, err := tx.Query(ctx, `SELECT i.kind, i.entry, i.subject, i.summary, encode(i.facts, 'hex'), coalesce(r.result, ''), coalesce(r.actor, ''), r.at, coalesce(r.note, '')
		FROM access_review_items i LEFT JOIN access_review_results r ON r.review_id = i.review_id AND r.kind = i.kind AND r.entry = i.entry
		WHERE i.review_id = $1 ORDER BY i.kind, i.entry`, id)
	if err != nil {
		return v, err
	}
	v.Entries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ReviewItem])
	return v, err
}

func (s *Register) findReview(ctx context.Context, org, id uuid.UUID) (v AccessReview, err error) {
	err = s.DB.Org(ctx, org, func(tx pgx.Tx) (err error) {
		v, err = readReview(ctx, tx, id)
		return err
	})
	return v, err
}

// visibleReview finds a campaign among those that a principal can know of.
func (s *Register) visibleReview(ctx context.Context, p principal.Principal, id uuid.UUID) (v AccessReview, err error) {
	if !p.Platform() {
		return s.findReview(ctx, p.Organisation, id)
	}
	err = s.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		v, err = readReview(ctx, tx, id)
		return err
	})
	return v, err
}

// ReviewAge is how long ago the last campaign over an organisation, or (nil)
// over the platform, was completed. It fails when none ever was.
func (s *Register) ReviewAge(ctx context.Context, org uuid.UUID) (age time.Duration, err error) {
	err = s.DB.Org(ctx, org, func(tx pgx.Tx) error {
		all, err := readReviews(ctx, tx, org)
		if err != nil {
			return err
		}
		var now, last time.Time
		if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
			return err
		}
		for _, v := range all {
			if v.CompletedAt != nil && v.CompletedAt.After(last) {
				last = *v.CompletedAt
			}
		}
		if last.IsZero() {
			return problem.New(problem.NotFound, "review-missing", "No review of access was ever completed.").WithMend("Start one: `foundry access review start`.")
		}
		age = now.Sub(last)
		return nil
	})
	return age, err
}
