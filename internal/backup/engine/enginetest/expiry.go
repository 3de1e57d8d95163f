package enginetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

// history makes full, later, full, later, full, each of its own second.
func (w World) history(t testing.TB) (points []engine.Point) {
	t.Helper()
	w.prepare(t)
	for i, kind := range []engine.Type{w.full(), w.incremental(), w.full(), w.incremental(), w.full()} {
		w.write(t, fmt.Sprintf("mark %d", i))
		points = append(points, w.backup(t, kind))
		pause(t)
	}
	return points
}

func expires(t *testing.T, w World) {
	p := w.history(t)
	// The moment right after the fourth: the fourth serves it, and needs the third.
	x, err := w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: p[3].Stopped.Add(time.Second)})
	if err != nil {
		t.Fatal(explain(err))
	}
	gone := []string{p[0].Label, p[1].Label}
	kept := []string{p[2].Label, p[3].Label}
	if !w.Continuous {
		gone, kept = []string{p[0].Label, p[1].Label, p[2].Label}, []string{p[3].Label}
	}
	if !slices.Equal(sorted(x.Gone), sorted(gone)) || !slices.Equal(sorted(x.KeptForChain), sorted(kept)) {
		t.Errorf("gone %q, kept for the chain %q; want %q, %q", x.Gone, x.KeptForChain, gone, kept)
	}
	if got, want := w.labels(t), append(kept, p[4].Label); !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("left are %q, want %q", got, want)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}

// lastStays has everything expire, of which the last good chain has to stay.
func lastStays(t *testing.T, w World) {
	w.prepare(t)
	w.backup(t, w.full())
	pause(t)
	base := w.backup(t, w.full())
	w.write(t, "one")
	pause(t)
	last := w.backup(t, w.incremental())
	x, err := w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(explain(err))
	}
	want := []string{last.Label}
	if w.Continuous {
		want = []string{base.Label, last.Label}
	}
	if got := w.labels(t); !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q (%+v)", got, want, x)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}

func holds(t *testing.T, w World) {
	p := w.history(t)
	x, err := w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour), Held: []string{p[1].Label}})
	if err != nil {
		t.Fatal(explain(err))
	}
	if !slices.Contains(x.KeptByHold, p[1].Label) {
		t.Errorf("kept by hold %q, want %s", x.KeptByHold, p[1].Label)
	}
	labels := w.labels(t)
	for _, needed := range append([]string{p[1].Label}, p[1].Requires...) {
		if !slices.Contains(labels, needed) {
			t.Errorf("%s is gone, but it is held or required by what is held; left are %q", needed, labels)
		}
	}
	if slices.Contains(labels, p[3].Label) {
		t.Errorf("%s is still there, though nothing holds it", p[3].Label)
	}
	to := w.restore(t, engine.RestoreRequest{Label: p[1].Label, Time: p[1].Stopped.Add(500 * time.Millisecond)})
	same(t, to, "mark 0", "mark 1")
}

func dryRun(t *testing.T, w World) {
	w.prepare(t)
	w.backup(t, w.full())
	pause(t)
	old := w.labels(t)
	w.backup(t, w.full())
	x, err := w.Engine.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour), DryRun: true})
	if err != nil || !slices.Equal(sorted(x.Gone), sorted(old)) {
		t.Fatalf("got %+v, %v; want that %q would go", x, err, old)
	}
	if n := len(w.points(t)); n != len(old)+1 {
		t.Errorf("%d points are left, want %d", n, len(old)+1)
	}
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
