package translate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// obj is a JSON object in the making.
type obj = map[string]any

func render(t *rapid.T, v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parse(t *rapid.T, data []byte) any {
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

func same(t *rapid.T, got, want []byte) {
	t.Helper()
	if g, w := parse(t, got), parse(t, want); !reflect.DeepEqual(g, w) {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

// words are texts with something in them, of everything JSON has to escape.
var words = rapid.Custom(func(t *rapid.T) string {
	return rapid.StringOf(rapid.RuneFrom([]rune("aé<&\"\\\n\t \u2028😀{}[]:,"))).Draw(t, "s") + "w"
})

var schema = rapid.Custom(func(t *rapid.T) obj {
	return obj{"type": "object", "properties": obj{words.Draw(t, "p"): obj{"type": "string", "description": words.Draw(t, "d")}}}
})

var input = rapid.Custom(func(t *rapid.T) obj {
	o := obj{}
	for range rapid.IntRange(0, 3).Draw(t, "n") {
		o[words.Draw(t, "k")] = words.Draw(t, "v")
	}
	return o
})

// often returns true two times of three.
func often(t *rapid.T, label string) bool { return rapid.IntRange(0, 2).Draw(t, label) > 0 }

// callIDs numbers tool calls, unlike either API.
type callIDs int

func (n *callIDs) next() string { *n++; return fmt.Sprintf("call_%d", *n) }

func arguments(t *rapid.T) string { return compact(render(t, input.Draw(t, "input"))) }

// chatRequests draws OpenAI requests of what both dialects can say.
var chatRequests = rapid.Custom(func(t *rapid.T) obj {
	req := obj{"model": "m", "max_tokens": rapid.IntRange(1, 1<<40).Draw(t, "max")}
	var messages []any
	if often(t, "system") {
		messages = append(messages, obj{"role": "system", "content": words.Draw(t, "system")})
	}
	var ids callIDs
	for range rapid.IntRange(0, 3).Draw(t, "turns") {
		messages = append(messages, obj{"role": "user", "content": chatContent(t)})
		messages = append(messages, chatAssistant(t, &ids)...)
	}
	req["messages"] = append(messages, obj{"role": "user", "content": chatContent(t)})
	if often(t, "tools") {
		req["tools"] = []any{obj{"type": "function", "function": obj{"name": "f", "description": words.Draw(t, "d"), "parameters": schema.Draw(t, "schema"), "strict": rapid.Bool().Draw(t, "strict")}}}
		req["tool_choice"] = rapid.SampledFrom([]any{"auto", "none", "required", obj{"type": "function", "function": obj{"name": "f"}}}).Draw(t, "choice")
		if req["tool_choice"] != "none" && rapid.Bool().Draw(t, "serial") {
			req["parallel_tool_calls"] = false
		}
	}
	if often(t, "stop") {
		req["stop"] = rapid.SliceOfN(words, 1, 4).Draw(t, "stops")
	}
	if often(t, "sampling") {
		req["temperature"] = rapid.Float64Range(0, 1).Draw(t, "temperature")
		req["top_p"] = rapid.Float64Range(0, 1).Draw(t, "top_p")
	}
	if often(t, "output") {
		req["reasoning_effort"] = rapid.SampledFrom([]string{"none", "low", "medium", "high", "xhigh", "max"}).Draw(t, "effort")
		req["response_format"] = obj{"type": "json_schema", "json_schema": obj{"name": formatName, "strict": true, "schema": schema.Draw(t, "format")}}
	}
	if often(t, "caller") {
		req["user"], req["service_tier"] = words.Draw(t, "user"), "default"
		req["stream"], req["stream_options"] = true, obj{"include_usage": true}
	}
	return req
})

func chatContent(t *rapid.T) any {
	if !often(t, "parts") {
		return words.Draw(t, "text")
	}
	parts := []any{obj{"type": "text", "text": words.Draw(t, "text")}}
	for range rapid.IntRange(1, 3).Draw(t, "parts") {
		parts = append(parts, rapid.SampledFrom([]any{
			obj{"type": "text", "text": words.Draw(t, "more")},
			obj{"type": "image_url", "image_url": obj{"url": "data:image/webp;base64,AAAA"}},
			obj{"type": "image_url", "image_url": obj{"url": "https://example.org/" + words.Draw(t, "path")}},
			obj{"type": "file", "file": obj{"filename": words.Draw(t, "name"), "file_data": "data:application/pdf;base64,AAA="}},
		}).Draw(t, "part"))
	}
	return parts
}

func chatAssistant(t *rapid.T, ids *callIDs) []any {
	msg := obj{"role": "assistant", "content": words.Draw(t, "said")}
	out := []any{msg}
	if !often(t, "calls") {
		return out
	}
	if rapid.Bool().Draw(t, "silent") {
		msg["content"] = nil
	}
	var calls []any
	for range rapid.IntRange(1, 3).Draw(t, "calls") {
		id := ids.next()
		calls = append(calls, obj{"id": id, "type": "function", "function": obj{"name": "f", "arguments": arguments(t)}})
		out = append(out, obj{"role": "tool", "tool_call_id": id, "content": rapid.SampledFrom([]any{
			words.Draw(t, "result"), "", []any{obj{"type": "text", "text": words.Draw(t, "a")}, obj{"type": "text", "text": words.Draw(t, "b")}},
		}).Draw(t, "result")})
	}
	msg["tool_calls"] = calls
	return out
}

func TestWhatBothDialectsCanSayComesBackUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := render(t, chatRequests.Draw(t, "request"))
		there, err := ChatToMessages(want, Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, want)
		}
		back, err := MessagesToChat(there, Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, there)
		}
		same(t, back, want)
		again, err := ChatToMessages(back, Options{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, again, there)
	})
}

