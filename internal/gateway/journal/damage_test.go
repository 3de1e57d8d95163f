package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// crashed makes a journal of boot 1 with n records, one frame each, as kill -9
// leaves it: without the end frame. It returns where each frame begins, and
// where the last one ends.
func crashed(t testing.TB, dir string, n, size int) (frames []int64) {
	t.Helper()
	o := options(1)
	o.Intercept = func(op, file string) error { return nil }
	j := mustOpen(t, dir, o)
	frames = append(frames, j.live.end)
	for range n {
		put(t, j, content(1, j.Durable()+1, size))
		j.list.Lock()
		frames = append(frames, j.live.end)
		j.list.Unlock()
	}
	j.dir.intercept = func(op, file string) error { return errors.New("crashed") } // the committer is idle
	_ = j.Close(context.Background())
	if st := j.Stats(); st.Segments != 1 {
		t.Fatalf("%d segments, want 1", st.Segments)
	}
	return frames
}

// rotated makes a journal of boot 1 with several segments and closes it.
func rotated(t testing.TB, dir string) (names []string, last uint64) {
	t.Helper()
	j := mustOpen(t, dir, options(1))
	fill(t, j, 60, 4000)
	last = j.Durable()
	mustClose(t, j)
	if names = segments(t, dir); len(names) < 4 {
		t.Fatalf("only %d segments", len(names))
	}
	return names, last
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func edit(t testing.TB, name string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func around(boot uint32) Options {
	o := options(boot)
	o.ReadAround = true
	return o
}

func TestATornTailIsCutOffAtEveryByteOfTheLastFrame(t *testing.T) {
	origin := memoryDir(t)
	frames := crashed(t, origin, 3, 60)
	start, end := frames[2], frames[3]
	dir := memoryDir(t)
	whole, err := os.ReadFile(segments(t, origin)[0])
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, filepath.Base(segments(t, origin)[0]))
	for _, kind := range []string{"cut", "zeros"} {
		for at := start; at <= end; at++ {
			torn := append([]byte(nil), whole[:at]...)
			if kind == "zeros" { // preallocated, as after a power failure
				torn = append(torn, make([]byte, len(whole)-int(at))...)
			}
			for _, old := range segments(t, dir) {
				_ = os.Remove(old)
			}
			if err := os.WriteFile(name, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			j := mustOpen(t, dir, options(2))
			last, lost := uint64(2), len(bytes.TrimRight(torn, "\x00"))-int(start)
			if at == end || kind == "zeros" && bytes.Equal(torn, whole[:len(torn)]) {
				last, lost = 3, 0
			}
			readAll(t, j, Position{}).want(t, span(1, 1, last)...)
			if info, err := os.Stat(name); err != nil || info.Size() != frames[last] {
				t.Fatalf("%s at %d: the file has %d bytes, its frames end at %d", kind, at, info.Size(), frames[last])
			}
			if st := j.Stats(); st.TornBytes != int64(max(0, lost)) || len(st.Damaged) != 0 {
				t.Fatalf("%s at %d: torn %d, want %d; damage %v", kind, at, st.TornBytes, lost, st.Damaged)
			}
			put(t, j, content(2, 1, 0))
			readAll(t, j, Position{}).want(t, append(span(1, 1, last), Position{2, 1})...)
			mustClose(t, j)
		}
	}
}

// Every single byte of a segment with frames, flipped: what was written before
// and after is still read, and something always says that the file changed.
func TestAFlippedByteAnywhereIsDetected(t *testing.T) {
	origin := memoryDir(t)
	j := mustOpen(t, origin, options(1))
	for range 4 {
		put(t, j, content(1, j.Durable()+1, 30))
	}
	mustClose(t, j)
	base := segments(t, origin)[0]
	whole, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	_, open := kek("test")
	dir := memoryDir(t)
	name := filepath.Join(dir, filepath.Base(base))
	end := len(whole) - frameOverhead // where the records end
	for at := 0; at < len(whole); at++ {
		if at > 200 && at < headerTag || at > headerBytes+200 && at < headerBytes+headerTag {
			at += 96 // the headers' zeros: sampled
		}
		bad := append([]byte(nil), whole...)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		reports, err := Inspect(dir, open)
		if err != nil || len(reports) != 1 {
			t.Fatalf("byte %d: %v, %d reports", at, err, len(reports))
		}
		want := StateCorrupt
		if at >= end {
			want = StateTorn // the end frame alone: no record is concerned
		}
		if r := reports[0]; r.State != want {
			t.Fatalf("byte %d: Inspect says %s: %+v", at, r.State, r)
		}
		j, err := Open(dir, options(2))
		switch {
		case at < dataStart: // the other copy of the header serves
			if err != nil {
				t.Fatalf("byte %d of the headers: %v", at, err)
			}
			if st := j.Stats(); len(st.Damaged) != 1 || st.LostRecords != 0 {
				t.Fatalf("byte %d of the headers: %+v", at, st.Damaged)
			}
		case at >= end:
			if err != nil || j.Stats().TornBytes == 0 {
				t.Fatalf("byte %d of the end frame: %v", at, err)
			}
		default:
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d: Open says %v", at, err)
			}
			if after, _ := os.ReadFile(name); !bytes.Equal(after, bad) {
				t.Fatalf("byte %d: Open refused but changed the file", at)
			}
			j, err = Open(dir, around(2))
			if err != nil {
				t.Fatalf("byte %d: reading around: %v", at, err)
			}
		}
		g := readAll(t, j, Position{})
		lost := 4 - len(g.at)
		if at >= dataStart && at < end && (lost != 1 || len(g.damage) != 1 || g.damage[0].First != g.damage[0].Last || slices.Contains(g.at, Position{1, g.damage[0].First})) {
			t.Fatalf("byte %d: read %v, damage %v", at, g.at, g.damage)
		}
		if (at < dataStart || at >= end) && lost != 0 {
			t.Fatalf("byte %d costs no record, yet read %v", at, g.at)
		}
		if at < dataStart && len(g.damage) != 1 {
			t.Fatalf("byte %d: Read did not report the damaged header", at)
		}
		if err := j.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, s := range segments(t, dir) {
			_ = os.Remove(s)
		}
	}
}

func TestDamageInAnOldSegmentIsReadAroundAndReportedOnce(t *testing.T) {
	for _, sameStart := range []bool{false, true} {
		dir := t.TempDir()
		names, last := rotated(t, dir)
		edit(t, names[1], func(b []byte) []byte { b[dataStart+2*4100] ^= 0x40; return b })
		j := mustOpen(t, dir, options(2))
		var at []Position
		var damage *Damage
		after := Position{}
		for range 200 {
			start := after
			pos, err := j.Read(after, 5, 1<<20, func(e Entry) error { at = append(at, Position{e.Boot, e.Seq}); return nil })
			if errors.As(err, &damage) {
				if pos.Seq != damage.Last {
					t.Fatalf("position %v after %v", pos, damage)
				}
				if sameStart { // a shipper that ignores the position goes on all the same
					pos = start
				}
			} else if err != nil {
				t.Fatal(err)
			}
			after = pos
		}
		if damage == nil || damage.First != damage.Last || damage.Segment != filepath.Base(names[1]) {
			t.Fatalf("damage: %+v", damage)
		}
		want := slices.DeleteFunc(span(1, 1, last), func(p Position) bool { return p.Seq == damage.First })
		if !slices.Equal(at, want) {
			t.Fatalf("read %v, want all but %d", at, damage.First)
		}
		if st := j.Stats(); st.LostRecords != 1 || len(st.Damaged) != 1 {
			t.Fatalf("Stats: %+v", st)
		}
		// Once shipped past it, the damaged file is set aside for people.
		put(t, j, content(2, 1, 0))
		if err := j.Release(Position{1, last}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(names[1] + damagedSuffix); err != nil {
			t.Fatal(err)
		}
		if left := segments(t, dir); len(left) != 1 {
			t.Fatalf("left after release: %v", left)
		}
		mustClose(t, j)
	}
}

func TestTamperingWithFramesIsDetected(t *testing.T) {
	frame := func(b []byte, frames []int64, i int) []byte {
		return append([]byte(nil), b[frames[i]:frames[i+1]]...)
	}
	for _, c := range []struct {
		name   string
		change func(b []byte, f []int64) []byte
		read   []Position
	}{
		{"two frames swapped: order is kept and one is missing", func(b []byte, f []int64) []byte {
			x, y := frame(b, f, 1), frame(b, f, 2)
			copy(b[f[1]:], y)
			copy(b[f[2]:], x)
			return b
		}, []Position{{1, 1}, {1, 3}, {1, 4}, {1, 5}}},
		{"a frame removed", func(b []byte, f []int64) []byte {
			return slices.Delete(b, int(f[2]), int(f[3]))
		}, []Position{{1, 1}, {1, 2}, {1, 4}, {1, 5}}},
		{"the first frame removed", func(b []byte, f []int64) []byte {
			return slices.Delete(b, int(f[0]), int(f[1]))
		}, span(1, 2, 5)},
		{"a frame repeated", func(b []byte, f []int64) []byte {
			return slices.Insert(b, int(f[3]), frame(b, f, 2)...)
		}, span(1, 1, 5)},
		{"a frame put over another", func(b []byte, f []int64) []byte {
			copy(b[f[3]:], frame(b, f, 1))
			return b
		}, []Position{{1, 1}, {1, 2}, {1, 3}, {1, 5}}},
		{"a frame zeroed", func(b []byte, f []int64) []byte {
			clear(b[f[1]:f[2]])
			return b
		}, []Position{{1, 1}, {1, 3}, {1, 4}, {1, 5}}},
		{"junk pushed in between", func(b []byte, f []int64) []byte {
			return slices.Insert(b, int(f[2]), []byte("FRAM or not, this is no frame")...)
		}, span(1, 1, 5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			frames := crashed(t, dir, 5, 50)
			edit(t, segments(t, dir)[0], func(b []byte) []byte { return c.change(b, frames) })
			if _, err := Open(dir, options(2)); !errors.Is(err, ErrDamaged) {
				t.Fatalf("Open: %v", err)
			}
			_, open := kek("test")
			if r, err := Inspect(dir, open); err != nil || r[0].State != StateCorrupt {
				t.Fatalf("Inspect: %v %+v", err, r)
			}
			g := readAll(t, mustOpen(t, dir, around(2)), Position{})
			g.want(t, c.read...)
			if len(g.damage) == 0 {
				t.Fatal("Read reported nothing")
			}
		})
	}
}

func TestTamperingWithSegmentsIsDetected(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, names []string)
	}{
		{"one in the middle removed", func(t *testing.T, n []string) { must(t, os.Remove(n[1])) }},
		{"two swapped", func(t *testing.T, n []string) {
			must(t, os.Rename(n[1], n[1]+"x"))
			must(t, os.Rename(n[2], n[1]))
			must(t, os.Rename(n[1]+"x", n[2]))
		}},
		{"one put over another", func(t *testing.T, n []string) {
			b, err := os.ReadFile(n[1])
			must(t, err)
			must(t, os.WriteFile(n[2], b, 0o600))
		}},
		{"the frames of one under the header of another", func(t *testing.T, n []string) {
			x, err := os.ReadFile(n[0])
			must(t, err)
			edit(t, n[1], func(b []byte) []byte { return append(b[:dataStart], x[dataStart:]...) })
		}},
		{"one shortened at a frame", func(t *testing.T, n []string) {
			edit(t, n[1], func(b []byte) []byte {
				h, _ := decodeFrameHead(b[dataStart:])
				return b[:dataStart+frameHeader+int(h.length)]
			})
		}},
		{"one emptied to its header", func(t *testing.T, n []string) { must(t, os.Truncate(n[1], dataStart)) }},
		{"one emptied", func(t *testing.T, n []string) { must(t, os.Truncate(n[1], 0)) }},
		{"both headers broken", func(t *testing.T, n []string) {
			edit(t, n[1], func(b []byte) []byte { b[30]++; b[headerBytes+30]++; return b })
		}},
		{"a header rewritten with a good checksum", func(t *testing.T, n []string) {
			edit(t, n[1], func(b []byte) []byte {
				forged := append([]byte(nil), b[:headerBytes]...)
				forged[48] ^= 1 // the time of creation: the key still opens
				rechecksum(forged)
				return append(append(forged, forged...), b[dataStart:]...)
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			names, last := rotated(t, dir)
			c.change(t, names)
			_, open := kek("test")
			reports, err := Inspect(dir, open)
			must(t, err)
			if !slices.ContainsFunc(reports, func(r Report) bool { return r.State == StateCorrupt }) {
				t.Fatalf("Inspect: %+v", reports)
			}
			// A journal that goes on after the loss has to say so, and to keep the rest.
			j := mustOpen(t, dir, around(2))
			put(t, j, content(2, 1, 0))
			g := readAll(t, j, Position{})
			if len(g.damage) == 0 {
				t.Fatal("Read reported nothing")
			}
			if len(g.at) >= int(last)+1 || g.at[len(g.at)-1] != (Position{2, 1}) || !slices.Contains(g.at, Position{1, last}) || g.at[0] != (Position{1, 1}) {
				t.Fatalf("read %v", g.at)
			}
			if !slices.IsSortedFunc(g.at, func(a, b Position) int {
				if a.Before(b) {
					return -1
				}
				return 1
			}) {
				t.Fatalf("out of order: %v", g.at)
			}
			// Every record is either read or named as lost.
			for seq := uint64(1); seq <= last; seq++ {
				named := slices.ContainsFunc(g.damage, func(d *Damage) bool {
					return d.Boot == 1 && d.First != 0 && d.First <= seq && (d.Last == 0 || seq <= d.Last)
				})
				if !named && !slices.Contains(g.at, Position{1, seq}) {
					t.Fatalf("record %d is neither read nor reported; damage %v", seq, g.damage)
				}
			}
		})
	}
}

func TestAForgedHeaderIsDetectedEvenWithNoFrameBehindIt(t *testing.T) {
	dir := t.TempDir()
	crashed(t, dir, 0, 0)
	edit(t, segments(t, dir)[0], func(b []byte) []byte {
		b[40] ^= 1 // the last record of the segment before
		rechecksum(b[:headerBytes])
		copy(b[headerBytes:dataStart], b[:headerBytes])
		return b
	})
	if _, err := Open(dir, options(2)); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Open: %v", err)
	}
	_, open := kek("test")
	if r, err := Inspect(dir, open); err != nil || r[0].State != StateCorrupt {
		t.Fatalf("Inspect: %v %+v", err, r)
	}
}

func TestTheOldestSegmentsMayBeGone(t *testing.T) {
	dir := t.TempDir()
	names, last := rotated(t, dir)
	must(t, os.Remove(names[0])) // as Release does
	j := mustOpen(t, dir, options(2))
	_, _, first, _ := parseName(filepath.Base(names[1]))
	g := readAll(t, j, Position{})
	g.want(t, span(1, first, last)...)
	if len(g.damage) != 0 {
		t.Fatalf("damage %v", g.damage)
	}
}

func TestAnUnreadablePageCostsOnlyItsFrames(t *testing.T) {
	dir := t.TempDir()
	crashed(t, dir, 12, 3000)
	name := segments(t, dir)[0]
	b, err := os.ReadFile(name)
	must(t, err)
	_, open := kek("test")
	h, err := decodeHeader(b[:headerBytes])
	must(t, err)
	s := &segment{name: filepath.Base(name), header: h, size: int64(len(b))}
	s.hash = sum256(b[:headerBytes])
	s.aead, err = h.unseal(b[:headerBytes], open)
	must(t, err)
	bad := badDisk{bytes.NewReader(b), dataStart + 5*pageBytes}
	sum := newScanner(bad, s.size, s).walk(unknown)
	if len(sum.damage) != 1 || sum.records < 9 || sum.last != 12 {
		t.Fatalf("%+v", sum)
	}
	if d := sum.damage[0]; d.Last-d.First+1 != 12-sum.records {
		t.Fatalf("read %d, damage %v", sum.records, d)
	}
}

// badDisk fails every read that touches one page.
type badDisk struct {
	r   *bytes.Reader
	bad int64
}

func (d badDisk) ReadAt(b []byte, off int64) (int, error) {
	if off < d.bad+pageBytes && off+int64(len(b)) > d.bad {
		if off < d.bad {
			n, _ := d.r.ReadAt(b[:d.bad-off], off)
			return n, errors.New("input/output error")
		}
		return 0, errors.New("input/output error")
	}
	return d.r.ReadAt(b, off)
}

func TestInspectDescribesAHealthyJournalAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	names, last := rotated(t, dir)
	before := map[string][]byte{}
	for _, n := range names {
		before[n], _ = os.ReadFile(n)
	}
	_, open := kek("test")
	_, wrong := kek("another")
	for name, c := range map[string]struct {
		open func(a, b []byte) ([]byte, error)
		want State
	}{"with the key": {open, StateOK}, "without a key": {nil, StateSealed}, "with the wrong key": {wrong, StateSealed}} {
		reports, err := Inspect(dir, c.open)
		must(t, err)
		var records uint64
		for i, r := range reports {
			records += r.Records
			if r.State != c.want || r.Node != 7 || r.Boot != 1 || len(r.Damage) != 0 || r.Closed != (i == len(reports)-1) {
				t.Errorf("%s: %+v", name, r)
			}
			if i > 0 && r.First != reports[i-1].Last+1 {
				t.Errorf("%s: %d begins at %d, the one before ends at %d", name, i, r.First, reports[i-1].Last)
			}
		}
		if records != last {
			t.Errorf("%s: %d records, want %d", name, records, last)
		}
	}
	for _, n := range names {
		if after, _ := os.ReadFile(n); !bytes.Equal(after, before[n]) {
			t.Errorf("%s was changed", n)
		}
	}
	j := mustOpen(t, dir, options(2))
	put(t, j, "x")
	reports, err := Inspect(dir, open)
	must(t, err)
	if r := reports[len(reports)-1]; r.State != StateOpen || r.Last != 1 || r.Boot != 2 {
		t.Errorf("of a running journal: %+v", r)
	}
}

func TestANewerVersionIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, options(1)))
	edit(t, segments(t, dir)[0], func(b []byte) []byte {
		for _, h := range [][]byte{b[:headerBytes], b[headerBytes:dataStart]} {
			h[8] = version + 1
			rechecksum(h)
		}
		return b
	})
	_, err := Open(dir, around(2))
	if err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Fatalf("Open: %v", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func rechecksum(h []byte) {
	c := checksum(h[:headerCRC])
	h[headerCRC], h[headerCRC+1], h[headerCRC+2], h[headerCRC+3] = byte(c), byte(c>>8), byte(c>>16), byte(c>>24)
}

func sum256(b []byte) [32]byte { return sha256.Sum256(b) }
