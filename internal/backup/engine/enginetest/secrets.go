package enginetest

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

func wrongKey(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	p := w.backup(t, w.full())
	stranger := w.WrongKey(t)
	if _, err := stranger.Points(limit(t), w.Target); err == nil {
		t.Error("points are listed with a wrong passphrase")
	} else {
		code(t, err, "repository-key")
	}
	if err := stranger.Prepare(limit(t), w.Target); err == nil {
		t.Error("a repository is prepared over another's")
	} else {
		code(t, err, "repository-key")
	}
	_, err := stranger.Backup(limit(t), w.Target, engine.BackupRequest{Type: w.full(), Sources: w.Sources}, nil)
	code(t, err, "repository-key")
	_, err = stranger.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: w.Place(t)}, nil)
	code(t, err, "repository-key")
	_, err = stranger.Expire(limit(t), w.Target, engine.ExpireRequest{Before: time.Now().Add(time.Hour)})
	code(t, err, "repository-key")
	if err := stranger.Check(limit(t), w.Target, nil); err == nil {
		t.Error("a repository is checked with a wrong passphrase")
	}
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), w.all()...)
}

func noSecretSeen(t *testing.T, w World) {
	stop := w.watch(t)
	w.prepare(t)
	w.write(t, "one")
	w.Grow(t, 32<<20)
	w.backup(t, w.full())
	w.settle(t)
	w.restore(t, engine.RestoreRequest{})
	_ = w.Engine.Check(limit(t), w.Target, nil)
	_, err := w.WrongKey(t).Points(limit(t), w.Target) // errors quote most
	if seen := stop(); seen == 0 {
		t.Error("no process of the engine was seen at all")
	}
	text := w.Logs() + explain(err)
	for _, secret := range w.Secrets {
		if strings.Contains(text, secret) {
			t.Error("a secret was logged")
		}
	}
}

func encrypted(t *testing.T, w World) {
	const canary = "canary-7c1f94e2-in-the-clear"
	w.prepare(t)
	w.write(t, canary)
	w.backup(t, w.full())
	w.settle(t)
	files := w.Files(t)
	if len(files) < 3 {
		t.Fatalf("%d files in the repository", len(files))
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), canary) || strings.Contains(path, canary) {
			t.Errorf("%s has the canary in the clear", path)
		}
	}
	same(t, w.restore(t, engine.RestoreRequest{}), w.all()...)
}
