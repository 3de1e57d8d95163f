package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// ClassHeader is the request header that names the data class of a request.
const ClassHeader = "X-Foundry-Data-Class"

var endpoints = map[string]wire.Endpoint{
	wire.ChatCompletions.Path(): wire.ChatCompletions,
	wire.Embeddings.Path():      wire.Embeddings,
	wire.Responses.Path():       wire.Responses,
	wire.Messages.Path():        wire.Messages,
	wire.CountTokens.Path():     wire.CountTokens,
}

// call is one request on its way. It is pooled: nothing of it may outlive
// release.
type call struct {
	g     *Gateway
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context
	ep    wire.Endpoint
	start time.Time

	caller *caller
	req    wire.Request
	body   []byte
	ask    ask
	plan   *plan
	hops   []*hop

	id          ledger.RequestID
	ticket      journal.Ticket
	admitted    bool
	durable     bool
	reserved    int64
	reservation ledger.Reservation

	home        *Provider // the fleet's own that comes first, if one does
	hop         *hop      // the destination that answered, or was tried last
	tries       []ledger.Try
	recorded    []*Provider // destinations that the journal names for this request
	broke       string      // why an answer broke off after part of it had gone out
	answered    bool        // a byte of the answer or its header has gone to the client
	edited      []byte
	copied      int64  // bytes of changed copies of the body that count towards limits.body_memory
	in          []byte // bytes from the upstream
	out         []byte // bytes for the client, where they differ
	chunk       wire.Chunk
	sunk        wire.Usage // what attempts used that failed before any content
	sunkCost    int64
	result      ledger.Result
	status      int
	first       time.Time // when the first content reached this node
	deadlineSet time.Time // when the client's write deadline was last moved
}

var calls = sync.Pool{New: func() any { return &call{} }}

// keptBuffer is the largest buffer that goes back into the pool: a few large
// requests must not make every later one large.
const keptBuffer = 64 << 10

func (c *call) release() {
	for _, b := range []*[]byte{&c.body, &c.edited, &c.in, &c.out} {
		if cap(*b) > keptBuffer {
			*b = nil
		}
		*b = (*b)[:0]
	}
	c.req.Reset()
	c.chunk.Reset()
	clear(c.hops[:cap(c.hops)])
	clear(c.tries[:cap(c.tries)])
	clear(c.recorded[:cap(c.recorded)])
	*c = call{req: c.req, chunk: c.chunk, body: c.body, edited: c.edited, in: c.in, out: c.out, hops: c.hops[:0], tries: c.tries[:0],
		recorded: c.recorded[:0]}
	calls.Put(c)
}

// answer serves one model request from its first check to its ledger entry.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, ep wire.Endpoint) {
	if g.inFlight.Add(1) > g.limits.inFlight {
		g.inFlight.Add(-1)
		g.metrics.shed.Inc()
		g.refuse(w, r, ep.Dialect(), problem.New(problem.Overloaded, "overloaded", "This node is answering as many requests as it can.").
			WithMend("Try again shortly.").WithRetry(time.Second))
		return
	}
	defer g.inFlight.Add(-1)
	c := calls.Get().(*call)
	c.g, c.w, c.r, c.ctx, c.ep, c.start = g, w, r, r.Context(), ep, g.Clock()
	defer c.release()
	err := c.admit()
	if err == nil {
		err = c.forward()
		c.settle(err)
	}
	abort := false
	switch {
	case err == nil:
	case !c.answered:
		c.fail(err)
	case !errors.Is(err, errBroken):
		c.failWithin(err)
	default:
		abort = !c.req.Stream
	}
	g.held.Add(-int64(cap(c.body)) - c.copied)
	if abort {
		// A part of the answer has gone out. Returning would end it properly,
		// and the client would take the part for the whole.
		panic(http.ErrAbortHandler)
	}
}

// admit does everything that comes before a byte may go to a provider.
func (c *call) admit() error {
	key, err := c.authenticate()
	if err != nil {
		return err
	}
	c.caller = key
	if err := c.read(); err != nil {
		return err
	}
	if err := wire.Scan(c.ep, c.body, &c.req); err != nil {
		return err
	}
	if err := c.classify(); err != nil {
		return err
	}
	if err := c.route(); err != nil {
		return err
	}
	return c.reserve()
}

