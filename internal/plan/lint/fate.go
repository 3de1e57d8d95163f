package lint

import (
	"maps"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// fate is what a function falls with: losing one of these things alone stops
// it, and no fallback carries it, or stops what it needs.
type fate map[plan.Thing]bool

// shares lists what both fall with, of the given kinds, in order.
func (f fate) shares(other fate, kinds ...string) (out []plan.Thing) {
	for t := range f {
		if other[t] && slices.Contains(kinds, t.Kind) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, compareThings)
	return out
}

func compareThings(a, b plan.Thing) int {
	if a.Kind != b.Kind {
		if a.Kind < b.Kind {
			return -1
		}
		return 1
	}
	if a.Name < b.Name {
		return -1
	}
	if a.Name > b.Name {
		return 1
	}
	return 0
}

// fates finds what every function falls with, once for all rules.
func (c *Context) fates() map[string]fate {
	if c.fate != nil {
		return c.fate
	}
	c.fate = make(map[string]fate, len(c.Functions))
	index := make(map[string]*plan.Function, len(c.Functions))
	for i := range c.Functions {
		f := &c.Functions[i]
		c.fate[f.Name], index[f.Name] = c.ownFate(f), f
	}
	// What a function needs brings its fate along: a fallback needs it too. What
	// is needed goes first, so that one round does, but for circles. Sets only
	// grow, so the rounds end.
	order := needsFirst(c.Functions, index)
	for grew := true; grew; {
		grew = false
		for _, f := range order {
			own := c.fate[f.Name]
			before := len(own)
			for _, need := range f.Needs {
				maps.Copy(own, c.fate[need])
			}
			grew = grew || len(own) > before
		}
	}
	return c.fate
}

// needsFirst orders functions so that each comes after what it needs, as far
// as there are no circles.
func needsFirst(functions []plan.Function, index map[string]*plan.Function) (order []*plan.Function) {
	seen := make(map[string]bool, len(functions))
	var visit func(f *plan.Function)
	visit = func(f *plan.Function) {
		seen[f.Name] = true
		for _, need := range f.Needs {
			if g := index[need]; g != nil && !seen[need] {
				visit(g)
			}
		}
		order = append(order, f)
	}
	for i := range functions {
		if !seen[functions[i].Name] {
			visit(&functions[i])
		}
	}
	return order
}

// lose finds what is gone when all of these names are lost together, and the
// functions that stop with it.
func (c *Context) lose(names []string) (gone fate, stops func(*plan.Function) bool) {
	gone = fate{}
	kinds := c.kindsOf()
	for _, name := range names {
		for _, kind := range kinds[name] {
			gone[plan.Thing{Kind: kind, Name: name}] = true
		}
	}
	fates := c.fates()
	return gone, func(f *plan.Function) bool {
		if gone[plan.Thing{Kind: plan.KindFunction, Name: f.Name}] {
			return true
		}
		for t := range gone {
			if fates[f.Name][t] {
				return true
			}
		}
		return len(f.Host) > 1 && !slices.ContainsFunc(f.Host, func(host string) bool {
			return !slices.ContainsFunc(c.standsOn(host), func(t plan.Thing) bool { return gone[t] })
		})
	}
}

// kindsOf lists, for every name that a scenario may lose, which kinds of
// things have it.
func (c *Context) kindsOf() map[string][]string {
	if c.kinds == nil {
		c.kinds = map[string][]string{}
		for _, kind := range []string{plan.KindNode, plan.KindSite, plan.KindSupplier, plan.KindPerson, plan.KindFunction} {
			for _, name := range c.Names(kind) {
				c.kinds[name] = append(c.kinds[name], kind)
			}
		}
	}
	return c.kinds
}

// ownFate is what a function falls with by its own hosts and suppliers.
func (c *Context) ownFate(f *plan.Function) fate {
	out := fate{}
	count := map[plan.Thing]int{}
	for _, host := range f.Host {
		for _, t := range c.standsOn(host) {
			count[t]++
		}
	}
	for t, n := range count {
		if n == len(f.Host) && !c.carried(f, t) {
			out[t] = true
		}
	}
	for _, name := range f.Suppliers {
		if t := (plan.Thing{Kind: plan.KindSupplier, Name: name}); !c.carried(f, t) {
			out[t] = true
		}
	}
	return out
}

// standsOn lists what a node falls with: itself, its site, its suppliers.
func (c *Context) standsOn(node string) []plan.Thing {
	out := []plan.Thing{{Kind: plan.KindNode, Name: node}}
	n := c.Node(node)
	if n == nil {
		return out
	}
	add := func(kind, name string) {
		if t := (plan.Thing{Kind: kind, Name: name}); name != "" && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	add(plan.KindSupplier, n.Supplier)
	if s := c.Site(n.Site); s != nil {
		add(plan.KindSite, s.Name)
		add(plan.KindSupplier, s.Supplier)
	}
	return out
}

// carried reports whether a fallback that outlives t serves the function.
func (c *Context) carried(f *plan.Function, t plan.Thing) bool {
	return slices.ContainsFunc(f.Fallbacks, func(fb plan.Fallback) bool {
		if !c.carries(f, &fb) || fb.Supplier != "" && t == (plan.Thing{Kind: plan.KindSupplier, Name: fb.Supplier}) {
			return false
		}
		return fb.Node == "" || !slices.Contains(c.standsOn(fb.Node), t)
	})
}

// carries reports whether a fallback can serve the whole of a function without
// anything being built or restored first.
func (c *Context) carries(f *plan.Function, fb *plan.Fallback) bool {
	return (fb.State == "hot" || fb.State == "warm") &&
		!(fb.Serves == "non-critical" && f.IsCritical()) &&
		(fb.Data == "replica" || !c.stateful(f))
}

// passing are the kinds of functions that keep nothing: what they handle
// passes through them.
var passing = []string{"inference", "dns", "certificates", "monitoring", "status-page"}
