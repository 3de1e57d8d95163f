package outage

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// A token is prefix ‖ selector ‖ secret ‖ tag, in lower case. The store has the
// SHA-256 of the secret, which has 160 random bits and needs no bcrypt; the tag
// lets a forgery die without a question to the fleet.
const (
	// TokenPrefix begins every token of a session that was opened without the
	// database.
	TokenPrefix    = "fdo_"
	selectorLength = 16
	secretLength   = 32
	tagLength      = 20
	tokenLength    = len(TokenPrefix) + selectorLength + secretLength + tagLength
)

// session is one that was opened without the database.
type session struct {
	ID      string          `json:"id"` // selector
	Hash    []byte          `json:"hash"`
	Outage  string          `json:"outage"`
	Person  uuid.UUID       `json:"person"`
	Roles   principal.Roles `json:"roles"`
	Method  string          `json:"method"`
	Device  string          `json:"device"`
	Node    string          `json:"node"` // where it was opened
	Created time.Time       `json:"created"`
	Expires time.Time       `json:"expires"`
	Second  time.Time       `json:"second"` // when a second factor was last shown
}

func random(length int) string {
	var out string
	for len(out) < length {
		out += strings.ToLower(rand.Text())
	}
	return out[:length]
}

func (d *Door) tag(body string) string {
	m := hmac.New(sha256.New, d.TokenKey)
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))[:tagLength]
}

// mint makes a session and its token.
func (d *Door) mint(o Outage, who *access.Material, c access.Client, method string) (s session, token string) {
	now := d.Clock().UTC()
	s = session{ID: random(selectorLength), Outage: o.ID, Person: who.Person, Roles: who.Roles, Method: method, Device: access.CoarseDevice(c.Agent),
		Node: d.Node, Created: now, Expires: now.Add(SessionLife), Second: now}
	return s, d.secret(&s)
}

// secret gives a session a new secret.
func (d *Door) secret(s *session) (token string) {
	secret := random(secretLength)
	s.Hash = sumOf([]byte(secret))
	body := s.ID + secret
	return TokenPrefix + body + d.tag(body)
}

func (s session) principal() principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: s.Person.String(), Session: s.ID, Roles: s.Roles, SecondFactor: s.Second, Away: true}
}

// shown is a session as those of the database are shown.
func (s session) shown() access.Session {
	second := s.Second
	return access.Session{ID: s.ID, Person: s.Person, Method: s.Method, SecondFactor: &second, Device: s.Device, CreatedAt: s.Created, LastSeenAt: s.Created, ExpiresAt: s.Expires, Current: true}
}

func (s session) signedIn(token string) access.SignedIn {
	var names []string
	for _, r := range s.Roles.List() {
		names = append(names, r.String())
	}
	return access.SignedIn{Token: token, Session: s.shown(), Principal: s.principal(),
		Memberships: []access.Membership{{Person: s.Person, Roles: s.Roles, RoleNames: names}}}
}

// OursToken reports whether a token is of a session without the database.
func OursToken(token string) bool { return strings.HasPrefix(token, TokenPrefix) }

// Check says who a token belongs to. Every check asks the fleet, because every
// gateway that reaches the database again ends all of these sessions there.
// Where the fleet has no majority this member's copy counts, for the rest of
// the session: nothing of consequence can be written then.
func (d *Door) Check(ctx context.Context, token string) (principal.Principal, *access.Session, error) {
	s, err := d.session(ctx, token)
	if err != nil {
		return principal.Principal{}, nil, err
	}
	shown := s.shown()
	return s.principal(), &shown, nil
}

func (d *Door) session(ctx context.Context, token string) (s session, err error) {
	if d == nil || len(token) != tokenLength || !OursToken(token) {
		return s, access.ErrSession
	}
	body, tag := token[len(TokenPrefix):tokenLength-tagLength], token[tokenLength-tagLength:]
	if subtle.ConstantTimeCompare([]byte(d.tag(body)), []byte(tag)) != 1 {
		return s, access.ErrSession
	}
	if d.Healthy() {
		return s, errBack
	}
	var o Outage
	if err := d.read(ctx, pathOutage, &o); err != nil {
		return s, orEnded(err, errBack)
	}
	if err := d.read(ctx, pathSessions+body[:selectorLength], &s); err != nil {
		return session{}, orEnded(err, access.ErrSession)
	}
	secret := sumOf([]byte(body[selectorLength:]))
	if subtle.ConstantTimeCompare(secret, s.Hash) != 1 || s.ID != body[:selectorLength] || s.Outage != o.ID || !d.Clock().Before(s.Expires) {
		return session{}, access.ErrSession
	}
	var b bar
	if err := d.read(ctx, pathBarred+s.Person.String(), &b); !errors.Is(err, member.ErrAbsent) {
		return session{}, orEnded(err, access.ErrSession)
	}
	return s, nil
}

