package access

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

// Kinds of invitation.
const (
	InviteMember    = "member"    // to an organisation or the platform
	InviteBootstrap = "bootstrap" // the first platform administrator
	InviteRecovery  = "recovery"  // a person who lost what they sign in with
)

// Invitation is an invitation without its token.
type Invitation struct {
	ID           string          `json:"id"`           // the selector
	Organisation uuid.UUID       `json:"organisation"` // zero: the platform
	Kind         string          `json:"kind"`
	Person       *uuid.UUID      `json:"person,omitempty"` // recovery: whose
	Email        string          `json:"email"`
	Name         string          `json:"name"`
	Roles        principal.Roles `json:"-"`
	RoleNames    []string        `json:"roles"`
	InvitedBy    string          `json:"invited_by"`
	CreatedAt    time.Time       `json:"created_at"`
	ExpiresAt    time.Time       `json:"expires_at"`
	AcceptedAt   *time.Time      `json:"accepted_at,omitempty"`
	RevokedAt    *time.Time      `json:"revoked_at,omitempty"`
}

// Status says whether the invitation can be accepted at a moment: open,
// accepted, revoked or expired.
func (i *Invitation) Status(now time.Time) string {
	switch {
	case i.AcceptedAt != nil:
		return "accepted"
	case i.RevokedAt != nil:
		return "revoked"
	case !now.Before(i.ExpiresAt):
		return "expired"
	}
	return "open"
}

// NewInvitation is what a caller asks of Invite.
type NewInvitation struct {
	Organisation uuid.UUID // zero: the platform
	Email        string
	Name         string
	Roles        principal.Roles // all of the organisation's kind, or all of the platform's
}

// InvitationMail is what an invited person is told. The token is in it: it
// may be sealed and sent, never logged.
type InvitationMail struct {
	Invitation Invitation
	Token      string
	URL        string // where the token is shown: <public URL>/invitation#<token>
}

// Acceptance is what an invited person who is new chooses.
type Acceptance struct {
	Name     string // empty: the name in the invitation
	Password string // empty: enrols a passkey in the session that this opens
}

// recoveryLife is how long a recovery link works: it opens more than an
// invitation does.
const recoveryLife = 24 * time.Hour

// Invite invites an address to an organisation, or to the platform. The token
// is returned once, for the inviter to pass on where no mail is sent.
func (s *People) Invite(ctx context.Context, p principal.Principal, in NewInvitation) (Invitation, string, error) {
	if err := s.Guard.Authorise(ctx, p, "person.invite", policy.Resource{Organisation: in.Organisation}); err != nil {
		return Invitation{}, "", err
	}
	if in.Roles == 0 {
		return Invitation{}, "", problem.New(problem.Invalid, "roles-missing", "An invitation needs at least one role.").WithField("roles")
	}
	if err := checkRoles(in.Organisation, in.Roles); err != nil {
		return Invitation{}, "", err
	}
	return s.invite(ctx, p, InviteMember, "person.invite", nil, in)
}

// Bootstrap invites the first platform administrator. It is for the local
// socket, and works only while there is no active one.
func (s *People) Bootstrap(ctx context.Context, p principal.Principal, email, name string) (Invitation, string, error) {
	if p.Kind != principal.Local && p.Kind != principal.System {
		err := audit.Deny(ctx, s.DB, p, p.Organisation, "person.bootstrap", "", nil)
		return Invitation{}, "", orElse(err, problem.New(problem.Denied, "local-only", "The first administrator is made on the server itself.").WithMend("Run `foundry person bootstrap` there."))
	}
	if err := s.Guard.Authorise(ctx, p, "person.bootstrap", policy.Resource{}); err != nil {
		return Invitation{}, "", err
	}
	if err := s.DB.Read(ctx, func(tx pgx.Tx) error { return noAdministrator(ctx, tx) }); err != nil {
		return Invitation{}, "", err
	}
	return s.invite(ctx, p, InviteBootstrap, "person.bootstrap", nil,
		NewInvitation{Email: email, Name: name, Roles: principal.RolesOf(principal.PlatformAdministrator)})
}