// drawnAnswer is an answer both dialects can give.
type drawnAnswer struct {
	reasoning, text string
	calls           []obj // OpenAI's
	finish          string
	usage           obj
}

var answers = rapid.Custom(func(t *rapid.T) drawnAnswer {
	var a drawnAnswer
	a.finish = rapid.SampledFrom([]string{"stop", "length", "content_filter"}).Draw(t, "finish")
	if often(t, "reasoning") {
		a.reasoning = words.Draw(t, "reasoning")
	}
	if often(t, "text") {
		a.text = words.Draw(t, "text")
	}
	var ids callIDs
	for range rapid.IntRange(0, 3).Draw(t, "calls") {
		a.finish = "tool_calls"
		a.calls = append(a.calls, obj{"id": ids.next(), "type": "function", "function": obj{"name": words.Draw(t, "name"), "arguments": arguments(t)}})
	}
	n := rapid.IntRange(0, 1<<30)
	read, written, rest := n.Draw(t, "read"), n.Draw(t, "written"), n.Draw(t, "rest")
	out := n.Draw(t, "out")
	a.usage = obj{
		"prompt_tokens": read + written + rest, "completion_tokens": out, "total_tokens": read + written + rest + out,
		"prompt_tokens_details":     obj{"cached_tokens": read, "cache_write_tokens": written},
		"completion_tokens_details": obj{"reasoning_tokens": n.Draw(t, "thought")},
	}
	return a
})

// completion renders the answer as OpenAI does.
func (a drawnAnswer) completion() obj {
	msg := obj{"role": "assistant", "content": a.text, "refusal": nil}
	if a.text == "" && len(a.calls) > 0 {
		msg["content"] = nil
	}
	if a.reasoning != "" {
		msg["reasoning_content"] = a.reasoning
		msg["thinking_blocks"] = []any{obj{"type": "thinking", "thinking": a.reasoning, "signature": ""}}
	}
	if len(a.calls) > 0 {
		msg["tool_calls"] = a.calls
	}
	return obj{
		"id": "id", "object": "chat.completion", "created": 1700000000, "model": "m", "usage": a.usage,
		"choices": []any{obj{"index": 0, "message": msg, "logprobs": nil, "finish_reason": a.finish}},
	}
}

