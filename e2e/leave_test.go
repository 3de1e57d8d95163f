package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// leaving is a vendor node whose providers wait long, so that what ends a call
// is the client's leaving.
var leaving = &shared{make: func() (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	var cfg daemon.Config
	for _, f := range formats {
		v, err := w.vendor(string(f), simulator.Options{Format: f, Commands: true})
		if err != nil {
			return nil, err
		}
		p := patient(european(string(f), kindOf(f), v.url), "simulator-chat")
		p.Timeouts = gateway.TimeoutsConfig{}
		cfg.Providers = append(cfg.Providers, p)
		cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: string(f), Routes: []gateway.RouteConfig{{Provider: string(f), Model: "simulator-chat"}}})
	}
	return w, w.launch(cfg, nil)
}}

func TestAClientThatLeavesEndsTheUpstreamCallAndPaysForWhatWasMade(t *testing.T) {
	w := leaving.get(t)
	token := w.token(t, anywhere())
	type case_ struct {
		format  simulator.Format
		dialect wire.Dialect
		fault   string
		stream  bool
	}
	var cases []case_
	for _, f := range formats {
		for _, d := range []wire.Dialect{wire.OpenAI, wire.Anthropic} {
			cases = append(cases, case_{f, d, "stall chunk=3", true}, case_{f, d, "hang-before-headers", true}, case_{f, d, "hang-before-headers", false},
				case_{f, d, "hang-after-headers", true}, case_{f, d, "stall chunk=3", false})
		}
	}
	var wg sync.WaitGroup
	for _, c := range cases {
		wg.Go(func() {
			name := fmt.Sprintf("%s/%s/%s/stream %t", c.format, c.dialect, c.fault, c.stream)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			mark := fmt.Sprintf("mark-%d-end", serial.Add(1))
			q := question{dialect: c.dialect, model: string(c.format), mark: mark, text: "simulate " + c.fault, stream: c.stream}
			v := w.vendors[string(c.format)]
			content := c.stream && c.fault == "stall chunk=3"
			id := ""
			if content {
				resp, err := w.client.Do(w.request(ctx, token, q))
				if err != nil {
					t.Error(name, err)
					return
				}
				defer resp.Body.Close()
				id = resp.Header.Get("X-Request-Id")
				lines := bufio.NewScanner(resp.Body)
				for lines.Scan() && !strings.Contains(lines.Text(), `"This`) { // the first token
				}
			} else {
				go func() { _, _ = w.ask(ctx, token, q) }()
			}
			var got simulator.Received
			eventually(t, name+" to arrive", func() (bool, string) {
				for _, r := range v.Requests() {
					if bytes.Contains(r.Body, []byte(mark)) {
						got = r
						return true, ""
					}
				}
				return false, "it has not"
			})
			leave()
			select {
			case <-got.Gone:
			case <-time.After(patience):
				t.Errorf("%s: the upstream call goes on without its client", name)
			}
			if id == "" {
				return
			}
			row := w.recorded(t, id)
			if row.State != "client-gone" || row.UsageKnown || row.OutputTokens < 1 || row.InputTokens < 1 || row.CostNano != nano(row) {
				t.Errorf("%s: recorded %q, %d and %d tokens, %d nano", name, row.State, row.InputTokens, row.OutputTokens, row.CostNano)
			}
		})
	}
	wg.Wait()
}

func TestAFallbackIsNeverOutsideThePolicy(t *testing.T) {
	w := abroad.get(t)
	policy := anywhere()
	policy.Allowed = sovereignty.EEA()
	token := w.token(t, policy)
	// west-first: american, bare, daughter and british are forbidden; french
	// and german fail; own answers.
	for _, fault := range []string{"500", "early-close", "cut", "error-event", "429", "malformed-json"} {
		mark := fmt.Sprintf("mark-%d-end", serial.Add(1))
		board.want(mark, "french", fault)
		board.want(mark, "german", fault)
		r := w.get(t, token, question{model: "west-first", mark: mark, stream: true})
		if at := fmt.Sprint(board.at(mark)); !r.complete || at != "[french german own]" && !(fault == "error-event" && r.complete) {
			t.Errorf("%s: arrived at %s: %s", fault, at, r)
		}
	}
}

// script is a vendor that is written out for one test.
func (w *world) script(h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	w.closers = append(w.closers, s.Close)
	return s.URL
}

