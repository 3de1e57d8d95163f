package sovereignty

import (
	"strings"
	"time"
)

// findCover works out the transfer: what leaves, what is restricted, and the
// cover for each third country.
func (j *judge) findCover() {
	t := &j.transfer
	for _, where := range t.Destinations {
		t.LeavesEEA = t.LeavesEEA || !eeaSet.has(where)
		if j.regime.domestic(where) {
			continue
		}
		t.Restricted = true
		r := routeCover{Cover: Cover{Destination: where}}
		if best, record, ok := j.p.bestCover(j.regime, where); ok {
			r = routeCover{best, record, true}
		}
		j.third = append(j.third, r)
		if !r.ok || !r.inDate(j.at) {
			continue
		}
		if t.Cover == nil {
			t.Cover = make([]Cover, 0, len(t.Destinations))
		}
		t.Cover = append(t.Cover, r.Cover)
		if t.Safeguard == nil && r.record != nil {
			s := *r.record
			s.Expires = r.Expires
			t.Safeguard = &s
		}
	}
	if t.Safeguard == nil && len(t.Cover) > 0 {
		first := &t.Cover[0]
		s := Safeguard{Instrument: first.Instrument, Reference: first.Reference, Expires: first.Expires}
		for i := range t.Cover {
			if sameCover(first, &t.Cover[i]) {
				s.Covers.put(t.Cover[i].Destination)
			}
		}
		t.Safeguard = &s
	}
	if !j.complete {
		// A place that nobody recorded may be anywhere.
		t.LeavesEEA, t.Restricted = true, true
	}
}

func (j *judge) safeguardPresent() Check {
	if j.regime == "" {
		return fail("The policy does not say which law the exporter of the data is under.",
			"An administrator of the organisation can set the regime in its policy to UK or EU.")
	}
	var missing []Jurisdiction
	for i := range j.third {
		if !j.third[i].ok {
			missing = append(missing, j.third[i].Destination)
		}
	}
	switch {
	case len(missing) > 0:
		return fail("Under "+j.regime.Law()+", nothing on record covers the transfer to "+places(missing)+"."+j.foreign(),
			"An operator can record "+j.remedies(missing)+", with reference, destinations and expiry.")
	case !j.complete:
		return fail("Not every place that the data would reach is on record, so the cover cannot be complete.",
			j.record("every place that data reaches"))
	case len(j.third) == 0:
		return notNeeded("Under " + j.regime.Law() + " this is no transfer to a third country.")
	}
	return pass("Cover on record under " + j.regime.Law() + ": " + j.coverText() + ".")
}

// foreign notes records that are on file but belong to the other regime.
func (j *judge) foreign() string {
	for i := range j.p.Safeguards {
		s := &j.p.Safeguards[i]
		if info, ok := instruments[s.Instrument]; ok && info.regime != j.regime {
			return " What is on record, " + info.title + ", serves exporters under " + info.regime.Law() + " only."
		}
	}
	return ""
}

// remedies names what could cover the missing places: contracts any of them,
// certification and adequacy findings only some.
func (j *judge) remedies(missing []Jurisdiction) string {
	contracts, bridge, partly := "the EU standard contractual clauses", EUUSDPF, &euAdequatePartly
	if j.regime == RegimeUK {
		contracts, bridge, partly = "an IDTA or the UK Addendum", UKUSBridge, &ukAdequatePartly
	}
	var also []string
	var found []Jurisdiction
	for _, where := range missing {
		if where == "US" {
			also = append(also, "for US also its certification under "+bridge.Title())
		}
		if partly.has(where) {
			found = append(found, where)
		}
	}
	if len(found) > 0 {
		also = append(also, "for "+codes(found)+" also why it falls under the adequacy finding there")
	}
	text := contracts + " for " + codes(missing)
	if len(also) > 0 {
		text += " (" + strings.Join(also, "; ") + ")"
	}
	return text
}

// coverText says what covers which places, in order of the first place each
// covers.
func (j *judge) coverText() string {
	var parts []string
	for i := range j.third {
		c := &j.third[i]
		seen := false
		for k := range i {
			seen = seen || sameCover(&j.third[k].Cover, &c.Cover)
		}
		if seen {
			continue
		}
		where := []Jurisdiction{c.Destination}
		for k := i + 1; k < len(j.third); k++ {
			if sameCover(&j.third[k].Cover, &c.Cover) {
				where = append(where, j.third[k].Destination)
			}
		}
		parts = append(parts, "for "+places(where)+", "+c.Instrument.Title()+" ("+shown(c.Reference)+")")
	}
	return strings.Join(parts, "; ")
}

func sameCover(a, b *Cover) bool {
	return a.Instrument == b.Instrument && a.Reference == b.Reference && a.Expires.Equal(b.Expires)
}

func (j *judge) safeguardInDate() Check {
	var ended []string
	var first time.Time
	present := 0
	for i := range j.third {
		c := &j.third[i]
		if !c.ok {
			continue
		}
		present++
		switch {
		case c.Expires.IsZero():
		case !j.at.Before(c.Expires):
			ended = append(ended, c.Instrument.Title()+" ("+shown(c.Reference)+"), for "+c.Destination.Label()+", counted only to "+end(c.Expires))
		default:
			j.lapses(c.Expires)
			if first.IsZero() || c.Expires.Before(first) {
				first = c.Expires
			}
		}
	}
	switch {
	case present == 0:
		return notNeeded("There is no cover to check.")
	case len(ended) > 0:
		return fail(capital(strings.Join(ended, "; "))+".", "Renew that safeguard, and an operator can record its new expiry for "+j.who()+".")
	case first.IsZero():
		return pass("The cover has no end date.")
	}
	return pass("The cover counts to " + end(first) + ".")
}
