package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

func isolatedNodeShared(c *Context) {
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if !n.Isolated {
			continue
		}
		if shared := c.sharedBy(n); len(shared) > 0 {
			c.Report(at("nodes", i, "isolated"), about("node", n.Name), "Node %q is called isolated, and %s.", n.Name, listed(shared))
		}
	}
}

// sharedBy says what an isolated node has in common with others. Isolated
// nodes of one control plane, such as a primary and its standby, are isolated
// together: what they share does not leave them.
func (c *Context) sharedBy(n *plan.Node) (out []string) {
	var control, account, reached []string
	for i := range c.Nodes {
		x := &c.Nodes[i]
		if together(n, x) {
			continue
		}
		if n.Control != "" && x.Control == n.Control {
			control = append(control, x.Name)
		}
		if n.Account != "" && x.Account == n.Account && x.Supplier == n.Supplier {
			account = append(account, x.Name)
		}
		if slices.Contains(n.Reaches, x.Name) || slices.Contains(x.Reaches, n.Name) {
			reached = append(reached, x.Name)
		}
	}
	if len(control) > 0 {
		out = append(out, fmt.Sprintf("shares the control plane %q with %s", n.Control, these("node", "nodes", control)))
	}
	if len(account) > 0 {
		out = append(out, fmt.Sprintf("shares the account %q with %s", n.Account, these("node", "nodes", account)))
	}
	if len(reached) > 0 {
		out = append(out, "has a connection with "+these("node", "nodes", reached))
	}
	if slices.Contains(n.Roles, "witness") {
		out = append(out, "votes for others as a witness")
	}
	if linked := c.linked(n); len(linked) > 0 {
		out = append(out, "is tied to other nodes by "+these("function", "functions", linked))
	}
	return out
}

// together reports whether two nodes are one, or isolated as one.
func together(a, b *plan.Node) bool {
	return a.Name == b.Name || a.Isolated && b.Isolated && a.Control != "" && a.Control == b.Control
}

// linked lists functions that join an isolated node to others: one that runs
// on it alone and needs one that does not run there, or the reverse.
func (c *Context) linked(n *plan.Node) (out []string) {
	here := func(f *plan.Function) bool {
		return slices.ContainsFunc(f.Host, func(host string) bool { x := c.Node(host); return x != nil && together(n, x) })
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		for _, name := range f.Needs {
			if g := c.Function(name); g != nil && len(f.Host) > 0 && len(g.Host) > 0 && here(f) != here(g) {
				out = append(out, f.Name)
			}
		}
		for _, fb := range f.Fallbacks {
			if fb.Node == n.Name && !here(f) {
				out = append(out, f.Name)
			}
		}
	}
	return out
}
