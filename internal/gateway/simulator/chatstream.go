package simulator

import (
	"slices"
	"strings"
)

func join(pieces []string) string { return strings.Join(pieces, "") }

// stream is the answer as chunks: one choice after the other.
func (c *chatAnswer) stream() reply {
	rep := c.x.stream()
	for i := range c.answers {
		a := &c.answers[i]
		c.opening(&rep, a, i)
		c.reasoning(&rep, a, i)
		c.pieces(&rep, i, a.text)
		c.callChunks(&rep, a, i)
		c.closing(&rep, a, i)
	}
	c.usageChunks(&rep)
	rep.closing([]byte("data: [DONE]\n\n"))
	return rep
}

// chunk renders one chunk with one choice.
func (c *chatAnswer) chunk(index int, delta o, logprobs any, finish any) []byte {
	choice := o{"index", index, "delta", delta}
	if c.x.s.o.Format == OpenAI || c.x.s.o.Format == OpenAICompatible {
		choice = append(choice, "logprobs", logprobs)
	}
	choice = append(choice, "finish_reason", finish)
	body := append(c.head("chat.completion.chunk"), "choices", []any{choice})
	if c.x.s.o.Format == OpenAI {
		if c.p.includeUsage {
			body = append(body, "usage", nil)
		}
		if c.obfuscate {
			body = append(body, "obfuscation", obfuscation(c.id))
		}
	}
	return data(render(body))
}

// obfuscation stands in for the padding by which OpenAI hides lengths.
func obfuscation(id string) string { return id[len(id)-8:] }

func (c *chatAnswer) opening(rep *reply, a *answer, i int) {
	switch c.x.s.o.Format {
	case OpenAI:
		if a.calls != nil {
			return // the first call's chunk carries the role
		}
		rep.add(c.chunk(i, o{"role", "assistant", "content", "", "refusal", nil}, nil, nil))
	default:
		rep.add(c.chunk(i, o{"role", "assistant", "content", ""}, nil, nil))
	}
}

func (c *chatAnswer) reasoning(rep *reply, a *answer, i int) {
	for _, piece := range a.thinking {
		switch c.x.s.o.Format {
		case Mistral:
			rep.content(c.chunk(i, o{"content", []any{mistralThinking(piece)}}, nil, nil))
		case Ollama:
			rep.content(c.chunk(i, o{"content", "", "reasoning", piece}, nil, nil))
		case OpenAICompatible:
			rep.content(c.chunk(i, o{"reasoning_content", piece}, nil, nil))
		}
	}
}

// pieces renders the text. Equal neighbours share their bytes, which keeps a
// huge answer small.
func (c *chatAnswer) pieces(rep *reply, i int, text []string) {
	var last []byte
	for k, piece := range text {
		if k == 0 || piece != text[k-1] {
			var logprobs any
			if c.p.logprobs {
				logprobs = c.logprobs([]string{piece})
			}
			last = c.chunk(i, o{"content", piece}, logprobs, nil)
		}
		rep.content(last)
	}
}

// callChunks streams tool calls: OpenAI sends the name, then the arguments in
// pieces; Mistral and Ollama send whole calls.
func (c *chatAnswer) callChunks(rep *reply, a *answer, i int) {
	if a.calls == nil {
		return
	}
	if c.x.s.o.Format == Mistral || c.x.s.o.Format == Ollama {
		rep.content(c.chunk(i, o{"content", "", "tool_calls", c.calls(a, true)}, nil, nil))
		return
	}
	for k, call := range a.calls {
		delta := o{"tool_calls", []any{c.call(call, k, "", true)}}
		if k == 0 {
			delta = append(o{"role", "assistant", "content", nil}, delta...)
			if c.x.s.o.Format == OpenAI {
				delta = append(delta, "refusal", nil)
			}
		}
		rep.content(c.chunk(i, delta, nil, nil))
		for _, piece := range Tokens(call.args) {
			part := o{"index", k, "function", o{"arguments", piece}}
			if call.custom {
				part = o{"index", k, "custom", o{"input", piece}}
			}
			rep.content(c.chunk(i, o{"tool_calls", []any{part}}, nil, nil))
		}
	}
}

func (c *chatAnswer) closing(rep *reply, a *answer, i int) {
	delta := o{}
	if c.x.s.o.Format == Mistral {
		delta = o{"content", ""}
		if i == len(c.answers)-1 {
			return // the last chunk carries usage too: see usageChunks
		}
	}
	rep.add(c.chunk(i, delta, nil, c.finish(a)))
}

// usageChunks are the chunks without choices, if the client asked for usage.
// Mistral puts usage on the chunk with the last finish reason, unasked.
func (c *chatAnswer) usageChunks(rep *reply) {
	used := c.x.usages(c.usage)
	if c.x.s.o.Format == Mistral {
		i := len(c.answers) - 1
		choice := o{"index", i, "delta", o{"content", ""}, "finish_reason", c.finish(&c.answers[i])}
		body := append(c.head("chat.completion.chunk"), "choices", []any{choice})
		if len(used) == 0 {
			rep.add(data(render(body)))
		}
		for _, u := range used {
			rep.usage(data(render(append(slices.Clone(body), "usage", c.renderUsage(u)))))
		}
		return
	}
	if !c.p.includeUsage {
		return
	}
	for _, u := range used {
		body := append(c.head("chat.completion.chunk"), "choices", []any{}, "usage", c.renderUsage(u))
		if c.x.s.o.Format == OpenAI && c.obfuscate {
			body = append(body, "obfuscation", obfuscation(c.id))
		}
		rep.usage(data(render(body)))
	}
}
