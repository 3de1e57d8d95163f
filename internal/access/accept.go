package access

import (
	"context"
	"crypto/subtle"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

var errInvitation = problem.New(problem.Unauthenticated, "invitation-invalid", "This invitation is not valid, was used, or has expired.").
	WithMend("Ask whoever invited you for a new one.")

// openToken finds the open invitation that a token belongs to, at the price of
// a bcrypt.
func (s *People) openToken(ctx context.Context, token string) (i storedInvitation, err error) {
	selector, secret, tag, ok := splitAs(invitationPrefix, token)
	if !ok || !s.invites.genuine(selector, secret, tag) {
		return i, errInvitation
	}
	err = s.DB.Read(ctx, func(tx pgx.Tx) error { i, err = invitationByID(ctx, tx, selector); return err })
	if gone(err) {
		return i, errInvitation
	}
	if err != nil {
		return i, err
	}
	match := false
	if err := s.slow(ctx, func() { match = bcrypt.CompareHashAndPassword([]byte(i.hash), []byte(secret)) == nil }); err != nil {
		return i, err
	}
	if !match || i.Status(s.Clock()) != "open" {
		return i, errInvitation
	}
	return i, nil
}

// OpenInvitation shows an invitation to who holds its token. known says that
// the address belongs to somebody who has an account: they sign in and Join;
// everybody else uses Accept.
func (s *People) OpenInvitation(ctx context.Context, c Client, token string) (shown Invitation, known bool, err error) {
	if err := s.limit(ctx, c); err != nil {
		return shown, false, err
	}
	i, err := s.openToken(ctx, token)
	if err != nil {
		return shown, false, err
	}
	if known, err = s.known(ctx, i.mac); err != nil {
		return shown, false, err
	}
	shown, err = s.revealInvitation(ctx, i)
	return shown, known && i.Kind != InviteRecovery, err
}

func (s *People) known(ctx context.Context, mac []byte) (known bool, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		_, err := activeByAddress(ctx, tx, mac)
		known = err == nil
		if gone(err) {
			return nil
		}
		return err
	})
	return known, err
}

// Accept makes the account that an invitation is for, or sets anew how the
// person of a recovery link signs in, and opens a session. With a role that
// demands a second factor, the session is for enrolling one first.
func (s *People) Accept(ctx context.Context, c Client, token string, a Acceptance) (in SignedIn, err error) {
	if err := s.limit(ctx, c); err != nil {
		return in, err
	}
	i, err := s.openToken(ctx, token)
	if err != nil {
		return in, err
	}
	shown, err := s.revealInvitation(ctx, i)
	if err != nil {
		return in, err
	}
	if a.Name == "" || i.Kind == InviteRecovery {
		a.Name = shown.Name
	}
	if a.Name, err = checkName(a.Name); err != nil {
		return in, err
	}
	if a.Password == "" && !s.PasskeysOffered() {
		return in, problem.New(problem.Invalid, "password-missing", "Choose a password: passkeys are not offered at this address.").WithField("password")
	}
	hash := ""
	if a.Password != "" {
		if hash, err = s.hash(ctx, a.Password, shown.Email, a.Name); err != nil {
			return in, err
		}
	}
	if i.Kind == InviteRecovery {
		return s.acceptRecovery(ctx, c, i, hash)
	}
	return s.acceptNew(ctx, c, i, shown.Email, a.Name, hash)
}

var errAccountExists = problem.New(problem.Conflict, "account-exists", "This address has an account already.").WithMend("Sign in with it, and open the invitation again.")

// acceptNew makes the person of an invitation. An invitation to an address
// that has an account never sets its password: whoever can read a mailbox
// could take the account over.
func (s *People) acceptNew(ctx context.Context, c Client, i storedInvitation, email, name, hash string) (in SignedIn, err error) {
	id := uuid.Must(uuid.NewV7())
	sealedEmail, err := s.sealText(ctx, "people", "email_sealed", id.String(), email)
	if err != nil {
		return in, err
	}
	sealedName, err := s.sealText(ctx, "people", "name_sealed", id.String(), name)
	if err != nil {
		return in, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := insertPerson(ctx, tx, id, i.mac, sealedEmail, sealedName, hash); err != nil {
			return err
		}
		m, err := s.join(ctx, tx, asPerson(id), i, id)
		if err != nil {
			return err
		}
		in, err = s.open(ctx, tx, id, []Membership{m}, c, "invitation", false)
		return err
	})
	if duplicate(err) {
		return SignedIn{}, errAccountExists
	}
	if err != nil {
		return SignedIn{}, err
	}
	s.settle(ctx, in.Token)
	return in, nil
}

// join takes the invitation and makes the membership, in its organisation.
func (s *People) join(ctx context.Context, tx pgx.Tx, p principal.Principal, i storedInvitation, person uuid.UUID) (m Membership, err error) {
	if i.Kind == InviteBootstrap {
		if err := bootstrapOnce(ctx, tx); err != nil {
			return m, err
		}
	}
	err = within(ctx, tx, i.Organisation, func() error {
		if taken, err := acceptInvitation(ctx, tx, i.ID, person); err != nil || !taken {
			return orElse(err, errInvitation)
		}
		if m, err = addMembership(ctx, tx, i.Organisation, person, i.RoleNames); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, i.Organisation, "invitation.accept", i.ID, map[string]any{"person": person, "roles": i.RoleNames})
	})
	return m, err
}

// bootstrapOnce lets one bootstrap invitation be accepted at a time, and only
// while there is no administrator.
func bootstrapOnce(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('foundry.person.bootstrap'))`); err != nil {
		return err
	}
	return noAdministrator(ctx, tx)
}

// Join accepts an invitation as somebody who has an account and is signed in.
// It must be for their address. The session continues there with a new token.
func (s *People) Join(ctx context.Context, p principal.Principal, token string) (in SignedIn, err error) {
	i, err := s.openToken(ctx, token)
	if err != nil {
		return in, err
	}
	who, _, err := s.caller(ctx, p)
	if err != nil {
		return in, err
	}
	if i.Kind == InviteRecovery || subtle.ConstantTimeCompare(i.mac, who.mac) != 1 {
		err := audit.Deny(ctx, s.DB, p, i.Organisation, "invitation.accept", i.ID, nil)
		return in, orElse(err, problem.New(problem.Denied, "invitation-other", "This invitation is for another address.").WithMend("Sign in as the person it is for."))
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if _, err := s.join(ctx, tx, p, i, who.ID); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if err != nil {
		return in, err
	}
	s.settle(ctx, "")
	return s.Enter(ctx, p, i.Organisation)
}
