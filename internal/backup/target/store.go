package target

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
)

// File is one file that a target holds, below the target's path.
type File struct {
	Name     string // with / between its parts
	Size     int64
	Modified time.Time
}

// Store reads and writes single files at a target, apart from what engines do
// there: the emergency kit, a look at the header of a repository, the lock of a
// run that died. A file that is missing is a *problem.Error with code
// "target-file-missing"; a target that cannot be reached, or refuses, is one
// with code "target-gone", "target-denied", "target-full" or "target-read-only".
type Store interface {
	// List names every file whose name begins with prefix, sorted by name.
	List(ctx context.Context, prefix string) ([]File, error)
	// Open reads a file. The caller closes it.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Put writes a file whole: whoever reads it sees the old one or the new one.
	Put(ctx context.Context, name string, content []byte) error
	// Delete removes a file. One that is not there is no error.
	Delete(ctx context.Context, name string) error
	Close() error
}

// Store opens the target for single files. The caller closes it. One in a
// directory writes only to what was accepted, or may be.
func (t Target) Store(ctx context.Context) (Store, error) {
	s, err := t.bare(ctx)
	if d, ok := s.(directory); ok {
		d.target = &t
		return d, nil
	}
	return s, err
}

// bare is Store without a look at what is there.
func (t Target) bare(ctx context.Context) (Store, error) {
	switch t.Kind {
	case S3Bucket:
		return NewS3(t)
	case SFTPHost:
		return DialSFTP(ctx, t)
	}
	return directory{name: t.Name, path: t.Path}, nil
}

// directory is the store of a directory on this machine or on one that is mounted.
type directory struct {
	name, path string
	target     *Target // nil: whatever is there will do
}

func (d directory) Close() error { return nil }

// List implements Store.
func (d directory) List(ctx context.Context, prefix string) (files []File, err error) {
	if err := d.there(); err != nil {
		return nil, err
	}
	err = filepath.WalkDir(d.path, func(p string, e fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		name, err := filepath.Rel(d.path, p)
		if err != nil || name == "." {
			return err
		}
		if name = filepath.ToSlash(name); e.IsDir() {
			if !strings.HasPrefix(name+"/", prefix) && !strings.HasPrefix(prefix, name+"/") {
				return fs.SkipDir
			}
			return nil
		}
		if info, err := e.Info(); err == nil && e.Type().IsRegular() && strings.HasPrefix(name, prefix) {
			files = append(files, File{Name: name, Size: info.Size(), Modified: info.ModTime()})
		}
		return nil
	})
	if err != nil {
		return nil, d.explain(err)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// Open implements Store.
func (d directory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	if err := errors.Join(fileName(name), d.there()); err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(d.path, name))
	if err != nil {
		return nil, d.explain(err)
	}
	return f, nil
}

// Put implements Store. The file is on the disk when it returns.
func (d directory) Put(ctx context.Context, name string, content []byte) error {
	if err := errors.Join(fileName(name), d.there()); err != nil {
		return err
	}
	if d.target != nil {
		if err := d.target.Admit(ctx); err != nil {
			return err
		}
	}
	path := filepath.Join(d.path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return d.explain(err)
	}
	if err := durable.Replace(path, content, 0o600); err != nil {
		return d.explain(err)
	}
	return nil
}

// Delete implements Store.
func (d directory) Delete(_ context.Context, name string) error {
	if err := errors.Join(fileName(name), d.there()); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.explain(err)
	}
	return nil
}

// there keeps a mount that is away from looking like an empty target.
func (d directory) there() error {
	if d.target != nil {
		return d.target.There()
	}
	if info, err := os.Stat(d.path); err != nil || !info.IsDir() {
		return gone(d.name, "path", errors.Join(err, errors.New(d.path+" is not a directory")))
	}
	return nil
}

func (d directory) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fileMissing(d.name).Wrap(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return full(d.name).Wrap(err)
	case errors.Is(err, syscall.EROFS):
		return readOnly(d.name).Wrap(err)
	case errors.Is(err, fs.ErrPermission):
		return denied(d.name, "This user may not do that there.").Wrap(err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return gone(d.name, "path", err)
}

// fileName refuses names that would leave the target's path.
func fileName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") {
		return problem.New(problem.Invalid, "target-file-name", "This is not the name of a file at a target.")
	}
	return nil
}

func isMissing(err error) bool {
	var p *problem.Error
	return errors.As(err, &p) && p.Code == "target-file-missing"
}

func fileMissing(name string) *problem.Error {
	return problem.New(problem.NotFound, "target-file-missing", "The target "+name+" does not have this file.")
}

func full(name string) *problem.Error {
	return problem.New(problem.Exhausted, "target-full", "The target "+name+" is full.").
		WithMend("Give it more space, or shorten backup.keep_days; what is there already stays restorable.")
}

func readOnly(name string) *problem.Error {
	return problem.New(problem.Denied, "target-read-only", "The target "+name+" can be read but not written.").
		WithMend("Mount it, or open it, for writing; a file system that became read-only by itself has a failing disk.")
}

func denied(name, why string) *problem.Error {
	return problem.New(problem.Denied, "target-denied", "The target "+name+" refuses. "+why).
		WithMend("Let the account read, list and write below the target's path.")
}

func gone(name, field string, err error) *problem.Error {
	return problem.New(problem.Unavailable, "target-gone", "The target "+name+" cannot be reached.").WithField(field).
		WithMend("Check that it runs and that this machine reaches it; the next run tries again.").WithRetry(time.Minute).Wrap(err)
}
