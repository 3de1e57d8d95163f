package journal

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = max(4<<30, 2*o.SegmentBytes)
	}
	if o.MaxPending == 0 {
		o.MaxPending = int(min(4<<20, o.SegmentBytes/2))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	bad := func(field, detail string) error {
		return problem.New(problem.Invalid, "journal-options", detail).WithField(field)
	}
	switch {
	case o.Seal == nil || o.Open == nil:
		return bad("Seal", "The journal needs functions to seal and open its keys.")
	case o.Boot == 0:
		return bad("Boot", "Boot numbers begin at 1.")
	case o.SegmentBytes < 64<<10 || o.SegmentBytes > 1<<31:
		return bad("SegmentBytes", "A journal segment has between 64 KiB and 2 GiB.")
	case o.MaxBytes < 2*o.SegmentBytes:
		return bad("MaxBytes", "The journal needs room for at least two segments.")
	case o.MaxPending < 1 || int64(o.MaxPending) > o.SegmentBytes/2:
		return bad("MaxPending", "What waits for the disk must fit into half a segment.")
	}
	return nil
}

// inventory is what lies in a journal's directory.
type inventory struct {
	segments []*segment // in order
	leftover []string   // of creations that a crash cut short, and of segments that were never used
	boot     uint32     // the highest boot seen
}

// load reads the headers of all segments and checks that each follows the one before.
func (d *directory) load() (inventory, error) {
	var inv inventory
	names, err := d.names()
	if err != nil {
		return inv, err
	}
	for _, name := range names {
		if boot, number, first, ok := parseName(name); ok {
			inv.boot = max(inv.boot, boot)
			if len(name) != len(segmentName(boot, number, first)) {
				continue // set aside
			}
			s, err := d.loadSegment(name, boot, number, first)
			if err != nil {
				return inv, err
			}
			inv.segments = append(inv.segments, s)
		} else if stem, ok := bytes.CutSuffix([]byte(name), []byte(temporarySuffix)); ok {
			if _, _, _, ok := parseName(string(stem)); ok {
				inv.leftover = append(inv.leftover, name)
			}
		}
	}
	slices.SortFunc(inv.segments, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.header.boot, b.header.boot), cmp.Compare(a.header.number, b.header.number), cmp.Compare(a.header.first, b.header.first))
	})
	return inv, d.chain(&inv)
}

// loadSegment reads a segment's header, from its second copy if need be.
func (d *directory) loadSegment(name string, boot, number uint32, first uint64) (*segment, error) {
	f, err := d.open(name, false)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	defer f.close()
	s := &segment{name: name, last: first - 1}
	if s.size, err = f.size(); err != nil {
		return nil, err
	}
	s.end = s.size
	both := make([]byte, dataStart)
	n, err := f.f.ReadAt(both, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		clear(both[n:])
	}
	h, err := decodeHeader(both[:headerBytes])
	s.raw = both[:headerBytes]
	if err != nil {
		if h2, err2 := decodeHeader(both[headerBytes:]); err2 == nil || errors.Is(err2, errHeaderVersion) {
			h, err, s.raw = h2, err2, both[headerBytes:]
		}
	}
	switch {
	case errors.Is(err, errHeaderVersion):
		return nil, problem.New(problem.Unsupported, "journal-version", "The journal segment "+name+" was written by a newer version.").
			WithMend("Start the version that wrote it, or a newer one.")
	case err != nil:
		s.lose(boot, number, first, "Both copies of the segment's header are damaged; nothing in it can be read.")
	case h.boot != boot || h.number != number || h.first != first:
		s.lose(boot, number, first, "The segment's header belongs to another file name: it was moved or copied.")
	default:
		s.header, s.hash = h, sha256.Sum256(s.raw)
		if !bytes.Equal(both[:headerBytes], both[headerBytes:]) {
			s.hurt = true
			s.damage = append(s.damage, &Damage{Segment: name, Node: h.node, Boot: boot, Bytes: headerBytes,
				Detail: "One of the two copies of the segment's header is damaged; the other was used and no record is lost."})
		}
	}
	return s, nil
}

// lose marks a segment of which nothing can be read.
func (s *segment) lose(boot, number uint32, first uint64, detail string) {
	s.broken, s.hurt = true, true
	s.header.boot, s.header.number, s.header.first = boot, number, first
	s.damage = append(s.damage, &Damage{Segment: s.name, Node: s.header.node, Boot: boot, Bytes: s.size, First: first, Detail: detail})
}

// chain takes each segment's end from the one after it, and finds the missing.
func (d *directory) chain(inv *inventory) error {
	for i := 0; i+1 < len(inv.segments); i++ {
		s, next := inv.segments[i], inv.segments[i+1]
		switch {
		case next.broken:
			// Where s ends is not known; reading it will tell.
		case next.header.prev.boot == s.header.boot && next.header.prev.number == s.header.number:
			s.endAt(next.header.prev.seq)
		case !s.broken && next.header.prev == s.header.prev:
			unused, err := d.unused(s)
			if err != nil {
				return err
			}
			if !unused {
				next.missing(s)
				continue
			}
			inv.leftover = append(inv.leftover, s.name)
			inv.segments = slices.Delete(inv.segments, i, i+1)
			if i > 0 {
				i-- // the segment before is followed by next
			}
			i--
		default:
			next.missing(s)
		}
	}
	return nil
}

