package governance

import (
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// Bounds that the obligations give.
const (
	annual    = 365 * 24 * time.Hour
	quarter   = 92 * 24 * time.Hour
	awayMost  = 7 * 24 * time.Hour  // after which absence somebody under contract comes
	readGrace = 14 * 24 * time.Hour // to read a plan after it came into force
)

// checks are the controls that the plan in force answers.
var checks = map[string]check{
	"O-01": hosted, "O-02": stored, "O-14": accessReviewed, "O-37": claimed, "O-38": clocked, "O-39": manyPremises, "O-40": described, "O-43": isolated,
	"O-55": restored, "O-57": contactReviewed, "O-59": absent, "O-60": runbooks, "O-67": insured, "O-68": contingent, "O-70": movable, "O-71": remote,
	"O-72": told, "O-76": exercised, "O-76.exercised": rehearsedAll, "O-77": closed, "O-78": reviewedOnChange, "O-79": familiar, "O-80": approved,
}

// homeOf is where data may be; without it nothing can be said of places.
func homeOf(f *facts, v *verdict) []string {
	if len(f.Organisation.Home) == 0 {
		v.unknown("organisation", "The plan does not say where data may be. Write organisation.home.")
	}
	return f.Organisation.Home
}

// obeys looks at the law that a supplier obeys: home, or the organisation's own.
func obeys(f *facts, v *verdict, home []string, name string) {
	s := f.Supplier(name)
	switch {
	case s == nil:
		v.unknown("supplier "+name, "The plan does not list this supplier.")
	case s.Jurisdiction == "":
		v.unknown("supplier "+name, "The plan does not say which law it obeys. Write its jurisdiction.")
	case !plan.InCountries(s.Jurisdiction, append(slices.Clone(home), f.Organisation.Country)):
		v.fails("supplier "+name, "It obeys the law of %s, and data may be in %s.", s.Jurisdiction, strings.Join(home, ", "))
	}
	v.covered = append(v.covered, "jurisdiction of supplier "+name)
}

// stands looks at where something stands.
func stands(v *verdict, home []string, what, country string) {
	switch {
	case country == "":
		v.unknown(what, "Nothing says in which country it stands.")
	case !plan.InCountries(country, home):
		v.fails(what, "It stands in %s, and data may be in %s.", country, strings.Join(home, ", "))
	}
	v.covered = append(v.covered, "country of "+what)
}

// byHand finds the supplier that the configuration means: it writes a name of
// the plan, or the title that people know.
func byHand(f *facts, name string) string {
	for i := range f.Suppliers {
		s := &f.Suppliers[i]
		if strings.EqualFold(strings.TrimSpace(name), s.Name) || strings.EqualFold(strings.TrimSpace(name), s.Title) {
			return s.Name
		}
	}
	return ""
}

func hosted(f *facts, v *verdict) {
	home := homeOf(f, v)
	if len(home) == 0 {
		return
	}
	suppliers := map[string]bool{}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		stands(v, home, "node "+n.Name, f.Country(n))
		switch s := f.Site(n.Site); {
		case n.Supplier != "":
			suppliers[n.Supplier] = true
		case s != nil && s.Supplier != "":
			suppliers[s.Supplier] = true
		case s != nil:
			v.covered = append(v.covered, "node "+n.Name+" stands in a site of the organisation's own")
		default:
			v.unknown("node "+n.Name, "The plan says neither who supplies it nor at which site of your own it stands.")
		}
	}
	for name := range suppliers {
		obeys(f, v, home, name)
	}
	if len(f.Nodes) == 0 {
		v.unknown("nodes", "The plan lists no node.")
	}
	switch {
	case f.here == nil:
		v.unknown("this node", "What this node is configured with is not known.")
	case f.here.Assumed:
		v.unknown("this node", "Its country is assumed. Write node.country into its configuration.")
	default:
		stands(v, home, "this node", f.here.Country)
	}
	if f.here != nil && !f.here.Assumed {
		switch named := byHand(f, f.here.Supplier); {
		case f.here.Supplier == "":
			v.unknown("this node", "Its configuration does not say who runs the machine. Write node.supplier.")
		case named == "":
			v.fails("this node", "Its configuration says that %s runs the machine, and the plan has no such supplier.", f.here.Supplier)
		default:
			obeys(f, v, home, named)
		}
	}
	v.says = "Every node stands where data may be, with a supplier under a law that may hold them."
	v.notCovered = []string{"whether the nodes stand where plan and configuration say"}
}

