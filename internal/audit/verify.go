package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"
)

// VerifyOptions say how to verify.
type VerifyOptions struct {
	Checkpoints []string                // signed checkpoints that somebody kept elsewhere; the tree must contain them
	Progress    func(done, total int64) // told now and then; may be nil
}

// Finding is one thing that is wrong.
type Finding struct {
	Code  string `json:"code"`            // stable
	Leaf  *int64 `json:"leaf,omitempty"`  // where in the tree
	Entry string `json:"entry,omitempty"` // which entry or batch
	What  string `json:"what"`            // one sentence
}

// Report is what a verification found.
type Report struct {
	OK          bool          `json:"ok"`
	Origin      string        `json:"origin"`
	Size        int64         `json:"tree_size"`
	Root        string        `json:"root"`
	Entries     int64         `json:"entries"`
	Batches     int64         `json:"batches"`
	Rows        int64         `json:"rows,omitempty"` // of the ledger, compared with their batches
	Erased      int64         `json:"erased"`
	Foreign     int64         `json:"foreign,omitempty"` // leaves of which only a hash was exported
	Waiting     int64         `json:"waiting"`           // not in the tree yet, and therefore not proven
	Checkpoints int           `json:"checkpoints"`       // compared with the tree
	SignedBy    []string      `json:"signed_by"`
	Findings    []Finding     `json:"findings"`
	Count       int           `json:"findings_total"`
	Took        time.Duration `json:"took_ns"`
}

// mostFindings bounds a report: after so many it is clear.
const mostFindings = 100

func (r *Report) find(code string, leaf *int64, entry, format string, args ...any) {
	r.Count++
	if len(r.Findings) < mostFindings {
		r.Findings = append(r.Findings, Finding{code, leaf, entry, fmt.Sprintf(format, args...)})
	}
}

// verifyStep is how many leaves are read at once.
const verifyStep = 8192

// Verify reads every entry again, computes the tree again, and compares it
// with every checkpoint in the database, in the log's directory and in o. What
// is wrong stands in the report; an error means that it could not be finished.
func (l *Log) Verify(ctx context.Context, o VerifyOptions) (Report, error) {
	start := l.o.Clock()
	r := Report{Findings: []Finding{}}
	v := verification{l: l, o: o, r: &r, edge: &frontier{}, erased: map[uuid.UUID]int64{}}
	if err := v.run(ctx); err != nil {
		return r, fmt.Errorf("verifying the audit log: %w", err)
	}
	r.OK, r.Took = r.Count == 0, l.o.Clock().Sub(start)
	l.mu.Lock()
	l.status.Verified, l.status.Sound = l.o.Clock(), r.OK
	l.mu.Unlock()
	return r, nil
}

type verification struct {
	l      *Log
	o      VerifyOptions
	r      *Report
	edge   *frontier
	want   []Checkpoint // by size, not reached yet
	erased map[uuid.UUID]int64
}

