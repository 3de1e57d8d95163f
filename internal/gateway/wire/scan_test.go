package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/problem"
)

// scanned scans a body that must be accepted.
func scanned(t testing.TB, ep Endpoint, body string) *Request {
	t.Helper()
	var r Request
	if err := Scan(ep, []byte(body), &r); err != nil {
		t.Fatalf("%s refused: %v\n%s", ep, err, body)
	}
	return &r
}

func TestScanReadsWhatTheGatewayNeeds(t *testing.T) {
	for _, c := range []struct {
		name string
		ep   Endpoint
		body string
		want func(r *Request) bool
	}{
		{"the model and where it stands", ChatCompletions, `{ "model" : "m-1" }`, func(r *Request) bool {
			return r.Model == "m-1" && r.ModelSpan == Span{12, 17} && r.Open == 1 && r.N == 1
		}},
		{"a model with escapes is unescaped", ChatCompletions, `{"model":"\u006d\/\"1\ud83d\ude00"}`, func(r *Request) bool { return r.Model == "m/\"1😀" }},
		{"a key with escapes is the key it spells", ChatCompletions, `{"m\u006fdel":"m","str\u0065am":true}`, func(r *Request) bool { return r.Model == "m" && r.Stream }},
		{"streaming with usage", ChatCompletions, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, func(r *Request) bool { return r.Stream && r.IncludeUsage && r.StreamOpts.Present() }},
		{"nulls are absent", ChatCompletions, `{"model":"m","stream":null,"stream_options":null,"n":null,"max_tokens":null,"store":null}`, func(r *Request) bool {
			return !r.Stream && !r.IncludeUsage && r.N == 1 && r.MaxTokensField == "" && r.Store.Present() && len(r.Risky) == 0
		}},
		{"n and its feature", ChatCompletions, `{"model":"m","n":3}`, func(r *Request) bool { return r.N == 3 && r.Features.Has(MultipleChoices) }},
		{"best_of counts where it is greater", ChatCompletions, `{"model":"m","n":2,"best_of":5}`, func(r *Request) bool { return r.N == 5 }},
		{"max_tokens", ChatCompletions, `{"model":"m","max_tokens":7}`, func(r *Request) bool { return r.MaxTokens == 7 && r.MaxTokensField == "max_tokens" }},
		{"the greater of two bounds", ChatCompletions, `{"model":"m","max_tokens":7,"max_completion_tokens":9}`, func(r *Request) bool {
			return r.MaxTokens == 9 && r.MaxTokensField == "max_completion_tokens"
		}},
		{"a bound of another endpoint is none", ChatCompletions, `{"model":"m","max_output_tokens":7}`, func(r *Request) bool { return r.MaxTokensField == "" }},
		{"max_output_tokens of the Responses API", Responses, `{"model":"m","max_output_tokens":7}`, func(r *Request) bool { return r.MaxTokens == 7 }},
		{"Anthropic's bound may be zero", Messages, `{"model":"m","max_tokens":0}`, func(r *Request) bool { return r.MaxTokens == 0 && r.MaxTokensField == "max_tokens" }},
		{"structured output", ChatCompletions, `{"model":"m","response_format":{"type":"json_schema","json_schema":{"schema":{"type":"object"}}}}`, func(r *Request) bool { return r.Features == StructuredOutput }},
		{"structured output of the Responses API", Responses, `{"model":"m","text":{"format":{"type":"json_schema"},"verbosity":"low"}}`, func(r *Request) bool { return r.Features == StructuredOutput }},
		{"structured output of Anthropic", Messages, `{"model":"m","output_config":{"format":{"type":"json_schema","schema":{}},"effort":"low"}}`, func(r *Request) bool { return r.Features == StructuredOutput|Reasoning }},
		{"plain text is not structured", ChatCompletions, `{"model":"m","response_format":{"type":"text"}}`, func(r *Request) bool { return r.Features == 0 }},
		{"reasoning effort", ChatCompletions, `{"model":"m","reasoning_effort":"low"}`, func(r *Request) bool { return r.Features == Reasoning }},
		{"no reasoning effort", ChatCompletions, `{"model":"m","reasoning_effort":"none"}`, func(r *Request) bool { return r.Features == 0 }},
		{"thinking disabled", Messages, `{"model":"m","thinking":{"type":"disabled"}}`, func(r *Request) bool { return r.Features == 0 }},
		{"thinking enabled", Messages, `{"model":"m","thinking":{"budget_tokens":1024,"type":"enabled"}}`, func(r *Request) bool { return r.Features == Reasoning }},
		{"thinking replayed", Messages, `{"model":"m","messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"x"}]}]}`, func(r *Request) bool { return r.Features == Reasoning }},
		{"log probabilities", ChatCompletions, `{"model":"m","logprobs":true,"top_logprobs":2}`, func(r *Request) bool { return r.Features == LogProbs }},
		{"audio out", ChatCompletions, `{"model":"m","modalities":["text","audio"],"audio":{"format":"wav","voice":"ash"}}`, func(r *Request) bool { return r.Features == Audio && len(r.Risky) == 0 }},
		{"a dearer tier", ChatCompletions, `{"model":"m","service_tier":"priority"}`, func(r *Request) bool { return r.Features == PaidTier }},
		{"a fast mode", Messages, `{"model":"m","speed":"fast"}`, func(r *Request) bool { return r.Features == PaidTier }},
		{"a seed", ChatCompletions, `{"model":"m","seed":1}`, func(r *Request) bool { return r.Features == Seed }},
		{"cache hints", Messages, `{"model":"m","system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}`, func(r *Request) bool { return r.Features == PromptCaching }},
		{"functions of old", ChatCompletions, `{"model":"m","functions":[{"name":"f"}]}`, func(r *Request) bool { return r.Features == Tools }},
		{"an inline image is counted, not read", ChatCompletions, `{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`, func(r *Request) bool {
			return r.Images == 1 && r.Features == Images && r.MediaBytes == 26 && len(r.Risky) == 0
		}},
		{"an inline image of Anthropic", Messages, `{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]}]}`, func(r *Request) bool {
			return r.Images == 1 && r.MediaBytes == 4 && len(r.Risky) == 0
		}},
		{"a text document of Anthropic is text", Messages, `{"model":"m","messages":[{"role":"user","content":[{"type":"document","source":{"data":"see https://a.example","type":"text","media_type":"text/plain"}}]}]}`, func(r *Request) bool {
			return r.MediaBytes == 0 && r.Parts == 1 && r.Features == Documents && len(r.Risky) == 0
		}},
		{"inline audio", ChatCompletions, `{"model":"m","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]}`, func(r *Request) bool {
			return r.MediaBytes == 4 && r.Features == Audio && r.Parts == 1 && len(r.Risky) == 0
		}},
		{"an inline file", ChatCompletions, `{"model":"m","messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA","filename":"a.pdf"}}]}]}`, func(r *Request) bool {
			return r.Features == Documents && r.MediaBytes > 0 && len(r.Risky) == 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := scanned(t, c.ep, c.body)
			if !c.want(r) {
				t.Fatalf("got %+v", r)
			}
			if r.InputBytes != int64(len(c.body))-r.MediaBytes {
				t.Fatalf("input bytes %d of %d", r.InputBytes, len(c.body))
			}
		})
	}
}

