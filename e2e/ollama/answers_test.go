//go:build ollama

package ollama

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
)

const question = "What is the capital of France? (canary-7f3a)"

func user(text string) []any { return []any{params{"role": "user", "content": text}} }

// through asks the gateway with an SDK, direct asks Ollama with its own.
func through(sdk, call string, p params) job {
	return job{SDK: sdk, Call: call, Base: foundry.URL, Key: foundry.Key, Params: p}
}

func direct(call string, p params) job {
	return job{SDK: "ollama", Call: call, Base: "http://" + backend.host, Params: p}
}

// finishes says how each SDK names the ways to finish that Ollama has.
var finishes = map[string]map[string]string{
	"openai":    {"stop": "stop", "length": "length"},
	"anthropic": {"stop": "end_turn", "length": "max_tokens"},
}

// clients are the ways through the gateway to a chat answer.
var clients = []struct{ sdk, call string }{{"openai", "chat"}, {"openai", "stream"}, {"anthropic", "message"}, {"anthropic", "stream"}}

func TestANodeFindsOllamaByItselfAndListsItsModels(t *testing.T) {
	p := foundry.provider(t, "ollama")
	if !p.Own || p.Simulated || p.Kind != "ollama" || p.Health == nil || !p.Health.OK || p.Circuit != "closed" {
		t.Errorf("the provider is %+v", p)
	}
	has := sdk.do(t, direct("models", nil)).Names
	if len(has) != len(modelfiles("", "")) {
		t.Fatalf("Ollama has %v", has)
	}
	for _, name := range []string{"openai", "anthropic"} {
		lists := sdk.do(t, through(name, "models", nil)).Names
		for _, m := range has {
			if !slices.Contains(lists, m) || !slices.Contains(lists, "ollama/"+m) {
				t.Errorf("the %s SDK lists %v, without %s", name, lists, m)
			}
		}
	}
}

// TestAnswersAreOllamas asks the same question past the gateway and through it
// with every SDK. Temperature 0 makes the answer depend on the prompt alone.
func TestAnswersAreOllamas(t *testing.T) {
	for _, c := range []struct {
		name, model string
		limit       int
		finish      string
	}{
		{"an answer that the limit ends", "babble:latest", 24, "length"},
		{"an answer of one token", "babble:latest", 1, "length"},
		{"an answer that ends by itself", "recite:latest", 64, "stop"},
		{"an answer that ends by itself exactly at the limit", "recite:latest", 8, "stop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := sdk.do(t, direct("chat", params{"model": c.model, "messages": user(question), "options": params{"temperature": 0, "num_predict": c.limit}}))
			if want.Finish != c.finish || want.Output == 0 || want.Output > int64(c.limit) || want.Input == 0 || want.Text == "" {
				t.Fatalf("Ollama itself answers %+v", want)
			}
			for _, client := range clients {
				name := client.sdk + " " + client.call
				p := params{"model": c.model, "max_tokens": c.limit, "temperature": 0, "messages": user(question)}
				if name == "openai stream" {
					p["stream_options"] = params{"include_usage": true}
				}
				got := sdk.do(t, through(client.sdk, client.call, p))
				if got.Text != want.Text {
					t.Errorf("%s: text %q, Ollama says %q", name, got.Text, want.Text)
				}
				if got.Finish != finishes[client.sdk][want.Finish] {
					t.Errorf("%s: finish %q, Ollama says %q", name, got.Finish, want.Finish)
				}
				if got.Input != want.Input || got.Output != want.Output {
					t.Errorf("%s: %d and %d tokens, Ollama says %d and %d", name, got.Input, got.Output, want.Input, want.Output)
				}
				if client.call == "stream" && c.limit > 1 && got.Chunks < 2 {
					t.Errorf("%s: came in %d pieces", name, got.Chunks)
				}
				checkRow(t, name, got, c.model)
			}
		})
	}
}

