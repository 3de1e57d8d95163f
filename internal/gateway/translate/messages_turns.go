package translate

import "strings"

// toolErrorPrefix marks a failed tool's result. OpenAI's tool messages have no
// flag for it, and what cannot be flagged has to be said: otherwise a model
// takes "permission denied" for what it asked for.
const toolErrorPrefix = "Error: "

// messagesReader turns Anthropic turns into OpenAI messages.
type messagesReader struct {
	r              *reader
	reasoningField string
	out            []chatMessage
	open           map[string]bool // tool calls of the last turn still to be answered
}

func (m *messagesReader) systemPrompt(in *object) {
	n, ok := in.take("system")
	if !ok {
		return
	}
	if parts := m.textParts(n, "system"); len(parts) > 0 {
		m.out = append(m.out, chatMessage{role: "system"}.with(parts))
	}
}

// with sets a message's parts, and a lone text as text, which every compatible
// server understands.
func (c chatMessage) with(parts []part) chatMessage {
	if len(parts) == 1 && parts[0].Text != nil {
		c.text = *parts[0].Text
		return c
	}
	c.parts = parts
	return c
}

func (m *messagesReader) messages(in *object) {
	n, ok := in.need("messages")
	if !ok {
		return
	}
	list := n.list()
	if len(list) == 0 {
		m.r.wrong("messages", "It must not be empty.")
	}
	var role string
	for _, n := range list {
		if m.r.err != nil {
			return
		}
		t := n.object()
		role = t.needStr("role")
		content, ok := t.need("content")
		if !ok {
			return
		}
		switch role {
		case "user":
			m.user(content)
		case "assistant":
			m.answered(t.path)
			m.assistant(content)
		case "system":
			m.answered(t.path)
			m.out = append(m.out, chatMessage{role: "system"}.with(m.textParts(content, "system")))
		default:
			m.r.wrong(t.at("role"), "It must be user, assistant or system.")
		}
		t.rest()
	}
	m.answered("messages")
	if role == "assistant" {
		m.r.refuse("messages", "The provider would answer the last message rather than continue it.", "End with a user message.")
	}
}

func (m *messagesReader) answered(path string) {
	for id := range m.open {
		m.r.wrong(path, "The tool call "+quoted(id)+" before it has no tool_result.")
		break
	}
	m.open = nil
}

// blocks lists a content: a string stands for one text block.
func blocks(content node) (plain *string, list []*object) {
	if content.isString() {
		s := content.str()
		return &s, nil
	}
	for _, n := range content.list() {
		list = append(list, n.object())
	}
	return nil, list
}

func (m *messagesReader) textParts(content node, role string) []part {
	plain, list := blocks(content)
	if plain != nil {
		return []part{textPart(*plain)}
	}
	var out []part
	for _, b := range list {
		if kind := b.needStr("type"); kind != "text" {
			m.r.refuse(b.at("type"), "The provider takes only text from "+role+" messages.", mendUseAnthropic)
			return nil
		}
		out = append(out, m.text(b))
	}
	return out
}

// text reads the rest of a text block. Cited text cannot be said without its
// citations.
func (m *messagesReader) text(b *object) part {
	p := textPart(b.needStr("text"))
	b.skip("cache_control")
	b.unless("citations", mendUseAnthropic, "[]")
	b.rest()
	return p
}

// user splits a user turn into tool messages, which come first in both
// dialects, and one user message.
func (m *messagesReader) user(content node) {
	plain, list := blocks(content)
	if plain != nil {
		m.answered(content.path)
		m.out = append(m.out, chatMessage{role: "user", text: *plain})
		return
	}
	var parts []part
	for _, b := range list {
		kind := b.needStr("type")
		if kind == "tool_result" && len(parts) > 0 {
			m.r.wrong(b.path, "Tool results come before any other content of a message.")
			return
		}
		switch kind {
		case "tool_result":
			m.toolResult(b)
		case "text":
			parts = append(parts, m.text(b))
		case "image":
			parts = append(parts, m.image(b))
		case "document":
			parts = append(parts, m.document(b))
		default:
			m.unknown(b, kind)
			return
		}
	}
	m.answered(content.path)
	if len(parts) > 0 || len(list) == 0 {
		m.out = append(m.out, chatMessage{role: "user"}.with(parts))
	}
}

func (m *messagesReader) unknown(b *object, kind string) {
	m.r.refuse(b.at("type"), "The provider does not take "+quoted(kind)+" blocks.", mendUseAnthropic)
}

