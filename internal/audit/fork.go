package audit

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// Fork is where two databases parted that were one until then: a database, and
// the one that another node was given from its backups.
type Fork struct {
	Shared int64     `json:"shared"` // leaves from the first on that both have, the same
	Old    int64     `json:"old"`    // leaves of the one that was left
	New    int64     `json:"new"`    // leaves of the one that goes on
	At     time.Time `json:"at"`     // of the newest thing that both have, by the database's clock
}

// Lost is an entry that only the database that was left has. What it says is in
// that database; here is what names it.
type Lost struct {
	ID           uuid.UUID `json:"id"`
	At           time.Time `json:"at"`
	Organisation uuid.UUID `json:"organisation"`
	Actor        string    `json:"actor"`
	Act          string    `json:"act"`
	Target       string    `json:"target"`
	Outcome      string    `json:"outcome"`
	Leaf         *int64    `json:"leaf,omitempty"` // its place in the tree that was left; null: it had none yet
}

// forkChunk is how many leaves are compared at once.
const forkChunk = 1 << 14

// FindFork compares the trees of two databases, leaf by leaf, and reads only.
func FindFork(ctx context.Context, old, next *db.DB) (f Fork, err error) {
	var trees [2]uuid.UUID
	for i, d := range []*db.DB{old, next} {
		size := []*int64{&f.Old, &f.New}[i]
		if err := d.Read(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT id, (SELECT coalesce(max(leaf) + 1, 0) FROM audit_leaves) FROM audit_log`).Scan(&trees[i], size)
		}); err != nil {
			return f, err
		}
	}
	if trees[0] != trees[1] {
		return f, problem.New(problem.Conflict, "database-another", "These are two databases that never were one: their audit logs are different trees.").
			WithMend("Name the data directory of a node that ran the database of this fleet.")
	}
	for ; f.Shared < min(f.Old, f.New); f.Shared += forkChunk {
		a, err := leavesFrom(ctx, old, f.Shared)
		if err != nil {
			return f, err
		}
		b, err := leavesFrom(ctx, next, f.Shared)
		if err != nil {
			return f, err
		}
		same := int64(0)
		for same < int64(min(len(a), len(b))) && bytes.Equal(a[same], b[same]) {
			same++
		}
		if same < forkChunk {
			f.Shared += same
			break
		}
	}
	f.Shared = min(f.Shared, f.Old, f.New)
	return f, old.Read(ctx, func(tx pgx.Tx) error {
		var at *time.Time
		err := tx.QueryRow(ctx, `SELECT max(at) FROM (
			SELECT a.at FROM audit_leaves l JOIN audit a ON a.id = l.ref WHERE l.kind = 1 AND l.leaf < $1 AND l.leaf >= $1 - 1000
			UNION ALL
			SELECT b.shipped_at FROM audit_leaves l JOIN journal_batches b ON l.ref = (lpad(to_hex(b.node), 8, '0') || lpad(to_hex(b.boot), 8, '0') || lpad(to_hex(b.first_seq), 16, '0'))::uuid
			WHERE l.kind = 2 AND l.leaf < $1 AND l.leaf >= $1 - 1000) newest`, f.Shared).Scan(&at)
		if err == nil && at != nil {
			f.At = at.UTC()
		}
		return err
	})
}

// leavesFrom are the hashes of a chunk of leaves, in order, without gaps.
func leavesFrom(ctx context.Context, d *db.DB, from int64) (out [][]byte, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT hash FROM audit_leaves WHERE leaf >= $1 AND leaf < $1 + $2 ORDER BY leaf`, from, forkChunk)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
		return err
	})
	return out, err
}

// LostEntries lists the entries of the database that was left which the other
// does not have: those after the fork, and those that had no place in the tree
// yet. At most limit are listed, the oldest first; count is how many there are.
func (f Fork) LostEntries(ctx context.Context, old, next *db.DB, limit int) (lost []Lost, count int, err error) {
	after := uuid.Nil
	for {
		var page []Lost
		if err := old.Read(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT a.id, a.at, a.organisation_id, a.actor, a.act, a.target, a.outcome, l.leaf
				FROM audit a LEFT JOIN audit_leaves l ON l.ref = a.id AND l.kind = 1
				WHERE a.id > $1 AND (l.leaf IS NULL OR l.leaf >= $2) ORDER BY a.id LIMIT 2000`, after, f.Shared)
			if err != nil {
				return err
			}
			page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Lost])
			return err
		}); err != nil {
			return nil, 0, fmt.Errorf("reading what was left: %w", err)
		}
		if len(page) == 0 {
			return lost, count, nil
		}
		after = page[len(page)-1].ID
		has, err := hasEntries(ctx, next, page)
		if err != nil {
			return nil, 0, err
		}
		for _, e := range page {
			if has[e.ID] {
				continue
			}
			if count++; len(lost) < limit {
				lost = append(lost, e)
			}
		}
	}
}

// hasEntries says which of them a database has.
func hasEntries(ctx context.Context, d *db.DB, page []Lost) (map[uuid.UUID]bool, error) {
	ids := make([]uuid.UUID, len(page))
	for i, e := range page {
		ids[i] = e.ID
	}
	has := map[uuid.UUID]bool{}
	return has, d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id FROM audit WHERE id = ANY($1)`, ids)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		for _, id := range found {
			has[id] = true
		}
		return err
	})
}
