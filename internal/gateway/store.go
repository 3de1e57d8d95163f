package gateway

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// SetPolicy replaces an organisation's policy.
func SetPolicy(ctx context.Context, d *db.DB, p principal.Principal, org uuid.UUID, policy sovereignty.Policy) error {
	if err := policy.Validate(); err != nil {
		return err
	}
	if !p.Platform() || p.Kind == principal.Key {
		if err := audit.Deny(ctx, d, p, p.Organisation, "policy.set", org.String(), nil); err != nil {
			return err
		}
		return problem.New(problem.Denied, "platform-only", "Only a platform operator may set a policy.").
			WithMend("Use `foundry org policy` on the server itself.")
	}
	body, err := json.Marshal(policy)
	if err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	return d.Org(ctx, org, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO organisation_policies (organisation_id, document) VALUES ($1, $2)
			ON CONFLICT (organisation_id) DO UPDATE SET document = excluded.document,
				version = organisation_policies.version + 1, changed_at = now()`, org, body)
		if err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, org, "policy.set", org.String(), json.RawMessage(body)); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
}

// loadPolicies reads every policy. One that no longer parses counts as the
// zero policy, which allows nothing: it fails closed, and its organisation
// alone is affected.
func loadPolicies(ctx context.Context, tx pgx.Tx) (map[uuid.UUID]sovereignty.Policy, error) {
	rows, err := tx.Query(ctx, `SELECT organisation_id, document FROM organisation_policies`)
	if err != nil {
		return nil, err
	}
	out := map[uuid.UUID]sovereignty.Policy{}
	var org uuid.UUID
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&org, &body}, func() error {
		policy, perr := sovereignty.ParsePolicy(body)
		if perr != nil {
			policy = sovereignty.Policy{}
		}
		out[org] = policy
		return nil
	})
	return out, err
}

// Policy returns the policy in force for an organisation.
func (g *Gateway) Policy(org uuid.UUID) sovereignty.Policy {
	if p, ok := g.tenants.Load().policies[org]; ok {
		return p
	}
	return sovereignty.DefaultPolicy()
}
