package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/sovereignty"
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
	g, token, _ = answering(t, Config{Providers: []ProviderConfig{p}, Models: []ModelConfig{{Name: "other", Routes: []RouteConfig{{Provider: "a", Model: "m"}}}}}, sovereignty.DefaultPolicy(), nil)
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
	g, token, registry := answering(t, Config{Providers: providers, Models: []ModelConfig{{Name: "m", Routes: []RouteConfig{{Provider: "a"}, {Provider: "b"}}}}}, sovereignty.DefaultPolicy(), nil)
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
