package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// priced is a node whose models cost money: at an OpenAI and an Anthropic, and
// a cheap one that fails on command before a dear one.
var priced = &shared{make: func() (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	cfg := daemon.Config{Config: gateway.Config{ExchangeRates: map[string]string{"USD": "0.5"}}}
	add := func(name string, f simulator.Format, chat gateway.PriceConfig) error {
		v, err := w.vendor(name, simulator.Options{Format: f, Commands: true})
		if err != nil {
			return err
		}
		p := patient(european(name, kindOf(f), v.url), "simulator-chat")
		p.Models[0].Price = &chat
		p.Models = append(p.Models, gateway.ProviderModelConfig{Name: "simulator-embed", Price: &gateway.PriceConfig{Input: "1000", Output: "0"}})
		cfg.Providers = append(cfg.Providers, p)
		cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: name, Routes: []gateway.RouteConfig{{Provider: name, Model: "simulator-chat"}}})
		return nil
	}
	usual := gateway.PriceConfig{Input: "2", Output: "10", CachedInput: "1", CacheWrite: "3"}
	dollars := gateway.PriceConfig{Currency: "USD", Input: "4", Output: "20", CachedInput: "2", CacheWrite: "6"}
	dear := gateway.PriceConfig{Input: "200", Output: "1000"}
	for _, e := range []error{add("openai", simulator.OpenAI, usual), add("anthropic", simulator.Anthropic, dollars), add("dear", simulator.OpenAICompatible, dear)} {
		if e != nil {
			return nil, e
		}
	}
	cfg.Models = append(cfg.Models,
		gateway.ModelConfig{Name: "embed", Routes: []gateway.RouteConfig{{Provider: "openai", Model: "simulator-embed"}}},
		gateway.ModelConfig{Name: "cheap-then-dear", Routes: []gateway.RouteConfig{{Provider: "openai", Model: "simulator-chat"}, {Provider: "dear", Model: "simulator-chat"}}})
	return w, w.launch(cfg, nil)
}}

// budget sets a budget of an organisation, or of one of its keys.
func (w *world) budget(t *testing.T, org, key, period, limit string) ledger.Budget {
	t.Helper()
	var b ledger.Budget
	w.must(t, "POST", "/budgets", map[string]any{"organisation": org, "key": key, "period": period, "limit": limit}, &b)
	return b
}

func (w *world) arrivedAt(vendor string) int { return len(w.vendors[vendor].Requests()) }

// spend asks until the budget refuses, and returns what the answers cost.
func (w *world) spend(t *testing.T, token string, q question) (cost int64, last reply) {
	t.Helper()
	for range 50 {
		r := w.get(t, token, q)
		switch {
		case r.status == 200:
			cost += w.recorded(t, r.id).CostNano
		case r.header.Get("X-Foundry-Problem") == "budget-lease-spent": // the node asks for more
		default:
			return cost, r
		}
	}
	t.Fatal("the budget never refused")
	return 0, last
}

func long(model string) question {
	return question{model: model, text: "Please write 400 words", limit: 500}
}

func TestABudgetStopsEveryEndpointAndEveryDialect(t *testing.T) {
	w := priced.get(t)
	const limit = 12_000_000
	org := w.org(t, anywhere())
	token := w.key(t, org, nil).Token
	w.budget(t, org, "", "total", "0.012")
	cost, r := w.spend(t, token, long("openai"))
	if cost > limit || cost < limit/2 {
		t.Errorf("%d of %d nano were spent before the stop", cost, limit)
	}
	if r.status != 429 || r.errType != "insufficient_quota" || r.header.Get("X-Foundry-Problem") != "budget-exhausted" || r.header.Get("Retry-After") != "" {
		t.Fatalf("waiting does not help against a total budget: %s", r)
	}
	before := w.arrivedAt("openai") + w.arrivedAt("anthropic") + w.arrivedAt("dear")
	stopped := []reply{r}
	for _, stream := range []bool{false, true} {
		for _, model := range []string{"openai", "anthropic"} {
			for _, d := range []wire.Dialect{wire.OpenAI, wire.Anthropic} {
				q := long(model)
				q.dialect, q.stream = d, stream
				stopped = append(stopped, w.get(t, token, q))
			}
		}
	}
	stopped = append(stopped, w.post(t, token, "/v1/embeddings", `{"model":"embed","input":"text to embed"}`),
		w.post(t, token, "/v1/responses", `{"model":"openai","input":"Hello"}`))
	for _, r := range stopped {
		if r.status != 429 || r.header.Get("X-Foundry-Problem") != "budget-exhausted" {
			t.Errorf("not stopped: %s", r)
			continue
		}
		if row := w.refused(t, org, r.id); row.Rule != "budget-exhausted" || row.Status != 429 {
			t.Errorf("recorded as %+v", row)
		}
	}
	// Counting tokens costs nothing, so it goes on.
	if r := w.post(t, token, "/v1/messages/count_tokens", `{"model":"anthropic","messages":[{"role":"user","content":"Hello"}]}`, "Anthropic-Version", "2023-06-01"); r.status != 200 {
		t.Errorf("counting tokens: %s", r)
	}
	if after := w.arrivedAt("openai") + w.arrivedAt("anthropic") + w.arrivedAt("dear"); after != before+1 {
		t.Errorf("%d requests arrived after the stop", after-before-1)
	}
}