func stored(f *facts, v *verdict) {
	home := homeOf(f, v)
	if len(home) == 0 {
		return
	}
	suppliers := map[string]bool{}
	for i := range f.Nodes {
		if s := f.Nodes[i].Supplier; s != "" {
			suppliers[s] = true
		}
	}
	for i := range f.Suppliers {
		if s := &f.Suppliers[i]; slices.Contains(s.Provides, "storage") {
			suppliers[s.Name] = true
		}
	}
	targets := 0
	for i := range f.Backups {
		b := &f.Backups[i]
		for j := range b.To {
			t := &b.To[j]
			targets++
			country, supplier := t.Country, t.Supplier
			if n := f.Node(t.Node); n != nil {
				country, supplier = orElse(country, f.Country(n)), orElse(supplier, n.Supplier)
			}
			if s := f.Site(t.Site); s != nil {
				country, supplier = orElse(country, s.Country), orElse(supplier, s.Supplier)
			}
			if s := f.Supplier(supplier); s != nil && country == "" {
				country = s.Jurisdiction
			}
			stands(v, home, "target "+orElse(t.Name, supplier)+" of backup "+b.Name, country)
			if supplier != "" {
				suppliers[supplier] = true
			}
		}
	}
	for name := range suppliers {
		obeys(f, v, home, name)
	}
	if targets == 0 {
		v.unknown("backups", "The plan names no target of backups.")
	}
	if f.here == nil {
		v.unknown("this node", "What this node is configured with is not known.")
	} else {
		storedHere(f, v, home)
	}
	v.says = "Every host and every target of backups, planned or configured, is where data may be and under a law that may hold them."
	v.notCovered = []string{"whether targets stand where plan and configuration say", "copies that neither names"}
}

// storedHere looks at the targets that this node writes to.
func storedHere(f *facts, v *verdict, home []string) {
	for _, t := range f.here.Targets {
		what := "configured target " + t.Name
		stands(v, home, what, t.Country)
		switch named := byHand(f, t.Supplier); {
		case t.Supplier == "":
			v.unknown(what, "Its configuration does not say who runs it. Write its supplier.")
		case named == "":
			v.fails(what, "Its configuration says that %s runs it, and the plan has no such supplier.", t.Supplier)
		default:
			obeys(f, v, home, named)
		}
	}
	if len(f.here.Targets) == 0 {
		v.covered = append(v.covered, "the configuration of this node, which names no target of backups")
	}
}