func deep(n int) string {
	return `{"model":"m","x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
}

func TestScanRefusesWhatParsersReadDifferently(t *testing.T) {
	for _, c := range []struct{ name, body, code, field string }{
		{"an empty body", ``, "json-truncated", ""},
		{"white space only", " \n", "json-truncated", ""},
		{"an array", `[{"model":"m"}]`, "json-not-object", ""},
		{"a string", `"model"`, "json-not-object", ""},
		{"a byte order mark", "\xef\xbb\xbf{\"model\":\"m\"}", "json-bom", ""},
		{"a second document", `{"model":"m"}{"model":"n"}`, "json-trailing", ""},
		{"a trailing NUL", "{\"model\":\"m\"}\x00", "json-trailing", ""},
		{"a comment", `{"model":"m"/* */}`, "json-syntax", ""},
		{"a line comment", "{//\n\"model\":\"m\"}", "json-syntax", ""},
		{"a trailing comma", `{"model":"m",}`, "json-syntax", ""},
		{"a trailing comma in a list", `{"model":"m","x":[1,]}`, "json-syntax", "x"},
		{"a missing comma", `{"model":"m" "x":1}`, "json-syntax", ""},
		{"a missing colon", `{"model" "m"}`, "json-syntax", ""},
		{"an unquoted key", `{model:"m"}`, "json-syntax", ""},
		{"single quotes", `{'model':'m'}`, "json-syntax", ""},
		{"a number as a key", `{1:"m"}`, "json-syntax", ""},
		{"NaN", `{"model":"m","temperature":NaN}`, "json-syntax", "temperature"},
		{"Infinity", `{"model":"m","temperature":-Infinity}`, "json-syntax", "temperature"},
		{"a capital True", `{"model":"m","stream":True}`, "field-type", "stream"},
		{"a capital True elsewhere", `{"model":"m","x":True}`, "json-syntax", "x"},
		{"a leading zero", `{"model":"m","x":01}`, "json-number", "x"},
		{"a leading zero after the sign", `{"model":"m","x":-00}`, "json-number", "x"},
		{"a leading plus", `{"model":"m","x":+1}`, "json-syntax", "x"},
		{"a bare point", `{"model":"m","x":1.}`, "json-syntax", "x"},
		{"a bare exponent", `{"model":"m","x":1e}`, "json-syntax", "x"},
		{"hexadecimal", `{"model":"m","x":0x10}`, "json-syntax", ""},
		{"a number beyond a float", `{"model":"m","x":1e999}`, "json-number-range", "x"},
		{"a long number beyond a float", `{"model":"m","x":1` + strings.Repeat("0", 400) + `}`, "json-number-range", "x"},
		{"a bare newline in a string", "{\"model\":\"m\",\"x\":\"a\nb\"}", "json-control-character", "x"},
		{"a bare NUL in a string", "{\"model\":\"m\",\"x\":\"a\x00b\"}", "json-control-character", "x"},
		{"an escaped NUL", `{"model":"m","x":"a\u0000b"}`, "json-nul", "x"},
		{"an escaped NUL in a key", `{"model":"m","stream\u0000":true}`, "json-nul", ""},
		{"an unknown escape", `{"model":"m","x":"\x41"}`, "json-escape", "x"},
		{"a short escape", `{"model":"m","x":"\u12"}`, "json-escape", "x"},
		{"a high surrogate alone", `{"model":"m","x":"\ud83d"}`, "json-surrogate", "x"},
		{"a low surrogate alone", `{"model":"m","x":"\ude00"}`, "json-surrogate", "x"},
		{"surrogates the wrong way round", `{"model":"m","x":"\ude00\ud83d"}`, "json-surrogate", "x"},
		{"a surrogate before another escape", `{"model":"m","x":"\ud83d\u0041"}`, "json-surrogate", "x"},
		{"a byte that is not UTF-8", "{\"model\":\"m\",\"x\":\"\xff\"}", "json-utf8", "x"},
		{"an overlong encoding", "{\"model\":\"m\",\"x\":\"\xc0\xaf\"}", "json-utf8", "x"},
		{"a surrogate in UTF-8", "{\"model\":\"m\",\"x\":\"\xed\xa0\x80\"}", "json-utf8", "x"},
		{"bad UTF-8 in a key", "{\"model\":\"m\",\"\xff\":1}", "json-utf8", ""},
		{"a no-break space between tokens", "{\u00a0\"model\":\"m\"}", "json-syntax", ""},
		{"a form feed between tokens", "{\f\"model\":\"m\"}", "json-syntax", ""},
		{"nesting beyond the bound", deep(129), "json-depth", "x"},

		{"no model", `{"messages":[]}`, "model-missing", "model"},
		{"an empty object", `{}`, "model-missing", "model"},
		{"a null model", `{"model":null}`, "field-type", "model"},
		{"a list of models", `{"model":["m"]}`, "field-type", "model"},
		{"an empty model", `{"model":""}`, "model-name", "model"},
		{"a model's name without end", `{"model":"` + strings.Repeat("m", 257) + `"}`, "model-name", "model"},
		{"stream as a string", `{"model":"m","stream":"true"}`, "field-type", "stream"},
		{"stream as a number", `{"model":"m","stream":1}`, "field-type", "stream"},
		{"store as a string", `{"model":"m","store":"false"}`, "field-type", "store"},
		{"stream_options as a list", `{"model":"m","stream_options":[]}`, "field-type", "stream_options"},
		{"include_usage as a number", `{"model":"m","stream_options":{"include_usage":1}}`, "field-type", "stream_options.include_usage"},
		{"n as a string", `{"model":"m","n":"1"}`, "field-type", "n"},
		{"n of zero", `{"model":"m","n":0}`, "field-range", "n"},
		{"n with a fraction", `{"model":"m","n":1.0}`, "field-range", "n"},
		{"n with an exponent", `{"model":"m","n":1e1}`, "field-range", "n"},
		{"n without bound", `{"model":"m","n":129}`, "field-range", "n"},
		{"a negative bound", `{"model":"m","max_tokens":-1}`, "field-range", "max_tokens"},
		{"a bound beyond an int32", `{"model":"m","max_tokens":2147483648}`, "field-range", "max_tokens"},
		{"a bound beyond an int64", `{"model":"m","max_completion_tokens":99999999999999999999}`, "field-range", "max_completion_tokens"},
		{"messages that are no list", `{"model":"m","messages":{"0":{}}}`, "field-type", "messages"},
		{"messages as a string", `{"model":"m","messages":"hi"}`, "field-type", "messages"},
		{"a message that is no object", `{"model":"m","messages":[{},"hi"]}`, "field-type", "messages[1]"},
		{"tools that are no list", `{"model":"m","tools":{"type":"mcp"}}`, "field-type", "tools"},
		{"a tool that is no object", `{"model":"m","tools":["web_search"]}`, "field-type", "tools[0]"},

		{"the model twice", `{"model":"m","model":"n"}`, "json-duplicate-key", "model"},
		{"the model twice, once in escapes", `{"model":"m","m\u006fdel":"n"}`, "json-duplicate-key", "model"},
		{"stream twice", `{"stream":true,"model":"m","stream":false}`, "json-duplicate-key", "stream"},
		{"store twice", `{"model":"m","store":false,"store":true}`, "json-duplicate-key", "store"},
		{"messages twice", `{"model":"m","messages":[],"messages":[]}`, "json-duplicate-key", "messages"},
		{"include_usage twice", `{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}`, "json-duplicate-key", "stream_options.include_usage"},
		{"content twice", `{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}`, "json-duplicate-key", "messages[0].content"},
		{"a part's type twice", `{"model":"m","messages":[{"content":[{"type":"text","type":"file"}]}]}`, "json-duplicate-key", "messages[0].content[0].type"},
		{"a URL twice", `{"model":"m","messages":[{"content":[{"image_url":{"url":"data:,","url":"http://x"}}]}]}`, "json-duplicate-key", "messages[0].content[0].image_url.url"},
		{"a tool's type twice", `{"model":"m","tools":[{"type":"function","type":"mcp"}]}`, "json-duplicate-key", "tools[0].type"},

		{"Model", `{"model":"m","Model":"n"}`, "json-ambiguous-key", "Model"},
		{"MODEL alone", `{"MODEL":"m"}`, "json-ambiguous-key", "MODEL"},
		{"STREAM", `{"model":"m","STREAM":true}`, "json-ambiguous-key", "STREAM"},
		{"store with a long s", `{"model":"m","ſtore":true}`, "json-ambiguous-key", "ſtore"},
		{"store with an escaped long s", `{"model":"m","\u017ftore":true}`, "json-ambiguous-key", "ſtore"},
		{"max_tokens with a Kelvin sign", `{"model":"m","max_to\u212aens":1}`, "json-ambiguous-key", "max_to\u212aens"},
		{"maxTokens", `{"model":"m","maxTokens":1}`, "json-ambiguous-key", "maxTokens"},
		{"previousResponseId", `{"model":"m","previousResponseId":"r"}`, "json-ambiguous-key", "previousResponseId"},
		{"web-search-options", `{"model":"m","web-search-options":{}}`, "json-ambiguous-key", "web-search-options"},
		{"include_Usage", `{"model":"m","stream_options":{"include_Usage":true}}`, "json-ambiguous-key", "stream_options.include_Usage"},
		{"Content in a message", `{"model":"m","messages":[{"role":"user","Content":"x"}]}`, "json-ambiguous-key", "messages[0].Content"},
		{"Image_URL in a part", `{"model":"m","messages":[{"content":[{"type":"text","Image_URL":"http://x"}]}]}`, "json-ambiguous-key", "messages[0].content[0].Image_URL"},
		{"Type in a tool", `{"model":"m","tools":[{"type":"function","Type":"mcp"}]}`, "json-ambiguous-key", "tools[0].Type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Request
			err := Scan(ChatCompletions, []byte(c.body), &r)
			var e *problem.Error
			if !errors.As(err, &e) {
				t.Fatalf("accepted: %+v", r)
			}
			if e.Kind != problem.Invalid || e.Code != c.code || e.Field != c.field && c.field != "" || e.Mend == "" || e.Detail == "" {
				t.Fatalf("kind %v code %q field %q mend %q: %v; want code %q field %q", e.Kind, e.Code, e.Field, e.Mend, e, c.code, c.field)
			}
		})
	}
}

// Strings are read eight bytes at a time: what must be seen is put at every
// offset of those eight, with and without enough text behind it.
func TestNothingHidesInALongString(t *testing.T) {
	for _, c := range []struct{ bad, code string }{
		{"\x00", "json-control-character"}, {"\x1f", "json-control-character"}, {"\n", "json-control-character"},
		{"\x80", "json-utf8"}, {"\xff", "json-utf8"}, {"\xed\xa0\x80", "json-utf8"}, {"é\xc3", "json-utf8"},
		{`\x`, "json-escape"}, {`\u0000`, "json-nul"}, {`\ud800`, "json-surrogate"}, {`"`, "json-syntax"},
		{"\x20", ""}, {"\x7f", ""}, {"!", ""}, {"#", ""}, {"[", ""}, {"]", ""}, {`\\`, ""}, {`\"`, ""}, {"é", ""}, {"😀", ""},
	} {
		for before := range 24 {
			for _, after := range []int{0, 3, 20} {
				body := `{"model":"m","x":"` + strings.Repeat("a", before) + c.bad + strings.Repeat("z", after) + `"}`
				var r Request
				err := Scan(ChatCompletions, []byte(body), &r)
				if code := codeOf(err); code != c.code && !(c.bad == `"` && code == "json-truncated") {
					t.Fatalf("%q after %d bytes, %d before the end: %q, want %q", c.bad, before, after, code, c.code)
				}
			}
		}
	}
}

