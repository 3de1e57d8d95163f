package simulator

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// failure is an error in the vendor's words. Param and code are null if empty,
// except where a format has no such member.
type failure struct {
	status  int
	kind    string // the error's type
	message any    // a string, or Mistral's structure
	param   string
	code    string
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Sources: platform.openai.com/docs/guides/error-codes,
// docs.anthropic.com/en/api/errors, docs.mistral.ai (error bodies as in its
// clients' issue trackers) and Ollama's openai package.
func (x *exchange) failureBody(f failure) []byte {
	switch x.s.o.Format {
	case Anthropic:
		return render(o{"type", "error", "error", o{"type", f.kind, "message", f.message}, "request_id", x.id("req_")})
	case Mistral:
		if f.status == http.StatusUnauthorized && f.kind == "" {
			return render(o{"detail", f.message})
		}
		return render(o{"object", "error", "message", f.message, "type", f.kind, "param", orNull(f.param),
			"code", orNull(f.code), "raw_status_code", f.status})
	}
	return render(o{"error", o{"message", f.message, "type", f.kind, "param", orNull(f.param), "code", orNull(f.code)}})
}

// fail answers with an error.
func (x *exchange) fail(f failure) reply {
	h := x.header("application/json")
	if x.s.o.Format == Anthropic && f.status >= 500 {
		h.Set("X-Should-Retry", "true")
	}
	if x.s.o.Format == Ollama || x.s.o.Format == OpenAICompatible {
		h = http.Header{"Content-Type": {"application/json"}, "Server": {"foundry-simulator"}}
	}
	return reply{status: f.status, header: h, body: x.failureBody(f)}
}

// invalid is a 400 of the OpenAI family.
func invalid(message, param, code string) *failure {
	return &failure{status: http.StatusBadRequest, kind: "invalid_request_error", message: message, param: param, code: code}
}

// statusError is the vendor's error for a status, as a fault asks for it.
func (x *exchange) statusError(status int) reply {
	rep := x.fail(x.statusFailure(status))
	if x.fault.RetryAfter != "" {
		rep.header.Set("Retry-After", x.fault.RetryAfter)
	}
	if x.s.o.Format == OpenAI && status == http.StatusTooManyRequests && x.fault.RetryAfter != "" {
		if seconds, err := strconv.ParseFloat(x.fault.RetryAfter, 64); err == nil {
			rep.header.Set("Retry-After-Ms", strconv.Itoa(int(seconds*1000)))
		}
	}
	return rep
}

func (x *exchange) statusFailure(status int) failure {
	switch x.s.o.Format {
	case Anthropic:
		return anthropicStatus(status)
	case Mistral:
		return mistralStatus(status)
	case Ollama:
		return ollamaStatus(status)
	}
	return openAIStatus(status)
}

func openAIStatus(status int) failure {
	f := failure{status: status, kind: "invalid_request_error", message: http.StatusText(status)}
	switch status {
	case 401:
		f.message, f.code = "Incorrect API key provided: simu****ator. You can find your API key at https://platform.openai.com/account/api-keys.", "invalid_api_key"
	case 403:
		f.message, f.code = "Country, region, or territory not supported", "unsupported_country_region_territory"
		f.kind = "request_forbidden"
	case 404:
		f.message, f.code = "The model `simulator-gone` does not exist or you do not have access to it.", "model_not_found"
	case 429:
		f.message = "Rate limit reached for simulator-chat in organization org-simulator on requests per min (RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms. Visit https://platform.openai.com/account/rate-limits to learn more."
		f.kind, f.code = "requests", "rate_limit_exceeded"
	case 503:
		f.message = "The engine is currently overloaded, please try again later"
		f.kind = "service_unavailable_error"
	default:
		if status >= 500 {
			f.message = "The server had an error while processing your request. Sorry about that!"
			f.kind = "server_error"
		}
	}
	return f
}

func anthropicStatus(status int) failure {
	f := failure{status: status, kind: "invalid_request_error", message: http.StatusText(status)}
	switch status {
	case 401:
		f.kind, f.message = "authentication_error", "invalid x-api-key"
	case 402:
		f.kind, f.message = "billing_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
	case 403:
		f.kind, f.message = "permission_error", "Your API key does not have permission to use the specified resource."
	case 404:
		f.kind, f.message = "not_found_error", "model: simulator-gone"
	case 408:
		f.kind, f.message = "timeout_error", "Request timed out"
	case 409:
		f.kind, f.message = "conflict_error", "Conflict"
	case 413:
		f.kind, f.message = "request_too_large", "Request exceeds the maximum size"
	case 429:
		f.kind, f.message = "rate_limit_error", "This request would exceed your organization's rate limit of 50 requests per minute. For details, refer to: https://docs.anthropic.com/en/api/rate-limits."
	case 504:
		f.kind, f.message = "timeout_error", "Request timed out"
	case 529:
		f.kind, f.message = "overloaded_error", "Overloaded"
	default:
		if status >= 500 {
			f.kind, f.message = "api_error", "Internal server error"
		}
	}
	return f
}

func mistralStatus(status int) failure {
	f := failure{status: status, kind: "invalid_request_error", message: http.StatusText(status)}
	switch status {
	case 401:
		f.kind, f.message = "", "Unauthorized"
	case 404:
		f.message, f.kind, f.code = "Invalid model: simulator-gone", "invalid_model", "1500"
	case 422:
		f.message = o{"detail", []any{o{"type", "missing", "loc", []any{"body", "messages"}, "msg", "Field required", "input", o{}}}}
	case 429:
		f.message, f.kind, f.code = "Rate limit exceeded", "rate_limited", "1300"
	case 503:
		f.message, f.kind, f.code = "Service unavailable.", "unreachable_backend", "1100"
	default:
		if status >= 500 {
			f.message, f.kind, f.code = "Service unavailable.", "internal_server_error", "1000"
		}
	}
	return f
}

func ollamaStatus(status int) failure {
	f := failure{status: status, kind: "api_error", message: http.StatusText(status)}
	switch status {
	case 400:
		f.kind = "invalid_request_error"
	case 404:
		f.kind, f.message = "not_found_error", `model "simulator-gone" not found, try pulling it first`
	case 500:
		f.message = "llama runner process has terminated: simulated"
	case 503:
		f.message = "server busy, please try again.  maximum pending requests exceeded"
	}
	return f
}

// quotesKey is an error whose text carries the secrets of the request, as some
// vendors and many proxies have let slip.
func (x *exchange) quotesKey() reply {
	f := x.statusFailure(x.fault.Status)
	key := x.r.Header.Get("X-Api-Key")
	if key == "" {
		key = bearer(x.r.Header.Get("Authorization"))
	}
	f.message = fmt.Sprintf("Incorrect API key provided: %s. (upstream request: Authorization: Bearer %s, https://user:%s@gateway.internal.invalid/v1?api_key=%s)", key, key, key, key)
	return x.fail(f)
}

func (x *exchange) quota() reply {
	switch x.s.o.Format {
	case Anthropic:
		return x.fail(anthropicStatus(402))
	case Mistral:
		return x.fail(failure{status: 429, kind: "invalid_request_error", message: "Service tier capacity exceeded for this model.", code: "3505"})
	}
	return x.fail(failure{status: 429, kind: "insufficient_quota", code: "insufficient_quota",
		message: "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."})
}

// tooLong is the error for a prompt beyond the context window.
func (x *exchange) tooLong(tokens int) failure {
	limit := x.s.o.ContextTokens
	switch x.s.o.Format {
	case Anthropic:
		return failure{status: 400, kind: "invalid_request_error", message: fmt.Sprintf("prompt is too long: %d tokens > %d maximum", tokens, limit)}
	case Mistral:
		return failure{status: 400, kind: "invalid_request_prompt", code: "3051",
			message: fmt.Sprintf("Prompt contains %d tokens and 0 draft tokens, too large for model with %d maximum context length", tokens, limit)}
	}
	return failure{status: 400, kind: "invalid_request_error", param: "messages", code: "context_length_exceeded",
		message: fmt.Sprintf("This model's maximum context length is %d tokens. However, your messages resulted in %d tokens. Please reduce the length of the messages.", limit, tokens)}
}

// streamError is the vendor's error in the middle of a stream. at is the
// number of events before it.
func (x *exchange) streamError(at int) []event {
	f := x.statusFailure(http.StatusInternalServerError)
	switch {
	case x.s.o.Format == Anthropic:
		f = anthropicStatus(529)
		return []event{{data: named("error", x.failureBody(f))}}
	case x.r.URL.Path == "/v1/responses":
		body := render(o{"type", "error", "code", f.kind, "message", f.message, "param", nil, "sequence_number", at})
		return []event{{data: named("error", body)}}
	}
	return []event{{data: data(x.failureBody(f))}}
}

// data renders a server-sent event without a name, named one with.
func data(body []byte) []byte { return append(append([]byte("data: "), body...), "\n\n"...) }

func named(name string, body []byte) []byte {
	return append([]byte("event: "+name+"\n"), data(body)...)
}

// header is what the vendor sends with every answer.
func (x *exchange) header(contentType string) http.Header {
	h := http.Header{"Content-Type": {contentType}, "Server": {"foundry-simulator"}}
	reset := x.now.Add(time.Minute).UTC().Format(time.RFC3339)
	limits := func(pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
	}
	switch x.s.o.Format {
	case OpenAI:
		limits("X-Request-Id", x.id("req_"), "Openai-Organization", "org-simulator", "Openai-Version", "2020-10-01",
			"Openai-Processing-Ms", "1",
			"X-Ratelimit-Limit-Requests", "500", "X-Ratelimit-Remaining-Requests", "499", "X-Ratelimit-Reset-Requests", "120ms",
			"X-Ratelimit-Limit-Tokens", "200000", "X-Ratelimit-Remaining-Tokens", "199000", "X-Ratelimit-Reset-Tokens", "300ms")
	case Anthropic:
		limits("Request-Id", x.id("req_"), "Anthropic-Organization-Id", "00000000-0000-4000-8000-000000000000")
		for _, kind := range []string{"Requests", "Tokens", "Input-Tokens", "Output-Tokens"} {
			limits("Anthropic-Ratelimit-"+kind+"-Limit", "50000", "Anthropic-Ratelimit-"+kind+"-Remaining", "49000",
				"Anthropic-Ratelimit-"+kind+"-Reset", reset)
		}
	case Mistral:
		limits("Mistral-Correlation-Id", x.id(""), "X-Kong-Request-Id", x.id(""),
			"X-Ratelimit-Limit-Req-Minute", "60", "X-Ratelimit-Remaining-Req-Minute", "59",
			"X-Ratelimit-Limit-Tokens-Minute", "500000", "X-Ratelimit-Remaining-Tokens-Minute", "499000")
	}
	return h
}
