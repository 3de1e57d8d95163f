package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
)

// refusals are requests and what the vendor says to them.
type refusal struct {
	name, path, body string
	status           int
	says             string // a part of the body
}

func checkRefusals(t *testing.T, o Options, list []refusal) {
	t.Helper()
	for _, c := range list {
		t.Run(c.name, func(t *testing.T) {
			w := ask(New(o), "POST", c.path, c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("got %d %s\nwant %d %s", w.Code, w.Body, c.status, c.says)
			}
			if _, ok := decode(w.Body.Bytes()); !ok {
				t.Errorf("not JSON: %s", w.Body)
			}
		})
	}
}

const hello = `"messages":[{"role":"user","content":"hi"}]`

func TestOpenAIRefusesInItsOwnWords(t *testing.T) {
	chat := "/v1/chat/completions"
	checkRefusals(t, Options{}, []refusal{
		{"no JSON", chat, `{"model":`, 400, `We could not parse the JSON body of your request.`},
		{"no object", chat, `[]`, 400, `We could not parse the JSON body of your request.`},
		{"trailing data", chat, `{} {}`, 400, `We could not parse the JSON body of your request.`},
		{"no model", chat, `{` + hello + `}`, 400, `{"error":{"message":"you must provide a model parameter","type":"invalid_request_error","param":null,"code":null}}`},
		{"a model that is no string", chat, `{"model":7,` + hello + `}`, 400, `"message":"Invalid type for 'model': expected a string, but got an integer instead.","type":"invalid_request_error","param":"model","code":"invalid_type"`},
		{"an unknown model", chat, `{"model":"gpt-9",` + hello + `}`, 404, `{"error":{"message":"The model ` + "`gpt-9`" + ` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}`},
		{"no messages", chat, `{"model":"simulator-chat"}`, 400, `"message":"Missing required parameter: 'messages'.","type":"invalid_request_error","param":"messages","code":"missing_required_parameter"`},
		{"empty messages", chat, `{"model":"simulator-chat","messages":[]}`, 400, `"param":"messages","code":"empty_array"`},
		{"an unknown field", chat, `{"model":"simulator-chat","foo":1,` + hello + `}`, 400, `"message":"Unrecognized request argument supplied: foo"`},
		{"a bad role", chat, `{"model":"simulator-chat","messages":[{"role":"bot","content":"x"}]}`, 400, `"message":"Invalid value: 'bot'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'.","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"`},
		{"a message that is no object", chat, `{"model":"simulator-chat","messages":["x"]}`, 400, `"param":"messages[0]","code":"invalid_type"`},
		{"a message without content", chat, `{"model":"simulator-chat","messages":[{"role":"user"}]}`, 400, `"param":"messages[0].content"`},
		{"a bad part", chat, `{"model":"simulator-chat","messages":[{"role":"user","content":[{"type":"smell"}]}]}`, 400, `"param":"messages[0].content[0].type","code":"invalid_value"`},
		{"a tool result out of nowhere", chat, `{"model":"simulator-chat","messages":[{"role":"tool","tool_call_id":"x","content":"y"}]}`, 400, `messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.","type":"invalid_request_error","param":"messages.[0].role"`},
		{"max_tokens of zero", chat, `{"model":"simulator-chat","max_tokens":0,` + hello + `}`, 400, `"message":"Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead.","type":"invalid_request_error","param":"max_tokens","code":"integer_below_min_value"`},
		{"max_tokens that is a string", chat, `{"model":"simulator-chat","max_tokens":"9",` + hello + `}`, 400, `"code":"invalid_type"`},
		{"n of 129", chat, `{"model":"simulator-chat","n":129,` + hello + `}`, 400, `"param":"n","code":"integer_above_max_value"`},
		{"too hot", chat, `{"model":"simulator-chat","temperature":2.1,` + hello + `}`, 400, `"param":"temperature","code":"decimal_above_max_value"`},
		{"stream as a string", chat, `{"model":"simulator-chat","stream":"true",` + hello + `}`, 400, `Invalid type for 'stream': expected a boolean, but got a string instead.`},
		{"stream_options without stream", chat, `{"model":"simulator-chat","stream_options":{"include_usage":true},` + hello + `}`, 400, `The 'stream_options' parameter is only allowed when 'stream' is enabled.`},
		{"tool_choice without tools", chat, `{"model":"simulator-chat","tool_choice":"auto",` + hello + `}`, 400, `'tool_choice' is only allowed when 'tools' are specified.`},
		{"a tool without a name", chat, `{"model":"simulator-chat","tools":[{"type":"function","function":{}}],` + hello + `}`, 400, `"param":"tools[0].function.name"`},
		{"no such path", "/v1/nothing", `{}`, 404, `"message":"Invalid URL (POST /v1/nothing)"`},
		{"a wrong method", "/v1/models", `{}`, 405, `"code":"method_not_supported"`},
		{"embeddings without input", "/v1/embeddings", `{"model":"simulator-embed"}`, 400, `"param":"input"`},
		{"embeddings of nothing", "/v1/embeddings", `{"model":"simulator-embed","input":[]}`, 400, `"param":"input"`},
		{"embeddings of a mixture", "/v1/embeddings", `{"model":"simulator-embed","input":["a",1]}`, 400, `"param":"input"`},
		{"embeddings of no width", "/v1/embeddings", `{"model":"simulator-embed","input":"a","dimensions":0}`, 400, `"param":"dimensions"`},
		{"a response without input", "/v1/responses", `{"model":"simulator-chat"}`, 400, `"param":"input","code":"missing_required_parameter"`},
		{"a response with an unknown field", "/v1/responses", `{"model":"simulator-chat","input":"x","foo":1}`, 400, `"message":"Unknown parameter: 'foo'.","type":"invalid_request_error","param":"foo","code":"unknown_parameter"`},
		{"a response with a bad role", "/v1/responses", `{"model":"simulator-chat","input":[{"role":"bot","content":"x"}]}`, 400, `"param":"input[0].role"`},
		{"a response that is too short", "/v1/responses", `{"model":"simulator-chat","input":"x","max_output_tokens":15}`, 400, `"code":"integer_below_min_value"`},
		{"a response after one that is not kept", "/v1/responses", `{"model":"simulator-chat","input":"x","previous_response_id":"resp_1"}`, 400, `"code":"previous_response_not_found"`},
		{"a response of an unknown model", "/v1/responses", `{"model":"gpt-9","input":"x"}`, 400, `"code":"model_not_found"`},
	})
}

