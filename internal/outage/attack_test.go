package outage

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/principal"
)

func TestOperatorsSignInWhileTheDatabaseIsDownAndOnlyThen(t *testing.T) {
	h := newHouse(t, 2)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	_, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, errBack.Code)
	for _, g := range h.gates {
		g.up.Store(false)
	}
	h.look()
	h.pass(Patience - time.Second)
	h.look()
	_, err = h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, "database-away")
	h.pass(2 * time.Second)
	h.look()

	in, err := h.gates[1].signIn(anna)
	h.must(err)
	p, s, err := h.gates[0].Check(ctx, in.Token) // any gateway
	h.must(err)
	if !p.Away || p.ID != anna.Person.String() || p.Organisation != uuid.Nil || p.Roles != anna.Roles || p.SecondFactor.IsZero() || s.Method != "password+totp" {
		t.Fatalf("signed in as %+v, %+v", p, s)
	}
	if me, err := h.gates[0].Me(ctx, p); err != nil || me.Name != anna.Name {
		t.Fatalf("%+v, %v", me, err)
	}
	h.pass(SessionLife)
	_, _, err = h.gates[0].Check(ctx, in.Token)
	h.refused(err, "session-invalid")
}

func TestTheSecondFactorIsNeverLeftOut(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.people[0].TOTP = ""
	h.look()
	h.lose()
	_, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, errNoFactor.Code)
	_, err = h.gates[0].SignInRecovery(ctx, h.client(), "", "aaaa-bbbb")
	h.refused(err, "recovery-code-away")
}

// A member that is no gateway, such as a witness, has the fleet's seal and not
// the gateways' keys.
func TestWhoHasTheFleetsStoreAloneReadsAndForgesNothing(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	in, err := h.gates[0].signIn(anna)
	h.must(err)
	all, _, err := h.member.Store().List(ctx, "signin/")
	h.must(err)
	if len(all) < 4 {
		t.Fatalf("only %d values to look at", len(all))
	}
	secrets := []string{anna.Name, anna.TOTP, anna.Password, in.Token, in.Token[len(TokenPrefix)+selectorLength : tokenLength-tagLength], anna.email}
	for _, e := range all {
		var b box
		h.must(e.Decode(&b))
		for _, secret := range secrets {
			if bytes.Contains(b.Sealed, []byte(secret)) || strings.Contains(e.Path, secret) {
				t.Errorf("%s lets out %q", e.Path, secret)
			}
		}
	}
	witness := h.gate("witness", "", newRing(t))
	witness.up.Store(false)
	if _, err := witness.mirrored(ctx); err == nil {
		t.Fatal("the mirror opens with other keys")
	}
	// It writes a session of its own, in the place of the real one.
	forged, token := witness.mint(Outage{ID: in.Session.ID}, &anna.Material, access.Client{}, "passkey")
	h.must(witness.put(ctx, pathSessions+forged.ID, forged))
	_, _, err = h.gates[0].Check(ctx, token)
	h.refused(err, "signin-value-unreadable")
	// A value that is genuine, at another path.
	e, err := h.member.Store().Get(ctx, pathSessions+in.Session.ID)
	h.must(err)
	var b box
	h.must(e.Decode(&b))
	_, err = h.member.Store().Put(ctx, pathSessions+forged.ID, b)
	h.must(err)
	_, _, err = h.gates[0].Check(ctx, token)
	h.refused(err, "signin-value-unreadable")
}

func TestWhoIsDeactivatedCannotSignInThoughTheMirrorHasNotFollowed(t *testing.T) {
	h := newHouse(t, 2)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	ben := h.operator("ben@example.org", principal.PlatformSecurity)
	h.look()
	h.gates[0].Withdrawn(ctx, anna.Person) // and the database is lost before anything follows
	h.lose()
	_, err := h.gates[1].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, "signin-failed")
	_, err = h.gates[1].signIn(ben)
	h.must(err)
}

