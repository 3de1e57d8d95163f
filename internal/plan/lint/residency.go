package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// residencyRules judge where data are and whose law reaches them.
var residencyRules = []Rule{
	{
		ID: "fallback-leaves-jurisdiction", Title: "A fallback in another jurisdiction", Group: "security", Severity: Warning,
		Why:    "The promise of residency is then kept only while nothing fails. Clients learn of it afterwards, and what has left cannot be called back.",
		Mend:   "Try what is at home first, and go abroad only for clients who have consented: consent: per-client, with what each allows.",
		Source: "GDPR art. 44; ISO/IEC 27001:2022, A.5.34",
		check:  fallbackLeavesJurisdiction,
	},
	{
		ID: "data-leaves-home", Title: "Data lie where they may not be", Group: "security", Severity: Error,
		Why:    "What the organisation says of the place of its data is broken on an ordinary day.",
		Mend:   "Move the data, or widen home or stays_in, and tell those who were promised otherwise.",
		Source: "GDPR art. 44",
		check:  dataLeavesHome,
	},
	{
		ID: "transfer-without-safeguard", Title: "Personal data go abroad without a safeguard", Group: "security", Severity: Warning,
		Why:    "A transfer to a country without an adequacy decision is lawful only with an instrument such as the standard clauses; without one it can be stopped at once.",
		Mend:   "Write the supplier's transfer_safeguard (scc, idta, bcr) and keep the signed record, or use a supplier at home.",
		Source: "GDPR and UK GDPR, art. 46",
		check:  transferWithoutSafeguard,
	},
	{
		ID: "node-without-country", Title: "Nobody knows in which country it is", Group: "security", Severity: Warning,
		Why:    "A promise about the place of data cannot be checked for what has no place.",
		Mend:   "Write the country of the node, of its site or of the backup target.",
		Source: "ISO/IEC 27001:2022, A.5.9, A.5.23",
		check:  nodeWithoutCountry,
	},
	{
		ID: "supplier-without-jurisdiction", Title: "A supplier whose law is not named", Group: "security", Severity: Warning,
		Why:    "Some laws oblige a supplier to hand over data wherever they lie. Without its jurisdiction nobody can say whether a promise of residency holds.",
		Mend:   "Write jurisdiction: the country whose law the supplier, or its parent, obeys.",
		Source: "ISO/IEC 27001:2022, A.5.19",
		check:  supplierWithoutJurisdiction,
	},
	{
		ID: "supplier-contradicts-promise", Title: "Nodes with another supplier than promised", Group: "security", Severity: Error,
		Why:    "Clients have judged the supplier that they were told of: its certificates, its country, its law. Of the other they know nothing.",
		Mend:   "Name every supplier in the promise, restrict it to the nodes that keep it (of:), or move the nodes.",
		Source: "ISO/IEC 27001:2022, A.5.19",
		check:  supplierContradictsPromise,
	},
}

// homes lists where the data of a function may be: the countries of each class
// of data that names some, else those of the organisation. All must admit a
// place; none means that nothing was promised.
func (c *Context) homes(f *plan.Function) (out [][]string) {
	for _, name := range slices.Sorted(slices.Values(f.Data)) {
		if d := c.DataClass(name); d != nil && len(d.Stays) > 0 {
			out = append(out, d.Stays)
		}
	}
	if len(out) == 0 && len(c.Organisation.Home) > 0 {
		out = append(out, c.Organisation.Home)
	}
	return out
}

// outside is the first of the homes that does not admit a country.
func outside(country string, homes [][]string) (home []string, out bool) {
	for _, home := range homes {
		if country != "" && !plan.InCountries(country, home) {
			return home, true
		}
	}
	return nil, false
}

// places writes countries and groups as they were written, in one order.
func places(home []string) string { return listed(slices.Sorted(slices.Values(home))) }

// residency reports whether the plan says anywhere that place matters.
func (c *Context) residency() bool {
	return len(c.Organisation.Home) > 0 ||
		slices.ContainsFunc(c.Data, func(d plan.DataClass) bool { return d.Personal || len(d.Stays) > 0 }) ||
		slices.ContainsFunc(c.Commitments, func(m plan.Commitment) bool {
			return m.Subject == "hosting.country" || m.Subject == "hosting.jurisdiction" || m.Subject == "backup.country"
		})
}

