package access

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
)

// KeysOfServiceAccounts says which API keys of an organisation belong to which
// of its service accounts. A key that is not listed belongs to nobody but the
// organisation, or to the person who made it.
func (s *People) KeysOfServiceAccounts(ctx context.Context, p principal.Principal, org uuid.UUID) (out map[string]uuid.UUID, err error) {
	if err := s.Guard.Authorise(ctx, p, "service-account.list", policy.Resource{Organisation: org}); err != nil {
		return nil, err
	}
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		out, err = keysOfServiceAccounts(ctx, tx, org)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading whose the API keys are: %w", err)
	}
	return out, nil
}
