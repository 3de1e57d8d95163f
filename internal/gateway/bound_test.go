package gateway

import (
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// Ollama 0.17 ignores max_completion_tokens: found in front of a real one,
// which generated until the client gave up, past what had been reserved.
func TestOllamaIsToldTheBoundUnderTheNameItReads(t *testing.T) {
	for _, c := range []struct {
		name, body, want string
		kind             Kind
	}{
		{"the newer name gets the older beside it", `{"model":"m","max_completion_tokens":5}`, `{"max_tokens":5,"model":"m","max_completion_tokens":5}`, Ollama},
		{"the older name is passed on untouched", `{"model":"m","max_tokens":5}`, `{"model":"m","max_tokens":5}`, Ollama},
		{"no bound is passed on untouched", `{"model":"m"}`, `{"model":"m"}`, Ollama},
		{"where both are there, Ollama has its own", `{"model":"m","max_tokens":4,"max_completion_tokens":5}`, `{"model":"m","max_tokens":4,"max_completion_tokens":5}`, Ollama},
		{"other servers know the newer name", `{"model":"m","max_completion_tokens":5}`, `{"model":"m","max_completion_tokens":5}`, OpenAICompatible},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := &call{ep: wire.ChatCompletions, body: []byte(c.body)}
			if err := wire.Scan(x.ep, x.body, &x.req); err != nil {
				t.Fatal(err)
			}
			got, _, err := x.prepare(&hop{provider: &Provider{Kind: c.kind, facts: kinds[c.kind]}, model: "m"})
			if err != nil || string(got) != c.want {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
		})
	}
}
