package access

import (
	"testing"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestAPasskeyAloneCountsAsTwoFactors(t *testing.T) {
	w := newCompany(t)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: "anna@example.org", Name: "Anna", Roles: principal.RolesOf(principal.Administrator)})
	w.must(err)
	in, err := w.people.Accept(ctx, w.client(), token, Acceptance{}) // no password at all
	w.must(err)
	m := &member{w: w, id: in.Session.Person, email: "anna@example.org", in: in}
	key := m.enrolPasskey()
	if in, err = w.passkeySignIn(key); err != nil || in.Session.Enrolment || in.Session.SecondFactor == nil || in.Session.Method != "passkey" {
		t.Fatalf("%+v %v", in.Session, err)
	}
	if p, err := w.check(in.Token); err != nil || !p.Roles.Has(principal.Administrator) || p.ID != m.id.String() {
		t.Fatalf("%+v %v", p, err)
	}
	list, err := w.people.Passkeys(ctx, in.Principal)
	if err != nil || len(list) != 1 || list[0].Name != "Blue key" || list[0].LastUsedAt == nil {
		t.Fatalf("%+v %v", list, err)
	}
	w.must(w.people.RenamePasskey(ctx, in.Principal, list[0].ID, "Red key"))
	w.wantCode(w.people.RemovePasskey(ctx, in.Principal, list[0].ID), "factor-needed")
	_, err = w.people.SignInPassword(ctx, w.client(), m.email, "")
	w.wantCode(err, "signin-failed") // no password opens nothing
}

func TestAPasskeyIsTheSecondFactorAndTheStepUp(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := m.enrolPasskey()
	at, err := w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.must(err)
	c, err := w.people.BeginPasskey(ctx, w.client(), at.Ceremony)
	w.must(err)
	in, err := w.people.SignInPasskey(ctx, w.client(), c.Ceremony, key.sign(c))
	if err != nil || in.Session.Method != "password+passkey" {
		t.Fatalf("%+v %v", in.Session, err)
	}
	_, err = w.people.SignInTOTP(ctx, w.client(), at.Ceremony, m.code())
	w.wantCode(err, "signin-expired") // the password's ceremony is used up with it
	c, err = w.people.BeginStepUpPasskey(ctx, in.Principal)
	w.must(err)
	up, err := w.people.StepUpPasskey(ctx, in.Principal, w.client(), c.Ceremony, key.sign(c))
	if err != nil || !up.Principal.SecondFactor.After(in.Principal.SecondFactor) {
		t.Fatalf("%+v %v", up.Principal, err)
	}
}

func TestAChallengeIsAnsweredOnceAndOnlyForWhatItWasMade(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := m.enrolPasskey()
	c, err := w.people.BeginPasskey(ctx, w.client(), "")
	w.must(err)
	answer := key.sign(c)
	if _, err := w.people.SignInPasskey(ctx, w.client(), c.Ceremony, answer); err != nil {
		t.Fatal(err)
	}
	_, err = w.people.SignInPasskey(ctx, w.client(), c.Ceremony, answer)
	w.wantCode(err, "signin-expired")
	// A step-up's challenge signs nobody in, nor does it in another session.
	other := m.signIn()
	c, err = w.people.BeginStepUpPasskey(ctx, other.Principal)
	w.must(err)
	_, err = w.people.SignInPasskey(ctx, w.client(), c.Ceremony, key.sign(c))
	w.wantCode(err, "signin-expired")
	third := m.signIn()
	_, err = w.people.StepUpPasskey(ctx, third.Principal, w.client(), c.Ceremony, key.sign(c))
	w.wantCode(err, "signin-expired")
	// An answer to one challenge is none to another.
	a, err := w.people.BeginPasskey(ctx, w.client(), "")
	w.must(err)
	b, err := w.people.BeginPasskey(ctx, w.client(), "")
	w.must(err)
	_, err = w.people.SignInPasskey(ctx, w.client(), a.Ceremony, key.sign(b))
	w.wantCode(err, "passkey-refused")
}

