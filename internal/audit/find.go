package audit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Filter selects entries, newest first unless After is set. Zero fields select
// everything.
type Filter struct {
	Organisation *uuid.UUID `json:"organisation,omitempty"` // the nil uuid: the platform's own
	Actor        string     `json:"actor,omitempty"`
	Act          string     `json:"act,omitempty"` // or a prefix that ends in a dot: "key."
	Target       string     `json:"target,omitempty"`
	Outcome      string     `json:"outcome,omitempty"`
	From         time.Time  `json:"from,omitzero"` // inclusive
	To           time.Time  `json:"to,omitzero"`   // exclusive

	Before uuid.UUID `json:"-"` // older than this entry
	After  *int64    `json:"-"` // behind this leaf, oldest first: what follow reads
	Limit  int       `json:"-"` // at most 1000; 0: 100
}

// Row is an entry and its place in the tree.
type Row struct {
	Entry
	Leaf   *int64 `json:"leaf,omitempty"` // absent: not in the tree yet
	Erased bool   `json:"erased,omitempty"`
}

// Find lists entries. The caller has been authorised for what the filter
// selects.
func Find(ctx context.Context, d *db.DB, f Filter) ([]Row, error) {
	query, args := f.query()
	var out []Row
	err := d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (e Row, err error) {
			err = r.Scan(&e.ID, &e.At, &e.Organisation, &e.Actor, &e.Act, &e.Target, &e.Outcome, &e.Details, &e.Leaf, &e.Erased)
			e.At = e.At.UTC()
			return e, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the audit log: %w", err)
	}
	return out, nil
}

// query builds the statement. Values are parameters, every one.
func (f Filter) query() (string, []any) {
	var where []string
	var args []any
	add := func(condition string, value any) {
		args = append(args, value)
		where = append(where, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(args))))
	}
	if f.Organisation != nil {
		add("a.organisation_id = ?", *f.Organisation)
	}
	if f.Actor != "" {
		add("a.actor = ?", f.Actor)
	}
	switch {
	case strings.HasSuffix(f.Act, "."):
		add("starts_with(a.act, ?)", f.Act)
	case f.Act != "":
		add("a.act = ?", f.Act)
	}
	if f.Target != "" {
		add("a.target = ?", f.Target)
	}
	if f.Outcome != "" {
		add("a.outcome = ?", f.Outcome)
	}
	if !f.From.IsZero() {
		add("a.at >= ?", f.From)
	}
	if !f.To.IsZero() {
		add("a.at < ?", f.To)
	}
	if f.Before != uuid.Nil {
		add("a.id < ?", f.Before)
	}
	join, order := "LEFT JOIN", "a.id DESC"
	if f.After != nil {
		add("l.leaf > ?", *f.After)
		join, order = "JOIN", "l.leaf"
	}
	text := "SELECT a.id, a.at, a.organisation_id, a.actor, a.act, a.target, a.outcome, a.details, l.leaf, a.salt IS NULL FROM audit a " +
		join + " audit_leaves l ON l.ref = a.id AND l.kind = 1"
	if len(where) > 0 {
		text += " WHERE " + strings.Join(where, " AND ")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	args = append(args, min(limit, 1000))
	return text + " ORDER BY " + order + " LIMIT $" + strconv.Itoa(len(args)), args
}

func entryUnknown(id uuid.UUID) error {
	return problem.New(problem.NotFound, "audit-entry-unknown", "There is no audit entry "+id.String()+".").WithField("entry").
		WithMend("`foundry audit list --json` shows the ids.")
}

// sealedColumns are what a leaf is made from, in the order of scanSealed.
const sealedColumns = `a.id, a.at, a.organisation_id, a.actor, a.act, a.target, a.outcome, a.details::text, a.salt, a.commitment`

// sealedRow takes what may be missing on one side of a join.
type sealedRow struct {
	id, org                     *uuid.UUID
	at                          *time.Time
	actor, act, target, outcome *string
	body                        *string
	salt, commitment            []byte
}

func (r *sealedRow) dest() []any {
	return []any{&r.id, &r.at, &r.org, &r.actor, &r.act, &r.target, &r.outcome, &r.body, &r.salt, &r.commitment}
}

func (r *sealedRow) sealed() (s Sealed, found bool) {
	if r.id == nil {
		return s, false
	}
	s.Entry = Entry{ID: *r.id, At: r.at.UTC(), Organisation: *r.org, Actor: *r.actor, Act: *r.act, Target: *r.target, Outcome: *r.outcome, Details: json.RawMessage(*r.body)}
	s.Salt = r.salt
	copy(s.Commitment[:], r.commitment)
	return s, true
}

// readSealed reads one entry and its place.
func readSealed(ctx context.Context, tx pgx.Tx, id uuid.UUID) (s Sealed, place int64, stored tlog.Hash, err error) {
	var r sealedRow
	var leaf *int64
	var hash []byte
	err = tx.QueryRow(ctx, `SELECT `+sealedColumns+`, l.leaf, l.hash FROM audit a LEFT JOIN audit_leaves l ON l.ref = a.id AND l.kind = 1 WHERE a.id = $1`, id).
		Scan(append(r.dest(), &leaf, &hash)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, 0, stored, entryUnknown(id)
	}
	if err != nil {
		return s, 0, stored, err
	}
	s, _ = r.sealed()
	if leaf == nil {
		return s, 0, stored, notYet(id.String())
	}
	copy(stored[:], hash)
	return s, *leaf, stored, nil
}

func notYet(what string) error {
	return problem.New(problem.Conflict, "audit-entry-waiting", what+" is stored, but not in the tree yet.").WithMend("Try again in a second; `foundry status` says whether the sequencer works.")
}

// readings remembers who read what lately.
type readings struct {
	mu   sync.Mutex
	last map[[32]byte]time.Time
}

// readSpan is how long one entry stands for the readings of the same person
// with the same filter: a listing and its further pages, or an hour of
// following, four of them.
const readSpan = 15 * time.Minute

// Reading records that p reads the audit log, before anything is shown. Going
// on with the same filter (the next page, following) within 15 minutes belongs
// to the same reading; anything else is an entry of its own. If it cannot be
// recorded nothing may be shown.
func (l *Log) Reading(ctx context.Context, p principal.Principal, org uuid.UUID, f Filter) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	key := sha256.Sum256([]byte(p.String() + "\x00" + p.Session + "\x00" + org.String() + "\x00" + string(text)))
	now := l.o.Clock()
	r := &l.reads
	r.mu.Lock()
	if r.last == nil || len(r.last) > 10_000 { // forgetting only means one entry more
		r.last = map[[32]byte]time.Time{}
	}
	recent := now.Sub(r.last[key]) < readSpan
	r.mu.Unlock()
	if recent {
		return nil
	}
	if err := l.Record(ctx, p, org, ActRead, "", f); err != nil {
		return err
	}
	r.mu.Lock()
	r.last[key] = now
	r.mu.Unlock()
	return nil
}

// Record appends an entry that has no transaction of its own, and waits until
// it is durable. Independent callers share transactions.
func (l *Log) Record(ctx context.Context, p principal.Principal, org uuid.UUID, act, target string, details any) error {
	r, err := newRecord(p, org, act, target, Done, details)
	if err != nil {
		return err
	}
	return l.appends.store(ctx, r)
}
