package sovereignty

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

func date(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// admitted is a case in which every rule is needed and passes: an American
// provider with a British and an Indian sub-processor, for a British exporter.
type admitted struct {
	policy   Policy
	request  Request
	provider Provider
}

func everyRulePasses() admitted {
	return admitted{
		policy: Policy{
			Regime: RegimeUK, Home: SetOf("DE"), Allowed: EEA().With("GB", "US", "IN"), ThirdParties: true, Highest: Restricted,
			Ceilings:           Ceilings{Own: Restricted, Near: Confidential, Elsewhere: Internal},
			RequireNoRetention: Internal, AllowedFeatures: []string{"store", "image_url"},
		},
		request: Request{Organisation: "acme", Class: Internal, At: noon, Features: []string{"image_url"}},
		provider: Provider{
			Name: "vendor", Controller: "US", Processing: []Jurisdiction{"DE", "US"},
			SubProcessors: []SubProcessor{{Name: "Host", Jurisdiction: "GB"}, {Name: "Support", Jurisdiction: "IN"}},
			Retention:     Retention{None: true, Contract: Contract{"ZDR-1", date("2026-01-01"), date("2027-01-01")}},
			Safeguards: []Safeguard{
				{UKUSBridge, "DPF 1", SetOf("US"), date("2027-02-01")},
				{IDTA, "IDTA 1", SetOf("IN"), date("2027-03-01")},
			},
		},
	}
}

func (a admitted) decide() Decision {
	return Decide(a.policy, a.request, []Candidate{{Provider: &a.provider, Model: "m", Order: 1, Weight: 1}})
}

func failed(c Considered) []Rule {
	var out []Rule
	for _, check := range c.Checks {
		if check.Result == Fail {
			out = append(out, check.Rule)
		}
	}
	return out
}

// ruleCases change one thing about everyRulePasses. Each names exactly the
// rules that must then say no; none means that it is still admitted.
var ruleCases = []struct {
	name   string
	change func(a *admitted)
	want   []Rule
}{
	{"nothing changed", func(a *admitted) {}, nil},

	{"the provider has no name", func(a *admitted) { a.provider.Name = "" }, []Rule{ProviderKnown}},
	{"the provider's name drives a terminal", func(a *admitted) { a.provider.Name = "x\x1b[2J" }, []Rule{ProviderKnown}},
	{"the provider's name forges a line", func(a *admitted) { a.provider.Name = "x\n[yes]" }, []Rule{ProviderKnown}},

	{"a third party calls itself simulated", func(a *admitted) { a.provider.Simulated = true }, []Rule{SimulatedInProcess}},
	{"a simulation passes data on", func(a *admitted) { a.provider.Simulated, a.provider.Own = true, true }, []Rule{SimulatedInProcess}},

	{"no consent to third parties", func(a *admitted) { a.policy.ThirdParties = false }, []Rule{ThirdPartyConsent}},
	{"no consent is needed for the fleet's own", func(a *admitted) { a.policy.ThirdParties, a.provider.Own = false, true }, nil},

	{"the controller is unknown", func(a *admitted) { a.provider.Controller = "" }, []Rule{JurisdictionController, SafeguardPresent}},
	{"the controller is outside", func(a *admitted) { a.provider.Controller = "CH" }, []Rule{JurisdictionController}},
	{"the controller is no country", func(a *admitted) { a.provider.Controller = "XX" }, []Rule{JurisdictionController, SafeguardPresent}},
	{"the parent is American though all servers are German", func(a *admitted) {
		a.policy.Allowed = EEA()
		a.provider.Processing, a.provider.SubProcessors, a.provider.NoSubProcessors = []Jurisdiction{"DE"}, nil, true
	}, []Rule{JurisdictionController}},

	{"processing is unknown", func(a *admitted) { a.provider.Processing = nil }, []Rule{JurisdictionProcessing, SafeguardPresent}},
	{"one of many processing places is outside", func(a *admitted) {
		a.provider.Processing = append(a.provider.Processing, "CH")
	}, []Rule{JurisdictionProcessing}},
	{"a processing place is in lower case", func(a *admitted) { a.provider.Processing = []Jurisdiction{"de"} }, []Rule{JurisdictionProcessing, SafeguardPresent}},

	{"sub-processors are unknown", func(a *admitted) { a.provider.SubProcessors = nil }, []Rule{JurisdictionSubProcessor, SafeguardPresent}},
	{"it is on record that there are none", func(a *admitted) {
		a.provider.SubProcessors, a.provider.NoSubProcessors = nil, true
	}, nil},
	{"the fleet's own models need no such record", func(a *admitted) {
		a.provider.SubProcessors, a.provider.Own = nil, true
	}, nil},
	{"the last sub-processor is outside", func(a *admitted) {
		a.provider.SubProcessors = append(a.provider.SubProcessors, SubProcessor{Name: "Logs", Jurisdiction: "CH"})
	}, []Rule{JurisdictionSubProcessor}},
	{"a sub-processor's country is unknown", func(a *admitted) {
		a.provider.SubProcessors[0].Jurisdiction = ""
	}, []Rule{JurisdictionSubProcessor, SafeguardPresent}},
	{"saying there are none does not hide one", func(a *admitted) {
		a.provider.NoSubProcessors = true
		a.provider.SubProcessors[0].Jurisdiction = "CH"
	}, []Rule{JurisdictionSubProcessor}},

	{"the data is above the ceiling", func(a *admitted) { a.request.Class = Confidential }, []Rule{ClassCeiling}},
	{"an unlabelled request counts as the highest", func(a *admitted) { a.request.Class = 0 }, []Rule{ClassCeiling}},
	{"an impossible class counts as restricted", func(a *admitted) { a.request.Class = 200 }, []Rule{ClassCeiling}},
	{"the ceiling is unset", func(a *admitted) { a.policy.Ceilings.Elsewhere = 0 }, []Rule{ClassCeiling}},
	{"the ceiling is impossible", func(a *admitted) { a.policy.Ceilings.Elsewhere = 9 }, []Rule{ClassCeiling}},
	{"public data may go", func(a *admitted) { a.request.Class = Public }, nil},
	{"the nearer ceiling does not serve the farther place", func(a *admitted) {
		a.policy.Ceilings = Ceilings{Own: Restricted, Near: Restricted, Elsewhere: Public}
	}, []Rule{ClassCeiling}},
	{"home brings a place near", func(a *admitted) {
		a.policy.Home = SetOf("US", "GB", "IN", "DE")
		a.request.Class = Confidential
	}, nil},

	{"retention is unknown", func(a *admitted) { a.provider.Retention.None = false }, []Rule{NoRetention}},
	{"retention is unknown and the data public", func(a *admitted) {
		a.provider.Retention.None, a.request.Class = false, Public
	}, []Rule{NoRetention}},
	{"retention contradicts itself", func(a *admitted) { a.provider.Retention.Days = 30 }, []Rule{NoRetention}},
	{"retention is negative", func(a *admitted) { a.provider.Retention = Retention{Days: -1} }, []Rule{NoRetention, ContractInDate}},
	{"it keeps data for 30 days", func(a *admitted) {
		a.provider.Retention.None, a.provider.Retention.Days = false, 30
	}, []Rule{NoRetention}},
	{"30 days are accepted for public data", func(a *admitted) {
		a.provider.Retention, a.request.Class = Retention{Days: 30}, Public
	}, nil},
	{"an unset threshold means always", func(a *admitted) {
		a.provider.Retention, a.request.Class, a.policy.RequireNoRetention = Retention{Days: 30}, Public, 0
	}, []Rule{NoRetention, ContractInDate}},

	{"there is no contract", func(a *admitted) { a.provider.Retention.Contract = Contract{} }, []Rule{ContractInDate}},
	{"the contract has no reference", func(a *admitted) { a.provider.Retention.Contract.Reference = "" }, []Rule{ContractInDate}},
	{"the contract has no end", func(a *admitted) { a.provider.Retention.Contract.Expires = time.Time{} }, []Rule{ContractInDate}},
	{"the contract has no beginning", func(a *admitted) { a.provider.Retention.Contract.Signed = time.Time{} }, []Rule{ContractInDate}},
	{"the last instant of the contract", func(a *admitted) { a.request.At = date("2027-01-01").Add(-1) }, nil},
	{"the contract ends on this instant", func(a *admitted) { a.request.At = date("2027-01-01") }, []Rule{ContractInDate}},
	{"the contract begins on this instant", func(a *admitted) { a.request.At = date("2026-01-01") }, nil},
	{"the contract begins an instant later", func(a *admitted) { a.request.At = date("2026-01-01").Add(-1) }, []Rule{ContractInDate}},
	{"no contract is asked for public data", func(a *admitted) {
		a.provider.Retention.Contract, a.request.Class = Contract{}, Public
	}, nil},

	{"no regime", func(a *admitted) { a.policy.Regime = "" }, []Rule{SafeguardPresent}},
	{"an unknown regime", func(a *admitted) { a.policy.Regime = "US" }, []Rule{SafeguardPresent}},
	{"British instruments under EU law", func(a *admitted) { a.policy.Regime = RegimeEU }, []Rule{SafeguardPresent}},
	{"European instruments under EU law", func(a *admitted) {
		a.policy.Regime = RegimeEU
		a.provider.Safeguards = []Safeguard{{EUUSDPF, "DPF 1", SetOf("US"), date("2027-02-01")}, {EUSCC, "SCC 1", SetOf("IN"), date("2027-02-01")}}
	}, nil},
	{"European instruments under UK law", func(a *admitted) {
		a.provider.Safeguards = []Safeguard{{EUUSDPF, "DPF 1", SetOf("US"), date("2027-02-01")}, {EUSCC, "SCC 1", SetOf("IN", "US"), date("2027-02-01")},
			{EUAdequacy, "A 1", SetOf("IN", "US"), date("2027-02-01")}}
	}, []Rule{SafeguardPresent}},
	{"one of two countries is not covered", func(a *admitted) { a.provider.Safeguards = a.provider.Safeguards[:1] }, []Rule{SafeguardPresent}},
	{"the bridge does not reach India", func(a *admitted) {
		a.provider.Safeguards = []Safeguard{{UKUSBridge, "DPF 1", SetOf("US", "IN"), date("2027-02-01")}}
	}, []Rule{SafeguardPresent}},
	{"adequacy is not for a clerk to declare", func(a *admitted) {
		a.provider.Safeguards = []Safeguard{{UKAdequacy, "we think so", SetOf("US", "IN"), date("2027-02-01")}}
	}, []Rule{SafeguardPresent}},
	{"a certification without a reference", func(a *admitted) { a.provider.Safeguards[0].Reference = "" }, []Rule{SafeguardPresent}},
	{"a safeguard without an expiry", func(a *admitted) { a.provider.Safeguards[1].Expires = time.Time{} }, []Rule{SafeguardPresent}},
	{"a safeguard that covers nowhere", func(a *admitted) { a.provider.Safeguards[1].Covers = Set{} }, []Rule{SafeguardPresent}},
	{"an unheard-of instrument", func(a *admitted) { a.provider.Safeguards[1].Instrument = "handshake" }, []Rule{SafeguardPresent}},
	{"one addendum for both", func(a *admitted) {
		a.provider.Safeguards = []Safeguard{{UKAddendum, "ADD 1", SetOf("US", "IN"), date("2027-02-01")}}
	}, nil},
	{"the fleet's own models abroad need one too", func(a *admitted) {
		a.provider.Own, a.provider.Safeguards = true, nil
	}, []Rule{SafeguardPresent}},
	{"the operator's own seat is no destination", func(a *admitted) {
		a.provider.Own, a.provider.Safeguards = true, nil
		a.provider.Processing, a.provider.SubProcessors = []Jurisdiction{"DE"}, nil
	}, nil},

	{"the last instant of the safeguard", func(a *admitted) {
		a.provider.Retention.Contract.Expires, a.request.At = date("2030-01-01"), date("2027-02-01").Add(-1)
	}, nil},
	{"a safeguard ends on this instant", func(a *admitted) {
		a.provider.Retention.Contract.Expires, a.request.At = date("2030-01-01"), date("2027-02-01")
	}, []Rule{SafeguardInDate}},
	{"a second safeguard outlives the first", func(a *admitted) {
		a.provider.Retention.Contract.Expires, a.request.At = date("2030-01-01"), date("2027-02-01")
		a.provider.Safeguards = append(a.provider.Safeguards, Safeguard{IDTA, "IDTA 2", SetOf("US"), date("2028-01-01")})
	}, nil},

	{"no feature", func(a *admitted) { a.request.Features = nil }, nil},
	{"a feature the policy does not name", func(a *admitted) { a.request.Features = []string{"image_url", "mcp_servers"} }, []Rule{FeatureAllowed}},
	{"a feature in other letter case", func(a *admitted) { a.request.Features = []string{"Store"} }, []Rule{FeatureAllowed}},
	{"a feature that is not one", func(a *admitted) { a.request.Features = []string{"store\n[yes] fine"} }, []Rule{FeatureAllowed}},
	{"a malformed feature that the policy names", func(a *admitted) {
		a.policy.AllowedFeatures, a.request.Features = []string{"a b"}, []string{"a b"}
	}, []Rule{FeatureAllowed}},

	{"no time", func(a *admitted) { a.request.At = time.Time{} }, []Rule{ContractInDate, SafeguardInDate}},
	{"a time before everything", func(a *admitted) { a.request.At = date("1970-01-01") }, []Rule{ContractInDate}},
	{"the zero policy", func(a *admitted) { a.policy = Policy{} }, []Rule{ThirdPartyConsent, JurisdictionController, JurisdictionProcessing,
		JurisdictionSubProcessor, ClassCeiling, SafeguardPresent, FeatureAllowed}},
}

func TestEachRulePassesAndFailsByItself(t *testing.T) {
	seen := map[Rule]bool{}
	for _, c := range ruleCases {
		t.Run(c.name, func(t *testing.T) {
			a := everyRulePasses()
			c.change(&a)
			d := a.decide()
			got := failed(d.Considered[0])
			if !slices.Equal(got, c.want) {
				t.Errorf("these rules say no: %v, want %v\n%s", got, c.want, d.Text())
			}
			if (len(d.Allowed) == 1) != (len(c.want) == 0) || (d.Outcome == OutcomeAllowed) != (len(c.want) == 0) {
				t.Errorf("outcome %s with %d allowed contradicts the checks", d.Outcome, len(d.Allowed))
			}
			if len(d.Considered[0].Checks) != len(Rules()) {
				t.Errorf("%d checks for %d rules", len(d.Considered[0].Checks), len(Rules()))
			}
			readsBack(t, d)
			for _, r := range got {
				seen[r] = true
			}
		})
	}
	for _, r := range Rules() {
		if !seen[r] {
			t.Errorf("no case makes %s fail", r)
		}
	}
}

func TestEveryRuleIsNeededWhereEveryRulePasses(t *testing.T) {
	for _, check := range everyRulePasses().decide().Considered[0].Checks {
		if check.Result != Pass && check.Rule != SimulatedInProcess {
			t.Errorf("%s is %s: %s", check.Rule, check.Result, check.Sentence)
		}
	}
}

// TestRefusalsReadAsTheGoldenFileSays keeps what the client of each refused
// case is told.
func TestRefusalsReadAsTheGoldenFileSays(t *testing.T) {
	var b strings.Builder
	for _, c := range ruleCases {
		a := everyRulePasses()
		c.change(&a)
		d := a.decide()
		if e := d.Refusal(); e != nil {
			if e.Code != string(c.want[0]) || e.Mend == "" {
				t.Errorf("%s: code %s, mend %q", c.name, e.Code, e.Mend)
			}
			b.WriteString("# " + c.name + strings.TrimPrefix(refusalText(t, d), "\nAnswer") + "\n")
		}
	}
	const file = "testdata/refusals.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\n(go test -update writes it anew)", b.String())
	}
}

