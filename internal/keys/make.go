package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	aeadFile = "aead.keyset"
	prfFile  = "prf.keyset"

	making = ".making" // an interrupted start may leave it; nothing in it was ever used
	made   = ".made"   // complete, and to be moved into place
)

// makeAll makes the key material of a new installation, whole or not at all:
// half of it would look like a loss of the other half. It is written into a
// directory of its own, a rename says that it is complete, and then it moves
// into place; whoever is killed in between leaves the move to the next start.
func makeAll(o Options) error {
	dir := filepath.Join(o.Dir, making)
	if err := os.RemoveAll(dir); err != nil {
		return unreadable(dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return unreadable(dir, err)
	}
	provider := o.Provider
	if m, ok := provider.(maker); ok {
		var err error
		if provider, err = m.make(o.Dir, dir); err != nil {
			return err
		}
	}
	keks, err := loadKeks(context.Background(), provider, nil, o.Patience)
	if err != nil {
		return err
	}
	wrap := keks.Current().aead
	if err := makeKeyset(filepath.Join(dir, aeadFile), wrap, aead.XAES256GCM192BitNonceKeyTemplate()); err != nil {
		return err
	}
	if err := makeKeyset(filepath.Join(dir, prfFile), wrap, prf.HKDFSHA256PRFKeyTemplate()); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(o.Dir, made)); err != nil {
		return unreadable(dir, err)
	}
	if err := syncDir(o.Dir); err != nil {
		return err
	}
	return moveMade(o.Dir)
}

// maker is a provider whose key Foundry makes where there is none. It writes
// the key into making, if that key belongs into dir; otherwise in its own
// place. It returns the provider that reads it now.
type maker interface {
	make(dir, making string) (Provider, error)
}

// freshKEK makes 32 random bytes. The caller wipes them.
func freshKEK() []byte {
	kek := make([]byte, kekBytes)
	_, _ = rand.Read(kek) // never fails (crypto/rand)
	return kek
}

func encodeKEK(kek []byte) []byte {
	text := make([]byte, base64.StdEncoding.EncodedLen(len(kek)), base64.StdEncoding.EncodedLen(len(kek))+1)
	base64.StdEncoding.Encode(text, kek)
	return append(text, '\n')
}

func makeKeyset(path string, wrap tink.AEAD, template *tinkpb.KeyTemplate) error {
	h, err := keyset.NewHandle(template)
	if err != nil {
		return fmt.Errorf("making a keyset: %w", err)
	}
	var out bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&out), wrap, []byte(filepath.Base(path))); err != nil {
		return fmt.Errorf("wrapping a keyset: %w", err)
	}
	return writeNew(path, out.Bytes())
}

// moveMade moves complete key material into place. It never replaces any.
func moveMade(dir string) error {
	from := filepath.Join(dir, made)
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unreadable(from, err)
	}
	for _, e := range entries {
		to := filepath.Join(dir, e.Name())
		if exists(to) {
			return problem.New(problem.Conflict, "keys-twice", "There is key material both in "+dir+" and in "+from+".").
				WithMend("Keep what the data was sealed with, and move the other away.")
		}
		if err := os.Rename(filepath.Join(from, e.Name()), to); err != nil {
			return unreadable(to, err)
		}
	}
	if err := os.Remove(from); err != nil {
		return unreadable(from, err)
	}
	return syncDir(dir)
}

// writeNew writes a file that must not exist yet, durably and for its owner only.
func writeNew(path string, body []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return unreadable(path, err)
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		return unreadable(path, err)
	}
	if err := f.Sync(); err != nil {
		return unreadable(path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return unreadable(dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return unreadable(dir, err)
	}
	return nil
}

// replace writes a file in one durable step: whoever is killed leaves either
// what was there or what is to be.
func replace(path string, body []byte) error {
	tmp := filepath.Join(filepath.Dir(path), leftover+filepath.Base(path))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unreadable(tmp, err)
	}
	if err := writeNew(tmp, body); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return unreadable(path, err)
	}
	return syncDir(filepath.Dir(path))
}

// leftover begins the names of files that were being written.
const leftover = ".new-"

func removeLeftovers(dir string) {
	found, _ := filepath.Glob(filepath.Join(dir, leftover+"*")) // a well-formed pattern
	for _, path := range found {
		_ = os.Remove(path)
	}
}
