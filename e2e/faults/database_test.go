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