// whose is the country whose law holds where a fallback goes, and its name.
func (c *Context) whose(fb *plan.Fallback) (country, name string) {
	if n := c.Node(fb.Node); n != nil {
		return c.Country(n), n.Name
	}
	if s := c.Supplier(fb.Supplier); s != nil {
		return s.Jurisdiction, s.Name
	}
	return "", ""
}

func fallbackLeavesJurisdiction(c *Context) {
	for i := range c.Functions {
		f := &c.Functions[i]
		homes := c.homes(f)
		var abroad, unasked, late, paths []string
		var home []string
		automatic := false
		for j := range f.Fallbacks {
			fb := &f.Fallbacks[j]
			country, name := c.whose(fb)
			leaves, out := outside(country, homes)
			switch {
			case out:
				home = leaves
				abroad = append(abroad, fmt.Sprintf("%q (%s)", name, country))
				paths = append(paths, at("functions", i, at("fallbacks", j)))
				if refusers := c.refusers(f, fb, country); len(refusers) > 0 {
					unasked = append(unasked, refusers...)
					automatic = automatic || fb.Automatic
				}
			case len(abroad) > 0 && country != "":
				late = append(late, fmt.Sprintf("%q (%s)", name, country))
			}
		}
		if len(unasked) == 0 && len(late) == 0 {
			continue
		}
		var why []string
		if len(unasked) > 0 {
			slices.Sort(unasked)
			why = append(why, listed(slices.Compact(unasked))+" has consented to that")
		}
		if len(late) > 0 {
			why = append(why, listed(late)+", at home, is tried only after that")
		}
		how := "goes"
		if automatic {
			how = "goes by itself"
		}
		finding := c.Report(paths[0], about("function", f.Name), "Function %q %s to %s when its node is away, outside of %s: %s.", f.Name, how, listed(abroad), places(home), listed(why)).With(paths[1:]...)
		if automatic {
			finding.As(Error)
		}
	}
}

// refusers says who has not consented to a fallback abroad.
func (c *Context) refusers(f *plan.Function, fb *plan.Fallback, country string) (out []string) {
	switch fb.Consent {
	case "per-client":
		return nil
	case "all-clients":
		for _, client := range c.Clients {
			if slices.Contains(client.Functions, f.Name) && !slices.Contains(client.Allows, fb.Supplier) && !plan.InCountries(country, client.Allows) {
				out = append(out, fmt.Sprintf("not every client (client %q)", client.Name))
			}
		}
		return out
	}
	return []string{"nobody"}
}

func dataLeavesHome(c *Context) {
	for i := range c.Nodes {
		n := &c.Nodes[i]
		allowed := map[string][]string{} // home → functions that may be there only
		for j := range c.Functions {
			f := &c.Functions[j]
			if slices.Contains(f.Host, n.Name) && c.stateful(f) {
				if home, out := outside(c.Country(n), c.homes(f)); out {
					allowed[places(home)] = append(allowed[places(home)], f.Name)
				}
			}
		}
		var words []string
		for home, names := range allowed {
			words = append(words, fmt.Sprintf("%s, which may be in %s only", these("function", "functions", names), home))
		}
		if slices.Sort(words); len(words) > 0 {
			c.Report(at("nodes", i), about("node", n.Name), "Node %q stands in %s and holds the data of %s.", n.Name, c.Country(n), strings.Join(words, ", and of "))
		}
	}
	for i := range c.Backups {
		b := &c.Backups[i]
		homes := c.homesOfBackup(b)
		for j := range b.To {
			country, _ := c.TargetCountry(&b.To[j])
			if home, out := outside(country, homes); out {
				c.Report(at("backups", i, at("to", j)), about("backup", b.Name), "Backup %q lies in %s; its data may be in %s only.", b.Name, country, places(home))
			}
		}
	}
}

func (c *Context) homesOfBackup(b *plan.Backup) [][]string {
	all := plan.Function{Data: slices.Clone(b.Data)}
	for _, name := range b.Functions {
		if f := c.Function(name); f != nil {
			all.Data = append(all.Data, f.Data...)
		}
	}
	return c.homes(&all)
}

