package durable

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestAFileIsReplacedWithItsModeAndNothingIsLeftBeside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "settings")
	for _, mode := range []fs.FileMode{0o600, 0o644} {
		if err := Replace(path, []byte(mode.String()), mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%v %v, want %v", err, info.Mode(), mode)
		}
		if body, _ := os.ReadFile(path); string(body) != mode.String() {
			t.Errorf("%q", body)
		}
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("%d files are there", len(left))
	}
}

// Whoever reads while others write sees one whole file, never a part, never
// none.
func TestReadersSeeAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	bodies := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<15)}
	if err := Replace(path, bodies[0], 0o600); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, body := range bodies {
		writers.Go(func() {
			for range 50 {
				if err := Replace(path, body, 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for looking := true; looking; {
		select {
		case <-done:
			looking = false
		default:
		}
		body, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(body, bodies[0]) && !bytes.Equal(body, bodies[1]) {
			t.Fatalf("%v: %d bytes", err, len(body))
		}
	}
}

func TestAFailureLeavesTheOldFileAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "place")
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil { // a rename over it fails
		t.Fatal(err)
	}
	if err := Replace(path, []byte("x"), 0o600); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d things are there", len(left))
	}
	if err := Replace(filepath.Join(dir, "no", "such", "file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
