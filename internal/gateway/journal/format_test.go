package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The format as it is written down, read without the package's own decoder:
// what a journal on a disk holds has to stay readable for later versions.
func TestTheFormatIsTheOneThatIsDocumented(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, options(3))
	for _, r := range []string{"first", "second"} {
		put(t, j, r)
	}
	mustClose(t, j)
	name := segments(t, dir)[0]
	if filepath.Base(name) != "0000000003-000001-00000000000000000001.segment" {
		t.Errorf("named %s", filepath.Base(name))
	}
	b, err := os.ReadFile(name)
	must(t, err)
	le := binary.LittleEndian
	if string(b[:8]) != "FNDRYJNL" || le.Uint32(b[8:]) != 1 || le.Uint32(b[12:]) != 7 || le.Uint32(b[16:]) != 3 || le.Uint64(b[24:]) != 1 {
		t.Fatalf("header % x", b[:32])
	}
	_, open := kek("test")
	ad := append([]byte("foundry/journal/segment-key/1"), b[12:20]...)
	key, err := open(b[76:76+le.Uint32(b[72:])], append(ad, b[56:72]...))
	must(t, err)
	aead, err := newAEAD(key)
	must(t, err)
	hash := sha256.Sum256(b[:4096])
	off := 8192
	for i, want := range []string{"\x05first", "\x06second", ""} {
		f := b[off:]
		n := int(le.Uint32(f[8:]))
		if string(f[:4]) != "FRAM" || le.Uint32(f[16:]) != uint32(i) || le.Uint64(f[24:]) != uint64(i+1) {
			t.Fatalf("frame %d % x", i, f[:36])
		}
		nonce := le.AppendUint32(nil, uint32(i)) // a number is used once per key
		plain, err := aead.Open(nil, append(nonce, make([]byte, 8)...), f[36:36+n],
			slices.Concat(hash[:], f[4:20], f[24:32]))
		if err != nil || string(plain) != want {
			t.Fatalf("frame %d: %q, %v", i, plain, err)
		}
		off += 36 + n
	}
	if off != len(b) {
		t.Fatalf("%d bytes, %d accounted for", len(b), off)
	}
}

func TestEverySegmentHasAKeyOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	names, _ := rotated(t, dir)
	seen := map[string]bool{}
	for _, n := range names {
		b, err := os.ReadFile(n)
		must(t, err)
		h, err := decodeHeader(b[:headerBytes])
		must(t, err)
		seen[string(h.sealed)], seen[string(h.id[:])] = true, true
	}
	if len(seen) != 2*len(names) {
		t.Fatalf("%d keys and identities for %d segments", len(seen), len(names))
	}
}

// The order of operations is what makes a segment whole once it has its name,
// and its deletion visible to a crash before the next one's.
func TestTheOrderOfOperationsIsDurable(t *testing.T) {
	var f faults
	o := options(1)
	o.Intercept = f.intercept
	dir := t.TempDir()
	j := mustOpen(t, dir, o)
	put(t, j, "x")
	name := segmentName(1, 1, 1)
	want := []string{
		"allocate " + name + ".new", "write " + name + ".new", "sync " + name + ".new", "rename " + name, "sync-dir .",
		"write " + name, "sync " + name,
	}
	if !slices.Equal(f.calls, want) {
		t.Errorf("creation:\n%s", strings.Join(f.calls, "\n"))
	}
	fill(t, j, 40, 4000)
	f.set(nil)
	must(t, j.Release(Position{1, j.Durable()}))
	if len(f.calls) < 4 {
		t.Fatalf("released nothing: %v", f.calls)
	}
	for i, call := range f.calls {
		if op, _, _ := strings.Cut(call, " "); op != []string{"remove", "sync-dir"}[i%2] {
			t.Errorf("release:\n%s", strings.Join(f.calls, "\n"))
		}
	}
	f.set(func(op, _ string) error {
		if op == "remove" {
			return errors.New("no")
		}
		return nil
	})
	fill(t, j, 40, 4000)
	before := j.Stats()
	if err := j.Release(Position{1, j.Durable()}); err == nil {
		t.Error("a failed deletion was not reported")
	}
	if after := j.Stats(); after.Segments != before.Segments || after.Bytes != before.Bytes {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestRecordsInABatchSurviveTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, "records")
		var buf []byte
		size := 0
		for _, r := range records {
			buf = appendRecord(buf, r)
			size += recordBytes(r)
		}
		if size != len(buf) {
			t.Fatalf("recordBytes says %d, it is %d", size, len(buf))
		}
		if !wellFormed(buf, uint32(len(records))) || wellFormed(buf, uint32(len(records)+1)) || len(records) > 0 && wellFormed(buf, uint32(len(records)-1)) {
			t.Fatal("wellFormed is wrong about the number")
		}
		for _, r := range records {
			var got []byte
			got, buf, _ = cutRecord(buf)
			if !bytes.Equal(got, r) {
				t.Fatalf("%q, want %q", got, r)
			}
		}
	})
}

func TestNamesOfSegmentsSortLikeTheirRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(l string) (uint32, uint32, uint64) {
			return rapid.Uint32().Draw(t, l), rapid.Uint32Range(1, 999_999).Draw(t, l), rapid.Uint64Range(1, 1<<62).Draw(t, l)
		}
		b1, n1, f1 := draw("one")
		b2, n2, f2 := draw("two")
		if boot, number, first, ok := parseName(segmentName(b1, n1, f1)); !ok || boot != b1 || number != n1 || first != f1 {
			t.Fatalf("%s does not parse back", segmentName(b1, n1, f1))
		}
		less := b1 < b2 || b1 == b2 && (n1 < n2 || n1 == n2 && f1 < f2)
		if less != (segmentName(b1, n1, f1) < segmentName(b2, n2, f2)) {
			t.Fatalf("%s against %s", segmentName(b1, n1, f1), segmentName(b2, n2, f2))
		}
	})
	for _, name := range []string{"", "x", "1-1-1.segment", segmentName(1, 1, 1) + ".new", segmentName(1, 1, 1) + "x", "0000000001-000001-0000000000000000000a.segment"} {
		if _, _, _, ok := parseName(name); ok {
			t.Errorf("%q parses", name)
		}
	}
}
