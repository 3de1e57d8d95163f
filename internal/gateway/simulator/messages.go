package simulator

import (
	"fmt"
	"strings"
)

// The API versions spoken here. The second one, which the SDKs send since
// October 2026, takes no sampling parameters, no documents in assistant
// messages and no citations in user messages
// (platform.claude.com/docs/en/api/migration-2026-10-21).
const (
	firstVersion  = "2023-06-01"
	secondVersion = "2026-10-21"
)

// Fields of /v1/messages as of @anthropic-ai/sdk 1.12.0, those that only the
// first version knows, and those that only beta versions know.
const (
	messagesFields = "max_tokens messages model cache_control container diagnostics inference_geo metadata output_config " +
		"service_tier speed stop_sequences stream system thinking tool_choice tools user_profile_id workspace_id"
	samplingFields     = " temperature top_k top_p"
	messagesBetaFields = " betas context_management mcp_servers output_format"
	maxAnthropicOutput = 64000
)

// messages answers Anthropic's /v1/messages.
func (x *exchange) messages() reply {
	m, ok := decode(x.body)
	if !ok {
		return x.badJSON()
	}
	if f := x.checkMessages(m, true); f != nil {
		return x.fail(*f)
	}
	p := readMessages(m)
	if rep, done := x.prepare(p); done {
		return rep
	}
	a := x.compose(p, 0)
	a.usage.in = p.tokens()
	x.cacheAtBreakpoints(p, &a.usage)
	c := &messageAnswer{x: x, p: p, a: &a, id: x.id("msg_01")}
	if p.stream {
		return c.stream()
	}
	return x.ok(c.whole())
}

// countTokens answers /v1/messages/count_tokens with the number that messages
// would report as its whole input.
func (x *exchange) countTokens() reply {
	m, ok := decode(x.body)
	if !ok {
		return x.badJSON()
	}
	if f := x.checkMessages(m, false); f != nil {
		return x.fail(*f)
	}
	return x.ok(o{"input_tokens", readMessages(m).tokens()})
}

// checkMessages validates as Anthropic does: the first problem only.
func (x *exchange) checkMessages(m object, creates bool) *failure {
	known, newer := messagesFields, x.r.Header.Get("Anthropic-Version") == secondVersion
	if !newer {
		known += samplingFields
	}
	if x.r.Header.Get("Anthropic-Beta") != "" {
		known += messagesBetaFields
	}
	required := []string{"model", "messages"}
	if creates {
		required = []string{"model", "max_tokens", "messages"}
	} else {
		known = strings.ReplaceAll(known, "max_tokens ", "")
	}
	for _, key := range required {
		if _, ok := m[key]; !ok {
			return invalid(key+": Field required", "", "")
		}
	}
	if u := unknown(m, known); u != nil {
		return invalid(u[0]+": Extra inputs are not permitted", "", "")
	}
	if _, ok := m["model"].(string); !ok {
		return invalid("model: Input should be a valid string", "", "")
	}
	if _, ok := m["stream"].(bool); m.has("stream") && !ok {
		return invalid("stream: Input should be a valid boolean", "", "")
	}
	if creates {
		n, ok := m.int("max_tokens")
		switch {
		case !ok:
			return invalid("max_tokens: Input should be a valid integer", "", "")
		case n < 1:
			return invalid("max_tokens: Input should be greater than or equal to 1", "", "")
		case n > maxAnthropicOutput:
			return invalid(fmt.Sprintf("max_tokens: %d > %d, which is the maximum allowed number of output tokens for %s", n, maxAnthropicOutput, m.str("model")), "", "")
		}
	}
	if t, ok := number(m["temperature"]); m.has("temperature") && (!ok || t < 0 || t > 1) {
		return invalid("temperature: range: 0..1", "", "")
	}
	if f := checkThinking(m); f != nil {
		return f
	}
	if f := checkTurns(m, newer); f != nil {
		return f
	}
	if !x.s.offers(m.str("model")) {
		f := x.unknownModel(m.str("model"))
		return &f
	}
	return nil
}

func checkThinking(m object) *failure {
	t := m.obj("thinking")
	switch t.str("type") {
	case "enabled":
		budget, ok := t.int("budget_tokens")
		limit, limited := m.int("max_tokens")
		switch {
		case !t.has("budget_tokens"):
			return invalid("thinking.enabled.budget_tokens: Field required", "", "")
		case !ok || budget < 1024:
			return invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024", "", "")
		case limited && budget >= limit:
			return invalid("`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size", "", "")
		}
		if c := m.obj("tool_choice").str("type"); c == "any" || c == "tool" {
			return invalid("Thinking may not be enabled when tool_choice forces tool use.", "", "")
		}
	case "", "disabled", "adaptive", "between_tools":
	default:
		return invalid("thinking: Input tag '"+t.str("type")+"' found using 'type' does not match any of the expected tags: 'adaptive', 'disabled', 'enabled'", "", "")
	}
	return nil
}

