package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/translate"
	"github.com/missionopsai/foundry/internal/gateway/upstream"
	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	streamBuffer = 16 << 10
	maxEvent     = 8 << 20          // largest single event
	keepAlive    = 15 * time.Second // silence after which the client is told that work goes on
)

var errIncomplete = errors.New("the stream is incomplete")

// errEventTooLarge ends a stream whose next event does not end.
var errEventTooLarge = errors.New("an event of the stream is too large")

// translator turns one dialect's stream into the other's.
type translator interface {
	Event(dst []byte, ev wire.Event) ([]byte, error)
	Close(dst []byte) ([]byte, error)
}

// relay brings one stream to the client. Bytes are held back until the first
// content, so that a provider that fails before it can be replaced; then every
// whole event goes out as it arrives, and the events of one read together.
type relay struct {
	c      *call
	h      *hop
	resp   *upstream.Response
	ep     wire.Endpoint // what the upstream speaks
	tr     translator    // nil where the dialects agree
	hide   bool          // the usage chunk was asked for by us: keep it from the client
	parsed int           // bytes of c.in that were looked at

	mu      sync.Mutex // guards the writer against the keep-alive timer
	open    bool       // the header has gone out
	content bool       // content has been seen: no failover from here on
	finish  bool       // the upstream said why it stopped
	done    bool       // the upstream said that it is complete
	gone    bool       // the client does not take any more
}

func (c *call) stream(h *hop, resp *upstream.Response) (*failure, error) {
	if !isMedia(resp.ContentType, "text/event-stream") {
		return wrongMedia(resp), nil
	}
	s := &relay{c: c, h: h, resp: resp, open: c.answered, ep: upstreamEndpoint(h.provider, c.ep), hide: c.ep == wire.ChatCompletions && !c.req.IncludeUsage}
	a := translate.Answer{Model: h.model, Created: c.start, IncludeUsage: c.req.IncludeUsage}
	switch {
	case s.ep == c.ep:
	case c.ep == wire.Messages:
		a.OmitReasoning = translate.OmitsThinking(c.body)
		s.tr = translate.NewChatToMessagesStream(a)
	default:
		s.tr = translate.NewMessagesToChatStream(a)
	}
	c.chunk.Reset()
	c.in, c.out = c.in[:0], c.out[:0]
	if cap(c.in) < streamBuffer {
		c.in = make([]byte, 0, streamBuffer)
	}
	defer s.keepAlive()()
	return s.run()
}

// run reads until the upstream's end. A failure is returned only while
// nothing but keep-alives has gone out.
func (s *relay) run() (*failure, error) {
	for {
		f, err := s.events()
		if f != nil || err != nil {
			return s.broken(f, err)
		}
		if s.done && s.resp.Ended() {
			return s.end()
		}
		if err := s.flush(false); err != nil {
			return nil, err
		}
		if s.gone {
			s.c.result = ledger.ClientGone
			return nil, nil
		}
		n, rerr := s.read()
		if n == 0 && rerr == io.EOF || rerr != nil && s.done {
			return s.end()
		}
		if rerr != nil && rerr != io.EOF {
			if s.c.left() {
				s.c.result = ledger.ClientGone
				return nil, s.c.ctx.Err()
			}
			return s.broken(s.c.transportFailure(rerr), nil)
		}
	}
}

// read takes more bytes behind those that are not yet a whole event.
func (s *relay) read() (int, error) {
	c := s.c
	if s.parsed > 0 {
		left := copy(c.in, c.in[s.parsed:])
		c.in, s.parsed = c.in[:left], 0
	}
	if len(c.in) == cap(c.in) {
		if len(c.in) >= maxEvent {
			return 0, errEventTooLarge
		}
		c.in = append(make([]byte, 0, min(2*cap(c.in), maxEvent)), c.in...)
	}
	n, err := s.resp.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	return n, err
}

// events looks at every whole event in the buffer and puts what the client
// gets into c.out.
func (s *relay) events() (*failure, error) {
	c := s.c
	for {
		if s.done {
			// Nothing that follows the terminator belongs to the answer.
			s.parsed = len(c.in)
			return nil, nil
		}
		ev, n := wire.NextEvent(c.in[s.parsed:])
		if n == 0 {
			return nil, nil
		}
		raw := c.in[s.parsed : s.parsed+n]
		s.parsed += n
		if ev.Data != nil {
			if err := wire.ScanChunk(s.ep, ev, &c.chunk); err != nil {
				return &failure{kind: problem.Upstream, reason: "malformed event", message: "The provider's stream was not valid."}, nil
			}
			if c.chunk.Error != nil {
				return &failure{kind: problem.Upstream, reason: "error event", message: "The provider reported an error in its stream."}, nil
			}
			s.note()
		}
		if s.tr != nil {
			var err error
			if c.out, err = s.tr.Event(c.out, ev); err != nil {
				return &failure{kind: problem.Upstream, reason: "untranslatable event", message: "The provider's stream could not be translated."}, nil
			}
		} else if !(s.hide && c.chunk.UsageOnly && ev.Data != nil) {
			c.out = append(c.out, raw...)
		}
	}
}

