package wire

import (
	"errors"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

// fed feeds a stream, as bytes, into a chunk and returns what each event was.
func fed(t *testing.T, ep Endpoint, stream string) (c Chunk, each []Chunk) {
	t.Helper()
	buf := []byte(stream)
	for {
		ev, n := NextEvent(buf)
		if n == 0 {
			return c, each
		}
		if err := ScanChunk(ep, ev, &c); err != nil {
			t.Fatalf("%v: %s", err, ev.Data)
		}
		each = append(each, c)
		buf = buf[n:]
	}
}

const chatStream = `data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}

data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}

data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}

data: {"id":"c","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27,"prompt_tokens_details":{"cached_tokens":8,"cache_write_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}

data: [DONE]

`

func TestAChatStream(t *testing.T) {
	c, each := fed(t, ChatCompletions, chatStream)
	if each[0].Content || !each[1].Content || each[0].Finish != "" || each[2].Finish != "stop" {
		t.Fatalf("content or finish at the wrong event: %+v", each)
	}
	for i, e := range each {
		if e.UsageOnly != (i == 3) || e.Done != (i == 4) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if c.Usage != (Usage{Input: 20, Output: 7, CachedInput: 8, CacheWrite: 4, Reasoning: 3, Set: true}) {
		t.Fatalf("usage %+v", c.Usage)
	}
	if c.Events != 1 || c.ContentBytes != 5 || c.Error != nil {
		t.Fatalf("%+v", c)
	}
}

const messageStream = `event: message_start
data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":100,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15,"output_tokens_details":{"thinking_tokens":4}}}

event: message_stop
data: {"type":"message_stop"}

`

func TestAMessageStream(t *testing.T) {
	c, each := fed(t, Messages, messageStream)
	if first := each[0].Usage; !first.Set || !first.Partial || first.Input != 113 || each[0].Content {
		t.Fatalf("message_start: %+v", each[0])
	}
	if each[1].Content || each[2].Content || !each[3].Content || each[5].Finish != "end_turn" || each[5].Done || !each[6].Done {
		t.Fatalf("%+v", each)
	}
	if c.Usage != (Usage{Input: 113, Output: 15, CachedInput: 100, CacheWrite: 3, Reasoning: 4, Set: true}) {
		t.Fatalf("usage %+v", c.Usage)
	}
}

func TestMessageDeltaMayCorrectTheInput(t *testing.T) {
	c, _ := fed(t, Messages, `data: {"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}

data: {"type":"message_delta","delta":{},"usage":{"input_tokens":2000,"cache_read_input_tokens":null,"output_tokens":15}}

`)
	if c.Usage != (Usage{Input: 2000, Output: 15, Set: true}) {
		t.Fatalf("usage %+v", c.Usage)
	}
}

const responsesStream = `event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"r","status":"in_progress","error":null,"incomplete_details":null,"output":[],"usage":null}}

event: response.output_item.added
data: {"type":"response.output_item.added","output_index":0,"item":{"id":"msg","type":"message","content":[]}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","delta":"Hi"}

event: response.completed
data: {"type":"response.completed","response":{"status":"completed","error":null,"output":[{"type":"message"}],"usage":{"input_tokens":5,"input_tokens_details":{"cached_tokens":2},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":1},"total_tokens":8}}}

`

func TestAResponsesStream(t *testing.T) {
	c, each := fed(t, Responses, responsesStream)
	if each[0].Content || each[1].Content || !each[2].Content || each[2].Done || !each[3].Done || c.Finish != "completed" || c.Events != 1 {
		t.Fatalf("%+v", each)
	}
	if c.Usage != (Usage{Input: 5, Output: 3, CachedInput: 2, Reasoning: 1, Set: true}) {
		t.Fatalf("usage %+v", c.Usage)
	}
}

func TestWhatCountsAsContent(t *testing.T) {
	for _, c := range []struct {
		ep   Endpoint
		data string
		want bool
	}{
		{ChatCompletions, `{"choices":[{"delta":{"role":"assistant"}}]}`, false},
		{ChatCompletions, `{"choices":[{"delta":{"role":"assistant","content":""}}]}`, false},
		{ChatCompletions, `{"choices":[{"delta":{"content":null,"tool_calls":[ ],"x":{}}}]}`, false},
		{ChatCompletions, `{"choices":[{"delta":{"content":" "}}]}`, true},
		{ChatCompletions, `{"choices":[{"delta":{"refusal":"no"}}]}`, true},
		{ChatCompletions, `{"choices":[{"delta":{"reasoning_content":"hm"}}]}`, true},
		{ChatCompletions, `{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[]}]}}]}`, true},
		{ChatCompletions, `{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"f","arguments":""}}]}}]}`, true},
		{ChatCompletions, `{"choices":[{"delta":{"invented":1}}]}`, true},
		{ChatCompletions, `{"choices":[{"delta":{}},{"delta":{"content":"b"}}]}`, true},
		{ChatCompletions, `{"choices":[],"prompt_filter_results":[{}]}`, false},
		{Messages, `{"type":"content_block_start","content_block":{"type":"thinking","thinking":"","signature":""}}`, false},
		{Messages, `{"type":"content_block_start","content_block":{"type":"tool_use","id":"1","name":"f","input":{}}}`, true},
		{Messages, `{"type":"content_block_start","content_block":{"type":"text","text":"a"}}`, true},
		{Messages, `{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}`, true},
		{Messages, `{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":""}}`, false},
		{Messages, `{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}`, true},
		{Responses, `{"type":"response.in_progress","response":{"status":"in_progress"}}`, false},
		{Responses, `{"type":"response.reasoning_summary_text.delta","delta":"hm"}`, true},
		{Responses, `{"type":"response.web_search_call.searching","item_id":"1"}`, true},
		{Responses, `{"type":"keepalive"}`, false},
	} {
		var k Chunk
		if err := ScanChunk(c.ep, Event{Data: []byte(c.data)}, &k); err != nil {
			t.Fatal(err)
		}
		if k.Content != c.want {
			t.Errorf("%s %s: content %v", c.ep, c.data, k.Content)
		}
	}
}

func TestAnErrorWithoutAnErrorMember(t *testing.T) {
	var c Chunk
	body := `{"object":"error","message":"gone","type":"internal_server_error","code":"1000"}`
	if err := ScanChunk(ChatCompletions, Event{Data: []byte(body)}, &c); err != nil || string(c.Error) != body || c.UsageOnly {
		t.Fatalf("error %s, %v", c.Error, err)
	}
	c.Reset()
	if err := ScanResponse(ChatCompletions, []byte(`{"object":"chat.completion","choices":[]}`), &c); err != nil || c.Error != nil {
		t.Fatalf("error %s, %v", c.Error, err)
	}
}

func TestErrorsInAStream(t *testing.T) {
	for _, c := range []struct {
		name string
		ep   Endpoint
		ev   Event
		want string
	}{
		{"OpenAI's", ChatCompletions, Event{Data: []byte(`{"error":{"message":"m","code":1}}`)}, `{"message":"m","code":1}`},
		{"a string", ChatCompletions, Event{Data: []byte(`{"error":"busy"}`)}, `"busy"`},
		{"a null is none", ChatCompletions, Event{Data: []byte(`{"error":null,"choices":[]}`)}, ``},
		{"one named so", ChatCompletions, Event{Name: []byte("error"), Data: []byte(`{"message":"m"} `)}, `{"message":"m"}`},
		{"Anthropic's", Messages, Event{Name: []byte("error"), Data: []byte(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)}, `{"type":"overloaded_error","message":"Overloaded"}`},
		{"the Responses API's", Responses, Event{Name: []byte("error"), Data: []byte(`{"type":"error","code":"server_error","message":"m"}`)}, `{"type":"error","code":"server_error","message":"m"}`},
		{"a failed response's", Responses, Event{Data: []byte(`{"type":"response.failed","response":{"status":"failed","error":{"code":"x"}}}`)}, `{"code":"x"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k Chunk
			if err := ScanChunk(c.ep, c.ev, &k); err != nil {
				t.Fatal(err)
			}
			if string(k.Error) != c.want || k.UsageOnly {
				t.Fatalf("error %s", k.Error)
			}
			if err := ScanChunk(c.ep, Event{}, &k); err != nil || k.Error != nil {
				t.Fatal("the error outlives its event")
			}
		})
	}
}

func TestScanResponse(t *testing.T) {
	for _, c := range []struct {
		name, body string
		ep         Endpoint
		usage      Usage
		finish     string
		content    bool
		err        string
	}{
		{"a chat", `{"choices":[{"message":{"role":"assistant","content":"Hi"},"finish_reason":"length"}],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}`, ChatCompletions, Usage{Input: 2, Output: 3, Set: true}, "length", true, ""},
		{"a chat with an unknown reason", `{"choices":[{"message":{},"finish_reason":"because"}]}`, ChatCompletions, Usage{}, "because", false, ""},
		{"an error", ` {"error":{"message":"no"}} `, ChatCompletions, Usage{}, "", false, `{"message":"no"}`},
		{"embeddings", `{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":4,"total_tokens":4}}`, Embeddings, Usage{Input: 4, Set: true}, "", false, ""},
		{"reasoning left out of the completion", `{"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":15,"completion_tokens_details":{"reasoning_tokens":10}}}`, ChatCompletions, Usage{Input: 2, Output: 13, Reasoning: 10, Set: true}, "", false, ""},
		{"figures with fractions", `{"usage":{"prompt_tokens":2.0,"completion_tokens":3e0}}`, ChatCompletions, Usage{Input: 2, Output: 3, Set: true}, "", false, ""},
		{"figures that contradict each other", `{"usage":{"prompt_tokens":2,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":9,"cache_write_tokens":9},"completion_tokens_details":{"reasoning_tokens":9}}}`, ChatCompletions, Usage{Input: 2, Output: 3, CachedInput: 2, Reasoning: 3, Set: true}, "", false, ""},
		{"negative figures are no report", `{"usage":{"prompt_tokens":-2,"completion_tokens":3}}`, ChatCompletions, Usage{}, "", false, ""},
		{"figures beyond belief are no report", `{"usage":{"prompt_tokens":99999999999999999999,"completion_tokens":3}}`, ChatCompletions, Usage{}, "", false, ""},
		{"figures in words are no report", `{"usage":{"prompt_tokens":"2","completion_tokens":3}}`, ChatCompletions, Usage{}, "", false, ""},
		{"an empty usage is no report", `{"usage":{}}`, ChatCompletions, Usage{}, "", false, ""},
		{"a message", `{"type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"tool_use","usage":{"input_tokens":1,"cache_read_input_tokens":2,"cache_creation_input_tokens":3,"output_tokens":4}}`, Messages, Usage{Input: 6, Output: 4, CachedInput: 2, CacheWrite: 3, Set: true}, "tool_use", true, ""},
		{"Anthropic's error", `{"type":"error","error":{"type":"not_found_error","message":"m"},"request_id":"r"}`, Messages, Usage{}, "", false, `{"type":"not_found_error","message":"m"}`},
		{"a token count", `{"input_tokens":42}`, CountTokens, Usage{Input: 42, Set: true}, "", false, ""},
		{"a response", `{"object":"response","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"error":null,"output":[{"type":"message"}],"usage":{"input_tokens":1,"output_tokens":2}}`, Responses, Usage{Input: 1, Output: 2, Set: true}, "max_output_tokens", true, ""},
		{"a response, details first", `{"incomplete_details":{"reason":"max_output_tokens"},"status":"incomplete"}`, Responses, Usage{}, "max_output_tokens", false, ""},
		{"a key in escapes", `{"us\u0061ge":{"prompt_tokens":2}}`, ChatCompletions, Usage{Input: 2, Set: true}, "", false, ""},
		{"half of a surrogate pair", `{"choices":[{"message":{"content":"\ud83d"}}]}`, ChatCompletions, Usage{}, "", true, ""},
		{"bytes that are not UTF-8", "{\"choices\":[{\"message\":{\"content\":\"\xe2\x82\"}}]}", ChatCompletions, Usage{}, "", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k Chunk
			if err := ScanResponse(c.ep, []byte(c.body), &k); err != nil {
				t.Fatal(err)
			}
			if k.Usage != c.usage || k.Finish != c.finish || k.Content != c.content || string(k.Error) != c.err || !k.Done || k.UsageOnly {
				t.Fatalf("got %+v, error %s", k, k.Error)
			}
		})
	}
}

func TestAMalformedAnswerIsTheUpstreamsFault(t *testing.T) {
	for _, body := range []string{``, `null`, `[]`, `"x"`, `{"a":}`, `{"choices":[`, `<html>secret</html>`, `{"usage":{"prompt_tokens":9}} trailing`, `{"usage":{"prompt_tokens":01}}`} {
		k := Chunk{}
		if err := ScanChunk(ChatCompletions, Event{Data: []byte(`{"usage":{"prompt_tokens":1}}`)}, &k); err != nil {
			t.Fatal(err)
		}
		before := k.Usage
		err := ScanResponse(ChatCompletions, []byte(body), &k)
		var e *problem.Error
		if !errors.As(err, &e) || e.Kind != problem.Upstream || e.Code != "upstream-malformed" {
			t.Fatalf("%q: %v", body, err)
		}
		if strings.Contains(e.Error()+e.Err.Error(), "secret") {
			t.Errorf("the error quotes the answer: %v", e)
		}
		if k.Usage != before || k.Error != nil {
			t.Errorf("%q left traces: %+v", body, k)
		}
		if err := ScanChunk(ChatCompletions, Event{Data: []byte(`{"usage":{"prompt_tokens":2}}`)}, &k); err != nil || k.Usage.Input != 2 {
			t.Errorf("%q counts later: %+v", body, k)
		}
	}
}

func TestARepeatedUsageCountsOnce(t *testing.T) {
	usage := `data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3}}` + "\n\n"
	stale := `data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1}}` + "\n\n"
	c, each := fed(t, ChatCompletions, usage+usage+stale)
	if c.Usage != (Usage{Input: 2, Output: 3, Set: true}) || !each[1].UsageOnly {
		t.Fatalf("%+v", c)
	}
}

func TestUsageBesideChoicesIsNotHidden(t *testing.T) {
	c, _ := fed(t, ChatCompletions, `data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":3}}`+"\n\n")
	if c.UsageOnly || !c.Usage.Set {
		t.Fatalf("%+v", c)
	}
}

func TestAChunkIsReadWithoutAllocating(t *testing.T) {
	ev := Event{Data: []byte(typicalDelta)}
	var c Chunk
	if n := testing.AllocsPerRun(100, func() { _ = ScanChunk(ChatCompletions, ev, &c) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
