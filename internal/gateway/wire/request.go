package wire

import "math"

// maxChoices is OpenAI's documented bound of n.
const maxChoices = 128

// maxModelName bounds a model's name; the longest in use, a repository with
// revision and quantisation, stay below 200 bytes.
const maxModelName = 256

// top reads the members of the request object.
func (s *scan) top() {
	var had seen
	s.r.Open = s.i + 1
	for more := s.open('}'); more; more = s.next('}') {
		raw, id, h := s.member(&had)
		if s.fault != faultNone {
			return
		}
		s.topValue(id, h, raw)
		if s.fault != faultNone {
			return // keep the path for the error
		}
		s.leave()
	}
}

// topValue reads the value of a top-level member.
func (s *scan) topValue(id keyID, h int, raw []byte) {
	r := s.r
	switch id {
	case kNeutral:
		if string(raw) == "tool_choice" {
			s.toolChoice()
			return
		}
		s.skip()
	case kModel:
		s.model()
	case kStream:
		r.Stream, _ = s.boolean()
	case kStreamOptions:
		s.streamOptions()
	case kStore:
		var stored bool
		if stored, r.Store = s.boolean(); stored {
			s.risky("store")
		}
	case kMaxTokens, kMaxCompletionTokens, kMaxOutputTokens:
		s.maxTokens(id)
	case kN, kBestOf:
		s.choices()
	case kMessages:
		s.list(posMessage)
	case kInput:
		if s.ep == Responses {
			s.list(posItem)
		} else {
			s.node(posInner)
		}
	case kSystem, kInstructions:
		s.node(posPart)
	case kPrediction, kDocuments:
		s.node(posInner)
	case kTools:
		s.tools()
	case kFunctions:
		if s.given() {
			r.Features |= Tools
		}
		s.schema()
	default:
		s.topSetting(id, h, raw)
	}
}

// topSetting reads the members that only set a feature or a risk.
func (s *scan) topSetting(id keyID, h int, raw []byte) {
	switch id {
	case kResponseFormat, kText, kOutputConfig, kOutputFormat:
		s.outputFormat()
	case kReasoning, kReasoningEffort, kThinking:
		s.reasoning()
	case kLogprobs, kTopLogprobs:
		s.feature(LogProbs)
	case kSeed:
		s.feature(Seed)
	case kCacheControl:
		s.feature(PromptCaching)
	case kModalities, kAudio:
		s.audioOut(id)
	case kServiceTier, kSpeed:
		switch string(s.text()) {
		case "", "auto", "default", "standard", "standard_only", "flex":
		default:
			s.r.Features |= PaidTier
		}
	case kCacheRetention:
		if !s.given() {
			s.skip()
		} else if string(s.text()) != "in_memory" {
			s.risky("prompt_cache_retention")
		}
	case kPrompt:
		s.hosted("prompt")
	case kBackground:
		s.hosted("background")
	case kContainer:
		s.hosted("container")
	case kHosted:
		s.hosted(hostedName(raw))
	default:
		// A field nobody knows yet passes, unless it looks like a callback
		// or a stored file.
		if id == kUnknown && h == hintNone {
			s.skip()
		} else {
			s.leaf(id, h)
		}
	}
}

// toolChoice notes every choice but "auto", which is what happens without one.
func (s *scan) toolChoice() {
	if s.peek() != '"' {
		s.feature(ToolChoice)
		return
	}
	if string(s.text()) != "auto" {
		s.r.Features |= ToolChoice
	}
}

// feature skips a value and notes a feature if it is given.
func (s *scan) feature(f Feature) {
	if s.given() {
		s.r.Features |= f
	}
	s.skip()
}

func (s *scan) model() {
	if s.peek() != '"' {
		s.wrongType("a string")
		return
	}
	start := s.i
	name := s.text()
	if s.fault != faultNone {
		return
	}
	if len(name) == 0 || len(name) > maxModelName {
		s.semantic("model-name", "The model's name must have 1 to 256 bytes.", "GET /v1/models lists what there is.")
		return
	}
	s.r.ModelSpan = Span{start, s.i}
	s.r.Model = string(name)
}

