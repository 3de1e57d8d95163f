package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// A segment is a file:
//
//	0     header, 4096 bytes
//	4096  the same header again: it holds the only copy of the key
//	8192  frames, back to back, then zeros to the preallocated size
//
// The header, little endian:
//
//	0   magic "FNDRYJNL"
//	8   version, uint32
//	12  node, uint32
//	16  boot, uint32
//	20  number of the segment in its boot, uint32, from 1
//	24  sequence number that the first record will have, uint64
//	32  boot, number (uint32 each) and last sequence number (uint64) of the segment before
//	48  time of creation, milliseconds since 1970, int64
//	56  random identity, 16 bytes
//	72  length of the sealed key, uint32, and the sealed key
//	    zeros
//	4076 GMAC of all the above under the segment's key, 16 bytes
//	4092 CRC-32C of all the above, uint32
//
// Naming the end of the segment before makes a missing or shortened one visible.
const (
	headerBytes = 4096
	dataStart   = 2 * headerBytes
	headerTag   = headerBytes - 20
	headerCRC   = headerBytes - 4
	maxSealed   = headerTag - 76
	version     = 1
	keyBytes    = 32
)

const segmentMagic = "FNDRYJNL"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// link names a segment and the last record in it.
type link struct {
	boot, number uint32
	seq          uint64 // 0 if it holds none
}

type header struct {
	node, boot, number uint32
	first              uint64
	prev               link
	created            time.Time
	id                 [16]byte
	sealed             []byte
}

// segmentKey is a key that is ready to be used for one segment.
type segmentKey struct {
	id     [16]byte
	aead   cipher.AEAD
	sealed []byte
}