// A look that read the database before a deactivation was committed must not
// bring the person back, and a bar goes when the mirror has caught up.
func TestABarHoldsUntilTheMirrorHasFollowed(t *testing.T) {
	h := newHouse(t, 1)
	g := h.gates[0]
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	g.Withdrawn(ctx, anna.Person)
	h.look() // the database still says that she is active
	if barred, err := g.isBarred(ctx, anna.Person); err != nil || !barred {
		t.Fatalf("barred %v, %v", barred, err)
	}
	h.people = nil
	h.pass(clearAfter)
	h.look()
	if barred, err := g.isBarred(ctx, anna.Person); err != nil || barred {
		t.Fatalf("barred %v, %v", barred, err)
	}
	h.lose()
	_, err := g.SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, "signin-failed")
}

func TestASessionEndsWhereItsPersonIsBarred(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	in, err := h.gates[0].signIn(anna)
	h.must(err)
	h.gates[0].Withdrawn(ctx, anna.Person)
	_, _, err = h.gates[0].Check(ctx, in.Token)
	h.refused(err, "session-invalid")
}

func TestWhoseRoleWasWithdrawnSignsInNoMore(t *testing.T) {
	h := newHouse(t, 2)
	anna := h.operator("anna@example.org", principal.PlatformAdministrator, principal.PlatformOperator)
	h.look()
	h.people[0].Roles = principal.RolesOf(principal.PlatformOperator)
	h.gates[0].Kick()
	h.look()
	h.lose()
	in, err := h.gates[1].signIn(anna)
	h.must(err)
	if in.Principal.Roles != principal.RolesOf(principal.PlatformOperator) {
		t.Fatalf("signed in with %s", in.Principal.Roles)
	}
}

func TestACodeOpensOnceOnAllNodesAndNotAfterwardsEither(t *testing.T) {
	h := newHouse(t, 3)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	early := h.code(anna) // used with the database, a moment before it went
	h.look()
	h.lose()
	at, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.must(err)
	_, err = h.gates[0].SignInTOTP(ctx, h.client(), at.Ceremony, early) // still in its time
	h.refused(err, "code-wrong")

	var ceremonies []string
	for _, g := range h.gates {
		at, err := g.SignInPassword(ctx, h.client(), anna.email, goodPassword)
		h.must(err)
		ceremonies = append(ceremonies, at.Ceremony)
	}
	code := h.code(anna)
	results := make(chan error, len(h.gates))
	for i, g := range h.gates { // at once
		client := h.client()
		go func() { _, err := g.SignInTOTP(ctx, client, ceremonies[i], code); results <- err }()
	}
	opened := 0
	for range h.gates {
		if err := <-results; err == nil {
			opened++
		} else {
			h.refused(err, "code-wrong")
		}
	}
	if opened != 1 {
		t.Fatalf("the code opened %d times", opened)
	}
	if step := h.gates[2].SpentStep(ctx, anna.Person); step != anna.step {
		t.Fatalf("the database would take the code again: %d, not %d", step, anna.step)
	}
	h.gates[0].up.Store(true)
	h.look()
	if !slices.ContainsFunc(h.settled, func(s access.Spent) bool { return s.Person == anna.Person && s.Step == anna.step }) {
		t.Fatalf("settled: %+v", h.settled)
	}
}

func TestGuessesAreCountedOverAllNodes(t *testing.T) {
	h := newHouse(t, 3)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	for i := range 5 {
		_, err := h.gates[i%3].SignInPassword(ctx, h.client(), anna.email, "wrong horse battery")
		h.refused(err, "signin-failed")
	}
	for _, g := range h.gates {
		_, err := g.SignInPassword(ctx, h.client(), anna.email, goodPassword)
		h.refused(err, "signin-locked")
	}
	// Somebody with the fleet's store takes the count away: whoever counted knows.
	h.must(h.member.Store().Delete(ctx, pathFailures))
	_, err := h.gates[1].SignInPassword(ctx, h.client(), anna.email, goodPassword) // it counted the fifth
	h.refused(err, "signin-locked")
	h.pass(time.Hour)
	_, err = h.gates[0].signIn(anna)
	h.must(err)
}

