package wire

import (
	"slices"
	"strings"
	"testing"
)

// fields is every documented top-level field of the five endpoints (the
// parameter types of the vendors' TypeScript SDKs: openai 6.49, its Responses
// client event, @anthropic-ai/sdk 1.12 with its beta), each with a value that
// asks for the most, and the risk it is; "" is none.
var fields = map[Endpoint][]struct{ field, value, risk string }{
	ChatCompletions: {
		{"messages", `[{"role":"user","content":"hi"}]`, ""},
		{"audio", `{"format":"wav","voice":"ash"}`, ""},
		{"audio", `{"format":"wav","voice":{"id":"voice_1"}}`, "voice_id"},
		{"frequency_penalty", `1`, ""},
		{"function_call", `{"name":"f"}`, ""},
		{"functions", `[{"name":"f","parameters":{}}]`, ""},
		{"logit_bias", `{"1":1}`, ""},
		{"logprobs", `true`, ""},
		{"max_completion_tokens", `1`, ""},
		{"max_tokens", `1`, ""},
		{"metadata", `{"a":"b"}`, ""}, // a label of what is stored; nothing is with store off
		{"modalities", `["text","audio"]`, ""},
		{"moderation", `{"model":"omni-moderation-latest"}`, ""}, // the same vendor classifies, and keeps nothing
		{"n", `2`, ""},
		{"parallel_tool_calls", `true`, ""},
		{"prediction", `{"type":"content","content":"x"}`, ""},
		{"presence_penalty", `1`, ""},
		{"prompt_cache_key", `"k"`, ""},                               // routing only
		{"prompt_cache_options", `{"ttl":"30m"}`, ""},                 // the vendor's default
		{"prompt_cache_retention", `"in_memory"`, ""},                 // minutes
		{"prompt_cache_retention", `"24h"`, "prompt_cache_retention"}, // derived data is stored for a day
		{"reasoning_effort", `"high"`, ""},
		{"response_format", `{"type":"json_schema","json_schema":{"schema":{"$ref":"#/$defs/a"}}}`, ""},
		{"response_format", `{"type":"json_schema","json_schema":{"schema":{"properties":{"a":{"$ref":"https://x.example/s"}}}}}`, "schema_ref"},
		{"safety_identifier", `"u"`, ""},
		{"seed", `1`, ""},
		{"service_tier", `"priority"`, ""},
		{"stop", `["x"]`, ""},
		{"store", `true`, "store"},
		{"store", `false`, ""},
		{"stream", `true`, ""},
		{"stream_options", `{"include_usage":true,"include_obfuscation":true}`, ""},
		{"temperature", `1`, ""},
		{"tool_choice", `{"type":"function","function":{"name":"f"}}`, ""}, // chooses among tools, adds none
		{"tools", `[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"c"}}]`, ""},
		{"top_logprobs", `1`, ""},
		{"top_p", `1`, ""},
		{"user", `"u"`, ""},
		{"verbosity", `"low"`, ""},
		{"web_search_options", `{}`, "web_search_options"},
		// Other vendors of the same endpoint.
		{"models", `["other/model"]`, "models"},
		{"route", `"fallback"`, "route"},
		{"provider", `{"order":["x"]}`, "provider"},
		{"plugins", `[{"id":"web"}]`, "plugins"},
		{"search_parameters", `{"mode":"on"}`, "search_parameters"},
		{"search_settings", `{"country":"x"}`, "search_settings"},
		{"enable_search", `true`, "enable_search"},
		{"enable_search", `false`, ""},
		{"data_sources", `[{"type":"azure_search"}]`, "data_sources"},
		{"compound_custom", `{"tools":{}}`, "compound_custom"},
		{"deferred", `true`, "deferred"},
		{"extra_body", `{"google":{"cached_content":"x"}}`, "extra_body"},
		{"cached_content", `"x"`, "cached_content"},
		{"kv_transfer_params", `{"remote_host":"x"}`, "kv_transfer_params"},
		{"logits_processors", `["os.system"]`, "logits_processors"},
		{"chat_template", `"{{ x }}"`, "chat_template"},
		{"agent_id", `"a"`, "agent_id"},
		{"connectors", `[{"id":"x"}]`, "connectors"},
		{"documents", `[{"title":"t","text":"x"}]`, ""},
		// Invented since.
		{"webhook_url", `"https://x.example"`, "url"},
		{"callbackUri", `"https://x.example"`, "url"},
		{"training_file_id", `"file_1"`, "file_id"},
		{"anything_else", `{"a":1}`, ""},
	},
	Responses: {
		{"background", `true`, "background"}, // runs on, and is stored, when the caller has gone
		{"background", `false`, ""},
		{"context_management", `[{"type":"compaction"}]`, ""},
		{"conversation", `"conv_1"`, "conversation"},
		{"conversation", `{"id":"conv_1"}`, "conversation"},
		{"conversation", `null`, ""},
		{"include", `["reasoning.encrypted_content"]`, ""},
		{"input", `"hi"`, ""},
		{"instructions", `"be kind"`, ""},
		{"max_output_tokens", `1`, ""},
		{"max_tool_calls", `1`, ""},
		{"metadata", `{"a":"b"}`, ""},
		{"moderation", `{"model":"omni-moderation-latest"}`, ""},
		{"parallel_tool_calls", `true`, ""},
		{"previous_response_id", `"resp_1"`, "previous_response_id"},
		{"prompt", `{"id":"pmpt_1"}`, "prompt"}, // a stored template, with text and tools nobody has seen
		{"prompt_cache_key", `"k"`, ""},
		{"prompt_cache_options", `{"mode":"explicit"}`, ""},
		{"prompt_cache_retention", `"24h"`, "prompt_cache_retention"},
		{"reasoning", `{"effort":"low","summary":"auto"}`, ""},
		{"safety_identifier", `"u"`, ""},
		{"service_tier", `"flex"`, ""},
		{"store", `true`, "store"},
		{"stream", `true`, ""},
		{"stream_options", `{"include_obfuscation":false}`, ""},
		{"temperature", `1`, ""},
		{"text", `{"format":{"type":"json_schema","schema":{}}}`, ""},
		{"tool_choice", `{"type":"mcp","server_label":"x"}`, ""},
		{"tools", `[{"type":"function","name":"f","parameters":{}}]`, ""},
		{"top_logprobs", `1`, ""},
		{"top_p", `1`, ""},
		{"truncation", `"auto"`, ""},
		{"user", `"u"`, ""},
	},
	Embeddings: {
		{"input", `"text"`, ""},
		{"input", `["a https://x.example","b"]`, ""},
		{"input", `[1,2,3]`, ""},
		{"input", `[[1,2],[3]]`, ""},
		{"input", `[{"image":"https://x.example/a.png"}]`, "image_url"}, // multimodal servers
		{"input", `[{"image":"iVBORw0KGgo="}]`, ""},
		{"messages", `[{"content":[{"type":"image_url","image_url":{"url":"https://x.example"}}]}]`, "image_url"}, // vLLM
		{"dimensions", `1`, ""},
		{"encoding_format", `"base64"`, ""},
		{"user", `"u"`, ""},
	},
	Messages: {
		{"max_tokens", `1`, ""},
		{"messages", `[{"role":"user","content":"hi"}]`, ""},
		{"cache_control", `{"type":"ephemeral"}`, ""},
		{"container", `"c_1"`, "container"},
		{"container", `{"skills":[{"skill_id":"x"}]}`, "container"},
		{"diagnostics", `{"previous_message_id":"msg_1"}`, "diagnostics"}, // compares with a request it remembers
		{"inference_geo", `"global"`, "inference_geo"},                    // chooses where the data goes
		{"metadata", `{"user_id":"u"}`, ""},
		{"output_config", `{"effort":"low"}`, ""},
		{"output_format", `{"type":"json_schema","schema":{}}`, ""},
		{"service_tier", `"standard_only"`, ""},
		{"speed", `"fast"`, ""},
		{"stop_sequences", `["x"]`, ""},
		{"stream", `true`, ""},
		{"system", `"be kind"`, ""},
		{"temperature", `1`, ""},
		{"thinking", `{"type":"adaptive"}`, ""},
		{"tool_choice", `{"type":"any"}`, ""},
		{"tools", `[{"name":"f","input_schema":{"type":"object"}}]`, ""},
		{"top_k", `1`, ""},
		{"top_p", `1`, ""},
		{"user_profile_id", `"u"`, "user_profile_id"},
		{"workspace_id", `"w"`, "workspace_id"},
		// Beta.
		{"billing_policy", `{}`, ""},
		{"compaction", `{}`, ""},
		{"context_management", `{"edits":[]}`, ""},
		{"fallback_credit_token", `"t"`, "fallback_credit_token"},
		{"fallbacks", `[{"model":"other"}]`, "fallbacks"}, // another model than was decided on
		{"fallbacks", `[]`, ""},
		{"mcp_servers", `[{"type":"url","url":"https://x.example","name":"x"}]`, "mcp_servers"},
		{"thread", `{"type":"create"}`, "thread"},
	},
	CountTokens: {
		{"messages", `[{"role":"user","content":"hi"}]`, ""},
		{"system", `"x"`, ""},
		{"tools", `[{"type":"web_search_20260318","name":"web_search"}]`, "tools.web_search"},
		{"thinking", `{"type":"disabled"}`, ""},
		{"workspace_id", `"w"`, "workspace_id"},
		{"mcp_servers", `[{}]`, "mcp_servers"},
	},
}

