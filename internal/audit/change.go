package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Change is an act that was done, without its details.
type Change struct {
	ID           uuid.UUID
	At           time.Time
	Organisation uuid.UUID
	Actor        string
	Act          string
	Target       string
}

// Changes lists the acts of some nouns ("key" of "key.create") that were done
// since a moment, of all organisations, oldest first, in a transaction of the
// reader. An entry's id holds the clock of the node that made it: give since
// the slack that clocks and long transactions need.
func Changes(ctx context.Context, tx pgx.Tx, since time.Time, nouns []string) ([]Change, error) {
	var from uuid.UUID // version 7: 48 bits of milliseconds first (RFC 9562, 5.7)
	if ms := since.UnixMilli(); ms > 0 {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(ms)<<16)
		copy(from[:6], b[:6])
	}
	rows, err := tx.Query(ctx, `SELECT id, at, organisation_id, actor, act, target FROM audit
		WHERE id >= $1 AND outcome = 'done' AND split_part(act, '.', 1) = ANY ($2) ORDER BY id`, from, nouns)
	if err != nil {
		return nil, fmt.Errorf("reading changes from the audit log: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Change])
	if err != nil {
		return nil, fmt.Errorf("reading changes from the audit log: %w", err)
	}
	return out, nil
}
