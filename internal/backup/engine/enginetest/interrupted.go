package enginetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
)

func cancelledBackup(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.Grow(t, 64<<20)
	ctx, cancel := context.WithCancelCause(limit(t))
	enough := errors.New("enough")
	_, err := w.Engine.Backup(ctx, w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, func(done, total int64, _ string) {
		if done > 0 {
			cancel(enough)
		}
	})
	if err == nil {
		t.Skip("the backup was faster than the cancellation")
	}
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want the reason of the cancellation", explain(err))
	}
	w.gone(t)
	w.Write(t, "two")
	w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{}), "one", "two")
}

// gone waits until no process of the engine, begun by this one, is left.
func (w World) gone(t testing.TB) {
	t.Helper()
	until(t, "the engine's processes are gone", func() bool { return len(w.processes(false)) == 0 })
}

func killedBackup(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	before := w.backup(t, w.full())
	w.Grow(t, 64<<20)
	var killed atomic.Int64
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, func(done, _ int64, _ string) {
		if done > 0 && killed.Load() == 0 {
			for _, pid := range w.processes(false) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed.Add(1)
			}
		}
	})
	if killed.Load() == 0 {
		t.Skip("the backup was faster than the kill")
	}
	if err == nil {
		t.Error("a killed backup succeeded")
	} else {
		code(t, err, "engine-killed")
	}
	w.gone(t)
	same(t, w.restore(t, engine.RestoreRequest{Label: before.Label}), "one")
	w.Write(t, "two")
	after := w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{Label: after.Label}), "one", "two")
}

func killedRestore(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.Grow(t, 64<<20)
	p := w.backup(t, w.full())
	to := w.Place(t)
	var killed atomic.Int64
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: to}, func(done, _ int64, _ string) {
		if done > 0 && killed.Load() == 0 {
			for _, pid := range w.processes(false) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed.Add(1)
			}
		}
	})
	if killed.Load() == 0 {
		t.Skip("the restore was faster than the kill")
	}
	if err == nil {
		t.Fatal("a killed restore succeeded")
	}
	w.gone(t)
	// Either the same directory can be continued, or it is refused and another works.
	if _, err = w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: to}, nil); err != nil {
		code(t, err, "restore-not-empty")
		same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), "one")
		return
	}
	same(t, w.Read(t, to), "one")
}

func twoAtOnce(t *testing.T, w World) {
	w.prepare(t)
	w.Write(t, "one")
	w.Grow(t, 64<<20)
	other := w.Another(t)
	var once sync.Once
	var second error
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, func(int64, int64, string) {
		once.Do(func() {
			_, second = other.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
		})
	})
	if err != nil {
		t.Fatalf("the first of two: %v", explain(err))
	}
	code(t, second, "engine-locked")
	if n := len(w.points(t)); n != 1 {
		t.Errorf("%d points, want 1", n)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), "one")
}

func twoTargets(t *testing.T, w World) {
	if w.Second == nil {
		t.Skip("one target only")
	}
	second := w.Second(t)
	w.prepare(t)
	if err := w.Engine.Prepare(limit(t), second); err != nil {
		t.Fatal(explain(err))
	}
	w.Write(t, "one")
	var group sync.WaitGroup
	for _, at := range []target.Target{w.Target, second} {
		group.Go(func() {
			if _, err := w.Engine.Backup(limit(t), at, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil); err != nil {
				t.Errorf("%s: %v", at.Name, explain(err))
			}
		})
	}
	group.Wait()
	same(t, w.restore(t, engine.RestoreRequest{}), "one")
	w.Target = second
	same(t, w.restore(t, engine.RestoreRequest{}), "one")
}
