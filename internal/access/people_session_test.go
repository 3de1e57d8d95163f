package access

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"golang.org/x/crypto/bcrypt"
)

func TestForgedAndDamagedSessionTokensAreRefused(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	token := m.in.Token
	if _, err := w.check(token); err != nil {
		t.Fatal(err)
	}
	// Who stole the selector, which lists and audit entries show, has nothing.
	other := w.join("otto@example.org", w.org.ID, principal.Viewer).in.Token
	own, _, _ := w.sessions.tags.mintAs(sessionPrefix)
	body := m.in.Session.ID + strings.Repeat("a", secretLength)
	for name, forged := range map[string]string{
		"empty": "", "truncated": token[:40], "one longer": token + "a", "very long": token + strings.Repeat("a", 1<<20), "an API key's prefix": "fdy_" + token[4:],
		"another's secret": token[:14] + other[14:], "a secret of one's own under a right tag": sessionPrefix + body + w.sessions.tags.tag(body),
		"a genuine token of no session": own, "upper case": strings.ToUpper(token),
	} {
		if _, err := w.check(forged); problem.From(err).Kind != problem.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.check(token); err != nil {
		t.Error("the attacks ended the real session: ", err)
	}
}

func TestASignInNeverContinuesAnEarlierSession(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	planted := m.in
	m.signIn()
	if m.in.Session.ID == planted.Session.ID || m.in.Token == planted.Token {
		t.Fatal("the session before the sign-in lives on in it")
	}
}

func TestEveryChangeOfPrivilegeGivesANewToken(t *testing.T) {
	w := newCompany(t)
	b, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: b.ID, Email: m.email, Name: "Anna", Roles: principal.RolesOf(principal.Viewer)})
	w.must(err)
	for name, change := range map[string]func() (SignedIn, error){
		"step-up":  func() (SignedIn, error) { return w.people.StepUpTOTP(ctx, m.in.Principal, w.client(), m.code()) },
		"entering": func() (SignedIn, error) { return w.people.Enter(ctx, m.in.Principal, w.org.ID) },
	} {
		before := m.in
		if m.in, err = change(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.in.Session.ID != before.Session.ID || m.in.Token == before.Token {
			t.Errorf("%s: the token is the same", name)
		}
		if _, err := w.check(before.Token); err == nil {
			t.Errorf("%s: the old token still opens", name)
		}
		if _, err := w.check(m.in.Token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.in, err = w.people.Join(ctx, m.in.Principal, token); err != nil {
		t.Fatal(err)
	}
	p, err := w.check(m.in.Token)
	if err != nil || p.Organisation != b.ID || p.Roles != principal.RolesOf(principal.Viewer) {
		t.Fatalf("%+v %v", p, err)
	}
	if _, err := w.people.Enter(ctx, m.in.Principal, uuid.Nil); problem.From(err).Code != "membership-missing" {
		t.Fatalf("entered the platform: %v", err)
	}
}

func TestSessionsEndByThemselves(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	at := func(d time.Duration) error {
		_, _, err := w.sessions.Check(ctx, time.Now().Add(d), m.in.Token)
		return err
	}
	w.must(at(0))
	w.wantCode(at(time.Hour+time.Second), "session-invalid") // idle
	w.must(at(50 * time.Minute))                             // used …
	w.must(at(100 * time.Minute))                            // … and so not idle
	for d := 100 * time.Minute; d < 8*time.Hour; d += 50 * time.Minute {
		w.must(at(d))
	}
	w.wantCode(at(8*time.Hour), "session-invalid") // absolute, however busy
}

// A node whose clock is wrong judges by the database's: neither does a session
// live longer there, nor does it end at once.
func TestAWrongClockMovesNoExpiry(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	for name, skew := range map[string]time.Duration{"a day behind": -24 * time.Hour, "a day ahead": 24 * time.Hour} {
		// The picture of a node with that clock: its now is off by skew, and
		// so is its measure of the database's clock.
		p := *w.sessions.picture.Load()
		p.skew -= skew
		w.sessions.picture.Store(&p)
		if _, _, err := w.sessions.Check(ctx, time.Now().Add(skew), m.in.Token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := w.sessions.Check(ctx, time.Now().Add(skew+9*time.Hour), m.in.Token); err == nil {
			t.Errorf("%s: the session outlives its end", name)
		}
		w.must(w.sessions.Refresh(ctx))
	}
}

func TestOneSessionAndAllAreRevoked(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	first := m.in
	second, third := m.signIn(), m.signIn()
	list, err := w.people.MySessions(ctx, third.Principal)
	if err != nil || len(list) != 3 || list[0].Place != "192.0.2.0/24" {
		t.Fatalf("%+v %v", list, err)
	}
	w.must(w.people.RevokeSession(ctx, third.Principal, first.Session.ID))
	if _, err := w.check(first.Token); err == nil {
		t.Fatal("the revoked session opens")
	}
	if n, err := w.people.RevokeSessions(ctx, third.Principal, m.id); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	if _, err := w.check(second.Token); err == nil {
		t.Fatal("the other session opens")
	}
	if _, err := w.check(third.Token); err != nil {
		t.Fatal("the asker's own session ended: ", err)
	}
	w.must(w.people.SignOut(ctx, third.Principal))
	if _, err := w.check(third.Token); err == nil {
		t.Fatal("signed out, and still in")
	}
}

// Somebody may belong to two organisations: neither sees, nor ends, what the
// other's sessions are.
func TestAnOrganisationSeesOnlyTheSessionsThatActInIt(t *testing.T) {
	w := newCompany(t)
	b, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator).in.Principal
	otto := w.join("otto@example.org", b.ID, principal.Viewer)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: otto.email, Name: "O", Roles: principal.RolesOf(principal.Viewer)})
	w.must(err)
	here, err := w.people.Join(ctx, otto.in.Principal, token)
	w.must(err)
	there := otto.signIn() // acts in the first by name, "other"
	list, err := w.people.ListSessions(ctx, anna, otto.id)
	if err != nil || len(list) != 1 || list[0].ID != here.Session.ID {
		t.Fatalf("%+v %v", list, err)
	}
	if err := w.people.RevokeSession(ctx, anna, there.Session.ID); problem.From(err).Kind != problem.Denied {
		t.Fatalf("%v", err)
	}
	if n, err := w.people.RevokeSessions(ctx, anna, otto.id); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	if _, err := w.check(there.Token); err != nil {
		t.Fatal("another organisation's session ended: ", err)
	}
	if _, err := w.check(here.Token); err == nil {
		t.Fatal("the session in the organisation goes on")
	}
}

