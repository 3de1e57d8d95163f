package db

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Account is the operating-system user that runs a cluster's server. What
// works on the server's files, such as a backup engine, runs as that user too:
// the files are closed to everybody else, and the kernel knows it as the one
// who may be foundry_backup.
type Account struct{ a account }

// FindAccount is the account that [StartCluster] runs the server as, for the
// same name; see [ClusterOptions].User.
func FindAccount(name string) (Account, error) {
	a, err := findAccount(name)
	return Account{a}, err
}

// Name is the user's name.
func (a Account) Name() string { return a.a.name }

// IDs are the user's number and its group's.
func (a Account) IDs() (uid, gid int) { return a.a.uid, a.a.gid }

// Credential makes a child process that user; nil where it is this process's
// own already.
func (a Account) Credential() *syscall.Credential {
	if !a.a.switched {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.a.uid), Gid: uint32(a.a.gid)}
}

// Mkdir makes a directory, with its parents, that only the user may enter.
// Parents are made passable. One that exists has to be the user's.
func (a Account) Mkdir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), a.parentMode()); err != nil {
		return fileProblem(dir, err)
	}
	return a.a.mkdir(dir)
}

func (a Account) parentMode() fs.FileMode {
	if a.a.switched {
		return 0o711
	}
	return 0o700
}

// Reaches reports, as a *problem.Error, a directory on the way to path that is
// closed to the user. What does not exist yet is not in the way.
func (a Account) Reaches(path string) error {
	for ; path != filepath.Dir(path); path = filepath.Dir(path) {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if blocked := a.a.blockedAt(path); blocked != "" {
		return closedTo(a.a.name, blocked, path)
	}
	return nil
}

// Account is who runs the server.
func (c *Cluster) Account() Account { return Account{c.who} }

// SocketDir is where the server's socket is.
func (c *Cluster) SocketDir() string { return c.at.run }
