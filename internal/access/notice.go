package access

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
)

// Notice is what a person is told about their own account. The address may be
// sealed and written to, never logged.
type Notice struct {
	Person   uuid.UUID
	Email    string
	Name     string
	At       time.Time
	Device   string // coarse, of a sign-in
	Place    string // coarse, of a sign-in
	Failures int    // that locked the account
	Until    time.Time
}

// tellLocked tells a person that their account is locked. An address that
// nobody has is told nothing: a stranger must not make the node write to it.
func (s *People) tellLocked(ctx context.Context, tx pgx.Tx, a attempt, person uuid.UUID) error {
	// Only the first lock of a row of failures is told: whoever guesses must
	// not fill a mailbox.
	if s.Locked == nil || person == uuid.Nil || a.failures != freeFailures {
		return nil
	}
	n, err := s.notice(ctx, tx, person)
	if err != nil {
		return err
	}
	n.Failures, n.Until = a.failures, n.At.Add(a.lock)
	return s.Locked(ctx, tx, n)
}

// tellSignedIn tells a person of a session on a device that is new for them.
func (s *People) tellSignedIn(ctx context.Context, tx pgx.Tx, session Session, c Client) error {
	if s.SignedInNew == nil {
		return nil
	}
	var before, same bool
	err := tx.QueryRow(ctx, `SELECT count(*) > 0, coalesce(bool_or(device = $3), false) FROM sessions WHERE person_id = $1 AND id <> $2`,
		session.Person, session.ID, session.Device).Scan(&before, &same)
	if err != nil || !before || same {
		return err
	}
	n, err := s.notice(ctx, tx, session.Person)
	if err != nil {
		return err
	}
	n.Device, n.Place = session.Device, coarsePlace(c.Address)
	return s.SignedInNew(ctx, tx, n)
}

func (s *People) notice(ctx context.Context, tx pgx.Tx, person uuid.UUID) (n Notice, err error) {
	stored, err := personByID(ctx, tx, person)
	if err != nil {
		return n, fmt.Errorf("reading whom to tell: %w", err)
	}
	who, err := s.reveal(ctx, stored)
	return Notice{Person: person, Email: who.Email, Name: who.Name, At: s.Clock().UTC()}, err
}

// AdministratorsOf lists the active administrators of an organisation, to be
// told what happens to its data. It is for the node itself, and authorises
// nothing.
func (s *People) AdministratorsOf(ctx context.Context, org uuid.UUID) (out []Notice, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		people, err := listPeople(ctx, tx, org, false)
		if err != nil {
			return err
		}
		memberships, err := allMemberships(ctx, tx)
		if err != nil {
			return err
		}
		for _, p := range people {
			for _, m := range memberships[p.ID] {
				if p.Status != "active" || m.Organisation != org || !m.Roles.Has(principal.Administrator) {
					continue
				}
				who, err := s.reveal(ctx, p)
				if err != nil {
					return err
				}
				out = append(out, Notice{Person: p.ID, Email: who.Email, Name: who.Name, At: s.Clock().UTC()})
			}
		}
		return nil
	})
	return out, err
}
