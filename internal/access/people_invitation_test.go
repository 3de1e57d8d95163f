package access

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestTheFirstAdministratorIsMadeOnce(t *testing.T) {
	w := newCompany(t)
	stranger := w.join("vera@example.org", w.org.ID, principal.Viewer)
	_, _, err := w.people.Bootstrap(ctx, stranger.in.Principal, "vera@example.org", "Vera")
	w.wantCode(err, "access-denied")
	_, first, err := w.people.Bootstrap(ctx, operator, "anna@example.org", "Anna")
	w.must(err)
	_, second, err := w.people.Bootstrap(ctx, operator, "bert@example.org", "Bert")
	w.must(err)
	in, err := w.people.Accept(ctx, w.client(), first, Acceptance{Password: goodPassword})
	if err != nil || !in.Session.Enrolment {
		t.Fatalf("%+v %v", in.Session, err)
	}
	_, err = w.people.Accept(ctx, w.client(), second, Acceptance{Password: goodPassword})
	w.wantCode(err, "administrator-exists")
	_, _, err = w.people.Bootstrap(ctx, operator, "carl@example.org", "Carl")
	w.wantCode(err, "administrator-exists")
}

func TestAnInvitationOpensOnce(t *testing.T) {
	w := newCompany(t)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: "anna@example.org", Name: "Anna", Roles: principal.RolesOf(principal.Viewer)})
	w.must(err)
	var wait sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		c := w.client()
		wait.Go(func() { _, errs[i] = w.people.Accept(ctx, c, token, Acceptance{Password: goodPassword}) })
	}
	wait.Wait()
	opened := 0
	for _, err := range errs {
		if err == nil {
			opened++
		}
	}
	if opened != 1 || w.count(`SELECT count(*) FROM people`) != 1 {
		t.Fatalf("one invitation made %d accounts: %v", opened, errs)
	}
	_, _, err = w.people.OpenInvitation(ctx, w.client(), token)
	w.wantCode(err, "invitation-invalid")
}

func TestInvitationsThatAreOverOpenNothing(t *testing.T) {
	w := newCompany(t)
	invite := func(email string) (Invitation, string) {
		i, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: w.org.ID, Email: email, Name: "X", Roles: principal.RolesOf(principal.Viewer)})
		w.must(err)
		return i, token
	}
	closed := func(name, token string) {
		t.Helper()
		if _, err := w.people.Accept(ctx, w.client(), token, Acceptance{Password: goodPassword}); problem.From(err).Code != "invitation-invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	i, token := invite("a@example.org")
	w.must(w.people.RevokeInvitation(ctx, operator, i.ID))
	closed("revoked", token)
	i, token = invite("b@example.org")
	next, renewed, err := w.people.ResendInvitation(ctx, operator, i.ID)
	if err != nil || next.ID == i.ID {
		t.Fatalf("%+v %v", next, err)
	}
	closed("renewed", token)
	if _, err := w.people.Accept(ctx, w.client(), renewed, Acceptance{Password: goodPassword}); err != nil {
		t.Error(err)
	}
	i, token = invite("c@example.org")
	w.sql(`UPDATE invitations SET expires_at = now() WHERE id = $1`, i.ID)
	closed("expired", token)
	_, token = invite("d@example.org")
	closed("truncated", token[:50])
	closed("with a letter more", token+"a")
	closed("a session's prefix", sessionPrefix+token[4:])
	_, other := invite("e@example.org")
	closed("another's secret", token[:14]+other[14:])
}

// Whoever can read a mailbox must not be able to take over an account with an
// invitation to its address.
func TestAnInvitationSetsNobodysPassword(t *testing.T) {
	w := newCompany(t)
	b, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator)
	bert := w.join("bert@example.org", w.org.ID, principal.Viewer)
	_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: b.ID, Email: "ANNA@example.org", Name: "Anna", Roles: principal.RolesOf(principal.Viewer)})
	w.must(err)
	_, known, err := w.people.OpenInvitation(ctx, w.client(), token)
	if err != nil || !known {
		t.Fatalf("%v %v", known, err)
	}
	_, err = w.people.Accept(ctx, w.client(), token, Acceptance{Password: otherGood})
	w.wantCode(err, "account-exists")
	_, err = w.people.Join(ctx, bert.in.Principal, token)
	w.wantCode(err, "invitation-other")
	in, err := w.people.Join(ctx, anna.in.Principal, token)
	if err != nil || in.Session.Organisation != b.ID || len(in.Memberships) != 2 {
		t.Fatalf("%+v %v", in, err)
	}
}

func TestARecoveryLinkReplacesEverything(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := m.enrolPasskey()
	before := m.in
	_, token, err := w.people.Recover(ctx, operator, m.id)
	w.must(err)
	if _, err := w.check(before.Token); err != nil {
		t.Fatal("the link ended the session before it was used")
	}
	in, err := w.people.Accept(ctx, w.client(), token, Acceptance{Password: otherGood})
	if err != nil || !in.Session.Enrolment || in.Session.Person != m.id {
		t.Fatalf("%+v %v", in.Session, err)
	}
	if _, err := w.check(before.Token); err == nil {
		t.Error("an old session lives")
	}
	if _, err := w.passkeySignIn(key); err == nil {
		t.Error("an old passkey opens")
	}
	_, err = w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.wantCode(err, "signin-failed")
}

