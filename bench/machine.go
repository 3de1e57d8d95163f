//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// facts describes the machine, as far as it decides the numbers.
func facts(dir, nginx string) []string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	version, _ := exec.Command(nginx, "-v").CombinedOutput()
	sync := syncTimes(dir)
	return []string{
		fmt.Sprintf("%d × %s, Linux %s, %s", runtime.NumCPU(), processor(), unix.ByteSliceToString(u.Release[:]), runtime.Version()),
		strings.TrimPrefix(strings.TrimSpace(string(version)), "nginx version: "),
		fmt.Sprintf("journal and database on %s; writing and syncing 512 bytes there takes %s (median), %s (p99)", fileSystem(dir),
			short(sync[len(sync)/2]), short(sync[len(sync)*99/100])),
	}
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// fileSystem names the type by its magic number (statfs(2)).
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "an unknown file system"
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs (nothing is durable there: name a directory on a disk with -dir)"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", s.Type)
}

// syncTimes measures what one group commit costs at least: an append and
// fdatasync. The result is sorted.
func syncTimes(dir string) []time.Duration {
	times := []time.Duration{0}
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return times
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	block := make([]byte, 512)
	for range 300 {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return times
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return times
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times
}

// short writes a duration with three digits at most.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Millisecond || d <= -10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	default:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
	}
}
