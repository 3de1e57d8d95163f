package access

import (
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
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
