package sovereignty

import (
	"strings"
	"time"

	"pgregory.net/rapid"
)

// The oracle says whether a provider may be used, written from the rules as
// the documentation states them, with its own lists of law and its own
// arithmetic. It shares no code with Decide beyond the types and Set.Has, and
// knows only the countries that the generators draw.

var (
	oracleEEA    = "DE FR NO"
	oracleUKFull = "DE FR NO CH"
	oracleUKPart = "JP"
	oracleEUFull = "CH BR"
	oracleEUPart = "JP"
	oracleKnown  = "DE FR NO GB US CH IN JP BR"
)

func oneOf(j Jurisdiction, words string) bool {
	for _, w := range strings.Fields(words) {
		if w == string(j) {
			return true
		}
	}
	return false
}

func oraclePermits(p Policy, r Request, v *Provider) bool {
	if v == nil || v.Name == "" || !v.Own && !p.ThirdParties {
		return false
	}
	if v.Simulated && (!v.Own || len(v.SubProcessors) != 0) {
		return false
	}
	var where []Jurisdiction
	where = append(where, v.Processing...)
	for _, s := range v.SubProcessors {
		where = append(where, s.Jurisdiction)
	}
	if len(v.Processing) == 0 || !v.Own && len(v.SubProcessors) == 0 && !v.NoSubProcessors {
		return false
	}
	for _, j := range append(where, v.Controller) {
		if !oneOf(j, oracleKnown) || !p.Allowed.Has(j) {
			return false
		}
	}
	if !v.Own {
		where = append(where, v.Controller)
	}
	for _, f := range r.Features {
		named := false
		for _, g := range p.AllowedFeatures {
			named = named || f == g
		}
		if !named {
			return false
		}
	}
	class := r.Class
	if class == 0 {
		class = p.Highest
	}
	if class == 0 || class > 4 {
		class = 4
	}
	return oracleCeiling(p, v, where) >= class && oracleRetention(p, r.At, class, v) && oracleTransfer(p, r.At, v, where)
}

func oracleCeiling(p Policy, v *Provider, where []Jurisdiction) DataClass {
	ceiling := p.Ceilings.Near
	for _, j := range where {
		if !p.Home.Has(j) && !oneOf(j, oracleEEA) {
			ceiling = p.Ceilings.Elsewhere
		}
	}
	if v.Own {
		ceiling = p.Ceilings.Own
	}
	if ceiling > 4 {
		return 0
	}
	return ceiling
}

func oracleRetention(p Policy, at time.Time, class DataClass, v *Provider) bool {
	r := v.Retention
	switch {
	case v.Own:
		return true
	case r.None && r.Days != 0, !r.None && r.Days < 1:
		return false // unknown or contradictory
	case class < p.RequireNoRetention:
		return true
	}
	c := r.Contract
	return r.None && c.Reference != "" && !c.Signed.IsZero() && !c.Expires.IsZero() && c.Signed.Compare(at) <= 0 && at.Compare(c.Expires) < 0
}

func oracleTransfer(p Policy, at time.Time, v *Provider, where []Jurisdiction) bool {
	for _, j := range where {
		covered := false
		switch p.Regime {
		case "UK":
			covered = j == "GB" || oneOf(j, oracleUKFull)
		case "EU":
			covered = oneOf(j, oracleEEA) || oneOf(j, oracleEUFull) || j == "GB" && at.Before(date("2031-12-27"))
		default:
			return false
		}
		for _, s := range v.Safeguards {
			counts := false
			switch string(p.Regime) + " " + string(s.Instrument) {
			case "UK idta", "UK uk-addendum", "EU eu-scc":
				counts = true
			case "UK uk-us-bridge", "EU eu-us-dpf":
				counts = j == "US"
			case "UK uk-adequacy":
				counts = oneOf(j, oracleUKFull) || oneOf(j, oracleUKPart)
			case "EU eu-adequacy":
				counts = j == "GB" || oneOf(j, oracleEUFull) || oneOf(j, oracleEUPart)
			}
			if counts && s.Reference != "" && !s.Expires.IsZero() && s.Covers.Has(j) && at.Before(s.Expires) {
				covered = true
			}
		}
		if !covered {
			return false
		}
	}
	return true
}

// Generators. Values that admit are drawn more often than values that refuse,
// so that a good part of what is drawn is admitted.

func often[T any](t *rapid.T, good []T, rest []T, label string) T {
	if len(rest) == 0 || rapid.IntRange(0, 49).Draw(t, label+"?") < 48 {
		return rapid.SampledFrom(good).Draw(t, label)
	}
	return rapid.SampledFrom(rest).Draw(t, label)
}

var anyMoment = rapid.Custom(func(t *rapid.T) time.Time {
	base := rapid.SampledFrom([]time.Time{noon, date("2026-11-22"), date("2031-12-27")}).Draw(t, "base")
	return base.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "days"))*24*time.Hour + time.Duration(rapid.IntRange(-1, 1).Draw(t, "ns")))
})

