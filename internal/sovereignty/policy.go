package sovereignty

import (
	"slices"
	"strings"
)

// Regime is the law the exporter of the data is under.
type Regime string

const (
	RegimeUK Regime = "UK" // UK GDPR, as amended by the Data (Use and Access) Act 2025
	RegimeEU Regime = "EU" // Regulation (EU) 2016/679, in the whole EEA
)

// Valid reports whether the regime is one of the two.
func (r Regime) Valid() bool { return r == RegimeUK || r == RegimeEU }

// Law names the law in a sentence.
func (r Regime) Law() string {
	switch r {
	case RegimeUK:
		return "UK GDPR"
	case RegimeEU:
		return "EU GDPR"
	}
	return "no recorded law"
}

// Policy is what an organisation allows. The zero value allows nothing.
type Policy struct {
	Regime  Regime `json:"regime" yaml:"regime"`
	Home    Set    `json:"home" yaml:"home"`       // tried first among equals; within Allowed
	Allowed Set    `json:"allowed" yaml:"allowed"` // must hold controller, every processing location, every sub-processor

	ThirdParties bool      `json:"third_parties" yaml:"third_parties"` // consent to providers outside the fleet
	Highest      DataClass `json:"highest" yaml:"highest"`             // the organisation's highest class; a request that names none counts as this
	Ceilings     Ceilings  `json:"ceilings" yaml:"ceilings"`

	// RequireNoRetention is the class from which a third party must keep
	// nothing, with a contract in date that says so. Unset means always.
	RequireNoRetention DataClass `json:"require_no_retention" yaml:"require_no_retention"`

	// AllowedFeatures names the request fields that make an upstream fetch,
	// store or call others, such as "store", "image_url", "tools.web_search".
	AllowedFeatures []string `json:"allowed_features,omitempty" yaml:"allowed_features,omitempty"`
}

// Ceilings gives the highest data class that may go to each kind of
// destination. An unset ceiling lets nothing go there.
type Ceilings struct {
	Own       DataClass `json:"own,omitzero" yaml:"own,omitempty"`             // the fleet's own models, wherever Allowed lets them stand
	Near      DataClass `json:"near,omitzero" yaml:"near,omitempty"`           // third parties entirely within the EEA or the home jurisdictions
	Elsewhere DataClass `json:"elsewhere,omitzero" yaml:"elsewhere,omitempty"` // every other third party
}

// DefaultPolicy is conservative: the fleet's own models in the EEA, Germany
// and Finland first, an exporter under UK GDPR, no features. Its ceilings for
// third parties take effect only after consent.
func DefaultPolicy() Policy {
	return Policy{
		Regime:             RegimeUK,
		Home:               SetOf("DE", "FI"),
		Allowed:            EEA(),
		Highest:            Confidential,
		Ceilings:           Ceilings{Own: Restricted, Near: Internal, Elsewhere: Public},
		RequireNoRetention: Internal,
	}
}

// Validate reports the first thing that is wrong, as a *problem.Error that
// names the field.
func (p Policy) Validate() error {
	switch {
	case !p.Regime.Valid():
		return invalid("policy-regime", "regime", quote(string(p.Regime))+" is not a regime.", "Use UK for an exporter under UK GDPR, or EU for one under EU GDPR.")
	case p.Allowed.Empty():
		return invalid("policy-allowed", "allowed", "A policy needs at least one allowed jurisdiction.", `Use ["EEA"] to stay in the European Economic Area.`)
	case !p.Allowed.Contains(p.Home):
		outside := p.Home.Without(p.Allowed.All()...)
		return invalid("policy-home", "home", "Home holds "+codes(outside.All())+", which the policy does not allow.", "Add it to allowed, or remove it from home.")
	case !p.Highest.Valid():
		return invalid("policy-highest", "highest", "A policy needs the organisation's highest data class.", "Use public, internal, confidential or restricted.")
	case !p.RequireNoRetention.Valid():
		return invalid("policy-retention", "require_no_retention", "A policy needs the data class from which providers must keep nothing.", "Use public to require it always.")
	}
	if err := p.Ceilings.validate(); err != nil {
		return err
	}
	for i, f := range p.AllowedFeatures {
		if !isFeature(f) {
			return invalid("policy-feature", at("allowed_features", i), quote(f)+" is not the name of a feature.", "Use a field's name such as store, image_url or tools.web_search.")
		}
		if slices.Contains(p.AllowedFeatures[:i], f) {
			return invalid("policy-feature", at("allowed_features", i), f+" is listed twice.", "Remove one.")
		}
	}
	return nil
}

