package simulator

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

var allFormats = []Format{OpenAI, Anthropic, Mistral, Ollama, OpenAICompatible}

func TestAnthropicRefusesInItsOwnWords(t *testing.T) {
	path := "/v1/messages"
	says := func(message string) string {
		return `{"type":"error","error":{"type":"invalid_request_error","message":"` + message + `"},"request_id":"req_`
	}
	checkRefusals(t, Options{Format: Anthropic}, []refusal{
		{"no JSON", path, `{`, 400, `"type":"invalid_request_error"`},
		{"no model", path, `{"max_tokens":1,` + hello + `}`, 400, says("model: Field required")},
		{"no max_tokens", path, `{"model":"simulator-chat",` + hello + `}`, 400, says("max_tokens: Field required")},
		{"no messages", path, `{"model":"simulator-chat","max_tokens":1}`, 400, says("messages: Field required")},
		{"empty messages", path, `{"model":"simulator-chat","max_tokens":1,"messages":[]}`, 400, says("messages: at least one message is required")},
		{"max_tokens of zero", path, `{"model":"simulator-chat","max_tokens":0,` + hello + `}`, 400, says("max_tokens: Input should be greater than or equal to 1")},
		{"max_tokens too large", path, `{"model":"simulator-chat","max_tokens":64001,` + hello + `}`, 400, says("max_tokens: 64001 > 64000, which is the maximum allowed number of output tokens for simulator-chat")},
		{"an unknown field", path, `{"model":"simulator-chat","max_tokens":1,"foo":1,` + hello + `}`, 400, says("foo: Extra inputs are not permitted")},
		{"an unknown model", path, `{"model":"claude-9","max_tokens":1,` + hello + `}`, 404, `{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}`},
		{"a system role first", path, `{"model":"simulator-chat","max_tokens":1,"messages":[{"role":"system","content":"x"}]}`, 400, `The Messages API accepts a top-level `},
		{"a bad role", path, `{"model":"simulator-chat","max_tokens":1,"messages":[{"role":"bot","content":"x"}]}`, 400, `Unexpected role \"bot\"`},
		{"an assistant first", path, `{"model":"simulator-chat","max_tokens":1,"messages":[{"role":"assistant","content":"x"}]}`, 400, `first message must use the \"user\" role`},
		{"a message without content", path, `{"model":"simulator-chat","max_tokens":1,"messages":[{"role":"user"}]}`, 400, says("messages.0.content: Field required")},
		{"a tool result out of nowhere", path, `{"model":"simulator-chat","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"x"}]}]}`, 400, "unexpected `tool_use_id` found in `tool_result` blocks: t1."},
		{"too small a thinking budget", path, `{"model":"simulator-chat","max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":5},` + hello + `}`, 400, says("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")},
		{"a thinking budget over max_tokens", path, `{"model":"simulator-chat","max_tokens":1024,"thinking":{"type":"enabled","budget_tokens":1024},` + hello + `}`, 400, "`max_tokens` must be greater than `thinking.budget_tokens`."},
		{"thinking and a forced tool", path, `{"model":"simulator-chat","max_tokens":2000,"tool_choice":{"type":"any"},"thinking":{"type":"enabled","budget_tokens":1024},` + hello + `}`, 400, says("Thinking may not be enabled when tool_choice forces tool use.")},
		{"max_tokens in count_tokens", path + "/count_tokens", `{"model":"simulator-chat","max_tokens":1,` + hello + `}`, 400, says("max_tokens: Extra inputs are not permitted")},
		{"no such path", "/v1/chat/completions", `{}`, 404, `"type":"not_found_error"`},
	})
}

func TestAnthropicsVersionsDifferAsDocumented(t *testing.T) {
	base := `{"model":"simulator-chat","max_tokens":5,` + hello
	assistant := `{"model":"simulator-chat","max_tokens":5,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"document"}]},{"role":"user","content":"y"}]}`
	cited := `{"model":"simulator-chat","max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":"x","citations":[{}]}]}]}`
	for _, c := range []struct {
		version, body string
		status        int
		says          string
	}{
		{"", base + "}", 400, "anthropic-version: header is required"},
		{"2020-01-01", base + "}", 400, `is not a valid version`},
		{firstVersion, base + `,"temperature":1}`, 200, "simulated"},
		{firstVersion, base + `,"temperature":1.5}`, 400, "temperature: range: 0..1"},
		{secondVersion, base + `,"temperature":1}`, 400, "temperature: Extra inputs are not permitted"},
		{secondVersion, base + `,"top_p":1}`, 400, "top_p: Extra inputs are not permitted"},
		{firstVersion, assistant, 200, "simulated"},
		{secondVersion, assistant, 400, "`document` blocks"},
		{firstVersion, cited, 200, "simulated"},
		{secondVersion, cited, 400, "`citations`"},
	} {
		w := ask(New(Options{Format: Anthropic}), "POST", "/v1/messages", c.body, "Anthropic-Version", c.version)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("version %q, %s: %d %s", c.version, c.body, w.Code, w.Body)
		}
	}
}

