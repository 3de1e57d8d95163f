package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// Proofs reads batches and their rows again, for the audit log.
type Proofs struct {
	db     *db.DB
	tables []*table
}

// NewProofs returns what reads batches again.
func NewProofs(d *db.DB) *Proofs { return &Proofs{db: d, tables: newBatch(0, nil).inTree()} }

// Batches returns those of the named batches that are stored.
func (p *Proofs) Batches(ctx context.Context, refs []uuid.UUID) (map[uuid.UUID]audit.Batch, error) {
	nodes, boots, firsts := make([]int64, len(refs)), make([]int64, len(refs)), make([]int64, len(refs))
	for i, ref := range refs {
		nodes[i], boots[i] = int64(binary.BigEndian.Uint32(ref[0:])), int64(binary.BigEndian.Uint32(ref[4:]))
		firsts[i] = int64(binary.BigEndian.Uint64(ref[8:]))
	}
	out := make(map[uuid.UUID]audit.Batch, len(refs))
	err := p.db.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT node, boot, first_seq, last_seq, events, digest, root FROM journal_batches
			JOIN unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS t (node, boot, first_seq) USING (node, boot, first_seq)`, nodes, boots, firsts)
		if err != nil {
			return err
		}
		var node, boot, first, last int64
		var events int32
		var b audit.Batch
		_, err = pgx.ForEachRow(rows, []any{&node, &boot, &first, &last, &events, &b.Digest, &b.Root}, func() error {
			b.Node, b.Boot, b.First, b.Last, b.Events = uint32(node), uint32(boot), uint64(first), uint64(last), uint32(events)
			out[b.Ref()] = b
			b.Digest, b.Root = nil, nil
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading batches of the ledger: %w", err)
	}
	return out, nil
}

// kept is a batch with the hashes of its rows.
type kept struct {
	audit.Batch
	salt   []byte
	hashes []tlog.Hash
	place  map[tlog.Hash]int64
}

// selectBatch finds the batch whose records hold a place in the journal.
const selectBatch = `SELECT first_seq, last_seq, events, digest, salt, row_hashes, root FROM journal_batches
	WHERE node = $1 AND boot = $2 AND first_seq <= $3 ORDER BY first_seq DESC LIMIT 1`

// batchAt reads the batch of a place; nil: there is none.
func batchAt(ctx context.Context, tx pgx.Tx, node, boot, seq int64) (*kept, error) {
	var first, last int64
	var events int32
	var raw []byte
	k := &kept{}
	err := tx.QueryRow(ctx, selectBatch, node, boot, seq).Scan(&first, &last, &events, &k.Digest, &k.salt, &raw, &k.Root)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && last < seq {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k.Node, k.Boot, k.First, k.Last, k.Events = uint32(node), uint32(boot), uint64(first), uint64(last), uint32(events)
	k.hashes = splitHashes(raw)
	k.place = make(map[tlog.Hash]int64, len(k.hashes))
	for i, h := range k.hashes {
		k.place[h] = int64(i)
	}
	return k, nil
}

// storedRow is a row as the database gives it back.
type storedRow struct {
	t     *table
	cells [][]byte
}

func (s *storedRow) int(i int) int64 { return int64(binary.BigEndian.Uint64(s.cells[i])) }

// batchOf says where the row's batch is: node, boot and a sequence number.
func (s *storedRow) batchOf() (node, boot, seq int64) {
	if s.t.late() {
		n := len(s.cells)
		return s.int(0), s.int(n - 2), s.int(n - 1)
	}
	return s.int(0), s.int(1), s.int(2)
}

func (s *storedRow) hash(salt []byte) tlog.Hash {
	return audit.RowHash(audit.RowSalt(salt, s.t.source, s.cells), s.t.source, s.cells)
}

func (t *table) columnList() string {
	names := make([]string, len(t.fields))
	for i, f := range t.fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// readRows reads rows in PostgreSQL's binary form, as the shipper wrote them.
func readRows(ctx context.Context, tx pgx.Tx, t *table, where string, args ...any) ([]storedRow, error) {
	rows, err := tx.Query(ctx, "SELECT "+t.columnList()+" FROM "+t.source+" WHERE "+where, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []storedRow
	for rows.Next() {
		raw := rows.RawValues()
		s := storedRow{t, make([][]byte, len(raw))}
		for i, v := range raw {
			if v != nil {
				s.cells[i] = append(make([]byte, 0, len(v)), v...)
			}
		}
		out = append(out, s)
	}
	return out, rows.Err()
}

// Request proves the rows of a request: its admission, its other destinations,
// its outcome, its entries in the transfer register, or its refusal. What it
// returns still lacks its place in the log (audit.Log.ProveRows). org is whose
// request it must be; the nil uuid: anybody's.
func (p *Proofs) Request(ctx context.Context, id RequestID, org uuid.UUID) ([]audit.Proof, error) {
	var out []audit.Proof
	unknown := requestUnknown(id)
	err := p.db.Read(ctx, func(tx pgx.Tx) error {
		for _, t := range p.tables {
			rows, err := readRows(ctx, tx, t, "node = $1 AND boot = $2 AND seq = $3", int64(id.Node), int64(id.Boot), int64(id.Seq))
			if err != nil {
				return err
			}
			for i := range rows {
				if org != uuid.Nil && !rows[i].belongs(org) {
					return unknown
				}
				proof, err := rows[i].prove(ctx, tx)
				if err != nil {
					return err
				}
				out = append(out, proof)
			}
		}
		if len(out) == 0 {
			return unknown
		}
		return nil
	})
	return out, err
}

func requestUnknown(id RequestID) error {
	return problem.New(problem.NotFound, "request-unknown", "There is no request "+id.String()+".").WithField("id").
		WithMend("It is stored about a second after it was admitted.")
}

// Owner is the organisation whose request, or refused request, it is.
func (p *Proofs) Owner(ctx context.Context, id RequestID) (org uuid.UUID, err error) {
	err = p.db.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT organisation_id FROM requests WHERE node = $1 AND boot = $2 AND seq = $3
			UNION ALL SELECT organisation_id FROM refusals WHERE node = $1 AND boot = $2 AND seq = $3 LIMIT 1`,
			int64(id.Node), int64(id.Boot), int64(id.Seq)).Scan(&org)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = requestUnknown(id)
	}
	return org, err
}

