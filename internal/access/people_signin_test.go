package access

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestAnInvitedAdministratorEnrolsASecondFactorBeforeAnythingElse(t *testing.T) {
	w := newCompany(t)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: "anna@example.org", Name: "Anna", Roles: principal.RolesOf(principal.Administrator)})
	w.must(err)
	in, err := w.people.Accept(ctx, w.client(), token, Acceptance{Password: goodPassword})
	w.must(err)
	if !in.Session.Enrolment || in.Principal.Roles != 0 {
		t.Fatalf("a password alone opened %+v", in)
	}
	p, err := w.check(in.Token)
	w.wantCode(err, "second-factor-enrolment")
	if p.Roles != 0 {
		t.Fatal("the enrolment session has roles")
	}
	if _, err := w.people.List(ctx, in.Principal, w.org.ID); problem.From(err).Kind != problem.Denied {
		t.Fatalf("an enrolment session lists people: %v", err)
	}
	m := &member{w: w, id: in.Session.Person, email: "anna@example.org", in: in}
	m.enrolTOTP()
	if len(m.codes) != 10 || m.in.Session.Enrolment {
		t.Fatalf("%d codes, %+v", len(m.codes), m.in.Session)
	}
	if p, err = w.check(m.in.Token); err != nil || !p.Roles.Has(principal.Administrator) || p.SecondFactor.IsZero() {
		t.Fatalf("%+v %v", p, err)
	}
	if _, err := w.check(in.Token); err == nil {
		t.Fatal("the token before the enrolment still opens the session")
	}
	// A sign-in later on takes both, and the password alone gives no session.
	at, err := w.people.SignInPassword(ctx, w.client(), "Anna@Example.ORG ", goodPassword)
	if err != nil || at.SignedIn != nil || !slices.Equal(at.Factors, []Factor{FactorTOTP, FactorRecovery}) {
		t.Fatalf("%+v %v", at, err)
	}
	if got := m.signIn(); got.Session.Method != "password+totp" || got.Session.Device != "Firefox on Linux" {
		t.Fatalf("%+v", got.Session)
	}
}

func TestAViewerNeedsNoSecondFactorUntilOneIsEnrolled(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	if m.signIn().Session.Enrolment {
		t.Fatal("a viewer must enrol")
	}
	m.enrolTOTP()
	at, err := w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	if err != nil || at.SignedIn != nil {
		t.Fatalf("a second factor that is enrolled is not asked for: %+v %v", at, err)
	}
}

