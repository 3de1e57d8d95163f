//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Two people change the plan on two nodes at the same moment, each from the one
// in force, and two others approve both at once. One of the two comes into
// force after the other, nobody is told otherwise anywhere, and the whole fleet
// watches by the same.
func TestAPlanThatIsChangedOnTwoNodesAtOnceIsOnePlan(t *testing.T) {
	t.Parallel()
	first := newNode(t, doorsOf(t, "node-1"))
	first.start()
	second := newNode(t, fmt.Sprintf("database: {dsn: \"host=%s/postgres/run port=5432 sslmode=disable dbname=foundry\"}\n%s", first.data(), doorsOf(t, "node-2")))
	copyKeys(t, first, second)
	token := strings.Fields(first.say("node", "invite", "node-2", "--roles", "gateway,fleet"))[0]
	if s := second.run("node", "join", token, "--config", second.config); s.code != 0 {
		t.Fatal(s.err)
	}
	second.start()
	submit := func(n *node, name, text string) string {
		t.Helper()
		path := filepath.Join(n.dir, name+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var r struct {
			Revision struct{ ID string } `json:"revision"`
			ID       string              `json:"id"`
		}
		out := n.say("plan", "submit", path, "--note", "Changed on a node.", "--json")
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.ID+r.Revision.ID == "" {
			t.Fatalf("%v: %s", err, out)
		}
		return r.ID + r.Revision.ID
	}
	first.say("plan", "approve", submit(first, "plan", theTakeOver), "--reason", "The first.")
	for round := range 4 {
		by, function := map[*node]string{}, map[string]string{}
		var both sync.WaitGroup
		var mu sync.Mutex
		for n, name := range map[*node]string{first: fmt.Sprint("one-", round), second: fmt.Sprint("two-", round)} {
			both.Go(func() {
				id := submit(n, fmt.Sprint("plan", round), strings.Replace(theTakeOver, "name: platform", "name: "+name, 1))
				mu.Lock()
				by[n], function[id] = id, name
				mu.Unlock()
			})
		}
		both.Wait()
		approved := map[*node]said{}
		for n, other := range map[*node]*node{first: second, second: first} {
			both.Go(func() {
				s := n.run("plan", "approve", by[other], "--reason", "Agreed.") // each what the other wrote
				mu.Lock()
				approved[n] = s
				mu.Unlock()
			})
		}
		both.Wait()
		for n, s := range approved {
			if s.code != 0 && !strings.Contains(s.err, "→") {
				t.Errorf("round %d: %s was neither taken nor refused with words: %d: %s", round, n.url, s.code, s.err)
			}
		}
		var revisions []struct{ ID, State string }
		list := first.say("plan", "revisions", "--json")
		if err := json.Unmarshal([]byte(list), &revisions); err != nil {
			t.Fatalf("%v: %s", err, list)
		}
		inForce, watched := 0, ""
		for _, r := range revisions {
			if r.State == "in-force" {
				inForce, watched = inForce+1, function[r.ID]
			}
		}
		if inForce != 1 || watched == "" {
			t.Fatalf("round %d: %d plans are in force: %s", round, inForce, list)
		}
		for _, n := range []*node{first, second} {
			eventually(t, fmt.Sprintf("round %d: every node to watch by the plan in force", round), func() (bool, string) {
				s := n.run("fleet", "status")
				return strings.Contains(s.out, watched), "want " + watched + ": " + s.out + s.err
			})
		}
	}
}
