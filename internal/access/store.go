// Package access knows who is calling and what they may do: organisations,
// their API keys, and whether a token is genuine.
package access

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CreateOrganisation makes an organisation. Names are lower-case letters,
// digits and dashes, at most 63, unique.
func CreateOrganisation(ctx context.Context, d *db.DB, g *Guard, p principal.Principal, name string) (Organisation, error) {
	o := Organisation{ID: uuid.Must(uuid.NewV7()), Name: name, Status: "active", Version: 1}
	if !nameRule.MatchString(name) {
		return o, problem.New(problem.Invalid, "organisation-name", fmt.Sprintf("%q is not a valid organisation name.", name)).
			WithField("name").WithMend("Use 1 to 63 lower-case letters, digits and dashes, for example st-mary-hospital.")
	}
	if err := g.Authorise(ctx, p, "organisation.create", policy.Resource{ID: name}); err != nil {
		return o, err
	}
	err := d.Org(ctx, o.ID, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `INSERT INTO organisations (id, name) VALUES ($1, $2) RETURNING created_at`, o.ID, o.Name).Scan(&o.CreatedAt); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, o.ID, "organisation.create", o.Name, nil); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if duplicate(err) {
		return o, problem.New(problem.Conflict, "organisation-exists", fmt.Sprintf("There is already an organisation named %q.", name)).
			WithField("name").WithMend("Choose another name, or use the existing one.")
	}
	return o, err
}

// NewKey is what a caller asks of CreateKey.
type NewKey struct {
	Organisation      uuid.UUID
	Name              string
	ClassFloor        int16 // sovereignty.DataClass; 0: none
	RequestsPerMinute int64
	TokensPerMinute   int64
	ExpiresAt         *time.Time
}

// CreateKey makes an API key and returns it with its token, which is shown
// once and stored nowhere.
func (v *Verifier) CreateKey(ctx context.Context, d *db.DB, g *Guard, p principal.Principal, in NewKey) (Key, string, error) {
	if err := validateKey(in, time.Now()); err != nil {
		return Key{}, "", err
	}
	if err := g.Authorise(ctx, p, "key.create", policy.Resource{ID: in.Name, Organisation: in.Organisation}); err != nil {
		return Key{}, "", err
	}
	token, selector, secret := v.tags.mint()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), credential.SecretCost)
	if err != nil {
		return Key{}, "", fmt.Errorf("hashing a key: %w", err)
	}
	k := Key{
		ID: selector, Organisation: in.Organisation, Name: in.Name, Hash: string(hash), ClassFloor: in.ClassFloor,
		RequestsPerMinute: in.RequestsPerMinute, TokensPerMinute: in.TokensPerMinute, ExpiresAt: in.ExpiresAt, Version: 1,
	}
	err = d.Org(ctx, in.Organisation, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `INSERT INTO api_keys (id, organisation_id, name, secret_hash, class_floor,
			requests_per_minute, tokens_per_minute, expires_at, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING created_at`,
			k.ID, k.Organisation, k.Name, k.Hash, k.ClassFloor, k.RequestsPerMinute, k.TokensPerMinute, k.ExpiresAt, maker(p)).Scan(&k.CreatedAt)
		if err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, in.Organisation, "key.create", k.ID, map[string]any{"name": k.Name, "class_floor": k.ClassFloor}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if duplicate(err) {
		return Key{}, "", problem.New(problem.Conflict, "key-exists", fmt.Sprintf("The organisation already has a key named %q.", in.Name)).
			WithField("name").WithMend("Choose another name.")
	}
	if err != nil {
		return Key{}, "", err
	}
	return k, token, nil
}

func validateKey(in NewKey, now time.Time) error {
	switch {
	case in.Name == "" || len(in.Name) > 100:
		return problem.New(problem.Invalid, "key-name", "A key needs a name of 1 to 100 characters.").WithField("name").
			WithMend("Name what uses it, for example ward-assistant.")
	case in.RequestsPerMinute < 0 || in.TokensPerMinute < 0:
		return problem.New(problem.Invalid, "key-limit", "A limit cannot be negative.").WithField("requests_per_minute, tokens_per_minute").
			WithMend("Use 0 for no limit.")
	case in.ClassFloor < 0 || in.ClassFloor > 4:
		return problem.New(problem.Invalid, "key-class", "The data class is unknown.").WithField("class_floor").
			WithMend("Use public, internal, confidential or restricted.")
	case in.ExpiresAt != nil && !in.ExpiresAt.After(now):
		return problem.New(problem.Invalid, "key-expiry", "The expiry lies in the past.").WithField("expires_at").
			WithMend("Give a later moment, or none.")
	}
	return nil
}

// RevokeKey ends a key at once. Revoking it again changes nothing.
func RevokeKey(ctx context.Context, d *db.DB, g *Guard, p principal.Principal, id string) (Key, error) {
	k, err := findKey(ctx, d, id)
	if err != nil && problem.From(err).Kind != problem.NotFound {
		return Key{}, err
	}
	org := k.Organisation // the platform's if there is no such key: whoever may revoke none learns nothing
	if denied := g.Authorise(ctx, p, "key.revoke", policy.Resource{ID: id, Organisation: org}); denied != nil {
		return Key{}, denied
	}
	if err != nil {
		return Key{}, err
	}
	err = d.Org(ctx, k.Organisation, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE api_keys SET revoked_at = now(), version = version + 1 WHERE id = $1 AND revoked_at IS NULL`, id)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if err := audit.Append(ctx, tx, p, k.Organisation, "key.revoke", id, map[string]any{"name": k.Name}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if err != nil {
		return k, err
	}
	return findKey(ctx, d, id)
}

const keyColumns = `id, organisation_id, name, secret_hash, class_floor, requests_per_minute, tokens_per_minute,
	expires_at, revoked_at, version, created_at`

func scanKey(row pgx.CollectableRow) (Key, error) {
	var k Key
	err := row.Scan(&k.ID, &k.Organisation, &k.Name, &k.Hash, &k.ClassFloor, &k.RequestsPerMinute, &k.TokensPerMinute,
		&k.ExpiresAt, &k.RevokedAt, &k.Version, &k.CreatedAt)
	return k, err
}

func findKey(ctx context.Context, d *db.DB, id string) (k Key, err error) {
	err = d.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE id = $1`, id)
		if err != nil {
			return err
		}
		k, err = pgx.CollectExactlyOneRow(rows, scanKey)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return k, problem.New(problem.NotFound, "key-unknown", fmt.Sprintf("There is no key %q.", id)).WithField("id").
			WithMend("`foundry key list` shows the keys and their ids.")
	}
	return k, err
}

// Load reads every organisation and every key that still opens something.
// now() of the database dates the picture.
func Load(ctx context.Context, tx pgx.Tx) (Records, error) {
	var r Records
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&r.TakenAt); err != nil {
		return r, err
	}
	rows, err := tx.Query(ctx, `SELECT id, name, status, version, created_at FROM organisations`)
	if err != nil {
		return r, err
	}
	if r.Organisations, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Organisation]); err != nil {
		return r, err
	}
	rows, err = tx.Query(ctx, `SELECT `+keyColumns+` FROM api_keys`)
	if err != nil {
		return r, err
	}
	keys, err := pgx.CollectRows(rows, scanKey)
	for _, k := range keys {
		r.Keys = append(r.Keys, StoredKey{Key: k, Hash: k.Hash})
	}
	return r, err
}

func duplicate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}
