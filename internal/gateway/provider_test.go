package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
	"github.com/prometheus/client_golang/prometheus"
)

func yes() *bool { b := true; return &b }

func own(name string, models ...string) ProviderConfig {
	p := ProviderConfig{Name: name, Kind: "openai-compatible", BaseURL: "http://127.0.0.1:1", Own: yes(), Controller: "FI", Processing: []string{"FI"}}
	for _, m := range models {
		p.Models = append(p.Models, ProviderModelConfig{Name: m, Tier: "routine"})
	}
	return p
}

func newGateway(t *testing.T, c Config) *Gateway {
	t.Helper()
	g, err := New(Options{Config: c, Metrics: NewMetrics(prometheus.NewRegistry())})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func refusedBecause(t *testing.T, c Config, code, field string) {
	t.Helper()
	err := Check(c)
	p := problem.From(err)
	if err == nil || p.Code != code || !strings.Contains(p.Field, field) {
		t.Fatalf("got %v (%s at %s), want %s at %s", err, p.Code, p.Field, code, field)
	}
}

func TestRetentionWithoutDaysIsRefused(t *testing.T) {
	p := own("a", "m")
	p.Retention = &RetentionConfig{Contract: "X", Expires: config.Date{Time: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}}
	refusedBecause(t, Config{Providers: []ProviderConfig{p}}, "retention-days", "providers.a.retention")
}

func TestAMistypedCountryInASafeguardIsRefused(t *testing.T) {
	p := own("a", "m")
	p.Safeguards = []SafeguardConfig{{Instrument: "idta", Reference: "R", Covers: []string{"US", "UX"}}}
	if err := Check(Config{Providers: []ProviderConfig{p}}); err == nil || !strings.Contains(problem.From(err).Field, "covers") {
		t.Fatalf("got %v", err)
	}
}

func TestConfigurationMistakesNameTheirField(t *testing.T) {
	bad := own("a", "m")
	bad.Kind = "openia"
	refusedBecause(t, Config{Providers: []ProviderConfig{bad}}, "provider-kind", "providers.a.kind")
	refusedBecause(t, Config{Providers: []ProviderConfig{own("a"), own("a")}}, "provider-twice", "providers[1].name")
	refusedBecause(t, Config{Providers: []ProviderConfig{own("Big Name")}}, "provider-name", "providers[0].name")
	refusedBecause(t, Config{Providers: []ProviderConfig{own("alpha", "m")}, Models: []ModelConfig{{Name: "x", Routes: []RouteConfig{{Provider: "alpah"}}}}}, "route-provider", "models[0].routes[0].provider")
	refusedBecause(t, Config{Providers: []ProviderConfig{own("a", "m")}, Models: []ModelConfig{{Name: "x"}}}, "model-routes", "models[0].routes")
	noBase := own("a")
	noBase.BaseURL = ""
	refusedBecause(t, Config{Providers: []ProviderConfig{noBase}}, "provider-base-url", "providers.a.base_url")
}

func TestAmountsMayBeLargerThanPrices(t *testing.T) {
	g := newGateway(t, Config{Providers: []ProviderConfig{own("a", "m")}})
	if n, err := g.Amount("1000000.00"); err != nil || n != 1_000_000_000_000_000 {
		t.Fatalf("%d %v", n, err)
	}
	if _, err := g.Amount("-5"); problem.From(err).Field != "limit" {
		t.Fatalf("%v", err)
	}
}

func TestTiersStandForOneModelOfEachProvider(t *testing.T) {
	g := newGateway(t, Config{Providers: []ProviderConfig{own("a", "chat-1", "chat-2", "embed-1"), own("b", "chat-9")}})
	p, err := g.decide(sovereignty.DefaultPolicy(), "o", ask{model: "routine", endpoint: wire.ChatCompletions, class: sovereignty.Public}, g.table.Load(), time.Now())
	if err != nil || p.refusal != nil {
		t.Fatal(err, p)
	}
	var got []string
	for _, h := range p.hops {
		got = append(got, h.provider.Name+"/"+h.model)
	}
	if strings.Join(got, " ") != "a/chat-1 b/chat-9" {
		t.Fatalf("chat goes to %v", got)
	}
	p, err = g.decide(sovereignty.DefaultPolicy(), "o", ask{model: "routine", endpoint: wire.Embeddings, class: sovereignty.Public}, g.table.Load(), time.Now())
	if err != nil || len(p.hops) != 1 || p.hops[0].model != "embed-1" {
		t.Fatalf("embeddings go to %+v, %v", p, err)
	}
}

func TestRoutineWorkGoesToTheFleetsOwnModelsFirst(t *testing.T) {
	third := own("third", "m")
	third.Own, third.NoSubProcessors = nil, true
	third.Retention = &RetentionConfig{Days: new(int), Contract: "C", Signed: day(2020), Expires: day(2090)}
	c := Config{Providers: []ProviderConfig{third, own("mine", "m")}, Models: []ModelConfig{
		{Name: "r", Tier: "routine", Routes: []RouteConfig{{Provider: "third", Model: "m"}, {Provider: "mine", Model: "m"}}},
		{Name: "s", Tier: "standard", Routes: []RouteConfig{{Provider: "third", Model: "m"}, {Provider: "mine", Model: "m"}}},
	}}
	g := newGateway(t, c)
	policy := sovereignty.DefaultPolicy()
	policy.ThirdParties = true
	for name, first := range map[string]string{"r": "mine", "s": "third"} {
		p, err := g.decide(policy, "o", ask{model: name, endpoint: wire.ChatCompletions, class: sovereignty.Public}, g.table.Load(), time.Now())
		if err != nil || len(p.hops) != 2 || p.hops[0].provider.Name != first {
			t.Errorf("%s: %+v %v", name, p.hops, err)
		}
	}
}

func day(year int) config.Date { return config.Date{Time: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)} }