func TestAnswersBothDialectsCanGiveComeBackUnchanged(t *testing.T) {
	show := Answer{Created: shown.Created}
	rapid.Check(t, func(t *rapid.T) {
		want := render(t, answers.Draw(t, "answer").completion())
		there, err := ChatCompletionToMessage(want, show)
		if err != nil {
			t.Fatal(err)
		}
		back, err := MessageToChatCompletion(there, show)
		if err != nil {
			t.Fatalf("%v\n%s", err, there)
		}
		same(t, back, want)
	})
}

// chunks renders the answer as OpenAI streams it, cut wherever t likes.
func (a drawnAnswer) chunks(t *rapid.T) []wire.Event {
	var deltas []obj
	cut := func(s string, wrap func(piece string) obj) {
		runes := []rune(s)
		for len(runes) > 0 {
			n := rapid.IntRange(1, len(runes)).Draw(t, "cut")
			deltas, runes = append(deltas, wrap(string(runes[:n]))), runes[n:]
		}
	}
	cut(a.reasoning, func(s string) obj { return obj{"reasoning_content": s} })
	cut(a.text, func(s string) obj { return obj{"content": s} })
	var streams [][]obj
	for i, c := range a.calls {
		f := c["function"].(obj)
		before := len(deltas)
		deltas = append(deltas, obj{"tool_calls": []any{obj{"index": i, "id": c["id"], "type": "function", "function": obj{"name": f["name"], "arguments": ""}}}})
		cut(f["arguments"].(string), func(s string) obj {
			return obj{"tool_calls": []any{obj{"index": i, "function": obj{"arguments": s}}}}
		})
		streams = append(streams, append([]obj(nil), deltas[before:]...))
		deltas = deltas[:before]
	}
	// The calls begin in order and go on in any.
	for begun := 0; len(streams) > 0; {
		i := 0
		if rapid.Bool().Draw(t, "interleave") {
			i = rapid.IntRange(0, min(begun, len(streams)-1)).Draw(t, "stream")
		}
		begun = max(begun, i+1)
		deltas = append(deltas, streams[i][0])
		if streams[i] = streams[i][1:]; len(streams[i]) == 0 {
			streams = append(streams[:i], streams[i+1:]...)
			begun--
		}
	}
	var out []wire.Event
	chunk := func(choices []any, usage any) {
		out = append(out, wire.Event{Data: render(t, obj{"id": "id", "object": "chat.completion.chunk", "created": 1700000000, "model": "m", "choices": choices, "usage": usage})})
	}
	chunk([]any{obj{"index": 0, "delta": obj{"role": "assistant", "content": ""}, "finish_reason": nil}}, nil)
	for _, d := range deltas {
		chunk([]any{obj{"index": 0, "delta": d, "finish_reason": nil}}, nil)
	}
	chunk([]any{obj{"index": 0, "delta": obj{}, "finish_reason": a.finish}}, nil)
	chunk([]any{}, a.usage)
	return append(out, wire.Event{Data: []byte("[DONE]")})
}

