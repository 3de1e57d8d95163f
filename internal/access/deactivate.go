package access

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Footprint is what deactivating a person ends.
type Footprint struct {
	Sessions    int   `json:"sessions"`
	Passkeys    int   `json:"passkeys"`
	Invitations int   `json:"invitations"` // that the person made or was sent, and nobody accepted yet
	Memberships int   `json:"memberships"`
	Keys        []Key `json:"keys"`   // API keys that the person made and that belong to no service account
	Grants      int   `json:"grants"` // access to client data, asked for or in force
	Work        int   `json:"work"`   // runs; known only afterwards
}

// deactivation is a footprint with where to find it.
type deactivation struct {
	Footprint
	about       storedPerson
	memberships []Membership
	grants      []Grant     // open ones
	places      []uuid.UUID // organisations with invitations, keys or grants
}

// judgedIn is the organisation that may decide about a person: their only
// one. Whoever belongs to several, or to the platform, is the platform's.
func judgedIn(memberships []Membership) uuid.UUID {
	if len(memberships) == 1 {
		return memberships[0].Organisation
	}
	return uuid.Nil
}

// Footprint shows what Deactivate would end, so that whoever decides can keep
// the keys that an organisation goes on needing.
func (s *People) Footprint(ctx context.Context, p principal.Principal, person uuid.UUID) (Footprint, error) {
	_, memberships, err := s.person(ctx, person)
	if err != nil {
		return Footprint{}, s.unknown(ctx, p, "person.read", person.String(), err)
	}
	if err := s.Guard.Authorise(ctx, p, "person.read", policy.Resource{ID: person.String(), Organisation: judgedIn(memberships)}); err != nil {
		return Footprint{}, err
	}
	d, err := s.survey(ctx, person)
	return d.Footprint, err
}

func (s *People) survey(ctx context.Context, person uuid.UUID) (d deactivation, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		if d.about, err = personByID(ctx, tx, person); err != nil {
			return err
		}
		if d.memberships, err = membershipsOf(ctx, tx, person); err != nil {
			return err
		}
		sessions, err := listSessions(ctx, tx, person)
		if err != nil {
			return err
		}
		if d.places, d.Invitations, err = openInvitations(ctx, tx, asPerson(person).String(), d.about.mac); err != nil {
			return err
		}
		if d.Keys, err = keysMadeBy(ctx, tx, person); err != nil {
			return err
		}
		if d.grants, err = openGrantsOf(ctx, tx, asPerson(person).String()); err != nil {
			return err
		}
		d.Grants = len(d.grants)
		d.Sessions, d.Passkeys, d.Memberships = len(sessions), d.about.Factors.Passkeys, len(d.memberships)
		return nil
	})
	for _, k := range d.Keys {
		if !slices.Contains(d.places, k.Organisation) {
			d.places = append(d.places, k.Organisation)
		}
	}
	for _, g := range d.grants {
		if !slices.Contains(d.places, g.Organisation) {
			d.places = append(d.places, g.Organisation)
		}
	}
	if gone(err) {
		err = errPersonUnknown
	}
	return d, err
}

// openGrantsOf lists the grants of a holder that are in force or may still
// come into force.
func openGrantsOf(ctx context.Context, tx pgx.Tx, holder string) ([]Grant, error) {
	rows, err := tx.Query(ctx, grantQuery+`WHERE g.holder = $1`, holder)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanGrant)
	return slices.DeleteFunc(all, func(g Grant) bool { return g.State != GrantActive && g.State != GrantPending }), err
}