// belongs reports whether a row is an organisation's. A record that was set
// aside is nobody's.
func (s *storedRow) belongs(org uuid.UUID) bool {
	i := slices.IndexFunc(s.t.fields, func(f field) bool { return f.name == "organisation_id" })
	return i >= 0 && string(s.cells[i]) == string(org[:])
}

func (s *storedRow) prove(ctx context.Context, tx pgx.Tx) (audit.Proof, error) {
	node, boot, seq := s.batchOf()
	k, err := batchAt(ctx, tx, node, boot, seq)
	if err != nil {
		return audit.Proof{}, err
	}
	if k == nil || len(k.salt) == 0 {
		return audit.Proof{}, problem.New(problem.Conflict, "request-unanchored", "The request was stored by a release that did not anchor the rows of its batches.").
			WithMend("Its batch is in the audit log all the same, with the SHA-256 over its journal records.")
	}
	place, found := k.place[s.hash(k.salt)]
	if !found {
		return audit.Proof{}, problem.New(problem.Conflict, "audit-proof-fails", "It cannot be proven: the row in "+s.t.source+" is not the one that was shipped.").
			WithMend("The ledger was changed: run `foundry audit verify`, and follow docs/runbooks/audit-verify-fails.md.")
	}
	path, err := audit.ProveRow(k.hashes, place)
	if err != nil {
		return audit.Proof{}, err
	}
	row := &audit.ProofRow{Table: s.t.source, N: place, Of: int64(len(k.hashes)), Path: path, Salt: hex.EncodeToString(audit.RowSalt(k.salt, s.t.source, s.cells))}
	for i, f := range s.t.fields {
		c := audit.Cell{Column: f.name}
		if s.cells[i] != nil {
			text := hex.EncodeToString(s.cells[i])
			c.Hex, c.Text = &text, readable(f.element, s.cells[i])
		}
		row.Cells = append(row.Cells, c)
	}
	return audit.Proof{Batch: &k.Batch, Row: row}, nil
}

// readable shows a cell to people.
func readable(oid uint32, v []byte) string {
	number := func() int64 {
		var n int64
		for _, b := range v {
			n = n<<8 | int64(b)
		}
		return n
	}
	switch oid {
	case pgtype.Int8OID, pgtype.Int4OID, pgtype.Int2OID:
		return strconv.FormatInt(number(), 10)
	case pgtype.TimestamptzOID:
		return time.UnixMicro(number() + postgresEpoch).UTC().Format(time.RFC3339Nano)
	case pgtype.BoolOID:
		return strconv.FormatBool(v[0] != 0)
	case pgtype.UUIDOID:
		id, _ := uuid.FromBytes(v)
		return id.String()
	case pgtype.ByteaOID:
		return hex.EncodeToString(v)
	}
	return string(v)
}

// checkStep is how many rows are in memory at once, about 1 kB each; mostHashes
// bounds the batches that are, about 100 bytes for each of their rows: a node
// checks while it answers.
const (
	checkStep   = 500
	mostBatches = 32
	mostHashes  = 15_000
)

