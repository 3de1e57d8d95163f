package access

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// storedInvitation is an invitation as the database has it.
type storedInvitation struct {
	Invitation
	mac, email, name []byte // the last two sealed
	hash             string
}

const invitationColumns = `id, organisation_id, kind, person_id, email_mac, email_sealed, name_sealed, roles, secret_hash, invited_by,
	created_at, expires_at, accepted_at, revoked_at`

func scanInvitation(row pgx.CollectableRow) (i storedInvitation, err error) {
	err = row.Scan(&i.ID, &i.Organisation, &i.Kind, &i.Person, &i.mac, &i.email, &i.name, &i.RoleNames, &i.hash, &i.InvitedBy,
		&i.CreatedAt, &i.ExpiresAt, &i.AcceptedAt, &i.RevokedAt)
	i.Roles = parseRoles(i.RoleNames)
	return i, err
}

func invitationByID(ctx context.Context, tx pgx.Tx, id string) (storedInvitation, error) {
	rows, err := tx.Query(ctx, `SELECT `+invitationColumns+` FROM invitations WHERE id = $1`, id)
	if err != nil {
		return storedInvitation{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanInvitation)
}

func listInvitations(ctx context.Context, tx pgx.Tx, org uuid.UUID) ([]storedInvitation, error) {
	rows, err := tx.Query(ctx, `SELECT `+invitationColumns+` FROM invitations WHERE organisation_id = $1 ORDER BY created_at DESC, id LIMIT 500`, org)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanInvitation)
}

// insertInvitation stores an invitation; the transaction must see its organisation.
func insertInvitation(ctx context.Context, tx pgx.Tx, i *storedInvitation, life time.Duration) error {
	return tx.QueryRow(ctx, `INSERT INTO invitations (id, organisation_id, kind, person_id, email_mac, email_sealed, name_sealed, roles, secret_hash, invited_by, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11)) RETURNING created_at, expires_at`,
		i.ID, i.Organisation, i.Kind, i.Person, i.mac, i.email, i.name, i.RoleNames, i.hash, i.InvitedBy, life.Seconds()).Scan(&i.CreatedAt, &i.ExpiresAt)
}

// acceptInvitation takes an invitation for good: of two who accept at once, one does.
func acceptInvitation(ctx context.Context, tx pgx.Tx, id string, person uuid.UUID) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE invitations SET accepted_at = now(), accepted_by = $2, version = version + 1
		WHERE id = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now()`, id, person)
	return tag.RowsAffected() == 1, err
}

func revokeInvitation(ctx context.Context, tx pgx.Tx, id string) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE invitations SET revoked_at = now(), version = version + 1 WHERE id = $1 AND accepted_at IS NULL AND revoked_at IS NULL`, id)
	return tag.RowsAffected() == 1, err
}

// revokeInvitations withdraws, in the organisation that the transaction sees,
// what a person made or was sent and nobody accepted.
func revokeInvitations(ctx context.Context, tx pgx.Tx, madeBy string, mac []byte) (int64, error) {
	tag, err := tx.Exec(ctx, `UPDATE invitations SET revoked_at = now(), version = version + 1
		WHERE (invited_by = $1 OR email_mac = $2) AND accepted_at IS NULL AND revoked_at IS NULL`, madeBy, mac)
	return tag.RowsAffected(), err
}

// openInvitations finds the organisations that have open invitations which a
// person made or was sent.
func openInvitations(ctx context.Context, tx pgx.Tx, madeBy string, mac []byte) (orgs []uuid.UUID, n int, err error) {
	rows, err := tx.Query(ctx, `SELECT organisation_id, count(*) FROM invitations
		WHERE (invited_by = $1 OR email_mac = $2) AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > now() GROUP BY 1 ORDER BY 1`, madeBy, mac)
	if err != nil {
		return nil, 0, err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var org uuid.UUID
		var count int
		err := row.Scan(&org, &count)
		orgs, n = append(orgs, org), n+count
		return struct{}{}, err
	})
	return orgs, n, err
}

