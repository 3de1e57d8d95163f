package enginetest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

func restoresWhatWasThere(t *testing.T, w World) {
	w.write(t, "one", "two")
	w.prepare(t)
	p := w.backup(t, w.full())
	if len(w.points(t)) != 1 || w.points(t)[0].Label != p.Label {
		t.Errorf("points %+v, want only %s", w.points(t), p.Label)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), w.all()...)
}

func laterBackup(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	first := w.backup(t, w.full())
	w.write(t, "two")
	second := w.backup(t, w.incremental())
	if first.Label == second.Label || second.Stopped.Before(first.Stopped) {
		t.Fatalf("two backups are %+v and %+v", first, second)
	}
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
	if w.Continuous {
		w.write(t, "three")
		w.settle(t)
		same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
		return
	}
	same(t, w.restore(t, engine.RestoreRequest{Label: first.Label}), "one")
}

// pause lets the clock of the database and of the points, in seconds, move on.
func pause(t testing.TB) time.Time {
	t.Helper()
	begin := time.Now()
	timer := time.NewTimer(1100 * time.Millisecond)
	<-timer.C
	return begin.Add(1050 * time.Millisecond)
}

func restoresATime(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	w.backup(t, w.full())
	if w.Continuous {
		pause(t)
		w.write(t, "two")
	}
	between, before := pause(t), w.all()
	pause(t)
	w.write(t, "three")
	if w.Continuous {
		w.settle(t)
	} else {
		w.backup(t, w.incremental())
	}
	same(t, w.restore(t, engine.RestoreRequest{Time: between}), before...)
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Time: between.Add(-24 * time.Hour), To: w.Place(t)}, nil)
	code(t, err, "point-too-early")
}

func saysWhatItRequires(t *testing.T, w World) {
	w.prepare(t)
	first := w.backup(t, w.full())
	second := w.backup(t, w.incremental())
	if len(first.Requires) != 0 {
		t.Errorf("the first backup requires %q", first.Requires)
	}
	if w.Continuous && !slices.Contains(second.Requires, first.Label) {
		t.Errorf("a differential backup requires %q, want %s", second.Requires, first.Label)
	}
	if first.Bytes == 0 {
		t.Error("a backup of nothing")
	}
}

func refusesNonEmpty(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	w.backup(t, w.full())
	to := w.Place(t)
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(to, "precious")
	if err := os.WriteFile(precious, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: to}, nil)
	code(t, err, "restore-not-empty")
	if text, err := os.ReadFile(precious); err != nil || string(text) != "mine" {
		t.Errorf("what was there is now %q, %v", text, err)
	}
	if entries, _ := os.ReadDir(to); len(entries) != 1 {
		t.Errorf("something was written beside it: %v", entries)
	}
}

func noSuchPoint(t *testing.T, w World) {
	w.prepare(t)
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: w.Place(t)}, nil)
	code(t, err, "point-missing")
	w.backup(t, w.full())
	_, err = w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: "20010101-000000F", To: w.Place(t)}, nil)
	code(t, err, "point-missing")
}

func preparesTwice(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	p := w.backup(t, w.full())
	w.prepare(t)
	if err := w.Another(t).Prepare(limit(t), w.Target); err != nil {
		t.Error(explain(err))
	}
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), w.all()...)
}

func progressGrows(t *testing.T, w World) {
	w.prepare(t)
	w.Grow(t, 32<<20)
	look := func(what string) (engine.Progress, func()) {
		var last, total int64
		told := 0
		return func(done, of int64, _ string) {
				if done < last || of != 0 && done > of+of/4 {
					t.Errorf("%s: %d of %d after %d", what, done, of, last)
				}
				last, total = done, of
				told++
			}, func() {
				if told < 2 || last == 0 || total == 0 {
					t.Errorf("%s: told %d times, at last %d of %d", what, told, last, total)
				}
			}
	}
	p, end := look("backup")
	if _, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, p); err != nil {
		t.Fatal(explain(err))
	}
	end()
	p, end = look("restore")
	if _, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: w.Place(t)}, p); err != nil {
		t.Fatal(explain(err))
	}
	end()
}

func checks(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	w.backup(t, w.full())
	w.settle(t)
	if err := w.Engine.Check(limit(t), w.Target, nil); err != nil {
		t.Error(explain(err))
	}
}
