package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	authorisation "github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// SetPolicy replaces an organisation's policy. With a version, as StoredPolicy
// told it, it does so only while that is still the one in force: nobody
// overwrites what somebody else changed meanwhile.
func SetPolicy(ctx context.Context, d *db.DB, g *access.Guard, p principal.Principal, org uuid.UUID, policy sovereignty.Policy, version ...int64) error {
	if err := policy.Validate(); err != nil {
		return err
	}
	if err := g.Authorise(ctx, p, "policy.set", authorisation.Resource{ID: org.String(), Organisation: org}); err != nil {
		return err
	}
	body, err := json.Marshal(policy)
	if err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	return d.Org(ctx, org, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO organisation_policies (organisation_id, document) VALUES ($1, $2)
			ON CONFLICT (organisation_id) DO UPDATE SET document = excluded.document,
				version = organisation_policies.version + 1, changed_at = now()
			WHERE cardinality($3::bigint[]) = 0 OR organisation_policies.version = ANY ($3)`, org, body, append([]int64{}, version...))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return problem.New(problem.Conflict, "policy-changed", "Somebody else changed this policy meanwhile.").
				WithMend("Look at what it says now, and make your change to that.")
		}
		if err := audit.Append(ctx, tx, p, org, "policy.set", org.String(), json.RawMessage(body)); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
}

// StoredPolicy returns an organisation's policy as the database has it, with
// its version; version 0 is the policy of an organisation that never set one.
func StoredPolicy(ctx context.Context, d *db.DB, org uuid.UUID) (policy sovereignty.Policy, version int64, err error) {
	var body []byte
	err = d.Org(ctx, org, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT document, version FROM organisation_policies WHERE organisation_id = $1`, org).Scan(&body, &version)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sovereignty.DefaultPolicy(), 0, nil
	case err != nil:
		return sovereignty.Policy{}, 0, fmt.Errorf("reading the policy: %w", err)
	}
	if policy, err = sovereignty.ParsePolicy(body); err != nil {
		return sovereignty.Policy{}, version, nil // as loadPolicies reads it: it allows nothing
	}
	return policy, version, nil
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
