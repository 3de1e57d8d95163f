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
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
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

// DefaultModels are the models a Simulator offers if it is not told which.
func DefaultModels(f Format) []string {
	return []string{"simulator-chat", "simulator-reasoner", "simulator-embed"}
}

// Simulator answers like one vendor. It is safe for concurrent use.
type Simulator struct {
	o      Options
	cache  prefixCache
	serial atomic.Uint64 // of ids

	mu      sync.Mutex // guards what follows
	queue   []Fault
	always  Fault
	records []*record
	arrived chan struct{} // closed and replaced at every arrival

	closing sync.Once
	closed  chan struct{} // ends every hang
}

// New returns a Simulator that behaves until Next or Always say otherwise. An
// unknown Format is OpenAI's.
func New(o Options) *Simulator {
	switch o.Format {
	case OpenAI, Anthropic, Mistral, Ollama, OpenAICompatible:
	default:
		o.Format = OpenAI
	}
	if o.Models == nil {
		o.Models = DefaultModels(o.Format)
	}
	if o.ContextTokens == 0 {
		o.ContextTokens = 131072
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	return &Simulator{o: o, arrived: make(chan struct{}), closed: make(chan struct{})}
}

// Close ends every hang, so that a server in front can shut down. It returns
// nil.
func (s *Simulator) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Next queues faults: the next requests misbehave in this order, one fault
// each, before Always applies again. The zero Fault lets a request pass.
func (s *Simulator) Next(f ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, f...)
}

// Always makes every request that has no queued fault misbehave, until Clear.
func (s *Simulator) Always(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = f
}

// Clear drops the queue and the standing fault. Requests under way keep theirs.
func (s *Simulator) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue, s.always = nil, Fault{}
}

func (s *Simulator) nextFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return s.always
	}
	f := s.queue[0]
	s.queue = s.queue[1:]
	return f
}

// maxBody bounds a request: Anthropic documents 32 MB, the others nothing.
func (s *Simulator) maxBody() int64 {
	if s.o.Format == Anthropic {
		return 32 << 20
	}
	return 64 << 20
}

// ServeHTTP answers one request.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{s: s, w: w, r: r, fault: s.nextFault(), now: s.o.Now(), serial: s.serial.Add(1)}
	var err error
	if x.fault.Name != faultEarlyError {
		x.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, s.maxBody()))
	}
	x.rec = newRecord(r, x.body, x.fault, x.now)
	stop := context.AfterFunc(r.Context(), func() { x.rec.leave(s.o.Now()) })
	defer func() {
		// When the context ends, the handler may get here before the function
		// above has begun, and stop it: a client that left must not count as
		// served.
		stop()
		if r.Context().Err() != nil {
			x.rec.leave(s.o.Now())
		}
		x.rec.finish()
	}()
	s.remember(x.rec)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		x.deliver(x.statusError(http.StatusRequestEntityTooLarge))
	case err != nil: // the client went away while it was sending
		x.rec.leave(s.o.Now())
	default:
		x.deliver(x.answer())
	}
}
