package access

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Material is what somebody of the platform signs in with, opened. It may be
// sealed again, and is never written anywhere as it is.
type Material struct {
	Person      uuid.UUID             `json:"person"`
	Account     []byte                `json:"account"` // by which an address is found: a keyed hash, never the address
	Name        string                `json:"name"`
	Roles       principal.Roles       `json:"roles"` // of the platform
	Password    string                `json:"password,omitempty"`
	TOTP        string                `json:"totp,omitempty"`
	Passkeys    []webauthn.Credential `json:"passkeys,omitempty"` // with the counts that were last seen; none that may have been copied
	Failures    int                   `json:"failures,omitempty"` // once they lock the account
	LockedUntil time.Time             `json:"locked_until,omitzero"`
}

// Material reads it of everybody who is active and has a role of the platform.
// Who belongs to client organisations only is not among them. It is for the
// node itself, and authorises nothing.
func (s *People) Material(ctx context.Context) (out []Material, err error) {
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		people, err := listPeople(ctx, tx, uuid.Nil, false)
		if err != nil {
			return err
		}
		memberships, err := allMemberships(ctx, tx)
		if err != nil {
			return err
		}
		for _, p := range people {
			at := slices.IndexFunc(memberships[p.ID], func(m Membership) bool { return m.Organisation == uuid.Nil })
			if p.Status != "active" || at < 0 {
				continue
			}
			m, err := s.material(ctx, tx, p)
			if err != nil {
				return fmt.Errorf("reading what somebody of the platform signs in with: %w", err)
			}
			for _, r := range memberships[p.ID][at].Roles.List() {
				if r.Platform() {
					m.Roles |= principal.RolesOf(r)
				}
			}
			if m.Roles != 0 {
				out = append(out, m)
			}
		}
		return nil
	})
	slices.SortFunc(out, func(a, b Material) int { return slices.Compare(a.Person[:], b.Person[:]) })
	return out, err
}

func (s *People) material(ctx context.Context, tx pgx.Tx, p storedPerson) (m Material, err error) {
	m = Material{Person: p.ID, Account: p.mac, Password: p.password}
	if m.Name, err = s.openText(ctx, "people", "name_sealed", p.ID.String(), p.name); err != nil {
		return m, err
	}
	if p.Factors.TOTP {
		sealed, _, err := totpSecret(ctx, tx, p.ID)
		if err != nil {
			return m, err
		}
		if m.TOTP, err = s.openText(ctx, "totp_secrets", "secret_sealed", p.ID.String(), sealed); err != nil {
			return m, err
		}
	}
	stored, err := passkeysOf(ctx, tx, p.ID)
	for _, k := range stored {
		if k.cloned != nil {
			continue
		}
		c, err := s.openPasskey(ctx, k)
		if err != nil {
			return m, err
		}
		c.Attestation = webauthn.CredentialAttestation{} // of no use in a sign-in
		m.Passkeys = append(m.Passkeys, c)
	}
	if err != nil || p.LockedUntil == nil {
		return m, err
	}
	m.LockedUntil = p.LockedUntil.UTC()
	err = tx.QueryRow(ctx, `SELECT failures FROM signin_failures WHERE account = $1`, p.mac).Scan(&m.Failures)
	if gone(err) {
		err = nil
	}
	return m, err
}

// withdrawn tells, inside the transaction that does it, that something which
// somebody signs in with or as is about to end. Told too early it shuts them out
// for a moment; told too late it would leave them in.
func (s *People) withdrawn(ctx context.Context, person uuid.UUID) {
	if s.Withdrawn != nil {
		s.Withdrawn(ctx, person)
	}
}

// Spent is what was used up of somebody's means while the database was away.
type Spent struct {
	Person   uuid.UUID
	Step     int64 // of the code generator; zero: none
	Passkeys []SpentPasskey
	Account  []byte // whose tries failed; nil: none did
	Failures int
	Locked   time.Time // until when; zero: not at all
}

// SpentPasskey is the count that an authenticator has shown.
type SpentPasskey struct {
	ID    []byte
	Count uint32
}

// Settle enters what was used up while the database was away, so that nothing
// of it opens again, and tries that failed go on being counted. Doing it again
// changes nothing.
func (s *People) Settle(ctx context.Context, all []Spent) error {
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		for _, one := range all {
			if err := settle(ctx, tx, one); err != nil {
				return fmt.Errorf("entering what was used without the database: %w", err)
			}
		}
		return db.Touch(ctx, tx)
	})
}

func settle(ctx context.Context, tx pgx.Tx, one Spent) error {
	if one.Step > 0 {
		if _, err := useStep(ctx, tx, one.Person, one.Step); err != nil {
			return err
		}
	}
	for _, k := range one.Passkeys {
		if _, err := tx.Exec(ctx, `UPDATE passkeys SET sign_count = greatest(sign_count, $3), last_used_at = now() WHERE id = $1 AND person_id = $2`, k.ID, one.Person, int64(k.Count)); err != nil {
			return err
		}
	}
	if one.Account == nil {
		return nil
	}
	var locked *time.Time
	if !one.Locked.IsZero() {
		locked = &one.Locked
	}
	_, err := tx.Exec(ctx, `INSERT INTO signin_failures AS f (account, failures, locked_until) VALUES ($1, $2, $3)
		ON CONFLICT (account) DO UPDATE SET failures = greatest(f.failures, $2), locked_until = greatest(f.locked_until, $3), last_failed_at = now()`, one.Account, one.Failures, locked)
	return err
}

// Account is the keyed hash by which an address is found.
func (s *People) Account(email string) []byte { return s.account(email) }

// Verify compares a password with what is stored of it. It costs one bcrypt,
// whatever is stored, and waits its turn.
func (s *People) Verify(ctx context.Context, stored, password string) (right bool, err error) {
	err = s.slow(ctx, func() { right, _ = s.hasher.Verify(stored, password) })
	return right, err
}

// Limit counts a try from an address, and says how long it has to wait where
// there were too many. It leaves no trace; [People] itself audits that.
func (s *People) Limit(a netip.Addr) error {
	wait, _ := s.addresses.take(a)
	if wait == 0 {
		return nil
	}
	return errAddressLimited(wait)
}

func errAddressLimited(wait time.Duration) error {
	return problem.New(problem.RateLimited, "address-limited", "There were too many attempts from your network.").WithMend("Wait a moment.").WithRetry(wait)
}

// RelyingParty is the other side of passkeys; nil: none are offered here.
func (s *People) RelyingParty() *webauthn.WebAuthn { return s.web }

// LockFor is how long an account is locked when the given number of tries in a
// row failed.
func LockFor(failures int) time.Duration { return lockFor(failures) }

// ErrLocked is what somebody hears whose account is locked.
func ErrLocked(left time.Duration) error { return errLocked(left) }

// What somebody hears who has shown the wrong thing: the same with the database
// and without.
var (
	ErrSignIn   error = errSignIn
	ErrCode     error = errCode
	ErrPasskey  error = errPasskey
	ErrCloned   error = errCloned
	ErrCeremony error = errCeremony
	ErrSession  error = errSession
)

// AccountName names an account in the audit log that belongs to nobody.
func AccountName(account []byte) string { return accountName(account) }

// CoarseDevice reads no more from a User-Agent than a person needs to recognise
// their own device.
func CoarseDevice(agent string) string { return coarseDevice(agent) }
