package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
	"pgregory.net/rapid"
)

func drawOne[T any](t *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(t, label) }

// drawRequest draws a request of a plausible person.
func drawRequest(t *rapid.T) Request {
	r := Request{Action: drawOne(t, "action", Actions()...), Now: now, Mode: drawOne(t, "mode", Development, Production)}
	p := principal.Principal{Kind: principal.Person, ID: drawOne(t, "person", anna, bert)}
	side := memberRoles
	if rapid.Bool().Draw(t, "staff") {
		side = staffRoles
		if rapid.Bool().Draw(t, "under a grant") {
			p.Grant, p.Organisation = grant, drawOne(t, "organisation", ward, archive)
		}
	} else {
		p.Organisation = drawOne(t, "organisation", ward, archive)
	}
	for _, role := range side.List() {
		if rapid.Bool().Draw(t, role.String()) {
			p.Roles |= principal.RolesOf(role)
		}
	}
	if p.Roles == 0 {
		p.Grant = uuid.Nil
	}
	if age := rapid.IntRange(-1, 40).Draw(t, "age of the second factor"); age >= 0 {
		p.SecondFactor = now.Add(-time.Duration(age) * time.Minute)
	}
	r.Principal = p
	r.Resource = Resource{ID: drawOne(t, "id", "", "x"), Organisation: drawOne(t, "whose", uuid.Nil, ward, archive), Owner: drawOne(t, "owner", "", anna, bert)}
	return r
}

func TestOneMoreRoleNeverTakesAPermissionAway(t *testing.T) {
	e := engine(t)
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		before := e.Decide(r)
		side := memberRoles
		if r.Principal.Roles&staffRoles != 0 {
			side = staffRoles
		}
		if r.Principal.Roles == 0 && r.Principal.Organisation == uuid.Nil {
			side = staffRoles
		}
		r.Principal.Roles |= principal.RolesOf(drawOne(t, "one more", side.List()...))
		if after := e.Decide(r); before.Allowed && !after.Allowed {
			t.Fatalf("%s: %+v, and with more roles %+v", r.Action, before, after)
		}
	})
}

func TestAFresherSecondFactorNeverTakesAPermissionAway(t *testing.T) {
	e := engine(t)
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		before := e.Decide(r)
		r.Principal.SecondFactor = now
		if after := e.Decide(r); before.Allowed && !after.Allowed {
			t.Fatalf("%s: %+v, and then %+v", r.Action, before, after)
		}
	})
}

// Which organisation is which makes no difference.
func TestOwnAndOtherOrganisationsAreSymmetric(t *testing.T) {
	e := engine(t)
	swap := map[uuid.UUID]uuid.UUID{uuid.Nil: uuid.Nil, ward: archive, archive: ward}
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		one := e.Decide(r)
		r.Principal.Organisation, r.Resource.Organisation = swap[r.Principal.Organisation], swap[r.Resource.Organisation]
		if other := e.Decide(r); one != other {
			t.Fatalf("%s: %+v and %+v", r.Action, one, other)
		}
	})
}

func TestNobodyOfAnOrganisationReachesIntoAnother(t *testing.T) {
	e := engine(t)
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		p := r.Principal
		if p.Organisation == uuid.Nil || p.Organisation == r.Resource.Organisation {
			return
		}
		own := r.Action.has(own) && r.Resource.Owner == p.ID
		common := r.Action.has(shared) && r.Resource.Organisation == uuid.Nil
		if d := e.Decide(r); d.Allowed && !own && !common {
			t.Fatalf("%s by %+v on %+v: %+v", r.Action, p, r.Resource, d)
		}
	})
}

func TestStaffSeeNoClientDataWithoutAGrant(t *testing.T) {
	e := engine(t)
	data := slices.DeleteFunc(Actions(), func(a Action) bool { return !a.ClientData() })
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		r.Action = drawOne(t, "action on client data", data...)
		if r.Principal.Roles&staffRoles == 0 || r.Action.has(auditLog) && r.Resource.Organisation == uuid.Nil {
			return
		}
		d := e.Decide(r)
		if d.Allowed != (r.Principal.Grant != uuid.Nil && r.Principal.Organisation == r.Resource.Organisation) {
			t.Fatalf("%s by %+v on %+v: %+v", r.Action, r.Principal, r.Resource, d)
		}
	})
}

