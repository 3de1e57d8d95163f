package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// Recover puts earlier boots of this node in order: their requests without an
// outcome become "outcome unknown", and once all of that is shipped, what
// their leases had left goes back to the budgets. It waits for the database as
// long as it must; run it beside [Shipper.Run].
func Recover(ctx context.Context, j *journal.Journal, s *Shipper, b *Budgets) error {
	n, err := Sweep(ctx, j, s.o.Boot, s.o.Now())
	if err != nil {
		return err
	}
	if n > 0 {
		s.o.Log.Warn("requests of an earlier run ended with it; their outcome is unknown and what was reserved for them stays spent", "requests", n)
	}
	if err := s.Wait(ctx, journal.Position{Boot: s.o.Boot, Seq: j.Durable()}); err != nil {
		return err
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		if _, err = b.Reconcile(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		wait(ctx, pause)
	}
}

// Wait returns when everything up to a place is shipped.
func (s *Shipper) Wait(ctx context.Context, upTo journal.Position) error {
	for {
		s.mu.Lock()
		at, progress := s.queue.Shipped, s.progress
		s.mu.Unlock()
		// A boot that has written nothing yet: whatever came before it is shipped
		// once the shipper has found nothing to ship.
		if !at.Before(upTo) || upTo.Seq == 0 && s.idle() {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Shipper) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emptied
}

// Reconcile closes the leases of this node's earlier boots: what they spent is
// what the shipped journal says, and the rest goes back to the budgets. It must
// not be called before the whole journal of those boots is shipped, and the
// unknown outcomes that Sweep wrote for them. It returns how many it closed.
func (b *Budgets) Reconcile(ctx context.Context) (int, error) {
	type lease struct {
		budget, org uuid.UUID
		start       time.Time
		boot        int64
		period      Period
		key         *string
	}
	var leases []lease
	err := b.db.Read(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `SELECT l.budget_id, l.organisation_id, l.period_start, l.boot, b.period, b.api_key_id
			FROM budget_leases l JOIN budgets b ON b.id = l.budget_id
			WHERE l.node = $1 AND l.boot < $2 AND l.closed_at IS NULL ORDER BY l.budget_id`, int64(b.o.Node), int64(b.o.Boot))
		var err error
		leases, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (l lease, err error) {
			return l, r.Scan(&l.budget, &l.org, &l.start, &l.boot, &l.period, &l.key)
		})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("reading the leases of earlier boots: %w", err)
	}
	for i, l := range leases {
		_, end := l.period.Bounds(l.start)
		if end.IsZero() {
			end = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		err := b.db.Org(ctx, l.org, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT FROM budgets WHERE id = $1 FOR UPDATE`, l.budget); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE budget_leases SET closed_at = now(), (granted_nano, spent_nano) = (
					SELECT COALESCE(sum(cost_nano), 0)::bigint, COALESCE(sum(cost_nano), 0)::bigint FROM usage_deltas
					WHERE organisation_id = $5 AND bucket >= $2 AND bucket < $6 AND node = $3 AND origin_boot = $4
					  AND ($7::text IS NULL OR api_key = $7))
				WHERE budget_id = $1 AND period_start = $2 AND node = $3 AND boot = $4`,
				l.budget, l.start, int64(b.o.Node), l.boot, l.org, end, l.key)
			return err
		})
		if err != nil {
			return i, fmt.Errorf("closing a lease of boot %d: %w", l.boot, err)
		}
	}
	return len(leases), nil
}
