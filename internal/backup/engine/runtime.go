package engine

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/missionopsai/foundry/internal/problem"
)

// Runtime is a directory for files that hold secrets while a node runs:
// engines' configurations, passwords, keys. It is in memory and gone when the
// node stops or the machine does.
type Runtime struct {
	dir      string
	uid, gid int
	held     *os.File // the directory, locked for as long as this process uses it
	// Warning says why development only named what production refuses; or "".
	Warning string
}

// OpenRuntime makes the directory, empty. dir may be empty: then it is chosen,
// below /run or /dev/shm, by who runs this process and by data, the node's data
// directory, so that what a killed node left is found and removed by the next.
// A second process of the same node gets one of its own, where dir is empty.
// Production refuses a file system that keeps files anywhere but in memory.
func OpenRuntime(dir, data string, production bool) (*Runtime, error) {
	chosen := dir == ""
	if chosen {
		data, err := filepath.Abs(data)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(data))
		dir = filepath.Join(runtimeRoot(), fmt.Sprintf("foundry-%d-%s", os.Geteuid(), hex.EncodeToString(sum[:6])))
	}
	if chosen {
		clearAbandoned(dir)
	}
	held, err := claimRuntime(dir)
	if errors.Is(err, syscall.EWOULDBLOCK) && chosen { // another process of this node, such as a recovery
		dir += "-" + rand.Text()
		held, err = claimRuntime(dir)
	}
	if err != nil {
		return nil, runtimeProblem(dir, err)
	}
	r, err := openRuntime(dir, production)
	if err != nil {
		_ = held.Close()
		return nil, err
	}
	r.held = held
	return r, nil
}

// clearAbandoned removes what second processes that were killed left.
func clearAbandoned(dir string) {
	left, _ := filepath.Glob(dir + "-*") // a well-formed pattern
	for _, path := range left {
		if f, err := claimRuntime(path); err == nil {
			_ = os.RemoveAll(path)
			_ = f.Close()
		}
	}
}

// claimRuntime makes a directory and locks it. The kernel lets go of the lock
// when this process ends, however it ends.
func claimRuntime(dir string) (*os.File, error) {
	// An unprivileged user of an engine passes through, and sees nothing.
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func openRuntime(dir string, production bool) (*Runtime, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, runtimeProblem(dir, err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return nil, problem.New(problem.Denied, "runtime-owner", "The directory "+dir+" for secrets in use is not this user's alone.").
			WithField("backup.runtime_dir").WithMend("Remove it, or name another.")
	}
	r := &Runtime{dir: dir, uid: -1, gid: -1}
	if err := r.clear(); err != nil {
		return nil, runtimeProblem(dir, err)
	}
	switch memory, err := memoryBacked(dir); {
	case err != nil:
		return nil, runtimeProblem(dir, err)
	case !memory && production:
		return nil, problem.New(problem.Denied, "runtime-disk", "The directory "+dir+" is not on a file system in memory: secrets of the backups would reach a disk.").
			WithField("backup.runtime_dir").WithMend("Name one on a tmpfs, such as RuntimeDirectory= of systemd or /dev/shm.")
	case !memory:
		r.Warning = "The secrets of the backups in use are in " + dir + ", on a disk; production refuses that."
	}
	return r, nil
}

// runtimeRoot is the first place in memory where this user may make a directory.
func runtimeRoot() string {
	for _, dir := range []string{os.Getenv("RUNTIME_DIRECTORY"), "/run", os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		if memory, err := memoryBacked(dir); dir == "" || err != nil || !memory {
			continue
		}
		if probe, err := os.MkdirTemp(dir, ".foundry-"); err == nil {
			_ = os.Remove(probe)
			return dir
		}
	}
	return os.TempDir()
}

// Dir is where it is.
func (r *Runtime) Dir() string { return r.dir }

// Sub makes a directory in it for one user, who alone may enter. The uid -1
// is this process's own user.
func (r *Runtime) Sub(name string, uid, gid int) (*Runtime, error) {
	dir := filepath.Join(r.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, runtimeProblem(dir, err)
	}
	if uid >= 0 && uid != os.Geteuid() {
		if err := os.Lchown(dir, uid, gid); err != nil {
			return nil, runtimeProblem(dir, err)
		}
	}
	return &Runtime{dir: dir, uid: uid, gid: gid, Warning: r.Warning}, nil
}

// Write puts a file there, whole or not at all, for its user alone, and
// returns its path.
func (r *Runtime) Write(name, text string) (string, error) {
	path := filepath.Join(r.dir, name)
	next := path + "." + rand.Text()
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", runtimeProblem(path, err)
	}
	_, err = f.WriteString(text)
	if err == nil && r.uid >= 0 && r.uid != os.Geteuid() {
		err = f.Chown(r.uid, r.gid)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
		return "", runtimeProblem(path, err)
	}
	return path, nil
}

// Remove removes one file, if it is there.
func (r *Runtime) Remove(name string) error {
	if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return runtimeProblem(r.dir, err)
	}
	return nil
}

// Close removes it with all that is in it.
func (r *Runtime) Close() error {
	err := os.RemoveAll(r.dir)
	if r.held != nil {
		err = errors.Join(err, r.held.Close())
	}
	return err
}

func (r *Runtime) clear() error {
	entries, err := os.ReadDir(r.dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, e.Name())))
	}
	return err
}

func runtimeProblem(path string, err error) error {
	return problem.New(problem.Unavailable, "runtime-unusable", "The directory for secrets in use cannot be written: "+path+".").
		WithField("backup.runtime_dir").WithMend("Name a directory on a file system in memory that this user may write.").Wrap(err)
}
