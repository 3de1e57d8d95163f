package access

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
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
	if err := s.Guard.Authorise(ctx, p, "person.bootstrap", policy.Resource{}); err != nil {
		return Invitation{}, "", err
	}
	if p.Kind != principal.Local && p.Kind != principal.System { // whatever a policy of one's own permits
		err := audit.Deny(ctx, s.DB, p, p.Organisation, "person.bootstrap", "", nil)
		return Invitation{}, "", orElse(err, problem.New(problem.Denied, "local-only", "The first administrator is made on the server itself.").WithMend("Run `foundry person bootstrap` there."))
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
			if kind == InviteRecovery { // of several links, the last one opens
				if err := revokeRecoveries(ctx, tx, *person); err != nil {
					return err
				}
			}
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
		return i, s.unknown(ctx, p, action, id, errInvitationUnknown)
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