// note keeps what an event said about the whole answer.
func (s *relay) note() {
	c := s.c
	if c.chunk.Content && !s.content {
		c.first = c.g.Clock()
		s.mu.Lock()
		s.content = true
		s.mu.Unlock()
	}
	s.finish, s.done = c.chunk.Finish != "", c.chunk.Done
}

// flush sends what may go: nothing before the first content, and nothing
// before the admission is durable. The last bytes are left to the end of the
// handler, which sends them together with the end of the body.
func (s *relay) flush(last bool) error {
	c := s.c
	if len(c.out) == 0 || !s.content && !s.done && len(c.out) < maxEvent {
		return nil
	}
	if err := c.await(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(c.out, last)
	c.out = c.out[:0]
	return nil
}

// write sends bytes at once; the caller holds mu.
func (s *relay) write(p []byte, last bool) {
	c := s.c
	if !s.open {
		header := c.headers(s.h)
		header["Content-Type"] = streamMedia
		header["X-Accel-Buffering"] = noBuffering
		c.answered, s.open, c.status = true, true, http.StatusOK
		c.w.WriteHeader(http.StatusOK)
	}
	c.extendDeadline()
	_, err := c.w.Write(p)
	if err == nil && !last {
		err = http.NewResponseController(c.w).Flush()
	}
	s.gone = s.gone || err != nil
}

var (
	streamMedia = []string{"text/event-stream"}
	noBuffering = []string{"no"}
)

// keepAlive tells a waiting client, after a silence before the first content,
// that work goes on. A comment commits to nothing: failover stays possible.
func (s *relay) keepAlive() (stop func()) {
	var timer *time.Timer
	timer = time.AfterFunc(keepAlive, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.content || s.gone || !s.c.isDurable() {
			return
		}
		s.write([]byte(": waiting for the provider\n\n"), false)
		timer.Reset(keepAlive)
	})
	return func() {
		timer.Stop()
		s.mu.Lock() // the timer's last run is over once this is held
		s.gone = true
		s.mu.Unlock()
	}
}

// end decides whether the upstream's end was a proper one.
func (s *relay) end() (*failure, error) {
	c := s.c
	if !s.done && len(bytes.TrimSpace(c.in[s.parsed:])) > 0 {
		return s.broken(&failure{kind: problem.Upstream, reason: "cut within an event", message: "The provider's stream was cut."}, nil)
	}
	// Some servers leave out the last [DONE]. A stream that said why it
	// stopped, and whose transport ended properly, is complete; one that did
	// not is cut.
	err := errIncomplete
	switch {
	case !s.done && (!s.finish || s.ep != wire.ChatCompletions || s.resp.UntilClose):
	case s.tr == nil:
		if err = nil; !s.done {
			c.out = append(c.out, "data: [DONE]\n\n"...)
		}
	default:
		if err = nil; !s.done {
			c.out, err = s.tr.Event(c.out, wire.Event{Data: []byte("[DONE]")})
		}
		if err == nil {
			c.out, err = s.tr.Close(c.out)
		}
	}
	if err != nil {
		return s.broken(&failure{kind: problem.Upstream, reason: "stream incomplete", message: "The provider's stream ended before it was complete."}, nil)
	}
	s.content = true
	if err := s.flush(true); err != nil {
		return nil, err
	}
	c.result = ledger.OK
	if s.gone {
		c.result = ledger.ClientGone
	}
	return nil, nil
}

// broken ends a stream that failed. Before the first content another
// destination may be tried; after it, the client gets an error event.
func (s *relay) broken(f *failure, err error) (*failure, error) {
	c := s.c
	if f == nil {
		return nil, err
	}
	if !s.content && !f.final {
		c.in, c.out = c.in[:0], c.out[:0]
		return f, nil
	}
	if f.kind == problem.Canceled {
		c.result = ledger.ClientGone
		return nil, c.ctx.Err()
	}
	c.result, c.broke = ledger.StreamBroken, f.reason
	if c.stopping() {
		c.result = ledger.Failed
	}
	if f.kind == problem.Timeout {
		c.result = ledger.Timeout
	}
	e := problem.New(f.kind, "stream-broken", f.message+" What arrived before this is incomplete.").WithMend("Send the request again.")
	c.out = wire.ErrorEvent(c.out, c.ep.Dialect(), e, c.id.String())
	if err := s.flush(true); err != nil {
		return nil, err
	}
	return nil, errBroken
}
