package access

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func (w *company) material() []Material {
	w.t.Helper()
	all, err := w.people.Material(ctx)
	w.must(err)
	return all
}

func TestTheMaterialIsOfActivePeopleOfThePlatformOnly(t *testing.T) {
	w := newCompany(t)
	anna := w.join("anna@example.org", uuid.Nil, principal.PlatformAdministrator)
	ben := w.join("ben@example.org", uuid.Nil, principal.PlatformOperator)
	nurse := w.join("nurse@example.org", w.org.ID, principal.Administrator)
	anna.enrolPasskey()
	all := w.material()
	if len(all) != 2 || !slices.ContainsFunc(all, func(m Material) bool { return m.Person == ben.id }) {
		t.Fatalf("%d people", len(all))
	}
	for _, m := range all {
		if m.Person == nurse.id || m.Name == "" || m.TOTP == "" || m.Password == "" || m.Person == anna.id && len(m.Passkeys) != 1 {
			t.Errorf("%+v", m)
		}
		body, err := json.Marshal(m)
		w.must(err)
		if strings.Contains(string(body), "example.org") {
			t.Errorf("it has the address: %s", body)
		}
	}
	_, err := w.people.Deactivate(ctx, operator, ben.id)
	w.must(err)
	if all := w.material(); len(all) != 1 || all[0].Person != anna.id {
		t.Fatalf("%d people after a deactivation", len(all))
	}
}

// Whoever loses something is withdrawn before the database has committed it:
// nobody can take the database away in between.
func TestWhoLosesAccountRoleOrFactorIsWithdrawnBeforeItIsCommitted(t *testing.T) {
	w := newCompany(t)
	w.join("anna@example.org", uuid.Nil, principal.PlatformAdministrator)
	ben := w.join("ben@example.org", uuid.Nil, principal.PlatformAdministrator)
	ben.enrolPasskey()
	var withdrawn []uuid.UUID
	early := true
	w.people.Withdrawn = func(_ context.Context, person uuid.UUID) {
		withdrawn = append(withdrawn, person)
		// Another connection does not see it yet.
		early = early && slices.ContainsFunc(w.material(), func(m Material) bool { return m.Person == ben.id && m.TOTP != "" })
	}
	for _, c := range []struct { // in this order: fewer roles end the session
		name string
		act  func() error
	}{
		{"a new password", func() error {
			in, err := w.people.ChangePassword(ctx, ben.in.Principal, w.client(), goodPassword, otherGood)
			ben.in = in
			return err
		}},
		{"fewer roles", func() error {
			_, err := w.people.SetRoles(ctx, operator, uuid.Nil, ben.id, principal.RolesOf(principal.PlatformOperator))
			return err
		}},
	} {
		withdrawn = nil
		w.must(c.act())
		if !slices.Contains(withdrawn, ben.id) {
			t.Errorf("%s: not withdrawn", c.name)
		}
	}
	withdrawn = nil
	_, err := w.people.Deactivate(ctx, operator, ben.id)
	w.must(err)
	if !slices.Contains(withdrawn, ben.id) || !early {
		t.Errorf("a deactivation: %v, early %v", withdrawn, early)
	}
}

func TestWhatWasUsedWithoutTheDatabaseOpensNothingWithIt(t *testing.T) {
	w := newCompany(t)
	anna := w.join("anna@example.org", uuid.Nil, principal.PlatformAdministrator)
	code := anna.code()
	w.people.SpentStep = func(context.Context, uuid.UUID) int64 { return anna.step }
	at, err := w.people.SignInPassword(ctx, w.client(), anna.email, goodPassword)
	w.must(err)
	_, err = w.people.SignInTOTP(ctx, w.client(), at.Ceremony, code)
	w.wantCode(err, "code-wrong")

	w.people.SpentStep = nil
	locked := time.Now().Add(time.Minute)
	spent := []Spent{{Person: anna.id, Step: anna.step}, {Account: w.people.Account(anna.email), Failures: 6, Locked: locked}}
	for range 2 {
		w.must(w.people.Settle(ctx, spent))
	}
	_, err = w.people.SignInTOTP(ctx, w.client(), at.Ceremony, code)
	w.wantCode(err, "signin-locked")
	if n := w.count(`SELECT last_step FROM totp_secrets WHERE person_id = $1`, anna.id); int64(n) != anna.step {
		t.Errorf("the last step is %d, not %d", n, anna.step)
	}
	for _, m := range w.material() {
		if m.Failures != 6 || m.LockedUntil.IsZero() {
			t.Errorf("the lock is not in the material: %+v", m)
		}
	}
}

// The guard holds the limit, so that no transport can skip it.
func TestASessionFromAnOutageOpensIncidentsRecoveriesAndTheFleetOnly(t *testing.T) {
	engine, err := policy.Load()
	if err != nil {
		t.Fatal(err)
	}
	guard := NewGuard(engine, nil, time.Now, policy.Production)
	p := principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Session: "s", SecondFactor: time.Now(), Roles: principal.RolesOf(principal.PlatformOperator, principal.PlatformSecurity, principal.PlatformAdministrator)}
	away := p
	away.Away = true
	opened := map[string]bool{}
	for _, action := range policy.Actions() {
		with, without := guard.Decide(p, action, policy.Resource{Owner: p.ID}), guard.Decide(away, action, policy.Resource{Owner: p.ID})
		if without.Allowed && !with.Allowed {
			t.Errorf("%s is allowed without the database only", action)
		}
		if without.Allowed {
			opened[action.Type()] = true
		} else if with.Allowed && without.Code != CodeAway {
			t.Errorf("%s: refused with %s", action, without.Code)
		}
		if action.ClientData() && without.Allowed {
			t.Errorf("%s opens client data", action)
		}
	}
	for _, noun := range []string{"incident", "recovery", "fleet", "plan", "status", "console", "session", "account"} {
		if !opened[noun] {
			t.Errorf("nothing of %s is open", noun)
		}
		delete(opened, noun)
	}
	if len(opened) > 0 {
		t.Errorf("also open: %v", opened)
	}
	e := refusal(away, "key.create", guard.Decide(away, "key.create", policy.Resource{}))
	if e.Kind != problem.Denied || !strings.Contains(e.Detail, "the database is down") || e.Mend == "" {
		t.Errorf("%v", e)
	}
}
