package db_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/problem"
)

// refused checks that a start failed with a problem of this code, whose
// sentences name all of these.
func refused(t *testing.T, err error, code string, names ...string) {
	t.Helper()
	p := problem.From(err)
	if p == nil || p.Code != code {
		t.Fatalf("got %v (%v), want %s", err, errors.Unwrap(err), code)
	}
	for _, name := range names {
		if !strings.Contains(p.Error(), name) {
			t.Errorf("%q does not name %q", p, name)
		}
	}
	if p.Mend == "" {
		t.Errorf("%q does not say what to do", p)
	}
	t.Log(p)
}

// fakeServer makes a directory with programs that only print a version.
func fakeServer(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"postgres", "initdb"} {
		script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asRoot skips a test that needs to own other users' files or to mount.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
}

func TestAStartWithoutASuitableServerIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		bin   string
		code  string
		names []string
	}{
		{"no server at all", t.TempDir(), "server-missing", []string{"apt-get install postgresql", "15"}},
		{"a server that is too old", fakeServer(t, "14.9 (Debian 14.9-1)"), "server-too-old", []string{"14", "15"}},
		{"a program that is not a server", fakeServer(t, "none"), "server-missing", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
			o.BinDir = c.bin
			_, err := db.StartCluster(t.Context(), o)
			refused(t, err, c.code, c.names...)
		})
	}
}

func TestChoosingAServer(t *testing.T) {
	t.Parallel()
	v15, v16, v14 := db.Server("/15", 15), db.Server("/16", 16), db.Server("/14", 14)
	for _, c := range []struct {
		name string
		from []db.Installed
		made int
		want string // directory, or code of the problem
	}{
		{"the newest is taken for a new cluster", []db.Installed{v16, v15, v14}, 0, "/16"},
		{"an existing cluster keeps its version", []db.Installed{v16, v15}, 15, "/15"},
		{"another version is not tried on existing data", []db.Installed{v16}, 15, "cluster-major"},
		{"not even an older one", []db.Installed{v15}, 16, "cluster-major"},
		{"data of a version that is too old is not started", []db.Installed{v16, v14}, 14, "server-too-old"},
		{"nothing is found", nil, 0, "server-missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := db.Choose(c.from, "", c.made)
			if err != nil {
				refused(t, err, c.want)
			} else if db.InstalledIn(got) != c.want {
				t.Errorf("chose %v, want %s", got, c.want)
			}
		})
	}
}

func TestADamagedClusterIsRefusedAndKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		break_ func(data string) error
		code   string
	}{
		{"no version file", func(data string) error { return os.Remove(filepath.Join(data, "PG_VERSION")) }, "cluster-damaged"},
		{"a version file with rubbish", func(data string) error {
			return os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("fifteen"), 0o600)
		}, "cluster-damaged"},
		{"made by another major version", func(data string) error {
			return os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("99\n"), 0o600)
		}, "cluster-major"},
		{"no control file", func(data string) error { return os.Remove(filepath.Join(data, "global", "pg_control")) }, "cluster-damaged"},
		{"a control file cut short", func(data string) error {
			return os.Truncate(filepath.Join(data, "global", "pg_control"), 100)
		}, "cluster-damaged"},
		{"a flipped byte in the control file", func(data string) error {
			return flip(filepath.Join(data, "global", "pg_control"), 40)
		}, "cluster-damaged"},
		{"no write-ahead log", func(data string) error { return removeFiles(filepath.Join(data, "pg_wal", "0*")) }, "cluster-damaged"},
		{"no system tables", func(data string) error { return removeFiles(filepath.Join(data, "global", "1*")) }, "cluster-damaged"},
		{"no transaction status", func(data string) error { return os.RemoveAll(filepath.Join(data, "pg_xact")) }, "cluster-damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
			made := start(t, o)
			data := made.DataDir()
			stop(t, made)
			if err := c.break_(data); err != nil {
				t.Fatal(err)
			}
			_, err := db.StartCluster(t.Context(), o)
			refused(t, err, c.code)
			if _, err := os.Stat(filepath.Join(data, "base")); err != nil {
				t.Errorf("the data directory was touched: %v", err)
			}
		})
	}
}

func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b[:], at)
	return err
}

