package simulator

// emit adds one event. Its fields follow type; sequence_number comes last.
func (c *responsesAnswer) emit(kind string, content bool, fields ...any) {
	body := append(append(o{"type", kind}, fields...), "sequence_number", c.next)
	c.next++
	c.rep.events = append(c.rep.events, event{data: named(kind, render(body)), content: content})
}

// stream is the answer as semantic events. There is no [DONE] in this API.
func (c *responsesAnswer) stream() reply {
	c.rep = c.x.stream()
	c.emit("response.created", false, "response", c.response("in_progress", []any{}, false))
	c.emit("response.in_progress", false, "response", c.response("in_progress", []any{}, false))
	index := 0
	if c.a.thinking != nil {
		c.streamReasoning(index)
		index++
	}
	if c.a.calls == nil && (c.a.text != nil || c.a.thinking == nil) {
		c.streamMessage(index)
	}
	for i, call := range c.a.calls {
		c.streamCall(index, i, call)
		index++
	}
	c.emit("response."+c.status(), false, "response", c.response(c.status(), c.output(), true))
	c.rep.events[len(c.rep.events)-1].closing = true
	return c.rep
}

func (c *responsesAnswer) streamReasoning(index int) {
	id := c.x.id("rs_")
	c.emit("response.output_item.added", false, "output_index", index, "item", c.reasoningItem(false))
	if c.summarised() {
		at := []any{"item_id", id, "output_index", index, "summary_index", 0}
		c.emit("response.reasoning_summary_part.added", false, append(at, "part", o{"type", "summary_text", "text", ""})...)
		for _, piece := range c.a.thinking {
			c.emit("response.reasoning_summary_text.delta", true, append(at, "delta", piece)...)
		}
		text := join(c.a.thinking)
		c.emit("response.reasoning_summary_text.done", false, append(at, "text", text)...)
		c.emit("response.reasoning_summary_part.done", false, append(at, "part", o{"type", "summary_text", "text", text})...)
	}
	c.emit("response.output_item.done", false, "output_index", index, "item", c.reasoningItem(true))
}

func (c *responsesAnswer) streamMessage(index int) {
	at := []any{"item_id", c.x.id("msg_"), "output_index", index, "content_index", 0}
	c.emit("response.output_item.added", false, "output_index", index, "item", c.messageItem("in_progress", []any{}))
	c.emit("response.content_part.added", false, append(at, "part", textPart(""))...)
	for _, piece := range c.a.text {
		c.emit("response.output_text.delta", true, append(at, "delta", piece, "logprobs", []any{})...)
	}
	text := c.a.whole()
	c.emit("response.output_text.done", false, append(at, "text", text, "logprobs", []any{})...)
	c.emit("response.content_part.done", false, append(at, "part", textPart(text))...)
	c.emit("response.output_item.done", false, "output_index", index, "item", c.messageItem(c.status(), []any{textPart(text)}))
}

func (c *responsesAnswer) streamCall(index, i int, call toolCall) {
	kind, id := "function_call_arguments", c.x.id("fc_", i)
	last := []any{"item_id", id, "output_index", index, "arguments", call.args, "name", call.name}
	if call.custom {
		kind, id = "custom_tool_call_input", c.x.id("ctc_", i)
		last = []any{"item_id", id, "output_index", index, "input", call.args}
	}
	c.emit("response.output_item.added", false, "output_index", index, "item", c.callItem(i, call, "in_progress", ""))
	for _, piece := range Tokens(call.args) {
		c.emit("response."+kind+".delta", true, "item_id", id, "output_index", index, "delta", piece)
	}
	c.emit("response."+kind+".done", false, last...)
	c.emit("response.output_item.done", false, "output_index", index, "item", c.callItem(i, call, "completed", call.args))
}