func codeOf(err error) string {
	var e *problem.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestScanAcceptsWhatIsMerelyUnusual(t *testing.T) {
	for name, body := range map[string]string{
		"white space everywhere":          " \t\r\n{ \"model\" : \"m\" , \"x\" : [ ] , \"y\" : { } }\n",
		"unknown fields, also twice":      `{"model":"m","x":1,"x":{"Model":2}}`,
		"case that matters to nobody":     `{"model":"m","Temperature":1,"metadata":{"Model":"x","stream":"yes","model":1}}`,
		"duplicate keys in a schema":      `{"model":"m","tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{},"a":{},"Type":{}}}}}]}`,
		"arguments with keys of any kind": `{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"Type\":1}"}}]}]}`,
		"a tool's input with any key":     `{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{"Type":1,"type":"x","url":"https://a.example","URL":1}}]}]}`,
		"nesting at the bound":            deep(128),
		"every number":                    `{"model":"m","x":[0,-0,1.5,1e3,1E-3,-1.25e+2,123456789012345678901234567890]}`,
		"every escape":                    `{"model":"m","x":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`,
		"characters outside ASCII":        `{"model":"m","x":"é — 漢字 😀 ` + "\u007f\u2028\ufffd" + `"}`,
		"null messages":                   `{"model":"m","messages":null,"tools":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := scanned(t, ChatCompletions, body)
			if len(r.Risky) != 0 {
				t.Fatalf("risky: %v", r.Risky)
			}
		})
	}
}

var validBodies = map[Endpoint]string{
	ChatCompletions: `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"h\u00e9\ud83d\ude00é"},{"type":"image_url","image_url":{"url":"data:,"}}]}],"n":12,"tools":[{"type":"function","function":{"parameters":{"a":[true,null,-1.5e2]}}}],"stream":true,"stream_options":{"include_usage":true}}`,
	Responses:       `{"model":"m","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}],"store":false,"text":{"format":{"type":"text"}}}`,
	Embeddings:      `{"model":"m","input":["a","b"],"dimensions":12}`,
	Messages:        `{"model":"m","max_tokens":10,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":"hi"}]}`,
	CountTokens:     `{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[{"name":"f","input_schema":{"type":"object"}}]}`,
}

