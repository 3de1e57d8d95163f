package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// What stands in the database for every node to compare its keys with.
const (
	checkPurpose = "installation check" // the key that is derived, of which the hash is stored
	checkLabel   = "foundry installation check v1"
	checkText    = "these are the keys of this installation"
)

// Belongs refuses keys that are not those of the installation whose database
// this is: under other keys no API key, session or sealed value of the other
// nodes would be known here, and everything would fail one by one at its use.
// The first node of an installation writes down what the others compare with.
func (k *Keyring) Belongs(ctx context.Context, d *db.DB) error {
	derived, err := k.MACKey(checkPurpose)
	if err != nil {
		return fmt.Errorf("deriving the key of the check: %w", err)
	}
	sum := sha256.Sum256(derived)
	sealed, err := k.Seal([]byte(checkText), []byte(checkLabel))
	if err != nil {
		return fmt.Errorf("sealing the check: %w", err)
	}
	var stored struct{ derived, sealed []byte }
	var kek *string
	err = d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO installation_keys (name, value) VALUES ('derived', $1), ('sealed', $2) ON CONFLICT DO NOTHING`, sum[:], sealed); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT (SELECT value FROM installation_keys WHERE name = 'derived'), (SELECT value FROM installation_keys WHERE name = 'sealed')`).
			Scan(&stored.derived, &stored.sealed); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT kek FROM keysets WHERE organisation_id = $1 AND wrapped IS NOT NULL`, uuid.Nil).Scan(&kek)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("comparing keys with the installation's: %w", err)
	}
	switch {
	case !bytes.Equal(stored.derived, sum[:]):
		return otherKeys("keys-differ", "This node's keys are not those of the installation in this database: it would know none of its API keys and sessions.")
	case !k.opens(stored.sealed):
		return otherKeys("keys-behind", "The keys in files were rotated on another node, and this node does not have the new one: it could not read what the others seal.")
	case kek != nil && !k.knows(ctx, *kek):
		return problem.New(problem.Conflict, "kek-differs", "The keysets in this database are wrapped by the key-encryption key "+*kek+", which this node does not have: it could open nothing that is sealed there.").
			WithField("keys.kek").WithMend("Give this node that key-encryption key, or name it under keys.previous: docs/runbooks/kek-lost.md.")
	}
	return nil
}

// NoteRotation writes down what the keys in files seal now, after they were
// rotated here, so that a node that has not got them yet is told.
func (k *Keyring) NoteRotation(ctx context.Context, d *db.DB) error {
	sealed, err := k.Seal([]byte(checkText), []byte(checkLabel))
	if err != nil {
		return fmt.Errorf("sealing the check: %w", err)
	}
	return d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE installation_keys SET value = $1, changed_at = now() WHERE name = 'sealed'`, sealed)
		return err
	})
}

func (k *Keyring) opens(sealed []byte) bool {
	text, err := k.Open(sealed, []byte(checkLabel))
	return err == nil && string(text) == checkText
}

func (k *Keyring) knows(ctx context.Context, fingerprint string) bool {
	kek, err := k.keks.find(ctx, fingerprint)
	return err == nil && kek != nil
}

func otherKeys(code, detail string) error {
	return problem.New(problem.Conflict, code, detail).WithField("keys").
		WithMend("Stop this node and copy the directory keys (and ca, so that clients trust both) from the data directory of a node that works; give this one the same key-encryption key. " +
			"If it is in a fleet already, what it is there is sealed with the keys that it has: begin again with an empty data directory, by \"A second gateway\" in docs/guides/fleet.md. Or name another database.")
}
