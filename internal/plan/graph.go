package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Kinds of things in the graph.
const (
	KindFunction = "function"
	KindNode     = "node"
	KindSite     = "site"
	KindSupplier = "supplier"
	KindPerson   = "person"
	KindBackup   = "backup"
)

// Thing is one of the plan's things, by kind and name.
type Thing struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String is "node helsinki-1".
func (t Thing) String() string { return t.Kind + " " + t.Name }

// Edge says that From needs To. Of several edges with the same All group,
// one is enough.
type Edge struct {
	From, To Thing
	Why      string // host, needs, supplier, site, operator, fallback, backup
	Any      bool   // one of From's edges with this reason is enough
}

// Graph is who depends on what.
type Graph struct {
	Things []Thing
	Edges  []Edge
}

// Graph lists every dependency of the plan, in an order that does not depend
// on the order of the file.
func (p *Plan) Graph() *Graph {
	g := &Graph{}
	thing := func(kind, name string) Thing { return Thing{kind, name} }
	edge := func(from, to Thing, why string, any bool) {
		if to.Name != "" {
			g.Edges = append(g.Edges, Edge{from, to, why, any})
		}
	}
	for i := range p.Sites {
		s := &p.Sites[i]
		g.Things = append(g.Things, thing(KindSite, s.Name))
		edge(thing(KindSite, s.Name), thing(KindSupplier, s.Supplier), "supplier", false)
	}
	for i := range p.Suppliers {
		g.Things = append(g.Things, thing(KindSupplier, p.Suppliers[i].Name))
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		from := thing(KindNode, n.Name)
		g.Things = append(g.Things, from)
		edge(from, thing(KindSite, n.Site), "site", false)
		edge(from, thing(KindSupplier, n.Supplier), "supplier", false)
	}
	for i := range p.Functions {
		f := &p.Functions[i]
		from := thing(KindFunction, f.Name)
		g.Things = append(g.Things, from)
		for _, host := range f.Host {
			edge(from, thing(KindNode, host), "host", len(f.Host) > 1)
		}
		for _, name := range f.Suppliers {
			edge(from, thing(KindSupplier, name), "supplier", false)
		}
		for _, name := range f.Needs {
			edge(from, thing(KindFunction, name), "needs", false)
		}
		for _, fb := range f.Fallbacks {
			edge(from, thing(KindNode, fb.Node), "fallback", true)
			edge(from, thing(KindSupplier, fb.Supplier), "fallback", true)
		}
		operators := p.OperatorsOf(f)
		for _, name := range operators {
			edge(from, thing(KindPerson, name), "operator", len(operators) > 1)
		}
	}
	for i := range p.Backups {
		b := &p.Backups[i]
		g.Things = append(g.Things, thing(KindBackup, b.Name))
		for _, to := range b.To {
			edge(thing(KindBackup, b.Name), thing(KindNode, to.Node), "target", len(b.To) > 1)
			edge(thing(KindBackup, b.Name), thing(KindSite, to.Site), "target", len(b.To) > 1)
			edge(thing(KindBackup, b.Name), thing(KindSupplier, to.Supplier), "target", len(b.To) > 1)
		}
	}
	for i := range p.Functions {
		for _, b := range p.BackupsOf(&p.Functions[i]) {
			edge(thing(KindFunction, p.Functions[i].Name), thing(KindBackup, b.Name), "backup", true)
		}
	}
	for i := range p.People {
		g.Things = append(g.Things, thing(KindPerson, p.People[i].Name))
	}
	slices.SortFunc(g.Things, compareThings)
	g.Things = slices.Compact(g.Things)
	slices.SortFunc(g.Edges, func(a, b Edge) int {
		if c := compareThings(a.From, b.From); c != 0 {
			return c
		}
		if c := strings.Compare(a.Why, b.Why); c != 0 {
			return c
		}
		return compareThings(a.To, b.To)
	})
	g.Edges = slices.Compact(g.Edges)
	return g
}

func compareThings(a, b Thing) int {
	if c := strings.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// Losable lists what can be lost: every node, site, supplier and person.
func (p *Plan) Losable() (out []Thing) {
	for i := range p.Nodes {
		out = append(out, Thing{KindNode, p.Nodes[i].Name})
	}
	for i := range p.Sites {
		out = append(out, Thing{KindSite, p.Sites[i].Name})
	}
	for i := range p.Suppliers {
		out = append(out, Thing{KindSupplier, p.Suppliers[i].Name})
	}
	for i := range p.People {
		out = append(out, Thing{KindPerson, p.People[i].Name})
	}
	slices.SortFunc(out, compareThings)
	return out
}

// Thing finds what a name means: "node-1", or "node node-1" where several
// kinds of things have that name. Functions can be lost too.
func (p *Plan) Thing(name string) (Thing, error) {
	all := p.Losable()
	for i := range p.Functions {
		all = append(all, Thing{KindFunction, p.Functions[i].Name})
	}
	var hits []Thing
	for _, t := range all {
		if t.Name == name || t.String() == name {
			hits = append(hits, t)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return Thing{}, p.unknownThing(name, all)
	}
	return Thing{}, ambiguousThing(name, hits)
}

// Singles lists what takes critical functions down alone, with nothing to
// carry them: the single points of failure, the worst first.
func (p *Plan) Singles(m Measured) (out []Single) {
	for _, t := range p.Losable() {
		o := p.Falls(m, t)
		s := Single{Thing: t}
		for _, f := range o.Functions {
			if f.State == Down && p.Function(f.Name).IsCritical() {
				s.Functions = append(s.Functions, f.Name)
			}
		}
		if len(s.Functions) > 0 {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Single) int { return len(b.Functions) - len(a.Functions) })
	return out
}

// Single is a single point of failure.
type Single struct {
	Thing
	Functions []string `json:"functions"` // critical ones that are down with it
}

func ambiguousThing(name string, hits []Thing) error {
	var words []string
	for _, t := range hits {
		words = append(words, fmt.Sprintf("%q", t.String()))
	}
	return problemOf("plan-ambiguous", fmt.Sprintf("%q is the name of several things.", name), "Write "+strings.Join(words, " or ")+".")
}
