package journal

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"io"
	"math"
)

// scanner walks the frames of one segment and says where they break off. It
// trusts nothing it reads: it never asks for more memory than the file has
// bytes, and its work is bounded by a few times the file's size.
type scanner struct {
	r    io.ReaderAt
	size int64 // bytes to look at
	aead cipher.AEAD
	hash [32]byte
	name string
	node uint32
	boot uint32

	off    int64  // where the next frame should be
	number uint32 // which it should be
	seq    uint64 // the lowest sequence number it may begin with
	adrift bool   // the end was lost: whichever frame comes next is right
	closed bool   // the end frame was seen
	cost   int64  // bytes checked so far
	budget int64  // bytes that resync may still check

	head   frameHead // of the frame last accepted
	plain  []byte    // its records; valid until the next step
	at     int64     // where it begins
	sealer sealer

	window []byte // bytes of the file from base
	base   int64
}

const (
	readAhead = 128 << 10
	pageBytes = 4096
	unknown   = math.MaxUint64 // as a limit: the last record is not known
)

func newScanner(r io.ReaderAt, size int64, s *segment) *scanner {
	return &scanner{
		r: r, size: size, aead: s.aead, hash: s.hash, name: s.name, node: s.header.node, boot: s.header.boot,
		off: dataStart, seq: s.header.first, budget: 4*max(size, s.size) + 1<<20,
	}
}

// event is what one step found.
type event uint8

const (
	atFrame  event = iota // a frame: head, plain
	atDamage              // unreadable bytes, now behind
	atEnd                 // the last record was passed, or the journal was closed here
	atTail                // no valid frame follows, and none is known to be missing
)

// step moves over the next frame or the next damage. limit is the last record
// that the segment is known to hold; a frame after it is the remains of a
// batch that was written anew elsewhere.
func (s *scanner) step(limit uint64) (event, *Damage) {
	if s.closed || s.seq > limit {
		return atEnd, nil
	}
	if s.check(s.off) && (s.adrift || s.head.number == s.number) && s.head.first <= limit {
		s.accept(s.off)
		if s.closed {
			return s.atClose(limit)
		}
		return atFrame, nil
	}
	start, seq := s.off, s.seq
	d := &Damage{Segment: s.name, Node: s.node, Boot: s.boot, Offset: start}
	found, spent := s.resync(limit)
	switch {
	case found:
		d.Bytes = s.off - start
		d.Detail = "Frames in the middle of the segment are damaged or missing."
		if s.head.first > seq {
			d.First, d.Last = seq, s.head.first-1
		}
		s.number, s.seq = s.head.number, s.head.first
	case limit != unknown:
		d.Bytes, d.First, d.Last = s.size-start, seq, limit
		d.Detail = "The end of the segment is damaged or missing."
		s.off, s.seq, s.adrift = s.size, limit+1, true
	case spent:
		d.Bytes, d.First = s.size-start, seq
		d.Detail = "The segment is damaged beyond what can be searched for readable frames."
		s.off = s.size
	default:
		return atTail, nil
	}
	return atDamage, d
}

// atClose checks that nothing follows the end frame, and nothing is missing before it.
func (s *scanner) atClose(limit uint64) (event, *Damage) {
	d := &Damage{Segment: s.name, Node: s.node, Boot: s.boot, Offset: s.at}
	switch extra := s.residue(); {
	case limit != unknown && s.seq <= limit:
		d.First, d.Last = s.seq, limit
		d.Detail = "The segment was closed before its last record."
	case extra > 0:
		d.Offset, d.Bytes = s.off, extra
		d.Detail = "Bytes follow the place where the journal was closed."
	default:
		return atEnd, nil
	}
	s.off = s.size
	return atDamage, d
}

// accept moves behind the frame that check found at off.
func (s *scanner) accept(off int64) {
	s.at, s.off = off, off+frameHeader+int64(s.head.length)
	s.number = s.head.number + 1
	s.seq = s.head.first + uint64(s.head.count)
	s.closed, s.adrift = s.head.kind == kindEnd, false
}

