package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// place is a provider with the facts that decide about it, as the oracle of
// the property test reads them.
type place struct {
	name       string
	format     simulator.Format
	own        bool
	controller string
	processing []string
	subs       []string // jurisdictions; nil: it says that there are none
	days       int      // of retention
	contract   string   // day on which it ends; empty: none on record
	safeguards []gateway.SafeguardConfig
}

func safeguard(instrument, reference, expires string, covers ...string) gateway.SafeguardConfig {
	return gateway.SafeguardConfig{Instrument: instrument, Reference: reference, Covers: covers, Expires: date(expires)}
}

// places are all sorts of providers that one meets.
var places = []place{
	{name: "own", format: simulator.Ollama, own: true, controller: "FI", processing: []string{"FI"}},
	{name: "german", format: simulator.OpenAICompatible, controller: "DE", processing: []string{"DE"}, contract: "2033-12-31"},
	{name: "french", format: simulator.Mistral, controller: "FR", processing: []string{"FR", "SE"}, contract: "2033-12-31"},
	{name: "keeper", format: simulator.OpenAICompatible, controller: "FR", processing: []string{"FR"}, days: 30, contract: "2033-12-31"},
	{name: "lapsed", format: simulator.OpenAICompatible, controller: "NL", processing: []string{"NL"}, contract: "2026-03-31"},
	{name: "daughter", format: simulator.OpenAI, controller: "US", processing: []string{"IE"}, contract: "2033-12-31",
		safeguards: []gateway.SafeguardConfig{safeguard("eu-scc", "SCC-IE-1", "2033-12-31", "US"), safeguard("idta", "IDTA-IE-1", "2033-12-31", "US")}},
	{name: "american", format: simulator.Anthropic, controller: "US", processing: []string{"US"}, contract: "2033-12-31",
		safeguards: []gateway.SafeguardConfig{safeguard("eu-scc", "SCC-US-7", "2033-12-31", "US"), safeguard("uk-us-bridge", "DPF-UK-7", "2033-12-31", "US")}},
	{name: "bare", format: simulator.OpenAI, controller: "US", processing: []string{"US"}, contract: "2033-12-31"},
	{name: "expired", format: simulator.OpenAI, controller: "US", processing: []string{"US"}, contract: "2033-12-31",
		safeguards: []gateway.SafeguardConfig{safeguard("eu-scc", "SCC-OLD", "2026-06-30", "US")}},
	{name: "british", format: simulator.OpenAICompatible, controller: "GB", processing: []string{"GB"}, contract: "2033-12-31"},
	{name: "passing-on", format: simulator.OpenAICompatible, controller: "FR", processing: []string{"FR"}, subs: []string{"US"}, contract: "2033-12-31",
		safeguards: []gateway.SafeguardConfig{safeguard("eu-scc", "SCC-SUB", "2033-12-31", "US")}},
	{name: "indian", format: simulator.OpenAICompatible, controller: "IN", processing: []string{"IN"}, contract: "2033-12-31",
		safeguards: []gateway.SafeguardConfig{safeguard("uk-addendum", "ADD-IN", "2033-12-31", "IN")}},
}

func (p place) config(base string) gateway.ProviderConfig {
	own := p.own
	c := gateway.ProviderConfig{Name: p.name, Kind: string(kindOf(p.format)), BaseURL: base, Own: &own, Discover: no(), Controller: p.controller,
		Processing: p.processing, NoSubProcessors: p.subs == nil, Safeguards: p.safeguards,
		Retention: &gateway.RetentionConfig{Days: &p.days}}
	for i, j := range p.subs {
		c.SubProcessors = append(c.SubProcessors, gateway.SubProcessorConfig{Name: fmt.Sprintf("Sub %d", i+1), Jurisdiction: j})
	}
	if p.contract != "" {
		c.Retention.Contract, c.Retention.Signed, c.Retention.Expires = "DPA-"+p.name, date("2025-01-01"), date(p.contract)
	}
	return patient(c, "simulator-chat")
}

