package survivor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/plantest"
	"pgregory.net/rapid"
)

// theThree is a plan of two nodes that serve, a witness and an isolated node.
const theThree = `
version: 1
organisation: {name: Nordhaven, country: DK, owner: head}
people: [{name: head}]
nodes:
  - {name: node1, roles: [gateway, fleet]}
  - {name: node2, roles: [gateway, fleet]}
  - {name: node3, roles: [witness]}
  - {name: alone, roles: [gateway, fleet], isolated: true}
functions:
  - {name: platform, host: [node1], fallbacks: [{node: node2}, {node: node3}, {node: alone}]}
  - {name: database, host: [node1, node2]}
  - {name: apart, host: [alone], fallbacks: [{node: node1}]}
`

func parse(t testing.TB, text string) *plan.Plan {
	t.Helper()
	p, err := plan.Parse("plan.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryHostAndFallbackIsASurvivorAndSomeMustHoldNothing(t *testing.T) {
	var got []string
	for _, n := range Needs(parse(t, theThree)) {
		line := fmt.Sprintf("%s <- %s: %s", n.To, n.From, strings.Join(n.Functions, " "))
		if n.Refused != "" {
			line += ": " + n.Refused
		}
		got = append(got, line)
	}
	want := []string{
		"node1 <- alone: apart: alone is isolated: it shares no secret with another node",
		"alone <- node1: platform: alone is isolated: it shares no secret with another node",
		"node2 <- node1: database platform",
		"node3 <- node1: platform: node3 is a witness: it holds no key material",
		"node1 <- node2: database",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWithoutAPlanNobodyIsASurvivor(t *testing.T) {
	if n := Needs(nil); n != nil {
		t.Errorf("%+v", n)
	}
}

// Whatever the plan says, no need that is not refused touches an isolated node
// or a witness, none is of a node on itself, and each pair comes once.
func TestNoPlanMakesASurvivorOfAnIsolatedNodeOrAWitness(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := plantest.Random(func(n int) int { return rapid.IntRange(0, n-1).Draw(r, "choice") })
		text, err := plantest.Write(f)
		if err != nil {
			r.Fatal(err)
		}
		p, err := plan.Parse("plan.yaml", text)
		if err != nil {
			r.Skip("not a plan")
		}
		seen := map[[2]string]bool{}
		for _, n := range Needs(p) {
			if n.From == n.To || seen[[2]string{n.From, n.To}] || len(n.Functions) == 0 {
				r.Fatalf("%+v", n)
			}
			seen[[2]string{n.From, n.To}] = true
			from, to := p.Node(n.From), p.Node(n.To)
			forbidden := from.Isolated || to.Isolated || slices.Contains(to.Roles, "witness")
			if forbidden == (n.Refused == "") {
				r.Fatalf("%+v", n)
			}
		}
	})
}