// check says whether a whole, authentic frame lies at off that may come next
// or later; head and plain are then its own. Without a key the checksums have
// to do.
func (s *scanner) check(off int64) bool {
	h, ok := decodeFrameHead(s.fetch(off, frameHeader))
	if !ok || int64(h.length) > s.size-off-frameHeader || h.number < s.number || h.first < s.seq || h.first+uint64(h.count) < h.first {
		return false
	}
	if (h.kind != kindRecords || h.count == 0) && (h.kind != kindEnd || h.count != 0) {
		return false
	}
	s.cost += int64(h.length)
	ciphertext := s.fetch(off+frameHeader, int(h.length))
	if len(ciphertext) != int(h.length) || checksum(ciphertext) != h.crc {
		return false
	}
	s.plain = s.plain[:0]
	if s.aead != nil {
		var err error
		if s.plain, err = s.sealer.open(s.plain, s.aead, &s.hash, &h, ciphertext); err != nil || !wellFormed(s.plain, h.count) {
			return false
		}
	}
	s.head = h
	return true
}

// resync looks for the next valid frame from off on and goes there. spent says
// that it gave up before the end.
func (s *scanner) resync(limit uint64) (found, spent bool) {
	for pos := s.off; ; {
		w := s.fetch(pos, readAhead)
		if len(w) < len(frameMagicBytes) {
			return false, false
		}
		i := bytes.Index(w, frameMagicBytes)
		if i < 0 {
			pos += int64(len(w) - len(frameMagicBytes) + 1)
			continue
		}
		pos += int64(i)
		before := s.cost
		if s.check(pos) && s.head.first <= limit {
			s.off = pos
			return true, false
		}
		if s.budget -= s.cost - before; s.budget < 0 {
			return false, true
		}
		pos++
	}
}

// residue returns how many bytes from off on are not the zeros of preallocation.
func (s *scanner) residue() int64 {
	var n int64
	for pos := s.off; ; {
		w := s.fetch(pos, readAhead)
		if len(w) == 0 {
			return n
		}
		if used := len(bytes.TrimRight(w, "\x00")); used > 0 {
			n = pos + int64(used) - s.off
		}
		pos += int64(len(w))
	}
}

// fetch returns n bytes from off, fewer only at the end. A stretch that the
// disk cannot read comes back as zeros, which no frame's checksum passes.
func (s *scanner) fetch(off int64, n int) []byte {
	n = int(min(int64(n), s.size-off))
	if n <= 0 {
		return nil
	}
	if off < s.base || off+int64(n) > s.base+int64(len(s.window)) {
		want := int(min(int64(max(n, readAhead)), s.size-off))
		if cap(s.window) < want {
			s.window = make([]byte, want)
		}
		s.window, s.base = s.window[:want], off
		got, err := s.r.ReadAt(s.window, off)
		if got < want && !errors.Is(err, io.EOF) {
			got = s.salvage(got)
		}
		s.window = s.window[:got]
	}
	w := s.window[off-s.base:]
	return w[:min(n, len(w))]
}

// salvage reads the rest of the window page by page around what the disk
// cannot read.
func (s *scanner) salvage(from int) int {
	for i := from; i < len(s.window); {
		page := s.window[i:min(len(s.window), i+pageBytes-int((s.base+int64(i))%pageBytes))]
		got, err := s.r.ReadAt(page, s.base+int64(i))
		if got < len(page) {
			if errors.Is(err, io.EOF) {
				return i + got
			}
			clear(page[got:])
		}
		i += len(page)
	}
	return len(s.window)
}

// summary is what a walk over a whole segment found.
type summary struct {
	records uint64
	last    uint64 // below the segment's first if it holds none
	end     int64  // offset after the last valid frame
	frames  uint32
	closed  bool
	torn    int64 // bytes after end that are not zeros, where no record is known to be missing
	damage  []*Damage
}

// walk checks every frame of the segment.
func (s *scanner) walk(limit uint64) summary {
	sum := summary{last: s.seq - 1, end: s.off}
	for {
		ev, d := s.step(limit)
		switch ev {
		case atFrame:
			sum.frames++
			sum.records += uint64(s.head.count)
			sum.last, sum.end = s.seq-1, s.off
			continue
		case atDamage:
			sum.damage = append(sum.damage, d)
			if s.off < s.size {
				continue
			}
		case atTail:
			sum.torn = s.residue()
		}
		if sum.closed = s.closed; s.closed {
			sum.end = s.at + frameOverhead
		}
		return sum
	}
}
