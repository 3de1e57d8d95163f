package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/sovereignty"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"
)

// anthropicStream answers with a stream that tells its input at the start, and
// breaks off before any content unless whole.
func anthropicStream(t *testing.T, input int, whole bool) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		event := func(name, data string) { fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data) }
		event("message_start", fmt.Sprintf(`{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":%d,"output_tokens":1}}}`, input))
		if !whole {
			event("error", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
			return
		}
		event("content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`)
		event("content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}`)
		event("content_block_stop", `{"type":"content_block_stop","index":0}`)
		event("message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}}`)
		event("message_stop", `{"type":"message_stop"}`)
	}))
	t.Cleanup(s.Close)
	return s
}

// answering is a gateway with a journal and no database, in front of the
// fleet's own providers, and a key for it.
func answering(t *testing.T, c Config) (g *Gateway, token string, registry *prometheus.Registry) {
	t.Helper()
	plain := func(in, _ []byte) ([]byte, error) { return in, nil }
	j, err := journal.Open(t.TempDir(), journal.Options{Node: 1, Boot: 1, Seal: plain, Open: plain})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(t.Context()) })
	verifier := access.NewVerifier(bytes.Repeat([]byte{1}, 32))
	budgets := ledger.NewBudgets(nil, ledger.BudgetOptions{Node: 1, Boot: 1})
	budgets.Load(nil)
	registry = prometheus.NewRegistry()
	g, err = New(Options{Config: c, Node: 1, Boot: 1, Recorder: ledger.NewRecorder(j, 1, 1), Budgets: budgets, Verifier: verifier,
		Metrics: NewMetrics(registry), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	token, selector, secret := access.Mint(verifier)
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	org := access.Organisation{ID: uuid.New(), Name: "o", Status: "active"}
	g.use(snapshot{Records: access.Records{TakenAt: time.Now(), Organisations: []access.Organisation{org},
		Keys: []access.StoredKey{{Key: access.Key{ID: selector, Organisation: org.ID, Version: 1}, Hash: string(hash)}}},
		Policies: map[uuid.UUID]sovereignty.Policy{org.ID: sovereignty.DefaultPolicy()}})
	return g, token, registry
}

// The copy that is made to call a model by its provider's name counts towards
// the memory for bodies, and is given back.
func TestAChangedCopyOfABodyCounts(t *testing.T) {
	var g *Gateway
	var token string
	during := make(chan int64, 1)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		during <- g.held.Load()
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
	}))
	t.Cleanup(up.Close)
	p := own("a", "m")
	p.BaseURL = up.URL
	g, token, _ = answering(t, Config{Providers: []ProviderConfig{p}, Models: []ModelConfig{{Name: "other", Routes: []RouteConfig{{Provider: "a", Model: "m"}}}}})
	const size = 1 << 20
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions",
		strings.NewReader(`{"model":"other","messages":[{"role":"user","content":"`+strings.Repeat("x", size)+`"}]}`))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set(ClassHeader, "public")
	g.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if held := <-during; held < 2*size {
		t.Errorf("%d bytes are counted, want at least %d", held, 2*size)
	}
	if held := g.held.Load(); held != 0 {
		t.Errorf("%d bytes are still counted afterwards", held)
	}
}

// A provider that told its input and then failed before any content has billed
// it: the request that another provider answered costs both.
func TestWhatAFailedAttemptConsumedIsPaidFor(t *testing.T) {
	var providers []ProviderConfig
	for i, input := range []int{1000, 10} {
		p := own(string(rune('a'+i)), "m")
		p.Kind, p.BaseURL = "anthropic", anthropicStream(t, input, i == 1).URL
		p.Models[0].Price = &PriceConfig{Input: "1.00", Output: "100.00"}
		providers = append(providers, p)
	}
	g, token, registry := answering(t, Config{Providers: providers, Models: []ModelConfig{{Name: "m", Routes: []RouteConfig{{Provider: "a"}, {Provider: "b"}}}}})
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/v1/messages", strings.NewReader(`{"model":"m","max_tokens":10,"stream":true,"messages":[{"role":"user","content":"x"}]}`))
	r.Header.Set("X-Api-Key", token)
	r.Header.Set(ClassHeader, "public")
	g.ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "message_stop") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	got := map[string]float64{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() == "gen_ai_token_type" {
					name += " " + l.GetValue()
				}
			}
			got[name] += m.GetHistogram().GetSampleSum() + m.GetCounter().GetValue()
		}
	}
	if got["gen_ai_client_token_usage input"] != 1010 || got["gen_ai_client_token_usage output"] != 6 {
		t.Errorf("tokens: %v", got)
	}
	const want = 1010*1e-6 + 6*100e-6
	if cost := got["foundry_gateway_cost_total"]; cost < want*0.999 || cost > want*1.001 {
		t.Errorf("cost %v, want %v", cost, want)
	}
}