func TestEveryPrefixOfAValidBodyIsRefused(t *testing.T) {
	var r Request
	for ep, body := range validBodies {
		for n := range len(body) {
			if err := Scan(ep, []byte(body[:n]), &r); err == nil {
				t.Fatalf("%s accepted the first %d bytes: %s", ep, n, body[:n])
			}
		}
		scanned(t, ep, body)
	}
}

func TestAReusedRequestKeepsNothing(t *testing.T) {
	var r, fresh Request
	if err := Scan(Messages, []byte(`{"model":"old","max_tokens":5,"stream":true,"mcp_servers":[{}],"messages":[{"content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}]}`), &r); err != nil {
		t.Fatal(err)
	}
	body := []byte(validBodies[ChatCompletions])
	if Scan(ChatCompletions, body, &r) != nil || Scan(ChatCompletions, body, &fresh) != nil {
		t.Fatal("refused")
	}
	r.path, r.scratch, fresh.path, fresh.scratch = nil, nil, nil, nil
	if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", fresh) {
		t.Fatalf("reused %+v\nfresh %+v", r, fresh)
	}
}

// writeJSON writes v with random white space and escapes.
func writeJSON(t *rapid.T, b *strings.Builder, v any) {
	space := func() { b.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(t, "space")) }
	str := func(s string) {
		b.WriteByte('"')
		for _, r := range s {
			switch {
			case r < 0x10000 && rapid.IntRange(0, 7).Draw(t, "escape") == 0, r < 0x20, r == '"', r == '\\':
				fmt.Fprintf(b, `\u%04x`, r)
			default:
				b.WriteRune(r)
			}
		}
		b.WriteByte('"')
	}
	space()
	switch v := v.(type) {
	case map[string]any:
		b.WriteByte('{')
		first := true
		for _, k := range slices.Sorted(maps.Keys(v)) {
			e := v[k]
			if !first {
				b.WriteByte(',')
			}
			first = false
			space()
			str(k)
			space()
			b.WriteByte(':')
			writeJSON(t, b, e)
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(t, b, e)
		}
		b.WriteByte(']')
	case string:
		str(v)
	default:
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(out)
	}
	space()
}