func (m *messagesReader) toolResult(b *object) {
	id := b.needStr("tool_use_id")
	if !m.open[id] {
		m.r.wrong(b.at("tool_use_id"), "No call of the assistant message before it has this id, or it is already answered.")
		return
	}
	delete(m.open, id)
	msg := chatMessage{role: "tool", toolCallID: id}
	if content, ok := b.take("content"); ok {
		msg = msg.with(m.textParts(content, "tool"))
	}
	if failed, _ := b.boolean("is_error"); failed {
		if len(msg.parts) > 0 {
			first := toolErrorPrefix + *msg.parts[0].Text
			msg.parts[0].Text = &first
		} else {
			msg.text = strings.TrimSpace(toolErrorPrefix + msg.text)
		}
	}
	b.skip("cache_control")
	b.refuse("toolset_name", mendUseAnthropic)
	b.rest()
	m.out = append(m.out, msg)
}

func (m *messagesReader) image(b *object) part {
	url := ""
	if s, ok := b.child("source"); ok {
		url = m.source(s, "")
	} else {
		m.r.wrong(b.at("source"), "It is required.")
	}
	b.skip("cache_control")
	b.refuse("transformations", mendUseAnthropic)
	b.rest()
	return part{Type: "image_url", ImageURL: &imageURL{url}}
}

// source renders a source as a URL. Only of media type only, if set, because
// OpenAI takes documents as data alone.
func (m *messagesReader) source(s *object, only string) string {
	var url string
	switch kind := s.needStr("type"); {
	case kind == "base64":
		media := s.needStr("media_type")
		if only != "" && media != only {
			m.r.refuse(s.at("media_type"), "The provider takes only "+only+".", mendUseAnthropic)
		}
		url = "data:" + media + ";base64," + s.needStr("data")
	case kind == "url" && only == "":
		url = s.needStr("url")
	default:
		m.r.refuse(s.at("type"), "The provider does not take a source of type "+quoted(kind)+" here.", "Send it as base64.")
	}
	s.rest()
	return url
}

func (m *messagesReader) document(b *object) part {
	f := file{Filename: "document.pdf"} // OpenAI requires a name
	if title, ok := b.str("title"); ok && title != "" {
		f.Filename = title
	}
	if s, ok := b.child("source"); ok {
		f.FileData = m.source(s, "application/pdf")
	} else {
		m.r.wrong(b.at("source"), "It is required.")
	}
	if c, ok := b.child("citations"); ok {
		c.unless("enabled", mendUseAnthropic, "false")
		c.rest()
	}
	b.refuse("context", "Move it into a text block.")
	b.skip("cache_control")
	b.rest()
	return part{Type: "file", File: &f}
}

// assistant takes an assistant turn. An OpenAI message holds text and calls
// side by side, so their order is not kept.
func (m *messagesReader) assistant(content node) {
	msg := chatMessage{role: "assistant"}
	plain, list := blocks(content)
	if plain != nil {
		msg.text = *plain
	}
	var parts []part
	m.open = map[string]bool{}
	for _, b := range list {
		switch kind := b.needStr("type"); kind {
		case "text":
			parts = append(parts, m.text(b))
		case "tool_use":
			msg.toolCalls = append(msg.toolCalls, m.toolUse(b))
		case "thinking":
			// Left out unless the upstream takes reasoning back; the
			// signature is Anthropic's and means nothing to others.
			if m.reasoningField != "" {
				msg.reasoningField = m.reasoningField
				msg.reasoning += b.needStr("thinking")
			}
		case "redacted_thinking": // readable by Anthropic alone
		default:
			m.unknown(b, kind)
			return
		}
	}
	if plain == nil && len(parts) > 0 {
		msg = msg.with(parts)
	}
	m.out = append(m.out, msg)
}

func (m *messagesReader) toolUse(b *object) toolCall {
	call := toolCall{ID: b.needStr("id"), Type: "function", Function: function{Name: b.needName("name")}}
	if input, ok := b.need("input"); ok {
		if !input.isObject() {
			m.r.wrong(input.path, "It must be an object.")
		}
		call.Function.Arguments = compact(input.raw)
	}
	if m.open[call.ID] {
		m.r.wrong(b.at("id"), "Two calls have this id.")
	}
	m.open[call.ID] = true
	if caller, ok := b.child("caller"); ok {
		caller.unless("type", mendUseAnthropic, `"direct"`)
		caller.rest()
	}
	b.skip("cache_control")
	b.refuse("toolset_name", mendUseAnthropic)
	b.rest()
	return call
}
