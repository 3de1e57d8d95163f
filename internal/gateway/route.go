package gateway

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Tiers of work. Bulk and routine work goes to the fleet's own models first.
var Tiers = []string{"bulk", "routine", "standard", "frontier"}

// routeTable is the immutable map from logical model names to routes. A new
// one is made when a provider's models change.
type routeTable struct {
	models  map[string]*logicalModel
	drained map[string]bool // providers that are taken out of use
}

type logicalModel struct {
	name   string
	tier   string
	alias  bool // a tier's name, standing for the models of that tier
	routes []route
}

type route struct {
	provider *Provider
	model    string
	order    int
	weight   int
}

// find finds a model by the name that a client gives. Ollama lists a model as
// llama3.2:latest, and its users call it llama3.2.
func (t *routeTable) find(name string) *logicalModel {
	if lm := t.models[name]; lm != nil {
		return lm
	}
	if lm := t.models[name+":latest"]; lm != nil && lm.routes[0].provider.Kind == Ollama {
		return lm
	}
	return nil
}

// newRouteTable makes the table from configuration and from what the
// providers have now.
func newRouteTable(models []ModelConfig, providers []*Provider) *routeTable {
	t := &routeTable{models: map[string]*logicalModel{}}
	byName := map[string]*Provider{}
	for _, p := range providers {
		byName[p.Name] = p
	}
	for _, m := range models {
		lm := &logicalModel{name: m.Name, tier: orString(m.Tier, "standard")}
		for i, r := range m.Routes {
			lm.routes = append(lm.routes, route{byName[r.Provider], orString(r.Model, m.Name), orInt(r.Order, i+1), orInt(r.Weight, 1)})
		}
		t.models[m.Name] = lm
	}
	if len(models) == 0 {
		t.addOwnNames(providers)
	}
	for _, m := range t.models {
		if m.tier == "bulk" || m.tier == "routine" {
			ownFirst(m.routes)
		}
	}
	t.addTierAliases(providers)
	return t
}

// addOwnNames offers every model under its own name, and as provider/model
// where two providers have the same.
func (t *routeTable) addOwnNames(providers []*Provider) {
	for i, p := range providers {
		names := make([]string, 0, len(p.Models()))
		for name := range p.Models() {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			tier := orString(p.Models()[name].Tier, "routine")
			r := route{p, name, i + 1, 1}
			if lm := t.models[name]; lm != nil {
				lm.routes = append(lm.routes, r)
			} else {
				t.models[name] = &logicalModel{name: name, tier: tier, routes: []route{r}}
			}
			t.models[p.Name+"/"+name] = &logicalModel{name: p.Name + "/" + name, tier: tier, routes: []route{r}}
		}
	}
}

// addTierAliases lets clients ask for a tier by its name: it stands for that
// tier's models, or for the nearest tier that has any.
func (t *routeTable) addTierAliases(providers []*Provider) {
	byTier := map[string][]*logicalModel{}
	for _, m := range t.models {
		if !strings.Contains(m.name, "/") {
			byTier[m.tier] = append(byTier[m.tier], m)
		}
	}
	rank := map[*Provider]int{}
	for i, p := range providers {
		rank[p] = i
	}
	for i, tier := range Tiers {
		if t.models[tier] != nil {
			continue
		}
		for _, j := range []int{i, i + 1, i + 2, i + 3, i - 1, i - 2, i - 3} {
			if j < 0 || j >= len(Tiers) || len(byTier[Tiers[j]]) == 0 {
				continue
			}
			candidates := byTier[Tiers[j]]
			sort.Slice(candidates, func(a, b int) bool {
				ra, rb := rank[candidates[a].routes[0].provider], rank[candidates[b].routes[0].provider]
				return ra < rb || ra == rb && candidates[a].name < candidates[b].name
			})
			lm := &logicalModel{name: tier, tier: tier, alias: true, routes: firstOfEach(candidates)}
			if tier == "bulk" || tier == "routine" {
				ownFirst(lm.routes)
			}
			t.models[tier] = lm
			break
		}
	}
}

// firstOfEach takes from models, in order, the first of every provider that
// generates text and the first that makes embeddings.
func firstOfEach(models []*logicalModel) []route {
	type purpose struct {
		provider  *Provider
		embedding bool
	}
	var out []route
	seen := map[purpose]bool{}
	for n, m := range models {
		for _, r := range m.routes {
			p := purpose{r.provider, embeds(r.model)}
			if seen[p] {
				continue
			}
			seen[p] = true
			r.order += n * 1000
			out = append(out, r)
		}
	}
	return out
}

// embeds guesses from its name, as no API tells, whether a model makes
// embeddings. Only the tiers' names depend on it: a model that is asked for by
// its own name is used as asked.
func embeds(model string) bool { return strings.Contains(strings.ToLower(model), "embed") }

// ownFirst moves the fleet's own models before all others, keeping the order
// within each.
func ownFirst(routes []route) {
	const after = 1_000_000
	for i := range routes {
		if !routes[i].provider.Facts.Own {
			routes[i].order += after
		}
	}
}

// ask is what a decision depends on, and the key it is cached under.
type ask struct {
	model    string
	endpoint wire.Endpoint
	class    sovereignty.DataClass
	features string // names of risky fields, sorted, joined by a comma
}