// platformAdministrators counts the active ones.
func platformAdministrators(ctx context.Context, tx pgx.Tx) (n int, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) FROM memberships m JOIN people p ON p.id = m.person_id AND p.status = 'active'
		WHERE m.organisation_id = '00000000-0000-0000-0000-000000000000' AND 'platform-administrator' = ANY (m.roles)`).Scan(&n)
	return n, err
}

// listServiceAccounts reads an organisation's, with how many keys of each still open something.
func listServiceAccounts(ctx context.Context, tx pgx.Tx, org uuid.UUID) ([]ServiceAccount, error) {
	rows, err := tx.Query(ctx, `SELECT a.id, a.organisation_id, a.name, a.status,
			(SELECT count(*) FROM api_keys k WHERE k.service_account_id = a.id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())),
			a.created_at, a.deactivated_at
		FROM service_accounts a WHERE a.organisation_id = $1 ORDER BY a.name`, org)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ServiceAccount])
}

func serviceAccountByID(ctx context.Context, tx pgx.Tx, id uuid.UUID) (a ServiceAccount, err error) {
	rows, err := tx.Query(ctx, `SELECT id, organisation_id, name, status, 0, created_at, deactivated_at FROM service_accounts WHERE id = $1`, id)
	if err != nil {
		return a, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[ServiceAccount])
}

func insertServiceAccount(ctx context.Context, tx pgx.Tx, a *ServiceAccount) error {
	return tx.QueryRow(ctx, `INSERT INTO service_accounts (id, organisation_id, name) VALUES ($1, $2, $3) RETURNING created_at`, a.ID, a.Organisation, a.Name).Scan(&a.CreatedAt)
}

func endServiceAccount(ctx context.Context, tx pgx.Tx, id uuid.UUID) (ended bool, keys int64, err error) {
	tag, err := tx.Exec(ctx, `UPDATE service_accounts SET status = 'deactivated', deactivated_at = now(), version = version + 1 WHERE id = $1 AND status = 'active'`, id)
	if err != nil || tag.RowsAffected() == 0 {
		return false, 0, err
	}
	tag, err = tx.Exec(ctx, `UPDATE api_keys SET revoked_at = now(), version = version + 1 WHERE service_account_id = $1 AND revoked_at IS NULL`, id)
	return true, tag.RowsAffected(), err
}

// keysMadeBy reads the open keys that a person made and that belong to no
// service account.
func keysMadeBy(ctx context.Context, tx pgx.Tx, person uuid.UUID) ([]Key, error) {
	rows, err := tx.Query(ctx, `SELECT `+keyColumns+` FROM api_keys WHERE created_by = $1 AND service_account_id IS NULL
		AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) ORDER BY organisation_id, name`, person)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanKey)
}

// keysOfServiceAccounts reads which of an organisation's keys a service
// account has.
func keysOfServiceAccounts(ctx context.Context, tx pgx.Tx, org uuid.UUID) (map[string]uuid.UUID, error) {
	rows, err := tx.Query(ctx, `SELECT id, service_account_id FROM api_keys WHERE organisation_id = $1 AND service_account_id IS NOT NULL`, org)
	if err != nil {
		return nil, err
	}
	out := map[string]uuid.UUID{}
	var key string
	var account uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&key, &account}, func() error { out[key] = account; return nil })
	return out, err
}

// assignKey says whose a key is; the transaction must see its organisation.
func assignKey(ctx context.Context, tx pgx.Tx, id string, account uuid.UUID) error {
	tag, err := tx.Exec(ctx, `UPDATE api_keys SET service_account_id = $2 WHERE id = $1`, id, account)
	return exactlyOne(tag.RowsAffected(), err)
}

func revokeKeys(ctx context.Context, tx pgx.Tx, ids []string) (int64, error) {
	tag, err := tx.Exec(ctx, `UPDATE api_keys SET revoked_at = now(), version = version + 1 WHERE id = ANY ($1) AND revoked_at IS NULL`, ids)
	return tag.RowsAffected(), err
}

func gone(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
