package wire

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// Chunk is what is known of an answer. ScanChunk adds one event to it;
// UsageOnly and Error tell of the last event, the other fields of all so far.
type Chunk struct {
	// Content: something of the answer proper has been reached, be it text, a
	// refusal, reasoning or part of a tool call. From here on a client may
	// have seen some of it, so another upstream must not start anew. Roles,
	// empty strings, message_start and pings are not content.
	Content bool

	// Events counts the events that brought content, and ContentBytes their
	// size as JSON: an estimate and a bound of the tokens produced, for a
	// stream that ends before its usage.
	Events       int64
	ContentBytes int64

	// Finish is the upstream's own word: OpenAI's finish_reason, Anthropic's
	// stop_reason, the Responses API's status or reason of incompleteness.
	Finish string

	// UsageOnly: the event is the extra one that include_usage asks for, with
	// no choices. It is to be hidden from a client that did not ask. The
	// "usage":null that include_usage adds to the other events is left alone:
	// the documented type is nullable, and taking it out would rewrite every
	// event.
	UsageOnly bool

	Usage Usage

	// Error is the error's JSON, an object or a string, as a slice of the
	// event or body; nil if there is none.
	Error []byte

	// Done: the terminator was reached ([DONE], message_stop, or one of the
	// Responses API's last events). Without it a stream was cut.
	Done bool

	counts counts
	begun  bool // counts is initialised
	final  bool // usage other than message_start's was reported
}

// Reset makes c ready for another answer.
func (c *Chunk) Reset() { *c = Chunk{} }

// answer is one pass over an event or a body.
type answer struct {
	cursor
	ep       Endpoint
	c        *Chunk
	stream   bool
	reported bool  // this document reports usage
	choices  int   // choices in this document
	content  int64 // bytes of content in this document
}

// ScanChunk reads one streaming event into c. An error is a *problem.Error of
// kind Upstream: the event is not JSON.
func ScanChunk(ep Endpoint, ev Event, c *Chunk) error {
	c.UsageOnly, c.Error = false, nil
	if len(ev.Data) == 0 {
		return nil
	}
	if ep.Dialect() == OpenAI {
		// The official SDKs take anything that starts so for the end.
		if bytes.HasPrefix(ev.Data, []byte("[DONE]")) {
			c.Done = true
			return nil
		}
	} else if string(ev.Name) == "ping" {
		return nil
	}
	a := answer{cursor: cursor{b: ev.Data, lax: true}, ep: ep, c: c, stream: true}
	if err := a.document(); err != nil {
		return err
	}
	if string(ev.Name) == "error" && c.Error == nil {
		c.Error = bytes.TrimSpace(ev.Data)
	}
	return nil
}

// ScanResponse reads a whole answer into c. An error is a *problem.Error of
// kind Upstream: the body is not a JSON object.
func ScanResponse(ep Endpoint, body []byte, c *Chunk) error {
	c.UsageOnly, c.Error = false, nil
	a := answer{cursor: cursor{b: body, lax: true}, ep: ep, c: c}
	if err := a.document(); err != nil {
		return err
	}
	c.Done = true
	return nil
}

// document reads the whole document.
func (a *answer) document() error {
	if !a.c.begun {
		a.c.counts, a.c.begun = noCounts, true
	}
	before := a.c.counts
	a.ws()
	if a.peek() != '{' {
		a.fail(faultSyntax)
	} else {
		switch a.ep {
		case Messages, CountTokens:
			a.anthropic()
		case Responses:
			a.responses()
		default:
			a.chat()
		}
		a.end()
	}
	if a.fault != faultNone {
		a.c.counts = before
		a.c.UsageOnly, a.c.Error = false, nil
		return problem.New(problem.Upstream, "upstream-malformed", "The provider sent something that is not valid JSON.").
			Wrap(malformed{a.fault, a.i})
	}
	if a.reported {
		a.c.Usage = a.c.counts.usage(a.ep.Dialect())
		a.c.Usage.Partial = a.ep == Messages && a.stream && !a.c.final
	}
	if a.content > 0 {
		a.c.Content = true
		a.c.Events++
		a.c.ContentBytes += a.content
	}
	return nil
}

