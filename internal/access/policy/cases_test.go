package policy

import (
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

func TestCasesAreAnswered(t *testing.T) {
	e := engine(t)
	for name, c := range map[string]struct {
		c              Case
		answer, policy string
	}{
		"own organisation":             {Case{Roles: []string{"developer"}, Action: "key.create"}, ExpectAllow, "developer"},
		"another organisation":         {Case{Roles: []string{"developer"}, Action: "key.create", Organisation: "other"}, ExpectDeny, "own-organisation-only"},
		"a stale second factor":        {Case{Roles: []string{"administrator"}, Action: "person.invite", SecondFactor: "20m"}, ExpectStepUp, "second-factor"},
		"no second factor":             {Case{Roles: []string{"operator"}, Action: "policy.set", SecondFactor: "none"}, ExpectStepUp, "second-factor"},
		"staff without a grant":        {Case{Roles: []string{"platform-operator"}, Action: "request.list", Organisation: "own"}, ExpectDeny, "client-data-needs-a-grant"},
		"staff with a grant":           {Case{Roles: []string{"platform-operator"}, Action: "request.list", Grant: true}, ExpectAllow, "staff-under-a-grant"},
		"a grant for another":          {Case{Roles: []string{"platform-operator"}, Action: "request.list", Grant: true, Organisation: "other"}, ExpectDeny, "own-organisation-only"},
		"one's own passkey":            {Case{Action: "passkey.add", Owner: "self"}, ExpectAllow, "own-account"},
		"another's passkey":            {Case{Action: "passkey.add", Owner: "other"}, ExpectDeny, DefaultPolicy},
		"one's own grant":              {Case{Roles: []string{"platform-security"}, Action: "grant.approve", Organisation: "other", Owner: "self"}, ExpectDeny, "four-eyes"},
		"the socket":                   {Case{Who: "local", Action: "organisation.create"}, ExpectDeny, "local-socket-in-production"},
		"the socket, in development":   {Case{Who: "local", Action: "organisation.create", Mode: Development}, ExpectAllow, "development"},
		"the socket, the glass broken": {Case{Who: "local", Action: "request.list", Grant: true}, ExpectAllow, "break-glass"},
		"a key":                        {Case{Who: "key", Action: "model.call"}, ExpectAllow, "models-by-key"},
		"the node":                     {Case{Who: "node", Action: "keys.rotate", Organisation: "platform"}, ExpectAllow, "node"},
		"a link":                       {Case{Who: "console-link", Action: "overview.read"}, ExpectDeny, "console-link-in-production"},
	} {
		x, err := e.Explain(c.c, Production)
		if err != nil || x.Answer != c.answer || x.Policy != c.policy || x.Reason == "" {
			t.Errorf("%s: %+v %v", name, x, err)
		}
	}
}

func TestCasesThatMakeNoSenseAreNamed(t *testing.T) {
	e := engine(t)
	for field, c := range map[string]Case{
		"cases[0].roles":         {Roles: []string{"boss"}, Action: "key.list", Expect: "allow"},
		"cases[0].action":        {Roles: []string{"viewer"}, Action: "key.forge", Expect: "allow"},
		"cases[0].organisation":  {Roles: []string{"viewer"}, Action: "key.list", Organisation: "theirs", Expect: "allow"},
		"cases[0].owner":         {Roles: []string{"viewer"}, Action: "key.list", Owner: "me", Expect: "allow"},
		"cases[0].second_factor": {Roles: []string{"viewer"}, Action: "key.list", SecondFactor: "yesterday", Expect: "allow"},
		"cases[0].grant":         {Roles: []string{"viewer"}, Action: "key.list", Grant: true, Expect: "allow"},
		"cases[0].who":           {Who: "robot", Action: "key.list", Expect: "allow"},
		"cases[0].mode":          {Action: "key.list", Mode: "test", Expect: "allow"},
		"cases[0].expect":        {Action: "key.list", Expect: "yes"},
		"cases[0].policy":        {Action: "key.list", Expect: "deny", Policy: "nosuch"},
	} {
		if _, err := e.Test(Suite{Cases: []Case{c}}); problem.From(err).Field != field || problem.From(err).Mend == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := e.Test(Suite{}); problem.From(err).Field != "cases" {
		t.Errorf("%v", err)
	}
	if _, err := e.Test(Suite{Cases: []Case{{Roles: []string{"viewer", "platform-operator"}, Action: "key.list", Expect: "allow"}}}); problem.From(err).Code != "policy-case" {
		t.Errorf("%v", err)
	}
}

func TestACaseFailsOnAnotherAnswerAndOnAnotherPolicy(t *testing.T) {
	results, err := engine(t).Test(Suite{Cases: []Case{
		{Roles: []string{"viewer"}, Action: "key.list", Expect: "allow", Policy: "viewer"},
		{Roles: []string{"viewer"}, Action: "key.list", Expect: "deny"},
		{Roles: []string{"viewer"}, Action: "key.list", Expect: "allow", Policy: "developer"},
		{Roles: []string{"viewer"}, Action: "key.create", Expect: "deny", Policy: DefaultPolicy},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, true} {
		if results[i].Passed != want {
			t.Errorf("%d: %+v", i, results[i])
		}
	}
}
