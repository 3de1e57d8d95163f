package translate

import (
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

func TestErrorsOfOpenAIForAnthropicClients(t *testing.T) {
	body := func(kind, message string) string {
		return `{"type":"error","error":{"type":"` + kind + `","message":"` + message + `"},"request_id":null}`
	}
	for _, c := range []struct {
		name   string
		status int
		in     string
		want   int
		out    string
	}{
		{"a bad request", 400, `{"error":{"message":"No <x>","type":"invalid_request_error","param":"x","code":null}}`, 400, body("invalid_request_error", "No <x>")},
		{"a bad key", 401, `{"error":{"message":"Key","type":"invalid_request_error","code":"invalid_api_key"}}`, 401, body("authentication_error", "Key")},
		{"a forbidden country", 403, `{"error":{"message":"No","type":"request_forbidden"}}`, 403, body("permission_error", "No")},
		{"an unknown model", 404, `{"error":{"message":"No","code":"model_not_found"}}`, 404, body("not_found_error", "No")},
		{"too large", 413, `{"error":{"message":"No"}}`, 413, body("request_too_large", "No")},
		{"too fast", 429, `{"error":{"message":"Slow","type":"tokens","code":"rate_limit_exceeded"}}`, 429, body("rate_limit_error", "Slow")},
		{"an unpaid bill", 429, `{"error":{"message":"Pay","type":"insufficient_quota","code":"insufficient_quota"}}`, 402, body("billing_error", "Pay")},
		{"a defect", 500, `{"error":{"message":"Oh","type":"server_error"}}`, 500, body("api_error", "Oh")},
		{"an overload", 503, `{"error":{"message":"Busy"}}`, 529, body("overloaded_error", "Busy")},
		{"a timeout", 504, `{"error":{"message":"Late"}}`, 504, body("timeout_error", "Late")},
		{"a status of its own", 418, `{"error":{"message":"Tea"}}`, 418, body("invalid_request_error", "Tea")},
		{"an error as text, from Ollama", 404, `{"error":"model not found"}`, 404, body("not_found_error", "model not found")},
		{"an error at the top, from vLLM and Mistral", 400, `{"object":"error","message":"No","type":"BadRequestError","code":400}`, 400, body("invalid_request_error", "No")},
		{"a detail, from FastAPI", 422, `{"detail":[{"loc":["body"]}]}`, 422, body("invalid_request_error", `[{\"loc\":[\"body\"]}]`)},
		{"a proxy's page", 502, `<html>Bad Gateway</html>`, 502, body("api_error", "The provider answered with status 502 and no explanation.")},
		{"an error that says it is none", 200, `{}`, 502, body("api_error", "The provider answered with status 502 and no explanation.")},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out := Error(wire.OpenAI, wire.Anthropic, c.status, []byte(c.in))
			if status != c.want || string(out) != c.out {
				t.Errorf("got %d %s\nwant %d %s", status, out, c.want, c.out)
			}
		})
	}
}

func TestErrorsOfAnthropicForOpenAIClients(t *testing.T) {
	body := func(kind, code string) string {
		if code == "" {
			code = "null"
		} else {
			code = `"` + code + `"`
		}
		return `{"error":{"message":"M","type":"` + kind + `","param":null,"code":` + code + `}}`
	}
	for _, c := range []struct {
		kind   string
		status int
		want   int
		out    string
	}{
		{"invalid_request_error", 400, 400, body("invalid_request_error", "")},
		{"authentication_error", 401, 401, body("invalid_request_error", "invalid_api_key")},
		{"billing_error", 402, 429, body("insufficient_quota", "insufficient_quota")},
		{"permission_error", 403, 403, body("invalid_request_error", "insufficient_permissions")},
		{"not_found_error", 404, 404, body("invalid_request_error", "not_found")},
		{"request_too_large", 413, 413, body("invalid_request_error", "request_too_large")},
		{"rate_limit_error", 429, 429, body("requests", "rate_limit_exceeded")},
		{"api_error", 500, 500, body("server_error", "")},
		{"timeout_error", 504, 504, body("server_error", "timeout")},
		{"overloaded_error", 529, 503, body("server_error", "overloaded")},
		{"a_new_error", 400, 400, body("invalid_request_error", "")},
		{"a_new_error", 422, 422, body("invalid_request_error", "")},
		{"a_new_error", 502, 502, body("server_error", "")},
	} {
		t.Run(c.kind, func(t *testing.T) {
			in := `{"type":"error","error":{"type":"` + c.kind + `","message":"M"},"request_id":"req_1"}`
			status, out := Error(wire.Anthropic, wire.OpenAI, c.status, []byte(in))
			if status != c.want || string(out) != c.out {
				t.Errorf("got %d %s\nwant %d %s", status, out, c.want, c.out)
			}
		})
	}
}

func TestAnErrorInItsOwnDialectIsLeftAlone(t *testing.T) {
	for d, body := range map[wire.Dialect]string{
		wire.OpenAI:    `{"error":{"message":"as it is","extra":1}}`,
		wire.Anthropic: `{"type":"error","error":{"type":"invalid_request_error","message":"as it is","extra":1}}`,
	} {
		status, out := Error(d, d, 418, []byte(body))
		if status != 418 || string(out) != body {
			t.Errorf("%v: %d %s", d, status, out)
		}
	}
}

func TestAnErrorInNobodysShapeGetsThatOfItsDialect(t *testing.T) {
	for body, want := range map[string]string{
		`{"object":"error","message":"no such field","type":"invalid_request_error","param":null,"code":null}`: "no such field",
		`{"detail":"Unauthorized"}`:   "Unauthorized",
		`{"error":"a text"}`:          "a text",
		`{"error":{"message":null}}`:  "no explanation",
		`<html>`:                      "no explanation",
		`{"type":"error","error":{}}`: "no explanation",
	} {
		for _, d := range []wire.Dialect{wire.OpenAI, wire.Anthropic} {
			status, out := Error(d, d, 422, []byte(body))
			if status != 422 || !shaped(d, out) || !strings.Contains(string(out), want) {
				t.Errorf("%v: %s became %d %s", d, body, status, out)
			}
		}
	}
}
