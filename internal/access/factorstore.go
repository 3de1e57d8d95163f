package access

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
)

// totpSecret reads a person's sealed secret and the last step that was used.
func totpSecret(ctx context.Context, tx pgx.Tx, person uuid.UUID) (sealed []byte, last int64, err error) {
	err = tx.QueryRow(ctx, `SELECT secret_sealed, last_step FROM totp_secrets WHERE person_id = $1`, person).Scan(&sealed, &last)
	return sealed, last, err
}

// useStep takes a time step for good: false when it, or a later one, was taken
// meanwhile, on whichever node.
func useStep(ctx context.Context, tx pgx.Tx, person uuid.UUID, step int64) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE totp_secrets SET last_step = $2, last_used_at = now() WHERE person_id = $1 AND last_step < $2`, person, step)
	return tag.RowsAffected() == 1, err
}

func saveTOTP(ctx context.Context, tx pgx.Tx, person uuid.UUID, sealed []byte, step int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO totp_secrets (person_id, secret_sealed, last_step) VALUES ($1, $2, $3)
		ON CONFLICT (person_id) DO UPDATE SET secret_sealed = $2, last_step = greatest(totp_secrets.last_step, $3), created_at = now(), last_used_at = NULL`, person, sealed, step)
	return err
}

func deleteTOTP(ctx context.Context, tx pgx.Tx, person uuid.UUID) (bool, error) {
	tag, err := tx.Exec(ctx, `DELETE FROM totp_secrets WHERE person_id = $1`, person)
	return tag.RowsAffected() == 1, err
}

// recoveryHash reads the hash of a code that is left; empty when there is none.
func recoveryHash(ctx context.Context, tx pgx.Tx, person uuid.UUID, selector string) (hash string, err error) {
	err = tx.QueryRow(ctx, `SELECT code_hash FROM recovery_codes WHERE person_id = $1 AND selector = $2 AND used_at IS NULL`, person, selector).Scan(&hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return hash, err
}

func useRecovery(ctx context.Context, tx pgx.Tx, person uuid.UUID, selector string) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE recovery_codes SET used_at = now() WHERE person_id = $1 AND selector = $2 AND used_at IS NULL`, person, selector)
	return tag.RowsAffected() == 1, err
}

// replaceRecovery stores a new set of codes in place of the old.
func replaceRecovery(ctx context.Context, tx pgx.Tx, person uuid.UUID, codes []credential.RecoveryCode) error {
	if _, err := tx.Exec(ctx, `DELETE FROM recovery_codes WHERE person_id = $1`, person); err != nil {
		return err
	}
	for _, c := range codes {
		if _, err := tx.Exec(ctx, `INSERT INTO recovery_codes (person_id, selector, code_hash) VALUES ($1, $2, $3)`, person, c.Selector, c.Hash); err != nil {
			return err
		}
	}
	return nil
}

// storedPasskey is a passkey as the database has it.
type storedPasskey struct {
	id         []byte
	person     uuid.UUID
	name       []byte // sealed
	credential []byte // sealed
	count      int64
	cloned     *time.Time
	made       time.Time
	used       *time.Time
}

const passkeyColumns = `id, person_id, name_sealed, credential_sealed, sign_count, clone_warning_at, created_at, last_used_at`

func passkeysOf(ctx context.Context, tx pgx.Tx, person uuid.UUID) ([]storedPasskey, error) {
	rows, err := tx.Query(ctx, `SELECT `+passkeyColumns+` FROM passkeys WHERE person_id = $1 ORDER BY created_at, id`, person)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (k storedPasskey, err error) {
		err = row.Scan(&k.id, &k.person, &k.name, &k.credential, &k.count, &k.cloned, &k.made, &k.used)
		return k, err
	})
}

func insertPasskey(ctx context.Context, tx pgx.Tx, k storedPasskey) error {
	_, err := tx.Exec(ctx, `INSERT INTO passkeys (id, person_id, name_sealed, credential_sealed, sign_count) VALUES ($1, $2, $3, $4, $5)`,
		k.id, k.person, k.name, k.credential, k.count)
	return err
}

// usePasskey takes an authenticator's counter: false when it did not grow,
// which a copy of the authenticator would explain (WebAuthn level 3, 7.2 step
// 22). One that always says 0 keeps no counter.
func usePasskey(ctx context.Context, tx pgx.Tx, id []byte, person uuid.UUID, count uint32) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE passkeys SET sign_count = $3, last_used_at = now()
		WHERE id = $1 AND person_id = $2 AND clone_warning_at IS NULL AND (sign_count < $3 OR sign_count = 0 AND $3 = 0)`, id, person, int64(count))
	return tag.RowsAffected() == 1, err
}

func markCloned(ctx context.Context, tx pgx.Tx, id []byte) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE passkeys SET clone_warning_at = now() WHERE id = $1 AND clone_warning_at IS NULL`, id)
	return tag.RowsAffected() == 1, err
}

func renamePasskey(ctx context.Context, tx pgx.Tx, id []byte, person uuid.UUID, name []byte) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE passkeys SET name_sealed = $3 WHERE id = $1 AND person_id = $2`, id, person, name)
	return tag.RowsAffected() == 1, err
}

func deletePasskey(ctx context.Context, tx pgx.Tx, id []byte, person uuid.UUID) (bool, error) {
	tag, err := tx.Exec(ctx, `DELETE FROM passkeys WHERE id = $1 AND person_id = $2`, id, person)
	return tag.RowsAffected() == 1, err
}

// lockFactors counts what a person can sign in with, and holds the person's
// row until the transaction ends: two removals at once cannot leave nothing.
func lockFactors(ctx context.Context, tx pgx.Tx, person uuid.UUID) (Factors, error) {
	if _, err := tx.Exec(ctx, `SELECT FROM people WHERE id = $1 FOR UPDATE`, person); err != nil {
		return Factors{}, err
	}
	p, err := personByID(ctx, tx, person)
	return p.Factors, err
}

// removeFactors takes everything away that a person signs in with, and returns
// how many passkeys there were.
func removeFactors(ctx context.Context, tx pgx.Tx, person uuid.UUID) (passkeys int64, err error) {
	for _, q := range []string{`DELETE FROM totp_secrets WHERE person_id = $1`, `DELETE FROM recovery_codes WHERE person_id = $1`,
		`UPDATE people SET password_hash = NULL, version = version + 1 WHERE id = $1`, `DELETE FROM passkeys WHERE person_id = $1`} {
		tag, err := tx.Exec(ctx, q, person)
		if err != nil {
			return 0, err
		}
		passkeys = tag.RowsAffected()
	}
	return passkeys, nil
}
