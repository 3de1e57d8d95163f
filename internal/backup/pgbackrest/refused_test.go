package pgbackrest_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
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
	at := directory(t, "near", filepath.Join(dbtest.Dir(t), "near"))
	n := newNode(t, at)
	if err := n.engine.Prepare(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	n.exec("ALTER ROLE foundry_backup CONNECTION LIMIT 0")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var once sync.Once
	var waited bool
	p, err := n.engine.Backup(ctx, at, engine.BackupRequest{Type: engine.Full}, func(_, _ int64, what string) {
		if what == "waiting for the database to let the backup in" {
			once.Do(func() { waited = true; n.exec("ALTER ROLE foundry_backup CONNECTION LIMIT 8") })
		}
	})
	if err != nil || !waited || p.Label == "" {
		t.Fatalf("waited: %v, %+v, %v (%+v)", waited, p, err, problem.From(err))
	}
}
