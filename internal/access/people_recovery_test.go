package access

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
)

// An administrator of an organisation makes a recovery link for a member, keeps
// it, and uses it once the member has become more than that organisation's.
func TestARecoveryLinkOpensNoMoreThanItsOrganisationHadAlone(t *testing.T) {
	w := newCompany(t)
	other, err := CreateOrganisation(ctx, w.d, w.guard, operator, "other")
	w.must(err)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator)
	for name, place := range map[string]struct {
		org  uuid.UUID
		role principal.Role
	}{
		"of another organisation": {other.ID, principal.Viewer},
		"of the platform":         {uuid.Nil, principal.PlatformAdministrator},
	} {
		email := "v" + place.org.String()[:4] + "@example.org"
		vera := w.join(email, w.org.ID, principal.Viewer)
		_, link, err := w.people.Recover(ctx, anna.in.Principal, vera.id)
		w.must(err)
		_, token, err := w.people.Invite(ctx, operator, NewInvitation{Organisation: place.org, Email: email, Name: "Vera", Roles: principal.RolesOf(place.role)})
		w.must(err)
		joined, err := w.people.Join(ctx, vera.in.Principal, token)
		w.must(err)
		if _, err := w.people.Accept(ctx, w.client(), link, Acceptance{Password: otherGood}); err == nil {
			t.Errorf("an organisation took over a person %s", name)
		}
		if _, _, err := w.sessions.CheckEnrolment(ctx, w.clock(), joined.Token); err != nil {
			t.Errorf("%s: the person's own session ended: %v", name, err)
		}
		// The platform may, and decides anew.
		_, link, err = w.people.Recover(ctx, operator, vera.id)
		w.must(err)
		if _, err := w.people.Accept(ctx, w.client(), link, Acceptance{Password: otherGood}); err != nil {
			t.Errorf("%s: the platform's link: %v", name, err)
		}
	}
}

// Who has the old password must not get in after a recovery in which a
// passkey was chosen, and no new password.
func TestARecoveryWithoutAPasswordVoidsTheOldOne(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	_, link, err := w.people.Recover(ctx, operator, m.id)
	w.must(err)
	if m.in, err = w.people.Accept(ctx, w.client(), link, Acceptance{}); err != nil {
		t.Fatal(err)
	}
	_, err = w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.wantCode(err, "signin-failed")
	key := m.enrolPasskey()
	if _, err := w.passkeySignIn(key); err != nil {
		t.Fatal(err)
	}
}

// One recovery is one link: those made before are void when another is made,
// and so when it is used.
func TestOnlyTheLastRecoveryLinkOpens(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Viewer)
	_, first, err := w.people.Recover(ctx, operator, m.id)
	w.must(err)
	_, second, err := w.people.Recover(ctx, operator, m.id)
	w.must(err)
	_, err = w.people.Accept(ctx, w.client(), first, Acceptance{Password: otherGood})
	w.wantCode(err, "invitation-invalid")
	if _, err := w.people.Accept(ctx, w.client(), second, Acceptance{Password: otherGood}); err != nil {
		t.Fatal(err)
	}
	_, err = w.people.Accept(ctx, w.client(), second, Acceptance{Password: goodPassword})
	w.wantCode(err, "invitation-invalid")
}

func TestARecoveryLinkOpensOnceAlsoOnTwoNodesAtOnce(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Viewer)
	_, link, err := w.people.Recover(ctx, operator, m.id)
	w.must(err)
	other, _ := w.node(dbtest.Open(t, w.cfg))
	var wait sync.WaitGroup
	var opened atomic.Int32
	for _, n := range []*People{w.people, other, w.people, other} {
		c := w.client()
		wait.Go(func() {
			if _, err := n.Accept(ctx, c, link, Acceptance{Password: otherGood}); err == nil {
				opened.Add(1)
			}
		})
	}
	wait.Wait()
	if opened.Load() != 1 {
		t.Fatalf("one link opened %d sessions", opened.Load())
	}
}
