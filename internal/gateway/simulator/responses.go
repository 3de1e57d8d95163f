package simulator

import "fmt"

const responsesFields = "background context_management conversation include input instructions max_output_tokens " +
	"metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options " +
	"prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options temperature text " +
	"tool_choice tools top_logprobs top_p truncation user"

// responses answers OpenAI's /v1/responses. The simulator keeps nothing, so a
// previous_response_id is never found.
func (x *exchange) responses() reply {
	m, ok := decode(x.body)
	if !ok {
		return x.badJSON()
	}
	if f := x.checkResponses(m); f != nil {
		return x.fail(*f)
	}
	p := readResponses(m)
	if rep, done := x.prepare(p); done {
		return rep
	}
	a := x.compose(p, 0)
	a.usage.in = p.tokens()
	a.usage.cached = x.cacheAutomatically(p, openAIBlock, minCached)
	c := &responsesAnswer{x: x, p: p, a: &a, asked: m, id: x.id("resp_")}
	if p.stream {
		return c.stream()
	}
	return x.ok(c.response(c.status(), c.output(), true))
}

func (x *exchange) checkResponses(m object) *failure {
	if m.str("model") == "" {
		return missing("model")
	}
	if u := unknown(m, responsesFields); u != nil {
		return invalid("Unknown parameter: '"+u[0]+"'.", u[0], "unknown_parameter")
	}
	if !m.has("input") && !m.has("prompt") && !m.has("previous_response_id") && !m.has("conversation") {
		return missing("input")
	}
	switch input := m["input"].(type) {
	case nil, string:
	case []any:
		for i, v := range input {
			if f := checkInputItem(asObject(v), fmt.Sprintf("input[%d]", i), v); f != nil {
				return f
			}
		}
	default:
		return wrongType("input", "one of an array of input items or a string", input)
	}
	scalars := object{}
	for key, v := range m {
		if key != "stream_options" {
			scalars[key] = v
		}
	}
	if f := checkScalars(scalars); f != nil {
		return f
	}
	if id := m.str("previous_response_id"); id != "" {
		return invalid("Previous response with id '"+id+"' not found.", "previous_response_id", "previous_response_not_found")
	}
	if f := checkOpenAITools(m, ""); f != nil {
		return f
	}
	if !x.s.offers(m.str("model")) {
		return &failure{status: 400, kind: "invalid_request_error", param: "model", code: "model_not_found",
			message: "The requested model '" + m.str("model") + "' does not exist."}
	}
	return nil
}

func checkInputItem(item object, at string, raw any) *failure {
	if item == nil {
		return wrongType(at, "an object", raw)
	}
	if kind := item.str("type"); kind != "" && kind != "message" {
		return nil
	}
	switch role := item.str("role"); role {
	case "user", "assistant", "system", "developer":
	case "":
		return missing(at + ".role")
	default:
		return invalid("Invalid value: '"+role+"'. Supported values are: 'assistant', 'system', 'developer', and 'user'.", at+".role", "invalid_value")
	}
	for i, v := range item.list("content") {
		part := asObject(v)
		if f := checkPart(part, fmt.Sprintf("%s.content[%d]", at, i), "'input_text', 'input_image', 'output_text', 'refusal', 'input_file', 'computer_screenshot', and 'summary_text'"); f != nil {
			return f
		}
	}
	return nil
}

func readResponses(m object) *prompt {
	p := &prompt{model: m.str("model"), stream: m.flag("stream"), n: 1}
	p.limit, _ = m.int("max_output_tokens")
	p.readTools(m.list("tools"), func(t object) object { return t })
	p.readChoice(m["tool_choice"], m["parallel_tool_calls"])
	format := m.obj("text").obj("format")
	p.anyJSON = format.str("type") == "json_object"
	if format.str("type") == "json_schema" {
		p.schema = format["schema"]
	}
	p.effort = m.obj("reasoning").str("effort")
	p.thinking = thinks(p.effort)
	if s := m.str("instructions"); s != "" {
		p.say("system", s, messageTokens, "")
	}
	if s := m.str("input"); s != "" {
		p.say("user", s, messageTokens, "")
		p.last = s
	}
	for _, v := range m.list("input") {
		switch item := asObject(v); item.str("type") {
		case "function_call", "custom_tool_call":
			p.say("assistant", item.str("name")+" "+item.str("arguments")+item.str("input"), messageTokens, "")
		case "function_call_output", "custom_tool_call_output":
			item["role"], item["content"] = "tool", item["output"]
			p.readMessage(item, OpenAI)
		case "reasoning":
		default:
			p.readMessage(item, OpenAI)
		}
	}
	return p
}

