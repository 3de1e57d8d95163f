package wire

import (
	"unicode"
	"unicode/utf8"
)

// keyID names a member that means something to the scanner. A key is compared
// after unescaping, and exactly. One that equals a known key only when case,
// '_' and '-' are ignored is refused wherever keys are interpreted, because
// some upstreams match that way: Go's encoding/json folds case (also U+017F
// to s and U+212A to k), proto3 JSON takes lowerCamelCase for snake_case, and
// others ignore separators.
type keyID uint8

const (
	kUnknown keyID = iota

	// Groups of keys: an object may have several of one group.
	kNeutral // known, and of no consequence
	kOpaque  // what is under it is data to every upstream
	kParts   // a list of parts, or text, by a name other than content
	kFileID  // names something stored at the upstream
	kSchema
	kFunction
	kHosted // risky when it is there: see hostedName
	kGroups

	// The request.
	kModel
	kStream
	kStreamOptions
	kIncludeUsage
	kStore
	kMaxTokens
	kMaxCompletionTokens
	kMaxOutputTokens
	kN
	kBestOf
	kMessages
	kInput
	kSystem
	kInstructions
	kPrediction
	kDocuments
	kTools
	kFunctions
	kResponseFormat
	kText
	kFormat
	kOutputConfig
	kOutputFormat
	kReasoning
	kReasoningEffort
	kThinking
	kLogprobs
	kTopLogprobs
	kAudio
	kModalities
	kSeed
	kServiceTier
	kSpeed
	kCacheControl
	kCacheRetention
	kPrompt
	kBackground
	kContainer

	// Messages, their parts, and tools.
	kContent
	kImage // an object, or a string: base64, a path or a URL
	kVideo
	kFile
	kType
	kRole
	kID
	kURL
	kImageURL
	kVideoURL
	kAudioURL
	kFileURL
	kDocumentURL
	kData
	kFileData
	kVoice
	kTool
	kName
)

// exactKey recognises a key as it is spelt by the vendors.
func exactKey(k []byte) keyID {
	switch string(k) {
	case "role":
		return kRole
	case "content":
		return kContent
	case "type":
		return kType
	case "text":
		return kText
	case "name":
		return kName
	case "id":
		return kID
	case "model":
		return kModel
	case "messages":
		return kMessages
	case "stream":
		return kStream
	case "stream_options":
		return kStreamOptions
	case "include_usage":
		return kIncludeUsage
	case "store":
		return kStore
	case "max_tokens":
		return kMaxTokens
	case "max_completion_tokens":
		return kMaxCompletionTokens
	case "max_output_tokens":
		return kMaxOutputTokens
	case "n":
		return kN
	case "best_of":
		return kBestOf
	case "input":
		return kInput
	case "system":
		return kSystem
	case "instructions":
		return kInstructions
	case "prediction":
		return kPrediction
	case "documents":
		return kDocuments
	case "tools":
		return kTools
	case "functions":
		return kFunctions
	case "temperature", "top_p", "top_k", "min_p", "stop", "stop_sequences", "user",
		"frequency_penalty", "presence_penalty", "repetition_penalty", "tool_choice",
		"function_call", "parallel_tool_calls", "logit_bias", "metadata", "moderation",
		"prompt_cache_key", "prompt_cache_options", "safety_identifier", "verbosity",
		"include", "truncation", "max_tool_calls", "context_management", "dimensions",
		"encoding_format", "detail", "refusal", "tool_call_id", "tool_use_id", "call_id",
		"status", "is_error", "signature", "media_type", "filename", "title", "context":
		return kNeutral
	}
	return exactKey2(k)
}

// exactKey2 holds the rarer keys, so that the common ones stay one short switch.
func exactKey2(k []byte) keyID {
	switch string(k) {
	case "response_format":
		return kResponseFormat
	case "format":
		return kFormat
	case "output_config":
		return kOutputConfig
	case "output_format":
		return kOutputFormat
	case "reasoning":
		return kReasoning
	case "reasoning_effort":
		return kReasoningEffort
	case "thinking":
		return kThinking
	case "logprobs":
		return kLogprobs
	case "top_logprobs":
		return kTopLogprobs
	case "audio":
		return kAudio
	case "modalities":
		return kModalities
	case "seed":
		return kSeed
	case "service_tier":
		return kServiceTier
	case "speed":
		return kSpeed
	case "cache_control", "prompt_cache_breakpoint":
		return kCacheControl
	case "prompt_cache_retention":
		return kCacheRetention
	case "prompt":
		return kPrompt
	case "background":
		return kBackground
	case "container", "container_id":
		return kContainer
	case "url":
		return kURL
	case "image_url":
		return kImageURL
	case "video_url":
		return kVideoURL
	case "audio_url":
		return kAudioURL
	case "file_url":
		return kFileURL
	case "document_url":
		return kDocumentURL
	case "image", "images":
		return kImage
	case "video", "videos":
		return kVideo
	case "file", "files":
		return kFile
	case "output", "outputs", "summary", "parts":
		return kParts
	case "data":
		return kData
	case "file_data":
		return kFileData
	case "file_id", "file_ids", "vector_store_ids":
		return kFileID
	case "voice":
		return kVoice
	case "arguments", "input_schema", "action", "actions", "tabs", "state_changes",
		"citations", "annotations", "tool_calls", "encrypted_content", "operation":
		return kOpaque
	case "tool":
		return kTool
	case "function", "custom":
		return kFunction
	case "parameters", "output_schema", "schema", "json_schema":
		return kSchema
	}
	if hostedName(k) != "" {
		return kHosted
	}
	return kUnknown
}