func TestGuessesAtTheCodeAreCountedToo(t *testing.T) {
	h := newHouse(t, 2)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	for i := range 5 {
		at, err := h.gates[i%2].SignInPassword(ctx, h.client(), anna.email, goodPassword)
		h.must(err)
		wrong := "000000"
		if h.code(anna) == wrong {
			wrong = "111111"
		}
		_, err = h.gates[i%2].SignInTOTP(ctx, h.client(), at.Ceremony, wrong)
		h.refused(err, "code-wrong")
	}
	_, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, "signin-locked")
}

func TestALockOfTheDatabaseHoldsWithoutIt(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.people[0].Failures, h.people[0].LockedUntil = 9, h.clock().Add(10*time.Minute).UTC()
	h.look()
	h.lose()
	_, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, "signin-locked")
}

func TestWhoIsNotOfThePlatformLooksLikeAWrongPassword(t *testing.T) {
	h := newHouse(t, 1)
	h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	_, known := h.gates[0].SignInPassword(ctx, h.client(), "anna@example.org", "wrong horse battery")
	_, unknown := h.gates[0].SignInPassword(ctx, h.client(), "nurse@st-mary.example.org", "wrong horse battery")
	if known == nil || unknown == nil || known.Error() != unknown.Error() {
		t.Fatalf("%v, and %v", known, unknown)
	}
}

func TestSessionsEndWhenAnyGatewayReachesTheDatabase(t *testing.T) {
	h := newHouse(t, 3)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	in, err := h.gates[0].signIn(anna)
	h.must(err)
	e, err := h.member.Store().Get(ctx, pathSessions+in.Session.ID)
	h.must(err)
	var b box
	h.must(e.Decode(&b))
	h.gates[2].up.Store(true)
	_, _, err = h.gates[2].Check(ctx, in.Token) // before it has told anybody
	h.refused(err, "session-database-back")
	h.must(h.gates[2].Tick(ctx))
	_, _, err = h.gates[0].Check(ctx, in.Token) // where the database is still away
	h.refused(err, "session-database-back")
	// It does not come back to life with the next outage, not even where
	// somebody with the fleet's store puts it back.
	h.lose()
	_, err = h.member.Store().Put(ctx, pathSessions+in.Session.ID, b)
	h.must(err)
	_, _, err = h.gates[0].Check(ctx, in.Token)
	h.refused(err, "session-invalid")
}

func TestOneNodeThatIsCutOffFromTheDatabaseOpensNothing(t *testing.T) {
	h := newHouse(t, 2)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.gates[0].up.Store(false)
	h.look()
	h.pass(time.Hour)
	h.look()
	_, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, "database-elsewhere")
	if s := h.gates[0].State(ctx); !s.Away || s.Open || !strings.Contains(s.Why.Mend, "gate-2") {
		t.Fatalf("%+v", s)
	}
}

func TestAMirrorThatWasSetBackOpensNothing(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	old, err := h.member.Store().Get(ctx, pathMirror)
	h.must(err)
	var b box
	h.must(old.Decode(&b))
	h.people = nil // she leaves
	h.pass(clearAfter)
	h.look()
	h.lose()
	_, err = h.member.Store().Put(ctx, pathMirror, b)
	h.must(err)
	_, err = h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, errOlder.Code)
	// The same after a restart during the outage.
	again := h.gate("gate-1", h.gates[0].File, h.ring)
	again.up.Store(false)
	h.must(again.Tick(ctx))
	h.pass(Patience)
	h.must(again.Tick(ctx))
	_, err = again.SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, errOlder.Code)
	// When the database is back, the mirror goes on from the highest version.
	h.gates[0].up.Store(true)
	h.look()
	m, err := h.gates[0].mirrored(ctx)
	h.must(err)
	if len(m.People) != 0 || m.Version < 3 {
		t.Fatalf("%+v", m)
	}
}

func TestANodeThatIsUnsureRefuses(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.pass(unsure + time.Second) // in which it compared nothing: the fleet did not answer, say
	h.lose()
	_, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, errUnsure.Code)

	fresh := h.gate("gate-9", filepath.Join(t.TempDir(), "signin.sealed"), h.ring) // has never seen the database
	fresh.up.Store(false)
	h.must(fresh.Tick(ctx))
	h.pass(Patience)
	h.must(fresh.Tick(ctx))
	_, err = fresh.SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.refused(err, errUnsure.Code)
}

