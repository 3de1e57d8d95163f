package gateway

import (
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/gateway/wire"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
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

func TestOllamasModelsMayBeCalledWithoutTheirTag(t *testing.T) {
	ollama := own("o", "llama3.2:latest", "qwen3:8b")
	ollama.Kind = string(Ollama)
	g := newGateway(t, Config{Providers: []ProviderConfig{ollama, own("v", "phi:latest", "plain")}})
	for _, c := range []struct{ asked, provider, model string }{
		{"llama3.2", "o", "llama3.2:latest"},
		{"llama3.2:latest", "o", "llama3.2:latest"},
		{"o/llama3.2", "o", "llama3.2:latest"},
		{"qwen3", "", ""}, // which tag is not said
		{"phi", "", ""},   // another server's names are its own affair
		{"plain", "v", "plain"},
	} {
		p, err := g.decide(sovereignty.DefaultPolicy(), "org", ask{model: c.asked, endpoint: wire.ChatCompletions, class: sovereignty.Public}, g.table.Load(), time.Now())
		switch {
		case c.provider == "":
			if problem.From(err).Kind != problem.NotFound {
				t.Errorf("%s: %v, want a refusal", c.asked, err)
			}
		case err != nil || len(p.hops) != 1 || p.hops[0].provider.Name != c.provider || p.hops[0].model != c.model:
			t.Errorf("%s: %+v, %v", c.asked, p, err)
		}
	}
}
