package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/problem"
)

// FuzzScan: what Scan accepts, encoding/json accepts and reads alike, also
// when it matches keys regardless of case; and an edited body is accepted
// again and shows the edit.
func FuzzScan(f *testing.F) {
	for ep, body := range validBodies {
		f.Add(byte(ep), []byte(body))
	}
	for ep, list := range fields {
		for _, x := range list {
			f.Add(byte(ep), []byte(`{"`+x.field+`":`+x.value+`,"model":"m"}`))
		}
	}
	f.Add(byte(ChatCompletions), smallRequest())
	f.Add(byte(ChatCompletions), []byte(`{"model":"m","messages":[{"content":[{"im\u0061ge_url":{"url":"http://x"}}]}],"st\u006fre":true}`))
	f.Add(byte(ChatCompletions), []byte(`{"model":"m","ſtore":true,"max_toKens":1,"Model":"n"}`))
	f.Add(byte(ChatCompletions), []byte(`{"model":"m","messages":[{"`+strings.Repeat("k", 127)+`\n":{"file_id":1}}]}`))
	f.Fuzz(func(t *testing.T, n byte, body []byte) {
		ep := Endpoint((n+4)%5) + 1
		var r Request
		if err := Scan(ep, body, &r); err != nil {
			var e *problem.Error
			if !errors.As(err, &e) || e.Kind != problem.Invalid || e.Code == "" || !utf8.ValidString(e.Detail) {
				t.Fatalf("not a problem: %#v", err)
			}
			return
		}
		if err := agrees(ep, body, &r); err != nil {
			t.Fatalf("%s: %v\n%q", ep, err, body)
		}
		if r.InputBytes < 0 || r.MediaBytes < 0 || r.InputBytes+r.MediaBytes != int64(len(body)) {
			t.Fatalf("%d + %d bytes of %d", r.InputBytes, r.MediaBytes, len(body))
		}
		out := r.AppendEdited(nil, body, Edit{Model: "edited", InjectUsage: true, ForceNoStore: true, MaxTokens: 3})
		var again Request
		if err := Scan(ep, out, &again); err != nil {
			if strings.Contains(err.Error(), "nested") {
				return
			}
			t.Fatalf("refused after editing: %v\n%q", err, out)
		}
		bounded := len(boundsOf(ep)) == 0 || again.MaxTokensField != ""
		if again.Model != "edited" || again.Stream != r.Stream || hasRisk(&again, "store") && ep != Messages && ep != Embeddings && ep != CountTokens ||
			ep == ChatCompletions && r.Stream && !again.IncludeUsage || !bounded {
			t.Fatalf("the edit does not show: %+v\n%q", again, out)
		}
	})
}

// naiveEvents reads a whole stream the way the standard puts it.
func naiveEvents(stream string) (list []string) {
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	var name string
	var data []string
	any := false
	for {
		l, rest, whole := strings.Cut(stream, "\n")
		if !whole {
			return list
		}
		stream = rest
		if l == "" {
			switch {
			case data != nil:
				list = append(list, fmt.Sprintf("%s %q", name, strings.Join(data, "\n")))
			case any:
				list = append(list, name+" -")
			}
			name, data, any = "", nil, false
			continue
		}
		any = true
		field, value, _ := strings.Cut(l, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			data = append(data, value)
		}
	}
}

// FuzzNextEvent: any stream yields the events of the standard, however it is
// cut.
func FuzzNextEvent(f *testing.F) {
	for i, s := range streams {
		f.Add(s.stream, i)
	}
	f.Add(chatStream, 40)
	f.Add(messageStream, 99)
	f.Fuzz(func(t *testing.T, stream string, cut int) {
		want := naiveEvents(stream)
		got, _ := events(stream)
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("%q\ngot  %q\nwant %q", stream, got, want)
		}
		if cut < 0 || cut > len(stream) {
			cut = len(stream) / 2
		}
		if got, _ = events(stream[:cut], stream[cut:]); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Fatalf("%q cut at %d\ngot  %q\nwant %q", stream, cut, got, want)
		}
	})
}

// tooDeep reports nesting beyond what the scanner takes.
func tooDeep(body []byte) bool {
	return strings.Count(string(body), "[")+strings.Count(string(body), "{") > maxDepth
}

// checkAnswer holds for answers of every kind: what encoding/json decodes is
// accepted, what is accepted is JSON, and the figures are consistent.
func checkAnswer(t *testing.T, body []byte, c *Chunk, err error) {
	t.Helper()
	var any map[string]any
	decoded := json.Unmarshal(body, &any)
	switch {
	case err != nil:
		var e *problem.Error
		if !errors.As(err, &e) || e.Kind != problem.Upstream {
			t.Fatalf("not a problem: %#v", err)
		}
		if decoded == nil && any != nil && !tooDeep(body) {
			t.Fatalf("refused, but encoding/json reads it: %v\n%q", e.Err, body)
		}
		return
	case !json.Valid(body):
		t.Fatalf("accepted, but not JSON: %q", body)
	}
	u := c.Usage
	if u.Input < 0 || u.Output < 0 || u.CachedInput < 0 || u.CacheWrite < 0 || u.Reasoning < 0 ||
		u.CachedInput+u.CacheWrite > u.Input || u.Reasoning > u.Output || u.Input > maxTokenCount || u.Output > maxTokenCount {
		t.Fatalf("inconsistent: %+v", u)
	}
	if c.Error != nil && !json.Valid(c.Error) {
		t.Fatalf("the error is not JSON: %q", c.Error)
	}
}

