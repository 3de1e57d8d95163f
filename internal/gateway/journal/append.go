package journal

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Journal is an open journal. Its methods may be called by many goroutines.
//
// Three locks, taken in this order: reading, list, mu. Only mu is on the path
// of Append, and nothing waits for the disk or the key service under it or
// under list.
type Journal struct {
	o       Options
	dir     *directory
	notify  chan struct{}
	durable atomic.Uint64
	done    chan struct{} // closed when the committer has ended

	mu       sync.Mutex // guards the following
	wake     *sync.Cond // the committer waits here for work
	filling  *batch     // takes appended records
	urgent   bool       // somebody may wait for filling
	inflight inflight   // what the committer works on
	next     uint64     // sequence number of the next record
	room     int64      // bytes that may still be appended before the disk is full
	closing  bool
	refusal  error // why Append refuses for good
	stall    error // why Append refuses until retryAt
	retryAt  time.Time
	spare    [][]byte // batch buffers to use again

	list     sync.Mutex // guards the following, and end, last, size, live and marks of segments
	segs     []*segment // in order; the last one is never deleted
	physical int64      // their size on disk
	released Position
	damage   []*Damage
	lost     uint64
	counts   struct {
		records, syncs, retired uint64
		took                    time.Duration
	}
	torn int64 // set by Open

	reading sync.Mutex // guards the cursor and the deletion of segments
	cursor  cursor
	closed  bool

	// Of the committer alone.
	live    *segment
	file    *file
	frame   uint32
	zeroed  int64 // up to where the live segment was written
	number  uint32
	out     []byte
	sealer  sealer
	nextKey chan keyResult
	broken  error
	last    error // of the end frame, for Close
}

type inflight struct {
	count int64
	bytes int
}

// retryEvery is how long a journal that could not go on refuses at once
// before it lets a record try again.
const retryEvery = 250 * time.Millisecond

// Append copies record into the batch that is filling, and returns its ticket.
// It never waits for the disk. It fails with ErrFull, ErrOverloaded,
// ErrStalled, ErrBroken, ErrTooLarge or ErrClosed; the record then has no
// sequence number and never becomes durable.
func (j *Journal) Append(record []byte) (Ticket, error) { return j.append(record, true) }

// AppendLater is Append for a record that nobody waits for: it goes to disk
// with the next batch that somebody does wait for, or by itself after a few
// milliseconds. A crash in between loses it.
func (j *Journal) AppendLater(record []byte) (Ticket, error) { return j.append(record, false) }

// lateness is how long a record of AppendLater may wait for company.
const lateness = 5 * time.Millisecond

func (j *Journal) append(record []byte, urgent bool) (Ticket, error) {
	if len(record) > MaxRecord {
		return Ticket{}, ErrTooLarge
	}
	need := recordBytes(record)
	j.mu.Lock()
	if err := j.admit(need); err != nil {
		j.mu.Unlock()
		return Ticket{}, err
	}
	b := j.filling
	if b.count == 0 {
		b.first = j.next
		if !urgent {
			time.AfterFunc(lateness, func() { j.hurry(b) })
		}
	}
	if urgent && !j.urgent {
		j.urgent = true
		j.wake.Signal()
	}
	b.buf = appendRecord(b.buf, record)
	b.count++
	t := Ticket{seq: j.next, batch: b}
	j.next++
	j.mu.Unlock()
	return t, nil
}

// hurry lets a batch go that has waited long enough for company.
func (j *Journal) hurry(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.filling == b && !j.urgent {
		j.urgent = true
		j.wake.Signal()
	}
}

// admit says whether need more bytes may wait for the disk. Under mu.
func (j *Journal) admit(need int) error {
	if j.refusal != nil {
		return j.refusal
	}
	pending := need + len(j.filling.buf) + j.inflight.bytes
	if pending > j.o.MaxPending {
		if need > j.o.MaxPending {
			return ErrTooLarge
		}
		return ErrOverloaded
	}
	if j.stall != nil && j.o.Now().Before(j.retryAt) {
		return j.stall
	}
	if int64(pending+2*frameOverhead) > j.room {
		return ErrFull
	}
	return nil
}

// Durable returns the highest durable sequence number of this boot; 0 is none.
func (j *Journal) Durable() uint64 { return j.durable.Load() }

// Notify returns a channel that receives after more became durable. Signals
// are not counted: after one, read until nothing comes.
func (j *Journal) Notify() <-chan struct{} { return j.notify }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close makes what was appended durable, marks the journal as closed and
// closes its files. It returns early, with ctx.Err(), if ctx ends; the flush
// then goes on. Append and Read fail afterwards.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	j.closing = true
	if j.refusal == nil {
		j.refusal = ErrClosed
	}
	j.wake.Signal()
	j.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	j.reading.Lock()
	defer j.reading.Unlock()
	if !j.closed {
		j.closed = true
		j.cursor.reset()
		j.dir.close()
	}
	return j.last
}

// Stats returns a snapshot.
func (j *Journal) Stats() Stats {
	j.list.Lock()
	defer j.list.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	st := Stats{
		Bytes: j.physical, Segments: len(j.segs), Durable: j.durable.Load(),
		PendingRecords: int64(j.filling.count) + j.inflight.count,
		PendingBytes:   int64(len(j.filling.buf) + j.inflight.bytes),
		Records:        j.counts.records, Syncs: j.counts.syncs, LastSync: j.counts.took, Retired: j.counts.retired,
		TornBytes: j.torn, LostRecords: j.lost, Failure: j.refusal,
	}
	if st.Failure == nil && j.stall != nil {
		st.Failure = j.stall
	} else if st.Failure == nil && j.room < 3*frameOverhead {
		st.Failure = ErrFull
	}
	for _, d := range j.damage {
		st.Damaged = append(st.Damaged, *d)
	}
	for _, s := range j.segs {
		if s.empty() || s.known && !j.released.Before(Position{s.header.boot, s.last}) {
			continue
		}
		st.Unreleased, st.OldestSince = true, s.header.created
		st.Oldest = Position{s.header.boot, s.header.first}
		if j.released.Boot == s.header.boot && j.released.Seq >= s.header.first {
			st.Oldest.Seq = j.released.Seq + 1
		}
		break
	}
	return st
}

// record keeps damage for Stats, once, and returns what is kept. Under list,
// or before the journal runs.
func (j *Journal) record(d *Damage) *Damage {
	for _, have := range j.damage {
		if have.Segment == d.Segment && have.Offset == d.Offset && have.Detail == d.Detail {
			return have
		}
	}
	j.damage = append(j.damage, d)
	if d.First != 0 && d.Last >= d.First {
		j.lost += d.Last - d.First + 1
	}
	j.o.Log.LogAttrs(context.Background(), slog.LevelError, "journal: damage", slog.String("segment", d.Segment), slog.Int64("offset", d.Offset),
		slog.Int64("bytes", d.Bytes), slog.Uint64("first", d.First), slog.Uint64("last", d.Last), slog.String("detail", d.Detail))
	return d
}
