package db

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// acquire takes the lock that says which process supervises the cluster. The
// kernel releases it when the process ends, however it ends.
func (l layout) acquire() (*os.File, error) {
	f, err := os.OpenFile(l.lock, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fileProblem(l.lock, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fileProblem(l.lock, err)
		}
		text := make([]byte, 32)
		n, _ := f.ReadAt(text, 0)
		holder := "another process"
		if pid := strings.TrimSpace(string(text[:n])); pid != "" {
			holder = "process " + pid
		}
		return nil, problem.New(problem.Conflict, "cluster-held", "The database in "+l.dir+" is in use by "+holder+".").
			WithMend("Use the Foundry that is running, stop it first, or choose another data directory.")
	}
	if err := f.Truncate(0); err != nil {
		_ = f.Close()
		return nil, fileProblem(l.lock, err)
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		_ = f.Close()
		return nil, fileProblem(l.lock, err)
	}
	return f, nil
}

// pidFile is what a postmaster writes about itself (utils/pidfile.h).
type pidFile struct {
	pid    int
	status string // "starting", "ready", "stopping", "standby"
}

func readPidFile(data string) (pidFile, error) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return pidFile{}, err
	}
	return parsePidFile(string(text))
}

func parsePidFile(text string) (pidFile, error) {
	lines := strings.Split(text, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 0 {
		return pidFile{}, fmt.Errorf("postmaster.pid begins with %q, not a process id", tail(lines[0], 20))
	}
	p := pidFile{pid: pid}
	if len(lines) > 7 {
		p.status = strings.TrimSpace(lines[7])
	}
	return p, nil
}

// stopSurvivors stops whatever server still works in the data directory. The
// caller holds the lock, so its supervisor is dead: a server that was asked to
// stop by its parent's death and is still busy with it, or one that nobody
// told. Politely first (fast shutdown), then at once, then by force.
func stopSurvivors(ctx context.Context, data string) error {
	survivors := func() []int {
		pids := serverProcesses(data)
		if p, err := readPidFile(data); err == nil && len(pids) == 0 && p.pid > 1 && isPostmaster(p.pid, data) {
			pids = append(pids, p.pid)
		}
		return pids
	}
	if len(survivors()) == 0 {
		return nil
	}
	killAll(survivors(), syscall.SIGCONT) // a frozen one would not hear the polite request
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, 15 * time.Second}, {syscall.SIGQUIT, 5 * time.Second}, {syscall.SIGKILL, 5 * time.Second}} {
		if p, err := readPidFile(data); err == nil && step.signal == syscall.SIGINT && slices.Contains(survivors(), p.pid) {
			killAll([]int{p.pid}, step.signal) // the postmaster tells its children
		} else {
			killAll(survivors(), step.signal)
		}
		if waitUntil(ctx, step.wait, func() bool { return len(survivors()) == 0 }) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stopping the server left in %s: %w", data, context.Cause(ctx))
		}
	}
	return problem.New(problem.Conflict, "cluster-survivor", fmt.Sprintf(
		"A database server left by an earlier Foundry still runs in %s as process %v, and does not stop.", data, survivors())).
		WithMend("Stop it, or restart the machine.")
}

// departing is how long a server whose directory is gone may take to end.
const departing = 30 * time.Second

// waitForDeparted waits for a server that was started at this path and whose
// directory was moved or removed since: it was lost with its node, or belongs
// to one that was moved while it ran. When it ends it removes its socket, by
// name, which would be the new server's.
func waitForDeparted(ctx context.Context, data string) error {
	if waitUntil(ctx, departing, func() bool { return len(departedServers(data)) == 0 }) {
		return nil
	}
	return problem.New(problem.Conflict, "cluster-departed", fmt.Sprintf(
		"A database server that was started in %s still runs as process %v, though its directory was moved or removed. When it ends it takes the socket of a new one with it.", data, departedServers(data))).
		WithMend("Stop it, or the Foundry that it belongs to; or choose another data directory.")
}

// clearStaleLocks removes the lock files of a server that is gone where they
// would keep a new one from starting. PostgreSQL goes by whether the process
// id in them exists (CreateLockFile in utils/init/miscinit.c), and it does if
// it was given to somebody else since, or if the dead server is still a zombie
// because the container's first process reaps none. The caller holds the lock
// of the cluster and has stopped what worked in the data directory. A file
// whose process is gone altogether is PostgreSQL's to judge.
func clearStaleLocks(data, run, port string) error {
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		return nil // nobody can say who works in the data directory
	}
	for _, path := range []string{filepath.Join(data, "postmaster.pid"), filepath.Join(run, socketName(port)+".lock")} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		p, err := parsePidFile(string(text))
		if lines := strings.Split(string(text), "\n"); len(lines) < 2 || strings.TrimSpace(lines[1]) != data {
			continue // a shared socket directory: the lock of another data directory's server
		}
		if err != nil || errors.Is(syscall.Kill(p.pid, 0), syscall.ESRCH) || slices.Contains(serverProcesses(data), p.pid) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fileProblem(path, err)
		}
	}
	return nil
}

// isPostmaster guards against a process id that was used again by a stranger,
// where there is no /proc to ask: a server holds its socket's lock file open
// under the same id. On Linux serverProcesses already knows.
func isPostmaster(pid int, data string) bool {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return slices.Contains(serverProcesses(data), pid)
	}
	return syscall.Kill(pid, 0) == nil
}

// waitUntil polls a condition that nothing announces.
func waitUntil(ctx context.Context, limit time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return ok()
		case <-tick.C:
		}
	}
	return true
}
