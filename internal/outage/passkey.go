package outage

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

// holder is somebody of the mirror as the WebAuthn library wants one.
type holder struct{ *access.Material }

func (h holder) WebAuthnID() []byte                         { return h.Person[:] }
func (h holder) WebAuthnName() string                       { return h.Name }
func (h holder) WebAuthnDisplayName() string                { return h.Name }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.Passkeys }

var errNoPasskeys = problem.New(problem.Unsupported, "passkeys-not-offered", "Passkeys need a console with a host name, not a bare address.").WithMend("Use your password and authenticator app.")

// BeginPasskey starts a sign-in with a passkey: alone where handle is empty, or
// else as the second factor after the password.
func (d *Door) BeginPasskey(ctx context.Context, c access.Client, handle string) (out access.PasskeyChallenge, err error) {
	if d.Web == nil {
		return out, errNoPasskeys
	}
	o, err := d.open(ctx)
	if err != nil {
		return out, err
	}
	if err := d.Limit(c.Address); err != nil {
		return out, err
	}
	at := ceremony{Kind: withPasskey, Outage: o.ID}
	var options *protocol.CredentialAssertion
	var web *webauthn.SessionData
	if handle == "" {
		options, web, err = d.Web.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	} else {
		var before ceremony
		if before, err = d.resume(o, afterPassword, handle); err != nil {
			return out, err
		}
		at.Person, at.Account, at.Parent = before.Person, before.Account, before.ID
		who, err := d.person(ctx, before.Person)
		if err != nil {
			return out, err
		}
		if who == nil {
			return out, access.ErrCeremony
		}
		options, web, err = d.Web.BeginLogin(holder{who}, webauthn.WithUserVerification(protocol.VerificationRequired))
		if err != nil {
			return out, err
		}
	}
	if err != nil {
		return out, err
	}
	at.Web = *web
	if out.Options, err = json.Marshal(options); err != nil {
		return out, err
	}
	out.Ceremony, out.Expires, err = d.handle(at)
	return out, err
}

// SignInPasskey finishes what BeginPasskey began with the browser's answer. The
// challenge is used up, whatever comes of it.
func (d *Door) SignInPasskey(ctx context.Context, c access.Client, handle string, answer []byte) (in access.SignedIn, err error) {
	if d.Web == nil {
		return in, errNoPasskeys
	}
	o, err := d.open(ctx)
	if err != nil {
		return in, err
	}
	if err := d.Limit(c.Address); err != nil {
		return in, err
	}
	at, err := d.resume(o, withPasskey, handle)
	if err != nil {
		return in, err
	}
	m, err := d.mirrored(ctx)
	if err != nil {
		return in, err
	}
	who, shown, err := d.asserted(ctx, m, at, answer)
	if err != nil {
		return in, d.refusedPasskey(ctx, who, err)
	}
	if err := d.finish(ctx, at); err != nil {
		return in, err
	}
	method := string(access.FactorPasskey)
	if at.Parent != "" {
		if err := d.finish(ctx, ceremony{ID: at.Parent}); err != nil {
			return in, err
		}
		method = string(access.FactorPassword) + "+" + method
	}
	before := uint32(0)
	for i := range who.Passkeys {
		if bytes.Equal(who.Passkeys[i].ID, shown.ID) {
			before = who.Passkeys[i].Authenticator.SignCount
		}
	}
	grew, err := d.takeCount(ctx, who.Person, shown.ID, shown.Authenticator.SignCount, before)
	if err != nil {
		return in, err
	}
	if shown.Authenticator.CloneWarning || !grew {
		return in, d.refusedPasskey(ctx, who, access.ErrCloned)
	}
	// A passkey opens a locked account all the same: it cannot be guessed. Alone
	// it leaves the tries of others counted.
	var a attempt
	if at.Parent != "" {
		a = attempt{d: d, path: failuresOf(who.Account)}
	}
	return d.complete(ctx, o, c, a, who, method)
}

// asserted verifies the browser's answer. Who is only a claim where err is set.
func (d *Door) asserted(ctx context.Context, m mirror, at ceremony, answer []byte) (who *access.Material, shown *webauthn.Credential, err error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return nil, nil, wrapped(access.ErrPasskey, err)
	}
	find := func(_, raw []byte) (webauthn.User, error) {
		id, err := uuid.FromBytes(raw)
		if err != nil {
			return nil, err
		}
		if who, err = d.find(ctx, m, func(p *access.Material) bool { return p.Person == id }); err != nil {
			return nil, err
		}
		if who == nil {
			return nil, access.ErrPasskey
		}
		return holder{who}, nil
	}
	if at.Person == uuid.Nil {
		_, shown, err = d.Web.ValidatePasskeyLogin(find, at.Web, parsed)
	} else {
		var user webauthn.User
		if user, err = find(nil, at.Person[:]); err == nil {
			shown, err = d.Web.ValidateLogin(user, at.Web, parsed)
		}
	}
	if err != nil {
		return nil, nil, wrapped(access.ErrPasskey, err)
	}
	return who, shown, nil
}

// wrapped keeps the library's words for the log; people learn no more than that
// it was refused.
func wrapped(shown, err error) error {
	if p := problem.From(err); p.Kind == problem.Unavailable {
		return err
	}
	e := *problem.From(shown)
	e.Err = err
	return &e
}

func (d *Door) refusedPasskey(ctx context.Context, who *access.Material, why error) error {
	if problem.From(why).Kind != problem.Unauthenticated {
		return why
	}
	r := refusal{by: nobody, factor: string(access.FactorPasskey), reason: problem.From(why).Code}
	if who != nil {
		r.by, r.target = "person:"+who.Person.String(), who.Person.String()
	}
	d.refuse(ctx, r)
	return why
}