func TestAPromptBeyondTheContextWindowIsRefusedByEveryVendor(t *testing.T) {
	for format, says := range map[Format]string{
		OpenAI:    `This model's maximum context length is 10 tokens. However, your messages resulted in 27 tokens.`,
		Anthropic: `prompt is too long: 27 tokens > 10 maximum`,
		Mistral:   `Prompt contains 27 tokens`,
	} {
		s := New(Options{Format: format, ContextTokens: 10})
		path, body := chatBody(format, false)
		w := ask(s, "POST", path, strings.Replace(body, "Hello there", strings.Repeat("a ", 20), 1))
		if w.Code != 400 || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%s: %d %s", format, w.Code, w.Body)
		}
	}
}

func TestTheAnswerSaysItIsSimulatedAndIsTheSameEveryTime(t *testing.T) {
	for _, format := range allFormats {
		path, body := chatBody(format, false)
		first := ask(New(Options{Format: format, Now: fixedNow}), "POST", path, body)
		again := ask(New(Options{Format: format, Now: fixedNow}), "POST", path, body)
		if first.Body.String() != again.Body.String() || !strings.Contains(first.Body.String(), "This is a simulated answer, no model was asked.") {
			t.Errorf("%s: %s\n%s", format, first.Body, again.Body)
		}
		if first.Header().Get("Server") != "foundry-simulator" {
			t.Errorf("%s: Server is %q", format, first.Header().Get("Server"))
		}
		_, stream := chatBody(format, true)
		streamed := ask(New(Options{Format: format, Now: fixedNow}), "POST", path, stream)
		if !strings.Contains(textOf(streamed.Body.String()), "You wrote 2 words (digest") || !strings.HasPrefix(streamed.Header().Get("Content-Type"), "text/event-stream") {
			t.Errorf("%s: %s", format, streamed.Body)
		}
	}
}

