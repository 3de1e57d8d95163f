package simulator

import "time"

// chat answers /v1/chat/completions of OpenAI, Mistral, Ollama and the servers
// compatible with OpenAI.
func (x *exchange) chat() reply {
	m, ok := decode(x.body)
	if !ok {
		return x.badJSON()
	}
	if f := x.checkChat(m); f != nil {
		return x.fail(*f)
	}
	p := readOpenAI(m, x.s.o.Format)
	if rep, done := x.prepare(p); done {
		return rep
	}
	c := &chatAnswer{x: x, p: p, id: x.chatID(), fingerprint: "fp_simulator", tier: "default",
		obfuscate: m.obj("stream_options")["include_obfuscation"] != false}
	c.usage = usage{in: p.tokens()}
	switch x.s.o.Format {
	case OpenAI:
		c.usage.cached = x.cacheAutomatically(p, openAIBlock, minCached)
	case Mistral:
		c.usage.cached = x.cacheAutomatically(p, mistralBlock, mistralMinimum)
	}
	n := p.n
	if x.s.o.Format == Ollama {
		n = 1
	}
	for i := range n {
		a := x.compose(p, i)
		c.usage.out += a.usage.out
		c.usage.reasoning += a.usage.reasoning
		c.answers = append(c.answers, a)
	}
	if p.stream {
		return c.stream()
	}
	return c.whole()
}

// prepare does what every format does between reading and answering: obey a
// command in the prompt, and refuse a prompt beyond the context window.
func (x *exchange) prepare(p *prompt) (reply, bool) {
	if x.s.o.Commands && x.fault.Name == "" {
		if f, ok := command(p.last); ok {
			x.fault = f
			x.rec.setFault(f)
			if rep, done := x.refuse(); done {
				return rep, true
			}
		}
	}
	if n := p.tokens(); n > x.s.o.ContextTokens {
		return x.fail(x.tooLong(n)), true
	}
	return reply{}, false
}

func (x *exchange) chatID() string {
	switch x.s.o.Format {
	case Mistral:
		return x.id("")
	}
	return x.id("chatcmpl-")
}

// chatAnswer renders completions and chunks.
type chatAnswer struct {
	x           *exchange
	p           *prompt
	id          string
	fingerprint string
	tier        string
	obfuscate   bool
	answers     []answer
	usage       usage
}

func (c *chatAnswer) finish(a *answer) string {
	switch a.finish {
	case finishLength:
		return "length"
	case finishFilter:
		if c.x.s.o.Format == Mistral {
			return "error"
		}
		return "content_filter"
	case finishTools:
		// OpenAI documents "stop" when tool_choice names the function.
		if c.x.s.o.Format == OpenAI && c.p.call.name != "" {
			return "stop"
		}
		return "tool_calls"
	}
	return "stop"
}

func (c *chatAnswer) head(object string) o {
	head := o{"id", c.id, "object", object, "created", c.x.now.Unix(), "model", c.p.model}
	switch c.x.s.o.Format {
	case OpenAI:
		return append(head, "service_tier", c.tier, "system_fingerprint", c.fingerprint)
	case Mistral:
		return head
	}
	return append(head, "system_fingerprint", c.fingerprint)
}

// whole is the answer that is not streamed.
func (c *chatAnswer) whole() reply {
	choices := make([]any, len(c.answers))
	for i := range c.answers {
		a := &c.answers[i]
		choice := o{"index", i, "message", c.message(a)}
		if c.x.s.o.Format == OpenAI || c.x.s.o.Format == OpenAICompatible {
			choice = append(choice, "logprobs", c.logprobs(a.text))
		}
		choices[i] = append(choice, "finish_reason", c.finish(a))
	}
	body := append(c.head("chat.completion"), "choices", choices)
	for _, u := range c.x.usages(c.usage) {
		body = append(body, "usage", c.renderUsage(u))
	}
	return c.x.ok(body)
}