func TestAnthropicsStreamAndItsWholeMessageSayTheSame(t *testing.T) {
	for name, more := range map[string]string{
		"text":          ``,
		"thinking":      `,"thinking":{"type":"enabled","budget_tokens":1024}`,
		"tool":          `,"tools":[{"name":"f","input_schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}],"tool_choice":{"type":"tool","name":"f"}`,
		"stop sequence": `,"stop_sequences":["simulated"]`,
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Options{Format: Anthropic})
			body := `{"model":"simulator-chat","max_tokens":2000,` + hello + more
			whole := askFor(t, s, "/v1/messages", body+"}")
			names, datas := eventsOf(ask(s, "POST", "/v1/messages", body+`,"stream":true}`).Body.String())
			var blocks []string
			var delta object
			for i, d := range datas {
				e, ok := decode([]byte(d))
				if !ok || e.str("type") != names[i] {
					t.Fatalf("event %d: %s %s", i, names[i], d)
				}
				switch names[i] {
				case "content_block_start":
					blocks = append(blocks, e.obj("content_block").str("type")+e.obj("content_block").str("name"))
				case "content_block_delta":
					for _, key := range []string{"text", "thinking", "partial_json"} {
						blocks[len(blocks)-1] += e.obj("delta").str(key)
					}
				case "message_delta":
					delta = e
				}
			}
			var want []string
			for _, v := range whole.list("content") {
				b, text := asObject(v), ""
				if b.str("type") == "tool_use" {
					text = string(render(b["input"]))
				}
				want = append(want, b.str("type")+b.str("name")+b.str("text")+b.str("thinking")+text)
			}
			if strings.Join(blocks, "|") != strings.Join(want, "|") {
				t.Errorf("streamed %q, whole %q", blocks, want)
			}
			if names[0] != "message_start" || names[len(names)-1] != "message_stop" {
				t.Errorf("events %v", names)
			}
			if delta.obj("delta")["stop_reason"] != whole["stop_reason"] || delta.obj("delta")["stop_sequence"] != whole["stop_sequence"] ||
				delta.obj("usage")["output_tokens"] != whole.obj("usage")["output_tokens"] {
				t.Errorf("message_delta %v, whole %v %v", delta, whole["stop_reason"], whole["usage"])
			}
		})
	}
}

func TestAnthropicWritesAndReadsItsCacheAtBreakpoints(t *testing.T) {
	now := testTime
	s := New(Options{Format: Anthropic, Now: func() time.Time { return now }})
	long := strings.Repeat(" word", 2000)
	call := func(system, user string) (in, write, read int) {
		m := askFor(t, s, "/v1/messages", fmt.Sprintf(`{"model":"simulator-chat","max_tokens":5,"system":[%s],"messages":[{"role":"user","content":%q}]}`, system, user))
		u := m.obj("usage")
		in, _ = u.int("input_tokens")
		write, _ = u.int("cache_creation_input_tokens")
		read, _ = u.int("cache_read_input_tokens")
		five, _ := u.obj("cache_creation").int("ephemeral_5m_input_tokens")
		hour, _ := u.obj("cache_creation").int("ephemeral_1h_input_tokens")
		if five+hour != write {
			t.Errorf("%d and %d are not %d", five, hour, write)
		}
		return in, write, read
	}
	marked := fmt.Sprintf(`{"type":"text","text":%q,"cache_control":{"type":"ephemeral"}}`, long)
	hourly := strings.Replace(marked, `"ephemeral"`, `"ephemeral","ttl":"1h"`, 1)
	second := `{"type":"text","text":"more","cache_control":{"type":"ephemeral"}}`
	for i, c := range []struct {
		system            string
		wait              time.Duration
		write, read, rest int
	}{
		{fmt.Sprintf(`{"type":"text","text":%q}`, long), 0, 0, 0, 2010}, // no mark, no cache
		{marked, 0, 2003, 0, 7},
		{marked, time.Minute, 0, 2003, 7},
		{marked + "," + second, 0, 4, 2003, 7},
		{marked, 6 * time.Minute, 2003, 0, 7}, // five minutes after the last read it is gone
		{hourly, 0, 0, 2003, 7},
		{`{"type":"text","text":"short","cache_control":{"type":"ephemeral"}}`, 0, 0, 0, 11},
	} {
		now = now.Add(c.wait)
		in, write, read := call(c.system, "tell me")
		if write != c.write || read != c.read || in != c.rest+1 && in != c.rest {
			t.Errorf("request %d: input %d, written %d, read %d; want %d, %d, %d", i, in, write, read, c.rest, c.write, c.read)
		}
	}
}

