package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// refuge is where functions go when their own node is away.
type refuge struct {
	where     []string // node "a", supplier "b"
	functions []string
	paths     []string
}

// noFailback reports, once for each set of places that functions move to,
// those that have recovery plans of which none leads back. A function that
// keeps nothing and changes over by itself also changes back by itself.
func noFailback(c *Context) {
	var refuges []*refuge
	for i := range c.Functions {
		f := &c.Functions[i]
		where, paths := c.refuges(i)
		if len(where) == 0 || !c.recovered(f.Name) || c.recovered(f.Name, "failback") {
			continue
		}
		j := slices.IndexFunc(refuges, func(r *refuge) bool { return slices.Equal(r.where, where) })
		if j < 0 {
			j, refuges = len(refuges), append(refuges, &refuge{where: where})
		}
		refuges[j].functions = append(refuges[j].functions, f.Name)
		refuges[j].paths = append(refuges[j].paths, paths...)
	}
	for _, r := range refuges {
		paths := r.paths
		for i := range c.Recovery {
			if slices.ContainsFunc(r.functions, func(f string) bool { return slices.Contains(c.Recovery[i].Functions, f) }) && !slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, at("recovery", i)) }) {
				paths = append(paths, at("recovery", i))
			}
		}
		c.Report(paths[0], "way back from "+strings.Join(r.where, " or "),
			"%s %s to %s when the own node is away, and no recovery plan says how to come back.",
			upper(these("function", "functions", r.functions)), does(r.functions, "moves", "move"), strings.Join(r.where, " or ")).With(paths[1:]...)
	}
}

// refuges lists where a function goes: to its fallbacks, and to the nodes that
// its recovery plans bring it back on and that are not its own. What it keeps
// nothing of and what takes over by itself is left out.
func (c *Context) refuges(i int) (where, paths []string) {
	f := &c.Functions[i]
	add := func(kind, name, path string) {
		where, paths = append(where, fmt.Sprintf("%s %q", kind, name)), append(paths, path)
	}
	for j, fb := range f.Fallbacks {
		path := at("functions", i, at("fallbacks", j))
		switch {
		case fb.Automatic && !c.stateful(f), slices.Contains(f.Host, fb.Node):
		case fb.Node != "":
			add("node", fb.Node, path)
		case fb.Supplier != "":
			add("supplier", fb.Supplier, path)
		}
	}
	for j := range c.Recovery {
		r := &c.Recovery[j]
		if len(f.Host) == 0 || !slices.Contains(r.Functions, f.Name) {
			continue
		}
		for _, node := range r.Onto {
			if !slices.Contains(f.Host, node) {
				add("node", node, at("recovery", j, "onto"))
			}
		}
	}
	slices.Sort(where)
	return slices.Compact(where), slices.Compact(paths)
}

// recovered reports whether a recovery plan of the function has a step of one
// of the kinds; of any kind when none is given.
func (c *Context) recovered(function string, kinds ...string) bool {
	return slices.ContainsFunc(c.Recovery, func(r plan.RecoveryPlan) bool {
		return slices.Contains(r.Functions, function) && (len(kinds) == 0 || hasStep(&r, kinds...))
	})
}
