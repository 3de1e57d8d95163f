package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Suite is a file of cases that a user keeps beside their policies.
type Suite struct {
	Mode     string   `yaml:"mode,omitempty" json:"mode,omitempty"`         // default production
	Policies []string `yaml:"policies,omitempty" json:"policies,omitempty"` // files, from where the suite is
	Cases    []Case   `yaml:"cases" json:"cases"`
}

// Case asks about somebody who does not exist: roles, and where they stand to
// what they act on.
type Case struct {
	Name         string   `yaml:"name,omitempty" json:"name,omitempty"`
	Who          string   `yaml:"who,omitempty" json:"who,omitempty"`                     // person (default), key, local, console-link or node
	Roles        []string `yaml:"roles,omitempty" json:"roles,omitempty"`                 // of a person
	Action       string   `yaml:"action" json:"action"`                                   //
	Organisation string   `yaml:"organisation,omitempty" json:"organisation,omitempty"`   // whose it is: own (default), other or platform
	Owner        string   `yaml:"owner,omitempty" json:"owner,omitempty"`                 // self, other or nobody (default)
	SecondFactor string   `yaml:"second_factor,omitempty" json:"second_factor,omitempty"` // none, or how long ago, for example 20m; default just now
	Grant        bool     `yaml:"grant,omitempty" json:"grant,omitempty"`                 // under a staff grant for the organisation
	Mode         string   `yaml:"mode,omitempty" json:"mode,omitempty"`                   // default the suite's

	Expect string `yaml:"expect" json:"expect"`                     // allow, deny or step-up
	Policy string `yaml:"policy,omitempty" json:"policy,omitempty"` // which policy decides; empty: any
}

// Expectations of a case.
const (
	ExpectAllow  = "allow"
	ExpectDeny   = "deny"
	ExpectStepUp = "step-up"
)

// The people and places of cases. Policies that name real ones by their id say
// nothing about these.
var (
	caseOwn   = uuid.MustParse("00000000-0000-7000-8000-00000000000a")
	caseOther = uuid.MustParse("00000000-0000-7000-8000-00000000000b")
	caseGrant = uuid.MustParse("00000000-0000-7000-8000-0000000000ff")
	caseTime  = time.Unix(1<<31, 0)
)

const (
	caseSelf  = "00000000-0000-7000-8000-000000000001"
	casePeer  = "00000000-0000-7000-8000-000000000002"
	caseThing = "example"
)

func wrongCase(field, detail, mend string) error {
	return problem.New(problem.Invalid, "policy-case", detail).WithField(field).WithMend(mend)
}

// Request makes the request that a case stands for. mode is used where the
// case names none.
func (c Case) Request(mode string) (Request, error) {
	r := Request{Action: Action(c.Action), Now: caseTime, Mode: c.Mode}
	if r.Mode == "" {
		r.Mode = mode
	}
	if r.Mode != Development && r.Mode != Production {
		return r, wrongCase("mode", fmt.Sprintf("%q is not a mode.", r.Mode), "Use production or development.")
	}
	if !r.Action.Known() {
		return r, wrongCase("action", fmt.Sprintf("There is no action %q.", c.Action), "`foundry policy roles` lists them.")
	}
	var err error
	if r.Principal, err = c.principal(); err != nil {
		return r, err
	}
	r.Resource.ID = caseThing
	switch c.Organisation {
	case "", "own":
		r.Resource.Organisation = r.Principal.Organisation
		if c.Grant || r.Principal.Organisation == uuid.Nil && c.Organisation == "own" {
			r.Resource.Organisation = caseOwn
		}
	case "other":
		r.Resource.Organisation = caseOther
	case "platform":
	default:
		return r, wrongCase("organisation", fmt.Sprintf("%q does not say whose it is.", c.Organisation), "Use own, other or platform.")
	}
	switch c.Owner {
	case "", "nobody":
	case "self":
		r.Resource.Owner = r.Principal.ID
	case "other":
		r.Resource.Owner = casePeer
	default:
		return r, wrongCase("owner", fmt.Sprintf("%q does not say whom it belongs to.", c.Owner), "Use self, other or nobody.")
	}
	return r, nil
}