func placeNamed(name string) place {
	return places[slices.IndexFunc(places, func(p place) bool { return p.name == name })]
}

// switchboard answers for a place with the fault that is wanted of it for a
// request, found by its mark, and remembers what arrived.
type switchboard struct {
	mu       sync.Mutex
	wanted   map[string]map[string]string // mark → place → fault
	arrived  map[string][]string          // mark → places, in order
	unmarked int                          // POSTs without a mark: nothing here sends them
}

func (b *switchboard) want(mark, where, fault string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.wanted[mark] == nil {
		b.wanted[mark] = map[string]string{}
	}
	b.wanted[mark][where] = fault
}

func (b *switchboard) at(mark string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.arrived[mark])
}

func (b *switchboard) note(where string, body []byte) (fault string) {
	mark := markShape.FindString(string(body))
	b.mu.Lock()
	defer b.mu.Unlock()
	if mark == "" {
		b.unmarked++
	}
	b.arrived[mark] = append(b.arrived[mark], where)
	return b.wanted[mark][where]
}

// handler is a place as a server.
func (b *switchboard) handler(p place) http.Handler {
	var mu sync.Mutex
	behaving := map[string]*simulator.Simulator{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fault := ""
		if r.Method == http.MethodPost {
			fault = b.note(p.name, body)
		}
		mu.Lock()
		s := behaving[fault]
		if s == nil {
			s = simulator.New(simulator.Options{Format: p.format, Forget: true})
			if fault != "" {
				s.Always(simulator.MustFault(fault))
			}
			behaving[fault] = s
		}
		mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.ServeHTTP(w, r)
	})
}

var board = &switchboard{wanted: map[string]map[string]string{}, arrived: map[string][]string{}}

// world of places: every place under its own name, and in mixed orders.
var abroad = &shared{make: func() (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	var cfg daemon.Config
	for _, p := range places {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		server := &http.Server{Handler: board.handler(p), ReadHeaderTimeout: patience}
		go func() { _ = server.Serve(l) }()
		w.closers = append(w.closers, func() { _ = server.Close() })
		cfg.Providers = append(cfg.Providers, p.config("http://"+l.Addr().String()))
		cfg.Models = append(cfg.Models, gateway.ModelConfig{Name: p.name, Routes: []gateway.RouteConfig{{Provider: p.name, Model: "simulator-chat"}}})
	}
	for _, m := range mixtures {
		mc := gateway.ModelConfig{Name: m.name, Tier: m.tier}
		for _, name := range m.places {
			mc.Routes = append(mc.Routes, gateway.RouteConfig{Provider: name, Model: "simulator-chat"})
		}
		cfg.Models = append(cfg.Models, mc)
	}
	return w, w.launch(cfg, nil)
}}

// mixtures are models with several places to be answered at.
var mixtures = []struct {
	name, tier string
	places     []string
}{
	{"west-first", "frontier", []string{"american", "bare", "daughter", "british", "french", "german", "own"}},
	{"home-first", "routine", []string{"german", "own", "french", "daughter", "american"}},
	{"doubtful", "standard", []string{"lapsed", "keeper", "expired", "indian", "passing-on", "bare"}},
	{"everywhere", "standard", []string{"passing-on", "american", "keeper", "british", "lapsed", "indian", "french", "own", "expired", "german", "bare", "daughter"}},
	{"two", "bulk", []string{"german", "american"}},
}

// open is a policy that allows all that law does.
func open() sovereignty.Policy {
	p := anywhere()
	p.Allowed = p.Allowed.With("IN")
	return p
}

