package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

const pageColumns = `id, organisation_id, code, severity, facts, raised_at, level, next_at, taken_at, taken_by`

func scanPage(row pgx.CollectableRow) (p Page, err error) {
	err = row.Scan(&p.ID, &p.Organisation, &p.Code, &p.Severity, &p.Facts, &p.Raised, &p.Level, &p.Next, &p.Taken, &p.By)
	return p, err
}

func openPage(ctx context.Context, tx pgx.Tx, id uuid.UUID, severity Severity, code string, org uuid.UUID, facts string) error {
	_, err := tx.Exec(ctx, `INSERT INTO pages (id, organisation_id, code, severity, facts, next_at) VALUES ($1, $2, $3, $4, $5, now())
		ON CONFLICT (organisation_id, code) WHERE taken_at IS NULL DO UPDATE SET facts = excluded.facts`, id, org, code, string(severity), facts)
	if err != nil {
		return fmt.Errorf("opening a call: %w", err)
	}
	return nil
}

func duePages(ctx context.Context, d *db.DB) (out []Page, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+pageColumns+` FROM pages WHERE next_at <= now() ORDER BY next_at LIMIT 100`)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanPage)
		return err
	})
	return out, err
}

// nextRound counts a round and sets the time of the one after it. ok is false
// where the call was taken or another node was faster.
func nextRound(ctx context.Context, tx pgx.Tx, id uuid.UUID, wait time.Duration) (round int, ok bool, err error) {
	err = tx.QueryRow(ctx, `UPDATE pages SET level = level + 1, next_at = now() + $2 WHERE id = $1 AND next_at <= now() RETURNING level`, id, wait).Scan(&round)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return round, err == nil, err
}

// takePage ends the calling. Calls that wait to be sent are of no use any more;
// one that is being sent, or may have arrived, stays what it is.
func takePage(ctx context.Context, tx pgx.Tx, id uuid.UUID, by string) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE pages SET taken_at = now(), taken_by = $2, next_at = NULL WHERE id = $1 AND taken_at IS NULL`, id, by)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	_, err = tx.Exec(ctx, `UPDATE notifications SET expires_at = now() WHERE page_id = $1 AND state = 'queued'`, id)
	return err == nil, err
}

func showPage(ctx context.Context, d *db.DB, id uuid.UUID) (p Page, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+pageColumns+` FROM pages WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if p, err = pgx.CollectExactlyOneRow(rows, scanPage); err != nil {
			return err
		}
		p.Calls, err = callsOf(ctx, tx, id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return p, problem.New(problem.NotFound, "page-unknown", "There is no such call.").WithField("id").WithMend("`foundry oncall show` lists those that are open.")
	}
	return p, err
}

func callsOf(ctx context.Context, tx pgx.Tx, id uuid.UUID) ([]Notification, error) {
	rows, err := tx.Query(ctx, `SELECT `+columns+` FROM notifications WHERE page_id = $1 ORDER BY id DESC LIMIT 100`, id)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

func openPages(ctx context.Context, d *db.DB) (out []Page, err error) {
	out = []Page{}
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+pageColumns+` FROM pages WHERE taken_at IS NULL ORDER BY id LIMIT 100`)
		if err != nil {
			return err
		}
		if out, err = pgx.CollectRows(rows, scanPage); err != nil {
			return err
		}
		for i := range out {
			if out[i].Calls, err = callsOf(ctx, tx, out[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing calls: %w", err)
	}
	return out, nil
}

// takenPages are calls that somebody has taken since an instant.
func takenPages(ctx context.Context, d *db.DB, codes []string, since time.Time) (out []Page, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+pageColumns+` FROM pages WHERE code = ANY($1) AND taken_at >= $2 ORDER BY id LIMIT 100`, codes, since)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanPage)
		return err
	})
	return out, err
}

func insertOverride(ctx context.Context, tx pgx.Tx, o Override) (made time.Time, err error) {
	err = tx.QueryRow(ctx, `INSERT INTO oncall_overrides (id, person, begins_at, ends_at) VALUES ($1, $2, $3, $4) RETURNING made_at`,
		uuid.Must(uuid.NewV7()), o.Person, o.Begins, o.Ends).Scan(&made)
	return made, err
}

// currentOverrides are those that have not ended at an instant, in the order in
// which they were made.
func currentOverrides(ctx context.Context, d *db.DB, at time.Time) (out []Override, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT person, begins_at, ends_at, made_at FROM oncall_overrides WHERE ends_at > $1 ORDER BY made_at, id`, at)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Override])
		return err
	})
	return out, err
}
