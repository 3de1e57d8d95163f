package simulator

import (
	"encoding/json"
	"strings"
	"testing"
)

var fuzzPaths = []string{"/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/models/x"}

// FuzzRequest throws bodies at every endpoint: each gets an answer that a
// client can read, whatever the request was.
func FuzzRequest(f *testing.F) {
	for i, seed := range []string{
		`{"model":"simulator-chat","messages":[{"role":"user","content":"call f"}],"stream":true,"stream_options":{"include_usage":true},"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","required":["a"]}}}]}`,
		`{"model":"simulator-embed","input":["a",[1,2]],"dimensions":3,"encoding_format":"base64"}`,
		`{"model":"simulator-chat","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}],"reasoning":{"effort":"high","summary":"auto"},"stream":true}`,
		`{"model":"simulator-chat","max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1024},"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"image"},{"type":"text","text":"hi"}]}],"stream":true}`,
		`{"model":"simulator-chat","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"schema":{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#"}]}}}}}}`,
		`{"model":"simulator-chat","messages":[{"role":"user","content":"x"}],"n":2,"stop":["a"],"logprobs":true,"top_logprobs":3,"max_tokens":2}`,
		`{"model":1e999,"messages":null,"stream":"x"}`,
		`[`,
	} {
		f.Add(byte(i), byte(i), seed)
	}
	f.Fuzz(func(t *testing.T, format, path byte, body string) {
		if len(body) > 1<<14 {
			return
		}
		s := New(Options{Format: allFormats[int(format)%len(allFormats)], Now: fixedNow, Forget: true})
		w := ask(s, "POST", fuzzPaths[int(path)%len(fuzzPaths)], body)
		got := w.Body.String()
		switch {
		case w.Code < 200 || w.Code >= 500:
			t.Fatalf("status %d: %s", w.Code, got)
		case strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream"):
			_, datas := eventsOf(got)
			for _, d := range datas {
				if d != "[DONE]" && !json.Valid([]byte(d)) {
					t.Fatalf("event %q", d)
				}
			}
		case w.Header().Get("Content-Type") == "application/json":
			if !json.Valid(w.Body.Bytes()) {
				t.Fatalf("body %q", got)
			}
		}
	})
}
