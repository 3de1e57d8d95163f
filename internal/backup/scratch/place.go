// Package scratch knows how to start a restored copy of the database apart
// from everything else, and what it proves.
//
// A copy has a directory, a socket, a lock and a log of its own, no TCP port,
// and archiving off, so that it cannot write into the repository it came from.
// It is thrown away afterwards; what a killed process leaves is found at the
// next start.
//
// What a copy is compared with comes from outside of it: a copy that is stale,
// empty or of something else looks perfectly consistent to itself.
package scratch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// prefix of the directories of copies, below a base that others may use too.
const prefix = "copy-"

// Place is a directory for one restored copy, held by this process.
type Place struct {
	Dir   string
	owner *os.File
}

// Make makes a place below base, which the server's user may pass through.
func Make(base string) (*Place, error) {
	if err := os.MkdirAll(base, 0o711); err != nil {
		return nil, blocked(base, err)
	}
	if err := os.Chmod(base, 0o711); err != nil {
		return nil, blocked(base, err)
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	dir := filepath.Join(base, prefix+hex.EncodeToString(random))
	// It gets its name when its lock is held: a sweep must not take it for a
	// leftover in between.
	next := filepath.Join(base, "."+prefix+hex.EncodeToString(random))
	if err := os.Mkdir(next, 0o711); err != nil {
		return nil, blocked(next, err)
	}
	owner, err := hold(filepath.Join(next, "owner"))
	if err != nil {
		_ = os.RemoveAll(next)
		return nil, err
	}
	if err := os.Rename(next, dir); err != nil {
		_ = owner.Close()
		_ = os.RemoveAll(next)
		return nil, blocked(dir, err)
	}
	return &Place{Dir: dir, owner: owner}, nil
}

// Data is where the copy is restored to; it does not exist yet.
func (p *Place) Data() string { return filepath.Join(p.Dir, "data") }

// Remove removes the place with everything in it.
func (p *Place) Remove(ctx context.Context) error {
	err := remove(ctx, p.Dir)
	return errors.Join(err, p.owner.Close())
}

// Leave gives the place up with everything in it: Sweep removes it.
func (p *Place) Leave() error { return p.owner.Close() }

func remove(ctx context.Context, dir string) error {
	if err := db.RemoveRestored(ctx, dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// hold takes a lock that the kernel releases when this process ends.
func hold(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, blocked(path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errHeld
		}
		return nil, blocked(path, err)
	}
	return f, nil
}

var errHeld = problem.New(problem.Conflict, "copy-held", "Another process works on this copy.").WithMend("Wait for it.")

// Sweep removes what killed processes left below base, and returns which.
// Copies that somebody works on stay.
func Sweep(ctx context.Context, base string, log *slog.Logger) (removed []string, err error) {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, blocked(base, err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(strings.TrimPrefix(e.Name(), "."), prefix) {
			continue
		}
		dir := filepath.Join(base, e.Name())
		owner, err := hold(filepath.Join(dir, "owner"))
		if errors.Is(err, errHeld) {
			continue
		}
		if err == nil {
			err = remove(ctx, dir)
			_ = owner.Close()
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if log != nil {
			log.Warn("removed a restored copy that an earlier process had left", "dir", dir)
		}
		removed = append(removed, dir)
	}
	return removed, errors.Join(errs...)
}

// Free returns how many bytes are free for an unprivileged user where a
// directory is, or will be.
func Free(dir string) (int64, error) {
	for {
		var at syscall.Statfs_t
		err := syscall.Statfs(dir, &at)
		if err == nil {
			return int64(at.Bavail) * at.Bsize, nil //nolint:gosec // sizes of real disks fit
		}
		parent := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || parent == dir {
			return 0, blocked(dir, err)
		}
		dir = parent
	}
}

func blocked(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return problem.New(problem.Unavailable, "scratch-full", fmt.Sprintf("The disk of %s is full: a copy cannot be restored there.", path)).
			WithMend("Free space there, or name another place in backup.scratch_dir.").Wrap(err)
	}
	return problem.New(problem.Unavailable, "scratch-unusable", fmt.Sprintf("%s cannot be used for a restored copy.", path)).
		WithMend("Name another place in backup.scratch_dir.").Wrap(err)
}
