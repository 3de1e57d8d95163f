//go:build faults

package pgbackrest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
	"github.com/missionopsai/foundry/internal/backup/pgbackrest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db/dbtest"
)

func TestConformanceWithDirectories(t *testing.T) {
	if testing.Short() {
		volume, remount := enginetest.Volume(t, 400)
		enginetest.RunShort(t, world(t, directory(t, "near", filepath.Join(volume, "near")), directory(t, "far", filepath.Join(dbtest.Dir(t), "far")), volume, remount))
		return
	}
	enginetest.RunParallel(t, func(t *testing.T) enginetest.World {
		dir, volume := dbtest.Dir(t), ""
		near, remount := filepath.Join(dir, "near"), func(string) {}
		if strings.Contains(t.Name(), "read-only") || strings.Contains(t.Name(), "full") {
			volume, remount = enginetest.Volume(t, 160)
			near = filepath.Join(volume, "near")
		}
		return world(t, directory(t, "near", near), directory(t, "far", filepath.Join(dir, "far")), volume, remount)
	})
}

func (n *node) grow(t testing.TB, size int64) {
	t.Helper()
	const block = 4 << 20
	b := make([]byte, block)
	n.exec("truncate bulk")
	for ; size > 0; size -= block {
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		n.exec("insert into bulk values ($1)", b)
	}
}

func (n *node) logs(t testing.TB) string {
	var b strings.Builder
	b.WriteString(n.log.String())
	for _, dir := range []string{n.cluster.LogDir(), n.options.Dir} {
		for _, path := range filesBelow(t, dir) {
			text, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s\n%s\n", path, text)
		}
	}
	return b.String()
}

// world is a node with a directory target, for the conformance suite.
func world(t *testing.T, at target.Target, second target.Target, volume string, remount func(string)) enginetest.World {
	n := newNode(t, at, second)
	w := enginetest.World{
		Engine: n.engine, Target: at, Continuous: true, Program: "pgbackrest", Own: n.options.Runtime.Dir(),
		Secrets: []string{n.pass},
		Write:   n.write, Grow: n.grow, Settle: func(t testing.TB) { n.settle(t, at) }, Place: place, Read: read,
		Logs:    func() string { return n.logs(t) },
		Another: func(t testing.TB) engine.Engine { return n.another(t, nil) },
		WrongKey: func(t testing.TB) engine.Engine {
			return n.another(t, func(o *pgbackrest.Options) {
				o.Passphrase = func(context.Context, target.Target) (string, error) { return "another passphrase", nil }
			})
		},
		Second: func(testing.TB) target.Target { return second },
		Files:  func(t testing.TB) []string { return filesBelow(t, at.Path) },
		Plant: func(t testing.TB) string { // pgBackRest takes along whatever is there
			path := filepath.Join(n.cluster.DataDir(), "planted")
			if err := os.WriteFile(path, []byte("planted"), 0o644); err != nil {
				t.Fatal(err)
			}
			return path
		},
		Gone: func(t testing.TB) func() {
			away := at.Path + ".away"
			if err := os.Rename(at.Path, away); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Rename(away, at.Path); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	if volume != "" && remount != nil {
		w.Full = func(t testing.TB) func() { return enginetest.Fill(t, volume) }
		w.ReadOnly = func(testing.TB) func() {
			remount("ro")
			return func() { remount("rw") }
		}
	}
	return w
}