func noAdministrator(ctx context.Context, tx pgx.Tx) error {
	n, err := platformAdministrators(ctx, tx)
	if err == nil && n > 0 {
		return problem.New(problem.Conflict, "administrator-exists", "There is a platform administrator already.").WithMend("Ask one of them for an invitation.")
	}
	return err
}

// Recover makes a link with which a person who lost what they sign in with
// chooses anew. What they had ends when the link is used.
func (s *People) Recover(ctx context.Context, p principal.Principal, person uuid.UUID) (Invitation, string, error) {
	stored, memberships, err := s.person(ctx, person)
	if err != nil {
		return Invitation{}, "", err
	}
	// Whoever belongs to the platform or to several organisations is
	// recovered by the platform: an organisation must not take over what it
	// does not have alone.
	org := uuid.Nil
	if len(memberships) == 1 {
		org = memberships[0].Organisation
	}
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

// invite stores an invitation of any kind and has it delivered.
func (s *People) invite(ctx context.Context, p principal.Principal, kind, act string, person *uuid.UUID, in NewInvitation) (Invitation, string, error) {
	var err error
	if in.Email, err = checkAddress(in.Email); err != nil {
		return Invitation{}, "", err
	}
	if in.Name, err = checkName(in.Name); err != nil {
		return Invitation{}, "", err
	}
	token, i, err := s.draft(ctx, p, in)
	if err != nil {
		return Invitation{}, "", err
	}
	i.Kind, i.Person = kind, person
	life := s.Limits.InvitationLife
	if kind == InviteRecovery {
		life = recoveryLife
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		target := i.ID
		if person != nil {
			target = person.String()
		}
		return within(ctx, tx, in.Organisation, func() error {
			if err := insertInvitation(ctx, tx, &i, life); err != nil {
				return fmt.Errorf("storing an invitation: %w", err)
			}
			details := map[string]any{"invitation": i.ID, "roles": i.RoleNames, "expires": i.ExpiresAt.UTC()}
			if err := audit.Append(ctx, tx, p, in.Organisation, act, target, details); err != nil {
				return err
			}
			return s.deliver(ctx, tx, i.Invitation, token)
		})
	})
	if err != nil {
		return Invitation{}, "", err
	}
	return i.Invitation, token, nil
}

// draft makes an invitation with a token.
func (s *People) draft(ctx context.Context, p principal.Principal, in NewInvitation) (token string, i storedInvitation, err error) {
	token, selector, secret := s.invites.mintAs(invitationPrefix)
	hash, err := s.hasher.HashSecret(secret)
	if err != nil {
		return "", i, fmt.Errorf("an invitation: %w", err)
	}
	i = storedInvitation{hash: hash, mac: s.account(in.Email), Invitation: Invitation{ID: selector, Organisation: in.Organisation,
		Email: in.Email, Name: in.Name, Roles: in.Roles, RoleNames: roleNames(in.Roles), InvitedBy: p.String()}}
	if i.email, err = s.sealText(ctx, "invitations", "email_sealed", selector, in.Email); err != nil {
		return "", i, err
	}
	i.name, err = s.sealText(ctx, "invitations", "name_sealed", selector, in.Name)
	return token, i, err
}

func (s *People) deliver(ctx context.Context, tx pgx.Tx, i Invitation, token string) error {
	if s.Invited == nil {
		return nil
	}
	return s.Invited(ctx, tx, InvitationMail{Invitation: i, Token: token, URL: s.InvitationURL(token)})
}

// InvitationURL is where an invitation is accepted. The token is in the
// fragment, which browsers send to nobody: not to the log of a proxy either.
func (s *People) InvitationURL(token string) string {
	link, err := url.JoinPath(s.URL, "invitation")
	if err != nil {
		link = s.URL + "/invitation"
	}
	return link + "#" + token
}