func (c Case) principal() (principal.Principal, error) {
	if c.Who != "" && c.Who != "person" {
		return c.machine()
	}
	p := principal.Principal{Kind: principal.Person, ID: caseSelf}
	for _, name := range c.Roles {
		role, ok := principal.ParseRole(name)
		if !ok {
			return p, wrongCase("roles", fmt.Sprintf("There is no role %q.", name), "Use "+roleList()+".")
		}
		p.Roles |= principal.RolesOf(role)
	}
	switch {
	case p.Roles&staffRoles != 0 && p.Roles&memberRoles != 0:
		return p, wrongCase("roles", "Roles of the platform and of an organisation do not mix: one session acts in one place.", "Write two cases.")
	case c.Grant && p.Roles&staffRoles == 0:
		return p, wrongCase("grant", "Only staff of the platform act under a grant.", "Give the case a role of the platform.")
	case p.Roles&staffRoles == 0:
		p.Organisation = caseOwn
	case c.Grant:
		p.Organisation, p.Grant = caseOwn, caseGrant
	}
	switch c.SecondFactor {
	case "":
		p.SecondFactor = caseTime
	case "none":
	default:
		age, err := time.ParseDuration(c.SecondFactor)
		if err != nil || age < 0 {
			return p, wrongCase("second_factor", fmt.Sprintf("%q is not how long ago a second factor was shown.", c.SecondFactor), "Use none, or for example 20m.")
		}
		p.SecondFactor = caseTime.Add(-age)
	}
	return p, nil
}

func (c Case) machine() (principal.Principal, error) {
	var p principal.Principal
	switch c.Who {
	case "key":
		p = principal.Principal{Kind: principal.Key, ID: "examplekey", Organisation: caseOwn}
	case "local":
		p = principal.Principal{Kind: principal.Local, UID: 1000}
	case "console-link":
		p = principal.Principal{Kind: principal.Session, ID: "example"}
	case "node":
		p = principal.Node("example")
	default:
		return p, wrongCase("who", fmt.Sprintf("%q does not say who acts.", c.Who), "Use person, key, local, console-link or node.")
	}
	if len(c.Roles) > 0 || c.SecondFactor != "" || c.Grant && c.Who != "local" {
		return p, wrongCase("who", "Only a person has roles, a second factor or a grant.", "Leave them out.")
	}
	if c.Grant { // somebody broke the glass
		p.Organisation, p.Grant = caseOwn, caseGrant
	}
	return p, nil
}

func roleList() string {
	var names []string
	for _, r := range principal.AllRoles() {
		names = append(names, r.String())
	}
	return strings.Join(names, ", ")
}

// Explanation is an answer to a case, for people and programs.
type Explanation struct {
	Case    Case   `json:"case"`
	Answer  string `json:"answer"` // allow, deny or step-up
	Code    string `json:"code,omitempty"`
	Policy  string `json:"policy"`
	Reason  string `json:"reason"`
	File    string `json:"file,omitempty"`
	Nearest string `json:"nearest_role,omitempty"`

	Elsewhere bool `json:"nearest_role_elsewhere,omitempty"` // in the organisation that is asked about
}

// Explain answers a case.
func (e *Engine) Explain(c Case, mode string) (Explanation, error) {
	r, err := c.Request(mode)
	if err != nil {
		return Explanation{}, err
	}
	d := e.Decide(r)
	x := Explanation{Case: c, Answer: ExpectDeny, Code: d.Code, Policy: d.Policy, Reason: d.Reason, File: e.find(d.Policy).file}
	switch {
	case d.Allowed:
		x.Answer = ExpectAllow
	case d.StepUp:
		x.Answer = ExpectStepUp
	}
	if d.HasNearest {
		x.Nearest, x.Elsewhere = d.Nearest.String(), d.Elsewhere
	}
	return x, nil
}

// Result is what became of one case.
type Result struct {
	Passed bool `json:"passed"`
	Explanation
}

// Test asks every case of a suite.
func (e *Engine) Test(s Suite) ([]Result, error) {
	mode := s.Mode
	if mode == "" {
		mode = Production
	}
	if len(s.Cases) == 0 {
		return nil, wrongCase("cases", "There are no cases.", "Write at least one; docs/guides/authorisation.md has some.")
	}
	var out []Result
	for i, c := range s.Cases {
		at := func(err error) error {
			p := *problem.From(err)
			p.Field = strings.TrimSuffix(fmt.Sprintf("cases[%d].%s", i, p.Field), ".")
			return &p
		}
		if c.Expect != ExpectAllow && c.Expect != ExpectDeny && c.Expect != ExpectStepUp {
			return nil, at(wrongCase("expect", fmt.Sprintf("%q is not what can be expected.", c.Expect), "Use allow, deny or step-up."))
		}
		x, err := e.Explain(c, mode)
		if err != nil {
			return nil, at(err)
		}
		if c.Policy != "" && c.Policy != DefaultPolicy && e.find(c.Policy).policy == nil {
			return nil, at(wrongCase("policy", fmt.Sprintf("There is no policy %q.", c.Policy), "`foundry policy list` shows them."))
		}
		out = append(out, Result{Passed: x.Answer == c.Expect && (c.Policy == "" || c.Policy == x.Policy), Explanation: x})
	}
	return out, nil
}
