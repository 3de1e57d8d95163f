package scratch

import "encoding/binary"

// How PostgreSQL is compiled unless its builder wanted it otherwise; what
// pg_controldata says is compared with it.
const (
	pageBytes    = 8192
	segmentPages = 131072 // of a file: a larger relation has several
)

// Where a page keeps its checksum, and the end of its free space, which is 0 in
// a page that was never used (storage/bufpage.h, PageHeaderData).
const (
	checksumAt = 8
	upperAt    = 14
)

const sums = 32 // partial sums of a page's checksum

// checksumPrime and checksumBase are FNV-1a's prime and what the partial sums
// begin with (storage/checksum_impl.h).
const checksumPrime = 16777619

var checksumBase = [sums]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// pageGood reports whether a page is as PostgreSQL takes one from the disk
// (storage/page/bufpage.c, PageIsVerifiedExtended): it matches its checksum,
// which its number in the relation is part of, or it is nothing but zeros.
func pageGood(page *[pageBytes]byte, block uint32) bool {
	if page[upperAt] == 0 && page[upperAt+1] == 0 {
		return *page == [pageBytes]byte{}
	}
	return binary.NativeEndian.Uint16(page[checksumAt:]) == pageChecksum(page, block)
}

// pageChecksum is the checksum of a page, for which its own place in it counts
// as zero.
func pageChecksum(page *[pageBytes]byte, block uint32) uint16 {
	var stored [2]byte
	copy(stored[:], page[checksumAt:])
	page[checksumAt], page[checksumAt+1] = 0, 0
	var all uint32
	// Eight of the sums at a time stay in registers.
	for lane := 0; lane < sums; lane += 8 {
		all ^= eight(page, lane)
	}
	copy(page[checksumAt:], stored[:])
	return uint16((all^block)%65535) + 1 //nolint:gosec // less than 65535
}

// eight computes eight neighbouring partial sums over a page, and joins them.
func eight(page *[pageBytes]byte, lane int) uint32 {
	b := checksumBase[lane : lane+8 : lane+8]
	s0, s1, s2, s3, s4, s5, s6, s7 := b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
	for at := lane * 4; at < pageBytes; at += sums * 4 {
		w := page[at : at+32 : at+32]
		s0 = mix(s0, binary.NativeEndian.Uint32(w[0:]))
		s1 = mix(s1, binary.NativeEndian.Uint32(w[4:]))
		s2 = mix(s2, binary.NativeEndian.Uint32(w[8:]))
		s3 = mix(s3, binary.NativeEndian.Uint32(w[12:]))
		s4 = mix(s4, binary.NativeEndian.Uint32(w[16:]))
		s5 = mix(s5, binary.NativeEndian.Uint32(w[20:]))
		s6 = mix(s6, binary.NativeEndian.Uint32(w[24:]))
		s7 = mix(s7, binary.NativeEndian.Uint32(w[28:]))
	}
	for range 2 {
		s0, s1, s2, s3, s4, s5, s6, s7 = mix(s0, 0), mix(s1, 0), mix(s2, 0), mix(s3, 0), mix(s4, 0), mix(s5, 0), mix(s6, 0), mix(s7, 0)
	}
	return s0 ^ s1 ^ s2 ^ s3 ^ s4 ^ s5 ^ s6 ^ s7
}

func mix(sum, word uint32) uint32 {
	t := sum ^ word
	return t*checksumPrime ^ t>>17
}
