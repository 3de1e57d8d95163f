package engine

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Credential: as}
}

// YieldProcessor lets everybody else go before this thread, which has to be
// locked: on Linux a priority is of a thread (setpriority(2), "C library/kernel
// differences"). It cannot be taken back.
func YieldProcessor() {
	const least, lower = 19, 10
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	if err != nil {
		return
	}
	nice := 20 - raw // what the kernel returns is never negative
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), min(nice+lower, least))
}

// memoryBacked reports whether a file system of this type (statfs(2), f_type)
// keeps its files in memory only: tmpfs, ramfs.
func memoryBacked(dir string) (bool, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return false, err
	}
	return int64(fs.Type) == 0x01021994 || int64(fs.Type) == 0x858458f6, nil
}
