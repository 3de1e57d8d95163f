package gateway

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Drain takes providers out of use, and gives back those that are not named: the
// next request is decided by that. Where a request may go is decided as ever, by
// the policy of its organisation, among the providers that are left; a switch
// opens no way that was closed.
func (g *Gateway) Drain(providers []string) {
	g.building.Lock()
	defer g.building.Unlock()
	next := outOf(providers)
	if maps.Equal(next, g.out) {
		return
	}
	g.out = next
	g.table.Store(g.drainedTable(next))
	g.Log.Warn("providers are taken out of use", "providers", strings.Join(slices.Sorted(maps.Keys(next)), " "))
}

// Drained lists the providers that are taken out of use.
func (g *Gateway) Drained() []string { return slices.Sorted(maps.Keys(g.table.Load().drained)) }

func outOf(providers []string) map[string]bool {
	out := make(map[string]bool, len(providers))
	for _, name := range providers {
		out[name] = true
	}
	return out
}

// drainedTable makes the routes, without some providers.
func (g *Gateway) drainedTable(out map[string]bool) *routeTable {
	t := newRouteTable(g.models, g.providers)
	t.drained = out
	return t
}

func drainedModel(model string, out []string) error {
	slices.Sort(out)
	return problem.New(problem.Unavailable, "providers-drained", fmt.Sprintf("Every provider of the model %q is taken out of use: %s.", clip(model, 100), strings.Join(slices.Compact(out), ", "))).
		WithField("model").WithMend("Ask for another model (GET /v1/models), or wait until the switch of suppliers is over.")
}

// Effect is what a switch means for one organisation and one model.
type Effect struct {
	Organisation string  `json:"organisation"`
	Model        string  `json:"model"`
	Now          string  `json:"now,omitempty"`     // provider that comes first; empty: nobody may
	Then         string  `json:"then,omitempty"`    // provider that would; empty: nobody may
	Refused      []Class `json:"refused,omitempty"` // classes of data that may go somewhere now, and nowhere then
	Cost         string  `json:"cost,omitempty"`    // of a million tokens in and out, now and then
}

// Class is a class of data that would be refused, and why.
type Class struct {
	Class string `json:"class"`
	Why   string `json:"why"`
}

// Switch says what taking providers out of use would mean for organisations, for
// every model that now goes there. It changes nothing and calls nobody: it
// decides as requests would be decided.
func (g *Gateway) Switch(organisations []*access.Organisation, out []string) []Effect {
	now := g.table.Load()
	both := outOf(out)
	maps.Copy(both, now.drained)
	then := &routeTable{models: now.models, drained: both}
	asked := outOf(out)
	var effects []Effect
	for _, name := range slices.Sorted(maps.Keys(now.models)) {
		lm := now.models[name]
		if strings.Contains(name, "/") || lm.alias || !slices.ContainsFunc(lm.routes, func(r route) bool { return asked[r.provider.Name] }) {
			continue
		}
		endpoint := ""
		if embeds(name) {
			endpoint = "/v1/embeddings"
		}
		for _, o := range organisations {
			if e, ok := g.effect(o, name, endpoint, now, then); ok {
				effects = append(effects, e)
			}
		}
	}
	return effects
}

// effect compares two tables for one model; false: nothing changes.
func (g *Gateway) effect(o *access.Organisation, model, endpoint string, now, then *routeTable) (e Effect, changes bool) {
	e = Effect{Organisation: o.Name, Model: model}
	var from, to *Step
	for _, class := range []sovereignty.DataClass{sovereignty.Public, sovereignty.Internal, sovereignty.Confidential, sovereignty.Restricted} {
		a, errA := g.explain(o, model, class.String(), endpoint, "", now)
		if errA != nil || !a.Allowed {
			continue // it goes nowhere now either
		}
		b, errB := g.explain(o, model, class.String(), endpoint, "", then)
		if from == nil {
			from = &a.Order[0]
		}
		switch {
		case errB != nil:
			e.Refused = append(e.Refused, Class{class.String(), problem.From(errB).Detail})
		case !b.Allowed:
			e.Refused = append(e.Refused, Class{class.String(), b.Refusal.Detail})
		case to == nil:
			to = &b.Order[0]
		}
	}
	if from == nil || to != nil && *to == *from && len(e.Refused) == 0 {
		return e, false
	}
	e.Now = from.Provider
	if to != nil {
		e.Then = to.Provider
		e.Cost = fmt.Sprintf("%s now, %s then", g.million(from), g.million(to))
	}
	return e, true
}

// million says what a million tokens of a model cost, in and out.
func (g *Gateway) million(s *Step) string {
	for _, p := range g.providers {
		if p.Name != s.Provider {
			continue
		}
		switch m := p.Models()[s.Model]; {
		case m != nil && m.Priced:
			return ledger.Money(m.Price.Input, g.exchange.currency) + " in and " + ledger.Money(m.Price.Output, g.exchange.currency) + " out"
		case p.Facts.Own:
			return "nothing"
		}
	}
	return "an unknown price"
}
