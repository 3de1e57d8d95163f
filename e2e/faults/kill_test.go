//go:build faults

package faults

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// readyAgain is how soon a node must answer again after it was stopped. It
// takes about a second; this is where a machine that does much else says that
// something hangs.
const readyAgain = 20 * time.Second

// Killed at any moment, with the database there or frozen, a node loses no
// request that was answered or that went to a provider, repeats none, and is
// back soon.
func TestANodeThatIsKilledLosesNothing(t *testing.T) {
	for name, before := range map[string]func(server int){
		"in normal load": func(int) {},
		// Nobody thaws it: it is an orphan that the next start has to get rid
		// of by itself.
		"while its database is frozen": func(server int) {
			signalAll(family(server), syscall.SIGSTOP)
			pass(time.Second)
		},
		"while its database is being started again": func(server int) { _ = syscall.Kill(server, syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Slow enough that several requests are under way at any moment.
			v := newVendor(t, simulator.Options{FirstByte: 60 * time.Millisecond, BetweenChunks: time.Millisecond})
			n := newNode(t, thirdParty(v, ""))
			n.start()
			org, key := n.newClient()
			n.must("POST", "/budgets", map[string]any{"organisation": org, "period": "day", "limit": "1000.00"}, nil)
			l := newLoad(n, key.Token, 150)
			rounds := 6
			if testing.Short() {
				rounds = 3
			}
			var slowest time.Duration
			for range rounds {
				l.begin()
				l.flows(t)
				server := n.postmaster()
				before(server)
				pass(rand.N(400 * time.Millisecond))
				n.kill()
				l.end()
				n.start()
				slowest = max(slowest, n.Ready)
				if now := n.postmaster(); now == server {
					t.Errorf("the database server %d of the killed node is still in use", server)
				}
				if err := syscall.Kill(server, 0); err == nil && isServer(server, n.data()) {
					t.Errorf("the database server %d of the killed node still runs beside the new one", server)
				}
			}
			l.begin()
			l.flows(t)
			l.end()
			n.settled()
			b := l.audit(t, org, v, true)
			unknown := 0
			for _, rows := range b {
				if rows[0].State == ledger.StateUnknown {
					unknown++
				}
			}
			// Fewer, if a kill came between the sweep and its log line.
			if swept := n.log.swept(); swept == 0 || swept > unknown {
				t.Errorf("%d outcomes were swept, %d requests have an unknown outcome", swept, unknown)
			}
			if unknown == 0 {
				t.Error("no kill hit a request under way: this test did not test")
			}
			if slowest > 2*readyAgain { // a killed database server recovers first
				t.Errorf("a node was ready %s after it was killed, want %s", slowest, 2*readyAgain)
			}
			t.Logf("%d kills, %d requests, %d with unknown outcome; slowest start %s", rounds, len(b), unknown, slowest.Round(time.Millisecond))
		})
	}
}

// isServer reports whether a process is a PostgreSQL server below a directory.
func isServer(pid int, dir string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(line), dir)
}

// A second start after a clean end is quick.
func TestASecondStartIsQuick(t *testing.T) {
	n := newNode(t, "")
	n.start()
	first := n.Ready
	if code := n.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	n.start()
	t.Logf("ready %s after the first start, %s after the second", first.Round(time.Millisecond), n.Ready.Round(time.Millisecond))
	if n.Ready > readyAgain {
		t.Errorf("the second start took %s, want %s", n.Ready, readyAgain)
	}
}

// A database server that is killed is started again, and nothing is lost.
func TestADatabaseServerThatIsKilledComesBack(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{})
	n := newNode(t, thirdParty(v, ""))
	n.start()
	org, key := n.newClient()
	n.must("POST", "/budgets", map[string]any{"organisation": org, "period": "day", "limit": "1000.00"}, nil)
	l := newLoad(n, key.Token, 150)
	l.begin()
	l.flows(t)
	kills := 4
	if testing.Short() {
		kills = 2
	}
	for i := range kills {
		server := n.postmaster()
		if err := syscall.Kill(server, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		back := eventually(t, "the server to be started again", func() (bool, string) {
			s := n.status()
			return s.Database.Healthy && s.Database.PID != 0 && s.Database.PID != server && s.Database.Restarts == i+1, fmt.Sprintf("%+v", s.Database)
		})
		t.Logf("the database was back after %s", back.Round(time.Millisecond))
	}
	l.flows(t)
	l.end()
	n.settled()
	for _, a := range l.all() {
		if a.status != http.StatusOK {
			t.Fatalf("not every request succeeded: %s", tally(l.all()))
		}
	}
	l.audit(t, org, v, false)
	n.spendingAddsUp(org)
}