func TestANodeThatRestartsDuringTheOutageGoesOn(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	in, err := h.gates[0].signIn(anna)
	h.must(err)
	h.pass(2 * time.Minute)
	again := h.gate("gate-1", h.gates[0].File, h.ring)
	again.up.Store(false)
	h.must(again.Tick(ctx))
	if _, _, err := again.Check(ctx, in.Token); err != nil {
		t.Fatal(err)
	}
	h.pass(Patience)
	h.must(again.Tick(ctx))
	_, err = again.signIn(anna)
	h.must(err)
}

func TestTokensAndHandlesThatWereMadeUpOpenNothing(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	in, err := h.gates[0].signIn(anna)
	h.must(err)
	last := "a"
	if strings.HasSuffix(in.Token, "a") {
		last = "b"
	}
	for _, token := range []string{"", TokenPrefix, in.Token[1:], in.Token[:len(in.Token)-1] + last, strings.ToUpper(in.Token), in.Token + "a",
		TokenPrefix + strings.Repeat("a", tokenLength-len(TokenPrefix)), "fds_" + in.Token[len(TokenPrefix):]} {
		_, _, err := h.gates[0].Check(ctx, token)
		h.refused(err, "session-invalid")
	}
	for _, handle := range []string{"", handlePrefix, handlePrefix + "AAAA", "fdo.!", strings.Repeat("a", 4000)} {
		_, err := h.gates[0].SignInTOTP(ctx, h.client(), handle, "123456")
		h.refused(err, "signin-expired")
		_, err = h.gates[0].SignInPasskey(ctx, h.client(), handle, nil)
		h.refused(err, "signin-expired")
	}
	at, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.must(err)
	h.pass(ceremonyLife)
	_, err = h.gates[0].SignInTOTP(ctx, h.client(), at.Ceremony, h.code(anna))
	h.refused(err, "signin-expired")
}

func TestACeremonyIsFinishedOnceAndEndsNoOtherKind(t *testing.T) {
	h := newHouse(t, 2)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.authenticator(anna, 5)
	h.look()
	h.lose()
	at, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.must(err)
	_, err = h.gates[0].SignInTOTP(ctx, h.client(), at.Ceremony, h.code(anna))
	h.must(err)
	_, err = h.gates[1].SignInTOTP(ctx, h.client(), at.Ceremony, h.code(anna))
	h.refused(err, "signin-expired")
	c, err := h.gates[0].BeginPasskey(ctx, h.client(), "")
	h.must(err)
	_, err = h.gates[0].SignInTOTP(ctx, h.client(), c.Ceremony, h.code(anna))
	h.refused(err, "signin-expired")
}

func TestAPasskeyOpensOnAnyNodeOnceAndItsCountMustGrow(t *testing.T) {
	h := newHouse(t, 2)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	key := h.authenticator(anna, 5)
	h.look()
	h.lose()
	begin := func() access.PasskeyChallenge {
		c, err := h.gates[0].BeginPasskey(ctx, h.client(), "")
		h.must(err)
		return c
	}
	key.count = 6
	c := begin()
	answer := key.answer(t, anna, c)
	in, err := h.gates[1].SignInPasskey(ctx, h.client(), c.Ceremony, answer)
	h.must(err)
	if in.Principal.ID != anna.Person.String() || in.Session.Method != "passkey" {
		t.Fatalf("%+v", in)
	}
	_, err = h.gates[0].SignInPasskey(ctx, h.client(), c.Ceremony, answer)
	h.refused(err, "signin-expired")
	c = begin() // a copy of the authenticator that has not seen the last sign-in
	_, err = h.gates[0].SignInPasskey(ctx, h.client(), c.Ceremony, key.answer(t, anna, c))
	h.refused(err, "passkey-cloned")
	other := h.operator("ben@example.org", principal.PlatformOperator)
	c = begin()
	key.count = 9
	_, err = h.gates[0].SignInPasskey(ctx, h.client(), c.Ceremony, key.answer(t, other, c))
	h.refused(err, "passkey-refused")
	at, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, goodPassword)
	h.must(err)
	c, err = h.gates[1].BeginPasskey(ctx, h.client(), at.Ceremony)
	h.must(err)
	in, err = h.gates[0].SignInPasskey(ctx, h.client(), c.Ceremony, key.answer(t, anna, c))
	h.must(err)
	if in.Session.Method != "password+passkey" {
		t.Fatalf("%+v", in.Session)
	}
}

