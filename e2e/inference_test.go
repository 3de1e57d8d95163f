package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/inference"
	"github.com/missionopsai/foundry/internal/inference/inferencetest"
	"github.com/missionopsai/foundry/internal/problem"
)

// home is an inference node in this process: a front that a test stops and
// starts, with a simulated Ollama behind it that it keeps.
type home struct {
	t       testing.TB
	dir     string
	address string
	ollama  *simulator.Simulator
	behind  string
	front   *inference.Front
}

func newHome(t testing.TB) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), ollama: simulator.New(simulator.Options{Format: simulator.Ollama, Commands: true, Models: []string{"chat"}})}
	inferencetest.Certificates(t, h.dir, "gateway", "inference")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := simulator.Serve(l, h.ollama)
	h.behind, h.address = "http://"+l.Addr().String(), "127.0.0.1:0"
	t.Cleanup(func() { h.stop(); _ = h.ollama.Close(); _ = server.Close() })
	h.start()
	return h
}

func (h *home) file(name string) string { return filepath.Join(h.dir, name) }

// start begins to answer, at the same address as before.
func (h *home) start() {
	h.t.Helper()
	f, err := inference.Start(context.Background(), inference.Options{Config: inference.Config{Listen: h.address, Ollama: h.behind, Clients: []string{"gateway"},
		Certificate: h.file("inference.pem"), Key: config.Secret{File: h.file("inference.key")}, ClientCA: h.file("authority.pem")}})
	if err != nil {
		h.t.Fatal(err)
	}
	h.front, h.address = f, f.Address()
}

// stop ends it at once: connections break.
func (h *home) stop() {
	if h.front == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.front.Stop(ctx)
	h.front = nil
}

// provider is how a gateway reaches it.
func (h *home) provider() gateway.ProviderConfig {
	yes := true
	return gateway.ProviderConfig{Name: "home", Kind: string(gateway.Ollama), BaseURL: "https://" + h.address, Own: &yes, Discover: no(), Controller: "FI", Processing: []string{"FI"},
		ClientCert: h.file("gateway.pem"), ClientKey: config.Secret{File: h.file("gateway.key")}, CA: h.file("authority.pem"),
		Models: []gateway.ProviderModelConfig{{Name: "chat"}}}
}

// withHome is a node with an inference node of its own and two fallbacks: one
// that policies allow and that costs money, and one in a place that they do
// not allow.
func withHome(t *testing.T, calm time.Duration) (*world, *home) {
	t.Helper()
	h, w := newHome(t), prepared(t)
	for _, name := range []string{"near", "far"} {
		if _, err := w.vendor(name, simulator.Options{Format: simulator.OpenAI, Commands: true, Models: []string{"chat"}}); err != nil {
			t.Fatal(err)
		}
	}
	near := european("near", gateway.OpenAI, w.vendors["near"].url)
	near.Models = []gateway.ProviderModelConfig{{Name: "chat", MaxOutput: 1000, Price: &gateway.PriceConfig{Currency: "EUR", Input: "100", Output: "1000"}}}
	far := european("far", gateway.OpenAI, w.vendors["far"].url)
	far.Processing, far.Controller = []string{"KP"}, "KP"
	far.Models = near.Models
	cfg := daemon.Config{Config: gateway.Config{Limits: gateway.LimitsConfig{FallbackCalm: span(calm)},
		Providers: []gateway.ProviderConfig{h.provider(), near, far},
		Models:    []gateway.ModelConfig{{Name: "chat", Tier: "bulk", Routes: []gateway.RouteConfig{{Provider: "far"}, {Provider: "home"}, {Provider: "near"}}}}}}
	return start(t, cfg, w, nil), h
}

