package restic

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/missionopsai/foundry/internal/problem"
)

// inode names a file however it is called.
type inode struct{ dev, ino uint64 }

// inodeOf reports whether a file has more than one name, and which it is.
func inodeOf(info fs.FileInfo) (inode, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return inode{}, false
	}
	return inode{uint64(st.Dev), st.Ino}, true
}

// roomFor refuses to begin what the disk cannot hold.
func roomFor(dir string, bytes int64) error {
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err == nil {
			if free := int64(st.Bavail) * int64(st.Bsize); free < bytes {
				return problem.New(problem.Exhausted, "restore-full", fmt.Sprintf("The disk that the files are restored to has %d bytes free, and %d are needed.", free, bytes)).
					WithField("to").WithMend("Restore to a larger one.")
			}
			return nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil
		}
		dir = up // not made yet
	}
}
