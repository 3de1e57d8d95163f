package wire

import (
	"encoding/json"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

func TestErrorBody(t *testing.T) {
	field := problem.New(problem.Invalid, "json-syntax", "No \"good\".").WithField("messages[0]").WithMend("Mend it.")
	for _, c := range []struct {
		name string
		d    Dialect
		e    *problem.Error
		id   string
		want string
	}{
		{"OpenAI with a field", OpenAI, field, "req_1", `{"error":{"message":"No \"good\". Mend it.","type":"invalid_request_error","param":"messages[0]","code":"json-syntax"}}`},
		{"OpenAI without", OpenAI, problem.New(problem.Upstream, "", "Bad\nnews\x01."), "", `{"error":{"message":"Bad\nnews\u0001.","type":"server_error","param":null,"code":null}}`},
		{"OpenAI, bad key", OpenAI, problem.New(problem.Unauthenticated, "key-unknown", "No."), "", `{"error":{"message":"No.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`},
		{"OpenAI, model", OpenAI, problem.New(problem.NotFound, "model-unknown", "No.").WithField("model"), "", `{"error":{"message":"No.","type":"invalid_request_error","param":"model","code":"model_not_found"}}`},
		{"OpenAI, rate", OpenAI, problem.New(problem.RateLimited, "rpm", "Slow."), "", `{"error":{"message":"Slow.","type":"requests","param":null,"code":"rate_limit_exceeded"}}`},
		{"OpenAI, budget", OpenAI, problem.New(problem.Exhausted, "budget", "Spent."), "", `{"error":{"message":"Spent.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`},
		{"OpenAI, policy", OpenAI, problem.New(problem.Denied, "sovereignty", "Not there."), "", `{"error":{"message":"Not there.","type":"invalid_request_error","param":null,"code":"sovereignty"}}`},
		{"Anthropic with a field", Anthropic, field, "req_1", `{"type":"error","error":{"type":"invalid_request_error","message":"messages[0]: No \"good\". Mend it."},"request_id":"req_1"}`},
		{"Anthropic without an id", Anthropic, problem.New(problem.Overloaded, "x", "é."), "", `{"type":"error","error":{"type":"overloaded_error","message":"é."},"request_id":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(ErrorBody(c.d, c.e, c.id)); got != c.want {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// The types Anthropic documents, by the status they come with.
func TestAnthropicTypesFitTheirStatus(t *testing.T) {
	want := map[int][]string{400: {"invalid_request_error"}, 401: {"authentication_error"}, 403: {"permission_error"},
		404: {"not_found_error"}, 409: {"conflict_error"}, 413: {"request_too_large"}, 429: {"rate_limit_error"},
		499: {"invalid_request_error"}, 500: {"api_error"}, 502: {"api_error"}, 503: {"api_error", "overloaded_error"}, 504: {"timeout_error"}}
	for k := problem.Internal; k <= problem.Canceled; k++ {
		ok := false
		for _, w := range want[k.Status()] {
			ok = ok || w == anthropicType(k)
		}
		if !ok {
			t.Errorf("%s (%d) is %s", k, k.Status(), anthropicType(k))
		}
	}
}

func TestErrorEventIsOneEvent(t *testing.T) {
	e := problem.New(problem.Upstream, "cut", "The provider broke off.\n\ndata: x").WithMend("Try again.")
	for d, name := range map[Dialect]string{OpenAI: "", Anthropic: "error"} {
		out := ErrorEvent([]byte("data: 1\n\n"), d, e, "req_1")
		_, n := NextEvent(out)
		ev, m := NextEvent(out[n:])
		if n+m != len(out) || string(ev.Name) != name {
			t.Fatalf("%s: %q", d, out)
		}
		if string(ev.Data) != string(ErrorBody(d, e, "req_1")) || !json.Valid(ev.Data) {
			t.Fatalf("%s: %s", d, ev.Data)
		}
		var c Chunk
		ep := map[Dialect]Endpoint{OpenAI: ChatCompletions, Anthropic: Messages}[d]
		if err := ScanChunk(ep, ev, &c); err != nil || c.Error == nil {
			t.Fatalf("%s: not read back as an error: %v", d, err)
		}
	}
}
