package access

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db"
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

// BeginPasskeyEnrolment asks the browser for a new passkey.
func (s *People) BeginPasskeyEnrolment(ctx context.Context, p principal.Principal) (out PasskeyChallenge, err error) {
	if s.web == nil {
		return out, errNoPasskeys
	}
	err = s.change(ctx, p, "passkey.add", func(tx pgx.Tx, person uuid.UUID, _ Factors) error {
		h, err := s.holder(ctx, tx, person)
		if err != nil {
			return err
		}
		var known []protocol.CredentialDescriptor
		for i := range h.keys {
			known = append(known, h.keys[i].Descriptor())
		}
		options, session, err := s.web.BeginRegistration(h, webauthn.WithExclusions(known))
		if err != nil {
			return err
		}
		out, err = s.challenge(ctx, tx, kindPasskeyEnrol, &person, passkeyState{Session: *session, InPage: p.Session}, options)
		return err
	})
	return out, err
}

// EnrolPasskey stores the passkey that the browser made. The session has then
// shown a second factor.
func (s *People) EnrolPasskey(ctx context.Context, p principal.Principal, ceremony, name string, answer []byte) (out Enrolled, err error) {
	if s.web == nil {
		return out, errNoPasskeys
	}
	person, err := s.own(ctx, p, "passkey.add")
	if err != nil {
		return out, err
	}
	if name, err = checkName(name); err != nil {
		return out, err
	}
	made, err := s.registered(ctx, p, person, ceremony, answer)
	if err != nil {
		return out, err
	}
	k := storedPasskey{id: made.ID, person: person, count: int64(made.Authenticator.SignCount)}
	place := passkeyRow(k.id, person)
	if k.name, err = s.sealText(ctx, "passkeys", "name_sealed", place, name); err != nil {
		return out, err
	}
	body, err := json.Marshal(made)
	if err != nil {
		return out, err
	}
	if k.credential, err = s.Seal(ctx, "passkeys", "credential_sealed", place, body); err != nil {
		return out, err
	}
	out, err = s.enrol(ctx, p, "passkey.add", FactorPasskey, base64.RawURLEncoding.EncodeToString(k.id),
		func(tx pgx.Tx, _ uuid.UUID) error { return insertPasskey(ctx, tx, k) })
	if duplicate(err) {
		err = problem.New(problem.Conflict, "passkey-exists", "This passkey is enrolled already.").WithMend("Use it, or enrol another authenticator.")
	}
	return out, err
}

// registered ends an enrolment's ceremony and verifies the browser's answer.
func (s *People) registered(ctx context.Context, p principal.Principal, person uuid.UUID, ceremony string, answer []byte) (made *webauthn.Credential, err error) {
	var state passkeyState
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		of, err := s.resume(ctx, tx, takeCeremony, kindPasskeyEnrol, ceremony, &state)
		if err == nil && (of == nil || *of != person || state.InPage != p.Session) {
			err = errCeremony
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return nil, refusedPasskey(err)
	}
	if made, err = s.web.CreateCredential(&holder{id: person}, state.Session, parsed); err != nil {
		return nil, refusedPasskey(err)
	}
	return made, nil
}

// RenamePasskey renames one of the caller's own.
func (s *People) RenamePasskey(ctx context.Context, p principal.Principal, id, name string) error {
	person, err := s.own(ctx, p, "passkey.rename")
	if err != nil {
		return err
	}
	raw, err := passkeyID(id)
	if err != nil {
		return err
	}
	if name, err = checkName(name); err != nil {
		return err
	}
	sealed, err := s.sealText(ctx, "passkeys", "name_sealed", passkeyRow(raw, person), name)
	if err != nil {
		return err
	}
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		done, err := renamePasskey(ctx, tx, raw, person, sealed)
		if err != nil || !done {
			return orElse(err, errPasskeyUnknown)
		}
		return record(ctx, tx, p, p.Organisation, "passkey.rename", id, nil)
	})
}

