package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Canaries are texts that must be found nowhere once they have passed.
const (
	canaryPrompt = "canaryprompt7Kq2"
	canaryAnswer = "canaryanswer9Zx4"
	canaryTool   = "canarytool3Wm8"
	canaryVendor = "sk-canaryvendor-5Hd1Jf6Lp0Qs"
)

// spellings are the ways in which a text may lie in a file: as it is, in hex,
// and in base64 at each alignment.
func spellings(text string) [][]byte {
	out := [][]byte{[]byte(text), []byte(hex.EncodeToString([]byte(text)))}
	for shift := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		encoded = strings.TrimRight(encoded, "=")
		out = append(out, []byte(encoded[4:len(encoded)-2]))
	}
	return out
}

// found lists the files under dir that hold any of the texts.
func found(t *testing.T, dir string, texts ...string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files of the database come and go
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for _, text := range texts {
			for _, s := range spellings(text) {
				if bytes.Contains(body, s) {
					list = append(list, fmt.Sprintf("%q in %s", s, strings.TrimPrefix(path, dir)))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestNoPromptAnswerOrKeyStaysBehind(t *testing.T) {
	w := prepared(t)
	answering := w.script(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost:
		case bytes.Contains(body, []byte(`"stream":true`)):
			rw.Header().Set("Content-Type", "text/event-stream")
			_, _ = fmt.Fprintf(rw, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", canaryAnswer)
			if bytes.Contains(body, []byte("break")) {
				_, _ = fmt.Fprintf(rw, "data: {\"error\":{\"message\":\"%s for %s\"}}\n\n", canaryAnswer, canaryVendor)
				return
			}
			_, _ = fmt.Fprint(rw, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n")
		default:
			rw.Header().Set("Content-Type", "application/json")
			if bytes.Contains(body, []byte("break")) {
				rw.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(rw, `{"error":{"message":"%s: bad key %s","type":"t"}}`, canaryPrompt, canaryVendor)
				return
			}
			_, _ = fmt.Fprintf(rw, `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`, canaryAnswer)
		}
	})
	var cfg daemon.Config
	for _, f := range majors {
		v, err := w.vendor(string(f), simulator.Options{Format: f, APIKey: canaryVendor, Commands: true})
		if err != nil {
			t.Fatal(err)
		}
		p := patient(european(string(f), kindOf(f), v.url), "simulator-chat")
		p.APIKey = w.secret(canaryVendor)
		cfg.Providers = append(cfg.Providers, p)
		cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: string(f), Routes: []gateway.RouteConfig{{Provider: string(f), Model: "simulator-chat"}}})
	}
	p := patient(european("answering", gateway.OpenAICompatible, answering), "m")
	p.APIKey = w.secret(canaryVendor)
	cfg.Providers = append(cfg.Providers, p)
	cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: "answering", Routes: []gateway.RouteConfig{{Provider: "answering", Model: "m"}}})
	start(t, cfg, w, nil)
	policy := anywhere()
	policy.Ceilings = sovereignty.Ceilings{Own: sovereignty.Restricted, Near: sovereignty.Confidential}
	org := w.org(t, policy)
	key := w.key(t, org, nil)
	said := w.everything(t, key.Token)
	if !strings.Contains(said, canaryAnswer) || !strings.Contains(said, canaryPrompt) {
		t.Fatal("the canaries did not pass: the test proves nothing")
	}
	if part, leaked := fragment(said, canaryVendor); leaked {
		t.Errorf("%q of a provider's credential went to a client", part)
	}
	w.shipped(t)
	w.must(t, "DELETE", "/keys/"+key.ID, nil, nil)
	// What follows the selector is secret.
	_, secret, ok := strings.Cut(key.Token, key.ID)
	if !ok || len(secret) < 30 {
		t.Fatalf("the key has another form than this test knows")
	}
	texts := []string{canaryPrompt, canaryAnswer, canaryTool, canaryVendor, secret, secret[:20], secret[len(secret)-20:]}
	check := func(when string) {
		t.Helper()
		for _, leak := range found(t, w.d.DataDir(), texts...) {
			t.Errorf("%s: %s", when, leak)
		}
		if len(found(t, filepath.Join(w.d.DataDir(), "postgres"), org)) == 0 {
			t.Errorf("%s: the name of the organisation was not found: the search proves nothing", when)
		}
	}
	check("while the node runs")
	for _, metrics := range []string{"http://node/metrics", "http://node/api/v1/requests", "http://node/api/v1/audit?limit=1000", "http://node/api/v1/status"} {
		resp, err := w.local.Get(metrics)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for _, text := range texts {
			if bytes.Contains(body, []byte(text)) {
				t.Errorf("%s shows %q", metrics, text)
			}
		}
	}
	dir, d := w.d.DataDir(), w.d
	w.d = nil
	if err := d.Stop(t.Context()); err != nil { // writes all pages of the database
		t.Error(err)
	}
	for _, leak := range found(t, dir, texts...) {
		t.Errorf("after the node has stopped: %s", leak)
	}
	log := w.log.String()
	if !strings.Contains(log, "provider probed") {
		t.Error("there is no log: the search proves nothing")
	}
	for _, text := range append(texts, key.Token) {
		if strings.Contains(log, text) {
			t.Errorf("the log holds %q", text)
		}
	}
}

