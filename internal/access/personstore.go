package access

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// within moves a transaction's view to another organisation for fn, and back
// to the platform. People belong to the platform and their memberships to
// organisations: an act on both is one transaction, which sees one of them at
// a time.
func within(ctx context.Context, tx pgx.Tx, org uuid.UUID, fn func() error) error {
	if org == uuid.Nil {
		return fn()
	}
	if err := view(ctx, tx, org); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err // the transaction is over
	}
	return view(ctx, tx, uuid.Nil)
}

func view(ctx context.Context, tx pgx.Tx, org uuid.UUID) error {
	_, err := tx.Exec(ctx, `SELECT set_config('foundry.organisation', $1, true)`, org.String())
	return err
}

// storedPerson is a person as the database has them.
type storedPerson struct {
	Person
	email, name []byte // sealed
	mac         []byte
	password    string
}

const personColumns = `p.id, p.status, p.created_at, p.last_signin_at, p.deactivated_at, p.email_sealed, p.name_sealed, p.email_mac,
	coalesce(p.password_hash, ''), (SELECT CASE WHEN f.locked_until > now() THEN f.locked_until END FROM signin_failures f WHERE f.account = p.email_mac),
	EXISTS (SELECT FROM totp_secrets t WHERE t.person_id = p.id),
	(SELECT count(*) FROM passkeys k WHERE k.person_id = p.id AND k.clone_warning_at IS NULL),
	(SELECT count(*) FROM recovery_codes c WHERE c.person_id = p.id AND c.used_at IS NULL)`

func scanPerson(row pgx.CollectableRow) (s storedPerson, err error) {
	err = row.Scan(&s.ID, &s.Status, &s.CreatedAt, &s.LastSignInAt, &s.DeactivatedAt, &s.email, &s.name, &s.mac, &s.password, &s.LockedUntil,
		&s.Factors.TOTP, &s.Factors.Passkeys, &s.Factors.RecoveryCodes)
	s.Factors.Password = s.password != ""
	return s, err
}

func personBy(ctx context.Context, tx pgx.Tx, where string, arg any) (storedPerson, error) {
	rows, err := tx.Query(ctx, `SELECT `+personColumns+` FROM people p WHERE `+where, arg)
	if err != nil {
		return storedPerson{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanPerson)
}

func personByID(ctx context.Context, tx pgx.Tx, id uuid.UUID) (storedPerson, error) {
	return personBy(ctx, tx, `p.id = $1`, id)
}

// activeByAddress finds the active person who has an address.
func activeByAddress(ctx context.Context, tx pgx.Tx, mac []byte) (storedPerson, error) {
	return personBy(ctx, tx, `p.status = 'active' AND p.email_mac = $1`, mac)
}

// listPeople reads the members of an organisation, or with all everybody.
func listPeople(ctx context.Context, tx pgx.Tx, org uuid.UUID, all bool) ([]storedPerson, error) {
	rows, err := tx.Query(ctx, `SELECT `+personColumns+` FROM people p
		WHERE $2 OR EXISTS (SELECT FROM memberships m WHERE m.person_id = p.id AND m.organisation_id = $1) ORDER BY p.created_at, p.id`, org, all)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanPerson)
}

func insertPerson(ctx context.Context, tx pgx.Tx, id uuid.UUID, mac, email, name []byte, password string) error {
	_, err := tx.Exec(ctx, `INSERT INTO people (id, email_mac, email_sealed, name_sealed, password_hash, password_changed_at)
		VALUES ($1, $2, $3, $4, nullif($5, ''), CASE WHEN $5 <> '' THEN now() END)`, id, mac, email, name, password)
	return err
}

func setPassword(ctx context.Context, tx pgx.Tx, id uuid.UUID, hash string) error {
	tag, err := tx.Exec(ctx, `UPDATE people SET password_hash = $2, password_changed_at = now(), version = version + 1 WHERE id = $1 AND status = 'active'`, id, hash)
	return exactlyOne(tag.RowsAffected(), err)
}

// rehash replaces a hash by one of the same password, unless it was changed.
func rehash(ctx context.Context, tx pgx.Tx, id uuid.UUID, old, next string) error {
	_, err := tx.Exec(ctx, `UPDATE people SET password_hash = $3, version = version + 1 WHERE id = $1 AND password_hash = $2`, id, old, next)
	return err
}

func exactlyOne(n int64, err error) error {
	if err == nil && n != 1 {
		return pgx.ErrNoRows
	}
	return err
}

