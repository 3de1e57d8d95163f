package translate

import (
	"errors"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	begin     = `{"type":"message_start","message":{"id":"i","model":"m","usage":{}}}`
	textBegin = `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`
	textDelta = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}`
	blockEnd  = `{"type":"content_block_stop","index":0}`
	ended     = `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}`
	stopped   = `{"type":"message_stop"}`
)

// broken streams: the last line is the one that must fail.
func TestAnthropicStreamsThatBreakTheirProtocol(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []string
	}{
		{"a block before the message", []string{textBegin}},
		{"an end before the message", []string{stopped}},
		{"a second message", []string{begin, begin}},
		{"a message without content", []string{`{"type":"message_start"}`}},
		{"a delta outside a block", []string{begin, textDelta}},
		{"a block that starts twice", []string{begin, textBegin, textBegin}},
		{"a block that stops twice", []string{begin, textBegin, blockEnd, blockEnd}},
		{"arguments in a text", []string{begin, textBegin, `{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}`}},
		{"a block of an unknown type", []string{begin, `{"type":"content_block_start","index":0,"content_block":{"type":"web_search_tool_result"}}`}},
		{"an unknown stop reason", []string{begin, `{"type":"message_delta","delta":{"stop_reason":"tired"}}`, stopped}},
		{"something after the end", []string{begin, ended, stopped, textBegin}},
		{"half an event", []string{begin, `{"type":"content_blo`}},
		{"an event that is no object", []string{begin, `[1]`}},
		{"tokens that are no number", []string{`{"type":"message_start","message":{"usage":{"input_tokens":"9"}}}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lastFails(t, NewMessagesToChatStream(Answer{}), c.events)
		})
	}
}

func TestOpenAIStreamsThatBreakTheirProtocol(t *testing.T) {
	chunk := func(delta string) string { return `{"choices":[{"index":0,"delta":` + delta + `}]}` }
	call := func(s string) string { return chunk(`{"tool_calls":[` + s + `]}`) }
	const finish = `{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`
	for _, c := range []struct {
		name   string
		events []string
	}{
		{"an end before anything", []string{`[DONE]`}},
		{"an end without a reason", []string{chunk(`{"content":"x"}`), `[DONE]`}},
		{"an unknown reason", []string{`{"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}`, `[DONE]`}},
		{"a call nobody named", []string{call(`{"index":0,"id":"a","function":{"arguments":"{}"}}`), finish, `[DONE]`}},
		{"a call renamed", []string{call(`{"index":0,"id":"a","function":{"name":"x","arguments":""}}`), call(`{"index":0,"function":{"name":"y"}}`)}},
		{"a call that goes on after its end", []string{
			call(`{"index":0,"id":"a","function":{"name":"x","arguments":"{}"}}`), call(`{"index":1,"id":"b","function":{"name":"y","arguments":"{}"}}`),
			call(`{"index":0,"function":{"arguments":"}"}}`)}},
		{"a call of an unknown type", []string{call(`{"index":0,"id":"a","type":"custom","custom":{}}`)}},
		{"audio", []string{chunk(`{"audio":{"data":""}}`)}},
		{"a function call of old", []string{chunk(`{"function_call":{"name":"x"}}`)}},
		{"citations of the web", []string{chunk(`{"annotations":[{"type":"url_citation"}]}`)}},
		{"content of an unknown kind", []string{chunk(`{"content":[{"type":"image_url"}]}`)}},
		{"content that is a number", []string{chunk(`{"content":1}`)}},
		{"half an event", []string{`{"choices":`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lastFails(t, NewChatToMessagesStream(Answer{ID: "i"}), c.events)
		})
	}
}

func lastFails(t *testing.T, s stream, data []string) {
	t.Helper()
	for i, d := range data {
		_, err := s.Event(nil, wire.Event{Data: []byte(d)})
		if last := i == len(data)-1; (err != nil) != last {
			t.Fatalf("event %d of %d: error %v", i+1, len(data), err)
		}
		if err != nil {
			var p *problem.Error
			if !errors.As(err, &p) || p.Kind != problem.Upstream {
				t.Fatalf("not the upstream's fault: %v", err)
			}
		}
	}
}

// A client must see a call's arguments as they come, not when the answer ends.
func TestCallsOneAfterTheOtherStreamLive(t *testing.T) {
	s := NewChatToMessagesStream(Answer{ID: "i"})
	for _, step := range []struct{ calls, want string }{
		{`{"index":0,"id":"a","function":{"name":"x","arguments":"{\"k\":"}}`, `"partial_json":"{\"k\":"`},
		{`{"index":0,"function":{"arguments":"1}"}}`, `"partial_json":"1}"`},
		{`{"index":1,"id":"b","function":{"name":"y","arguments":"{\"l\""}}`, `"partial_json":"{\"l\""`},
		{`{"index":1,"function":{"arguments":":2}"}}`, `"partial_json":":2}"`},
		{`{"index":0,"function":{"arguments":" "}}`, ``},
	} {
		out, err := s.Event(nil, wire.Event{Data: []byte(`{"choices":[{"index":0,"delta":{"tool_calls":[` + step.calls + `]}}]}`)})
		if err != nil || !strings.Contains(string(out), step.want) {
			t.Errorf("%s gave %v\n%s", step.calls, err, out)
		}
		if step.want == "" && len(out) > 0 {
			t.Errorf("%s gave\n%s", step.calls, out)
		}
	}
}

func TestAStreamEndsOnce(t *testing.T) {
	s := NewMessagesToChatStream(Answer{})
	for _, d := range [...]string{begin, textBegin, textDelta, blockEnd, ended, stopped} {
		if _, err := s.Event(nil, wire.Event{Data: []byte(d)}); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := s.Close([]byte("before ")); err != nil || string(out) != "before data: [DONE]\n\n" {
		t.Errorf("%q %v", out, err)
	}
	c := NewChatToMessagesStream(Answer{})
	for _, d := range [...]string{`{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}`, `[DONE]`, `{"choices":[]}`} {
		if _, err := c.Event(nil, wire.Event{Data: []byte(d)}); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := c.Close(nil); err != nil || len(out) > 0 {
		t.Errorf("%q %v", out, err)
	}
}

func BenchmarkTextDelta(b *testing.B) {
	b.Run("to OpenAI", func(b *testing.B) {
		s := NewMessagesToChatStream(shown)
		benchEvent(b, s, textDelta, begin, textBegin)
	})
	b.Run("to Anthropic", func(b *testing.B) {
		benchEvent(b, NewChatToMessagesStream(shown),
			`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}`)
	})
}

func benchEvent(b *testing.B, s stream, event string, before ...string) {
	for _, d := range before {
		if _, err := s.Event(nil, wire.Event{Data: []byte(d)}); err != nil {
			b.Fatal(err)
		}
	}
	ev := wire.Event{Data: []byte(event)}
	buf := make([]byte, 0, 1<<12)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Event(buf, ev); err != nil {
			b.Fatal(err)
		}
	}
}
