package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// directory is the folder of a journal. Every name is resolved relative to
// its descriptor and never through a symbolic link, so that nobody who can
// write next to it can redirect a segment.
type directory struct {
	f         *os.File
	intercept func(op, file string) error
}

// file is an open segment.
type file struct {
	f    *os.File
	name string
	dir  *directory
}

// opError says which operation failed on which file.
type opError struct {
	op, file string
	err      error
}

func (e *opError) Error() string { return e.op + " " + e.file + ": " + e.err.Error() }
func (e *opError) Unwrap() error { return e.err }

// do runs one operation, unless the interceptor fails it first.
func (d *directory) do(op, name string, run func() error) error {
	if d.intercept != nil {
		if err := d.intercept(op, name); err != nil {
			return &opError{op, name, err}
		}
	}
	for {
		err := run()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &opError{op, name, err}
		}
	}
}

// makeDirectory opens dir for writing, creating it if need be, for its owner only.
func makeDirectory(dir string, intercept func(op, file string) error) (*directory, error) {
	created := false
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		created = true
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("creating the journal's directory: %w", err)
		}
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	d.intercept = intercept
	if info, err := d.f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		if err := d.f.Chmod(0o700); err != nil {
			d.close()
			return nil, fmt.Errorf("closing the journal's directory to other users: %w", err)
		}
	}
	if created {
		if err := syncParent(dir); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

// openDirectory opens dir as it is.
func openDirectory(dir string) (*directory, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the journal's directory: %w", &fs.PathError{Op: "open", Path: dir, Err: err})
	}
	return &directory{f: os.NewFile(uintptr(fd), dir)}, nil
}

func syncParent(dir string) error {
	p, err := os.Open(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return fmt.Errorf("opening the parent of the journal's directory: %w", err)
	}
	defer p.Close()
	if err := p.Sync(); err != nil {
		return fmt.Errorf("syncing the parent of the journal's directory: %w", err)
	}
	return nil
}

func (d *directory) close() { _ = d.f.Close() }

// names lists the directory.
func (d *directory) names() ([]string, error) {
	if _, err := d.f.Seek(0, 0); err != nil {
		return nil, fmt.Errorf("listing the journal's directory: %w", err)
	}
	names, err := d.f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing the journal's directory: %w", err)
	}
	return names, nil
}

// create makes a new file of size bytes, all of them allocated, so that the
// disk is found full here and not in the middle of a batch, and so that
// fdatasync has no size to write.
func (d *directory) create(name string, size int64) (*file, error) {
	f := &file{name: name, dir: d}
	err := d.do("allocate", name, func() error {
		fd, err := unix.Openat(int(d.f.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		f.f = os.NewFile(uintptr(fd), name)
		err = unix.Fallocate(fd, 0, 0, size)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			err = unix.Ftruncate(fd, size) // no reservation on this file system: a full disk shows at a write
		}
		if err != nil {
			_ = f.f.Close()
			_ = unix.Unlinkat(int(d.f.Fd()), name, 0)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// open opens a segment for reading, or for writing too. What is not a regular
// file is refused.
func (d *directory) open(name string, write bool) (*file, error) {
	flags := unix.O_RDONLY
	if write {
		flags = unix.O_RDWR
	}
	fd, err := unix.Openat(int(d.f.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &opError{"open", name, err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return nil, &opError{"open", name, errors.New("not a regular file")}
	}
	return &file{f: os.NewFile(uintptr(fd), name), name: name, dir: d}, nil
}

func (d *directory) rename(from, to string) error {
	return d.do("rename", to, func() error {
		return unix.Renameat(int(d.f.Fd()), from, int(d.f.Fd()), to)
	})
}

func (d *directory) remove(name string) error {
	return d.do("remove", name, func() error { return unix.Unlinkat(int(d.f.Fd()), name, 0) })
}

// sync makes creations, renames and removals durable.
func (d *directory) sync() error {
	return d.do("sync-dir", ".", func() error { return unix.Fsync(int(d.f.Fd())) })
}

func (f *file) size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, &opError{"stat", f.name, err}
	}
	return info.Size(), nil
}

func (f *file) writeAt(b []byte, off int64) error {
	return f.dir.do("write", f.name, func() error {
		_, err := f.f.WriteAt(b, off)
		return err
	})
}

// sync makes what was written durable. Its error is final for this file.
func (f *file) sync() error {
	return f.dir.do("sync", f.name, func() error { return unix.Fdatasync(int(f.f.Fd())) })
}

func (f *file) truncate(size int64) error {
	return f.dir.do("truncate", f.name, func() error { return f.f.Truncate(size) })
}

func (f *file) close() { _ = f.f.Close() }

// isFull says whether the disk, a quota or MaxBytes has no room.
func isFull(err error) bool {
	return errors.Is(err, errLimit) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// isSick says whether an error means that the disk cannot be trusted, as
// opposed to a shortage that passes.
func isSick(err error) bool {
	var op *opError
	if isFull(err) {
		return false
	}
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EROFS) ||
		errors.As(err, &op) && (op.op == "sync" || op.op == "sync-dir" || op.op == "write")
}
