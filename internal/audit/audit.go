// Package audit knows what happened, and how to prove it.
//
// Every mutating act appends its entry in the act's own transaction; a denial
// has a transaction of its own, so that rolling back the act does not erase
// it. Entries say who did what to what, never what a prompt said.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
)

// Entry is one act or denial.
type Entry struct {
	ID           uuid.UUID       `json:"id"`
	At           time.Time       `json:"at"`
	Organisation uuid.UUID       `json:"organisation"` // nil: the platform itself
	Actor        string          `json:"actor"`
	Act          string          `json:"act"`    // e.g. "key.create"
	Target       string          `json:"target"` // e.g. the key's selector
	Outcome      string          `json:"outcome"`
	Details      json.RawMessage `json:"details,omitempty"`
}

// Outcomes of an entry.
const (
	Done   = "done"
	Denied = "denied"
)

// Append records an act inside the transaction that performs it. The
// transaction must be scoped to org (db.Org).
func Append(ctx context.Context, tx pgx.Tx, p principal.Principal, org uuid.UUID, act, target string, details any) error {
	return insert(ctx, tx, p, org, act, target, Done, details)
}

// Deny records a denial in a transaction of its own.
func Deny(ctx context.Context, d *db.DB, p principal.Principal, org uuid.UUID, act, target string, details any) error {
	return d.Org(ctx, org, func(tx pgx.Tx) error {
		return insert(ctx, tx, p, org, act, target, Denied, details)
	})
}

func insert(ctx context.Context, tx pgx.Tx, p principal.Principal, org uuid.UUID, act, target, outcome string, details any) error {
	if details == nil {
		details = struct{}{}
	}
	body, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("auditing %s: %w", act, err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit (id, organisation_id, actor, act, target, outcome, details)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, uuid.Must(uuid.NewV7()), org, p.String(), act, target, outcome, body)
	if err != nil {
		return fmt.Errorf("auditing %s: %w", act, err)
	}
	return nil
}

// List returns the newest entries of all organisations, at most limit, older
// than before (the nil uuid: from the newest). For the platform operator.
func List(ctx context.Context, d *db.DB, before uuid.UUID, limit int) ([]Entry, error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	var out []Entry
	err := d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, at, organisation_id, actor, act, target, outcome, details
			FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Entry])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the audit log: %w", err)
	}
	return out, nil
}
