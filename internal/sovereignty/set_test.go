package sovereignty

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/missionopsai/foundry/internal/problem"
	"pgregory.net/rapid"
)

func TestJurisdictionsAreAssignedCodesOnly(t *testing.T) {
	for _, good := range []string{"DE", "FI", "GB", "US", "IS", "XK"} {
		j, err := ParseJurisdiction(good)
		if good == "XK" { // user-assigned, not ISO 3166-1
			if err == nil {
				t.Error("XK was accepted")
			}
			continue
		}
		if err != nil || string(j) != good {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, hint := range map[string]string{
		"": "two capital letters", "UK": "GB", "uk": "GB", "EL": "GR", "EU": "single country", "de": "Write DE", "D": "two capital", "DEU": "two capital",
		"D\x00": "two capital", "ÄÖ": "two capital", "ZZ": "two capital",
	} {
		_, err := ParseJurisdiction(bad)
		e := problem.From(err)
		if err == nil || e.Kind != problem.Invalid || !strings.Contains(e.Mend, hint) {
			t.Errorf("%q: %v, want a hint of %q", bad, err, hint)
		}
	}
	if len(countryNames) != 249 {
		t.Errorf("%d codes; ISO 3166-1 has 249", len(countryNames))
	}
	if got := Jurisdiction("US").Label() + "; " + Jurisdiction("X\n").Label() + "; " + Jurisdiction("NL").Name(); got != `the United States (US); "X\n"; the Netherlands` {
		t.Error(got)
	}
}

func TestGroupsHoldWhatTheLawSays(t *testing.T) {
	for _, c := range []struct {
		name    string
		set     Set
		size    int
		in, out string
	}{
		{"EU", EU(), 27, "DE FI IE HR", "GB NO IS LI CH"},
		{"EEA", EEA(), 30, "DE FI NO IS LI", "GB CH US"},
		{"UK-adequate", UKAdequate(), 44, "DE NO CH GI KR FO", "GB US BR IN"},
		{"EU-adequate", EUAdequate(), 15, "GB CH BR KR JP", "DE US GI IN"},
	} {
		if c.set.Len() != c.size || len(c.set.All()) != c.size {
			t.Errorf("%s has %d members, want %d: %v", c.name, c.set.Len(), c.size, c.set.All())
		}
		for _, j := range strings.Fields(c.in) {
			if !c.set.Has(Jurisdiction(j)) {
				t.Errorf("%s lacks %s", c.name, j)
			}
		}
		for _, j := range strings.Fields(c.out) {
			if c.set.Has(Jurisdiction(j)) {
				t.Errorf("%s has %s", c.name, j)
			}
		}
		if c.set.String() != c.name {
			t.Errorf("%s reads as %s", c.name, c.set)
		}
	}
}

func TestSetsReadBackAsWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		set  Set
		want string
	}{
		{"empty", Set{}, ""},
		{"codes are sorted", SetOf("FI", "DE", "DE"), "DE, FI"},
		{"invalid codes stay out", SetOf("XX", "", "de", "DE"), "DE"},
		{"groups come first", SetOf("US", "DE").Union(EEA()), "EEA, US"},
		{"a group that loses a member falls apart", EEA().Without("NO", "IS").Intersect(SetOf("NO", "DE", "SE")), "DE, SE"},
		{"the larger group does not hide the smaller", EEA().Union(EU()), "EEA, EU"},
		{"a group inside a group survives the loss of others", EEA().Union(EU()).Without("NO"), "EU, IS, LI"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.set.String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			var j, y Set
			data, err := json.Marshal(c.set)
			if err == nil {
				err = json.Unmarshal(data, &j)
			}
			if err != nil || j != c.set {
				t.Errorf("JSON %s reads as %s, %v", data, j, err)
			}
			data, err = yaml.Marshal(c.set)
			if err == nil {
				err = yaml.Unmarshal(data, &y)
			}
			if err != nil || y != c.set {
				t.Errorf("YAML %s reads as %s, %v", data, y, err)
			}
		})
	}
}

