//go:build faults

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/continuity/supplier/suppliertest"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// agents carry orders out in place of nodes, and note them.
type agents struct {
	mu   sync.Mutex
	done []string // node kind from
	fail error
}

// agent starts one for a node; it ends with the test or with what is given back.
func (a *agents) agent(t *testing.T, s *scene, node string, kinds ...string) (end func()) {
	t.Helper()
	carries := map[string]order.Carry{}
	for _, kind := range kinds {
		carries[kind] = func(_ context.Context, o order.Order, _ func(order.Progress)) (map[string]string, string, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.done = append(a.done, strings.TrimSpace(node+" "+kind+" "+o.Args["from"]))
			if a.fail != nil {
				return nil, "", a.fail
			}
			return map[string]string{"lost": "0"}, "It was done.", nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	agent := &order.Agent{Store: s.store, Node: node, Dir: filepath.Join(t.TempDir(), "orders"), Kinds: carries, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Plan: func(context.Context, string) (string, error) { return "", nil }}
	go func() { defer close(ended); _ = agent.Run(ctx) }()
	end = func() { cancel(); <-ended }
	t.Cleanup(end)
	return end
}

func (a *agents) carried() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.done, ", ")
}

// about is a step that is done about the loss of node5, onto node1.
func (s *scene) about(name, kind string) recovery.Task {
	return recovery.Task{Run: recovery.Run{ID: "rec-20261123-" + name, Lost: []string{"node5"}, Onto: []string{"node1"}}, Step: plan.Step{Name: kind, Kind: kind}, Plan: s.plan,
		Attempt: 1, Epoch: s.term.Epoch(), Term: s.term, Progress: func(order.Progress) {}, Ask: func(*recovery.Need) {}}
}

func (s *scene) puts(t *testing.T, path string, value any) {
	t.Helper()
	if _, err := s.store.Put(t.Context(), path, value); err != nil {
		t.Fatal(err)
	}
}

// A node that held the fleet's database is fenced when it is off, when it says
// that it has stopped, or when its lease has ended for as long as the margin;
// never because somebody waited for long enough.
func TestARecoveryFencesTheDatabaseByPowerByItselfOrByItsLeaseAndByNothingElse(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the margin of a lease")
	}
	t.Parallel()
	sim := suppliertest.NewRobot("u", "p")
	server := httptest.NewTLSServer(sim)
	defer server.Close()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("p"), 0o600); err != nil {
		t.Fatal(err)
	}
	password := config.Secret{File: path}
	s := world1(t, ContinuityConfig{Suppliers: []supplier.Config{{Name: "home-host", Kind: "hetzner-robot", User: "u", Password: password, Servers: map[string]string{"node5": "321", "node1": "322"}}}})
	s.apart = time.Millisecond
	s.machines["home-host"] = &supplier.Robot{Endpoint: server.URL, Client: server.Client(), User: "u", Password: password}
	desk := &order.Desk{Store: s.store}
	fence := s.databaseDoers(desk)["fence"].Do
	elsewhere := "no-supplier" // whose power nobody can switch
	lost := func(name, node string) recovery.Task {
		task := s.about(name, "fence")
		task.Run.Lost = []string{node}
		return task
	}
	by := func(r recovery.Receipt, err error) string {
		if err != nil || len(r.Fences) != 1 {
			return fmt.Sprintf("%+v %v", r, err)
		}
		return r.Fences[0].By
	}

	s.puts(t, databasePrimary, primaryRecord{Node: "node5", Epoch: 3})
	s.puts(t, databaseLease, primaryLease{Node: "node5", Epoch: 3})
	r, err := fence(t.Context(), lost("power", "node5"))
	if by(r, err) != recovery.FencedByPower || r.Fences[0].Facts["state"] != "off" || sim.Word(321) == "" {
		t.Errorf("a node that can be switched off is fenced by %s", by(r, err))
	}
	s.puts(t, databaseLease, primaryLease{Node: "node9", Epoch: 4})
	if r, err = fence(t.Context(), lost("another", elsewhere)); by(r, err) != recovery.FencedByLease || r.Fences[0].Facts["lease_of"] != "node9" {
		t.Errorf("a node whose lease another holds is fenced by %s", by(r, err))
	}
	// A supplier that does not say how the power is shows nothing: the lease does.
	if r, err = fence(t.Context(), lost("blind", "node1")); by(r, err) != recovery.FencedByLease {
		t.Errorf("a node of whose power nothing is known is fenced by %s", by(r, err))
	}

	s.puts(t, databaseLease, primaryLease{Node: elsewhere, Epoch: 5})
	short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	r, err = fence(short, lost("held", elsewhere))
	cancel()
	if codeOf(err) != "database-lease-held" || len(r.Fences) != 0 {
		t.Errorf("a node that holds its lease is fenced by %s", by(r, err))
	}
	var a agents
	end := a.agent(t, s, elsewhere, "database-fence")
	if r, err = fence(t.Context(), lost("itself", elsewhere)); by(r, err) != recovery.FencedByItself || a.carried() != elsewhere+" database-fence" {
		t.Errorf("a node that answers is fenced by %s, carried out %q", by(r, err), a.carried())
	}
	end()

	// The lease ends while it is waited for: the margin counts from then.
	began, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		close(began)
		r, err = fence(t.Context(), lost("ended", elsewhere))
	}()
	<-began
	for _, given := range []bool{true, false} { // what it is asked it does not hear, and nothing but the margin is waited for
		membertest.Await(t, "the node is asked to stop by itself, and no more", func(ctx context.Context) bool {
			all, _, err := s.store.List(ctx, "orders/"+elsewhere+"/")
			return err == nil && given == slices.ContainsFunc(all, func(e member.Entry) bool { return strings.Contains(e.Path, "ended") })
		})
	}
	gone := db.Now()
	if err := s.store.Delete(t.Context(), databaseLease); err != nil {
		t.Fatal(err)
	}
	<-over
	if by(r, err) != recovery.FencedByLease || r.Fences[0].Facts["lease"] != "ended" || -gone.Left() < databaseMargin {
		t.Errorf("fenced by %s, %s after its lease had ended", by(r, err), -gone.Left())
	}
}

