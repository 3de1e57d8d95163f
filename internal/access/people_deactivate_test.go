package access

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestDeactivatingEndsEverythingInOneAct(t *testing.T) {
	w := newCompany(t)
	m := w.join("anna@example.org", w.org.ID, principal.Administrator)
	key := m.enrolPasskey()
	_, token, err := w.people.Invite(ctx, m.in.Principal, NewInvitation{Organisation: w.org.ID, Email: "friend@example.org", Name: "F", Roles: principal.RolesOf(principal.Administrator)})
	w.must(err)
	v := NewVerifier(macKey)
	var ids []string
	for _, name := range []string{"mine", "kept", "robot"} {
		k, _, err := v.CreateKey(ctx, w.d, w.guard, m.in.Principal, NewKey{Organisation: w.org.ID, Name: name})
		w.must(err)
		ids = append(ids, k.ID)
	}
	robot, err := w.people.CreateServiceAccount(ctx, m.in.Principal, w.org.ID, "robot")
	w.must(err)
	w.must(w.people.AssignKey(ctx, m.in.Principal, robot.ID, ids[2]))
	before, err := w.people.Footprint(ctx, operator, m.id)
	if err != nil || before.Sessions != 1 || before.Passkeys != 1 || before.Invitations != 1 || len(before.Keys) != 2 {
		t.Fatalf("%+v %v", before, err)
	}
	// A hook that fails undoes all of it.
	w.people.StopWork = func(context.Context, pgx.Tx, uuid.UUID) (int, error) { return 0, errors.New("not now") }
	if _, err := w.people.Deactivate(ctx, operator, m.id, ids[1]); err == nil {
		t.Fatal("done, though the work did not stop")
	}
	if _, err := w.check(m.in.Token); err != nil {
		t.Fatal("half done: ", err)
	}
	w.people.StopWork = func(context.Context, pgx.Tx, uuid.UUID) (int, error) { return 3, nil }
	done, err := w.people.Deactivate(ctx, operator, m.id, ids[1])
	if err != nil || done.Sessions != 1 || done.Passkeys != 1 || done.Invitations != 1 || done.Memberships != 1 || len(done.Keys) != 1 || done.Work != 3 {
		t.Fatalf("%+v %v", done, err)
	}
	if _, err := w.check(m.in.Token); err == nil {
		t.Error("the session lives")
	}
	if _, err := w.passkeySignIn(key); err == nil {
		t.Error("the passkey opens")
	}
	_, err = w.people.SignInPassword(ctx, w.client(), m.email, goodPassword)
	w.wantCode(err, "signin-failed")
	_, err = w.people.Accept(ctx, w.client(), token, Acceptance{Password: goodPassword})
	w.wantCode(err, "invitation-invalid")
	for i, want := range []int{1, 0, 0} {
		if n := w.count(`SELECT count(*) FROM api_keys WHERE id = $1 AND revoked_at IS NOT NULL`, ids[i]); n != want {
			t.Errorf("key %d: revoked %d", i, n)
		}
	}
	again, err := w.people.Deactivate(ctx, operator, m.id)
	if err != nil || again.Sessions+again.Passkeys+again.Invitations+again.Memberships+len(again.Keys) != 0 {
		t.Errorf("a second time: %+v %v", again, err)
	}
	if n := w.count(`SELECT count(*) FROM audit WHERE act = 'person.deactivate' AND target = $1`, m.id.String()); n != 2 {
		t.Errorf("%d entries, want one on the platform and one in the organisation", n)
	}
	// Who comes back is somebody new.
	back := w.join("anna@example.org", w.org.ID, principal.Viewer)
	if back.id == m.id {
		t.Error("an ended person came back")
	}
}

func TestTheLastPlatformAdministratorStays(t *testing.T) {
	w := newCompany(t)
	anna := w.join("anna@example.org", uuid.Nil, principal.PlatformAdministrator)
	w.wantLast(anna)
	bert := w.join("bert@example.org", uuid.Nil, principal.PlatformAdministrator)
	// Both resign at once: one of them stays.
	var wait sync.WaitGroup
	errs := make([]error, 2)
	for i, m := range []*member{anna, bert} {
		wait.Go(func() { _, errs[i] = w.people.SetRoles(ctx, m.in.Principal, uuid.Nil, m.id, 0) })
	}
	wait.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("%v", errs)
	}
	if n := w.count(`SELECT count(*) FROM memberships WHERE organisation_id = $1`, uuid.Nil); n != 1 {
		t.Fatalf("%d administrators left", n)
	}
}

func (w *company) wantLast(m *member) {
	w.t.Helper()
	_, err := w.people.Deactivate(ctx, m.in.Principal, m.id)
	w.wantCode(err, "administrator-last")
	_, err = w.people.SetRoles(ctx, m.in.Principal, uuid.Nil, m.id, principal.RolesOf(principal.PlatformOperator))
	w.wantCode(err, "administrator-last")
}

func TestAChangeOfRolesEndsTheMembersSessions(t *testing.T) {
	w := newCompany(t)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator)
	vera := w.join("vera@example.org", w.org.ID, principal.Viewer)
	m, err := w.people.SetRoles(ctx, anna.in.Principal, w.org.ID, vera.id, principal.RolesOf(principal.Operator))
	if err != nil || m.Roles != principal.RolesOf(principal.Operator) {
		t.Fatalf("%+v %v", m, err)
	}
	_, err = w.check(vera.in.Token)
	w.wantCode(err, "session-invalid")
	// An operator needs a second factor, which this one has not got yet.
	if in := vera.signIn(); !in.Session.Enrolment {
		t.Fatalf("%+v", in.Session)
	}
	if _, err := w.people.SetRoles(ctx, anna.in.Principal, w.org.ID, vera.id, 0); err != nil {
		t.Fatal(err)
	}
	_, err = w.people.SignInPassword(ctx, w.client(), vera.email, goodPassword)
	w.wantCode(err, "membership-missing")
}

func TestAServiceAccountEndsWithItsKeys(t *testing.T) {
	w := newCompany(t)
	anna := w.join("anna@example.org", w.org.ID, principal.Administrator).in.Principal
	a, err := w.people.CreateServiceAccount(ctx, anna, w.org.ID, "robot")
	w.must(err)
	_, err = w.people.CreateServiceAccount(ctx, anna, w.org.ID, "robot")
	w.wantCode(err, "service-account-exists")
	k, _, err := NewVerifier(macKey).CreateKey(ctx, w.d, w.guard, anna, NewKey{Organisation: w.org.ID, Name: "k"})
	w.must(err)
	w.must(w.people.AssignKey(ctx, anna, a.ID, k.ID))
	if list, err := w.people.ServiceAccounts(ctx, anna, w.org.ID); err != nil || len(list) != 1 || list[0].Keys != 1 {
		t.Fatalf("%+v %v", list, err)
	}
	if n, err := w.people.DeactivateServiceAccount(ctx, anna, a.ID); err != nil || n != 1 {
		t.Fatalf("%d %v", n, err)
	}
	if err := w.people.AssignKey(ctx, anna, a.ID, k.ID); problem.From(err).Kind != problem.Conflict {
		t.Fatalf("%v", err)
	}
}
