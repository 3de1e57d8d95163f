package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

// Sessions knows which sessions are open: every request of the console is
// checked against an immutable picture of them, which follows the database
// within a heartbeat. Safe for concurrent use.
type Sessions struct {
	db      *db.DB
	log     *slog.Logger
	tags    *mac
	boot    *mac
	picture atomic.Pointer[sessionPicture]
	slots   chan struct{} // bounds bcrypt work to the cores there are
	waiting atomic.Int64

	refreshing sync.Mutex
	sought     atomic.Int64 // when a token last had the picture read again, in Unix nanoseconds

	seenMu sync.Mutex
	seen   map[string]int64 // sessions used since the last flush, and when, in Unix seconds of the database's clock
}

// SessionOptions is what Sessions stands on.
type SessionOptions struct {
	DB      *db.DB
	TagKey  []byte // of the tag of session tokens
	BootKey []byte // of this process's memory of verifications; random when nil
	Log     *slog.Logger
}

// sessionPicture is every live session at one moment.
type sessionPicture struct {
	began time.Time     // before it was read, by this process's monotonic clock
	skew  time.Duration // the database's clock minus this node's: expiry is judged by the former, on every node
	live  map[string]*liveSession
}

// liveSession is a session in the picture. Its pointers are shared with its
// predecessors in earlier pictures.
type liveSession struct {
	Session
	hash      string
	who       principal.Principal
	suspended string        // name of the organisation, where it is suspended
	verified  *memory       // HMAC of the token under this boot's key, once it was verified
	seen      *atomic.Int64 // Unix seconds of the database's clock
}

const (
	sessionPoll    = 500 * time.Millisecond // at which a lost notification is made up for
	sessionRefresh = 30 * time.Second       // even if nothing was heard: other nodes' last-seen times
	sessionStale   = 15 * time.Minute       // beyond which a picture is not trusted
	seenEvery      = 60                     // seconds between two writes of one session's last-seen time
	seenFlush      = 5 * time.Second
	soughtEvery    = 200 * time.Millisecond // at most so often does an unknown token have the picture read
)

// NewSessions makes it. It knows no session until it is refreshed.
func NewSessions(o SessionOptions) *Sessions {
	if o.BootKey == nil {
		o.BootKey = make([]byte, 32)
		_, _ = rand.Read(o.BootKey) // never fails (crypto/rand)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sessions{db: o.DB, log: o.Log, tags: newMAC(o.TagKey), boot: newMAC(o.BootKey),
		slots: make(chan struct{}, max(1, runtime.NumCPU()-1)), seen: map[string]int64{}}
	s.picture.Store(&sessionPicture{})
	return s
}

var (
	errSession = problem.New(problem.Unauthenticated, "session-invalid", "You are not signed in, or your session has ended.").
			WithMend("Sign in again.")
	errEnrolment = problem.New(problem.Denied, "second-factor-enrolment", "Your roles demand a second factor, and you have shown none in this session.").
			WithMend("Enrol a passkey or a code generator, or sign in with the one you have.")
)

// Check says who a session token belongs to. A session that must still enrol a
// second factor is denied with code second-factor-enrolment, and returned all
// the same, so that the edge can lead there.
func (s *Sessions) Check(ctx context.Context, now time.Time, token string) (principal.Principal, *Session, error) {
	l, err := s.check(ctx, now, token, true)
	if l == nil {
		return principal.Principal{}, nil, err
	}
	if err == nil && l.Enrolment {
		err = errEnrolment
	}
	return l.who, &l.Session, err
}

// CheckEnrolment is Check for the few pages where a second factor is enrolled:
// it lets a session through that must still do so. Its principal then has no
// roles.
func (s *Sessions) CheckEnrolment(ctx context.Context, now time.Time, token string) (principal.Principal, *Session, error) {
	l, err := s.check(ctx, now, token, true)
	if l == nil {
		return principal.Principal{}, nil, err
	}
	return l.who, &l.Session, err
}

// Peek is CheckEnrolment for what a page fetches by itself: it does not count
// as the person being there, so that an open page keeps no session alive.
func (s *Sessions) Peek(ctx context.Context, now time.Time, token string) (principal.Principal, *Session, error) {
	l, err := s.check(ctx, now, token, false)
	if l == nil {
		return principal.Principal{}, nil, err
	}
	return l.who, &l.Session, err
}

func (s *Sessions) check(ctx context.Context, now time.Time, token string, there bool) (*liveSession, error) {
	selector, secret, tag, ok := splitAs(sessionPrefix, token)
	if !ok {
		return nil, errSession
	}
	picture := s.picture.Load()
	l := picture.live[selector]
	if l == nil && !s.tags.genuine(selector, secret, tag) {
		return nil, errSession
	}
	sum := s.boot.sum(token)
	if l == nil || !l.knows(&sum) {
		if l != nil && !s.tags.genuine(selector, secret, tag) {
			return nil, errSession
		}
		var err error
		if l, picture, err = s.cold(ctx, picture, selector, secret, &sum); err != nil {
			return nil, err
		}
	}
	if time.Since(picture.began) > sessionStale {
		return nil, errStale
	}
	now = now.Add(picture.skew)
	seen := l.seen.Load()
	switch {
	case !now.Before(l.ExpiresAt), now.Sub(time.Unix(seen, 0)) >= l.Idle:
		return nil, errSession
	case l.suspended != "":
		return nil, problem.New(problem.Denied, "organisation-suspended", "The organisation "+l.suspended+" is suspended.").WithMend("Ask the platform operator.")
	}
	if at := now.Unix(); there && at-seen >= seenEvery && l.seen.CompareAndSwap(seen, at) {
		s.seenMu.Lock()
		s.seen[selector] = at
		s.seenMu.Unlock()
	}
	return l, nil
}

