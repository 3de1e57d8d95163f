package access

import (
	"context"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
)

// Person is somebody who can sign in. Email and Name are opened from their
// sealed form for whoever may see them; they never go into logs or audit
// entries, which hold ID only.
type Person struct {
	ID            uuid.UUID    `json:"id"`
	Email         string       `json:"email"`
	Name          string       `json:"name"`
	Status        string       `json:"status"` // active or deactivated
	CreatedAt     time.Time    `json:"created_at"`
	LastSignInAt  *time.Time   `json:"last_signin_at,omitempty"`
	DeactivatedAt *time.Time   `json:"deactivated_at,omitempty"`
	LockedUntil   *time.Time   `json:"locked_until,omitempty"`
	Factors       Factors      `json:"factors"`
	Memberships   []Membership `json:"memberships"` // those that the asker may see
}

// Factors are the means of sign-in that a person has enrolled.
type Factors struct {
	Password      bool `json:"password"`
	TOTP          bool `json:"totp"`
	Passkeys      int  `json:"passkeys"`
	RecoveryCodes int  `json:"recovery_codes"` // that are left
}

// Second reports whether there is a second factor beside the password. A
// recovery code alone is none: it stands in for one that was lost.
func (f Factors) Second() bool { return f.TOTP || f.Passkeys > 0 }

// Client is where a request comes from, as far as the edge knows. Address is
// the peer's, or what a trusted proxy said it is.
type Client struct {
	Address netip.Addr
	Agent   string // the User-Agent header; only a coarse reading of it is kept
}

// PeopleOptions is what People stands on.
type PeopleOptions struct {
	DB       *db.DB
	Guard    *Guard
	Sessions *Sessions

	// Seal and Open protect what is stored: the place is bound into the
	// ciphertext, so that it opens nowhere else.
	Seal func(ctx context.Context, table, column, row string, plaintext []byte) ([]byte, error)
	Open func(ctx context.Context, table, column, row string, sealed []byte) ([]byte, error)

	Peppers    [][]byte // keys of the password MAC, the one in use first; a rotated one stays until nobody's hash needs it
	LookupKey  []byte   // of the HMAC by which addresses and ceremony handles are found
	Invitation []byte   // of the tag of invitation tokens

	URL    string           // where browsers reach the console; its host is the WebAuthn relying party
	Name   string           // shown by authenticators; "Foundry" when empty
	Clock  func() time.Time // time.Now when nil
	Limits Limits

	// Invited is called in the transaction that makes or renews an
	// invitation, to have it delivered. Nil: the inviter passes the link on.
	Invited func(ctx context.Context, tx pgx.Tx, m InvitationMail) error
	// Locked is called in the transaction that locks the account of a person
	// who exists after wrong tries, to have them told. May be nil.
	Locked func(ctx context.Context, tx pgx.Tx, n Notice) error
	// SignedInNew is called in the transaction that opens a session on a device
	// on which the person had none before, though they had others. May be nil.
	SignedInNew func(ctx context.Context, tx pgx.Tx, n Notice) error
	// StopWork is called in the transaction that deactivates a person, ends
	// what runs in their name, and says how much that was. May be nil.
	StopWork func(ctx context.Context, tx pgx.Tx, person uuid.UUID) (int, error)
	// Withdrawn is called in the transaction after which somebody has no longer,
	// or not only, what they signed in with or as, before it commits. May be nil.
	Withdrawn func(ctx context.Context, person uuid.UUID)
	// SpentStep is the last step of a person's code generator that was used
	// without the database; zero: none. May be nil.
	SpentStep func(ctx context.Context, person uuid.UUID) int64
}

// Limits bound sign-in and sessions. Zero values take the defaults.
type Limits struct {
	Idle              time.Duration // a session unused for so long ends: 1 h
	Absolute          time.Duration // every session ends after: 8 h
	SessionsPerPerson int           // the oldest ends when there are more: 10
	InvitationLife    time.Duration // 7 days
	CeremonyLife      time.Duration // between two steps of a sign-in: 5 min
}

func (l Limits) withDefaults() Limits {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&l.Idle, time.Hour)
	or(&l.Absolute, 8*time.Hour)
	or(&l.InvitationLife, 7*24*time.Hour)
	or(&l.CeremonyLife, 5*time.Minute)
	if l.SessionsPerPerson == 0 {
		l.SessionsPerPerson = 10
	}
	return l
}
