//go:build linux || darwin

package probe

import "golang.org/x/sys/unix"

func spaceAt(path string) (space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return space{}, err
	}
	unit := uint64(s.Bsize)
	return space{free: uint64(s.Bavail) * unit, total: uint64(s.Blocks) * unit, freeInodes: uint64(s.Ffree), totalInodes: uint64(s.Files)}, nil
}