func (w *world) provider(t testing.TB, name string) daemon.ProviderStatus {
	t.Helper()
	for _, p := range w.d.Status().Providers {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no provider %s", name)
	return daemon.ProviderStatus{}
}

func (w *world) route(t testing.TB, org string) gateway.Explanation {
	t.Helper()
	var e gateway.Explanation
	w.must(t, "GET", "/route?model=chat&organisation="+org, nil, &e)
	return e
}

func TestALostInferenceNodeIsReplacedByAllowedFallbacksAtAShownCostAndTakenBack(t *testing.T) {
	w, h := withHome(t, time.Second)
	org := w.org(t, anywhere())
	token := w.key(t, org, nil).Token
	if r := w.get(t, token, question{model: "chat"}); r.status != 200 || r.header.Get("X-Foundry-Route") != "home/chat" {
		t.Fatalf("with everything there: %s", r)
	}
	if p := w.provider(t, "home"); p.Inference == nil || !p.Inference.Ready() || len(p.Inference.Models) != 1 {
		t.Errorf("what the inference node says: %+v", p.Inference)
	}

	h.stop()
	var cost int64
	for i := range 5 {
		r := w.get(t, token, question{model: "chat", stream: i%2 == 0})
		row := w.recorded(t, r.id)
		if r.status != 200 || row.Provider != "near" || row.CostNano <= 0 {
			t.Fatalf("while it is away: %s, by %q for %d", r, row.Provider, row.CostNano)
		}
		if len(row.Tries) > 1 && i > 0 {
			t.Errorf("request %d was sent to what is known to be away: %+v", i, row.Tries)
		}
		cost += row.CostNano
	}
	if p := w.provider(t, "home"); p.Circuit != "open" {
		t.Errorf("its circuit is %s", p.Circuit)
	}
	var shown ledger.FallbackRow
	eventually(t, "the cost to be shown", func() (bool, string) {
		e := w.route(t, org)
		if len(e.Fallbacks) != 1 {
			return false, fmt.Sprintf("%d fallbacks", len(e.Fallbacks))
		}
		shown = e.Fallbacks[0]
		return shown.Requests == 5, fmt.Sprintf("%d of 5 requests", shown.Requests)
	})
	if shown.Provider != "home" || shown.Ended != nil || len(shown.Cost) != 1 || shown.Cost[0] != (ledger.Amount{Currency: "EUR", Nano: cost}) {
		t.Errorf("shown: %+v, spent %d", shown, cost)
	}
	if other := w.route(t, w.org(t, anywhere())); len(other.Fallbacks) != 0 {
		t.Errorf("an organisation that asked nothing is shown %+v", other.Fallbacks)
	}
	if text := w.metrics(t); !strings.Contains(text, `foundry_gateway_fallback_requests_total{gen_ai_provider_name="home",organisation="`+w.orgID(t, org)+`"} 5`) {
		t.Error("the metrics do not count the fallback")
	}
	w.alarmed(t, "fallback-began."+shown.ID.String(), "")

	h.start()
	eventually(t, "the inference node to be used again", func() (bool, string) {
		r := w.get(t, token, question{model: "chat"})
		return r.status == 200 && r.header.Get("X-Foundry-Route") == "home/chat", r.header.Get("X-Foundry-Route")
	})
	eventually(t, "the fallback to be over", func() (bool, string) {
		e := w.route(t, org)
		return len(e.Fallbacks) == 1 && e.Fallbacks[0].Ended != nil, fmt.Sprintf("%+v", e.Fallbacks)
	})
	last := w.route(t, org).Fallbacks[0]
	w.alarmed(t, "fallback-ended."+shown.ID.String(), ledger.Money(last.Cost[0].Nano, "EUR"))
	if n := w.vendors["far"].arrived(); n != 0 {
		t.Errorf("%d requests went where no policy allows it", n)
	}
	for _, r := range h.ollama.Requests() {
		if r.Header.Get("Authorization") != "" {
			t.Error("a credential reached the Ollama")
		}
	}
}

// arrived is how many model requests a vendor saw.
func (v *vendor) arrived() (n int) {
	for _, r := range v.Requests() {
		if r.Method == http.MethodPost {
			n++
		}
	}
	return n
}

func (w *world) orgID(t testing.TB, org string) string {
	var o struct{ ID string }
	w.must(t, "GET", "/organisations/"+org, nil, &o)
	return o.ID
}

func (w *world) metrics(t testing.TB) string {
	t.Helper()
	resp, err := w.local.Get("http://node/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// alarmed waits for an alarm in the audit log whose facts hold a text.
func (w *world) alarmed(t testing.TB, code, fact string) {
	t.Helper()
	eventually(t, "the alarm "+code, func() (bool, string) {
		var entries []struct {
			Act, Target string
			Details     any
		}
		if err := w.call("GET", "/audit?act=alarm.raise&limit=100", nil, &entries); err != nil {
			return false, err.Error()
		}
		for _, e := range entries {
			if e.Target == code {
				return strings.Contains(fmt.Sprint(e.Details), fact), fmt.Sprint(e.Details)
			}
		}
		return false, fmt.Sprintf("%d other alarms", len(entries))
	})
}

func TestABudgetHoldsWhileAFallbackCostsMoney(t *testing.T) {
	w, h := withHome(t, time.Minute)
	org := w.org(t, anywhere())
	token := w.key(t, org, nil).Token
	w.budget(t, org, "", "total", "0.5")
	h.stop()
	var spent int64
	var all sync.WaitGroup
	var mu sync.Mutex
	refused, answered := 0, 0
	for range 4 {
		all.Go(func() {
			for range 30 {
				r := w.get(t, token, question{model: "chat", limit: 100, text: "Please write 80 words"})
				mu.Lock()
				switch r.status {
				case 200:
					answered++
				case 429:
					refused++
				default:
					t.Errorf("neither answered nor refused: %s", r)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	w.shipped(t)
	var rows []ledger.UsageRow
	w.must(t, "GET", "/usage?group_by=day&organisation="+org, nil, &rows)
	for _, r := range rows {
		spent += r.CostNano
	}
	if answered == 0 || refused == 0 || spent > 500_000_000 {
		t.Errorf("%d answered and %d refused; the fallback cost %d of a budget of 500000000", answered, refused, spent)
	}
	eventually(t, "the budget's alarm", func() (bool, string) {
		return strings.Contains(w.log.String(), "budget alarm"), "it was not raised"
	})
	// At home nothing is charged: a spent budget does not keep anybody from it.
	h.start()
	eventually(t, "the inference node to be used again", func() (bool, string) {
		r := w.get(t, token, question{model: "chat", limit: 100})
		return r.status == 200, r.String()
	})
}

func TestAnInferenceNodeIsReachedWithTheRightCertificateOnly(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	bad := filepath.Join(t.TempDir(), "other")
	if err := os.MkdirAll(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	inferencetest.Certificates(t, bad, "gateway")
	for _, test := range []struct {
		name, cert, key, ca, code string
	}{
		{"half of it", h.file("gateway.pem"), "", h.file("authority.pem"), "provider-mutual-half"},
		{"no authority", h.file("gateway.pem"), h.file("gateway.key"), "", "provider-mutual-half"},
		{"another's key", h.file("gateway.pem"), h.file("inference.key"), h.file("authority.pem"), "tls-files"},
	} {
		p := h.provider()
		p.ClientCert, p.ClientKey, p.CA = test.cert, config.Secret{File: test.key}, test.ca
		if err := gateway.Check(gateway.Config{Providers: []gateway.ProviderConfig{p}}); problem.From(err).Code != test.code {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	p := h.provider()
	p.BaseURL = "http://" + h.address
	if err := gateway.Check(gateway.Config{Providers: []gateway.ProviderConfig{p}}); problem.From(err).Code != "provider-mutual-plain" {
		t.Errorf("without TLS: %v", err)
	}
	// A client certificate of another authority gets no answer at all.
	pair, err := tls.LoadX509KeyPair(filepath.Join(bad, "gateway.pem"), filepath.Join(bad, "gateway.key"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(h.file("authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	for _, certs := range [][]tls.Certificate{nil, {pair}} {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: certs}, DisableKeepAlives: true}}
		if resp, err := c.Get("https://" + h.address + "/v1/models"); err == nil {
			_ = resp.Body.Close()
			t.Errorf("answered %d to %d wrong certificates", resp.StatusCode, len(certs))
		}
	}
}