func anyText(t *rapid.T) string {
	return strings.ReplaceAll(rapid.String().Draw(t, "text"), "\x00", "")
}

func anyValue(t *rapid.T, depth int) any {
	switch n := rapid.IntRange(0, 6).Draw(t, "kind"); {
	case n == 0:
		return nil
	case n == 1:
		return rapid.Bool().Draw(t, "bool")
	case n == 2:
		return rapid.Float64Range(-1e9, 1e9).Draw(t, "number")
	case n <= 4 || depth == 0:
		return anyText(t)
	case n == 5:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			list = append(list, anyValue(t, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		object[anyText(t)] = anyValue(t, depth-1)
	}
	return object
}

// anyRequest draws a chat request without duplicates or ambiguous keys.
func anyRequest(t *rapid.T) map[string]any {
	m := map[string]any{"model": rapid.StringMatching(`[a-zA-Z0-9:/._ é-]{1,40}`).Draw(t, "model")}
	maybe := func(key string, v func() any) {
		if rapid.Bool().Draw(t, "has "+key) {
			m[key] = v()
		}
	}
	maybe("stream", func() any { return rapid.SampledFrom([]any{true, false, nil}).Draw(t, "stream") })
	maybe("store", func() any { return rapid.SampledFrom([]any{true, false, nil}).Draw(t, "store") })
	maybe("n", func() any { return rapid.IntRange(1, 128).Draw(t, "n") })
	maybe("max_tokens", func() any { return rapid.SampledFrom([]any{nil, 1, 77, 2147483647}).Draw(t, "max_tokens") })
	maybe("stream_options", func() any {
		return rapid.SampledFrom([]any{nil, map[string]any{}, map[string]any{"include_usage": true}, map[string]any{"include_usage": false, "x": 1}, map[string]any{"x": []any{}}}).Draw(t, "options")
	})
	maybe("metadata", func() any { return anyValue(t, 3) })
	maybe("zzz unknown", func() any { return anyValue(t, 3) })
	maybe("messages", func() any {
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "messages") {
			list = append(list, map[string]any{"role": "user", "content": []any{map[string]any{"type": "text", "text": anyText(t)}}})
		}
		return list
	})
	return m
}

func TestScanAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		writeJSON(t, &b, anyRequest(t))
		body := []byte(b.String())
		var r Request
		if err := Scan(ChatCompletions, body, &r); err != nil {
			t.Fatalf("refused: %v\n%s", err, body)
		}
		if err := agrees(ChatCompletions, body, &r); err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
	})
}

