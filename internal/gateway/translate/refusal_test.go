package translate

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/problem"
)

type refusal struct {
	name  string
	patch string // laid over a request that translates
	field string // of the error
	kind  problem.Kind
}

const (
	cannot = problem.Unsupported
	broken = problem.Invalid
)

// patched lays a JSON object's members over another's.
func patched(t *testing.T, base, patch string) []byte {
	t.Helper()
	m := map[string]json.RawMessage{}
	for _, s := range [...]string{base, patch} {
		if err := json.Unmarshal([]byte(s), &m); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func checkRefusals(t *testing.T, base string, run func([]byte) ([]byte, error), table []refusal) {
	t.Helper()
	if _, err := run([]byte(base)); err != nil {
		t.Fatalf("the base does not translate: %v", err)
	}
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			out, err := run(patched(t, base, c.patch))
			var p *problem.Error
			if !errors.As(err, &p) {
				t.Fatalf("accepted: %s", out)
			}
			if out != nil {
				t.Error("an error came with a request")
			}
			if p.Kind != c.kind || p.Field != c.field {
				t.Errorf("got %s at %q (%s), want %s at %q", p.Kind, p.Field, p.Detail, c.kind, c.field)
			}
			want := CodeInvalid
			if c.kind == cannot {
				want = CodeNotTranslatable
				if p.Mend == "" {
					t.Error("it does not say what to do")
				}
			}
			if p.Code != want {
				t.Errorf("code %q, want %q", p.Code, want)
			}
			if !strings.HasSuffix(p.Detail, ".") {
				t.Errorf("not a sentence: %q", p.Detail)
			}
		})
	}
}