// Invitations lists an organisation's, the newest first.
func (s *People) Invitations(ctx context.Context, p principal.Principal, org uuid.UUID) ([]Invitation, error) {
	if err := s.Guard.Authorise(ctx, p, "invitation.list", policy.Resource{Organisation: org}); err != nil {
		return nil, err
	}
	var stored []storedInvitation
	if err := s.DB.Read(ctx, func(tx pgx.Tx) (err error) { stored, err = listInvitations(ctx, tx, org); return err }); err != nil {
		return nil, err
	}
	out := make([]Invitation, 0, len(stored))
	for _, i := range stored {
		shown, err := s.revealInvitation(ctx, i)
		if err != nil {
			return nil, err
		}
		out = append(out, shown)
	}
	return out, nil
}

func (s *People) revealInvitation(ctx context.Context, i storedInvitation) (Invitation, error) {
	var err error
	if i.Email, err = s.openText(ctx, "invitations", "email_sealed", i.ID, i.email); err != nil {
		return Invitation{}, err
	}
	i.Name, err = s.openText(ctx, "invitations", "name_sealed", i.ID, i.name)
	return i.Invitation, err
}

var errInvitationUnknown = problem.New(problem.NotFound, "invitation-unknown", "There is no such invitation.").WithField("id")

// findInvitation reads one and authorises an act on it.
func (s *People) findInvitation(ctx context.Context, p principal.Principal, action policy.Action, id string) (i storedInvitation, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error { i, err = invitationByID(ctx, tx, id); return err })
	if gone(err) {
		return i, errInvitationUnknown
	}
	if err != nil {
		return i, err
	}
	return i, s.Guard.Authorise(ctx, p, action, policy.Resource{ID: id, Organisation: i.Organisation})
}

// RevokeInvitation withdraws an invitation. Withdrawing it again changes nothing.
func (s *People) RevokeInvitation(ctx context.Context, p principal.Principal, id string) error {
	i, err := s.findInvitation(ctx, p, "invitation.revoke", id)
	if err != nil {
		return err
	}
	return s.DB.Org(ctx, i.Organisation, func(tx pgx.Tx) error {
		revoked, err := revokeInvitation(ctx, tx, id)
		if err != nil || !revoked {
			return err
		}
		return audit.Append(ctx, tx, p, i.Organisation, "invitation.revoke", id, nil)
	})
}

// ResendInvitation puts a new invitation, with a new token and a new term, in
// the place of one that nobody accepted.
func (s *People) ResendInvitation(ctx context.Context, p principal.Principal, id string) (Invitation, string, error) {
	old, err := s.findInvitation(ctx, p, "invitation.resend", id)
	if err != nil {
		return Invitation{}, "", err
	}
	if old.AcceptedAt != nil || old.RevokedAt != nil || old.Kind == InviteRecovery {
		return Invitation{}, "", problem.New(problem.Conflict, "invitation-over", "This invitation is "+old.Status(s.Clock())+".").WithMend("Make a new one.")
	}
	shown, err := s.revealInvitation(ctx, old)
	if err != nil {
		return Invitation{}, "", err
	}
	token, next, err := s.draft(ctx, p, NewInvitation{Organisation: old.Organisation, Email: shown.Email, Name: shown.Name, Roles: old.Roles})
	if err != nil {
		return Invitation{}, "", err
	}
	next.Kind = old.Kind
	err = s.DB.Org(ctx, old.Organisation, func(tx pgx.Tx) error {
		if revoked, err := revokeInvitation(ctx, tx, id); err != nil || !revoked {
			return orElse(err, problem.New(problem.Conflict, "invitation-over", "This invitation was just used or withdrawn."))
		}
		if err := insertInvitation(ctx, tx, &next, s.Limits.InvitationLife); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, old.Organisation, "invitation.resend", id, map[string]any{"invitation": next.ID, "expires": next.ExpiresAt.UTC()}); err != nil {
			return err
		}
		return s.deliver(ctx, tx, next.Invitation, token)
	})
	if err != nil {
		return Invitation{}, "", err
	}
	return next.Invitation, token, nil
}

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

// acceptRecovery replaces everything that a person signs in with.
func (s *People) acceptRecovery(ctx context.Context, c Client, i storedInvitation, hash string) (in SignedIn, err error) {
	person := *i.Person
	stored, memberships, err := s.person(ctx, person)
	if err != nil {
		return in, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if active, err := holdActive(ctx, tx, person); err != nil || !active {
			return orElse(err, errInvitation)
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