// hostedName returns the Risky name of a top-level field whose presence, with
// any value but null, false or an empty list, makes an upstream fetch, store,
// look up or call something, or process elsewhere than decided. The first
// group is OpenAI's and Anthropic's, the second that of other vendors who
// serve the same endpoints.
func hostedName(k []byte) string {
	switch string(k) {
	case "web_search_options":
		return "web_search_options"
	case "previous_response_id":
		return "previous_response_id"
	case "conversation":
		return "conversation"
	case "mcp_servers":
		return "mcp_servers"
	case "diagnostics":
		return "diagnostics"
	case "thread":
		return "thread"
	case "fallbacks":
		return "fallbacks"
	case "fallback_credit_token":
		return "fallback_credit_token"
	case "inference_geo":
		return "inference_geo"
	case "workspace_id":
		return "workspace_id"
	case "user_profile_id":
		return "user_profile_id"

	case "models":
		return "models"
	case "route":
		return "route"
	case "provider":
		return "provider"
	case "plugins":
		return "plugins"
	case "search_parameters":
		return "search_parameters"
	case "search_settings":
		return "search_settings"
	case "enable_search":
		return "enable_search"
	case "data_sources":
		return "data_sources"
	case "compound_custom":
		return "compound_custom"
	case "deferred":
		return "deferred"
	case "extra_body":
		return "extra_body"
	case "cached_content":
		return "cached_content"
	case "kv_transfer_params":
		return "kv_transfer_params"
	case "logits_processors":
		return "logits_processors"
	case "chat_template":
		return "chat_template"
	case "agent_id":
		return "agent_id"
	case "connectors":
		return "connectors"
	}
	return ""
}

// significant lists every key that is refused in another spelling. Neutral
// keys are missing on purpose.
var significant = []string{
	"model", "messages", "stream", "stream_options", "include_usage", "store", "max_tokens",
	"max_completion_tokens", "max_output_tokens", "n", "best_of", "input", "system",
	"instructions", "prediction", "documents", "tools", "functions", "prompt", "background",
	"container", "container_id", "prompt_cache_retention", "audio", "voice",
	"type", "role", "content", "url", "image_url", "video_url", "audio_url", "file_url",
	"document_url", "file", "data", "file_data", "file_id", "file_ids", "vector_store_ids",
	"image", "images", "video", "videos", "files", "output", "outputs", "parts",
	"tool", "function", "service_tier", "speed",
	"web_search_options", "previous_response_id", "conversation", "mcp_servers", "diagnostics",
	"thread", "fallbacks", "fallback_credit_token", "inference_geo", "workspace_id",
	"user_profile_id", "models", "route", "provider", "plugins", "search_parameters",
	"search_settings", "enable_search", "data_sources", "compound_custom", "deferred",
	"extra_body", "cached_content", "kv_transfer_params", "logits_processors", "chat_template",
	"agent_id", "connectors",
}

// folded maps the folded spelling of each significant key to that key.
var folded = func() map[string]string {
	m := make(map[string]string, len(significant))
	for _, k := range significant {
		m[string(appendFolded(nil, []byte(k)))] = k
	}
	return m
}()

// appendFolded appends k without '_' and '-', each rune replaced by the
// smallest of its case-folding orbit, as encoding/json folds names.
func appendFolded(dst, k []byte) []byte {
	for i := 0; i < len(k); {
		ch := k[i]
		switch {
		case ch == '_' || ch == '-':
			i++
		case ch < utf8.RuneSelf:
			if ch-'A' < 26 {
				ch += 'a' - 'A'
			}
			dst = append(dst, ch)
			i++
		default:
			r, n := utf8.DecodeRune(k[i:])
			if r = smallestFold(r); r-'A' < 26 && r >= 'A' {
				r += 'a' - 'A'
			}
			dst = utf8.AppendRune(dst, r)
			i += n
		}
	}
	return dst
}

func smallestFold(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}

// Case-insensitively, what an unknown key's name gives away.
const (
	hintNone = iota
	hintURL
	hintFileID
)

// hint guesses from a folded key what it holds: a key invented tomorrow that
// ends in "url", "uri" or "file_id" is treated like those of today.
func hint(k []byte) int {
	switch {
	case hasSuffix(k, "url"), hasSuffix(k, "uri"), hasSuffix(k, "urls"), hasSuffix(k, "uris"), hasSuffix(k, "href"):
		return hintURL
	case hasSuffix(k, "fileid"), hasSuffix(k, "fileids"), hasSuffix(k, "storeid"), hasSuffix(k, "storeids"):
		return hintFileID
	}
	return hintNone
}

func hasSuffix(k []byte, suffix string) bool {
	return len(k) >= len(suffix) && string(k[len(k)-len(suffix):]) == suffix
}
