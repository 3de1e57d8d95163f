package access

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Passkey is a WebAuthn credential of a person, without its key.
type Passkey struct {
	ID         string     `json:"id"` // base64url of the credential id
	Name       string     `json:"name"`
	Synced     bool       `json:"synced"` // may exist on several devices of its owner
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	Cloned     bool       `json:"cloned"` // its counter went backwards: refused until removed
}

// PasskeyChallenge is what the browser is asked. Options has one member,
// publicKey, whose value is the argument of
// PublicKeyCredential.parseCreationOptionsFromJSON or
// parseRequestOptionsFromJSON; Ceremony comes back with the browser's answer
// (the credential's toJSON()).
type PasskeyChallenge struct {
	Ceremony string          `json:"ceremony"`
	Options  json.RawMessage `json:"options"`
	Expires  time.Time       `json:"expires"`
}

// Kinds of ceremony with a passkey. One begun for one kind ends no other.
const (
	kindPasskeySignIn = "passkey-signin"
	kindPasskeyFactor = "passkey-factor"
	kindPasskeyStepUp = "passkey-stepup"
	kindPasskeyEnrol  = "passkey-enrol"
)

// passkeyState is what a challenge was for.
type passkeyState struct {
	Session webauthn.SessionData `json:"session"`
	Account []byte               `json:"account,omitempty"` // after the password: whose failures to forget
	Parent  string               `json:"parent,omitempty"`  // after the password: the handle that this one finishes
	InPage  string               `json:"in_page,omitempty"` // selector of the session that asked
}

// holder is a person as the WebAuthn library wants one.
type holder struct {
	id      uuid.UUID
	email   string
	display string
	keys    []webauthn.Credential
}

func (h *holder) WebAuthnID() []byte                         { return h.id[:] }
func (h *holder) WebAuthnName() string                       { return h.email }
func (h *holder) WebAuthnDisplayName() string                { return h.display }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

var (
	errNoPasskeys = problem.New(problem.Unsupported, "passkeys-not-offered", "Passkeys need a console with a host name, not a bare address.").WithMend("Set listen.public_url to an https URL with a name.")
	errPasskey    = problem.New(problem.Unauthenticated, "passkey-refused", "The passkey was not accepted.").WithMend("Use one that you enrolled here.")
	errCloned     = problem.New(problem.Unauthenticated, "passkey-cloned", "This passkey may have been copied, and is refused from now on.").WithMend("Sign in another way, remove it, and enrol a new one.")
)

// holder opens a person's usable passkeys.
func (s *People) holder(ctx context.Context, tx pgx.Tx, person uuid.UUID) (*holder, error) {
	p, err := personByID(ctx, tx, person)
	if err != nil {
		return nil, err
	}
	if p.Status != "active" {
		return nil, pgx.ErrNoRows
	}
	about, err := s.reveal(ctx, p)
	if err != nil {
		return nil, err
	}
	h := &holder{id: person, email: about.Email, display: about.Name}
	stored, err := passkeysOf(ctx, tx, person)
	for _, k := range stored {
		if k.cloned != nil {
			continue
		}
		c, err := s.openPasskey(ctx, k)
		if err != nil {
			return nil, err
		}
		h.keys = append(h.keys, c)
	}
	return h, err
}

func (s *People) openPasskey(ctx context.Context, k storedPasskey) (c webauthn.Credential, err error) {
	body, err := s.Open(ctx, "passkeys", "credential_sealed", passkeyRow(k.id, k.person), k.credential)
	if err != nil {
		return c, fmt.Errorf("opening a passkey: %w", err)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return c, fmt.Errorf("reading a passkey: %w", err)
	}
	c.Authenticator.SignCount = uint32(k.count)
	return c, nil
}

// challenge stores a ceremony with a passkey and makes what the browser is asked.
func (s *People) challenge(ctx context.Context, tx pgx.Tx, kind string, person *uuid.UUID, state passkeyState, options any) (PasskeyChallenge, error) {
	body, err := json.Marshal(options)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	handle, expires, err := s.begin(ctx, tx, kind, person, state)
	return PasskeyChallenge{Ceremony: handle, Options: body, Expires: expires}, err
}

