package simulator

import (
	"fmt"
	"net/http"
	"strings"
)

// Known fields, from the vendors' API references as of their SDKs openai
// 6.49.0 and @mistralai/mistral 1.x.
const (
	openAIChatFields = "messages model audio frequency_penalty function_call functions logit_bias logprobs " +
		"max_completion_tokens max_tokens metadata modalities moderation n parallel_tool_calls prediction " +
		"presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort " +
		"response_format safety_identifier seed service_tier stop store stream stream_options temperature " +
		"tool_choice tools top_logprobs top_p user verbosity web_search_options"
	mistralChatFields = "model temperature top_p max_tokens stream stop random_seed metadata messages " +
		"response_format tools tool_choice presence_penalty frequency_penalty n prediction parallel_tool_calls " +
		"reasoning_effort prompt_mode guardrails prompt_cache_key service_tier safe_prompt"
)

// mistralMessageFields are the fields of a message by role.
var mistralMessageFields = map[string]string{
	"system":    "role content",
	"user":      "role content",
	"assistant": "role content tool_calls prefix",
	"tool":      "role content tool_call_id name",
}

// badJSON is the answer to a body that is not one JSON object.
func (x *exchange) badJSON() reply {
	switch x.s.o.Format {
	case Anthropic:
		return x.fail(*invalid("The request body is not valid JSON: expected a JSON object", "", ""))
	case Mistral:
		return x.fail(x.unprocessable(o{"type", "json_invalid", "loc", []any{"body", 0}, "msg", "JSON decode error", "input", o{}}))
	case Ollama:
		return x.fail(*invalid("invalid character in request body", "", ""))
	}
	return x.fail(*invalid("We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble figuring out how to fix this, please contact us through our help center at help.openai.com.)", "", ""))
}

// checkChat validates a chat-completions body as the vendor does.
func (x *exchange) checkChat(m object) *failure {
	var f *failure
	switch x.s.o.Format {
	case Mistral:
		f = x.checkMistralChat(m)
	case Ollama:
		f = checkOllamaChat(m)
	default:
		f = checkOpenAIChat(m)
	}
	if f == nil && !x.s.offers(m.str("model")) {
		u := x.unknownModel(m.str("model"))
		f = &u
	}
	return f
}

func checkOpenAIChat(m object) *failure {
	if m["model"] == nil || m["model"] == "" {
		return invalid("you must provide a model parameter", "", "")
	}
	if _, ok := m["model"].(string); !ok {
		return wrongType("model", "a string", m["model"])
	}
	if u := unknown(m, openAIChatFields); u != nil {
		return invalid("Unrecognized request argument supplied: "+u[0], "", "")
	}
	if _, ok := m["messages"]; !ok {
		return missing("messages")
	}
	if _, ok := m["messages"].([]any); !ok {
		return wrongType("messages", "an array of objects", m["messages"])
	}
	if len(m.list("messages")) == 0 {
		return invalid("Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.", "messages", "empty_array")
	}
	if f := checkScalars(m); f != nil {
		return f
	}
	called := false
	for i, v := range m.list("messages") {
		if f := checkOpenAIMessage(asObject(v), fmt.Sprintf("messages[%d]", i), v, called); f != nil {
			return f
		}
		msg := asObject(v)
		called = len(msg.list("tool_calls")) > 0 || called && msg.str("role") == "tool"
	}
	return checkOpenAITools(m, "function")
}

func missing(param string) *failure {
	return invalid("Missing required parameter: '"+param+"'.", param, "missing_required_parameter")
}

func wrongType(param, want string, got any) *failure {
	article := "a"
	if t := typeName(got); strings.ContainsRune("aeiou", rune(t[0])) {
		article = "an"
	}
	return invalid(fmt.Sprintf("Invalid type for '%s': expected %s, but got %s %s instead.", param, want, article, typeName(got)), param, "invalid_type")
}

