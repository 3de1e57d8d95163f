// Package translate knows how to say in one model API's dialect what was said
// in the other's: OpenAI chat completions and Anthropic messages, requests,
// answers, streams and errors, in both directions.
package translate

import (
	"time"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

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

// ChatToMessages translates an OpenAI chat completions request into an
// Anthropic messages request.
func ChatToMessages(body []byte, o Options) ([]byte, error) { return nil, nil }

// MessagesToChat translates an Anthropic messages request into an OpenAI chat
// completions request.
func MessagesToChat(body []byte, o Options) ([]byte, error) { return nil, nil }

// OmitsThinking reports whether an Anthropic request asks for answers without
// thinking text.
func OmitsThinking(body []byte) bool { return false }

// MessageToChatCompletion translates a whole Anthropic answer.
func MessageToChatCompletion(body []byte, a Answer) ([]byte, error) { return nil, nil }

// ChatCompletionToMessage translates a whole OpenAI answer.
func ChatCompletionToMessage(body []byte, a Answer) ([]byte, error) { return nil, nil }

// MessagesToChatStream turns an Anthropic event stream into an OpenAI one.
type MessagesToChatStream struct{ a Answer }

// NewMessagesToChatStream begins a stream.
func NewMessagesToChatStream(a Answer) *MessagesToChatStream { return &MessagesToChatStream{a: a} }

// Event appends zero or more complete SSE events.
func (s *MessagesToChatStream) Event(dst []byte, ev wire.Event) ([]byte, error) { return dst, nil }

// Close appends what is still owed at the end of the upstream's stream, or
// returns an error if that stream was not complete.
func (s *MessagesToChatStream) Close(dst []byte) ([]byte, error) { return dst, nil }

// ChatToMessagesStream turns an OpenAI event stream into an Anthropic one.
type ChatToMessagesStream struct{ a Answer }

// NewChatToMessagesStream begins a stream.
func NewChatToMessagesStream(a Answer) *ChatToMessagesStream { return &ChatToMessagesStream{a: a} }

// Event appends zero or more complete SSE events.
func (s *ChatToMessagesStream) Event(dst []byte, ev wire.Event) ([]byte, error) { return dst, nil }

// Close returns an error if the upstream's stream was not complete.
func (s *ChatToMessagesStream) Close(dst []byte) ([]byte, error) { return dst, nil }

// Error translates an upstream's error answer into the other dialect.
func Error(from, to wire.Dialect, status int, body []byte) (newStatus int, out []byte) {
	return status, body
}
