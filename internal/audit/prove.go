package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/problem"
)

// ProofFormat names the form of a Bundle.
const ProofFormat = "foundry-audit-proof/1"

// Bundle proves that some things stand in the log. It holds all that is needed
// to check that, but the public key, which must come from somewhere else.
type Bundle struct {
	Format     string   `json:"format"`
	Subject    string   `json:"subject"` // the entry or request that was asked for
	Proofs     []Proof  `json:"proofs"`
	Checkpoint string   `json:"checkpoint"` // signed: C2SP tlog-checkpoint
	Keys       []string `json:"keys"`       // that signed it; a bundle is no authority for them
}

// Proof proves one leaf: an entry, or a shipped batch and a row in it.
type Proof struct {
	Leaf     int64       `json:"leaf"`
	LeafHash tlog.Hash   `json:"leaf_hash"`
	Path     []tlog.Hash `json:"path"` // from the leaf to the root (RFC 9162, 2.1.3)
	Entry    *ProofEntry `json:"entry,omitempty"`
	Batch    *Batch      `json:"batch,omitempty"`
	Row      *ProofRow   `json:"row,omitempty"` // of the batch
}

// ProofEntry is what an entry's leaf is made from, byte for byte.
type ProofEntry struct {
	ID           uuid.UUID `json:"id"`
	At           string    `json:"at"` // RFC 3339, microseconds
	Organisation uuid.UUID `json:"organisation"`
	Actor        string    `json:"actor"`
	Act          string    `json:"act"`
	Target       string    `json:"target"`
	Outcome      string    `json:"outcome"`
	Body         string    `json:"body,omitempty"`       // the text that was hashed
	Salt         string    `json:"salt,omitempty"`       // hexadecimal; absent: the body was erased
	Commitment   string    `json:"commitment,omitempty"` // hexadecimal, of an erased body
}

// ProofRow is a row of the gateway's ledger and its place in its batch.
type ProofRow struct {
	Table string      `json:"table"`
	Cells []Cell      `json:"cells"`
	N     int64       `json:"n"`    // its place among the batch's rows
	Of    int64       `json:"of"`   // how many rows the batch has
	Salt  string      `json:"salt"` // of this row, hexadecimal
	Path  []tlog.Hash `json:"path"` // from the row to the batch's root
}

// Cell is one column of a row.
type Cell struct {
	Column string  `json:"column"`
	Hex    *string `json:"hex"`            // PostgreSQL's binary form, which is hashed; null: NULL
	Text   string  `json:"text,omitempty"` // for people; not hashed
}

const microLayout = "2006-01-02T15:04:05.000000Z"

func (s *Sealed) proof() *ProofEntry {
	e := &ProofEntry{ID: s.ID, At: s.At.Format(microLayout), Organisation: s.Organisation, Actor: s.Actor, Act: s.Act, Target: s.Target, Outcome: s.Outcome}
	if s.Salt != nil {
		e.Body, e.Salt = string(s.Details), hex.EncodeToString(s.Salt)
	} else {
		e.Commitment = hex.EncodeToString(s.Commitment[:])
	}
	return e
}

func (e *ProofEntry) sealed() (s Sealed, err error) {
	at, err := time.Parse(microLayout, e.At)
	if err != nil {
		return s, fmt.Errorf("%q is no time", e.At)
	}
	s.Entry = Entry{ID: e.ID, At: at, Organisation: e.Organisation, Actor: e.Actor, Act: e.Act, Target: e.Target, Outcome: e.Outcome, Details: json.RawMessage(e.Body)}
	if e.Commitment != "" {
		raw, err := hex.DecodeString(e.Commitment)
		if err != nil || len(raw) != len(s.Commitment) || e.Salt != "" || e.Body != "" {
			return s, fmt.Errorf("the commitment to an erased body is malformed")
		}
		copy(s.Commitment[:], raw)
		return s, nil
	}
	if s.Salt, err = hex.DecodeString(e.Salt); err != nil || len(s.Salt) == 0 {
		return s, fmt.Errorf("the salt of entry %s is malformed", e.ID)
	}
	return s, nil
}

// RowHash is the hash of a row of the ledger in its batch's tree:
// SHA-256(0x00 ‖ 0x03 ‖ salt ‖ length and text of the table's name ‖ for each
// column 4 bytes length (0xffffffff: NULL) and PostgreSQL's binary form).
func RowHash(salt []byte, table string, cells [][]byte) tlog.Hash {
	buf := make([]byte, 0, 1024)
	buf = append(append(buf, 0, 3), salt...)
	buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(table))), table...)
	for _, c := range cells {
		buf = appendCell(buf, c)
	}
	return sha256.Sum256(buf)
}

