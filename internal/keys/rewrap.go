package keys

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Rewrapped is what a rewrap did.
type Rewrapped struct {
	KEK     string `json:"kek"`     // fingerprint of the key in force now
	Keysets int    `json:"keysets"` // of the database, wrapped anew
	Files   int    `json:"files"`   // keysets in files, wrapped anew
	Retired string `json:"retired,omitempty"`
}

// Rewrap wraps every keyset with the key-encryption key in force, or with a
// fresh one that takes its place at the end. What the keysets seal stays as it
// is. Killed at any step, every keyset opens at the next start, because the
// next key lies beside the one in force until nothing is wrapped by the latter;
// run again, it goes on where it was.
func (v *Vault) Rewrap(ctx context.Context, p principal.Principal, fresh bool) (out Rewrapped, err error) {
	ring := v.o.Keyring
	ring.changing.Lock()
	defer ring.changing.Unlock()
	kek, old := v.keks.Current(), v.keks.Current()
	if fresh {
		if kek, err = v.nextKEK(ctx); err != nil {
			return out, err
		}
		v.o.Step("rewrap:next")
	}
	out.KEK = kek.fingerprint
	for _, file := range []string{aeadFile, prfFile} {
		changed, err := ring.rewrapFile(file, kek)
		if err != nil {
			return out, err
		}
		if changed {
			out.Files++
		}
		v.o.Step("rewrap:" + file)
	}
	ring.noteFingerprint(kek)
	v.keks.promote(kek) // keysets made from here on are wrapped by it
	for round := 0; ; round++ {
		n, err := v.rewrapRows(ctx, p, kek)
		if err != nil {
			return out, err
		}
		out.Keysets += n
		if n == 0 {
			break
		}
	}
	v.o.Step("rewrap:rows")
	if fresh {
		if out.Retired, err = v.keks.provider.Promote(ctx, old.fingerprint); err != nil {
			return out, err
		}
		v.o.Step("rewrap:promoted")
	}
	err = v.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return v.o.Audit(ctx, tx, p, uuid.Nil, "keys.rewrap", kek.fingerprint, map[string]any{"after": old.fingerprint, "keysets": out.Keysets, "files": out.Files})
	})
	return out, err
}

func (v *Vault) nextKEK(ctx context.Context) (*KEK, error) {
	ctx, cancel := context.WithTimeout(ctx, v.keks.patience)
	defer cancel()
	p := v.keks.provider
	raw, err := bounded(ctx, p, func() ([]byte, error) { return p.Next(ctx) })
	if err != nil {
		return nil, err
	}
	kek, err := newKEK(raw)
	if err != nil {
		return nil, err
	}
	v.keks.adopt(kek)
	return kek, nil
}

// rewrapFile wraps one keyset file anew, unless that key wraps it already.
func (k *Keyring) rewrapFile(file string, kek *KEK) (bool, error) {
	h, by, err := k.loadKeyset(file)
	if err != nil || by.fingerprint == kek.fingerprint {
		return false, err
	}
	return true, k.storeKeyset(file, h, kek)
}

func (k *Keyring) storeKeyset(file string, h *keyset.Handle, kek *KEK) error {
	var out bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&out), kek.aead, []byte(file)); err != nil {
		return fmt.Errorf("wrapping %s: %w", file, err)
	}
	return replace(filepath.Join(k.dir, file), out.Bytes())
}

// rewrapRows wraps anew what another key wraps, each keyset in a transaction
// of its own.
func (v *Vault) rewrapRows(ctx context.Context, p principal.Principal, kek *KEK) (n int, err error) {
	var orgs []uuid.UUID
	err = v.o.DB.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT organisation_id FROM keysets WHERE kek <> $1 AND wrapped IS NOT NULL ORDER BY organisation_id`, kek.fingerprint)
		if err != nil {
			return err
		}
		orgs, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("looking for keysets to wrap: %w", err)
	}
	for _, org := range orgs {
		err := v.o.DB.Org(ctx, org, func(tx pgx.Tx) error {
			row, err := selectKeyset(ctx, tx, org, "FOR UPDATE")
			if err != nil || row == nil || row.DestroyedAt != nil || row.KEK == kek.fingerprint {
				return err
			}
			k, err := v.unwrap(ctx, org, row)
			if err != nil {
				return err
			}
			wrapped, err := v.wrap(org, k.handle, kek)
			if err != nil {
				return err
			}
			// The version stays: the keys inside are the same, and no node has to forget them.
			if _, err := tx.Exec(ctx, `UPDATE keysets SET wrapped = $2, kek = $3, wrapped_at = now() WHERE organisation_id = $1`, org, wrapped, kek.fingerprint); err != nil {
				return err
			}
			n++
			return v.o.Audit(ctx, tx, p, org, "keys.rewrap", kek.fingerprint, map[string]any{"after": row.KEK})
		})
		if err != nil {
			return n, fmt.Errorf("wrapping the keyset of %s: %w", org, err)
		}
		v.o.Step("rewrap:row")
	}
	return n, nil
}

// RotateFiles gives the keyring in files a new key to seal with. The older
// ones stay: segments of the journal that are not shipped yet refer to them.
// The PRF keyset never changes, because the tags of API keys depend on it.
func (v *Vault) RotateFiles(ctx context.Context, p principal.Principal) (key string, err error) {
	k := v.o.Keyring
	k.changing.Lock()
	defer k.changing.Unlock()
	h, by, err := k.loadKeyset(aeadFile)
	if err != nil {
		return "", err
	}
	m := keyset.NewManagerFromHandle(h)
	id, err := m.Add(aead.XAES256GCM192BitNonceKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err == nil {
		h, err = m.Handle()
	}
	if err != nil {
		return "", fmt.Errorf("adding a key to %s: %w", aeadFile, err)
	}
	err = v.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := v.o.Audit(ctx, tx, p, uuid.Nil, "keys.rotate", keyName(id), map[string]any{"file": aeadFile}); err != nil {
			return err
		}
		v.o.Step("rotate:file")
		if err := k.noteRotation(v.o.Clock()); err != nil {
			return err
		}
		// The file changes last: should the commit fail, there is a key too many and no entry, never an entry without its key.
		return k.storeKeyset(aeadFile, h, by)
	})
	if err != nil {
		return "", err
	}
	v.o.Step("rotate:filed")
	return keyName(id), k.useAEAD(h)
}

// KeyIDs lists the keys of the keyring in files, the primary first.
func (k *Keyring) KeyIDs() []string {
	info := k.aead.Load().handle.KeysetInfo()
	out := []string{keyName(info.GetPrimaryKeyId())}
	for _, i := range info.GetKeyInfo() {
		if i.GetKeyId() != info.GetPrimaryKeyId() {
			out = append(out, keyName(i.GetKeyId()))
		}
	}
	return out
}