// everything sends canaries through every endpoint, answer and failure, and
// returns all that the client saw.
func (w *world) everything(t *testing.T, token string) string {
	t.Helper()
	var said strings.Builder
	var mu sync.Mutex
	keep := func(r reply) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&said, "%v %s\n", r.header, r.body)
	}
	var wg sync.WaitGroup
	say := func(q question) {
		wg.Go(func() {
			r, err := w.ask(t.Context(), token, q)
			if err != nil {
				t.Error(err)
				return
			}
			keep(r)
		})
	}
	tools := map[wire.Dialect]map[string]any{
		wire.OpenAI:    {"tools": []any{map[string]any{"type": "function", "function": map[string]any{"name": canaryTool, "parameters": map[string]any{"type": "object"}}}}},
		wire.Anthropic: {"tools": []any{map[string]any{"name": canaryTool, "input_schema": map[string]any{"type": "object"}}}},
	}
	for _, d := range []wire.Dialect{wire.OpenAI, wire.Anthropic} {
		for _, stream := range []bool{false, true} {
			for _, model := range []string{"openai", "anthropic", "answering"} {
				for _, text := range []string{canaryPrompt, canaryPrompt + " break", "simulate quotes-key", "simulate quotes-key status=400", "simulate 500", "simulate cut chunk=3", "simulate error-event", "simulate malformed-json"} {
					say(question{dialect: d, model: model, stream: stream, text: text, mark: canaryPrompt})
				}
				say(question{dialect: d, model: model, stream: stream, text: "call " + canaryTool, extra: tools[d]})
				say(question{dialect: d, model: model, stream: stream, text: canaryPrompt, header: map[string]string{gateway.ClassHeader: "restricted"}})
				say(question{dialect: d, model: model, stream: stream, text: canaryPrompt, header: map[string]string{gateway.ClassHeader: canaryPrompt}})
				say(question{dialect: d, model: model, stream: stream, text: canaryPrompt, extra: map[string]any{"stop": 7, canaryPrompt: canaryPrompt}})
			}
		}
	}
	wg.Wait()
	for path, body := range map[string]string{
		"/v1/embeddings":            `{"model":"openai","input":"` + canaryPrompt + `"}`,
		"/v1/responses":             `{"model":"openai","input":"` + canaryPrompt + `"}`,
		"/v1/messages/count_tokens": `{"model":"anthropic","messages":[{"role":"user","content":"` + canaryPrompt + `"}]}`,
		"/v1/chat/completions":      `{"model":"openai","messages":[{"role":"user","content":"` + canaryPrompt,
		"/v1/" + canaryPrompt:       canaryPrompt,
		"/v1/messages":              `{"model":"` + canaryPrompt + `","max_tokens":1,"messages":[]}`,
	} {
		keep(w.post(t, token, path, body, "Anthropic-Version", "2023-06-01"))
	}
	keep(w.post(t, token+"x", "/v1/chat/completions", `{}`))
	keep(w.post(t, canaryVendor, "/v1/chat/completions", `{}`))
	return said.String()
}
