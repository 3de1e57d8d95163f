package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// placeRules judge what is lost at once.
var placeRules = []Rule{
	{
		ID: "one-supplier", Title: "One supplier holds a function, its fallback and its backups", Group: "fallbacks", Severity: Warning,
		Why:    "A closed account, an unpaid bill, a mistake or a fire at that supplier takes every copy, and nobody else has one.",
		Mend:   "Keep one copy of the backups with another supplier, or at a place of your own.",
		Source: "ISO 22301:2019, 8.3.4 (partners and suppliers)",
		check:  oneSupplier,
	},
	{
		ID: "site-concentration", Title: "One site holds a function and what should bring it back", Group: "fallbacks", Severity: Warning,
		Why:    "A fire, a flood or a cut line takes the function together with its second node, or with the code and tools that it would be recovered with.",
		Mend:   "Put the second node, or a mirror of what is restored from, at another site.",
		Source: "NIST SP 800-34 r1, 3.4.2, 3.4.3",
		check:  siteConcentration,
	},
	{
		ID: "supplier-unlisted", Title: "A supplier is used but not among the critical ones", Group: "fallbacks", Severity: Warning,
		Why:    "The plan lists the suppliers whose loss it prepares for. One that is left out has no alternative, no review and no scenario.",
		Mend:   "List it (critical: true) with an alternative and a scenario of its loss, or say that nothing critical stops without it (critical: false).",
		Source: "ISO 22301:2019, 8.2.2 (dependencies on suppliers)",
		check:  supplierUnlisted,
	},
	{
		ID: "supplier-without-alternative", Title: "A critical supplier that nobody could replace", Group: "fallbacks", Severity: Warning,
		Why:    "When it ends its service or fails, the search for another begins on that day, with a contract to sign and data to move.",
		Mend:   "Name another supplier that could take over (alternatives:), with a runbook for the change and how long that takes.",
		Source: "ISO 22301:2019, 8.3.4 (partners and suppliers)",
		check:  supplierWithoutAlternative,
	},
}

// supplierOf is with whom a node is: its own supplier, or its site's.
func (c *Context) supplierOf(node string) string {
	n := c.Node(node)
	if n == nil {
		return ""
	}
	if n.Supplier != "" {
		return n.Supplier
	}
	return c.siteSupplier(n)
}

func oneSupplier(c *Context) {
	type holding struct{ functions, paths []string }
	held := map[string]*holding{}
	for i := range c.Functions {
		f := &c.Functions[i]
		if !f.IsCritical() {
			continue
		}
		if s, paths := c.onlySupplier(f); s != "" {
			if held[s] == nil {
				held[s] = &holding{}
			}
			held[s].functions = append(held[s].functions, f.Name)
			held[s].paths = append(append(held[s].paths, at("functions", i, "host")), paths...)
		}
	}
	for i, s := range c.Suppliers {
		h := held[s.Name]
		if h == nil {
			continue
		}
		slices.Sort(h.paths)
		c.Report(at("suppliers", i), about("supplier", s.Name), "Supplier %q holds %s, and every fallback and backup of %s that the plan places.",
			s.Name, these("function", "functions", h.functions), does(h.functions, "it", "them")).With(slices.Compact(h.paths)...)
	}
}

// onlySupplier is the supplier with whom a function and every copy of it are,
// as far as the plan says, and the places of the copies; "" when one is
// elsewhere, or none is placed.
func (c *Context) onlySupplier(f *plan.Function) (supplier string, paths []string) {
	for _, host := range f.Host {
		s := c.supplierOf(host)
		if s == "" || supplier != "" && s != supplier {
			return "", nil
		}
		supplier = s
	}
	if supplier == "" {
		return "", nil
	}
	for k, fb := range f.Fallbacks {
		s := fb.Supplier
		if fb.Node != "" {
			s = c.supplierOf(fb.Node)
		}
		if s != supplier {
			return "", nil
		}
		paths = append(paths, c.functionPath(f)+fmt.Sprintf(".fallbacks[%d]", k))
	}
	for _, b := range c.BackupsOf(f) {
		for k := range b.To {
			t := &b.To[k]
			s := c.TargetSupplier(t)
			if s == supplier {
				paths = append(paths, fmt.Sprintf("%s.to[%d]", c.backupPath(b), k))
			} else if s != "" || t.Node != "" || t.Site != "" {
				return "", nil
			}
		}
	}
	if len(paths) == 0 {
		return "", nil
	}
	return supplier, paths
}

func (c *Context) backupPath(b *plan.Backup) string {
	return at("backups", slices.IndexFunc(c.Backups, func(x plan.Backup) bool { return x.Name == b.Name }))
}

