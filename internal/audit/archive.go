package audit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/missionopsai/foundry/internal/problem"
)

// An export is text: lines of fields between tabs, in which backslash, tab,
// line feed and carriage return are written \\, \t, \n and \r. In this order:
//
//	foundry-audit-export  1
//	origin      the tree's name
//	made        when, by whom
//	scope       all | organisation and its id
//	range       first leaf, end (exclusive), size of the tree
//	key         role, public key          (any number; no authority for them)
//	checkpoint  base64 of a signed checkpoint (by size; the last is the newest)
//	begin
//	e           id, time, organisation, actor, act, target, outcome, salt, body
//	x           the same up to outcome, then the commitment: the body was erased
//	b           node, boot, first, last, events, digest, root: a shipped batch
//	h           level, hash: 2^level leaves of which only the hash is given
//	end         number of e and x, of b, and of leaves behind h
//	seal        base64 of a signed note over the SHA-256 of all bytes before
//
// The lines from e to h are the leaves in order; from them and the hashes the
// root of the newest checkpoint follows. Salts, hashes and digests are
// hexadecimal, times RFC 3339 with microseconds.
const (
	exportMagic = "foundry-audit-export\t1\n"
	sealName    = "foundry-audit-export/1"
)

// ExportOptions select what is exported.
type ExportOptions struct {
	Organisation *uuid.UUID // nil: everything; otherwise hashes stand for what is another's
	First, End   int64      // leaves [First, End); End 0: up to the newest
	By           string     // who asked
	Progress     func(done, total int64)
}

// Export writes a signed archive that anybody can verify with the public key.
// Its last line makes it whole: without that line it does not verify.
func (l *Log) Export(ctx context.Context, to io.Writer, o ExportOptions) error {
	if _, err := l.Sequence(ctx); err != nil {
		return err
	}
	c, err := l.Checkpoint()
	if err != nil {
		return err
	}
	if o.End == 0 || o.End > c.Size {
		o.End = c.Size
	}
	if o.First < 0 || o.First > o.End {
		return problem.New(problem.Invalid, "audit-range", fmt.Sprintf("There are no leaves from %d to %d.", o.First, o.End)).WithField("first").
			WithMend("The first leaf is 0; `foundry audit checkpoint` shows how many there are.")
	}
	x := &exporter{l: l, o: o, c: c, sum: sha256.New()}
	x.out = bufio.NewWriterSize(io.MultiWriter(to, x.sum), 1<<16)
	if err := x.write(ctx); err != nil {
		return fmt.Errorf("exporting the audit log: %w", err)
	}
	if err := x.out.Flush(); err != nil {
		return err
	}
	signed, err := note.Sign(&note.Note{Text: sealText(c.Origin, x.sum)}, l.log)
	if err != nil {
		return err
	}
	_, err = io.WriteString(to, "seal\t"+base64.StdEncoding.EncodeToString(signed)+"\n")
	return err
}

func sealText(origin string, sum hash.Hash) string {
	return sealName + "\n" + origin + "\n" + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + "\n"
}

type exporter struct {
	l       *Log
	o       ExportOptions
	c       Checkpoint
	sum     hash.Hash
	out     *bufio.Writer
	buf     []byte
	entries int64
	batches int64
	hidden  int64
	run     []subtree // of leaves that are not shown
}

func (x *exporter) line(fields ...string) {
	for i, f := range fields {
		if i > 0 {
			x.buf = append(x.buf, '\t')
		}
		x.buf = appendEscaped(x.buf, f)
	}
	x.buf = append(x.buf, '\n')
	_, _ = x.out.Write(x.buf) // Flush says whether it failed
	x.buf = x.buf[:0]
}

func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		switch s[i] {
		case '\\':
			dst = append(dst, '\\', '\\')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, s[i])
		}
	}
	return dst
}