// membershipsOf reads where a person belongs, the platform first, then by name.
func membershipsOf(ctx context.Context, tx pgx.Tx, person uuid.UUID) ([]Membership, error) {
	rows, err := tx.Query(ctx, `SELECT m.organisation_id, m.person_id, m.roles, m.created_at FROM memberships m
		LEFT JOIN organisations o ON o.id = m.organisation_id WHERE m.person_id = $1 ORDER BY o.name NULLS FIRST`, person)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanMembership)
}

// allMemberships reads every membership, by person.
func allMemberships(ctx context.Context, tx pgx.Tx) (map[uuid.UUID][]Membership, error) {
	rows, err := tx.Query(ctx, `SELECT organisation_id, person_id, roles, created_at FROM memberships ORDER BY organisation_id`)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanMembership)
	out := map[uuid.UUID][]Membership{}
	for _, m := range list {
		out[m.Person] = append(out[m.Person], m)
	}
	return out, err
}

func scanMembership(row pgx.CollectableRow) (m Membership, err error) {
	err = row.Scan(&m.Organisation, &m.Person, &m.RoleNames, &m.Since)
	m.Roles = parseRoles(m.RoleNames)
	return m, err
}

// addMembership makes a membership, or adds roles to the one there is. The
// transaction must see the organisation.
func addMembership(ctx context.Context, tx pgx.Tx, org, person uuid.UUID, roles []string) (m Membership, err error) {
	rows, err := tx.Query(ctx, `INSERT INTO memberships (organisation_id, person_id, roles) VALUES ($1, $2, $3)
		ON CONFLICT (organisation_id, person_id) DO UPDATE SET version = memberships.version + 1,
			roles = ARRAY(SELECT DISTINCT unnest(memberships.roles || excluded.roles) ORDER BY 1)
		RETURNING organisation_id, person_id, roles, created_at`, org, person, roles)
	if err != nil {
		return m, err
	}
	return pgx.CollectExactlyOneRow(rows, scanMembership)
}

// lockMembership reads a membership's roles and holds the row.
func lockMembership(ctx context.Context, tx pgx.Tx, org, person uuid.UUID) (roles []string, err error) {
	err = tx.QueryRow(ctx, `SELECT roles FROM memberships WHERE organisation_id = $1 AND person_id = $2 FOR UPDATE`, org, person).Scan(&roles)
	return roles, err
}

func setMembership(ctx context.Context, tx pgx.Tx, org, person uuid.UUID, roles []string) (m Membership, err error) {
	rows, err := tx.Query(ctx, `UPDATE memberships SET roles = $3, version = version + 1 WHERE organisation_id = $1 AND person_id = $2
		RETURNING organisation_id, person_id, roles, created_at`, org, person, roles)
	if err != nil {
		return m, err
	}
	return pgx.CollectExactlyOneRow(rows, scanMembership)
}

func removeMembership(ctx context.Context, tx pgx.Tx, org, person uuid.UUID) (removed bool, err error) {
	tag, err := tx.Exec(ctx, `DELETE FROM memberships WHERE organisation_id = $1 AND person_id = $2`, org, person)
	return tag.RowsAffected() > 0, err
}

