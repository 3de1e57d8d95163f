package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
)

// chatReader turns OpenAI messages into Anthropic turns.
type chatReader struct {
	r      *reader
	system []block
	turns  []turn

	// Tool calls are paired within a turn. OpenAI-compatible servers reuse
	// ids across turns and spell them as they like; Anthropic wants them
	// unique and of letters, digits, _ and -. The ids in a request are seen
	// by nobody but the upstream, so they are rewritten where needed.
	open map[string]string // ids of calls still to be answered → id sent
	call map[string]string // the same ids → the function's name
	used map[string]bool   // ids sent so far
}

func (c *chatReader) messages(in *object) {
	c.used = map[string]bool{}
	n, ok := in.need("messages")
	if !ok {
		return
	}
	list := n.list()
	if len(list) == 0 {
		c.r.wrong("messages", "It must not be empty.")
	}
	for _, m := range list {
		if c.r.err != nil {
			return
		}
		c.message(m.object())
	}
	c.answered("messages")
	c.order()
}

func (c *chatReader) message(m *object) {
	role := m.needStr("role")
	if role != "tool" {
		c.answered(m.path)
	}
	switch role {
	case "system", "developer", "user", "assistant":
		m.refuse("name", "Put the name into the text.")
	}
	switch role {
	case "system", "developer":
		c.instructions(m)
	case "user":
		c.user(m)
	case "assistant":
		c.assistant(m)
	case "tool":
		c.toolResult(m)
	case "function":
		c.r.refuse(m.at("role"), "The provider has tools, not functions.", "Use tool_calls and tool messages.")
	default:
		c.r.wrong(m.at("role"), "It must be system, developer, user, assistant or tool.")
	}
	m.rest()
}

// answered refuses tool calls that the messages before path left open: both
// APIs do, and say less about it.
func (c *chatReader) answered(path string) {
	for id := range c.open {
		c.r.wrong(path, "The tool call "+quoted(id)+" before it has no tool message.")
		break
	}
	c.open, c.call = nil, nil
}

// instructions takes a system message. Those at the beginning become the
// system prompt; later ones stay where they are.
func (c *chatReader) instructions(m *object) {
	blocks := c.content(m, onlyText)
	if len(c.turns) == 0 {
		c.system = append(c.system, blocks...)
		return
	}
	if len(blocks) == 0 {
		return
	}
	if last := &c.turns[len(c.turns)-1]; last.role == "system" {
		last.blocks = append(last.blocks, blocks...)
		return
	}
	c.turns = append(c.turns, turn{role: "system", blocks: blocks, path: m.path})
}

func (c *chatReader) systemPrompt() any {
	switch {
	case len(c.system) == 0:
		return nil
	case len(c.system) == 1 && c.system[0].CacheControl == nil:
		return *c.system[0].Text
	}
	return c.system
}

func (c *chatReader) user(m *object) {
	blocks := c.content(m, userParts)
	if len(blocks) == 0 {
		c.r.refuse(m.at("content"), "The provider does not take an empty message.", "Remove the message.")
		return
	}
	c.turns = append(c.turns, turn{role: "user", path: m.path}.with(blocks))
}

// with sets a turn's blocks, and a lone plain text as text.
func (t turn) with(blocks []block) turn {
	if len(blocks) == 1 && blocks[0].Type == "text" && blocks[0].CacheControl == nil {
		t.text = *blocks[0].Text
		return t
	}
	t.blocks = blocks
	return t
}

func (c *chatReader) assistant(m *object) {
	blocks := c.thinking(m)
	blocks = append(blocks, c.content(m, assistantParts)...)
	if refusal, ok := m.str("refusal"); ok && strings.TrimSpace(refusal) != "" {
		blocks = append(blocks, text(refusal)) // it is what the assistant said
	}
	m.skip("parsed") // the SDK's own reading of content
	m.unless("annotations", mendUseOpenAI, "[]")
	m.refuse("audio", mendUseOpenAI)
	m.refuse("function_call", "Use tool_calls.")
	blocks = append(blocks, c.toolCalls(m)...)
	if len(blocks) == 0 {
		c.r.refuse(m.path, "The provider does not take an empty message.", "Remove the message.")
		return
	}
	c.turns = append(c.turns, turn{role: "assistant", path: m.path}.with(blocks))
}

// thinking returns the signed thinking that MessageToChatCompletion and the
// streams hand out as thinking_blocks. Reasoning without Anthropic's signature
// cannot be given back and is left out; so does Anthropic with the thinking of
// any other model.
func (c *chatReader) thinking(m *object) []block {
	m.skip("reasoning_content", "reasoning")
	var out []block
	for _, n := range m.list("thinking_blocks") {
		b := n.object()
		switch kind := b.needStr("type"); kind {
		case "thinking":
			thought, signature := b.needStr("thinking"), b.needStr("signature")
			out = append(out, block{Type: kind, Thinking: &thought, Signature: &signature})
		case "redacted_thinking":
			out = append(out, block{Type: kind, Data: b.needStr("data")})
		default:
			c.r.wrong(b.at("type"), "It must be thinking or redacted_thinking.")
		}
		b.rest()
	}
	return out
}

