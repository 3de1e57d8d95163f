// Package durable knows how to put a file in its place so that whoever is
// killed, or loses power, leaves the old file or the new one, whole.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file in one durable step: a temporary file beside it, whose
// name begins with a dot, is written, synced and renamed over it, and the
// directory is synced. Nobody but its owner can open it before it has its mode.
// A crash may leave the temporary file. Errors are the system's, for the caller
// to put in words.
func Replace(path string, body []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil && mode != 0o600 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable: a file that was made, renamed
// or removed there stays so.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
