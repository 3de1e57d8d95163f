package target

import (
	"context"
	"io"
	"time"
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