func (c Ceilings) validate() error {
	for _, f := range []struct {
		name  string
		class DataClass
	}{{"ceilings.own", c.Own}, {"ceilings.near", c.Near}, {"ceilings.elsewhere", c.Elsewhere}} {
		if f.class > Restricted {
			return invalid("policy-ceiling", f.name, "That is not a data class.", "Use public, internal, confidential or restricted, or leave it out to let nothing go there.")
		}
	}
	if c.Near > c.Own {
		return invalid("policy-ceiling", "ceilings.near", "The ceiling for nearby third parties is above the one for the fleet's own models.", "Lower near or raise own.")
	}
	if c.Elsewhere > c.Near {
		return invalid("policy-ceiling", "ceilings.elsewhere", "The ceiling for providers elsewhere is above the one for those nearby.", "Lower elsewhere or raise near.")
	}
	return nil
}

// of gives the ceiling for a zone; an invalid one counts as unset.
func (c Ceilings) of(z Zone) (class DataClass, field string) {
	switch z {
	case ZoneOwn:
		class, field = c.Own, "ceilings.own"
	case ZoneHome, ZoneEEA:
		class, field = c.Near, "ceilings.near"
	default:
		class, field = c.Elsewhere, "ceilings.elsewhere"
	}
	if class > Restricted {
		class = 0
	}
	return class, field
}

// ParsePolicy reads a policy from JSON, strictly: every field known, written
// once and in lower case, nothing after it, and valid as a whole.
func ParsePolicy(data []byte) (Policy, error) {
	var p Policy
	if err := strictJSON(data, &p, "policy-malformed", "The policy cannot be read."); err != nil {
		return Policy{}, err
	}
	if err := p.Validate(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// Text says in sentences what the policy allows.
func (p Policy) Text() string {
	var b strings.Builder
	say := func(s string) { b.WriteString(wrap(s, "", "") + "\n") }
	if p.Regime.Valid() {
		say("Exports of personal data are judged under " + p.Regime.Law() + ".")
	} else {
		say("No regime is recorded, so nothing may go anywhere.")
	}
	if p.Allowed.Empty() {
		say("No jurisdiction is allowed, so nothing may go anywhere.")
	} else {
		say("Data may go only to providers that are controlled from, process in, and pass data on to " + p.Allowed.phrase() + ".")
	}
	if !p.Home.Empty() {
		say("Among equals, the fleet's own models come first, then providers in " + p.Home.phrase() + ".")
	}
	if p.ThirdParties {
		say("The organisation has agreed to providers outside the fleet.")
	} else {
		say("Only the fleet's own models may be used: the organisation has not agreed to providers outside the fleet.")
	}
	say(ceilingText("The fleet's own models", p.Ceilings.Own))
	if p.ThirdParties {
		say(ceilingText("Third parties within the EEA or the home jurisdictions", p.Ceilings.Near))
		say(ceilingText("Third parties elsewhere", p.Ceilings.Elsewhere))
		say("From " + max(p.RequireNoRetention, Public).String() + " data up, a third party must keep nothing, and a contract in date must say so.")
	}
	if p.Highest.Valid() {
		say("A request that names no data class counts as " + p.Highest.String() + ".")
	} else {
		say("A request that names no data class counts as restricted.")
	}
	if len(p.AllowedFeatures) == 0 {
		say("Requests that make a provider fetch, store or call others are refused.")
	} else {
		say("Of the request features that make a provider fetch, store or call others, only these are allowed: " + featureList(p.AllowedFeatures) + ".")
	}
	return b.String()
}

func ceilingText(who string, c DataClass) string {
	switch {
	case !c.Valid():
		return who + " may receive nothing."
	case c == Public:
		return who + " may receive public data only."
	}
	return who + " may receive data up to " + c.String() + "."
}
