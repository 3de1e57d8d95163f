package access

import (
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// Session is a signed-in person's session, without its secret.
type Session struct {
	ID           string     `json:"id"` // the selector
	Person       uuid.UUID  `json:"person"`
	Organisation uuid.UUID  `json:"organisation"` // acted in; zero: the platform
	Method       string     `json:"method"`       // e.g. password+totp
	SecondFactor *time.Time `json:"second_factor_at,omitempty"`
	Device       string     `json:"device"` // e.g. Firefox on Linux
	Place        string     `json:"place"`  // e.g. 192.0.2.0/24; only in lists, not from Check
	CreatedAt    time.Time  `json:"created_at"`
	LastSeenAt   time.Time  `json:"last_seen_at"`
	ExpiresAt    time.Time  `json:"expires_at"` // absolute
	Current      bool       `json:"current"`    // in lists: the asker's own

	// Enrolment: the person must enrol or show a second factor first; Check
	// refuses the session for anything else.
	Enrolment bool `json:"enrolment"`

	Idle    time.Duration `json:"-"`
	Version int64         `json:"-"`
}

// SignedIn is an opened session. Token goes into the browser's cookie and is
// kept nowhere else; a token before it, if there was one, is dead.
type SignedIn struct {
	Token       string              `json:"token"`
	Session     Session             `json:"session"`
	Principal   principal.Principal `json:"-"`
	Memberships []Membership        `json:"memberships"` // where Enter may go
}