func newSegmentKey(o *Options) (segmentKey, error) {
	var k segmentKey
	plain := make([]byte, keyBytes)
	defer clear(plain)
	_, _ = rand.Read(plain) // crypto/rand never fails
	_, _ = rand.Read(k.id[:])
	var err error
	if k.aead, err = newAEAD(plain); err != nil {
		return k, err
	}
	h := header{node: o.Node, boot: o.Boot, id: k.id}
	if k.sealed, err = o.Seal(plain, h.associated()); err != nil {
		return k, fmt.Errorf("sealing a segment's key: %w", err)
	}
	if len(k.sealed) > maxSealed {
		return k, fmt.Errorf("sealing a segment's key: %d bytes, more than the %d a header holds", len(k.sealed), maxSealed)
	}
	return k, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != keyBytes {
		return nil, errors.New("a segment's key has 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// associated binds the sealed key to its segment.
func (h *header) associated() []byte {
	b := append(make([]byte, 0, 64), "foundry/journal/segment-key/1"...)
	b = binary.LittleEndian.AppendUint32(b, h.node)
	b = binary.LittleEndian.AppendUint32(b, h.boot)
	return append(b, h.id[:]...)
}

// headerNonce is used once per key: frames count up from zero and never get here.
var headerNonce = []byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}

func (h *header) encode(aead cipher.AEAD) []byte {
	b := make([]byte, headerBytes)
	le := binary.LittleEndian
	copy(b, segmentMagic)
	le.PutUint32(b[8:], version)
	le.PutUint32(b[12:], h.node)
	le.PutUint32(b[16:], h.boot)
	le.PutUint32(b[20:], h.number)
	le.PutUint64(b[24:], h.first)
	le.PutUint32(b[32:], h.prev.boot)
	le.PutUint32(b[36:], h.prev.number)
	le.PutUint64(b[40:], h.prev.seq)
	le.PutUint64(b[48:], uint64(h.created.UnixMilli()))
	copy(b[56:], h.id[:])
	le.PutUint32(b[72:], uint32(len(h.sealed)))
	copy(b[76:], h.sealed)
	copy(b[headerTag:], aead.Seal(nil, headerNonce, nil, b[:headerTag]))
	le.PutUint32(b[headerCRC:], crc32.Checksum(b[:headerCRC], castagnoli))
	return b
}

var (
	errHeaderBytes   = errors.New("the header's checksum does not match")
	errHeaderVersion = errors.New("the segment was written by a newer version")
)

// decodeHeader checks what can be checked without the key.
func decodeHeader(b []byte) (header, error) {
	var h header
	le := binary.LittleEndian
	if len(b) != headerBytes || string(b[:8]) != segmentMagic || crc32.Checksum(b[:headerCRC], castagnoli) != le.Uint32(b[headerCRC:]) {
		return h, errHeaderBytes
	}
	if le.Uint32(b[8:]) != version {
		return h, errHeaderVersion
	}
	h.node, h.boot, h.number = le.Uint32(b[12:]), le.Uint32(b[16:]), le.Uint32(b[20:])
	h.first = le.Uint64(b[24:])
	h.prev = link{le.Uint32(b[32:]), le.Uint32(b[36:]), le.Uint64(b[40:])}
	h.created = time.UnixMilli(int64(le.Uint64(b[48:])))
	copy(h.id[:], b[56:])
	n := le.Uint32(b[72:])
	if n > maxSealed || h.number == 0 || h.first == 0 {
		return h, errHeaderBytes
	}
	h.sealed = append([]byte(nil), b[76:76+n]...)
	return h, nil
}

// unseal opens the segment's key and checks the header under it.
func (h *header) unseal(raw []byte, open func(sealed, associated []byte) ([]byte, error)) (cipher.AEAD, error) {
	key, err := open(h.sealed, h.associated())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer clear(key)
	aead, err := newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if _, err := aead.Open(nil, headerNonce, raw[headerTag:headerCRC], raw[:headerTag]); err != nil {
		return nil, errHeaderForged
	}
	return aead, nil
}

var errHeaderForged = errors.New("the header was changed after it was written")

// segment is a file of the journal as the open journal knows it.
type segment struct {
	name   string
	header header
	hash   [32]byte // of the header: bound into every frame
	raw    []byte   // the header as stored, until the key is open
	aead   cipher.AEAD

	size  int64  // on disk
	end   int64  // offset after the last durable frame, or the file's size where that was not established
	last  uint64 // the last durable record; below header.first if there is none
	known bool   // last was established by recovery or by the segment after
	live  bool   // the committer writes here

	marks  []mark    // where some of its frames begin, ascending
	damage []*Damage // found before its frames were read
	broken bool      // the header is unreadable, and so is everything else
	hurt   bool      // some damage was found: set aside instead of deleted
}

// mark is a frame to start reading from, so that going back does not mean
// reading a segment from its start.
type mark struct {
	off   int64
	frame uint32
	seq   uint64
}

const markEvery = 1 << 20

func (s *segment) mark(m mark) {
	if n := len(s.marks); n == 0 && m.off < dataStart+markEvery || n > 0 && m.off < s.marks[n-1].off+markEvery {
		return
	}
	s.marks = append(s.marks, m)
}

func (s *segment) link() link {
	l := link{boot: s.header.boot, number: s.header.number}
	if s.last >= s.header.first {
		l.seq = s.last
	}
	return l
}

// empty says whether the segment is known to hold no record.
func (s *segment) empty() bool { return s.known && s.last < s.header.first }

const (
	segmentSuffix   = ".segment"
	temporarySuffix = ".new"
	damagedSuffix   = ".damaged"
)

func segmentName(boot, number uint32, first uint64) string {
	return fmt.Sprintf("%010d-%06d-%020d%s", boot, number, first, segmentSuffix)
}

// parseName reads a segment's name; set aside ones parse too.
func parseName(name string) (boot, number uint32, first uint64, ok bool) {
	stem, found := strings.CutSuffix(strings.TrimSuffix(name, damagedSuffix), segmentSuffix)
	parts := strings.Split(stem, "-")
	if !found || len(parts) != 3 {
		return 0, 0, 0, false
	}
	b, err1 := strconv.ParseUint(parts[0], 10, 32)
	n, err2 := strconv.ParseUint(parts[1], 10, 32)
	f, err3 := strconv.ParseUint(parts[2], 10, 64)
	ok = err1 == nil && err2 == nil && err3 == nil &&
		strings.TrimSuffix(name, damagedSuffix) == segmentName(uint32(b), uint32(n), f)
	return uint32(b), uint32(n), f, ok
}

// create writes a new segment under a temporary name, and gives it its own
// once it is durable: a segment that is there has a whole header.
func (d *directory) createSegment(h header, k segmentKey, size int64) (_ *segment, _ *file, err error) {
	h.id, h.sealed = k.id, k.sealed
	raw := h.encode(k.aead)
	s := &segment{
		name: segmentName(h.boot, h.number, h.first), header: h, hash: sha256.Sum256(raw), aead: k.aead,
		size: size, end: dataStart, last: h.first - 1, known: true, live: true,
	}
	temporary := s.name + temporarySuffix
	f, err := d.create(temporary, size)
	if err != nil {
		return nil, nil, err
	}
	named := temporary
	defer func() {
		if err != nil {
			f.close()
			_ = d.remove(named)
		}
	}()
	if err = f.writeAt(append(raw, raw...), 0); err != nil {
		return nil, nil, err
	}
	if err = f.sync(); err != nil {
		return nil, nil, err
	}
	if err = d.rename(temporary, s.name); err != nil {
		return nil, nil, err
	}
	named, f.name = s.name, s.name
	if err = d.sync(); err != nil {
		return nil, nil, err
	}
	return s, f, nil
}