// responsesAnswer renders a response and its events.
type responsesAnswer struct {
	x     *exchange
	p     *prompt
	a     *answer
	asked object
	id    string
	rep   reply
	next  int // sequence_number
}

func (c *responsesAnswer) status() string {
	if c.a.finish == finishLength || c.a.finish == finishFilter {
		return "incomplete"
	}
	return "completed"
}

// given echoes a request's field, or the API's default.
func (c *responsesAnswer) given(key string, otherwise any) any {
	if c.asked.has(key) {
		return c.asked[key]
	}
	return otherwise
}

// response is the response object. final adds usage.
func (c *responsesAnswer) response(status string, output []any, final bool) o {
	var completed, incomplete any
	switch {
	case !final:
	case status == "completed":
		completed = c.x.now.Unix()
	case c.a.finish == finishFilter:
		incomplete = o{"reason", "content_filter"}
	default:
		incomplete = o{"reason", "max_output_tokens"}
	}
	body := o{"id", c.id, "object", "response", "created_at", c.x.now.Unix(), "status", status,
		"background", false, "completed_at", completed, "error", nil, "incomplete_details", incomplete,
		"instructions", c.given("instructions", nil), "max_output_tokens", c.given("max_output_tokens", nil),
		"max_tool_calls", nil, "model", c.p.model, "output", output,
		"parallel_tool_calls", c.given("parallel_tool_calls", true), "previous_response_id", nil,
		"prompt_cache_key", c.given("prompt_cache_key", nil),
		"reasoning", c.given("reasoning", o{"effort", nil, "summary", nil}),
		"safety_identifier", c.given("safety_identifier", nil), "service_tier", "default",
		"store", c.given("store", true), "temperature", c.given("temperature", 1.0),
		"text", c.given("text", o{"format", o{"type", "text"}, "verbosity", "medium"}),
		"tool_choice", c.given("tool_choice", "auto"), "tools", c.given("tools", []any{}), "top_logprobs", 0,
		"top_p", c.given("top_p", 1.0), "truncation", c.given("truncation", "disabled")}
	if final {
		for _, u := range c.x.usages(c.a.usage) {
			body = append(body, "usage", o{"input_tokens", u.in, "input_tokens_details", o{"cached_tokens", u.cached},
				"output_tokens", u.out, "output_tokens_details", o{"reasoning_tokens", u.reasoning}, "total_tokens", u.in + u.out})
		}
	} else {
		body = append(body, "usage", nil)
	}
	return append(body, "user", c.given("user", nil), "metadata", c.given("metadata", o{}))
}

func (c *responsesAnswer) output() []any {
	out := []any{}
	if c.a.thinking != nil {
		out = append(out, c.reasoningItem(true))
	}
	if c.a.calls == nil && (c.a.text != nil || c.a.thinking == nil) {
		out = append(out, c.messageItem(c.status(), []any{textPart(c.a.whole())}))
	}
	for i, call := range c.a.calls {
		out = append(out, c.callItem(i, call, "completed", call.args))
	}
	return out
}

func textPart(text string) o {
	return o{"type", "output_text", "annotations", []any{}, "logprobs", []any{}, "text", text}
}

func (c *responsesAnswer) summarised() bool { return c.asked.obj("reasoning").has("summary") }

// reasoningItem carries a summary only if the request asks for one.
func (c *responsesAnswer) reasoningItem(done bool) o {
	summary := []any{}
	if done && c.summarised() {
		summary = append(summary, o{"type", "summary_text", "text", join(c.a.thinking)})
	}
	return o{"id", c.x.id("rs_"), "type", "reasoning", "summary", summary}
}

func (c *responsesAnswer) messageItem(status string, content []any) o {
	return o{"id", c.x.id("msg_"), "type", "message", "status", status, "content", content, "role", "assistant"}
}

func (c *responsesAnswer) callItem(i int, call toolCall, status, args string) o {
	if call.custom {
		return o{"id", c.x.id("ctc_", i), "type", "custom_tool_call", "status", status, "input", args,
			"call_id", c.x.id("call_", i), "name", call.name}
	}
	return o{"id", c.x.id("fc_", i), "type", "function_call", "status", status, "arguments", args,
		"call_id", c.x.id("call_", i), "name", call.name}
}
