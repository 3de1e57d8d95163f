package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// observed are the kinds of scenarios in which something is lost that others
// can look at: there, one observer may be wrong. A person who does not check
// in, or an alarm about an intruder, is acted on at once.
var observed = []string{"node-loss", "site-loss", "supplier-loss"}

// lost is what a scenario takes away, with what falls with it.
type lost struct{ nodes, sites, suppliers map[string]bool }

func (c *Context) lostIn(s *plan.Scenario) lost {
	l := lost{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for _, name := range s.Loses {
		l.nodes[name] = l.nodes[name] || c.Node(name) != nil
		l.sites[name] = l.sites[name] || c.Site(name) != nil
		l.suppliers[name] = l.suppliers[name] || c.Supplier(name) != nil
		if f := c.Function(name); f != nil {
			for _, host := range f.Host {
				l.nodes[host] = true
			}
		}
	}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if l.sites[n.Site] || l.suppliers[n.Supplier] {
			l.nodes[n.Name] = true
		}
	}
	return l
}

// judges reports whether whoever gives a signal is among what is lost, or is
// the supplier of it, who speaks for itself.
func (c *Context) judges(l lost, by string) bool {
	if l.nodes[by] || l.suppliers[by] || l.sites[by] {
		return true
	}
	for i := range c.Nodes {
		if n := &c.Nodes[i]; l.nodes[n.Name] && (n.Supplier == by || c.siteSupplier(n) == by) && by != "" {
			return true
		}
	}
	for i := range c.Sites {
		if s := &c.Sites[i]; l.sites[s.Name] && s.Supplier == by && by != "" {
			return true
		}
	}
	return false
}

func (c *Context) siteSupplier(n *plan.Node) string {
	if s := c.Site(n.Site); s != nil {
		return s.Supplier
	}
	return ""
}

// signals splits the signals of a scenario into those of what is lost, and the
// different places that the others come from. A probe that looks at the node
// from a spared node is such a place; a status page of nobody named is that of
// the supplier of what is lost, as nobody else publishes one.
func (c *Context) signals(s *plan.Scenario) (own []plan.Signal, independent []string) {
	l := c.lostIn(s)
	for _, g := range s.Signals {
		if c.judges(l, g.By) || g.Kind == "status-page" && g.By == "" {
			own = append(own, g)
			continue
		}
		from := g.By
		if from == "" {
			from = g.Kind
		}
		if !slices.Contains(independent, from) {
			independent = append(independent, from)
		}
	}
	return own, independent
}

func supplierJudgesItself(c *Context) {
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		own, independent := c.signals(s)
		if !slices.Contains(observed, s.Kind) || len(own) == 0 || len(independent) >= 2 {
			continue
		}
		var givers []string
		for _, g := range own {
			if g.By == "" {
				givers = append(givers, "the status page of its supplier")
			} else {
				givers = append(givers, fmt.Sprintf("a signal (%s) of %q", g.Kind, g.By))
			}
		}
		slices.Sort(givers)
		besides := "nothing else"
		if len(independent) == 1 {
			besides = "one other signal"
		}
		c.Report(at("scenarios", i, "signals"), about("scenario", s.Name),
			"Scenario %q is told from %s, which is lost, or supplies what is lost, and from %s.", s.Name, listed(slices.Compact(givers)), besides)
	}
}

func singleSignal(c *Context) {
	for i := range c.Scenarios {
		s := &c.Scenarios[i]
		own, independent := c.signals(s)
		if !slices.Contains(observed, s.Kind) || len(own) > 0 || len(independent) >= 2 {
			continue
		}
		if len(s.Signals) == 0 {
			c.Report(at("scenarios", i), about("scenario", s.Name), "Nothing says how it is seen that scenario %q has happened.", s.Name)
			continue
		}
		c.Report(at("scenarios", i, "signals"), about("scenario", s.Name),
			"Scenario %q is told from %q alone; if that is wrong, or away, nobody knows.", s.Name, independent[0])
	}
}
