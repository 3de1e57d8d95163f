package sandbox

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/plan"
)

// Who holds the leader's key before the server is promoted takes no writes yet.
func TestTheDatabaseIsOnANodeOnceItsTimelineHasBegun(t *testing.T) {
	var was led
	for i, c := range []struct {
		leader   string
		timeline int64
		want     string
	}{
		{"", 0, ""},
		{"one", 1, "one"},
		{"one", 0, "one"}, // its own key in the store says nothing for a moment
		{"", 0, ""},
		{"two", 1, ""},
		{"two", 2, "two"},
		{"one", 1, ""}, // somebody who has not heard
		{"two", 2, "two"},
		{"one", 3, "one"},
	} {
		if got := was.settle(c.leader, c.timeline); got != c.want {
			t.Errorf("look %d, %q on timeline %d: it is on %q, want %q", i, c.leader, c.timeline, got, c.want)
		}
	}
}

// kept is a sandbox as newLab makes it, of which nothing runs.
func kept(t *testing.T) *Lab {
	t.Helper()
	s, err := scenario.Find("primary-lost-patroni")
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{o: Options{Scenario: s}, dir: t.TempDir(), net: &network{prefix: "127.9.9.", size: len(s.Fleet.Nodes)}, models: &models{addr: "127.9.9.10:1"}}
	for i, n := range s.Fleet.Nodes {
		made := newNode(l, i+1, n)
		made.keeper = &keeper{}
		l.nodes = append(l.nodes, made)
	}
	return l
}

func TestThePlanOfASandboxWithPatroniRestoresNothing(t *testing.T) {
	l := kept(t)
	path, err := file(l.dir, "plan.yaml", l.plan())
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Load(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, l.plan())
	}
	var kinds []string
	for _, s := range p.RecoveryPlan(planRecovery).Steps {
		kinds = append(kinds, s.Kind)
	}
	if got := strings.Join(kinds, " "); got != "confirm fence promote validate notify reconcile" {
		t.Errorf("steps: %s", got)
	}
}

func TestAMemberOfASandboxWithPatroniIsAGatewayOnceThereIsADatabase(t *testing.T) {
	l := kept(t)
	one := l.nodes[0]
	one.bare = true
	bare := l.configuration(one)
	one.bare = false
	whole := l.configuration(one)
	if !strings.Contains(bare, "database: {patroni: {}}") || strings.Contains(bare, "dsn") || strings.Contains(bare, "https") {
		t.Errorf("a member's configuration:\n%s", bare)
	}
	if !strings.Contains(whole, "dsn: host=127.9.9.11,127.9.9.12,127.9.9.13 ") || !strings.Contains(whole, filepath.Join(l.dir, "database.password")) || strings.Contains(whole, "lease:") {
		t.Errorf("a gateway's configuration:\n%s", whole)
	}
	if f, err := l.founder(); err != nil || f.name != "three" || strings.Join(one.withoutGateway(), ",") != "fleet" || one.rolesText() != "gateway,fleet" {
		t.Errorf("founded by %v, %v; one is %s, %s", f, err, one.rolesText(), one.withoutGateway())
	}
}
