// Package keys knows how to seal, open, rotate and shred.
//
// One keyring per installation for now: a Tink AEAD keyset (XAES-256-GCM)
// and a PRF keyset for MAC keys, both wrapped by a key-encryption key (KEK)
// that lives in a file or in a systemd credential. Associated data binds
// every sealed value to its place, so that a ciphertext moved elsewhere does
// not open.
package keys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// kekBytes is the size of the key-encryption key: AES-256.
const kekBytes = 32

// Options says where the KEK and the wrapped keysets are.
type Options struct {
	Dir        string // holds the wrapped keysets, and the KEK in development
	KEKFile    string // the KEK's file; empty: Dir/kek
	Production bool   // refuse a KEK on the data volume (invariant 6)
	DataDir    string // the data volume to compare with in production
}

// Keyring seals and opens with the installation's keys. Safe for concurrent use.
type Keyring struct {
	aead tink.AEAD
	prf  *prf.Set
}

// Open reads the keyring, and makes a new one where none exists. A keyset
// without its KEK, or the reverse, is an error: a second key would make what
// is sealed unreadable for ever.
func Open(o Options) (*Keyring, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, unreadable(o.Dir, err)
	}
	path := o.KEKFile
	if path == "" {
		path = filepath.Join(o.Dir, "kek")
	}
	if o.Production {
		if err := apart(path, o.DataDir); err != nil {
			return nil, err
		}
	}
	if err := moveMade(o.Dir); err != nil {
		return nil, err
	}
	if !exists(filepath.Join(o.Dir, aeadFile)) && !exists(filepath.Join(o.Dir, prfFile)) {
		if err := makeAll(o, path); err != nil {
			return nil, err
		}
	}
	wrap, err := readKEK(path)
	if err != nil {
		return nil, err
	}
	seal, err := loadKeyset(filepath.Join(o.Dir, aeadFile), wrap)
	if err != nil {
		return nil, err
	}
	derive, err := loadKeyset(filepath.Join(o.Dir, prfFile), wrap)
	if err != nil {
		return nil, err
	}
	k := &Keyring{}
	if k.aead, err = aead.New(seal); err != nil {
		return nil, fmt.Errorf("opening the AEAD keyset: %w", err)
	}
	if k.prf, err = prf.NewPRFSet(derive); err != nil {
		return nil, fmt.Errorf("opening the PRF keyset: %w", err)
	}
	return k, nil
}

// Seal encrypts plaintext and authenticates associated, which says where the
// value belongs and must be given again to Open.
func (k *Keyring) Seal(plaintext, associated []byte) ([]byte, error) {
	return k.aead.Encrypt(plaintext, associated)
}

// Open decrypts what Seal made.
func (k *Keyring) Open(sealed, associated []byte) ([]byte, error) {
	return k.aead.Decrypt(sealed, associated)
}

// MACKey derives the 32-byte key for one purpose. The same purpose gives the
// same key for the life of the keyring.
func (k *Keyring) MACKey(purpose string) ([]byte, error) {
	return k.prf.ComputePrimaryPRF([]byte("foundry mac "+purpose), 32)
}

func loadKeyset(path string, wrap tink.AEAD) (*keyset.Handle, error) {
	sealed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New(problem.Internal, "keyset-missing", path+" is missing, though other key material exists.").
			WithMend("Restore it from the backup; without it what was sealed cannot be read.")
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(sealed)), wrap, []byte(filepath.Base(path)))
	if err != nil {
		return nil, problem.New(problem.Internal, "keyset-unreadable", path+" does not open with this key-encryption key.").
			WithMend("Put back the KEK that made it, or restore both files from the same backup.").Wrap(err)
	}
	return h, nil
}

// readKEK reads 32 base64 bytes from a file that only its owner may read.
func readKEK(path string) (tink.AEAD, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, problem.New(problem.Invalid, "kek-mode", fmt.Sprintf("%s has mode %04o: others can read the key-encryption key.", path, perm)).
			WithMend("Run: chmod 0600 " + path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	kek, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(kek) != kekBytes {
		return nil, problem.New(problem.Invalid, "kek-format", path+" does not hold a key-encryption key.").
			WithMend("It must be 32 random bytes in base64, for example from: openssl rand -base64 32")
	}
	return subtle.NewAESGCM(kek)
}

// apart refuses a KEK that lies on the data's volume. A systemd credential
// lies on a ramfs of its own and passes.
func apart(kek, data string) error {
	a, err := os.Stat(kek)
	if err != nil {
		return unreadable(kek, err)
	}
	b, err := os.Stat(data)
	if err != nil {
		return unreadable(data, err)
	}
	sa, okA := a.Sys().(*syscall.Stat_t)
	sb, okB := b.Sys().(*syscall.Stat_t)
	if !okA || !okB || sa.Dev == sb.Dev {
		return problem.New(problem.Denied, "kek-on-data-volume", "In production the key-encryption key may not lie on the volume of the data: "+kek+".").
			WithField("keys.kek").WithMend("Give it as a systemd credential (keys.kek: {credential: foundry-kek}) or as a file on another volume.")
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func unreadable(path string, err error) error {
	return problem.New(problem.Unavailable, "key-file", "The key file "+path+" cannot be used: "+reason(err)+".").
		WithMend("Check that it exists, that its directory is writable and that the disk has room.").Wrap(err)
}

func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