func drawPlace(t *rapid.T) Jurisdiction {
	return often(t, []Jurisdiction{"DE", "DE", "FR", "FR", "NO", "GB", "US", "CH", "IN", "JP", "BR"}, []Jurisdiction{"", "XX", "de", "UK", "D"}, "place")
}

func drawSet(t *rapid.T, label string) Set {
	s := SetOf(rapid.SliceOfN(rapid.SampledFrom([]Jurisdiction{"DE", "FR", "NO", "GB", "US", "CH", "IN", "JP", "BR"}), 0, 6).Draw(t, label)...)
	switch rapid.IntRange(0, 5).Draw(t, label+" group") {
	case 0:
	case 1:
		s = s.Union(EEA())
	default:
		s = s.Union(EEA()).Union(EUAdequate()).With("US", "IN", "BR")
	}
	return s
}

func drawExpiry(t *rapid.T, label string) time.Time {
	switch rapid.IntRange(0, 19).Draw(t, label) {
	case 0:
		return time.Time{}
	case 1, 2, 3, 4, 5:
		return anyMoment.Draw(t, label+" near")
	}
	return date("2033-01-01")
}

func drawClass(t *rapid.T, label string) DataClass {
	return often(t, []DataClass{Public, Internal, Confidential, Restricted}, []DataClass{0, 5, 255}, label)
}

func drawPolicy(t *rapid.T) Policy {
	c := Ceilings{Own: Restricted, Near: Restricted, Elsewhere: Restricted}
	if rapid.IntRange(0, 2).Draw(t, "low ceilings") == 0 {
		c = Ceilings{drawClass(t, "own"), drawClass(t, "near"), drawClass(t, "elsewhere")}
	}
	return Policy{
		Regime: often(t, []Regime{RegimeUK, RegimeEU}, []Regime{"", "US"}, "regime"),
		Home:   drawSet(t, "home"), Allowed: drawSet(t, "allowed"),
		ThirdParties: often(t, []bool{true}, []bool{false}, "consent"), Highest: drawClass(t, "highest"),
		Ceilings: c, RequireNoRetention: drawClass(t, "no retention from"),
		AllowedFeatures: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"store", "image_url", "mcp_servers"}), 1, 3, rapid.ID).Draw(t, "features allowed"),
	}
}

func drawProvider(t *rapid.T) *Provider {
	if rapid.IntRange(0, 19).Draw(t, "nil") == 0 {
		return nil
	}
	v := &Provider{
		Name: often(t, []string{"a", "b", "c"}, []string{""}, "name"), Own: rapid.IntRange(0, 3).Draw(t, "own") == 0,
		Simulated: rapid.IntRange(0, 19).Draw(t, "simulated") == 0, NoSubProcessors: rapid.IntRange(0, 7).Draw(t, "no subs") > 0,
		Controller: drawPlace(t),
		Retention: Retention{None: rapid.IntRange(0, 4).Draw(t, "none") > 0, Days: often(t, []int{0}, []int{-1, 1, 30}, "days"),
			Contract: Contract{often(t, []string{"C"}, []string{""}, "contract"), often(t, []time.Time{date("2026-01-01")}, []time.Time{{}, noon}, "signed"), drawExpiry(t, "contract ends")}},
	}
	for range often(t, []int{1, 1, 1, 2, 3}, []int{0}, "places") {
		v.Processing = append(v.Processing, drawPlace(t))
	}
	for range rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "subs") {
		v.SubProcessors = append(v.SubProcessors, SubProcessor{Name: "s", Jurisdiction: drawPlace(t)})
	}
	for range rapid.IntRange(0, 4).Draw(t, "safeguards") {
		v.Safeguards = append(v.Safeguards, Safeguard{
			Instrument: often(t, []Instrument{UKAdequacy, UKUSBridge, IDTA, UKAddendum, EUSCC, EUAdequacy, EUUSDPF}, []Instrument{"", "handshake"}, "instrument"),
			Reference:  often(t, []string{"R", "S"}, []string{""}, "reference"), Covers: drawSet(t, "covers"), Expires: drawExpiry(t, "ends"),
		})
	}
	return v
}

func drawRequest(t *rapid.T) Request {
	r := Request{Organisation: "o", Class: drawClass(t, "class"), At: anyMoment.Draw(t, "at")}
	if rapid.IntRange(0, 3).Draw(t, "with features") == 0 {
		r.Features = rapid.SliceOfN(rapid.SampledFrom([]string{"store", "image_url", "mcp_servers", "no feature"}), 0, 2).Draw(t, "features")
	}
	return r
}

// drawCandidates gives candidates of distinct order.
func drawCandidates(t *rapid.T) []Candidate {
	out := make([]Candidate, rapid.IntRange(0, 5).Draw(t, "candidates"))
	for i := range out {
		out[i] = Candidate{Provider: drawProvider(t), Model: "m", Order: i, Weight: rapid.IntRange(0, 2).Draw(t, "weight")}
	}
	return out
}
