package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/principal"
)

// enterFallback finds or begins the open fallback of a provider.
func enterFallback(ctx context.Context, tx pgx.Tx, provider string, away bool) (id uuid.UUID, fresh bool, err error) {
	err = tx.QueryRow(ctx, `UPDATE fallbacks SET last_at = now() WHERE provider = $1 AND ended_at IS NULL RETURNING id`, provider).Scan(&id)
	switch {
	case err == nil:
		return id, false, nil
	case !errors.Is(err, pgx.ErrNoRows):
		return id, false, fmt.Errorf("looking for an open fallback: %w", err)
	case !away:
		return uuid.Nil, false, nil
	}
	id = uuid.Must(uuid.NewV7())
	tag, err := tx.Exec(ctx, `INSERT INTO fallbacks (id, provider) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, provider)
	if err != nil {
		return id, false, fmt.Errorf("beginning a fallback: %w", err)
	}
	if tag.RowsAffected() == 1 {
		return id, true, nil
	}
	err = tx.QueryRow(ctx, `SELECT id FROM fallbacks WHERE provider = $1 AND ended_at IS NULL`, provider).Scan(&id) // another node was first
	return id, false, err
}

func addFallbackCost(ctx context.Context, tx pgx.Tx, id uuid.UUID, node uint32, k fallbackKey, s *fallbackSum) error {
	_, err := tx.Exec(ctx, `INSERT INTO fallback_costs AS c (fallback_id, organisation_id, node, currency, provider, requests, cost_nano)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (fallback_id, organisation_id, node, currency) DO UPDATE SET
			requests = c.requests + excluded.requests, cost_nano = c.cost_nano + excluded.cost_nano, last_at = now()`,
		id, k.org, int64(node), k.currency, k.provider, s.requests, s.nano)
	if err != nil {
		return fmt.Errorf("adding up a fallback: %w", err)
	}
	return nil
}

// openFallbacks reads what is open with its sums: of one organisation, or of
// all where the role sees all.
func openFallbacks(ctx context.Context, tx pgx.Tx, org uuid.UUID) ([]Fallback, error) {
	rows, _ := tx.Query(ctx, `SELECT f.id, f.provider, f.began_at, f.last_at FROM fallbacks f WHERE f.ended_at IS NULL ORDER BY f.began_at`)
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (f Fallback, err error) {
		return f, r.Scan(&f.ID, &f.Provider, &f.Began, &f.Last)
	})
	if err != nil {
		return nil, fmt.Errorf("reading open fallbacks: %w", err)
	}
	for i := range out {
		if err := sumFallback(ctx, tx, &out[i], org); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func sumFallback(ctx context.Context, tx pgx.Tx, f *Fallback, org uuid.UUID) error {
	rows, _ := tx.Query(ctx, `SELECT currency, count(DISTINCT organisation_id), sum(requests)::bigint, `+bounded("cost_nano")+`
		FROM fallback_costs WHERE fallback_id = $1 AND ($2::uuid IS NULL OR organisation_id = $2) GROUP BY currency ORDER BY currency`, f.ID, nullable(org))
	var a Amount
	var orgs int
	var requests int64
	_, err := pgx.ForEachRow(rows, []any{&a.Currency, &orgs, &requests, &a.Nano}, func() error {
		f.Cost = append(f.Cost, a)
		f.Organisations = max(f.Organisations, orgs)
		f.Requests += requests
		return nil
	})
	if err != nil {
		return fmt.Errorf("adding up a fallback: %w", err)
	}
	return nil
}

// endFallback ends a fallback in which nothing happened for as long as calm.
func endFallback(ctx context.Context, tx pgx.Tx, f *Fallback, calm time.Duration) (bool, error) {
	err := tx.QueryRow(ctx, `UPDATE fallbacks SET ended_at = last_at WHERE id = $1 AND ended_at IS NULL AND last_at < now() - $2::interval
		RETURNING ended_at`, f.ID, calm).Scan(&f.Ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ending a fallback: %w", err)
	}
	return true, nil
}

func fallbackOrganisations(ctx context.Context, tx pgx.Tx, id uuid.UUID) ([]uuid.UUID, error) {
	rows, _ := tx.Query(ctx, `SELECT DISTINCT organisation_id FROM fallback_costs WHERE fallback_id = $1`, id)
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

func endFallbackCosts(ctx context.Context, tx pgx.Tx, f Fallback) error {
	_, err := tx.Exec(ctx, `UPDATE fallback_costs SET ended_at = $2 WHERE fallback_id = $1 AND organisation_id = foundry_organisation()`, f.ID, f.Ended)
	return err
}

// FallbackRow is what a fallback costs, or has cost, whoever may see it. At
// home it would have cost nothing.
type FallbackRow struct {
	ID            uuid.UUID  `json:"id"`
	Provider      string     `json:"provider"` // the fleet's own that is away
	Began         time.Time  `json:"began_at"`
	Last          time.Time  `json:"last_at"` // when a request last went elsewhere
	Ended         *time.Time `json:"ended_at,omitempty"`
	Organisations int        `json:"organisations"`
	Requests      int64      `json:"requests"`
	Cost          []Amount   `json:"cost"`
}

// Fallbacks lists what is away now and what was within a day, newest first,
// with what that cost: p's organisation, the one given, or all.
func (s *Store) Fallbacks(ctx context.Context, p principal.Principal, org uuid.UUID) (out []FallbackRow, err error) {
	err = s.view(ctx, p, "route.explain", org, "", func(tx pgx.Tx) error { out, err = readFallbacks(ctx, tx, org); return err })
	if err != nil {
		return nil, fmt.Errorf("reading fallbacks: %w", err)
	}
	return out, nil
}

func readFallbacks(ctx context.Context, tx pgx.Tx, org uuid.UUID) ([]FallbackRow, error) {
	rows, _ := tx.Query(ctx, `SELECT fallback_id, provider, min(began_at), max(last_at), CASE WHEN bool_or(ended_at IS NULL) THEN NULL ELSE max(ended_at) END,
			count(DISTINCT organisation_id)::integer, sum(requests)::bigint, currency, `+bounded("cost_nano")+`
		FROM fallback_costs WHERE (ended_at IS NULL OR ended_at > now() - interval '1 day') AND ($1::uuid IS NULL OR organisation_id = $1)
		GROUP BY fallback_id, provider, currency ORDER BY min(began_at) DESC, fallback_id, currency`, nullable(org))
	out := []FallbackRow{}
	var r FallbackRow
	var a Amount
	_, err := pgx.ForEachRow(rows, []any{&r.ID, &r.Provider, &r.Began, &r.Last, &r.Ended, &r.Organisations, &r.Requests, &a.Currency, &a.Nano}, func() error {
		if n := len(out); n > 0 && out[n-1].ID == r.ID { // another currency
			last := &out[n-1]
			last.Cost, last.Requests = append(last.Cost, a), last.Requests+r.Requests
			return nil
		}
		r.Cost = []Amount{a}
		out = append(out, r)
		return nil
	})
	return out, err
}

// readFallbacks reads what is away now.
func (o *Overview) readFallbacks(ctx context.Context, tx pgx.Tx) error {
	all, err := readFallbacks(ctx, tx, uuid.Nil)
	for _, f := range all {
		if f.Ended == nil {
			o.Fallbacks = append(o.Fallbacks, f)
		}
	}
	return err
}