func checkTurns(m object, newer bool) *failure {
	turns, ok := m["messages"].([]any)
	if !ok {
		return invalid("messages: Input should be a valid list", "", "")
	}
	if len(turns) == 0 {
		return invalid("messages: at least one message is required", "", "")
	}
	for i, v := range turns {
		msg := asObject(v)
		switch role := msg.str("role"); {
		case msg == nil:
			return invalid(fmt.Sprintf("messages.%d: Input should be a valid dictionary", i), "", "")
		case !msg.has("role"):
			return invalid(fmt.Sprintf("messages.%d.role: Field required", i), "", "")
		case role == "system" && i == 0:
			return invalid("messages: Unexpected role \"system\". The Messages API accepts a top-level `system` parameter, not \"system\" as an input message role.", "", "")
		case role != "user" && role != "assistant" && role != "system":
			return invalid(fmt.Sprintf("messages: Unexpected role %q. Allowed roles are \"user\" or \"assistant\"", msg["role"]), "", "")
		case !msg.has("content"):
			return invalid(fmt.Sprintf("messages.%d.content: Field required", i), "", "")
		}
		if f := checkBlocks(msg, i, turns, newer); f != nil {
			return f
		}
	}
	if asObject(turns[0]).str("role") != "user" {
		return invalid("messages: first message must use the \"user\" role", "", "")
	}
	return nil
}

func checkBlocks(msg object, i int, turns []any, newer bool) *failure {
	switch c := msg["content"].(type) {
	case string:
		if c == "" && i < len(turns)-1 {
			return invalid(fmt.Sprintf("messages.%d: all messages must have non-empty content except for the optional final assistant message", i), "", "")
		}
		return nil
	case []any:
	default:
		return invalid(fmt.Sprintf("messages.%d.content: Input should be a valid list", i), "", "")
	}
	for k, v := range msg.list("content") {
		block := asObject(v)
		if !block.has("type") {
			return invalid(fmt.Sprintf("messages.%d.content.%d.type: Field required", i, k), "", "")
		}
		if newer && msg.str("role") == "assistant" && block.str("type") == "document" {
			return invalid(fmt.Sprintf("messages.%d.content.%d: `document` blocks are not permitted in `assistant` messages", i, k), "", "")
		}
		if newer && msg.str("role") == "user" && block.str("type") == "text" && len(block.list("citations")) > 0 {
			return invalid(fmt.Sprintf("messages.%d.content.%d.text.citations: `citations` are not permitted in `user` messages", i, k), "", "")
		}
		if id := block.str("tool_use_id"); block.str("type") == "tool_result" && !answers(turns, i, id) {
			return invalid(fmt.Sprintf("messages.%d.content.%d: unexpected `tool_use_id` found in `tool_result` blocks: %s. Each `tool_result` block must have a corresponding `tool_use` block in the previous message.", i, k, id), "", "")
		}
	}
	return nil
}

// answers says whether the message before has the tool_use with this id.
func answers(turns []any, i int, id string) bool {
	if i == 0 {
		return false
	}
	for _, v := range asObject(turns[i-1]).list("content") {
		if b := asObject(v); b.str("type") == "tool_use" && b.str("id") == id {
			return true
		}
	}
	return false
}

// breakpoint reads a cache_control mark.
func breakpoint(m object) string {
	switch c := m.obj("cache_control"); {
	case c == nil:
		return ""
	case c.str("ttl") == "1h":
		return "1h"
	}
	return "5m"
}

func readMessages(m object) *prompt {
	p := &prompt{model: m.str("model"), stream: m.flag("stream"), n: 1, stop: stops(m["stop_sequences"])}
	p.limit, _ = m.int("max_tokens")
	switch m.obj("thinking").str("type") {
	case "enabled", "adaptive":
		p.thinking = m.obj("thinking").str("display") != "omitted"
	}
	if format := m.obj("output_config").obj("format"); format.str("type") == "json_schema" {
		p.schema = format["schema"]
	}
	choice := m.obj("tool_choice")
	p.call = toolChoice{none: choice.str("type") == "none", must: choice.str("type") == "any", parallel: !choice.flag("disable_parallel_tool_use")}
	if choice.str("type") == "tool" {
		p.call.name = choice.str("name")
	}
	for _, v := range m.list("tools") {
		t := asObject(v)
		p.addTool(tool{name: t.str("name"), schema: t["input_schema"]}, t.str("description"), breakpoint(t))
	}
	if s := m.str("system"); s != "" {
		p.say("system", s, messageTokens, "")
	}
	for _, v := range m.list("system") {
		p.say("system", asObject(v).str("text"), messageTokens, breakpoint(asObject(v)))
	}
	for _, v := range m.list("messages") {
		p.readTurn(asObject(v))
	}
	if mark := breakpoint(m); mark != "" && len(p.segments) > 0 {
		p.segments[len(p.segments)-1].cache = mark
	}
	return p
}

// readTurn adds a message: one segment per block, as caching counts them.
func (p *prompt) readTurn(msg object) {
	role, said := msg.str("role"), ""
	if s, ok := msg["content"].(string); ok {
		p.say(role, s, messageTokens, "")
		said = s
	}
	extra, result := messageTokens, ""
	for _, v := range msg.list("content") {
		block := asObject(v)
		text := block.str("text")
		switch block.str("type") {
		case "text":
			said += text
		case "image":
			p.images++
			extra += imageTokens(Anthropic, "")
		case "tool_use":
			text = block.str("name") + " " + string(render(block["input"]))
		case "tool_result":
			text = block.str("content")
			for _, part := range block.list("content") {
				text += asObject(part).str("text")
			}
			result = text + " "
		case "thinking":
			text = "" // earlier reasoning is not counted
		}
		p.say(role, text, extra, breakpoint(block))
		extra = 0
	}
	if role == "user" {
		p.last, p.toolResult = said, result
	}
}