// orEnded is what a session hears about a value that is not there.
func orEnded(err, ended error) error {
	if err == nil || errors.Is(err, member.ErrAbsent) {
		return ended
	}
	return err
}

// read reads a value as a majority has it, or without one as this member has.
func (d *Door) read(ctx context.Context, path string, into any) error {
	e, err := d.Store.Get(ctx, path)
	if err != nil && errors.Is(err, member.ErrNoMajority) {
		e, err = d.Store.GetLocal(ctx, path)
	}
	if err != nil {
		return err
	}
	return d.unboxed(e, into)
}

// SignOut ends a session.
func (d *Door) SignOut(ctx context.Context, p principal.Principal) error {
	err := d.Enter(ctx, member.Act{By: p.String(), Act: "session.end", Target: p.Session, Details: map[string]string{"reason": "signed-out", "database": "away"}})
	return errors.Join(err, d.Store.Delete(ctx, pathSessions+p.Session))
}

// Me is the person of a session. Their address is not in the mirror.
func (d *Door) Me(ctx context.Context, p principal.Principal) (access.Person, error) {
	id, err := uuid.Parse(p.ID)
	if err != nil {
		return access.Person{}, access.ErrSession
	}
	who, err := d.person(ctx, id)
	if err != nil {
		return access.Person{}, err
	}
	if who == nil {
		return access.Person{}, access.ErrSession
	}
	var names []string
	for _, r := range who.Roles.List() {
		names = append(names, r.String())
	}
	return access.Person{ID: who.Person, Name: who.Name, Status: "active",
		Factors:     access.Factors{Password: who.Password != "", TOTP: who.TOTP != "", Passkeys: len(who.Passkeys)},
		Memberships: []access.Membership{{Person: who.Person, Roles: who.Roles, RoleNames: names}}}, nil
}

// StepUpTOTP shows the second factor again in a session that is open, for acts
// that ask for a recent one. The session gets a new token, and no more time.
func (d *Door) StepUpTOTP(ctx context.Context, p principal.Principal, c access.Client, code string) (access.SignedIn, error) {
	o, err := d.open(ctx)
	if err != nil {
		return access.SignedIn{}, err
	}
	if err := d.Limit(c.Address); err != nil {
		return access.SignedIn{}, err
	}
	id, err := uuid.Parse(p.ID)
	if err != nil {
		return access.SignedIn{}, access.ErrSession
	}
	who, err := d.person(ctx, id)
	if err != nil {
		return access.SignedIn{}, err
	}
	if who == nil {
		return access.SignedIn{}, access.ErrSession
	}
	if who.TOTP == "" {
		return access.SignedIn{}, problem.New(problem.Unsupported, "step-up-away", "While the database is down only a code of an authenticator app is taken here.").WithField("code").
			WithMend("Sign out, and in again with your passkey.")
	}
	a, err := d.totp(ctx, o, who, code)
	if err != nil {
		return access.SignedIn{}, err
	}
	var s session
	token := ""
	err = update(ctx, d, pathSessions+p.Session, func(at *session) error {
		if at.ID != p.Session || at.Person != id || at.Outage != o.ID {
			return access.ErrSession
		}
		at.Second = d.Clock().UTC()
		token = d.secret(at)
		s = *at
		return nil
	})
	if err != nil {
		return access.SignedIn{}, err
	}
	err = d.Enter(ctx, member.Act{By: p.String(), Act: "session.stepup", Target: p.Session, Details: map[string]string{"factor": string(access.FactorTOTP), "database": "away"}})
	return s.signedIn(token), errors.Join(err, a.clear(ctx))
}
