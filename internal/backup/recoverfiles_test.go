package backup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/backup/target"
)

// filer restores files that a test gives it, when it is let.
type filer struct {
	points map[string][]engine.Point // by target
	err    map[string]error          // of listing them
	body   string                    // of the one file that it restores, below the old data directory
	fails  error
	began  chan struct{} // closed when it begins; it goes on when the test closes on
	on     chan struct{}
	engine.Engine
}

func (f *filer) Name() string { return "restic" }

func (f *filer) Points(_ context.Context, t target.Target) ([]engine.Point, error) {
	return f.points[t.Name], f.err[t.Name]
}

func (f *filer) Restore(ctx context.Context, _ target.Target, r engine.RestoreRequest, p engine.Progress) (engine.Restored, error) {
	close(f.began)
	select {
	case <-f.on:
	case <-ctx.Done():
		return engine.Restored{}, ctx.Err()
	}
	if f.fails != nil {
		return engine.Restored{}, f.fails
	}
	for _, name := range []string{"old/journal/0001", "old/ca/ca.pem", "old/postgres/secret", "etc/more"} {
		path := filepath.Join(r.To, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return engine.Restored{}, err
		}
		if err := os.WriteFile(path, []byte(f.body), 0o640); err != nil {
			return engine.Restored{}, err
		}
	}
	p.Tell(3, 3, "restored")
	return engine.Restored{Files: 3}, nil
}

func beside(t *testing.T, f *filer) *recovering {
	t.Helper()
	f.began, f.on = make(chan struct{}), make(chan struct{})
	return &recovering{o: RecoverOptions{DataDir: t.TempDir(), Progress: func(string, int64, int64, string) {}}, r: &Recovery{}, engines: RecoveryEngines{Files: f},
		content: kit.Content{Node: kit.Node{DataDir: "/old"}}, targets: []target.Target{{Config: target.Config{Name: "one", Kind: target.Directory}}, {Config: target.Config{Name: "two", Kind: target.Directory}}}}
}

func TestFilesAreRestoredBesideTheDatabaseAndTakenAfterwards(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := &filer{body: "of the backup", points: map[string][]engine.Point{"two": {{Label: "a", Stopped: noon}, {Label: "b", Stopped: noon.Add(time.Hour)}, {Label: "c", Stopped: noon.Add(2 * time.Hour), Broken: "yes"}}},
		err: map[string]error{"one": errors.New("it is away")}}
	x := beside(t, f)
	kept := filepath.Join(x.o.DataDir, "ca", "ca.pem")
	if err := errors.Join(os.MkdirAll(filepath.Dir(kept), 0o700), os.WriteFile(kept, []byte("of the kit"), 0o600)); err != nil {
		t.Fatal(err)
	}
	x.beginFiles(t.Context())
	x.beginFiles(t.Context()) // again: the next step
	<-f.began
	if _, err := os.Stat(filepath.Join(x.o.DataDir, "journal")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("files are in the data directory before the database is proven: %v", err)
	}
	close(f.on)
	s := &RecoveryStep{}
	if err := x.stepFiles(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	x.files.end()
	taken, err := os.ReadFile(filepath.Join(x.o.DataDir, "journal", "0001"))
	info, _ := os.Stat(filepath.Join(x.o.DataDir, "journal", "0001"))
	if err != nil || string(taken) != "of the backup" || info.Mode().Perm() != 0o640 {
		t.Errorf("%q %v %v", taken, info, err)
	}
	if body, _ := os.ReadFile(kept); string(body) != "of the kit" {
		t.Errorf("what the kit brought was replaced by %q", body)
	}
	if _, err := os.Stat(filepath.Join(x.o.DataDir, "postgres")); err == nil {
		t.Error("the database's directory was taken from a backup of files")
	}
	if !strings.Contains(s.Said, "from b; 1 taken") || len(x.r.Notes) != 2 || !strings.Contains(x.r.Notes[0], "one were not used: it is away") {
		t.Errorf("%q %v", s.Said, x.r.Notes)
	}
}

func TestFilesThatCannotBeRestoredStopTheRecoveryAtTheirStep(t *testing.T) {
	f := &filer{fails: errors.New("the repository is damaged"), points: map[string][]engine.Point{"one": {{Label: "a", Stopped: time.Now()}}}}
	x := beside(t, f)
	x.beginFiles(t.Context())
	close(f.on)
	if err := x.stepFiles(t.Context(), &RecoveryStep{}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
}

func TestARecoveryThatFailsGivesItsFilesUp(t *testing.T) {
	f := &filer{points: map[string][]engine.Point{"one": {{Label: "a", Stopped: time.Now()}}}}
	x := beside(t, f)
	x.beginFiles(t.Context())
	<-f.began
	x.close() // it would wait for ever, if the files were not given up
	if !errors.Is(x.files.err, context.Canceled) {
		t.Errorf("%v", x.files.err)
	}
}