// TestTheGatewayChangesNothingThatOllamaSays sends what each SDK sends to
// Ollama's own OpenAI and Anthropic endpoints, and through the gateway, which
// calls only the former and translates.
func TestTheGatewayChangesNothingThatOllamaSays(t *testing.T) {
	for _, c := range []struct {
		name   string
		params func(sdk string) params
	}{
		{"a conversation with a system prompt", func(sdk string) params {
			turns := append(user("Hello"), params{"role": "assistant", "content": "Good day."}, params{"role": "user", "content": question})
			if sdk == "anthropic" {
				return params{"model": "babble:latest", "system": "Be brief.", "messages": turns}
			}
			return params{"model": "babble:latest", "messages": append([]any{params{"role": "system", "content": "Be brief."}}, turns...)}
		}},
		{"text beyond ASCII", func(string) params {
			return params{"model": "babble:latest", "messages": user("Grüße, 世界 👋🏽 \u0001\t\"")}
		}},
		{"a tool call", func(sdk string) params {
			return params{"model": "recite:latest", "messages": user(question), "tools": tools(sdk)}
		}},
		{"reasoning", func(sdk string) params { return params{"model": "reason:latest", "messages": user(question)} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, client := range clients {
				p := c.params(client.sdk)
				p["max_tokens"], p["temperature"] = 64, 0
				j := through(client.sdk, client.call, p)
				got := sdk.do(t, j)
				j.Base = "http://" + backend.host
				want := sdk.do(t, j)
				for _, r := range []*result{&got, &want} {
					r.ID, r.Headers, r.Chunks = 0, nil, 0
					for i := range r.Tools {
						r.Tools[i].ID = ""
					}
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s %s:\n%+v, Ollama says\n%+v", client.sdk, client.call, got, want)
				}
			}
		})
	}
}

// Ollama has the Responses API since 0.13.3.
func TestResponsesArePassedThrough(t *testing.T) {
	for _, call := range []string{"responses", "responses stream"} {
		for _, c := range []struct {
			name, text string
			params     params
		}{
			{"an answer", "The capital of France is Paris.", params{"model": "recite:latest", "input": question}},
			{"a tool call", "", params{"model": "recite:latest", "input": question,
				"tools": []any{params{"type": "function", "name": "get_temperature", "strict": false, "parameters": temperatureTool}}}},
			{"an answer that its bound ends", "The capital of", params{"model": "recite:latest", "input": question, "max_output_tokens": 3}},
		} {
			got := sdk.do(t, through("openai", call, c.params))
			if got.Text != c.text || (len(got.Tools) == 1) != (c.text == "") || len(got.Tools) == 1 && got.Tools[0].Input["city"] != "Oslo" {
				t.Errorf("%s, %s: %+v", call, c.name, got)
			}
			checkRow(t, call+", "+c.name, got, "recite:latest")
		}
	}
}

// checkRow compares the headers and the ledger with what the client was told.
func checkRow(t *testing.T, name string, got result, model string) {
	t.Helper()
	country := foundry.status(t).Country
	if route, place := got.Headers["x-foundry-route"], got.Headers["x-foundry-jurisdiction"]; route != "ollama/"+model || place != country {
		t.Errorf("%s: came by %q from %q", name, route, place)
	}
	row := foundry.recorded(t, got.request())
	if row.State != ledger.StateOK || row.Status != 200 || row.Provider != "ollama" || row.ProviderModel != model || !row.Own || row.Jurisdiction != country || row.LeavesEEA {
		t.Errorf("%s: recorded as %+v", name, row.RequestRow)
	}
	if !row.UsageKnown || row.InputTokens != got.Input || row.OutputTokens != got.Output {
		t.Errorf("%s: recorded %d and %d tokens (known: %t), the client was told %d and %d", name, row.InputTokens, row.OutputTokens, row.UsageKnown, got.Input, got.Output)
	}
	if row.FirstToken <= 0 || row.FirstToken > row.Latency {
		t.Errorf("%s: the first token after %v of %v", name, row.FirstToken, row.Latency)
	}
	if len(row.Tries) != 0 { // which are recorded where something failed
		t.Errorf("%s: tried %+v", name, row.Tries)
	}
}

func TestUsageIsCountedThoughTheClientDoesNotAskForIt(t *testing.T) {
	got := sdk.do(t, through("openai", "stream", params{"model": "recite:latest", "messages": user(question), "temperature": 0}))
	if got.Usages != 0 {
		t.Errorf("the client did not ask for usage and got it %d times", got.Usages)
	}
	if row := foundry.recorded(t, got.request()); !row.UsageKnown || row.OutputTokens != int64(len(scripts["<|assistant|>"]))+1 || row.InputTokens == 0 {
		t.Errorf("recorded as %+v", row.RequestRow)
	}
}

func TestTheNumberOfTokensIsBoundedUnderBothNamesOfTheBound(t *testing.T) {
	for _, field := range []string{"max_tokens", "max_completion_tokens"} {
		got := sdk.do(t, through("openai", "chat", params{"model": "babble:latest", "messages": user(question), field: 5}))
		if got.Output != 5 || got.Finish != "length" {
			t.Errorf("%s=5: %d tokens, finish %q", field, got.Output, got.Finish)
		}
	}
}

// Ollama's users leave out the tag where it is "latest".
func TestAModelMayBeCalledWithoutItsTag(t *testing.T) {
	for _, name := range []string{"recite", "ollama/recite"} {
		got := sdk.do(t, through("openai", "chat", params{"model": name, "messages": user(question)}))
		if got.Text != "The capital of France is Paris." {
			t.Errorf("%s: %q", name, got.Text)
		}
		checkRow(t, name, got, "recite:latest")
	}
}