// BeginPasskey starts a sign-in with a passkey: alone when ceremony is empty,
// which counts as two factors because the authenticator verifies its user, or
// else as the second factor after the password.
func (s *People) BeginPasskey(ctx context.Context, c Client, ceremony string) (out PasskeyChallenge, err error) {
	if s.web == nil {
		return out, errNoPasskeys
	}
	if err := s.limit(ctx, c); err != nil {
		return out, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if ceremony == "" {
			options, session, err := s.web.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
			if err != nil {
				return err
			}
			out, err = s.challenge(ctx, tx, kindPasskeySignIn, nil, passkeyState{Session: *session}, options)
			return err
		}
		var before signInState
		person, err := s.resume(ctx, tx, tryCeremony, kindSignIn, ceremony, &before)
		if err != nil {
			return err
		}
		out, err = s.challengeHolder(ctx, tx, kindPasskeyFactor, *person, passkeyState{Account: before.Account, Parent: ceremony})
		return err
	})
	return out, err
}

// challengeHolder asks for one of the passkeys of a known person.
func (s *People) challengeHolder(ctx context.Context, tx pgx.Tx, kind string, person uuid.UUID, state passkeyState) (PasskeyChallenge, error) {
	h, err := s.holder(ctx, tx, person)
	if err != nil {
		return PasskeyChallenge{}, err
	}
	if len(h.keys) == 0 {
		return PasskeyChallenge{}, problem.New(problem.Conflict, "passkey-missing", "You have no passkey here.").WithMend("Show another factor.")
	}
	options, session, err := s.web.BeginLogin(h, webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return PasskeyChallenge{}, err
	}
	state.Session = *session
	return s.challenge(ctx, tx, kind, &person, state, options)
}

// SignInPasskey finishes what BeginPasskey began with the browser's answer.
func (s *People) SignInPasskey(ctx context.Context, c Client, ceremony string, answer []byte) (in SignedIn, err error) {
	if s.web == nil {
		return in, errNoPasskeys
	}
	if err := s.limit(ctx, c); err != nil {
		return in, err
	}
	kind, method := kindPasskeyFactor, string(FactorPassword)+"+"+string(FactorPasskey)
	shown, err := s.answer(ctx, kind, ceremony, answer)
	if err == errCeremony {
		kind, method = kindPasskeySignIn, string(FactorPasskey)
		shown, err = s.answer(ctx, kind, ceremony, answer)
	}
	if err != nil {
		return in, s.passkeyFailed(ctx, shown, err)
	}
	in, err = s.complete(ctx, c, shown.state.Account, shown.person, method, true, func(tx pgx.Tx) error {
		if shown.state.Parent != "" {
			if _, err := s.resume(ctx, tx, takeCeremony, kindSignIn, shown.state.Parent, &signInState{}); err != nil {
				return err
			}
		}
		return takeCount(ctx, tx, shown)
	})
	if err == errCloned {
		return in, s.cloned(ctx, shown)
	}
	return in, err
}

// shown is a passkey whose signature was right.
type shown struct {
	person     uuid.UUID
	state      passkeyState
	credential *webauthn.Credential
}

// answer ends a ceremony and verifies the browser's answer to it. The
// challenge is used up, whatever the answer is.
func (s *People) answer(ctx context.Context, kind, ceremony string, answer []byte) (out shown, err error) {
	var person *uuid.UUID
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		person, err = s.resume(ctx, tx, takeCeremony, kind, ceremony, &out.state)
		return err
	})
	if err != nil {
		return out, err
	}
	if person != nil {
		out.person = *person
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return out, refusedPasskey(err)
	}
	err = s.DB.Read(ctx, func(tx pgx.Tx) error {
		find := func(_, handle []byte) (webauthn.User, error) {
			id, err := uuid.FromBytes(handle)
			if err != nil {
				return nil, err
			}
			out.person = id
			return s.holder(ctx, tx, id)
		}
		if person == nil {
			_, out.credential, err = s.web.ValidatePasskeyLogin(find, out.state.Session, parsed)
			return err
		}
		user, err := find(nil, person[:])
		if err != nil {
			return err
		}
		out.credential, err = s.web.ValidateLogin(user, out.state.Session, parsed)
		return err
	})
	if err != nil {
		return out, refusedPasskey(err)
	}
	return out, nil
}

// refusedPasskey keeps the library's words for the log; people learn no more
// than that it was refused. A database that is away is not a wrong passkey.
func refusedPasskey(err error) error {
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	return &problem.Error{Kind: errPasskey.Kind, Code: errPasskey.Code, Detail: errPasskey.Detail, Mend: errPasskey.Mend, Err: err}
}

