package sovereignty

import (
	"slices"
	"strconv"
)

// Rule is the stable id of a rule. It is the code of a refusal, and stored in
// decisions: ids are never renamed or used again.
type Rule string

const (
	ProviderKnown            Rule = "provider-known"
	SimulatedInProcess       Rule = "simulated-in-process"
	ThirdPartyConsent        Rule = "third-party-consent"
	JurisdictionController   Rule = "jurisdiction-controller"
	JurisdictionProcessing   Rule = "jurisdiction-processing"
	JurisdictionSubProcessor Rule = "jurisdiction-sub-processor"
	ClassCeiling             Rule = "class-ceiling"
	NoRetention              Rule = "no-retention"
	ContractInDate           Rule = "contract-in-date"
	SafeguardPresent         Rule = "safeguard-present"
	SafeguardInDate          Rule = "safeguard-in-date"
	FeatureAllowed           Rule = "feature-allowed"
)

// rules is the order in which they are applied and shown.
var rules = [...]struct {
	id       Rule
	question string
	apply    func(*judge) Check
}{
	{ProviderKnown, "Is it on record who would answer?", (*judge).providerKnown},
	{SimulatedInProcess, "If the answers are simulated, does everything stay in this process?", (*judge).simulatedInProcess},
	{ThirdPartyConsent, "Has the organisation agreed to providers outside the fleet?", (*judge).thirdPartyConsent},
	{JurisdictionController, "Is the provider controlled from an allowed country?", (*judge).jurisdictionController},
	{JurisdictionProcessing, "Does it process only in allowed countries?", (*judge).jurisdictionProcessing},
	{JurisdictionSubProcessor, "Does it pass data on only to allowed countries?", (*judge).jurisdictionSubProcessor},
	{ClassCeiling, "May data this sensitive go this far?", (*judge).classCeiling},
	{NoRetention, "Does the provider keep nothing, where that is required?", (*judge).noRetention},
	{ContractInDate, "Does a contract in date say so?", (*judge).contractInDate},
	{SafeguardPresent, "Is every transfer to a third country covered?", (*judge).safeguardPresent},
	{SafeguardInDate, "Is that cover in date?", (*judge).safeguardInDate},
	{FeatureAllowed, "May the request make the provider fetch, store or call others?", (*judge).featureAllowed},
}

// Rules lists every rule in the order in which it is applied.
func Rules() []Rule {
	ids := make([]Rule, len(rules))
	for i := range rules {
		ids[i] = rules[i].id
	}
	return ids
}

// Question says what the rule asks, in plain words; empty for an unknown id.
func (r Rule) Question() string {
	for i := range rules {
		if rules[i].id == r {
			return rules[i].question
		}
	}
	return ""
}

func pass(sentence string) Check      { return Check{Result: Pass, Sentence: sentence} }
func notNeeded(sentence string) Check { return Check{Result: NotNeeded, Sentence: sentence} }
func fail(sentence, mend string) Check {
	return Check{Result: Fail, Sentence: sentence, Mend: mend}
}

func (j *judge) providerKnown() Check {
	if !isName(j.p.Name) {
		return fail("No provider is on record for this candidate.", "An operator can record the provider under a name.")
	}
	return pass("It is on record.")
}

func (j *judge) simulatedInProcess() Check {
	switch {
	case !j.p.Simulated:
		return notNeeded("It is not a simulation.")
	case j.p.Own && len(j.p.SubProcessors) == 0:
		return pass("It is a simulation inside this process: no model answers, and nothing is sent anywhere.")
	}
	return fail("It is recorded as simulated, yet also as somebody outside this process.",
		"An operator can correct the record of "+j.who()+".")
}

func (j *judge) thirdPartyConsent() Check {
	switch {
	case j.p.Own:
		return notNeeded("It belongs to the fleet; no consent to outside providers is needed.")
	case j.policy.ThirdParties:
		return pass("The organisation has agreed to providers outside the fleet.")
	}
	return fail("The organisation has not agreed to providers outside the fleet.",
		"An administrator of the organisation can agree to third parties in its policy.")
}

func (j *judge) jurisdictionController() Check {
	c := j.p.Controller
	switch {
	case c == "":
		return fail("Nobody has recorded which country it is controlled from.", j.record("its controlling jurisdiction"))
	case j.policy.Allowed.has(c):
		return pass("It is controlled from " + c.Label() + ", which the policy allows.")
	}
	return fail("It is controlled from "+c.Label()+", which the policy does not allow; that its servers may stand elsewhere does not change this.",
		j.admit([]Jurisdiction{c}))
}

func (j *judge) jurisdictionProcessing() Check {
	if len(j.p.Processing) == 0 {
		return fail("Nobody has recorded where it processes data.", j.record("every location where it processes data"))
	}
	if outside := j.outside(j.p.Processing); len(outside) > 0 {
		return fail("It processes data in "+places(outside)+", which the policy does not allow.", j.admit(outside))
	}
	return pass("It processes data in " + places(unique(j.p.Processing)) + ", which the policy allows.")
}

