package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// cursor is where the last Read stopped, with everything it had open, so that
// the next one goes on from there.
type cursor struct {
	seg   *segment // nil: nowhere
	file  *file
	scan  *scanner
	pos   Position  // the last record delivered, or lost
	queue []*Damage // to report before going on

	rest []byte // records of the current frame not yet delivered
	seq  uint64 // of the first of them
	left uint32
}

func (c *cursor) reset() {
	if c.file != nil {
		c.file.close()
	}
	*c = cursor{}
}

// Read calls fn for durable records after a position, in order across boots,
// until maxRecords or maxBytes are reached (one record is delivered whatever
// its size) or no more is durable. It returns the position of the last record
// that fn took, which is what to pass next. An error of fn stops it and is
// returned; the record is delivered again.
//
// Damage does not stop the journal from being read: everything before it is
// delivered, then one Read returns a *Damage (errors.Is ErrDamaged), without
// calling fn, and the position after it; the next Read goes on behind it.
// Stats keeps the list.
//
// fn must not call methods of the journal other than Append, Durable and
// Stats. Reads exclude one another; the journal remembers where the last one
// stopped, so reading on from there costs no search.
func (j *Journal) Read(after Position, maxRecords, maxBytes int, fn func(Entry) error) (Position, error) {
	j.reading.Lock()
	defer j.reading.Unlock()
	if err := j.check(after); err != nil {
		return after, err
	}
	c := &j.cursor
	if c.seg == nil || c.pos != after {
		if err := j.seek(after); err != nil {
			c.reset()
			return after, err
		}
	}
	for n, size := 0, 0; n < maxRecords; {
		if c.left == 0 {
			more, err := j.advance()
			if err != nil {
				c.reset()
				return after, err
			}
			if n > 0 && len(c.queue) > 0 {
				break // report it to the next call, alone
			}
			if d := j.report(); d != nil {
				return c.pos, d
			}
			if !more && len(c.queue) == 0 {
				break
			}
			continue
		}
		record, rest, _ := cutRecord(c.rest) // check made sure that it is there
		at := Position{c.seg.header.boot, c.seq}
		if c.pos.Before(at) {
			if n > 0 && size+len(record) > maxBytes {
				break
			}
			if err := fn(Entry{Node: c.seg.header.node, Boot: at.Boot, Seq: at.Seq, Record: record}); err != nil {
				return c.pos, err
			}
			n, size, c.pos = n+1, size+len(record), at
			after = at
		}
		c.rest, c.seq, c.left = rest, c.seq+1, c.left-1
	}
	return c.pos, nil
}

// check refuses what cannot be read from.
func (j *Journal) check(after Position) error {
	if j.closed {
		return ErrClosed
	}
	end := Position{j.o.Boot, j.durable.Load()}
	if end.Before(after) {
		return fmt.Errorf("%w: it is record %d of boot %d, the journal ends at record %d of boot %d", ErrPosition, after.Seq, after.Boot, end.Seq, end.Boot)
	}
	return nil
}

// report takes the next damage that was not reported yet off the queue, and
// moves the position behind it.
func (j *Journal) report() *Damage {
	c := &j.cursor
	for len(c.queue) > 0 {
		d := c.queue[0]
		c.queue = c.queue[1:]
		behind := Position{d.Boot, d.Last}
		if d.Last == 0 {
			behind = Position{}
		}
		if j.tell(d) {
			if c.pos.Before(behind) {
				c.pos = behind
			}
			return d
		}
	}
	return nil
}

// tell records damage and says whether Read has yet to return it.
func (j *Journal) tell(d *Damage) bool {
	j.list.Lock()
	defer j.list.Unlock()
	d = j.record(d)
	if d.told {
		return false
	}
	d.told = true
	return true
}

// seek moves the cursor to the first record after a position.
func (j *Journal) seek(after Position) error {
	c := &j.cursor
	c.reset()
	j.list.Lock()
	if len(j.segs) == 0 {
		j.list.Unlock()
		return nil
	}
	seg := j.segs[0]
	for _, s := range j.segs[1:] {
		if after.Before(Position{s.header.boot, s.header.first - 1}) {
			break
		}
		seg = s
	}
	j.list.Unlock()
	c.pos = after
	if err := j.enter(seg); err != nil {
		return err
	}
	if c.scan == nil || seg.header.boot != after.Boot {
		return nil
	}
	j.list.Lock()
	defer j.list.Unlock()
	for _, m := range seg.marks {
		if m.seq > after.Seq+1 {
			break
		}
		c.scan.off, c.scan.number, c.scan.seq = m.off, m.frame, m.seq
	}
	return nil
}

// enter opens a segment at its start. A segment that is gone or forged is
// damage; one whose key is not available now is an error, and stays.
func (j *Journal) enter(s *segment) error {
	c := &j.cursor
	if c.file != nil {
		c.file.close()
	}
	c.seg, c.file, c.scan, c.left = s, nil, nil, 0
	if !s.broken {
		f, err := j.dir.open(s.name, false)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			j.ruin(s, "The segment's file is gone.")
		case err != nil:
			return fmt.Errorf("reading the journal: %w", err)
		default:
			c.file = f
		}
	}
	if !s.broken && s.aead == nil {
		aead, err := s.header.unseal(s.raw, j.o.Open)
		switch {
		case errors.Is(err, errHeaderForged):
			j.ruin(s, "The segment's header was changed after it was written.")
		case err != nil:
			return fmt.Errorf("reading journal segment %s: %w", s.name, err)
		default:
			s.aead, s.raw = aead, nil
		}
	}
	if !s.broken {
		j.list.Lock()
		c.scan = newScanner(c.file.f, s.end, s)
		j.list.Unlock()
	}
	c.queue = append(c.queue, s.damage...)
	return nil
}