// checkUsage compares the figures where a plain decoding is unambiguous.
func checkUsage(t *testing.T, body []byte, c *Chunk) {
	s := strings.ToLower(string(body))
	if strings.ContainsAny(s, "\\ſK") || strings.Contains(s, "total_tokens") {
		return
	}
	for _, k := range []string{"usage", "prompt_tokens\"", "completion_tokens\"", "input_tokens\"", "output_tokens\""} {
		if strings.Count(s, k) > 1 {
			return
		}
	}
	var g struct {
		Usage *struct {
			Input  *uint32 `json:"prompt_tokens"`
			Output *uint32 `json:"completion_tokens"`
		} `json:"usage"`
	}
	if json.Unmarshal(body, &g) != nil || g.Usage == nil || g.Usage.Input == nil || g.Usage.Output == nil ||
		!strings.Contains(string(body), `"usage"`) || !strings.Contains(string(body), `"prompt_tokens"`) || !strings.Contains(string(body), `"completion_tokens"`) ||
		strings.Contains(s, "_tokens_details") || strings.Contains(s, "put_tokens") {
		return
	}
	if c.Usage.Input != int64(*g.Usage.Input) || c.Usage.Output != int64(*g.Usage.Output) {
		t.Fatalf("usage %+v, want %d and %d\n%q", c.Usage, *g.Usage.Input, *g.Usage.Output, body)
	}
}

func FuzzScanChunk(f *testing.F) {
	for ep, stream := range map[Endpoint]string{ChatCompletions: chatStream, Messages: messageStream, Responses: responsesStream} {
		for buf := []byte(stream); ; {
			ev, n := NextEvent(buf)
			if n == 0 {
				break
			}
			f.Add(byte(ep), string(ev.Name), ev.Data)
			buf = buf[n:]
		}
	}
	f.Add(byte(ChatCompletions), "", []byte(typicalDelta))
	f.Add(byte(ChatCompletions), "error", []byte(`{"error":"x"}`))
	f.Fuzz(func(t *testing.T, n byte, name string, data []byte) {
		ep := Endpoint((n+4)%5) + 1
		var c Chunk
		err := ScanChunk(ep, Event{Name: []byte(name), Data: data}, &c)
		ends := ep.Dialect() == OpenAI && strings.HasPrefix(string(data), "[DONE]")
		if len(data) == 0 || ends || ep.Dialect() == Anthropic && name == "ping" {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		checkAnswer(t, data, &c, err)
		if err == nil && ep == ChatCompletions {
			checkUsage(t, data, &c)
		}
		// A second event never takes back what the first brought.
		before := c
		_ = ScanChunk(ep, Event{Data: data}, &c)
		if before.Content && !c.Content || before.Done && !c.Done || c.Usage.Input < before.Usage.Input {
			t.Fatalf("taken back: %+v then %+v", before, c)
		}
	})
}

func FuzzScanResponse(f *testing.F) {
	f.Add(byte(ChatCompletions), []byte(`{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":3}}`))
	f.Add(byte(Messages), []byte(`{"type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"tool_use","usage":{"input_tokens":1,"cache_read_input_tokens":2,"output_tokens":4}}`))
	f.Add(byte(Responses), []byte(`{"status":"incomplete","incomplete_details":{"reason":"x"},"output":[1],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":9}}`))
	f.Add(byte(CountTokens), []byte(`{"input_tokens":42}`))
	f.Add(byte(Embeddings), []byte(`{"error":{"message":"\ud83d"}}`))
	f.Fuzz(func(t *testing.T, n byte, body []byte) {
		ep := Endpoint((n+4)%5) + 1
		var c Chunk
		err := ScanResponse(ep, body, &c)
		checkAnswer(t, body, &c, err)
		if err == nil && ep == ChatCompletions {
			checkUsage(t, body, &c)
		}
	})
}

// FuzzRedact: the result is short, clean, and holds no ten bytes in a row of a
// secret.
func FuzzRedact(f *testing.F) {
	f.Add("Incorrect API key provided: "+fake("sk-", "abcdefghijklmnop"), "another-secret-value")
	f.Add("Authorization: Bearer My+Known/Secret=Value&42", "My+Known/Secret=Value&42")
	f.Add("https://user:pa55word-long@host?api_key=x password=\"y\" ***", "pa55word-long")
	f.Add("cookie: a; -----BEGIN PRIVATE KEY----- eyJhbGciOi.xx "+strings.Repeat("0a", 30), "0a0a0a0a0a0a")
	f.Fuzz(func(t *testing.T, text, secret string) {
		got := Redact(text, secret)
		if len(got) > redactOutput+len("…") || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\r\n\x1b\u202e") {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
		secret = plain(secret)
		if len(secret) < fragment || strings.ContainsAny(secret, "[]…\ufffd") {
			return
		}
		for i := 0; i+fragment <= len(secret); i++ {
			if strings.Contains(got, secret[i:i+fragment]) {
				t.Fatalf("%q shows %q of %q", got, secret[i:i+fragment], secret)
			}
		}
	})
}
