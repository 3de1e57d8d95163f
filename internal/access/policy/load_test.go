package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

const notes = `@id("mine") @reason("Because.") `

func TestTheBuiltInPoliciesAreForAuditors(t *testing.T) {
	list := engine(t).Policies()
	if len(list) < 10 || len(list) > 50 {
		t.Errorf("%d policies", len(list))
	}
	for _, p := range list {
		if !strings.HasSuffix(p.Reason, ".") || !p.Builtin || !strings.Contains(p.File, ".cedar:") || !strings.Contains(p.Text, p.Effect) {
			t.Errorf("%+v", p)
		}
	}
}

func validator(t testing.TB) *validate.Validator {
	v, err := newValidator()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What a start takes for granted of the built-in policies and of requests.
func TestTheValidatorAgrees(t *testing.T) {
	e := engine(t)
	v := validator(t)
	for _, n := range e.policies {
		if err := check(v, n.id, n.policy); err != nil {
			t.Errorf("the built-in policy %q does not fit the schema: %v", n.id, err)
		}
	}
	for _, a := range Actions() {
		for kind, who := range kindTypes {
			q := question{kind: kind, id: "x", action: a, resource: Resource{Type: a.Type(), Owner: "y"}, facts: 1}
			s := e.entitiesOf(&q)
			if err := v.Entity(s.principal); err != nil {
				t.Errorf("a %s principal: %v", kind, err)
			}
			if err := v.Entity(s.resource); err != nil {
				t.Errorf("a %s: %v", a.Type(), err)
			}
			if valid := v.Request(e.requestOf(&q, s)) == nil; valid != e.valid[scope{who, a}] {
				t.Errorf("%s by a %s: the schema says %v", a, kind, valid)
			}
		}
	}
}

func TestTheValidatorRefusesWhatItShould(t *testing.T) {
	for name, c := range map[string]struct{ text, code, says string }{
		"not Cedar":                    {`allow everything;`, "policy-syntax", "mine.cedar"},
		"half a policy":                {notes + `permit (principal, action`, "policy-syntax", "mine.cedar"},
		"no id":                        {`@reason("x") permit (principal, action, resource);`, "policy-id", "mine.cedar:1"},
		"an id with spaces":            {`@id("a b") @reason("x") permit (principal, action, resource);`, "policy-id", "mine.cedar:1"},
		"no reason":                    {`@id("mine") permit (principal, action, resource);`, "policy-reason", "mine"},
		"a reason of two lines":        {`@id("mine") @reason("a\nb") permit (principal, action, resource);`, "policy-reason", "mine"},
		"a built-in id":                {`@id("second-factor") @reason("x") permit (principal, action, resource);`, "policy-id-taken", "second-factor"},
		"the default's id":             {`@id("default-deny") @reason("x") permit (principal, action, resource);`, "policy-id-taken", ""},
		"twice the same":               {notes + `forbid (principal is ApiKey, action, resource);` + notes + `forbid (principal is ApiKey, action, resource);`, "policy-id-taken", "mine"},
		"an unknown action":            {notes + `forbid (principal, action == Action::"key.forge", resource);`, "policy-schema", "mine"},
		"an unknown type":              {notes + `forbid (principal is Robot, action, resource);`, "policy-schema", "mine"},
		"an unknown attribute":         {notes + `forbid (principal, action, resource) when { principal.age < 18 };`, "policy-schema", "mine"},
		"an attribute that may be out": {notes + `forbid (principal, action, resource) when { context.second_factor_minutes > 5 };`, "policy-schema", "mine"},
		"an unknown fact":              {notes + `forbid (principal, action, resource) when { context.weekday == 7 };`, "policy-schema", "mine"},
		"the wrong type":               {notes + `forbid (principal, action, resource) when { context.mode > 3 };`, "policy-schema", "mine"},
		"an API key that manages":      {notes + `permit (principal is ApiKey, action == Action::"person.invite", resource);`, "policy-schema", "mine"},
		"zero bytes":                   {"\x00", "policy-encoding", ""},
		"not UTF-8":                    {"\xff\xfe", "policy-encoding", ""},
		"too large":                    {strings.Repeat(" ", maxSource+1), "policy-size", ""},
		"too many":                     {many(maxPolicies), "policy-count", ""},
	} {
		_, err := Load(Source{"mine.cedar", []byte(c.text)})
		p := problem.From(err)
		if p.Kind != problem.Invalid || p.Code != c.code || p.Mend == "" || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(`@id("p-N") @reason("x") forbid (principal == Person::"N", action == Action::"key.create", resource);`, "N", strings.Repeat("a", i+1)[:min(i+1, 50)]+string(rune('a'+i%26))+string(rune('a'+i/26))))
	}
	return b.String()
}

func TestASetThatLocksEverybodyOutIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nobody does anything":            `forbid (principal, action, resource);`,
		"nobody invites":                  `forbid (principal, action == Action::"person.invite", resource);`,
		"only one person invites":         `forbid (principal, action == Action::"person.invite", resource) unless { principal == Person::"` + anna + `" };`,
		"only without a second factor":    `forbid (principal is Person, action in Action::"administrative", resource) when { context has second_factor_minutes };`,
		"no platform administrator":       `forbid (principal in Role::"platform-administrator", action, resource);`,
		"nobody rotates keys":             `forbid (principal in Role::"platform-security", action == Action::"keys.rotate", resource);`,
		"nobody in production":            `forbid (principal, action in Action::"administrative", resource) when { context.mode == "production" };`,
		"nobody changes roles of clients": `forbid (principal, action == Action::"membership.set", resource) when { resource.organisation != Organisation::"platform" };`,
		"a condition that always fails":   `forbid (principal is Person, action in Action::"administrative", resource) when { context has second_factor_minutes && context.second_factor_minutes - 9223372036854775807 - 9223372036854775807 < 0 };`,
	} {
		_, err := Load(Source{"mine.cedar", []byte(notes + text)})
		if p := problem.From(err); p.Code != "policy-lock-out" || !strings.Contains(p.Detail, "mine") || p.Mend == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"two organisations apart":     `forbid (principal, action, resource) when { resource.organisation == Organisation::"` + ward.String() + `" && principal.organisation != resource.organisation };`,
		"no API keys":                 `forbid (principal, action == Action::"key.create", resource);`,
		"clients do not set policies": `forbid (principal, action == Action::"policy.set", resource) unless { principal in Role::"staff" };`,
		"a fresher second factor":     `forbid (principal is Person, action in Action::"administrative", resource) unless { context has second_factor_minutes && context.second_factor_minutes <= 5 };`,
	} {
		if _, err := Load(Source{"mine.cedar", []byte(notes + text)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPolicyOfOnesOwnForbids(t *testing.T) {
	e := engine(t, Source{"mine.cedar", []byte(`@id("keys-by-administrators") @reason("Here only administrators make keys.")
		forbid (principal is Person, action == Action::"key.create", resource) unless { principal in Role::"administrator" };`)})
	d := ask1(e, as(ward, principal.Developer), "key.create", in(ward))
	if d.Allowed || d.Policy != "keys-by-administrators" || !d.HasNearest || d.Nearest != principal.Administrator {
		t.Errorf("%+v", d)
	}
	if d := ask1(e, as(ward, principal.Administrator), "key.create", in(ward)); !d.Allowed {
		t.Errorf("%+v", d)
	}
}

// An engine's memory is its own, and what it remembers knows the time.
func TestAnAnswerIsNeverStale(t *testing.T) {
	one, other := engine(t), engine(t, Source{"m.cedar", []byte(notes + `forbid (principal is Person, action == Action::"key.create", resource);`)})
	p := as(ward, principal.Administrator)
	for range 3 {
		if !ask1(one, p, "key.create", in(ward)).Allowed || ask1(other, p, "key.create", in(ward)).Allowed {
			t.Fatal("an answer of other policies")
		}
	}
	r := Request{Principal: p, Action: "person.invite", Resource: in(ward), Now: now, Mode: Production}
	for minute, allowed := range map[int]bool{0: true, 14: true, 15: false, 60: false} { // it was shown a minute before
		for range 2 {
			r.Now = now.Add(time.Duration(minute) * time.Minute)
			if got := one.Decide(r).Allowed; got != allowed {
				t.Errorf("after %d minutes: %v", minute, got)
			}
		}
	}
}

func TestTheRolesAreWhatTheirNamesSay(t *testing.T) {
	within := func(inner, outer principal.Role) {
		for i := range rules {
			if rules[i].roles.Has(inner) && !rules[i].roles.Has(outer) {
				t.Errorf("%s holds %s, and %s does not", inner, rules[i].action, outer)
			}
		}
	}
	for _, r := range memberRoles.List() {
		within(r, principal.Administrator)
		within(principal.Viewer, r)
	}
	within(principal.PlatformOperator, principal.PlatformAdministrator)
	for i := range rules {
		r := &rules[i]
		if r.roles.Has(principal.Auditor) && r.traits&read == 0 {
			t.Errorf("an auditor may %s, which changes something", r.action)
		}
		if r.traits&read != 0 && r.traits&administrative != 0 {
			t.Errorf("%s changes nothing and asks for a second factor", r.action)
		}
		if r.traits&clientData != 0 && r.roles&staffRoles != 0 {
			t.Errorf("%s of clients is in a role of staff", r.action)
		}
		if r.says == "" || strings.ToLower(string(r.action)) != string(r.action) || strings.Count(string(r.action), ".") != 1 {
			t.Errorf("%q", r.action)
		}
	}
	if len(byName) != len(rules) {
		t.Error("an action is there twice")
	}
}

// In development the five-minute tour works: whoever reaches the socket, and
// the console by its link, may do everything that a person may.
func TestDevelopmentIsOpenToWhoeverReachesTheSocket(t *testing.T) {
	e := engine(t)
	for _, p := range []principal.Principal{{Kind: principal.Local, UID: 1000}, {Kind: principal.Session, ID: "s"}, principal.Node("sweep")} {
		for _, a := range Actions() {
			if a == "model.call" {
				continue
			}
			if d := e.Decide(Request{Principal: p, Action: a, Resource: in(ward), Now: now, Mode: Development}); !d.Allowed {
				t.Errorf("%s by %s: %+v", a, p, d)
			}
		}
	}
}

func TestProductionLeavesTheSocketItsFewActs(t *testing.T) {
	e := engine(t)
	var local []string
	for _, a := range Actions() {
		if ask1(e, principal.Principal{Kind: principal.Local}, a, in(uuid.Nil)).Allowed {
			local = append(local, string(a))
		}
		if ask1(e, principal.Principal{Kind: principal.Session, ID: "s"}, a, in(uuid.Nil)).Allowed {
			t.Errorf("a console link may %s", a)
		}
		for _, org := range []uuid.UUID{uuid.Nil, ward} {
			if ask1(e, principal.Principal{Kind: principal.Key, ID: "k", Organisation: ward}, a, in(org)).Allowed && a.Type() != "model" {
				t.Errorf("an API key may %s", a)
			}
		}
	}
	if got := strings.Join(local, " "); got != "break-glass.drill break-glass.open break-glass.read exercise.read fleet.read incident.read person.bootstrap plan.read profile.take recovery.read status.read" {
		t.Errorf("the local socket may %s", got)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(notes + `forbid (principal, action, resource);`))
	f.Add([]byte(notes + `permit (principal is Person in Role::"viewer", action in [Action::"key.list"], resource == Key::"x") when { context.grant } unless { resource has owner };`))
	f.Add([]byte(`@id("x")@reason("y")permit(principal,action,resource)when{if context.grant then 1 == 2 else decimal("1.0").lessThan(decimal("2.0"))};`))
	f.Add([]byte(`// only a comment`))
	f.Add([]byte("@id(\"\\u{1F600}\")"))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Load(Source{"fuzz.cedar", text})
		if err != nil {
			if problem.From(err).Kind != problem.Invalid {
				t.Fatalf("%v", err)
			}
			return
		}
		// Whatever was loaded, no limit is weaker and somebody can still invite.
		if ask1(e, as(ward, principal.Administrator), "key.create", in(archive)).Allowed || ask1(e, as(uuid.Nil, principal.PlatformOperator), "request.list", in(ward)).Allowed {
			t.Fatal("a limit is gone")
		}
		if !ask1(e, as(uuid.Nil, principal.PlatformAdministrator), "person.invite", in(uuid.Nil)).Allowed && !strings.Contains(string(text), anna) {
			t.Fatal("nobody can invite")
		}
	})
}
