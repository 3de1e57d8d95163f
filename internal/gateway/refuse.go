package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/translate"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

// fail answers with an error in the dialect of the endpoint.
func (c *call) fail(err error) {
	if errors.Is(err, context.Canceled) || c.left() {
		return // nobody is there to read it
	}
	if c.hop != nil && c.admitted {
		c.headers(c.hop)
	}
	var r *rejection
	if errors.As(err, &r) {
		c.reject(r)
		return
	}
	c.g.write(c.w, c.ep.Dialect(), problem.From(err), c.requestID())
}

// failWithin ends a stream of which only comments have gone out: it has its
// header already, so the error is an event.
func (c *call) failWithin(err error) {
	if errors.Is(err, context.Canceled) || c.left() {
		return // nobody is there to read it
	}
	e := problem.From(err)
	var r *rejection
	if errors.As(err, &r) {
		e = problem.New(problem.Invalid, "provider-rejected", fmt.Sprintf("The provider rejected the request with status %d.", r.status))
	}
	_, _ = c.w.Write(wire.ErrorEvent(nil, c.ep.Dialect(), e, c.requestID()))
}

// reject passes on a provider's verdict about the request, translated where
// the client speaks another dialect.
func (c *call) reject(r *rejection) {
	status, body := translate.Error(upstreamEndpoint(r.hop.provider, c.ep).Dialect(), c.ep.Dialect(), r.status, r.body)
	header := c.w.Header()
	header["Content-Type"] = jsonMedia
	header.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body)
}

// requestID is the id that the ledger knows, or for a request that never got
// into the ledger one that cannot be mistaken for it.
func (c *call) requestID() string {
	if c.id.Seq != 0 {
		return c.id.String()
	}
	return c.g.unrecordedID()
}

// unrecorded counts requests that have no ledger entry; their ids have the
// highest bit of the sequence set.
var unrecorded atomic.Uint64

func (g *Gateway) unrecordedID() string {
	return ledger.RequestID{Node: g.Node, Boot: g.Boot, Seq: 1<<63 | unrecorded.Add(1)}.String()
}

// refuse answers a request that did not become a call.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, d wire.Dialect, e *problem.Error) {
	g.write(w, d, e, g.unrecordedID())
}

func (g *Gateway) write(w http.ResponseWriter, d wire.Dialect, e *problem.Error, id string) {
	if e.Kind == problem.Internal {
		g.Log.Error("a request failed", "request", id, "reference", e.ID, "error", e.Err)
	}
	body := wire.ErrorBody(d, e, id)
	header := w.Header()
	header["Content-Type"] = jsonMedia
	header["Cache-Control"] = noStore
	header["X-Request-Id"] = []string{id}
	if d == wire.Anthropic {
		header["Request-Id"] = []string{id} // where Anthropic's SDKs look
	}
	header["X-Foundry-Problem"] = []string{e.Code}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if e.RetryAfter > 0 {
		header.Set("Retry-After", e.RetryAfterSeconds())
	}
	if e.Kind == problem.Unauthenticated {
		header.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(e.Kind.Status())
	_, _ = w.Write(body)
}

// dialectOf guesses which SDK is asking where the path does not tell.
func dialectOf(r *http.Request) wire.Dialect {
	if r.Header.Get("Anthropic-Version") != "" || strings.HasPrefix(r.URL.Path, "/v1/messages") {
		return wire.Anthropic
	}
	return wire.OpenAI
}

func problemMethod(method, allowed string) *problem.Error {
	return problem.New(problem.NoMethod, "method", fmt.Sprintf("%s is not a method of this endpoint.", clip(method, 20))).WithMend("Use " + allowed + ".")
}
