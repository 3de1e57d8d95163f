package backup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/scratch"
)

// ended waits for a job, and not for what is done after it.
func (h *house) ended(j Job, err error) Job {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); err == nil && j.State == Running; {
		if time.Now().After(deadline) {
			h.t.Fatalf("it does not end: %+v", j.Runs)
		}
		j, err = h.b.Job(h.t.Context(), operator, j.ID)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

func (h *house) copies() []string {
	h.t.Helper()
	left, err := filepath.Glob(filepath.Join(h.b.o.Scratch, "*copy-*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return left
}

func TestADrillDoesNotWaitForTheRemovalOfItsCopyAndTheNextOneDoes(t *testing.T) {
	h := newHouse(t, nil)
	begun, on := make(chan struct{}, 2), make(chan struct{})
	honest := h.b.removals.remove
	h.b.removals.remove = func(ctx context.Context, p *scratch.Place) error {
		begun <- struct{}{}
		<-on
		return honest(ctx, p)
	}
	h.backUp()
	h.settle()
	j := h.ended(h.b.StartDrill(t.Context(), operator, DrillRequest{}))
	if d, err := h.b.Drill(t.Context(), operator, j.Runs[0].ID); err != nil || j.State != Done || d.Outcome != Pass {
		t.Fatalf("%+v %v", j.Runs, err)
	}
	<-begun
	if left := h.copies(); len(left) != 1 {
		t.Fatalf("copies: %v", left)
	}
	// While it is removed, its room is not yet there for another.
	waits, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.b.cleared(waits); !errors.Is(err, context.Canceled) {
		t.Fatalf("another drill goes on beside the removal: %v", err)
	}
	if left := h.copies(); len(left) != 1 {
		t.Fatalf("copies: %v", left)
	}
	close(on)
	if err := h.b.cleared(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := h.copies(); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestACopyThatCannotBeRemovedIsSaidAndTriedAgain(t *testing.T) {
	h := newHouse(t, nil)
	honest := h.b.removals.remove
	h.b.removals.remove = func(ctx context.Context, p *scratch.Place) error {
		return errors.Join(os.ErrPermission, p.Leave()) // as a process does that ends
	}
	h.backUp()
	h.settle()
	if _, d := h.drill(DrillRequest{}); d.Outcome != Pass {
		t.Fatalf("what a drill found depends on its copy being gone: %+v", d)
	}
	if left := h.copies(); len(left) != 1 || !h.alarms.has("drill-copy-left") {
		t.Fatalf("copies %v, told %v", left, h.alarms.said)
	}
	h.b.removals.remove = honest
	if _, d := h.drill(DrillRequest{}); d.Outcome != Pass {
		t.Fatalf("%+v", d)
	}
	if left := h.copies(); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}
