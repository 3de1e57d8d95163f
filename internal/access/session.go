package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
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

// opening is what a session is opened with, or given anew.
type opening struct {
	token, selector, hash string
}

func (s *People) mintSession() (opening, error) {
	token, selector, secret := s.Sessions.tags.mintAs(sessionPrefix)
	hash, err := s.hasher.HashSecret(secret)
	if err != nil {
		return opening{}, fmt.Errorf("a session: %w", err)
	}
	return opening{token, selector, hash}, nil
}

// mintFor makes a new secret for a session that keeps its selector.
func (s *People) mintFor(selector string) (opening, error) {
	_, _, secret := s.Sessions.tags.mintAs(sessionPrefix)
	body := selector + secret
	hash, err := s.hasher.HashSecret(secret)
	if err != nil {
		return opening{}, fmt.Errorf("a session: %w", err)
	}
	return opening{sessionPrefix + body + s.Sessions.tags.tag(body), selector, hash}, nil
}

// open begins a session inside the transaction that completes a sign-in. Where
// it acts: on the platform if the person belongs to it, or else in the first
// of their organisations.
func (s *People) open(ctx context.Context, tx pgx.Tx, person uuid.UUID, memberships []Membership, c Client, method string, second bool) (SignedIn, error) {
	if len(memberships) == 0 {
		return SignedIn{}, errNowhere
	}
	o, err := s.mintSession()
	if err != nil {
		return SignedIn{}, err
	}
	place, err := s.sealText(ctx, "sessions", "place_sealed", o.selector, coarsePlace(c.Address))
	if err != nil {
		return SignedIn{}, err
	}
	if err := endOldest(ctx, tx, person, s.Limits.SessionsPerPerson-1); err != nil {
		return SignedIn{}, err
	}
	session, err := insertSession(ctx, tx, sessionRow{id: o.selector, hash: o.hash, method: method, device: coarseDevice(c.Agent), person: person,
		actingIn: memberships[0].Organisation, second: second, place: place, idle: s.Limits.Idle, absolute: s.Limits.Absolute})
	if err != nil {
		return SignedIn{}, fmt.Errorf("opening a session: %w", err)
	}
	if _, err := tx.Exec(ctx, `UPDATE people SET last_signin_at = now() WHERE id = $1`, person); err != nil {
		return SignedIn{}, err
	}
	in := signedIn(o, session, memberships)
	err = record(ctx, tx, in.Principal, session.Organisation, "person.signin", person.String(),
		map[string]any{"session": session.ID, "method": method, "device": session.Device, "enrolment": in.Session.Enrolment})
	if err != nil {
		return SignedIn{}, err
	}
	if err := s.tellSignedIn(ctx, tx, session, c); err != nil {
		return SignedIn{}, err
	}
	return in, db.Touch(ctx, tx)
}

var errNowhere = problem.New(problem.Denied, "membership-missing", "You belong to no organisation any more.").WithMend("Ask your administrator for an invitation.")

// signedIn is the answer for a session that was just opened or changed.
func signedIn(o opening, session Session, memberships []Membership) SignedIn {
	in := SignedIn{Token: o.token, Session: session, Memberships: memberships,
		Principal: principal.Principal{Kind: principal.Person, ID: session.Person.String(), Session: session.ID, Organisation: session.Organisation}}
	var all principal.Roles
	for _, m := range memberships {
		all |= m.Roles
		if m.Organisation == session.Organisation {
			in.Principal.Roles = m.Roles
		}
	}
	if session.SecondFactor != nil {
		in.Principal.SecondFactor = *session.SecondFactor
	} else if all.Administrative() {
		in.Session.Enrolment, in.Principal.Roles = true, 0
	}
	return in
}