func (j *judge) jurisdictionSubProcessor() Check {
	subs := j.p.SubProcessors
	if len(subs) == 0 {
		if j.p.NoSubProcessors || j.p.Own {
			return pass("It passes data on to nobody.")
		}
		return fail("Nobody has recorded to whom it passes data on.", j.record("its sub-processors, or that there are none,"))
	}
	var bad []Jurisdiction
	var names []string
	for i := range subs {
		where := subs[i].Jurisdiction
		if j.policy.Allowed.has(where) {
			continue
		}
		bad = append(bad, where)
		if where == "" {
			names = append(names, shown(subs[i].Name)+" (country not recorded)")
		} else {
			names = append(names, shown(subs[i].Name)+" in "+where.Label())
		}
	}
	if len(bad) == 0 {
		return pass(strconv.Itoa(len(subs)) + plural(len(subs), " sub-processor is", " sub-processors are") + " on record, only in allowed countries.")
	}
	return fail("It passes data on to "+list(names)+", which the policy does not allow.", j.admit(unique(bad)))
}

func (j *judge) classCeiling() Check {
	ceiling, field := j.policy.Ceilings.of(j.zone)
	where := j.zone.phrase()
	switch {
	case j.class <= ceiling:
		return pass("The data is " + j.class.String() + "; " + where + " may receive up to " + ceiling.String() + ".")
	case ceiling == 0:
		return fail("The data is "+j.class.String()+"; "+where+" may receive nothing.", j.raise(field))
	}
	return fail("The data is "+j.class.String()+"; "+where+" may receive at most "+ceiling.String()+".", j.raise(field))
}

func (j *judge) raise(field string) string {
	return "Label the request with a lower class if its content permits, or an administrator can raise " + field + " to " + j.class.String() + " in the policy."
}

// needsNoRetention: from this class up a third party must keep nothing.
func (j *judge) needsNoRetention() bool { return !j.p.Own && j.class >= j.policy.RequireNoRetention }

func (j *judge) noRetention() Check {
	r := &j.p.Retention
	switch {
	case j.p.Own:
		return notNeeded("What the fleet's own models receive stays in the fleet.")
	case r.None && r.Days == 0:
		return pass("It keeps nothing of what it receives.")
	case r.None || r.Days <= 0:
		return fail("Nobody has recorded how long it keeps what it receives.", j.record("its retention"))
	case !j.needsNoRetention():
		return notNeeded("It keeps what it receives for " + strconv.Itoa(r.Days) + plural(r.Days, " day", " days") + "; for " + j.class.String() + " data the policy accepts that.")
	}
	return fail("It keeps what it receives for "+strconv.Itoa(r.Days)+plural(r.Days, " day", " days")+"; "+j.class.String()+" data may go only where nothing is kept.",
		"Agree with "+j.who()+" that it keeps nothing, and an operator can record the contract.")
}

func (j *judge) contractInDate() Check {
	c := &j.p.Retention.Contract
	ref := shown(c.Reference)
	signed, expires := instant(c.Signed), instant(c.Expires)
	switch {
	case j.p.Own:
		return notNeeded("The fleet needs no contract with itself.")
	case !j.needsNoRetention():
		return notNeeded("For " + j.class.String() + " data the policy asks for no such contract.")
	case c.Reference == "" || c.Signed.IsZero() || c.Expires.IsZero():
		return fail("No contract about retention is on record with its reference, date of signature and expiry.", j.record("the contract about retention"))
	case !j.at.Before(expires):
		return fail("The contract "+ref+" counted only to "+end(expires)+".", "Renew the contract with "+j.who()+", and an operator can record the new one.")
	}
	j.lapses(expires)
	if j.at.Before(signed) {
		j.lapses(signed)
		return fail("The contract "+ref+" counts only from "+day(signed)+" on.", "Wait until then, or correct the date of signature.")
	}
	return pass("The contract " + ref + " counts to " + end(expires) + ".")
}

func (j *judge) featureAllowed() Check {
	if len(j.features.all) == 0 && j.features.malformed == 0 {
		return notNeeded("The request asks it to fetch, store or call nothing.")
	}
	if len(j.features.refused) == 0 && j.features.malformed == 0 {
		return pass("The request uses " + featureList(j.features.all) + ", which the policy allows.")
	}
	what := featureList(j.features.refused)
	if j.features.malformed > 0 {
		const unnamed = "a feature whose name is not in the form of one"
		if what == "" {
			return fail("The request uses "+unnamed+".", "Leave it out of the request.")
		}
		what += " and " + unnamed
	}
	return fail("The request uses "+what+", which the policy does not allow.",
		"Leave it out of the request, or an administrator can add "+featureList(j.features.refused)+" to allowed_features in the policy.")
}

// outside gives the places that the policy does not allow, sorted.
func (j *judge) outside(js []Jurisdiction) []Jurisdiction {
	var out []Jurisdiction
	for _, where := range js {
		if !j.policy.Allowed.has(where) {
			out = append(out, where)
		}
	}
	return unique(out)
}

func (j *judge) record(what string) string {
	return "An operator can add " + what + " to the record of " + j.who() + "."
}

func (j *judge) who() string {
	if j.p.Name == "" {
		return "the provider"
	}
	return shown(j.p.Name)
}

func (j *judge) admit(js []Jurisdiction) string {
	known := slices.DeleteFunc(slices.Clone(js), func(c Jurisdiction) bool { return !c.Valid() })
	if len(known) < len(js) {
		return j.record("the country of each place, as an ISO 3166 code,")
	}
	return "An administrator of the organisation can add " + codes(known) + " to the allowed jurisdictions in its policy."
}

// featureList names up to eight features.
func featureList(names []string) string {
	if len(names) > 8 {
		return list(append(slices.Clone(names[:8]), strconv.Itoa(len(names)-8)+" more"))
	}
	return list(names)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
