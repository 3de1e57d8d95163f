package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// RefusalFilter selects refusals, newest first.
type RefusalFilter struct {
	From, To     time.Time
	Organisation uuid.UUID
	Key          string
	Rule         string
	Limit        int
	After        string
}

// Refusals lists requests that were denied, newest first, and returns the
// cursor of the next page.
func (s *Store) Refusals(ctx context.Context, p principal.Principal, f RefusalFilter) ([]RefusalRow, string, error) {
	c, err := parseCursor(f.After)
	if err != nil {
		return nil, "", err
	}
	from, to := bounds(f.From, f.To)
	limit := pageSize(f.Limit)
	var out []RefusalRow
	err = s.view(ctx, p, "refusal.list", f.Organisation, "", func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, `SELECT l.node, l.boot, l.seq, l.at, l.organisation_id, l.api_key, l.endpoint, l.model, l.class, l.rule, l.status, l.decision
			FROM organisations o CROSS JOIN LATERAL (
				SELECT * FROM refusals r WHERE r.organisation_id = o.id AND r.at >= $1 AND r.at < $2 AND r.at <= $3
				   AND (r.at, r.node, r.boot, r.seq) < ($3, $4, $5, $6) AND ($7 = '' OR r.api_key = $7) AND ($8 = '' OR r.rule = $8)
				 ORDER BY r.at DESC, r.node DESC, r.boot DESC, r.seq DESC LIMIT $9
			) l WHERE ($10::uuid IS NULL OR o.id = $10)
			ORDER BY l.at DESC, l.node DESC, l.boot DESC, l.seq DESC LIMIT $9`,
			from, to, time.UnixMicro(c.micros), int64(c.id.Node), int64(c.id.Boot), int64(c.id.Seq), f.Key, f.Rule, limit+1, nullable(f.Organisation))
		out, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (row RefusalRow, err error) {
			var node, boot, seq int64
			var class int16
			var decision []byte
			err = r.Scan(&node, &boot, &seq, &row.At, &row.Organisation, &row.Key, &row.Endpoint, &row.Model, &class, &row.Rule, &row.Status, &decision)
			row.ID, row.At, row.Class = requestID(node, boot, seq), row.At.UTC(), sovereignty.DataClass(class).String()
			copy(row.Decision[:], decision)
			return row, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing refusals: %w", err)
	}
	next := ""
	if len(out) > limit {
		out = out[:limit]
		next = cursor{micros: out[limit-1].At.UnixMicro(), id: out[limit-1].ID}.String()
	}
	return out, next, nil
}

// Transfers lists the transfer register, newest first, and returns the cursor
// of the next page.
func (s *Store) Transfers(ctx context.Context, p principal.Principal, f TransferFilter) ([]TransferRow, string, error) {
	c, err := parseCursor(f.After)
	if err != nil {
		return nil, "", err
	}
	if f.After == "" {
		c.n = 1<<15 - 1
	}
	from, to := bounds(f.From, f.To)
	limit := pageSize(f.Limit)
	var out []TransferRow
	err = s.view(ctx, p, "transfer.list", f.Organisation, "", func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, `SELECT l.node, l.boot, l.seq, l.n, l.at, l.organisation_id, l.api_key, l.class, l.provider, l.provider_model,
				l.destination, l.controller, l.leaves_eea, l.restricted, l.safeguard, l.decision
			FROM organisations o CROSS JOIN LATERAL (
				SELECT * FROM transfers r WHERE r.organisation_id = o.id AND r.at >= $1 AND r.at < $2 AND r.at <= $3
				   AND (r.at, r.node, r.boot, r.seq, r.n) < ($3, $4, $5, $6, $7)
				   AND ($8 = '' OR r.provider = $8) AND ($9 = '' OR r.destination = $9)
				 ORDER BY r.at DESC, r.node DESC, r.boot DESC, r.seq DESC, r.n DESC LIMIT $10
			) l WHERE ($11::uuid IS NULL OR o.id = $11)
			ORDER BY l.at DESC, l.node DESC, l.boot DESC, l.seq DESC, l.n DESC LIMIT $10`,
			from, to, time.UnixMicro(c.micros), int64(c.id.Node), int64(c.id.Boot), int64(c.id.Seq), c.n, f.Provider, f.Destination, limit+1, nullable(f.Organisation))
		out, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (row TransferRow, err error) {
			var node, boot, seq int64
			var class int16
			var decision []byte
			err = r.Scan(&node, &boot, &seq, &row.N, &row.At, &row.Organisation, &row.Key, &class, &row.Provider, &row.ProviderModel,
				&row.Destination, &row.Controller, &row.LeavesEEA, &row.Restricted, &row.Safeguard, &decision)
			row.ID, row.At, row.Class = requestID(node, boot, seq), row.At.UTC(), sovereignty.DataClass(class).String()
			copy(row.Decision[:], decision)
			return row, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("listing the transfer register: %w", err)
	}
	next := ""
	if len(out) > limit {
		out = out[:limit]
		last := out[limit-1]
		next = cursor{micros: last.At.UnixMicro(), id: last.ID, n: last.N}.String()
	}
	return out, next, nil
}
