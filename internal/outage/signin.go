package outage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/credential"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// ceremony is a sign-in between two steps. Nothing of it is stored: the handle
// is the ceremony, sealed. So a stranger who begins thousands leaves nothing
// behind, and any gateway can go on with one that another began.
type ceremony struct {
	ID      string               `json:"id"`
	Kind    string               `json:"kind"`
	Outage  string               `json:"outage"` // it is over with the outage
	Expires time.Time            `json:"expires"`
	Person  uuid.UUID            `json:"person,omitzero"`
	Account []byte               `json:"account,omitempty"`
	Web     webauthn.SessionData `json:"web,omitzero"`
	Parent  string               `json:"parent,omitempty"` // the ceremony after the password that this one finishes
	Session string               `json:"session,omitempty"`
}

// Kinds of ceremonies. One begun for one kind ends no other.
const (
	afterPassword = "password"
	withPasskey   = "passkey"
)

// handlePrefix tells these from the handles of ceremonies in the database.
const handlePrefix = "fdo."

// Ours reports whether a handle is of a sign-in without the database.
func Ours(handle string) bool { return strings.HasPrefix(handle, handlePrefix) }

func (d *Door) handle(c ceremony) (string, time.Time, error) {
	c.ID, c.Expires = rand.Text(), d.Clock().UTC().Add(ceremonyLife)
	body, err := json.Marshal(c)
	if err == nil {
		body, err = d.Seal(body, associated("ceremony "+c.Kind))
	}
	if err != nil {
		return "", c.Expires, fmt.Errorf("sealing a sign-in: %w", err)
	}
	return handlePrefix + base64.RawURLEncoding.EncodeToString(body), c.Expires, nil
}

// resume opens a handle of a kind.
func (d *Door) resume(o Outage, kind, handle string) (c ceremony, err error) {
	text, ours := strings.CutPrefix(handle, handlePrefix)
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && ours {
		body, err = d.Open(body, associated("ceremony "+kind))
	}
	if err != nil || !ours || json.Unmarshal(body, &c) != nil || c.Outage != o.ID || !d.Clock().Before(c.Expires) {
		return ceremony{}, access.ErrCeremony
	}
	return c, nil
}

// finish uses a ceremony up, on all nodes.
func (d *Door) finish(ctx context.Context, c ceremony) error {
	err := d.put(ctx, pathUsed+c.ID, bar{d.Clock().UTC(), d.Node}, member.IfAbsent(pathUsed+c.ID))
	if errors.Is(err, member.ErrChanged) {
		return access.ErrCeremony
	}
	return err
}

var errNoFactor = problem.New(problem.Denied, "signin-away-factor", "While the database is down nobody signs in without a second factor that is enrolled here.").
	WithMend("Use an account with a passkey or an authenticator app. On the node, `foundry breakglass open` lets you act.")

// SignInPassword checks an address and a password. As with the database, an
// unknown address, a locked account and a wrong password cost the same work,
// and the first and the last give the same answer. People of client
// organisations are unknown here.
func (d *Door) SignInPassword(ctx context.Context, c access.Client, email, password string) (access.Progress, error) {
	o, err := d.open(ctx)
	if err != nil {
		return access.Progress{}, err
	}
	if err := d.Limit(c.Address); err != nil {
		return access.Progress{}, err
	}
	m, err := d.mirrored(ctx)
	if err != nil {
		return access.Progress{}, err
	}
	account := d.Account(email)
	who, err := d.find(ctx, m, func(p *access.Material) bool { return bytes.Equal(p.Account, account) })
	if err != nil {
		return access.Progress{}, err
	}
	a, err := d.begin(ctx, account, who)
	if err != nil {
		return access.Progress{}, err
	}
	stored := ""
	if who != nil {
		stored = who.Password
	}
	right, err := d.Verify(ctx, stored, password)
	switch {
	case err != nil:
		return access.Progress{}, err
	case a.refused > 0:
		return access.Progress{}, d.failed(ctx, a, access.FactorPassword, access.ErrLocked(a.refused))
	case !right || who == nil:
		return access.Progress{}, d.failed(ctx, a, access.FactorPassword, access.ErrSignIn)
	}
	if err := a.undo(ctx); err != nil {
		return access.Progress{}, err
	}
	var p access.Progress
	if len(who.Passkeys) > 0 && d.Web != nil {
		p.Factors = append(p.Factors, access.FactorPasskey)
	}
	if who.TOTP != "" {
		p.Factors = append(p.Factors, access.FactorTOTP)
	}
	if len(p.Factors) == 0 {
		a.lock = 0
		return access.Progress{}, d.failed(ctx, a, access.FactorPassword, errNoFactor)
	}
	p.Ceremony, p.Expires, err = d.handle(ceremony{Kind: afterPassword, Outage: o.ID, Person: who.Person, Account: account})
	return p, err
}

