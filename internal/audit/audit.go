// Package audit knows what happened, and how to prove it.
//
// Every mutating act appends its entry in the act's own transaction; a denial
// has a transaction of its own, so that rolling back the act does not erase
// it. Entries say who did what to what, never what a prompt said.
//
// Entries commit unordered. One sequencer at a time gives them their places in
// a Merkle tree (golang.org/x/mod/sumdb/tlog), and signs what the tree is; the
// gateway's ledger stands in the same tree, a leaf for each shipped batch.
// Whoever holds an earlier checkpoint can have it proven that nothing in it
// was changed since, without trusting the database or this program.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

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
// transaction must be scoped to org (db.Org). If it cannot be recorded, the
// act fails with it.
func Append(ctx context.Context, tx pgx.Tx, p principal.Principal, org uuid.UUID, act, target string, details any) error {
	r, err := newRecord(p, org, act, target, Done, details)
	if err != nil {
		return err
	}
	return r.insert(ctx, tx)
}

// Deny records a denial, durably, in a transaction that is not the caller's.
// While the database refuses it, it is held in memory and stored later, which
// is no error: an error says that nobody will know of the denial.
func Deny(ctx context.Context, d *db.DB, p principal.Principal, org uuid.UUID, act, target string, details any) error {
	r, err := newRecord(p, org, act, target, Denied, details)
	if err != nil {
		return err
	}
	if a := appenderOf(d); a != nil {
		return a.deny(ctx, r)
	}
	return d.Org(ctx, org, func(tx pgx.Tx) error { return r.insert(ctx, tx) })
}

func newRecord(p principal.Principal, org uuid.UUID, act, target, outcome string, details any) (*record, error) {
	if details == nil {
		details = struct{}{}
	}
	body, err := json.Marshal(details)
	if err != nil {
		return nil, fmt.Errorf("auditing %s: %w", act, err)
	}
	body = underGrant(p, body)
	return &record{id: uuid.Must(uuid.NewV7()), org: org, actor: storable(p.String()), act: storable(act), target: storable(target), outcome: outcome,
		body: []byte(strings.ReplaceAll(string(body), `\u0000`, `\ufffd`))}, nil
}

// storable is what PostgreSQL takes as text: valid UTF-8 without NUL. What a
// stranger sent may stand in a denial's target, and must not keep the denial
// out of the log.
func storable(s string) string {
	if utf8.ValidString(s) && !strings.Contains(s, "\x00") {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func (r *record) insert(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit (id, organisation_id, actor, act, target, outcome, details)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, r.id, r.org, r.actor, r.act, r.target, r.outcome, r.body)
	if err != nil {
		return fmt.Errorf("auditing %s: %w", r.act, err)
	}
	return nil
}

// Erase removes the body of an entry for good, in a transaction scoped to its
// organisation, and records that. What remains is the commitment: the tree
// still verifies, and an erased body verifies only with the entry that this
// appends. The caller has authorised p for "audit.erase".
func Erase(ctx context.Context, tx pgx.Tx, p principal.Principal, org, entry uuid.UUID, reason string) error {
	r, err := newRecord(p, org, ActErase, entry.String(), Done, map[string]string{"reason": reason})
	if err != nil {
		return err
	}
	if err := r.insert(ctx, tx); err != nil {
		return err
	}
	var erased bool
	if err := tx.QueryRow(ctx, `SELECT audit_erase($1, $2)`, entry, r.id).Scan(&erased); err != nil {
		return fmt.Errorf("erasing the body of entry %s: %w", entry, err)
	}
	if !erased {
		return entryUnknown(entry)
	}
	return nil
}

// Acts of the log itself.
const (
	ActErase  = "audit.erase"
	ActRead   = "audit.read"
	ActExport = "audit.export"
	ActCheck  = "audit.check" // the synthetic access of Probe
)

// List returns the newest entries of all organisations, at most limit, older
// than before (the nil uuid: from the newest). For the platform operator.
func List(ctx context.Context, d *db.DB, before uuid.UUID, limit int) ([]Entry, error) {
	rows, err := Find(ctx, d, Filter{Before: before, Limit: limit})
	out := make([]Entry, len(rows))
	for i := range rows {
		out[i] = rows[i].Entry
	}
	return out, err
}
