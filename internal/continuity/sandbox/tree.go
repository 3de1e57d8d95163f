package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// signalTree sends a signal to a process and everything below it, its children
// before their parents notice.
func signalTree(pid int, sig syscall.Signal) error {
	below := descendants(pid)
	err := syscall.Kill(pid, sig)
	for _, p := range below {
		_ = syscall.Kill(p, sig)
	}
	return err
}

// descendants are the processes below one, whoever they run as.
func descendants(of int) (out []int) {
	parent := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(text), ") ")
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if fields := strings.Fields(rest); ok && len(fields) > 1 {
			parent[pid], _ = strconv.Atoi(fields[1])
		}
	}
	for pid := range parent {
		for at, n := pid, 0; at > 1 && n < 64; at, n = parent[at], n+1 {
			if parent[at] == of {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}

// inSpace are the processes of a machine, also those whose parent is gone.
func (n *network) inSpace(i int) (out []int) {
	if !n.spaces || i == 0 {
		return nil
	}
	text, _ := exec.Command("ip", "netns", "pids", n.space(i)).Output()
	for f := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// besides are processes that work below a directory: a database server that
// its parent left behind.
func besides(dir string) (out []int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		text, _ := os.ReadFile(path)
		if !strings.Contains(string(text), dir) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out
}

func file(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("preparing the sandbox: %w", err)
	}
	return path, nil
}
