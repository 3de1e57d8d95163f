package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
)

// loadSessions reads every live session with what its person may do now, and
// the database's clock.
func loadSessions(ctx context.Context, tx pgx.Tx) (out []liveSession, at time.Time, err error) {
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&at); err != nil {
		return nil, at, err
	}
	administrative := administrativeRoles()
	rows, err := tx.Query(ctx, `SELECT s.id, s.person_id, s.acting_in, s.secret_hash, s.method, s.second_factor_at, s.device,
			s.created_at, s.last_seen_at, s.idle_seconds, s.expires_at, s.version, coalesce(m.roles, '{}'),
			EXISTS (SELECT FROM memberships a WHERE a.person_id = s.person_id AND a.roles && $1::text[]),
			CASE WHEN o.status = 'suspended' THEN o.name ELSE '' END
		FROM sessions s JOIN people p ON p.id = s.person_id AND p.status = 'active'
			LEFT JOIN memberships m ON m.person_id = s.person_id AND m.organisation_id = s.acting_in
			LEFT JOIN organisations o ON o.id = s.acting_in
		WHERE s.ended_at IS NULL AND s.expires_at > now() AND s.last_seen_at + make_interval(secs => s.idle_seconds + $2) > now()`,
		administrative, seenSlack)
	if err != nil {
		return nil, at, err
	}
	out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (liveSession, error) {
		var l liveSession
		var idle int
		var roles []string
		var mustShow bool
		err := row.Scan(&l.ID, &l.Person, &l.Organisation, &l.hash, &l.Method, &l.SecondFactor, &l.Device, &l.CreatedAt, &l.LastSeenAt,
			&idle, &l.ExpiresAt, &l.Version, &roles, &mustShow, &l.suspended)
		l.Idle = time.Duration(idle) * time.Second
		l.Enrolment = mustShow && l.SecondFactor == nil
		l.who = principal.Principal{Kind: principal.Person, ID: l.Person.String(), Session: l.ID, Organisation: l.Organisation}
		if l.SecondFactor != nil {
			l.who.SecondFactor = *l.SecondFactor
		}
		if !l.Enrolment {
			l.who.Roles = parseRoles(roles)
		}
		return l, err
	})
	return out, at, err
}

// seenSlack is how much longer than its idle limit a session is kept in the
// picture, in seconds: its last use may not have been written yet.
const seenSlack = 2 * seenEvery

func administrativeRoles() (names []string) {
	for _, r := range principal.AllRoles() {
		if r.Administrative() {
			names = append(names, r.String())
		}
	}
	return names
}

// parseRoles reads stored names. One that this binary does not know gives nothing.
func parseRoles(names []string) (s principal.Roles) {
	for _, n := range names {
		if r, ok := principal.ParseRole(n); ok {
			s |= principal.RolesOf(r)
		}
	}
	return s
}

func roleNames(s principal.Roles) []string {
	names := []string{}
	for _, r := range s.List() {
		names = append(names, r.String())
	}
	return names
}

func saveSeen(ctx context.Context, d *db.DB, seen map[string]int64) error {
	ids, times := make([]string, 0, len(seen)), make([]time.Time, 0, len(seen))
	for id, at := range seen {
		ids, times = append(ids, id), append(times, time.Unix(at, 0))
	}
	return d.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sessions s SET last_seen_at = greatest(s.last_seen_at, n.at)
			FROM unnest($1::text[], $2::timestamptz[]) n (id, at) WHERE s.id = n.id AND s.ended_at IS NULL`, ids, times)
		return err
	})
}

// sessionRow is what a new session is stored with.
type sessionRow struct {
	id, hash, method, device string
	person, actingIn         uuid.UUID
	second                   bool
	place                    []byte
	idle, absolute           time.Duration
}

func insertSession(ctx context.Context, tx pgx.Tx, r sessionRow) (Session, error) {
	s := Session{ID: r.id, Person: r.person, Organisation: r.actingIn, Method: r.method, Device: r.device, Idle: r.idle, Version: 1}
	err := tx.QueryRow(ctx, `INSERT INTO sessions (id, person_id, acting_in, secret_hash, method, second_factor_at, device, place_sealed, idle_seconds, expires_at)
		VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN now() END, $7, $8, $9, now() + make_interval(secs => $10))
		RETURNING created_at, last_seen_at, expires_at, second_factor_at`,
		r.id, r.person, r.actingIn, r.hash, r.method, r.second, r.device, r.place, int(r.idle/time.Second), int(r.absolute/time.Second)).
		Scan(&s.CreatedAt, &s.LastSeenAt, &s.ExpiresAt, &s.SecondFactor)
	return s, err
}

// endOldest ends a person's least recently used sessions beyond a number.
func endOldest(ctx context.Context, tx pgx.Tx, person uuid.UUID, keep int) error {
	_, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = now(), end_reason = 'too-many', version = version + 1
		WHERE id IN (SELECT id FROM sessions WHERE person_id = $1 AND ended_at IS NULL AND expires_at > now() ORDER BY last_seen_at DESC, id OFFSET $2)`, person, keep)
	return err
}

