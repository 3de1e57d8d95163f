//go:build faults

package faults

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// brief is d, or less of it in the short pass.
func brief(d time.Duration) time.Duration {
	if testing.Short() {
		return d / 2
	}
	return d
}

// An outage within what keys, budgets and journal allow costs no request and
// no row.
func TestADatabaseThatIsAwayCostsNoRequest(t *testing.T) {
	external := func(t *testing.T) (string, *dbtest.Server) {
		s := dbtest.NewServer(t)
		return fmt.Sprintf("database: {dsn: %q}\n", s.Config().DSN), s
	}
	private := func(*testing.T) (string, *dbtest.Server) { return "", nil }
	for _, test := range []struct {
		name   string
		where  func(*testing.T) (string, *dbtest.Server)
		outage func(n *node, s *dbtest.Server) (end func())
	}{
		{"because an external server is stopped", external, func(_ *node, s *dbtest.Server) func() {
			s.Stop()
			return s.Start
		}},
		{"because an external server is frozen", external, func(_ *node, s *dbtest.Server) func() {
			s.SignalAll(syscall.SIGSTOP)
			return func() { s.SignalAll(syscall.SIGCONT) }
		}},
		{"because the private server is frozen", private, func(n *node, _ *dbtest.Server) func() {
			all := family(n.postmaster())
			signalAll(all, syscall.SIGSTOP)
			return func() { signalAll(all, syscall.SIGCONT) }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t, simulator.Options{})
			where, server := test.where(t)
			n := newNode(t, where+thirdParty(v, ""))
			n.start()
			org, key := n.newClient()
			n.must("POST", "/budgets", map[string]any{"organisation": org, "period": "day", "limit": "1000.00"}, nil)
			l := newLoad(n, key.Token, 150)
			l.begin()
			l.flows(t)
			end := test.outage(n, server)
			began := time.Now()
			eventually(t, "the outage to be noticed", func() (bool, string) {
				r, err := n.readiness()
				return err == nil && !r.Database && r.Status == "degraded", fmt.Sprintf("%+v %v", r, err)
			})
			pass(brief(6 * time.Second))
			during := l.since(began)
			end()
			l.flows(t)
			l.end()
			n.settled()
			if len(during) < 100 {
				t.Errorf("only %d requests were sent during the outage", len(during))
			}
			for _, a := range l.all() {
				if a.status != http.StatusOK {
					t.Fatalf("not every request succeeded: %s; during the outage: %s", tally(l.all()), tally(during))
				}
			}
			l.audit(t, org, v, false)
			n.spendingAddsUp(org)
			t.Logf("%d requests, %d of them during the outage", len(l.all()), len(during))
		})
	}
}

// spendingAddsUp compares the budget's account with the ledger's rows.
func (n *node) spendingAddsUp(org string) {
	n.t.Helper()
	b := n.ledgerOf(org)
	var cost, spent int64
	for _, rows := range b {
		for _, r := range rows {
			cost += r.CostNano
		}
	}
	eventually(n.t, "spending to be reported", func() (bool, string) {
		spent = n.spent(org)
		return spent == cost, fmt.Sprintf("the budget says %d, the ledger adds up to %d", spent, cost)
	})
}

func (n *node) spent(org string) int64 {
	n.t.Helper()
	var list []struct {
		ID           string
		Organisation string
		SpentNano    int64 `json:"spent_nano"`
	}
	n.must("GET", "/budgets", nil, &list)
	id := n.orgID(org)
	for _, b := range list {
		if b.Organisation == id {
			return b.SpentNano
		}
	}
	n.t.Fatalf("%s has no budget: %+v", org, list)
	return 0
}

func (n *node) orgID(name string) string {
	n.t.Helper()
	var o struct{ ID string }
	n.must("GET", "/organisations/"+name, nil, &o)
	return o.ID
}

// Keys and policies are trusted for so long without a database and no longer:
// then requests are refused as unavailable, never as unknown keys.
func TestKeysAreTrustedOnlyForTheSnapshotsAge(t *testing.T) {
	t.Parallel()
	const age = 4 * time.Second
	v := newVendor(t, simulator.Options{})
	s := dbtest.NewServer(t)
	n := newNode(t, fmt.Sprintf("database: {dsn: %q}\n%s", s.Config().DSN, thirdParty(v, fmt.Sprintf("limits: {snapshot_age: %s}", age))))
	n.start()
	org, key := n.newClient()
	l := newLoad(n, key.Token, 50)
	l.begin()
	l.flows(t)
	connected := time.Now()
	pass(age + time.Second) // connected, the age limit must never be reached
	for _, a := range l.since(connected) {
		if a.status != http.StatusOK {
			t.Fatalf("with the database there, a request was answered %d %s", a.status, a.code)
		}
	}
	s.Stop()
	stopped := time.Now()
	var first time.Time
	eventually(t, "requests to be refused", func() (bool, string) {
		for _, a := range l.since(stopped) {
			if a.code == "snapshot-too-old" {
				first = a.at
				return true, ""
			}
		}
		return false, tally(l.since(stopped))
	})
	if lasted := first.Sub(stopped); lasted < age/2 || lasted > age+2*time.Second {
		t.Errorf("keys were trusted for %s without a database, the limit is %s", lasted, age)
	}
	if r, err := n.readiness(); err != nil || r.Status != "unready" {
		t.Errorf("the node calls itself %q, %v; want unready", r.Status, err)
	}
	s.Start()
	l.flows(t)
	l.end()
	n.settled()
	for _, a := range l.all() {
		if a.status != http.StatusOK && (a.status != http.StatusServiceUnavailable || a.code != "snapshot-too-old") {
			t.Fatalf("a request was answered %d %s (%v)", a.status, a.code, a.err)
		}
	}
	l.audit(t, org, v, false)
}

