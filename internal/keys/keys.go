// Package keys knows how to seal, open, rotate and shred.
//
// Two things seal. A [Keyring] lies in files, so that a node can open its
// journal and its snapshot while the database is away: a Tink AEAD keyset
// (XAES-256-GCM) and a PRF keyset for MAC keys. A [Vault] keeps one keyset per
// organisation in the database, and seals clients' content. Both are wrapped by
// a key-encryption key (KEK) that a [Provider] gives. Associated data binds
// every sealed value to its place, so that a ciphertext moved elsewhere does
// not open.
//
// Key material of our own is wiped after use. What Go and its libraries copy
// cannot be: strings, the round keys of a cipher in use, the keysets that Tink
// holds, buffers that the collector has moved. Core dumps and swap are
// therefore part of the storage report (storage.go).
package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// kekBytes is the size of the key-encryption key: AES-256.
const kekBytes = 32

// Options says where the KEK and the wrapped keysets are.
type Options struct {
	Dir        string        // holds the wrapped keysets, and the KEK in development
	KEKFile    string        // the KEK's file; empty: Dir/kek. Ignored where Provider is given
	Provider   Provider      // gives the KEK; nil: a file
	Previous   []Provider    // KEKs that keysets may still be wrapped by
	Patience   time.Duration // how long a provider may take; default 30 s
	Production bool          // refuse a KEK on the data volume (invariant 6)
	DataDir    string        // the data volume to compare with in production
}

// Keyring seals and opens with the installation's keys. Safe for concurrent use.
type Keyring struct {
	dir  string
	keks *Keks
	aead atomic.Pointer[primitive] // replaced by a rotation
	prf  *prf.Set

	changing sync.Mutex // of the files
}

type primitive struct {
	tink.AEAD
	handle *keyset.Handle
}

// Open reads the keyring, and makes a new one where none exists. A keyset
// without its KEK, or the reverse, is an error: a second key would make what
// is sealed unreadable for ever.
func Open(o Options) (*Keyring, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, unreadable(o.Dir, err)
	}
	if err := closedDir(o.Dir); err != nil {
		return nil, err
	}
	if o.Provider == nil {
		o.Provider = File(o.KEKFile)
		if o.KEKFile == "" {
			o.Provider = File(filepath.Join(o.Dir, "kek"))
		}
	}
	if o.Production {
		for _, p := range append([]Provider{o.Provider}, o.Previous...) {
			if err := p.Check(o.DataDir); err != nil {
				return nil, err
			}
		}
	}
	if err := moveMade(o.Dir); err != nil {
		return nil, err
	}
	if !exists(filepath.Join(o.Dir, aeadFile)) && !exists(filepath.Join(o.Dir, prfFile)) {
		if err := makeAll(o); err != nil {
			return nil, err
		}
	}
	keks, err := loadKeks(context.Background(), o.Provider, o.Previous, o.Patience)
	if err != nil {
		return nil, err
	}
	k := &Keyring{dir: o.Dir, keks: keks}
	removeLeftovers(o.Dir)
	seal, _, err := k.loadKeyset(aeadFile)
	if err != nil {
		return nil, err
	}
	derive, by, err := k.loadKeyset(prfFile)
	if err != nil {
		return nil, err
	}
	if err := k.useAEAD(seal); err != nil {
		return nil, err
	}
	if k.prf, err = prf.NewPRFSet(derive); err != nil {
		return nil, fmt.Errorf("opening the PRF keyset: %w", err)
	}
	k.noteFingerprint(by)
	return k, nil
}

// KEKs are the key-encryption keys that this node knows.
func (k *Keyring) KEKs() *Keks { return k.keks }

func (k *Keyring) useAEAD(h *keyset.Handle) error {
	a, err := aead.New(h)
	if err != nil {
		return fmt.Errorf("opening the AEAD keyset: %w", err)
	}
	k.aead.Store(&primitive{a, h})
	return nil
}

// Seal encrypts plaintext and authenticates associated, which says where the
// value belongs and must be given again to Open.
func (k *Keyring) Seal(plaintext, associated []byte) ([]byte, error) {
	return k.aead.Load().Encrypt(plaintext, associated)
}

// Open decrypts what Seal made.
func (k *Keyring) Open(sealed, associated []byte) ([]byte, error) {
	return k.aead.Load().Decrypt(sealed, associated)
}

// MACKey derives the 32-byte key for one purpose. The same purpose gives the
// same key for the life of the keyring.
func (k *Keyring) MACKey(purpose string) ([]byte, error) {
	return k.prf.ComputePrimaryPRF([]byte("foundry mac "+purpose), 32)
}

// loadKeyset opens a wrapped keyset with whichever key-encryption key wrapped
// it: the wrap is authenticated, so the wrong ones cannot open it.
func (k *Keyring) loadKeyset(name string) (*keyset.Handle, *KEK, error) {
	path := filepath.Join(k.dir, name)
	sealed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, problem.New(problem.Internal, "keyset-missing", path+" is missing, though other key material exists.").
			WithMend("Restore it from the backup; without it what was sealed cannot be read.")
	}
	if err == nil {
		err = private(path, 0o077)
	}
	if err != nil {
		return nil, nil, unreadable(path, err)
	}
	for _, kek := range k.keks.list() {
		h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(sealed)), kek.aead, []byte(name))
		if err == nil {
			return h, kek, nil
		}
	}
	have := k.keks.Current().fingerprint
	if want := k.notedFingerprint(); want != "" && want != have {
		return nil, nil, problem.New(problem.Internal, "kek-wrong", fmt.Sprintf("%s was wrapped by the key-encryption key %s, but this is %s.", path, want, have)).
			WithField("keys").WithMend("Put back the KEK that made it, name it under keys.previous, or restore both files from the same backup: docs/runbooks/kek-lost.md.")
	}
	return nil, nil, problem.New(problem.Internal, "keyset-unreadable", path+" does not open with the key-encryption key "+have+": it was truncated or changed.").
		WithMend("Restore it from the backup that has it and the KEK together: docs/runbooks/kek-lost.md.")
}

// fingerprintFile remembers which KEK wraps the files, so that a wrong one is
// told from a damaged keyset. It is no secret.
const fingerprintFile = "kek.fingerprint"

func (k *Keyring) notedFingerprint() string {
	text, _ := os.ReadFile(filepath.Join(k.dir, fingerprintFile))
	return strings.TrimSpace(string(text))
}

func (k *Keyring) noteFingerprint(kek *KEK) {
	if k.notedFingerprint() != kek.fingerprint {
		_ = replace(filepath.Join(k.dir, fingerprintFile), []byte(kek.fingerprint+"\n")) // a better message is all that hangs on it
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func unreadable(path string, err error) error {
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	return problem.New(problem.Unavailable, "key-file", "The key file "+path+" cannot be used: "+reason(err)+".").
		WithMend("Check that it exists, that its directory is writable and that the disk has room.").Wrap(err)
}

func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err.Error()
	}
	return err.Error()
}
