package evidence

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// Wherever a needle stands, also on the edge of two blocks, it is found; and
// where none stands, none is.
func TestACopyIsFoundWhereverItStandsInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	rapid.Check(t, func(rt *rapid.T) {
		needle := rapid.SliceOfN(rapid.Byte(), 16, 100).Draw(rt, "needle")
		size := rapid.IntRange(0, 900).Draw(rt, "size")
		at := rapid.IntRange(-1, size).Draw(rt, "at")
		body := bytes.Repeat([]byte{needle[0] ^ 1}, size)
		if at >= 0 {
			body = append(append(append([]byte{}, body[:at]...), needle...), body[at:]...)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			rt.Fatal(err)
		}
		buf := make([]byte, rapid.IntRange(1, 300).Draw(rt, "block"))
		found, err := holds(path, [][]byte{needle, bytes.Repeat([]byte{needle[0] ^ 2}, 20)}, buf)
		if err != nil || found != (at >= 0) {
			rt.Errorf("%v %v at %d", found, err, at)
		}
	})
}

// The search reads through one buffer: large files cost time, and no memory.
func TestSearchingLargeFilesTakesNoMemory(t *testing.T) {
	dir := t.TempDir()
	kek := filepath.Join(t.TempDir(), "kek")
	for path, body := range map[string][]byte{kek: bytes.Repeat([]byte("k"), 44), filepath.Join(dir, "a"): make([]byte, maxSearched), filepath.Join(dir, "b"): make([]byte, maxSearched)} {
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := Material{KEK: kek, Data: map[string]string{"data": dir}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Apart(func() (Material, error) { return m, nil })(context.Background(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("%d bytes for two files of %d", took, maxSearched)
	}
	m.KEK = "/dev/zero" // never ends
	if _, err := Apart(func() (Material, error) { return m, nil })(context.Background(), func(string) {}); err == nil {
		t.Error("what is no key's file is read as one")
	}
}
