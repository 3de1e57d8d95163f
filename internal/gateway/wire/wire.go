// Package wire knows the JSON and SSE shapes of the OpenAI and Anthropic HTTP
// APIs, read in one pass without decoding them whole.
package wire

import (
	"github.com/missionopsai/foundry/internal/problem"
)

// Dialect is the family of HTTP API a client or an upstream speaks.
type Dialect uint8

const (
	OpenAI Dialect = iota + 1
	Anthropic
)

// String returns "openai" or "anthropic".
func (d Dialect) String() string {
	switch d {
	case OpenAI:
		return "openai"
	case Anthropic:
		return "anthropic"
	}
	return "unknown"
}

// Endpoint is one of the model endpoints offered to clients.
type Endpoint uint8

const (
	ChatCompletions Endpoint = iota + 1
	Embeddings
	Responses
	Messages
	CountTokens
)

var endpoints = [...]struct {
	name, path string
	dialect    Dialect
}{
	ChatCompletions: {"chat-completions", "/v1/chat/completions", OpenAI},
	Embeddings:      {"embeddings", "/v1/embeddings", OpenAI},
	Responses:       {"responses", "/v1/responses", OpenAI},
	Messages:        {"messages", "/v1/messages", Anthropic},
	CountTokens:     {"count-tokens", "/v1/messages/count_tokens", Anthropic},
}

// String returns the endpoint's stable name, e.g. "chat-completions".
func (ep Endpoint) String() string {
	if !ep.Valid() {
		return "unknown"
	}
	return endpoints[ep].name
}

// Path returns the endpoint's path, e.g. "/v1/chat/completions".
func (ep Endpoint) Path() string {
	if !ep.Valid() {
		return ""
	}
	return endpoints[ep].path
}

// Dialect returns the dialect the endpoint speaks.
func (ep Endpoint) Dialect() Dialect {
	if !ep.Valid() {
		return 0
	}
	return endpoints[ep].dialect
}

// Valid reports whether ep is one of the constants above.
func (ep Endpoint) Valid() bool { return ep > 0 && int(ep) < len(endpoints) }

// Span is a half-open range of bytes [Start, End) in the scanned body. The
// zero Span means "absent".
type Span struct{ Start, End int }

// Present reports whether the thing the span names was there.
func (s Span) Present() bool { return s.End > 0 }

// Feature is a set of what a request asks of a model.
type Feature uint32

const (
	Tools            Feature = 1 << iota // tool definitions are given
	Images                               // an image is among the input
	StructuredOutput                     // the answer must satisfy a JSON schema or be JSON
	Reasoning                            // reasoning or thinking is asked for or replayed
	Audio                                // audio in or out
	LogProbs                             // log probabilities are asked for
	MultipleChoices                      // n > 1
	Documents                            // PDFs or other documents are among the input
	PromptCaching                        // cache hints are given
	Seed                                 // a sampling seed is given
	Prefill                              // reserved: the last message is the assistant's
)

// Has reports whether every feature in g is in f.
func (f Feature) Has(g Feature) bool { return f&g == g }

// Risky is one thing in a request that makes an upstream fetch, store, look up
// or call something beyond answering: it is refused unless policy names it.
type Risky struct {
	Name string // stable id, e.g. "tools.web_search", "store", "image_url"
	Path string // where it is, e.g. "messages[2].content[0].image_url.url"
}

// Request is what Scan finds. Its strings do not alias the scanned body.
type Request struct {
	Model        string
	ModelSpan    Span // of the value, quotes included
	Stream       bool
	IncludeUsage bool
	StreamSpan   Span  // of the value of stream
	StreamOpts   Span  // of the value of stream_options: an object or null
	Store        Span  // of the value of store
	MaxTokens    int64 // the bound on output tokens per choice; 0 = none
	N            int64 // choices asked for; 1 unless n says otherwise
	InputBytes   int64 // bytes of text the model would read: an upper bound on its tokens
	Images       int
	Features     Feature
	Risky        []Risky
	Open         int // offset just after the top-level '{'
}

// Reset makes r ready for another Scan and keeps its memory.
func (r *Request) Reset() { *r = Request{Risky: r.Risky[:0]} }

// Scan reads a request body once, checks that it is strict JSON which every
// parser reads alike, and fills r. It returns a *problem.Error of kind
// Invalid.
func Scan(ep Endpoint, body []byte, r *Request) error {
	r.Reset()
	return problem.New(problem.Invalid, "json-invalid", "not implemented")
}

// Edit is what the gateway changes in a body that it forwards.
type Edit struct {
	Model        string // the upstream's name for the model; empty keeps it
	InjectUsage  bool   // stream_options.include_usage = true
	ForceNoStore bool   // store = false
	MaxTokens    int64  // the bound on output tokens to add where none is set; 0 adds none
}

// AppendEdited appends body, as scanned into r, with the edits of e.
func (r *Request) AppendEdited(dst, body []byte, e Edit) []byte { return append(dst, body...) }

// Event is one server-sent event. Its slices point into the buffer.
type Event struct{ Name, Data []byte }

// NextEvent reads the first event of buf and returns how many bytes it took,
// its blank line included; zero means that the event is not complete yet.
func NextEvent(buf []byte) (ev Event, n int) { return Event{}, 0 }

// Usage is what an answer says it consumed, in tokens.
type Usage struct {
	Input, Output                      int64
	CachedInput, CacheWrite, Reasoning int64
	Set                                bool
}

// Chunk is what is known of an answer so far.
type Chunk struct {
	Content   bool   // the first token of content was reached
	Finish    string // the upstream's finish or stop reason
	UsageOnly bool   // this event carries usage and nothing a client needs
	Usage     Usage  // accumulated over events
	Error     []byte // the error's JSON, if the event is an error
	Done      bool   // the stream's terminator was reached
}

// Reset makes c ready for another answer.
func (c *Chunk) Reset() { *c = Chunk{} }

// ScanChunk reads one streaming event into c.
func ScanChunk(ep Endpoint, ev Event, c *Chunk) error { return nil }

// ScanResponse reads a whole answer into c.
func ScanResponse(ep Endpoint, body []byte, c *Chunk) error { return nil }

// ErrorBody renders e in the dialect's documented shape.
func ErrorBody(d Dialect, e *problem.Error, requestID string) []byte { return nil }

// ErrorEvent appends e as a server-sent event that the official SDKs raise.
func ErrorEvent(dst []byte, d Dialect, e *problem.Error, requestID string) []byte { return dst }

// Redact removes credentials from upstream text and bounds its length.
func Redact(text string, secrets ...string) string { return "" }