func siteConcentration(c *Context) {
	fates := c.fates()
	uses := c.usedIn()
	type gathered struct{ restored, doubled, tools []string }
	sites := map[plan.Thing]*gathered{}
	add := func(t plan.Thing) *gathered {
		if sites[t] == nil {
			sites[t] = &gathered{}
		}
		return sites[t]
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		if !f.IsCritical() {
			continue
		}
		for t := range fates[f.Name] {
			if !c.isPlace(t) {
				continue
			}
			if t.Kind == plan.KindSite && c.nodesOf(f) > 1 {
				add(t).doubled = append(add(t).doubled, f.Name)
			}
			for _, name := range slices.Concat(f.RestoreBy, uses[f.Name]) {
				if name != f.Name && fates[name][t] {
					add(t).restored, add(t).tools = append(add(t).restored, f.Name), append(add(t).tools, name)
				}
			}
		}
	}
	report := func(t plan.Thing, path string) {
		g := sites[t]
		if g == nil {
			return
		}
		words := upper(quotedThing(t)) + " holds "
		if len(g.restored) > 0 {
			words += fmt.Sprintf("%s, and %s that %s restored from", quoted(g.restored), quoted(g.tools), does(g.restored, "it is", "they are"))
		}
		if len(g.restored) > 0 && len(g.doubled) > 0 {
			words += ", and "
		}
		if len(g.doubled) > 0 {
			words += "every node of " + quoted(g.doubled)
		}
		c.Report(path, about(t.Kind, t.Name), "%s.", words)
	}
	for i := range c.Sites {
		report(plan.Thing{Kind: plan.KindSite, Name: c.Sites[i].Name}, at("sites", i))
	}
	for i := range c.Nodes {
		report(plan.Thing{Kind: plan.KindNode, Name: c.Nodes[i].Name}, at("nodes", i))
	}
}

// isPlace reports whether a thing is a site, or a node of which no site is known.
func (c *Context) isPlace(t plan.Thing) bool {
	if t.Kind != plan.KindNode {
		return t.Kind == plan.KindSite
	}
	n := c.Node(t.Name)
	return n != nil && n.Site == ""
}

// nodesOf counts the nodes that a function runs on or falls back to.
func (c *Context) nodesOf(f *plan.Function) int {
	names := slices.Clone(f.Host)
	for _, fb := range f.Fallbacks {
		if fb.Node != "" && !slices.Contains(names, fb.Node) {
			names = append(names, fb.Node)
		}
	}
	return len(names)
}

// relied are the kinds of suppliers without whom something stops, or cannot be
// recovered.
var relied = []string{"hosting", "storage", "inference", "dns", "domain", "certificates", "mail", "mail-relay", "password-manager", "monitoring", "telephony"}

func supplierUnlisted(c *Context) {
	listed := map[string]bool{}
	for _, s := range c.Suppliers {
		if s.Critical != nil && *s.Critical {
			listed[s.Name] = true
		}
	}
	for _, s := range c.Scenarios {
		if s.Kind != "supplier-loss" {
			continue
		}
		for _, name := range s.Loses {
			if c.Supplier(name) != nil {
				listed[name] = true
			}
		}
	}
	if len(listed) == 0 {
		return // the plan has no list that one could be missing from
	}
	used := c.suppliersUsed()
	for i, s := range c.Suppliers {
		if listed[s.Name] || s.Critical != nil {
			continue
		}
		how := used[s.Name]
		if how == "" && slices.ContainsFunc(s.Provides, func(p string) bool { return slices.Contains(relied, p) }) {
			how = "provides " + quoted(s.Provides)
		}
		if how != "" {
			c.Report(at("suppliers", i), about("supplier", s.Name), "Supplier %q %s, and is not among the critical suppliers that the plan lists.", s.Name, how)
		}
	}
}

func supplierWithoutAlternative(c *Context) {
	for i := range c.Suppliers {
		s := &c.Suppliers[i]
		if s.Critical == nil || !*s.Critical {
			continue
		}
		var others []string
		ready := false
		for _, a := range s.Alternatives {
			if a.Supplier != s.Name {
				others, ready = append(others, a.Supplier), ready || a.Runbook != ""
			}
		}
		switch {
		case len(others) == 0:
			c.Report(at("suppliers", i), about("supplier", s.Name), "Supplier %q is critical, and nobody is named who could take its place.", s.Name)
		case !ready:
			c.Report(at("suppliers", i, "alternatives"), about("supplier", s.Name), "Supplier %q is critical, and no runbook says how to change over to %s.", s.Name, quoted(others))
		}
	}
}

// suppliersUsed says, for each supplier, one thing that stands on it; the same
// whatever the order of the file.
func (c *Context) suppliersUsed() map[string]string {
	used := map[string]string{}
	note := func(name, how string) {
		if name != "" && used[name] == "" {
			used[name] = how
		}
	}
	byName(c.Functions, functionName, func(_ int, f *plan.Function) {
		for _, name := range f.Suppliers {
			note(name, fmt.Sprintf("runs %q", f.Name))
		}
		for _, fb := range f.Fallbacks {
			note(fb.Supplier, fmt.Sprintf("is a fallback of %q", f.Name))
		}
		if f.Certificate != nil {
			note(f.Certificate.Issuer, fmt.Sprintf("issues the certificate of %q", f.Name))
		}
	})
	byName(c.Nodes, func(n *plan.Node) string { return n.Name }, func(_ int, n *plan.Node) {
		note(c.supplierOf(n.Name), fmt.Sprintf("hosts node %q", n.Name))
	})
	byName(c.Backups, func(b *plan.Backup) string { return b.Name }, func(_ int, b *plan.Backup) {
		for k := range b.To {
			note(c.TargetSupplier(&b.To[k]), fmt.Sprintf("holds backup %q", b.Name))
		}
	})
	return used
}
