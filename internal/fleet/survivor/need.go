// Package survivor knows what a node needs to take over from another, who
// holds it already, and what is missing.
//
// A node that dies takes its keys with it. So each node seals what its
// survivors need (access to the key-encryption key, pepper, MAC key,
// authority, certificates, the way to the backups) to the nodes that the plan
// names as its fallbacks, to each one's own key, before anything is lost. The
// fleet's store carries the sealed bundles and can open none of them; a
// witness and an isolated node never get one.
package survivor

import (
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// Need is one node that is to take over from another.
type Need struct {
	From      string   `json:"from"`              // node whose loss it is
	To        string   `json:"to"`                // node that takes over
	Functions []string `json:"functions"`         // which it takes over
	Refused   string   `json:"refused,omitempty"` // why it must not hold what it needs, in words; empty: it may
}

// Needs lists who takes over from whom by the plan: for each function the
// other nodes that host it, and the nodes among its fallbacks. A nil plan
// needs nothing.
func Needs(p *plan.Plan) []Need {
	if p == nil {
		return nil
	}
	index := map[[2]string]int{}
	var out []Need
	for _, f := range p.Functions {
		for _, from := range f.Host {
			for _, to := range successors(&f, from) {
				k := [2]string{from, to}
				at, known := index[k]
				if !known {
					at = len(out)
					index[k] = at
					out = append(out, Need{From: from, To: to, Refused: refusal(p, from, to)})
				}
				out[at].Functions = append(out[at].Functions, f.Name)
			}
		}
	}
	for i := range out {
		slices.Sort(out[i].Functions)
	}
	slices.SortFunc(out, func(a, b Need) int {
		if c := strings.Compare(a.From, b.From); c != 0 {
			return c
		}
		return strings.Compare(a.To, b.To)
	})
	return out
}

// successors are the nodes that carry a function when one of its hosts is lost.
func successors(f *plan.Function, from string) (out []string) {
	add := func(node string) {
		if node != "" && node != from && !slices.Contains(out, node) {
			out = append(out, node)
		}
	}
	for _, host := range f.Host {
		add(host)
	}
	for _, fallback := range f.Fallbacks {
		add(fallback.Node)
	}
	return out
}

// refusal says why a node must not hold another's keys.
func refusal(p *plan.Plan, from, to string) string {
	a, b := p.Node(from), p.Node(to)
	switch {
	case a != nil && a.Isolated:
		return from + " is isolated: it shares no secret with another node"
	case b != nil && b.Isolated:
		return to + " is isolated: it shares no secret with another node"
	case b != nil && slices.Contains(b.Roles, "witness"):
		return to + " is a witness: it holds no key material"
	}
	return ""
}
