package gateway

import (
	"context"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
)

// countFallback counts a request that the fleet's own models came first for,
// and that somebody else answered. At home it would have cost nothing.
func (c *call) countFallback(cost int64) {
	if c.home == nil || c.hop == nil || c.hop.provider.Facts.Own || c.result != ledger.OK && cost == 0 {
		return
	}
	organisation := c.caller.org.String()
	c.g.metrics.fallbacks.WithLabelValues(c.home.Name, organisation).Inc()
	c.g.metrics.fallbackCost.WithLabelValues(c.home.Name, organisation).Add(float64(cost) / 1e9)
	if c.g.Fallbacks != nil {
		c.g.Fallbacks.Add(c.home.Name, c.caller.org, cost, c.g.exchange.currency, c.home.away())
	}
}

// away reports whether the provider is out of use: one answer that failed is
// not yet a fallback that anybody has to hear of.
func (p *Provider) away() bool {
	h := p.health.Load()
	return p.breaker.State() != upstream.Closed || h != nil && !h.OK
}

const fallbackEvery = time.Second

// runFallbacks writes down what fallbacks cost, and ends those that are over,
// until ctx ends.
func (g *Gateway) runFallbacks(ctx context.Context) {
	if g.Fallbacks == nil {
		return
	}
	tick := time.NewTicker(fallbackEvery)
	defer tick.Stop()
	for {
		if err := g.Fallbacks.Flush(ctx); err != nil && ctx.Err() == nil {
			g.Log.Debug("what fallbacks cost was not written down yet", "error", err)
		}
		if err := g.Fallbacks.End(ctx, g.limits.calm, g.back); err != nil && ctx.Err() == nil {
			g.Log.Debug("whether fallbacks are over was not found out", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// back reports whether a provider is in use here. One that is no longer
// configured holds no fallback open.
func (g *Gateway) back(name string) bool {
	for _, p := range g.providers {
		if p.Name == name {
			return !p.away()
		}
	}
	return true
}
