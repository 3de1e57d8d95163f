package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// keysetRow is a keyset as it is stored.
type keysetRow struct {
	Organisation uuid.UUID
	Wrapped      []byte
	KEK          string
	Version      int64
	MadeAt       time.Time
	WrappedAt    time.Time
	HoldReason   string
	HoldBy       string
	HoldAt       *time.Time
	DestroyedAt  *time.Time
}

const keysetColumns = `organisation_id, wrapped, kek, version, made_at, wrapped_at, hold_reason, hold_by, hold_at, destroyed_at`

// readKeyset returns nil where there is none.
func (v *Vault) readKeyset(ctx context.Context, org uuid.UUID) (row *keysetRow, err error) {
	err = v.o.DB.Org(ctx, org, func(tx pgx.Tx) error { row, err = selectKeyset(ctx, tx, org, ""); return err })
	return row, err
}

// selectKeyset reads a keyset inside a transaction; lock may be FOR UPDATE.
func selectKeyset(ctx context.Context, tx pgx.Tx, org uuid.UUID, lock string) (*keysetRow, error) {
	rows, err := tx.Query(ctx, `SELECT `+keysetColumns+` FROM keysets WHERE organisation_id = $1 `+lock, org)
	if err != nil {
		return nil, err
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[keysetRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keyset of %s: %w", org, err)
	}
	return row, nil
}

// makeKeyset stores a new keyset, unless another node is first: then that one
// is returned.
func (v *Vault) makeKeyset(ctx context.Context, org uuid.UUID) (row *keysetRow, err error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("making a keyset: %w", err)
	}
	kek := v.keks.Current()
	wrapped, err := v.wrap(org, h, kek)
	if err != nil {
		return nil, err
	}
	id := h.KeysetInfo().GetPrimaryKeyId()
	err = v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO keysets (organisation_id, wrapped, kek) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			org, wrapped, kek.fingerprint)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 1 {
			if _, err := tx.Exec(ctx, `INSERT INTO keyset_keys (organisation_id, key_id, status) VALUES ($1, $2, 'primary')`, org, int64(id)); err != nil {
				return err
			}
			if err := v.o.Audit(ctx, tx, principal.Node("keys"), org, "keys.create", keyName(id), map[string]any{"kek": kek.fingerprint}); err != nil {
				return err
			}
		}
		row, err = selectKeyset(ctx, tx, org, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making the keyset of %s: %w", org, err)
	}
	return row, nil
}

// readVersions reads the version of every keyset.
func (v *Vault) readVersions(ctx context.Context) (map[uuid.UUID]int64, error) {
	out := map[uuid.UUID]int64{}
	err := v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT organisation_id, version FROM keysets`)
		if err != nil {
			return err
		}
		var org uuid.UUID
		var version int64
		_, err = pgx.ForEachRow(rows, []any{&org, &version}, func() error { out[org] = version; return nil })
		return err
	})
	return out, err
}

// keyName is how people see a key's id.
func keyName(id uint32) string { return fmt.Sprintf("%08x", id) }

// updateKeyset stores a keyset whose keys changed, if it is still as it was read.
func (v *Vault) updateKeyset(ctx context.Context, tx pgx.Tx, org uuid.UUID, h *keyset.Handle, was int64) (*KEK, error) {
	kek := v.keks.Current()
	wrapped, err := v.wrap(org, h, kek)
	if err != nil {
		return nil, err
	}
	tag, err := tx.Exec(ctx, `UPDATE keysets SET wrapped = $2, kek = $3, version = version + 1, wrapped_at = now()
		WHERE organisation_id = $1 AND version = $4 AND wrapped IS NOT NULL`, org, wrapped, kek.fingerprint, was)
	if err == nil && tag.RowsAffected() != 1 {
		err = errChanged
	}
	if err != nil {
		return nil, fmt.Errorf("storing the keyset of %s: %w", org, err)
	}
	return kek, nil
}

// errChanged says that another node was first; the caller reads again.
var errChanged = errors.New("the keyset was changed meanwhile")
