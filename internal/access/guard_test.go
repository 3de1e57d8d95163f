package access

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func newGuard(t testing.TB, d *db.DB) *Guard {
	t.Helper()
	return guardIn(t, d, policy.Development)
}

func guardIn(t testing.TB, d *db.DB, mode string) *Guard {
	t.Helper()
	e, err := policy.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	g := NewGuard(e, d, time.Now, mode)
	t.Cleanup(func() { _ = g.Close(context.WithoutCancel(t.Context())) })
	return g
}

// acting is a person who showed a second factor just now.
func acting(org uuid.UUID, roles ...principal.Role) principal.Principal {
	return principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Organisation: org, Roles: principal.RolesOf(roles...), SecondFactor: time.Now()}
}

func denials(t *testing.T, d *db.DB, act string) (entries, times int) {
	t.Helper()
	all, err := audit.List(t.Context(), d, uuid.Nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Act != act || e.Outcome != audit.Denied {
			continue
		}
		var details struct{ Times int }
		if err := json.Unmarshal(e.Details, &details); err != nil {
			t.Fatal(err)
		}
		entries++
		times += max(details.Times, 1)
	}
	return entries, times
}

func TestADenialNamesThePolicyAndTheNearestRoleAndIsAudited(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	g := guardIn(t, d, policy.Production)
	org := uuid.New()
	for _, c := range []struct {
		who  principal.Principal
		act  policy.Action
		code string
		says []string
	}{
		{acting(org, principal.Viewer), "key.create", "access-denied", []string{"default-deny", "role developer"}},
		{acting(uuid.New(), principal.Administrator), "request.read", "access-denied", []string{"own-organisation-only", "role viewer"}},
		{acting(uuid.Nil, principal.PlatformOperator), "request.list", "access-denied", []string{"client-data-needs-a-grant"}},
		{principal.Principal{Kind: principal.Local, UID: 1000}, "organisation.create", "access-denied", []string{"local-socket-in-production", "role platform-operator", "foundry login"}},
		{acting(org, principal.Viewer), "key.forge", "action-unknown", []string{"key.forge"}},
		{principal.Principal{Kind: principal.Person, ID: "x", Roles: principal.RolesOf(principal.Administrator)}, "key.create", "request-invalid", []string{"organisation"}},
	} {
		before, _ := denials(t, d, string(c.act))
		err := g.Authorise(t.Context(), c.who, c.act, policy.Resource{Organisation: org})
		p := problem.From(err)
		if p.Kind != problem.Denied || p.Code != c.code || p.Mend == "" {
			t.Errorf("%s: %+v", c.act, p)
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", c.act, err, text)
			}
		}
		if n, _ := denials(t, d, string(c.act)); n != before+1 {
			t.Errorf("%s: %d entries", c.act, n-before)
		}
	}
}

// Who broke the glass can be given no role: only another scope helps.
func TestADenialInAnEmergencyNamesTheScope(t *testing.T) {
	t.Parallel()
	g := guardIn(t, dbtest.New(t), policy.Production)
	p := acting(uuid.Nil, principal.PlatformOperator)
	p.Session = principal.Emergency
	err := g.Authorise(t.Context(), p, "audit.verify", policy.Resource{})
	if err == nil || !strings.Contains(err.Error(), "platform-security") || !strings.Contains(err.Error(), "foundry breakglass open") || strings.Contains(err.Error(), "whoever gives roles") {
		t.Error(err)
	}
}

func TestAStaleSecondFactorAsksForAnother(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	g := guardIn(t, d, policy.Production)
	p := acting(uuid.New(), principal.Administrator)
	r := policy.Resource{Organisation: p.Organisation}
	if err := g.Authorise(t.Context(), p, "person.invite", r); err != nil {
		t.Fatal(err)
	}
	p.SecondFactor = p.SecondFactor.Add(-16 * time.Minute)
	if err := g.Authorise(t.Context(), p, "person.invite", r); problem.From(err).Code != "step-up-required" {
		t.Errorf("%v", err)
	}
	if n, _ := denials(t, d, "person.invite"); n != 1 {
		t.Errorf("%d entries", n)
	}
}

func TestRepeatedDenialsAreCountedNotLost(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	g := guardIn(t, d, policy.Production)
	g.window = time.Hour // until Close
	who := acting(uuid.New(), principal.Viewer)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 250 {
				if err := g.Authorise(context.Background(), who, "key.create", policy.Resource{Organisation: who.Organisation}); problem.From(err).Kind != problem.Denied {
					t.Errorf("%v", err)
				}
			}
		})
	}
	all.Wait()
	if n, _ := denials(t, d, "key.create"); n != 1 {
		t.Errorf("%d entries within the window", n)
	}
	if err := g.Authorise(t.Context(), who, "key.create", policy.Resource{Organisation: who.Organisation, ID: "another"}); err == nil {
		t.Error("allowed")
	}
	if n, _ := denials(t, d, "key.create"); n != 2 {
		t.Errorf("%d entries: another target is another denial", n)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, times := denials(t, d, "key.create"); n != 3 || times != 1001 {
		t.Errorf("%d entries of %d denials", n, times)
	}
	if err := g.Authorise(t.Context(), who, "key.create", policy.Resource{Organisation: who.Organisation}); err == nil {
		t.Error("allowed after Close")
	}
	if _, times := denials(t, d, "key.create"); times != 1002 {
		t.Errorf("%d denials after Close", times)
	}
}

func TestACallerThatHangsUpIsAuditedAllTheSame(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	g := guardIn(t, d, policy.Production)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	who := acting(uuid.New(), principal.Viewer)
	if err := g.Authorise(gone, who, "policy.set", policy.Resource{Organisation: who.Organisation}); problem.From(err).Kind != problem.Denied {
		t.Fatal(err)
	}
	if n, _ := denials(t, d, "policy.set"); n != 1 {
		t.Errorf("%d entries", n)
	}
}

func TestWithoutADatabaseADenialIsStillADenial(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	g := guardIn(t, d, policy.Production)
	d.Close()
	who := acting(uuid.New(), principal.Viewer)
	err := g.Authorise(t.Context(), who, "key.create", policy.Resource{Organisation: who.Organisation})
	if p := problem.From(err); p.Kind != problem.Denied || p.Code != "access-denied" {
		t.Errorf("%v", err)
	}
	if err := g.Authorise(t.Context(), who, "key.list", policy.Resource{Organisation: who.Organisation}); err != nil {
		t.Errorf("what is allowed needs no database: %v", err)
	}
}

func TestNoGuardDeniesEverything(t *testing.T) {
	var g *Guard
	err := g.Authorise(t.Context(), operator, "status.read", policy.Resource{})
	if problem.From(err).Kind != problem.Denied || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func BenchmarkAuthorise(b *testing.B) {
	e, err := policy.Builtin()
	if err != nil {
		b.Fatal(err)
	}
	g := NewGuard(e, nil, time.Now, policy.Production)
	who := acting(uuid.New(), principal.Developer)
	r := policy.Resource{ID: "k", Organisation: who.Organisation}
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Authorise(b.Context(), who, "key.create", r); err != nil {
			b.Fatal(err)
		}
	}
}