// What concerns the fleet's database is ordered from the nodes that it concerns;
// without one, or where its node is not lost, people do it.
func TestARecoveryRestoresPromotesAndComparesTheDatabaseByOrders(t *testing.T) {
	if testing.Short() {
		t.Skip("belongs to the slow suite of recoveries")
	}
	t.Parallel()
	s := world1(t, ContinuityConfig{})
	doers := s.databaseDoers(&order.Desk{Store: s.store})
	hand := func(name, kind string, change func(*recovery.Task)) {
		t.Helper()
		task := s.about(name, kind)
		if change != nil {
			change(&task)
		}
		r, err := doers[kind].Do(t.Context(), task)
		var p *problem.Error
		if err == nil || errors.As(err, &p) || len(r.Fences) != 0 {
			t.Errorf("%s %s: %+v %v, want a person", name, kind, r, err)
		}
	}
	for _, kind := range []string{"restore", "promote", "reconcile", "fence"} {
		hand("none", kind, nil) // there is no database of the fleet
	}
	s.puts(t, databasePrimary, primaryRecord{Node: "node5", Epoch: 3})
	nowhere := func(task *recovery.Task) { task.Run.Onto = nil }
	hand("nowhere", "restore", nowhere)
	hand("nowhere", "promote", nowhere)
	hand("alive", "restore", func(task *recovery.Task) { task.Run.Lost = []string{"node7"} })
	s.puts(t, "nodes/node5", member.Node{Name: "node5", Roles: []member.Role{member.Gateway}})
	s.puts(t, "nodes/node6", member.Node{Name: "node6", Roles: []member.Role{member.Witness}})

	var a agents
	a.agent(t, s, "node1", "database-restore", "database-promote", "database-reconcile")
	for _, kind := range []string{"restore", "promote", "reconcile"} {
		r, err := doers[kind].Do(t.Context(), s.about("ordered", kind))
		if err != nil || r.Words == "" {
			t.Fatalf("%s: %+v %v", kind, r, err)
		}
		if kind == "reconcile" && (r.Facts["node1.lost"] != "0" || !strings.Contains(r.Words, "node5")) {
			t.Errorf("what the lost disk holds is not said to be unknown: %+v", r)
		}
	}
	if got := a.carried(); got != "node1 database-restore node5, node1 database-promote, node1 database-reconcile" {
		t.Errorf("carried out: %s", got)
	}
	a.mu.Lock()
	a.fail = problem.New(problem.Conflict, "database-nothing", "There is nothing to start on this node.")
	a.mu.Unlock()
	for _, kind := range []string{"restore", "promote", "reconcile"} {
		if _, err := doers[kind].Do(t.Context(), s.about("failing", kind)); err == nil || !strings.Contains(err.Error(), "nothing to start") {
			t.Errorf("%s of a node that failed: %v", kind, err)
		}
	}
	if destroys, words, err := doers["restore"].Destroys(t.Context(), s.about("x", "restore")); destroys || words == "" || err != nil {
		t.Errorf("a restore puts aside and removes nothing: %v %q %v", destroys, words, err)
	}
}
