package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Entry is one thing in the registers: something that lapses or comes round,
// with an owner.
type Entry struct {
	Key    string    `json:"key"`  // "contract supplier hetzner", "duty exercise": the same as long as the thing is
	Kind   string    `json:"kind"` // contract, claim, certificate, document, runbook, duty, supplier, rehearsal, backup-test, briefing, check-in
	Of     string    `json:"of"`   // "supplier hetzner"
	Title  string    `json:"title"`
	Owner  string    `json:"owner,omitempty"` // name of a person; "" when the plan names none
	At     string    `json:"at"`              // path in the plan
	Last   time.Time `json:"last,omitzero"`   // when it was last done, by the plan
	Every  Span      `json:"every,omitzero"`  // how often it comes round
	Until  time.Time `json:"until,omitzero"`  // first instant at which it is lapsed; zero when the plan gives no date
	Notice Span      `json:"notice,omitzero"` // how long before that somebody must act
}

// Due is when an entry lapses, given when it was last done besides what the
// plan says: a duty that was done yesterday is due one period after that. The
// zero time says that nothing can be said: it has no date or no period.
func (e *Entry) Due(done time.Time) time.Time {
	if !e.Until.IsZero() {
		return e.Until
	}
	last := e.Last
	if done.After(last) {
		last = done
	}
	if last.IsZero() || !e.Every.Known() {
		return time.Time{}
	}
	return last.Add(e.Every.Longest())
}

// rehearsedWithin is how long a rehearsal of an alternative or a fallback
// counts, where nothing shorter is said: an exercise programme has planned
// intervals, and a year is what plans and auditors take them for (ISO
// 22301:2019, 8.5).
var rehearsedWithin = SpanOf(year)

// Register lists everything in the plan that lapses or comes round, by kind
// and name.
func (p *Plan) Register() []Entry {
	var out []Entry
	add := func(kind, of, title, owner, at string, e Entry) {
		e.Kind, e.Of, e.Title, e.At = kind, of, title, at
		e.Owner = cmp.Or(owner, p.Organisation.Owner)
		e.Key = of
		if !strings.HasPrefix(of, kind+" ") {
			e.Key = kind + " " + of
		}
		out = append(out, e)
	}
	contract := func(of, title, at string, c Contract) {
		if !c.Until.IsZero() || c.Reference != "" {
			add("contract", of, "Contract of "+title, c.Owner, at, Entry{Until: c.Until.End(), Notice: c.Notice})
		}
	}
	for i, d := range p.Documents {
		if d.ReviewEvery.Known() || !d.Date.IsZero() {
			last := d.Date
			if !d.Reviewed.IsZero() {
				last = d.Reviewed
			}
			add("document", "document "+d.Name, "Review of "+cmp.Or(d.Title, d.Name), d.Owner, fmt.Sprintf("documents[%d].review_every", i), Entry{Last: last.Time, Every: d.ReviewEvery})
		}
	}
	for i, x := range p.People {
		contract("person "+x.Name, x.Name, fmt.Sprintf("people[%d].contract", i), x.Contract)
		if !x.Briefed.IsZero() {
			add("briefing", "person "+x.Name, "Briefing of "+x.Name, x.Name, fmt.Sprintf("people[%d].briefed", i), Entry{Last: x.Briefed.Time, Every: rehearsedWithin})
		}
		if x.CheckIn.Known() {
			add("check-in", "person "+x.Name, "Check-in of "+x.Name, x.Name, fmt.Sprintf("people[%d].check_in", i), Entry{Every: x.CheckIn})
		}
	}
	for i, s := range p.Suppliers {
		at := fmt.Sprintf("suppliers[%d]", i)
		contract("supplier "+s.Name, cmp.Or(s.Title, s.Name), at+".contract", s.Contract)
		if s.ReviewEvery.Known() || !s.Reviewed.IsZero() {
			add("supplier", "supplier "+s.Name, "Review of "+cmp.Or(s.Title, s.Name), s.Contract.Owner, at+".review_every", Entry{Last: s.Reviewed.Time, Every: s.ReviewEvery})
		}
		for j, a := range s.Alternatives {
			add("rehearsal", "alternative "+s.Name+"/"+a.Supplier, fmt.Sprintf("Change from %s to %s", s.Name, a.Supplier), s.Contract.Owner, fmt.Sprintf("%s.alternatives[%d].rehearsed", at, j), Entry{Last: a.Rehearsed.Time, Every: rehearsedWithin})
		}
	}
	for i, n := range p.Nodes {
		contract("node "+n.Name, n.Name, fmt.Sprintf("nodes[%d].contract", i), n.Contract)
	}
	for i, f := range p.Functions {
		at := fmt.Sprintf("functions[%d]", i)
		if f.Certificate != nil && !f.Certificate.Until.IsZero() {
			add("certificate", "function "+f.Name, "TLS certificate of "+cmp.Or(f.Title, f.Name), f.Owner, at+".certificate.until", Entry{Until: f.Certificate.Until.End()})
		}
		for j, fb := range f.Fallbacks {
			name := cmp.Or(fb.Node, fb.Supplier)
			add("rehearsal", "fallback "+f.Name+"/"+name, fmt.Sprintf("Fallback of %s to %s", f.Name, name), f.Owner, fmt.Sprintf("%s.fallbacks[%d].rehearsed", at, j), Entry{Last: fb.Rehearsed.Time, Every: rehearsedWithin})
		}
	}
	for i, b := range p.Backups {
		if b.TestEvery.Known() || !b.Tested.IsZero() {
			add("backup-test", "backup "+b.Name, "Restore of "+b.Name, "", fmt.Sprintf("backups[%d].test_every", i), Entry{Last: b.Tested.Time, Every: b.TestEvery})
		}
	}
	for i, c := range p.Clients {
		contract("client "+c.Name, cmp.Or(c.Title, c.Name), fmt.Sprintf("clients[%d].agreement", i), c.Agreement)
	}
	for i, r := range p.Runbooks {
		if r.ReviewEvery.Known() || !r.Reviewed.IsZero() {
			add("runbook", "runbook "+r.Name, "Review of the runbook "+cmp.Or(r.Title, r.Name), r.Owner, fmt.Sprintf("runbooks[%d].review_every", i), Entry{Last: r.Reviewed.Time, Every: r.ReviewEvery})
		}
	}
	for i, d := range p.Duties {
		if d.Every.Known() {
			add("duty", "duty "+d.Name, d.Name, d.Owner, fmt.Sprintf("duties[%d].every", i), Entry{Last: d.Last.Time, Every: d.Every})
		}
	}
	for i, c := range p.Claims {
		if c.Status == "held" {
			add("claim", "claim "+c.Name, cmp.Or(c.Name, c.Standard), c.Owner, fmt.Sprintf("claims[%d].until", i), Entry{Until: c.Until.End()})
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out
}