// settle puts a committed change of sessions in force on this node at once;
// others hear of it within a heartbeat. If it cannot, the change is still
// made, and the token, which is shown only once, must not be lost for it.
func (s *People) settle(ctx context.Context, token string) {
	if err := s.Sessions.Refresh(ctx); err != nil {
		s.Sessions.log.Warn("a change of sessions is not in force here yet", "error", err)
		return
	}
	if token != "" {
		s.Sessions.remember(token)
	}
}

// rotate gives a person's own session a new secret together with a change of
// what it may do, so that a token that leaked before is worth nothing after
// (OWASP ASVS 7.2.4). also runs in the same transaction.
func (s *People) rotate(ctx context.Context, tx pgx.Tx, p principal.Principal, r rotation) (SignedIn, error) {
	o, err := s.mintFor(p.Session)
	if err != nil {
		return SignedIn{}, err
	}
	r.id, r.hash = p.Session, o.hash
	session, err := rotateSession(ctx, tx, r)
	if errors.Is(err, errSessionGone) || err == nil && session.Person.String() != p.ID {
		return SignedIn{}, errSession
	}
	if err != nil {
		return SignedIn{}, err
	}
	_, memberships, err := s.person(ctx, session.Person)
	if err != nil {
		return SignedIn{}, err
	}
	return signedIn(o, session, memberships), db.Touch(ctx, tx)
}

// Enter continues the session in another organisation of the person's.
func (s *People) Enter(ctx context.Context, p principal.Principal, org uuid.UUID) (in SignedIn, err error) {
	id, err := s.own(ctx, p, "account.change")
	if err != nil {
		return in, err
	}
	_, memberships, err := s.person(ctx, id)
	if err != nil {
		return in, err
	}
	member := false
	for _, m := range memberships {
		member = member || m.Organisation == org
	}
	if !member {
		return in, problem.New(problem.NotFound, "membership-missing", "You do not belong to this organisation.").WithField("organisation")
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if in, err = s.rotate(ctx, tx, p, rotation{actingIn: &org}); err != nil {
			return err
		}
		return record(ctx, tx, in.Principal, org, "session.enter", p.Session, nil)
	})
	if err != nil {
		return SignedIn{}, err
	}
	s.settle(ctx, in.Token)
	return in, nil
}

// SignOut ends the caller's session.
func (s *People) SignOut(ctx context.Context, p principal.Principal) error {
	if _, err := s.own(ctx, p, "session.end"); err != nil {
		return err
	}
	return s.end(ctx, p, p.Organisation, p.Session, "signed-out", "session.end")
}

func (s *People) end(ctx context.Context, p principal.Principal, org uuid.UUID, id, reason, act string) error {
	err := s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		ended, err := endSession(ctx, tx, id, reason)
		if err != nil || !ended {
			return err
		}
		if err := record(ctx, tx, p, org, act, id, map[string]any{"reason": reason}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if err == nil {
		s.settle(ctx, "")
	}
	return err
}

// MySessions lists the caller's own live sessions, the last used first.
func (s *People) MySessions(ctx context.Context, p principal.Principal) ([]Session, error) {
	id, err := s.own(ctx, p, "session.list")
	if err != nil {
		return nil, err
	}
	return s.sessionsOf(ctx, p, id)
}

// ListSessions lists a person's live sessions, for who administers them. An
// organisation sees those that act in it: where else its member is signed in
// is none of its business.
func (s *People) ListSessions(ctx context.Context, p principal.Principal, person uuid.UUID) ([]Session, error) {
	_, memberships, err := s.person(ctx, person)
	if err != nil {
		return nil, s.unknown(ctx, p, "session.list", person.String(), err)
	}
	org := homeFor(p, memberships)
	if err := s.Guard.Authorise(ctx, p, "session.list", policy.Resource{ID: person.String(), Organisation: org, Owner: person.String()}); err != nil {
		return nil, err
	}
	all, err := s.sessionsOf(ctx, p, person)
	if org == uuid.Nil || p.ID == person.String() {
		return all, err
	}
	return slices.DeleteFunc(all, func(one Session) bool { return one.Organisation != org }), err
}

func (s *People) sessionsOf(ctx context.Context, p principal.Principal, person uuid.UUID) ([]Session, error) {
	var stored []storedSession
	err := s.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		stored, err = listSessions(ctx, tx, person)
		return err
	})
	out := make([]Session, 0, len(stored))
	for _, row := range stored {
		if row.Place, err = s.openText(ctx, "sessions", "place_sealed", row.ID, row.place); err != nil {
			return nil, err
		}
		row.Current = row.ID == p.Session
		out = append(out, row.Session)
	}
	return out, err
}