func TestWhatIsMalformedIsDenied(t *testing.T) {
	e := engine(t)
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		switch rapid.IntRange(0, 6).Draw(t, "damage") {
		case 0:
			r.Action = Action(rapid.String().Draw(t, "action"))
			if r.Action.Known() {
				t.Skip()
			}
		case 1:
			r.Mode = rapid.String().Draw(t, "mode")
			if r.Mode == Development || r.Mode == Production {
				t.Skip()
			}
		case 2:
			r.Resource.Type = rapid.StringN(1, 20, -1).Draw(t, "type")
			if r.Resource.Type == r.Action.Type() {
				t.Skip()
			}
		case 3:
			r.Principal.Kind = principal.Kind(rapid.String().Draw(t, "kind"))
			if kindTypes[r.Principal.Kind] != "" {
				t.Skip()
			}
		case 4:
			r.Principal.Roles |= 1 << rapid.IntRange(9, 15).Draw(t, "role")
		case 5:
			r.Principal.Roles |= principal.RolesOf(principal.Viewer, principal.PlatformOperator)
		case 6:
			r.Principal.ID = ""
		}
		if d := e.Decide(r); d.Allowed || d.Code == "" || d.Code == CodeDenied || d.Code == CodeStepUp {
			t.Fatalf("%+v: %+v", r, d)
		}
	})
}

// Leaving out the policies whose scope cannot match changes no answer, and
// what is handed to Cedar fits the schema.
func TestTheIndexChangesNoAnswer(t *testing.T) {
	e := engine(t, Source{"own.cedar", []byte(`
		@id("one-person") @reason("x.") forbid (principal == Person::"` + bert + `", action in [Action::"read", Action::"key.create"], resource is Key);
		@id("one-role") @reason("x.") forbid (principal is Person in Role::"viewer", action == Action::"budget.list", resource == Budget::"x");
		@id("anything") @reason("x.") permit (principal in Role::"approver", action in Action::"role/operator", resource) when { context has second_factor_minutes };
	`)})
	v := validator(t)
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		q, wrong := ask(&r)
		if wrong != "" {
			t.Fatal(wrong)
		}
		s := e.entitiesOf(&q)
		for _, err := range []error{v.Entity(s.principal), v.Entity(s.resource)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if valid := v.Request(e.requestOf(&q, s)) == nil; valid != e.valid[scope{kindTypes[q.kind], q.action}] {
			t.Fatalf("%s by a %s: valid %v", q.action, q.kind, valid)
		}
		all, why := authorizeBare(e, &q)
		some, whySome := cedar.Authorize(e.index[scope{kindTypes[q.kind], q.action}], s, e.requestOf(&q, s))
		if all != (some == cedar.Allow) || !slices.Equal(why.Reasons, whySome.Reasons) {
			t.Fatalf("%s: %v %v and %v %v", q.action, all, why, some, whySome)
		}
	})
}

// Every policy can be seen to work: without it, some answer is another. What
// limits is measured against a policy that permits everything.
func TestEveryPolicyMatters(t *testing.T) {
	open := Source{"open.cedar", []byte(`@id("open-everything") @reason("x.") permit (principal, action, resource);`)}
	for _, base := range []struct {
		e      *Engine
		effect cedar.Effect
	}{{engine(t), cedar.Permit}, {engine(t, open), cedar.Forbid}} {
		requests := everyRequest()
		want := make([]bool, len(requests))
		for i := range requests {
			want[i] = base.e.evaluate(&requests[i]).Allowed
		}
		for i, n := range base.e.policies {
			if n.policy.Effect() != base.effect || !n.builtin {
				continue
			}
			without := &Engine{policies: slices.Delete(slices.Clone(base.e.policies), i, i+1), actions: base.e.actions, valid: base.e.valid}
			without.makeIndex()
			at := 0
			for at < len(requests) && without.evaluate(&requests[at]).Allowed == want[at] {
				at++
			}
			if at == len(requests) {
				t.Errorf("without %q every answer is the same", n.id)
			}
		}
	}
}

// everyRequest is every action by every kind of principal on every kind of
// resource, in both modes.
func everyRequest() (out []question) {
	who := []principal.Principal{{Kind: principal.Local}, broken(ward), {Kind: principal.Session, ID: "s"}, principal.Node("x"), {Kind: principal.Key, ID: "k", Organisation: ward}, as(ward)}
	for _, role := range principal.AllRoles() {
		org := ward
		if role.Platform() {
			org = uuid.Nil
			who = append(who, underGrant(ward, role))
		}
		who = append(who, as(org, role), with(as(org, role), func(p *principal.Principal) { p.SecondFactor = time.Time{} }))
	}
	for _, p := range who {
		for _, a := range Actions() {
			for _, mode := range []string{Development, Production} {
				for _, org := range []uuid.UUID{uuid.Nil, ward, archive} {
					for _, owner := range []string{"", anna, bert} {
						r := Request{Principal: p, Action: a, Resource: Resource{Organisation: org, Owner: owner}, Now: now, Mode: mode}
						if q, wrong := ask(&r); wrong == "" && (p.Kind != principal.Key || a.Type() == "model") {
							out = append(out, q)
						}
					}
				}
			}
		}
	}
	return out
}