func TestRefusalSpeaksOfTheCandidateNearestToBeingAllowed(t *testing.T) {
	a := everyRulePasses()
	far := a.provider
	far.Name, far.Controller, far.Retention = "far", "CH", Retention{}
	near := a.provider
	near.Name, near.Controller = "near", "CH"
	d := Decide(a.policy, a.request, []Candidate{{Provider: &far, Order: 1}, {Provider: &near, Order: 2}})
	e := d.Refusal()
	if e == nil || e.Code != string(JurisdictionController) || !strings.Contains(e.Detail, "near") {
		t.Errorf("got %v", e)
	}
	if want := "An administrator of the organisation can add CH to the allowed jurisdictions in its policy."; e.Mend != want {
		t.Errorf("mend: %s", e.Mend)
	}
	if everyRulePasses().decide().Refusal() != nil {
		t.Error("an allowed request has a refusal")
	}
}

func TestRulesAskDistinctQuestions(t *testing.T) {
	questions := map[string]bool{}
	for _, r := range Rules() {
		if q := r.Question(); q == "" || questions[q] || !strings.HasSuffix(q, "?") {
			t.Errorf("%s asks %q", r, q)
		}
		questions[r.Question()] = true
	}
	if Rule("made-up").Question() != "" {
		t.Error("an unknown rule asks something")
	}
}
