// Package journal knows how to keep what happened on this node until it has
// been shipped: an encrypted, append-only local file with group commit.
//
// It is a write-ahead log. [Journal.Append] puts a record in a batch in
// memory and returns at once; one committer encrypts each batch as one frame,
// writes it, syncs it, and only then lets [Ticket.Wait] return. While a sync
// runs the next batch fills, so that batches form by themselves under load and
// an idle journal adds no delay.
//
// # Promises
//
//   - A record whose Wait returned nil survives kill -9 and power loss, is read
//     back once and in order, and is deleted only by [Journal.Release].
//   - A record whose Wait returned an error is not known to be durable. Its
//     sequence number is never given to another record, so failed batches leave
//     gaps in the sequence.
//   - No byte of a record is on disk in the clear, and no frame can be changed,
//     dropped, repeated or moved without [Journal.Read] or [Inspect] saying so.
//     Two things look alike to any log and are not told apart: a crash in the
//     middle of the very last write, and damage to the very last frame of a
//     journal that was not closed. Both are cut off, counted and logged.
//   - Memory is bounded by MaxPending, disk by MaxBytes.
//
// # Failure of the disk
//
// After a failed write or sync the kernel may have dropped the pages and
// called them clean (https://wiki.postgresql.org/wiki/Fsync_Errors), so a
// segment that failed once is never written or synced again. The batch is
// written anew to a fresh segment; if that fails too, the journal is broken:
// the batch's Wait and every later Append and Wait return [ErrBroken] until
// the process opens it again. A full disk is different: Append and Wait return
// [ErrFull], and the journal goes on by itself when there is room.
//
// Like every log that shares a page between two writes, it relies on a sector
// that is rewritten with its old content in front staying readable when the
// power fails (SQLite calls this powersafe overwrite).
package journal

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// MaxRecord is the longest record that Append takes, in bytes.
const MaxRecord = 1 << 20

// The errors that callers tell apart with errors.Is.
var (
	// ErrFull: no room on the disk or within MaxBytes. Nothing acknowledged is
	// lost, and the journal recovers by itself when space returns.
	ErrFull error = problem.New(problem.Unavailable, "journal-full", "The journal has no room on its disk.").
		WithMend("Free space, raise the journal's limit, or let it ship.").WithRetry(time.Second)
	// ErrOverloaded: MaxPending bytes already wait for the disk.
	ErrOverloaded error = problem.New(problem.Overloaded, "journal-overloaded", "Too much is waiting for the journal's disk.").WithRetry(time.Second)
	// ErrBroken: the disk failed twice in a row; only a new Open helps.
	ErrBroken error = problem.New(problem.Unavailable, "journal-broken", "The journal's disk failed.").
			WithMend("Check the disk, then restart.")
	// ErrStalled: a new segment could not be started because its key could not
	// be sealed. The journal tries again by itself.
	ErrStalled error = problem.New(problem.Unavailable, "journal-stalled", "The journal cannot start its next segment, because its key cannot be sealed.").WithRetry(time.Second)
	// ErrClosed: the journal was closed.
	ErrClosed error = problem.New(problem.Unavailable, "journal-closed", "The journal is closed.")
	// ErrTooLarge: the record is longer than MaxRecord.
	ErrTooLarge error = problem.New(problem.TooLarge, "journal-record-too-large", "A journal record may have at most 1 MiB.")
	// ErrKey: a segment's key could not be opened, most likely because the
	// key-encryption key is another one.
	ErrKey error = problem.New(problem.Unavailable, "journal-key", "A journal segment was sealed with a key that is not available here.").
		WithMend("Provide the key-encryption key it was written under. The file was left as it is.")
	// ErrDamaged: bytes that were durable are gone or changed. See Damage.
	ErrDamaged error = problem.New(problem.Internal, "journal-damaged", "The journal is damaged.")
	// ErrBoot: the boot number was used before, so sequence numbers would repeat.
	ErrBoot error = problem.New(problem.Conflict, "journal-boot-used", "The journal already holds records of this boot number or a later one.").
		WithMend("Open it with a higher boot number.")
	// ErrPosition: the position lies after the journal's end, so this is not
	// the journal that it was read from.
	ErrPosition error = problem.New(problem.Conflict, "journal-position", "The position lies after the end of this journal.").
			WithMend("Check that the journal's directory was not replaced or restored from an older copy.")
)