// RowSalt is the salt of a row in a batch: the first 16 bytes of
// SHA-256(salt of the batch ‖ the table's name ‖ the row's first four cells,
// each with its length as in RowHash). The first four hold the primary key.
// Who is given one row learns nothing that would help to guess another.
func RowSalt(batch []byte, table string, cells [][]byte) []byte {
	buf := make([]byte, 0, 256)
	buf = append(append(buf, batch...), table...)
	for _, c := range cells[:min(4, len(cells))] {
		buf = appendCell(buf, c)
	}
	sum := sha256.Sum256(buf)
	return sum[:16]
}

func appendCell(dst, cell []byte) []byte {
	if cell == nil {
		return binary.BigEndian.AppendUint32(dst, 0xffffffff)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(cell))), cell...)
}

// RowRoot is the root of the tree over the rows of a batch.
func RowRoot(rows []tlog.Hash) tlog.Hash {
	f := frontier{}
	for _, h := range rows {
		_ = f.push(0, h, nil) // a leaf always fits
	}
	return f.root()
}

// ProveRow is the path from the n-th row of a batch to its root.
func ProveRow(rows []tlog.Hash, n int64) ([]tlog.Hash, error) {
	kept := map[int][]tlog.Hash{0: rows}
	f := frontier{}
	for _, h := range rows {
		_ = f.push(0, h, func(level int, _ int64, h tlog.Hash) {
			if level%every == 0 {
				kept[level] = append(kept[level], h)
			}
		})
	}
	read := hashes(func(level int, from, to int64) ([]tlog.Hash, error) {
		return append([]tlog.Hash(nil), kept[level][from:to]...), nil
	})
	if n < 0 || n >= int64(len(rows)) {
		return nil, fmt.Errorf("there is no row %d of %d", n, len(rows))
	}
	return tlog.ProveRecord(int64(len(rows)), n, read)
}

// Prove proves an entry.
func (l *Log) Prove(ctx context.Context, id uuid.UUID) (Bundle, error) {
	return l.prove(ctx, id.String(), func(tx pgx.Tx) ([]Proof, error) {
		s, leaf, stored, err := readSealed(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		return []Proof{{Leaf: leaf, LeafHash: stored, Entry: s.proof()}}, nil
	})
}

// ProveRows proves rows of the ledger, each given with its batch.
func (l *Log) ProveRows(ctx context.Context, subject string, rows []Proof) (Bundle, error) {
	return l.prove(ctx, subject, func(tx pgx.Tx) ([]Proof, error) {
		for i := range rows {
			rows[i].LeafHash = rows[i].Batch.LeafHash()
			err := tx.QueryRow(ctx, `SELECT leaf FROM audit_leaves WHERE ref = $1 AND kind = 2`, rows[i].Batch.Ref()).Scan(&rows[i].Leaf)
			if err != nil {
				return nil, notYet(subject)
			}
		}
		return rows, nil
	})
}

func (l *Log) prove(ctx context.Context, subject string, find func(pgx.Tx) ([]Proof, error)) (b Bundle, err error) {
	c, err := l.Checkpoint()
	if err != nil {
		return b, err
	}
	b = Bundle{Format: ProofFormat, Subject: subject, Checkpoint: c.Note}
	for _, k := range l.trusted() {
		b.Keys = append(b.Keys, k.vkey())
	}
	err = l.o.DB.Read(ctx, func(tx pgx.Tx) error {
		if b.Proofs, err = find(tx); err != nil {
			return err
		}
		for i := range b.Proofs {
			p := &b.Proofs[i]
			if p.Leaf >= c.Size {
				return notYet(subject)
			}
			if p.Path, err = tlog.ProveRecord(c.Size, p.Leaf, treeReader(ctx, tx)); err != nil {
				return fmt.Errorf("proving leaf %d of %d: %w", p.Leaf, c.Size, err)
			}
		}
		return nil
	})
	if err != nil {
		return Bundle{}, err
	}
	// A proof that does not check would be worse than none: the entry was
	// changed, and whoever asks must hear that.
	if _, err := checkBundle(&b, l.trusted()); err != nil {
		return Bundle{}, problem.New(problem.Conflict, "audit-proof-fails", "It cannot be proven: "+err.Error()+".").
			WithMend("The log or the tree was changed: run `foundry audit verify`, and follow docs/runbooks/audit-verify-fails.md.")
	}
	return b, nil
}

// ProveConsistency proves that the tree of the newest checkpoint begins with
// the tree of an earlier size.
func (l *Log) ProveConsistency(ctx context.Context, size int64) (c Checkpoint, path []tlog.Hash, err error) {
	if c, err = l.Checkpoint(); err != nil {
		return c, nil, err
	}
	if size < 1 || size > c.Size {
		return c, nil, problem.New(problem.Invalid, "audit-size", fmt.Sprintf("The tree has %d leaves.", c.Size)).WithField("size").WithMend("Give the size in a checkpoint of this log, from 1 to that.")
	}
	err = l.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		path, err = tlog.ProveTree(c.Size, size, treeReader(ctx, tx))
		return err
	})
	return c, path, err
}