// takeCount takes the authenticator's counter inside the transaction of the act.
func takeCount(ctx context.Context, tx pgx.Tx, k shown) error {
	if k.credential.Authenticator.CloneWarning {
		return errCloned
	}
	grew, err := usePasskey(ctx, tx, k.credential.ID, k.person, k.credential.Authenticator.SignCount)
	if err == nil && !grew {
		return errCloned
	}
	return err
}

// cloned refuses a passkey from now on.
func (s *People) cloned(ctx context.Context, k shown) error {
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		s.withdrawn(ctx, k.person)
		if marked, err := markCloned(ctx, tx, k.credential.ID); err != nil || !marked {
			return err
		}
		return audit.Append(ctx, tx, nobody, uuid.Nil, "passkey.cloned", k.person.String(), map[string]any{"passkey": base64.RawURLEncoding.EncodeToString(k.credential.ID)})
	})
	if err != nil {
		return err
	}
	return s.passkeyFailed(ctx, k, errCloned)
}

func (s *People) passkeyFailed(ctx context.Context, k shown, why error) error {
	if kind := problem.From(why).Kind; kind != problem.Unauthenticated {
		return why
	}
	actor, target := nobody, ""
	if k.person != uuid.Nil && k.credential != nil { // otherwise the person is only a claim
		actor, target = asPerson(k.person), k.person.String()
	}
	err := audit.Deny(ctx, s.DB, actor, uuid.Nil, "person.signin", target, map[string]any{"factor": FactorPasskey, "reason": problem.From(why).Code})
	return orElse(err, why)
}

// BeginStepUpPasskey asks for one of the caller's passkeys.
func (s *People) BeginStepUpPasskey(ctx context.Context, p principal.Principal) (out PasskeyChallenge, err error) {
	if s.web == nil {
		return out, errNoPasskeys
	}
	person, err := s.own(ctx, p, "account.change")
	if err != nil {
		return out, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		out, err = s.challengeHolder(ctx, tx, kindPasskeyStepUp, person, passkeyState{InPage: p.Session})
		return err
	})
	return out, err
}

// StepUpPasskey finishes what BeginStepUpPasskey began. The session gets a new
// token.
func (s *People) StepUpPasskey(ctx context.Context, p principal.Principal, c Client, ceremony string, answer []byte) (SignedIn, error) {
	if s.web == nil {
		return SignedIn{}, errNoPasskeys
	}
	if err := s.limit(ctx, c); err != nil {
		return SignedIn{}, err
	}
	person, err := s.own(ctx, p, "account.change")
	if err != nil {
		return SignedIn{}, err
	}
	k, err := s.answer(ctx, kindPasskeyStepUp, ceremony, answer)
	if err == nil && (k.person != person || k.state.InPage != p.Session) {
		err = errCeremony
	}
	if err != nil {
		return SignedIn{}, s.passkeyFailed(ctx, k, err)
	}
	in, err := s.stepUp(ctx, p, FactorPasskey, func(tx pgx.Tx) error { return takeCount(ctx, tx, k) })
	if err == errCloned {
		return in, s.cloned(ctx, k)
	}
	return in, err
}

// Passkeys lists the caller's own.
func (s *People) Passkeys(ctx context.Context, p principal.Principal) ([]Passkey, error) {
	person, err := s.own(ctx, p, "passkey.list")
	if err != nil {
		return nil, err
	}
	var stored []storedPasskey
	if err := s.DB.Read(ctx, func(tx pgx.Tx) (err error) { stored, err = passkeysOf(ctx, tx, person); return err }); err != nil {
		return nil, err
	}
	out := []Passkey{}
	for _, k := range stored {
		c, err := s.openPasskey(ctx, k)
		if err != nil {
			return nil, err
		}
		name, err := s.openText(ctx, "passkeys", "name_sealed", passkeyRow(k.id, person), k.name)
		if err != nil {
			return nil, err
		}
		out = append(out, Passkey{ID: base64.RawURLEncoding.EncodeToString(k.id), Name: name, Synced: c.Flags.BackupEligible, CreatedAt: k.made, LastUsedAt: k.used, Cloned: k.cloned != nil})
	}
	return out, nil
}