func TestTheOldestSessionGivesWay(t *testing.T) {
	w := newCompany(t)
	w.people.Limits.SessionsPerPerson = 2
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	first := m.in
	second, third := m.signIn(), m.signIn()
	if _, err := w.check(first.Token); err == nil {
		t.Error("three sessions where two are allowed")
	}
	for _, s := range []SignedIn{second, third} {
		if _, err := w.check(s.Token); err != nil {
			t.Error(err)
		}
	}
}

// One organisation's administrator ends nobody's session in another.
func TestAStrangersSessionCannotBeRevoked(t *testing.T) {
	w := newCompany(t)
	b, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator)
	otto := w.join("otto@example.org", b.ID, principal.Viewer)
	err = w.people.RevokeSession(ctx, anna.in.Principal, otto.in.Session.ID)
	if problem.From(err).Kind != problem.Denied {
		t.Fatalf("%v", err)
	}
	if _, err := w.people.ListSessions(ctx, anna.in.Principal, otto.id); problem.From(err).Kind != problem.Denied {
		t.Fatalf("%v", err)
	}
	if _, err := w.check(otto.in.Token); err != nil {
		t.Fatal(err)
	}
}

// The console of another node hears of a revocation within a second.
func TestARevocationIsHeardOnEveryNodeWithinASecond(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	_, other := w.node(dbtest.Open(t, w.cfg))
	life, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); other.Run(life) }()
	defer func() { stop(); <-done }()
	if _, _, err := other.Check(ctx, time.Now(), m.in.Token); err != nil {
		t.Fatal(err)
	}
	if _, err := w.people.Deactivate(ctx, operator, m.id); err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		_, _, err := other.Check(ctx, time.Now(), m.in.Token)
		if err != nil {
			w.wantCode(err, "session-invalid")
			t.Logf("heard after %s", time.Since(ended))
			return
		}
		if time.Since(ended) > time.Second {
			t.Fatal("the session of a deactivated person still opens on another node")
		}
	}
}

// A session opened on one node is known on another before its heartbeat.
func TestANewSessionIsFoundOnANodeThatHasNotHeardOfIt(t *testing.T) {
	w := newCompany(t)
	_, other := w.node(dbtest.Open(t, w.cfg)) // no Run: it hears nothing
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	if _, _, err := other.Check(ctx, time.Now(), m.in.Token); err != nil {
		t.Fatal(err)
	}
	in, err := w.people.StepUpTOTP(ctx, m.in.Principal, w.client(), m.code())
	w.must(err)
	if _, _, err := other.Check(ctx, time.Now(), in.Token); err != nil {
		t.Fatalf("a rotated token on a node that has the session: %v", err)
	}
	if _, _, err := other.Check(ctx, time.Now(), m.in.Token); err == nil {
		t.Fatal("the token before still opens")
	}
}

func TestColdSessionChecksAreBounded(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	_, cold := w.node(w.d)
	cold.waiting.Store(maxWaiting)
	_, _, err := cold.Check(ctx, time.Now(), m.in.Token)
	if p := problem.From(err); p.Kind != problem.Overloaded || p.RetryAfter <= 0 {
		t.Fatalf("%v", err)
	}
}

