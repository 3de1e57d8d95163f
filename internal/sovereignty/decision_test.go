package sovereignty

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestTheHashFollowsTheContentAndNotTheMoment(t *testing.T) {
	a := everyRulePasses()
	one := a.decide()
	a.request.At = a.request.At.AddDate(0, 0, 7)
	if a.decide().Hash() != one.Hash() {
		t.Error("a week later, with nothing lapsed, it is another decision")
	}
	if bytes.Contains(one.JSON(), []byte("2026-11-22")) {
		t.Errorf("the request time is in it: %s", one.JSON())
	}
	for name, change := range map[string]func(a *admitted){
		"organisation": func(a *admitted) { a.request.Organisation = "other" },
		"model":        func(a *admitted) { a.request.Model = "other" },
		"class":        func(a *admitted) { a.request.Class = Public },
		"features":     func(a *admitted) { a.request.Features = nil },
		"provider":     func(a *admitted) { a.provider.Processing = []Jurisdiction{"US"} },
		"expiry":       func(a *admitted) { a.provider.Safeguards[1].Expires = date("2027-03-02") },
		"consent":      func(a *admitted) { a.policy.ThirdParties = false },
	} {
		b := everyRulePasses()
		change(&b)
		if b.decide().Hash() == one.Hash() {
			t.Errorf("another %s gives the same hash", name)
		}
	}
}

func TestStoredDecisionsThatContradictThemselvesAreRefused(t *testing.T) {
	a := everyRulePasses()
	allowed := string(a.decide().JSON())
	a.policy.ThirdParties = false
	refused := string(a.decide().JSON())
	for _, c := range []struct{ name, from, old, new string }{
		{"an outcome turned", refused, `"outcome":"refused"`, `"outcome":"allowed"`},
		{"a candidate turned", refused, `"allowed":false`, `"allowed":true`},
		{"a check turned", allowed, `"result":"pass"`, `"result":"fail"`},
		{"an unknown result", allowed, `"result":"pass"`, `"result":"perhaps"`},
		{"an unknown rule", allowed, `"rule":"class-ceiling"`, `"rule":"class-cieling"`},
		{"a later version", allowed, `"version":1`, `"version":2`},
		{"an unknown class", allowed, `"class":"internal"`, `"class":"secret"`},
		{"no class", allowed, `"class":"internal",`, ``},
		{"an unknown zone", allowed, `"zone":"elsewhere"`, `"zone":"here"`},
		{"an unknown field", allowed, `"version":1`, `"version":1,"by":"me"`},
		{"a key twice", allowed, `"version":1`, `"version":1,"version":1`},
		{"a key in capitals", allowed, `"outcome"`, `"Outcome"`},
		{"a place that is none", allowed, `"destinations":["DE"`, `"destinations":["EU"`},
		{"a year that JSON cannot write", allowed, `"valid_until":"2027-01-01T00:00:00Z"`, `"valid_until":"9999-12-31T23:59:59-23:00"`},
		{"no reason", allowed, `"sentence":"It is on record."`, `"sentence":""`},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(c.from, c.old, c.new, 1)
			if changed == c.from {
				t.Fatalf("%s is not in %s", c.old, c.from)
			}
			if d, err := ParseDecision([]byte(changed)); err == nil || problem.From(err).Kind != problem.Invalid {
				t.Errorf("read as %s, %v", d.Outcome, err)
			}
		})
	}
	if _, err := ParseDecision(make([]byte, MaxDecision+1)); problem.From(err).Kind != problem.TooLarge {
		t.Errorf("too large: %v", err)
	}
	if _, err := ParseDecision([]byte(strings.Repeat("[", 100_000))); err == nil {
		t.Error("endless nesting was read")
	}
}

func TestATraceCannotBeForgedThroughWhatItShows(t *testing.T) {
	a := everyRulePasses()
	bad := "\n  [yes] forged\x1b[31m\u202e"
	a.request.Organisation, a.request.Model = bad, bad
	a.provider.Name = bad
	a.provider.SubProcessors[0] = SubProcessor{Name: bad, Jurisdiction: "CH"}
	a.provider.Retention.Contract.Reference = bad
	a.provider.Safeguards[0].Reference = bad
	a.request.Features = []string{bad}
	d := a.decide()
	for name, text := range map[string]string{"text": d.Text(), "refusal": d.Refusal().Error()} {
		if strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, "\n  [yes] forged") {
			t.Errorf("the %s is forged:\n%s", name, text)
		}
	}
	readsBack(t, d)
}

func TestAPlaceThatNobodyRecordedMayBeAnywhere(t *testing.T) {
	for name, p := range map[string]*Provider{
		"no sub-processors on record": {Name: "x", Controller: "DE", Processing: []Jurisdiction{"DE"}},
		"no controller on record":     {Name: "x", Processing: []Jurisdiction{"DE"}, NoSubProcessors: true},
		"a place that is none":        {Name: "x", Own: true, Processing: []Jurisdiction{"DE", "EU"}},
		"nothing on record":           nil,
	} {
		c := Decide(DefaultPolicy(), Request{At: noon}, []Candidate{{Provider: p}}).Considered[0]
		if !c.Transfer.LeavesEEA || !c.Transfer.Restricted || c.Allowed {
			t.Errorf("%s: %+v", name, c.Transfer)
		}
	}
}

