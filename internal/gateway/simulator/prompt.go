package simulator

import (
	"encoding/json"
	"sort"
	"strconv"
	"strings"
)

// prompt is a request as the pretended model reads it, whatever the format.
type prompt struct {
	model        string
	stream       bool
	includeUsage bool
	segments     []segment // in the vendor's order: tools, system, messages
	last         string    // text of the last user message
	toolResult   string    // set if the last message answers a tool call
	images       int

	limit    int // of output tokens; 0: none
	stop     []string
	n        int
	tools    []tool
	call     toolChoice
	schema   any // of the structured output, nil for none
	anyJSON  bool
	thinking bool
	effort   string
	logprobs bool
	top      int // alternatives per token in logprobs
}

// segment is a stretch of the prompt that caching treats as one block.
type segment struct {
	role   string
	text   string
	tokens int
	cache  string // "", "5m" or "1h": a caching breakpoint after this segment
}

type tool struct {
	name   string
	schema any
	custom bool // takes a text, not JSON
}

// toolChoice says which tools may or must be called.
type toolChoice struct {
	none, must bool
	name       string // this one
	parallel   bool   // several at once are allowed
}

// say adds a stretch of text to the prompt.
func (p *prompt) say(role, text string, extra int, cache string) {
	p.segments = append(p.segments, segment{role: role, text: text, tokens: extra + CountTokens(text), cache: cache})
}

// tokens is the size of the whole prompt.
func (p *prompt) tokens() int {
	n := conversationTokens
	for _, s := range p.segments {
		n += s.tokens
	}
	return n
}

func (p *prompt) addTool(t tool, description, cache string) {
	p.tools = append(p.tools, t)
	p.say("tool", t.name+" "+description+" "+string(render(t.schema)), toolTokens, cache)
}

// usage is what an answer cost. in includes what was read from and written to
// the cache, out includes reasoning.
type usage struct {
	in, cached, write5m, write1h int
	out, reasoning               int
}

// usages is what the answer reports: once, unless the fault is about usage.
func (x *exchange) usages(u usage) []usage {
	switch x.fault.Name {
	case faultNoUsage:
		return nil
	case faultDuplicateUsage:
		return []usage{u, {in: u.in + 1000, out: u.out + 1000}}
	case faultAbsurdUsage:
		return []usage{{in: -7, out: 1 << 53}}
	}
	return []usage{u}
}

// readOpenAI fills a prompt from a validated chat-completions body.
func readOpenAI(m object, f Format) *prompt {
	p := &prompt{
		model: m.str("model"), stream: m.flag("stream"), includeUsage: m.obj("stream_options").flag("include_usage"),
		n: 1, stop: stops(m["stop"]), logprobs: m.flag("logprobs"),
	}
	p.top, _ = m.int("top_logprobs")
	if n, ok := m.int("n"); ok {
		p.n = n
	}
	for _, key := range []string{"max_tokens", "max_completion_tokens"} {
		if n, ok := m.int(key); ok {
			p.limit = n
		}
	}
	p.readTools(m.list("tools"), func(t object) object { return t.obj("function") })
	p.readChoice(m["tool_choice"], m["parallel_tool_calls"])
	format := m.obj("response_format")
	p.anyJSON = format.str("type") == "json_object"
	if format.str("type") == "json_schema" {
		p.schema = format.obj("json_schema")["schema"]
	}
	p.effort = m.str("reasoning_effort")
	if r := m.obj("reasoning"); r.has("effort") && f != OpenAI {
		p.effort = r.str("effort")
	}
	p.thinking = thinks(p.effort) || m.str("prompt_mode") == "reasoning"
	for _, v := range m.list("messages") {
		p.readMessage(asObject(v), f)
	}
	return p
}

func thinks(effort string) bool { return effort != "" && effort != "none" && effort != "minimal" }

// readMessage adds one message in OpenAI's shape.
func (p *prompt) readMessage(msg object, f Format) {
	role, text := msg.str("role"), msg.str("content")
	extra := messageTokens
	for _, v := range msg.list("content") {
		part := asObject(v)
		switch part.str("type") {
		case "text", "input_text", "output_text":
			text += part.str("text")
		case "image_url", "input_image":
			p.images++
			detail := part.obj("image_url").str("detail")
			if detail == "" {
				detail = part.str("detail")
			}
			extra += imageTokens(f, detail)
		}
	}
	for _, v := range msg.list("tool_calls") {
		call := asObject(v).obj("function")
		text += call.str("name") + " " + call.str("arguments")
	}
	p.say(role, text, extra, "")
	switch role {
	case "user":
		p.last, p.toolResult = text, ""
	case "tool", "function":
		p.toolResult = text + " "
	}
}

// readTools reads definitions; inner finds the part with name and schema.
func (p *prompt) readTools(list []any, inner func(object) object) {
	for _, v := range list {
		t := asObject(v)
		switch t.str("type") {
		case "function":
			fn := inner(t)
			p.addTool(tool{name: fn.str("name"), schema: fn["parameters"]}, fn.str("description"), "")
		case "custom":
			fn := t
			if t.has("custom") {
				fn = t.obj("custom")
			}
			p.addTool(tool{name: fn.str("name"), custom: true}, fn.str("description"), "")
		}
	}
}

// readChoice reads tool_choice as chat completions, responses, Mistral and
// Ollama write it.
func (p *prompt) readChoice(choice, parallel any) {
	p.call.parallel = parallel != false
	switch c := choice.(type) {
	case string:
		p.call.none = c == "none"
		p.call.must = c == "required" || c == "any"
	case map[string]any:
		m := asObject(c)
		p.call.name = m.str("name")
		for _, key := range []string{"function", "custom"} {
			if name := m.obj(key).str("name"); name != "" {
				p.call.name = name
			}
		}
	}
}

func stops(v any) []string {
	if s, ok := v.(string); ok {
		return nonEmpty([]any{s})
	}
	l, _ := v.([]any)
	return nonEmpty(l)
}

func nonEmpty(list []any) (out []string) {
	for _, v := range list {
		if s, ok := v.(string); ok && s != "" {
			out = append(out, s)
		}
	}
	return out
}

// unknown returns the fields that are not in known, sorted.
func unknown(m object, known string) []string {
	var out []string
	fields := strings.Fields(known)
	for key := range m {
		found := false
		for _, k := range fields {
			found = found || k == key
		}
		if !found {
			out = append(out, key)
		}
	}
	sort.Strings(out)
	return out
}

// isInt says whether a field is an integer, or absent.
func isInt(v any) bool {
	if v == nil {
		return true
	}
	n, ok := v.(json.Number)
	if !ok {
		return false
	}
	_, err := strconv.ParseInt(string(n), 10, 64)
	return err == nil
}