func names(r *Request) []string {
	var list []string
	for _, x := range r.Risky {
		list = append(list, x.Name)
	}
	return list
}

func TestEveryDocumentedFieldIsClassified(t *testing.T) {
	for ep, list := range fields {
		for _, f := range list {
			t.Run(ep.String()+" "+f.field+" "+f.value, func(t *testing.T) {
				r := scanned(t, ep, `{"`+f.field+`":`+f.value+`,"model":"m"}`)
				var want []string
				if f.risk != "" {
					want = []string{f.risk}
				}
				if got := names(r); !slices.Equal(got, want) {
					t.Fatalf("risks %v, want %v", got, want)
				}
				if f.risk != "" && !strings.HasPrefix(r.Risky[0].Path, f.field) {
					t.Fatalf("path %q", r.Risky[0].Path)
				}
			})
		}
	}
}

func TestToolsTheUpstreamCarriesOutAreRisky(t *testing.T) {
	for _, c := range []struct {
		name string
		ep   Endpoint
		tool string
		risk string
	}{
		{"a function", Responses, `{"type":"function","name":"f","parameters":{}}`, ""},
		{"a custom tool", Responses, `{"type":"custom","name":"f"}`, ""},
		{"a function that does not say so", ChatCompletions, `{"function":{"name":"f"}}`, ""},
		{"web search", Responses, `{"type":"web_search"}`, "tools.web_search"},
		{"web search of a date", Responses, `{"type":"web_search_2025_08_26"}`, "tools.web_search"},
		{"web search in preview", Responses, `{"type":"web_search_preview_2025_03_11"}`, "tools.web_search_preview"},
		{"file search", Responses, `{"type":"file_search","vector_store_ids":["vs_1"]}`, "tools.file_search"},
		{"MCP", Responses, `{"type":"mcp","server_label":"x","server_url":"https://x.example"}`, "tools.mcp"},
		{"code interpreter", Responses, `{"type":"code_interpreter","container":{"type":"auto"}}`, "tools.code_interpreter"},
		{"image generation", Responses, `{"type":"image_generation"}`, "tools.image_generation"},
		{"hosted shell", Responses, `{"type":"shell","environment":{"type":"container_auto"}}`, "tools.shell"},
		{"programmatic calls", Responses, `{"type":"programmatic_tool_calling"}`, "tools.programmatic_tool_calling"},
		{"tool search", Responses, `{"type":"tool_search"}`, "tools.tool_search"},
		{"a namespace", Responses, `{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}`, "tools.namespace"},
		{"a connector", ChatCompletions, `{"type":"connector","connector_id":"x"}`, "tools.connector"},
		{"a type in escapes", Responses, `{"type":"m\u0063p"}`, "tools.mcp"},
		{"a type in capitals", Responses, `{"type":"MCP"}`, "tools.unknown"},
		{"a type of tomorrow", Responses, `{"type":"teleport"}`, "tools.teleport"},
		{"a type that is no word", Responses, `{"type":"` + strings.Repeat("x", 65) + `"}`, "tools.unknown"},
		{"a type that is no string", Responses, `{"type":["function"]}`, "tools.unknown"},
		{"no type and nothing of a function", Responses, `{"server_url":"https://x.example"}`, "tools.untyped"},
		{"function with a space", Responses, `{"type":"function "}`, "tools.unknown"},
		{"a schema that refers out", ChatCompletions, `{"type":"function","function":{"parameters":{"$ref":"http://x.example"}}}`, "schema_ref"},
		{"a schema that refers out in escapes", ChatCompletions, `{"type":"function","function":{"parameters":{"\u0024ref":"http://x.example"}}}`, "schema_ref"},

		{"Anthropic's plain tool", Messages, `{"name":"f","input_schema":{}}`, ""},
		{"Anthropic's null type", Messages, `{"type":null,"name":"f"}`, ""},
		{"Anthropic's custom", Messages, `{"type":"custom","name":"f"}`, ""},
		{"bash", Messages, `{"type":"bash_20250124","name":"bash"}`, ""},
		{"text editor", Messages, `{"type":"text_editor_20250728","name":"x"}`, ""},
		{"computer", Messages, `{"type":"computer_20251124","name":"computer"}`, ""},
		{"memory", Messages, `{"type":"memory_20250818","name":"memory"}`, ""},
		{"computer toolset", Messages, `{"type":"computer_toolset_20260801"}`, ""},
		{"browser toolset", Messages, `{"type":"browser_toolset_20260801"}`, ""},
		{"bash that is hosted", Messages, `{"type":"bash_code_execution_20250825"}`, "tools.bash_code_execution"},
		{"bash without a date", Messages, `{"type":"bash"}`, "tools.bash"},
		{"bash of another kind of date", Messages, `{"type":"bash_2025_01_24"}`, "tools.bash"},
		{"Anthropic's function", Messages, `{"type":"function","name":"f"}`, "tools.function"},
		{"Anthropic's code execution", Messages, `{"type":"code_execution_20260521","name":"code_execution"}`, "tools.code_execution"},
		{"Anthropic's web search", Messages, `{"type":"web_search_20250305","name":"web_search"}`, "tools.web_search"},
		{"Anthropic's web fetch", Messages, `{"type":"web_fetch_20260318","name":"web_fetch"}`, "tools.web_fetch"},
		{"Anthropic's tool search", Messages, `{"type":"tool_search_tool_bm25_20251119","name":"x"}`, "tools.tool_search_tool_bm25"},
		{"Anthropic's MCP toolset", Messages, `{"type":"mcp_toolset","mcp_server_name":"x"}`, "tools.mcp_toolset"},
		{"Anthropic's advisor", Messages, `{"type":"advisor_20260301","name":"advisor","model":"x"}`, "tools.advisor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := scanned(t, c.ep, `{"model":"m","tools":[`+c.tool+`]}`)
			if got := strings.Join(names(r), " "); got != c.risk {
				t.Fatalf("risks %q, want %q", got, c.risk)
			}
			if !r.Features.Has(Tools) {
				t.Fatal("tools are given")
			}
		})
	}
}

