package sovereignty

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzParseDecision(f *testing.F) {
	for _, c := range ruleCases {
		a := everyRulePasses()
		c.change(&a)
		f.Add(a.decide().JSON())
	}
	f.Add(Decide(Policy{}, Request{}, nil).JSON())
	f.Add([]byte(`{"version":1,"class":"public","regime":"","outcome":"refused","considered":[]} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDecision(data)
		if err != nil {
			return
		}
		canonical := d.JSON()
		back, err := ParseDecision(canonical)
		if err != nil {
			t.Fatalf("what was read does not read back: %v\n%s", err, canonical)
		}
		if !bytes.Equal(back.JSON(), canonical) || back.Hash() != d.Hash() {
			t.Fatalf("%s\nreads back as\n%s", canonical, back.JSON())
		}
		text := d.Text()
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\r\x00") {
			t.Fatalf("the text drives a terminal: %q", text)
		}
		if (d.Refusal() == nil) != (len(d.Allowed) > 0) || (d.Outcome == OutcomeAllowed) != (len(d.Allowed) > 0) {
			t.Fatal("the outcome does not follow")
		}
		for _, c := range d.Considered {
			if c.Allowed != (c.failures() == 0) {
				t.Fatal("a candidate is allowed although a check failed")
			}
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	for _, p := range []Policy{DefaultPolicy(), everyRulePasses().policy} {
		data, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"regime":"EU","home":["EU"],"allowed":["EEA","EU-adequate","UK-adequate","US"],"third_parties":true,"highest":"public","ceilings":{},"require_no_retention":"public","allowed_features":["a"]}`))
	f.Add([]byte(`{"regime":"UK","REGIME":"EU"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePolicy(data)
		if err != nil {
			return
		}
		if err := p.Validate(); err != nil {
			t.Fatalf("read, and yet invalid: %v", err)
		}
		canonical, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParsePolicy(canonical)
		if err != nil {
			t.Fatalf("what was read does not read back: %v\n%s", err, canonical)
		}
		if again, _ := json.Marshal(back); !bytes.Equal(again, canonical) || back.Text() != p.Text() {
			t.Fatalf("%s reads back as %s", canonical, again)
		}
		a := everyRulePasses()
		a.policy = p
		readsBack(t, a.decide())
		if got := a.decide().Outcome == OutcomeAllowed; got && (!p.ThirdParties || !p.Allowed.Has("US") || !p.Allowed.Has("IN")) {
			t.Fatal("a provider outside the policy is allowed")
		}
	})
}
