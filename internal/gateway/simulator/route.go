package simulator

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"
)

// refuse answers where the fault is an error in place of an answer.
func (x *exchange) refuse() (reply, bool) {
	switch f := x.fault; f.Name {
	case faultStatus, faultEarlyError:
		rep := x.statusError(f.Status)
		if f.Name == faultEarlyError {
			rep.header.Set("Connection", "close")
		}
		return rep, true
	case faultQuotesKey:
		return x.quotesKey(), true
	case faultQuota:
		return x.quota(), true
	case faultContext:
		return x.fail(x.tooLong(x.s.o.ContextTokens + 1)), true
	}
	return reply{}, false
}

// answer routes the request and builds the whole reply.
func (x *exchange) answer() reply {
	if rep, done := x.refuse(); done {
		return rep
	}
	if rep, ok := x.unauthenticated(); ok {
		return rep
	}
	if x.s.o.Format == Ollama {
		if rep, ok := x.ollamaNative(); ok {
			return rep
		}
	}
	method, handle := x.endpoint()
	if handle == nil {
		return x.noSuchPath()
	}
	if x.r.Method != method {
		return x.wrongMethod(method)
	}
	return handle()
}

// endpoint finds what answers the path, nil if nothing does.
func (x *exchange) endpoint() (method string, handle func() reply) {
	path := x.r.URL.Path
	if x.s.o.Format == Anthropic {
		switch path {
		case "/v1/messages":
			return http.MethodPost, x.messages
		case "/v1/messages/count_tokens":
			return http.MethodPost, x.countTokens
		}
	} else {
		switch path {
		case "/v1/chat/completions":
			return http.MethodPost, x.chat
		case "/v1/embeddings":
			return http.MethodPost, x.embeddings
		case "/v1/responses":
			if x.s.o.Format != Mistral {
				return http.MethodPost, x.responses
			}
		}
	}
	if path == "/v1/models" || strings.HasPrefix(path, "/v1/models/") {
		return http.MethodGet, x.models
	}
	return "", nil
}

func bearer(header string) string {
	if len(header) > 7 && strings.EqualFold(header[:7], "Bearer ") {
		return header[7:]
	}
	return ""
}

// unauthenticated checks the credential, and Anthropic's version header.
func (x *exchange) unauthenticated() (reply, bool) {
	h := x.r.Header
	key := bearer(h.Get("Authorization"))
	if x.s.o.Format == Anthropic && h.Get("X-Api-Key") != "" {
		key = h.Get("X-Api-Key")
	}
	if x.s.o.APIKey != "" && subtle.ConstantTimeCompare([]byte(key), []byte(x.s.o.APIKey)) != 1 {
		f := x.statusFailure(http.StatusUnauthorized)
		switch {
		case x.s.o.Format == Anthropic && key == "":
			f.message = "x-api-key header is required"
		case x.s.o.Format == Mistral || x.s.o.Format == Anthropic:
		case key == "":
			f.message, f.code = "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API from your browser and are prompted for a username and password. You can obtain an API key from https://platform.openai.com/account/api-keys.", ""
		default:
			f.message = "Incorrect API key provided: " + mask(key) + ". You can find your API key at https://platform.openai.com/account/api-keys."
		}
		return x.fail(f), true
	}
	if x.s.o.Format == Anthropic {
		switch version := h.Get("Anthropic-Version"); {
		case version == "":
			return x.fail(*invalid("anthropic-version: header is required", "", "")), true
		case version != firstVersion && version != secondVersion:
			return x.fail(*invalid("anthropic-version: \""+version+"\" is not a valid version", "", "")), true
		}
	}
	return reply{}, false
}

// mask shows a key as OpenAI's error does.
func mask(key string) string {
	if len(key) <= 8 {
		return strings.Repeat("*", len(key))
	}
	return key[:4] + strings.Repeat("*", len(key)-8) + key[len(key)-4:]
}

func (x *exchange) noSuchPath() reply {
	where := x.r.Method + " " + x.r.URL.Path
	switch x.s.o.Format {
	case Anthropic:
		return x.fail(failure{status: 404, kind: "not_found_error", message: "Not Found"})
	case Mistral:
		rep := x.fail(failure{status: 404})
		rep.body = render(o{"message", "no Route matched with those values"})
		return rep
	case Ollama:
		return reply{status: 404, header: http.Header{"Content-Type": {"text/plain"}, "Server": {"foundry-simulator"}}, body: []byte("404 page not found")}
	}
	return x.fail(failure{status: 404, kind: "invalid_request_error", message: "Invalid URL (" + where + ")"})
}

func (x *exchange) wrongMethod(allowed string) reply {
	message := "Not allowed to " + x.r.Method + " on " + x.r.URL.Path + ". (HINT: Perhaps you meant to use a different HTTP method?)"
	f := failure{status: 405, kind: "invalid_request_error", message: message, code: "method_not_supported"}
	if x.s.o.Format == Anthropic || x.s.o.Format == Mistral {
		f.message, f.code = "Method Not Allowed", ""
	}
	rep := x.fail(f)
	rep.header.Set("Allow", allowed)
	return rep
}