func (c *call) authenticate() (*caller, error) {
	token := c.r.Header.Get("X-Api-Key")
	if token == "" {
		scheme, rest, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, problem.New(problem.Unauthenticated, "key-missing", "The request carries no API key.").
				WithMend("Send it as `Authorization: Bearer fdy_…` or `x-api-key: fdy_…`.")
		}
		token = strings.TrimSpace(rest)
	}
	if age := c.g.Age(); age > c.g.limits.snapshotAge {
		return nil, problem.New(problem.Unavailable, "snapshot-too-old", "The database has been away for longer than keys may be trusted without it.").
			WithMend("Try again when it is back.").WithRetry(10 * time.Second)
	}
	key, _, err := c.g.Verifier.Verify(c.ctx, c.start, token, 2*time.Second)
	if err != nil {
		return nil, err
	}
	known := c.g.tenants.Load().callers[key.ID]
	if known == nil {
		return nil, problem.New(problem.Unavailable, "directory-changing", "The key directory is being replaced.").WithRetry(time.Second)
	}
	return known, nil
}

// bodyTimeout is how long a client may take to send a request's body.
const bodyTimeout = 60 * time.Second

// read takes the body into memory, bounded by request and by node.
func (c *call) read() error {
	limit := c.g.limits.bodyBytes
	if c.r.ContentLength > limit {
		return tooLarge(limit)
	}
	size := int(c.r.ContentLength)
	if size < 0 {
		size = 16 << 10
	}
	if cap(c.body) < size+1 {
		c.body = make([]byte, 0, size+512)
	}
	held := int64(cap(c.body))
	if c.g.held.Add(held) > c.g.limits.bodyMemory {
		c.g.held.Add(-held)
		c.body = nil // so that what is given back at the end is nothing
		c.g.metrics.shed.Inc()
		return problem.New(problem.Overloaded, "body-memory", "This node holds as many request bodies as it can.").
			WithMend("Try again shortly.").WithRetry(time.Second)
	}
	defer func() { c.g.held.Add(int64(cap(c.body)) - held) }()
	// A deadline on the server would also end long streams, because net/http
	// watches for the client's leaving with the same deadline.
	rc := http.NewResponseController(c.w)
	_ = rc.SetReadDeadline(c.start.Add(bodyTimeout))
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	for {
		if len(c.body) == cap(c.body) {
			c.body = append(c.body, 0)[:len(c.body)]
		}
		n, err := c.r.Body.Read(c.body[len(c.body):cap(c.body)])
		c.body = c.body[:len(c.body)+n]
		switch {
		case int64(len(c.body)) > limit:
			return tooLarge(limit)
		case err == io.EOF:
			return nil
		case err != nil:
			return problem.New(problem.Invalid, "body-unreadable", "The request body did not arrive whole.").Wrap(err)
		}
	}
}

func tooLarge(limit int64) error {
	return problem.New(problem.TooLarge, "body-too-large", fmt.Sprintf("The request body is larger than %d bytes.", limit)).
		WithMend("Send less, or ask the operator to raise limits.body_bytes.")
}

// classify settles the data class: the stricter of the key's floor and the
// header; without a header, the organisation's highest.
func (c *call) classify() error {
	var asked sovereignty.DataClass
	if text := c.r.Header.Get(ClassHeader); text != "" {
		var err error
		if asked, err = sovereignty.ParseDataClass(text); err != nil {
			return problem.New(problem.Invalid, "data-class", fmt.Sprintf("%q is not a data class.", clip(text, 40))).
				WithField(ClassHeader).WithMend("Use public, internal, confidential or restricted.")
		}
	}
	c.ask = ask{model: c.req.Model, endpoint: c.ep, class: sovereignty.StricterClass(c.caller.floor, asked, c.caller.policy.Highest)}
	if len(c.req.Risky) > 0 {
		c.ask.features = joinRisky(c.req.Risky)
	}
	return nil
}

