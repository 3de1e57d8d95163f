package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// personOf is the id in "person:<id>"; empty for other principals.
func personOf(actor string) string {
	id, ok := strings.CutPrefix(actor, "person:")
	if !ok {
		return ""
	}
	return id
}

func insertGrant(ctx context.Context, tx pgx.Tx, g *Grant) error {
	return tx.QueryRow(ctx, `INSERT INTO staff_grants (id, organisation_id, kind, requester, holder, scopes, reason, ticket, seconds)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING requested_at`,
		g.ID, g.Organisation, g.Kind, g.Requester, g.Holder, g.Scopes, g.Reason, g.Ticket, int(g.Duration.Seconds())).Scan(&g.RequestedAt)
}

const eventColumns = `(id, organisation_id, grant_id, kind, requester, holder, event, actor, side, note, expires_at)`

func insertEvent(ctx context.Context, tx pgx.Tx, g *Grant, event string, p principal.Principal, side, note string, until *time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO staff_grant_events `+eventColumns+` VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		uuid.Must(uuid.NewV7()), g.Organisation, g.ID, g.Kind, g.Requester, g.Holder, event, p.String(), side, note, until)
	return err
}

// noteUse records the use of a grant and reports whether it is the first in
// this minute.
func noteUse(ctx context.Context, tx pgx.Tx, g *Grant, p principal.Principal) (bool, error) {
	var noted bool // most uses find their minute noted, and then write nothing
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM staff_grant_events WHERE grant_id = $1 AND event = 'used'
		AND date_bin('1 minute', at, '2000-01-01 00:00:00+00') = date_bin('1 minute', now(), '2000-01-01 00:00:00+00'))`, g.ID).Scan(&noted)
	if err != nil || noted {
		return false, err
	}
	tag, err := tx.Exec(ctx, `INSERT INTO staff_grant_events `+eventColumns+`
		VALUES ($1, $2, $3, $4, $5, $6, 'used', $7, 'platform', '', NULL) ON CONFLICT DO NOTHING`,
		uuid.Must(uuid.NewV7()), g.Organisation, g.ID, g.Kind, g.Requester, g.Holder, p.String())
	return tag.RowsAffected() == 1, err
}

// grantQuery gives a grant with what happened to it, and the database's clock.
const grantQuery = `SELECT g.id, g.organisation_id, g.kind, g.requester, g.holder, g.scopes, g.reason, g.ticket, g.seconds, g.requested_at,
		coalesce(d.actor, ''), coalesce(d.side, ''), d.at, d.expires_at, u.first, u.last, u.n, e.at, coalesce(e.actor, ''),
		v.at, coalesce(v.actor, ''), coalesce(v.note, ''), coalesce(nullif(e.note, ''), d.note, ''), now()
	FROM staff_grants g
	LEFT JOIN staff_grant_events d ON d.grant_id = g.id AND d.event IN ('approved', 'rejected', 'opened')
	LEFT JOIN staff_grant_events e ON e.grant_id = g.id AND e.event = 'ended'
	LEFT JOIN staff_grant_events v ON v.grant_id = g.id AND v.event = 'reviewed'
	LEFT JOIN LATERAL (SELECT min(at) AS first, max(at) AS last, count(*) AS n FROM staff_grant_events x WHERE x.grant_id = g.id AND x.event = 'used') u ON true `

func scanGrant(row pgx.CollectableRow) (Grant, error) {
	g, _, err := scanGrantNow(row)
	return g, err
}

func scanGrantNow(row pgx.CollectableRow) (g Grant, now time.Time, err error) {
	var seconds int64
	err = row.Scan(&g.ID, &g.Organisation, &g.Kind, &g.Requester, &g.Holder, &g.Scopes, &g.Reason, &g.Ticket, &seconds, &g.RequestedAt,
		&g.Approver, &g.ApproverSide, &g.DecidedAt, &g.ExpiresAt, &g.FirstUsedAt, &g.LastUsedAt, &g.UsedMinutes, &g.EndedAt, &g.EndedBy,
		&g.ReviewedAt, &g.ReviewedBy, &g.Finding, &g.Note, &now)
	g.Duration = time.Duration(seconds) * time.Second
	if g.State = g.state(now); g.State == GrantPending {
		until := g.RequestedAt.Add(ApprovalLife)
		g.Until = &until
	}
	return g, now, err
}

func oneGrant(ctx context.Context, tx pgx.Tx, id uuid.UUID) (Grant, error) {
	rows, err := tx.Query(ctx, grantQuery+`WHERE g.id = $1`, id)
	if err != nil {
		return Grant{}, err
	}
	g, err := pgx.CollectExactlyOneRow(rows, scanGrant)
	if errors.Is(err, pgx.ErrNoRows) {
		return g, errNoSuchGrant(id)
	}
	return g, err
}

func errNoSuchGrant(id uuid.UUID) error {
	return problem.New(problem.NotFound, "grant-unknown", fmt.Sprintf("There is no grant %s.", id)).WithField("id").
		WithMend("`foundry grant list` shows them.")
}

// grantNow reads a grant, and the clock that tells its state.
func grantNow(ctx context.Context, tx pgx.Tx, id uuid.UUID) (now time.Time, g Grant, err error) {
	if g, err = oneGrant(ctx, tx, id); err != nil {
		return now, g, err
	}
	err = tx.QueryRow(ctx, `SELECT now()`).Scan(&now)
	return now, g, err
}

// inForce finds a holder's grant that is in force for a scope; the zero Grant
// when there is none.
func inForce(ctx context.Context, tx pgx.Tx, holder string, scope Scope) (g Grant, err error) {
	err = tx.QueryRow(ctx, `SELECT g.id, g.organisation_id, g.kind, g.requester, g.holder
		FROM staff_grants g JOIN staff_grant_events d ON d.grant_id = g.id AND d.event IN ('approved', 'opened')
		WHERE g.holder = $1 AND $2 = ANY (g.scopes) AND d.expires_at > now()
		  AND NOT EXISTS (SELECT FROM staff_grant_events e WHERE e.grant_id = g.id AND e.event = 'ended')
		ORDER BY d.expires_at DESC LIMIT 1`, holder, string(scope)).Scan(&g.ID, &g.Organisation, &g.Kind, &g.Requester, &g.Holder)
	if errors.Is(err, pgx.ErrNoRows) {
		return Grant{}, nil
	}
	return g, err
}

// find reads a grant of an organisation, with the holder's name.
func (s *Grants) find(ctx context.Context, org, id uuid.UUID) (g Grant, err error) {
	err = s.DB.Org(ctx, org, func(tx pgx.Tx) (err error) {
		g, err = oneGrant(ctx, tx, id)
		return err
	})
	if err != nil {
		return Grant{}, err
	}
	all := []Grant{g}
	return all[0], s.name(ctx, all)
}

// visible finds a grant among those that a principal can know of: of its own
// organisation, or for the platform all. Others do not exist for it.
func (s *Grants) visible(ctx context.Context, p principal.Principal, id uuid.UUID) (g Grant, err error) {
	read := s.DB.Read
	if !p.Platform() {
		read = func(ctx context.Context, fn func(pgx.Tx) error) error { return s.DB.Org(ctx, p.Organisation, fn) }
	}
	err = read(ctx, func(tx pgx.Tx) (err error) {
		g, err = oneGrant(ctx, tx, id)
		return err
	})
	return g, err
}

// Show returns one grant.
func (s *Grants) Show(ctx context.Context, p principal.Principal, id uuid.UUID) (Grant, error) {
	g, err := s.visible(ctx, p, id)
	if err != nil {
		return Grant{}, err
	}
	if err := s.may(ctx, p, "grant.read", &g); err != nil {
		return Grant{}, err
	}
	all := []Grant{g}
	return all[0], s.name(ctx, all)
}

// List returns grants, newest first, at most limit: of one organisation, or
// (the nil uuid, for the platform) of all.
func (s *Grants) List(ctx context.Context, p principal.Principal, org uuid.UUID, limit int) ([]Grant, error) {
	if !p.Platform() && org == uuid.Nil {
		org = p.Organisation
	}
	if err := s.Guard.Authorise(ctx, p, "grant.list", policy.Resource{Organisation: org}); err != nil {
		return nil, err
	}
	if limit <= 0 || limit > 1000 {
		limit = 100
	}
	out := []Grant{}
	read := func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, grantQuery+`WHERE $1::uuid = '00000000-0000-0000-0000-000000000000' OR g.organisation_id = $1 ORDER BY g.id DESC LIMIT $2`, org, limit)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, scanGrant)
		return err
	}
	err := error(nil)
	if org == uuid.Nil {
		err = s.DB.Read(ctx, read)
	} else {
		err = s.DB.Org(ctx, org, read)
	}
	if err != nil {
		return nil, err
	}
	return out, s.name(ctx, out)
}

// name fills in what the holders are called.
func (s *Grants) name(ctx context.Context, grants []Grant) error {
	if s.Names == nil {
		return nil
	}
	var ids []uuid.UUID
	for i := range grants {
		if id, err := uuid.Parse(personOf(grants[i].Holder)); err == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	names, err := s.Names(ctx, ids)
	if err != nil {
		return fmt.Errorf("naming the holders of grants: %w", err)
	}
	for i := range grants {
		if id, err := uuid.Parse(personOf(grants[i].Holder)); err == nil {
			grants[i].HolderName = names[id]
		}
	}
	return nil
}

// Rule says who may approve access to an organisation's data.
func (s *Grants) Rule(ctx context.Context, org uuid.UUID) (a Approvers, err error) {
	a = ApproversEither
	err = s.DB.Org(ctx, org, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT approvers FROM staff_access_rules WHERE organisation_id = $1 ORDER BY id DESC LIMIT 1`, org).Scan(&a)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return a, err
}