// CheckBundle checks proofs against public keys that the caller trusts, with
// nothing else, and returns the checkpoint that they rest on.
func CheckBundle(text []byte, vkeys []string) (b Bundle, c Checkpoint, err error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil || d.More() {
		return b, c, problem.New(problem.Invalid, "audit-proof", "That is not a proof as `foundry audit prove` writes it.").Wrap(err)
	}
	trusted, err := parseKeys(vkeys)
	if err != nil {
		return b, c, err
	}
	c, err = checkBundle(&b, trusted)
	if err != nil {
		return b, c, problem.New(problem.Conflict, "audit-proof-fails", "The proof does not hold: "+err.Error()+".").
			WithMend("It was changed on its way, or it is of another log than the key.")
	}
	return b, c, nil
}

func parseKeys(vkeys []string) ([]*verifier, error) {
	if len(vkeys) == 0 {
		return nil, problem.New(problem.Invalid, "audit-key", "A public key is needed.").WithField("key").WithMend("Use the one that you were given when the log was set up, with --key.")
	}
	out := make([]*verifier, len(vkeys))
	for i, k := range vkeys {
		v, err := parseVKey(strings.TrimSpace(k))
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func checkBundle(b *Bundle, trusted []*verifier) (c Checkpoint, err error) {
	if b.Format != ProofFormat {
		return c, fmt.Errorf("its format is %q, not %q", b.Format, ProofFormat)
	}
	if c, _, err = openCheckpoint(b.Checkpoint, trusted); err != nil {
		return c, err
	}
	if len(b.Proofs) == 0 {
		return c, fmt.Errorf("it proves nothing")
	}
	for i := range b.Proofs {
		if err := b.Proofs[i].check(c); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (p *Proof) check(c Checkpoint) error {
	var h tlog.Hash
	switch {
	case p.Entry != nil && p.Batch == nil && p.Row == nil:
		s, err := p.Entry.sealed()
		if err != nil {
			return err
		}
		h = s.leafHash()
	case p.Batch != nil && p.Entry == nil:
		h = p.Batch.LeafHash()
		if p.Row != nil {
			if err := p.Row.check(p.Batch.Root); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("leaf %d is neither an entry nor a batch", p.Leaf)
	}
	if h != p.LeafHash {
		return fmt.Errorf("leaf %d is not what was recorded", p.Leaf)
	}
	if p.Leaf < 0 || p.Leaf >= c.Size {
		return fmt.Errorf("leaf %d is not in a tree of %d", p.Leaf, c.Size)
	}
	if err := tlog.CheckRecord(p.Path, c.Size, c.Root, p.Leaf, h); err != nil {
		return fmt.Errorf("leaf %d is not in the tree that was signed", p.Leaf)
	}
	return nil
}

func (r *ProofRow) check(root []byte) error {
	salt, err := hex.DecodeString(r.Salt)
	if err != nil || len(salt) != 16 {
		return fmt.Errorf("the salt of a row is malformed")
	}
	cells := make([][]byte, len(r.Cells))
	for i, c := range r.Cells {
		if c.Hex == nil {
			continue
		}
		if cells[i], err = hex.DecodeString(*c.Hex); err != nil {
			return fmt.Errorf("column %s is malformed", c.Column)
		}
		if cells[i] == nil {
			cells[i] = []byte{}
		}
	}
	var want tlog.Hash
	if copy(want[:], root) != len(want) || len(root) != len(want) {
		return fmt.Errorf("the batch does not commit to its rows")
	}
	if r.N < 0 || r.N >= r.Of {
		return fmt.Errorf("there is no row %d of %d", r.N, r.Of)
	}
	if tlog.CheckRecord(r.Path, r.Of, want, r.N, RowHash(salt, r.Table, cells)) != nil {
		return fmt.Errorf("the row of %s is not what was recorded", r.Table)
	}
	return nil
}
