package policy

import (
	"testing"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
)

// What an engine remembers answers the very question that was asked before,
// not one that happens to share its place in memory.
func TestAnAnswerIsRememberedForItsQuestionOnly(t *testing.T) {
	e := engine(t)
	allowed := Request{Principal: as(ward, principal.Administrator), Action: "person.invite", Resource: in(ward), Now: now, Mode: Production}
	if !e.Decide(allowed).Allowed {
		t.Fatal("an administrator does not invite")
	}
	known, wrong := ask(&allowed)
	if wrong != "" {
		t.Fatal(wrong)
	}
	everywhere := func() {
		for i := range e.recent {
			e.recent[i].Store(&remembered{known, Decision{Allowed: true}})
		}
	}
	for name, change := range map[string]func(*Request){
		"another person":                  func(r *Request) { r.Principal.ID, r.Principal.Roles = "eve", principal.RolesOf(principal.Viewer) },
		"the same person in another role": func(r *Request) { r.Principal.Roles = principal.RolesOf(principal.Viewer) },
		"the same person elsewhere":       func(r *Request) { r.Principal.Organisation = archive },
		"another organisation's resource": func(r *Request) { r.Resource.Organisation = archive },
		"the platform's resource":         func(r *Request) { r.Resource = in(uuid.Nil) },
		"without a second factor":         func(r *Request) { r.Principal.SecondFactor = r.Principal.SecondFactor.AddDate(-1, 0, 0) },
		"another act":                     func(r *Request) { r.Action = "policy.set" },
	} {
		other := allowed
		change(&other)
		fresh := engine(t).Decide(other)
		everywhere()
		if got := e.Decide(other); got != fresh {
			t.Errorf("%s: %+v, want %+v", name, got, fresh)
		}
	}
}

// A defect in the evaluator is no open door.
func TestAnEvaluatorThatPanicsDeniesEverything(t *testing.T) {
	e := engine(t)
	r := Request{Principal: as(ward, principal.Administrator), Action: "person.invite", Resource: in(ward), Now: now, Mode: Production}
	if !e.Decide(r).Allowed {
		t.Fatal("an administrator does not invite")
	}
	broken := engine(t)
	for s := range broken.index {
		broken.index[s] = relevant{{id: "broken"}}
	}
	if d := broken.Decide(r); d.Allowed || d.Code != CodeFault {
		t.Errorf("%+v", d)
	}
}