// endGrants ends what the person could see of an organisation, inside the
// transaction and within that organisation: the client reads that it is over.
func endGrants(ctx context.Context, tx pgx.Tx, p principal.Principal, grants []Grant, org uuid.UUID) (n int, err error) {
	for _, g := range grants {
		if g.Organisation != org {
			continue
		}
		_, now, err := grantNow(ctx, tx, g.ID) // somebody may have been faster
		if err != nil {
			return n, err
		}
		if now.State != GrantActive && now.State != GrantPending {
			continue
		}
		side := sidePlatform
		if !p.Platform() {
			side = sideClient
		}
		if err := insertEvent(ctx, tx, &now, "ended", p, side, "the holder's account was deactivated", nil); err != nil {
			return n, err
		}
		if err := audit.Append(ctx, tx, p, org, "grant.revoke", g.ID.String(), map[string]any{"holder": g.Holder, "side": side, "deactivated": true}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Deactivate ends a person in one transaction: sessions, means of signing in,
// memberships, invitations, the API keys that they made except those in keep,
// and what runs in their name. Doing it again changes nothing. It cannot be
// undone: who comes back is invited anew.
//
// Keys of service accounts stay: they are the organisation's. A key that is
// kept stays valid, and the audit log says who kept it.
func (s *People) Deactivate(ctx context.Context, p principal.Principal, person uuid.UUID, keep ...string) (Footprint, error) {
	d, err := s.survey(ctx, person)
	if err != nil {
		return Footprint{}, s.unknown(ctx, p, "person.deactivate", person.String(), err)
	}
	if err := s.Guard.Authorise(ctx, p, "person.deactivate", policy.Resource{ID: person.String(), Organisation: judgedIn(d.memberships)}); err != nil {
		return Footprint{}, err
	}
	for _, id := range keep {
		// A mistyped id would end the very key that was meant to stay.
		if !slices.ContainsFunc(d.Keys, func(k Key) bool { return k.ID == id }) {
			return Footprint{}, problem.New(problem.NotFound, "key-unknown", fmt.Sprintf("The person has made no API key %q that would end.", id)).WithField("keep").
				WithMend("Without --yes, `foundry person deactivate` shows the keys.")
		}
	}
	var done Footprint
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		others, err := otherAdministrators(ctx, tx, person)
		if err != nil {
			return err
		}
		active, err := holdActive(ctx, tx, person)
		if err != nil || !active {
			return err
		}
		for _, m := range d.memberships {
			if m.Organisation == uuid.Nil && m.Roles.Has(principal.PlatformAdministrator) && others == 0 {
				return errLastAdministrator
			}
		}
		done, err = s.endPerson(ctx, tx, p, d, keep)
		return err
	})
	if err != nil {
		return Footprint{}, err
	}
	s.settle(ctx, "")
	return done, nil
}

// endPerson does it, inside the transaction, and audits with counts: once on
// the platform, and once in each organisation that the person belonged to.
func (s *People) endPerson(ctx context.Context, tx pgx.Tx, p principal.Principal, d deactivation, keep []string) (done Footprint, err error) {
	person := d.about.ID
	if _, err := tx.Exec(ctx, `UPDATE people SET status = 'deactivated', deactivated_at = now(), version = version + 1 WHERE id = $1`, person); err != nil {
		return done, err
	}
	s.withdrawn(ctx, person)
	ended, err := endSessions(ctx, tx, person, "deactivated", "")
	if err != nil {
		return done, err
	}
	passkeys, err := removeFactors(ctx, tx, person)
	if err != nil {
		return done, err
	}
	if err := endCeremonies(ctx, tx, person); err != nil {
		return done, err
	}
	if s.StopWork != nil {
		if done.Work, err = s.StopWork(ctx, tx, person); err != nil {
			return done, err
		}
	}
	done.Sessions, done.Passkeys = len(ended), int(passkeys)
	for _, org := range d.everywhere() {
		if err := s.endIn(ctx, tx, p, d, org, keep, &done); err != nil {
			return done, err
		}
	}
	details := map[string]any{"sessions": done.Sessions, "passkeys": done.Passkeys, "invitations": done.Invitations,
		"memberships": done.Memberships, "keys": len(done.Keys), "kept_keys": keep, "grants": done.Grants, "work": done.Work}
	if err := audit.Append(ctx, tx, p, uuid.Nil, "person.deactivate", person.String(), details); err != nil {
		return done, err
	}
	return done, db.Touch(ctx, tx)
}

// everywhere lists the organisations in which something ends.
func (d deactivation) everywhere() []uuid.UUID {
	out := slices.Clone(d.places)
	for _, m := range d.memberships {
		if !slices.Contains(out, m.Organisation) {
			out = append(out, m.Organisation)
		}
	}
	slices.SortFunc(out, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return out
}

func (s *People) endIn(ctx context.Context, tx pgx.Tx, p principal.Principal, d deactivation, org uuid.UUID, keep []string, done *Footprint) error {
	return within(ctx, tx, org, func() error {
		invitations, err := revokeInvitations(ctx, tx, asPerson(d.about.ID).String(), d.about.mac)
		if err != nil {
			return err
		}
		removed, err := removeMembership(ctx, tx, org, d.about.ID)
		if err != nil {
			return err
		}
		var ids []string
		for _, k := range d.Keys {
			if k.Organisation == org && !slices.Contains(keep, k.ID) {
				ids = append(ids, k.ID)
				done.Keys = append(done.Keys, k)
			}
		}
		if _, err := revokeKeys(ctx, tx, ids); err != nil {
			return err
		}
		ended, err := endGrants(ctx, tx, p, d.grants, org)
		if err != nil {
			return err
		}
		done.Grants += ended
		done.Invitations += int(invitations)
		if removed {
			done.Memberships++
		}
		if org == uuid.Nil {
			return nil
		}
		return audit.Append(ctx, tx, p, org, "person.deactivate", d.about.ID.String(), map[string]any{"keys": ids, "invitations": invitations})
	})
}