// endSessions ends a person's sessions and returns their ids; except, when not
// empty, is left.
func endSessions(ctx context.Context, tx pgx.Tx, person uuid.UUID, reason, except string) ([]string, error) {
	return endSessionsIn(ctx, tx, person, reason, except, uuid.Nil)
}

// endSessionsIn ends those that act in one organisation; nil: in any.
func endSessionsIn(ctx context.Context, tx pgx.Tx, person uuid.UUID, reason, except string, org uuid.UUID) ([]string, error) {
	rows, err := tx.Query(ctx, `UPDATE sessions SET ended_at = now(), end_reason = $2, version = version + 1
		WHERE person_id = $1 AND ended_at IS NULL AND expires_at > now() AND id <> $3
		AND ($4 = '00000000-0000-0000-0000-000000000000'::uuid OR acting_in = $4) RETURNING id`, person, reason, except, org)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func endSession(ctx context.Context, tx pgx.Tx, id, reason string) (ended bool, err error) {
	tag, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = now(), end_reason = $2, version = version + 1 WHERE id = $1 AND ended_at IS NULL`, id, reason)
	return tag.RowsAffected() > 0, err
}

// rotation is a change of a session that gives it a new secret.
type rotation struct {
	id, hash, method string // method: appended to the session's; may be empty
	second           bool   // a second factor was shown just now
	actingIn         *uuid.UUID
}

var errSessionGone = errors.New("the session has ended")

func rotateSession(ctx context.Context, tx pgx.Tx, r rotation) (Session, error) {
	var s Session
	var idle int
	err := tx.QueryRow(ctx, `UPDATE sessions SET secret_hash = $2, version = version + 1,
			second_factor_at = CASE WHEN $3 THEN now() ELSE second_factor_at END,
			acting_in = coalesce($4, acting_in),
			method = CASE WHEN $5 = '' OR $5 = ANY (string_to_array(method, '+')) THEN method ELSE method || '+' || $5 END
		WHERE id = $1 AND ended_at IS NULL AND expires_at > now()
		RETURNING id, person_id, acting_in, method, second_factor_at, device, created_at, last_seen_at, expires_at, idle_seconds, version`,
		r.id, r.hash, r.second, r.actingIn, r.method).
		Scan(&s.ID, &s.Person, &s.Organisation, &s.Method, &s.SecondFactor, &s.Device, &s.CreatedAt, &s.LastSeenAt, &s.ExpiresAt, &idle, &s.Version)
	s.Idle = time.Duration(idle) * time.Second
	if errors.Is(err, pgx.ErrNoRows) {
		return s, errSessionGone
	}
	return s, err
}

type storedSession struct {
	Session
	place []byte
}

// listSessions reads a person's live sessions, the last used first.
func listSessions(ctx context.Context, tx pgx.Tx, person uuid.UUID) ([]storedSession, error) {
	rows, err := tx.Query(ctx, `SELECT id, person_id, acting_in, method, second_factor_at, device, place_sealed, created_at, last_seen_at, expires_at, idle_seconds, version
		FROM sessions WHERE person_id = $1 AND ended_at IS NULL AND expires_at > now() AND last_seen_at + make_interval(secs => idle_seconds) > now()
		ORDER BY last_seen_at DESC, id`, person)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (storedSession, error) {
		var s storedSession
		var idle int
		err := row.Scan(&s.ID, &s.Person, &s.Organisation, &s.Method, &s.SecondFactor, &s.Device, &s.place, &s.CreatedAt, &s.LastSeenAt, &s.ExpiresAt, &idle, &s.Version)
		s.Idle = time.Duration(idle) * time.Second
		return s, err
	})
}

// sessionOwner finds whose session it is and where it acts.
func sessionOwner(ctx context.Context, tx pgx.Tx, id string) (person, actingIn uuid.UUID, err error) {
	err = tx.QueryRow(ctx, `SELECT person_id, acting_in FROM sessions WHERE id = $1`, id).Scan(&person, &actingIn)
	return person, actingIn, err
}

// sweepSessions ends what has expired, so that lists and audits need not
// compute it, and returns how many there were.
func sweepSessions(ctx context.Context, tx pgx.Tx) (int64, error) {
	tag, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = now(), version = version + 1,
			end_reason = CASE WHEN expires_at <= now() THEN 'expired' ELSE 'idle' END
		WHERE ended_at IS NULL AND (expires_at <= now() OR last_seen_at + make_interval(secs => idle_seconds + $1) <= now())`, seenSlack)
	if err != nil {
		return 0, fmt.Errorf("ending expired sessions: %w", err)
	}
	return tag.RowsAffected(), nil
}