func TestSetsBehaveLikeSets(t *testing.T) {
	place := rapid.SampledFrom([]Jurisdiction{"AD", "DE", "FI", "NO", "GB", "US", "ZW", "ZM", "CH"})
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOf(place).Draw(t, "a"), rapid.SliceOf(place).Draw(t, "b")
		s, u := SetOf(a...), SetOf(b...)
		for _, j := range []Jurisdiction{"AD", "DE", "FI", "NO", "GB", "US", "ZW", "ZM", "CH"} {
			inA, inB := slices.Contains(a, j), slices.Contains(b, j)
			if s.Has(j) != inA || s.Union(u).Has(j) != (inA || inB) || s.Intersect(u).Has(j) != (inA && inB) || s.Without(b...).Has(j) != (inA && !inB) {
				t.Fatalf("%s: %v %v", j, a, b)
			}
		}
		if s.Contains(u) != s.Union(u).Equal(s) || s.Empty() != (s.Len() == 0) || !slices.IsSorted(s.All()) || !SetOf(s.All()...).Equal(s) {
			t.Fatalf("%v %v", s, u)
		}
	})
}

func TestParseSetRefusesWhatIsNoPlace(t *testing.T) {
	for _, bad := range [][]string{{"UK"}, {"eea"}, {"EEA", "XX"}, {""}, {"EU-adequat"}, {"DE "}} {
		if s, err := ParseSet(bad...); err == nil || !s.Empty() {
			t.Errorf("%q became %s", bad, s)
		}
	}
}

func TestProviderRecordsAreCheckedForContradictions(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p *Provider)
		field  string
	}{
		{"complete", func(p *Provider) {}, ""},
		{"incomplete is not malformed", func(p *Provider) { *p = Provider{Name: "x"} }, ""},
		{"no name", func(p *Provider) { p.Name = "" }, "name"},
		{"a long name", func(p *Provider) { p.Name = strings.Repeat("x", 65) }, "name"},
		{"a name that drives a terminal", func(p *Provider) { p.Name = "\x1b" }, "name"},
		{"simulated by others", func(p *Provider) { p.Simulated = true }, "simulated"},
		{"an unknown controller", func(p *Provider) { p.Controller = "UK" }, "controller"},
		{"an unknown place", func(p *Provider) { p.Processing[1] = "us" }, "processing[1]"},
		{"some and no sub-processors", func(p *Provider) { p.NoSubProcessors = true }, "no_sub_processors"},
		{"a nameless sub-processor", func(p *Provider) { p.SubProcessors[1].Name = "" }, "sub_processors[1].name"},
		{"a sub-processor nowhere", func(p *Provider) { p.SubProcessors[1].Jurisdiction = "" }, "sub_processors[1].jurisdiction"},
		{"none and some days", func(p *Provider) { p.Retention.Days = 1 }, "retention"},
		{"negative days", func(p *Provider) { p.Retention = Retention{Days: -1} }, "retention.days"},
		{"a reference over two lines", func(p *Provider) { p.Retention.Contract.Reference = "a\nb" }, "retention.contract.reference"},
		{"a contract without a date", func(p *Provider) { p.Retention.Contract.Signed = noon.Truncate(0).AddDate(-2026, 0, 0) }, ""},
		{"a contract without a beginning", func(p *Provider) { p.Retention.Contract.Signed = Contract{}.Signed }, "retention.contract"},
		{"a contract that ends before it begins", func(p *Provider) { p.Retention.Contract.Expires = date("2025-01-01") }, "retention.contract.expires"},
		{"an unknown instrument", func(p *Provider) { p.Safeguards[1].Instrument = "x" }, "safeguards[1].instrument"},
		{"a safeguard without a reference", func(p *Provider) { p.Safeguards[1].Reference = "" }, "safeguards[1].reference"},
		{"a safeguard for nowhere", func(p *Provider) { p.Safeguards[1].Covers = Set{} }, "safeguards[1].covers"},
		{"a bridge to India", func(p *Provider) { p.Safeguards[0].Covers = SetOf("US", "IN") }, "safeguards[0].covers"},
		{"adequacy for America", func(p *Provider) { p.Safeguards[0].Instrument = UKAdequacy }, "safeguards[0].covers"},
		{"a safeguard without an end", func(p *Provider) { p.Safeguards[1].Expires = Contract{}.Expires }, "safeguards[1].expires"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := everyRulePasses().provider
			c.change(&p)
			err := p.Validate()
			if c.field == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if e := problem.From(err); err == nil || e.Kind != problem.Invalid || e.Field != c.field {
				t.Errorf("got %v, want a problem at %s", err, c.field)
			}
		})
	}
}