func (v *verification) run(ctx context.Context) error {
	// Checkpoints first, the size of the tree afterwards: it only grows.
	if err := v.collect(ctx); err != nil {
		return err
	}
	var size int64
	err := v.l.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		size, _, err = head(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	for v.edge.size < size {
		before := v.edge.size
		to := min(before+verifyStep, size)
		err := v.l.o.DB.Read(ctx, func(tx pgx.Tx) error { return v.step(ctx, tx, before, to) })
		if err != nil {
			return err
		}
		if v.edge.size != to {
			return nil // a gap; it was reported, and nothing after it means anything
		}
		if v.o.Progress != nil {
			v.o.Progress(to, size)
		}
	}
	v.reach(true)
	for id, leaf := range v.erased {
		v.r.find("erased-without-act", &leaf, id.String(), "The body of entry %s is gone, and no later entry says who erased it.", id)
	}
	v.r.Size = size
	root := v.edge.root()
	v.r.Root = root.String()
	if err := v.outside(ctx); err != nil {
		return err
	}
	if check := v.l.o.CheckRows; check != nil {
		v.r.Rows, err = check(ctx, func(code, place, what string) { v.r.find(code, nil, place, "%s", what) })
	}
	return err
}

// collect gathers the checkpoints to compare with, and checks their signatures.
func (v *verification) collect(ctx context.Context) error {
	l := v.l
	l.seq.Lock()
	history, torn, err := l.book.history()
	newest := l.book.newest
	l.seq.Unlock()
	if err != nil {
		v.r.find("checkpoint-file-damaged", nil, "", "%v", err)
	}
	if torn {
		l.o.Log.Warn("the history of checkpoints ends in half a line, as a crash leaves it")
	}
	all := history
	if newest.Note != "" {
		all = append(all, newest)
	}
	for _, note := range v.o.Checkpoints {
		all = append(all, Checkpoint{Note: note, Size: -1})
	}
	mine := l.trusted()
	err = l.o.DB.Read(ctx, func(tx pgx.Tx) error {
		id, err := logID(ctx, tx)
		if err != nil {
			return err
		}
		v.r.Origin = originOf(id)
		if newest.Note != "" && newest.Origin != v.r.Origin {
			v.r.find("tree-other", nil, "", "The database names its tree %s, the checkpoints on disk are of %s.", v.r.Origin, newest.Origin)
		}
		stored, err := readCheckpoints(ctx, tx)
		if err != nil {
			return err
		}
		keys, err := readKeys(ctx, tx)
		if err != nil {
			return err
		}
		mine = l.join(keys)
		all = append(all, stored...)
		return nil
	})
	if err != nil {
		return err
	}
	signers := map[string]bool{}
	for _, c := range all {
		said, by, err := openCheckpoint(c.Note, mine)
		switch {
		case err != nil:
			v.r.find("checkpoint-forged", nil, "", "A checkpoint over %d leaves is not signed by this log: %v.", c.Size, err)
		case said.Origin != v.r.Origin:
			v.r.find("checkpoint-other", nil, "", "A checkpoint is of another tree: %s.", said.Origin)
		case c.Size >= 0 && (said.Size != c.Size || said.Root != c.Root):
			v.r.find("checkpoint-forged", nil, "", "A checkpoint is stored as one over %d leaves, but what was signed is over %d.", c.Size, said.Size)
		default:
			v.want = append(v.want, said)
			for _, k := range by {
				signers[fmt.Sprintf("%s+%08x", k.name, k.hash)] = true
			}
		}
	}
	for s := range signers {
		v.r.SignedBy = append(v.r.SignedBy, s)
	}
	slices.Sort(v.r.SignedBy)
	sortBySize(v.want)
	v.r.Checkpoints = len(v.want)
	if len(v.want) == 0 {
		v.r.find("checkpoint-none", nil, "", "There is no checkpoint to compare the tree with.")
	}
	v.reach(false)
	return nil
}

func sortBySize(all []Checkpoint) {
	slices.SortStableFunc(all, func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) })
}

// join is this node's keys and, as the database names them, the other nodes'.
// A forged row there could at most make a forged checkpoint pass that this
// node did not sign; its own are checked against its own keys on disk.
func (l *Log) join(keys []PublicKey) []*verifier {
	all := slices.Clone(l.trusted())
	for _, k := range keys {
		if p, err := parseVKey(k.VKey); err == nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *verifier) int { return cmp.Compare(a.hash, b.hash) })
	return slices.CompactFunc(all, func(a, b *verifier) bool { return a.name == b.name && a.hash == b.hash })
}

// reach compares the tree with the checkpoints over as many leaves as it has
// now; at its end, those over more have no tree.
func (v *verification) reach(end bool) {
	for len(v.want) > 0 && v.want[0].Size <= v.edge.size {
		c := v.want[0]
		v.want = v.want[1:]
		if c.Size == v.edge.size && v.edge.root() != c.Root {
			v.r.find("root-differs", nil, "", "The first %d leaves are not the ones that were signed.", c.Size)
		}
	}
	if end {
		for _, c := range v.want {
			v.r.find("tail-removed", nil, "", "A checkpoint was signed over %d leaves; the tree in the database has %d.", c.Size, v.edge.size)
		}
	}
}