func TestEachRuleRefusesAndSaysWhy(t *testing.T) {
	w := abroad.get(t)
	org := w.org(t, open())
	key := w.key(t, org, nil)
	for _, c := range []struct {
		name   string
		model  string
		change func(*sovereignty.Policy)
		class  string
		extra  map[string]any
		rule   sovereignty.Rule
		says   string
	}{
		{"without consent to third parties", "german", func(p *sovereignty.Policy) { p.ThirdParties = false }, "", nil, sovereignty.ThirdPartyConsent, "not agreed"},
		{"a controller elsewhere", "daughter", func(p *sovereignty.Policy) { p.Allowed = sovereignty.EEA() }, "", nil, sovereignty.JurisdictionController, "US"},
		{"processing elsewhere", "british", func(p *sovereignty.Policy) { p.Allowed = sovereignty.EEA() }, "", nil, sovereignty.JurisdictionController, "GB"},
		{"a sub-processor elsewhere", "passing-on", func(p *sovereignty.Policy) { p.Allowed = sovereignty.EEA() }, "", nil, sovereignty.JurisdictionSubProcessor, "US"},
		{"a class above the ceiling elsewhere", "american", func(p *sovereignty.Policy) { p.Ceilings.Elsewhere = sovereignty.Public }, "", nil, sovereignty.ClassCeiling, "internal"},
		{"a class above the ceiling nearby", "german", func(p *sovereignty.Policy) {
			p.Ceilings.Near, p.Ceilings.Elsewhere = sovereignty.Internal, sovereignty.Internal
		}, "confidential", nil, sovereignty.ClassCeiling, "confidential"},
		{"a class above what even own models may have", "own", func(p *sovereignty.Policy) {
			p.Ceilings = sovereignty.Ceilings{Own: sovereignty.Internal, Near: sovereignty.Internal, Elsewhere: sovereignty.Internal}
		}, "restricted", nil, sovereignty.ClassCeiling, "restricted"},
		{"retention", "keeper", func(p *sovereignty.Policy) { p.RequireNoRetention = sovereignty.Internal }, "", nil, sovereignty.NoRetention, "30 days"},
		{"a contract that has lapsed", "lapsed", func(p *sovereignty.Policy) { p.RequireNoRetention = sovereignty.Internal }, "", nil, sovereignty.ContractInDate, "DPA-lapsed"},
		{"no safeguard", "bare", nil, "", nil, sovereignty.SafeguardPresent, "US"},
		{"a safeguard of the other regime", "indian", nil, "", nil, sovereignty.SafeguardPresent, "IN"},
		{"a safeguard that has lapsed", "expired", nil, "", nil, sovereignty.SafeguardInDate, "SCC-OLD"},
		{"storing", "german", nil, "", map[string]any{"store": true}, sovereignty.FeatureAllowed, "store"},
		{"fetching", "german", nil, "", map[string]any{"messages": []any{map[string]any{"role": "user", "content": []any{
			map[string]any{"type": "image_url", "image_url": map[string]any{"url": "https://example.invalid/x.png"}}}}}}, sovereignty.FeatureAllowed, "image_url"},
		{"searching", "german", nil, "", map[string]any{"web_search_options": map[string]any{}}, sovereignty.FeatureAllowed, "web_search"},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy := open()
			if c.change != nil {
				c.change(&policy)
			}
			w.must(t, "PUT", "/organisations/"+org+"/policy", policy, nil)
			for _, stream := range []bool{false, true} {
				mark := fmt.Sprintf("mark-%d-end", serial.Add(1))
				q := question{model: c.model, mark: mark, stream: stream, extra: c.extra, header: map[string]string{}}
				if c.class != "" {
					q.header[gateway.ClassHeader] = c.class
				}
				r := w.get(t, key.Token, q)
				if r.status != 403 || r.header.Get("X-Foundry-Problem") != string(c.rule) || !strings.Contains(r.errText, string(c.rule)) || !strings.Contains(r.errText, c.says) {
					t.Fatalf("want a refusal by %s that says %q, got %q: %s", c.rule, c.says, r.header.Get("X-Foundry-Problem"), r)
				}
				if at := board.at(mark); len(at) > 0 {
					t.Errorf("the request arrived at %v", at)
				}
				row := w.refused(t, org, r.id)
				if row.Rule != string(c.rule) || row.Status != 403 || row.Model != c.model || row.Key != key.ID || c.class != "" && row.Class != c.class {
					t.Errorf("recorded as %+v", row)
				}
			}
		})
	}
}