// Check compares every row with the batch that stored it, and every batch's
// hashes with its root; that its root is the one in the tree is the audit
// log's to compare. It reads one state of the database.
func (p *Proofs) Check(ctx context.Context, found func(code, place, what string)) (rows int64, err error) {
	err = p.db.Read(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
			return err
		}
		want, err := checkBatches(ctx, tx, found)
		if err != nil {
			return err
		}
		c := checker{tx: tx, found: found}
		for _, t := range p.tables {
			if err := c.table(ctx, t); err != nil {
				return err
			}
		}
		rows = c.rows
		if c.matched < want {
			found("rows-removed", "", fmt.Sprintf("%d rows of the gateway's ledger that batches commit to are gone or were changed.", want-c.matched))
		}
		return nil
	})
	if err != nil {
		return rows, fmt.Errorf("comparing the ledger with its batches: %w", err)
	}
	return rows, nil
}

// checkBatches checks the roots and counts the rows there must be.
func checkBatches(ctx context.Context, tx pgx.Tx, found func(code, place, what string)) (rows int64, err error) {
	node, boot, first := int64(-1), int64(-1), int64(-1)
	for {
		list, err := tx.Query(ctx, `SELECT node, boot, first_seq, row_hashes, root FROM journal_batches
			WHERE (node, boot, first_seq) > ($1, $2, $3) ORDER BY node, boot, first_seq LIMIT 200`, node, boot, first)
		if err != nil {
			return rows, err
		}
		n := 0
		var hashes, root []byte
		_, err = pgx.ForEachRow(list, []any{&node, &boot, &first, &hashes, &root}, func() error {
			n++
			rows += int64(len(hashes) / sha256.Size)
			if root == nil && hashes == nil {
				return nil // of an older release
			}
			if want := audit.RowRoot(splitHashes(hashes)); string(want[:]) != string(root) {
				found("batch-changed", fmt.Sprintf("%d/%d/%d", node, boot, first), "The hashes of a batch's rows do not give the batch's root.")
			}
			return nil
		})
		if err != nil || n == 0 {
			return rows, err
		}
	}
}

// checker walks over tables in the order of their keys; batches mostly follow.
type checker struct {
	tx            pgx.Tx
	found         func(code, place, what string)
	cache         []*kept
	rows, matched int64
}

func (c *checker) table(ctx context.Context, t *table) error {
	key, order := "node, boot, seq", 3
	last := []any{int64(-1), int64(-1), int64(-1)}
	where := "(node, boot, seq) > ($1, $2, $3)"
	if t.fields[3].name == "n" {
		key, order, where = "node, boot, seq, n", 4, "(node, boot, seq, n) > ($1, $2, $3, $4)"
		last = append(last, int64(-1))
	}
	for {
		rows, err := readRows(ctx, c.tx, t, where+" ORDER BY "+key+" LIMIT "+strconv.Itoa(checkStep), last...)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := c.row(ctx, &rows[i]); err != nil {
				return err
			}
		}
		if len(rows) < checkStep {
			return nil
		}
		end := &rows[len(rows)-1]
		last = []any{end.int(0), end.int(1), end.int(2)}
		if order == 4 {
			last = append(last, int64(binary.BigEndian.Uint16(end.cells[3])))
		}
	}
}

func (c *checker) row(ctx context.Context, s *storedRow) error {
	c.rows++
	node, boot, seq := s.batchOf()
	name := RequestID{Node: uint32(node), Boot: uint32(s.int(1)), Seq: uint64(s.int(2))}.String()
	if s.t.late() && seq == 0 {
		return nil // stored by a release that did not name its batch
	}
	k, err := c.batch(ctx, node, boot, seq)
	switch {
	case err != nil:
		return err
	case k == nil:
		c.found("row-outside", name, "A row in "+s.t.source+" belongs to no batch that was shipped.")
		return nil
	case k.salt == nil && k.Root == nil:
		return nil
	}
	if _, ok := k.place[s.hash(k.salt)]; !ok {
		c.found("row-changed", name, "A row in "+s.t.source+" is not the one that was shipped.")
		return nil
	}
	c.matched++
	return nil
}

func (c *checker) batch(ctx context.Context, node, boot, seq int64) (*kept, error) {
	for i, k := range c.cache {
		if int64(k.Node) == node && int64(k.Boot) == boot && int64(k.First) <= seq && seq <= int64(k.Last) {
			if i > 0 {
				copy(c.cache[1:i+1], c.cache[:i])
				c.cache[0] = k
			}
			return k, nil
		}
	}
	k, err := batchAt(ctx, c.tx, node, boot, seq)
	if err != nil || k == nil {
		return nil, err
	}
	c.cache = slices.Insert(c.cache, 0, k)
	held := 0
	for i, k := range c.cache {
		if held += len(k.hashes); i > 0 && (i >= mostBatches || held > mostHashes) {
			clear(c.cache[i:])
			c.cache = c.cache[:i]
			break
		}
	}
	return k, nil
}
