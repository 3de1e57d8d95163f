package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/translate"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

// failure is why a destination did not answer, and whether another may be
// tried.
type failure struct {
	kind    problem.Kind
	reason  string // for the ledger: short, no upstream text
	status  int    // the upstream's, 0 if it gave none
	message string // upstream text, redacted
	after   time.Duration
	final   bool // do not try elsewhere: the request itself is at fault, or the client left
	body    []byte
	quiet   bool // says nothing about the provider's health
	lasting bool // would be the same a moment later: not worth another round
	nowhere bool // no connection could be made: nothing was sent
}

func (f *failure) Error() string { return f.reason }

const (
	maxRounds    = 3                      // times that the list of destinations is gone through
	retryPause   = 150 * time.Millisecond // before the second round; doubled for the third
	longestPause = 5 * time.Second        // of a Retry-After that is worth waiting for
)

// forward tries the destinations in order until one has begun to answer, and
// brings its answer to the client.
func (c *call) forward() error {
	var last *failure
	for round := range maxRounds {
		if round > 0 && !c.pause(round, last) {
			break
		}
		worthwhile := false
		for i, h := range c.hops {
			if (round > 0 || i > 0) && !c.mayTry(h) {
				continue
			}
			permit, ok := h.provider.breaker.Acquire()
			if !ok {
				c.tries = append(c.tries, ledger.Try{Provider: h.provider.Name, Reason: "circuit open"})
				continue
			}
			f, err := c.attempt(h)
			c.judge(permit, f, err)
			if err != nil || f == nil {
				return err
			}
			last = f
			if f.final {
				return c.giveUp(last)
			}
			worthwhile = worthwhile || !f.lasting
		}
		if !worthwhile {
			break
		}
	}
	return c.giveUp(last)
}

// mayTry asks the decision again, because time has passed since it was made.
func (c *call) mayTry(h *hop) bool {
	return c.ctx.Err() == nil && c.plan.decision.Allows(h.provider.Name, h.model, c.g.Clock())
}

