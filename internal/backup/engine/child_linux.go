package engine

import "syscall"

func childAttributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Credential: as}
}

// memoryBacked reports whether a file system of this type (statfs(2), f_type)
// keeps its files in memory only: tmpfs, ramfs.
func memoryBacked(dir string) (bool, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return false, err
	}
	return int64(fs.Type) == 0x01021994 || int64(fs.Type) == 0x858458f6, nil
}
