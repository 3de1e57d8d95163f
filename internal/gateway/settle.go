package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

// settle writes the request's outcome: what it used, what it cost and how it
// ended. The rest of what was reserved goes back.
func (c *call) settle(err error) {
	now := c.g.Clock()
	c.conclude(err)
	usage, known := c.usage()
	cost := c.cost(usage) + c.sunkCost
	add(&usage, c.sunk)
	c.reservation.Settle(cost, usage.Input+usage.Output)
	o := ledger.Outcome{Seq: c.id.Seq, At: now, Result: c.result, Status: c.status, Usage: usage, UsageKnown: known,
		CostNano: cost, Latency: now.Sub(c.start), Tries: c.tries}
	if c.hop != nil {
		o.Provider, o.ProviderModel = c.hop.provider.Name, c.hop.model
	}
	if !c.first.IsZero() {
		o.FirstToken = c.first.Sub(c.start)
	}
	if _, jerr := c.g.Recorder.Outcome(&o); jerr != nil {
		// The admission is in the journal, so the request stays visible as
		// "outcome unknown" and the next start sweeps it.
		c.g.Log.Error("an outcome was not recorded", "request", c.id.String(), "error", jerr)
	}
	if c.hop != nil {
		c.hop.metrics.observe(&o, usage)
	}
	c.countFallback(cost)
}

// conclude derives result and status from the error, where answering did not
// settle them already.
func (c *call) conclude(err error) {
	var r *rejection
	switch {
	case c.result != 0:
		if c.status == 0 {
			c.status = statusClientGone
		}
	case err == nil:
		c.result, c.status = ledger.OK, http.StatusOK
	case errors.As(err, &r):
		c.result, c.status = ledger.Rejected, r.status
	case c.left() || errors.Is(err, context.Canceled):
		c.result, c.status = ledger.ClientGone, statusClientGone
	default:
		e := problem.From(err)
		c.status = e.Kind.Status()
		switch e.Kind {
		case problem.Timeout:
			c.result = ledger.Timeout
		case problem.Overloaded:
			c.result = ledger.Shed
		case problem.Upstream, problem.RateLimited, problem.Unavailable:
			c.result = ledger.UpstreamError
		case problem.Unsupported, problem.Invalid:
			c.result = ledger.Rejected
		default:
			c.result = ledger.Failed
		}
		if c.answered { // with comments only, while waiting for a provider
			c.status = http.StatusOK
		}
	}
}

// statusClientGone is what is recorded for a client that left (nginx's 499).
const statusClientGone = 499

// usage is what the upstream said it consumed, or an estimate where content
// went out and it did not say: a client that leaves is billed what was
// produced until then.
func (c *call) usage() (u wire.Usage, known bool) {
	u = c.chunk.Usage
	switch {
	case u.Set && !u.Partial:
		return u, true
	case c.first.IsZero() && !u.Set && c.result != ledger.OK && (c.result != ledger.ClientGone || len(c.tries) == 0):
		return wire.Usage{}, true // nothing was produced
	}
	u.Input = max(u.Input, c.req.InputBytes/bytesPerToken)
	u.Output = max(u.Output, c.chunk.Events, c.chunk.ContentBytes/bytesPerToken) // an event brings at least a token
	return u, false
}

// sink keeps what a provider said that it consumed before it failed: an
// Anthropic stream tells the input at its start, and the provider bills it. The
// usage of an answer that was refused as a whole is not believed.
func (c *call) sink() {
	u := c.chunk.Usage
	c.chunk.Usage = wire.Usage{}
	if !u.Set || !u.Partial {
		return
	}
	c.sunkCost += c.cost(u)
	add(&c.sunk, u)
}

// add sums token counts.
func add(to *wire.Usage, u wire.Usage) {
	to.Input += u.Input
	to.Output += u.Output
	to.CachedInput += u.CachedInput
	to.CacheWrite += u.CacheWrite
	to.Reasoning += u.Reasoning
}

func (c *call) cost(u wire.Usage) int64 {
	if c.hop == nil || c.ep == wire.CountTokens {
		return 0
	}
	m := c.hop.provider.model(c.hop.model)
	if m == nil {
		return 0
	}
	return m.Price.Cost(u)
}