func TestSteppingUpGivesANewTokenAndNoMoreTime(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	in, err := h.gates[0].signIn(anna)
	h.must(err)
	h.pass(16 * time.Minute)
	again, err := h.gates[0].StepUpTOTP(ctx, in.Principal, h.client(), h.code(anna))
	h.must(err)
	if !again.Session.ExpiresAt.Equal(in.Session.ExpiresAt) || !again.Principal.SecondFactor.After(in.Principal.SecondFactor) {
		t.Fatalf("%+v, before %+v", again.Session, in.Session)
	}
	_, _, err = h.gates[0].Check(ctx, in.Token)
	h.refused(err, "session-invalid")
	p, _, err := h.gates[0].Check(ctx, again.Token)
	h.must(err)
	h.must(h.gates[0].SignOut(ctx, p))
	_, _, err = h.gates[0].Check(ctx, again.Token)
	h.refused(err, "session-invalid")
}

func TestEverySignInStandsInTheFleetsListFailedOrNot(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	for range 3 {
		_, err := h.gates[0].SignInPassword(ctx, h.client(), anna.email, "wrong horse battery")
		h.refused(err, "signin-failed")
	}
	_, err := h.gates[0].SignInPassword(ctx, h.client(), "nobody@example.org", "wrong horse battery")
	h.refused(err, "signin-failed")
	_, err = h.gates[0].signIn(anna)
	h.must(err)
	h.pass(refusalWindow)
	h.look()
	acts, err := h.member.Acts(ctx, 0)
	h.must(err)
	var got []string
	for _, a := range acts {
		if !strings.HasPrefix(a.Act, "person.") && !strings.HasPrefix(a.Act, "signin.") {
			continue
		}
		line := a.Act
		switch {
		case a.Denied && a.Target == anna.Person.String():
			line += " denied anna"
		case a.Denied:
			line += " denied " + strings.Split(a.Target, ":")[0]
		case a.Target == anna.Person.String():
			line += " anna"
		}
		if times := a.Details["times"]; times != "" {
			line += " times " + times
		}
		got = append(got, line)
		for _, secret := range []string{anna.email, anna.Name} {
			for _, v := range a.Details {
				if strings.Contains(v, secret) {
					t.Errorf("%s names %q", a.Act, secret)
				}
			}
		}
	}
	want := []string{"signin.open", "person.signin denied anna", "person.signin denied account", "person.signin anna", "person.signin denied anna times 2"}
	if !slices.Equal(got, want) {
		t.Fatalf("the list has %q, not %q", got, want)
	}
}

// Without a place in the list nobody gets in.
func TestASignInThatCannotBeRecordedOpensNothing(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	h.gates[0].Enter = func(context.Context, member.Act) error { return errors.New("the list is full") }
	if _, err := h.gates[0].signIn(anna); err == nil {
		t.Fatal("signed in without a record")
	}
	if all, _, err := h.member.Store().List(ctx, pathSessions); err != nil || len(all) != 0 {
		t.Fatalf("%d sessions, %v", len(all), err)
	}
}

func TestTheMirrorsOwnersAreFoundByAddressAndById(t *testing.T) {
	h := newHouse(t, 1)
	anna := h.operator("anna@example.org", principal.PlatformOperator)
	h.look()
	h.lose()
	found, err := h.gates[0].Named(ctx, []string{anna.email, anna.Person.String(), "ben@example.org"})
	h.must(err)
	want := "person:" + anna.Person.String()
	if len(found) != 2 || found[anna.email] != want || found[anna.Person.String()] != want {
		t.Fatalf("%v", found)
	}
}
