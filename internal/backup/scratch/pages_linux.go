package scratch

import "golang.org/x/sys/unix"

// yieldProcessor lets everybody else go first: on Linux a priority is of a
// thread (setpriority(2), "C library/kernel differences").
func yieldProcessor() { _ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 10) }