// RevokeSession ends a session: one's own, or, for who administers its person,
// another's. On this node at once, on others within a second.
func (s *People) RevokeSession(ctx context.Context, p principal.Principal, id string) error {
	var person, actingIn uuid.UUID
	err := s.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		person, actingIn, err = sessionOwner(ctx, tx, id)
		return err
	})
	if gone(err) {
		return s.unknown(ctx, p, "session.revoke", id,
			problem.New(problem.NotFound, "session-unknown", "There is no such session.").WithField("id").WithMend("`foundry session list` shows the sessions."))
	}
	if err != nil {
		return err
	}
	if p.Kind == principal.Person && p.ID == person.String() {
		if _, err := s.own(ctx, p, "session.end"); err != nil {
			return err
		}
		return s.end(ctx, p, actingIn, id, "revoked", "session.end")
	}
	org := uuid.Nil
	if actingIn == p.Organisation {
		org = actingIn
	}
	if err := s.Guard.Authorise(ctx, p, "session.revoke", policy.Resource{ID: id, Organisation: org, Owner: person.String()}); err != nil {
		return err
	}
	return s.end(ctx, p, org, id, "revoked", "session.revoke")
}

// RevokeSessions ends all sessions of a person, or, for an organisation, those
// that act in it, and returns how many there were. One's own session that asks
// for it stays.
func (s *People) RevokeSessions(ctx context.Context, p principal.Principal, person uuid.UUID) (n int, err error) {
	_, memberships, err := s.person(ctx, person)
	if err != nil {
		return 0, s.unknown(ctx, p, "session.revoke", person.String(), err)
	}
	act, org := "session.revoke", homeFor(p, memberships)
	only := org
	if p.Kind == principal.Person && p.ID == person.String() {
		act, org, only = "session.end", p.Organisation, uuid.Nil
	}
	if err := s.Guard.Authorise(ctx, p, policy.Action(act), policy.Resource{ID: person.String(), Organisation: org, Owner: person.String()}); err != nil {
		return 0, err
	}
	err = s.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		ended, err := endSessionsIn(ctx, tx, person, "revoked", p.Session, only)
		if n = len(ended); err != nil || n == 0 {
			return err
		}
		if err := record(ctx, tx, p, org, act, person.String(), map[string]any{"sessions": ended, "reason": "revoked"}); err != nil {
			return err
		}
		return db.Touch(ctx, tx)
	})
	if err == nil {
		s.settle(ctx, "")
	}
	return n, err
}

// coarseDevice reads no more from a User-Agent than a person needs to
// recognise their own device.
func coarseDevice(agent string) string {
	browser, system := "Unknown", ""
	for _, b := range []struct{ mark, name string }{{"foundry/", "foundry command"}, {"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"},
		{"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}} {
		if strings.Contains(agent, b.mark) {
			browser = b.name
			break
		}
	}
	for _, o := range []struct{ mark, name string }{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"},
		{"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}, {"linux", "Linux"}} {
		if strings.Contains(agent, o.mark) {
			system = o.name
			break
		}
	}
	if system == "" {
		return browser
	}
	return browser + " on " + system
}

// coarsePlace is an address without the part that names one machine.
func coarsePlace(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return "unknown"
	case a.IsLoopback():
		return "this machine"
	}
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits)
	return p.String()
}