// TestTheLedgerAddsUpWhatOllamaCounted asks several times and compares the
// sums, by model and by place, with the sum of what Ollama said each time.
func TestTheLedgerAddsUpWhatOllamaCounted(t *testing.T) {
	group := func(by, name string) (r ledger.UsageRow) { return foundry.spent(t, by, name) }
	country := foundry.status(t).Country
	model, place := group("model", "recite:latest"), group("jurisdiction", country)
	var input, output, n int64
	for _, client := range clients {
		got := sdk.do(t, through(client.sdk, client.call, params{"model": "recite:latest", "max_tokens": 5, "messages": user(strings.Repeat(question, int(n)+1))}))
		row := foundry.recorded(t, got.request())
		input, output, n = input+row.InputTokens, output+row.OutputTokens, n+1
	}
	if output != 5*n || input < 4*int64(len(question)) {
		t.Fatalf("%d and %d tokens of %d answers", input, output, n)
	}
	for _, c := range []struct{ before, after ledger.UsageRow }{{model, group("model", "recite:latest")}, {place, group("jurisdiction", country)}} {
		c.after.Requests -= c.before.Requests
		c.after.InputTokens -= c.before.InputTokens
		c.after.OutputTokens -= c.before.OutputTokens
		if c.after.Requests != n || c.after.InputTokens != input || c.after.OutputTokens != output || c.after.CostNano != 0 {
			t.Errorf("%s has %+v more, want %d answers of %d and %d tokens", c.after.Group, c.after, n, input, output)
		}
	}
}

func TestAStopSequenceEndsTheAnswer(t *testing.T) {
	for _, client := range clients {
		field := map[string]string{"openai": "stop", "anthropic": "stop_sequences"}[client.sdk]
		got := sdk.do(t, through(client.sdk, client.call, params{"model": "recite:latest", "max_tokens": 64, "messages": user(question), field: []string{" is Par"}}))
		if got.Text != "The capital of France" || got.Finish != finishes[client.sdk]["stop"] {
			t.Errorf("%s %s: %q, finish %q", client.sdk, client.call, got.Text, got.Finish)
		}
	}
}

func TestASeedMakesAnswersRepeatable(t *testing.T) {
	ask := func(seed int) string {
		return sdk.do(t, through("openai", "chat", params{"model": "babble:latest", "messages": user(question), "max_tokens": 24, "seed": seed, "temperature": 1.5})).Text
	}
	first, again, other := ask(1), ask(1), ask(2)
	if first != again || first == other {
		t.Errorf("seed 1: %q and %q, seed 2: %q", first, again, other)
	}
}

var temperatureTool = params{"type": "object", "properties": params{"city": params{"type": "string"}}, "required": []string{"city"}}

// tools declares the tool in the SDK's dialect.
func tools(sdk string) []any {
	if sdk == "anthropic" {
		return []any{params{"name": "get_temperature", "description": "Measures", "input_schema": temperatureTool}}
	}
	return []any{params{"type": "function", "function": params{"name": "get_temperature", "description": "Measures", "parameters": temperatureTool}}}
}

// toolTurns are the messages after a tool has answered, in the SDK's dialect.
func toolTurns(sdk string, call toolCall) []any {
	if sdk == "anthropic" {
		return append(user(question),
			params{"role": "assistant", "content": []any{params{"type": "tool_use", "id": call.ID, "name": call.Name, "input": call.Input}}},
			params{"role": "user", "content": []any{params{"type": "tool_result", "tool_use_id": call.ID, "content": "7"}}})
	}
	arguments, _ := json.Marshal(call.Input)
	return append(user(question),
		params{"role": "assistant", "tool_calls": []any{params{"id": call.ID, "type": "function", "function": params{"name": call.Name, "arguments": string(arguments)}}}},
		params{"role": "tool", "tool_call_id": call.ID, "content": "7"})
}

