package evidence

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

const columns = `id, organisation_id, run, control, scope, subject, result, reason, covered, not_covered, observed_at, effective_at, expires_at,
	collector, collector_version, mode, owner, raw_hash, raw_place, raw, hash, signer, signature`

func scan(row pgx.CollectableRow) (o Observation, err error) {
	err = row.Scan(&o.ID, &o.Organisation, &o.Run, &o.Control, &o.Scope, &o.Subject, &o.Result, &o.Reason, &o.Covered, &o.NotCovered, &o.Observed, &o.Effective, &o.Expires,
		&o.Collector, &o.Version, &o.Mode, &o.Owner, &o.RawHash, &o.RawPlace, &o.Raw, &o.Hash, &o.Signer, &o.Signature)
	return o, err
}

// insert stores the observations of one run and anchors their hashes in the
// audit log, in one transaction scoped to the nil organisation.
func insert(ctx context.Context, tx pgx.Tx, p principal.Principal, all []Observation) error {
	type anchored struct {
		ID      uuid.UUID `json:"id"`
		Subject string    `json:"subject"`
		Result  Result    `json:"result"`
		Hash    HexBytes  `json:"sha256"`
		Signer  string    `json:"signer"`
	}
	var list []anchored
	for _, o := range all {
		_, err := tx.Exec(ctx, `INSERT INTO observations (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`,
			o.ID, o.Organisation, o.Run, o.Control, o.Scope, o.Subject, string(o.Result), o.Reason, o.Covered, o.NotCovered, o.Observed, o.Effective, o.Expires,
			o.Collector, o.Version, o.Mode, o.Owner, []byte(o.RawHash), o.RawPlace, o.Raw, []byte(o.Hash), o.Signer, o.Signature)
		if err != nil {
			return fmt.Errorf("storing an observation of %s: %w", o.Control, err)
		}
		list = append(list, anchored{o.ID, o.Subject, o.Result, o.Hash, o.Signer})
	}
	first := all[0]
	return audit.Append(ctx, tx, p, first.Organisation, "evidence.observe", first.Run.String(),
		map[string]any{"control": first.Control, "scope": first.Scope, "observations": list})
}

// claim takes the lease of a control for a run. It succeeds for one caller at a
// time across all nodes, and only when the control is due or force is set.
func claim(ctx context.Context, d *db.DB, c *Control, scope string, node uint32, lease uuid.UUID, force bool) (ok bool, err error) {
	span := c.Timeout + leaseGrace
	err = d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO control_runs (control, scope, node, lease, leased_until, started_at, next_due)
			VALUES ($1, $2, $3, $4, now() + $5, now(), now() + $5)
			ON CONFLICT (control, scope) DO UPDATE SET node = excluded.node, lease = excluded.lease, leased_until = excluded.leased_until,
				started_at = now(), ended_at = NULL, retired_at = NULL
			WHERE control_runs.leased_until <= now() AND ($6 OR control_runs.next_due <= now())`,
			c.ID, scope, int64(node), lease, span, force)
		ok = tag.RowsAffected() == 1
		return err
	})
	return ok, err
}

// leaseGrace is how long after its timeout a run may still store what it saw.
const leaseGrace = 30 * time.Second

// errLeaseLost means that somebody else has run the control meanwhile.
var errLeaseLost = errors.New("the lease of the control was lost")

// finish stores a run and gives its lease back, in one transaction.
func finish(ctx context.Context, d *db.DB, c *Control, scope string, lease uuid.UUID, next time.Duration, p principal.Principal, all []Observation) error {
	return d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE control_runs SET leased_until = now(), ended_at = now(), next_due = now() + $4
			WHERE control = $1 AND scope = $2 AND lease = $3 AND leased_until > now()`, c.ID, scope, lease, next)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errLeaseLost
		}
		return insert(ctx, tx, p, all)
	})
}

// schedule is where a control stands in its schedule.
type schedule struct {
	Control string
	Scope   string
	Node    uint32
	Started time.Time
	Next    time.Time
	Running bool
}