func TestWeightsShareTheLoadOfOneOrder(t *testing.T) {
	g := newGateway(t, Config{Providers: []ProviderConfig{own("a", "m"), own("b", "m"), own("c", "m")}, Models: []ModelConfig{{Name: "x", Routes: []RouteConfig{
		{Provider: "a", Model: "m", Order: 1, Weight: 3}, {Provider: "b", Model: "m", Order: 1, Weight: 1}, {Provider: "c", Model: "m", Order: 2}}}}})
	p, err := g.decide(sovereignty.DefaultPolicy(), "o", ask{model: "x", endpoint: wire.ChatCompletions, class: sovereignty.Public}, g.table.Load(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]int{}
	for range 4000 {
		seq := p.sequence(nil)
		first[seq[0].provider.Name]++
		if seq[2].provider.Name != "c" {
			t.Fatal("a later order came earlier")
		}
	}
	if first["a"] < 2800 || first["a"] > 3200 {
		t.Fatalf("of 4000 first tries a got %d, want about 3000", first["a"])
	}
}

func TestAnUnknownModelNamesTheNearestOne(t *testing.T) {
	g := newGateway(t, Config{Providers: []ProviderConfig{own("a", "llama3.2")}})
	_, err := g.decide(sovereignty.DefaultPolicy(), "o", ask{model: "lama3.2", endpoint: wire.ChatCompletions, class: sovereignty.Public}, g.table.Load(), time.Now())
	if p := problem.From(err); p.Kind != problem.NotFound || !strings.Contains(p.Mend, "llama3.2") {
		t.Fatalf("%v", err)
	}
}

func TestDiscoveriesOfTwoProvidersBothCount(t *testing.T) {
	serve := func(model string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"object":"list","data":[{"id":"` + model + `"}]}`))
		}))
	}
	one, two := serve("m1"), serve("m2")
	defer one.Close()
	defer two.Close()
	a, b := own("a"), own("b")
	a.BaseURL, b.BaseURL = one.URL, two.URL
	g := newGateway(t, Config{Providers: []ProviderConfig{a, b}})
	g.Log = quiet()
	var wg sync.WaitGroup
	for _, p := range g.Providers() {
		wg.Go(func() { g.ProbeOnce(context.Background(), p) })
	}
	wg.Wait()
	for _, m := range []string{"m1", "m2"} {
		if g.table.Load().models[m] == nil {
			t.Errorf("%s was not discovered", m)
		}
	}
}

func TestADecisionEndsWhenItsContractDoes(t *testing.T) {
	third := own("third", "m")
	third.Own, third.NoSubProcessors = nil, true
	third.Retention = &RetentionConfig{Days: new(int), Contract: "C", Signed: day(2020), Expires: day(2027)}
	g := newGateway(t, Config{Providers: []ProviderConfig{third}})
	policy := sovereignty.DefaultPolicy()
	policy.ThirdParties, policy.RequireNoRetention = true, sovereignty.Public
	table := g.table.Load()
	a := ask{model: "m", endpoint: wire.ChatCompletions, class: sovereignty.Public}
	before := time.Date(2027, 1, 1, 23, 59, 59, 0, time.UTC)
	p, err := g.decide(policy, "o", a, table, before)
	if err != nil || p.refusal != nil {
		t.Fatalf("%v %v", err, p)
	}
	var cache planCache
	cache.put(a, p)
	if cache.get(a, table, before) == nil {
		t.Fatal("the decision was not kept")
	}
	if cache.get(a, table, before.Add(2*time.Second)) != nil {
		t.Fatal("the decision outlived the contract it rests on")
	}
	if cache.get(a, newRouteTable(nil, g.providers), before) != nil {
		t.Fatal("the decision outlived the routes it was made for")
	}
	p, err = g.decide(policy, "o", a, table, before.Add(2*time.Second))
	if err != nil || p.refusal == nil {
		t.Fatalf("allowed without a contract: %v %+v", err, p)
	}
}
