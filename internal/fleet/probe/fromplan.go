package probe

import (
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// FromPlan is what a node is to watch of a plan's functions: the probes that
// name it in from, or name nobody. What looks at a machine itself (systemd,
// disk) and names nobody is for the hosts of its function. A target that
// cannot be read is watched nevertheless, and says so in its results.
//
// A plan's isolated node watches, and is watched by, nobody who is not named:
// the others do not look at a function that runs on isolated nodes only, and it
// looks only at what it carries, or would take over.
func FromPlan(p *plan.File, self string) []Spec {
	var out []Spec
	nodes := map[string]*plan.Node{}
	for i := range p.Nodes {
		nodes[p.Nodes[i].Name] = &p.Nodes[i]
	}
	for i := range p.Functions {
		f := &p.Functions[i]
		for _, pr := range f.Probes {
			s := Spec{Name: f.Name + "/" + pr.Name, Function: f.Name, Kind: Signal(pr.Kind), Target: pr.Target, Every: pr.Every.Longest()}
			if !watches(f, pr, nodes, self) {
				continue
			}
			s.Node = nodeOf(s, f, nodes, self)
			out = append(out, s)
		}
	}
	return append(out, fromOutside(p, self, nodes[self])...)
}

// public are the kinds by which anybody may look at a fleet from outside.
var public = []Signal{HTTPS, TCP, TLS, DNS, SMTP, SSH}

// Public reports whether a kind is for endpoints that are open to everybody:
// another fleet is looked at by no other.
func Public(kind Signal) bool { return slices.Contains(public, kind) }

// fromOutside is what a node looks at of other fleets. It shows nothing of a
// node or a function of this one, whatever it is called there.
func fromOutside(p *plan.File, self string, me *plan.Node) (out []Spec) {
	for i := range p.Watches {
		w := &p.Watches[i]
		for _, pr := range w.Probes {
			named := slices.Contains(pr.From, self) || len(pr.From) == 0 && (me == nil || !me.Isolated || len(p.Nodes) == 1)
			if !named || !Public(Signal(pr.Kind)) {
				continue
			}
			out = append(out, Spec{Name: "outside " + w.Name + "/" + pr.Name, Outside: w.Name, Kind: Signal(pr.Kind), Target: pr.Target, Every: pr.Every.Longest()})
		}
	}
	return out
}

// watches reports whether a probe is this node's.
func watches(f *plan.Function, pr plan.Probe, nodes map[string]*plan.Node, self string) bool {
	if len(pr.From) > 0 {
		return slices.Contains(pr.From, self)
	}
	if g := grammarOf(Signal(pr.Kind)); g != nil && g.local {
		return slices.Contains(f.Host, self)
	}
	isolated := len(f.Host) > 0 && !slices.ContainsFunc(f.Host, func(h string) bool { return nodes[h] == nil || !nodes[h].Isolated })
	if me := nodes[self]; me != nil && me.Isolated { // it, or the spare that may take its place
		return slices.Contains(f.Host, self) || slices.ContainsFunc(f.Fallbacks, func(b plan.Fallback) bool { return b.Node == self })
	}
	return !isolated
}

// nodeOf is the node that a probe looks at: the one that its target names, or
// this one where it looks at itself, or the only one that the function has.
func nodeOf(s Spec, f *plan.Function, nodes map[string]*plan.Node, self string) string {
	if g := grammarOf(s.Kind); g != nil && g.local {
		return self
	}
	if t, err := Parse(s.Kind, s.Target); err == nil {
		for _, name := range []string{t.Host, t.Rest} {
			if n := nodes[name]; n != nil {
				return n.Name
			}
		}
	}
	if len(f.Host) == 1 && s.Kind != DNS && s.Kind != Unreachable && !strings.Contains(s.Target, "://") {
		return f.Host[0]
	}
	return ""
}