// Options say how a journal is kept. Seal and Open are required.
type Options struct {
	Node, Boot uint32 // stamped into every segment; Boot is higher at every Open of the directory

	// Seal wraps a segment's key, once per segment; Open unwraps it. Both are
	// given the segment's identity as associated data. They need time limits of
	// their own: while Seal hangs at a rotation, every Wait does.
	Seal func(plaintext, associated []byte) ([]byte, error)
	Open func(sealed, associated []byte) ([]byte, error)

	SegmentBytes int64 // size of one file, preallocated; default 64 MiB, at least 64 KiB
	MaxBytes     int64 // total on disk, beyond which Append fails with ErrFull; default 4 GiB, at least two segments
	MaxPending   int   // bytes waiting for the disk, beyond which Append fails with ErrOverloaded; default 4 MiB, at most half a segment

	// ReadAround lets Open go on when the segment it recovers is damaged in the
	// middle: what is readable stays readable, and Read reports the rest. By
	// default Open refuses.
	ReadAround bool

	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is time.Now

	// Intercept, for tests, is called before every file operation with its
	// name (allocate, write, sync, sync-dir, rename, remove, truncate) and the
	// file's. An error is returned in place of doing it.
	Intercept func(op, file string) error
}

// Position is the place of a record in the order of all records: the last one
// consumed. The zero Position is before the first.
type Position struct {
	Boot uint32
	Seq  uint64
}

// Before says whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Boot < q.Boot || p.Boot == q.Boot && p.Seq < q.Seq
}

// Entry is a record as Read delivers it. Record is valid until fn returns.
type Entry struct {
	Node, Boot uint32
	Seq        uint64
	Record     []byte
}

// Ticket is the promise to make one record durable.
type Ticket struct {
	seq   uint64
	batch *batch
}

// Seq returns the record's sequence number: 1, 2, … per boot.
func (t Ticket) Seq() uint64 { return t.seq }

// Done is closed when the record's fate is known.
func (t Ticket) Done() <-chan struct{} { return t.batch.done }

// Wait returns nil once the record is durable, or why it is not known to be.
// It returns ctx.Err() if ctx ends first; the record may still become durable.
func (t Ticket) Wait(ctx context.Context) error {
	select {
	case <-t.batch.done:
		return t.batch.err
	default:
	}
	select {
	case <-t.batch.done:
		return t.batch.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batch is the records that become durable together.
type batch struct {
	first uint64 // sequence number of the first record
	count uint32
	buf   []byte        // the records, each with its length in front
	err   error         // written before done is closed
	done  chan struct{} // closed when the fate is known
}

// Damage is a stretch of a segment that was durable and cannot be read.
type Damage struct {
	Segment     string // file name
	Node, Boot  uint32
	Offset      int64  // where the damage begins, in bytes
	Bytes       int64  // how much is unreadable; 0 if the file is missing
	First, Last uint64 // the sequence numbers that may be lost; First 0 if none is, Last 0 if their end is unknown
	Detail      string

	told bool // Read has returned it
}

// Error says what is damaged and what it costs.
func (d *Damage) Error() string {
	lost := "No record is lost."
	switch {
	case d.First != 0 && d.Last != 0:
		lost = fmt.Sprintf("Records %d to %d of boot %d may be lost.", d.First, d.Last, d.Boot)
	case d.First != 0:
		lost = fmt.Sprintf("Records from %d of boot %d on may be lost.", d.First, d.Boot)
	}
	return fmt.Sprintf("journal segment %s is damaged at offset %d, %d bytes: %s %s", d.Segment, d.Offset, d.Bytes, d.Detail, lost)
}

// Unwrap lets errors.Is find ErrDamaged.
func (d *Damage) Unwrap() error { return ErrDamaged }

// Stats is a snapshot for metrics and health.
type Stats struct {
	Bytes          int64 // on disk, preallocation included
	Segments       int
	PendingRecords int64 // waiting for the disk
	PendingBytes   int64
	Records        uint64        // made durable since Open
	Syncs          uint64        // frames synced since Open
	LastSync       time.Duration // of the last write and sync
	Durable        uint64        // highest durable sequence number of this boot
	Unreleased     bool          // whether some durable record was not released
	Oldest         Position      // if so: the first such record, or one shortly before it
	OldestSince    time.Time     // and when the segment that holds it was started
	TornBytes      int64         // cut off the tail by Open
	Retired        uint64        // segments given up after a failed write or sync
	LostRecords    uint64        // in Damaged, where known
	Damaged        []Damage
	Failure        error // why Append refuses now; nil if it does not
}
