package wire

import (
	"github.com/missionopsai/foundry/internal/problem"
)

// ErrorBody renders e as the body of an error answer in the dialect's
// documented shape:
//
//	OpenAI     {"error":{"message","type","param","code"}}
//	Anthropic  {"type":"error","error":{"type","message"},"request_id"}
//
// The HTTP status (e.Kind.Status) is what the SDKs choose an exception by.
// OpenAI's shape has no place for the request id: it belongs in the header
// x-request-id, and for Anthropic in request-id as well.
func ErrorBody(d Dialect, e *problem.Error, requestID string) []byte {
	return appendError(nil, d, e, requestID)
}

// ErrorEvent appends the same as a server-sent event that ends a stream. The
// official SDKs raise it: OpenAI's on any data with an "error" member,
// Anthropic's on an event named "error". Nothing must follow it.
func ErrorEvent(dst []byte, d Dialect, e *problem.Error, requestID string) []byte {
	if d == Anthropic {
		dst = append(dst, "event: error\n"...)
	}
	dst = append(dst, "data: "...)
	dst = appendError(dst, d, e, requestID)
	return append(dst, "\n\n"...)
}

func appendError(dst []byte, d Dialect, e *problem.Error, requestID string) []byte {
	message := e.Detail
	if e.Mend != "" {
		message += " " + e.Mend
	}
	if d == Anthropic {
		if e.Field != "" {
			message = e.Field + ": " + message
		}
		dst = append(dst, `{"type":"error","error":{"type":`...)
		dst = appendString(dst, anthropicType(e.Kind))
		dst = append(dst, `,"message":`...)
		dst = appendString(dst, message)
		dst = append(dst, `},"request_id":`...)
		if requestID == "" {
			dst = append(dst, "null"...)
		} else {
			dst = appendString(dst, requestID)
		}
		return append(dst, '}')
	}
	typ, code := openAIType(e)
	dst = append(dst, `{"error":{"message":`...)
	dst = appendString(dst, message)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, typ)
	dst = append(dst, `,"param":`...)
	if e.Field == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, e.Field)
	}
	dst = append(dst, `,"code":`...)
	if code == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, code)
	}
	return append(dst, "}}"...)
}

// anthropicType is the documented error type for a kind
// (docs.claude.com, "Errors").
func anthropicType(k problem.Kind) string {
	switch k {
	case problem.Invalid, problem.Unsupported, problem.Canceled:
		return "invalid_request_error"
	case problem.Unauthenticated:
		return "authentication_error"
	case problem.Denied:
		return "permission_error"
	case problem.NotFound:
		return "not_found_error"
	case problem.Conflict:
		return "conflict_error"
	case problem.TooLarge:
		return "request_too_large"
	case problem.RateLimited, problem.Exhausted:
		return "rate_limit_error"
	case problem.Overloaded:
		return "overloaded_error"
	case problem.Timeout:
		return "timeout_error"
	}
	return "api_error"
}

// openAIType is the type and code OpenAI uses for a kind. Where clients are
// known to compare the code, it is OpenAI's; elsewhere it is ours.
func openAIType(e *problem.Error) (typ, code string) {
	switch e.Kind {
	case problem.Unauthenticated:
		return "invalid_request_error", "invalid_api_key"
	case problem.NotFound:
		if e.Field == "model" {
			return "invalid_request_error", "model_not_found"
		}
		return "invalid_request_error", e.Code
	case problem.RateLimited:
		return "requests", "rate_limit_exceeded"
	case problem.Exhausted:
		return "insufficient_quota", "insufficient_quota"
	case problem.Internal, problem.Upstream, problem.Unavailable, problem.Timeout, problem.Overloaded:
		return "server_error", e.Code
	}
	return "invalid_request_error", e.Code
}