func TestMaxTokensStopAndUsageAgree(t *testing.T) {
	s := New(Options{})
	for limit := 1; limit < 30; limit++ {
		m := askFor(t, s, "/v1/chat/completions", fmt.Sprintf(`{"model":"simulator-chat","max_completion_tokens":%d,%s}`, limit, hello))
		text := at(t, m, "choices", 0, "message", "content").(string)
		used, _ := asObject(m["usage"]).int("completion_tokens")
		total, _ := asObject(m["usage"]).int("total_tokens")
		in, _ := asObject(m["usage"]).int("prompt_tokens")
		reason := at(t, m, "choices", 0, "finish_reason")
		if used > limit || used != CountTokens(text) || total != in+used || (reason == "length") == strings.HasSuffix(text, "\u201d.") {
			t.Errorf("limit %d: %q, %v, %v", limit, text, reason, m["usage"])
		}
	}
	m := askFor(t, s, "/v1/chat/completions", `{"model":"simulator-chat","stop":["zebra","no model","answer"],`+hello+`}`)
	if got := at(t, m, "choices", 0, "message", "content"); got != "This is a simulated " || at(t, m, "choices", 0, "finish_reason") != "stop" {
		t.Errorf("stopped at %q", got)
	}
}

func TestALengthAskedForInThePromptIsGiven(t *testing.T) {
	m := askFor(t, New(Options{}), "/v1/chat/completions", `{"model":"simulator-chat","messages":[{"role":"user","content":"Write 300 words"}]}`)
	if n, _ := asObject(m["usage"]).int("completion_tokens"); n != 300 {
		t.Errorf("got %d tokens", n)
	}
}

func TestEachChoiceIsThereAndCounted(t *testing.T) {
	m := askFor(t, New(Options{}), "/v1/chat/completions", `{"model":"simulator-chat","n":3,"logprobs":true,"top_logprobs":1,`+hello+`}`)
	sum := 0
	for i, v := range m.list("choices") {
		text := at(t, v, "message", "content").(string)
		sum += CountTokens(text)
		if i > 0 && !strings.Contains(text, fmt.Sprintf("choice %d", i+1)) {
			t.Errorf("choice %d says %q", i, text)
		}
		if tokens := at(t, v, "logprobs", "content").([]any); len(tokens) != CountTokens(text) {
			t.Errorf("choice %d has %d logprobs for %q", i, len(tokens), text)
		}
	}
	if n, _ := asObject(m["usage"]).int("completion_tokens"); n != sum || len(m.list("choices")) != 3 {
		t.Errorf("%d choices, %d tokens, want %d", len(m.list("choices")), n, sum)
	}
}

const weather = `"tools":[{"type":"function","function":{"name":"get_time","parameters":{"type":"object"}}},{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]`

func TestToolsAreCalledWhenForcedOrNamedInThePrompt(t *testing.T) {
	ask := func(content, more string) string {
		return `{"model":"simulator-chat","messages":[{"role":"user","content":"` + content + `"}],` + weather + more + `}`
	}
	for _, c := range []struct{ name, body, calls, finish string }{
		{"nothing asks", ask("hi", ``), "", "stop"},
		{"required", ask("hi", `,"tool_choice":"required"`), "get_time{}", "tool_calls"},
		{"named: OpenAI documents stop", ask("hi", `,"tool_choice":{"type":"function","function":{"name":"get_weather"}}`), `get_weather{"city":"simulated"}`, "stop"},
		{"in words", ask("call get_weather.", ``), `get_weather{"city":"simulated"}`, "tool_calls"},
		{"two in words", ask("call get_weather and call get_time", ``), `get_time{}get_weather{"city":"simulated"}`, "tool_calls"},
		{"two, one at a time", ask("call get_weather and call get_time", `,"parallel_tool_calls":false`), `get_time{}`, "tool_calls"},
		{"a longer name", ask("call get_weather_report", ``), "", "stop"},
		{"none allowed", ask("call get_weather", `,"tool_choice":"none"`), "", "stop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(Options{})
			m := askFor(t, s, "/v1/chat/completions", c.body)
			calls := ""
			for _, v := range asObject(at(t, m, "choices", 0, "message")).list("tool_calls") {
				calls += at(t, v, "function", "name").(string) + at(t, v, "function", "arguments").(string)
			}
			if calls != c.calls || at(t, m, "choices", 0, "finish_reason") != c.finish {
				t.Errorf("calls %q, finish %v", calls, at(t, m, "choices", 0, "finish_reason"))
			}
			streamed := map[float64]string{}
			_, datas := eventsOf(askStream(t, s, c.body))
			for _, d := range datas {
				e, _ := decode([]byte(d))
				for _, v := range e.list("choices") {
					for _, call := range asObject(v).obj("delta").list("tool_calls") {
						i, _ := number(asObject(call)["index"])
						fn := asObject(call).obj("function")
						streamed[i] += fn.str("name") + fn.str("arguments")
					}
				}
			}
			if got := streamed[0] + streamed[1]; got != c.calls {
				t.Errorf("streamed calls %q", got)
			}
		})
	}
}

