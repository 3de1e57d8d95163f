package pgbackrest_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// A database that lets nobody in for a moment, because it has just started or
// every place is taken, is no failed backup: nothing has begun, and it is tried
// again. Whoever looks on is told what it waits for.
func TestABackupWaitsForADatabaseThatDoesNotLetItIn(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a backup")
	}
	t.Parallel()
	at, other := directory(t, "near", filepath.Join(dbtest.Dir(t), "near")), directory(t, "far", filepath.Join(dbtest.Dir(t), "far"))
	n := newNode(t, at, other)
	for _, to := range []target.Target{at, other} {
		if err := n.engine.Prepare(t.Context(), to); err != nil {
			t.Fatal(err)
		}
	}
	n.exec("ALTER ROLE foundry_backup CONNECTION LIMIT 0")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	// One to another target that begins meanwhile waits for its turn: two of one
	// cluster would refuse one another.
	second := make(chan error, 1)
	var once sync.Once
	var waited bool
	p, err := n.engine.Backup(ctx, at, engine.BackupRequest{Type: engine.Full}, func(_, _ int64, what string) {
		if what == "waiting for the database to let the backup in" {
			once.Do(func() {
				waited = true
				go func() {
					_, err := n.engine.Backup(ctx, other, engine.BackupRequest{Type: engine.Full}, nil)
					second <- err
				}()
				n.exec("ALTER ROLE foundry_backup CONNECTION LIMIT 8")
			})
		}
	})
	if err != nil || !waited || p.Label == "" {
		t.Fatalf("waited: %v, %+v, %v (%+v)", waited, p, err, problem.From(err))
	}
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
}
