package target

import (
	"slices"
	"syscall"
)

// networkMagics are file systems that another machine holds (statfs(2) and
// linux/magic.h): nfs, smb, cifs, smb2, ceph, afs, 9p, gfs2, ocfs2, lustre,
// beegfs, and FUSE, which sshfs and glusterfs use.
var networkMagics = []int64{0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x00c36400, 0x5346414f, 0x01021997, 0x01161970, 0x7461636f, 0x0bd00bd0, 0x19830326, 0x65735546}

func networkFileSystem(path string) (bool, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return false, err
	}
	return slices.Contains(networkMagics, int64(uint32(fs.Type))), nil //nolint:gosec // a magic number has 32 bits
}
