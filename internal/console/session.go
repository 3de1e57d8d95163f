package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/outage"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	linkLife     = 5 * time.Minute
	sessionLife  = 8 * time.Hour
	sessionIdle  = time.Hour
	maxLinks     = 100
	maxSessions  = 1000
	cookieName   = "__Host-foundry" // RFC 6265bis: Secure, Path=/, no Domain
	themeCookie  = "__Host-foundry-theme"
	selectorSize = 10
	secretSize   = 52 // base32: 260 random bits
)

// Links are the one-time sign-in links that have not been used: only hashes,
// and only in memory.
type Links struct {
	clock func() time.Time
	mu    sync.Mutex
	open  map[[sha256.Size]byte]link
}

type link struct {
	by    principal.Principal
	until time.Time
}

// NewLinks makes an empty set of links.
func NewLinks(clock func() time.Time) *Links {
	return &Links{clock: clock, open: map[[sha256.Size]byte]link{}}
}

// Make makes a token of 260 random bits that signs in once, within five
// minutes.
func (l *Links) Make(by principal.Principal) (token string, until time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	for h, k := range l.open {
		if !now.Before(k.until) {
			delete(l.open, h)
		}
	}
	if len(l.open) >= maxLinks {
		return "", time.Time{}, problem.New(problem.Overloaded, "too-many-links", "There are too many unused sign-in links.").
			WithMend("Use one of them, or wait until they expire.").WithRetry(linkLife)
	}
	token, until = secret(), now.Add(linkLife)
	l.open[sha256.Sum256([]byte(token))] = link{by, until}
	return token, until, nil
}

// Known reports whether a token would sign in. It does not use it up.
func (l *Links) Known(token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.open[sha256.Sum256([]byte(token))]
	return ok && l.clock().Before(k.until)
}

// Take uses a token up and returns who made it.
func (l *Links) Take(token string) (principal.Principal, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := sha256.Sum256([]byte(token))
	k, ok := l.open[h]
	delete(l.open, h)
	return k.by, ok && l.clock().Before(k.until)
}

// secret returns lower-case base32 of 260 random bits.
func secret() string { return strings.ToLower(rand.Text() + rand.Text())[:secretSize] }

// session is a signed-in browser: of a person, whose session package access
// keeps, or of a one-time link. The latter live in memory only: a restart ends
// them, and they need no database.
type session struct {
	id      string // the selector: stands in the audit log
	hash    [sha256.Size]byte
	created time.Time
	seen    time.Time // guarded by sessions.mu
	by      principal.Principal
	until   time.Time // of a person's session

	mu   sync.Mutex
	keys map[uuid.UUID]playgroundKey
}

// playgroundKey is the key that this session's playground uses for an
// organisation. Its token never leaves this process.
type playgroundKey struct {
	id    string
	token string
	until time.Time
}

func (s *session) principal() principal.Principal {
	return principal.Principal{Kind: principal.Session, ID: s.id}
}

// ends is when the person has to sign in again at the latest.
func (s *session) ends() time.Time {
	if !s.until.IsZero() {
		return s.until
	}
	return s.created.Add(sessionLife)
}

type sessions struct {
	clock func() time.Time
	mu    sync.Mutex
	open  map[string]*session // by selector

	people map[string]*session // of people, with what only this process knows about them
}

// person returns what this process knows about a person's session.
func (s *sessions) person(p principal.Principal, signed *access.Session) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.people[signed.ID]; known != nil {
		return known
	}
	now := s.clock()
	for id, old := range s.people {
		if !now.Before(old.until) {
			delete(s.people, id)
		}
	}
	n := &session{id: signed.ID, created: signed.CreatedAt, until: signed.ExpiresAt, by: p, keys: map[uuid.UUID]playgroundKey{}}
	s.people[signed.ID] = n
	return n
}

func newSessions(clock func() time.Time) *sessions {
	return &sessions{clock: clock, open: map[string]*session{}, people: map[string]*session{}}
}

// start opens a session and returns its cookie's value: selector ‖ secret.
func (s *sessions) start(by principal.Principal) (*session, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for id, old := range s.open {
		if old.over(now) {
			delete(s.open, id)
		}
	}
	if len(s.open) >= maxSessions {
		return nil, "", problem.New(problem.Overloaded, "too-many-sessions", "Too many people are signed in.").WithMend("Sign out of other sessions.")
	}
	id, key := secret()[:selectorSize], secret()
	n := &session{id: id, hash: sha256.Sum256([]byte(key)), created: now, seen: now, by: by, keys: map[uuid.UUID]playgroundKey{}}
	s.open[id] = n
	return n, id + key, nil
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.created) >= sessionLife || now.Sub(s.seen) >= sessionIdle
}

// find returns the session of a request, nil if there is none. With touch the
// person counts as being there.
func (s *sessions) find(r *http.Request, touch bool) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil || len(cookie.Value) != selectorSize+secretSize {
		return nil
	}
	sum := sha256.Sum256([]byte(cookie.Value[selectorSize:]))
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.open[cookie.Value[:selectorSize]]
	if found == nil || subtle.ConstantTimeCompare(found.hash[:], sum[:]) != 1 {
		return nil
	}
	now := s.clock()
	if found.over(now) {
		delete(s.open, found.id)
		return nil
	}
	if touch {
		found.seen = now
	}
	return found
}

// alive reports whether a session has not ended meanwhile.
func (s *sessions) alive(one *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[one.id] == one && !one.over(s.clock())
}

func (s *sessions) end(one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, one.id)
	delete(s.people, one.id)
}

// tokenPrefix begins the cookie of a person's session: package access made it.
const tokenPrefix = "fds_"

// identify finds out who is there. A session that is over is no error. With
// touch the person counts as being there.
func (c *Console) identify(v *visit, touch bool) error {
	if one := c.sessions.find(v.r, touch); one != nil {
		v.session, v.as = one, one.principal()
		return nil
	}
	at, err := v.r.Cookie(cookieName)
	if err != nil || c.Sessions == nil || !strings.HasPrefix(at.Value, tokenPrefix) && !outage.OursToken(at.Value) {
		return nil
	}
	check := c.Sessions.CheckEnrolment
	if !touch {
		check = c.Sessions.Peek
	}
	if outage.OursToken(at.Value) {
		check = func(ctx context.Context, _ time.Time, token string) (principal.Principal, *access.Session, error) {
			return c.Door.Check(ctx, token)
		}
	}
	p, signed, err := check(v.r.Context(), v.now, at.Value)
	switch {
	case err != nil && c.Door.Away() && !outage.OursToken(at.Value) && away(err):
		return nil // it cannot be checked; operators can sign in without the database
	case err == nil:
		v.session, v.as, v.signed = c.sessions.person(p, signed), p, signed
		return nil
	case problem.From(err).Kind == problem.Unauthenticated:
		return nil
	}
	return err
}

// alive reports whether the visitor's session has not ended meanwhile.
func (c *Console) alive(v *visit) bool {
	if v.signed == nil {
		return c.sessions.alive(v.session)
	}
	again := &visit{c: c, r: v.r, now: c.Clock().UTC()}
	return c.identify(again, false) == nil && again.session != nil
}

// enter gives the browser a person's session, in place of any other.
func (v *visit) enter(s access.SignedIn) {
	http.SetCookie(v.w, cookie(cookieName, s.Token, s.Session.ExpiresAt.Sub(v.c.Clock())))
}

func cookie(name, value string, age time.Duration) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(age.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}