// SignInRecovery refuses: a recovery code is spent in the database, and one that
// was shown without it could be shown again.
func (d *Door) SignInRecovery(context.Context, access.Client, string, string) (access.SignedIn, error) {
	return access.SignedIn{}, problem.New(problem.Denied, "recovery-code-away", "Recovery codes are not accepted while the database is down: each works once, and that is known there.").WithField("code").
		WithMend("Use your passkey or authenticator app.")
}

// SignInTOTP shows the code of an authenticator app after the password.
func (d *Door) SignInTOTP(ctx context.Context, c access.Client, handle, code string) (access.SignedIn, error) {
	o, err := d.open(ctx)
	if err != nil {
		return access.SignedIn{}, err
	}
	if err := d.Limit(c.Address); err != nil {
		return access.SignedIn{}, err
	}
	at, err := d.resume(o, afterPassword, handle)
	if err != nil {
		return access.SignedIn{}, err
	}
	who, err := d.person(ctx, at.Person)
	if err != nil {
		return access.SignedIn{}, err
	}
	if who == nil {
		return access.SignedIn{}, access.ErrCeremony
	}
	a, err := d.totp(ctx, o, who, code)
	if err != nil {
		return access.SignedIn{}, err
	}
	if err := d.finish(ctx, at); err != nil {
		return access.SignedIn{}, err
	}
	return d.complete(ctx, o, c, a, who, string(access.FactorPassword)+"+"+string(access.FactorTOTP))
}

// totp takes a code for good. A code from before the door opened is none: it
// may have been used with the database, which cannot say so now.
func (d *Door) totp(ctx context.Context, o Outage, who *access.Material, code string) (attempt, error) {
	a, err := d.begin(ctx, who.Account, who)
	if err != nil {
		return a, err
	}
	if a.refused > 0 {
		return a, d.failed(ctx, a, access.FactorTOTP, access.ErrLocked(a.refused))
	}
	step, right := credential.CheckTOTP(who.TOTP, code, d.Clock(), credential.StepAt(o.Since)-1)
	if right {
		right, err = d.takeStep(ctx, who.Person, step)
	}
	if err != nil {
		return a, err
	}
	if !right {
		return a, d.failed(ctx, a, access.FactorTOTP, access.ErrCode)
	}
	return a, nil
}

// complete opens the session of somebody who has shown two factors. That they
// did stands in the fleet's list before it opens.
func (d *Door) complete(ctx context.Context, o Outage, c access.Client, a attempt, who *access.Material, method string) (access.SignedIn, error) {
	s, token := d.mint(o, who, c, method)
	err := d.Enter(ctx, member.Act{By: "person:" + who.Person.String(), Act: "person.signin", Target: who.Person.String(),
		Details: map[string]string{"session": s.ID, "method": method, "device": s.Device, "database": "away", "outage": o.ID}})
	if err != nil {
		return access.SignedIn{}, err
	}
	if err := d.put(ctx, pathSessions+s.ID, s, member.IfAbsent(pathSessions+s.ID)); err != nil {
		return access.SignedIn{}, err
	}
	d.Log.Warn("somebody signed in without the database", "person", who.Person, "session", s.ID)
	return s.signedIn(token), a.clear(ctx)
}