// step verifies the leaves of [from, to).
func (v *verification) step(ctx context.Context, tx pgx.Tx, from, to int64) error {
	rows, err := tx.Query(ctx, `SELECT l.leaf, l.kind, l.ref, l.hash, `+sealedColumns+`
		FROM (SELECT * FROM audit_leaves WHERE leaf >= $1 AND leaf < $2 ORDER BY leaf) l
		LEFT JOIN audit a ON a.id = l.ref AND l.kind = 1 ORDER BY l.leaf`, from, to)
	if err != nil {
		return err
	}
	var n int64
	var kind int16
	var ref uuid.UUID
	var raw []byte
	var batches []leaf
	gap := false
	made := map[[2]int64]tlog.Hash{}
	for rows.Next() {
		var s sealedRow
		if err := rows.Scan(append([]any{&n, &kind, &ref, &raw}, s.dest()...)...); err != nil {
			rows.Close()
			return err
		}
		if n != v.edge.size {
			gap = true
			break
		}
		var h tlog.Hash
		copy(h[:], raw)
		switch kind {
		case kindEntry:
			v.entry(n, ref, h, &s)
		case kindBatch:
			v.r.Batches++
			batches = append(batches, leaf{n, kind, ref, h})
		default:
			v.r.find("leaf-unknown", &n, ref.String(), "Leaf %d is of kind %d, which this release does not know.", n, kind)
		}
		if err := v.edge.push(0, h, func(level int, n int64, h tlog.Hash) {
			if level%every == 0 {
				made[[2]int64{int64(level), n}] = h
			}
		}); err != nil {
			rows.Close()
			return err
		}
		v.reach(false)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	if gap || v.edge.size != to {
		missing := v.edge.size
		v.r.find("leaf-missing", &missing, "", "Leaf %d is missing from the tree in the database.", missing)
		return nil
	}
	if err := v.stored(ctx, tx, made); err != nil {
		return err
	}
	return v.batches(ctx, batches)
}

func (v *verification) entry(n int64, ref uuid.UUID, stored tlog.Hash, row *sealedRow) {
	v.r.Entries++
	s, found := row.sealed()
	switch {
	case !found:
		v.r.find("entry-missing", &n, ref.String(), "Entry %s is in the tree, but was removed from the log.", ref)
		return
	case s.leafHash() != stored:
		v.r.find("entry-changed", &n, ref.String(), "Entry %s (%s by %s at %s) is not what was recorded.", ref, s.Act, s.Actor, s.At.Format(time.RFC3339))
		return
	case s.Salt == nil:
		v.r.Erased++
		if string(s.Details) != "{}" {
			v.r.find("entry-changed", &n, ref.String(), "The body of entry %s was erased, but something stands in its place.", ref)
		}
		v.erased[ref] = n
	}
	if s.Act == ActErase && s.Outcome == Done {
		if id, err := uuid.Parse(s.Target); err == nil {
			delete(v.erased, id) // it is later in the tree: it names what it found
		}
	}
}

// stored compares the stored nodes with those that were computed.
func (v *verification) stored(ctx context.Context, tx pgx.Tx, made map[[2]int64]tlog.Hash) error {
	for place, want := range made {
		got, err := treeReader(ctx, tx)(int(place[0]), place[1], place[1]+1)
		if err != nil && len(got) != 0 {
			return err
		}
		if len(got) != 1 || got[0] != want {
			leaf := place[1] << place[0]
			v.r.find("node-changed", &leaf, "", "The stored hash over the leaves from %d on is not the one that follows from them.", leaf)
		}
	}
	return nil
}

func (v *verification) batches(ctx context.Context, leaves []leaf) error {
	if v.l.o.Batches == nil || len(leaves) == 0 {
		return nil
	}
	refs := make([]uuid.UUID, len(leaves))
	for i := range leaves {
		refs[i] = leaves[i].ref
	}
	stored, err := v.l.o.Batches(ctx, refs)
	if err != nil {
		return err
	}
	for _, l := range leaves {
		b, found := stored[l.ref]
		switch {
		case !found:
			v.r.find("batch-missing", &l.n, l.ref.String(), "A batch of the gateway's ledger is in the tree, but was removed from the database.")
		case b.LeafHash() != l.hash:
			v.r.find("batch-changed", &l.n, l.ref.String(), "A batch of the gateway's ledger (node %d, boot %d, from %d) is not what was recorded.", b.Node, b.Boot, b.First)
		}
	}
	return nil
}

// outside looks for entries that are neither in the tree nor waiting for it.
func (v *verification) outside(ctx context.Context) error {
	const step = 50_000
	last := uuid.Nil
	for {
		done := true
		err := v.l.o.DB.Read(ctx, func(tx pgx.Tx) error {
			var next *uuid.UUID
			// One statement, one snapshot: the sequencer moves an entry in one transaction.
			rows, err := tx.Query(ctx, `WITH part AS MATERIALIZED (SELECT id FROM audit WHERE id > $1 ORDER BY id LIMIT $2)
				SELECT id, false FROM part s WHERE NOT EXISTS (SELECT FROM audit_leaves l WHERE l.ref = s.id AND l.kind = 1)
				   AND NOT EXISTS (SELECT FROM audit_queue q WHERE q.ref = s.id AND q.kind = 1)
				UNION ALL SELECT max, true FROM (SELECT id AS max FROM part ORDER BY id DESC LIMIT 1) m`, last, step)
			if err != nil {
				return err
			}
			var id uuid.UUID
			var end bool
			_, err = pgx.ForEachRow(rows, []any{&id, &end}, func() error {
				if end {
					next = new(uuid.UUID)
					*next = id
					return nil
				}
				v.r.find("entry-outside", nil, id.String(), "Entry %s is neither in the tree nor waiting for it: it was put into the log by somebody else.", id)
				return nil
			})
			if err == nil && next != nil {
				last, done = *next, false
			}
			return err
		})
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	return v.l.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if v.r.Waiting, err = waiting(ctx, tx); err != nil {
			return err
		}
		n, err := batchesOutside(ctx, tx)
		if err == nil && n > 0 {
			v.r.find("batch-outside", nil, "", "%d batches of the gateway's ledger are neither in the tree nor waiting for it.", n)
		}
		return err
	})
}
