package backup

import (
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/scratch"
)

// A node that goes on writing while it is recovered elsewhere is not a clock
// that is wrong: its operator has to hear which of the two it is.
func TestARowThatIsYoungerThanTheRecoverySaysThatTheNodeStillRuns(t *testing.T) {
	h := newHouse(t, nil)
	row, err := h.b.writeSentinel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		started, now time.Time
		outcome      scratch.Outcome
		says         string
	}{
		"written before":     {row.At.Add(time.Second), row.At.Add(time.Minute), scratch.Pass, "newest sentinel"},
		"written since":      {row.At.Add(-time.Second), row.At.Add(time.Minute), scratch.Fail, "still runs"},
		"not to be yet":      {row.At.Add(-time.Minute), row.At.Add(-time.Second), scratch.Fail, "has not come yet"},
		"in the same moment": {row.At, row.At, scratch.Pass, "newest sentinel"},
	} {
		x := &recovering{o: RecoverOptions{Clock: func() time.Time { return c.now }}, r: &Recovery{Started: c.started}}
		outcome, said, err := x.newestRow(t.Context(), h.db, time.Time{})
		if err != nil || outcome != c.outcome || !strings.Contains(said, c.says) {
			t.Errorf("%s: %s %q %v", name, outcome, said, err)
		}
	}
}
