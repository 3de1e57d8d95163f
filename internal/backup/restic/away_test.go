package restic_test

import (
	"os"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

// A disk that is not mounted says nothing about the backups on it: a drill that
// finds it so proves nothing either way.
func TestADirectoryThatIsAwayIsNotOneWithoutARepository(t *testing.T) {
	t.Parallel()
	e, at := newEngine(t), disk(t)
	must(t, e.Prepare(t.Context(), at))
	kept(t, e, at, tree(t, "x"))
	must(t, os.Rename(at.Path, at.Path+".away"))
	_, points := e.Points(t.Context(), at)
	_, restore := e.Restore(t.Context(), at, engine.RestoreRequest{To: t.TempDir()}, nil)
	refuses(t, points, "target-gone")
	refuses(t, restore, "target-gone")
	must(t, os.Mkdir(at.Path, 0o700))
	_, points = e.Points(t.Context(), at)
	refuses(t, points, "repository-missing")
}
