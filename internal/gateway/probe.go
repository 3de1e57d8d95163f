package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/translate"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/gateway/wire"
)

const (
	probeEvery   = 30 * time.Second
	probeTimeout = 10 * time.Second
	probeBody    = 4 << 20
)

// probe asks a provider which models it has, now and then, for ever. It sends
// no client data. The answer makes models known where discovery is on, and
// says whether the provider can be reached.
func (g *Gateway) probe(ctx context.Context, p *Provider) {
	for {
		g.ProbeOnce(ctx, p)
		pause := probeEvery/2 + rand.N(probeEvery)
		if h := p.health.Load(); h != nil && !h.OK {
			pause /= 4 // a provider that comes back is noticed soon
		}
		var asked <-chan struct{}
		if p.front != nil {
			pause, asked = p.front.pause(), p.front.kick
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		case <-asked:
		}
	}
}

// ProbeOnce probes a provider now.
func (g *Gateway) ProbeOnce(ctx context.Context, p *Provider) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := g.Clock()
	names, err := p.list(ctx)
	if err != nil && errors.Is(err, context.Canceled) {
		return
	}
	h := &Health{At: g.Clock(), OK: err == nil, Latency: g.Clock().Sub(began)}
	cause := ""
	if err != nil {
		cause = wire.Redact(err.Error(), p.secret)
		h.Error = cause
		if failed := new(upstream.Error); errors.As(err, &failed) {
			h.Error = describe(err).message
		}
	}
	p.judgeFront(err)
	if was := p.health.Swap(h); was == nil || was.OK != h.OK {
		g.Log.Info("provider probed", "provider", p.Name, "ok", h.OK, "cause", cause)
	}
	if err == nil && p.discovers() && p.discovered(names) {
		g.rebuild()
		g.Log.Info("models discovered", "provider", p.Name, "models", len(p.Models()))
	}
}

// rebuild makes the route table anew. Probes of two providers may end at the
// same moment: the later table must contain both their models.
func (g *Gateway) rebuild() {
	g.building.Lock()
	defer g.building.Unlock()
	g.table.Store(g.drainedTable(g.out))
}

// Health returns the last probe's result, nil before the first.
func (p *Provider) Health() *Health { return p.health.Load() }

// Circuit returns the state of the provider's circuit breaker.
func (p *Provider) Circuit() upstream.State { return p.breaker.State() }

// Connections returns what the provider's connection pool does.
func (p *Provider) Connections() upstream.Stats { return p.client.Stats() }

func (p *Provider) discovers() bool {
	if p.config.Discover != nil {
		return *p.config.Discover
	}
	return p.Facts.Own
}

// list asks for the provider's models.
func (p *Provider) list(ctx context.Context) ([]string, error) {
	if p.front != nil {
		return p.front.ask(ctx)
	}
	var headers []upstream.Header
	if p.facts.dialect == wire.Anthropic {
		headers = append(headers, upstream.Header{Name: "Anthropic-Version", Value: translate.DefaultAnthropicVersion})
	}
	resp, err := p.client.Do(ctx, http.MethodGet, "/v1/models", headers, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	body, err := io.ReadAll(io.LimitReader(resp, probeBody))
	if err != nil {
		return nil, err
	}
	if resp.Status != http.StatusOK {
		return nil, fmt.Errorf("asked for its models, it answered %d", resp.Status)
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, errors.New("asked for its models, it did not answer with a list")
	}
	names := make([]string, 0, len(list.Data))
	for _, m := range list.Data {
		if m.ID != "" && len(m.ID) <= 200 {
			names = append(names, m.ID)
		}
	}
	return names, nil
}

// discovered takes over the models that the provider lists, beside those that
// are configured; it reports whether anything changed.
func (p *Provider) discovered(names []string) bool {
	old := *p.models.Load()
	next := make(map[string]*ProviderModel, len(names))
	for name, m := range old {
		if !m.Discovered {
			next[name] = m
		}
	}
	changed := false
	for _, name := range names {
		switch {
		case next[name] != nil:
		case old[name] != nil:
			next[name] = old[name]
		default:
			next[name] = &ProviderModel{Name: name, Context: defaultContext, MaxOutput: defaultContext, Discovered: true}
			changed = true
		}
	}
	if changed || len(next) != len(old) {
		p.models.Store(&next)
		return true
	}
	return false
}
