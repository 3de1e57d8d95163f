package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// fuzzSegment is a segment of boot 1 with fixed key and identity, so that the
// seeds are valid frames whose parts a fuzzer can recombine.
func fuzzSegment(t testing.TB, build func(add func(kind uint32, first uint64, records ...string))) []byte {
	t.Helper()
	seal, _ := kek("test")
	h := header{node: 7, boot: 1, number: 1, first: 1}
	key := bytes.Repeat([]byte{1}, keyBytes)
	aead, err := newAEAD(key)
	must(t, err)
	h.sealed, err = seal(key, h.associated())
	must(t, err)
	raw := h.encode(aead)
	hash := sha256.Sum256(raw)
	out := append(append([]byte(nil), raw...), raw...)
	var s sealer
	number := uint32(0)
	build(func(kind uint32, first uint64, records ...string) {
		var plain []byte
		for _, r := range records {
			plain = appendRecord(plain, []byte(r))
		}
		out = s.seal(out, aead, &hash, frameHead{kind: kind, count: uint32(len(records)), number: number, first: first}, plain)
		number++
	})
	return out
}

func seedSegments(t testing.TB) [][]byte {
	plain := fuzzSegment(t, func(add func(uint32, uint64, ...string)) {
		add(kindRecords, 1, "1/1 ", "1/2 ")
		add(kindRecords, 3, "1/3 ")
		add(kindRecords, 9, "1/9 after a gap", "")
	})
	closed := fuzzSegment(t, func(add func(uint32, uint64, ...string)) {
		add(kindRecords, 1, "1/1 ")
		add(kindEnd, 2)
	})
	hole := append([]byte(nil), plain...)
	hole[dataStart+frameHeader] ^= 1
	return [][]byte{
		nil, plain, closed, hole, plain[:dataStart], plain[:len(plain)-1], plain[:headerBytes+7],
		append(append([]byte(nil), closed...), plain[dataStart:]...),
		append(append([]byte(nil), plain...), make([]byte, 300)...),
		append(append([]byte(nil), plain...), bytes.Repeat([]byte("FRAM"), 40)...),
		fuzzSegment(t, func(add func(uint32, uint64, ...string)) { add(kindEnd, 1); add(kindRecords, 1, "x") }),
		fuzzSegment(t, func(add func(uint32, uint64, ...string)) { add(kindRecords, 5, "x"); add(kindRecords, 2, "y") }),
	}
}

// FuzzFrames feeds the scanner arbitrary frames after a good header: it must
// not panic, not hand out what does not authenticate, and account for every byte.
func FuzzFrames(f *testing.F) {
	for _, s := range seedSegments(f) {
		if len(s) > dataStart {
			f.Add(s[dataStart:], uint64(0))
			f.Add(s[dataStart:], uint64(4))
		}
	}
	base := fuzzSegment(f, func(func(uint32, uint64, ...string)) {})
	h, err := decodeHeader(base[:headerBytes])
	must(f, err)
	_, open := kek("test")
	aead, err := h.unseal(base[:headerBytes], open)
	must(f, err)
	f.Fuzz(func(t *testing.T, frames []byte, limit uint64) {
		b := append(append([]byte(nil), base...), frames...)
		for _, keyed := range []bool{true, false} {
			s := &segment{name: "s", header: h, hash: sha256.Sum256(base[:headerBytes]), size: int64(len(b))}
			if keyed {
				s.aead = aead
			}
			for _, l := range []uint64{unknown, limit} {
				sc := newScanner(bytes.NewReader(b), s.size, s)
				at, last := sc.off, sc.seq-1
				for {
					ev, d := sc.step(l)
					if sc.off < at || sc.off > s.size {
						t.Fatalf("from %d to %d of %d", at, sc.off, s.size)
					}
					if ev == atDamage && d.Bytes < 0 {
						t.Fatalf("damage %+v", d)
					}
					if ev == atFrame {
						if sc.off <= at || sc.head.first <= last && last != 0 || l != unknown && sc.head.first > l {
							t.Fatalf("frame %+v at %d after record %d", sc.head, sc.at, last)
						}
						if keyed && !wellFormed(sc.plain, sc.head.count) {
							t.Fatal("a malformed batch was accepted")
						}
						last = sc.head.first + uint64(sc.head.count) - 1
					}
					stuck := sc.off == at
					at = sc.off
					if ev == atTail || ev == atEnd || ev == atDamage && (stuck || sc.off == s.size) {
						break
					}
				}
			}
		}
	})
}

// FuzzSegment puts arbitrary bytes in a segment's file: Inspect and Open must
// not panic, a refused file must be left as it was, and what Open accepts must
// be readable.
func FuzzSegment(f *testing.F) {
	for _, s := range seedSegments(f) {
		f.Add(s)
	}
	_, open := kek("test")
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := memoryDir(t)
		name := filepath.Join(dir, segmentName(1, 1, 1))
		must(t, os.WriteFile(name, b, 0o600))
		if _, err := Inspect(dir, open); err != nil && len(b) < headerBytes {
			t.Fatalf("Inspect: %v", err)
		}
		j, err := Open(dir, options(2))
		if err != nil {
			if after, _ := os.ReadFile(name); !bytes.Equal(after, b) {
				t.Fatalf("Open refused with %v, but changed the file", err)
			}
			if j, err = Open(dir, around(2)); err != nil {
				return // no key, or a newer version
			}
		}
		defer j.Close(context.Background())
		after := Position{}
		for range 1000 {
			pos, err := j.Read(after, 10, 1<<20, func(e Entry) error { return nil })
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("Read: %v", err)
			}
			if err == nil && pos == after {
				return
			}
			if pos.Before(after) {
				t.Fatalf("Read went back from %v to %v", after, pos)
			}
			after = pos
		}
		t.Fatal("Read does not end")
	})
}
