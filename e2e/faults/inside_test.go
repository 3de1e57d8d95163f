//go:build faults

package faults

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
)

// inside runs a node in the test's own process, where its clock can be set and
// its goroutines be counted.
func inside(t *testing.T, configuration string, clock func() time.Time) *node {
	t.Helper()
	n := newNode(t, configuration)
	var cfg daemon.Config
	if err := config.Load(n.config, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = n.data()
	d, err := daemon.Start(t.Context(), daemon.Options{Config: cfg, Version: "faults", Log: slog.New(slog.NewJSONHandler(n.log, nil)), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	n.FirstKey = d.FirstKey
	if err := n.trust(daemon.AuthorityFile(d.DataDir())); err != nil {
		t.Fatal(err)
	}
	n.client.Transport.(*http.Transport).TLSClientConfig.Time = clock
	return n
}

// A clock that jumps, either way, makes no valid key invalid and stops nothing
// for longer than it takes to read the keys again.
func TestAClockThatJumpsStopsNothingForLong(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	offset.Store(int64(48 * time.Hour)) // never before the true time, by which sockets go
	v := newVendor(t, simulator.Options{})
	n := inside(t, thirdParty(v, "limits: {snapshot_age: 6s}"), func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
	org, key := n.newClient()
	n.must("POST", "/budgets", map[string]any{"organisation": org, "period": "day", "limit": "1000.00"}, nil)
	l := newLoad(n, key.Token, 50)
	l.begin()
	l.flows(t)
	for _, jump := range []time.Duration{20 * time.Minute, -20 * time.Minute, -2 * time.Hour, 2 * time.Hour, 25 * time.Hour} {
		offset.Add(int64(jump))
		from := time.Now()
		back := eventually(t, "requests to succeed again", func() (bool, string) {
			a := l.one()
			return a.status == http.StatusOK, fmt.Sprint(a.status, " ", a.code)
		})
		if back > 6*time.Second {
			t.Errorf("after a jump by %s requests failed for %s", jump, back)
		}
		pass(500 * time.Millisecond)
		for _, a := range l.since(from) {
			if a.status != http.StatusOK && a.code != "snapshot-too-old" {
				t.Errorf("after a jump by %s a request was answered %d %s (%v)", jump, a.status, a.code, a.err)
			}
		}
	}
	l.end()
	n.settled()
	l.audit(t, org, v, false)
}

// Notifications may be lost: the change counter is polled as well.
func TestARevocationIsHeardThoughItsNotificationIsLost(t *testing.T) {
	t.Parallel()
	v := newVendor(t, simulator.Options{})
	s := dbtest.NewServer(t)
	n := newNode(t, fmt.Sprintf("database: {dsn: %q}\n%s", s.Config().DSN, thirdParty(v, "")))
	n.start()
	_, key := n.newClient()
	if a := n.ask(t.Context(), key.Token, "m", firstNumber, false, "Hello"); a.status != http.StatusOK {
		t.Fatalf("%+v", a)
	}
	admin := dbtest.Superuser(t, s.Config())
	tx, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What another node would do, without its NOTIFY.
	for _, statement := range []string{
		"update api_keys set revoked_at = now(), version = version + 1 where id = '" + key.ID + "'",
		"update foundry_changes set value = value + 1 where shard = 3",
	} {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := eventually(t, "the revocation to be heard", func() (bool, string) {
		a := n.ask(t.Context(), key.Token, "m", firstNumber+1, false, "Hello")
		return a.status == http.StatusUnauthorized, fmt.Sprint(a.status)
	})
	t.Logf("heard after %s", heard)
	if heard > 2*time.Second { // one, and what a busy machine adds
		t.Errorf("heard after %s, want about a second", heard)
	}
}

// A provider that is dead when the node starts keeps nobody from starting, and
// answers once it is there.
func TestAProviderThatIsDeadAtTheStartIsUsedOnceItReturns(t *testing.T) {
	t.Parallel()
	address := "127.0.0.1:" + freePort(t)
	gone := &vendor{url: "http://" + address}
	n := newNode(t, strings.Replace(thirdParty(gone, ""), "discover: false", "discover: false\n    circuit: {cooldown: 1s}", 1))
	n.start()
	if n.Ready > 30*time.Second {
		t.Errorf("the start took %s", n.Ready)
	}
	org, key := n.newClient()
	l := newLoad(n, key.Token, 20)
	for range 8 {
		if a := l.one(); a.status != http.StatusBadGateway && a.status != http.StatusServiceUnavailable {
			t.Fatalf("with the provider dead: %d %s", a.status, a.code)
		}
	}
	v := newVendorAt(t, address, simulator.Options{})
	back := eventually(t, "the provider to be used", func() (bool, string) {
		a := l.one()
		return a.status == http.StatusOK, fmt.Sprint(a.status, " ", a.code)
	})
	t.Logf("it was used %s after its return", back)
	if back > 5*time.Second {
		t.Errorf("it was used only %s after its return, its circuit rests for a second", back)
	}
	n.settled()
	// Whatever was tried and failed is in the ledger too.
	b := n.ledgerOf(org)
	for _, a := range l.all() {
		rows := b[a.number]
		switch {
		case a.status == http.StatusServiceUnavailable: // refused: the circuit was open
		case len(rows) != 1:
			t.Errorf("request %d has %d rows", a.number, len(rows))
		case a.status == http.StatusBadGateway && rows[0].State != ledger.UpstreamError.String():
			t.Errorf("request %d: %q", a.number, rows[0].State)
		}
	}
	_ = v
}

// Models that are pulled into an Ollama are offered soon, and those removed
// are not.
func TestModelsThatChangeAtAnOllamaAreNoticed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("providers are asked for their models only every half minute")
	}
	address := "127.0.0.1:" + freePort(t)
	first := newVendorAt(t, address, simulator.Options{Format: simulator.Ollama, Models: []string{"old-model"}})
	n := newNode(t, fmt.Sprintf("providers: [{name: local, kind: ollama, base_url: %q}]", first.url))
	n.start()
	chat := func(model string) int {
		return n.ask(t.Context(), n.FirstKey, model, 50, false, "Hello").status
	}
	if status := chat("old-model"); status != http.StatusOK {
		t.Fatalf("the first model: %d", status)
	}
	first.stop()
	newVendorAt(t, address, simulator.Options{Format: simulator.Ollama, Models: []string{"new-model"}})
	took := eventually(t, "the new model to be offered", func() (bool, string) {
		status := chat("new-model")
		return status == http.StatusOK, fmt.Sprint(status)
	})
	t.Logf("noticed after %s", took.Round(time.Second))
	if status := chat("old-model"); status != http.StatusNotFound {
		t.Errorf("a model that was removed: %d", status)
	}
}

// Clients that leave take their calls with them: nothing goes on upstream, and
// nothing stays behind here.
func TestClientsThatLeaveTakeTheirCallsWithThem(t *testing.T) {
	// Not parallel: goroutines are counted.
	calls := 300
	if testing.Short() {
		calls = 100
	}
	v := newVendor(t, simulator.Options{})
	configuration := strings.Replace(thirdParty(v, ""), "discover: false", "discover: false\n    concurrency: 400", 1)
	n := inside(t, configuration, nil)
	org, key := n.newClient()
	l := newLoad(n, key.Token, 50)
	for range 20 {
		l.one() // what is made once and kept
	}
	n.client.CloseIdleConnections()
	v.ForgetRequests()
	pass(2 * time.Second)
	baseline := runtime.NumGoroutine()
	v.Always(simulator.MustFault("stall chunk=2"))
	ctx, leave := contextOf(t)
	for i := range calls {
		go n.ask(ctx, key.Token, "m", 5000+i, true, "Hello")
	}
	wait, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	under, err := v.WaitRequests(wait, calls)
	if err != nil {
		t.Fatal(err)
	}
	during := runtime.NumGoroutine()
	left := time.Now()
	leave()
	for _, r := range under {
		select {
		case <-r.Gone:
		case <-time.After(patience):
			t.Fatal("a call goes on though its client left")
		}
	}
	took := time.Since(left)
	n.client.CloseIdleConnections()
	var now int
	eventually(t, "goroutines to end", func() (bool, string) {
		now = runtime.NumGoroutine()
		return now <= baseline+20, fmt.Sprintf("%d before, %d during, %d now", baseline, during, now)
	})
	t.Logf("%d calls were cancelled within %s; goroutines: %d before, %d during, %d after", calls, took.Round(time.Millisecond), baseline, during, now)
	if took > 5*time.Second {
		t.Errorf("cancelling took %s", took)
	}
	v.Clear()
	n.settled()
	b := n.ledgerOf(org)
	for i := range calls {
		if rows := b[5000+i]; len(rows) != 1 || rows[0].State != ledger.ClientGone.String() || rows[0].OutputTokens == 0 {
			t.Fatalf("request %d: %+v; want one row, client gone, with what was produced", 5000+i, rows)
		}
	}
}
