package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// A sealed file is: the magic, the length of the sealed data key in two bytes,
// that key, and the body in segments of 1 MiB by Tink's AES-256-GCM-HKDF
// streaming AEAD, whose last segment is marked, so that a cut is found. The
// data key is of this file alone and is sealed by the organisation's keyset:
// a rotation need not rewrite the body, and a shredding ends it.
const (
	fileMagic   = "FDYSEAL1"
	segmentSize = 1 << 20
	dataKeySize = 32
	maxDataKey  = 1 << 10
)

// SealFile returns a writer whose Close ends the file; without it the file is
// truncated and does not open. Memory use is one segment.
func (v *Vault) SealFile(ctx context.Context, org uuid.UUID, at Place, w io.Writer) (io.WriteCloser, error) {
	return v.sealFile(ctx, org, at, w, true)
}

// sealFile seals a file. One that lasts keeps its key from being ended.
func (v *Vault) sealFile(ctx context.Context, org uuid.UUID, at Place, w io.Writer, lasts bool) (io.WriteCloser, error) {
	key := make([]byte, dataKeySize)
	defer clear(key)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	sealed, err := v.seal(ctx, org, at.associated(aboutData, org), key)
	if err == nil && lasts {
		err = v.noteFiles(ctx, org, sealed)
	}
	if err != nil {
		return nil, err
	}
	if err := writeHeader(w, sealed); err != nil {
		return nil, err
	}
	s, err := streaming(key)
	if err != nil {
		return nil, err
	}
	return s.NewEncryptingWriter(w, at.associated(aboutFile, org))
}

// noteFiles stores, once per key and process and before the first file exists,
// that files refer to the key, so that no rotation ends it.
func (v *Vault) noteFiles(ctx context.Context, org uuid.UUID, sealed []byte) error {
	id, _ := keyID(sealed)
	c := v.count(org, id)
	if c.files.Load() {
		return nil
	}
	err := v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE keyset_keys SET files = true WHERE organisation_id = $1 AND key_id = $2`, org, int64(id))
		return err
	})
	if err != nil {
		return fmt.Errorf("noting a sealed file: %w", err)
	}
	c.files.Store(true)
	return nil
}

func writeHeader(w io.Writer, sealed []byte) error {
	head := append([]byte(fileMagic), 0, 0)
	binary.BigEndian.PutUint16(head[len(fileMagic):], uint16(len(sealed)))
	if _, err := w.Write(append(head, sealed...)); err != nil {
		return fmt.Errorf("writing a sealed file: %w", err)
	}
	return nil
}

// streaming copies the key; the copy lives as long as the stream.
func streaming(key []byte) (*subtle.AESGCMHKDF, error) {
	return subtle.NewAESGCMHKDF(bytes.Clone(key), "SHA256", dataKeySize, segmentSize, 0)
}

// OpenFile returns a reader of what SealFile wrote. Each segment is verified
// before any of it is returned; a file that was cut ends with an error, never
// with io.EOF.
func (v *Vault) OpenFile(ctx context.Context, org uuid.UUID, at Place, r io.Reader) (io.Reader, error) {
	sealed, err := readHeader(r, at)
	if err != nil {
		return nil, err
	}
	key, err := v.open(ctx, org, at.associated(aboutData, org), at.Table+"."+at.Column, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	s, err := streaming(key)
	if err != nil {
		return nil, unopenable(at.Table + "." + at.Column)
	}
	body, err := s.NewDecryptingReader(r, at.associated(aboutFile, org))
	if err != nil {
		return nil, damagedFile(at, err)
	}
	return &fileReader{body, at}, nil
}

func readHeader(r io.Reader, at Place) ([]byte, error) {
	head := make([]byte, len(fileMagic)+2)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, damagedFile(at, err)
	}
	n := int(binary.BigEndian.Uint16(head[len(fileMagic):]))
	if string(head[:len(fileMagic)]) != fileMagic || n > maxDataKey {
		return nil, damagedFile(at, errors.New("not a sealed file"))
	}
	sealed := make([]byte, n)
	if _, err := io.ReadFull(r, sealed); err != nil {
		return nil, damagedFile(at, err)
	}
	return sealed, nil
}

type fileReader struct {
	r  io.Reader
	at Place
}

func (f *fileReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		err = damagedFile(f.at, err)
	}
	return n, err
}

// damagedFile keeps the cause for the log: it is about lengths and tags only.
func damagedFile(at Place, err error) error {
	return problem.New(problem.Internal, "file-unreadable", "A sealed file of "+at.Table+" does not open: it was cut or changed, or belongs to another place.").
		WithMend("Restore it from a backup.").Wrap(err)
}

// ResealFile writes a file's header anew, with its data key sealed by the
// primary key of the organisation, and copies the body as it is. It reports
// whether the key was an older one; if not, nothing is written.
func (v *Vault) ResealFile(ctx context.Context, org uuid.UUID, at Place, r io.Reader, w io.Writer) (bool, error) {
	sealed, err := readHeader(r, at)
	if err != nil {
		return false, err
	}
	key, err := v.open(ctx, org, at.associated(aboutData, org), at.Table+"."+at.Column, sealed)
	if err != nil {
		return false, err
	}
	defer clear(key)
	fresh, err := v.seal(ctx, org, at.associated(aboutData, org), key)
	if err == nil {
		err = v.noteFiles(ctx, org, fresh)
	}
	if err != nil || bytes.Equal(fresh[:5], sealed[:5]) {
		return false, err
	}
	if err := writeHeader(w, fresh); err != nil {
		return false, err
	}
	_, err = io.Copy(w, r)
	return err == nil, err
}