// endAt records that seq is the segment's last record; 0 is none.
func (s *segment) endAt(seq uint64) {
	s.last, s.known = max(seq, s.header.first-1), true
	if s.broken {
		s.damage[0].Last = s.last
		if s.last < s.header.first {
			s.damage[0].First, s.damage[0].Last = 0, 0
		}
	}
}

// missing records that segments between before and s are gone.
func (s *segment) missing(before *segment) {
	p := s.header.prev
	dam := &Damage{Segment: s.name, Node: s.header.node, Boot: s.header.boot, First: before.header.first,
		Detail: fmt.Sprintf("Segments before this one are missing: it follows number %d of boot %d, but the one found before it is number %d of boot %d.",
			p.number, p.boot, before.header.number, before.header.boot)}
	if p.boot == before.header.boot {
		dam.Last = p.seq
	}
	s.damage = append(s.damage, dam)
}

// unused says whether a segment's creation failed after it got its name: it
// holds no byte after its header.
func (d *directory) unused(s *segment) (bool, error) {
	f, err := d.open(s.name, false)
	if err != nil {
		return false, err
	}
	defer f.close()
	sc := newScanner(f.f, s.size, s)
	return sc.residue() == 0, nil
}

// Open recovers the journal in dir and starts a new segment for this boot.
// Earlier boots' segments are kept and readable. The newest of them is read in
// full and a write that a crash left unfinished is cut off; the others are
// verified as they are read. Damage that costs records makes Open fail with
// ErrDamaged and change nothing, unless ReadAround is set. A disk without room
// does not: the journal starts full, so that what it holds can be shipped.
//
// Only one process may have a directory open: the lock is the caller's business.
func Open(dir string, o Options) (_ *Journal, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	j := &Journal{o: o, next: 1, notify: make(chan struct{}, 1), done: make(chan struct{})}
	j.wake = sync.NewCond(&j.mu)
	j.filling = j.newBatch()
	if j.dir, err = makeDirectory(dir, o.Intercept); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			j.dir.close()
		}
	}()
	inv, err := j.dir.load()
	if err != nil {
		return nil, err
	}
	if o.Boot <= inv.boot {
		return nil, fmt.Errorf("%w: boot %d is not after %d", ErrBoot, o.Boot, inv.boot)
	}
	if err := j.adopt(inv); err != nil {
		return nil, err
	}
	if err := j.begin(); err != nil {
		return nil, err
	}
	go j.run()
	return j, nil
}

// adopt takes over what earlier boots left.
func (j *Journal) adopt(inv inventory) error {
	for _, s := range inv.segments {
		for _, d := range s.damage {
			if d.First == 0 {
				j.o.Log.Warn("journal: damage that costs no record", "segment", s.name, "detail", d.Detail)
			} else if err := j.tolerate(d); err != nil {
				return err
			}
		}
	}
	if n := len(inv.segments); n > 0 {
		if err := j.recoverTail(inv.segments[n-1]); err != nil {
			return err
		}
	}
	for _, name := range inv.leftover {
		if err := j.dir.remove(name); err != nil {
			return err
		}
	}
	for _, s := range inv.segments {
		j.physical += s.size
		for _, d := range s.damage {
			j.record(d)
		}
		if !s.empty() {
			signal(j.notify)
		}
	}
	j.segs = inv.segments
	return nil
}

// begin starts this boot's first segment. Without room the journal starts full.
func (j *Journal) begin() error {
	err := j.rotate(1)
	if isFull(err) {
		j.stop(err)
	} else if err != nil {
		return fmt.Errorf("starting a journal segment: %w", err)
	}
	j.publish(nil, 0)
	return nil
}

// recoverTail finds the end of the newest segment, and cuts off what a crash
// left half written behind it.
func (j *Journal) recoverTail(s *segment) error {
	if s.broken {
		return j.tolerate(s.damage[0])
	}
	f, err := j.dir.open(s.name, true)
	if err != nil {
		return err
	}
	defer f.close()
	if s.aead, err = s.header.unseal(s.raw, j.o.Open); errors.Is(err, errHeaderForged) {
		s.lose(s.header.boot, s.header.number, s.header.first, "The segment's header was changed after it was written.")
		return j.tolerate(s.damage[len(s.damage)-1])
	} else if err != nil {
		return fmt.Errorf("recovering journal segment %s: %w", s.name, err)
	}
	sum := newScanner(f.f, s.size, s).walk(unknown)
	s.last, s.known = sum.last, true
	for _, d := range sum.damage {
		if err := j.tolerate(d); err != nil {
			return err
		}
		switch {
		case d.First == 0: // reading up to the last record need not come by it
			s.damage = append(s.damage, d)
		case d.Last == 0:
			s.known = false
		default:
			s.last = max(s.last, d.Last)
		}
	}
	if len(sum.damage) > 0 {
		s.hurt = true
		return nil // nothing is cut off a damaged file
	}
	if sum.torn > 0 {
		j.torn = sum.torn
		j.o.Log.Warn("journal: cut off a write that a crash left unfinished",
			"segment", s.name, "offset", sum.end, "bytes", sum.torn, "last", sum.last)
	}
	if s.size != sum.end {
		if err := f.truncate(sum.end); err != nil {
			return err
		}
		if err := f.sync(); err != nil {
			return err
		}
	}
	s.size, s.end = sum.end, sum.end
	return nil
}

// tolerate refuses damage found by Open, unless it is to be read around.
func (j *Journal) tolerate(d *Damage) error {
	if !j.o.ReadAround {
		return fmt.Errorf("the journal was not opened, and nothing was changed: %w", d)
	}
	return nil
}
