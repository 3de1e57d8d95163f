package access

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Named finds the active people behind accounts as a document names them, by
// e-mail address or by id: the principal of each, as the audit log writes it.
// An account that nobody active has is left out. It authorises nothing: its
// callers tell nobody more than whether somebody is named.
func (s *People) Named(ctx context.Context, accounts []string) (map[string]string, error) {
	out := map[string]string{}
	err := s.DB.Read(ctx, func(tx pgx.Tx) error {
		for _, account := range accounts {
			find := func() (storedPerson, error) { return activeByAddress(ctx, tx, s.account(account)) }
			if id, err := uuid.Parse(account); err == nil {
				find = func() (storedPerson, error) { return personByID(ctx, tx, id) }
			}
			p, err := find()
			switch {
			case gone(err):
			case err != nil:
				return fmt.Errorf("looking for the account of a person of the plan: %w", err)
			case p.Status == "active":
				out[account] = asPerson(p.ID).String()
			}
		}
		return nil
	})
	return out, err
}
