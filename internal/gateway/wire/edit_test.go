package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAppendEditedSplicesAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		name string
		ep   Endpoint
		edit Edit
		in   string
		out  string
	}{
		{"no edit", ChatCompletions, Edit{}, ` { "model" : "m" } `, ` { "model" : "m" } `},
		{"the model", ChatCompletions, Edit{Model: "up\"stream\n"}, ` {"a":1, "model" : "m" ,"b":2}`, ` {"a":1, "model" : "up\"stream\n" ,"b":2}`},
		{"store added", ChatCompletions, Edit{ForceNoStore: true}, `{ "model":"m"}`, `{"store":false, "model":"m"}`},
		{"store replaced", Responses, Edit{ForceNoStore: true}, `{"store": true,"model":"m"}`, `{"store": false,"model":"m"}`},
		{"a null store replaced", Responses, Edit{ForceNoStore: true}, `{"model":"m","st\u006fre":null}`, `{"model":"m","st\u006fre":false}`},
		{"no store where there is none", Messages, Edit{ForceNoStore: true}, `{"model":"m"}`, `{"model":"m"}`},
		{"usage added", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":true}`, `{"stream_options":{"include_usage":true},"model":"m","stream":true}`},
		{"usage for a null", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":true,"stream_options":null}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`},
		{"usage in empty options", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":true,"stream_options":{ }}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true }}`},
		{"usage beside an option", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":true,"stream_options":{"x":1}}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1}}`},
		{"usage instead of false", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":true,"stream_options":{"include_usage":false}}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`},
		{"usage instead of null", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":true,"stream_options":{"include_usage":null}}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`},
		{"usage that is asked for", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`},
		{"no usage without a stream", ChatCompletions, Edit{InjectUsage: true}, `{"model":"m","stream":false}`, `{"model":"m","stream":false}`},
		{"no usage option in the Responses API", Responses, Edit{InjectUsage: true}, `{"model":"m","stream":true}`, `{"model":"m","stream":true}`},
		{"a bound", ChatCompletions, Edit{MaxTokens: 1024}, `{"model":"m"}`, `{"max_tokens":1024,"model":"m"}`},
		{"a bound by its newer name", ChatCompletions, Edit{MaxTokens: 1024, MaxTokensField: "max_completion_tokens"}, `{"model":"m"}`, `{"max_completion_tokens":1024,"model":"m"}`},
		{"a bound beside another name's", ChatCompletions, Edit{MaxTokens: 9, MaxTokensField: "max_tokens"}, `{"model":"m","max_completion_tokens":9}`, `{"max_tokens":9,"model":"m","max_completion_tokens":9}`},
		{"a bound for a null", ChatCompletions, Edit{MaxTokens: 9}, `{"model":"m","max_tokens":null}`, `{"model":"m","max_tokens":9}`},
		{"no bound where there is one", ChatCompletions, Edit{MaxTokens: 9}, `{"model":"m","max_completion_tokens":5}`, `{"model":"m","max_completion_tokens":5}`},
		{"no bound in place of zero", Messages, Edit{MaxTokens: 9}, `{"model":"m","max_tokens":0}`, `{"model":"m","max_tokens":0}`},
		{"the Responses API's bound", Responses, Edit{MaxTokens: 9}, `{"model":"m"}`, `{"max_output_tokens":9,"model":"m"}`},
		{"no bound for embeddings", Embeddings, Edit{MaxTokens: 9}, `{"model":"m"}`, `{"model":"m"}`},
		{"no bound by a foreign name", Messages, Edit{MaxTokens: 9, MaxTokensField: "max_output_tokens"}, `{"model":"m"}`, `{"model":"m"}`},
		{"options dropped from the front", ChatCompletions, Edit{DropStreamOptions: true, InjectUsage: true}, `{ "stream_options" : {"include_usage":true} , "model":"m","stream":true}`, `{  "model":"m","stream":true}`},
		{"options dropped from the middle", ChatCompletions, Edit{DropStreamOptions: true}, `{"model":"m","str\u0065am_options":{"x":"\",:"},"stream":true}`, `{"model":"m","stream":true}`},
		{"options dropped from the end", ChatCompletions, Edit{DropStreamOptions: true}, `{"model":"m" , "stream_options":null }`, `{"model":"m"  }`},
		{"no options to drop", ChatCompletions, Edit{DropStreamOptions: true, InjectUsage: true}, `{"model":"m","stream":true}`, `{"model":"m","stream":true}`},
		{"no options of another endpoint dropped", Responses, Edit{DropStreamOptions: true}, `{"model":"m","stream_options":{"include_obfuscation":false}}`, `{"model":"m","stream_options":{"include_obfuscation":false}}`},
		{"everything at once", ChatCompletions, Edit{Model: "u", InjectUsage: true, ForceNoStore: true, MaxTokens: 5},
			`{"stream_options":{"x":1},"store":null,"stream":true,"model":"m","max_tokens":null,"z":[1, 2]}`,
			`{"stream_options":{"include_usage":true,"x":1},"store":false,"stream":true,"model":"u","max_tokens":5,"z":[1, 2]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := scanned(t, c.ep, c.in)
			got := string(r.AppendEdited([]byte("before "), []byte(c.in), c.edit))
			if got != "before "+c.out {
				t.Fatalf("got  %s\nwant %s", got, c.out)
			}
			scanned(t, c.ep, got[len("before "):])
		})
	}
}

// keysInOrder lists the top-level keys as they come.
func keysInOrder(t *rapid.T, body []byte) []string {
	var keys []string
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.(string))
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func TestAnEditShowsWhenDecodedAndNothingElseDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		request := anyRequest(t)
		var b strings.Builder
		writeJSON(t, &b, request)
		body := []byte(b.String())
		var r Request
		if err := Scan(ChatCompletions, body, &r); err != nil {
			t.Fatalf("refused: %v\n%s", err, body)
		}
		e := Edit{
			Model:        rapid.SampledFrom([]string{"", "up", "a\"b\\é\x01"}).Draw(t, "new model"),
			InjectUsage:  rapid.Bool().Draw(t, "inject"),
			ForceNoStore: rapid.Bool().Draw(t, "no store"),
			MaxTokens:    rapid.SampledFrom([]int64{0, 5}).Draw(t, "bound"),
		}
		out := r.AppendEdited(nil, body, e)

		var before, want, got map[string]any
		decode := func(doc []byte, to *map[string]any) {
			if err := json.Unmarshal(doc, to); err != nil {
				t.Fatalf("%v\n%s", err, doc)
			}
		}
		decode(body, &before)
		decode(body, &want)
		decode(out, &got)
		if e.Model != "" {
			want["model"] = e.Model
		}
		if e.ForceNoStore {
			want["store"] = false
		}
		if e.MaxTokens > 0 && want["max_tokens"] == nil {
			want["max_tokens"] = float64(5)
		}
		if e.InjectUsage && want["stream"] == true {
			options, _ := want["stream_options"].(map[string]any)
			if options == nil {
				options = map[string]any{}
			}
			options["include_usage"] = true
			want["stream_options"] = options
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %s\nwant %v", out, want)
		}
		added := slices.DeleteFunc(keysInOrder(t, out), func(k string) bool { _, was := before[k]; return !was })
		if !slices.Equal(added, keysInOrder(t, body)) {
			t.Fatalf("the order changed: %s", out)
		}
		if e == (Edit{}) && !bytes.Equal(out, body) {
			t.Fatalf("no edit changed %s to %s", body, out)
		}
	})
}

func TestEditingDoesNotAllocate(t *testing.T) {
	body := smallRequest()
	var r Request
	if err := Scan(ChatCompletions, body, &r); err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 2*len(body))
	if n := testing.AllocsPerRun(100, func() {
		dst = r.AppendEdited(dst[:0], body, Edit{Model: "u", InjectUsage: true, ForceNoStore: true, MaxTokens: 5})
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _ = Scan(ChatCompletions, body, &r) }); n > 1 {
		t.Fatalf("scanning makes %v allocations", n)
	}
}
