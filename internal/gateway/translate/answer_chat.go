package translate

import (
	"encoding/json"
	"strings"
)

// chatCompletion is a whole OpenAI answer.
type chatCompletion struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	Created     int64        `json:"created"`
	Model       string       `json:"model"`
	ServiceTier string       `json:"service_tier,omitempty"`
	Choices     []chatChoice `json:"choices"`
	Usage       *chatUsage   `json:"usage,omitempty"`
}

type chatChoice struct {
	Index        int         `json:"index"`
	Message      *chatAnswer `json:"message"`
	LogProbs     *null       `json:"logprobs"`
	FinishReason string      `json:"finish_reason"`
}

type chatAnswer struct {
	Role             string     `json:"role"`
	Content          *string    `json:"content"`
	Refusal          *string    `json:"refusal"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ThinkingBlocks   []block    `json:"thinking_blocks,omitempty"`
	ToolCalls        []toolCall `json:"tool_calls,omitempty"`
}

// MessageToChatCompletion translates a whole Anthropic answer.
func MessageToChatCompletion(body []byte, a Answer) ([]byte, error) {
	r := &reader{answer: true}
	in := r.read(body)
	if r.err != nil {
		return nil, r.err
	}
	out := &chatCompletion{Object: "chat.completion", Created: a.created()}
	out.ID, out.Model = a.names(in)
	if kind, ok := in.str("type"); ok && kind != "message" {
		r.wrong("type", "It must be message.")
	}
	msg := &chatAnswer{Role: "assistant"}
	for _, n := range in.list("content") {
		msg.add(n.object())
	}
	if msg.Content == nil && len(msg.ToolCalls) == 0 {
		msg.Content = new(string)
	}
	reason := in.needStr("stop_reason")
	if d, ok := in.child("stop_details"); ok {
		if why, ok := d.str("explanation"); ok && why != "" {
			msg.Refusal = &why
		}
	}
	var t tokens
	if u, ok := in.child("usage"); ok {
		t.readMessages(u)
		out.ServiceTier = chatTier(u)
	}
	out.Usage = t.chat()
	if r.err == nil {
		out.Choices = []chatChoice{{Message: msg, FinishReason: finishReason(r, "stop_reason", reason)}}
	}
	if r.err != nil {
		return nil, r.err
	}
	return encode(out)
}

// add takes one content block of the answer. Texts are joined, as Anthropic's
// clients do to get the text of an answer.
func (m *chatAnswer) add(b *object) {
	switch kind := b.needStr("type"); kind {
	case "text":
		b.unless("citations", "", "[]")
		s := b.needStr("text")
		if m.Content != nil {
			s = *m.Content + s
		}
		m.Content = &s
	case "thinking":
		thought := b.needStr("thinking")
		signature, _ := b.str("signature")
		m.ReasoningContent += thought
		m.ThinkingBlocks = append(m.ThinkingBlocks, block{Type: kind, Thinking: &thought, Signature: &signature})
	case "redacted_thinking":
		m.ThinkingBlocks = append(m.ThinkingBlocks, block{Type: kind, Data: b.needStr("data")})
	case "tool_use":
		call := toolCall{ID: b.needStr("id"), Type: "function", Function: function{Name: b.needStr("name"), Arguments: "{}"}}
		if input, ok := b.take("input"); ok {
			call.Function.Arguments = compact(input.raw)
		}
		m.ToolCalls = append(m.ToolCalls, call)
	default:
		b.r.refuse(b.at("type"), "OpenAI's answers have nothing like a "+quoted(kind)+" block.", "")
	}
}

// chatTier translates the tier an answer was served from.
func chatTier(usage *object) string {
	switch tier, _ := usage.str("service_tier"); tier {
	case "standard":
		return "default"
	case "priority":
		return tier
	}
	return ""
}

func (a Answer) created() int64 {
	if a.Created.IsZero() {
		return 0
	}
	return a.Created.Unix()
}

// names returns the id and the model to show.
func (a Answer) names(in *object) (id, model string) {
	id, _ = in.str("id")
	model, _ = in.str("model")
	if a.ID != "" {
		id = a.ID
	}
	if a.Model != "" {
		model = a.Model
	}
	return id, model
}

// jsonObject returns s as a JSON object, or false. Servers write "" and "null"
// for a call without arguments.
func jsonObject(s string) (json.RawMessage, bool) {
	s = strings.TrimSpace(s)
	if s == "" || s == "null" {
		return json.RawMessage("{}"), true
	}
	return json.RawMessage(s), s[0] == '{' && json.Valid([]byte(s))
}
