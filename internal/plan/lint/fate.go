package lint

import (
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// fate is what a function falls with: losing one of these things alone stops
// it, directly or through what it needs, and no fallback carries it.
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

// fates finds what every function falls with.
func (c *Context) fates() map[string]fate {
	out := make(map[string]fate, len(c.Functions))
	byFunction := make(map[string]*plan.Function, len(c.Functions))
	for i := range c.Functions {
		byFunction[c.Functions[i].Name] = &c.Functions[i]
		out[c.Functions[i].Name] = c.ownFate(&c.Functions[i])
	}
	// What a function needs brings its fate along. Sets only grow, so this ends,
	// circles or not.
	for changed := true; changed; {
		changed = false
		for name, f := range byFunction {
			for _, need := range f.Needs {
				for t := range out[need] {
					if !out[name][t] && !c.carried(f, t) {
						out[name][t], changed = true, true
					}
				}
			}
		}
	}
	return out
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
		if !carries(f, &fb) || fb.Supplier != "" && t == (plan.Thing{Kind: plan.KindSupplier, Name: fb.Supplier}) {
			return false
		}
		return fb.Node == "" || !slices.Contains(c.standsOn(fb.Node), t)
	})
}

// carries reports whether a fallback can serve the whole of a function without
// anything being built or restored first.
func carries(f *plan.Function, fb *plan.Fallback) bool {
	return (fb.State == "hot" || fb.State == "warm") &&
		!(fb.Serves == "non-critical" && f.IsCritical()) &&
		(fb.Data == "replica" || !needsData(f))
}

// passing are the kinds of functions that keep nothing: what they handle
// passes through them.
var passing = []string{"inference", "dns", "certificates", "monitoring", "status-page"}

// needsData reports whether a function keeps data that a fallback would need.
func needsData(f *plan.Function) bool {
	return !slices.Contains(passing, f.Kind) && (len(f.Data) > 0 || !f.Size.IsZero())
}
