package enginetest

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Held is a file that nobody can open until it is let go.
type Held struct {
	t    testing.TB
	file *os.File
}

// Hold makes whoever opens a file stand still in open(2), by a lease for
// writing (fcntl(2), F_SETLEASE): an engine that has to read it is then at an
// exact place of its work, however fast or slow the machine is. The kernel
// takes the lease away after /proc/sys/fs/lease-break-time, 45 s unless set
// otherwise: whoever needs more stops the processes meanwhile.
func Hold(t testing.TB, path string) *Held {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody may have it open for a moment still.
	until(t, "nobody has "+path+" open", func() bool {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		return err != unix.EAGAIN //nolint:errorlint // as the call returns it
	})
	if err != nil {
		t.Fatalf("%s cannot be held: %v", path, err)
	}
	h := &Held{t: t, file: f}
	t.Cleanup(h.Release)
	return h
}

// Reached waits until somebody stands there.
func (h *Held) Reached() {
	h.t.Helper()
	until(h.t, "somebody opens "+h.file.Name(), func() bool {
		kind, err := unix.FcntlInt(h.file.Fd(), unix.F_GETLEASE, 0)
		return err == nil && kind != unix.F_WRLCK
	})
}

// Release lets them go on. It may be called again.
func (h *Held) Release() { _ = h.file.Close() }

// signal sends a signal to the engine's processes of this world, and fails the
// test where there are none.
func (w World) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	pids := w.processes(false)
	if len(pids) == 0 {
		t.Errorf("no %s runs", w.Program)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, s) // it may be gone already
	}
}