func TestCountTokensEqualsWhatMessagesReports(t *testing.T) {
	s := New(Options{Format: Anthropic})
	rest := hello + `,"system":"be brief","tools":[{"name":"f","input_schema":{"type":"object"}}]`
	count := askFor(t, s, "/v1/messages/count_tokens", `{"model":"simulator-chat",`+rest+`}`)
	whole := askFor(t, s, "/v1/messages", `{"model":"simulator-chat","max_tokens":5,`+rest+`}`)
	if count["input_tokens"] != whole.obj("usage")["input_tokens"] {
		t.Errorf("counted %v, reported %v", count["input_tokens"], whole["usage"])
	}
}

func TestMistralRefusesInItsOwnWords(t *testing.T) {
	path := "/v1/chat/completions"
	checkRefusals(t, Options{Format: Mistral}, []refusal{
		{"no JSON", path, `{`, 422, `"type":"json_invalid"`},
		{"nothing", path, `{}`, 422, `{"object":"error","message":{"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required","input":{}},{"type":"missing","loc":["body","messages"]`},
		{"an unknown field", path, `{"model":"simulator-chat","user":"x",` + hello + `}`, 422, `{"detail":[{"type":"extra_forbidden","loc":["body","user"],"msg":"Extra inputs are not permitted","input":"x"}]},"type":"invalid_request_error","param":null,"code":null`},
		{"stream_options", path, `{"model":"simulator-chat","stream":true,"stream_options":{"include_usage":true},` + hello + `}`, 422, `"loc":["body","stream_options"]`},
		{"max_completion_tokens", path, `{"model":"simulator-chat","max_completion_tokens":5,` + hello + `}`, 422, `"loc":["body","max_completion_tokens"]`},
		{"an unknown field in a message", path, `{"model":"simulator-chat","messages":[{"role":"user","content":"x","name":"y"}]}`, 422, `"loc":["body","messages",0,"user","name"]`},
		{"a bad role", path, `{"model":"simulator-chat","messages":[{"role":"developer","content":"x"}]}`, 422, `"type":"union_tag_invalid"`},
		{"an unknown model", path, `{"model":"mistral-9",` + hello + `}`, 400, `{"object":"error","message":"Invalid model: mistral-9","type":"invalid_model","param":null,"code":"1500"`},
		{"an assistant last", path, `{"model":"simulator-chat","messages":[{"role":"assistant","content":"x"}]}`, 400, `Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant`},
		{"a bad type of stream", path, `{"model":"simulator-chat","stream":"yes",` + hello + `}`, 422, `"type":"bool_type"`},
		{"OpenAI's dimensions", "/v1/embeddings", `{"model":"simulator-embed","input":"x","dimensions":5}`, 422, `"loc":["body","dimensions"]`},
		{"no responses", "/v1/responses", `{}`, 404, `no Route matched with those values`},
	})
}

func TestMistralSendsUsageOnTheLastChunkUnasked(t *testing.T) {
	stream := askStream(t, New(Options{Format: Mistral}), `{"model":"simulator-chat",`+hello+`}`)
	_, datas := eventsOf(stream)
	last, _ := decode([]byte(datas[len(datas)-2]))
	if at(t, last, "choices", 0, "finish_reason") != "stop" || !last.has("usage") || strings.Count(stream, `"usage"`) != 1 || datas[len(datas)-1] != "[DONE]" {
		t.Errorf("ends with %v", datas[len(datas)-2:])
	}
	_, body := chatBody(Mistral, true)
	s := New(Options{Format: Mistral})
	s.Next(MustFault("no-usage"))
	if got := ask(s, "POST", "/v1/chat/completions", body).Body.String(); strings.Contains(got, "usage") || !strings.Contains(got, `"finish_reason":"stop"`) {
		t.Errorf("without usage: %s", got)
	}
}

