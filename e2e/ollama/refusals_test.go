//go:build ollama

package ollama

import (
	"strings"
	"testing"
)

// Errors must arrive as the class that the SDK's users catch, whoever said no:
// the gateway, or Ollama behind it.
func TestErrorsAreRaisedAsTheRightClass(t *testing.T) {
	good := params{"model": "babble:latest", "max_tokens": 5, "messages": user(question)}
	with := func(changes params) params {
		p := params{}
		for k, v := range good {
			p[k] = v
		}
		for k, v := range changes {
			p[k] = v
		}
		return p
	}
	for _, c := range []struct {
		name, class string
		status      int
		says        string
		job         func(sdk, call string) job
	}{
		{"an unknown model", "NotFoundError", 404, "absent", func(sdk, call string) job {
			return through(sdk, call, with(params{"model": "absent"}))
		}},
		{"a wrong key", "AuthenticationError", 401, "key", func(sdk, call string) job {
			j := through(sdk, call, good)
			j.Key = "fdy_wrong"
			return j
		}},
		{"tools for a model that has none", "BadRequestError", 400, "does not support tools", func(sdk, call string) job {
			return through(sdk, call, with(params{"tools": tools(sdk)}))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, client := range clients {
				got := sdk.try(t, c.job(client.sdk, client.call))
				if got.Error == nil || got.Error.Class != c.class || got.Error.Status != c.status || !strings.Contains(got.Error.Message, c.says) {
					t.Errorf("%s %s: %+v", client.sdk, client.call, got.Error)
				}
			}
		})
	}
}

func TestCountingTokensIsRefusedBecauseOllamaCannot(t *testing.T) {
	got := sdk.try(t, through("anthropic", "count", params{"model": "babble:latest", "messages": user(question)}))
	if got.Error == nil || got.Error.Class != "BadRequestError" || !strings.Contains(got.Error.Message, "count_tokens") {
		t.Errorf("%+v", got)
	}
}

func TestOllamasOwnClientIsToldThatItsProtocolIsNotSpokenHere(t *testing.T) {
	got := sdk.try(t, job{SDK: "ollama", Call: "chat", Base: foundry.URL, Key: foundry.Key, Params: params{"model": "babble:latest", "messages": user(question)}})
	if got.Error == nil || got.Error.Class != "ResponseError" || got.Error.Status != 404 {
		t.Errorf("%+v", got)
	}
}
