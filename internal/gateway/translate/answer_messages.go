package translate

import (
	"strconv"
	"strings"
)

// message is a whole Anthropic answer.
type message struct {
	ID           string       `json:"id"`
	Type         string       `json:"type"`
	Role         string       `json:"role"`
	Model        string       `json:"model"`
	Content      []block      `json:"content"`
	StopReason   *string      `json:"stop_reason"`
	StopSequence *string      `json:"stop_sequence"`
	StopDetails  *stopDetails `json:"stop_details"`
	Container    *null        `json:"container"`
	Diagnostics  *null        `json:"diagnostics"`
	Usage        messageUsage `json:"usage"`
}

// ChatCompletionToMessage translates a whole OpenAI answer.
func ChatCompletionToMessage(body []byte, a Answer) ([]byte, error) {
	r := &reader{answer: true}
	in := r.read(body)
	if r.err != nil {
		return nil, r.err
	}
	out := &message{Type: "message", Role: "assistant", Content: []block{}}
	out.ID, out.Model = a.names(in)
	choices := in.list("choices")
	if len(choices) == 0 {
		r.wrong("choices", "There is no answer in it.")
		return nil, r.result()
	}
	if len(choices) > 1 {
		r.refuse("choices[1]", "Anthropic gives one answer per request.", "")
	}
	choice := choices[0].object()
	msg, ok := choice.child("message")
	if !ok {
		r.wrong("choices[0].message", "It is required.")
		return nil, r.result()
	}
	c := &chatAnswerReader{r: r, id: out.ID, omitReasoning: a.OmitReasoning}
	c.message(msg)
	out.Content = append(out.Content, c.blocks...)
	reason := choice.needStr("finish_reason")
	if r.err == nil {
		reason = stopReason(r, "choices[0].finish_reason", reason, c.calls > 0, c.refused)
		out.StopReason, out.StopDetails = &reason, detailsOf(reason)
		out.matched(choice)
	}
	var t tokens
	if u, ok := in.child("usage"); ok {
		t.readChat(u)
	}
	out.Usage = t.message()
	if r.err != nil {
		return nil, r.err
	}
	return encode(out)
}

// matched takes vLLM's word for which stop sequence was met: a string, where
// a number would be a token.
func (m *message) matched(choice *object) {
	if n, ok := choice.take("stop_reason"); ok && n.isString() && *m.StopReason == "end_turn" {
		s, why := n.str(), "stop_sequence"
		m.StopReason, m.StopSequence = &why, &s
	}
}

// chatAnswerReader collects the blocks of an OpenAI answer.
type chatAnswerReader struct {
	r             *reader
	id            string
	omitReasoning bool
	blocks        []block
	calls         int
	refused       bool
}

func (c *chatAnswerReader) message(m *object) {
	if s := reasoningText(m); s != "" {
		c.think(s)
	}
	for _, p := range contentPieces(m) {
		switch {
		case p.reasoning:
			c.think(p.text)
		default:
			c.text(p.text)
		}
	}
	if s, _ := m.str("refusal"); s != "" {
		c.text(s)
		c.refused = true
	}
	refuseForeign(m)
	for _, n := range m.list("tool_calls") {
		c.call(n.object())
	}
}

// text adds a text block, unless it is white space alone, which Anthropic
// refuses when a client sends the turn back.
func (c *chatAnswerReader) text(s string) {
	if strings.TrimSpace(s) == "" {
		return
	}
	b := text(s)
	b.Citations = &null{}
	c.blocks = append(c.blocks, b)
}

func (c *chatAnswerReader) think(s string) {
	if c.omitReasoning || strings.TrimSpace(s) == "" {
		return
	}
	none := "" // only Anthropic can sign
	c.blocks = append(c.blocks, block{Type: "thinking", Thinking: &s, Signature: &none})
}

func (c *chatAnswerReader) call(t *object) {
	if kind, ok := t.str("type"); ok && kind != "function" && kind != "" {
		c.r.refuse(t.at("type"), "Anthropic has no calls of type "+quoted(kind)+".", "")
		return
	}
	f, ok := t.child("function")
	if !ok {
		c.r.wrong(t.at("function"), "It is required.")
		return
	}
	id, _ := t.str("id")
	if id == "" {
		id = missingCallID(c.id, c.calls)
	}
	arguments, _ := f.str("arguments")
	input, ok := jsonObject(arguments)
	if !ok {
		c.r.wrong(f.at("arguments"), "The model's arguments are not a JSON object.")
	}
	c.calls++
	c.blocks = append(c.blocks, block{Type: "tool_use", ID: id, Name: f.needStr("name"), Input: input, Caller: &typed{"direct"}})
}

// missingCallID names a call that the upstream left unnamed, after the answer
// it is in, so that it stays unique in the conversation.
func missingCallID(answer string, n int) string {
	return "call_" + answer + "_" + strconv.Itoa(n)
}

// refuseForeign refuses what an OpenAI message or delta may hold only if it
// was asked for in ways that Anthropic's requests cannot ask.
func refuseForeign(m *object) {
	m.unless("annotations", "", "[]")
	m.refuse("audio", "")
	m.refuse("function_call", "")
}

// reasoningText is the reasoning of a message or delta where the server gives
// it: reasoning_content (DeepSeek, older vLLM, llama.cpp, SGLang) or reasoning
// (vLLM, Ollama, Groq, OpenRouter). Some send both, with the same text.
func reasoningText(m *object) string {
	for _, key := range [...]string{"reasoning_content", "reasoning"} {
		if n, ok := m.take(key); ok && n.isString() {
			if s := n.str(); s != "" {
				return s
			}
		}
	}
	return ""
}

// piece is a part of an answer's content.
type piece struct {
	text      string
	reasoning bool
}

// contentPieces reads an answer's content: text, or Mistral's list of chunks
// in which its reasoning models also think.
func contentPieces(m *object) []piece {
	n, ok := m.take("content")
	switch {
	case !ok:
		return nil
	case !n.isArray():
		return []piece{{text: n.str()}}
	}
	var out []piece
	for _, chunk := range n.list() {
		c := chunk.object()
		switch kind := c.needStr("type"); kind {
		case "text":
			out = append(out, piece{text: c.needStr("text")})
		case "thinking":
			for _, t := range c.list("thinking") {
				thought := t.object()
				if s, ok := thought.str("text"); ok && s != "" {
					out = append(out, piece{s, true})
				}
			}
		default:
			c.r.refuse(c.at("type"), "Anthropic's answers have nothing like a "+quoted(kind)+" chunk.", "")
		}
	}
	return out
}
