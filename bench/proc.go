//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Debian
// ships: the unit of /proc/PID/stat and /proc/stat (proc(5)).
const ticksPerSecond = 100

// process is what /proc/PID/stat says about a process.
type process struct {
	pid, parent int
	own         int64 // ticks of user and system time
	reaped      int64 // ticks of the children it has waited for
	dead        bool  // ended, and nobody has waited for it
}

func parseStat(text []byte) (process, error) {
	// The second field is the program's name in parentheses, which may hold anything.
	at := bytes.LastIndexByte(text, ')')
	pid, _, _ := bytes.Cut(text, []byte{' '})
	if at < 0 {
		return process{}, fmt.Errorf("unexpected /proc/PID/stat: %q", text)
	}
	f := strings.Fields(string(text[at+1:])) // f[0] is field 3 of proc(5)
	if len(f) < 15 {
		return process{}, fmt.Errorf("unexpected /proc/PID/stat: %q", text)
	}
	number := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n }
	return process{pid: int(number(string(pid))), parent: int(number(f[1])), own: number(f[11]) + number(f[12]), reaped: number(f[13]) + number(f[14]),
		dead: f[0] == "Z"}, nil
}

// census is every process at one moment.
type census map[int]process

func takeCensus() census {
	all := census{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		if p, err := parseStat(text); err == nil {
			all[p.pid] = p
		}
	}
	return all
}

// tree is the processor time of a process and all its descendants, with those
// that have ended.
func (c census) tree(root int) (seconds float64) {
	var ticks int64
	for pid, p := range c {
		if c.descends(pid, root) {
			ticks += p.own + p.reaped
		}
	}
	return float64(ticks) / ticksPerSecond
}

// self is the processor time of one process alone.
func (c census) self(pid int) float64 { return float64(c[pid].own) / ticksPerSecond }

func (c census) descends(pid, root int) bool {
	for range 64 { // deeper than any tree here; a pid may be reused while we look
		if pid == root {
			return true
		}
		p, ok := c[pid]
		if !ok || p.parent == pid {
			return false
		}
		pid = p.parent
	}
	return false
}

// machineTime is the whole machine's processor time so far: what processes
// used, and what the hypervisor took away, in seconds (proc(5), /proc/stat).
func machineTime() (busy, stolen float64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, f := range strings.Fields(line) {
		n, _ := strconv.ParseFloat(f, 64)
		switch i {
		case 1, 2, 3, 6, 7: // user, nice, system, irq, softirq
			busy += n / ticksPerSecond
		case 8:
			stolen = n / ticksPerSecond
		}
	}
	return busy, stolen
}

// memory reads VmRSS and VmHWM of a process, in bytes.
func memory(pid int) (now, peak int64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		kilobytes, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		switch name {
		case "VmRSS":
			now = kilobytes << 10
		case "VmHWM":
			peak = kilobytes << 10
		}
	}
	return now, peak
}