// checkScalars checks the types and ranges that chat completions and responses
// share.
func checkScalars(m object) *failure {
	for _, key := range []string{"stream", "store", "logprobs", "parallel_tool_calls", "background"} {
		if _, ok := m[key].(bool); m.has(key) && !ok {
			return wrongType(key, "a boolean", m[key])
		}
	}
	least := map[string]int{"max_tokens": 1, "max_completion_tokens": 1, "n": 1, "top_logprobs": 0, "max_output_tokens": 16}
	for _, key := range []string{"n", "max_tokens", "max_completion_tokens", "max_output_tokens", "top_logprobs"} {
		if !m.has(key) {
			continue
		}
		n, ok := m.int(key)
		switch {
		case !isInt(m[key]):
			return wrongType(key, "an integer", m[key])
		case ok && n < least[key]:
			return invalid(fmt.Sprintf("Invalid '%s': integer below minimum value. Expected a value >= %d, but got %d instead.", key, least[key], n), key, "integer_below_min_value")
		case key == "n" && (!ok || n > 128):
			return invalid(fmt.Sprintf("Invalid 'n': integer above maximum value. Expected a value <= 128, but got %v instead.", m[key]), key, "integer_above_max_value")
		}
	}
	for key, most := range map[string]float64{"temperature": 2, "top_p": 1} {
		if !m.has(key) {
			continue
		}
		v, ok := number(m[key])
		switch {
		case !ok:
			return wrongType(key, "a decimal", m[key])
		case v < 0:
			return invalid(fmt.Sprintf("Invalid '%s': decimal below minimum value. Expected a value >= 0, but got %v instead.", key, m[key]), key, "decimal_below_min_value")
		case v > most:
			return invalid(fmt.Sprintf("Invalid '%s': decimal above maximum value. Expected a value <= %v, but got %v instead.", key, most, m[key]), key, "decimal_above_max_value")
		}
	}
	if m.has("stream_options") && !m.flag("stream") {
		return invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", "")
	}
	return nil
}

func checkOpenAIMessage(msg object, at string, raw any, called bool) *failure {
	if msg == nil {
		return wrongType(at, "an object", raw)
	}
	if !msg.has("role") {
		return missing(at + ".role")
	}
	switch role := msg.str("role"); role {
	case "system", "developer", "user":
		if !msg.has("content") {
			return missing(at + ".content")
		}
	case "assistant", "function":
	case "tool":
		if !called {
			return invalid("Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.", strings.NewReplacer("[", ".[").Replace(at)+".role", "")
		}
		if !msg.has("tool_call_id") {
			return missing(at + ".tool_call_id")
		}
	default:
		return invalid(fmt.Sprintf("Invalid value: '%v'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'.", msg["role"]), at+".role", "invalid_value")
	}
	switch c := msg["content"].(type) {
	case nil, string:
	case []any:
		for i, v := range c {
			if f := checkPart(asObject(v), fmt.Sprintf("%s.content[%d]", at, i), "'text', 'image_url', 'input_audio', 'refusal', 'audio', and 'file'"); f != nil {
				return f
			}
		}
	default:
		return wrongType(at+".content", "one of a string or array of objects", c)
	}
	return nil
}

func checkPart(part object, at, supported string) *failure {
	switch kind := part.str("type"); {
	case !part.has("type"):
		return missing(at + ".type")
	case !strings.Contains(supported, "'"+kind+"'"):
		return invalid(fmt.Sprintf("Invalid value: '%s'. Supported values are: %s.", kind, supported), at+".type", "invalid_value")
	case kind == "text" && !part.has("text"):
		return missing(at + ".text")
	case kind == "image_url" && !part.obj("image_url").has("url"):
		return missing(at + ".image_url.url")
	}
	return nil
}

// checkOpenAITools checks the definitions. inner is the object with the name,
// "" if that is the definition itself.
func checkOpenAITools(m object, inner string) *failure {
	tools := m.list("tools")
	if m.has("tool_choice") && m["tool_choice"] != "none" && len(tools) == 0 && inner != "" {
		return invalid("Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.", "tool_choice", "")
	}
	for i, v := range tools {
		t, at := asObject(v), fmt.Sprintf("tools[%d]", i)
		if !t.has("type") {
			return missing(at + ".type")
		}
		if t.str("type") != "function" {
			continue
		}
		if inner != "" {
			if t, at = t.obj(inner), at+"."+inner; t == nil {
				return missing(at)
			}
		}
		if t.str("name") == "" {
			return missing(at + ".name")
		}
		if p := t["parameters"]; p != nil && asObject(p) == nil {
			return wrongType(at+".parameters", "an object", p)
		}
	}
	return nil
}

