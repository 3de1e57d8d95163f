package ledger

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// KeysLastUsed says when each API key was last used: to the minute for recent
// use, to the hour for older. For the register of access.
func (s *Store) KeysLastUsed(ctx context.Context) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	err := s.db.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT api_key, max(bucket) FROM usage_deltas GROUP BY api_key`)
		if err != nil {
			return err
		}
		var key string
		var at time.Time
		_, err = pgx.ForEachRow(rows, []any{&key, &at}, func() error { out[key] = at; return nil })
		return err
	})
	return out, err
}
