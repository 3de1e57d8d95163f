package sovereignty

import (
	"cmp"
	"slices"
	"time"
)

// Decide applies every rule to every candidate. A candidate may be used only
// if no rule fails. Candidates are judged one by one, so that none changes the
// verdict on another, and a retry or fallback needs no second decision.
//
// A request with no time is judged at the end of time, when nothing is in
// date any more. The policy need not be valid: what it does not say, it does
// not allow.
func Decide(policy Policy, req Request, candidates []Candidate) Decision {
	d := Decision{
		Organisation: req.Organisation, Model: req.Model, Regime: policy.Regime,
		Class:      StricterClass(req.Class, req.Class, policy.Highest),
		Considered: make([]Considered, len(candidates)),
	}
	if !d.Regime.Valid() {
		d.Regime = ""
	}
	at := instant(req.At)
	if req.At.IsZero() {
		at = lastInstant
	}
	features := sortFeatures(req.Features, policy.AllowedFeatures)
	checks := make([]Check, len(rules)*len(candidates))
	j := judge{policy: &policy, class: d.Class, regime: d.Regime, at: at, features: &features}
	for i := range candidates {
		j.consider(&d.Considered[i], &candidates[i], checks[i*len(rules):][:len(rules):len(rules)])
		d.Considered[i].Index = i
	}
	d.until = j.until
	slices.SortStableFunc(d.Considered, func(a, b Considered) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Zone.rank(), b.Zone.rank()),
			cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Provider, b.Provider),
			cmp.Compare(a.Model, b.Model), cmp.Compare(a.Tier, b.Tier))
	})
	d.settle()
	return d
}

// judge holds what the rules look at: the question, then one candidate.
type judge struct {
	policy   *Policy
	class    DataClass
	regime   Regime
	at       time.Time
	features *features
	until    time.Time // over all candidates so far

	p        *Provider
	zone     Zone
	complete bool // every destination is on record
	transfer Transfer
	third    []routeCover // one for each destination that is a third country
}

// routeCover is the best cover for one third country; ok if there is any.
type routeCover struct {
	Cover
	record *Safeguard
	ok     bool
}

func (j *judge) consider(out *Considered, c *Candidate, checks []Check) {
	j.p, j.transfer, j.third = c.Provider, Transfer{}, j.third[:0]
	if j.p == nil {
		j.p = &Provider{}
	}
	j.transfer.Destinations, j.complete = j.p.destinations()
	j.zone = j.p.zone(&j.policy.Home, j.transfer.Destinations, j.complete)
	j.findCover()
	allowed := true
	for i := range rules {
		checks[i] = rules[i].apply(j)
		checks[i].Rule = rules[i].id
		allowed = allowed && checks[i].Result != Fail
	}
	out.Target = Target{Provider: j.p.Name, Model: c.Model, Order: c.Order, Weight: c.Weight, Tier: c.Tier,
		Zone: j.zone, Own: j.p.Own, Simulated: j.p.Simulated, Transfer: j.transfer}
	out.Allowed, out.Checks = allowed, checks
}

// lapses notes a moment at which a verdict changes.
func (j *judge) lapses(t time.Time) {
	if j.until.IsZero() || t.Before(j.until) {
		j.until = t
	}
}

// features is a request's features against the policy's, sorted, once each.
type features struct {
	all, refused []string
	malformed    int // not in the form of a feature; never shown
}

func sortFeatures(asked, allowed []string) features {
	var f features
	if len(asked) == 0 {
		return f
	}
	for _, name := range asked {
		if !isFeature(name) {
			f.malformed++
			continue
		}
		f.all = append(f.all, name)
	}
	slices.Sort(f.all)
	f.all = slices.Compact(f.all)
	for _, name := range f.all {
		if !slices.Contains(allowed, name) {
			f.refused = append(f.refused, name)
		}
	}
	return f
}