// route finds the decision and puts the allowed destinations in order.
func (c *call) route() error {
	g, table := c.g, c.g.table.Load()
	c.plan = c.caller.plans.get(c.ask, table, c.start)
	if c.plan == nil {
		p, err := g.decide(c.caller.policy, c.caller.orgName, c.ask, table, c.start)
		if err != nil {
			return err
		}
		c.ask.model = strings.Clone(c.ask.model) // the cache outlives the body
		c.caller.plans.put(c.ask, p)
		c.plan = p
	}
	if c.plan.refusal != nil {
		return c.refused(c.plan.refusal)
	}
	c.hops = c.plan.sequence(c.hops[:0])
	if first := c.hops[0].provider; first.Facts.Own && !first.Facts.Simulated {
		c.home = first
	}
	return nil
}

// reserve takes the worst-case cost from the node's budget lease and records
// the admission. The admission is durable before a third party sees a byte.
func (c *call) reserve() error {
	first, wait := c.available()
	if first < 0 {
		return c.refused(problem.New(problem.Unavailable, "providers-resting", "Every provider that may answer has failed repeatedly and is being left alone for a moment.").
			WithMend("Try again shortly.").WithRetry(max(wait, time.Second)))
	}
	c.hops = append(c.hops[:0], c.hops[first:]...)
	worst, tokens := c.worst()
	reservation, err := c.caller.account.AdmitWait(c.ctx, c.start, leaseWait, worst, tokens)
	if err != nil && problem.From(err).Kind == problem.Exhausted && c.onlyFree() {
		worst = 0
		reservation, err = c.caller.account.AdmitWait(c.ctx, c.start, leaseWait, 0, tokens)
	}
	if err != nil {
		return c.refused(problem.From(err))
	}
	c.reservation, c.reserved = reservation, worst
	if err := c.enter(); err != nil {
		c.reservation.Settle(0, 0)
		return err
	}
	return nil
}

// onlyFree leaves those destinations that cost nothing, if one of them may be
// tried: a budget that a fallback has spent keeps nobody from the fleet's own
// models.
func (c *call) onlyFree() bool {
	there := false
	for _, h := range c.hops {
		there = there || c.free(h) && h.provider.breaker.RetryAfter() == 0
	}
	if there {
		c.hops = slices.DeleteFunc(c.hops, func(h *hop) bool { return !c.free(h) })
	}
	return there
}

func (c *call) free(h *hop) bool {
	m := h.provider.model(h.model)
	return h.provider.Facts.Own && m != nil && m.Price.Worst(m.Context, m.MaxOutput) == 0
}

// available finds the first destination whose circuit is not open; otherwise
// how long until one may be tried.
func (c *call) available() (int, time.Duration) {
	var wait time.Duration
	for i, h := range c.hops {
		after := h.provider.breaker.RetryAfter()
		if after == 0 {
			return i, 0
		}
		if wait == 0 || after < wait {
			wait = after
		}
	}
	return -1, wait
}

// worst bounds what the request can cost at the dearest of its destinations,
// and the tokens that count against the rate limit.
func (c *call) worst() (nano, tokens int64) {
	if c.ep == wire.CountTokens {
		return 0, 0 // it generates nothing and costs nothing
	}
	input := c.req.InputBytes + int64(c.req.Images)*imageTokens
	for _, h := range c.hops {
		m := h.provider.model(h.model)
		if m == nil {
			continue
		}
		output := m.MaxOutput
		if c.ep == wire.Embeddings {
			output = 0
		} else if c.req.MaxTokensField != "" && c.req.MaxTokens < output {
			output = c.req.MaxTokens
		}
		output *= max(1, c.req.N)
		nano = max(nano, m.Price.Worst(min(input, m.Context), output))
	}
	return nano, c.req.InputBytes/bytesPerToken + max(c.req.MaxTokens, 0)
}

const (
	leaseWait     = 250 * time.Millisecond // how long a request waits for a larger budget lease
	imageTokens   = 4096                   // more than any vendor documents for one image
	bytesPerToken = 4                      // the usual estimate for European languages; settled to the real number afterwards
)

