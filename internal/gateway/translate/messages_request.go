package translate

import (
	"encoding/json"
	"strings"
)

const mendUseAnthropic = "Remove it, or use a model served by Anthropic."

// maxStops is how many stop sequences a chat completions request may have.
const maxStops = 4

// formatName is the label OpenAI wants on an answer format. It has no effect
// on the answer and Anthropic has none.
const formatName = "response"

// MessagesToChat translates an Anthropic messages request into an OpenAI chat
// completions request. A streamed one always asks for usage, which Anthropic's
// clients always get.
func MessagesToChat(body []byte, o Options) ([]byte, error) {
	r := &reader{}
	in := r.read(body)
	if r.err != nil {
		return nil, r.err
	}
	out := &chatRequest{Model: in.needStr("model")}
	if o.Model != "" {
		out.Model = o.Model
	}
	m := &messagesReader{r: r, reasoningField: o.ReasoningField}
	m.systemPrompt(in)
	if m.messages(in); r.err != nil {
		return nil, r.err
	}
	out.Messages = m.out
	messagesSampling(in, out, o)
	messagesTools(in, out)
	messagesOutput(in, out)
	messagesCaller(in, out, o)
	in.skip("cache_control") // a hint: it changes what an answer costs, not what it says
	messagesContext(in)
	in.unless("speed", mendUseAnthropic, `"standard"`)
	for _, key := range [...]string{"container", "diagnostics", "inference_geo", "mcp_servers"} {
		in.refuse(key, mendUseAnthropic)
	}
	in.rest()
	if r.err != nil {
		return nil, r.err
	}
	return encode(out)
}

// OmitsThinking reports whether an Anthropic request asks for answers without
// thinking text: the caller sets Answer.OmitReasoning by it, because the
// provider cannot be asked.
func OmitsThinking(body []byte) bool {
	r := &reader{}
	in := r.read(body)
	if t, ok := in.child("thinking"); ok {
		display, _ := t.str("display")
		return r.err == nil && display == "omitted"
	}
	return false
}

func messagesSampling(in *object, out *chatRequest, o Options) {
	n, ok := in.integer("max_tokens")
	switch {
	case !ok:
		in.need("max_tokens")
	case n == 0:
		in.r.refuse("max_tokens", "The provider has no prompt cache to fill without answering.", "Set it to at least 1.")
	case n < 0:
		in.r.wrong("max_tokens", "It must be at least 1.")
	case o.MaxCompletionTokens:
		out.MaxCompletionTokens = n
	default:
		out.MaxTokens = n
	}
	if v, raw, ok := in.number("temperature"); ok {
		if v < 0 || v > 1 {
			in.r.wrong("temperature", "It must be between 0 and 1.")
		}
		out.Temperature = raw
	}
	if v, raw, ok := in.number("top_p"); ok {
		if v < 0 || v > 1 {
			in.r.wrong("top_p", "It must be between 0 and 1.")
		}
		out.TopP = raw
	}
	in.refuse("top_k", mendUseAnthropic)
	for _, n := range in.list("stop_sequences") {
		out.Stop = append(out.Stop, n.str())
	}
	if len(out.Stop) > maxStops {
		in.r.refuse("stop_sequences", "The provider takes at most four.", "Send at most four.")
	}
}

func messagesTools(in *object, out *chatRequest) {
	for _, n := range in.list("tools") {
		t := n.object()
		if kind, ok := t.str("type"); ok && kind != "custom" {
			in.r.refuse(t.at("type"), "The provider does not know the tool "+quoted(kind)+", which only Anthropic defines.",
				"Define the tool with an input_schema, or use a model served by Anthropic.")
			return
		}
		f := functionDefined{Name: t.needName("name")}
		f.Description, _ = t.str("description")
		if schema, ok := t.need("input_schema"); ok {
			if !schema.isObject() {
				in.r.wrong(schema.path, "It must be an object.")
			}
			f.Parameters = json.RawMessage(schema.raw)
		}
		if strict, ok := t.boolean("strict"); ok {
			f.Strict = &strict
		}
		t.skip("cache_control", "eager_input_streaming") // hints on cost and on pace
		t.unless("defer_loading", mendUseAnthropic, "false")
		t.unless("allowed_callers", mendUseAnthropic, `["direct"]`, "[]")
		t.refuse("input_examples", "Move the examples into the description.")
		t.rest()
		out.Tools = append(out.Tools, chatTool{"function", f})
	}
	choice, ok := in.child("tool_choice")
	if !ok {
		return
	}
	serial, _ := choice.boolean("disable_parallel_tool_use")
	var named string
	kind := choice.needStr("type")
	switch kind {
	case "auto", "none":
		out.ToolChoice = kind
	case "any":
		out.ToolChoice = "required"
	case "tool":
		named = choice.needName("name")
		out.ToolChoice = map[string]any{"type": "function", "function": map[string]string{"name": named}}
	default:
		in.r.wrong("tool_choice.type", "It must be auto, any, tool or none.")
	}
	choice.rest()
	if len(out.Tools) == 0 {
		if kind == "any" || kind == "tool" {
			in.r.wrong("tool_choice", "It asks for a tool, but there are no tools.")
		}
		out.ToolChoice = nil // without tools, auto and none say nothing
		return
	}
	if serial && kind != "none" {
		parallel := false
		out.ParallelToolCalls = &parallel
	}
}

