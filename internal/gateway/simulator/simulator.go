// Package simulator knows how model vendors answer, and how they misbehave.
//
// A Simulator is an http.Handler that speaks the documented wire format of
// OpenAI, Anthropic, Mistral, Ollama or a bare OpenAI-compatible server. It
// stands in for vendors that cannot be reached in tests and is the built-in
// offline provider. It never pretends to be a model: its models are called
// simulator-*, its answers say that they are simulated, system_fingerprint is
// fp_simulator and the Server header is foundry-simulator.
//
// Answers depend on the request alone, so tests can compare bytes that do not
// carry an id or a time.
//
// # Counting tokens
//
// A token is a run of at most eight bytes, cut at rune boundaries, that starts
// where white space begins or where the previous run is full (see Tokens). A
// message costs its text plus three, a conversation three more, an image a
// fixed number per vendor (see imageTokens). The same rule bounds max_tokens,
// so usage, finish reasons and the text always agree.
package simulator

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// Format is the vendor whose wire format a Simulator speaks.
type Format string

const (
	OpenAI           Format = "openai"
	Anthropic        Format = "anthropic"
	Mistral          Format = "mistral"
	Ollama           Format = "ollama"
	OpenAICompatible Format = "openai-compatible"
)

// Options say what a Simulator pretends. The zero value answers at once, in
// OpenAI's format, to anyone.
type Options struct {
	Format Format   // default OpenAI
	Models []string // default DefaultModels(Format)

	// APIKey, if set, is required: a request without it gets the vendor's 401.
	APIKey string

	FirstByte     time.Duration // before the first byte of every answer
	BetweenChunks time.Duration // between the events of a stream
	Chunks        int           // content events of a streamed text, at most; 0: one per token

	// Forget keeps nothing of a request once it is answered: Requests and
	// WaitRequests stay empty. The built-in provider sets it, tests do not.
	Forget bool

	// Commands obeys a last user message of the form "simulate <fault>", so
	// that a person can watch a failover from a chat window.
	Commands bool

	// ContextTokens is the size of the context window; a longer prompt gets
	// the vendor's error. 0: 131072.
	ContextTokens int

	Now   func() time.Time                                 // default time.Now
	Sleep func(ctx context.Context, d time.Duration) error // default: a timer; returns ctx.Err() if cut short
}

// Simulator answers like one vendor. It is safe for concurrent use.
type Simulator struct {
	o Options

	mu     sync.Mutex
	queue  []Fault
	always *Fault
}

// New returns a Simulator that behaves until Next or Always say otherwise.
func New(o Options) *Simulator { return &Simulator{o: o} }

// Next queues faults: the next requests misbehave in this order, one fault
// each, before Always applies again.
func (s *Simulator) Next(f ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, f...)
}

// Always makes every request that has no queued fault misbehave, until Clear.
func (s *Simulator) Always(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = &f
}

// Clear drops the queue and the standing fault. Requests under way keep theirs.
func (s *Simulator) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue, s.always = nil, nil
}

// Requests returns what arrived so far, in order of arrival.
func (s *Simulator) Requests() []Received { return nil }

// WaitRequests waits until n requests have arrived in all.
func (s *Simulator) WaitRequests(ctx context.Context, n int) ([]Received, error) { return nil, nil }

// ServeHTTP answers one request.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {}
