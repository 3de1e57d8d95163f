//go:build faults

package restic_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// allKinds has every test run on every kind of target. Opening a repository
// costs half a second of a processor by design, a hundred times over.
const allKinds = true

// faultsOnly leaves a test to `make test-faults`, which this is.
func faultsOnly(*testing.T) {}

func TestConformanceInADirectory(t *testing.T) {
	world := func(t *testing.T) enginetest.World {
		dir, limits := volume(t)
		at := disk(t)
		at.Path = dir
		w := files(t, at)
		limits(&w)
		w.Second = func(t testing.TB) target.Target { second := disk(t); second.Name = "second"; return second }
		w.Files = func(t testing.TB) []string { return repository(t, dir) }
		if os.Geteuid() == 0 {
			w.Gone = func(t testing.TB) func() { return away(t, dir) }
		} else {
			w.Gone = func(t testing.TB) func() {
				must(t, os.Rename(dir, dir+".away"))
				return func() { must(t, os.Rename(dir+".away", dir)) }
			}
		}
		return w
	}
	if testing.Short() {
		enginetest.RunShort(t, world(t))
		return
	}
	enginetest.Run(t, world)
}

func TestConformanceInABucket(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; make test-faults runs it, and the short pass the suite of a directory")
	}
	enginetest.Run(t, func(t *testing.T) enginetest.World {
		dir, limits := volume(t)
		server := targettest.StartS3In(t, dir)
		server.Bucket(t, "backups")
		server.Bucket(t, "other")
		w := files(t, server.Open(t, "bucket", "backups"))
		limits(&w)
		w.Secrets = append(w.Secrets, server.Secret)
		w.ReadOnly = func(t testing.TB) func() { server.Restart(t, "--readonly"); return func() { server.Restart(t) } }
		w.Second = func(t testing.TB) target.Target { return server.Open(t, "second", "other") }
		w.Gone = func(t testing.TB) func() { server.Stop(); return func() { server.Restart(t) } }
		w.Files = func(t testing.TB) []string { return repository(t, server.Root) }
		return w
	})
}

func TestConformanceOverSFTP(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes; make test-faults runs it, and the short pass the suite of a directory")
	}
	enginetest.Run(t, func(t *testing.T) enginetest.World {
		dir, limits := volume(t)
		server := targettest.StartSSH(t)
		proxy := targettest.StartProxy(t, "127.0.0.1:"+strconv.Itoa(server.Port))
		through := func(t testing.TB, name string) target.Target {
			at := server.Open(t, name)
			at.SFTP.Port, at.SFTP.KnownHosts = proxy.Port, server.KnownAt(t, proxy.Port)
			return at
		}
		at := through(t, "box")
		at.Path = filepath.Join(dir, "box")
		w := files(t, at)
		limits(&w)
		w.Secrets = append(w.Secrets, strings.Split(at.SFTPKey, "\n")[2])
		w.Second = func(t testing.TB) target.Target { return through(t, "second") }
		w.Gone = func(testing.TB) func() { proxy.Refuse(); return proxy.Heal }
		w.Files = func(t testing.TB) []string { return repository(t, dir) }
		return w
	})
}