// malformed is the cause for the log: where, never what.
type malformed struct {
	fault fault
	at    int
}

func (m malformed) Error() string { return faults[m.fault].code + " at byte " + strconv.Itoa(m.at) }

// name reads a key. Keys with escapes are rare enough to allocate.
func (a *answer) name() []byte {
	raw, escaped := a.key()
	if escaped && a.fault == faultNone {
		return appendUnescaped(nil, raw)
	}
	return raw
}

// chat reads an OpenAI chat completion, one of its chunks, or embeddings.
func (a *answer) chat() {
	failed := false
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "choices":
			a.choiceList()
		case "usage":
			a.usage()
		case "error":
			a.error()
		case "object":
			// Mistral's and older vLLM's errors have no "error" member.
			failed = string(a.rawString()) == "error"
		default:
			a.skip()
		}
	}
	if failed && a.c.Error == nil && a.fault == faultNone {
		a.c.Error = bytes.TrimSpace(a.b)
	}
	a.c.UsageOnly = a.stream && a.reported && a.choices == 0 && a.c.Error == nil
}

// error notes the value unless it is null.
func (a *answer) error() {
	null := a.peek() == 'n'
	if s := a.skip(); !null && a.fault == faultNone {
		a.c.Error = a.b[s.Start:s.End]
	}
}

func (a *answer) choiceList() {
	if a.peek() != '[' {
		a.skip()
		return
	}
	for more := a.open(']'); more; more = a.next(']') {
		a.choices++
		if a.peek() != '{' {
			a.skip()
			continue
		}
		for more := a.open('}'); more; more = a.next('}') {
			switch string(a.name()) {
			case "delta", "message":
				a.delta()
			case "text":
				a.value()
			case "finish_reason":
				a.finish()
			default:
				a.skip()
			}
		}
	}
}

// delta reads what a choice brings. Any member but those that only describe
// counts as content if it is not empty, so that an invented one does too.
func (a *answer) delta() {
	if a.peek() != '{' {
		a.skip()
		return
	}
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "role", "type", "stop_reason", "stop_sequence", "stop_details", "container":
			a.skip()
		default:
			a.value()
		}
	}
}

// value reads a value that is content unless it is null or empty.
func (a *answer) value() {
	ch := a.peek()
	s := a.skip()
	if a.fault != faultNone {
		return
	}
	n := s.End - s.Start
	switch ch {
	case '"':
		n -= 2
	case '[', '{':
		if len(bytes.TrimSpace(a.b[s.Start+1:s.End-1])) == 0 {
			n = 0
		}
	case 'n', 'f':
		n = 0
	}
	a.content += int64(n)
}

// finish reads a reason, if it is a string.
func (a *answer) finish() {
	if w := a.word(); w != "" {
		a.c.Finish = w
	}
}

// word reads a string of a small vocabulary without allocating for the words
// that are known; it is empty for anything but a string.
func (a *answer) word() string {
	if a.peek() != '"' {
		a.skip()
		return ""
	}
	s, _ := a.str()
	if a.fault != faultNone {
		return ""
	}
	raw := a.b[s.Start:min(s.End, s.Start+64)]
	for _, w := range &words {
		if string(raw) == w {
			return w
		}
	}
	return strings.ToValidUTF8(string(raw), "\uFFFD")
}

var words = [...]string{
	"stop", "length", "tool_calls", "end_turn", "max_tokens", "tool_use", "content_filter",
	"function_call", "stop_sequence", "refusal", "pause_turn", "model_context_window_exceeded",
	"completed", "incomplete", "failed", "cancelled", "in_progress", "queued",
	"max_output_tokens", "model_length", "error",
}