// ruin marks a segment as unreadable while the journal runs.
func (j *Journal) ruin(s *segment, detail string) {
	j.list.Lock()
	defer j.list.Unlock()
	s.lose(s.header.boot, s.header.number, s.header.first, detail)
	if s.known {
		d := s.damage[len(s.damage)-1]
		if d.Last = s.last; s.last < s.header.first {
			d.First, d.Last = 0, 0
		}
	}
}

// advance reads the next frame, or finds damage, or moves to the next segment.
// It returns false at the end of what is durable.
func (j *Journal) advance() (bool, error) {
	c := &j.cursor
	for c.seg != nil && len(c.queue) == 0 {
		s := c.seg
		j.list.Lock()
		end, limit, live, next := s.end, uint64(unknown), s.live, j.after(s)
		if s.known {
			limit = s.last
		}
		j.list.Unlock()
		ev, d := atEnd, (*Damage)(nil)
		if c.scan != nil {
			c.scan.size = end
			ev, d = c.scan.step(limit)
		}
		switch {
		case ev == atFrame:
			c.rest, c.seq, c.left = c.scan.plain, c.scan.head.first, c.scan.head.count
			j.list.Lock()
			s.mark(mark{c.scan.at, c.scan.head.number, c.scan.head.first})
			j.list.Unlock()
			return true, nil
		case ev == atTail && c.scan.residue() > 0:
			d = &Damage{Segment: s.name, Node: s.header.node, Boot: s.header.boot, Offset: c.scan.off, Bytes: c.scan.residue(),
				First: c.scan.seq, Detail: "The end of the segment is damaged."}
			c.scan.off = end
			fallthrough
		case ev == atDamage:
			j.list.Lock()
			s.hurt = true
			j.list.Unlock()
			c.queue = append(c.queue, d)
			return true, nil
		case live || next == nil:
			return false, nil
		}
		if err := j.enter(next); err != nil {
			return false, err
		}
	}
	return c.seg != nil, nil
}

// after returns the segment that follows s. Under list.
func (j *Journal) after(s *segment) *segment {
	for i, have := range j.segs {
		if have == s && i+1 < len(j.segs) {
			return j.segs[i+1]
		}
	}
	return nil
}

// Earlier counts the records of boots before this one that come after a
// position. A segment whose end could not be established counts for nothing.
func (j *Journal) Earlier(after Position) (n uint64) {
	j.list.Lock()
	defer j.list.Unlock()
	for _, s := range j.segs {
		from := s.header.first
		if s.header.boot == after.Boot {
			from = max(from, after.Seq+1)
		}
		if s.header.boot < j.o.Boot && s.header.boot >= after.Boot && s.known && s.last >= from {
			n += s.last - from + 1
		}
	}
	return n
}

// Release allows whole segments that hold nothing after upTo to be deleted,
// oldest first. The newest segment always stays. A damaged one is renamed to
// end in ".damaged" and left for people to look at; it no longer counts
// towards MaxBytes.
func (j *Journal) Release(upTo Position) error {
	j.reading.Lock()
	defer j.reading.Unlock()
	if err := j.check(upTo); err != nil {
		return err
	}
	j.list.Lock()
	if j.released.Before(upTo) {
		j.released = upTo
	}
	n := 0
	for n+1 < len(j.segs) && j.segs[n].passed(upTo, j.segs[n+1]) {
		n++
	}
	gone := append([]*segment(nil), j.segs[:n]...)
	j.list.Unlock()
	for _, s := range gone {
		if err := j.discard(s); err != nil {
			return fmt.Errorf("deleting a shipped journal segment: %w", err)
		}
	}
	if n > 0 {
		j.list.Lock()
		defer j.list.Unlock()
		j.mu.Lock()
		defer j.mu.Unlock()
		j.room = j.roomLeft()
		j.retryAt = time.Time{} // there may be room now
	}
	return nil
}

// passed says whether nothing in s comes after upTo. Under list.
func (s *segment) passed(upTo Position, next *segment) bool {
	switch {
	case s.live:
		return false
	case s.known && !s.broken:
		return s.empty() || !upTo.Before(Position{s.header.boot, s.last})
	default:
		return !upTo.Before(Position{next.header.boot, next.header.first})
	}
}

// discard deletes the oldest segment. The deletion is durable before the next
// one begins, so that a crash leaves no hole.
func (j *Journal) discard(s *segment) error {
	if j.cursor.seg == s {
		j.cursor.reset()
	}
	var err error
	if s.hurt {
		err = j.dir.rename(s.name, s.name+damagedSuffix)
	} else {
		err = j.dir.remove(s.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := j.dir.sync(); err != nil {
		return err
	}
	j.list.Lock()
	defer j.list.Unlock()
	j.segs = j.segs[1:]
	j.physical -= s.size
	return nil
}
