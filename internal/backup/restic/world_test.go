package restic_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/restic"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/backup/targettest"
	"github.com/missionopsai/foundry/internal/problem"
)

const passphrase = "correct horse battery staple 7f2a"

// newEngine makes an engine with directories of its own.
func newEngine(t testing.TB, change ...func(*restic.Options)) *restic.Engine {
	t.Helper()
	if _, err := exec.LookPath("restic"); err != nil {
		t.Skip("restic is not installed. Run: scripts/setup test")
	}
	e, err := restic.New(options(t, change...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func options(t testing.TB, change ...func(*restic.Options)) restic.Options {
	t.Helper()
	rt, err := engine.OpenRuntime(filepath.Join(memory(t), "runtime"), t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	o := restic.Options{
		State: t.TempDir(), Runtime: rt, Node: "node-1", Patience: 3 * time.Second,
		Passphrase: func(context.Context, target.Target) (string, error) { return passphrase, nil },
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

// memory is a directory in memory.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "foundry-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func disk(t testing.TB) target.Target {
	return target.Target{Config: target.Config{Name: "disk", Kind: target.Directory, Path: t.TempDir()}}
}

// most runs a test in a directory, and on every kind of target in the fault suite.
func most(t *testing.T, test func(t *testing.T, at target.Target)) {
	if allKinds {
		everyKind(t, test)
		return
	}
	test(t, disk(t))
}

// everyKind runs a test against a real target of each kind.
func everyKind(t *testing.T, test func(t *testing.T, at target.Target)) {
	t.Run("directory", func(t *testing.T) { t.Parallel(); test(t, disk(t)) })
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		s := targettest.StartS3(t)
		s.Bucket(t, "backups")
		test(t, s.Open(t, "bucket", "backups"))
	})
	t.Run("sftp", func(t *testing.T) { t.Parallel(); test(t, targettest.StartSSH(t).Open(t, "box")) })
}

func code(err error) string {
	var p *problem.Error
	if errors.As(err, &p) {
		return p.Code
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// must fails a test with the cause of an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
}

// refuses expects a problem with a code and something to do about it.
func refuses(t testing.TB, err error, want string) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != want || p.Mend == "" {
		t.Errorf("got %q: %v (%v), want %q with a mend", code(err), err, errors.Unwrap(err), want)
	}
}

// tree makes files of every kind that a backup has to keep.
func tree(t testing.TB, seed string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source with spaces, [brackets] and *")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
		must(t, os.Chmod(path, mode))
	}
	write("empty", "", 0o644)
	write("secret.key", seed, 0o600)
	write("program", "#!/bin/sh\n", 0o755)
	write("deep/er/file", strings.Repeat(seed+" ", 1000), 0o640)
	write("köttbullar/ünïcode", seed, 0o604)
	must(t, os.Mkdir(filepath.Join(dir, "hollow"), 0o700))
	must(t, os.Symlink("secret.key", filepath.Join(dir, "link")))
	must(t, os.Symlink("/nowhere", filepath.Join(dir, "dangling")))
	must(t, os.Link(filepath.Join(dir, "deep/er/file"), filepath.Join(dir, "second name")))
	if os.Geteuid() == 0 {
		must(t, os.Chown(filepath.Join(dir, "secret.key"), 65534, 65534))
		must(t, os.Lchown(filepath.Join(dir, "link"), 65534, 65534))
	}
	old := time.Date(2020, 2, 29, 12, 0, 0, 123456789, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "program"), old, old))
	return dir
}

// describe lists a tree with everything that has to survive.
func describe(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, _ := filepath.Rel(root, path)
		fmt.Fprintf(&b, "%s %v %d:%d %v links %d", rel, info.Mode(), st.Uid, st.Gid, info.ModTime().UTC(), st.Nlink)
		switch {
		case d.Type().IsRegular():
			text, err := os.ReadFile(path)
			must(t, err)
			fmt.Fprintf(&b, " %q", text)
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			must(t, err)
			fmt.Fprintf(&b, " -> %s", to)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// kept backs something up and returns the point.
func kept(t testing.TB, e *restic.Engine, at target.Target, sources ...string) engine.Point {
	t.Helper()
	p, err := e.Backup(t.Context(), at, engine.BackupRequest{Sources: sources, Tags: map[string]string{"node": "node-1", "kind": "files"}}, nil)
	must(t, err)
	return p
}

// noise writes a file that neither compresses nor repeats.
func noise(t testing.TB, dir, name string, size int) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.MkdirAll(dir, 0o755))
	out, err := exec.Command("head", "-c", fmt.Sprint(size), "/dev/urandom").Output()
	must(t, err)
	must(t, os.WriteFile(path, out, 0o600))
	return path
}