// odd is a node with providers that no simulator plays.
var odd = &shared{make: func() (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	var cfg daemon.Config
	add := func(name string, p gateway.ProviderConfig) {
		cfg.Providers = append(cfg.Providers, p)
		cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: name, Routes: []gateway.RouteConfig{{Provider: name, Model: "m"}}})
	}
	// A large answer without a length that breaks off.
	url := w.script(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write([]byte(`{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"`))
		_, _ = rw.Write(bytes.Repeat([]byte("simulate"), 300_000))
		_ = http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	add("large-cut", patient(european("large-cut", gateway.OpenAICompatible, url), "m"))
	// A stream that is silent for longer than the gateway's keep-alive, and then fails.
	var asked atomic.Int64
	url = w.script(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return
		}
		if asked.Add(1) > 2 { // once for each dialect
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-time.After(16 * time.Second):
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	})
	p := patient(european("silent", gateway.OpenAICompatible, url), "m")
	p.Timeouts = gateway.TimeoutsConfig{}
	add("silent", p)
	// TLS that nobody vouches for, and no TLS where it is expected.
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	w.closers = append(w.closers, untrusted.Close)
	add("untrusted", patient(european("untrusted", gateway.OpenAI, untrusted.URL), "m"))
	plain := httptest.NewServer(http.NotFoundHandler())
	w.closers = append(w.closers, plain.Close)
	add("plain", patient(european("plain", gateway.OpenAI, strings.Replace(plain.URL, "http:", "https:", 1)), "m"))
	add("closed", patient(european("closed", gateway.OpenAI, "http://127.0.0.1:1"), "m")) // tcpmux: nobody listens there
	for _, f := range majors {
		v, err := w.vendor("huge-"+string(f), simulator.Options{Format: f})
		if err != nil {
			return nil, err
		}
		v.Always(simulator.MustFault("huge 50MB"))
		p := patient(european("huge-"+string(f), kindOf(f), v.url), "simulator-chat")
		p.Timeouts = gateway.TimeoutsConfig{}
		cfg.Providers = append(cfg.Providers, p)
		cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: "huge-" + string(f), Routes: []gateway.RouteConfig{{Provider: "huge-" + string(f), Model: "simulator-chat"}}})
	}
	return w, w.launch(cfg, nil)
}}

func TestALargeAnswerThatIsCutDoesNotLookWhole(t *testing.T) {
	w := odd.get(t)
	r := w.get(t, w.token(t, anywhere()), question{model: "large-cut"})
	if r.err == nil {
		t.Fatalf("%d bytes of a cut answer ended as if they were all", len(r.body))
	}
	if row := w.recorded(t, r.id); row.State != "stream-broken" || len(row.Tries) != 1 || row.Tries[0].Reason != "connection closed early" || row.CostNano == 0 {
		t.Errorf("recorded as %+v", row.RequestRow)
	}
}

func TestAFailureAfterKeepAlivesIsAnErrorEvent(t *testing.T) {
	t.Parallel()
	w := odd.get(t)
	token := w.token(t, anywhere())
	var wg sync.WaitGroup
	for _, d := range []wire.Dialect{wire.OpenAI, wire.Anthropic} {
		wg.Go(func() {
			r, err := w.ask(t.Context(), token, question{dialect: d, model: "silent", stream: true})
			if err != nil || r.status != 200 || !bytes.HasPrefix(r.body, []byte(": ")) || !r.errEvent || r.complete || r.after != 0 {
				t.Errorf("%s: %v %s", d, err, r)
				return
			}
			if row := w.recorded(t, r.id); row.State != "upstream-error" && row.State != "timeout" || row.Status != 200 {
				t.Errorf("%s: recorded as %q with %d", d, row.State, row.Status)
			}
		})
	}
	wg.Wait()
}

func TestAProviderThatCannotBeReachedSafelyGetsNothing(t *testing.T) {
	w := odd.get(t)
	token := w.token(t, anywhere())
	for model, reason := range map[string]string{"untrusted": "TLS failed", "plain": "TLS failed", "closed": "connection failed"} {
		r := w.get(t, token, question{model: model})
		row := w.recorded(t, r.id)
		if r.status != 502 || len(row.Tries) != 3 || row.Tries[0].Reason != reason || row.CostNano != 0 {
			t.Errorf("%s: tries %+v: %s", model, row.Tries, r)
		}
	}
}

func TestAnAnswerOfFiftyMegabytes(t *testing.T) {
	w := odd.get(t)
	token := w.token(t, anywhere())
	for _, f := range majors {
		for _, d := range []wire.Dialect{wire.OpenAI, wire.Anthropic} {
			native := (f == simulator.Anthropic) == (d == wire.Anthropic)
			r := w.get(t, token, question{dialect: d, model: "huge-" + string(f)})
			row := w.recorded(t, r.id)
			if native && (r.status != 200 || !r.complete || len(r.text) != 50<<20 || row.State != "ok" || !row.UsageKnown || row.OutputTokens != r.output) {
				t.Errorf("%s for a client of %s: %d bytes of text, usage known %t, %d tokens of %d: %s", f, d, len(r.text), row.UsageKnown, row.OutputTokens, r.output, r.errText)
			}
			if !native && (r.status != 502 || row.State != "upstream-error" || row.Tries[0].Reason != "answer too large") {
				t.Errorf("%s for a client of %s: %d, tries %+v", f, d, r.status, row.Tries)
			}
		}
	}
}

func TestAShortRetryAfterIsWaitedFor(t *testing.T) {
	w := priced.get(t)
	token := w.token(t, anywhere())
	w.get(t, token, question{model: "openai"})
	w.vendors["openai"].Next(simulator.MustFault("429 retry-after=1"))
	began := time.Now()
	r := w.get(t, token, question{model: "openai", stream: true})
	if took := time.Since(began); !r.complete || took < time.Second {
		t.Errorf("answered after %v: %s", took, r)
	}
	row := w.recorded(t, r.id)
	if len(row.Tries) != 2 || row.Tries[0].Reason != "answered 429" || row.Tries[1].Reason != "" || len(row.Attempts) != 1 {
		t.Errorf("recorded tries %+v, attempts %+v", row.Tries, row.Attempts)
	}
}