func insertRule(ctx context.Context, tx pgx.Tx, org uuid.UUID, a Approvers, p principal.Principal) error {
	_, err := tx.Exec(ctx, `INSERT INTO staff_access_rules (id, organisation_id, approvers, actor) VALUES ($1, $2, $3, $4)`,
		uuid.Must(uuid.NewV7()), org, a, p.String())
	return err
}

// active refuses a holder who could not sign in.
func (s *Grants) active(ctx context.Context, person uuid.UUID) error {
	var active bool
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM people WHERE id = $1 AND status = 'active')`, person).Scan(&active)
	})
	if err == nil && !active {
		return problem.New(problem.NotFound, "grant-person", "There is no active account of that person.").WithField("holder").
			WithMend("Give the id of a person who can sign in: `foundry person list`.")
	}
	return err
}

// differentPeople refuses two accounts that share an address: an account that
// was deactivated and made anew has another id, but is the same person's.
func (s *Grants) differentPeople(ctx context.Context, a, b string) error {
	var macs [2][]byte
	for i, text := range []string{a, b} {
		id, err := uuid.Parse(text)
		if err != nil {
			return errOwnGrant
		}
		err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT email_mac FROM people WHERE id = $1`, id).Scan(&macs[i])
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return problem.New(problem.Denied, "grant-person", "There is no account of one of the two people.").
				WithMend("Use accounts of people who can sign in.")
		}
		if err != nil {
			return err
		}
	}
	if a == b || string(macs[0]) == string(macs[1]) {
		return errOwnGrant
	}
	return nil
}

// foreign reports a reference to something that is not there.
func foreign(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23503"
}
