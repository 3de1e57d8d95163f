package restic

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// Restore implements engine.Engine. Files come to stand below r.To at their
// whole former path. Everything is read from the target: with restic's cache a
// restore succeeds here that would fail on a bare machine. It writes nothing
// at the target, not even a lock, so that a full or read-only one serves.
func (e *Engine) Restore(ctx context.Context, t target.Target, r engine.RestoreRequest, p engine.Progress) (done engine.Restored, err error) {
	to, err := emptyDirectory(r.To)
	if err != nil {
		return done, err
	}
	err = e.holding(t, "read", sharedLock, func() error {
		return e.with(ctx, t, func(s *session) error {
			done, err = s.restore(ctx, r, to, p)
			return err
		})
	})
	return done, err
}

// emptyDirectory refuses one that holds anything.
func emptyDirectory(path string) (string, error) {
	if path == "" {
		return "", problem.New(problem.Invalid, "restore-target", "It is not said where to restore to.").WithField("to")
	}
	to, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return to, nil
	case err != nil:
		return "", problem.New(problem.Invalid, "restore-target", "The directory "+to+" cannot be used: it is none, or not for this user.").WithField("to").Wrap(err)
	case len(entries) > 0:
		return "", problem.New(problem.Conflict, "restore-not-empty", "The directory "+to+" is not empty.").
			WithField("to").WithMend("Restore to an empty or a new directory, and move what is needed from there.")
	}
	return to, nil
}

func (s *session) restore(ctx context.Context, r engine.RestoreRequest, to string, p engine.Progress) (done engine.Restored, err error) {
	began := s.e.o.Now()
	var point engine.Point
	if r.Label != "" {
		point, err = s.find(ctx, r.Label)
	} else {
		point, err = s.newest(ctx, r.Time)
	}
	if err != nil {
		return done, err
	}
	want, err := s.sizeOf(ctx, point.Label)
	if err != nil {
		return done, err
	}
	if err := roomFor(to, want.Bytes); err != nil && len(r.Only) == 0 {
		return done, err
	}
	args := []string{"restore", point.Label, "--target", to, "--no-lock", "--no-cache"}
	for _, only := range r.Only {
		args = append(args, "--include", literal(only))
	}
	var pid atomic.Int64
	p.Tell(0, want.Bytes, "restoring")
	out, err := s.run(ctx, command{
		op: opRestore, args: args, pid: func(p int) { pid.Store(int64(p)) },
		alive: moved(func() int64 {
			written := writtenBy(int(pid.Load()))
			p.Tell(min(written, want.Bytes), want.Bytes, "restoring")
			return written
		}),
	})
	if err != nil {
		return done, err
	}
	got, err := measure(ctx, to)
	if err != nil {
		return done, err
	}
	done = engine.Restored{Point: point, Bytes: got.Bytes, Files: got.Entries, Took: s.e.o.Now().Sub(began), Said: out.Last}
	if err := compare(got, want, to, r.Only); err != nil {
		return done, err
	}
	p.Tell(got.Bytes, got.Bytes, "restored")
	return done, nil
}

// sizeOf asks how much a snapshot holds, without the cache.
func (s *session) sizeOf(ctx context.Context, label string) (stats, error) {
	out, err := s.run(ctx, command{op: opRead, args: []string{"stats", "--json", "--mode", "restore-size", "--no-lock", "--no-cache", label}})
	if err != nil {
		return stats{}, err
	}
	size, err := parseStats(out.Out)
	if err != nil {
		return stats{}, problem.New(problem.Upstream, "engine-answer", "What restic says of a snapshot cannot be read.").WithMend("Is it a newer version? Foundry is tested with 0.14.").Wrap(err)
	}
	return size, nil
}

// compare holds what is on the disk against the snapshot.
func compare(got, want stats, to string, only []string) error {
	for _, o := range only {
		if _, err := os.Lstat(filepath.Join(to, o)); err != nil {
			return problem.New(problem.NotFound, "restore-no-file", "The backup does not hold "+o+".").WithField("only").
				WithMend("Name it with its whole path, as it was when it was backed up.").Wrap(err)
		}
	}
	if len(only) == 0 && (got.Entries != want.Entries || got.Bytes != want.Bytes) {
		return problem.New(problem.Upstream, "restore-incomplete", fmt.Sprintf(
			"restic ended without an error, but %d files and directories with %d bytes are there, and the backup holds %d with %d.", got.Entries, got.Bytes, want.Entries, want.Bytes)).
			WithMend("Do not use what was restored. Run `foundry backup verify`, and restore from another target or point.")
	}
	return nil
}

// literal keeps restic from reading a path as a pattern.
func literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(filepath.Clean(path))
}

// writtenBy is how many bytes a process has written so far (proc(5),
// /proc/pid/io, wchar): restic 0.14 says nothing while it restores.
func writtenBy(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "wchar: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}
