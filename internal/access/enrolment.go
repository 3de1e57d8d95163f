package access

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// TOTPEnrolment is what an authenticator app is given. URI is what the QR code
// holds (otpauth://totp/…); Secret is for typing. Both are shown once.
type TOTPEnrolment struct {
	Ceremony string    `json:"ceremony"`
	URI      string    `json:"uri"`
	Secret   string    `json:"secret"`
	Expires  time.Time `json:"expires"`
}

// Enrolled is the outcome of enrolling a second factor: the session with a new
// token, and, with the first factor ever, recovery codes, shown once.
type Enrolled struct {
	SignedIn SignedIn `json:"signed_in"`
	Codes    []string `json:"recovery_codes,omitempty"`
}

// kindTOTPEnrol is a code generator that has not shown a code yet.
const kindTOTPEnrol = "totp-enrol"

type totpState struct {
	Secret string `json:"secret"`
	InPage string `json:"in_page"`
}

// proofAge is how recently somebody must have proven who they are to change
// how they sign in.
const proofAge = 15 * time.Minute

// errStepUp has the code that the guard uses for administrative acts: the edge
// leads to the same page.
var errStepUp = problem.New(problem.Denied, "step-up-required", "To change how you sign in, show your second factor again.").
	WithMend("Show it; you are asked at most every 15 minutes.")

// proven demands that a session proved its person a moment ago: with a second
// factor, or, while there is none, by the sign-in itself. Nobody who finds an
// open browser can enrol a factor of their own.
func (s *People) proven(ctx context.Context, tx pgx.Tx, p principal.Principal, person uuid.UUID, f Factors) error {
	var recent bool
	err := tx.QueryRow(ctx, `SELECT coalesce(CASE WHEN $3 THEN second_factor_at ELSE created_at END > now() - make_interval(secs => $4), false)
		FROM sessions WHERE id = $1 AND person_id = $2 AND ended_at IS NULL`, p.Session, person, f.Second(), proofAge.Seconds()).Scan(&recent)
	switch {
	case gone(err):
		return errSession
	case err != nil:
		return err
	case !recent:
		return errStepUp
	}
	return nil
}

// change runs an act on the caller's own means of signing in: authorised,
// recently proven, holding the person's row.
func (s *People) change(ctx context.Context, p principal.Principal, action policy.Action, do func(tx pgx.Tx, person uuid.UUID, f Factors) error) error {
	person, err := s.own(ctx, p, action)
	if err != nil {
		return err
	}
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		f, err := lockFactors(ctx, tx, person)
		if err != nil {
			return err
		}
		if err := s.proven(ctx, tx, p, person, f); err != nil {
			return err
		}
		return do(tx, person, f)
	})
}

// BeginTOTP makes the secret of a code generator. It counts once ConfirmTOTP
// has seen a code of it, and then takes the place of an earlier one.
func (s *People) BeginTOTP(ctx context.Context, p principal.Principal) (out TOTPEnrolment, err error) {
	err = s.change(ctx, p, "totp.enrol", func(tx pgx.Tx, person uuid.UUID, _ Factors) error {
		stored, err := personByID(ctx, tx, person)
		if err != nil {
			return err
		}
		who, err := s.reveal(ctx, stored)
		if err != nil {
			return err
		}
		if out.Secret, out.URI, err = credential.NewTOTP(s.Name, who.Email); err != nil {
			return err
		}
		out.Ceremony, out.Expires, err = s.begin(ctx, tx, kindTOTPEnrol, &person, totpState{Secret: out.Secret, InPage: p.Session})
		return err
	})
	return out, err
}

// ConfirmTOTP enrols the code generator with a first code of it. The session
// has then shown a second factor.
func (s *People) ConfirmTOTP(ctx context.Context, p principal.Principal, ceremony, code string) (out Enrolled, err error) {
	person, err := s.own(ctx, p, "totp.enrol")
	if err != nil {
		return out, err
	}
	var state totpState
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { // counted, whatever comes of it
		of, err := s.resume(ctx, tx, tryCeremony, kindTOTPEnrol, ceremony, &state)
		if err == nil && (of == nil || *of != person || state.InPage != p.Session) {
			err = errCeremony
		}
		return err
	})
	if err != nil {
		return out, err
	}
	step, ok := credential.CheckTOTP(state.Secret, code, s.Clock(), 0)
	if !ok {
		return out, errCode
	}
	sealed, err := s.sealText(ctx, "totp_secrets", "secret_sealed", person.String(), state.Secret)
	if err != nil {
		return out, err
	}
	return s.enrol(ctx, p, "totp.enrol", FactorTOTP, person.String(), func(tx pgx.Tx, person uuid.UUID) error {
		if _, err := s.resume(ctx, tx, takeCeremony, kindTOTPEnrol, ceremony, &totpState{}); err != nil {
			return err
		}
		return saveTOTP(ctx, tx, person, sealed, step)
	})
}

// enrol stores a second factor, makes recovery codes with the first one, and
// rotates the session, in which the factor has just been shown.
func (s *People) enrol(ctx context.Context, p principal.Principal, act policy.Action, factor Factor, target string, save func(pgx.Tx, uuid.UUID) error) (out Enrolled, err error) {
	codes, stored, err := s.hasher.NewRecoveryCodes()
	if err != nil {
		return out, err
	}
	err = s.change(ctx, p, act, func(tx pgx.Tx, person uuid.UUID, f Factors) error {
		if err := save(tx, person); err != nil {
			return err
		}
		if !f.Second() {
			if err := replaceRecovery(ctx, tx, person, stored); err != nil {
				return err
			}
			out.Codes = codes
		}
		if out.SignedIn, err = s.rotate(ctx, tx, p, rotation{method: string(factor), second: true}); err != nil {
			return err
		}
		return record(ctx, tx, p, p.Organisation, string(act), target, map[string]any{"factor": factor, "recovery_codes": len(out.Codes)})
	})
	if err != nil {
		return Enrolled{}, err
	}
	s.settle(ctx, out.SignedIn.Token)
	return out, nil
}

// RemoveTOTP takes the caller's code generator away. A second factor that
// their roles demand cannot be the last one to go.
func (s *People) RemoveTOTP(ctx context.Context, p principal.Principal) error {
	_, memberships, err := s.caller(ctx, p)
	if err != nil {
		return err
	}
	return s.change(ctx, p, "totp.remove", func(tx pgx.Tx, person uuid.UUID, f Factors) error {
		f.TOTP = false
		if err := enough(f, memberships); err != nil {
			return err
		}
		s.withdrawn(ctx, person)
		removed, err := deleteTOTP(ctx, tx, person)
		if err != nil || !removed {
			return err
		}
		return record(ctx, tx, p, p.Organisation, "totp.remove", person.String(), nil)
	})
}

// enough refuses to leave a person without what they need to sign in.
func enough(f Factors, memberships []Membership) error {
	var all principal.Roles
	for _, m := range memberships {
		all |= m.Roles
	}
	if !f.Password && f.Passkeys == 0 || all.Administrative() && !f.Second() {
		return problem.New(problem.Conflict, "factor-needed", "This is the last factor that your sign-in needs.").WithMend("Enrol another one first.")
	}
	return nil
}

// caller reads the person who asks.
func (s *People) caller(ctx context.Context, p principal.Principal) (storedPerson, []Membership, error) {
	id, err := s.own(ctx, p, "account.read")
	if err != nil {
		return storedPerson{}, nil, err
	}
	return s.person(ctx, id)
}
