package access

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// recoveryLife is how long a recovery link works: it opens more than an
// invitation does.
const recoveryLife = 24 * time.Hour

// Recover makes a link with which a person who lost what they sign in with
// chooses anew. What they had ends when the link is used.
func (s *People) Recover(ctx context.Context, p principal.Principal, person uuid.UUID) (Invitation, string, error) {
	stored, memberships, err := s.person(ctx, person)
	if err != nil {
		return Invitation{}, "", s.unknown(ctx, p, "person.reset", person.String(), err)
	}
	org := judgedIn(memberships)
	if err := s.Guard.Authorise(ctx, p, "person.reset", policy.Resource{ID: person.String(), Organisation: org}); err != nil {
		return Invitation{}, "", err
	}
	if stored.Status != "active" {
		return Invitation{}, "", errPersonUnknown
	}
	who, err := s.reveal(ctx, stored)
	if err != nil {
		return Invitation{}, "", err
	}
	return s.invite(ctx, p, InviteRecovery, "person.reset", &person, NewInvitation{Organisation: org, Email: who.Email, Name: who.Name})
}

// mayRecover reports whether a link that an organisation made opens a person's
// account. An organisation must not take over what it does not have alone,
// also not with a link that it made while it did.
func mayRecover(org uuid.UUID, memberships []Membership) bool {
	return org == uuid.Nil || judgedIn(memberships) == org
}

// acceptRecovery replaces everything that a person signs in with.
func (s *People) acceptRecovery(ctx context.Context, c Client, i storedInvitation, hash string) (in SignedIn, err error) {
	person := *i.Person
	var stored storedPerson
	var memberships []Membership
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if active, err := holdActive(ctx, tx, person); err != nil || !active {
			return orElse(err, errInvitation)
		}
		// Who holds the person's row keeps memberships from being added.
		if stored, memberships, err = s.person(ctx, person); err != nil {
			return err
		}
		if !mayRecover(i.Organisation, memberships) {
			return errInvitation
		}
		err := within(ctx, tx, i.Organisation, func() error {
			taken, err := acceptInvitation(ctx, tx, i.ID, person)
			if err != nil || !taken {
				return orElse(err, errInvitation)
			}
			return audit.Append(ctx, tx, asPerson(person), i.Organisation, "invitation.accept", i.ID, map[string]any{"person": person, "kind": i.Kind})
		})
		if err != nil {
			return err
		}
		s.withdrawn(ctx, person)
		if _, err := removeFactors(ctx, tx, person); err != nil {
			return err
		}
		if err := endCeremonies(ctx, tx, person); err != nil {
			return err
		}
		if _, err := endSessions(ctx, tx, person, "recovered", ""); err != nil {
			return err
		}
		if _, err := clearFailures(ctx, tx, stored.mac); err != nil {
			return err
		}
		if hash != "" {
			if err := setPassword(ctx, tx, person, hash); err != nil {
				return err
			}
		}
		in, err = s.open(ctx, tx, person, memberships, c, "recovery", false)
		return err
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.settle(ctx, in.Token)
	return in, nil
}

// RenewRecoveryCodes makes new recovery codes, shown once; the old are void.
func (s *People) RenewRecoveryCodes(ctx context.Context, p principal.Principal) ([]string, error) {
	codes, stored, err := s.hasher.NewRecoveryCodes()
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, p, "recovery.renew", func(tx pgx.Tx, person uuid.UUID, f Factors) error {
		if !f.Second() {
			return problem.New(problem.Conflict, "factor-missing", "Recovery codes stand in for a second factor, and you have none.").WithMend("Enrol a passkey or a code generator first.")
		}
		if err := replaceRecovery(ctx, tx, person, stored); err != nil {
			return err
		}
		return record(ctx, tx, p, p.Organisation, "recovery.renew", person.String(), map[string]any{"recovery_codes": len(stored)})
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// revokeRecoveries withdraws, in the organisation that the transaction sees, a
// person's links that were not used.
func revokeRecoveries(ctx context.Context, tx pgx.Tx, person uuid.UUID) error {
	_, err := tx.Exec(ctx, `UPDATE invitations SET revoked_at = now(), version = version + 1
		WHERE person_id = $1 AND kind = $2 AND accepted_at IS NULL AND revoked_at IS NULL`, person, InviteRecovery)
	return err
}
