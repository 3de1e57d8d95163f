package db

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes makes a child that dies with this process: the kernel sends the
// signal when the thread that started it ends, so that thread must be locked
// for as long as the child is wanted (prctl(2), PR_SET_PDEATHSIG). A group of
// its own keeps Control-C in a terminal from reaching it before we have drained.
func (a account) attributes() *syscall.SysProcAttr {
	at := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	if a.switched {
		at.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return at
}

// serverProcesses lists the processes of a server, or of its making, that work
// in a data directory: every one of them has it as its working directory.
func serverProcesses(data string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil {
			continue
		}
		switch strings.TrimSuffix(filepath.Base(exe), " (deleted)") {
		case "postgres", "initdb":
		default:
			continue
		}
		if cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd")); err == nil && cwd == data {
			pids = append(pids, pid)
		}
	}
	return pids
}

// departedServers lists the servers that were started for a data directory, in
// the same tree of files as this process, and work elsewhere: theirs was moved
// or removed.
func departedServers(data string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	mine, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || strings.TrimSuffix(filepath.Base(exe), " (deleted)") != "postgres" {
			continue
		}
		// Only the first process of a server keeps its arguments; the others
		// show what they do.
		text, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(string(text), "\x00")
		if err != nil || len(args) < 3 || args[1] != "-D" || args[2] != data {
			continue
		}
		cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
		if space, nerr := os.Readlink(filepath.Join(dir, "ns", "mnt")); err != nil || nerr != nil || space != mine || cwd == data {
			continue
		}
		pids = append(pids, pid)
	}
	return pids
}

// sinceBoot is the clock that goes on while the machine sleeps.
func sinceBoot() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // fails only for a clock that the kernel does not know
	}
	return ts.Nano()
}
