package access

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// ServiceAccount is a principal of an organisation that is no person: it owns
// API keys, outlives whoever made it, and cannot sign in.
type ServiceAccount struct {
	ID            uuid.UUID  `json:"id"`
	Organisation  uuid.UUID  `json:"organisation"`
	Name          string     `json:"name"`
	Status        string     `json:"status"` // active or deactivated
	Keys          int        `json:"keys"`   // that still open something
	CreatedAt     time.Time  `json:"created_at"`
	DeactivatedAt *time.Time `json:"deactivated_at,omitempty"`
}

// CreateServiceAccount makes one in an organisation. Names are lower-case
// letters, digits and dashes, unique there.
func (s *People) CreateServiceAccount(ctx context.Context, p principal.Principal, org uuid.UUID, name string) (ServiceAccount, error) {
	a := ServiceAccount{ID: uuid.Must(uuid.NewV7()), Organisation: org, Name: name, Status: "active"}
	if err := s.Guard.Authorise(ctx, p, "service-account.create", policy.Resource{ID: a.ID.String(), Organisation: org}); err != nil {
		return a, err
	}
	if !nameRule.MatchString(name) {
		return a, problem.New(problem.Invalid, "service-account-name", fmt.Sprintf("%q is not a valid name.", name)).WithField("name").
			WithMend("Use 1 to 63 lower-case letters, digits and dashes, for example ward-assistant.")
	}
	err := s.DB.Org(ctx, org, func(tx pgx.Tx) error {
		if err := insertServiceAccount(ctx, tx, &a); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, org, "service-account.create", a.ID.String(), map[string]any{"name": name})
	})
	if duplicate(err) {
		err = problem.New(problem.Conflict, "service-account-exists", fmt.Sprintf("There is already a service account named %q.", name)).WithField("name").WithMend("Choose another name.")
	}
	return a, err
}

// ServiceAccounts lists an organisation's, by name.
func (s *People) ServiceAccounts(ctx context.Context, p principal.Principal, org uuid.UUID) (out []ServiceAccount, err error) {
	if err := s.Guard.Authorise(ctx, p, "service-account.list", policy.Resource{Organisation: org}); err != nil {
		return nil, err
	}
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		out, err = listServiceAccounts(ctx, tx, org)
		return err
	})
	return out, err
}

var errServiceAccountUnknown = problem.New(problem.NotFound, "service-account-unknown", "There is no such service account.").WithField("id").
	WithMend("`foundry service-account list` shows them.")

func (s *People) serviceAccount(ctx context.Context, id uuid.UUID) (a ServiceAccount, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error { a, err = serviceAccountByID(ctx, tx, id); return err })
	if gone(err) {
		err = errServiceAccountUnknown
	}
	return a, err
}

// AssignKey gives an API key of the same organisation to a service account: it
// then stays when the person who made it leaves.
func (s *People) AssignKey(ctx context.Context, p principal.Principal, account uuid.UUID, key string) error {
	a, err := s.serviceAccount(ctx, account)
	if err != nil {
		return s.unknown(ctx, p, "service-account.change", account.String(), err)
	}
	if err := s.Guard.Authorise(ctx, p, "service-account.change", policy.Resource{ID: account.String(), Organisation: a.Organisation}); err != nil {
		return err
	}
	if a.Status != "active" {
		return problem.New(problem.Conflict, "service-account-deactivated", "The service account is deactivated.").WithMend("Choose another one.")
	}
	return s.DB.Org(ctx, a.Organisation, func(tx pgx.Tx) error {
		err := assignKey(ctx, tx, key, account)
		if gone(err) {
			return problem.New(problem.NotFound, "key-unknown", "The organisation has no such key.").WithField("key")
		}
		if err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, a.Organisation, "service-account.change", account.String(), map[string]any{"key": key}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
}

// DeactivateServiceAccount ends a service account and its keys, and returns
// how many keys that were. Doing it again changes nothing.
func (s *People) DeactivateServiceAccount(ctx context.Context, p principal.Principal, id uuid.UUID) (keys int, err error) {
	a, err := s.serviceAccount(ctx, id)
	if err != nil {
		return 0, s.unknown(ctx, p, "service-account.deactivate", id.String(), err)
	}
	if err := s.Guard.Authorise(ctx, p, "service-account.deactivate", policy.Resource{ID: id.String(), Organisation: a.Organisation}); err != nil {
		return 0, err
	}
	err = s.DB.Org(ctx, a.Organisation, func(tx pgx.Tx) error {
		ended, n, err := endServiceAccount(ctx, tx, id)
		if err != nil || !ended {
			return err
		}
		keys = int(n)
		if err := audit.Append(ctx, tx, p, a.Organisation, "service-account.deactivate", id.String(), map[string]any{"keys": n}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	return keys, err
}

// maker is the person who makes something, for whom it ends when they leave;
// nil for the node and its operators.
func maker(p principal.Principal) *uuid.UUID {
	if id, err := uuid.Parse(p.ID); p.Kind == principal.Person && err == nil {
		return &id
	}
	return nil
}