func (s *scan) streamOptions() {
	r := s.r
	switch s.peek() {
	case 'n':
		r.StreamOpts = s.skip()
		return
	case '{':
	default:
		s.wrongType("an object")
		return
	}
	start := s.i
	r.opts = optsSpans{open: s.i + 1, empty: true}
	var had seen
	for more := s.open('}'); more; more = s.next('}') {
		r.opts.empty = false
		_, id, _ := s.member(&had)
		if id == kIncludeUsage {
			r.IncludeUsage, r.opts.usage = s.boolean()
		} else {
			s.skip()
		}
		if s.fault != faultNone {
			return
		}
		s.leave()
	}
	r.StreamOpts = Span{start, s.i}
}

// The names of the fields that bound the output, in the order of
// Request.bounds.
var boundFields = [...]string{"max_tokens", "max_completion_tokens", "max_output_tokens"}

func boundIndex(id keyID) int { return int(id - kMaxTokens) }

// boundsOf returns which of boundFields an endpoint documents.
func boundsOf(ep Endpoint) []string {
	switch ep {
	case ChatCompletions:
		return boundFields[:2]
	case Messages:
		return boundFields[:1]
	case Responses:
		return boundFields[2:]
	}
	return nil
}

// maxTokens reads a bound on output tokens. Bounds beyond an int32 are refused
// because some upstreams wrap them; negative ones because llama.cpp takes -1
// for "no bound".
func (s *scan) maxTokens(id keyID) {
	v, null, span := s.integer(0, math.MaxInt32)
	if s.fault != faultNone {
		return
	}
	name := boundFields[boundIndex(id)]
	s.r.bounds[boundIndex(id)] = span
	if !null {
		s.r.given |= 1 << boundIndex(id)
	}
	for _, f := range boundsOf(s.ep) {
		if f == name && !null && (s.r.MaxTokensField == "" || v > s.r.MaxTokens) {
			s.r.MaxTokens, s.r.MaxTokensField = v, name
		}
	}
}

// choices reads n, or vLLM's best_of, which generates more than it returns.
func (s *scan) choices() {
	if v, null, _ := s.integer(1, maxChoices); !null && s.ep == ChatCompletions {
		if s.r.N = max(s.r.N, v); v > 1 {
			s.r.Features |= MultipleChoices
		}
	}
}

// outputFormat reads response_format, text.format, output_config and
// output_format, which nest alike.
func (s *scan) outputFormat() {
	if s.peek() != '{' {
		s.skip()
		return
	}
	var had seen
	for more := s.open('}'); more; more = s.next('}') {
		raw, id, _ := s.member(&had)
		switch {
		case id == kType:
			if t := string(s.text()); t != "" && t != "text" {
				s.r.Features |= StructuredOutput
			}
		case id == kFormat:
			s.outputFormat()
		case id == kSchema:
			s.schema()
		case id == kUnknown && string(raw) == "effort":
			s.feature(Reasoning)
		default:
			s.skip()
		}
		if s.fault != faultNone {
			return
		}
		s.leave()
	}
}

// reasoning reads reasoning_effort (a string), reasoning and thinking
// (objects).
func (s *scan) reasoning() {
	switch s.peek() {
	case '"':
		if t := string(s.text()); t != "none" {
			s.r.Features |= Reasoning
		}
	case '{':
		var had seen
		on := true
		for more := s.open('}'); more; more = s.next('}') {
			if _, id, _ := s.member(&had); id == kType {
				on = string(s.text()) != "disabled"
			} else {
				s.skip()
			}
			if s.fault != faultNone {
				return
			}
			s.leave()
		}
		if on {
			s.r.Features |= Reasoning
		}
	default:
		s.feature(Reasoning)
	}
}

// audioOut reads modalities and audio. A custom voice is looked up by id.
func (s *scan) audioOut(id keyID) {
	switch {
	case id == kModalities && s.peek() == '[':
		for more := s.open(']'); more; more = s.next(']') {
			if string(s.text()) == "audio" {
				s.r.Features |= Audio
			}
		}
	case id == kAudio && s.peek() == '{':
		s.r.Features |= Audio
		var had seen
		for more := s.open('}'); more; more = s.next('}') {
			if _, id, _ := s.member(&had); id == kVoice && s.peek() == '{' {
				s.risky("voice_id")
			}
			s.skip()
			if s.fault != faultNone {
				return
			}
			s.leave()
		}
	default:
		s.skip()
	}
}