func TestWrongPasskeysAreRefused(t *testing.T) {
	w := newCompany(t)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator)
	bert := w.join("bert@example.org", w.org.ID, principal.Administrator)
	annas, berts := anna.enrolPasskey(), bert.enrolPasskey()

	// Another person's passkey as one's second factor.
	at, err := w.people.SignInPassword(ctx, w.client(), anna.email, goodPassword)
	w.must(err)
	c, err := w.people.BeginPasskey(ctx, w.client(), at.Ceremony)
	w.must(err)
	_, err = w.people.SignInPasskey(ctx, w.client(), c.Ceremony, berts.sign(c))
	w.wantCode(err, "passkey-refused")

	for name, spoil := range map[string]func(*authenticator){
		"another's handle":            func(a *authenticator) { a.handle = annas.handle },
		"another's id":                func(a *authenticator) { a.id = annas.id },
		"another key":                 func(a *authenticator) { a.key = annas.key },
		"another origin":              func(a *authenticator) { a.origin = "https://console.example.org.evil.example" },
		"a user who was not verified": func(a *authenticator) { a.unseen = true },
		"a handle of nobody":          func(a *authenticator) { a.handle = make([]byte, 16) },
		"a handle that is no uuid":    func(a *authenticator) { a.handle = []byte("anna") },
		"an unknown id":               func(a *authenticator) { a.id = make([]byte, 32) },
	} {
		spoiled := *berts
		spoil(&spoiled)
		if _, err := w.passkeySignIn(&spoiled); problem.From(err).Code != "passkey-refused" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A row moved to somebody else by who has the database opens nothing.
	w.sql(`UPDATE passkeys SET person_id = $1 WHERE id = $2`, anna.id, berts.id)
	moved := *berts
	moved.handle = annas.handle
	if _, err := w.passkeySignIn(&moved); err == nil {
		t.Error("a passkey planted in another's account opens it")
	}
}

func TestACopiedAuthenticatorIsFoundOut(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := m.enrolPasskey()
	copied := *key
	if _, err := w.passkeySignIn(key); err != nil {
		t.Fatal(err)
	}
	_, err := w.passkeySignIn(&copied) // the counter stands still
	w.wantCode(err, "passkey-cloned")
	key.count += 10
	if _, err := w.passkeySignIn(key); err == nil {
		t.Fatal("a passkey of which there are two still opens")
	}
	list, err := w.people.Passkeys(ctx, m.in.Principal)
	if err != nil || !list[0].Cloned {
		t.Fatalf("%+v %v", list, err)
	}
	if n := w.count(`SELECT count(*) FROM audit WHERE act = 'passkey.cloned'`); n != 1 {
		t.Errorf("%d entries", n)
	}
	m.signIn()
	w.must(w.people.RemovePasskey(ctx, m.in.Principal, list[0].ID))
}

// An authenticator without a counter always says 0 (WebAuthn, 6.1.1).
func TestAnAuthenticatorWithoutACounterIsNoCopy(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := newAuthenticator(t)
	key.counting = false
	c, err := w.people.BeginPasskeyEnrolment(ctx, m.in.Principal)
	w.must(err)
	if _, err = w.people.EnrolPasskey(ctx, m.in.Principal, c.Ceremony, "Phone", key.register(c)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.passkeySignIn(key); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever finds an open browser enrols nothing, and takes nothing away.
func TestChangingHowOneSignsInAsksForTheSecondFactorAgain(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	w.sql(`UPDATE sessions SET second_factor_at = now() - interval '16 minutes'`)
	w.must(w.sessions.Refresh(ctx))
	p := m.in.Principal
	for name, act := range map[string]func() error{
		"a passkey":        func() error { _, err := w.people.BeginPasskeyEnrolment(ctx, p); return err },
		"a code generator": func() error { _, err := w.people.BeginTOTP(ctx, p); return err },
		"recovery codes":   func() error { _, err := w.people.RenewRecoveryCodes(ctx, p); return err },
		"removal":          func() error { return w.people.RemoveTOTP(ctx, p) },
		"a password": func() error {
			_, err := w.people.ChangePassword(ctx, p, w.client(), goodPassword, otherGood)
			return err
		},
	} {
		if err := act(); problem.From(err).Code != "step-up-required" {
			t.Errorf("%s: %v", name, err)
		}
	}
	in, err := w.people.StepUpTOTP(ctx, p, w.client(), m.code())
	w.must(err)
	if _, err := w.people.BeginPasskeyEnrolment(ctx, in.Principal); err != nil {
		t.Error(err)
	}
}
