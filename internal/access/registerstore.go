package access

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/problem"
)

// entryQueries read what is so, each kind from its own tables. Every query
// gives: id, organisation, subject, what, open, since, last used, whether use
// is known, facts, related targets. Sealed columns are no part of the facts:
// rotating keys seals them anew, and nobody without the keys can forge them.
var entryQueries = []struct{ kind, query string }{
	{EntryPerson, `SELECT p.id::text, p.organisation_id, 'person:' || p.id,
			'account, ' || concat_ws(', ', CASE WHEN p.password_hash IS NOT NULL THEN 'password' END, CASE WHEN t.person_id IS NOT NULL THEN 'code generator' END,
				(SELECT count(*) || ' passkeys' FROM passkeys k WHERE k.person_id = p.id HAVING count(*) > 0)),
			p.status = 'active', p.created_at, p.last_signin_at, true,
			concat_ws('|', p.status, encode(p.email_mac, 'hex'), p.password_hash, t.created_at,
				(SELECT string_agg(encode(k.id, 'hex'), ',' ORDER BY k.id) FROM passkeys k WHERE k.person_id = p.id),
				(SELECT string_agg(r.selector || r.code_hash, ',' ORDER BY r.selector) FROM recovery_codes r WHERE r.person_id = p.id)),
			ARRAY[]::text[]
		FROM people p LEFT JOIN totp_secrets t ON t.person_id = p.id`},
	{EntryMembership, `SELECT m.person_id::text, m.organisation_id, 'person:' || m.person_id, array_to_string(m.roles, ', '), p.status = 'active', m.created_at,
			(SELECT max(s.last_seen_at) FROM sessions s WHERE s.person_id = m.person_id AND s.acting_in = m.organisation_id), true,
			array_to_string(m.roles, ','), ARRAY[m.person_id::text]
		FROM memberships m JOIN people p ON p.id = m.person_id`},
	{EntryInvitation, `SELECT i.id, i.organisation_id, 'invitation:' || i.id, i.kind || ' for ' || array_to_string(i.roles, ', '),
			i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > now(), i.created_at, i.accepted_at, false,
			concat_ws('|', i.kind, i.person_id, encode(i.email_mac, 'hex'), array_to_string(i.roles, ','), i.secret_hash, i.expires_at, i.accepted_at, i.accepted_by, i.revoked_at),
			ARRAY[replace(i.invited_by, 'person:', ''), coalesce(i.accepted_by::text, '-'), coalesce(i.person_id::text, '-')]
		FROM invitations i`},
	{EntryService, `SELECT a.id::text, a.organisation_id, 'service:' || a.id, 'service account ' || a.name, a.status = 'active', a.created_at, NULL::timestamptz, false,
			concat_ws('|', a.name, a.status, a.deactivated_at), ARRAY[]::text[]
		FROM service_accounts a`},
	{EntryKey, `SELECT k.id, k.organisation_id, coalesce('service:' || k.service_account_id, 'person:' || k.created_by, 'local'), 'API key ' || k.name,
			k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()), k.created_at, NULL::timestamptz, false,
			concat_ws('|', k.name, k.secret_hash, k.class_floor, k.requests_per_minute, k.tokens_per_minute, k.expires_at, k.revoked_at, k.created_by, k.service_account_id),
			array_remove(ARRAY[k.created_by::text, k.service_account_id::text], NULL)
		FROM api_keys k`},
	{EntryGrant, `SELECT g.id::text, g.organisation_id, g.holder, g.kind || ': ' || array_to_string(g.scopes, ', ') || ' (' || g.ticket || ')',
			coalesce(d.expires_at > now(), false) AND e.id IS NULL, g.requested_at,
			(SELECT max(u.at) FROM staff_grant_events u WHERE u.grant_id = g.id AND u.event = 'used'), true,
			concat_ws('|', g.requester, g.holder, array_to_string(g.scopes, ','), g.reason, g.ticket, g.seconds, g.requested_at, d.event, d.actor, d.at, d.expires_at, e.actor, e.at),
			ARRAY[]::text[]
		FROM staff_grants g LEFT JOIN staff_grant_events d ON d.grant_id = g.id AND d.event IN ('approved', 'rejected', 'opened')
		LEFT JOIN staff_grant_events e ON e.grant_id = g.id AND e.event = 'ended'`},
	// Whoever can connect here, is past all walls, or may become one of the
	// application's roles.
	{EntryDatabaseRole, `SELECT r.rolname::text, '00000000-0000-0000-0000-000000000000'::uuid, 'database:' || r.rolname, x.what, r.rolcanlogin, NULL::timestamptz, NULL::timestamptz, false, x.what, ARRAY[]::text[]
		FROM pg_roles r, LATERAL (SELECT concat_ws(', ', CASE WHEN r.rolcanlogin THEN 'login' END, CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolbypassrls THEN 'bypassrls' END,
			CASE WHEN r.rolcreaterole THEN 'createrole' END, CASE WHEN r.rolcreatedb THEN 'createdb' END, CASE WHEN r.rolreplication THEN 'replication' END,
			(SELECT 'member of ' || string_agg(g.rolname, ' and ' ORDER BY g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid)) AS what) x
		WHERE r.rolname NOT LIKE 'pg\_%' AND (r.rolcanlogin AND (r.rolsuper OR has_database_privilege(r.oid, current_database(), 'CONNECT'))
			OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication
			OR EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname LIKE 'foundry\_%'))`},
}