func TestAToolCallBeyondTheBudgetIsCutToNothing(t *testing.T) {
	m := askFor(t, New(Options{}), "/v1/chat/completions", `{"model":"simulator-chat","max_tokens":12,`+hello+`,"tool_choice":{"type":"function","function":{"name":"get_weather"}},`+weather+`}`)
	if used, _ := m.obj("usage").int("completion_tokens"); used != 12 || at(t, m, "choices", 0, "finish_reason") != "length" || asObject(at(t, m, "choices", 0, "message")).has("tool_calls") {
		t.Errorf("got %v, %v", m["choices"], m["usage"])
	}
}

func askStream(t *testing.T, s *Simulator, body string) string {
	t.Helper()
	w := ask(s, "POST", "/v1/chat/completions", strings.TrimSuffix(body, "}")+`,"stream":true}`)
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestStructuredOutputsSatisfyTheirSchema(t *testing.T) {
	s := New(Options{})
	m := askFor(t, s, "/v1/chat/completions", `{"model":"simulator-chat",`+hello+`,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"enum":["q"]}},"required":["a"]}}}}`)
	if got := at(t, m, "choices", 0, "message", "content"); got != `{"a":"q"}` {
		t.Errorf("got %v", got)
	}
	m = askFor(t, s, "/v1/chat/completions", `{"model":"simulator-chat",`+hello+`,"response_format":{"type":"json_object"}}`)
	if got, ok := decode([]byte(at(t, m, "choices", 0, "message", "content").(string))); !ok || got["simulated"] != true {
		t.Errorf("got %v", got)
	}
	m = askFor(t, s, "/v1/responses", `{"model":"simulator-chat","input":"hi","text":{"format":{"type":"json_schema","name":"x","schema":{"type":"integer","minimum":4}}}}`)
	if got := at(t, m, "output", 0, "content", 0, "text"); got != `4` {
		t.Errorf("got %v", got)
	}
}

func TestReasoningIsCountedAndShownAsEachVendorDoes(t *testing.T) {
	body := `{"model":"simulator-chat",` + hello + `,"reasoning_effort":"high"}`
	m := askFor(t, New(Options{}), "/v1/chat/completions", body)
	hidden, _ := asObject(at(t, m, "usage", "completion_tokens_details")).int("reasoning_tokens")
	out, _ := m.obj("usage").int("completion_tokens")
	if text := at(t, m, "choices", 0, "message", "content").(string); hidden == 0 || out != hidden+CountTokens(text) || strings.Contains(text, "reasoning") {
		t.Errorf("%d of %d hidden, %q", hidden, out, text)
	}
	short := askFor(t, New(Options{}), "/v1/chat/completions", strings.TrimSuffix(body, "}")+`,"max_completion_tokens":5}`)
	if at(t, short, "choices", 0, "message", "content") != "" || at(t, short, "choices", 0, "finish_reason") != "length" {
		t.Errorf("a budget spent on reasoning leaves %s", render(map[string]any(short)))
	}
	for format, path := range map[Format][]any{
		Ollama:           {"choices", 0, "message", "reasoning"},
		OpenAICompatible: {"choices", 0, "message", "reasoning_content"},
		Mistral:          {"choices", 0, "message", "content", 0, "thinking", 0, "text"},
	} {
		m := askFor(t, New(Options{Format: format}), "/v1/chat/completions", body)
		if text, _ := at(t, m, path...).(string); !strings.HasPrefix(text, "Simulated reasoning") {
			t.Errorf("%s: %q", format, text)
		}
		s := New(Options{Format: format})
		if stream := askStream(t, s, body); !strings.Contains(stream, fmt.Sprint(path[len(path)-1])) {
			t.Errorf("%s: no reasoning in %s", format, stream)
		}
	}
}

func TestOpenAICachesPrefixesInBlocksOf128From1024Tokens(t *testing.T) {
	s := New(Options{Now: fixedNow})
	cached := func(system int, last, key string) int {
		body := fmt.Sprintf(`{"model":"simulator-chat","messages":[{"role":"system","content":%q},{"role":"user","content":%q}]}`, strings.Repeat(" word", system), last)
		m, _ := decode(ask(s, "POST", "/v1/chat/completions", body, "Authorization", "Bearer "+key).Body.Bytes())
		n, _ := m.obj("usage").obj("prompt_tokens_details").int("cached_tokens")
		return n
	}
	for i, c := range []struct {
		system    int
		last, key string
		want      int
	}{
		{1200, "one", "a", 0},
		{1200, "two", "a", 1152},
		{1200, "two", "b", 0}, // another caller
		{1000, "two", "a", 0}, // too short
		{1000, "two", "a", 0},
	} {
		if got := cached(c.system, c.last, c.key); got != c.want {
			t.Errorf("request %d: %d cached, want %d", i, got, c.want)
		}
	}
}

func TestEmbeddingsAreUnitVectorsThatShareDirectionsWithTheirWords(t *testing.T) {
	s := New(Options{})
	m := askFor(t, s, "/v1/embeddings", `{"model":"simulator-embed","input":["the red car","the red bus","quantum chromodynamics",""],"dimensions":256}`)
	var vectors [][]float64
	for i := range 4 {
		var v []float64
		norm := 0.0
		for _, n := range at(t, m, "data", i, "embedding").([]any) {
			f, _ := number(n)
			v, norm = append(v, f), norm+f*f
		}
		if len(v) != 256 || math.Abs(norm-1) > 1e-5 {
			t.Errorf("vector %d: %d dimensions, norm %v", i, len(v), norm)
		}
		vectors = append(vectors, v)
	}
	dot := func(a, b []float64) (sum float64) {
		for i := range a {
			sum += a[i] * b[i]
		}
		return sum
	}
	if near, far := dot(vectors[0], vectors[1]), dot(vectors[0], vectors[2]); near < 0.5 || math.Abs(far) > 0.3 {
		t.Errorf("similar texts %.2f, different texts %.2f", near, far)
	}
	coded := askFor(t, s, "/v1/embeddings", `{"model":"simulator-embed","input":"the red car","dimensions":256,"encoding_format":"base64"}`)
	raw, err := base64.StdEncoding.DecodeString(at(t, coded, "data", 0, "embedding").(string))
	if err != nil || len(raw) != 4*256 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4:])); math.Abs(float64(got)-vectors[0][1]) > 1e-6 {
		t.Errorf("base64 says %v, floats say %v", got, vectors[0][1])
	}
	ids := askFor(t, s, "/v1/embeddings", `{"model":"simulator-embed","input":[[1,2,3],[4]]}`)
	if n, _ := ids.obj("usage").int("prompt_tokens"); n != 4 || len(ids.list("data")) != 2 || len(at(t, ids, "data", 0, "embedding").([]any)) != 1536 {
		t.Errorf("token ids: %d tokens, %d vectors", n, len(ids.list("data")))
	}
}