// message is a whole message, whose content is null beside tool calls.
func (c *chatAnswer) message(a *answer) o {
	var content any = a.whole()
	if a.calls != nil && c.x.s.o.Format != Ollama && c.x.s.o.Format != Mistral {
		content = nil
	}
	msg := o{"role", "assistant"}
	thinking := join(a.thinking)
	switch c.x.s.o.Format {
	case Mistral:
		if thinking != "" {
			content = []any{mistralThinking(thinking), o{"type", "text", "text", a.whole()}}
		}
		return append(msg, "content", content, "tool_calls", c.calls(a, false))
	case Ollama:
		msg = append(msg, "content", content)
		if thinking != "" {
			msg = append(msg, "reasoning", thinking)
		}
	case OpenAICompatible:
		msg = append(msg, "content", content)
		if thinking != "" {
			msg = append(msg, "reasoning_content", thinking)
		}
	default:
		msg = append(msg, "content", content, "refusal", nil, "annotations", []any{})
	}
	if a.calls != nil {
		msg = append(msg, "tool_calls", c.calls(a, false))
	}
	return msg
}

func mistralThinking(text string) o {
	return o{"type", "thinking", "thinking", []any{o{"type", "text", "text", text}}, "closed", true}
}

// calls renders tool calls, nil for none. index is there in streams only,
// except where a vendor always sends it.
func (c *chatAnswer) calls(a *answer, index bool) any {
	if a.calls == nil {
		return nil
	}
	list := make([]any, len(a.calls))
	for i, call := range a.calls {
		list[i] = c.call(call, i, call.args, index || c.x.s.o.Format == Mistral || c.x.s.o.Format == Ollama)
	}
	return list
}

func (c *chatAnswer) call(call toolCall, i int, args string, index bool) o {
	id := c.x.id("call_", i)
	if c.x.s.o.Format == Mistral {
		id = id[len(id)-9:] // Mistral's ids are nine letters and digits
	}
	out := o{}
	if index {
		out = append(out, "index", i)
	}
	if call.custom {
		return append(out, "id", id, "type", "custom", "custom", o{"name", call.name, "input", args})
	}
	return append(out, "id", id, "type", "function", "function", o{"name", call.name, "arguments", args})
}

// logprobs is null unless asked for.
func (c *chatAnswer) logprobs(pieces []string) any {
	if !c.p.logprobs {
		return nil
	}
	list := []any{}
	for _, token := range pieces {
		raw := make([]int, len(token))
		for i := range len(token) {
			raw[i] = int(token[i])
		}
		top := []any{}
		for i := range c.p.top {
			top = append(top, o{"token", token, "logprob", -0.25 * float64(i+1), "bytes", raw})
		}
		list = append(list, o{"token", token, "logprob", -0.25, "bytes", raw, "top_logprobs", top})
	}
	return o{"content", list, "refusal", nil}
}

func (c *chatAnswer) renderUsage(u usage) o {
	out := o{"prompt_tokens", u.in, "completion_tokens", u.out, "total_tokens", u.in + u.out}
	switch c.x.s.o.Format {
	case OpenAI:
		return append(out,
			"prompt_tokens_details", o{"cached_tokens", u.cached, "audio_tokens", 0},
			"completion_tokens_details", o{"reasoning_tokens", u.reasoning, "audio_tokens", 0,
				"accepted_prediction_tokens", 0, "rejected_prediction_tokens", 0})
	case Mistral:
		out = o{"prompt_tokens", u.in, "total_tokens", u.in + u.out, "completion_tokens", u.out}
		return append(out, "prompt_tokens_details", o{"cached_tokens", u.cached})
	}
	return out
}

// command reads a fault out of a message "simulate <fault>".
func command(text string) (Fault, bool) {
	const word = "simulate "
	if len(text) <= len(word) || len(text) > 200 || text[:len(word)] != word {
		return Fault{}, false
	}
	f, err := ParseFault(text[len(word):])
	if f.For > time.Minute || f.Size > 10<<20 {
		return Fault{}, false // a person typed it into a shared process
	}
	return f, err == nil
}
