//go:build faults

package faults

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// drainTime is how long a node that stops waits for requests in flight.
const drainTime = 10 * time.Second

// A node that is asked to stop lets what is under way finish, ends what would
// take too long with an error that the client sees, records every outcome and
// leaves nothing behind.
func TestStoppingLetsStreamsFinishOrTellsTheirClients(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{})
	n := newNode(t, thirdParty(v, ""))
	n.start()
	org, key := n.newClient()
	server := n.postmaster()
	const hanging, mute, brief = firstNumber + 1, firstNumber + 2, firstNumber + 3
	answers := make(chan answer, 3)
	for number, fault := range map[int]string{hanging: "stall chunk=2", mute: "hang-before-headers", brief: "stall chunk=2 for=2s"} {
		v.Next(simulator.MustFault(fault))
		go func() { answers <- n.ask(context.Background(), key.Token, "m", number, number != mute, "Hello") }()
		eventually(t, "the request to reach the provider", func() (bool, string) {
			return arrivals(t, v)[number] == 1, fmt.Sprint(arrivals(t, v))
		})
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	began := time.Now()
	eventually(t, "new connections to be refused", func() (bool, string) {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(n.url, "https://"), time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil, "it still listens"
	})
	got := map[int]answer{}
	for range 3 {
		a := <-answers
		got[a.number] = a
	}
	if code := n.wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	took := time.Since(began)
	if took < drainTime || took > drainTime+8*time.Second {
		t.Errorf("stopping took %s", took)
	}
	if a := got[brief]; a.status != http.StatusOK || !a.whole || a.broken {
		t.Errorf("a stream that had time to finish: %+v", a)
	}
	if a := got[hanging]; a.status != http.StatusOK || !a.broken || a.whole || a.err != nil {
		t.Errorf("a stream that had no time to finish was not ended by an error event: %+v", a)
	}
	if a := got[mute]; a.status != http.StatusServiceUnavailable || a.code != "node-stopping" {
		t.Errorf("a request that had no time to finish: %+v", a)
	}
	if syscall.Kill(server, 0) == nil && isServer(server, n.data()) {
		t.Error("the database server still runs")
	}
	l, err := net.Listen("tcp", strings.TrimPrefix(n.url, "https://"))
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	l.Close()
	n.start()
	n.settled()
	b := n.ledgerOf(org)
	for number, want := range map[int]string{brief: ledger.StateOK, hanging: ledger.Failed.String(), mute: ledger.Failed.String()} {
		if rows := b[number]; len(rows) != 1 || rows[0].State != want {
			t.Errorf("request %d: %+v; want one row that says %q", number, rows, want)
		}
	}
	if n.log.swept() != 0 {
		t.Error("an orderly stop left unknown outcomes")
	}
}

// Whoever cannot wait for the drain asks twice: that is a kill, and no worse.
func TestASecondSignalEndsANodeAtOnce(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{})
	n := newNode(t, thirdParty(v, ""))
	n.start()
	org, key := n.newClient()
	v.Next(simulator.MustFault("stall chunk=2"))
	go n.ask(context.Background(), key.Token, "m", firstNumber+1, true, "Hello")
	eventually(t, "the request to reach the provider", func() (bool, string) { return arrivals(t, v)[firstNumber+1] == 1, "" })
	began := time.Now()
	_ = n.cmd.Process.Signal(syscall.SIGINT)
	eventually(t, "the node to end at a further signal", func() (bool, string) {
		_ = n.cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-n.exited:
			return true, ""
		default:
			return false, "it runs"
		}
	})
	if took := time.Since(began); took > drainTime/2 {
		t.Errorf("it took %s", took)
	}
	n.wait()
	n.start()
	eventually(t, "one row with an unknown outcome", func() (bool, string) {
		rows := n.ledgerOf(org)[firstNumber+1]
		return len(rows) == 1 && rows[0].State == ledger.StateUnknown, fmt.Sprintf("%+v", rows)
	})
}

// A start that is interrupted or killed, at any moment, leaves nothing in the
// way of the next.
func TestAStartThatIsInterruptedLeavesNothingInTheWay(t *testing.T) {
	t.Parallel()
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	n := newNode(t, "")
	for i := range rounds {
		if i%4 == 0 {
			_ = os.RemoveAll(n.data())
		}
		signal := []os.Signal{syscall.SIGTERM, syscall.SIGKILL}[i%2]
		cmd := exec.Command(binary, "up", "--config", n.config, "--data-dir", n.data())
		cmd.Stdout, cmd.Stderr = io.Discard, n.log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pass(rand.N(1500 * time.Millisecond))
		_ = cmd.Process.Signal(signal)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Fatal("a start that was interrupted goes on")
		}
		if code := cmd.ProcessState.ExitCode(); signal == syscall.SIGTERM && code != 0 && code != 75 && code != -1 {
			t.Errorf("an interrupted start: exit code %d", code)
		}
	}
	n.start()
	n.settled()
	var list []struct{ Name string }
	n.must("GET", "/organisations", nil, &list)
	first := 0
	for _, o := range list {
		switch o.Name {
		case daemon.FirstOrganisation:
			first++
		case daemon.ProbeOrganisation: // made by the first look at the controls, whenever that is
		default:
			t.Errorf("nobody made %s", o.Name)
		}
	}
	if first != 1 {
		t.Errorf("organisations after interrupted starts: %+v, want the first one once", list)
	}
}

