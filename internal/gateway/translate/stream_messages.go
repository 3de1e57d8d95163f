package translate

import (
	"bytes"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// ChatToMessagesStream turns an OpenAI event stream into an Anthropic one. Its
// zero value is not useful; see NewChatToMessagesStream.
type ChatToMessagesStream struct {
	a       Answer
	state   streamState
	queue   queue
	usage   tokens
	finish  string // finish_reason
	matched *string
	refused bool
}

// NewChatToMessagesStream begins a stream.
func NewChatToMessagesStream(a Answer) *ChatToMessagesStream {
	return &ChatToMessagesStream{a: a}
}

// Event appends zero or more complete SSE events to dst. After an error, which
// is always a *problem.Error of kind Upstream, the stream is of no more use.
//
// OpenAI counts tokens at the end and Anthropic's message_start wants them at
// the beginning: message_start says what the first chunk knows, usually zero,
// and message_delta says the cumulative truth, input and cache included, which
// Anthropic's SDKs put over it.
func (s *ChatToMessagesStream) Event(dst []byte, ev wire.Event) ([]byte, error) {
	data := bytes.TrimSpace(ev.Data)
	if len(data) == 0 || s.state == failed || s.state == complete {
		return dst, nil
	}
	if string(data) == "[DONE]" {
		return s.done(dst)
	}
	r := &reader{answer: true}
	in := r.read(data)
	if r.err != nil {
		return dst, r.err
	}
	if _, bad := in.take("error"); bad || string(ev.Name) == "error" {
		s.state = failed
		f := readFault(data)
		if f.message == "" {
			f.message = "The provider failed within its answer and did not say why."
		}
		return appendEvent(dst, "error", anthropicFault(f.anthropicType(0), f.message))
	}
	if u, ok := in.child("usage"); ok {
		s.usage.readChat(u)
	}
	var err error
	if s.state == notStarted && r.err == nil {
		s.state = streaming
		s.a.ID, s.a.Model = s.a.names(in)
		s.queue.answer = s.a.ID
		if dst, err = s.start(dst); err != nil {
			return dst, err
		}
	}
	for _, c := range in.list("choices") {
		dst = s.choice(dst, r, c.object())
	}
	return dst, r.result()
}

// Close returns an error if the stream ended without [DONE]. It owes nothing.
func (s *ChatToMessagesStream) Close(dst []byte) ([]byte, error) {
	if s.state == complete || s.state == failed {
		return dst, nil
	}
	return dst, malformed("", "The provider's stream ended before its answer did.")
}

type messageStart struct {
	Type    string   `json:"type"`
	Message *message `json:"message"`
}

func (s *ChatToMessagesStream) start(dst []byte) ([]byte, error) {
	first := s.usage
	first.output = 0
	return appendEvent(dst, "message_start", messageStart{"message_start", &message{
		ID: s.a.ID, Type: "message", Role: "assistant", Model: s.a.Model,
		Content: []block{}, Usage: first.message(),
	}})
}

func (s *ChatToMessagesStream) choice(dst []byte, r *reader, c *object) []byte {
	if index, ok := c.integer("index"); ok && index != 0 {
		r.refuse(c.at("index"), "Anthropic gives one answer per request.", "")
		return dst
	}
	if d, ok := c.child("delta"); ok {
		dst = s.delta(dst, r, d)
	}
	if reason, ok := c.str("finish_reason"); ok && reason != "" {
		s.finish = reason
	}
	if n, ok := c.take("stop_reason"); ok && n.isString() { // vLLM: the sequence that was met
		match := n.str()
		s.matched = &match
	}
	return dst
}

func (s *ChatToMessagesStream) delta(dst []byte, r *reader, d *object) []byte {
	if thought := reasoningText(d); thought != "" && !s.a.OmitReasoning {
		dst = s.queue.write(dst, thinkingBlock, thought)
	}
	for _, p := range contentPieces(d) {
		switch {
		case p.text == "", p.reasoning && s.a.OmitReasoning:
		case p.reasoning:
			dst = s.queue.write(dst, thinkingBlock, p.text)
		default:
			dst = s.queue.write(dst, textBlock, p.text)
		}
	}
	if refusal, _ := d.str("refusal"); refusal != "" {
		s.refused = true
		dst = s.queue.write(dst, textBlock, refusal)
	}
	refuseForeign(d)
	for _, n := range d.list("tool_calls") {
		if r.err == nil {
			dst = s.queue.call(dst, n.object())
		}
	}
	return dst
}

type messageDelta struct {
	Type  string `json:"type"`
	Delta struct {
		StopReason   string       `json:"stop_reason"`
		StopSequence *string      `json:"stop_sequence"`
		StopDetails  *stopDetails `json:"stop_details"`
		Container    *null        `json:"container"`
	} `json:"delta"`
	Usage deltaUsage `json:"usage"`
}

func (s *ChatToMessagesStream) done(dst []byte) ([]byte, error) {
	if s.state != streaming || s.finish == "" {
		return dst, malformed("", "The provider's stream ended without saying why its answer did.")
	}
	r := &reader{answer: true}
	m := messageDelta{Type: "message_delta", Usage: s.usage.delta()}
	m.Delta.StopReason = stopReason(r, "choices[0].finish_reason", s.finish, s.queue.calls > 0, s.refused)
	if s.matched != nil && m.Delta.StopReason == "end_turn" {
		m.Delta.StopReason, m.Delta.StopSequence = "stop_sequence", s.matched
	}
	m.Delta.StopDetails = detailsOf(m.Delta.StopReason)
	if r.err != nil {
		return dst, r.err
	}
	dst, err := s.queue.flush(dst)
	if err != nil {
		return dst, err
	}
	if dst, err = appendEvent(dst, m.Type, m); err != nil {
		return dst, err
	}
	s.state = complete
	return appendEvent(dst, "message_stop", typed{"message_stop"})
}

// appendEvent appends v as a named SSE event.
func appendEvent(dst []byte, name string, v any) ([]byte, error) {
	data, err := encode(v)
	if err != nil {
		return dst, err
	}
	dst = append(append(dst, "event: "...), name...)
	dst = append(append(dst, "\ndata: "...), data...)
	return append(dst, "\n\n"...), nil
}
