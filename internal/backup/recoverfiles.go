package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/durable"
)

// filesBeside restores the backup of files into a place of its own while the
// database is being restored: restic derives its key anew for each of several
// commands before it reads anything. It touches neither the record nor the rest of the data directory.
type filesBeside struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	point engine.Point
	done  engine.Restored
	notes []string
	err   error

	mu   sync.Mutex
	told engine.Progress // nil: nobody waits yet
}

// filesDir is where the backup of files is restored to, before what belongs to
// the data directory is taken from there.
func (x *recovering) filesDir() string { return filepath.Join(x.o.DataDir, "recovery", "files") }

// beginFiles begins to restore files, where that has not begun or is done.
func (x *recovering) beginFiles(ctx context.Context) {
	if x.files != nil || x.engines.Files == nil || x.r.done(StepFiles) {
		return
	}
	f := &filesBeside{}
	x.files = f
	ctx, f.cancel = context.WithCancel(ctx)
	wanted := x.r.Wanted
	f.wg.Go(func() {
		var t target.Target
		if t, f.point, f.err = f.find(ctx, x.engines.Files, x.targets, func(p engine.Point) bool { return wanted.IsZero() || !p.Stopped.After(wanted) }); f.err == nil && f.point.Label != "" {
			f.done, f.err = f.restore(ctx, x.engines.Files, t, x.filesDir())
		}
	})
}

// wait returns what was restored. A point without a label: there is none. From
// now on, and not before, p hears how far it is.
func (f *filesBeside) wait(p engine.Progress) (engine.Point, engine.Restored, error) {
	f.mu.Lock()
	f.told = p
	f.mu.Unlock()
	f.wg.Wait()
	return f.point, f.done, f.err
}

// end gives up what is not finished.
func (f *filesBeside) end() {
	if f != nil {
		f.cancel()
		f.wg.Wait()
	}
}

// find finds the newest backup of files that fits.
func (f *filesBeside) find(ctx context.Context, files engine.Engine, targets []target.Target, fits func(engine.Point) bool) (best target.Target, point engine.Point, err error) {
	for _, t := range targets {
		if !t.Serves(files.Name()) {
			continue
		}
		points, err := files.Points(ctx, t)
		if err != nil {
			if ctx.Err() != nil {
				return best, point, err
			}
			f.notes = append(f.notes, fmt.Sprintf("The backups of files at %s were not used: %s", t.Name, detail(err)))
			continue
		}
		for _, p := range points {
			if p.Broken == "" && p.Stopped.After(point.Stopped) && fits(p) {
				best, point = t, p
			}
		}
	}
	return best, point, nil
}

// restore restores into an empty directory.
func (f *filesBeside) restore(ctx context.Context, files engine.Engine, t target.Target, to string) (engine.Restored, error) {
	if err := os.RemoveAll(to); err != nil {
		return engine.Restored{}, pathProblem(to, err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return engine.Restored{}, pathProblem(to, err)
	}
	return files.Restore(ctx, t, engine.RestoreRequest{Label: f.point.Label, To: to}, func(done, total int64, what string) {
		f.mu.Lock()
		told := f.told
		f.mu.Unlock()
		told.Tell(done, total, what)
	})
}

// moveFile moves a file of the same file system, durably. A segment of the
// journal has 64 MB: nothing is read for it.
func moveFile(from, to string, mode fs.FileMode) error {
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pathProblem(dir, err)
	}
	f, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return pathProblem(from, err)
	}
	err = errors.Join(f.Chown(os.Geteuid(), os.Getegid()), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(from, to)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return pathProblem(to, err)
	}
	return nil
}
