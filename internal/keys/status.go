package keys

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Status is what there is of keys, without any of their material.
type Status struct {
	KEK      KEKStatus      `json:"kek"`
	Files    FilesStatus    `json:"files"`
	Keysets  []KeysetStatus `json:"keysets"`
	Warnings []string       `json:"warnings"`
}

// KEKStatus is the key-encryption key in force, and those that still open.
type KEKStatus struct {
	Provider    string   `json:"provider"`
	Place       string   `json:"place"`
	Fingerprint string   `json:"fingerprint"`
	Older       []string `json:"older,omitempty"` // known, but not in force
}

// KeysetStatus is one keyset of the database.
type KeysetStatus struct {
	Organisation uuid.UUID   `json:"organisation"` // nil: the installation
	KEK          string      `json:"kek"`
	MadeAt       time.Time   `json:"made_at"`
	WrappedAt    time.Time   `json:"wrapped_at"`
	Hold         string      `json:"hold,omitempty"` // why it is on legal hold; empty: it is not
	HoldBy       string      `json:"hold_by,omitempty"`
	HoldAt       *time.Time  `json:"hold_at,omitempty"`
	DestroyedAt  *time.Time  `json:"destroyed_at,omitempty"`
	Keys         []KeyStatus `json:"keys"`
	Rotation     *Progress   `json:"rotation,omitempty"`
}

// KeyStatus is one key of a keyset.
type KeyStatus struct {
	Organisation uuid.UUID  `json:"-"`
	ID           int64      `json:"-"`
	Name         string     `json:"id"`
	Status       string     `json:"status"`
	MadeAt       time.Time  `json:"made_at"`
	DisabledAt   *time.Time `json:"disabled_at,omitempty"`
	DestroyedAt  *time.Time `json:"destroyed_at,omitempty"`
	Bytes        int64      `json:"bytes_sealed"`
	Values       int64      `json:"values_sealed"`
	Files        bool       `json:"files"`         // has sealed files, and is kept after a rotation
	Stored       int64      `json:"values_stored"` // values in registered columns that it alone opens
}

// readKeys reads keys. condition is about k (keyset_keys) and s (keysets), and
// is never made from input.
func (v *Vault) readKeys(ctx context.Context, condition string) (out []KeyStatus, err error) {
	err = v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT k.organisation_id, k.key_id, k.status, k.made_at, k.disabled_at, k.destroyed_at, k.bytes_sealed, k.values_sealed, k.files
			FROM keyset_keys k JOIN keysets s USING (organisation_id) WHERE `+condition+` ORDER BY k.organisation_id, k.made_at, k.key_id`)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (k KeyStatus, err error) {
			err = r.Scan(&k.Organisation, &k.ID, &k.Status, &k.MadeAt, &k.DisabledAt, &k.DestroyedAt, &k.Bytes, &k.Values, &k.Files)
			k.Name = keyName(uint32(k.ID))
			return k, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	return out, nil
}

// Status reads the state of every keyset.
func (v *Vault) Status(ctx context.Context) (*Status, error) {
	if err := v.FlushCounts(ctx); err != nil {
		return nil, err
	}
	kek := v.keks.Current()
	out := &Status{
		KEK:      KEKStatus{Provider: v.keks.provider.Name(), Place: v.keks.provider.Place(), Fingerprint: kek.fingerprint},
		Files:    v.o.Keyring.status(v.o.FilesKept),
		Warnings: []string{},
	}
	for _, older := range v.keks.list()[1:] {
		out.KEK.Older = append(out.KEK.Older, older.fingerprint)
	}
	sort.Strings(out.KEK.Older)
	var rows []keysetRow
	err := v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, `SELECT `+keysetColumns+` FROM keysets ORDER BY organisation_id`)
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(found, pgx.RowToStructByPos[keysetRow])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading keysets: %w", err)
	}
	all, err := v.readKeys(ctx, "true")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		ks := KeysetStatus{Organisation: r.Organisation, KEK: r.KEK, MadeAt: r.MadeAt, WrappedAt: r.WrappedAt, Hold: r.HoldReason, HoldBy: r.HoldBy, HoldAt: r.HoldAt, DestroyedAt: r.DestroyedAt}
		if p, ok := v.RotationProgress(r.Organisation); ok {
			ks.Rotation = &p
		}
		for _, k := range all {
			if k.Organisation != r.Organisation {
				continue
			}
			if k.Stored, err = v.references(ctx, r.Organisation, uint32(k.ID)); err != nil {
				return nil, err
			}
			ks.Keys = append(ks.Keys, k)
			out.warn(r, k, kek.fingerprint)
		}
		if r.DestroyedAt == nil && r.KEK != kek.fingerprint {
			out.Warnings = append(out.Warnings, fmt.Sprintf("The keyset of %s is still wrapped by the key-encryption key %s: run `foundry keys rewrap`.", r.Organisation, r.KEK))
		}
		out.Keysets = append(out.Keysets, ks)
	}
	return out, nil
}

func (s *Status) warn(r keysetRow, k KeyStatus, _ string) {
	switch {
	case k.Status == "destroyed":
	case NearLimit(k.Bytes, k.Values):
		s.Warnings = append(s.Warnings, fmt.Sprintf("The key %s of %s nears the limit of what it may seal: run `foundry keys rotate`.", k.Name, r.Organisation))
	case k.Status == "enabled":
		s.Warnings = append(s.Warnings, fmt.Sprintf("The older key %s of %s still seals %d values: a rotation is not finished.", k.Name, r.Organisation, k.Stored))
	}
}