// pause waits before another round; false when that would be pointless.
func (c *call) pause(round int, last *failure) bool {
	if last == nil {
		return false
	}
	wait := retryPause << (round - 1)
	wait = wait/2 + rand.N(wait) // full jitter around the pause
	if last.after > 0 {
		if last.after > longestPause {
			return false
		}
		wait = max(wait, last.after)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// judge tells the circuit what a call said about its provider.
func (c *call) judge(permit upstream.Permit, f *failure, err error) {
	switch {
	case f == nil && err == nil:
		permit.Success()
	case f != nil && !f.quiet:
		permit.Failure()
		if f.nowhere {
			c.hop.provider.unreachable()
		}
	case f == nil && errors.Is(err, errBroken):
		permit.Failure()
	default:
		permit.Abandon()
	}
}

// attempt makes one call. A failure means that nothing has gone to the client
// and another destination may be tried; an error ends the request.
func (c *call) attempt(h *hop) (*failure, error) {
	began := c.g.Clock()
	c.hop = h
	c.chunk.Reset()
	f, err := c.try(h)
	t := ledger.Try{Provider: h.provider.Name, Status: http.StatusOK, Duration: c.g.Clock().Sub(began)}
	switch {
	case f != nil:
		t.Status, t.Reason = f.status, f.reason
		c.sink()
	case errors.Is(err, errBroken):
		t.Reason = c.broke
	case err != nil:
		t.Reason = problem.From(err).Code
	}
	c.tries = append(c.tries, t)
	return f, err
}

func (c *call) try(h *hop) (*failure, error) {
	body, path, err := c.prepare(h)
	c.countCopy(body)
	if err != nil {
		// This destination cannot express the request; another may.
		e := problem.From(err)
		return &failure{kind: e.Kind, reason: e.Code, message: e.Error(), quiet: true, lasting: true}, nil
	}
	if !slices.Contains(c.recorded, h.provider) {
		if err := c.reenter(h); err != nil {
			return nil, err
		}
	}
	if !h.provider.Facts.Own {
		if err := c.await(); err != nil {
			return nil, err
		}
	}
	var extra [2]upstream.Header
	headers := c.versions(h, extra[:0])
	resp, err := h.provider.client.Do(c.ctx, http.MethodPost, path, headers, body)
	if err != nil {
		return c.transportFailure(err), nil
	}
	defer resp.Close()
	if resp.Status < 200 || resp.Status > 299 {
		return c.statusFailure(h, resp), nil
	}
	if c.req.Stream {
		return c.stream(h, resp)
	}
	return c.whole(h, resp)
}

// countCopy counts a body that was changed for a destination beside the one
// that the client sent: both are held until the request ends. It is not
// refused, but keeps out what comes next.
func (c *call) countCopy(body []byte) {
	if len(body) == 0 || len(c.body) > 0 && &body[0] == &c.body[0] {
		return
	}
	if more := int64(cap(body)) - c.copied; more > 0 {
		c.g.held.Add(more)
		c.copied += more
	}
}

// versions adds the headers by which Anthropic's API tells its versions apart.
// A request that is passed on as it came keeps its own; a translated one is
// written for the translator's.
func (c *call) versions(h *hop, dst []upstream.Header) []upstream.Header {
	if h.provider.facts.dialect != wire.Anthropic {
		return dst
	}
	version := c.r.Header.Get("Anthropic-Version")
	if translated(h.provider, c.ep) || !dated(version) {
		version = translate.DefaultAnthropicVersion
	}
	dst = append(dst, upstream.Header{Name: "Anthropic-Version", Value: version})
	if beta := c.r.Header.Get("Anthropic-Beta"); beta != "" && !translated(h.provider, c.ep) {
		dst = append(dst, upstream.Header{Name: "Anthropic-Beta", Value: beta})
	}
	return dst
}

// dated reports whether text has the form 2023-06-01.
func dated(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}

// reenter records that the request goes to another provider than its
// admission names. It is durable before a third party sees a byte.
func (c *call) reenter(h *hop) error {
	ticket, err := c.g.Recorder.Attempt(&ledger.Attempt{Seq: c.id.Seq, At: c.g.Clock(), N: len(c.tries) + 1, Provider: h.provider.Name,
		ProviderModel: h.model, Own: h.provider.Facts.Own, Jurisdiction: h.jurisdiction(), Controller: h.provider.Facts.Controller,
		LeavesEEA: h.transfer.LeavesEEA, Restricted: h.transfer.Restricted, Safeguard: h.safeguard})
	if err != nil {
		return problem.From(err)
	}
	c.ticket, c.durable = ticket, false
	c.recorded = append(c.recorded, h.provider)
	return nil
}

// prepare makes the body and the path for a destination: untouched where the
// dialects agree and nothing has to be said differently.
func (c *call) prepare(h *hop) ([]byte, string, error) {
	facts := h.provider.facts
	if !translated(h.provider, c.ep) {
		if h.provider.Kind == Ollama && c.ep == wire.ChatCompletions {
			if err := ollamaKnows(&c.req); err != nil {
				return nil, "", err
			}
		}
		e := wire.Edit{}
		if h.model != c.req.Model {
			e.Model = h.model
		}
		e.InjectUsage = c.ep == wire.ChatCompletions && c.req.Stream && facts.usageFlag && !c.req.IncludeUsage
		e.DropStreamOptions = c.ep == wire.ChatCompletions && c.req.StreamOpts.Present() && !facts.usageFlag
		if h.provider.Kind == Ollama && c.ep == wire.ChatCompletions && c.req.MaxTokensField == "max_completion_tokens" {
			// Ollama (0.17) reads max_tokens only: it would ignore the bound
			// that the reservation relies on.
			e.MaxTokens, e.MaxTokensField = c.req.MaxTokens, "max_tokens"
		}
		// Every server with the Responses API has its `store`, on by default.
		e.ForceNoStore = (facts.noStore && c.ep == wire.ChatCompletions || c.ep == wire.Responses) && !c.asksToStore()
		if e == (wire.Edit{}) {
			return c.body, c.ep.Path(), nil
		}
		c.edited = c.req.AppendEdited(c.edited[:0], c.body, e)
		return c.edited, c.ep.Path(), nil
	}
	// OpenAI's own models take their bound only under its newer name.
	o := translate.Options{Model: h.model, MaxCompletionTokens: h.provider.Kind == OpenAI, NoStreamOptions: !facts.usageFlag}
	if m := h.provider.model(h.model); m != nil {
		o.MaxTokens = m.MaxOutput
	}
	if c.ep == wire.Messages {
		body, err := translate.MessagesToChat(c.body, o)
		if err != nil {
			return nil, "", err
		}
		var r wire.Request
		if err := wire.Scan(wire.ChatCompletions, body, &r); err != nil {
			return nil, "", err
		}
		if h.provider.Kind == Ollama {
			if err := ollamaKnows(&r); err != nil {
				return nil, "", err
			}
		}
		if r.Stream && facts.usageFlag && !r.IncludeUsage {
			body = r.AppendEdited(nil, body, wire.Edit{InjectUsage: true})
		}
		return body, wire.ChatCompletions.Path(), nil
	}
	body, err := translate.ChatToMessages(c.body, o)
	return body, wire.Messages.Path(), err
}

// ollamaKnows refuses what Ollama (0.17) reads over in silence, so that nobody
// takes one answer for several or a free choice for an ordered one.
func ollamaKnows(r *wire.Request) error {
	switch {
	case r.Features.Has(wire.MultipleChoices):
		return problem.New(problem.Unsupported, "not-offered", "Ollama gives one answer only.").WithField("n").
			WithMend("Ask several times, or use a model of another provider.")
	case r.Features.Has(wire.ToolChoice):
		return problem.New(problem.Unsupported, "not-offered", "Ollama lets the model choose among the tools.").WithField("tool_choice").
			WithMend("Leave it out, give only the tool to be called, or use a model of another provider.")
	}
	return nil
}

// asksToStore reports whether policy let the request's own `store` through.
func (c *call) asksToStore() bool {
	for _, r := range c.req.Risky {
		if r.Name == "store" {
			return true
		}
	}
	return false
}

func (c *call) transportFailure(err error) *failure {
	switch {
	case c.stopping():
		return &failure{kind: problem.Unavailable, reason: "node stopping", message: "This node is stopping.", quiet: true}
	case c.ctx.Err() != nil || errors.Is(err, context.Canceled):
		return &failure{kind: problem.Canceled, reason: "client gone", final: true, quiet: true}
	}
	f := describe(err)
	f.nowhere = errors.Is(err, upstream.ErrConnect)
	return f
}

// describe says in words, for people and for the ledger, how a call to a
// provider failed.
func describe(err error) *failure {
	f := &failure{kind: problem.Upstream, reason: "connection failed", message: "The connection to the provider failed."}
	switch {
	case errors.Is(err, errEventTooLarge):
		f.reason, f.message = "event too large", "An event of the provider's stream is too large."
	case errors.Is(err, upstream.ErrOverloaded):
		return &failure{kind: problem.Overloaded, reason: "too many calls waiting", message: "The provider is busy.", after: time.Second, quiet: true}
	case errors.Is(err, upstream.ErrTimeoutTotal):
		f.kind, f.reason, f.message = problem.Timeout, "total timeout", "The provider did not finish in time."
	case errors.Is(err, upstream.ErrTimeout):
		f.kind, f.reason, f.message = problem.Timeout, "timeout", "The provider did not answer in time."
	case errors.Is(err, upstream.ErrTLS):
		f.reason, f.message = "TLS failed", "No trustworthy connection to the provider could be made."
	case errors.Is(err, upstream.ErrProtocol):
		f.reason, f.message = "protocol broken", "The provider's answer was not valid HTTP."
	case errors.Is(err, upstream.ErrReset), errors.Is(err, io.ErrUnexpectedEOF):
		f.reason, f.message = "connection closed early", "The provider closed the connection early."
	}
	return f
}

// errorBody bounds how much of an upstream's error is read.
const errorBody = 16 << 10

// statusFailure reads an error answer and decides what it means. Whatever it
// quotes of our credentials is removed.
func (c *call) statusFailure(h *hop, resp *upstream.Response) *failure {
	f := &failure{kind: problem.Upstream, status: resp.Status, reason: fmt.Sprintf("answered %d", resp.Status), after: resp.RetryAfter()}
	body, _ := io.ReadAll(io.LimitReader(resp, errorBody))
	switch {
	case resp.Status == http.StatusTooManyRequests, resp.Status == 529:
		f.kind, f.message, f.quiet = problem.RateLimited, "The provider is limiting its rate.", resp.Status == http.StatusTooManyRequests
	case resp.Status == http.StatusUnauthorized, resp.Status == http.StatusForbidden, resp.Status == http.StatusPaymentRequired:
		f.message, f.lasting = "The provider refused this platform's credentials.", true
	case resp.Status == http.StatusNotFound:
		f.message, f.quiet, f.lasting = "The provider does not have this model.", true, true
	case resp.Status == http.StatusRequestTimeout, resp.Status == http.StatusTooEarly, resp.Status == http.StatusConflict:
		f.message = fmt.Sprintf("The provider answered %d.", resp.Status)
	case resp.Status >= 400 && resp.Status < 500:
		f.final, f.quiet, f.kind = true, true, problem.Invalid
		f.body = []byte(wire.Redact(string(body), h.provider.secret))
	default:
		f.message = fmt.Sprintf("The provider answered %d.", resp.Status)
	}
	return f
}

// giveUp turns the last failure into what the client sees.
func (c *call) giveUp(f *failure) error {
	switch {
	case c.stopping():
		c.result = ledger.Failed
		c.status = problem.Unavailable.Status()
		return problem.New(problem.Unavailable, "node-stopping", "This node is stopping.").WithMend("Send the request again.").WithRetry(time.Second)
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case f == nil:
		return problem.New(problem.Unavailable, "providers-resting", "No provider that may answer is available now.").
			WithMend("Try again shortly.").WithRetry(time.Second)
	case f.final && f.body != nil:
		return &rejection{f.status, f.body, c.hop}
	case f.kind == problem.Unsupported || f.kind == problem.Invalid:
		return problem.New(f.kind, f.reason, f.message)
	}
	e := problem.New(f.kind, "provider-failed", strings.TrimSuffix(f.message, ".")+fmt.Sprintf(" (%d tried).", len(c.tries))).
		WithMend("Try again later, or use another model.").WithRetry(f.after)
	switch f.kind {
	case problem.Timeout:
		e.Code = "provider-timeout"
	case problem.RateLimited:
		e.Code = "provider-rate-limited"
		e.RetryAfter = max(f.after, time.Second)
	case problem.Overloaded:
		e.Code = "provider-busy"
	}
	return e
}

// rejection is a provider's own verdict that the request is wrong: the client
// gets it in the dialect it speaks.
type rejection struct {
	status int
	body   []byte
	hop    *hop
}

func (r *rejection) Error() string {
	return fmt.Sprintf("the provider rejected the request with %d", r.status)
}

// errBroken marks an answer that broke after part of it had gone out.
var errBroken = errors.New("the provider broke off its answer")
