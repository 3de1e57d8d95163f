package keys

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// canaryColumn is where the canary is planted. It is registered like any
// other, so that rotations pass over it too.
var canaryColumn = Column{Table: "keyset_canaries", Column: "sealed", Keys: []string{"organisation_id", "id"}, Organisation: "organisation_id"}

// PlantedText makes a text that nothing else contains. It is a slice, so that
// it can be wiped.
func PlantedText() []byte {
	raw := make([]byte, 25)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	text := make([]byte, base32.StdEncoding.EncodedLen(len(raw)))
	base32.StdEncoding.Encode(text, raw)
	clear(raw)
	return text
}

// Plant seals a plaintext and a key as clients' content is sealed: into a row
// of an organisation, and as the body of a file below dir. It returns what
// removes both again.
func (v *Vault) Plant(ctx context.Context, org uuid.UUID, plaintext, key []byte, dir string) (remove func(context.Context) error, err error) {
	id := uuid.New()
	row := Row(org.String(), id.String())
	sealed, err := v.Seal(ctx, org, Place{canaryColumn.Table, canaryColumn.Column, row}, plaintext)
	if err != nil {
		return nil, err
	}
	err = v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO keyset_canaries (organisation_id, id, sealed) VALUES ($1, $2, $3)`, org, id, sealed)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("planting a canary: %w", err)
	}
	path := filepath.Join(dir, "canary-"+id.String())
	remove = func(ctx context.Context) error {
		_ = os.Remove(path)
		return v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM keyset_canaries WHERE organisation_id = $1 AND id = $2`, org, id)
			return err
		})
	}
	if err := v.plantFile(ctx, org, path, row, plaintext, key); err != nil {
		_ = remove(ctx)
		return nil, err
	}
	return remove, nil
}

func (v *Vault) plantFile(ctx context.Context, org uuid.UUID, path, row string, texts ...[]byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return unreadable(path, err)
	}
	defer f.Close()
	var w io.WriteCloser
	if w, err = v.sealFile(ctx, org, Place{canaryColumn.Table, "file", row}, f, false); err != nil {
		return err
	}
	for _, text := range texts {
		if _, err := w.Write(text); err != nil {
			return unreadable(path, err)
		}
	}
	if err := w.Close(); err != nil {
		return unreadable(path, err)
	}
	return f.Sync()
}