func TestChatToMessagesRefuses(t *testing.T) {
	const base = `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}`
	run := func(b []byte) ([]byte, error) { return ChatToMessages(b, Options{}) }
	user := func(content string) string {
		return `{"messages":[{"role":"user","content":` + content + `}]}`
	}
	turns := func(s string) string { return `{"messages":[{"role":"user","content":"Hi"},` + s + `]}` }
	tool := func(s string) string { return `{"tools":[` + s + `]}` }
	const now = `{"type":"function","function":{"name":"now"}}`
	checkRefusals(t, base, run, []refusal{
		{"a field nobody knows", `{"novelty":1}`, "novelty", cannot},
		{"a field that differs in case only", `{"Stream":true}`, "Stream", cannot},
		{"the other dialect's field", `{"stop_sequences":["x"]}`, "stop_sequences", cannot},
		{"logit bias", `{"logit_bias":{"50256":-100}}`, "logit_bias", cannot},
		{"log probabilities", `{"logprobs":true}`, "logprobs", cannot},
		{"a seed", `{"seed":0}`, "seed", cannot},
		{"penalties", `{"frequency_penalty":0.1}`, "frequency_penalty", cannot},
		{"several answers", `{"n":2}`, "n", cannot},
		{"audio", `{"modalities":["text","audio"]}`, "modalities", cannot},
		{"stored answers", `{"store":true}`, "store", cannot},
		{"metadata", `{"metadata":{"a":"b"}}`, "metadata", cannot},
		{"web search", `{"web_search_options":{}}`, "web_search_options", cannot},
		{"predicted output", `{"prediction":{"type":"content","content":"x"}}`, "prediction", cannot},
		{"moderation", `{"moderation":{"model":"m"}}`, "moderation", cannot},
		{"functions of old", `{"functions":[{"name":"x"}]}`, "functions", cannot},
		{"a function call of old", `{"function_call":"auto"}`, "function_call", cannot},
		{"verbosity", `{"verbosity":"low"}`, "verbosity", cannot},
		{"obfuscation", `{"stream_options":{"include_obfuscation":true}}`, "stream_options.include_obfuscation", cannot},
		{"unknown stream options", `{"stream_options":{"x":1}}`, "stream_options.x", cannot},
		{"a temperature between 1 and 2", `{"temperature":1.01}`, "temperature", cannot},
		{"a temperature above 2", `{"temperature":2.1}`, "temperature", broken},
		{"a temperature as text", `{"temperature":"1"}`, "temperature", broken},
		{"a top_p above 1", `{"top_p":1.5}`, "top_p", broken},
		{"a negative top_k", `{"top_k":-1}`, "top_k", cannot},
		{"a stop of white space", `{"stop":["a","\n"]}`, "stop[1]", cannot},
		{"contradicting bounds", `{"max_completion_tokens":8}`, "max_tokens", broken},
		{"a bound of zero", `{"max_tokens":0}`, "max_completion_tokens", broken},
		{"a fractional bound", `{"max_tokens":1.5}`, "max_tokens", broken},
		{"no bound at all", `{"max_tokens":null}`, "max_completion_tokens", broken},
		{"no model", `{"model":null}`, "model", broken},
		{"no messages", `{"messages":[]}`, "messages", broken},
		{"messages that are no list", `{"messages":{}}`, "messages", broken},
		{"only instructions", `{"messages":[{"role":"system","content":"x"}]}`, "messages", cannot},
		{"effort below low", `{"reasoning_effort":"minimal"}`, "reasoning_effort", cannot},
		{"effort that is none", `{"reasoning_effort":"heroic"}`, "reasoning_effort", broken},
		{"JSON without a schema", `{"response_format":{"type":"json_object"}}`, "response_format.type", cannot},
		{"a described format", `{"response_format":{"type":"json_schema","json_schema":{"name":"x","description":"y","schema":{}}}}`, "response_format.json_schema.description", cannot},
		{"a format without its schema", `{"response_format":{"type":"json_schema","json_schema":{"name":"x"}}}`, "response_format.json_schema.schema", broken},
		{"a grammar", `{"response_format":{"type":"grammar","grammar":"x"}}`, "response_format.type", cannot},
		{"a tier of OpenAI's", `{"service_tier":"flex"}`, "service_tier", cannot},
		{"two users", `{"user":"a","safety_identifier":"b"}`, "user", cannot},
		{"a custom tool", tool(`{"type":"custom","custom":{"name":"x"}}`), "tools[0].type", cannot},
		{"an unknown member of a tool", tool(`{"type":"function","function":{"name":"x","cost":1}}`), "tools[0].function.cost", cannot},
		{"a tool that takes no object", tool(`{"type":"function","function":{"name":"x","parameters":{"type":"string"}}}`), "tools[0].function.parameters.type", cannot},
		{"allowed tools", `{"tools":[` + now + `],"tool_choice":{"type":"allowed_tools","allowed_tools":{}}}`, "tool_choice", cannot},
		{"a custom tool's choice", `{"tools":[` + now + `],"tool_choice":{"type":"custom","custom":{"name":"x"}}}`, "tool_choice.type", cannot},
		{"a choice without tools", `{"tool_choice":"required"}`, "tool_choice", broken},
		{"a name", `{"messages":[{"role":"user","name":"Ann","content":"Hi"}]}`, "messages[0].name", cannot},
		{"an unknown role", `{"messages":[{"role":"critic","content":"Hi"}]}`, "messages[0].role", broken},
		{"a function message", turns(`{"role":"function","name":"x","content":"y"}`), "messages[1].role", cannot},
		{"an unknown member of a message", `{"messages":[{"role":"user","content":"Hi","mood":"glad"}]}`, "messages[0].mood", cannot},
		{"an empty user message", user(`""`), "messages[0].content", cannot},
		{"a blank user message", user(`[{"type":"text","text":" \n"}]`), "messages[0].content", cannot},
		{"an empty assistant message", turns(`{"role":"assistant","content":""},{"role":"user","content":"x"}`), "messages[1]", cannot},
		{"a beginning by the assistant", `{"messages":[{"role":"assistant","content":"Hello"},{"role":"user","content":"x"}]}`, "messages[0].role", cannot},
		{"an end by the assistant", turns(`{"role":"assistant","content":"Hello"}`), "messages[1].role", cannot},
		{"audio in", user(`[{"type":"input_audio","input_audio":{"data":"","format":"wav"}}]`), "messages[0].content[0].type", cannot},
		{"a part of an unknown type", user(`[{"type":"smell"}]`), "messages[0].content[0].type", cannot},
		{"an image the assistant sends", turns(`{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}`), "messages[1].content[0].type", broken},
		{"a coarse look at an image", user(`[{"type":"image_url","image_url":{"url":"https://x","detail":"low"}}]`), "messages[0].content[0].image_url.detail", cannot},
		{"an image by plain http", user(`[{"type":"image_url","image_url":{"url":"http://x"}}]`), "messages[0].content[0].image_url.url", cannot},
		{"an image of an unknown type", user(`[{"type":"image_url","image_url":{"url":"data:image/bmp;base64,AAAA"}}]`), "messages[0].content[0].image_url.url", cannot},
		{"an image that is not base64", user(`[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=A"}}]`), "messages[0].content[0].image_url.url", cannot},
		{"a file by id", user(`[{"type":"file","file":{"file_id":"f"}}]`), "messages[0].content[0].file.file_id", cannot},
		{"a file that is no PDF", user(`[{"type":"file","file":{"file_data":"data:text/csv;base64,AAAA"}}]`), "messages[0].content[0].file.file_data", cannot},
		{"a custom call", turns(`{"role":"assistant","tool_calls":[{"id":"a","type":"custom","custom":{}}]}`), "messages[1].tool_calls[0].type", cannot},
		{"arguments that are no object", turns(`{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"x","arguments":"[1]"}}]},{"role":"tool","tool_call_id":"a","content":"x"}`), "messages[1].tool_calls[0].function.arguments", cannot},
		{"a result nobody asked for", turns(`{"role":"tool","tool_call_id":"a","content":"x"}`), "messages[1].tool_call_id", broken},
		{"a result given twice", turns(`{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"x","arguments":""}}]},{"role":"tool","tool_call_id":"a","content":"x"},{"role":"tool","tool_call_id":"a","content":"x"}`), "messages[3].tool_call_id", broken},
		{"a call at the very end", turns(`{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"x","arguments":""}}]}`), "messages", broken},
		{"two calls of one id", turns(`{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"x","arguments":""}},{"id":"a","type":"function","function":{"name":"x","arguments":""}}]}`), "messages[1].tool_calls[1].id", broken},
		{"audio the assistant said", turns(`{"role":"assistant","audio":{"id":"a"}}`), "messages[1].audio", cannot},
		{"cited web pages", turns(`{"role":"assistant","content":"x","annotations":[{"type":"url_citation"}]}`), "messages[1].annotations", cannot},
	})
}

