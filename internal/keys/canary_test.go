package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// spellings are the forms in which a secret may lie in a file.
func spellings(secret []byte) map[string][]byte {
	wide := func(big bool) []byte {
		var out []byte
		for _, u := range utf16.Encode([]rune(string(secret))) {
			if big {
				out = append(out, byte(u>>8), byte(u))
			} else {
				out = append(out, byte(u), byte(u>>8))
			}
		}
		return out
	}
	out := map[string][]byte{"raw": secret, "hex": []byte(hex.EncodeToString(secret)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(secret))),
		"utf-16le": wide(false), "utf-16be": wide(true)}
	for shift := range 3 {
		before := append(bytes.Repeat([]byte("x"), shift), secret...)
		out[fmt.Sprint("base64 after ", shift)] = []byte(base64.StdEncoding.EncodeToString(append(before, "and more"...)))
		out[fmt.Sprint("base64url after ", shift)] = []byte(base64.RawURLEncoding.EncodeToString(before))
	}
	return out
}

func newSearch(t testing.TB, secret []byte) *Search {
	t.Helper()
	s := &Search{}
	if err := s.Add("plaintext", bytes.Clone(secret)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASecretIsFoundInEveryForm(t *testing.T) {
	secret := PlantedText()
	s := newSearch(t, secret)
	for name, form := range spellings(secret) {
		body := append(append(bytes.Repeat([]byte("noise "), 100_000), form...), "tail"...)
		finds, n, err := s.In("here", bytes.NewReader(body))
		if err != nil || len(finds) == 0 || n != int64(len(body)) { // UTF-16 is found in both byte orders, one byte apart
			t.Errorf("%s: %v, %v", name, finds, err)
		}
		if finds, _, _ := s.In("here", bytes.NewReader(body[:len(body)-len(form)-4])); len(finds) != 0 {
			t.Errorf("%s: found where it is not: %v", name, finds)
		}
	}
}

// However the bytes are cut into reads, and whatever stands around it.
func TestASecretIsFoundAcrossTheEdgesOfReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := PlantedText()
		s := &Search{}
		_ = s.Add("key", bytes.Clone(secret))
		before := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "before")
		body := append(append(bytes.Clone(before), secret...), rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "after")...)
		var r io.Reader = bytes.NewReader(body)
		if rapid.Bool().Draw(t, "byte by byte") {
			r = iotest.OneByteReader(r)
		}
		finds, _, err := s.In("here", r)
		if err != nil || len(finds) != 1 || finds[0].Offset != int64(len(before)+4) {
			t.Fatalf("%v, %v", finds, err)
		}
	})
}

func TestTheSearchHoldsNoSecret(t *testing.T) {
	secret := PlantedText()
	s := newSearch(t, secret)
	text := fmt.Sprintf("%#v", s.forms)
	for name, form := range spellings(secret) {
		if strings.Contains(text, string(form[4:20])) {
			t.Errorf("it holds the secret in the form %s", name)
		}
	}
	if err := s.Add("short", []byte("short")); err == nil {
		t.Error("a secret that may stand anywhere by chance was taken")
	}
}

func TestWhatCannotBeReadIsInconclusiveAndNeverAPass(t *testing.T) {
	secret := PlantedText()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "clean"), "nothing")
	for name, c := range map[string]struct {
		roots []string
		want  string
	}{
		"all was read":          {[]string{dir}, Pass},
		"a path is missing":     {[]string{dir, filepath.Join(dir, "missing")}, Inconclusive},
		"there was nothing":     {[]string{t.TempDir()}, Inconclusive},
		"a file cannot be read": {[]string{dir, "/proc/self/mem"}, Inconclusive}, // offset 0 is not mapped
	} {
		if a := newSearch(t, secret).Files("area", nil, c.roots...); a.State != c.want {
			t.Errorf("%s: %+v, want %s", name, a, c.want)
		}
	}
	write(t, filepath.Join(dir, "dirty"), "xx"+string(secret))
	if a := newSearch(t, secret).Files("area", nil, dir, filepath.Join(dir, "missing")); a.State != Fail || len(a.Finds) != 1 || strings.Contains(fmt.Sprint(a.Finds), string(secret)) {
		t.Errorf("%+v", a)
	}
	for want, states := range map[string][]string{Pass: {Pass, Pass}, Fail: {Inconclusive, Fail}, Inconclusive: {Pass, Inconclusive}} {
		var r CanaryReport
		for _, s := range states {
			r.Areas = append(r.Areas, Area{State: s})
		}
		if r.Settle(); r.State != want {
			t.Errorf("%v settle to %s, want %s", states, r.State, want)
		}
	}
	var none CanaryReport
	if none.Settle(); none.State != Inconclusive {
		t.Error("no area at all is a pass")
	}
}

// A leak planted in memory is found; a secret that was wiped is not, and the
// search does not find itself.
func TestASecretIsFoundInMemoryAndNotOnceItIsWiped(t *testing.T) {
	kept, wiped := PlantedText(), PlantedText()
	s := &Search{}
	for name, secret := range map[string][]byte{"kept": kept, "wiped": wiped} {
		if err := s.Add(name, secret); err != nil {
			t.Fatal(err)
		}
	}
	clear(wiped)
	a := s.Memory()
	found := map[string]int{}
	for _, f := range a.Finds {
		found[f.Needle]++
	}
	if found["kept"] == 0 || found["wiped"] != 0 || a.Bytes < 1<<20 {
		t.Errorf("%v in %d bytes: %+v", found, a.Bytes, a)
	}
	runtime.KeepAlive(kept)
}

// What Plant plants is found by nobody: it is sealed, and taken away again.
func TestTheCanaryIsPlantedSealed(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	text, key := PlantedText(), PlantedText()
	dir, org := t.TempDir(), uuid.New()
	remove, err := w.vault.Plant(ctx, org, text, key, dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newSearch(t, text)
	if a := s.Files("files", nil, dir); a.State != Pass || a.Bytes < 64 {
		t.Errorf("%+v", a)
	}
	if err := remove(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.keyStatuses(org); got["primary"] != 1 {
		t.Errorf("%v", got)
	}
	w.rotate(w.vault, org)
	if got := w.keyStatuses(org); got["kept"] != 0 || got["disabled"] != 1 {
		t.Errorf("the canary keeps its key for ever: %v", got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func BenchmarkSearch(b *testing.B) {
	s := newSearch(b, PlantedText())
	body := make([]byte, 1<<20)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		_, _, _ = s.In("here", bytes.NewReader(body))
	}
}

func TestManyFilesAreSearchedThroughOneBuffer(t *testing.T) {
	dir := t.TempDir()
	const files = 200
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var s Search
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := s.Files("files", nil, dir)
	runtime.ReadMemStats(&after)
	if a.Files != files {
		t.Fatalf("%+v", a)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > files*blockSize/8 {
		t.Errorf("%d bytes were allocated", n)
	}
}
