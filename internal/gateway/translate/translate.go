package translate

import "time"

// Options say how a translated request is to be written.
type Options struct {
	// Model is the upstream's name of the model; empty keeps the client's.
	Model string
	// MaxTokens bounds the answer when an OpenAI request sets no bound,
	// because Anthropic requires one.
	MaxTokens int64
	// AnthropicVersion is the anthropic-version header that a translated
	// request goes out under; empty means DefaultAnthropicVersion. From
	// 2026-10-21 on, temperature, top_p and top_k no longer exist.
	AnthropicVersion string
	// MaxCompletionTokens writes the bound of a chat request as
	// max_completion_tokens, which OpenAI's own models demand, instead of
	// max_tokens, which every compatible server reads.
	MaxCompletionTokens bool
	// NoStreamOptions leaves stream_options out of a chat request, for a
	// server that refuses it and reports usage unasked (Mistral).
	NoStreamOptions bool
	// ReasoningField names the member of an assistant message in which the
	// OpenAI-compatible upstream takes back its earlier reasoning, for
	// example "reasoning_content"; empty leaves earlier reasoning out.
	ReasoningField string
}

// DefaultAnthropicVersion is the API version translated requests are written
// for unless Options say otherwise: the last one with sampling parameters.
const DefaultAnthropicVersion = "2023-06-01"

// Answer says what a translated answer shows the client.
type Answer struct {
	ID           string    // the answer's id; empty keeps the upstream's
	Model        string    // the name shown to the client; empty keeps the upstream's
	Created      time.Time // OpenAI answers carry it, in seconds
	IncludeUsage bool      // an OpenAI stream ends with a usage chunk
	// OmitReasoning leaves reasoning text out of an Anthropic answer, for a
	// client that sent thinking.display "omitted" (see OmitsThinking).
	OmitReasoning bool
}

// Stable codes of the errors this package returns, all *problem.Error.
const (
	// CodeNotTranslatable: understood, but the provider's dialect cannot say
	// it. Kind Unsupported for a request, Upstream for an answer.
	CodeNotTranslatable = "not-translatable"
	// CodeInvalid: the request breaks the rules of its own dialect.
	CodeInvalid = "request-invalid"
	// CodeUpstreamMalformed: the upstream's answer breaks the rules of its
	// own dialect, or its stream ended early. Kind Upstream.
	CodeUpstreamMalformed = "upstream-malformed"
)
