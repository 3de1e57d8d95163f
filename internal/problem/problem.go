// Package problem knows what kind of error this is, and how to show it.
//
// Domain packages return *Error for everything a caller can act on. The edge
// (API, gateway, console, CLI) turns it into JSON (RFC 9457), a page or an
// exit code. Any other error is internal: its text goes to the log, the user
// sees an id.
package problem

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind classifies an error by what the caller can do about it.
type Kind uint8

const (
	Internal        Kind = iota // a defect or a broken machine: nothing the caller can mend
	Invalid                     // the input breaks a rule: mend the named field
	Unauthenticated             // no or bad credential
	Denied                      // known caller, not allowed
	NotFound                    // no such thing, or not visible to the caller
	Conflict                    // the state changed or the name is taken
	TooLarge                    // the input is over a bound
	Unsupported                 // understood, but not offered here
	RateLimited                 // too fast: wait RetryAfter
	Exhausted                   // a budget is spent
	Overloaded                  // shed under load: wait RetryAfter
	Unavailable                 // a dependency is away: wait RetryAfter
	Upstream                    // a provider answered wrongly
	Timeout                     // a provider did not answer in time
	Canceled                    // the caller went away
	NoMethod                    // the path exists, but not with this method
)

var kinds = [...]struct {
	name   string
	status int
	exit   int
}{
	Internal:        {"internal", http.StatusInternalServerError, 70},
	Invalid:         {"invalid", http.StatusBadRequest, 64},
	Unauthenticated: {"unauthenticated", http.StatusUnauthorized, 77},
	Denied:          {"denied", http.StatusForbidden, 77},
	NotFound:        {"not-found", http.StatusNotFound, 66},
	Conflict:        {"conflict", http.StatusConflict, 73},
	TooLarge:        {"too-large", http.StatusRequestEntityTooLarge, 64},
	Unsupported:     {"unsupported", http.StatusBadRequest, 64},
	RateLimited:     {"rate-limited", http.StatusTooManyRequests, 75},
	Exhausted:       {"exhausted", http.StatusTooManyRequests, 75},
	Overloaded:      {"overloaded", http.StatusServiceUnavailable, 75},
	Unavailable:     {"unavailable", http.StatusServiceUnavailable, 69},
	Upstream:        {"upstream", http.StatusBadGateway, 76},
	Timeout:         {"timeout", http.StatusGatewayTimeout, 75},
	Canceled:        {"canceled", 499, 75},
	NoMethod:        {"no-method", http.StatusMethodNotAllowed, 64},
}

// String returns the kind's stable name, as used in the problem type URI.
func (k Kind) String() string { return kinds[k].name }

// Status returns the HTTP status code.
func (k Kind) Status() int { return kinds[k].status }

// Exit returns the process exit code (sysexits.h).
func (k Kind) Exit() int { return kinds[k].exit }

// Error is an error that a person or a program can act on.
type Error struct {
	Kind       Kind
	Code       string        // stable kebab-case id of the rule, e.g. "model-unknown"
	Field      string        // the input that is wrong, e.g. "messages[2].role"; may be empty
	Detail     string        // what is wrong, one sentence
	Mend       string        // what to do about it, one sentence; may be empty
	RetryAfter time.Duration // when it makes sense to try again; zero if never or unknown
	ID         string        // set for Internal: what the user quotes, and what the log line carries
	Err        error         // the cause; logged, never shown
}

// New returns an Error of a kind.
func New(kind Kind, code, detail string) *Error {
	return &Error{Kind: kind, Code: code, Detail: detail}
}

// WithField names the input that is wrong.
func (e *Error) WithField(field string) *Error { e.Field = field; return e }

// WithMend says what to do.
func (e *Error) WithMend(mend string) *Error { e.Mend = mend; return e }

// WithRetry says when to try again.
func (e *Error) WithRetry(after time.Duration) *Error { e.RetryAfter = after; return e }

// Wrap records the cause, which is logged and never shown.
func (e *Error) Wrap(err error) *Error { e.Err = err; return e }

// Error gives the whole sentence: field, detail, mend.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field)
		b.WriteString(": ")
	}
	b.WriteString(e.Detail)
	if e.Mend != "" {
		b.WriteString(" ")
		b.WriteString(e.Mend)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// From classifies any error. An *Error anywhere in the chain wins; a context
// error becomes Canceled or Timeout; everything else is Internal with a new
// id, and its text is kept only in Err.
func From(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.Canceled):
		return New(Canceled, "canceled", "The request was cancelled.").Wrap(err)
	case errors.Is(err, context.DeadlineExceeded):
		return New(Timeout, "timeout", "The operation took too long.").Wrap(err)
	}
	id := rand.Text()[:10]
	e = New(Internal, "internal", "Something went wrong on this side. Reference "+id+".").
		WithMend("Quote the reference to the operator; the log has the cause.").Wrap(err)
	e.ID = id
	return e
}

// RetryAfterSeconds renders RetryAfter for the HTTP header, rounded up.
func (e *Error) RetryAfterSeconds() string {
	return strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds())))
}

// MarshalJSON renders RFC 9457 problem details with the extension members
// code, field and mend.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
		Field  string `json:"field,omitempty"`
		Mend   string `json:"mend,omitempty"`
		ID     string `json:"id,omitempty"`
	}{"urn:foundry:problem:" + e.Kind.String(), http.StatusText(e.Kind.Status()), e.Kind.Status(), e.Detail, e.Code, e.Field, e.Mend, e.ID})
}

// Write answers an HTTP request with application/problem+json.
func Write(w http.ResponseWriter, err error) {
	e := From(err)
	body, merr := json.Marshal(e)
	if merr != nil {
		body = []byte(`{"type":"urn:foundry:problem:internal","status":500}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", e.RetryAfterSeconds())
	}
	w.WriteHeader(e.Kind.Status())
	_, _ = w.Write(append(body, '\n'))
}

// KindOf finds the kind that a problem's type names, or that fits a status
// where the type is not one of Foundry's.
func KindOf(typ string, status int) Kind {
	for k := range kinds {
		if "urn:foundry:problem:"+kinds[k].name == typ {
			return Kind(k)
		}
	}
	for k := range kinds {
		if Kind(k) != Internal && kinds[k].status == status {
			return Kind(k)
		}
	}
	if status >= 400 && status < 500 {
		return Invalid
	}
	return Internal
}