func TestAFeatureThatThePolicyNamesIsLetThrough(t *testing.T) {
	w := abroad.get(t)
	policy := open()
	policy.AllowedFeatures = []string{"store"}
	mark := fmt.Sprintf("mark-%d-end", serial.Add(1))
	r := w.get(t, w.token(t, policy), question{model: "german", mark: mark, extra: map[string]any{"store": true}})
	if r.status != 200 || len(board.at(mark)) != 1 {
		t.Fatalf("arrived at %v: %s", board.at(mark), r)
	}
}

func TestTransfersOutOfTheEEAAreInTheRegisterWithTheirSafeguard(t *testing.T) {
	w := abroad.get(t)
	for _, c := range []struct {
		name      string
		model     string
		regime    sovereignty.Regime
		faulty    string // this place fails first
		at        string // "" : no row is to be
		safeguard string
		n         int
	}{
		{"to a third country, under the EU's regime", "american", sovereignty.RegimeEU, "", "US", "eu-scc SCC-US-7", 1},
		{"to a third country, under the UK's regime", "american", sovereignty.RegimeUK, "", "US", "uk-us-bridge DPF-UK-7", 1},
		{"to the daughter of a company in a third country", "daughter", sovereignty.RegimeEU, "", "IE", "eu-scc SCC-IE-1", 1},
		{"to a country with an adequacy decision", "british", sovereignty.RegimeEU, "", "GB", "eu-adequacy", 1},
		{"as a fallback", "two", sovereignty.RegimeEU, "german", "US", "eu-scc SCC-US-7", 2},
		{"none within the EEA", "german", sovereignty.RegimeEU, "", "", "", 0},
		{"none to the fleet's own models", "own", sovereignty.RegimeEU, "", "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			policy := open()
			policy.Regime = c.regime
			org := w.org(t, policy)
			key := w.key(t, org, nil)
			mark := fmt.Sprintf("mark-%d-end", serial.Add(1))
			if c.faulty != "" {
				board.want(mark, c.faulty, "500")
			}
			r := w.get(t, key.Token, question{model: c.model, mark: mark})
			if r.status != 200 {
				t.Fatal(r)
			}
			row := w.recorded(t, r.id)
			rows := w.transfers(t, org)
			if c.at == "" {
				if len(rows) != 0 || row.LeavesEEA {
					t.Fatalf("rows that nobody needs: %+v", rows)
				}
				return
			}
			if len(rows) != 1 {
				t.Fatalf("%d rows in the register, want 1: %+v", len(rows), rows)
			}
			got := rows[0]
			if got.ID.String() != r.id || got.N != c.n || got.Destination != c.at || !got.LeavesEEA || got.Key != key.ID || !strings.Contains(got.Safeguard, c.safeguard) {
				t.Errorf("the register says %+v", got)
			}
			if r.header.Get("X-Foundry-Jurisdiction") != c.at {
				t.Errorf("the client was told %q", r.header.Get("X-Foundry-Jurisdiction"))
			}
		})
	}
}