func TestACodeOpensOnceAlsoOnTwoNodesAtOnce(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	code := m.code()
	begin := func(p *People) string {
		at, err := p.SignInPassword(ctx, w.client(), m.email, goodPassword)
		w.must(err)
		return at.Ceremony
	}
	if _, err := w.people.SignInTOTP(ctx, w.client(), begin(w.people), code); err != nil {
		t.Fatal(err)
	}
	_, err := w.people.SignInTOTP(ctx, w.client(), begin(w.people), code)
	w.wantCode(err, "code-wrong") // the same code a second time

	other, _ := w.node(dbtest.Open(t, w.cfg))
	nodes := []*People{w.people, other, w.people, other}
	var handles []string
	for _, n := range nodes {
		handles = append(handles, begin(n))
	}
	code = m.code()
	var wait sync.WaitGroup
	var mu sync.Mutex
	opened := 0
	for i, n := range nodes {
		c := w.client()
		wait.Go(func() {
			if _, err := n.SignInTOTP(ctx, c, handles[i], code); err == nil {
				mu.Lock()
				opened++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if opened != 1 {
		t.Fatalf("one code opened %d sessions", opened)
	}
}

func TestACeremonyIsFinishedOnceAndTriedFewTimes(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	at, err := w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.must(err)
	for range ceremonyAttempts - 1 {
		_, err := w.people.SignInTOTP(ctx, w.client(), at.Ceremony, "000000")
		if kind := problem.From(err).Kind; kind != problem.Unauthenticated {
			t.Fatal(err)
		}
	}
	w.sql(`DELETE FROM signin_failures`)
	if _, err := w.people.SignInTOTP(ctx, w.client(), at.Ceremony, m.code()); err != nil {
		t.Fatal(err)
	}
	_, err = w.people.SignInTOTP(ctx, w.client(), at.Ceremony, m.code())
	w.wantCode(err, "signin-expired")
	at, err = w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.must(err)
	w.sql(`UPDATE ceremonies SET expires_at = now()`)
	_, err = w.people.SignInTOTP(ctx, w.client(), at.Ceremony, m.code())
	w.wantCode(err, "signin-expired")
}

func TestARecoveryCodeOpensOnce(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	use := func(code string) error {
		at, err := w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
		w.must(err)
		in, err := w.people.SignInRecovery(ctx, w.client(), at.Ceremony, code)
		if err == nil {
			m.in = in
		}
		return err
	}
	w.must(use(strings.ToUpper(m.codes[3])))
	w.wantCode(use(m.codes[3]), "recovery-code-wrong")
	w.wantCode(use("aaaaa-aaaaa-aaaaa-aaaaa"), "recovery-code-wrong")
	me, err := w.people.Me(ctx, m.in.Principal)
	if err != nil || me.Factors.RecoveryCodes != 9 {
		t.Fatalf("%+v %v", me.Factors, err)
	}
	old := m.codes[4]
	if m.codes, err = w.people.RenewRecoveryCodes(ctx, m.in.Principal); err != nil {
		t.Fatal(err)
	}
	w.wantCode(use(old), "recovery-code-wrong")
	w.must(use(m.codes[0]))
}

// bcrypt looks at 72 bytes: with the password as it is, any suffix after them
// would open the account.
func TestEveryByteOfALongPasswordCounts(t *testing.T) {
	w := newCompany(t)
	long := strings.Repeat("velvet quokka harbour 9 ", 4)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: "l@example.org", Name: "L", Roles: principal.RolesOf(principal.Viewer)})
	w.must(err)
	if _, err := w.people.Accept(ctx, w.client(), token, Acceptance{Password: long}); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{long + "x", long[:72], long[:len(long)-1], long + strings.Repeat("y", 2000)} {
		_, err := w.people.SignInPassword(ctx, w.client(), "l@example.org", wrong)
		w.sql(`DELETE FROM signin_failures`)
		w.wantCode(err, "signin-failed")
	}
	if _, err := w.people.SignInPassword(ctx, w.client(), "l@example.org", long); err != nil {
		t.Fatal(err)
	}
}

// Unknown, wrong and locked cost one comparison each, and unknown and wrong
// cannot be told apart by the answer, nor by when the lock comes.
func TestAnUnknownAddressLooksLikeAWrongPassword(t *testing.T) {
	w := newCompany(t)
	w.join("anna@example.org", w.org.ID, principal.Viewer)
	var known, unknown []string
	for range freeFailures + 1 {
		_, a := w.people.SignInPassword(ctx, w.client(), "anna@example.org", "not the password at all")
		_, b := w.people.SignInPassword(ctx, w.client(), "nobody@example.org", "not the password at all")
		known, unknown = append(known, problem.From(a).Code), append(unknown, problem.From(b).Code)
	}
	if !slices.Equal(known, unknown) || known[0] != "signin-failed" || known[freeFailures] != "signin-locked" {
		t.Fatalf("known %v, unknown %v", known, unknown)
	}
}

func TestBruteForceLocksAndTheLockEndsByItself(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := m.enrolPasskey()
	for range freeFailures {
		_, err := w.people.SignInPassword(ctx, w.client(), m.email, "not the password at all")
		w.wantCode(err, "signin-failed")
	}
	_, err := w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.wantCode(err, "signin-locked") // the right password does not open it either
	if after := problem.From(err).RetryAfter; after <= 0 || after > firstLock {
		t.Fatalf("retry after %s", after)
	}
	if _, err := w.passkeySignIn(key); err != nil {
		t.Fatalf("a passkey does not open a locked account: %v", err)
	}
	// A passkey alone says nothing about the password: the lock stays, and
	// ends by itself.
	_, err = w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.wantCode(err, "signin-locked")
	w.sql(`UPDATE signin_failures SET locked_until = now()`)
	w.must(w.people.Sweep(ctx))
	m.signIn()
	if n := w.count(`SELECT count(*) FROM audit WHERE act = 'person.lock' AND target = $1`, m.id.String()); n != 1 {
		t.Errorf("%d locks audited", n)
	}
	if n := w.count(`SELECT count(*) FROM audit WHERE act = 'person.unlock' AND target = $1`, m.id.String()); n != 1 {
		t.Errorf("%d releases audited", n)
	}
}

func TestLocksGrowAndAreNeverForEver(t *testing.T) {
	var got []time.Duration
	for n := range 14 {
		got = append(got, lockFor(n))
	}
	want := []time.Duration{0, 0, 0, 0, 0, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute, 15 * time.Minute, 15 * time.Minute}
	if !slices.Equal(got, want) || lockFor(1<<30) != longestLock {
		t.Fatalf("%v", got)
	}
}

// Somebody who has the password gets no more tries at the code by starting
// over.
func TestStartingOverGivesNoMoreTriesAtTheCode(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	for i := range 20 {
		at, err := w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
		if err != nil {
			w.wantCode(err, "signin-locked")
			if i > freeFailures {
				t.Fatalf("%d tries at the code", i)
			}
			return
		}
		_, err = w.people.SignInTOTP(ctx, w.client(), at.Ceremony, "123456")
		if err == nil {
			t.Fatal("guessed")
		}
	}
	t.Fatal("no lock after 20 tries at the code")
}

func TestOneNetworkIsLimitedAndReleased(t *testing.T) {
	w := newCompany(t)
	c := w.client()
	for range addressBurst {
		_, err := w.people.SignInPasskey(ctx, c, "no such ceremony", nil)
		w.wantCode(err, "signin-expired")
	}
	_, err := w.people.SignInPasskey(ctx, c, "no such ceremony", nil)
	w.wantCode(err, "address-limited")
	if p := problem.From(err); p.Kind != problem.RateLimited || p.RetryAfter <= 0 {
		t.Fatalf("%+v", p)
	}
	if _, err := w.people.SignInPasskey(ctx, w.client(), "no such ceremony", nil); problem.From(err).Code != "signin-expired" {
		t.Fatalf("another network is limited: %v", err)
	}
	w.pass(addressEvery)
	w.must(w.people.Sweep(ctx))
	_, err = w.people.SignInPasskey(ctx, c, "no such ceremony", nil)
	w.wantCode(err, "signin-expired")
	for act, want := range map[string]int{"address.lock": 1, "address.unlock": 1} {
		if n := w.count(`SELECT count(*) FROM audit WHERE act = $1`, act); n != want {
			t.Errorf("%s: %d entries", act, n)
		}
	}
}

func TestTheMemoryOfAddressesIsBounded(t *testing.T) {
	now := time.Now()
	l := newAddressLimits(func() time.Time { return now })
	for i := range 2 * maxAddresses {
		l.take(addressNumber(i))
	}
	if len(l.due) > maxAddresses {
		t.Fatalf("%d addresses", len(l.due))
	}
	a, b := addressNumber(1), addressNumber(1).Next() // the same /64
	if network(a) != network(b) || network(addressNumber(2)) == network(a) {
		t.Error("IPv6 is not counted by /64")
	}
}

func TestThePasswordIsHashedAnewWhenThePepperChanges(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	o := w.people.PeopleOptions
	o.Peppers = [][]byte{[]byte(strings.Repeat("n", 32)), o.Peppers[0]}
	next, err := NewPeople(o)
	w.must(err)
	hash := func() (h string) {
		w.must(w.d.Read(ctx, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT password_hash FROM people WHERE id = $1`, m.id).Scan(&h)
		}))
		return h
	}
	before := hash()
	if _, err := next.SignInPassword(ctx, w.client(), m.email, goodPassword); err != nil {
		t.Fatal(err)
	}
	after := hash()
	if after == before || after[:14] == before[:14] {
		t.Fatalf("%s, then %s", before, after)
	}
	_, err = w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.wantCode(err, "signin-failed") // who has only the old pepper
	o.Peppers = o.Peppers[:1]
	if next, err = NewPeople(o); err != nil {
		t.Fatal(err)
	}
	if _, err := next.SignInPassword(ctx, w.client(), m.email, goodPassword); err != nil {
		t.Fatal(err)
	}
}

func TestChangingThePasswordEndsEveryOtherSession(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	elsewhere := m.signIn()
	here := m.signIn()
	_, err := w.people.ChangePassword(ctx, here.Principal, w.client(), "not the old password", otherGood)
	w.wantCode(err, "password-wrong")
	_, err = w.people.ChangePassword(ctx, here.Principal, w.client(), goodPassword, "password1234")
	w.wantCode(err, "password-common")
	changed, err := w.people.ChangePassword(ctx, here.Principal, w.client(), goodPassword, otherGood)
	w.must(err)
	for name, token := range map[string]string{"elsewhere": elsewhere.Token, "the old token": here.Token} {
		if _, err := w.check(token); err == nil {
			t.Errorf("%s still opens", name)
		}
	}
	if _, err := w.check(changed.Token); err != nil {
		t.Error(err)
	}
	_, err = w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.wantCode(err, "signin-failed")
}

func TestEverySignInAndFailureIsAuditedWithoutPersonalData(t *testing.T) {
	w := newCompany(t)
	m := w.join("vera@example.org", w.org.ID, principal.Viewer)
	m.signIn()
	_, err := w.people.SignInPassword(ctx, w.client(), m.email, "not the password at all")
	w.wantCode(err, "signin-failed")
	_, err = w.people.SignInPassword(ctx, w.client(), "stranger@example.org", "not the password at all")
	w.wantCode(err, "signin-failed")
	for query, want := range map[string]int{
		`SELECT count(*) FROM audit WHERE act = 'person.signin' AND outcome = 'done'`:                                               2,
		`SELECT count(*) FROM audit WHERE act = 'person.signin' AND outcome = 'denied' AND target = '` + m.id.String() + `'`:        1,
		`SELECT count(*) FROM audit WHERE act = 'person.signin' AND outcome = 'denied' AND target LIKE 'account:%'`:                 1,
		`SELECT count(*) FROM audit WHERE act = 'invitation.accept' AND actor = 'person:` + m.id.String() + `'`:                     1,
		`SELECT count(*) FROM audit WHERE act = 'person.invite' AND actor = 'local:uid=1000' AND organisation_id <> '` + zero + `'`: 1,
	} {
		if n := w.count(query); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	entries, err := audit.List(ctx, w.d, uuid.Nil, 100)
	w.must(err)
	for _, e := range entries {
		if found := containsAny(e.Actor+e.Target+string(e.Details), "@", "Zebulon", "192.0.2"); found != "" {
			t.Errorf("%s in %+v", found, e)
		}
	}
}

const zero = "00000000-0000-0000-0000-000000000000"