func TestMessagesToChatRefuses(t *testing.T) {
	const base = `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}`
	run := func(b []byte) ([]byte, error) { return MessagesToChat(b, Options{}) }
	user := func(block string) string {
		return `{"messages":[{"role":"user","content":[` + block + `]}]}`
	}
	turns := func(s string) string { return `{"messages":[{"role":"user","content":"Hi"},` + s + `]}` }
	result := func(s string) string {
		return turns(`{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"x","input":{}}]},{"role":"user","content":[` + s + `]}`)
	}
	tool := func(s string) string { return `{"tools":[{"name":"x","input_schema":{},` + s + `}]}` }
	checkRefusals(t, base, run, []refusal{
		{"a field nobody knows", `{"novelty":1}`, "novelty", cannot},
		{"the other dialect's field", `{"stop":["x"]}`, "stop", cannot},
		{"top_k", `{"top_k":5}`, "top_k", cannot},
		{"a container", `{"container":"c"}`, "container", cannot},
		{"remote tools", `{"mcp_servers":[]}`, "mcp_servers", cannot},
		{"a place to run in", `{"inference_geo":"us"}`, "inference_geo", cannot},
		{"speed", `{"speed":"fast"}`, "speed", cannot},
		{"diagnostics", `{"diagnostics":{}}`, "diagnostics", cannot},
		{"edits of the context", `{"context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}}`, "context_management.edits[0].type", cannot},
		{"a budget for thinking", `{"thinking":{"type":"enabled","budget_tokens":1024}}`, "thinking.budget_tokens", cannot},
		{"thinking between tools", `{"thinking":{"type":"between_tools"}}`, "thinking.type", cannot},
		{"no thinking but effort", `{"thinking":{"type":"disabled"},"output_config":{"effort":"high"}}`, "thinking", cannot},
		{"effort that is none", `{"output_config":{"effort":"heroic"}}`, "output_config.effort", broken},
		{"an unknown output setting", `{"output_config":{"task_budget":{}}}`, "output_config.task_budget", cannot},
		{"five stops", `{"stop_sequences":["a","b","c","d","e"]}`, "stop_sequences", cannot},
		{"a temperature above 1", `{"temperature":1.1}`, "temperature", broken},
		{"a cache to fill", `{"max_tokens":0}`, "max_tokens", cannot},
		{"no bound", `{"max_tokens":null}`, "max_tokens", broken},
		{"an unknown tier", `{"service_tier":"flex"}`, "service_tier", broken},
		{"unknown metadata", `{"metadata":{"session":"x"}}`, "metadata.session", cannot},
		{"a tool of the provider's", `{"tools":[{"type":"web_search_20250305","name":"web_search"}]}`, "tools[0].type", cannot},
		{"a tool only Anthropic defines", `{"tools":[{"type":"bash_20250124","name":"bash"}]}`, "tools[0].type", cannot},
		{"examples of input", tool(`"input_examples":[{}]`), "tools[0].input_examples", cannot},
		{"callers other than the model", tool(`"allowed_callers":["code_execution_20250825"]`), "tools[0].allowed_callers", cannot},
		{"a tool to be found later", tool(`"defer_loading":true`), "tools[0].defer_loading", cannot},
		{"a tool without a schema", `{"tools":[{"name":"x"}]}`, "tools[0].input_schema", broken},
		{"a choice without tools", `{"tool_choice":{"type":"any"}}`, "tool_choice", broken},
		{"an unknown choice", `{"tool_choice":{"type":"some"}}`, "tool_choice.type", broken},
		{"an unknown role", `{"messages":[{"role":"tool","content":"x"}]}`, "messages[0].role", broken},
		{"a message without content", `{"messages":[{"role":"user"}]}`, "messages[0].content", broken},
		{"an unknown member of a message", `{"messages":[{"role":"user","content":"x","id":"y"}]}`, "messages[0].id", cannot},
		{"a prefill", turns(`{"role":"assistant","content":"The answer is ("}`), "messages", cannot},
		{"an image in the system prompt", `{"system":[{"type":"image","source":{}}]}`, "system[0].type", cannot},
		{"search results", user(`{"type":"search_result"}`), "messages[0].content[0].type", cannot},
		{"an image by file id", user(`{"type":"image","source":{"type":"file","file_id":"f"}}`), "messages[0].content[0].source.type", cannot},
		{"a transformed image", user(`{"type":"image","source":{"type":"url","url":"https://x"},"transformations":{}}`), "messages[0].content[0].transformations", cannot},
		{"a document by URL", user(`{"type":"document","source":{"type":"url","url":"https://x"}}`), "messages[0].content[0].source.type", cannot},
		{"a document of text", user(`{"type":"document","source":{"type":"text","media_type":"text/plain","data":"x"}}`), "messages[0].content[0].source.type", cannot},
		{"a document with context", user(`{"type":"document","context":"x","source":{"type":"base64","media_type":"application/pdf","data":"AAAA"}}`), "messages[0].content[0].context", cannot},
		{"citations wanted", user(`{"type":"document","citations":{"enabled":true},"source":{"type":"base64","media_type":"application/pdf","data":"AAAA"}}`), "messages[0].content[0].citations.enabled", cannot},
		{"citations given", turns(`{"role":"assistant","content":[{"type":"text","text":"x","citations":[{}]}]},{"role":"user","content":"x"}`), "messages[1].content[0].citations", cannot},
		{"a server's tool call", turns(`{"role":"assistant","content":[{"type":"server_tool_use"}]},{"role":"user","content":"x"}`), "messages[1].content[0].type", cannot},
		{"a call from code", turns(`{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"x","input":{},"caller":{"type":"code_execution_20250825"}}]}`), "messages[1].content[0].caller.type", cannot},
		{"input that is no object", turns(`{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"x","input":[]}]}`), "messages[1].content[0].input", broken},
		{"an image as a result", result(`{"type":"tool_result","tool_use_id":"a","content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}`), "messages[2].content[0].content[0].type", cannot},
		{"a result nobody asked for", user(`{"type":"tool_result","tool_use_id":"a"}`), "messages[0].content[0].tool_use_id", broken},
		{"a result behind text", result(`{"type":"text","text":"x"},{"type":"tool_result","tool_use_id":"a"}`), "messages[2].content[1]", broken},
		{"a result that never comes", result(`{"type":"text","text":"x"}`), "messages[2].content", broken},
	})
}

