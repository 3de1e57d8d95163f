package wire

// Dialect is the family of HTTP API a client or an upstream speaks.
type Dialect uint8

const (
	OpenAI Dialect = iota + 1
	Anthropic
)

// String returns "openai" or "anthropic".
func (d Dialect) String() string {
	switch d {
	case OpenAI:
		return "openai"
	case Anthropic:
		return "anthropic"
	}
	return "unknown"
}

// Endpoint is one of the model endpoints offered to clients.
type Endpoint uint8

const (
	ChatCompletions Endpoint = iota + 1
	Embeddings
	Responses
	Messages
	CountTokens
)

var endpoints = [...]struct {
	name, path string
	dialect    Dialect
}{
	ChatCompletions: {"chat-completions", "/v1/chat/completions", OpenAI},
	Embeddings:      {"embeddings", "/v1/embeddings", OpenAI},
	Responses:       {"responses", "/v1/responses", OpenAI},
	Messages:        {"messages", "/v1/messages", Anthropic},
	CountTokens:     {"count-tokens", "/v1/messages/count_tokens", Anthropic},
}

// String returns the endpoint's stable name, e.g. "chat-completions".
func (ep Endpoint) String() string {
	if !ep.Valid() {
		return "unknown"
	}
	return endpoints[ep].name
}

// Path returns the endpoint's path, e.g. "/v1/chat/completions".
func (ep Endpoint) Path() string {
	if !ep.Valid() {
		return ""
	}
	return endpoints[ep].path
}

// Dialect returns the dialect the endpoint speaks.
func (ep Endpoint) Dialect() Dialect {
	if !ep.Valid() {
		return 0
	}
	return endpoints[ep].dialect
}

// Valid reports whether ep is one of the constants above.
func (ep Endpoint) Valid() bool { return ep > 0 && int(ep) < len(endpoints) }

// Span is a half-open range of bytes [Start, End) in the scanned body. The
// zero Span means "absent".
type Span struct{ Start, End int }

// Present reports whether the thing the span names was there.
func (s Span) Present() bool { return s.End > 0 }

// Feature is a set of what a request asks of a model.
type Feature uint32

const (
	Tools            Feature = 1 << iota // tool definitions are given
	Images                               // an image is among the input
	StructuredOutput                     // the answer must satisfy a JSON schema or be JSON
	Reasoning                            // reasoning or thinking is configured, or replayed
	Audio                                // audio in or out
	LogProbs                             // log probabilities are asked for
	MultipleChoices                      // more than one choice is generated
	Documents                            // PDFs or other documents are among the input
	Video                                // video is among the input
	PromptCaching                        // cache hints are given; a hint may be dropped
	Seed                                 // a sampling seed is given
	ToolChoice                           // a tool, any tool or none is demanded
	PaidTier                             // a service tier or speed is named that may cost more than the standard price
)

// Has reports whether every feature in g is in f.
func (f Feature) Has(g Feature) bool { return f&g == g }

// Risky is one thing in a request that makes an upstream fetch, store, look up
// or call something beyond answering, or process elsewhere than was decided:
// it is refused unless policy names it. See the package documentation for the
// names.
type Risky struct {
	Name string // stable id, e.g. "tools.web_search", "store", "image_url"
	Path string // where it is, e.g. "messages[2].content[0].image_url.url"
}

// Request is what Scan finds. Its strings do not alias the scanned body; its
// spans refer to it.
type Request struct {
	Endpoint     Endpoint
	Model        string
	ModelSpan    Span // of the value, quotes included
	Stream       bool
	IncludeUsage bool
	StreamOpts   Span // of the value of stream_options: an object or null
	Store        Span // of the value of store: a boolean or null

	// MaxTokens bounds the output tokens of one choice; it counts only if
	// MaxTokensField is not empty. MaxTokensField is the field that set it
	// ("max_tokens", "max_completion_tokens", "max_output_tokens"): an
	// upstream that does not know that field is not bound by it. If a chat
	// sets two fields, MaxTokens is the greater.
	MaxTokens      int64
	MaxTokensField string

	N int64 // choices generated (n, or best_of where greater); 1 if not said

	// InputBytes bounds the tokens of the input, because a token stands for
	// at least one byte: it is the size of the body, less what MediaBytes
	// counts. What a Risky reference brings in is not included.
	InputBytes int64
	MediaBytes int64 // encoded bytes of images, audio, video and documents
	Images     int   // inline or referenced
	Parts      int   // other media parts: audio, video, documents

	Features Feature
	Risky    []Risky
	Open     int // offset just after the top-level '{'

	opts    optsSpans
	bounds  [3]Span // values of the three max-token fields, null included
	given   uint8   // bit i: bounds[i] is not null
	path    []segment
	scratch []byte
}

// optsSpans locates what AppendEdited needs inside stream_options.
type optsSpans struct {
	open  int  // just after its '{'
	empty bool // it has no member
	usage Span // of the value of include_usage
}

// Reset makes r ready for another Scan and keeps its memory.
func (r *Request) Reset() {
	*r = Request{N: 1, Risky: r.Risky[:0], path: r.path[:0], scratch: r.scratch[:0]}
}