func TestContentThatPointsElsewhereIsRisky(t *testing.T) {
	for _, c := range []struct {
		name  string
		ep    Endpoint
		part  string
		risks string // name@path of each, paths below the part
	}{
		{"text that mentions a URL", ChatCompletions, `{"type":"text","text":"see https://x.example"}`, ""},
		{"an image by URL", ChatCompletions, `{"type":"image_url","image_url":{"url":"https://x.example/a.png"}}`, "image_url@.image_url.url"},
		{"an image by URL as a string", ChatCompletions, `{"type":"image_url","image_url":"https://x.example/a.png"}`, "image_url@.image_url"},
		{"an image key in escapes", ChatCompletions, `{"type":"image_url","im\u0061ge_url":{"url":"https://x.example/a.png"}}`, "image_url@.image_url.url"},
		{"an image by URL without a type", ChatCompletions, `{"image_url":{"url":"http://x"}}`, "image_url@.image_url.url"},
		{"an image by URL under another type", ChatCompletions, `{"type":"text","text":"x","image_url":"http://x"}`, "image_url@.image_url"},
		{"an inline image whose scheme is in escapes", ChatCompletions, `{"type":"image_url","image_url":{"url":"d\u0061ta:image/png;base64,AA"}}`, ""},
		{"a scheme in capitals", ChatCompletions, `{"type":"image_url","image_url":{"url":"DATA:image/png;base64,AA"}}`, "image_url@.image_url.url"},
		{"a space before the scheme", ChatCompletions, `{"type":"image_url","image_url":{"url":" data:,"}}`, "image_url@.image_url.url"},
		{"a local file", ChatCompletions, `{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}`, "image_url@.image_url.url"},
		{"a bare path", ChatCompletions, `{"type":"image_url","image_url":{"url":"/etc/passwd"}}`, "image_url@.image_url.url"},
		{"a URL deeper than documented", ChatCompletions, `{"type":"image_url","image_url":{"url":{"url":"http://x"}}}`, "image_url@.image_url.url.url"},
		{"a list of URLs", ChatCompletions, `{"type":"image_url","image_url":["data:,","http://x"]}`, "image_url@.image_url[1]"},
		{"video by URL", ChatCompletions, `{"type":"video_url","video_url":{"url":"https://x"}}`, "video_url@.video_url.url"},
		{"audio by URL", ChatCompletions, `{"type":"audio_url","audio_url":{"url":"https://x"}}`, "audio_url@.audio_url.url"},
		{"Mistral's document", ChatCompletions, `{"type":"document_url","document_url":"https://x"}`, "file_url@.document_url"},
		{"a stored file", ChatCompletions, `{"type":"file","file":{"file_id":"file-1"}}`, "file_id@.file.file_id"},
		{"file data that is a URL", ChatCompletions, `{"type":"file","file":{"file_data":"https://x.example/a.pdf"}}`, "file_url@.file.file_data"},
		{"audio data that is a URL", ChatCompletions, `{"type":"input_audio","input_audio":{"data":"http://x","format":"wav"}}`, "file_url@.input_audio.data"},
		{"a part of tomorrow", ChatCompletions, `{"type":"hologram","text":"x"}`, "content.hologram@.type"},
		{"a part of tomorrow with a URL", ChatCompletions, `{"type":"hologram","hologram_uri":"gs://x"}`, "url@.hologram_uri content.hologram@.type"},
		{"a type that is no string", ChatCompletions, `{"type":1}`, "content.unknown@.type"},

		{"an input image by URL", Responses, `{"type":"input_image","image_url":"https://x"}`, "image_url@.image_url"},
		{"an input image by file", Responses, `{"type":"input_image","file_id":"file-1"}`, "file_id@.file_id"},
		{"an input image by nothing", Responses, `{"type":"input_image","file_id":null,"image_url":"data:,"}`, ""},
		{"an input file by URL", Responses, `{"type":"input_file","file_url":"https://x"}`, "file_url@.file_url"},

		{"Anthropic's image by URL", Messages, `{"type":"image","source":{"type":"url","url":"https://x"}}`, "image_url@.source.url"},
		{"Anthropic's image by URL, type last", Messages, `{"source":{"url":"https://x","type":"url"},"type":"image"}`, "image_url@.source.url"},
		{"Anthropic's image by file", Messages, `{"type":"image","source":{"type":"file","file_id":"f"}}`, "file_id@.source.file_id"},
		{"Anthropic's PDF by URL", Messages, `{"type":"document","source":{"type":"url","url":"https://x"}}`, "file_url@.source.url"},
		{"an image within a document", Messages, `{"type":"document","source":{"type":"content","content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}}`, "image_url@.source.content[0].source.url"},
		{"an image within a tool's result", Messages, `{"type":"tool_result","tool_use_id":"1","content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}`, "image_url@.content[0].source.url"},
		{"a search result that names its source", Messages, `{"type":"search_result","source":"https://x","title":"t","content":[{"type":"text","text":"x"}]}`, ""},
		{"a replayed web search", Messages, `{"type":"web_search_tool_result","tool_use_id":"1","content":[{"type":"web_search_result","url":"https://x","title":"t","encrypted_content":"e"}]}`, ""},
		{"a replayed fetch with a document to fetch", Messages, `{"type":"web_fetch_tool_result","tool_use_id":"1","content":{"type":"web_fetch_result","url":"https://x","content":{"type":"document","source":{"type":"url","url":"https://y"}}}}`, "file_url@.content.content.source.url"},
		{"a hosted call to go on with", Messages, `{"type":"server_tool_use","id":"1","name":"web_search","input":{}}`, "content.server_tool_use@.type"},
		{"an upload to a container", Messages, `{"type":"container_upload","file_id":"f"}`, "file_id@.file_id content.container_upload@.type"},
		{"an MCP call", Messages, `{"type":"mcp_tool_use","id":"1","name":"x","server_name":"y","input":{}}`, "content.mcp_tool_use@.type"},
		{"a tool added in the conversation", Messages, `{"type":"tool_addition","tool":{"type":"web_search_20250305"}}`, "tools.web_search@.tool.type content.tool_addition@.type"},
		{"a replayed execution with a file", Messages, `{"type":"bash_code_execution_tool_result","tool_use_id":"1","content":{"type":"bash_code_execution_result","content":[{"type":"bash_code_execution_output","file_id":"f"}]}}`, "file_id@.content.content[0].file_id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, body := "messages[0].content[0]", `{"model":"m","messages":[{"role":"user","content":[`+c.part+`]}]}`
			if c.ep == Responses {
				at, body = "input[0].content[0]", `{"model":"m","input":[{"role":"user","content":[`+c.part+`]}]}`
			}
			var got []string
			for _, x := range scanned(t, c.ep, body).Risky {
				got = append(got, x.Name+"@"+strings.TrimPrefix(x.Path, at))
			}
			if strings.Join(got, " ") != c.risks {
				t.Fatalf("risks %q, want %q", got, c.risks)
			}
		})
	}
}