// SIGTERM under load costs nobody an answer that was begun.
func TestStoppingUnderLoadCutsNobody(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{FirstByte: 20 * time.Millisecond, BetweenChunks: 5 * time.Millisecond})
	n := newNode(t, thirdParty(v, ""))
	n.start()
	org, key := n.newClient()
	l := newLoad(n, key.Token, 100)
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		l.begin()
		l.flows(t)
		if code := n.stop(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		l.end()
		n.start()
	}
	n.settled()
	l.audit(t, org, v, false)
}

// A revocation is heard within a second, and a new key works at once.
func TestARevocationIsHeardWithinASecond(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{})
	n := newNode(t, thirdParty(v, ""))
	n.start()
	org, key := n.newClient()
	l := newLoad(n, key.Token, 100)
	l.begin()
	l.flows(t)
	var slowest time.Duration
	for i := range 10 {
		fresh := n.newKey(org)
		if a := n.ask(t.Context(), fresh.Token, "m", firstNumber*1000+i, false, "Hello"); a.status != http.StatusOK {
			t.Fatalf("a new key was answered %d %s", a.status, a.code)
		}
		n.must("DELETE", "/keys/"+url.PathEscape(fresh.ID), nil, nil)
		heard := eventually(t, "the revocation to be heard", func() (bool, string) {
			a := n.ask(t.Context(), fresh.Token, "m", firstNumber*1000+100+i, false, "Hello")
			return a.status == http.StatusUnauthorized, fmt.Sprint(a.status)
		})
		slowest = max(slowest, heard)
		// Once heard, it stays heard, whatever else changes meanwhile.
		for j := range 5 {
			n.newKey(org)
			if a := n.ask(t.Context(), fresh.Token, "m", firstNumber*1000+1000+10*i+j, false, "Hello"); a.status != http.StatusUnauthorized {
				t.Fatalf("a revoked key works again: %d", a.status)
			}
		}
	}
	l.end()
	t.Logf("the slowest of ten revocations was heard after %s", slowest)
	if slowest > time.Second {
		t.Errorf("a revocation was heard after %s, want a second", slowest)
	}
	for _, a := range l.all() {
		if a.status != http.StatusOK {
			t.Fatalf("another key was answered %d %s", a.status, a.code)
		}
	}
}

// A key is revoked on one node for every node of the same database.
func TestARevocationIsHeardByAnotherNode(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{})
	first := newNode(t, thirdParty(v, ""))
	first.start()
	// The second node uses the first one's database, but has keys of its own:
	// what it needs to know them is copied, as for a node of the same fleet.
	_, key := first.newClient()
	if a := first.ask(t.Context(), key.Token, "m", firstNumber, false, "Hello"); a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	second := newNode(t, fmt.Sprintf("database: {dsn: \"host=%s/postgres/run port=5432 sslmode=disable dbname=foundry\"}\n%s", first.data(), thirdParty(v, "")))
	copyKeys(t, first, second)
	second.start()
	if a := second.ask(t.Context(), key.Token, "m", firstNumber+1, false, "Hello"); a.status != http.StatusOK {
		t.Fatalf("another node of the fleet answered %d %s", a.status, a.code)
	}
	first.must("DELETE", "/keys/"+url.PathEscape(key.ID), nil, nil)
	heard := eventually(t, "the other node to hear the revocation", func() (bool, string) {
		a := second.ask(t.Context(), key.Token, "m", firstNumber+2, false, "Hello")
		return a.status == http.StatusUnauthorized, fmt.Sprint(a.status)
	})
	t.Logf("the other node heard it after %s", heard)
	if heard > time.Second {
		t.Errorf("the other node heard a revocation after %s, want a second", heard)
	}
	second.stop()
}

// A first start that was killed after it made the organisation and before it
// made the key leaves the key to the next one.
func TestAFirstStartThatWasKilledHalfWayStillGivesAKey(t *testing.T) {
	t.Parallel()
	s := dbtest.NewServer(t)
	if _, err := dbtest.Superuser(t, s.Config()).Exec(t.Context(), "insert into organisations (id, name) values (gen_random_uuid(), 'default')"); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, fmt.Sprintf("database: {dsn: %q}\nproviders: [{name: simulator, kind: simulator}]", s.Config().DSN))
	n.start()
	if n.FirstKey == "" {
		t.Fatal("no key was made")
	}
	if a := n.ask(t.Context(), n.FirstKey, "simulator-chat", 50, false, "Hello"); a.status != http.StatusOK {
		t.Errorf("the first key: %d %s", a.status, a.code)
	}
	first := n.FirstKey
	n.stop()
	n.start()
	if n.FirstKey != first {
		t.Error("a second start made another key")
	}
}