func TestImagesAreCountedInUsage(t *testing.T) {
	tokens := func(detail string) int {
		m := askFor(t, New(Options{}), "/v1/chat/completions", `{"model":"simulator-chat","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"`+detail+`"}}]}]}`)
		n, _ := m.obj("usage").int("prompt_tokens")
		if !strings.Contains(at(t, m, "choices", 0, "message", "content").(string), "You attached 1 images.") {
			t.Errorf("the image is not mentioned: %v", m["choices"])
		}
		return n
	}
	if tokens("low") != 92 || tokens("high") != 772 { // 1 for the text, 3 and 3 around it
		t.Errorf("low %d, high %d", tokens("low"), tokens("high"))
	}
}

func TestTheResponsesStreamNumbersItsEventsAndEndsWithTheWholeResponse(t *testing.T) {
	s := New(Options{Now: fixedNow})
	w := ask(s, "POST", "/v1/responses", `{"model":"simulator-chat","input":"hi","stream":true}`)
	names, datas := eventsOf(w.Body.String())
	for i, d := range datas {
		e, ok := decode([]byte(d))
		n, _ := e.int("sequence_number")
		if !ok || n != i || e.str("type") != names[i] {
			t.Errorf("event %d is %q number %d named %q", i, e.str("type"), n, names[i])
		}
	}
	last, _ := decode([]byte(datas[len(datas)-1]))
	whole := at(t, last, "response", "output", 0, "content", 0, "text")
	if names[0] != "response.created" || names[len(names)-1] != "response.completed" || textOf(w.Body.String()) != whole {
		t.Errorf("%v says %q, whole %q", names, textOf(w.Body.String()), whole)
	}
}