func TestItemsOfTheResponsesAPI(t *testing.T) {
	for _, c := range []struct{ name, item, risks string }{
		{"a message", `{"role":"user","content":"hi"}`, ""},
		{"a typed message", `{"type":"message","role":"user","content":[{"type":"input_text","text":"x"}]}`, ""},
		{"an assistant's message", `{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","url":"https://x"}]}]}`, ""},
		{"a reference", `{"type":"item_reference","id":"msg_1"}`, "item_reference"},
		{"a reference that does not say so", `{"id":"msg_1"}`, "item_reference"},
		{"a reference with a null type", `{"type":null,"id":"msg_1"}`, "item_reference"},
		{"a call", `{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}`, ""},
		{"a call's output", `{"type":"function_call_output","call_id":"1","output":"https://x"}`, ""},
		{"a call's output with an image", `{"type":"function_call_output","call_id":"1","output":[{"type":"input_image","image_url":"https://x"}]}`, "image_url"},
		{"a screenshot by URL", `{"type":"computer_call_output","call_id":"1","output":{"type":"computer_screenshot","image_url":"https://x"}}`, "image_url"},
		{"reasoning", `{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"x"}],"encrypted_content":"x"}`, ""},
		{"a replayed search", `{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"open_page","url":"https://x"}}`, ""},
		{"replayed code", `{"type":"code_interpreter_call","id":"ci_1","container_id":"cntr_1","code":"1"}`, "container"},
		{"more tools", `{"type":"additional_tools","role":"developer","tools":[{"type":"mcp","server_url":"https://x"}]}`, "tools.mcp"},
		{"found tools", `{"type":"tool_search_output","tools":[{"type":"function","name":"f"}]}`, ""},
		{"an approval", `{"type":"mcp_approval_response","approval_request_id":"1","approve":true}`, "content.mcp_approval_response"},
		{"an earlier image", `{"type":"image_generation_call","id":"ig_1"}`, "content.image_generation_call"},
		{"a hosted program", `{"type":"program","id":"1","code":"x"}`, "content.program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := scanned(t, Responses, `{"model":"m","input":[`+c.item+`]}`)
			if got := strings.Join(names(r), " "); got != c.risks {
				t.Fatalf("risks %q, want %q", got, c.risks)
			}
		})
	}
}

func TestAnAssistantsEarlierAudioIsAReference(t *testing.T) {
	r := scanned(t, ChatCompletions, `{"model":"m","messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}`)
	if len(r.Risky) != 1 || r.Risky[0] != (Risky{"audio_id", "messages[0].audio.id"}) {
		t.Fatalf("risks %v", r.Risky)
	}
}

func TestEverySignificantKeyIsKnownAsItIsSpelt(t *testing.T) {
	for _, k := range significant {
		if exactKey([]byte(k)) == kUnknown {
			t.Errorf("%q would be refused as ambiguous with itself", k)
		}
	}
}
