package simulator

import (
	"encoding/base64"
	"encoding/json"
)

// messageAnswer renders a message and its events.
type messageAnswer struct {
	x  *exchange
	p  *prompt
	a  *answer
	id string
}

func (c *messageAnswer) stopReason() string {
	switch c.a.finish {
	case finishStopSequence:
		return "stop_sequence"
	case finishLength:
		return "max_tokens"
	case finishTools:
		return "tool_use"
	case finishFilter:
		return "refusal"
	}
	return "end_turn"
}

func (c *messageAnswer) stopDetails() any {
	if c.a.finish != finishFilter {
		return nil
	}
	return o{"type", "refusal", "category", "general_harms", "explanation", "Simulated refusal."}
}

// renderUsage reports input_tokens without what the cache holds, as documented.
func renderUsage(u usage) o {
	return o{"input_tokens", u.in - u.cached - u.write5m - u.write1h,
		"cache_creation_input_tokens", u.write5m + u.write1h, "cache_read_input_tokens", u.cached,
		"cache_creation", o{"ephemeral_5m_input_tokens", u.write5m, "ephemeral_1h_input_tokens", u.write1h},
		"output_tokens", u.out, "service_tier", "standard"}
}

// signature stands in for the vendor's proof that it wrote the reasoning.
func signature() string {
	return base64.StdEncoding.EncodeToString([]byte("foundry-simulator: not a signature"))
}

func (c *messageAnswer) toolUse(i int, call toolCall, input any) o {
	return o{"type", "tool_use", "id", c.x.id("toolu_01", i), "name", call.name, "input", input}
}

func (c *messageAnswer) message(content []any, stop, sequence any, used []usage) o {
	body := o{"id", c.id, "type", "message", "role", "assistant", "model", c.p.model, "content", content,
		"stop_reason", stop, "stop_sequence", sequence}
	if stop != nil {
		body = append(body, "stop_details", c.stopDetails())
	}
	for _, u := range used {
		body = append(body, "usage", renderUsage(u))
	}
	return body
}

func (c *messageAnswer) whole() o {
	content := []any{}
	if c.a.thinking != nil {
		content = append(content, o{"type", "thinking", "thinking", join(c.a.thinking), "signature", signature()})
	}
	if c.a.text != nil {
		content = append(content, o{"type", "text", "text", c.a.whole()})
	}
	for i, call := range c.a.calls {
		content = append(content, c.toolUse(i, call, json.RawMessage(call.args)))
	}
	return c.message(content, c.stopReason(), orNull(c.a.stopped), c.x.usages(c.a.usage))
}

// block streams one content block.
func (c *messageAnswer) block(rep *reply, index int, start o, deltas []o) {
	rep.add(named("content_block_start", render(o{"type", "content_block_start", "index", index, "content_block", start})))
	if index == 0 {
		rep.add(named("ping", render(o{"type", "ping"})))
	}
	var last []byte
	for i, d := range deltas {
		if i == 0 || !same(d, deltas[i-1]) {
			last = named("content_block_delta", render(o{"type", "content_block_delta", "index", index, "delta", d}))
		}
		rep.content(last)
	}
	rep.add(named("content_block_stop", render(o{"type", "content_block_stop", "index", index})))
}

func same(a, b o) bool { return a[1] == b[1] && a[3] == b[3] }

func deltas(kind, field string, pieces []string) []o {
	list := make([]o, len(pieces))
	for i, piece := range pieces {
		list[i] = o{"type", kind, field, piece}
	}
	return list
}

func (c *messageAnswer) stream() reply {
	rep := c.x.stream()
	first := c.x.usages(c.a.usage)
	for i := range first {
		first[i].out = min(1, first[i].out)
	}
	if len(first) > 1 {
		first = first[:1]
	}
	start := c.message([]any{}, nil, nil, first)
	rep.add(named("message_start", render(o{"type", "message_start", "message", start})))
	index := 0
	if c.a.thinking != nil {
		parts := append(deltas("thinking_delta", "thinking", c.a.thinking), o{"type", "signature_delta", "signature", signature()})
		c.block(&rep, index, o{"type", "thinking", "thinking", "", "signature", ""}, parts)
		index++
	}
	if c.a.text != nil {
		c.block(&rep, index, o{"type", "text", "text", ""}, deltas("text_delta", "text", c.a.text))
		index++
	}
	for i, call := range c.a.calls {
		pieces := append([]string{""}, Tokens(call.args)...)
		c.block(&rep, index, c.toolUse(i, call, o{}), deltas("input_json_delta", "partial_json", pieces))
		index++
	}
	c.end(&rep)
	return rep
}

// end is message_delta, whose usage is cumulative, and message_stop. Without
// usage the delta still carries the reason.
func (c *messageAnswer) end(rep *reply) {
	body := o{"type", "message_delta", "delta", o{"stop_reason", c.stopReason(), "stop_sequence", orNull(c.a.stopped), "stop_details", c.stopDetails()}}
	used := c.x.usages(c.a.usage)
	if len(used) == 0 {
		rep.add(named("message_delta", render(body)))
	}
	for _, u := range used {
		all := renderUsage(u)
		delta := o{}
		for i := 0; i < len(all); i += 2 {
			if all[i] != "cache_creation" && all[i] != "service_tier" {
				delta = append(delta, all[i], all[i+1])
			}
		}
		rep.usage(named("message_delta", render(append(append(o{}, body...), "usage", delta))))
	}
	rep.closing(named("message_stop", render(o{"type", "message_stop"})))
}