// readEntries reads what is so, and the database's clock.
func readEntries(ctx context.Context, tx pgx.Tx) (all []Access, now time.Time, err error) {
	if err := tx.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return nil, now, err
	}
	for _, q := range entryQueries {
		rows, err := tx.Query(ctx, q.query)
		if err != nil {
			return nil, now, err
		}
		entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Access, err error) {
			a.Kind = q.kind
			return a, row.Scan(&a.ID, &a.Organisation, &a.Subject, &a.What, &a.Open, &a.Since, &a.LastUsed, &a.UseKnown, &a.facts, &a.related)
		})
		if err != nil {
			return nil, now, fmt.Errorf("reading every %s: %w", q.kind, err)
		}
		all = append(all, entries...)
	}
	return all, now, nil
}

// snapshot is a stored picture of the register.
type snapshot struct {
	id        uuid.UUID
	takenAt   time.Time
	digest    []byte
	previous  []byte
	entries   int
	document  []byte
	signer    string
	signature []byte
	full      uuid.UUID // where the document is
}

// message is what is signed.
func (p *snapshot) message() []byte {
	return fmt.Appendf(nil, "foundry access register\n%s\n%s\n%x\n%x\n%d\n", p.id, p.takenAt.UTC().Format(time.RFC3339Nano), p.digest, p.previous, p.entries)
}

// lastSnapshot reads the newest picture; nil when there is none. A document
// that cannot be unpacked is left out, and then has the wrong digest.
func lastSnapshot(ctx context.Context, tx pgx.Tx) (*snapshot, error) {
	var p snapshot
	err := tx.QueryRow(ctx, `SELECT s.id, s.taken_at, s.digest, s.previous, s.entries, coalesce(s.document, f.document), s.signer, s.signature, coalesce(s.same_as, s.id)
		FROM access_register_snapshots s LEFT JOIN access_register_snapshots f ON f.id = s.same_as
		ORDER BY s.id DESC LIMIT 1`).Scan(&p.id, &p.takenAt, &p.digest, &p.previous, &p.entries, &p.document, &p.signer, &p.signature, &p.full)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if p.document, err = unpack(p.document); err != nil {
		p.document = nil
	}
	return &p, nil
}

// mostDocument bounds what a packed document may become: some 100,000 entries.
const mostDocument = 64 << 20

func pack(document []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(document)
	err = errors.Join(err, z.Close()) // writes the end
	return b.Bytes(), err
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, mostDocument+1))
	if len(out) > mostDocument {
		return nil, problem.New(problem.TooLarge, FindingSnapshot, "The picture of the register is too large.")
	}
	return out, err
}

// store signs and keeps a picture.
func (s *Register) store(ctx context.Context, tx pgx.Tx, r *RegisterReport) error {
	digest, err := hex.DecodeString(r.Digest)
	if err != nil {
		return err
	}
	p := snapshot{id: uuid.Must(uuid.NewV7()), takenAt: r.TakenAt, digest: digest, entries: len(r.Entries)}
	var sameAs *uuid.UUID
	if r.last != nil {
		p.previous = r.last.digest
		if bytes.Equal(p.previous, digest) && bytes.Equal(r.last.document, r.document) {
			sameAs = &r.last.full
		}
	}
	if sameAs == nil {
		if p.document, err = pack(r.document); err != nil {
			return err
		}
	}
	if p.signer, p.signature, err = s.Sign(p.message()); err != nil {
		return fmt.Errorf("signing the register of access: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO access_register_snapshots (id, taken_at, digest, previous, entries, document, same_as, signer, signature)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, p.id, p.takenAt, p.digest, p.previous, p.entries, p.document, sameAs, p.signer, p.signature)
	return err
}

func snapshotAge(ctx context.Context, tx pgx.Tx) (time.Duration, error) {
	var seconds *float64
	if err := tx.QueryRow(ctx, `SELECT extract(epoch FROM now() - max(taken_at))::float8 FROM access_register_snapshots`).Scan(&seconds); err != nil {
		return 0, err
	}
	if seconds == nil {
		return 0, problem.New(problem.NotFound, "register-missing", "No picture of the register of access was ever taken.").
			WithMend("Wait for the node to take one, or run `foundry access diff`.")
	}
	return time.Duration(*seconds * float64(time.Second)), nil
}
