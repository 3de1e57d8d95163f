package sovereignty

import (
	"cmp"
	"slices"
	"time"
)

// Transfer says where the data of a request would go, and under which cover.
type Transfer struct {
	// LeavesEEA is true if any destination is outside the European Economic
	// Area. A third party controlled from outside counts even if its servers
	// stand inside: its owner can be compelled to reach them (US CLOUD Act, 18
	// U.S.C. § 2713).
	LeavesEEA bool `json:"leaves_eea"`
	// Restricted is true if any destination is a third country under the
	// exporter's regime: outside the United Kingdom under UK GDPR, outside the
	// EEA under EU GDPR. The exception for data that stays within one legal
	// entity (ICO guidance of 15 January 2026; EDPB Guidelines 05/2021) is not
	// used for locations: the fleet's own nodes stand in somebody's data centre.
	Restricted bool `json:"restricted"`
	// Destinations: for a third party its controller's, its processing and its
	// sub-processors' jurisdictions; for the fleet's own models the latter two,
	// since the operator holds the request already.
	Destinations []Jurisdiction `json:"destinations,omitempty"`
	// Cover has one entry for each third country that is covered in date.
	Cover []Cover `json:"cover,omitempty"`
	// Safeguard is the first transfer record relied on, or if there is none the
	// adequacy finding that covers the first third country. Nil if nothing is
	// restricted, or nothing covers it.
	Safeguard *Safeguard `json:"safeguard,omitempty"`
}

// Cover is what makes the transfer to one destination lawful.
type Cover struct {
	Destination Jurisdiction `json:"destination"`
	Instrument  Instrument   `json:"instrument"`
	Reference   string       `json:"reference"`
	Expires     time.Time    `json:"expires,omitzero"` // zero: no end known
}

// instruments says which exporter each instrument serves and which
// destinations it can reach at all (empty: any).
var instruments = map[Instrument]struct {
	title   string
	regime  Regime
	reaches Set
}{
	UKAdequacy: {"UK adequacy regulations", RegimeUK, UKAdequate()},
	UKUSBridge: {"the UK–US data bridge", RegimeUK, SetOf("US")},
	IDTA:       {"an International Data Transfer Agreement", RegimeUK, Set{}},
	UKAddendum: {"the UK Addendum to the EU standard contractual clauses", RegimeUK, Set{}},
	EUSCC:      {"the EU standard contractual clauses", RegimeEU, Set{}},
	EUAdequacy: {"an EU adequacy decision", RegimeEU, EUAdequate()},
	EUUSDPF:    {"the EU–US Data Privacy Framework", RegimeEU, SetOf("US")},
}

// Title names the instrument in a sentence.
func (i Instrument) Title() string {
	if info, ok := instruments[i]; ok {
		return info.title
	}
	return quote(string(i))
}

// domestic reports whether sending data there is no transfer at all.
func (r Regime) domestic(j Jurisdiction) bool {
	switch r {
	case RegimeUK:
		return j == "GB"
	case RegimeEU:
		return eeaSet.has(j)
	}
	return false
}

// adequacy gives the cover that needs no record.
func (r Regime) adequacy(j Jurisdiction) (Cover, bool) {
	switch {
	case r == RegimeUK && (eeaSet.has(j) || ukAdequateFully.has(j)):
		return Cover{j, UKAdequacy, "Data Protection Act 2018, Schedule 21", time.Time{}}, true
	case r == RegimeEU && j == "GB":
		return Cover{j, EUAdequacy, "Implementing Decision (EU) 2021/1772 as renewed", euDecisionOnUKEnds}, true
	case r == RegimeEU && euAdequateFully.has(j):
		return Cover{j, EUAdequacy, "Commission decision under GDPR article 45", time.Time{}}, true
	}
	return Cover{}, false
}

// covers reports whether the record can count for the destination under the
// regime, in date or not. An incomplete record never does.
func (s *Safeguard) covers(r Regime, j Jurisdiction) bool {
	info, ok := instruments[s.Instrument]
	return ok && info.regime == r && s.Reference != "" && !s.Expires.IsZero() &&
		(info.reaches.Empty() || info.reaches.has(j)) && s.Covers.has(j)
}