func orElse(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// dutiesOf lists the duties of a kind.
func dutiesOf(f *facts, kind string) (out []*plan.Duty) {
	for i := range f.Duties {
		if f.Duties[i].Kind == kind {
			out = append(out, &f.Duties[i])
		}
	}
	return out
}

// duty wants a duty of a kind that comes round within a bound, and was done.
func duty(f *facts, v *verdict, kind, words string, most time.Duration) {
	all := dutiesOf(f, kind)
	if len(all) == 0 {
		v.fails("duties", "The plan has no duty to %s. Write one of the kind %s.", words, kind)
	}
	for _, d := range all {
		v.covered = append(v.covered, "duty "+d.Name)
		switch {
		case !d.Every.Known():
			v.unknown("duty "+d.Name, "The plan does not say how often. Write every: with a number.")
		case d.Every.Longest() > most:
			v.fails("duty "+d.Name, "It comes round every %s; %d days are the most.", d.Every, int(most.Hours()/24))
		default:
			v.comesRound(f, "duty "+d.Name, most)
		}
	}
}

func accessReviewed(f *facts, v *verdict) {
	all := dutiesOf(f, "access-review")
	if len(all) == 0 {
		v.fails("duties", "The plan has no duty to review access. Write one of the kind access-review.")
		return
	}
	if f.access == nil {
		v.unknown("reviews", "When access was last reviewed is not known.")
		return
	}
	for _, d := range all {
		v.covered = append(v.covered, "duty "+d.Name, "when a review of access to the platform was last completed")
		switch {
		case !d.Every.Known():
			v.unknown("duty "+d.Name, "The plan does not say how often. Write every: with a number.")
		case f.access.last != nil:
			until := f.access.last.Add(d.Every.Longest())
			v.lapses(f.now, until, "duty "+d.Name, "Access was last reviewed on %s, and by the plan was due again on %s. `foundry access review start` starts a review.", day(*f.access.last), day(until))
		default:
			first := f.access.began.Add(d.Every.Longest())
			v.lapses(f.now, first, "duty "+d.Name, "Access was never reviewed, and by the plan was due on %s. `foundry access review start` starts a review.", day(first))
			if f.now.Before(first) {
				v.unknown("duty "+d.Name, "Access was never reviewed; by the plan the first review is due by %s. `foundry access review start` starts one.", day(first))
			}
		}
	}
	v.says = "Access was reviewed within the period of the plan."
	v.notCovered = []string{"what the reviewers looked at"}
}

func contactReviewed(f *facts, v *verdict) {
	duty(f, v, "contact-review", "look at the emergency contacts", annual)
	v.says = "The contacts of the plan were looked at within a year."
	v.notCovered = []string{"whether somebody answers: the exercise of the contact shows that"}
}

func claimed(f *facts, v *verdict) {
	for i := range f.Claims {
		c := &f.Claims[i]
		what := "claim " + c.Name
		v.covered = append(v.covered, what)
		switch {
		case c.Status == "lapsed":
			v.fails(what, "It has lapsed, and is still among the claims.")
		case c.Status != "held":
			continue
		case c.Until.IsZero():
			v.unknown(what, "It is said to be held, and nothing says until when.")
		default:
			v.lapses(f.now, c.Until.End(), what, "It was held until %s.", day(c.Until.Time))
		}
		if c.Status == "held" && c.Kind == "certificate" && c.Scope == "" {
			v.unknown(what, "Nothing says of what the certificate holds: write its scope.")
		}
	}
	v.breaks(f, "claim-contradicts")
	if len(f.Claims) == 0 {
		v.unknown("claims", "The plan lists no claim: which standards are claimed is not known.")
	}
	v.says = "Every claim that is said to be held has a scope and an end, and has not ended."
	v.notCovered = []string{"whether the certificates exist", "claims that are made elsewhere"}
}

func insured(f *facts, v *verdict) {
	for _, kind := range []string{"certificate", "insurance"} {
		held := 0
		for i := range f.Claims {
			c := &f.Claims[i]
			what := "claim " + c.Name
			switch {
			case c.Kind != kind:
				continue
			case c.Status == "lapsed":
				v.fails(what, "It has lapsed.")
			case c.Status != "held":
				continue
			case c.Until.IsZero():
				v.unknown(what, "Nothing says until when it is in force.")
			default:
				v.lapses(f.now, c.Until.End(), what, "It was in force until %s.", day(c.Until.Time))
			}
			if kind == "insurance" && c.Cover == "" {
				v.unknown(what, "Nothing says what it covers.")
			}
			held++
			v.covered = append(v.covered, what)
		}
		if held == 0 {
			v.fails("claims", "The plan names no %s that is held.", kind)
		}
	}
	v.says = "Certificate and insurance are in force."
	v.notCovered = []string{"the papers themselves"}
}

func clocked(f *facts, v *verdict) {
	for i := range f.Functions {
		x := &f.Functions[i]
		if !x.IsCritical() {
			continue
		}
		what := "function " + x.Name
		v.covered = append(v.covered, "clocks of "+what)
		switch {
		case !x.MTD.Known():
			v.fails(what, "Its maximum tolerable downtime is not given as a number.")
		case !x.RTO.Known():
			v.fails(what, "By when it should be back is not given as a number.")
		case x.RTO.Longest() > x.MTD.Longest():
			v.fails(what, "It should be back within %s, and may be down for %s only.", x.RTO, x.MTD)
		}
	}
	if len(v.covered) == 0 {
		v.unknown("functions", "The plan calls no function critical.")
	}
	v.says = "Every critical function has a recovery time within its maximum tolerable downtime."
	v.notCovered = []string{"whether the times are reached: drills and exercises show that"}
}
