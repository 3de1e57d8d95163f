package access

import (
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Every part of a session's token counts, on a node that has verified it
// before and on one that has not. A wrong tag costs neither a bcrypt nor a look
// into the database.
func TestEveryPartOfASessionTokenCounts(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	_, cold := w.node(w.d)
	for name, s := range map[string]*Sessions{"warm": w.sessions, "cold": cold} {
		s.waiting.Store(maxWaiting) // whatever needs more than the tag is shed
		for _, at := range []int{len(m.in.Token) - 1, len(m.in.Token) - tagLength, len(sessionPrefix) + selectorLength} {
			forged := []byte(m.in.Token)
			forged[at] ^= 1
			if forged[at] < 'a' || forged[at] > 'z' {
				forged[at] = m.in.Token[at] ^ 2
			}
			_, _, err := s.Check(ctx, time.Now(), string(forged))
			if e := problem.From(err); e.Code != "session-invalid" {
				t.Errorf("%s, with another character %d: %v", name, at, err)
			}
		}
		s.waiting.Store(0)
		if _, _, err := s.Check(ctx, time.Now(), m.in.Token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A node that has not heard of the database for long must not go on trusting
// what it last read: the session may have been revoked since.
func TestSessionsAreTrustedOnlyForAWhileWithoutTheDatabase(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	for age, kind := range map[time.Duration]problem.Kind{sessionStale - time.Minute: 0, sessionStale + time.Second: problem.Unavailable} {
		old := *w.sessions.picture.Load()
		old.began = time.Now().Add(-age)
		w.sessions.picture.Store(&old)
		_, err := w.check(m.in.Token)
		if kind == 0 && err != nil || kind != 0 && (problem.From(err).Kind != kind || problem.From(err).RetryAfter <= 0) {
			t.Errorf("after %s: %v", age, err)
		}
	}
}

// Somebody who has the password begins many sign-ins before the first wrong
// code. That gives them no more tries: the lock counts at the code too.
func TestSignInsBegunBeforeTheLockGiveNoMoreTriesAtTheCode(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	var handles []string
	for range freeFailures + 3 {
		at, err := w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
		w.must(err)
		handles = append(handles, at.Ceremony)
	}
	wrong := 0
	for _, h := range handles[1:] {
		_, err := w.people.SignInTOTP(ctx, w.client(), h, "000000")
		if problem.From(err).Code == "code-wrong" {
			wrong++
		}
	}
	if wrong > freeFailures {
		t.Errorf("%d codes were judged", wrong)
	}
	_, err := w.people.SignInTOTP(ctx, w.client(), handles[0], m.code())
	w.wantCode(err, "signin-locked") // the right code does not open it either
	_, err = w.people.SignInRecovery(ctx, w.client(), handles[0], m.codes[0])
	w.wantCode(err, "signin-locked")
	_, err = w.people.StepUpTOTP(ctx, m.in.Principal, w.client(), m.code())
	w.wantCode(err, "signin-locked") // nor in a session that is open
	_, err = w.people.ChangePassword(ctx, m.in.Principal, w.client(), goodPassword, otherGood)
	w.wantCode(err, "signin-locked") // nor by guessing at the old password there
}

// All four have read the code as unused before the first of them takes it.
func TestARecoveryCodeOpensOnceAlsoOnTwoNodesAtOnce(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	other, _ := w.node(dbtest.Open(t, w.cfg))
	hold := dbtest.Superuser(t, w.cfg)
	defer hold.Close(ctx)
	_, err := hold.Exec(ctx, `BEGIN; SELECT FROM recovery_codes FOR UPDATE`)
	w.must(err)
	nodes := []*People{w.people, other, w.people, other}
	var wait sync.WaitGroup
	opened := make(chan SignedIn, len(nodes))
	for _, n := range nodes {
		at, err := n.SignInPassword(ctx, w.client(), m.email, goodPassword)
		w.must(err)
		c := w.client()
		wait.Go(func() {
			if in, err := n.SignInRecovery(ctx, c, at.Ceremony, m.codes[0]); err == nil {
				opened <- in
			}
		})
	}
	w.awaitBlocked(len(nodes))
	_, err = hold.Exec(ctx, `COMMIT`)
	w.must(err)
	wait.Wait()
	if len(opened) != 1 {
		t.Fatalf("one recovery code opened %d sessions", len(opened))
	}
}

// Who could make tags, and knows the public half of a token, still needs its
// secret.
func TestTheTagAloneOpensNoInvitationAndNoSession(t *testing.T) {
	w := newCompany(t)
	i, _, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: "anna@example.org", Name: "Anna", Roles: principal.RolesOf(principal.Viewer)})
	w.must(err)
	_, _, secret := w.people.invites.mint()
	_, err = w.people.Accept(ctx, w.client(), invitationPrefix+i.ID+secret+w.people.invites.tag(i.ID+secret), Acceptance{Password: goodPassword})
	w.wantCode(err, "invitation-invalid")
	id := w.join("vera@example.org", w.org.ID, principal.Viewer).in.Session.ID
	_, err = w.check(sessionPrefix + id + secret + w.sessions.tags.tag(id+secret))
	w.wantCode(err, "session-invalid")
}

// An authenticator and its copy answer at the same moment, with the same
// count, to two nodes that both read the count before: one of them opens.
func TestACopiedAuthenticatorOpensOnceAlsoOnTwoNodesAtOnce(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := m.enrolPasskey()
	copied := *key
	other, _ := w.node(dbtest.Open(t, w.cfg))
	hold := dbtest.Superuser(t, w.cfg)
	defer hold.Close(ctx)
	_, err := hold.Exec(ctx, `BEGIN; SELECT FROM passkeys FOR UPDATE`)
	w.must(err)
	var wait sync.WaitGroup
	opened := make(chan SignedIn, 2)
	for n, a := range map[*People]*authenticator{w.people: key, other: &copied} {
		c, err := n.BeginPasskey(ctx, w.client(), "")
		w.must(err)
		answer, client := a.sign(c), w.client()
		wait.Go(func() {
			if in, err := n.SignInPasskey(ctx, client, c.Ceremony, answer); err == nil {
				opened <- in
			}
		})
	}
	w.awaitBlocked(2)
	_, err = hold.Exec(ctx, `COMMIT`)
	w.must(err)
	wait.Wait()
	if len(opened) != 1 {
		t.Fatalf("%d of an authenticator and its copy opened", len(opened))
	}
	if list, err := w.people.Passkeys(ctx, m.in.Principal); err != nil || !list[0].Cloned {
		t.Fatalf("%+v %v", list, err)
	}
}

// awaitBlocked waits until so many transactions wait for a lock.
func (w *company) awaitBlocked(n int) {
	w.t.Helper()
	watch := dbtest.Superuser(w.t, w.cfg) // not in a transaction: that would see one moment for ever
	defer watch.Close(ctx)
	for end := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		var waiting int
		w.must(watch.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting))
		if waiting >= n {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%d of %d wait for a lock", waiting, n)
		}
	}
}
