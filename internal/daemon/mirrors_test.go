package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/targettest"
	"github.com/missionopsai/foundry/internal/evidence"
)

// mirroring makes as much of a node as mirrors need.
func mirroring(t *testing.T, c backup.Config) *Daemon {
	t.Helper()
	memory, err := os.MkdirTemp("/dev/shm", "foundry-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(memory) })
	d := &Daemon{log: slog.New(slog.NewTextHandler(io.Discard, nil)), clock: time.Now}
	d.config.DataDir, d.config.Mode, d.config.Backup = t.TempDir(), Development, c
	if d.runtime, err = engine.OpenRuntime(filepath.Join(memory, "r"), d.config.DataDir, true); err != nil {
		t.Fatal(err)
	}
	if err := d.prepareMirrors(c); err != nil {
		t.Fatal(err)
	}
	return d
}

func results(t *testing.T, d *Daemon) (out []evidence.Result) {
	t.Helper()
	findings, err := d.mirrorControl(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Reason == "" {
			t.Errorf("no reason: %+v", f)
		}
		out = append(out, f.Result)
	}
	return out
}

func TestMirrorsAreFetchedBeforeABackupAndGreenOnlyOnceARestoredCopyIsProven(t *testing.T) {
	t.Parallel()
	g := targettest.StartGit(t)
	bare := g.Repository(t, "app.git")
	targettest.Commit(t, bare, "main", "a", "1")
	d := mirroring(t, backup.Config{Mirrors: []mirror.Config{{Name: "app", URL: "file://" + bare}}})
	if got := results(t, d); len(got) != 1 || got[0] != evidence.Fail {
		t.Errorf("before the first fetch: %v", got)
	}
	sources, err := d.backupSources(t.Context())
	if err != nil || len(sources) == 0 || sources[len(sources)-1] != d.mirrorDir() {
		t.Fatalf("sources %q, %v", sources, err)
	}
	if got := results(t, d); got[0] != evidence.Inconclusive {
		t.Errorf("fetched, and never tried: %v", got)
	}
	root := targettest.Dir(t)
	if err := os.MkdirAll(filepath.Join(root, "copy", filepath.Dir(d.mirrorDir())), 0o755); err != nil {
		t.Fatal(err)
	}
	targettest.Run(t, "", "cp", "-a", d.mirrorDir(), filepath.Join(root, "copy", d.mirrorDir()))
	checks := d.proveMirrors(t.Context(), filepath.Join(root, "copy"))
	if len(checks) != 1 || checks[0].Outcome != backup.Pass || checks[0].Name != "mirror app" {
		t.Errorf("got %+v", checks)
	}
	if got := results(t, d); got[0] != evidence.Pass {
		t.Errorf("proven: %v", got)
	}
	d.clock = func() time.Time { return time.Now().Add(27 * time.Hour) }
	if got := results(t, d); got[0] != evidence.Fail {
		t.Errorf("stale: %v", got)
	}
	if checks := d.proveMirrors(t.Context(), targettest.Dir(t)); len(checks) != 1 || checks[0].Outcome != backup.Inconclusive {
		t.Errorf("a copy without mirrors: %+v", checks)
	}
}

func TestWithoutMirrorsTheControlSaysSo(t *testing.T) {
	t.Parallel()
	d := mirroring(t, backup.Config{})
	if got := results(t, d); len(got) != 1 || got[0] != evidence.Inconclusive {
		t.Errorf("got %v", got)
	}
	if checks := d.proveMirrors(t.Context(), t.TempDir()); checks != nil {
		t.Errorf("got %+v", checks)
	}
}