// offers says whether a model exists. Ollama's names may carry the tag they
// have anyway.
func (s *Simulator) offers(model string) bool {
	if s.o.Format == Ollama {
		model = strings.TrimSuffix(model, ":latest")
	}
	return slices.ContainsFunc(s.o.Models, func(m string) bool {
		return m == model || s.o.Format == Ollama && strings.TrimSuffix(m, ":latest") == model
	})
}

// released is when the pretended models came out, for the lists.
var released = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (x *exchange) models() reply {
	id := strings.TrimPrefix(strings.TrimPrefix(x.r.URL.Path, "/v1/models"), "/")
	if id != "" {
		if !x.s.offers(id) {
			return x.fail(x.unknownModel(id))
		}
		return x.ok(x.modelCard(id))
	}
	cards := make([]any, len(x.s.o.Models))
	for i, m := range x.s.o.Models {
		cards[i] = x.modelCard(m)
	}
	if x.s.o.Format != Anthropic {
		return x.ok(o{"object", "list", "data", cards})
	}
	var first, last any
	if n := len(x.s.o.Models); n > 0 {
		first, last = x.s.o.Models[0], x.s.o.Models[n-1]
	}
	return x.ok(o{"data", cards, "has_more", false, "first_id", first, "last_id", last})
}

func (x *exchange) modelCard(id string) o {
	switch x.s.o.Format {
	case Anthropic:
		return o{"type", "model", "id", id, "display_name", "Simulator (" + id + ")", "created_at", released.Format(time.RFC3339),
			"lifecycle", "active", "deprecated_at", nil, "retires_at", nil, "line", nil, "capabilities", nil,
			"max_input_tokens", x.s.o.ContextTokens, "max_tokens", maxAnthropicOutput}
	case Mistral:
		embeds := strings.Contains(id, "embed")
		return o{"id", id, "object", "model", "created", x.now.Unix(), "owned_by", "foundry-simulator", "name", id,
			"description", "Simulator, no model.", "max_context_length", x.s.o.ContextTokens, "aliases", []any{},
			"deprecation", nil, "default_model_temperature", 0.3, "type", "base", "internal", false,
			"capabilities", o{"completion_chat", !embeds, "completion_fim", false, "function_calling", !embeds,
				"fine_tuning", false, "vision", !embeds, "classification", false}}
	case Ollama:
		return o{"id", id, "object", "model", "created", released.Unix(), "owned_by", "library"}
	}
	return o{"id", id, "object", "model", "created", released.Unix(), "owned_by", "foundry-simulator"}
}

func (x *exchange) unknownModel(id string) failure {
	switch x.s.o.Format {
	case Anthropic:
		return failure{status: 404, kind: "not_found_error", message: "model: " + id}
	case Mistral:
		return failure{status: 400, kind: "invalid_model", message: "Invalid model: " + id, code: "1500"}
	case Ollama:
		return failure{status: 404, kind: "not_found_error", message: "model '" + id + "' not found"}
	}
	return failure{status: 404, kind: "invalid_request_error", code: "model_not_found",
		message: "The model `" + id + "` does not exist or you do not have access to it."}
}

func (x *exchange) ok(v any) reply {
	return reply{status: http.StatusOK, header: x.header("application/json"), body: render(v)}
}

func (x *exchange) stream() reply {
	rep := reply{status: http.StatusOK, header: x.header("text/event-stream; charset=utf-8"), events: []event{}}
	if x.s.o.Format == Ollama {
		rep.header.Set("Content-Type", "text/event-stream")
	}
	rep.header.Set("Cache-Control", "no-cache")
	return rep
}

// ollamaNative answers the endpoints of Ollama's own API that a gateway uses
// to look after a server.
func (x *exchange) ollamaNative() (reply, bool) {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return reply{}, false
	}
	var cards []any
	for _, m := range x.s.o.Models {
		cards = append(cards, o{"name", m, "model", m, "modified_at", released.Format(time.RFC3339), "size", 1000000,
			"digest", strings.Repeat("0", 64), "details", o{"parent_model", "", "format", "gguf", "family", "simulator",
				"families", []any{"simulator"}, "parameter_size", "0B", "quantization_level", "none"}})
	}
	switch x.r.URL.Path {
	case "/":
		return reply{status: 200, header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Server": {"foundry-simulator"}}, body: []byte("Ollama is running")}, true
	case "/api/version":
		return x.ok(o{"version", "0.0.0-simulator"}), true
	case "/api/tags":
		return x.ok(o{"models", append([]any{}, cards...)}), true
	case "/api/ps":
		for i, c := range cards {
			cards[i] = append(c.(o), "expires_at", x.now.Add(5*time.Minute).UTC().Format(time.RFC3339), "size_vram", 0)
		}
		return x.ok(o{"models", append([]any{}, cards...)}), true
	}
	return reply{}, false
}
