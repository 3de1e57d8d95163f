package access

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Membership is what a person may be in one organisation, or on the platform.
type Membership struct {
	Organisation uuid.UUID       `json:"organisation"` // zero: the platform
	Person       uuid.UUID       `json:"person"`
	Roles        principal.Roles `json:"-"`
	RoleNames    []string        `json:"roles"`
	Since        time.Time       `json:"since"`
}

// checkRoles refuses roles that cannot be held together in one place.
func checkRoles(org uuid.UUID, roles principal.Roles) error {
	for _, r := range roles.List() {
		if r.Platform() != (org == uuid.Nil) {
			return problem.New(problem.Invalid, "role-place", "The role "+r.String()+" cannot be held here.").WithField("roles").
				WithMend("Roles named platform-… are held on the platform, all others in an organisation.")
		}
	}
	return nil
}

// Me is the caller's own account.
func (s *People) Me(ctx context.Context, p principal.Principal) (Person, error) {
	who, memberships, err := s.caller(ctx, p)
	if err != nil {
		return Person{}, err
	}
	out, err := s.reveal(ctx, who)
	out.Memberships = memberships
	return out, err
}

// List lists the members of an organisation with their roles there. The zero
// organisation lists everybody, with everything, for the platform.
func (s *People) List(ctx context.Context, p principal.Principal, org uuid.UUID) ([]Person, error) {
	if err := s.Guard.Authorise(ctx, p, "person.list", policy.Resource{Organisation: org}); err != nil {
		return nil, err
	}
	var stored []storedPerson
	var memberships map[uuid.UUID][]Membership
	err := s.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if stored, err = listPeople(ctx, tx, org, org == uuid.Nil); err != nil {
			return err
		}
		memberships, err = allMemberships(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]Person, 0, len(stored))
	for _, row := range stored {
		who, err := s.reveal(ctx, row)
		if err != nil {
			return nil, err
		}
		who.Memberships = visible(org, memberships[who.ID])
		out = append(out, who)
	}
	return out, nil
}

// visible leaves what an organisation may know of its member: nothing of where
// else they belong.
func visible(org uuid.UUID, all []Membership) []Membership {
	if org == uuid.Nil {
		return all
	}
	out := []Membership{}
	for _, m := range all {
		if m.Organisation == org {
			out = append(out, m)
		}
	}
	return out
}

// Show shows one member of an organisation; with the zero organisation, any
// person.
func (s *People) Show(ctx context.Context, p principal.Principal, org, person uuid.UUID) (Person, error) {
	if err := s.Guard.Authorise(ctx, p, "person.read", policy.Resource{ID: person.String(), Organisation: org, Owner: person.String()}); err != nil {
		return Person{}, err
	}
	stored, memberships, err := s.person(ctx, person)
	if err != nil {
		return Person{}, err
	}
	if memberships = visible(org, memberships); org != uuid.Nil && len(memberships) == 0 {
		return Person{}, errPersonUnknown
	}
	who, err := s.reveal(ctx, stored)
	who.Memberships = memberships
	return who, err
}

var errLastAdministrator = problem.New(problem.Conflict, "administrator-last", "This is the last platform administrator.").
	WithMend("Make somebody else a platform administrator first.")

// SetRoles replaces what a member may be in an organisation (zero: on the
// platform); no roles end the membership. The member's sessions end, so that
// what they may do now is what they sign in to, and so do the invitations that
// they made and may not make any more. Who leaves an organisation takes no API
// key of it along: those that they made end, except those of service accounts.
func (s *People) SetRoles(ctx context.Context, p principal.Principal, org, person uuid.UUID, roles principal.Roles) (m Membership, err error) {
	if err := checkRoles(org, roles); err != nil {
		return m, err
	}
	action := "membership.set"
	if roles == 0 {
		action = "membership.remove"
	}
	if err := s.Guard.Authorise(ctx, p, policy.Action(action), policy.Resource{ID: person.String(), Organisation: org}); err != nil {
		return m, err
	}
	open, err := s.invitedBeyond(ctx, org, person, roles)
	if err != nil {
		return m, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		others, err := otherAdministrators(ctx, tx, person) // held in one order, before anything else
		if err != nil {
			return err
		}
		var before, keys []string
		err = within(ctx, tx, org, func() error {
			if before, err = lockMembership(ctx, tx, org, person); err != nil {
				return err
			}
			if roles == 0 {
				if _, err = removeMembership(ctx, tx, org, person); err != nil {
					return err
				}
				keys, err = revokeKeysMadeBy(ctx, tx, org, person)
				return err
			}
			m, err = setMembership(ctx, tx, org, person, roleNames(roles))
			return err
		})
		if gone(err) {
			return errPersonUnknown
		}
		if err != nil {
			return err
		}
		if org == uuid.Nil && others == 0 && parseRoles(before).Has(principal.PlatformAdministrator) && !roles.Has(principal.PlatformAdministrator) {
			return errLastAdministrator
		}
		if org == uuid.Nil {
			s.withdrawn(ctx, person)
		}
		ended, err := endSessions(ctx, tx, person, "roles-changed", "")
		if err != nil {
			return err
		}
		details := map[string]any{"before": before, "after": roleNames(roles), "sessions": len(ended)}
		if len(keys) > 0 {
			details["keys"] = keys
		}
		if err := record(ctx, tx, p, org, action, person.String(), details); err != nil {
			return err
		}
		if err := s.withdraw(ctx, tx, p, person, open); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if err != nil {
		return Membership{}, err
	}
	s.settle(ctx, "")
	return m, nil
}

// invitedBeyond finds the organisations in which a person has open invitations
// that they could not make with new roles in org.
func (s *People) invitedBeyond(ctx context.Context, org, person uuid.UUID, roles principal.Roles) (out []uuid.UUID, err error) {
	held := map[uuid.UUID]principal.Roles{}
	var places []uuid.UUID
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		memberships, err := membershipsOf(ctx, tx, person)
		if err != nil {
			return err
		}
		for _, m := range memberships {
			held[m.Organisation] = m.Roles
		}
		places, _, err = openInvitations(ctx, tx, asPerson(person).String(), nil)
		return err
	})
	held[org] = roles
	for _, place := range places {
		if !s.mayInvite(person, place, place, held[place]) && !s.mayInvite(person, uuid.Nil, place, held[uuid.Nil]) {
			out = append(out, place)
		}
	}
	return out, err
}

// mayInvite reports whether roles held in one place are enough to invite to another.
func (s *People) mayInvite(person, from, to uuid.UUID, roles principal.Roles) bool {
	p := asPerson(person)
	p.Organisation, p.Roles, p.SecondFactor = from, roles, s.Clock()
	return s.Guard.Decide(p, "person.invite", policy.Resource{Organisation: to}).Allowed
}

// withdraw ends what a person made in the given organisations and nobody accepted.
func (s *People) withdraw(ctx context.Context, tx pgx.Tx, p principal.Principal, person uuid.UUID, places []uuid.UUID) error {
	for _, place := range places {
		err := within(ctx, tx, place, func() error {
			n, err := revokeInvitations(ctx, tx, asPerson(person).String(), nil)
			if err != nil || n == 0 {
				return err
			}
			return audit.Append(ctx, tx, p, place, "invitation.revoke", person.String(), map[string]any{"invitations": n, "reason": "roles-changed"})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
