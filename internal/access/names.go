package access

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Names says what people are called, for a client who sees that they had
// access to its data. A name that cannot be opened is left out: the id still
// says who it was.
func (s *People) Names(ctx context.Context, people []uuid.UUID) (map[uuid.UUID]string, error) {
	sealed := map[uuid.UUID][]byte{}
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, name_sealed FROM people WHERE id = ANY ($1)`, people)
		if err != nil {
			return err
		}
		var id uuid.UUID
		var name []byte
		_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error { sealed[id] = append([]byte(nil), name...); return nil })
		return err
	})
	if err != nil {
		return nil, err
	}
	names := make(map[uuid.UUID]string, len(sealed))
	for id, name := range sealed {
		if text, err := s.openText(ctx, "people", "name_sealed", id.String(), name); err == nil {
			names[id] = text
		}
	}
	return names, nil
}