// bestCover picks what covers the destination longest, in date or not, so that
// when the pick lapses nothing else is left. The record is nil for adequacy.
func (p *Provider) bestCover(r Regime, j Jurisdiction) (best Cover, record *Safeguard, ok bool) {
	best, ok = r.adequacy(j)
	for i := range p.Safeguards {
		s := &p.Safeguards[i]
		if !s.covers(r, j) {
			continue
		}
		c := Cover{j, s.Instrument, s.Reference, instant(s.Expires)}
		if !ok || c.outlasts(best) {
			best, record, ok = c, s, true
		}
	}
	return best, record, ok
}

func (c Cover) outlasts(d Cover) bool {
	if !c.Expires.Equal(d.Expires) {
		return !d.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(d.Expires))
	}
	return cmp.Or(cmp.Compare(c.Instrument, d.Instrument), cmp.Compare(c.Reference, d.Reference)) < 0
}

func (c *Cover) inDate(at time.Time) bool { return c.Expires.IsZero() || at.Before(c.Expires) }

// destinations lists where a request to the provider goes, sorted, and whether
// all of it is on record.
func (p *Provider) destinations() (known []Jurisdiction, complete bool) {
	complete = len(p.Processing) > 0
	all := make([]Jurisdiction, 0, 1+len(p.Processing)+len(p.SubProcessors))
	add := func(j Jurisdiction) {
		if j.Valid() {
			all = append(all, j)
		} else {
			complete = false
		}
	}
	if !p.Own {
		add(p.Controller)
		complete = complete && (p.NoSubProcessors || len(p.SubProcessors) > 0)
	}
	for _, j := range p.Processing {
		add(j)
	}
	for i := range p.SubProcessors {
		add(p.SubProcessors[i].Jurisdiction)
	}
	slices.Sort(all)
	return slices.Compact(all), complete
}

func (p *Provider) zone(home *Set, destinations []Jurisdiction, complete bool) Zone {
	if p.Own {
		return ZoneOwn
	}
	if !complete {
		return ZoneElsewhere
	}
	z := ZoneHome
	for _, j := range destinations {
		switch {
		case home.has(j):
		case eeaSet.has(j):
			z = ZoneEEA
		default:
			return ZoneElsewhere
		}
	}
	return z
}

// rank orders zones from near to far.
func (z Zone) rank() int {
	switch z {
	case ZoneOwn:
		return 0
	case ZoneHome:
		return 1
	case ZoneEEA:
		return 2
	}
	return 3
}

// phrase names the destinations of a ceiling in a sentence.
func (z Zone) phrase() string {
	switch z {
	case ZoneOwn:
		return "the fleet's own models"
	case ZoneHome, ZoneEEA:
		return "third parties within the EEA or the home jurisdictions"
	}
	return "third parties elsewhere"
}

// wellFormed reports whether a stored transfer could have come from Decide, as
// far as that decides whether it can be written again.
func (t *Transfer) wellFormed() bool {
	for _, j := range t.Destinations {
		if !j.Valid() {
			return false
		}
	}
	for i := range t.Cover {
		if c := &t.Cover[i]; !c.Destination.Valid() || !c.Expires.Equal(instant(c.Expires)) {
			return false
		}
	}
	return t.Safeguard == nil || t.Safeguard.Expires.Equal(instant(t.Safeguard.Expires))
}

func (t *Transfer) toUTC() {
	for i := range t.Cover {
		t.Cover[i].Expires = t.Cover[i].Expires.UTC()
	}
	if t.Safeguard != nil {
		t.Safeguard.Expires = t.Safeguard.Expires.UTC()
	}
}

var (
	firstInstant = time.Date(1, time.January, 1, 0, 0, 0, 0, time.UTC)
	lastInstant  = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
)

// instant puts a time in UTC, within the years that RFC 3339 can write.
func instant(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.After(lastInstant):
		return lastInstant
	case t.Before(firstInstant):
		return firstInstant
	}
	return t
}
