package ledger

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/audit"
)

// Every batch commits to the rows that it stores: journal_batches.root is the
// root of a tree over them, and stands in the audit log's tree. So a request
// can be proven to whoever holds a checkpoint, and a change of its row shows.
//
// A row's hash is over what PostgreSQL takes for it and gives back, byte for
// byte (audit.RowHash), so that it can be computed from the database again.
// usage_deltas are sums of these rows and are folded; decisions are named by
// their hash. Neither stands in the tree.

// batchFields say in which batch a row was stored that is keyed by an earlier
// admission. They come last.
var batchFields = []field{{"batch_boot", pgtype.Int8OID}, {"batch_seq", pgtype.Int8OID}}

// batch names the batch that is being built.
func (r *row) batch(b *batch) {
	r.int64(int64(b.run.boot))
	r.int64(int64(b.run.first))
}

// anchored is a run of records, with what commits to it.
type anchored struct {
	span64
	digest []byte
	salt   [32]byte
	rows   []byte // their hashes, one after the other
}

func randomSalt(to []byte) { _, _ = rand.Read(to) } // never fails (crypto/rand)

// inTree lists the tables whose rows stand in the tree, in their order there.
func (b *batch) inTree() []*table {
	return []*table{b.requests, b.refusals, b.attempts, b.outcomes, b.transfers, b.rejects}
}

// late reports whether a table's rows name their batch.
func (t *table) late() bool { return t.fields[len(t.fields)-1].name == "batch_seq" }

// anchor hashes the rows of the batch and writes the rows of journal_batches.
func (b *batch) anchor() {
	for i := range b.runs {
		r := &b.runs[i]
		b.salts(r.salt[:])
		r.rows = make([]byte, 0, 32*(b.requests.rows()+b.refusals.rows()+b.attempts.rows()+b.outcomes.rows()+b.transfers.rows()+b.rejects.rows()))
	}
	var cells [][]byte
	for _, t := range b.inTree() {
		for rows := t.read(); rows.next(); {
			cells = rows.cells
			boot := cells[1]
			if t.late() {
				boot = cells[len(cells)-2]
			}
			r := b.runOf(uint32(binary.BigEndian.Uint64(boot)))
			h := audit.RowHash(audit.RowSalt(r.salt[:], t.source, cells), t.source, cells)
			r.rows = append(r.rows, h[:]...)
		}
	}
	for i := range b.runs {
		a := &b.runs[i]
		root := audit.RowRoot(splitHashes(a.rows))
		r := b.batches.row()
		r.int64(int64(b.node))
		r.int64(int64(a.boot))
		r.int64(int64(a.first))
		r.int64(int64(a.last))
		r.int32(int32(a.events))
		r.bytes(a.digest)
		r.bytes(a.salt[:])
		r.bytes(a.rows)
		r.bytes(root[:])
	}
}

// runOf finds the run of a boot: there is one for each boot in the batch.
func (b *batch) runOf(boot uint32) *anchored {
	for i := range b.runs {
		if b.runs[i].boot == boot {
			return &b.runs[i]
		}
	}
	return &b.runs[len(b.runs)-1] // not reached: every row belongs to a record of the batch
}

func splitHashes(all []byte) []tlog.Hash {
	out := make([]tlog.Hash, len(all)/32)
	for i := range out {
		copy(out[i][:], all[32*i:])
	}
	return out
}

// tableReader walks over the rows of a table that was written.
type tableReader struct {
	t     *table
	at    []int
	cells [][]byte
	left  int
}

func (t *table) read() *tableReader {
	r := &tableReader{t: t, at: make([]int, len(t.columns)), cells: make([][]byte, len(t.columns)), left: t.rows()}
	for i := range r.at {
		r.at[i] = arrayHeader
	}
	return r
}

func (r *tableReader) next() bool {
	if r.left == 0 {
		return false
	}
	r.left--
	for i := range r.cells {
		buf := r.t.columns[i].buf[r.at[i]:]
		n := binary.BigEndian.Uint32(buf)
		if n == 0xffffffff {
			r.cells[i] = nil
			r.at[i] += 4
			continue
		}
		r.cells[i] = buf[4 : 4+n]
		r.at[i] += 4 + int(n)
	}
	return true
}