func TestBadInvitationsNameTheirField(t *testing.T) {
	w := newCompany(t)
	viewer, staff := principal.RolesOf(principal.Viewer), principal.RolesOf(principal.PlatformOperator)
	for name, c := range map[string]struct {
		in    NewInvitation
		field string
	}{
		"no address":             {NewInvitation{Organisation: w.org.ID, Email: "anna", Name: "A", Roles: viewer}, "email"},
		"a name in the address":  {NewInvitation{Organisation: w.org.ID, Email: "Anna <a@example.org>", Name: "A", Roles: viewer}, "email"},
		"a line in the address":  {NewInvitation{Organisation: w.org.ID, Email: "a@example.org\r\nBcc: x@example.org", Name: "A", Roles: viewer}, "email"},
		"no name":                {NewInvitation{Organisation: w.org.ID, Email: "a@example.org", Roles: viewer}, "name"},
		"a line in the name":     {NewInvitation{Organisation: w.org.ID, Email: "a@example.org", Name: "A\nB", Roles: viewer}, "name"},
		"no role":                {NewInvitation{Organisation: w.org.ID, Email: "a@example.org", Name: "A"}, "roles"},
		"a platform role inside": {NewInvitation{Organisation: w.org.ID, Email: "a@example.org", Name: "A", Roles: staff}, "roles"},
		"a client role outside":  {NewInvitation{Email: "a@example.org", Name: "A", Roles: viewer}, "roles"},
	} {
		_, _, err := w.people.Invite(ctx, operator, c.in)
		if p := problem.From(err); p.Kind != problem.Invalid || p.Field != c.field {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Organisations reach into each other by no act on people.
func TestAnotherOrganisationsPeopleAreOutOfReach(t *testing.T) {
	w := newCompany(t)
	b, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator).in.Principal
	otto := w.join("otto@example.org", b.ID, principal.Viewer)
	i, _, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: b.ID, Email: "x@example.org", Name: "X", Roles: principal.RolesOf(principal.Viewer)})
	w.must(err)
	account, err := w.people.CreateServiceAccount(ctx, operator, b.ID, "robot")
	w.must(err)
	roles := principal.RolesOf(principal.Administrator)
	for name, act := range map[string]func() error{
		"list":                func() error { _, err := w.people.List(ctx, anna, b.ID); return err },
		"list everybody":      func() error { _, err := w.people.List(ctx, anna, uuid.Nil); return err },
		"show there":          func() error { _, err := w.people.Show(ctx, anna, b.ID, otto.id); return err },
		"show as one's own":   func() error { _, err := w.people.Show(ctx, anna, w.org.ID, otto.id); return err },
		"roles there":         func() error { _, err := w.people.SetRoles(ctx, anna, b.ID, otto.id, roles); return err },
		"a role in one's own": func() error { _, err := w.people.SetRoles(ctx, anna, w.org.ID, otto.id, roles); return err },
		"a role on the platform": func() error {
			_, err := w.people.SetRoles(ctx, anna, uuid.Nil, otto.id, principal.RolesOf(principal.PlatformAdministrator))
			return err
		},
		"invite there": func() error {
			_, _, err := w.people.Invite(ctx, anna, NewInvitation{Organisation: b.ID, Email: "y@example.org", Name: "Y", Roles: roles})
			return err
		},
		"invitations":            func() error { _, err := w.people.Invitations(ctx, anna, b.ID); return err },
		"revoke an invitation":   func() error { return w.people.RevokeInvitation(ctx, anna, i.ID) },
		"resend an invitation":   func() error { _, _, err := w.people.ResendInvitation(ctx, anna, i.ID); return err },
		"recover":                func() error { _, _, err := w.people.Recover(ctx, anna, otto.id); return err },
		"footprint":              func() error { _, err := w.people.Footprint(ctx, anna, otto.id); return err },
		"deactivate":             func() error { _, err := w.people.Deactivate(ctx, anna, otto.id); return err },
		"unlock":                 func() error { return w.people.Unlock(ctx, anna, otto.id) },
		"sessions":               func() error { _, err := w.people.RevokeSessions(ctx, anna, otto.id); return err },
		"service accounts":       func() error { _, err := w.people.ServiceAccounts(ctx, anna, b.ID); return err },
		"make a service account": func() error { _, err := w.people.CreateServiceAccount(ctx, anna, b.ID, "spy"); return err },
		"end a service account":  func() error { _, err := w.people.DeactivateServiceAccount(ctx, anna, account.ID); return err },
	} {
		kind := problem.From(act()).Kind
		if kind != problem.Denied && kind != problem.NotFound {
			t.Errorf("%s: %v", name, act())
		}
	}
	if _, err := w.check(otto.in.Token); err != nil {
		t.Fatal(err)
	}
	list, err := w.people.List(ctx, anna, w.org.ID)
	if err != nil || len(list) != 1 || strings.Contains(list[0].Email, "otto") {
		t.Fatalf("%+v %v", list, err)
	}
}
