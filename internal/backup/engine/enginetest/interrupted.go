package enginetest

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
)

func cancelledBackup(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	ctx, cancel := context.WithCancelCause(limit(t))
	enough := errors.New("enough")
	held := Hold(t, w.Plant(t))
	ended := w.begin(ctx)
	held.Reached()
	cancel(enough)
	if err := <-ended; !errors.Is(err, enough) {
		t.Errorf("got %v, want the reason of the cancellation", err)
	}
	held.Release()
	w.gone(t)
	w.write(t, "two")
	w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}

// begin begins a backup, and tells how it ends.
func (w World) begin(ctx context.Context) (ended <-chan error) {
	end := make(chan error, 1)
	go func() {
		_, err := w.Engine.Backup(ctx, w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
		end <- err
	}()
	return end
}

// gone waits until no process of the engine, begun by this one, is left.
func (w World) gone(t testing.TB) {
	t.Helper()
	until(t, "the engine's processes are gone", func() bool { return len(w.processes(false)) == 0 })
}

func killedBackup(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	before := w.backup(t, w.full())
	held := Hold(t, w.Plant(t))
	ended := w.begin(limit(t))
	held.Reached()
	w.signal(t, syscall.SIGKILL)
	if err := <-ended; err == nil {
		t.Error("a killed backup succeeded")
	} else {
		code(t, err, "engine-killed")
	}
	held.Release()
	w.gone(t)
	same(t, w.restore(t, engine.RestoreRequest{Label: before.Label}), w.all()...)
	w.write(t, "two")
	after := w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{Label: after.Label}), w.all()...)
}

func killedRestore(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	w.Grow(t, 32<<20)
	p := w.backup(t, w.full())
	to := w.Place(t)
	held := Hold(t, largest(t, w.Files(t)))
	ended := make(chan error, 1)
	go func() {
		_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: to}, nil)
		ended <- err
	}()
	held.Reached()
	w.signal(t, syscall.SIGKILL)
	if err := <-ended; err == nil {
		t.Fatal("a killed restore succeeded")
	}
	held.Release()
	w.gone(t)
	// Either the same directory can be continued, or it is refused and another works.
	if _, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: to}, nil); err != nil {
		code(t, err, "restore-not-empty")
		same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), w.all()...)
		return
	}
	same(t, w.Read(t, to), w.all()...)
}

func twoAtOnce(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	other, points := w.Another(t), len(w.points(t))
	held := Hold(t, w.Plant(t))
	ended := w.begin(limit(t))
	held.Reached()
	w.signal(t, syscall.SIGSTOP)
	held.Release()
	_, second := other.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	w.signal(t, syscall.SIGCONT)
	if err := <-ended; err != nil {
		t.Fatalf("the first of two: %v", explain(err))
	}
	code(t, second, "engine-locked")
	if n := len(w.points(t)); n != points+1 {
		t.Errorf("%d points, want %d", n, points+1)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}

func twoTargets(t *testing.T, w World) {
	second := w.Second(t)
	w.prepare(t)
	if err := w.Engine.Prepare(limit(t), second); err != nil {
		t.Fatal(explain(err))
	}
	w.write(t, "one")
	var group sync.WaitGroup
	for _, at := range []target.Target{w.Target, second} {
		group.Go(func() {
			if _, err := w.Engine.Backup(limit(t), at, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil); err != nil {
				t.Errorf("%s: %v", at.Name, explain(err))
			}
		})
	}
	group.Wait()
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
	w.Target = second
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}