func schedules(ctx context.Context, d *db.DB) (out []schedule, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT control, scope, node, started_at, next_due, leased_until > now() FROM control_runs WHERE retired_at IS NULL`)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[schedule])
		return err
	})
	return out, err
}

// readLatest gives the observations of the latest run, and of the latest run
// that decided something, of every control and scope.
func readLatest(ctx context.Context, d *db.DB) (latest, decisive []Observation, err error) {
	const runs = `SELECT DISTINCT ON (control, scope) run FROM (
			SELECT control, scope, run, max(id::text) AS last, bool_or(result = 'fail') OR bool_and(result = 'pass') AS decisive
			FROM observations WHERE organisation_id = '00000000-0000-0000-0000-000000000000' GROUP BY control, scope, run) r
		WHERE decisive OR NOT $1 ORDER BY control, scope, last DESC`
	err = d.Read(ctx, func(tx pgx.Tx) error {
		for _, want := range []struct {
			decisive bool
			into     *[]Observation
		}{{false, &latest}, {true, &decisive}} {
			rows, err := tx.Query(ctx, `SELECT `+columns+` FROM observations WHERE run IN (`+runs+`) ORDER BY id`, want.decisive)
			if err != nil {
				return err
			}
			if *want.into, err = pgx.CollectRows(rows, scan); err != nil {
				return err
			}
		}
		return nil
	})
	return latest, decisive, err
}

// History lists observations of a control, the newest first, older than before
// (the nil uuid: from the newest).
func History(ctx context.Context, d *db.DB, control string, before uuid.UUID, limit int) (out []Observation, err error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+columns+` FROM observations WHERE control = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, control, before, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the evidence of %s: %w", control, err)
	}
	return out, nil
}

// Signers are the public keys that observations are verified with, by id.
func Signers(ctx context.Context, d *db.DB) (map[string]ed25519.PublicKey, error) {
	out := map[string]ed25519.PublicKey{}
	err := d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, public_key FROM evidence_signers`)
		if err != nil {
			return err
		}
		var id string
		var key []byte
		_, err = pgx.ForEachRow(rows, []any{&id, &key}, func() error { out[id] = append(ed25519.PublicKey(nil), key...); return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the keys that evidence is verified with: %w", err)
	}
	return out, nil
}

// register makes the node's public key known, once. The audit log has it too,
// so that a key slipped into the table is noticed.
func register(ctx context.Context, d *db.DB, s *Signer, node uint32) error {
	return d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return registerIn(ctx, tx, s, node) })
}

func registerIn(ctx context.Context, tx pgx.Tx, s *Signer, node uint32) error {
	tag, err := tx.Exec(ctx, `INSERT INTO evidence_signers (id, public_key, node) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, s.id, []byte(s.Public()), int64(node))
	if err != nil {
		return fmt.Errorf("registering the evidence key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil
	}
	return audit.Append(ctx, tx, principal.Node("evidence"), uuid.Nil, "evidence.signer", s.id, map[string]any{"public_key": HexBytes(s.Public()), "node": node})
}

// Retire says that a node is gone for good: its controls are no longer overdue.
// A node that is not gone takes them up again with its next run. The caller
// audits it in the same transaction, scoped to the nil organisation.
func Retire(ctx context.Context, tx pgx.Tx, scope string) error {
	tag, err := tx.Exec(ctx, `UPDATE control_runs SET retired_at = now() WHERE scope = $1 AND scope <> '' AND retired_at IS NULL AND leased_until <= now()`, scope)
	if err != nil {
		return fmt.Errorf("retiring %s: %w", scope, err)
	}
	if tag.RowsAffected() == 0 {
		return problem.New(problem.NotFound, "scope-unknown", "No node of this name is expected to run controls: "+scope+".").WithField("scope").
			WithMend("`foundry controls list --json` shows the scopes.")
	}
	return nil
}