func TestABudgetIsNotOverrunByRequestsAtOnce(t *testing.T) {
	w := priced.get(t)
	const limit = 60_000_000
	org := w.org(t, anywhere())
	first, second := w.key(t, org, nil).Token, w.key(t, org, nil).Token
	w.budget(t, org, "", "month", "0.06")
	for _, token := range []string{first, second} {
		w.get(t, token, question{model: "openai"}) // so that the keys' secrets are verified
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	results := map[int]int{}
	for i := range 80 {
		wg.Go(func() {
			token := first
			if i%2 == 0 {
				token = second
			}
			q := long([]string{"openai", "anthropic"}[i/2%2])
			q.stream, q.dialect = i/4%2 == 0, []wire.Dialect{wire.OpenAI, wire.Anthropic}[i/8%2]
			var r reply
			for range 100 { // until the node has leased what is left, or all of it
				var err error
				if r, err = w.ask(t.Context(), token, q); err != nil {
					t.Error(err)
					return
				}
				if r.header.Get("X-Foundry-Problem") != "budget-lease-spent" {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			results[r.status]++
			if r.status == 429 && r.header.Get("Retry-After") == "" {
				t.Errorf("a monthly budget starts again: %s", r)
			}
		})
	}
	wg.Wait()
	w.shipped(t)
	var rows []ledger.UsageRow
	w.must(t, "GET", "/usage?group_by=model&organisation="+org, nil, &rows)
	spent := int64(0)
	for _, r := range rows {
		spent += r.CostNano
	}
	if spent > limit || results[429] < 20 || results[200] < 5 || results[200]+results[429] != 80 {
		t.Errorf("spent %d of %d nano; answers by status %v", spent, limit, results)
	}
}

func TestABudgetOfOneKeyStopsThatKeyAlone(t *testing.T) {
	w := priced.get(t)
	org := w.org(t, anywhere())
	poor, rich := w.key(t, org, nil), w.key(t, org, nil)
	w.budget(t, org, poor.ID, "day", "0.000001")
	if r := w.get(t, poor.Token, question{model: "openai"}); r.status != 429 || !strings.Contains(r.errText, poor.ID) || r.header.Get("Retry-After") == "" {
		t.Errorf("the key with a budget: %s", r)
	}
	if r := w.post(t, poor.Token, "/v1/messages/count_tokens", `{"model":"anthropic","messages":[{"role":"user","content":"Hello"}]}`); r.status != 200 {
		t.Errorf("what costs nothing passes a spent budget: %s", r)
	}
	if r := w.get(t, rich.Token, question{model: "openai"}); r.status != 200 {
		t.Errorf("the other key: %s", r)
	}
}

func TestAFallbackIsReservedForAndChargedAtItsOwnPrice(t *testing.T) {
	w := priced.get(t)
	org := w.org(t, anywhere())
	token := w.key(t, org, nil).Token
	b := w.budget(t, org, "", "total", "0.1") // enough for the cheap one only
	before := w.arrivedAt("openai")
	if r := w.get(t, token, question{model: "cheap-then-dear"}); r.status != 429 || w.arrivedAt("openai") != before {
		t.Errorf("what a fallback could cost was not reserved: %s", r)
	}
	if r := w.get(t, token, question{model: "openai"}); r.status != 200 {
		t.Errorf("the cheap one alone: %s", r)
	}
	w.must(t, "DELETE", "/budgets/"+b.ID.String(), nil, nil)
	r := w.get(t, token, question{model: "cheap-then-dear", text: "simulate 500"})
	row := w.recorded(t, r.id)
	// The dear one has no fault of its own: "simulate 500" reaches it too.
	if r.status != 502 || row.CostNano != 0 {
		t.Fatalf("%s, %d nano", r, row.CostNano)
	}
	w.vendors["openai"].Next(simulator.MustFault("500"))
	r = w.get(t, token, question{model: "cheap-then-dear"})
	row = w.recorded(t, r.id)
	if want := row.InputTokens*200_000 + row.OutputTokens*1_000_000; r.status != 200 || row.Provider != "dear" || row.CostNano != want || row.ReservedNano < want {
		t.Errorf("answered by %q for %d nano, want %d; reserved %d", row.Provider, row.CostNano, want, row.ReservedNano)
	}
}

func TestAnAlarmIsRaisedAtEightyPercent(t *testing.T) {
	t.Parallel()
	w := priced.get(t)
	org := w.org(t, anywhere())
	token := w.key(t, org, nil).Token
	b := w.budget(t, org, "", "total", "0.012")
	r := w.get(t, token, long("openai"))
	if r.status != 200 {
		t.Fatal(r)
	}
	state := func() ledger.BudgetRow {
		var rows []ledger.BudgetRow
		w.must(t, "GET", "/budgets", nil, &rows)
		for _, row := range rows {
			if row.ID == b.ID {
				return row
			}
		}
		t.Fatal("the budget is not listed")
		return ledger.BudgetRow{}
	}
	if b.AlarmPercent != 80 || state().Alarmed {
		t.Fatalf("alarm at %d %%, raised %t after a third", b.AlarmPercent, state().Alarmed)
	}
	w.spend(t, token, long("openai"))
	w.spend(t, token, question{model: "openai", limit: 60})
	eventually(t, "the alarm", func() (bool, string) {
		s := state()
		return s.Alarmed, fmt.Sprintf("spent %d of %d", s.SpentNano, s.LimitNano)
	})
	eventually(t, "the alarm to be logged", func() (bool, string) {
		return strings.Contains(w.log.String(), "budget alarm") && strings.Contains(w.log.String(), b.ID.String()), "it is not"
	})
	var entries []audit.Entry
	w.must(t, "GET", "/audit?limit=1000", nil, &entries)
	heard := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Act, "budget.") && strings.Contains(e.Act, "alarm") && strings.Contains(fmt.Sprintf("%+v", e), b.ID.String()) {
			heard++
		}
	}
	if heard != 1 {
		t.Errorf("the alarm is %d times in the audit log", heard)
	}
}

func TestLimitsPerMinuteAnswer429WithRetryAfter(t *testing.T) {
	w := priced.get(t)
	org := w.org(t, anywhere())
	token := w.key(t, org, map[string]any{"requests_per_minute": 3}).Token
	ask := []func() reply{
		func() reply { return w.get(t, token, question{model: "openai"}) },
		func() reply {
			return w.get(t, token, question{model: "anthropic", dialect: wire.Anthropic, stream: true})
		},
		func() reply { return w.post(t, token, "/v1/embeddings", `{"model":"embed","input":"x"}`) },
		func() reply { return w.get(t, token, question{model: "openai", stream: true}) },
		func() reply { return w.get(t, token, question{model: "anthropic", dialect: wire.Anthropic}) },
	}
	for i, f := range ask {
		r := f()
		after, _ := strconv.Atoi(r.header.Get("Retry-After"))
		if i < 3 && r.status != 200 || i >= 3 && (r.status != 429 || after < 1 || after > 20 || r.header.Get("X-Foundry-Problem") != "requests-per-minute") {
			t.Errorf("request %d: Retry-After %d: %s", i+1, after, r)
		}
		if i >= 3 {
			if row := w.refused(t, org, r.id); row.Rule != "requests-per-minute" || row.Status != 429 {
				t.Errorf("recorded as %+v", row)
			}
		}
	}
	token = w.key(t, org, map[string]any{"tokens_per_minute": 1000}).Token
	if r := w.get(t, token, question{model: "openai", limit: 2000}); r.status != 429 || r.header.Get("X-Foundry-Problem") != "tokens-per-minute" || r.header.Get("Retry-After") != "" {
		t.Errorf("more than the limit at once: %s", r)
	}
	// What is reserved and not used comes back: each of these uses far less.
	for range 3 {
		if r := w.get(t, token, question{model: "openai", limit: 800}); r.status != 200 {
			t.Errorf("tokens that were not used did not come back: %s", r)
		}
	}
	for i := range 10 {
		r := w.get(t, token, question{model: "openai", limit: 400, text: "Please write 380 words"})
		if r.status == 429 {
			if after, _ := strconv.Atoi(r.header.Get("Retry-After")); after < 1 {
				t.Errorf("no Retry-After: %s", r)
			}
			return
		}
		if i > 2 {
			t.Fatal("used tokens do not count against the limit")
		}
	}
}

func TestCachedTokensArePricedAsSuch(t *testing.T) {
	w := priced.get(t)
	token := w.token(t, anywhere())
	prompt := strings.Repeat("the same long prefix of a prompt that is cached, ", 300) + strconv.FormatInt(serial.Add(1), 10)
	for i, q := range []question{
		{model: "openai", text: prompt}, {model: "openai", text: prompt}, {model: "openai", text: prompt, stream: true, usage: true},
		{model: "openai", text: prompt, dialect: wire.Anthropic}, {model: "openai", text: prompt, dialect: wire.Anthropic, stream: true},
	} {
		r := w.get(t, token, q)
		row := w.recorded(t, r.id)
		if r.status != 200 || row.CostNano != nano(row) || row.InputTokens != r.input || row.CacheWrite != 0 {
			t.Errorf("%d: %d of %d tokens cached, %d nano, want %d: client was told %d", i, row.CachedTokens, row.InputTokens, row.CostNano, nano(row), r.input)
		}
		if i == 0 && row.CachedTokens != 0 || i > 0 && row.CachedTokens < 1024 {
			t.Errorf("%d: %d tokens cached", i, row.CachedTokens)
		}
	}
	// Anthropic caches where it is told to. 4 dollars at 0.5 are 2 euros.
	content := []any{map[string]any{"type": "text", "text": prompt, "cache_control": map[string]any{"type": "ephemeral"}}}
	for i, stream := range []bool{false, false, true} {
		q := question{model: "anthropic", dialect: wire.Anthropic, stream: stream, extra: map[string]any{"messages": []any{map[string]any{"role": "user", "content": content}}}}
		r := w.get(t, token, q)
		row := w.recorded(t, r.id)
		if r.status != 200 || row.CostNano != nano(row) || row.InputTokens != r.input || i == 0 && row.CacheWrite < 1024 || i > 0 && row.CachedTokens < 1024 {
			t.Errorf("%d: %d read from and %d written to the cache of %d, %d nano, want %d; the client was told %d", i, row.CachedTokens, row.CacheWrite, row.InputTokens, row.CostNano, nano(row), r.input)
		}
	}
}

func TestAnAbortedStreamGivesBackWhatItDidNotUse(t *testing.T) {
	w := priced.get(t)
	org := w.org(t, anywhere())
	token := w.key(t, org, nil).Token
	w.budget(t, org, "", "total", "0.006") // a worst case of 5.5 million fits once
	for range 3 {
		ctx, leave := context.WithCancel(t.Context())
		q := question{model: "openai", text: "simulate stall chunk=3", limit: 500, stream: true}
		resp, err := w.client.Do(w.request(ctx, token, q))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 {
			t.Fatalf("what an aborted stream had reserved did not come back: %d", resp.StatusCode)
		}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() && !strings.Contains(lines.Text(), `"This`) {
		}
		leave()
		row := w.recorded(t, resp.Header.Get("X-Request-Id"))
		_ = resp.Body.Close()
		if row.State != "client-gone" || row.CostNano <= 0 || row.CostNano > row.ReservedNano/5 {
			t.Errorf("recorded as %q for %d of %d nano", row.State, row.CostNano, row.ReservedNano)
		}
	}
}

func TestUsageThatWasInjectedIsHidden(t *testing.T) {
	w := priced.get(t)
	r := w.get(t, w.token(t, anywhere()), question{model: "openai", stream: true})
	if row := w.recorded(t, r.id); !row.UsageKnown || row.OutputTokens == 0 {
		t.Errorf("the ledger does not know the usage of a stream: %+v", row.RequestRow)
	}
	for _, ev := range sse(r.body) {
		var m struct {
			Choices []json.RawMessage `json:"choices"`
		}
		if ev.data != "[DONE]" && (json.Unmarshal([]byte(ev.data), &m) != nil || len(m.Choices) == 0) {
			t.Errorf("the client got a chunk that it did not ask for: %s", ev.data)
		}
	}
}