func removeFiles(pattern string) error {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		return fmt.Errorf("%s matches %d files: %w", pattern, len(names), err)
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

func TestASocketHeldByAnotherServerIsNamed(t *testing.T) {
	t.Parallel()
	sockets := filepath.Join(dbtest.Dir(t), "s")
	first, second := options(t, filepath.Join(dbtest.Dir(t), "postgres")), options(t, filepath.Join(dbtest.Dir(t), "postgres"))
	stop(t, start(t, second)) // a later start, which clears up after itself, must spare the other server too
	first.SocketDir, second.SocketDir = sockets, sockets
	c := start(t, first)
	_, err := db.StartCluster(t.Context(), second)
	refused(t, err, "socket-held", ".s.PGSQL.5432")
	ask(t, c.Config(), "select 'the first is unharmed'")
}

func TestAPathThatTheServersUserCannotPassIsNamed(t *testing.T) {
	t.Parallel()
	asRoot(t)
	home := filepath.Join(dbtest.Dir(t), "root")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := db.StartCluster(t.Context(), options(t, filepath.Join(home, "checkout", "var", "postgres")))
	refused(t, err, "cluster-unreachable", home+" ", "chmod o+x "+home, "postgres")
}

func TestDirectoriesOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	asRoot(t)
	t.Run("a data directory restored by root", func(t *testing.T) {
		t.Parallel()
		o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
		c := start(t, o)
		stop(t, c)
		if err := os.Chown(c.DataDir(), 0, 0); err != nil {
			t.Fatal(err)
		}
		_, err := db.StartCluster(t.Context(), o)
		refused(t, err, "cluster-owner", c.DataDir(), "belongs to root", "chown -R postgres")
	})
	t.Run("files in it restored by root", func(t *testing.T) {
		t.Parallel()
		o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
		c := start(t, o)
		stop(t, c)
		if err := os.Chown(filepath.Join(c.DataDir(), "global", "pg_control"), 0, 0); err != nil {
			t.Fatal(err)
		}
		_, err := db.StartCluster(t.Context(), o)
		refused(t, err, "cluster-unreadable", "pg_control")
	})
	t.Run("a directory made by another user", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(dbtest.Dir(t), "postgres")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		_, err := db.StartCluster(t.Context(), options(t, dir))
		refused(t, err, "cluster-owner", dir, "nobody")
	})
	t.Run("a link planted where the log goes", func(t *testing.T) {
		t.Parallel()
		dir, elsewhere := dbtest.Dir(t), dbtest.Dir(t)
		if err := os.Symlink(elsewhere, filepath.Join(dir, "log")); err != nil {
			t.Fatal(err)
		}
		_, err := db.StartCluster(t.Context(), options(t, dir))
		refused(t, err, "cluster-dir", filepath.Join(dir, "log"))
	})
}

func TestAFileInTheWayIsNamed(t *testing.T) {
	t.Parallel()
	file := filepath.Join(dbtest.Dir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := db.StartCluster(t.Context(), options(t, filepath.Join(file, "postgres")))
	refused(t, err, "cluster-dir", file)
}

// asNobody runs the child process as an unprivileged user.
func asNobody(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	asRoot(t)
	// The test binary lies where only root may go: give nobody a copy.
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dbtest.Dir(t), "db.test")
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = path, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
}

func TestAnUnprivilegedUser(t *testing.T) {
	t.Parallel()
	nobody := asNobody(t)
	t.Run("runs a cluster of its own", func(t *testing.T) {
		t.Parallel()
		dir := dbtest.Dir(t)
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		_, line := inOwnProcess(t, filepath.Join(dir, "postgres"), "", nobody)
		readyPID(t, line)
	})
	t.Run("is told of a cluster that it may not read", func(t *testing.T) {
		t.Parallel()
		o := options(t, filepath.Join(dbtest.Dir(t), "postgres"))
		stop(t, start(t, o))
		_, line := inOwnProcess(t, o.Dir, "", nobody)
		if !strings.HasPrefix(line, "problem cluster-unreadable") || !strings.Contains(line, o.Dir) || !strings.Contains(line, "nobody") {
			t.Errorf("said %q", line)
		}
	})
	t.Run("is told of a directory that it may not make", func(t *testing.T) {
		t.Parallel()
		dir := dbtest.Dir(t)
		_, line := inOwnProcess(t, filepath.Join(dir, "postgres"), "", nobody)
		if !strings.HasPrefix(line, "problem cluster-unreadable") || !strings.Contains(line, dir) {
			t.Errorf("said %q", line)
		}
	})
}

// smallDisk mounts a file system of so many megabytes.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	asRoot(t)
	dir := filepath.Join(dbtest.Dir(t), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", megabytes)); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	return dir
}

// fill writes until there is no space left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = error(nil); err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskIsNamed(t *testing.T) {
	t.Parallel()
	t.Run("when the cluster is made", func(t *testing.T) {
		disk := smallDisk(t, 20)
		o := options(t, filepath.Join(disk, "postgres"))
		_, err := db.StartCluster(t.Context(), o)
		refused(t, err, "disk-full", disk)
		if _, err := os.Stat(filepath.Join(o.Dir, "data.new")); !os.IsNotExist(err) {
			t.Error("the failed attempt still takes up space")
		}
	})
	t.Run("when the server starts, which works again with space", func(t *testing.T) {
		disk := smallDisk(t, 200)
		o := options(t, filepath.Join(disk, "postgres"))
		stop(t, start(t, o))
		ballast := filepath.Join(disk, "ballast")
		fill(t, ballast)
		_, err := db.StartCluster(t.Context(), o)
		refused(t, err, "disk-full", disk)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		stop(t, start(t, o))
	})
}
