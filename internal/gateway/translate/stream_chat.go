package translate

import (
	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// MessagesToChatStream turns an Anthropic event stream into an OpenAI one. Its
// zero value is not useful; see NewMessagesToChatStream.
type MessagesToChatStream struct {
	a        Answer
	state    streamState
	blocks   map[int64]*openBlock
	thinking []block // finished, to be handed out with the last chunk
	calls    int
	usage    tokens
	tier     string
	stop     string
	why      *string // a refusal's explanation
}

// streamState is how far a stream has come.
type streamState uint8

const (
	notStarted streamState = iota
	streaming
	complete // its terminator was seen
	failed   // its error event was seen and passed on
)

// openBlock is a content block that has started and not stopped.
type openBlock struct {
	kind                string
	call                int    // tool_use: the index of the call
	input               string // tool_use: what content_block_start brought
	wrote               bool   // tool_use: some arguments have been sent
	thinking, signature []byte
	data                string
}

// chatChunk is one event of an OpenAI stream.
type chatChunk struct {
	ID          string        `json:"id"`
	Object      string        `json:"object"`
	Created     int64         `json:"created"`
	Model       string        `json:"model"`
	ServiceTier string        `json:"service_tier,omitempty"`
	Choices     []chunkChoice `json:"choices"`
	Usage       any           `json:"usage,omitempty"`
}

type chunkChoice struct {
	Index        int     `json:"index"`
	Delta        delta   `json:"delta"`
	LogProbs     *null   `json:"logprobs"`
	FinishReason *string `json:"finish_reason"`
}

type delta struct {
	Role             string     `json:"role,omitempty"`
	Content          *string    `json:"content,omitempty"`
	Refusal          *string    `json:"refusal,omitempty"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ThinkingBlocks   []block    `json:"thinking_blocks,omitempty"`
	ToolCalls        []toolCall `json:"tool_calls,omitempty"`
}

// NewMessagesToChatStream begins a stream.
func NewMessagesToChatStream(a Answer) *MessagesToChatStream {
	return &MessagesToChatStream{a: a, blocks: map[int64]*openBlock{}}
}

// Event appends zero or more complete SSE events to dst. After an error, which
// is always a *problem.Error of kind Upstream, the stream is of no more use.
func (s *MessagesToChatStream) Event(dst []byte, ev wire.Event) ([]byte, error) {
	if len(ev.Data) == 0 || s.state == failed {
		return dst, nil
	}
	r := &reader{answer: true}
	in := r.read(ev.Data)
	if r.err != nil {
		return dst, r.err
	}
	kind, ok := in.str("type")
	if !ok {
		kind = string(ev.Name)
	}
	switch {
	case kind == "ping":
		return dst, nil
	case kind == "error":
		s.state = failed
		_, e := readFault(ev.Data).openAI(0)
		return appendData(dst, struct {
			Error openAIError `json:"error"`
		}{e})
	case kind == "message_start":
		return s.start(dst, r, in)
	case s.state != streaming:
		return dst, malformed("type", "An event stands outside the message.")
	}
	switch kind {
	case "content_block_start":
		return s.blockStart(dst, r, in)
	case "content_block_delta":
		return s.blockDelta(dst, r, in)
	case "content_block_stop":
		return s.blockStop(dst, r, in)
	case "message_delta":
		s.messageDelta(in)
		return dst, r.result()
	case "message_stop":
		return s.finish(dst, r)
	}
	return dst, nil // Anthropic asks clients to ignore events they do not know
}

// Close appends "data: [DONE]" if the message was complete, nothing if it
// ended with an error that has been passed on, and otherwise returns an error.
func (s *MessagesToChatStream) Close(dst []byte) ([]byte, error) {
	switch s.state {
	case complete:
		return append(dst, "data: [DONE]\n\n"...), nil
	case failed:
		return dst, nil
	}
	return dst, malformed("", "The provider's stream ended before its message did.")
}

func (s *MessagesToChatStream) start(dst []byte, r *reader, in *object) ([]byte, error) {
	m, ok := in.child("message")
	if !ok || s.state != notStarted {
		r.wrong("message", "A stream has one message_start with a message.")
		return dst, r.result()
	}
	s.state = streaming
	s.a.ID, s.a.Model = s.a.names(m)
	if u, ok := m.child("usage"); ok {
		s.usage.readMessages(u)
		s.tier = chatTier(u)
	}
	if r.err != nil {
		return dst, r.err
	}
	return s.emit(dst, delta{Role: "assistant", Content: new(string)}, nil)
}

func (s *MessagesToChatStream) blockStart(dst []byte, r *reader, in *object) ([]byte, error) {
	index, _ := in.integer("index")
	b, ok := in.child("content_block")
	if !ok || s.blocks[index] != nil {
		r.wrong("content_block", "Each block starts once.")
		return dst, r.result()
	}
	open := &openBlock{kind: b.needStr("type")}
	s.blocks[index] = open
	switch open.kind {
	case "text":
		b.unless("citations", "", "[]")
		initial, _ := b.str("text")
		return s.text(dst, r, initial)
	case "thinking":
		initial, _ := b.str("thinking")
		signature, _ := b.str("signature")
		open.signature = append(open.signature, signature...)
		return s.think(dst, r, open, initial)
	case "redacted_thinking":
		open.data = b.needStr("data")
	case "tool_use":
		open.call = s.calls
		s.calls++
		call := toolCall{Index: &open.call, ID: b.needStr("id"), Type: "function", Function: function{Name: b.needStr("name")}}
		if input, ok := b.take("input"); ok {
			open.input = compact(input.raw)
		}
		if r.err != nil {
			return dst, r.err
		}
		return s.emit(dst, delta{ToolCalls: []toolCall{call}}, nil)
	default:
		r.refuse(b.at("type"), "OpenAI's answers have nothing like a "+quoted(open.kind)+" block.", "")
	}
	return dst, r.result()
}

func (s *MessagesToChatStream) blockDelta(dst []byte, r *reader, in *object) ([]byte, error) {
	index, _ := in.integer("index")
	open := s.blocks[index]
	d, ok := in.child("delta")
	if !ok || open == nil {
		r.wrong("index", "The delta belongs to no open block.")
		return dst, r.result()
	}
	switch kind := d.needStr("type"); {
	case kind == "text_delta" && open.kind == "text":
		return s.text(dst, r, d.needStr("text"))
	case kind == "thinking_delta" && open.kind == "thinking":
		return s.think(dst, r, open, d.needStr("thinking"))
	case kind == "signature_delta" && open.kind == "thinking":
		open.signature = append(open.signature, d.needStr("signature")...)
	case kind == "input_json_delta" && open.kind == "tool_use":
		return s.arguments(dst, r, open, d.needStr("partial_json"))
	default:
		r.refuse("delta.type", "OpenAI's answers have nothing like a "+quoted(kind)+" in a "+quoted(open.kind)+" block.", "")
	}
	return dst, r.result()
}

func (s *MessagesToChatStream) blockStop(dst []byte, r *reader, in *object) ([]byte, error) {
	index, _ := in.integer("index")
	open := s.blocks[index]
	if open == nil {
		r.wrong("index", "The block is not open.")
		return dst, r.result()
	}
	delete(s.blocks, index)
	switch open.kind {
	case "thinking":
		thought, signature := string(open.thinking), string(open.signature)
		s.thinking = append(s.thinking, block{Type: open.kind, Thinking: &thought, Signature: &signature})
	case "redacted_thinking":
		s.thinking = append(s.thinking, block{Type: open.kind, Data: open.data})
	case "tool_use":
		if !open.wrote { // a call without arguments, or all of them at once
			if open.input == "" {
				open.input = "{}"
			}
			return s.arguments(dst, r, open, open.input)
		}
	}
	return dst, r.result()
}

func (s *MessagesToChatStream) messageDelta(in *object) {
	if u, ok := in.child("usage"); ok {
		s.usage.readMessages(u)
	}
	d, ok := in.child("delta")
	if !ok {
		return
	}
	if reason, ok := d.str("stop_reason"); ok {
		s.stop = reason
	}
	if details, ok := d.child("stop_details"); ok {
		if why, ok := details.str("explanation"); ok && why != "" {
			s.why = &why
		}
	}
}

// finish writes the chunk that says why the answer ended, and the usage if the
// client asked for it. The signed thinking goes with it whole, in one piece:
// the official accumulators keep a member they do not know as it came last.
func (s *MessagesToChatStream) finish(dst []byte, r *reader) ([]byte, error) {
	if s.stop == "" || len(s.blocks) > 0 {
		return dst, malformed("", "The provider's message stopped without a reason or within a block.")
	}
	reason := finishReason(r, "delta.stop_reason", s.stop)
	if r.err != nil {
		return dst, r.err
	}
	dst, err := s.emit(dst, delta{Refusal: s.why, ThinkingBlocks: s.thinking}, &reason)
	if err != nil {
		return dst, err
	}
	s.state = complete
	if !s.a.IncludeUsage {
		return dst, nil
	}
	return appendData(dst, s.chunk([]chunkChoice{}, s.usage.chat()))
}

func (s *MessagesToChatStream) text(dst []byte, r *reader, piece string) ([]byte, error) {
	if r.err != nil || piece == "" {
		return dst, r.result()
	}
	return s.emit(dst, delta{Content: &piece}, nil)
}

func (s *MessagesToChatStream) think(dst []byte, r *reader, open *openBlock, piece string) ([]byte, error) {
	if r.err != nil || piece == "" {
		return dst, r.result()
	}
	open.thinking = append(open.thinking, piece...)
	return s.emit(dst, delta{ReasoningContent: piece}, nil)
}

func (s *MessagesToChatStream) arguments(dst []byte, r *reader, open *openBlock, piece string) ([]byte, error) {
	if r.err != nil || piece == "" {
		return dst, r.result()
	}
	open.wrote = true
	return s.emit(dst, delta{ToolCalls: []toolCall{{Index: &open.call, Function: function{Arguments: piece}}}}, nil)
}

func (s *MessagesToChatStream) emit(dst []byte, d delta, finish *string) ([]byte, error) {
	return appendData(dst, s.chunk([]chunkChoice{{Delta: d, FinishReason: finish}}, nil))
}

// chunk fills in what every chunk says. With usage asked for, OpenAI says null
// in all but the last.
func (s *MessagesToChatStream) chunk(choices []chunkChoice, usage *chatUsage) *chatChunk {
	c := &chatChunk{
		ID: s.a.ID, Object: "chat.completion.chunk", Created: s.a.created(),
		Model: s.a.Model, ServiceTier: s.tier, Choices: choices,
	}
	switch {
	case usage != nil:
		c.Usage = usage
	case s.a.IncludeUsage:
		c.Usage = null{}
	}
	return c
}

// appendData appends v as an SSE event without a name.
func appendData(dst []byte, v any) ([]byte, error) {
	data, err := encode(v)
	if err != nil {
		return dst, err
	}
	dst = append(append(dst, "data: "...), data...)
	return append(dst, "\n\n"...), nil
}
