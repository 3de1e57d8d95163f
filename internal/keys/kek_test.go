package keys

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// given is one provider with a key in place, as the conformance suite wants it.
type given struct {
	provider Provider
	secret   string                     // the file that must be kept private
	break_   func(t *testing.T)         // makes the material nonsense
	remove   func(t *testing.T)         // makes it go away
	other    func(t *testing.T)         // puts another key there
	slow     func(t *testing.T) Options // makes the provider hang
	renews   bool
}

func write(t testing.TB, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

func kekText() string { return string(encodeKEK(freshKEK())) }

// hang replaces a file by a named pipe that nobody writes to.
func hang(t *testing.T, path string) {
	t.Helper()
	_ = os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// identity makes an age identity, locked with a passphrase if there is one.
func identity(t testing.TB, path, passphrase string, armoured bool) (recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	text := "# for a test\n" + id.String() + "\n"
	if passphrase != "" {
		r, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			t.Fatal(err)
		}
		r.SetWorkFactor(10)
		var out bytes.Buffer
		var to io.Writer = &out
		var a io.WriteCloser
		if armoured {
			a = armor.NewWriter(&out)
			to = a
		}
		w, err := age.Encrypt(to, r)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err == nil {
			err = w.Close()
		}
		if err == nil && a != nil {
			err = a.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		text = out.String()
	}
	write(t, path, text)
	return id.Recipient().String()
}

func phrase(s string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) { return []byte(s + "\n"), nil }
}

// encryptTo replaces an age file by another key for the same recipients.
func encryptTo(t *testing.T, o AgeOptions) {
	t.Helper()
	body, err := (&ageProvider{o}).encrypt(freshKEK())
	if err != nil {
		t.Fatal(err)
	}
	write(t, o.File, string(body))
}

// providers are all real implementations.
func providers(t *testing.T) map[string]func(t *testing.T, dir string) given {
	fileLike := func(make func(path string) Provider, renews bool) func(*testing.T, string) given {
		return func(t *testing.T, dir string) given {
			path := filepath.Join(dir, "foundry-kek")
			write(t, path, kekText())
			return given{provider: make(path), secret: path, renews: renews,
				break_: func(t *testing.T) { write(t, path, "AAAA") },
				remove: func(t *testing.T) { _ = os.Remove(path) },
				other:  func(t *testing.T) { write(t, path, kekText()) },
				slow:   func(t *testing.T) Options { hang(t, path); return Options{} }}
		}
	}
	ageLike := func(passphrase string, armoured bool) func(*testing.T, string) given {
		return func(t *testing.T, dir string) given {
			o := AgeOptions{File: filepath.Join(dir, "kek.age"), Identity: filepath.Join(dir, "identity")}
			escrow := identity(t, filepath.Join(dir, "escrow"), "", false)
			o.Recipients = []string{identity(t, o.Identity, passphrase, armoured), escrow}
			if passphrase != "" {
				o.Passphrase = phrase(passphrase)
			}
			encryptTo(t, o)
			return given{provider: Age(o), secret: o.Identity, renews: true,
				break_: func(t *testing.T) { write(t, o.File, "age-encryption.org/v1\n-> X25519 AA\n") },
				remove: func(t *testing.T) { _ = os.Remove(o.File) },
				other:  func(t *testing.T) { encryptTo(t, o) },
				slow: func(t *testing.T) Options {
					if passphrase == "" {
						hang(t, o.Identity)
						return Options{}
					}
					o.Passphrase = func(ctx context.Context) ([]byte, error) { select {} } // an operator who does not type
					return Options{Provider: Age(o)}
				}}
		}
	}
	return map[string]func(*testing.T, string) given{
		"file":                      fileLike(File, true),
		"credential":                fileLike(func(path string) Provider { return Credential(filepath.Dir(path), filepath.Base(path)) }, false),
		"age":                       ageLike("", false),
		"age, locked":               ageLike("correct horse", false),
		"age, locked and in armour": ageLike("correct horse", true),
	}
}

// Every provider keeps these promises.
func TestProvidersOfKeyEncryptionKeys(t *testing.T) {
	for name, make := range providers(t) {
		t.Run(name, func(t *testing.T) {
			start := func(t *testing.T) (given, string, []byte) {
				g, dir := make(t, keyDir(t)), keyDir(t)
				sealed, err := open(t, Options{Dir: dir, Provider: g.provider}).Seal([]byte("secret"), nil)
				if err != nil {
					t.Fatal(err)
				}
				return g, dir, sealed
			}
			t.Run("the same key comes back after a restart, with the same fingerprint", func(t *testing.T) {
				g, dir, sealed := start(t)
				k := open(t, Options{Dir: dir, Provider: g.provider})
				if text, err := k.Open(sealed, nil); err != nil || string(text) != "secret" {
					t.Fatalf("%q, %v", text, err)
				}
				again := open(t, Options{Dir: dir, Provider: g.provider})
				if a, b := k.KEKs().Current().Fingerprint(), again.KEKs().Current().Fingerprint(); a != b || len(a) != 16 {
					t.Errorf("fingerprints %s and %s", a, b)
				}
			})
			t.Run("another key is told by its fingerprint", func(t *testing.T) {
				g, dir, _ := start(t)
				g.other(t)
				_, err := Open(Options{Dir: dir, Provider: g.provider})
				wantCode(t, err, "kek-wrong")
			})
			t.Run("nonsense is refused, and not quoted", func(t *testing.T) {
				g, dir, _ := start(t)
				g.break_(t)
				_, err := Open(Options{Dir: dir, Provider: g.provider})
				if err == nil || strings.Contains(err.Error(), "AAAA") {
					t.Fatalf("got %v", err)
				}
			})
			t.Run("a key that is away is not made anew", func(t *testing.T) {
				g, dir, _ := start(t)
				g.remove(t)
				_, err := Open(Options{Dir: dir, Provider: g.provider})
				wantCode(t, err, "key-file")
			})
			t.Run("open permissions are refused", func(t *testing.T) {
				g, dir, _ := start(t)
				if err := os.Chmod(g.secret, 0o644); err != nil {
					t.Fatal(err)
				}
				_, err := Open(Options{Dir: dir, Provider: g.provider})
				wantCode(t, err, "kek-mode")
			})
			t.Run("a foreign owner is refused", func(t *testing.T) {
				if os.Geteuid() != 0 {
					t.Skip("only root can give files away")
				}
				g, dir, _ := start(t)
				if err := os.Chown(g.secret, 12345, 12345); err != nil {
					t.Fatal(err)
				}
				_, err := Open(Options{Dir: dir, Provider: g.provider})
				wantCode(t, err, "kek-owner")
			})
			t.Run("a slow one is given up in time", func(t *testing.T) {
				g, dir, _ := start(t)
				o := g.slow(t)
				o.Dir, o.Patience = dir, 50*time.Millisecond
				if o.Provider == nil {
					o.Provider = g.provider
				}
				began := time.Now()
				_, err := Open(o)
				wantCode(t, err, "kek-slow")
				if !errors.Is(err, errProviderSlow) || time.Since(began) > 5*time.Second {
					t.Errorf("after %s: %v", time.Since(began), err)
				}
			})
			t.Run("the next key lies beside it until it is promoted", func(t *testing.T) {
				g, dir, sealed := start(t)
				ctx := t.Context()
				next, err := g.provider.Next(ctx)
				if !g.renews {
					wantCode(t, err, "kek-not-ours")
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if again, err := g.provider.Next(ctx); err != nil || !bytes.Equal(again, next) {
					t.Fatalf("asked twice, it made two: %v", err)
				}
				all, err := g.provider.Load(ctx)
				if err != nil || len(all) != 2 || !bytes.Equal(all[1], next) {
					t.Fatalf("%d keys, %v", len(all), err)
				}
				open(t, Options{Dir: dir, Provider: g.provider})
				kept, err := g.provider.Promote(ctx, "old")
				if err != nil || kept == "" {
					t.Fatal(kept, err)
				}
				if all, err = g.provider.Load(ctx); err != nil || len(all) != 1 || !bytes.Equal(all[0], next) {
					t.Fatalf("after promoting: %d keys, %v", len(all), err)
				}
				_, err = Open(Options{Dir: dir, Provider: g.provider})
				wantCode(t, err, "kek-wrong") // nothing was wrapped anew: the retired one is still needed
				_ = sealed
			})
		})
	}
}

func TestAWrongPassphraseIsSaid(t *testing.T) {
	dir := keyDir(t)
	o := AgeOptions{File: filepath.Join(dir, "kek.age"), Identity: filepath.Join(dir, "identity"), Passphrase: phrase("wrong")}
	o.Recipients = []string{identity(t, o.Identity, "right", false)}
	encryptTo(t, o)
	_, err := Open(Options{Dir: filepath.Join(dir, "keys"), Provider: Age(o)})
	wantCode(t, err, "age-passphrase")
	o.Passphrase = nil
	_, err = Open(Options{Dir: filepath.Join(dir, "keys2"), Provider: Age(o)})
	wantCode(t, err, "age-locked")
}

// The drill of O-07: the key in escrow alone opens what the node sealed.
func TestTheIdentityInEscrowOpensTheSameKey(t *testing.T) {
	dir := keyDir(t)
	o := AgeOptions{File: filepath.Join(dir, "kek.age"), Identity: filepath.Join(dir, "identity")}
	o.Recipients = []string{identity(t, o.Identity, "", false), identity(t, filepath.Join(dir, "escrow"), "", false)}
	sealed, err := open(t, Options{Dir: filepath.Join(dir, "keys"), Provider: Age(o)}).Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(o.Identity); err != nil {
		t.Fatal(err)
	}
	o.Identity = filepath.Join(dir, "escrow")
	if _, err := open(t, Options{Dir: filepath.Join(dir, "keys"), Provider: Age(o)}).Open(sealed, nil); err != nil {
		t.Error(err)
	}
	identity(t, filepath.Join(dir, "stranger"), "", false)
	o.Identity = filepath.Join(dir, "stranger")
	_, err = Open(Options{Dir: filepath.Join(dir, "keys"), Provider: Age(o)})
	wantCode(t, err, "age-identity")
}

// Whoever knows the recipients can make an age file; the keysets still do not
// open with the key in it.
func TestAKeyOfSomebodyElseForTheSameRecipientsOpensNothing(t *testing.T) {
	dir := keyDir(t)
	o := AgeOptions{File: filepath.Join(dir, "kek.age"), Identity: filepath.Join(dir, "identity")}
	o.Recipients = []string{identity(t, o.Identity, "", false)}
	open(t, Options{Dir: filepath.Join(dir, "keys"), Provider: Age(o)})
	encryptTo(t, o)
	_, err := Open(Options{Dir: filepath.Join(dir, "keys"), Provider: Age(o)})
	wantCode(t, err, "kek-wrong")
}

func TestProductionLetsALockedIdentityLieWithTheDataAndNoOther(t *testing.T) {
	dir := keyDir(t)
	for passphrase, code := range map[string]string{"": "kek-on-data-volume", "correct horse": ""} {
		o := AgeOptions{File: filepath.Join(dir, "kek.age"), Identity: filepath.Join(dir, "identity"+passphrase), Passphrase: phrase(passphrase)}
		o.Recipients = []string{identity(t, o.Identity, passphrase, false)}
		err := Age(o).Check(dir)
		if code == "" && err != nil {
			t.Error(err)
		} else if code != "" {
			wantCode(t, err, code)
		}
	}
	other := "/dev/shm/" + filepath.Base(t.TempDir()) + "-kek-test"
	write(t, other, kekText())
	t.Cleanup(func() { _ = os.Remove(other) })
	if err := File(other).Check(dir); err != nil {
		t.Errorf("a file on another volume was refused: %v", err)
	}
}

// Data directories of the first release hold no fingerprint and no more than
// these files.
func TestADirectoryOfTheFirstReleaseOpens(t *testing.T) {
	dir := keyDir(t)
	sealed, err := open(t, Options{Dir: dir}).Seal([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(dir, fingerprintFile))
	if _, err := open(t, Options{Dir: dir}).Open(sealed, nil); err != nil {
		t.Error(err)
	}
	if !exists(filepath.Join(dir, fingerprintFile)) {
		t.Error("the fingerprint was not noted")
	}
}

func TestADirectoryOfKeysThatOthersMayEnterIsRefused(t *testing.T) {
	dir := keyDir(t)
	open(t, Options{Dir: dir})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir})
	wantCode(t, err, "keys-mode")
	_ = os.Chmod(dir, 0o700)
	if err := os.Chmod(filepath.Join(dir, aeadFile), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Dir: dir})
	wantCode(t, err, "kek-mode")
}

// A keyset on disk that was cut is told from a wrong key.
func TestATruncatedKeysetFileIsNoWrongKey(t *testing.T) {
	dir := keyDir(t)
	open(t, Options{Dir: dir})
	path := filepath.Join(dir, aeadFile)
	body, _ := os.ReadFile(path)
	write(t, path, string(body[:len(body)/2]))
	_, err := Open(Options{Dir: dir})
	wantCode(t, err, "keyset-unreadable")
}

func FuzzParseKEK(f *testing.F) {
	f.Add([]byte(kekText()))
	f.Add([]byte("AAAA"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parseKEK("here", text)
		if (err == nil) != (len(key) == kekBytes) {
			t.Fatalf("%d bytes, %v", len(key), err)
		}
		if err != nil {
			wantCode(t, err, "kek-format")
		}
	})
}