var errStale = problem.New(problem.Unavailable, "sessions-stale", "Sessions cannot be checked right now: the database does not answer.").
	WithMend("Try again shortly.").WithRetry(2 * time.Second)

func (l *liveSession) knows(sum *[sha256.Size]byte) bool {
	known := l.verified.Load()
	return known != nil && subtle.ConstantTimeCompare(known[:], sum[:]) == 1
}

// cold verifies a genuine token with bcrypt, a few at a time, and remembers
// success. The session may have been opened, or its secret changed, on another
// node a moment ago: then the picture is read again first.
func (s *Sessions) cold(ctx context.Context, picture *sessionPicture, selector, secret string, sum *[sha256.Size]byte) (*liveSession, *sessionPicture, error) {
	if s.waiting.Add(1) > maxWaiting {
		s.waiting.Add(-1)
		return nil, nil, problem.New(problem.Overloaded, "verification-queue", "Too many sessions are being checked for the first time.").
			WithMend("Try again shortly.").WithRetry(2 * time.Second)
	}
	defer s.waiting.Add(-1)
	l := picture.live[selector]
	if l == nil || l.verified.Load() != nil { // unknown, or known with another secret
		fresh, err := s.seek(ctx)
		if err != nil {
			return nil, nil, err
		}
		picture = fresh
		if l = picture.live[selector]; l == nil {
			return nil, nil, errSession
		}
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if l.knows(sum) {
		return l, picture, nil // another request of this session was first
	}
	if bcrypt.CompareHashAndPassword([]byte(l.hash), []byte(secret)) != nil {
		return nil, nil, errSession
	}
	kept := *sum
	l.verified.Store(&kept)
	return l, picture, nil
}

// seek returns a picture that was read after it was asked for. Tokens of ended
// sessions are genuine too: they may have the picture read a few times a
// second, and no more.
func (s *Sessions) seek(ctx context.Context) (*sessionPicture, error) {
	asked := time.Now()
	if wait := time.Until(time.Unix(0, s.sought.Load()).Add(soughtEvery)); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	if p := s.picture.Load(); p.began.After(asked) {
		return p, nil
	}
	s.sought.Store(time.Now().UnixNano())
	if err := s.refresh(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errStale
	}
	return s.picture.Load(), nil
}

// Refresh reads the sessions now. Refreshes do not overlap: one that read
// earlier must not replace the picture of one that read later, or a revoked
// session would open again.
func (s *Sessions) Refresh(ctx context.Context) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	return s.refresh(ctx)
}

func (s *Sessions) refresh(ctx context.Context) error {
	previous := s.picture.Load()
	next := &sessionPicture{began: time.Now()}
	var rows []liveSession
	err := s.db.Read(ctx, func(tx pgx.Tx) (err error) {
		var at time.Time
		rows, at, err = loadSessions(ctx, tx)
		next.skew = time.Until(at)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading sessions: %w", err)
	}
	next.live = make(map[string]*liveSession, len(rows))
	for i := range rows {
		l := &rows[i]
		seen := l.LastSeenAt.Unix()
		if old := previous.live[l.ID]; old != nil {
			l.seen = old.seen
			for was := l.seen.Load(); was < seen && !l.seen.CompareAndSwap(was, seen); was = l.seen.Load() {
			}
			if old.hash == l.hash {
				l.verified = old.verified
			}
		}
		if l.seen == nil {
			l.seen = newSeen(l.LastSeenAt)
		}
		if l.verified == nil {
			l.verified = new(memory)
		}
		next.live[l.ID] = l
	}
	s.picture.Store(next)
	return nil
}

func newSeen(at time.Time) *atomic.Int64 {
	seen := new(atomic.Int64)
	seen.Store(at.Unix())
	return seen
}

// remember notes that a token which this process just made is right.
func (s *Sessions) remember(token string) {
	selector, _, _, _ := splitAs(sessionPrefix, token)
	if l := s.picture.Load().live[selector]; l != nil {
		sum := s.boot.sum(token)
		l.verified.Store(&sum)
	}
}

// Run keeps the picture fresh, and writes when sessions were last seen, until
// ctx ends.
func (s *Sessions) Run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() {
		s.db.Listen(ctx, sessionPoll, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})
	defer listening.Wait()
	tick, flush := time.NewTicker(sessionRefresh), time.NewTicker(seenFlush)
	defer tick.Stop()
	defer flush.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-flush.C:
			if err := s.FlushSeen(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("when sessions were last seen was not written", "error", err)
			}
			continue
		case <-changed:
		case <-tick.C:
		}
		if err := s.Refresh(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("sessions were not refreshed", "error", err)
		}
	}
}

// FlushSeen writes when sessions were last seen: for each at most once a
// minute, all in one statement. What cannot be written is tried again.
func (s *Sessions) FlushSeen(ctx context.Context) error {
	s.seenMu.Lock()
	seen := s.seen
	s.seen = map[string]int64{}
	s.seenMu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	err := saveSeen(ctx, s.db, seen)
	if err != nil {
		s.seenMu.Lock()
		defer s.seenMu.Unlock()
		for id, at := range seen {
			s.seen[id] = max(s.seen[id], at)
		}
	}
	return err
}

// Count is how many sessions are live.
func (s *Sessions) Count() int { return len(s.picture.Load().live) }
