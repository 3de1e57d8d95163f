package pgbackrest_test

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/problem"
)

// The server dies in the middle of a backup: the run says what to do, the
// server comes back, and neither the good backup nor the next one is harmed.
func TestAServerKilledDuringABackupTakesNoGoodBackupAlong(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.write(t, "before")
	good := n.backup(t, at, engine.Full)
	n.exec("insert into bulk select convert_to(repeat(md5(i::text), 30000), 'UTF8') from generate_series(1, 40) i") // 38 MB that pgBackRest has to read
	n.exec("checkpoint")
	var once sync.Once
	_, err := n.engine.Backup(t.Context(), at, engine.BackupRequest{Type: engine.Full}, func(done, _ int64, _ string) {
		if done == 0 { // before it has read something it only waits for the server
			return
		}
		once.Do(func() {
			if err := syscall.Kill(n.cluster.PID(), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		})
	})
	if p := problem.From(err); err == nil || p.Mend == "" {
		t.Fatalf("a backup whose server died ends with %v", err)
	}
	until(t, "the server is back", func() bool {
		_, ok := n.options.Server()
		return ok && n.cluster.Restarts() > 0 && n.answers()
	})
	points, err := n.engine.Points(t.Context(), at)
	if err != nil || !slices.ContainsFunc(points, func(p engine.Point) bool { return p.Label == good.Label && p.Broken == "" }) {
		t.Fatalf("the good backup is not among %+v, %v", points, err)
	}
	n.write(t, "after")
	n.backup(t, at, engine.Full)
	n.settle(t, at)
	to := place(t)
	if _, err := n.engine.Restore(t.Context(), at, engine.RestoreRequest{To: to, Label: good.Label}, nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("from the good backup and the log came %q", got)
	}
}

// answers reports whether the server lets a session in.
func (n *node) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := connect(ctx, n.cluster)
	if err != nil {
		return false
	}
	_ = conn.Close(ctx)
	return true
}

// An expiry that is stopped at any moment leaves whole chains: what is listed
// afterwards restores, and the next expiry goes on.
func TestAnExpiryThatIsCutOffLeavesWholeChains(t *testing.T) {
	t.Parallel()
	n, at := one(t)
	n.write(t, "first")
	for range 2 {
		n.backup(t, at, engine.Full)
		n.backup(t, at, engine.Differential)
	}
	n.write(t, "last")
	young := n.backup(t, at, engine.Full)
	n.settle(t, at)
	request := engine.ExpireRequest{Before: young.Started}
	for after := 50 * time.Millisecond; ; after += 150 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, err := n.engine.Expire(ctx, at, request)
		cancel()
		points, lerr := n.engine.Points(t.Context(), at)
		if lerr != nil {
			t.Fatal(lerr)
		}
		for _, p := range points {
			for _, needed := range p.Requires {
				if !slices.ContainsFunc(points, func(q engine.Point) bool { return q.Label == needed }) {
					t.Fatalf("cut off after %v, %s lacks %s", after, p.Label, needed)
				}
			}
		}
		if err == nil {
			break
		}
	}
	points, err := n.engine.Points(t.Context(), at)
	if err != nil || len(points) != 3 || points[2].Label != young.Label {
		t.Fatalf("left are %+v, %v", points, err) // the young one, and the chain of the last older one
	}
	to := place(t)
	if _, err := n.engine.Restore(t.Context(), at, engine.RestoreRequest{To: to}, nil); err != nil {
		t.Fatal(err)
	}
	if got := read(t, to); !slices.Equal(got, []string{"first", "last"}) {
		t.Errorf("restored are %q", got)
	}
}
