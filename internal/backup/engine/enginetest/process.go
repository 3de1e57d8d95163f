package enginetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// processes lists the engine's processes of this world.
func (w World) processes(all bool) (pids []int) {
	for _, pid := range children(w.Program, all) {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if err == nil && bytes.Contains(text, []byte(w.Own)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// children lists the processes of a program that descend from this one. Those
// that a database server began are left out unless asked for.
func children(program string, all bool) (pids []int) {
	parents, names := map[int]int{}, map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		// "pid (name) state ppid ..."; the name may hold anything.
		text := string(stat)
		open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		fields := strings.Fields(text[end+1:])
		if open < 0 || len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		names[pid] = text[open+1 : end]
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	for pid, name := range names {
		if name != program {
			continue
		}
		for up := parents[pid]; up > 1; up = parents[up] {
			if strings.HasPrefix(names[up], "postgres") && !all {
				break
			}
			if up == os.Getpid() {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// watch looks into the arguments and environment of the engine's processes
// until it is stopped, for secrets. It returns how many it saw.
func (w World) watch(t testing.TB) (stop func() int) {
	quit := make(chan struct{})
	var group sync.WaitGroup
	seen := map[int]bool{}
	group.Go(func() {
		for {
			for _, pid := range w.processes(true) {
				for _, what := range []string{"cmdline", "environ"} {
					text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), what))
					if err != nil || len(text) == 0 {
						continue
					}
					seen[pid] = true
					for _, secret := range w.Secrets {
						if bytes.Contains(text, []byte(secret)) {
							t.Errorf("a secret is in %s of %s", what, w.Program)
						}
					}
				}
			}
			select {
			case <-quit:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	return func() int {
		close(quit)
		group.Wait()
		return len(seen)
	}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.NewTimer(3 * time.Minute)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-end.C:
			t.Fatalf("timed out waiting until %s", what)
		case <-tick.C:
		}
	}
}

// Volume is a small file system of its own, in memory, for a target that is to
// become full or read-only. Where none can be mounted it is a directory, and
// remount is nil.
func Volume(t testing.TB, megabytes int) (dir string, remount func(options string)) {
	t.Helper()
	base, err := os.MkdirTemp("/tmp", "foundry-volume-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.Chmod(base, 0o711); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(base, "volume")
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	size := "size=" + strconv.Itoa(megabytes) + "m,mode=711"
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
		t.Logf("no file system can be mounted here: %v", err)
		return dir, nil
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, func(options string) {
		flags := uintptr(syscall.MS_REMOUNT)
		if options == "ro" {
			flags |= syscall.MS_RDONLY
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, size); err != nil {
			t.Fatal(err)
		}
	}
}

// Fill fills a file system to the last byte and returns how to free it.
func Fill(t testing.TB, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	_ = f.Close()
	return func() { _ = os.Remove(path) }
}
