package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// sequencerLock is the advisory lock of whoever extends the tree.
const sequencerLock = 7165424

// leaf is a row of audit_leaves.
type leaf struct {
	n    int64
	kind int16
	ref  uuid.UUID
	hash tlog.Hash
}

// storedNode is a row of audit_nodes.
type storedNode struct {
	level int
	n     int64
	hash  tlog.Hash
}

// takeTurn takes the sequencer's lock until the end of the transaction, or says
// that another node has it.
func takeTurn(ctx context.Context, tx pgx.Tx) (mine bool, err error) {
	err = tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, sequencerLock).Scan(&mine)
	return mine, err
}

// take removes up to limit rows from the queue. Their order is as the table
// has them, mostly that of their commits; the tree gives them their place.
func take(ctx context.Context, tx pgx.Tx, limit int) ([]leaf, error) {
	rows, err := tx.Query(ctx, `DELETE FROM audit_queue WHERE ctid = ANY (ARRAY(SELECT ctid FROM audit_queue LIMIT $1))
		RETURNING kind, ref, hash`, limit)
	if err != nil {
		return nil, err
	}
	var out []leaf
	var l leaf
	var hash []byte
	_, err = pgx.ForEachRow(rows, []any{&l.kind, &l.ref, &hash}, func() error {
		copy(l.hash[:], hash)
		out = append(out, l)
		return nil
	})
	return out, err
}

func insertLeaves(ctx context.Context, tx pgx.Tx, leaves []leaf, nodes []storedNode) error {
	if len(leaves) == 0 {
		return nil
	}
	kinds, refs, hashes := make([]int16, len(leaves)), make([]uuid.UUID, len(leaves)), make([][]byte, len(leaves))
	for i := range leaves {
		kinds[i], refs[i], hashes[i] = leaves[i].kind, leaves[i].ref, leaves[i].hash[:]
	}
	var b pgx.Batch
	b.Queue(`INSERT INTO audit_leaves (leaf, kind, ref, hash)
		SELECT $1 + n - 1, kind, ref, hash FROM unnest($2::smallint[], $3::uuid[], $4::bytea[]) WITH ORDINALITY AS t (kind, ref, hash, n)`,
		leaves[0].n, kinds, refs, hashes)
	if len(nodes) > 0 {
		levels, places, hashes := make([]int16, len(nodes)), make([]int64, len(nodes)), make([][]byte, len(nodes))
		for i := range nodes {
			levels[i], places[i], hashes[i] = int16(nodes[i].level), nodes[i].n, nodes[i].hash[:]
		}
		b.Queue(`INSERT INTO audit_nodes (level, n, hash) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])`, levels, places, hashes)
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("extending the tree: %w", err)
	}
	return nil
}

// insertCheckpoint keeps a checkpoint in the database: the newest of its hour.
func insertCheckpoint(ctx context.Context, tx pgx.Tx, s *signer, c Checkpoint) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit_checkpoints (signer, hour, size, root, note, at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (signer, hour) DO UPDATE SET size = EXCLUDED.size, root = EXCLUDED.root, note = EXCLUDED.note, at = EXCLUDED.at`,
		fmt.Sprintf("%08x", s.hash), c.At.UTC().Truncate(time.Hour), c.Size, c.Root[:], c.Note, c.At)
	if err != nil {
		return fmt.Errorf("storing a checkpoint: %w", err)
	}
	return nil
}

func insertKeys(ctx context.Context, tx pgx.Tx, node uint32, log, witness *signer) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit_keys (vkey, role, node) VALUES ($1, 'log', $3), ($2, 'witness', $3) ON CONFLICT DO NOTHING`,
		log.vkey(), witness.vkey(), int64(node))
	return err
}

func readKeys(ctx context.Context, tx pgx.Tx) ([]PublicKey, error) {
	rows, err := tx.Query(ctx, `SELECT role, node, vkey, added_at FROM audit_keys ORDER BY added_at, role, vkey`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (k PublicKey, err error) {
		var node int64
		err = r.Scan(&k.Role, &node, &k.VKey, &k.Since)
		k.Node = uint32(node)
		return k, err
	})
}

func readCheckpoints(ctx context.Context, tx pgx.Tx) ([]Checkpoint, error) {
	rows, err := tx.Query(ctx, `SELECT size, root, note, at FROM audit_checkpoints ORDER BY size, at`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (c Checkpoint, err error) {
		var root []byte
		err = r.Scan(&c.Size, &root, &c.Note, &c.At)
		copy(c.Root[:], root)
		return c, err
	})
}

// logID is the tree's name.
func logID(ctx context.Context, tx pgx.Tx) (id uuid.UUID, err error) {
	err = tx.QueryRow(ctx, `SELECT id FROM audit_log`).Scan(&id)
	if err != nil {
		return id, fmt.Errorf("asking for the audit log's name: %w", err)
	}
	return id, nil
}

// head is the size of the tree and its last leaf.
func head(ctx context.Context, tx pgx.Tx) (size int64, last tlog.Hash, err error) {
	var hash []byte
	err = tx.QueryRow(ctx, `SELECT leaf + 1, hash FROM audit_leaves ORDER BY leaf DESC LIMIT 1`).Scan(&size, &hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, last, nil
	}
	copy(last[:], hash)
	return size, last, err
}

// errGap says that the tree lacks hashes that must be there.
var errGap = errors.New("the tree in the database has a gap")

// treeReader reads the tree's stored hashes.
func treeReader(ctx context.Context, tx pgx.Tx) hashes {
	return func(level int, from, to int64) ([]tlog.Hash, error) {
		query, args := `SELECT hash FROM audit_leaves WHERE leaf >= $1 AND leaf < $2 ORDER BY leaf`, []any{from, to}
		if level > 0 {
			query, args = `SELECT hash FROM audit_nodes WHERE n >= $1 AND n < $2 AND level = $3 ORDER BY n`, append(args, level)
		}
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		out := make([]tlog.Hash, 0, to-from)
		var raw []byte
		_, err = pgx.ForEachRow(rows, []any{&raw}, func() error {
			var h tlog.Hash
			if copy(h[:], raw) != len(h) || len(raw) != len(h) {
				return errGap
			}
			out = append(out, h)
			return nil
		})
		if err == nil && int64(len(out)) != to-from {
			err = fmt.Errorf("%w at level %d, %d to %d", errGap, level, from, to)
		}
		return out, err
	}
}

// waiting counts what is not in the tree yet.
func waiting(ctx context.Context, tx pgx.Tx) (n int64, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) FROM audit_queue`).Scan(&n)
	return n, err
}

// batchesOutside counts the ledger's batches that are neither in the tree nor
// waiting for it. The table is package gateway/ledger's; its trigger, which
// this checks on, is this package's.
func batchesOutside(ctx context.Context, tx pgx.Tx) (n int64, err error) {
	err = tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM journal_batches)
		- (SELECT count(*) FROM audit_leaves WHERE kind = 2) - (SELECT count(*) FROM audit_queue WHERE kind = 2)`).Scan(&n)
	return n, err
}
