package translate

// tokens is what an answer cost, in Anthropic's terms: input excludes what was
// read from and written to the cache. OpenAI's prompt_tokens includes both.
type tokens struct {
	input, cacheRead, cacheWrite, output, reasoning int64
	hasReasoning                                    bool
}

// readMessages takes an Anthropic usage object. Those of a stream are
// cumulative and may leave out what has not changed.
func (t *tokens) readMessages(u *object) {
	take := func(key string, to *int64) {
		if v, ok := u.integer(key); ok {
			*to = max(v, 0)
		}
	}
	take("input_tokens", &t.input)
	take("cache_read_input_tokens", &t.cacheRead)
	take("cache_creation_input_tokens", &t.cacheWrite)
	take("output_tokens", &t.output)
	if d, ok := u.child("output_tokens_details"); ok {
		if v, ok := d.integer("thinking_tokens"); ok {
			t.reasoning, t.hasReasoning = max(v, 0), true
		}
	}
}

// readChat takes an OpenAI usage object.
func (t *tokens) readChat(u *object) {
	prompt, _ := u.integer("prompt_tokens")
	t.output, _ = u.integer("completion_tokens")
	if d, ok := u.child("prompt_tokens_details"); ok {
		t.cacheRead, _ = d.integer("cached_tokens")
		t.cacheWrite, _ = d.integer("cache_write_tokens")
	}
	if d, ok := u.child("completion_tokens_details"); ok {
		t.reasoning, t.hasReasoning = d.integer("reasoning_tokens")
	}
	t.output, t.cacheRead, t.cacheWrite, t.reasoning = max(t.output, 0), max(t.cacheRead, 0), max(t.cacheWrite, 0), max(t.reasoning, 0)
	t.input = max(prompt-t.cacheRead-t.cacheWrite, 0)
}

// The shapes of both dialects' usage, as they are written.
type chatUsage struct {
	PromptTokens     int64              `json:"prompt_tokens"`
	CompletionTokens int64              `json:"completion_tokens"`
	TotalTokens      int64              `json:"total_tokens"`
	PromptDetails    promptDetails      `json:"prompt_tokens_details"`
	OutputDetails    *completionDetails `json:"completion_tokens_details,omitempty"`
}

type promptDetails struct {
	CachedTokens     int64 `json:"cached_tokens"`
	CacheWriteTokens int64 `json:"cache_write_tokens"`
}

type completionDetails struct {
	ReasoningTokens int64 `json:"reasoning_tokens"`
}

func (t tokens) chat() *chatUsage {
	prompt := t.input + t.cacheRead + t.cacheWrite
	u := &chatUsage{
		PromptTokens: prompt, CompletionTokens: t.output, TotalTokens: prompt + t.output,
		PromptDetails: promptDetails{t.cacheRead, t.cacheWrite},
	}
	if t.hasReasoning {
		u.OutputDetails = &completionDetails{t.reasoning}
	}
	return u
}

// deltaUsage is what Anthropic's message_delta carries.
type deltaUsage struct {
	InputTokens   int64          `json:"input_tokens"`
	CacheCreation int64          `json:"cache_creation_input_tokens"`
	CacheRead     int64          `json:"cache_read_input_tokens"`
	OutputTokens  int64          `json:"output_tokens"`
	OutputDetails *outputDetails `json:"output_tokens_details"`
	ServerToolUse *null          `json:"server_tool_use"`
}

type outputDetails struct {
	ThinkingTokens int64 `json:"thinking_tokens"`
}

// messageUsage is what a whole message carries.
type messageUsage struct {
	deltaUsage
	CacheByTTL   *null `json:"cache_creation"`
	InferenceGeo *null `json:"inference_geo"`
	ServiceTier  *null `json:"service_tier"`
	Speed        *null `json:"speed"`
}

func (t tokens) delta() deltaUsage {
	u := deltaUsage{InputTokens: t.input, CacheCreation: t.cacheWrite, CacheRead: t.cacheRead, OutputTokens: t.output}
	if t.hasReasoning {
		u.OutputDetails = &outputDetails{t.reasoning}
	}
	return u
}

func (t tokens) message() messageUsage { return messageUsage{deltaUsage: t.delta()} }
