//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/inference/inferencetest"
)

// home is the front of a simulated Ollama, as a process of its own.
type home struct {
	t      testing.TB
	dir    string
	port   string
	ollama *vendor
	log    *logBuffer
	cmd    *exec.Cmd
	exited chan struct{}
}

func newHome(t testing.TB) *home {
	t.Helper()
	h := &home{t: t, dir: tempDir(t), port: freePort(t), log: &logBuffer{},
		ollama: newVendor(t, simulator.Options{Format: simulator.Ollama, Models: []string{"chat"}, FirstByte: 20 * time.Millisecond, BetweenChunks: time.Millisecond})}
	inferencetest.Certificates(t, h.dir, "gateway", "inference")
	text := fmt.Sprintf("inference: {listen: \"127.0.0.1:%s\", ollama: %q, certificate: %q, key: {file: %q}, client_ca: %q, clients: [gateway], concurrency: 64}\n",
		h.port, h.ollama.url, h.file("inference.pem"), h.file("inference.key"), h.file("authority.pem"))
	if err := os.WriteFile(h.file("inference.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.kill()
		if t.Failed() {
			t.Logf("the inference node's log:\n%s", h.log.tail(3000))
		}
	})
	h.start()
	return h
}

func (h *home) file(name string) string { return filepath.Join(h.dir, name) }

// start runs it and waits for its greeting.
func (h *home) start() {
	h.t.Helper()
	cmd := exec.Command(binary, "serve", "--json", "--role", "inference", "--config", h.file("inference.yaml"), "--data-dir", h.file("d"))
	cmd.Stderr = h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	exited, started := make(chan struct{}), make(chan error, 1)
	hello := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that started the process
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		var greeting struct{ Address string }
		hello <- json.NewDecoder(stdout).Decode(&greeting)
		_ = cmd.Wait()
	}()
	if err := <-started; err != nil {
		h.t.Fatal(err)
	}
	h.cmd, h.exited = cmd, exited
	select {
	case err := <-hello:
		if err != nil {
			h.t.Fatalf("the inference node did not start: %v\n%s", err, h.log.tail(2000))
		}
	case <-time.After(patience):
		h.t.Fatal("the inference node neither started nor gave up")
	}
}

func (h *home) kill() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Kill()
	<-h.exited
	h.cmd = nil
}

// providers is the configuration of a gateway with this node first, a paid
// fallback that policies allow, and one that none allows.
func (h *home) providers(near, far *vendor) string {
	third := func(name, country string, v *vendor) string {
		return fmt.Sprintf(`  - {name: %s, kind: openai, base_url: %s, own: false, discover: false, controller: %s, processing: [%s], no_sub_processors: true,
     retention: {days: 0, contract: DPA-1, signed: 2026-01-02, expires: 2033-12-31},
     models: [{name: simulator-chat, context: 100000000, max_output: 100000000, price: {input: "0", output: "1"}}]}
`, name, v.url, country, country)
	}
	return fmt.Sprintf(`
limits: {fallback_calm: 2s}
providers:
  - {name: home, kind: ollama, base_url: "https://127.0.0.1:%s", own: true, discover: false, controller: FI, processing: [FI],
     client_certificate: %q, client_key: {file: %q}, ca: %q, timeouts: {connect: 2s}, models: [{name: chat}]}
%s%smodels:
  - {name: m, tier: bulk, routes: [{provider: home, model: chat}, {provider: far, model: simulator-chat}, {provider: near, model: simulator-chat}]}
`, h.port, h.file("gateway.pem"), h.file("gateway.key"), h.file("authority.pem"), third("near", "FR", near), third("far", "KP", far))
}

func modelRequests(v *vendor) (n int) {
	for _, r := range v.Requests() {
		if r.Method == http.MethodPost {
			n++
		}
	}
	return n
}

func (n *node) circuit(provider string) string {
	n.t.Helper()
	for _, p := range n.status().Providers {
		if p.Name == provider {
			return p.Circuit
		}
	}
	n.t.Fatalf("there is no provider %s", provider)
	return ""
}

// Killed again and again under load, an inference node costs no request, cuts
// no answer short in silence, sends nothing where no policy allows it, and is
// used again once it is back. What that cost is shown, to the last unit.
func TestAnInferenceNodeThatIsKilledCostsMoneyAndNoRequest(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	near, far := newVendor(t, simulator.Options{}), newVendor(t, simulator.Options{})
	n := newNode(t, h.providers(near, far))
	n.start()
	org, key := n.newClient()
	n.must("POST", "/budgets", map[string]any{"organisation": org, "period": "day", "limit": "1000.00"}, nil)
	l := newLoad(n, key.Token, 60)
	l.begin()
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	var slowest time.Duration
	for range rounds {
		l.flows(t)
		before := modelRequests(near)
		h.kill()
		eventually(t, "the fallback to be used", func() (bool, string) { return modelRequests(near) > before, "it was not" })
		eventually(t, "the circuit to be open", func() (bool, string) { c := n.circuit("home"); return c == "open", c })
		l.flows(t)
		h.start()
		served := modelRequests(h.ollama)
		slowest = max(slowest, eventually(t, "the inference node to be used again", func() (bool, string) { return modelRequests(h.ollama) > served, "it was not" }))
	}
	l.end()
	n.settled()
	counts := map[string]int{}
	for _, a := range l.all() {
		switch {
		case a.status == http.StatusOK && a.whole:
			counts["whole"]++
		case a.status == http.StatusOK && a.broken:
			counts["said to be broken"]++ // a stream whose content had begun
		case a.status == http.StatusOK:
			counts["cut"]++
			t.Errorf("an answer ended in silence: %+v", a)
		default:
			counts["refused"]++
			t.Errorf("a request was not answered: %+v", a)
		}
	}
	if got := modelRequests(far); got != 0 {
		t.Errorf("%d requests went where no policy allows it", got)
	}
	var cost int64
	paid := 0
	for _, rows := range n.ledgerOf(org) {
		for _, r := range rows {
			cost += r.CostNano
			if r.Provider == "near" {
				paid++
			}
		}
	}
	var e gateway.Explanation
	eventually(t, "the cost to be shown, and the fallbacks to be over", func() (bool, string) {
		e = gateway.Explanation{}
		n.must("GET", "/route?model=m&organisation="+org, nil, &e)
		var shown, requests int64
		for _, f := range e.Fallbacks {
			requests += f.Requests
			for _, c := range f.Cost {
				shown += c.Nano
			}
			if f.Ended == nil {
				return false, "one is open"
			}
		}
		return len(e.Fallbacks) > 0 && shown == cost && int(requests) == paid, fmt.Sprintf("%d requests for %d are shown, the ledger has %d for %d", requests, shown, paid, cost)
	})
	n.spendingAddsUp(org)
	t.Logf("%d kills, %v; %d requests were paid for, %d nano in %d fallbacks; used again %s after it was back at the latest", rounds, counts, paid, cost, len(e.Fallbacks), slowest.Round(time.Millisecond))
}