func TestUsageMisbehavesOnCommand(t *testing.T) {
	_, plain := chatBody(OpenAI, false)
	_, stream := chatBody(OpenAI, true)
	for fault, want := range map[string]int{"no-usage": 0, "": 1, "duplicate-usage": 2} {
		for _, body := range []string{plain, stream} {
			s := New(Options{})
			if fault != "" {
				s.Next(MustFault(fault))
			}
			got := strings.Count(ask(s, "POST", "/v1/chat/completions", body).Body.String(), `"usage":{`)
			if got != want {
				t.Errorf("%q: usage %d times, want %d", fault, got, want)
			}
		}
	}
	s := New(Options{})
	s.Next(MustFault("absurd-usage"))
	m := askFor(t, s, "/v1/chat/completions", plain)
	if in, _ := number(m.obj("usage")["prompt_tokens"]); in >= 0 {
		t.Errorf("usage %v", m["usage"])
	}
}

func TestACommandInThePromptIsObeyedOnlyWhereAllowed(t *testing.T) {
	body := `{"model":"simulator-chat","messages":[{"role":"user","content":"simulate 503"}]}`
	if got := ask(New(Options{}), "POST", "/v1/chat/completions", body).Code; got != 200 {
		t.Errorf("not allowed: %d", got)
	}
	if got := ask(New(Options{Commands: true}), "POST", "/v1/chat/completions", body).Code; got != 503 {
		t.Errorf("allowed: %d", got)
	}
	huge := strings.Replace(body, "simulate 503", "simulate huge 500MB", 1)
	if w := ask(New(Options{Commands: true}), "POST", "/v1/chat/completions", huge); w.Body.Len() > 10000 {
		t.Errorf("a prompt got %d bytes", w.Body.Len())
	}
}

func TestCredentialsAreCheckedInTheVendorsWords(t *testing.T) {
	for _, c := range []struct {
		format Format
		header []string
		status int
		says   string
	}{
		{OpenAI, nil, 401, `You didn't provide an API key.`},
		{OpenAI, []string{"Authorization", "Bearer sk-wrong-key-123"}, 401, `Incorrect API key provided: sk-w********-123.`},
		{OpenAI, []string{"Authorization", "bearer sk-right"}, 200, `simulator-chat`},
		{Anthropic, nil, 401, `{"type":"error","error":{"type":"authentication_error","message":"x-api-key header is required"}`},
		{Anthropic, []string{"X-Api-Key", "no"}, 401, `"message":"invalid x-api-key"`},
		{Anthropic, []string{"X-Api-Key", "sk-right"}, 200, `simulator-chat`},
		{Anthropic, []string{"Authorization", "Bearer sk-right"}, 200, `simulator-chat`},
		{Anthropic, []string{"Authorization", "Bearer sk-right", "X-Api-Key", "no"}, 401, `invalid x-api-key`},
		{Mistral, nil, 401, `{"detail":"Unauthorized"}`},
		{OpenAICompatible, nil, 401, `invalid_request_error`},
	} {
		w := ask(New(Options{Format: c.format, APIKey: "sk-right"}), "GET", "/v1/models", "", c.header...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %v: %d %s", c.format, c.header, w.Code, w.Body)
		}
	}
}

func TestObjectsKeepTheirOrderAndEscapeNothingForHTML(t *testing.T) {
	if got := string(render(o{"b", 1, "a", o{"<", nil}})); got != `{"b":1,"a":{"<":null}}` {
		t.Errorf("got %s", got)
	}
	if _, err := json.Marshal(o{"odd"}); err != nil {
		t.Error(err)
	}
}