func (x *exchange) unprocessable(detail ...any) failure {
	return failure{status: http.StatusUnprocessableEntity, kind: "invalid_request_error", message: o{"detail", detail}}
}

// checkMistralChat answers like pydantic: every problem at once, unknown
// fields forbidden at the top and in messages.
func (x *exchange) checkMistralChat(m object) *failure {
	var detail []any
	complain := func(kind, msg string, input any, loc ...any) {
		detail = append(detail, o{"type", kind, "loc", append([]any{"body"}, loc...), "msg", msg, "input", input})
	}
	for _, key := range []string{"model", "messages"} {
		if _, ok := m[key]; !ok {
			complain("missing", "Field required", m, key)
		}
	}
	if _, ok := m["model"].(string); m.has("model") && !ok {
		complain("string_type", "Input should be a valid string", m["model"], "model")
	}
	if _, ok := m["messages"].([]any); m.has("messages") && !ok {
		complain("list_type", "Input should be a valid list", m["messages"], "messages")
	}
	if _, ok := m["stream"].(bool); m.has("stream") && !ok {
		complain("bool_type", "Input should be a valid boolean", m["stream"], "stream")
	}
	for _, key := range []string{"max_tokens", "n"} {
		if n, ok := m.int(key); m.has(key) && (!ok || n < 0 || key == "n" && (n < 1 || n > 128)) {
			complain("int_type", "Input should be a valid integer", m[key], key)
		}
	}
	for _, key := range unknown(m, mistralChatFields) {
		complain("extra_forbidden", "Extra inputs are not permitted", m[key], key)
	}
	for i, v := range m.list("messages") {
		msg := asObject(v)
		role := msg.str("role")
		fields, ok := mistralMessageFields[role]
		if !ok {
			complain("union_tag_invalid", "Input tag '"+role+"' found using 'role' does not match any of the expected tags: 'system', 'user', 'assistant', 'tool'", v, "messages", i)
			continue
		}
		for _, key := range unknown(msg, fields) {
			complain("extra_forbidden", "Extra inputs are not permitted", msg[key], "messages", i, role, key)
		}
	}
	if detail != nil {
		f := x.unprocessable(detail...)
		return &f
	}
	return mistralOrder(m.list("messages"))
}

// mistralOrder checks the order of roles: the last message is the user's, a
// tool's, or an assistant's with prefix.
func mistralOrder(messages []any) *failure {
	f := &failure{status: 400, kind: "invalid_request_message_order", code: "3230"}
	if len(messages) == 0 {
		f.message, f.kind, f.code = "Conversation must have at least one message", "invalid_request_prompt", "3240"
		return f
	}
	last := asObject(messages[len(messages)-1])
	if role := last.str("role"); role == "system" || role == "assistant" && !last.flag("prefix") {
		f.message = "Expected last role User or Tool (or Assistant with prefix True) for serving but got " + role
		return f
	}
	return nil
}

func checkOllamaChat(m object) *failure {
	for key, want := range map[string]string{"model": "string", "stream": "boolean", "messages": "array"} {
		if m.has(key) && typeName(m[key]) != want {
			return invalid(fmt.Sprintf("json: cannot unmarshal %s into Go struct field ChatCompletionRequest.%s of type %s", typeName(m[key]), key, want), "", "")
		}
	}
	if m.str("model") == "" {
		return invalid("model is required", "", "")
	}
	if len(m.list("messages")) == 0 {
		return invalid("[] is too short - 'messages'", "", "")
	}
	for _, v := range m.list("messages") {
		for _, part := range asObject(v).list("content") {
			url := asObject(part).obj("image_url").str("url")
			if asObject(part).str("type") == "image_url" && !strings.HasPrefix(url, "data:image/") {
				return invalid("invalid image input", "", "")
			}
		}
	}
	return nil
}