func TestDocumentsThatAreNotRequests(t *testing.T) {
	for _, c := range []struct{ name, body, field string }{
		{"nothing", ``, ""},
		{"half a document", `{"model":"m"`, ""},
		{"something behind the document", `{"model":"m"} x`, ""},
		{"a list", `[]`, ""},
		{"a member given twice", `{"model":"m","model":"n"}`, "model"},
		{"a member given twice in different spellings", `{"model":"m","mo\u0064el":"n"}`, "model"},
		{"a member given twice deep inside", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x","role":"system"}]}`, "messages[0].role"},
		{"too many members", `{"model":"m"` + manyMembers() + `}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, run := range map[string]func([]byte, Options) ([]byte, error){"chat": ChatToMessages, "messages": MessagesToChat} {
				_, err := run([]byte(c.body), Options{})
				var p *problem.Error
				if !errors.As(err, &p) || p.Kind != problem.Invalid || p.Field != c.field {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func manyMembers() string {
	var b strings.Builder
	for range maxMembers {
		b.WriteString(`,"` + strings.Repeat("x", b.Len()%97+1) + strings.Repeat("y", b.Len()%89) + strings.Repeat("z", b.Len()%83) + `":1`)
	}
	return b.String()
}

func TestOmitsThinking(t *testing.T) {
	for body, want := range map[string]bool{
		`{"thinking":{"type":"adaptive","display":"omitted"}}`:    true,
		`{"thinking":{"type":"adaptive","display":"summarized"}}`: false,
		`{"thinking":{"type":"disabled"}}`:                        false,
		`{"thinking":7}`:                                          false,
		`{}`:                                                      false,
		`not JSON`:                                                false,
	} {
		if got := OmitsThinking([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}
