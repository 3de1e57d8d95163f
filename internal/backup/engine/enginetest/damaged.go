package enginetest

import (
	"os"
	"slices"
	"testing"

	"github.com/missionopsai/foundry/internal/backup/engine"
)

func flippedByte(t *testing.T, w World) {
	w.prepare(t)
	w.write(t, "one")
	before := w.Files(t)
	w.Grow(t, 32<<20) // more than a segment of the WAL, or a pack, has
	p := w.backup(t, w.full())
	mend := flip(t, largest(t, slices.DeleteFunc(w.Files(t), func(path string) bool { return slices.Contains(before, path) })))
	_, err := w.Engine.Restore(limit(t), w.Target, engine.RestoreRequest{Label: p.Label, To: w.Place(t)}, nil)
	code(t, err, "repository-damaged")
	mend()
	same(t, w.restore(t, engine.RestoreRequest{Label: p.Label}), w.all()...)
}

// flip changes a byte in the middle of a file, in place, and returns how to
// undo it.
func flip(t testing.TB, path string) (mend func()) {
	t.Helper()
	turn := func() {
		_ = os.Chmod(path, 0o600) // restic's files are read-only
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], info.Size()/2); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b[:], info.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
	turn()
	return turn
}

// largest is the largest of some files.
func largest(t testing.TB, files []string) (path string) {
	t.Helper()
	var most int64
	for _, p := range files {
		if info, err := os.Stat(p); err == nil && info.Size() > most {
			path, most = p, info.Size()
		}
	}
	if path == "" {
		t.Fatal("there is no file")
	}
	return path
}
