package enginetest

import (
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

func targetGone(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	w.backup(t, w.full())
	back := w.Gone(t)
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "target-gone", "repository-missing")
	_, err = w.Engine.Points(limit(t), w.Target)
	code(t, err, "target-gone", "repository-missing")
	_, err = w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{To: w.Place(t)}, nil)
	code(t, err, "target-gone", "repository-missing")
	if err := w.Engine.Prepare(limit(t), w.Target); err == nil {
		t.Error("a new repository is made where one is missing")
	} else {
		code(t, err, "target-gone", "repository-missing")
	}
	back()
	w.write(t, "two")
	w.backup(t, w.incremental())
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}

func targetReadOnly(t *testing.T, w World) {
	if w.ReadOnly == nil {
		t.Skip("the target cannot be made read-only here")
	}
	w.prepare(t)
	w.write(t, "one")
	w.backup(t, w.full())
	back := w.ReadOnly(t)
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "target-read-only", "target-denied")
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
	back()
	w.backup(t, w.incremental())
}

func targetFull(t *testing.T, w World) {
	if w.Full == nil {
		t.Skip("the target cannot be filled here")
	}
	w.prepare(t)
	w.write(t, "one")
	p := w.backup(t, w.full())
	back := w.Full(t)
	before := w.all()
	w.Grow(t, 16<<20)
	_, err := w.Engine.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "target-full")
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), before...)
	back()
	w.write(t, "two")
	w.backup(t, w.full())
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}
