package journal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReleaseDeletesWholeSegmentsAndNothingUnshipped(t *testing.T) {
	origin := t.TempDir()
	_, last := rotated(t, origin)
	for upTo := uint64(0); upTo <= last; upTo += 3 {
		dir := copyDir(t, origin)
		j := mustOpen(t, dir, options(2))
		must(t, j.Release(Position{1, upTo}))
		g := readAll(t, j, Position{})
		if len(g.damage) != 0 || g.at == nil && upTo < last || g.at != nil && g.at[0].Seq > upTo+1 {
			t.Fatalf("released up to %d, reading begins at %v", upTo, g.at[:min(1, len(g.at))])
		}
		st := j.Stats()
		if st.Unreleased != (upTo < last) || st.Unreleased && st.Oldest != (Position{1, upTo + 1}) {
			t.Fatalf("released up to %d: %+v", upTo, st)
		}
		mustClose(t, j)
		again := readAll(t, mustOpen(t, dir, options(3)), Position{})
		if !slices.Equal(g.at, again.at) || len(again.damage) != 0 {
			t.Fatalf("released up to %d: before reopening %v, after %v", upTo, g.at, again.at)
		}
	}
}

func TestReleaseOfManyBootsKeepsTheNewestSegment(t *testing.T) {
	dir := t.TempDir()
	for boot := uint32(1); boot <= 4; boot++ {
		j := mustOpen(t, dir, options(boot))
		if boot != 3 { // an empty boot in between
			fill(t, j, 2, 50)
		}
		mustClose(t, j)
	}
	j := mustOpen(t, dir, options(5))
	must(t, j.Release(Position{2, 1}))
	readAll(t, j, Position{}).want(t, Position{2, 1}, Position{2, 2}, Position{4, 1}, Position{4, 2})
	must(t, j.Release(Position{2, 2}))
	if names := segments(t, dir); len(names) != 2 {
		t.Fatalf("segments left: %v", names)
	}
	must(t, j.Release(Position{4, 2}))
	must(t, j.Release(Position{1, 1})) // going back releases nothing more
	mustClose(t, j)
	if names := segments(t, dir); len(names) != 1 || filepath.Base(names[0]) != segmentName(5, 1, 1) {
		t.Fatalf("segments left: %v", names)
	}
	if _, err := Open(dir, options(5)); !errors.Is(err, ErrBoot) {
		t.Fatalf("a released journal forgot its boot number: %v", err)
	}
}

func TestAPositionAfterTheEndIsRefused(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options(2))
	put(t, j, "x")
	for _, p := range []Position{{2, 2}, {3, 1}} {
		if _, err := j.Read(p, 1, 1, nil); !errors.Is(err, ErrPosition) {
			t.Errorf("Read after %v: %v", p, err)
		}
		if err := j.Release(p); !errors.Is(err, ErrPosition) {
			t.Errorf("Release up to %v: %v", p, err)
		}
	}
}

func TestReadStopsAtItsBoundsAndAtAnError(t *testing.T) {
	j := mustOpen(t, t.TempDir(), options(1))
	var tk Ticket
	for i := range 20 {
		var err error
		tk, err = j.Append([]byte(content(1, uint64(i+1), 100)))
		must(t, err)
	}
	must(t, tk.Wait(t.Context()))
	for _, c := range []struct {
		name    string
		records int
		bytes   int
		want    uint64
	}{
		{"records", 3, 1 << 20, 3},
		{"bytes", 100, 350, 3},
		{"bytes, exactly", 100, 400, 4},
		{"one record whatever its size", 100, 1, 1},
		{"nothing asked for", 0, 100, 0},
		{"everything", 100, 1 << 20, 20},
	} {
		n := uint64(0)
		pos, err := j.Read(Position{}, c.records, c.bytes, func(Entry) error { n++; return nil })
		if err != nil || n != c.want || c.want > 0 && pos != (Position{1, c.want}) {
			t.Errorf("%s: %d records, %v, %v; want %d", c.name, n, pos, err, c.want)
		}
	}
	stop := errors.New("the database is away")
	n := uint64(0)
	pos, err := j.Read(Position{}, 100, 1<<20, func(e Entry) error {
		if n++; n == 6 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || pos != (Position{1, 5}) {
		t.Fatalf("%v, %v", pos, err)
	}
	readAll(t, j, pos).want(t, span(1, 6, 20)...) // the sixth comes again
}

// A shipper that keeps up reads what is new, not the segment again.
func TestTailingReadsNothingTwice(t *testing.T) {
	o := options(1)
	o.SegmentBytes, o.MaxBytes = 8<<20, 64<<20
	j := mustOpen(t, memoryDir(t), o)
	pos := Position{}
	take := func() {
		var err error
		pos, err = j.Read(pos, 1000, 1<<20, func(Entry) error { return nil })
		must(t, err)
	}
	fill(t, j, 1500, 3000)
	for pos.Seq < 1500 {
		take()
	}
	scan := j.cursor.scan
	for range 20 {
		before := scan.off
		fill(t, j, 1, 3000)
		take()
		if j.cursor.scan != scan || scan.off-before > 4000 {
			t.Fatalf("moved from %d to %d", before, scan.off)
		}
	}
	// And one that has to go back starts near, from a mark.
	if len(j.segs[0].marks) < 3 {
		t.Fatalf("marks: %v", j.segs[0].marks)
	}
	must(t, j.seek(Position{1, 1400}))
	if j.cursor.scan.off < 3<<20 || j.cursor.scan.seq > 1401 {
		t.Fatalf("seeking record 1401 starts at %d, record %d", j.cursor.scan.off, j.cursor.scan.seq)
	}
	g := readAll(t, j, Position{1, 1400})
	g.want(t, span(1, 1401, 1520)...)
	if len(g.damage) != 0 {
		t.Fatalf("damage: %v", g.damage)
	}
}

func TestASegmentThatDisappearsWhileOpenIsReported(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, options(1))
	fill(t, j, 60, 4000)
	names := segments(t, dir)
	must(t, os.Remove(names[1]))
	g := readAll(t, j, Position{})
	if len(g.damage) != 1 || g.damage[0].Detail != "The segment's file is gone." {
		t.Fatalf("damage: %v", g.damage)
	}
	d := g.damage[0]
	want := append(span(1, 1, d.First-1), span(1, d.Last+1, 60)...)
	g.want(t, want...)
}