// otherAdministrators counts the active platform administrators besides one,
// and holds their memberships, so that two who leave at once cannot both be
// the last but one. The transaction must see the platform.
func otherAdministrators(ctx context.Context, tx pgx.Tx, person uuid.UUID) (n int, err error) {
	rows, err := tx.Query(ctx, `SELECT m.person_id FROM memberships m JOIN people p ON p.id = m.person_id AND p.status = 'active'
		WHERE m.organisation_id = '00000000-0000-0000-0000-000000000000' AND 'platform-administrator' = ANY (m.roles)
		ORDER BY m.person_id FOR UPDATE OF m`)
	if err != nil {
		return 0, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	for _, id := range ids {
		if id != person {
			n++
		}
	}
	return n, err
}

// attempt counts a try at signing in before it is judged, so that tries made
// at the same time count as well. refused is how long the account is locked.
// failures and lock say what a failure of this try means.
type attempt struct {
	account  []byte
	refused  time.Duration
	failures int
	lock     time.Duration
}

func beginAttempt(ctx context.Context, tx pgx.Tx, account []byte) (attempt, error) {
	a := attempt{account: account}
	var left *float64
	err := tx.QueryRow(ctx, `INSERT INTO signin_failures AS f (account, failures) VALUES ($1, 1)
		ON CONFLICT (account) DO UPDATE SET
			failures = CASE WHEN f.locked_until > now() THEN f.failures WHEN f.last_failed_at < now() - interval '24 hours' THEN 1 ELSE f.failures + 1 END,
			last_failed_at = now()
		RETURNING failures, extract(epoch FROM locked_until - now())::float8`, account).Scan(&a.failures, &left)
	if err != nil {
		return a, err
	}
	if left != nil && *left > 0 {
		a.refused = time.Duration(*left * float64(time.Second))
		return a, nil
	}
	if a.lock = lockFor(a.failures); a.lock > 0 {
		_, err = tx.Exec(ctx, `UPDATE signin_failures SET locked_until = now() + make_interval(secs => $2) WHERE account = $1`, account, a.lock.Seconds())
	}
	return a, err
}

// undo takes the count of a try back that was right, but not yet the whole
// sign-in, and the lock that the try brought with it.
func (a attempt) undo(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE signin_failures SET failures = greatest(failures - 1, 0),
		locked_until = CASE WHEN $2 THEN NULL ELSE locked_until END WHERE account = $1`, a.account, a.lock > 0)
	return err
}

func clearFailures(ctx context.Context, tx pgx.Tx, account []byte) (locked bool, err error) {
	var was bool
	err = tx.QueryRow(ctx, `DELETE FROM signin_failures WHERE account = $1 RETURNING coalesce(locked_until > now(), false)`, account).Scan(&was)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return was, err
}

type release struct {
	account []byte
	person  *uuid.UUID
}

// releaseLocks forgets locks whose time is over and returns them, and forgets
// failures of more than a day ago.
func releaseLocks(ctx context.Context, tx pgx.Tx) ([]release, error) {
	if _, err := tx.Exec(ctx, `DELETE FROM signin_failures WHERE locked_until IS NULL AND last_failed_at < now() - interval '24 hours'`); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `UPDATE signin_failures f SET locked_until = NULL WHERE locked_until <= now()
		RETURNING f.account, (SELECT id FROM people p WHERE p.email_mac = f.account AND p.status = 'active')`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r release, err error) {
		err = row.Scan(&r.account, &r.person)
		return r, err
	})
}

// storedCeremony is a ceremony as the database has it.
type storedCeremony struct {
	person *uuid.UUID
	sealed []byte
}

func insertCeremony(ctx context.Context, tx pgx.Tx, id []byte, kind string, person *uuid.UUID, sealed []byte, life time.Duration) (expires time.Time, err error) {
	err = tx.QueryRow(ctx, `INSERT INTO ceremonies (id, kind, person_id, state_sealed, expires_at) VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
		RETURNING expires_at`, id, kind, person, sealed, life.Seconds()).Scan(&expires)
	return expires, err
}

// tryCeremony reads a ceremony for one attempt at it, of which there are few.
func tryCeremony(ctx context.Context, tx pgx.Tx, id []byte, kind string) (c storedCeremony, err error) {
	err = tx.QueryRow(ctx, `UPDATE ceremonies SET attempts = attempts + 1 WHERE id = $1 AND kind = $2 AND expires_at > now() AND attempts < $3
		RETURNING person_id, state_sealed`, id, kind, ceremonyAttempts).Scan(&c.person, &c.sealed)
	return c, err
}

// takeCeremony ends a ceremony and returns what it was: of two who ask at
// once, one gets it.
func takeCeremony(ctx context.Context, tx pgx.Tx, id []byte, kind string) (c storedCeremony, err error) {
	err = tx.QueryRow(ctx, `DELETE FROM ceremonies WHERE id = $1 AND kind = $2 AND expires_at > now() RETURNING person_id, state_sealed`, id, kind).
		Scan(&c.person, &c.sealed)
	return c, err
}

func endCeremonies(ctx context.Context, tx pgx.Tx, person uuid.UUID) error {
	_, err := tx.Exec(ctx, `DELETE FROM ceremonies WHERE person_id = $1`, person)
	return err
}

func sweepCeremonies(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `DELETE FROM ceremonies WHERE expires_at <= now()`)
	return err
}

// revokeKeysMadeBy ends the keys that a person made in an organisation, which
// the transaction must see, and that belong to no service account.
func revokeKeysMadeBy(ctx context.Context, tx pgx.Tx, org, person uuid.UUID) ([]string, error) {
	rows, err := tx.Query(ctx, `UPDATE api_keys SET revoked_at = now(), version = version + 1
		WHERE organisation_id = $1 AND created_by = $2 AND service_account_id IS NULL AND revoked_at IS NULL RETURNING id`, org, person)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