func (c *chatReader) toolCalls(m *object) []block {
	var out []block
	calls := m.list("tool_calls")
	if len(calls) > 0 {
		c.open, c.call = map[string]string{}, map[string]string{}
	}
	for _, n := range calls {
		t := n.object()
		t.skip("index") // a habit of stream accumulators; the order says it
		if kind, ok := t.str("type"); ok && kind != "function" {
			c.r.refuse(t.at("type"), "The provider has no calls of type "+quoted(kind)+".", mendUseOpenAI)
		}
		id := t.needStr("id")
		f, ok := t.child("function")
		if !ok {
			c.r.wrong(t.at("function"), "It is required.")
			return nil
		}
		if _, twice := c.open[id]; twice {
			c.r.wrong(t.at("id"), "Two calls have this id.")
		}
		f.skip("parsed_arguments") // the SDK's own reading of arguments
		name := f.needName("name")
		out = append(out, block{Type: "tool_use", ID: c.callID(id), Name: name, Input: c.arguments(f)})
		c.call[id] = name
		f.rest()
		t.rest()
	}
	return out
}

// arguments decodes a call's arguments. Servers write "" for none.
func (c *chatReader) arguments(f *object) json.RawMessage {
	s := strings.TrimSpace(f.needStr("arguments"))
	if s == "" {
		return json.RawMessage("{}")
	}
	if s[0] != '{' || !json.Valid([]byte(s)) {
		c.r.refuse(f.at("arguments"), "The provider takes a JSON object as arguments.",
			"Send the arguments as a JSON object.")
		return nil
	}
	return json.RawMessage(s)
}

// callID returns the id to send for a call and opens it.
func (c *chatReader) callID(id string) string {
	sent := id
	if !plainID(sent) {
		sum := sha256.Sum256([]byte(id))
		sent = "call_" + hex.EncodeToString(sum[:12])
	}
	for n := 2; c.used[sent]; n++ {
		sent = strings.TrimSuffix(sent, "_"+strconv.Itoa(n-1)) + "_" + strconv.Itoa(n)
	}
	c.used[sent] = true
	c.open[id] = sent
	return sent
}

func plainID(id string) bool {
	for i := range len(id) {
		switch b := id[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '_', b == '-':
		default:
			return false
		}
	}
	return id != ""
}

// toolResult takes a tool message. Those that answer one assistant message
// become one user turn.
func (c *chatReader) toolResult(m *object) {
	id := m.needStr("tool_call_id")
	sent, ok := c.open[id]
	if !ok {
		c.r.wrong(m.at("tool_call_id"), "No call of the assistant message before it has this id, or it is already answered.")
		return
	}
	if name, ok := m.str("name"); ok && name != c.call[id] {
		c.r.wrong(m.at("name"), "It is not the name of the function that was called.")
	}
	delete(c.open, id)
	result := block{Type: "tool_result", ToolUseID: sent}
	if blocks := c.content(m, toolParts); len(blocks) == 1 && blocks[0].Type == "text" && blocks[0].CacheControl == nil {
		result.plain = *blocks[0].Text
	} else {
		result.Content = blocks
	}
	if last := &c.turns[len(c.turns)-1]; last.role == "user" {
		last.blocks = append(last.blocks, result)
		return
	}
	c.turns = append(c.turns, turn{role: "user", blocks: []block{result}, path: m.path})
}

// order refuses conversations Anthropic has no shape for: they begin with the
// user, do not end with the assistant (which would be a prefill there, to be
// continued), and an instruction in the middle follows the user and precedes
// the assistant.
func (c *chatReader) order() {
	if len(c.turns) == 0 {
		if c.r.err == nil {
			c.r.refuse("messages", "The provider needs a message of the user.", "Add a user message.")
		}
		return
	}
	last := len(c.turns) - 1
	for i, t := range c.turns {
		switch {
		case i == 0 && t.role != "user":
			c.r.refuse(t.path+".role", "The provider's conversations begin with the user.", "Begin with a user message.")
		case i == last && t.role == "assistant":
			c.r.refuse(t.path+".role", "The provider would continue this message rather than answer it.", "End with a user message.")
		case t.role == "system" && (c.turns[i-1].role != "user" || i < last && c.turns[i+1].role != "assistant"):
			c.r.refuse(t.path+".role", "The provider takes instructions at the beginning, or between a user message and the assistant's.",
				"Move it to the beginning, or behind the user message.")
		}
	}
}