func TestLastSeenIsWrittenAtMostOnceAMinute(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	at := func(d time.Duration) {
		if _, _, err := w.sessions.Check(ctx, time.Now().Add(d), m.in.Token); err != nil {
			t.Fatal(err)
		}
	}
	at(30 * time.Second)
	if len(w.sessions.seen) != 0 {
		t.Fatal("written within a minute")
	}
	at(61 * time.Second)
	at(90 * time.Second)
	if len(w.sessions.seen) != 1 {
		t.Fatal("not noted")
	}
	w.must(w.sessions.FlushSeen(ctx))
	if n := w.count(`SELECT extract(epoch FROM last_seen_at - created_at)::int FROM sessions WHERE id = $1`, m.in.Session.ID); n < 55 || n > 70 {
		t.Errorf("last seen %d s after the start", n)
	}
}

func TestAGracefulRestartChecksNobodyAnew(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	path := filepath.Join(t.TempDir(), "handover.sealed")
	// The first process, whose boot key came from a handover of its own.
	h, err := ReadHandover(path, time.Now(), w.ring.Open)
	w.must(err)
	first := NewSessions(SessionOptions{DB: w.d, TagKey: bytes.Repeat([]byte{3}, 32), BootKey: h.Key})
	w.must(first.Refresh(ctx))
	if _, _, err := first.Check(ctx, time.Now(), m.in.Token); err != nil {
		t.Fatal(err)
	}
	v := NewVerifier(macKey)
	v.UseBootKey(h.Key)
	w.must(h.Write(path, time.Now(), v, first, w.ring.Seal))
	if body, _ := os.ReadFile(path); bytes.Contains(body, []byte(m.in.Session.ID)) {
		t.Error("the handover is not sealed")
	}
	// The second.
	next, err := ReadHandover(path, time.Now(), w.ring.Open)
	w.must(err)
	if _, err := os.Stat(path); err == nil {
		t.Error("the handover can be used twice")
	}
	warm := NewSessions(SessionOptions{DB: w.d, TagKey: bytes.Repeat([]byte{3}, 32), BootKey: next.Key})
	w.must(warm.Refresh(ctx))
	if n := next.Restore(nil, warm); n != 1 {
		t.Fatalf("%d verifications taken over", n)
	}
	warm.waiting.Store(maxWaiting) // a check that is not warm would be shed
	if _, _, err := warm.Check(ctx, time.Now(), m.in.Token); err != nil {
		t.Fatalf("a session is checked anew after a graceful restart: %v", err)
	}
	// A row that changed in between is checked anew, an old file is not used.
	if _, err := w.people.StepUpTOTP(ctx, m.in.Principal, w.client(), m.code()); err != nil {
		t.Fatal(err)
	}
	w.must(next.Write(path, time.Now(), nil, warm, w.ring.Seal))
	late, err := ReadHandover(path, time.Now().Add(2*handoverAge), w.ring.Open)
	if err != nil || bytes.Equal(late.Key, next.Key) {
		t.Errorf("a handover of hours ago was used: %v", err)
	}
	stale := NewSessions(SessionOptions{DB: w.d, TagKey: bytes.Repeat([]byte{3}, 32), BootKey: next.Key})
	w.must(stale.Refresh(ctx))
	if n := next.Restore(nil, stale); n != 0 {
		t.Errorf("%d verifications of a changed row taken over", n)
	}
}

func FuzzSessionTokens(f *testing.F) {
	s := NewSessions(SessionOptions{TagKey: bytes.Repeat([]byte{3}, 32)})
	token, _, _ := NewSessions(SessionOptions{TagKey: bytes.Repeat([]byte{2}, 32)}).tags.mintAs(sessionPrefix)
	f.Add(token)
	f.Add("fds_")
	f.Add(strings.Repeat("a", tokenLength))
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := s.Check(ctx, time.Now(), text); problem.From(err).Kind != problem.Unauthenticated {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

func benchSessions(b *testing.B) (*Sessions, string) {
	s := NewSessions(SessionOptions{TagKey: bytes.Repeat([]byte{3}, 32)})
	token, selector, secret := s.tags.mintAs(sessionPrefix)
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		b.Fatal(err)
	}
	l := &liveSession{hash: string(hash), verified: new(memory), seen: newSeen(time.Now())}
	l.ID, l.Idle, l.ExpiresAt = selector, time.Hour, time.Now().Add(time.Hour)
	s.picture.Store(&sessionPicture{began: time.Now(), live: map[string]*liveSession{selector: l}})
	return s, token
}

func BenchmarkSessionWarm(b *testing.B) {
	s, token := benchSessions(b)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Check(ctx, now, token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSessionForged(b *testing.B) {
	s, _ := benchSessions(b)
	token, _, _ := NewSessions(SessionOptions{TagKey: bytes.Repeat([]byte{2}, 32)}).tags.mintAs(sessionPrefix)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Check(ctx, now, token); err == nil {
			b.Fatal("opened")
		}
	}
}
