package translate

import "encoding/json"

// The shapes below are only written, never read. Anthropic's are those of API
// version 2026-10-21 as its TypeScript SDK 1.12 types them; what 2023-06-01
// does not know in answers, its clients ignore. OpenAI's are those of the
// openai package 6.49.

// block is an Anthropic content block.
type block struct {
	Type         string          `json:"type"`
	Text         *string         `json:"text,omitempty"`
	Citations    *null           `json:"citations,omitempty"`
	Thinking     *string         `json:"thinking,omitempty"`
	Signature    *string         `json:"signature,omitempty"`
	Data         string          `json:"data,omitempty"`
	ID           string          `json:"id,omitempty"`
	Name         string          `json:"name,omitempty"`
	Input        json.RawMessage `json:"input,omitempty"`
	Caller       *typed          `json:"caller,omitempty"`
	ToolUseID    string          `json:"tool_use_id,omitempty"`
	Content      []block         `json:"content,omitempty"`
	Source       *source         `json:"source,omitempty"`
	Title        string          `json:"title,omitempty"`
	CacheControl *typed          `json:"cache_control,omitempty"`

	plain string // written in place of Content when Content is empty
}

// typed is an object that only says what it is.
type typed struct {
	Type string `json:"type"`
}

// null renders as null where omitempty would otherwise leave a member out.
type null struct{}

func (null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// MarshalJSON writes a tool result's plain text as a string.
func (b block) MarshalJSON() ([]byte, error) {
	type bare block
	if b.plain == "" {
		return encode(bare(b))
	}
	return encode(struct {
		bare
		Content string `json:"content"`
	}{bare(b), b.plain})
}

// source is where an image or a document comes from.
type source struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type,omitempty"`
	Data      string `json:"data,omitempty"`
	URL       string `json:"url,omitempty"`
}

// turn is a message of an Anthropic request. A nil blocks writes text.
type turn struct {
	role   string
	text   string
	blocks []block
	path   string // of the message it came from
}

func (t turn) MarshalJSON() ([]byte, error) {
	var content any = t.text
	if t.blocks != nil {
		content = t.blocks
	}
	return encode(struct {
		Role    string `json:"role"`
		Content any    `json:"content"`
	}{t.role, content})
}

type messagesRequest struct {
	Model         string          `json:"model"`
	MaxTokens     int64           `json:"max_tokens"`
	System        any             `json:"system,omitempty"`
	Messages      []turn          `json:"messages"`
	Tools         []anthropicTool `json:"tools,omitempty"`
	ToolChoice    *toolChoice     `json:"tool_choice,omitempty"`
	StopSequences []string        `json:"stop_sequences,omitempty"`
	Temperature   json.RawMessage `json:"temperature,omitempty"`
	TopP          json.RawMessage `json:"top_p,omitempty"`
	TopK          json.RawMessage `json:"top_k,omitempty"`
	Thinking      *typed          `json:"thinking,omitempty"`
	OutputConfig  *outputConfig   `json:"output_config,omitempty"`
	Metadata      *userID         `json:"metadata,omitempty"`
	ServiceTier   string          `json:"service_tier,omitempty"`
	Stream        bool            `json:"stream,omitempty"`
}

type userID struct {
	UserID string `json:"user_id"`
}

type outputConfig struct {
	Effort string        `json:"effort,omitempty"`
	Format *outputFormat `json:"format,omitempty"`
}

type outputFormat struct {
	Type   string          `json:"type"`
	Schema json.RawMessage `json:"schema"`
}

type anthropicTool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"input_schema"`
	Strict      *bool           `json:"strict,omitempty"`
}

type toolChoice struct {
	Type            string `json:"type"`
	Name            string `json:"name,omitempty"`
	DisableParallel bool   `json:"disable_parallel_tool_use,omitempty"`
}

type chatRequest struct {
	Model               string          `json:"model"`
	Messages            []chatMessage   `json:"messages"`
	Tools               []chatTool      `json:"tools,omitempty"`
	ToolChoice          any             `json:"tool_choice,omitempty"`
	ParallelToolCalls   *bool           `json:"parallel_tool_calls,omitempty"`
	MaxTokens           int64           `json:"max_tokens,omitempty"`
	MaxCompletionTokens int64           `json:"max_completion_tokens,omitempty"`
	Stop                []string        `json:"stop,omitempty"`
	Temperature         json.RawMessage `json:"temperature,omitempty"`
	TopP                json.RawMessage `json:"top_p,omitempty"`
	ReasoningEffort     string          `json:"reasoning_effort,omitempty"`
	ResponseFormat      *responseFormat `json:"response_format,omitempty"`
	User                string          `json:"user,omitempty"`
	ServiceTier         string          `json:"service_tier,omitempty"`
	Stream              bool            `json:"stream,omitempty"`
	StreamOptions       *streamOptions  `json:"stream_options,omitempty"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type responseFormat struct {
	Type       string      `json:"type"`
	JSONSchema *jsonSchema `json:"json_schema,omitempty"`
}

type jsonSchema struct {
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	Strict bool            `json:"strict"`
}

// chatMessage is a message of an OpenAI request. A nil parts writes text, or
// null if there is neither text nor anything but tool calls.
type chatMessage struct {
	role       string
	text       string
	parts      []part
	toolCalls  []toolCall
	toolCallID string
	// Earlier reasoning, under the name the upstream reads it by.
	reasoning, reasoningField string
}

func (m chatMessage) MarshalJSON() ([]byte, error) {
	var content any = m.text
	switch {
	case m.parts != nil:
		content = m.parts
	case m.text == "" && len(m.toolCalls) > 0:
		content = nil
	}
	out, err := encode(struct {
		Role       string     `json:"role"`
		ToolCallID string     `json:"tool_call_id,omitempty"`
		Content    any        `json:"content"`
		ToolCalls  []toolCall `json:"tool_calls,omitempty"`
	}{m.role, m.toolCallID, content, m.toolCalls})
	if err != nil || m.reasoning == "" {
		return out, err
	}
	extra, err := encode(map[string]string{m.reasoningField: m.reasoning})
	if err != nil {
		return nil, err
	}
	return append(append(out[:len(out)-1], ','), extra[1:]...), nil
}

// part is an OpenAI content part.
type part struct {
	Type     string    `json:"type"`
	Text     *string   `json:"text,omitempty"`
	ImageURL *imageURL `json:"image_url,omitempty"`
	File     *file     `json:"file,omitempty"`
}

type imageURL struct {
	URL string `json:"url"`
}

type file struct {
	Filename string `json:"filename"`
	FileData string `json:"file_data"`
}

type toolCall struct {
	Index    *int     `json:"index,omitempty"` // in stream deltas only
	ID       string   `json:"id,omitempty"`
	Type     string   `json:"type,omitempty"`
	Function function `json:"function"`
}

type function struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

type chatTool struct {
	Type     string          `json:"type"`
	Function functionDefined `json:"function"`
}

type functionDefined struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
	Strict      *bool           `json:"strict,omitempty"`
}

func text(s string) block { return block{Type: "text", Text: &s} }

func textPart(s string) part { return part{Type: "text", Text: &s} }