func run(t *rapid.T, s stream, in []wire.Event) []wire.Event {
	var out []byte
	var err error
	for _, ev := range in {
		if out, err = s.Event(out, ev); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if out, err = s.Close(out); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	evs := events(strings.TrimSuffix(string(out), "\n\n"))
	return evs
}

// An answer streams, through either translation and through both, into what it
// is when translated whole.
func TestAStreamSaysWhatTheWholeAnswerSays(t *testing.T) {
	show := Answer{Created: shown.Created, IncludeUsage: true}
	rapid.Check(t, func(t *rapid.T) {
		a := answers.Draw(t, "answer")
		whole := render(t, a.completion())
		want, err := ChatCompletionToMessage(whole, show)
		if err != nil {
			t.Fatal(err)
		}
		there := run(t, NewChatToMessagesStream(show), a.chunks(t))
		same(t, render(t, gatherMessage(t, there)), want)
		back := run(t, NewMessagesToChatStream(show), there)
		same(t, render(t, gatherCompletion(t, back)), whole)
	})
}

// gatherMessage does what Anthropic's SDKs do, and insists on the protocol:
// blocks start, continue and stop one after the other.
func gatherMessage(t *rapid.T, evs []wire.Event) obj {
	var msg obj
	var blocks []any
	open, args := -1, ""
	for i, ev := range evs {
		d := parse(t, ev.Data).(obj)
		if d["type"] != string(ev.Name) {
			t.Fatalf("event %s holds %s", ev.Name, d["type"])
		}
		if (i == 0) != (d["type"] == "message_start") || (i == len(evs)-1) != (d["type"] == "message_stop") {
			t.Fatalf("%s at %d of %d", ev.Name, i, len(evs))
		}
		switch d["type"] {
		case "message_start":
			msg = d["message"].(obj)
		case "content_block_start":
			if open >= 0 || int(d["index"].(float64)) != len(blocks) {
				t.Fatalf("block %v starts while %d is open", d["index"], open)
			}
			open, args = len(blocks), ""
			blocks = append(blocks, d["content_block"])
		case "content_block_delta":
			if int(d["index"].(float64)) != open {
				t.Fatalf("a delta for %v while %d is open", d["index"], open)
			}
			delta, b := d["delta"].(obj), blocks[open].(obj)
			switch delta["type"] {
			case "text_delta":
				b["text"] = b["text"].(string) + delta["text"].(string)
			case "thinking_delta":
				b["thinking"] = b["thinking"].(string) + delta["thinking"].(string)
			case "input_json_delta":
				args += delta["partial_json"].(string)
			}
		case "content_block_stop":
			if b := blocks[open].(obj); b["type"] == "tool_use" && args != "" {
				b["input"] = parse(t, []byte(args))
			}
			open = -1
		case "message_delta":
			for k, v := range d["delta"].(obj) {
				msg[k] = v
			}
			for k, v := range d["usage"].(obj) {
				msg["usage"].(obj)[k] = v
			}
		}
	}
	if blocks != nil {
		msg["content"] = blocks
	}
	return msg
}

// gatherCompletion does what OpenAI's SDKs do.
func gatherCompletion(t *rapid.T, evs []wire.Event) obj {
	msg := obj{"role": "assistant", "content": "", "refusal": nil}
	var out obj
	var calls []any
	for i, ev := range evs {
		if string(ev.Data) == "[DONE]" {
			if i != len(evs)-1 {
				t.Fatal("[DONE] before the end")
			}
			continue
		}
		c := parse(t, ev.Data).(obj)
		if u := c["usage"]; u != nil {
			out["usage"] = u
			continue
		}
		choice := c["choices"].([]any)[0].(obj)
		if out == nil {
			out = obj{"id": c["id"], "object": "chat.completion", "created": c["created"], "model": c["model"]}
		}
		delta := choice["delta"].(obj)
		for _, k := range [...]string{"content", "reasoning_content"} {
			if s, ok := delta[k].(string); ok && s != "" {
				before, _ := msg[k].(string)
				msg[k] = before + s
			}
		}
		if b := delta["thinking_blocks"]; b != nil {
			msg["thinking_blocks"] = b
		}
		more, _ := delta["tool_calls"].([]any)
		for _, m := range more {
			m := m.(obj)
			f := m["function"].(obj)
			if i := int(m["index"].(float64)); i < len(calls) {
				have := calls[i].(obj)["function"].(obj)
				have["arguments"] = have["arguments"].(string) + f["arguments"].(string)
			} else {
				calls = append(calls, obj{"id": m["id"], "type": m["type"], "function": obj{"name": f["name"], "arguments": f["arguments"]}})
			}
		}
		if choice["finish_reason"] != nil {
			out["choices"] = []any{obj{"index": 0, "message": msg, "logprobs": nil, "finish_reason": choice["finish_reason"]}}
		}
	}
	if calls != nil {
		msg["tool_calls"] = calls
		if msg["content"] == "" {
			msg["content"] = nil
		}
	}
	return out
}