func TestOllamaShowsItsNativeEndpointsAndTakesTaggedNames(t *testing.T) {
	s := New(Options{Format: Ollama, Models: []string{"simulator-chat:latest"}})
	for path, says := range map[string]string{
		"/":            "Ollama is running",
		"/api/version": `{"version":"0.0.0-simulator"}`,
		"/api/tags":    `{"models":[{"name":"simulator-chat:latest","model":"simulator-chat:latest"`,
		"/api/ps":      `"size_vram":0`,
		"/v1/models":   `{"object":"list","data":[{"id":"simulator-chat:latest"`,
	} {
		if w := ask(s, "GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	askFor(t, s, "/v1/chat/completions", `{"model":"simulator-chat","an_unknown_field":1,`+hello+`}`)
	checkRefusals(t, Options{Format: Ollama}, []refusal{
		{"an unknown model", "/v1/chat/completions", `{"model":"llama9",` + hello + `}`, 404, `{"error":{"message":"model 'llama9' not found","type":"not_found_error","param":null,"code":null}}`},
		{"no messages", "/v1/chat/completions", `{"model":"simulator-chat"}`, 400, `[] is too short - 'messages'`},
		{"an image by URL", "/v1/chat/completions", `{"model":"simulator-chat","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a.invalid/x.png"}}]}]}`, 400, `invalid image input`},
	})
}

func TestEveryStatusGetsTheVendorsErrorShape(t *testing.T) {
	kinds := map[string]string{ // docs.claude.com: errors
		"400": "invalid_request_error", "401": "authentication_error", "402": "billing_error", "403": "permission_error", "404": "not_found_error",
		"409": "conflict_error", "413": "request_too_large", "429": "rate_limit_error", "500": "api_error", "504": "timeout_error", "529": "overloaded_error",
	}
	for _, format := range allFormats {
		for _, text := range []string{"400", "401", "402", "403", "404", "409", "413", "422", "429 retry-after=7", "500", "502", "503", "504", "529"} {
			s := New(Options{Format: format})
			s.Next(MustFault(text))
			path, body := chatBody(format, true)
			w := ask(s, "POST", path, body)
			m, ok := decode(w.Body.Bytes())
			name, _, _ := strings.Cut(text, " ")
			if fmt.Sprint(w.Code) != name || !ok || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %d %s", format, text, w.Code, w.Body)
			}
			if name == "429" && w.Header().Get("Retry-After") != "7" {
				t.Errorf("%s: Retry-After %q", format, w.Header().Get("Retry-After"))
			}
			switch format {
			case Anthropic:
				if kind := m.obj("error").str("type"); m.str("type") != "error" || m.str("request_id") != w.Header().Get("Request-Id") || kinds[name] != "" && kind != kinds[name] {
					t.Errorf("%s %s: %s", format, text, w.Body)
				}
			case Mistral:
				if !m.has("message") && !m.has("detail") {
					t.Errorf("%s %s: %s", format, text, w.Body)
				}
			default:
				if e := m.obj("error"); !e.has("message") || !e.has("type") {
					t.Errorf("%s %s: %s", format, text, w.Body)
				}
			}
		}
	}
}

func TestFaultsThatReplaceTheAnswerSpeakEachVendorsLanguage(t *testing.T) {
	const key = "sk-secret-key-0123456789"
	for _, format := range allFormats {
		path, body := chatBody(format, false)
		ask := func(fault string) (int, string) {
			s := New(Options{Format: format})
			s.Next(MustFault(fault))
			w := ask(s, "POST", path, body, "Authorization", "Bearer "+key)
			return w.Code, w.Body.String()
		}
		if code, got := ask("401-quotes-key"); code != 401 || strings.Count(got, key) != 4 {
			t.Errorf("%s: %d %s", format, code, got)
		}
		if code, got := ask("quota-exceeded"); code != 429 && code != 402 {
			t.Errorf("%s: %d %s", format, code, got)
		}
		if code, got := ask("context-length-exceeded"); code != 400 || !strings.Contains(got, "131072") {
			t.Errorf("%s: %d %s", format, code, got)
		}
		if code, got := ask("empty-answer"); code != 200 || strings.Contains(got, "simulated answer") {
			t.Errorf("%s: %d %s", format, code, got)
		}
		if code, got := ask("content-filter"); code != 200 || !strings.Contains(got, "content_filter") && !strings.Contains(got, `"refusal"`) && !strings.Contains(got, `"finish_reason":"error"`) {
			t.Errorf("%s: %d %s", format, code, got)
		}
	}
}

func TestEachVendorSendsItsHeaders(t *testing.T) {
	for format, names := range map[Format][]string{
		OpenAI:    {"X-Request-Id", "Openai-Version", "Openai-Processing-Ms", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Requests"},
		Anthropic: {"Request-Id", "Anthropic-Organization-Id", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset"},
		Mistral:   {"X-Ratelimit-Remaining-Req-Minute", "Mistral-Correlation-Id"},
		Ollama:    {"Server"},
	} {
		w := ask(New(Options{Format: format}), "GET", "/v1/models", "")
		for _, name := range names {
			if w.Header().Get(name) == "" {
				t.Errorf("%s does not send %s", format, name)
			}
		}
	}
	for _, format := range allFormats {
		s := New(Options{Format: format})
		if w := ask(s, "GET", "/v1/models/simulator-chat", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"id":"simulator-chat"`) {
			t.Errorf("%s: %d %s", format, w.Code, w.Body)
		}
		if w := ask(s, "GET", "/v1/models/nope", ""); w.Code != 404 && w.Code != 400 {
			t.Errorf("%s: %d %s", format, w.Code, w.Body)
		}
	}
}