// refused records a denial and returns it.
func (c *call) refused(e *problem.Error) error {
	if err := c.trace(); err != nil {
		return err
	}
	ticket, err := c.g.Recorder.Refusal(&ledger.Refusal{At: c.start, Organisation: c.caller.org, Key: c.caller.key, Endpoint: c.ep,
		Model: c.ask.model, Class: c.ask.class, Decision: c.plan.hash, Rule: e.Code, Status: e.Kind.Status()})
	if err != nil {
		return problem.From(err)
	}
	c.id = ledger.RequestID{Node: c.g.Node, Boot: c.g.Boot, Seq: ticket.Seq()}
	c.g.metrics.refused(e.Code)
	if err := ticket.Wait(c.ctx); err != nil {
		return problem.From(err)
	}
	return e
}

// trace puts the decision's trace into this boot's journal before the first
// event that cites it.
func (c *call) trace() error {
	if err := c.g.Recorder.Trace(c.caller.org, c.plan.hash, c.plan.decision.JSON); err != nil {
		return problem.From(err)
	}
	return nil
}

// enter records the admission; nothing waits for it here.
func (c *call) enter() error {
	if err := c.trace(); err != nil {
		return err
	}
	h := c.hops[0]
	id, ticket, err := c.g.Recorder.Admission(&ledger.Admission{At: c.start, Organisation: c.caller.org, Key: c.caller.key, Endpoint: c.ep,
		Model: c.ask.model, Tier: c.plan.tier, Class: c.ask.class, Stream: c.req.Stream, Decision: c.plan.hash, Provider: h.provider.Name,
		ProviderModel: h.model, Own: h.provider.Facts.Own, Jurisdiction: h.jurisdiction(), Controller: h.provider.Facts.Controller,
		LeavesEEA: h.transfer.LeavesEEA, Restricted: h.transfer.Restricted, Safeguard: h.safeguard, ReservedNano: c.reserved,
		Currency: c.g.exchange.currency})
	if err != nil {
		return problem.From(err)
	}
	c.id, c.ticket, c.admitted = id, ticket, true
	c.recorded = append(c.recorded[:0], h.provider)
	return nil
}

// await blocks until the latest admission is durable.
func (c *call) await() error {
	if c.durable {
		return nil
	}
	err := c.ticket.Wait(c.ctx)
	if err != nil && c.stopping() {
		err = c.ticket.Wait(context.WithoutCancel(c.ctx)) // what has arrived may still go out
	}
	if err != nil {
		return problem.From(err)
	}
	c.durable = true
	return nil
}

// ErrStopping is the cause with which a node that stops ends the contexts of
// the requests that outlast its drain. Their clients are still there: they get
// an error, or an error event.
var ErrStopping = errors.New("the node is stopping")

// stopping says that the request is ended by the node.
func (c *call) stopping() bool {
	return c.ctx.Err() != nil && errors.Is(context.Cause(c.ctx), ErrStopping)
}

// left says that the client is not there any more.
func (c *call) left() bool { return c.ctx.Err() != nil && !c.stopping() }

// isDurable reports without waiting whether the latest admission is durable.
func (c *call) isDurable() bool {
	select {
	case <-c.ticket.Done():
		return c.ticket.Wait(c.ctx) == nil
	default:
		return false
	}
}

// jurisdiction is the one place that the ledger names: the first outside the
// EEA, because that is what the transfer register is about, otherwise the
// first where requests are processed. The decision's trace has them all.
func (h *hop) jurisdiction() sovereignty.Jurisdiction {
	places := h.provider.Facts.Processing
	for _, j := range places {
		if !sovereignty.EEA().Has(j) {
			return j
		}
	}
	if len(places) == 0 {
		return ""
	}
	return places[0]
}

// safeguardText names what makes a transfer lawful, for the register.
func safeguardText(t sovereignty.Transfer) string {
	var parts []string
	for _, c := range t.Cover {
		text := strings.TrimSpace(string(c.Instrument) + " " + c.Reference)
		if !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "; ")
}

func joinRisky(risky []wire.Risky) string {
	names := map[string]bool{}
	var list []string
	for _, r := range risky {
		if !names[r.Name] {
			names[r.Name] = true
			list = append(list, r.Name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