// asGo is the request as a Go upstream decodes it: keys regardless of case.
type asGo struct {
	Model               string `json:"model"`
	Stream              *bool  `json:"stream"`
	Store               *bool  `json:"store"`
	N                   *int64 `json:"n"`
	MaxTokens           *int64 `json:"max_tokens"`
	MaxCompletionTokens *int64 `json:"max_completion_tokens"`
	MaxOutputTokens     *int64 `json:"max_output_tokens"`
	StreamOptions       *struct {
		IncludeUsage *bool `json:"include_usage"`
	} `json:"stream_options"`
	WebSearchOptions   json.RawMessage `json:"web_search_options"`
	PreviousResponseID *string         `json:"previous_response_id"`
	Messages           []struct {
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Type *string `json:"type"`
	} `json:"tools"`
}

func is(p *bool) bool { return p != nil && *p }

func num(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// agrees compares an accepted request with encoding/json, whose decoder
// matches keys case-insensitively.
func agrees(ep Endpoint, body []byte, r *Request) error {
	var exact map[string]json.RawMessage
	if err := json.Unmarshal(body, &exact); err != nil {
		return fmt.Errorf("encoding/json refuses it: %w", err)
	}
	var everything any
	if err := json.Unmarshal(body, &everything); err != nil {
		return fmt.Errorf("encoding/json refuses it: %w", err)
	}
	var model string
	if json.Unmarshal(exact["model"], &model) != nil || model != r.Model || string(body[r.ModelSpan.Start:r.ModelSpan.End]) != string(exact["model"]) {
		return fmt.Errorf("model %q, encoding/json %s", r.Model, exact["model"])
	}
	var g asGo
	if err := json.Unmarshal(body, &g); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && !strings.ContainsAny(wrong.Field, ".") && wrong.Field != "messages" && wrong.Field != "previous_response_id" {
			switch wrong.Field {
			case "n", "max_tokens", "max_completion_tokens", "max_output_tokens":
				if ep != ChatCompletions {
					return nil
				}
			}
			return fmt.Errorf("a Go server refuses %s: %w", wrong.Field, err)
		}
		return nil
	}
	switch {
	case g.Model != r.Model:
		return fmt.Errorf("model %q, a Go server reads %q", r.Model, g.Model)
	case is(g.Stream) != r.Stream:
		return fmt.Errorf("stream %v, a Go server reads %v", r.Stream, is(g.Stream))
	case (g.StreamOptions != nil && is(g.StreamOptions.IncludeUsage)) != r.IncludeUsage:
		return fmt.Errorf("include_usage %v", r.IncludeUsage)
	case is(g.Store) != hasRisk(r, "store"):
		return fmt.Errorf("store %v, risks %v", is(g.Store), r.Risky)
	case ep == ChatCompletions && max(num(g.N), 1) > r.N:
		return fmt.Errorf("n %d, a Go server reads %d", r.N, num(g.N))
	case ep == ChatCompletions && max(num(g.MaxTokens), num(g.MaxCompletionTokens)) != r.MaxTokens:
		return fmt.Errorf("max_tokens %d", r.MaxTokens)
	case ep == Responses && num(g.MaxOutputTokens) != r.MaxTokens:
		return fmt.Errorf("max_output_tokens %d", r.MaxTokens)
	case g.PreviousResponseID != nil && !hasRisk(r, "previous_response_id"):
		return errors.New("previous_response_id is missed")
	case len(g.WebSearchOptions) > 0 && g.WebSearchOptions[0] == '{' && !hasRisk(r, "web_search_options"):
		return errors.New("web_search_options is missed")
	}
	return risksAgree(ep, &g, r)
}

func hasRisk(r *Request, prefix string) bool {
	for _, x := range r.Risky {
		if strings.HasPrefix(x.Name, prefix) {
			return true
		}
	}
	return false
}

// risksAgree looks for URLs and hosted tools as a Go server would find them.
func risksAgree(ep Endpoint, g *asGo, r *Request) error {
	for _, tool := range g.Tools {
		if tool.Type != nil && *tool.Type != "function" && *tool.Type != "custom" && ep.Dialect() == OpenAI && !hasRisk(r, "tools.") {
			return fmt.Errorf("a tool of type %q is missed", *tool.Type)
		}
	}
	for _, m := range g.Messages {
		var parts []struct {
			ImageURL json.RawMessage `json:"image_url"`
		}
		if json.Unmarshal(m.Content, &parts) != nil {
			continue
		}
		for _, p := range parts {
			var inner struct {
				URL string `json:"url"`
			}
			if json.Unmarshal(p.ImageURL, &inner.URL) != nil && json.Unmarshal(p.ImageURL, &inner) != nil {
				continue
			}
			if strings.HasPrefix(inner.URL, "http") && len(r.Risky) == 0 {
				return fmt.Errorf("the URL %q is missed", inner.URL)
			}
		}
	}
	return nil
}
