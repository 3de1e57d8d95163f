package translate

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// statusOverloaded is Anthropic's own status for "try again later".
const statusOverloaded = 529

// fault is what an upstream's error says, in whatever shape it says it.
type fault struct {
	message, kind, code string
	status              int // if the body itself names one
}

// Error translates an upstream's error answer into the client's dialect; one
// that has that dialect's documented shape already stays as it is. The
// status changes only where the dialects use different ones: overload is 529
// at Anthropic and 503 elsewhere, an unpaid bill is 402 at Anthropic and a
// kind of 429 at OpenAI. Text that is not an error object (a proxy's page, for
// example) is replaced. The message is otherwise the upstream's own, so the
// caller redacts it.
func Error(from, to wire.Dialect, status int, body []byte) (newStatus int, out []byte) {
	if from == to && shaped(to, body) {
		return status, body
	}
	if status < 400 {
		status = http.StatusBadGateway
	}
	f := readFault(body)
	if f.message == "" {
		f.message = "The provider answered with status " + strconv.Itoa(status) + " and no explanation."
	}
	if to == wire.Anthropic {
		kind := f.anthropicType(status)
		return anthropicStatus(kind, status), encodeFault(anthropicFault(kind, f.message))
	}
	newStatus, e := f.openAI(status)
	return newStatus, encodeFault(struct {
		Error openAIError `json:"error"`
	}{e})
}

// shaped reports whether an error body is what the dialect's SDKs read.
func shaped(d wire.Dialect, body []byte) bool {
	var doc struct {
		Type  string `json:"type"`
		Error *struct {
			Message *string `json:"message"`
		} `json:"error"`
	}
	return json.Unmarshal(body, &doc) == nil && doc.Error != nil && doc.Error.Message != nil && (d == wire.OpenAI || doc.Type == "error")
}

func encodeFault(v any) []byte {
	out, err := encode(v)
	if err != nil { // strings and integers always encode
		return []byte(`{"error":{"message":"The provider failed.","type":"server_error","param":null,"code":null}}`)
	}
	return out
}

// readFault finds the message, type and code of an error body: OpenAI's and
// Anthropic's nested object, and what compatible servers say instead ({"error":
// "text"}, {"object":"error","message":…}, {"detail":…}).
func readFault(body []byte) fault {
	r := &reader{answer: true}
	in := r.read(body)
	if r.err != nil {
		return fault{}
	}
	holder := in
	if n, ok := in.take("error"); ok {
		if n.isString() {
			return fault{message: n.str()}
		}
		if n.isObject() {
			holder = n.object()
		}
	}
	var f fault
	f.message = looseString(holder, "message")
	if f.message == "" {
		f.message = looseString(holder, "detail")
	}
	f.kind = looseString(holder, "type")
	f.code = looseString(holder, "code")
	if n, err := strconv.Atoi(f.code); err == nil && n >= 400 && n < 600 {
		f.status = n
	}
	return f
}

// looseString reads a member as text: a string or number as it is, anything
// else as its JSON.
func looseString(o *object, key string) string {
	n, ok := o.take(key)
	switch {
	case !ok:
		return ""
	case n.isString():
		return n.str()
	}
	return string(bytes.TrimSpace(n.raw))
}

// The error types of https://platform.claude.com/docs/en/api/errors.
var anthropicTypes = map[int]string{
	400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
	403: "permission_error", 404: "not_found_error", 409: "conflict_error", 413: "request_too_large",
	429: "rate_limit_error", 500: "api_error", 503: "overloaded_error", 504: "timeout_error",
	statusOverloaded: "overloaded_error",
}

// anthropicType names an OpenAI-dialect error in Anthropic's terms. What the
// error calls itself goes before the status, because errors inside a stream
// have none.
func (f fault) anthropicType(status int) string {
	switch {
	case f.kind == "insufficient_quota" || f.code == "insufficient_quota":
		return "billing_error"
	case f.code == "rate_limit_exceeded" || f.kind == "rate_limit_error":
		return "rate_limit_error"
	}
	if status == 0 {
		status = f.status
	}
	if t, ok := anthropicTypes[status]; ok {
		return t
	}
	if status >= 400 && status < 500 || status == 0 && f.kind == "invalid_request_error" {
		return "invalid_request_error"
	}
	return "api_error"
}

func anthropicStatus(kind string, status int) int {
	switch kind {
	case "billing_error":
		return http.StatusPaymentRequired
	case "overloaded_error":
		return statusOverloaded
	case "rate_limit_error":
		return http.StatusTooManyRequests
	}
	return status
}

type anthropicErrorBody struct {
	Type      string         `json:"type"`
	Error     anthropicError `json:"error"`
	RequestID *null          `json:"request_id"`
}

type anthropicError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func anthropicFault(kind, message string) anthropicErrorBody {
	return anthropicErrorBody{Type: "error", Error: anthropicError{kind, message}}
}

// openAIError is the error object of OpenAI's API.
type openAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *null   `json:"param"`
	Code    *string `json:"code"`
}

// openAITypes are the type, code and status OpenAI gives for what Anthropic
// names.
var openAITypes = map[string]struct {
	kind, code string
	status     int
}{
	"invalid_request_error": {"invalid_request_error", "", 400},
	"authentication_error":  {"invalid_request_error", "invalid_api_key", 401},
	"billing_error":         {"insufficient_quota", "insufficient_quota", 429},
	"permission_error":      {"invalid_request_error", "insufficient_permissions", 403},
	"not_found_error":       {"invalid_request_error", "not_found", 404},
	"conflict_error":        {"invalid_request_error", "conflict", 409},
	"request_too_large":     {"invalid_request_error", "request_too_large", 413},
	"rate_limit_error":      {"requests", "rate_limit_exceeded", 429},
	"timeout_error":         {"server_error", "timeout", 504},
	"overloaded_error":      {"server_error", "overloaded", 503},
	"api_error":             {"server_error", "", 500},
}

// openAI names an Anthropic-dialect error in OpenAI's terms.
func (f fault) openAI(status int) (int, openAIError) {
	t, ok := openAITypes[f.kind]
	if !ok {
		if t, ok = openAITypes[anthropicTypes[status]]; !ok {
			t = openAITypes["api_error"]
			if status >= 400 && status < 500 {
				t = openAITypes["invalid_request_error"]
			}
		}
	}
	e := openAIError{Message: f.message, Type: t.kind}
	if t.code != "" {
		e.Code = &t.code
	}
	switch t.status {
	case 429, 503:
		return t.status, e
	}
	return status, e
}