// plan is a cached decision: where a request may go, or why it may not.
type plan struct {
	table      *routeTable
	decision   sovereignty.Decision
	hash       [16]byte
	validUntil time.Time
	tier       string
	hops       []hop
	refusal    *problem.Error
}

// hop is one allowed destination.
type hop struct {
	provider  *Provider
	model     string
	order     int
	weight    int
	zone      sovereignty.Zone
	transfer  sovereignty.Transfer
	safeguard string // what covers the transfer, for the register
	metrics   *hopMetrics
}

// planCache keeps the decisions of one key. Reading takes no lock.
type planCache struct {
	mu    sync.Mutex
	plans atomic.Pointer[map[ask]*plan]
}

// maxPlans bounds the decisions kept per key; a client that asks for ever
// other things gets its decisions made anew.
const maxPlans = 256

func (c *planCache) get(a ask, table *routeTable, now time.Time) *plan {
	m := c.plans.Load()
	if m == nil {
		return nil
	}
	p := (*m)[a]
	if p == nil || p.table != table || (!p.validUntil.IsZero() && !now.Before(p.validUntil)) {
		return nil
	}
	return p
}

func (c *planCache) put(a ask, p *plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := map[ask]*plan{}
	if m := c.plans.Load(); m != nil && len(*m) < maxPlans {
		for k, v := range *m {
			if v.table == p.table {
				next[k] = v
			}
		}
	}
	next[a] = p
	c.plans.Store(&next)
}

// decide makes the plan for what is asked, under a policy. It calls nothing
// and nobody.
func (g *Gateway) decide(policy sovereignty.Policy, organisation string, a ask, table *routeTable, now time.Time) (*plan, error) {
	lm := table.find(a.model)
	if lm == nil {
		return nil, unknownModel(a.model, table)
	}
	var candidates []sovereignty.Candidate
	var routes []route
	var out []string // providers that would be asked, and are taken out of use
	for _, r := range lm.routes {
		if table.drained[r.provider.Name] {
			out = append(out, r.provider.Name)
			continue
		}
		if !offers(r.provider, a.endpoint) || lm.alias && embeds(r.model) != (a.endpoint == wire.Embeddings) {
			continue
		}
		routes = append(routes, r)
		candidates = append(candidates, sovereignty.Candidate{Provider: r.provider.Facts, Model: r.model, Order: r.order, Weight: r.weight, Tier: lm.tier})
	}
	if len(candidates) == 0 && len(out) > 0 {
		return nil, drainedModel(a.model, out)
	}
	if len(candidates) == 0 {
		return nil, problem.New(problem.Unsupported, "endpoint-unsupported", fmt.Sprintf("The model %q is not offered at %s.", a.model, a.endpoint.Path())).
			WithField("model").WithMend("No provider of this model has that endpoint; ask for another model (GET /v1/models) or use another endpoint.")
	}
	var features []string
	if a.features != "" {
		features = strings.Split(a.features, ",")
	}
	d := sovereignty.Decide(policy, sovereignty.Request{Organisation: organisation, Model: a.model, Class: a.class, At: now, Features: features}, candidates)
	p := &plan{table: table, decision: d, hash: d.Hash(), validUntil: d.ValidUntil(), tier: lm.tier}
	for _, al := range d.Allowed {
		r := routes[al.Index]
		p.hops = append(p.hops, hop{r.provider, r.model, al.Order, r.weight, al.Zone, al.Transfer, safeguardText(al.Transfer), g.metrics.hop(r.provider, r.model, a)})
	}
	if len(p.hops) == 0 {
		p.refusal = d.Refusal()
	}
	return p, nil
}

// offers reports whether a provider can answer an endpoint, by itself or
// through translation.
func offers(p *Provider, ep wire.Endpoint) bool {
	return p.facts.endpoints[ep] || translated(p, ep)
}

// translated reports whether requests at ep must be translated for p.
func translated(p *Provider, ep wire.Endpoint) bool {
	return ep == wire.ChatCompletions && p.facts.dialect == wire.Anthropic ||
		ep == wire.Messages && p.facts.dialect == wire.OpenAI && !p.facts.endpoints[wire.Messages]
}

func unknownModel(name string, table *routeTable) error {
	e := problem.New(problem.NotFound, "model-unknown", fmt.Sprintf("There is no model %q here.", clip(name, 100))).WithField("model").
		WithMend("GET /v1/models lists the models.")
	var names []string
	for n := range table.models {
		names = append(names, n)
	}
	if near := config.Nearest(name, names); near != "" {
		e.Mend = fmt.Sprintf("Did you mean %q? GET /v1/models lists the models.", near)
	}
	return e
}

// sequence gives the hops in the order of one request: by order, and within
// the same order and zone by weighted chance.
func (p *plan) sequence(dst []*hop) []*hop {
	for i := range p.hops {
		dst = append(dst, &p.hops[i])
	}
	for start := 0; start < len(dst); {
		end := start + 1
		for end < len(dst) && dst[end].order == dst[start].order && dst[end].zone == dst[start].zone {
			end++
		}
		for i := start; i < end-1; i++ {
			total := 0
			for _, h := range dst[i:end] {
				total += h.weight
			}
			n := rand.IntN(max(total, 1))
			for j := i; j < end; j++ {
				if n -= dst[j].weight; n < 0 {
					dst[i], dst[j] = dst[j], dst[i]
					break
				}
			}
		}
		start = end
	}
	return dst
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
