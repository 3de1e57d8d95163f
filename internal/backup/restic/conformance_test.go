//go:build faults

package restic_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
	"github.com/missionopsai/foundry/internal/backup/restic"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// text collects what is logged.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// files is a directory of files and an engine; the target is the caller's.
func files(t *testing.T, at target.Target) enginetest.World {
	var logs text
	o := options(t, func(o *restic.Options) { o.Log = slog.New(slog.NewTextHandler(&logs, nil)) })
	same := func(t testing.TB) engine.Engine {
		e, err := restic.New(o)
		must(t, err)
		return e
	}
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.MkdirAll(source, 0o755))
	marks := filepath.Join(source, "marks")
	w := enginetest.World{
		Engine: same(t), Target: at, Sources: []string{source}, Program: "restic", Secrets: []string{passphrase}, Logs: logs.String, Another: same,
		Write: func(t testing.TB, mark string) {
			f, err := os.OpenFile(marks, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			must(t, err)
			_, err = fmt.Fprintln(f, mark)
			must(t, err)
			must(t, f.Close())
		},
		Grow: func(t testing.TB, n int64) { noise(t, source, "noise", int(n)) },
		Plant: func(t testing.TB) string {
			path := filepath.Join(source, "planted")
			must(t, os.WriteFile(path, []byte("planted"), 0o600))
			return path
		},
		Place: func(t testing.TB) string { return filepath.Join(t.TempDir(), "restored") },
		Read: func(t testing.TB, restored string) []string {
			text, err := os.ReadFile(filepath.Join(restored, marks))
			must(t, err)
			return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		},
		WrongKey: func(t testing.TB) engine.Engine {
			return newEngine(t, func(o *restic.Options) {
				o.Log, o.Passphrase = slog.New(slog.NewTextHandler(&logs, nil)), func(context.Context, target.Target) (string, error) { return "another passphrase", nil }
			})
		},
	}
	must(t, os.WriteFile(filepath.Join(source, "always"), []byte("there"), 0o600))
	return w
}

func repository(t testing.TB, root string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// volume is a file system for a target that is to become full or read-only.
func volume(t *testing.T) (dir string, w func(*enginetest.World)) {
	dir, remount := enginetest.Volume(t, 400)
	return dir, func(w *enginetest.World) {
		if remount != nil {
			w.ReadOnly = func(testing.TB) func() { remount("ro"); return func() { remount("rw") } }
			w.Full = func(t testing.TB) func() { return enginetest.Fill(t, dir) }
		}
	}
}

// away takes a file system away as an unplugged disk is, and leaves no directory.
func away(t testing.TB, dir string) (back func()) {
	t.Helper()
	mount := func(args ...string) { targettest.Run(t, "", "mount", args...) }
	other := filepath.Join(t.TempDir(), "away")
	must(t, os.Mkdir(other, 0o700))
	mount("--bind", dir, other)
	targettest.Run(t, "", "umount", "-l", dir)
	must(t, os.Remove(dir))
	return func() {
		must(t, os.Mkdir(dir, 0o711))
		mount("--bind", other, dir)
		targettest.Run(t, "", "umount", "-l", other)
	}
}
