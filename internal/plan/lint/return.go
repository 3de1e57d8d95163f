package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// refuge is where functions go when their own node is away.
type refuge struct {
	what      string // node or supplier
	name      string
	functions []string
	paths     []string
}

// noFailback reports, once for each place that functions move to, those whose
// recovery plans do not lead back. A stateless function that changes over by
// itself also changes back by itself.
func noFailback(c *Context) {
	var refuges []*refuge
	add := func(what, name, function, path string) {
		for _, r := range refuges {
			if r.what == what && r.name == name {
				if !slices.Contains(r.functions, function) {
					r.functions, r.paths = append(r.functions, function), append(r.paths, path)
				}
				return
			}
		}
		refuges = append(refuges, &refuge{what, name, []string{function}, []string{path}})
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		if c.leadsBack(f.Name) {
			continue
		}
		for j, fb := range f.Fallbacks {
			path := at("functions", i, at("fallbacks", j))
			switch {
			case fb.Automatic && !c.stateful(f), slices.Contains(f.Host, fb.Node):
			case fb.Node != "":
				add("node", fb.Node, f.Name, path)
			case fb.Supplier != "":
				add("supplier", fb.Supplier, f.Name, path)
			}
		}
	}
	for i := range c.Recovery {
		r := &c.Recovery[i]
		for _, name := range r.Functions {
			f := c.Function(name)
			if f == nil || len(f.Host) == 0 || c.leadsBack(name) {
				continue
			}
			for _, node := range r.Onto {
				if !slices.Contains(f.Host, node) {
					add("node", node, name, at("recovery", i, "onto"))
				}
			}
		}
	}
	for _, r := range refuges {
		c.Report(r.paths[0], fmt.Sprintf("%s %q", r.what, r.name),
			"%s %s to %s %q when the own node is away, and no recovery plan says how to come back.",
			upper(these("function", "functions", r.functions)), does(r.functions, "moves", "move"), r.what, r.name).With(r.paths[1:]...)
	}
}

// leadsBack reports whether a recovery plan of the function has a failback.
func (c *Context) leadsBack(function string) bool {
	return slices.ContainsFunc(c.Recovery, func(r plan.RecoveryPlan) bool {
		return slices.Contains(r.Functions, function) && hasStep(&r, "failback")
	})
}
