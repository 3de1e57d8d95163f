package pgbackrest_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db/dbtest"
)

// The archive of one target must not wait for another that is away: PostgreSQL
// asks again and again for the oldest segment only.
func TestATargetThatIsAwayDoesNotStallTheOthers(t *testing.T) {
	t.Parallel()
	dir := dbtest.Dir(t)
	near, far := directory(t, "near", filepath.Join(dir, "near")), directory(t, "far", filepath.Join(dir, "far"))
	n := newNode(t, near, far)
	if err := n.engine.Prepare(t.Context(), near); err != nil {
		t.Fatal(err)
	}
	var slowest time.Duration
	for range 4 {
		n.write(t, "a mark")
		began := time.Now()
		segment := n.switchSegment(t)
		until(t, "the near target has "+segment, func() bool {
			a, err := n.engine.Archive(context.Background(), near)
			if err != nil {
				t.Fatal(err)
			}
			newest, ok := a.Newest()
			return ok && newest.Name >= segment
		})
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest segment took %v", slowest)
	if slowest > 45*time.Second { // PostgreSQL rests for 60 s after a failure
		t.Errorf("a segment took %v while another target was away", slowest)
	}
	// Back again: nothing is missing there.
	if err := n.engine.Prepare(t.Context(), far); err != nil {
		t.Fatal(err)
	}
	n.settle(t, far)
	until(t, "the target that was away has what the other has", func() bool {
		a, err := n.engine.Archive(context.Background(), far)
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.engine.Archive(context.Background(), near)
		if err != nil {
			t.Fatal(err)
		}
		return len(a.Segments) > 0 && len(a.Segments) == len(b.Segments) && len(a.Gaps) == 0
	})
}