func TestTheStricterOfKeyAndHeaderIsTheDataClass(t *testing.T) {
	w := abroad.get(t)
	classes := []string{"", "public", "internal", "confidential", "restricted"}
	policy := open()
	policy.RequireNoRetention = sovereignty.Restricted
	org := w.org(t, policy)
	type judgement struct{ id, by, class string }
	var judged []judgement
	tokens := map[string]string{}
	for _, floor := range classes {
		options := map[string]any{}
		if floor != "" {
			options["class_floor"] = floor
		}
		tokens[floor] = w.key(t, org, options).Token
	}
	for highest := 1; highest <= 4; highest++ {
		policy.Highest = sovereignty.DataClass(highest)
		w.must(t, "PUT", "/organisations/"+org+"/policy", policy, nil)
		for floor, floorName := range classes {
			token := tokens[floorName]
			for header, headerName := range classes {
				want := max(floor, header)
				if header == 0 {
					want = max(floor, highest)
				}
				q := question{model: "own", mark: fmt.Sprintf("mark-%d-end", serial.Add(1)), header: map[string]string{}}
				if headerName != "" {
					q.header[gateway.ClassHeader] = headerName
				}
				r := w.get(t, token, q)
				if r.status != 200 {
					t.Fatal(r)
				}
				judged = append(judged, judgement{r.id, fmt.Sprintf("highest %s, floor %q, header %q", classes[highest], floorName, headerName), classes[want]})
			}
		}
	}
	w.shipped(t)
	for _, j := range judged {
		if got := w.recorded(t, j.id).Class; got != j.class {
			t.Errorf("%s: judged as %s, want %s", j.by, got, j.class)
		}
	}
	r := w.get(t, w.token(t, policy), question{model: "own", header: map[string]string{gateway.ClassHeader: "secret"}})
	if r.status != 400 || r.header.Get("X-Foundry-Problem") != "data-class" {
		t.Errorf("an unknown class: %s", r)
	}
}

func TestAPolicyChangeHoldsFromTheNextRequestOn(t *testing.T) {
	w := abroad.get(t)
	org := w.org(t, open())
	token := w.key(t, org, nil).Token
	ask := func(dialect wire.Dialect) reply {
		return w.get(t, token, question{dialect: dialect, model: "german", mark: fmt.Sprintf("mark-%d-end", serial.Add(1))})
	}
	for range 3 {
		policy := open()
		w.must(t, "PUT", "/organisations/"+org+"/policy", policy, nil)
		if r := ask(wire.OpenAI); r.status != 200 {
			t.Fatal(r)
		}
		policy.ThirdParties = false
		w.must(t, "PUT", "/organisations/"+org+"/policy", policy, nil)
		if r := ask(wire.Anthropic); r.status != 403 {
			t.Fatal(r)
		}
	}
}

func TestAContractThatExpiresWhileTheNodeRunsEndsItsUse(t *testing.T) {
	w := prepared(t)
	v, err := w.vendor("dated", simulator.Options{Format: simulator.OpenAICompatible})
	if err != nil {
		t.Fatal(err)
	}
	var offset atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	today := time.Now().UTC().Truncate(24 * time.Hour)
	p := patient(european("dated", gateway.OpenAICompatible, v.url), "simulator-chat")
	p.Retention.Expires = config.Date{Time: today.AddDate(0, 0, 7)}
	start(t, daemon.Config{Config: gateway.Config{Providers: []gateway.ProviderConfig{p}}}, w, clock)
	policy := anywhere()
	policy.RequireNoRetention = sovereignty.Public
	org := w.org(t, policy)
	token := w.key(t, org, nil).Token
	ask := func() reply { return w.get(t, token, question{model: "simulator-chat"}) }
	if r := ask(); r.status != 200 {
		t.Fatal(r)
	}
	// The last moment of the day named still counts, the next one does not.
	end := p.Retention.Expires.End()
	offset.Store(int64(time.Until(end.Add(-2 * time.Second))))
	if err := w.call("POST", "/keys", map[string]any{"organisation": org, "name": "refreshes the snapshot"}, nil); err != nil {
		t.Fatal(err)
	}
	if r := ask(); r.status != 200 {
		t.Fatalf("on the contract's last day: %s", r)
	}
	offset.Store(int64(time.Until(end.Add(time.Millisecond))))
	arrived := len(v.Requests())
	r := ask()
	if r.status != 403 || r.header.Get("X-Foundry-Problem") != string(sovereignty.ContractInDate) {
		t.Fatalf("after the contract's end: %s", r)
	}
	if got := len(v.Requests()); got != arrived {
		t.Errorf("%d requests arrived after the contract's end", got-arrived)
	}
	if row := w.refused(t, org, r.id); row.Rule != string(sovereignty.ContractInDate) {
		t.Errorf("recorded as %+v", row)
	}
}