// What is leased may be spent without a database, and not a nano-unit more.
func TestABudgetLeaseIsSpentAndNoMore(t *testing.T) {
	t.Parallel()
	const limit = 10_000_000_000 // nano: 10.00
	v := newVendor(t, simulator.Options{})
	s := dbtest.NewServer(t)
	n := newNode(t, fmt.Sprintf("database: {dsn: %q}\n%s", s.Config().DSN, thirdParty(v, "")))
	n.start()
	org, key := n.newClient()
	n.must("POST", "/budgets", map[string]any{"organisation": org, "period": "day", "limit": "10.00"}, nil)
	// An answer to this costs what it may: a hundred thousand tokens are 0.1.
	ask := func(number int) answer {
		return n.ask(t.Context(), key.Token, "m", number, false, "Hello")
	}
	v.Clear()
	if a := ask(100_000); a.status != http.StatusOK {
		t.Fatalf("with the database there: %+v", a)
	}
	s.Stop()
	eventually(t, "the outage to be noticed", func() (bool, string) {
		r, err := n.readiness()
		return err == nil && !r.Database, fmt.Sprint(r, err)
	})
	// Reservations that are held: each of these hangs, so that its worst case
	// stays reserved.
	v.Always(simulator.MustFault("hang-before-headers"))
	ctx, leave := contextOf(t)
	results := make(chan answer, 400)
	sent := 0
	refused := func() (answer, bool) {
		select {
		case a := <-results:
			return a, true
		default:
			return answer{}, false
		}
	}
	var last answer
	for ; sent < 300; sent++ {
		number := 100_001 + sent
		go func() { results <- n.ask(ctx, key.Token, "m", number, false, "Hello") }()
		eventually(t, "a request to arrive or to be refused", func() (bool, string) {
			if a, ok := refused(); ok {
				last = a
				return true, ""
			}
			return arrivals(t, v)[number] == 1, "neither"
		})
		if last.status != 0 {
			break
		}
	}
	if last.status != http.StatusTooManyRequests && last.status != http.StatusServiceUnavailable {
		t.Fatalf("after %d requests the answer was %d %s; want a refusal for the budget", sent, last.status, last.code)
	}
	t.Logf("%d requests of 0.10 passed without a database, then: %d %s", sent, last.status, last.code)
	if sent == 0 || sent > 100 {
		t.Errorf("%d requests of at most 0.10 each passed on a budget of 10.00", sent)
	}
	leave()
	v.Clear()
	s.Start()
	eventually(t, "the budget to be leased again", func() (bool, string) {
		a := ask(200_000)
		return a.status == http.StatusOK, fmt.Sprint(a.status, " ", a.code)
	})
	n.settled()
	if spent := n.spent(org); spent > limit {
		t.Errorf("%d were spent of %d", spent, limit)
	}
}

// A node that starts while its database is away answers from the snapshot,
// can be stopped in that state, and brings the database up to date later.
func TestANodeStartsAndStopsWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{})
	s := dbtest.NewServer(t)
	n := newNode(t, fmt.Sprintf("database: {dsn: %q}\n%s", s.Config().DSN, thirdParty(v, "")))
	n.start()
	org, key := n.newClient()
	l := newLoad(n, key.Token, 50)
	if a := l.one(); a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	s.Stop()
	for _, how := range []string{"stopped", "killed"} {
		if how == "stopped" {
			if code := n.stop(); code != 0 {
				t.Fatalf("stopping without a database: exit code %d", code)
			}
		} else {
			n.kill()
		}
		n.start()
		t.Logf("ready %s after it was %s, without a database", n.Ready.Round(time.Millisecond), how)
		for range 10 {
			if a := l.one(); a.status != http.StatusOK {
				t.Fatalf("after a start without a database: %d %s %v", a.status, a.code, a.err)
			}
		}
	}
	if code := n.stop(); code != 0 {
		t.Fatalf("stopping a node that never saw its database: exit code %d", code)
	}
	n.start()
	s.Start()
	n.settled()
	eventually(t, "what earlier starts left to be shipped", func() (bool, string) {
		have := len(n.ledgerOf(org))
		return have == len(l.all()), fmt.Sprintf("%d of %d", have, len(l.all()))
	})
	l.audit(t, org, v, true)
}