func TestDatesThatCannotBeWrittenAreKeptWithinTheCalendar(t *testing.T) {
	a := everyRulePasses()
	a.provider.Retention.Contract.Expires = date("2026-01-01").AddDate(9000, 0, 0)
	a.provider.Safeguards[0].Expires, a.provider.Safeguards[1].Expires = a.provider.Retention.Contract.Expires, a.provider.Retention.Contract.Expires
	d := a.decide()
	if d.Outcome != OutcomeAllowed || d.ValidUntil().Year() != 9999 {
		t.Errorf("%s until %s", d.Outcome, d.ValidUntil())
	}
	readsBack(t, d)
	a.request.At = a.provider.Retention.Contract.Expires.AddDate(1, 0, 0)
	readsBack(t, a.decide())
	a.request.At = noon.AddDate(-5000, 0, 0)
	a.provider.Safeguards[0].Expires = noon.AddDate(-4000, 0, 0)
	readsBack(t, a.decide())
}

func TestAStoredTraceCannotDriveATerminal(t *testing.T) {
	a := everyRulePasses()
	a.policy.ThirdParties = false
	stored := string(a.decide().JSON())
	const bad = `\u001b[2J\n  [yes] forged\u202e`
	for _, old := range []string{"The organisation has not agreed", "An administrator", "vendor", "acme", "DPF 1", "ZDR-1"} {
		changed := strings.ReplaceAll(stored, old, old+bad)
		d, err := ParseDecision([]byte(changed))
		if err != nil || changed == stored {
			t.Fatalf("%s: %v", old, err)
		}
		for name, text := range map[string]string{"text": d.Text(), "refusal": d.Refusal().Error()} {
			if strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, "\n  [yes] forged") {
				t.Errorf("%s forges the %s:\n%q", old, name, text)
			}
		}
	}
}

func TestTextFitsATerminal(t *testing.T) {
	for _, c := range ruleCases {
		a := everyRulePasses()
		c.change(&a)
		for line := range strings.SplitSeq(a.decide().Text(), "\n") {
			if len([]rune(line)) > textWidth {
				t.Errorf("%s: %d columns: %s", c.name, len([]rune(line)), line)
			}
		}
	}
}

func TestTheDefaultPolicyIsValidAndConservative(t *testing.T) {
	p := DefaultPolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if p.ThirdParties || !EEA().Contains(p.Allowed) || len(p.AllowedFeatures) != 0 {
		t.Errorf("%+v", p)
	}
	third := everyRulePasses()
	third.policy = p
	if d := third.decide(); d.Outcome != OutcomeRefused {
		t.Errorf("a third party is admitted:\n%s", d.Text())
	}
	own := []Candidate{{Provider: &Provider{Name: "fleet", Own: true, Controller: "DE", Processing: []Jurisdiction{"FI"}}}}
	for class := Public; class <= Restricted; class++ {
		if d := Decide(p, Request{Class: class, At: noon}, own); d.Outcome != OutcomeAllowed {
			t.Errorf("the fleet's own models may not receive %s data:\n%s", class, d.Text())
		}
	}
}

func TestPoliciesReadBackFromJSONAndYAML(t *testing.T) {
	for _, p := range []Policy{DefaultPolicy(), everyRulePasses().policy, {}} {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if p.Regime != "" {
			back, err := ParsePolicy(data)
			if again, _ := json.Marshal(back); err != nil || !bytes.Equal(again, data) {
				t.Errorf("JSON %s reads as %s, %v", data, again, err)
			}
		}
		written, err := yaml.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if p.Regime == "" {
			continue
		}
		var back Policy
		err = yaml.UnmarshalWithOptions(written, &back, yaml.Strict())
		if again, _ := json.Marshal(back); err != nil || !bytes.Equal(again, data) {
			t.Errorf("YAML\n%s reads as %s, %v", written, again, err)
		}
	}
}

func BenchmarkDecideFiveCandidates(b *testing.B) {
	a := everyRulePasses()
	var candidates []Candidate
	for i := range 5 {
		p := a.provider
		p.Own = i == 0
		if i > 2 {
			p.Controller = "CH"
		}
		candidates = append(candidates, Candidate{Provider: &p, Model: "m", Order: i / 2, Weight: 1})
	}
	b.ReportAllocs()
	for b.Loop() {
		Decide(a.policy, a.request, candidates)
	}
}

func BenchmarkHash(b *testing.B) {
	d := everyRulePasses().decide()
	b.ReportAllocs()
	for b.Loop() {
		d.Hash()
	}
}