func (x *exporter) write(ctx context.Context) error {
	x.line("foundry-audit-export", "1")
	x.line("origin", x.c.Origin)
	x.line("made", x.l.o.Clock().UTC().Format(microLayout), x.o.By)
	if x.o.Organisation == nil {
		x.line("scope", "all")
	} else {
		x.line("scope", "organisation", x.o.Organisation.String())
	}
	x.line("range", itoa(x.o.First), itoa(x.o.End), itoa(x.c.Size))
	err := x.l.o.DB.Read(ctx, func(tx pgx.Tx) error {
		keys, err := readKeys(ctx, tx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			x.line("key", k.Role, k.VKey)
		}
		stored, err := readCheckpoints(ctx, tx)
		if err != nil {
			return err
		}
		for _, c := range stored {
			if c.Size < x.c.Size {
				x.line("checkpoint", base64.StdEncoding.EncodeToString([]byte(c.Note)))
			}
		}
		x.line("checkpoint", base64.StdEncoding.EncodeToString([]byte(x.c.Note)))
		x.line("begin")
		return x.beside(ctx, tx, 0, x.o.First)
	})
	if err != nil {
		return err
	}
	for from := x.o.First; from < x.o.End; from += verifyStep {
		to := min(from+verifyStep, x.o.End)
		if err := x.l.o.DB.Read(ctx, func(tx pgx.Tx) error { return x.leaves(ctx, tx, from, to) }); err != nil {
			return err
		}
		if x.o.Progress != nil {
			x.o.Progress(to-x.o.First, x.o.End-x.o.First)
		}
	}
	x.flushRun()
	err = x.l.o.DB.Read(ctx, func(tx pgx.Tx) error { return x.beside(ctx, tx, x.o.End, x.c.Size) })
	x.line("end", itoa(x.entries), itoa(x.batches), itoa(x.hidden))
	return err
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// beside writes the hashes over leaves that are out of range.
func (x *exporter) beside(ctx context.Context, tx pgx.Tx, from, to int64) error {
	read := treeReader(ctx, tx)
	for _, level := range cover(from, to) {
		h, err := read.subtree(level, from>>level)
		if err != nil {
			return err
		}
		x.hash(level, h)
		from += 1 << level
	}
	return nil
}

func (x *exporter) hash(level int, h tlog.Hash) {
	x.hidden += 1 << level
	x.line("h", strconv.Itoa(level), hex.EncodeToString(h[:]))
}

// hide takes a leaf that is not shown. Runs of them become the hashes of the
// largest subtrees they fill.
func (x *exporter) hide(n int64, h tlog.Hash) {
	x.run = append(x.run, subtree{0, h})
	for end := n + 1; len(x.run) > 1; {
		a, b := x.run[len(x.run)-2], x.run[len(x.run)-1]
		if a.level != b.level || end&(1<<(a.level+1)-1) != 0 {
			return
		}
		x.run = append(x.run[:len(x.run)-2], subtree{a.level + 1, tlog.NodeHash(a.hash, b.hash)})
	}
}

func (x *exporter) flushRun() {
	for _, s := range x.run {
		x.hash(s.level, s.hash)
	}
	x.run = x.run[:0]
}

func (x *exporter) leaves(ctx context.Context, tx pgx.Tx, from, to int64) error {
	rows, err := tx.Query(ctx, `SELECT l.leaf, l.kind, l.ref, l.hash, `+sealedColumns+`
		FROM (SELECT * FROM audit_leaves WHERE leaf >= $1 AND leaf < $2 ORDER BY leaf) l
		LEFT JOIN audit a ON a.id = l.ref AND l.kind = 1 AND ($3::uuid IS NULL OR a.organisation_id = $3) ORDER BY l.leaf`, from, to, x.o.Organisation)
	if err != nil {
		return err
	}
	type found struct {
		leaf
		Sealed
		has bool
	}
	var all []found
	var refs []uuid.UUID
	for rows.Next() {
		var f found
		var s sealedRow
		var raw []byte
		if err := rows.Scan(append([]any{&f.n, &f.kind, &f.ref, &raw}, s.dest()...)...); err != nil {
			rows.Close()
			return err
		}
		copy(f.leaf.hash[:], raw)
		f.Sealed, f.has = s.sealed()
		all = append(all, f)
		if f.kind == kindBatch {
			refs = append(refs, f.ref)
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	var batches map[uuid.UUID]Batch
	if x.o.Organisation == nil && x.l.o.Batches != nil && len(refs) > 0 {
		if batches, err = x.l.o.Batches(ctx, refs); err != nil {
			return err
		}
	}
	for i := range all {
		f := &all[i]
		b, isBatch := batches[f.ref]
		switch {
		case f.has:
			x.flushRun()
			x.entries++
			x.entry(&f.Sealed)
		case isBatch && f.kind == kindBatch:
			x.flushRun()
			x.batches++
			x.line("b", itoa(int64(b.Node)), itoa(int64(b.Boot)), strconv.FormatUint(b.First, 10), strconv.FormatUint(b.Last, 10),
				itoa(int64(b.Events)), hex.EncodeToString(b.Digest), hex.EncodeToString(b.Root))
		default:
			x.hide(f.n, f.leaf.hash)
		}
	}
	return nil
}

func (x *exporter) entry(s *Sealed) {
	fields := [...]string{"e", s.ID.String(), s.At.Format(microLayout), s.Organisation.String(), s.Actor, s.Act, s.Target, s.Outcome, "", ""}
	if s.Salt == nil {
		fields[0], fields[8] = "x", hex.EncodeToString(s.Commitment[:])
		x.line(fields[:9]...)
		return
	}
	fields[8], fields[9] = hex.EncodeToString(s.Salt), string(s.Details)
	x.line(fields[:]...)
}

// LeafAt finds the first leaf whose entry is not older than a moment, so that
// a period can be exported. Entries stand in the tree in the order of their
// commits, a second apart from that of their times at most.
func (l *Log) LeafAt(ctx context.Context, at time.Time) (leaf int64, err error) {
	err = l.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce((SELECT min(l.leaf) FROM audit a JOIN audit_leaves l ON l.ref = a.id AND l.kind = 1 WHERE a.at >= $1),
			(SELECT coalesce(max(leaf) + 1, 0) FROM audit_leaves))`, at).Scan(&leaf)
	})
	return leaf, err
}