// messagesOutput translates thinking, effort and structure.
func messagesOutput(in *object, out *chatRequest) {
	if c, ok := in.child("output_config"); ok {
		switch effort, _ := c.str("effort"); effort {
		case "", "low", "medium", "high", "xhigh", "max":
			out.ReasoningEffort = effort
		default:
			in.r.wrong(c.at("effort"), "It must be low, medium, high, xhigh or max.")
		}
		if f, ok := c.child("format"); ok {
			out.ResponseFormat = messagesFormat(f)
		}
		c.rest()
	}
	// The older name of output_config.format.
	if f, ok := in.child("output_format"); ok {
		if out.ResponseFormat != nil {
			in.r.wrong("output_format", "It is given twice: here and in output_config.format.")
		}
		out.ResponseFormat = messagesFormat(f)
	}
	t, ok := in.child("thinking")
	if !ok {
		return
	}
	switch kind := t.needStr("type"); kind {
	case "disabled":
		if out.ReasoningEffort != "" {
			in.r.refuse("thinking", "The provider has one setting for thinking and effort, and these two differ.",
				"Remove thinking or output_config.effort.")
		}
		out.ReasoningEffort = "none"
	case "adaptive": // the model decides, as it does when not told
		switch display, _ := t.str("display"); display {
		case "", "summarized", "omitted": // OmitsThinking
		default:
			in.r.wrong(t.at("display"), "It must be summarized or omitted.")
		}
	case "enabled":
		in.r.refuse("thinking.budget_tokens", "The provider measures thinking by effort, not in tokens.",
			"Use adaptive thinking with output_config.effort, or a model served by Anthropic.")
	default:
		in.r.refuse("thinking.type", "The provider has no thinking of type "+quoted(kind)+".", mendUseAnthropic)
	}
	t.rest()
}

func messagesFormat(f *object) *responseFormat {
	if kind := f.needStr("type"); kind != "json_schema" {
		f.r.refuse(f.at("type"), "The provider has no format "+quoted(kind)+".", mendUseAnthropic)
		return nil
	}
	schema, ok := f.need("schema")
	if ok && !schema.isObject() {
		f.r.wrong(schema.path, "It must be an object.")
	}
	f.rest()
	return &responseFormat{"json_schema", &jsonSchema{formatName, json.RawMessage(schema.raw), true}}
}

func messagesCaller(in *object, out *chatRequest, o Options) {
	if meta, ok := in.child("metadata"); ok {
		out.User, _ = meta.str("user_id")
		meta.rest()
	}
	switch tier, _ := in.str("service_tier"); tier {
	case "", "auto": // what the provider does anyway
	case "standard_only":
		out.ServiceTier = "default"
	default:
		in.r.wrong("service_tier", "It must be auto or standard_only.")
	}
	if out.Stream, _ = in.boolean("stream"); out.Stream && !o.NoStreamOptions {
		out.StreamOptions = &streamOptions{IncludeUsage: true}
	}
}

// messagesContext takes context management that only concerns the thinking of
// earlier turns, whose place Options.ReasoningField decides anyway.
func messagesContext(in *object) {
	c, ok := in.child("context_management")
	if !ok {
		return
	}
	for _, n := range c.list("edits") {
		e := n.object()
		if kind := e.needStr("type"); !strings.HasPrefix(kind, "clear_thinking_") {
			in.r.refuse(e.at("type"), "The provider does not edit the context.", mendUseAnthropic)
		}
	}
	c.rest()
}
