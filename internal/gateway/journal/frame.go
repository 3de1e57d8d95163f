package journal

import (
	"crypto/cipher"
	"encoding/binary"
	"hash/crc32"
)

// A frame is one batch, encrypted as a whole:
//
//	0   magic "FRAM"
//	4   kind, uint32: 1 records, 2 the journal was closed here
//	8   length of the ciphertext with its tag, uint32
//	12  number of records, uint32
//	16  number of the frame in its segment, uint32, from 0
//	20  CRC-32C of the ciphertext, uint32, so that damage shows without the key
//	24  sequence number of the first record, uint64
//	32  CRC-32C of the above, uint32
//	36  ciphertext: AES-256-GCM of the records, each with its length (uvarint) in front
//
// The nonce is the frame's number: a number is tried once per key, because a
// segment whose write failed is given up. Associated data are the SHA-256 of
// the segment's header and bytes 4 to 20 and 24 to 32, so that a frame opens
// only in its segment and, the numbers having to be consecutive, at its place.
const (
	frameHeader   = 36
	tagBytes      = 16
	frameOverhead = frameHeader + tagBytes
	frameMagic    = 0x4d415246 // "FRAM"

	kindRecords = 1
	kindEnd     = 2
)

var frameMagicBytes = []byte("FRAM")

type frameHead struct {
	kind, length, count, number, crc uint32
	first                            uint64
}

// sealer encrypts the frames of one segment, without allocating.
type sealer struct {
	nonce [12]byte
	ad    [32 + 24]byte
}

func (s *sealer) associate(hash *[32]byte, h *frameHead) {
	le := binary.LittleEndian
	clear(s.nonce[:])
	le.PutUint32(s.nonce[:], h.number)
	copy(s.ad[:], hash[:])
	le.PutUint32(s.ad[32:], h.kind)
	le.PutUint32(s.ad[36:], h.length)
	le.PutUint32(s.ad[40:], h.count)
	le.PutUint32(s.ad[44:], h.number)
	le.PutUint64(s.ad[48:], h.first)
}

// seal appends the frame to out. h.length and h.crc are computed.
func (s *sealer) seal(out []byte, aead cipher.AEAD, hash *[32]byte, h frameHead, plain []byte) []byte {
	le := binary.LittleEndian
	h.length = uint32(len(plain) + tagBytes)
	s.associate(hash, &h)
	start := len(out)
	out = append(out, make([]byte, frameHeader)...)
	out = aead.Seal(out, s.nonce[:], plain, s.ad[:])
	b := out[start:]
	h.crc = crc32.Checksum(b[frameHeader:], castagnoli)
	le.PutUint32(b[0:], frameMagic)
	le.PutUint32(b[4:], h.kind)
	le.PutUint32(b[8:], h.length)
	le.PutUint32(b[12:], h.count)
	le.PutUint32(b[16:], h.number)
	le.PutUint32(b[20:], h.crc)
	le.PutUint64(b[24:], h.first)
	le.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
	return out
}

// open decrypts a frame's ciphertext, appending to out.
func (s *sealer) open(out []byte, aead cipher.AEAD, hash *[32]byte, h *frameHead, ciphertext []byte) ([]byte, error) {
	s.associate(hash, h)
	return aead.Open(out, s.nonce[:], ciphertext, s.ad[:])
}

// decodeFrameHead reads a frame's header; ok says that its checksum matches.
func decodeFrameHead(b []byte) (h frameHead, ok bool) {
	le := binary.LittleEndian
	if len(b) < frameHeader || le.Uint32(b) != frameMagic || crc32.Checksum(b[:32], castagnoli) != le.Uint32(b[32:]) {
		return h, false
	}
	h = frameHead{
		kind: le.Uint32(b[4:]), length: le.Uint32(b[8:]), count: le.Uint32(b[12:]),
		number: le.Uint32(b[16:]), crc: le.Uint32(b[20:]), first: le.Uint64(b[24:]),
	}
	return h, h.length >= tagBytes
}

// appendRecord adds a record to a batch.
func appendRecord(buf, record []byte) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(record)))
	return append(buf, record...)
}

// recordBytes is what appendRecord adds.
func recordBytes(record []byte) int {
	n := len(record) + 1
	for l := len(record); l >= 0x80; l >>= 7 {
		n++
	}
	return n
}

// cutRecord takes the first record off a batch.
func cutRecord(buf []byte) (record, rest []byte, ok bool) {
	n, size := binary.Uvarint(buf)
	if size <= 0 || n > uint64(len(buf)-size) {
		return nil, nil, false
	}
	return buf[size : size+int(n)], buf[size+int(n):], true
}

// wellFormed says whether buf holds exactly count records.
func wellFormed(buf []byte, count uint32) bool {
	for ; count > 0; count-- {
		var ok bool
		if _, buf, ok = cutRecord(buf); !ok {
			return false
		}
	}
	return len(buf) == 0
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
