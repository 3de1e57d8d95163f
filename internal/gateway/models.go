package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// ModelInfo is a logical model as callers and operators see it.
type ModelInfo struct {
	Name   string
	Tier   string
	Alias  bool
	Routes []RouteInfo
}

// RouteInfo is one route of a logical model.
type RouteInfo struct {
	Provider     string
	Model        string
	Own          bool
	Simulated    bool
	Jurisdiction sovereignty.Jurisdiction
}

// Models lists the logical models by name.
func (g *Gateway) Models() []ModelInfo {
	var out []ModelInfo
	for _, m := range g.table.Load().models {
		info := ModelInfo{Name: m.name, Tier: m.tier, Alias: m.alias}
		for _, r := range m.routes {
			f := r.provider.Facts
			ri := RouteInfo{Provider: r.provider.Name, Model: r.model, Own: f.Own, Simulated: f.Simulated}
			if len(f.Processing) > 0 {
				ri.Jurisdiction = f.Processing[0]
			}
			info.Routes = append(info.Routes, ri)
		}
		out = append(out, info)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// serveModels answers GET /v1/models and GET /v1/models/{name}, in the dialect
// of the caller, with the models that the caller's policy lets it use for its
// highest data class or below.
func (g *Gateway) serveModels(w http.ResponseWriter, r *http.Request) {
	d := dialectOf(r)
	name, ok := strings.CutPrefix(r.URL.Path, "/v1/models")
	if !ok || name != "" && !strings.HasPrefix(name, "/") {
		g.refuse(w, r, d, problem.New(problem.NotFound, "path-unknown", fmt.Sprintf("There is nothing at %s.", clip(r.URL.Path, 100))).
			WithMend("The endpoints are /v1/chat/completions, /v1/embeddings, /v1/responses, /v1/messages, /v1/messages/count_tokens and /v1/models."))
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		g.refuse(w, r, d, problemMethod(r.Method, "GET"))
		return
	}
	c := &call{g: g, w: w, r: r, ctx: r.Context(), start: g.Clock()}
	who, err := c.authenticate()
	if err != nil {
		g.refuse(w, r, d, problem.From(err))
		return
	}
	visible := g.visible(who, c.start)
	var body any
	if name = strings.TrimPrefix(name, "/"); name != "" {
		table := g.table.Load()
		i := -1
		if lm := table.find(name); lm != nil {
			i = slices.IndexFunc(visible, func(m ModelInfo) bool { return m.Name == lm.name })
		}
		if i < 0 {
			g.refuse(w, r, d, problem.From(unknownModel(name, table)))
			return
		}
		body = modelBody(d, visible[i])
	} else {
		body = listBody(d, visible)
	}
	out, err := json.Marshal(body)
	if err != nil {
		g.refuse(w, r, d, problem.From(err))
		return
	}
	header := w.Header()
	header["Content-Type"], header["Cache-Control"] = jsonMedia, noStore
	header["X-Request-Id"] = []string{g.unrecordedID()}
	_, _ = w.Write(append(out, '\n'))
}

// visible lists the models of which at least one route is allowed to the
// caller for public data, the laxest there is, or for its key's floor.
func (g *Gateway) visible(who *caller, now time.Time) []ModelInfo {
	var out []ModelInfo
	table := g.table.Load()
	class := max(who.floor, sovereignty.Public)
	for _, m := range g.Models() {
		for _, ep := range []wire.Endpoint{wire.ChatCompletions, wire.Embeddings, wire.Messages} {
			p, err := g.decide(who.policy, who.orgName, ask{model: m.Name, endpoint: ep, class: class}, table, now)
			if err == nil && p.refusal == nil {
				out = append(out, m)
				break
			}
		}
	}
	return out
}

// started is the creation time shown for models, which have none of their own.
var started = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func modelBody(d wire.Dialect, m ModelInfo) map[string]any {
	owner := m.Routes[0].Provider
	if d == wire.Anthropic {
		return map[string]any{"type": "model", "id": m.Name, "display_name": m.Name, "created_at": started.Format(time.RFC3339)}
	}
	return map[string]any{"id": m.Name, "object": "model", "created": started.Unix(), "owned_by": owner,
		"foundry": map[string]any{"tier": m.Tier, "jurisdiction": m.Routes[0].Jurisdiction, "simulated": m.Routes[0].Simulated}}
}

func listBody(d wire.Dialect, models []ModelInfo) map[string]any {
	data := make([]map[string]any, 0, len(models))
	for _, m := range models {
		data = append(data, modelBody(d, m))
	}
	if d == wire.Anthropic {
		body := map[string]any{"data": data, "has_more": false, "first_id": nil, "last_id": nil}
		if len(models) > 0 {
			body["first_id"], body["last_id"] = models[0].Name, models[len(models)-1].Name
		}
		return body
	}
	return map[string]any{"object": "list", "data": data}
}
