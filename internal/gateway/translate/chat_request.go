package translate

import (
	"encoding/json"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

const (
	mendUseOpenAI = "Remove it, or use a model served by an OpenAI-compatible provider."
	// samplingGone is the first anthropic-version without sampling parameters.
	samplingGone = "2026-10-21"
)

// ChatToMessages translates an OpenAI chat completions request into an
// Anthropic messages request.
func ChatToMessages(body []byte, o Options) ([]byte, error) {
	r := &reader{}
	in := r.read(body)
	if r.err != nil {
		return nil, r.err
	}
	out := &messagesRequest{Model: in.needStr("model")}
	if o.Model != "" {
		out.Model = o.Model
	}
	c := &chatReader{r: r}
	if c.messages(in); r.err != nil {
		return nil, r.err
	}
	out.System, out.Messages = c.systemPrompt(), c.turns
	chatBounds(in, out, o)
	chatSampling(in, out, o)
	chatTools(in, out)
	chatOutput(in, out)
	chatCaller(in, out)
	chatNeutral(in)
	in.rest()
	if r.err != nil {
		return nil, r.err
	}
	return encode(out)
}

func chatBounds(in *object, out *messagesRequest, o Options) {
	newer, hasNewer := in.integer("max_completion_tokens")
	older, hasOlder := in.integer("max_tokens")
	switch {
	case hasNewer && hasOlder && newer != older:
		in.r.wrong("max_tokens", "It contradicts max_completion_tokens.")
	case hasNewer:
		out.MaxTokens = newer
	case hasOlder:
		out.MaxTokens = older
	default:
		if out.MaxTokens = o.MaxTokens; out.MaxTokens <= 0 {
			in.r.fail(problem.New(problem.Invalid, CodeInvalid, "This provider needs a bound on the answer's length.").
				WithField("max_completion_tokens").WithMend("Set max_completion_tokens."))
		}
		return
	}
	if out.MaxTokens < 1 {
		in.r.wrong("max_completion_tokens", "It must be at least 1.")
	}
}

func chatSampling(in *object, out *messagesRequest, o Options) {
	gone := o.AnthropicVersion >= samplingGone
	if v, raw, ok := in.number("temperature"); ok {
		switch {
		case v < 0 || v > 2:
			in.r.wrong("temperature", "It must be between 0 and 2.")
		case gone && v != 1:
			in.refuseSampling("temperature")
		case v > 1:
			in.r.refuse("temperature", "The provider's temperatures end at 1.",
				"Use at most 1, or a model served by an OpenAI-compatible provider.")
		case !gone:
			out.Temperature = raw
		}
	}
	if v, raw, ok := in.number("top_p"); ok {
		switch {
		case v < 0 || v > 1:
			in.r.wrong("top_p", "It must be between 0 and 1.")
		case gone && v != 1:
			in.refuseSampling("top_p")
		case !gone:
			out.TopP = raw
		}
	}
	// Not OpenAI's, but what OpenAI-compatible servers call the same thing.
	if n, ok := in.take("top_k"); ok {
		switch k, ok := in.integer("top_k"); {
		case !ok: // already refused
		case k < 0:
			in.r.refuse("top_k", "The provider has no negative top_k.", "Remove it.")
		case gone:
			in.refuseSampling("top_k")
		default:
			out.TopK = n.raw
		}
	}
	for _, n := range stopList(in) {
		s := n.str()
		if strings.TrimSpace(s) == "" {
			in.r.refuse(n.path, "The provider does not stop at white space alone.", mendUseOpenAI)
		}
		out.StopSequences = append(out.StopSequences, s)
	}
}

func (o *object) refuseSampling(key string) {
	o.r.refuse(key, "The provider's API no longer has sampling parameters.", mendUseOpenAI)
}

func stopList(in *object) []node {
	n, ok := in.take("stop")
	switch {
	case !ok:
		return nil
	case n.isString():
		return []node{n}
	}
	return n.list()
}

func chatTools(in *object, out *messagesRequest) {
	for _, n := range in.list("tools") {
		t := n.object()
		switch kind := t.needStr("type"); kind {
		case "function":
		default:
			in.r.refuse(t.at("type"), "The provider has no tools of type "+quoted(kind)+".",
				"Define a function, or use a model served by an OpenAI-compatible provider.")
			return
		}
		f, ok := t.child("function")
		if !ok {
			in.r.wrong(t.at("function"), "It is required.")
			return
		}
		tool := anthropicTool{Name: f.needName("name"), InputSchema: chatParameters(f)}
		tool.Description, _ = f.str("description")
		if strict, ok := f.boolean("strict"); ok {
			tool.Strict = &strict
		}
		f.rest()
		t.rest()
		out.Tools = append(out.Tools, tool)
	}
	serial := false
	if parallel, ok := in.boolean("parallel_tool_calls"); ok {
		serial = !parallel
	}
	out.ToolChoice = chatToolChoice(in)
	if len(out.Tools) == 0 {
		if c := out.ToolChoice; c != nil && c.Type != "none" && c.Type != "auto" {
			in.r.wrong("tool_choice", "It names a tool, but there are no tools.")
		}
		out.ToolChoice = nil // without tools, auto and none say nothing
		return
	}
	if serial {
		if out.ToolChoice == nil {
			out.ToolChoice = &toolChoice{Type: "auto"}
		}
		out.ToolChoice.DisableParallel = out.ToolChoice.Type != "none"
	}
}

// chatParameters returns a function's JSON schema. OpenAI lets it be left out,
// or leave out that arguments are an object; Anthropic does not.
func chatParameters(f *object) json.RawMessage {
	n, ok := f.take("parameters")
	if !ok {
		return json.RawMessage(`{"type":"object","properties":{}}`)
	}
	schema := n.object()
	kind, ok := schema.take("type")
	switch {
	case !ok && len(schema.members) == 0:
		return json.RawMessage(`{"type":"object","properties":{}}`)
	case !ok && schema.find("type") == nil && f.r.err == nil:
		return append([]byte(`{"type":"object",`), n.raw[1:]...)
	case string(kind.raw) != `"object"`:
		f.r.refuse(schema.at("type"), "The provider's tools take an object.", `Set it to "object".`)
	}
	return json.RawMessage(n.raw)
}

func chatToolChoice(in *object) *toolChoice {
	n, ok := in.take("tool_choice")
	if !ok {
		return nil
	}
	if n.isString() {
		switch s := n.str(); s {
		case "none", "auto":
			return &toolChoice{Type: s}
		case "required":
			return &toolChoice{Type: "any"}
		default:
			in.r.wrong("tool_choice", "It must be none, auto, required or an object.")
			return nil
		}
	}
	c := n.object()
	switch kind := c.needStr("type"); kind {
	case "function":
		f, ok := c.child("function")
		if !ok {
			in.r.wrong("tool_choice.function", "It is required.")
			return nil
		}
		name := f.needName("name")
		f.rest()
		c.rest()
		return &toolChoice{Type: "tool", Name: name}
	case "allowed_tools":
		in.r.refuse("tool_choice", "The provider cannot limit the choice to some of the tools.",
			"List only the allowed tools in tools.")
	default:
		in.r.refuse("tool_choice.type", "The provider has no tool choice of type "+quoted(kind)+".", mendUseOpenAI)
	}
	return nil
}

// chatOutput translates what shapes the answer: effort and structure.
func chatOutput(in *object, out *messagesRequest) {
	var config outputConfig
	switch effort, _ := in.str("reasoning_effort"); effort {
	case "":
	case "none":
		out.Thinking = &typed{"disabled"}
	case "low", "medium", "high", "xhigh", "max":
		config.Effort = effort
	case "minimal":
		in.r.refuse("reasoning_effort", "The provider's efforts begin at low.", `Use "low" or "none".`)
	default:
		in.r.wrong("reasoning_effort", "It must be none, minimal, low, medium, high, xhigh or max.")
	}
	if f, ok := in.child("response_format"); ok {
		config.Format = chatFormat(f)
	}
	if config != (outputConfig{}) {
		out.OutputConfig = &config
	}
}

func chatFormat(f *object) *outputFormat {
	switch kind := f.needStr("type"); kind {
	case "text":
		f.rest()
	case "json_object":
		f.r.refuse("response_format.type", "The provider cannot promise JSON without a schema.",
			"Use json_schema, or a model served by an OpenAI-compatible provider.")
	case "json_schema":
		s, ok := f.child("json_schema")
		if !ok {
			f.r.wrong("response_format.json_schema", "It is required.")
			return nil
		}
		s.skip("name", "strict") // a label; and the provider is always strict
		if n, ok := s.take("description"); ok && string(n.raw) != `""` {
			f.r.refuse(n.path, "The provider's formats have no description.", "Move it into the schema.")
		}
		schema, ok := s.need("schema")
		if !ok {
			return nil
		}
		if !schema.isObject() {
			f.r.wrong(schema.path, "It must be an object.")
		}
		s.rest()
		f.rest()
		return &outputFormat{"json_schema", json.RawMessage(schema.raw)}
	default:
		f.r.refuse("response_format.type", "The provider has no format "+quoted(kind)+".", mendUseOpenAI)
	}
	return nil
}

// chatCaller translates who asks and how urgently.
func chatCaller(in *object, out *messagesRequest) {
	user, _ := in.str("user")
	id, _ := in.str("safety_identifier")
	if user != "" && id != "" && user != id {
		in.r.refuse("user", "The provider takes one identifier, and safety_identifier is another one.", "Send one of them.")
	}
	if id == "" {
		id = user
	}
	if id != "" {
		out.Metadata = &userID{id}
	}
	switch tier, _ := in.str("service_tier"); tier {
	case "":
	case "auto":
		out.ServiceTier = "auto"
	case "default":
		out.ServiceTier = "standard_only"
	default:
		in.r.refuse("service_tier", "The provider has no tier "+quoted(tier)+".", `Use "auto" or "default".`)
	}
	out.Stream, _ = in.boolean("stream")
	if s, ok := in.child("stream_options"); ok {
		s.skip("include_usage") // Answer.IncludeUsage
		s.unless("include_obfuscation", "Remove it.", "false")
		s.rest()
	}
}

// chatNeutral refuses what Anthropic has no word for, unless its value says no
// more than its absence, and knowingly leaves out hints that only change what
// an answer costs.
func chatNeutral(in *object) {
	in.skip("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
	for _, f := range [...]struct{ key, neutral string }{
		{"frequency_penalty", "0"}, {"presence_penalty", "0"},
		{"logit_bias", "{}"}, {"logprobs", "false"}, {"top_logprobs", "0"},
		{"metadata", "{}"}, {"modalities", `["text"]`}, {"store", "false"},
		{"verbosity", `"medium"`}, {"functions", "[]"},
	} {
		in.unless(f.key, mendUseOpenAI, f.neutral, f.neutral+".0")
	}
	if n, ok := in.integer("n"); ok && n != 1 {
		in.r.refuse("n", "The provider gives one answer per request.", "Ask once for each answer.")
	}
	in.refuse("function_call", "Use tools and tool_choice.")
	for _, key := range [...]string{"audio", "moderation", "prediction", "seed", "web_search_options"} {
		in.refuse(key, mendUseOpenAI)
	}
}