func nodeWithoutCountry(c *Context) {
	if !c.residency() {
		return
	}
	for i := range c.Nodes {
		if n := &c.Nodes[i]; c.Country(n) == "" {
			c.Report(at("nodes", i), about("node", n.Name), "Nothing says in which country node %q stands.", n.Name)
		}
	}
	for i := range c.Backups {
		b := &c.Backups[i]
		var paths []string
		for j := range b.To {
			if country, _ := c.TargetCountry(&b.To[j]); country == "" && b.To[j].Node == "" {
				paths = append(paths, at("backups", i, at("to", j)))
			}
		}
		if len(paths) > 0 {
			c.Report(paths[0], about("backup", b.Name), "Nothing says in which country backup %q lies.", b.Name).With(paths[1:]...)
		}
	}
}

// holding are services whose supplier sees data.
var holding = []string{"hosting", "storage", "inference", "mail", "mail-relay", "password-manager"}

// seesData reports whether data reach a supplier.
func (c *Context) seesData(name string) bool {
	if s := c.Supplier(name); s != nil && slices.ContainsFunc(s.Provides, func(p string) bool { return slices.Contains(holding, p) }) {
		return true
	}
	return slices.ContainsFunc(c.Nodes, func(n plan.Node) bool { return n.Supplier == name }) ||
		slices.ContainsFunc(c.Backups, func(b plan.Backup) bool {
			return slices.ContainsFunc(b.To, func(t plan.BackupTarget) bool { return t.Supplier == name })
		}) ||
		slices.ContainsFunc(c.Functions, func(f plan.Function) bool {
			return slices.ContainsFunc(f.Fallbacks, func(fb plan.Fallback) bool { return fb.Supplier == name })
		})
}

func supplierWithoutJurisdiction(c *Context) {
	if !c.residency() {
		return
	}
	for i := range c.Suppliers {
		if s := &c.Suppliers[i]; s.Jurisdiction == "" && c.seesData(s.Name) {
			c.Report(at("suppliers", i), about("supplier", s.Name), "Supplier %q holds or sees data, and the country whose law it obeys is not said.", s.Name)
		}
	}
}

func transferWithoutSafeguard(c *Context) {
	free := c.freeTransfers()
	if free.Empty() || !slices.ContainsFunc(c.Data, func(d plan.DataClass) bool { return d.Personal }) {
		return
	}
	for i := range c.Suppliers {
		s := &c.Suppliers[i]
		where, err := sovereignty.ParseJurisdiction(s.Jurisdiction)
		if err != nil || free.Has(where) || s.Safeguard != "" && s.Safeguard != "none" || !c.seesData(s.Name) {
			continue
		}
		c.Report(at("suppliers", i), about("supplier", s.Name), "Supplier %q obeys the law of %s, sees data of which some are personal, and has no transfer safeguard.", s.Name, where.Label())
	}
}

// freeTransfers are the countries to which the law of the organisation's seat
// lets personal data go without an instrument; empty where that law is not known.
func (c *Context) freeTransfers() sovereignty.Set {
	seat, err := sovereignty.ParseJurisdiction(c.Organisation.Country)
	switch {
	case err != nil:
	case seat == "GB":
		return sovereignty.UKAdequate().With(seat)
	case sovereignty.EEA().Has(seat):
		return sovereignty.EEA().Union(sovereignty.EUAdequate())
	}
	return sovereignty.Set{}
}

func supplierContradictsPromise(c *Context) {
	subject, ok := plan.SubjectNamed("hosting.supplier")
	for i := range c.Commitments {
		m := &c.Commitments[i]
		if !ok || m.Subject != subject.Name {
			continue
		}
		said := c.Says(subject.Name, "")
		if len(m.Of) > 0 {
			said = nil
			for _, of := range m.Of {
				said = append(said, c.Says(subject.Name, of)...)
			}
		}
		var nodes, suppliers, paths []string
		for _, v := range said {
			if kept, ok := subject.Keeps(m, v); ok && !kept {
				nodes, suppliers, paths = append(nodes, v.Of), append(suppliers, v.Text), append(paths, v.Path)
			}
		}
		if len(nodes) > 0 {
			c.Report(at("commitments", i), about("commitment", m.Name), "Commitment %q promises %s for hosting; %s %s with %s.", m.Name, m.Promise(), these("node", "nodes", nodes), does(nodes, "is", "are"), quoted(suppliers)).With(paths...)
		}
	}
}
