package keys

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

// keyDir is a directory that is its owner's alone.
func keyDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, o Options) *Keyring {
	t.Helper()
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedValuesOpenOnlyInTheirPlaceAndAfterARestart(t *testing.T) {
	dir := keyDir(t)
	sealed, err := open(t, Options{Dir: dir}).Seal([]byte("client content"), []byte("org/table/column/row"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("client")) {
		t.Fatal("plaintext in the sealed value")
	}
	again := open(t, Options{Dir: dir})
	if got, err := again.Open(sealed, []byte("org/table/column/row")); err != nil || string(got) != "client content" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := again.Open(sealed, []byte("org/table/column/other-row")); err == nil {
		t.Fatal("a value moved to another row opened")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := again.Open(sealed, []byte("org/table/column/row")); err == nil {
		t.Fatal("a changed value opened")
	}
}

func TestMACKeysDifferByPurposeAndLast(t *testing.T) {
	dir := keyDir(t)
	a, _ := open(t, Options{Dir: dir}).MACKey("token")
	b, _ := open(t, Options{Dir: dir}).MACKey("token")
	c, _ := open(t, Options{Dir: dir}).MACKey("session")
	if !bytes.Equal(a, b) || bytes.Equal(a, c) || len(a) != 32 {
		t.Fatalf("%x %x %x", a, b, c)
	}
}

func TestBadKeyMaterialIsRefusedByName(t *testing.T) {
	for _, c := range []struct {
		name, code string
		damage     func(dir string) Options
	}{
		{"a KEK that others can read", "kek-mode", func(d string) Options {
			os.Chmod(filepath.Join(d, "kek"), 0o644)
			return Options{Dir: d}
		}},
		{"a KEK of the wrong length", "kek-format", func(d string) Options {
			os.WriteFile(filepath.Join(d, "kek"), []byte("AAAA"), 0o600)
			return Options{Dir: d}
		}},
		{"another KEK", "kek-wrong", func(d string) Options {
			other := filepath.Join(d, "other")
			open(&testing.T{}, Options{Dir: other})
			return Options{Dir: d, KEKFile: filepath.Join(other, "kek")}
		}},
		{"a lost KEK is never replaced", "key-file", func(d string) Options {
			os.Remove(filepath.Join(d, "kek"))
			return Options{Dir: d}
		}},
		{"a lost keyset is never replaced", "keyset-missing", func(d string) Options {
			os.Remove(filepath.Join(d, "prf.keyset"))
			return Options{Dir: d}
		}},
		{"production with the KEK beside the data", "kek-on-data-volume", func(d string) Options {
			return Options{Dir: d, Production: true, DataDir: d}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := keyDir(t)
			open(t, Options{Dir: dir})
			_, err := Open(c.damage(dir))
			var p *problem.Error
			if !errors.As(err, &p) || p.Code != c.code {
				t.Fatalf("got %v, want code %s", err, c.code)
			}
		})
	}
}

func TestKeyFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	open(t, Options{Dir: dir})
	for _, name := range []string{"kek", "aead.keyset", "prf.keyset"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("directory mode %v", info.Mode())
	}
}

// A process may be killed at any step while it makes the key material.
func TestKeyMaterialIsMadeWholeOrNotAtAll(t *testing.T) {
	for steps := range 4 { // files that had been moved into place
		dir := keyDir(t)
		first := open(t, Options{Dir: dir})
		sealed, err := first.Seal([]byte("secret"), []byte("here"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, made), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"aead.keyset", "kek", "prf.keyset"}[steps:] {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, made, name)); err != nil {
				t.Fatal(err)
			}
		}
		again := open(t, Options{Dir: dir})
		if text, err := again.Open(sealed, []byte("here")); err != nil || string(text) != "secret" {
			t.Errorf("after %d steps: %q, %v", steps, text, err)
		}
		if exists(filepath.Join(dir, made)) {
			t.Errorf("after %d steps: the move was not finished", steps)
		}
	}
	dir := keyDir(t)
	if err := os.MkdirAll(filepath.Join(dir, making), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kek", "aead.keyset"} {
		if err := os.WriteFile(filepath.Join(dir, making, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, Options{Dir: dir})
	if exists(filepath.Join(dir, making)) {
		t.Error("what was half-made is still there")
	}
	if err := os.MkdirAll(filepath.Join(dir, made), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, made, "kek"), []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	var p *problem.Error
	if _, err := Open(Options{Dir: dir}); !errors.As(err, &p) || p.Code != "keys-twice" {
		t.Errorf("key material in two places: %v, want keys-twice", err)
	}
}