func TestToolsAreCalledAndTheirResultsUsed(t *testing.T) {
	want := sdk.do(t, direct("chat", params{"model": "recite:latest", "messages": user(question), "tools": tools("ollama")}))
	if len(want.Tools) != 1 || want.Tools[0].Name != "get_temperature" || want.Tools[0].Input["city"] != "Oslo" {
		t.Fatalf("Ollama itself answers %+v", want)
	}
	for _, client := range clients {
		name := client.sdk + " " + client.call
		got := sdk.do(t, through(client.sdk, client.call, params{"model": "recite:latest", "max_tokens": 64, "messages": user(question), "tools": tools(client.sdk)}))
		if finish := map[string]string{"openai": "tool_calls", "anthropic": "tool_use"}[client.sdk]; got.Finish != finish || strings.TrimSpace(got.Text) != "" {
			t.Errorf("%s: finish %q, text %q", name, got.Finish, got.Text)
		}
		if len(got.Tools) != 1 || got.Tools[0].ID == "" || got.Tools[0].Name != "get_temperature" || len(got.Tools[0].Input) != 1 || got.Tools[0].Input["city"] != "Oslo" {
			t.Errorf("%s: tools %+v", name, got.Tools)
			continue
		}
		row := foundry.recorded(t, got.request())
		if row.InputTokens != want.Input || row.OutputTokens != want.Output {
			t.Errorf("%s: recorded %d and %d tokens, Ollama says %d and %d", name, row.InputTokens, row.OutputTokens, want.Input, want.Output)
		}
		got = sdk.do(t, through(client.sdk, client.call, params{"model": "recite:latest", "max_tokens": 64, "messages": toolTurns(client.sdk, got.Tools[0]), "tools": tools(client.sdk)}))
		if got.Text != "It has 7 degrees in Oslo!" || got.Finish != finishes[client.sdk]["stop"] || len(got.Tools) != 0 {
			t.Errorf("%s: after the tool's result: %+v", name, got)
		}
	}
}

func TestReasoningArrivesApartFromTheAnswer(t *testing.T) {
	want := sdk.do(t, direct("chat", params{"model": "reason:latest", "messages": user(question)}))
	if want.Reasoning == "" || want.Text != "Paris, probably" {
		t.Fatalf("Ollama itself answers %+v", want)
	}
	for _, client := range clients {
		p := params{"model": "reason:latest", "max_tokens": 2048, "messages": user(question)}
		if client.sdk == "anthropic" {
			// A budget of tokens is Anthropic's alone, and refused.
			p["thinking"] = params{"type": "adaptive"}
		}
		got := sdk.do(t, through(client.sdk, client.call, p))
		if got.Reasoning != want.Reasoning || got.Text != want.Text {
			t.Errorf("%s %s: reasoning %q and text %q, Ollama says %q and %q", client.sdk, client.call, got.Reasoning, got.Text, want.Reasoning, want.Text)
		}
	}
}

func TestASchemaConstrainsTheAnswer(t *testing.T) {
	schema := params{"type": "object", "additionalProperties": false, "required": []string{"colour", "warm"},
		"properties": params{"colour": params{"type": "string", "enum": []string{"red", "green", "blue"}}, "warm": params{"type": "boolean"}}}
	for _, call := range []string{"chat", "stream"} {
		got := sdk.do(t, through("openai", call, params{"model": "babble:latest", "messages": user(question), "max_tokens": 500, "seed": 1,
			"response_format": params{"type": "json_schema", "json_schema": params{"name": "colour", "strict": true, "schema": schema}}}))
		var answer struct {
			Colour string `json:"colour"`
			Warm   *bool  `json:"warm"`
		}
		if err := json.Unmarshal([]byte(got.Text), &answer); err != nil || answer.Warm == nil || !slices.Contains([]string{"red", "green", "blue"}, answer.Colour) {
			t.Errorf("%s: %v: %q (finish %q)", call, err, got.Text, got.Finish)
		}
	}
}

func TestEmbeddingsAreOllamas(t *testing.T) {
	texts := []string{"a first text", "and quite another"}
	want := sdk.do(t, direct("embed", params{"model": "babble-embed:latest", "input": texts}))
	if len(want.Vectors) != 2 || len(want.Vectors[0]) != width || want.Input == 0 {
		t.Fatalf("Ollama itself answers %d vectors of %d tokens", len(want.Vectors), want.Input)
	}
	// The SDK asks for base64 where its caller asks for nothing, and decodes it.
	for _, p := range []params{{}, {"encoding_format": "float"}} {
		p["model"], p["input"] = "babble-embed:latest", texts
		got := sdk.do(t, through("openai", "embeddings", p))
		if len(got.Vectors) != 2 || distance(got.Vectors[0], want.Vectors[0]) > 1e-4 || distance(got.Vectors[1], want.Vectors[1]) > 1e-4 || distance(got.Vectors[0], got.Vectors[1]) < 1e-2 {
			t.Errorf("%v: other vectors", p["encoding_format"])
		}
		if got.Input != want.Input {
			t.Errorf("%v: %d tokens, Ollama says %d", p["encoding_format"], got.Input, want.Input)
		}
		checkRow(t, fmt.Sprint(p["encoding_format"]), got, "babble-embed:latest")
	}
}

func distance(a, b []float64) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	sum := 0.0
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return math.Sqrt(sum)
}
