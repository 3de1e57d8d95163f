package clock

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// Scope is what an incident has reached, as far as its clocks go by it.
type Scope struct {
	Events    []string // of plan.Notice: outage, security-incident, personal-data-breach, …
	Scenario  string   // of the plan; "" when it has none for this
	Functions []string // affected
	Clients   []string // affected, of the plan; nil: those served by the functions
	Isolate   []string // nodes that have to be quarantined
	Personal  Personal
}

// Personal is what was assessed about personal data.
type Personal struct {
	Controller bool     // the organisation decides about some of the data: article 33(1)
	Processor  bool     // it holds some for others: article 33(2)
	High       bool     // a high risk to people: article 34
	Regimes    []string // UK, EU, or the country of a lead authority such as FI
}

// Assumed are the bounds that stand in where a duty has no number. Each is
// shown as assumed, and the plan's linter says where to write the right one.
var Assumed = map[Kind]string{
	Detection: "5m", Confirmation: "15m", Notice: "24h", Controller: "24h", Subjects: "72h", Update: "24h", Isolation: "1h", Review: "14 days",
}

// usual is who hears of a clock, and when.
func usual(owners ...string) []Stage {
	return []Stage{
		{0.5, []string{"lead"}},
		{0.8, []string{"lead", "deputy"}},
		{0.95, union([]string{"lead", "deputy"}, owners)},
		{1, union([]string{"lead", "deputy", "communications"}, owners)},
	}
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, x := range b {
		if x != "" && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// Rules lists the clocks that a plan and the law set for an incident. A nil
// plan gives those of the law alone.
func Rules(p *plan.Plan, s Scope) []Rule {
	if p == nil {
		p = &plan.Plan{}
	}
	b := &builder{p: p, s: s, owner: p.Organisation.Owner, country: p.Organisation.Country}
	for i := range p.Scenarios {
		if p.Scenarios[i].Name == s.Scenario {
			b.scenario, b.at = &p.Scenarios[i], fmt.Sprintf("scenarios[%d]", i)
		}
	}
	b.phases()
	for _, name := range s.Functions {
		b.function(name)
	}
	b.notices()
	b.law()
	b.isolation()
	b.review()
	slices.SortFunc(b.out, func(x, y Rule) int { return strings.Compare(x.ID, y.ID) })
	return b.out
}

type builder struct {
	p        *plan.Plan
	s        Scope
	owner    string
	country  string
	scenario *plan.Scenario // nil: none
	at       string
	out      []Rule
}

// add gives a rule what all of them have: a false alarm ends it, where there
// is evidence that there was nothing.
func (b *builder) add(r Rule) {
	if len(r.Bounds) == 0 {
		return
	}
	r.Ends = append(r.Ends, Ref{Unfounded, ""})
	if r.Escalate == nil {
		r.Escalate = usual(b.owner)
	}
	for i := range r.Bounds {
		if r.Bounds[i].Within.BusinessDays() > 0 {
			r.Bounds[i].Calendar = b.country
		}
		r.Sources = union(r.Sources, r.Bounds[i].Source)
	}
	b.out = append(b.out, r)
}

// bound is a plan's span, or the assumed one where it gives no number; ok is
// false where the kind has no assumption either.
func bound(kind Kind, from Ref, within plan.Span, source []plan.Source, at string) (Bound, bool) {
	out := Bound{From: from, Within: within, At: at}
	for _, s := range source {
		out.Source = append(out.Source, string(s))
	}
	if within.Known() {
		return out, true
	}
	text, ok := Assumed[kind]
	if !ok {
		return out, false
	}
	out.Within, _ = plan.ParseSpan(text)
	out.Assumed = true
	return out, true
}

// phases are detection, confirmation and full restoration.
func (b *builder) phases() {
	sc := b.scenario
	at := func(field string) string { return b.at + "." + field }
	if sc == nil {
		sc, at = &plan.Scenario{}, func(string) string { return "" }
	}
	if d, ok := bound(Detection, Ref{Start, ""}, sc.DetectWithin, sc.Source, at("detect_within")); ok {
		b.add(Rule{ID: "detection", Kind: Detection, Title: "noticed", Bounds: []Bound{d}, Ends: []Ref{{Detected, ""}}})
	}
	if c, ok := bound(Confirmation, Ref{Detected, ""}, sc.ConfirmWithin, sc.Source, at("confirm_within")); ok {
		b.add(Rule{ID: "confirmation", Kind: Confirmation, Title: "confirmed", Bounds: []Bound{c}, Ends: []Ref{{Confirmed, ""}}})
	}
	if r, ok := bound(Restoration, b.from(), sc.RestoreWithin, sc.Source, at("restore_within")); ok {
		b.add(Rule{ID: "restoration", Kind: Restoration, Title: "everything as it was", Bounds: []Bound{r}, Ends: []Ref{{AllRestored, ""}}, Reopens: b.lost()})
	}
}

// from is what starts the recovery times; where the plan does not say, the
// strictest: the start.
func (b *builder) from() Ref {
	if b.scenario != nil {
		return fact(b.scenario.RTOFrom, Start)
	}
	return Ref{Start, ""}
}

func fact(word, otherwise string) Ref {
	switch word {
	case "start", "detection", "awareness", "confirmation", "scope-known", "containment":
		return Ref{word, ""}
	}
	return Ref{otherwise, ""}
}

func (b *builder) lost() (out []Ref) {
	for _, name := range b.s.Functions {
		out = append(out, Ref{Lost, name})
	}
	return out
}

// function gives one function its clocks: what the plan says of it, and what
// was promised of it, whichever ends first. A function that goes down later
// than the incident began is counted from there.
func (b *builder) function(name string) {
	f := b.p.Function(name)
	if f == nil {
		return
	}
	i := slices.IndexFunc(b.p.Functions, func(x plan.Function) bool { return x.Name == name })
	title := f.Title
	if title == "" {
		title = f.Name
	}
	for _, k := range []struct {
		kind    Kind
		span    plan.Span
		subject string
		title   string
		from    Ref
	}{
		{RTO, f.RTO, "rto", title + " back", b.from()},
		{MTD, f.MTD, "mtd", title + " down no longer than bearable", Ref{Start, ""}},
		{RPO, f.RPO, "rpo", title + ": latest data", Ref{RecoverablePoint, name}},
	} {
		if k.kind != RPO && k.from.Name == Start {
			k.from = Ref{Lost, name}
		}
		var bounds []Bound
		if x, ok := bound(k.kind, k.from, k.span, f.Source, fmt.Sprintf("functions[%d].%s", i, k.subject)); ok {
			bounds = append(bounds, x)
		}
		bounds = append(bounds, b.promised("function."+k.subject, name, k.from)...)
		r := Rule{ID: string(k.kind) + "/" + name, Kind: k.kind, Of: name, Title: k.title, Bounds: bounds, Ends: []Ref{{Restored, name}}, Reopens: []Ref{{Lost, name}},
			Escalate: usual(f.Owner, b.owner)}
		if k.kind == RPO {
			r.Ends, r.Reopens = nil, nil // read from points: see Reading.exposure
		}
		b.add(r)
	}
}

// promised are the bounds that commitments set on a subject.
func (b *builder) promised(subject, of string, from Ref) (out []Bound) {
	for i := range b.p.Commitments {
		c := &b.p.Commitments[i]
		if c.Subject != subject || len(c.Of) > 0 && !slices.Contains(c.Of, of) {
			continue
		}
		text := c.AtMost
		if text == "" {
			text = c.Equals
		}
		span, err := plan.ParseSpan(string(text))
		if err != nil || !span.Known() {
			continue
		}
		x, _ := bound("", from, span, c.Source, fmt.Sprintf("commitments[%d]", i))
		if c.From != "" && c.From != Start {
			x.From = fact(c.From, from.Name)
		}
		out = append(out, x)
	}
	return out
}

// isolation gives every node that has to be quarantined its clock.
func (b *builder) isolation() {
	span, source, at := plan.Span{}, []plan.Source(nil), ""
	for i := range b.p.Recovery {
		r := &b.p.Recovery[i]
		if b.scenario == nil || !slices.Contains(b.scenario.Recovery, r.Name) {
			continue
		}
		for k := range r.Steps {
			if s := &r.Steps[k]; s.Kind == "isolate" {
				span, source, at = s.Takes, s.Source, fmt.Sprintf("recovery[%d].steps[%d].takes", i, k)
			}
		}
	}
	for _, node := range b.s.Isolate {
		x, _ := bound(Isolation, Ref{Detected, ""}, span, source, at)
		b.add(Rule{ID: "isolation/" + node, Kind: Isolation, Of: node, Title: node + " isolated", Bounds: []Bound{x}, Ends: []Ref{{Isolated, node}}})
	}
}

// review is due after all is restored.
func (b *builder) review() {
	var bounds []Bound
	owner := b.owner
	for i := range b.p.Duties {
		d := &b.p.Duties[i]
		if d.Kind != "post-incident-review" {
			continue
		}
		if x, ok := bound(Review, Ref{AllRestored, ""}, d.Within, d.Source, fmt.Sprintf("duties[%d].within", i)); ok {
			bounds = append(bounds, x)
		}
		if d.Owner != "" {
			owner = d.Owner
		}
	}
	if len(bounds) == 0 {
		x, _ := bound(Review, Ref{AllRestored, ""}, plan.Span{}, nil, "")
		bounds = append(bounds, x)
	}
	b.add(Rule{ID: "review", Kind: Review, Title: "reviewed", Bounds: bounds, Ends: []Ref{{Reviewed, ""}}, Escalate: usual(owner)})
}

// Stricter joins the rules that an incident has with those of a later plan or
// a wider scope: none goes, and of a rule that both have every bound counts,
// so that no clock ends later than it did.
func Stricter(have, also []Rule) []Rule {
	out := slices.Clone(have)
	for _, r := range also {
		i := slices.IndexFunc(out, func(x Rule) bool { return x.ID == r.ID })
		if i < 0 {
			out = append(out, r)
			continue
		}
		old := out[i]
		old.Bounds = slices.Clone(old.Bounds)
		for _, b := range r.Bounds {
			if !slices.ContainsFunc(old.Bounds, func(x Bound) bool { return sameBound(x, b) }) {
				old.Bounds = append(old.Bounds, b)
			}
		}
		old.Reopens = unionRefs(old.Reopens, r.Reopens)
		old.Sources = union(old.Sources, r.Sources)
		out[i] = old // what ends it stays what it was
	}
	return out
}

func sameBound(a, b Bound) bool {
	return a.From == b.From && a.Within.String() == b.Within.String() && a.Calendar == b.Calendar
}

func unionRefs(a, b []Ref) []Ref {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}
