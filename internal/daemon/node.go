package daemon

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/sys/unix"
)

// node is the identity of this installation on this machine.
type node struct {
	Number uint32 `json:"number"` // part of every request id
	Boot   uint32 `json:"boot"`   // counts the starts; part of every request id
}

// nextBoot reads the node's identity, counts one more start and makes that
// durable before it is used: a boot number must never be used twice.
func nextBoot(dir string) (node, error) {
	path := filepath.Join(dir, "node.json")
	var n node
	body, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(body, &n); err != nil || n.Number == 0 {
			return n, problem.New(problem.Internal, "node-file", path+" is damaged.").
				WithMend("Restore it from a backup; deleting it would give this node a new identity.").Wrap(err)
		}
	case errors.Is(err, fs.ErrNotExist):
		var raw [4]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
		n.Number = binary.BigEndian.Uint32(raw[:])>>1 | 1
	default:
		return n, unusable(path, err)
	}
	n.Boot++
	body, err = json.Marshal(n)
	if err != nil {
		return n, err
	}
	return n, replaceFile(path, append(body, '\n'), 0o600)
}

// replaceFile writes a file in one durable step.
func replaceFile(path string, body []byte, mode fs.FileMode) error {
	if err := durable.Replace(path, body, mode); err != nil {
		return unusable(path, err)
	}
	return nil
}

// holder is what the lock file says about the process that holds it.
type holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	URL   string    `json:"url"`
}

// lock is the exclusive hold of one process on a data directory. The kernel
// releases it when the process ends, however it ends.
type lock struct{ f *os.File }

func takeLock(dir string, now time.Time) (*lock, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, unusable(path, err)
	}
	if err := flock(f); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, unusable(path, err)
		}
		var h holder
		body, _ := os.ReadFile(path)
		who := "another process"
		if json.Unmarshal(body, &h) == nil && h.PID != 0 {
			who = fmt.Sprintf("process %d, since %s", h.PID, h.Since.Format(time.DateTime))
			if h.URL != "" {
				who += ", at " + h.URL
			}
		}
		return nil, problem.New(problem.Conflict, "data-dir-held", fmt.Sprintf("The data directory %s is in use by %s.", dir, who)).
			WithMend("Use that one, stop it, or choose another --data-dir.")
	}
	l := &lock{f}
	return l, l.describe(holder{PID: os.Getpid(), Since: now})
}

// lockPatience is how long a start waits for a process that was just killed
// to be gone: the kernel takes a moment to close its files.
const lockPatience = time.Second

func flock(f *os.File) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
}

// describe tells whoever comes second who holds the lock.
func (l *lock) describe(h holder) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return unusable(l.f.Name(), err)
	}
	_, err = l.f.WriteAt(append(body, '\n'), 0)
	if err != nil {
		return unusable(l.f.Name(), err)
	}
	return nil
}

func (l *lock) release() { _ = l.f.Close() }

// prepareDir makes the data directory and checks that it can be used.
func prepareDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", unusable(dir, err)
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // the database's unprivileged user must pass through to its own folder
	}
	if err := os.MkdirAll(abs, mode); err != nil {
		return "", unusable(abs, err)
	}
	probe, err := os.CreateTemp(abs, ".write-*")
	if err != nil {
		return "", unusable(abs, err)
	}
	defer os.Remove(probe.Name())
	defer probe.Close()
	if _, err := probe.Write(make([]byte, 4096)); err != nil {
		return "", unusable(abs, err)
	}
	return abs, nil
}

// unusable says in one sentence why a path cannot be used.
func unusable(path string, err error) error {
	e := problem.New(problem.Unavailable, "path-unusable", fmt.Sprintf("%s cannot be used: %s.", path, plainReason(err))).Wrap(err)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Code, e.Detail = "disk-full", fmt.Sprintf("The disk that holds %s is full.", path)
		return e.WithMend("Free some space, or choose a --data-dir on another disk.")
	case errors.Is(err, fs.ErrPermission):
		return e.WithMend("Run as the user who owns it, or choose another --data-dir.")
	case errors.Is(err, syscall.EROFS):
		return e.WithMend("It lies on a read-only file system: choose another --data-dir.")
	}
	return e.WithMend("Check the path, or choose another --data-dir.")
}

func plainReason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "open ")
}