var errPasskeyUnknown = problem.New(problem.NotFound, "passkey-unknown", "You have no such passkey.").WithField("id")

func passkeyID(id string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(raw) == 0 {
		return nil, errPasskeyUnknown
	}
	return raw, nil
}

// RemovePasskey takes one of the caller's own away.
func (s *People) RemovePasskey(ctx context.Context, p principal.Principal, id string) error {
	raw, err := passkeyID(id)
	if err != nil {
		return err
	}
	_, memberships, err := s.caller(ctx, p)
	if err != nil {
		return err
	}
	return s.change(ctx, p, "passkey.remove", func(tx pgx.Tx, person uuid.UUID, _ Factors) error {
		removed, err := deletePasskey(ctx, tx, raw, person)
		if err != nil || !removed {
			return orElse(err, errPasskeyUnknown)
		}
		left, err := lockFactors(ctx, tx, person)
		if err != nil {
			return err
		}
		if err := enough(left, memberships); err != nil {
			return err
		}
		return record(ctx, tx, p, p.Organisation, "passkey.remove", id, nil)
	})
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

// ChangePassword replaces the caller's password, or sets the first one (old is
// then ignored). All other sessions end, and this one gets a new token.
func (s *People) ChangePassword(ctx context.Context, p principal.Principal, c Client, old, next string) (in SignedIn, err error) {
	if err := s.limit(ctx, c); err != nil {
		return in, err
	}
	who, _, err := s.caller(ctx, p)
	if err != nil {
		return in, err
	}
	if err := s.confirm(ctx, who, old); err != nil {
		return in, err
	}
	about, err := s.reveal(ctx, who)
	if err != nil {
		return in, err
	}
	hash, err := s.hash(ctx, next, about.Email, about.Name)
	if err != nil {
		return in, err
	}
	err = s.change(ctx, p, "password.change", func(tx pgx.Tx, person uuid.UUID, _ Factors) error {
		if err := setPassword(ctx, tx, person, hash); err != nil {
			return err
		}
		ended, err := endSessions(ctx, tx, person, "password-changed", p.Session)
		if err != nil {
			return err
		}
		if in, err = s.rotate(ctx, tx, p, rotation{}); err != nil {
			return err
		}
		if err := record(ctx, tx, p, p.Organisation, "password.change", person.String(), map[string]any{"sessions": len(ended)}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.settle(ctx, in.Token)
	return in, nil
}

// confirm checks the old password, where there is one, at the price of a
// failed sign-in.
func (s *People) confirm(ctx context.Context, who storedPerson, old string) error {
	if who.password == "" {
		return nil
	}
	var a attempt
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) { a, err = beginAttempt(ctx, tx, who.mac); return err })
	if err != nil {
		return err
	}
	var right bool
	if err := s.slow(ctx, func() { right, _ = s.hasher.Verify(who.password, old) }); err != nil {
		return err
	}
	switch {
	case a.refused > 0:
		return s.failed(ctx, a, who.ID, FactorPassword, errLocked(a.refused))
	case !right:
		return s.failed(ctx, a, who.ID, FactorPassword, problem.New(problem.Denied, "password-wrong", "The old password is wrong.").WithField("old"))
	}
	return s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return a.undo(ctx, tx) })
}

// hash judges a new password and hashes it.
func (s *People) hash(ctx context.Context, password string, about ...string) (hash string, err error) {
	if err := credential.CheckPassword(password, about...); err != nil {
		return "", err
	}
	if slow := s.slow(ctx, func() { hash, err = s.hasher.Hash(password) }); slow != nil {
		return "", slow
	}
	return hash, err
}

// caller reads the person who asks.
func (s *People) caller(ctx context.Context, p principal.Principal) (storedPerson, []Membership, error) {
	id, err := s.own(ctx, p, "account.read")
	if err != nil {
		return storedPerson{}, nil, err
	}
	return s.person(ctx, id)
}
