package backup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/scratch/scratchtest"
	"github.com/missionopsai/foundry/internal/backup/target"
)

// halfway is an engine that is killed behind the first backup that it removes.
type halfway struct {
	*scratchtest.Plain
	goes []string
}

func (h *halfway) Expire(_ context.Context, t target.Target, r engine.ExpireRequest) (engine.Expired, error) {
	if err := r.Plan(h.goes); err != nil {
		return engine.Expired{}, err
	}
	return engine.Expired{}, errors.Join(os.RemoveAll(filepath.Join(t.Path, h.goes[0])), errors.New("killed"))
}

// What an expiry removed before it was killed is not called lost: it had said
// what it was about to remove.
func TestWhatAKilledExpiryRemovedIsNotCalledLost(t *testing.T) {
	var e *halfway
	h := newHouse(t, func(h *house, o *Options) { e = &halfway{Plain: h.plain}; o.Database = e })
	for range 3 {
		h.backUp()
	}
	h.settle()
	points, err := h.plain.Points(t.Context(), h.target)
	if err != nil || len(points) != 3 {
		t.Fatalf("%+v %v", points, err)
	}
	e.goes = []string{points[1].Label, points[0].Label}
	j := h.done(h.b.StartExpire(t.Context(), operator, TargetRequest{}))
	if j.State != Failed || !slices.Equal(j.Runs[0].Gone, e.goes) {
		t.Fatalf("%+v", j.Runs[0])
	}
	if j := h.done(h.b.StartVerify(t.Context(), operator, TargetRequest{})); j.State != Done {
		t.Errorf("verify: %+v", j.Runs[0])
	}
	if start := h.b.oldestStart(t.Context(), "one"); start != points[2].StartWAL {
		t.Errorf("the log has to begin with %s, want %s: the others were about to go", start, points[2].StartWAL)
	}
	why := map[string]string{}
	all, err := h.b.Points(t.Context(), operator, Filter{Gone: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		why[p.Label] = p.GoneWhy
	}
	if len(why) != 3 || why[points[0].Label] != "" || why[points[1].Label] != whyPlanned || why[points[2].Label] != "" {
		t.Errorf("why they are gone: %q", why)
	}

	// What nobody meant to remove still is.
	if err := os.RemoveAll(filepath.Join(h.target.Path, points[2].Label)); err != nil {
		t.Fatal(err)
	}
	if j := h.done(h.b.StartVerify(t.Context(), operator, TargetRequest{})); j.State != Failed {
		t.Errorf("verify, with a backup that was taken away: %+v", j.Runs[0])
	}
}

// An engine is told what is held, and asked afterwards whether it is there: a
// hold is a promise to a court.
func TestAnEngineThatRemovesWhatIsHeldIsFoundOut(t *testing.T) {
	l := &liar{}
	h := newHouse(t, func(h *house, o *Options) { l.Plain, o.Database = h.plain, l })
	ctx := t.Context()
	h.backUp()
	h.backUp()
	if _, err := h.b.Hold(ctx, security, NewHold{Label: "P001", Reason: "for the court case", Ticket: "T-1"}); err != nil {
		t.Fatal(err)
	}
	h.now = func() time.Time { return time.Now().Add(40 * 24 * time.Hour) }
	l.points = func(all []engine.Point) []engine.Point { // the newest is of today
		out := slices.Clone(all)
		out[len(out)-1].Stopped = h.now()
		return out
	}
	l.expire = func() (engine.Expired, error) {
		return engine.Expired{}, os.RemoveAll(filepath.Join(h.target.Path, "P001"))
	}
	j := h.done(h.b.StartExpire(ctx, operator, TargetRequest{}))
	if j.State != Failed || j.Runs[0].Code != "expire-too-much" {
		t.Fatalf("%+v", j.Runs[0])
	}
}

// What was listed while an expiry took segments away may look like a gap.
func TestAfterAnExpiryTheArchiveIsListedAnew(t *testing.T) {
	listed := 0
	h := newHouse(t, func(_ *house, o *Options) {
		honest := o.Archive
		o.Archive = func(ctx context.Context, t target.Target) (scratch.Archive, time.Time, error) {
			listed++
			return honest(ctx, t)
		}
	})
	h.backUp()
	h.settle()
	look := func() int {
		before := listed
		if err := h.b.watchArchive(t.Context()); err != nil {
			t.Fatal(err)
		}
		return listed - before
	}
	if n := look(); n != 0 {
		t.Fatalf("listed %d times within the hour", n)
	}
	if j := h.done(h.b.StartExpire(t.Context(), operator, TargetRequest{})); j.State != Done {
		t.Fatalf("%+v", j.Runs)
	}
	if n := look(); n != 1 {
		t.Errorf("listed %d times after an expiry", n)
	}
}

// A dry run removes nothing: what it named and what is gone later was removed
// by somebody else.
func TestWhatADryRunNamedIsCalledLostWhenItIsGone(t *testing.T) {
	l := &liar{}
	h := newHouse(t, func(h *house, o *Options) { l.Plain, o.Database = h.plain, l })
	ctx := t.Context()
	for range 3 {
		h.backUp()
	}
	h.now = func() time.Time { return time.Now().Add(40 * 24 * time.Hour) }
	l.points = func(all []engine.Point) []engine.Point { // the newest is of today
		out := slices.Clone(all)
		out[len(out)-1].Stopped = h.now()
		return out
	}
	j := h.done(h.b.StartExpire(ctx, operator, TargetRequest{DryRun: true}))
	if j.State != Done || !slices.Contains(j.Runs[0].Gone, "P001") {
		t.Fatalf("%+v", j.Runs[0])
	}
	if err := os.RemoveAll(filepath.Join(h.target.Path, "P001")); err != nil {
		t.Fatal(err)
	}
	j = h.done(h.b.StartVerify(ctx, operator, TargetRequest{}))
	if j.State != Failed || !strings.Contains(j.Runs[0].Reason, "P001") {
		t.Fatalf("%+v", j.Runs[0])
	}
	if p, err := h.b.Point(ctx, operator, "one", "P001"); err != nil || p.Gone == nil || p.GoneWhy != whyLost {
		t.Fatalf("%+v %v", p, err)
	}
}
