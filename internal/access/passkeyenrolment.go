package access

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

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
		s.withdrawn(ctx, person)
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
