package db_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// A server that was lost with its directory removes its socket when it ends, by
// name: a new one at the same path would be without.
func TestAServerWhoseDirectoryWasMovedIsWaitedFor(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		t.Skip("without /proc nobody can be asked")
	}
	home := dbtest.Dir(t)
	dir := filepath.Join(home, "postgres")
	old := start(t, options(t, dir))
	if err := os.Rename(dir, filepath.Join(home, "lost")); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := db.StartCluster(soon, options(t, dir))
	if p := problem.From(err); err == nil || p.Code != "cluster-departed" || p.Mend == "" {
		t.Fatalf("beside it another starts: %v", err)
	}
	stop(t, old)
	c := start(t, options(t, dir))
	if got := ask(t, c.Config(), "SELECT 'answers'"); got != "answers" {
		t.Error(got)
	}
}
