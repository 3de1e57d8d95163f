package translate

// finishReason translates Anthropic's stop_reason. A paused turn and a full
// context are answers cut short, which is what length says; OpenAI never says
// which stop sequence was met.
func finishReason(r *reader, path, stop string) string {
	switch stop {
	case "end_turn", "stop_sequence":
		return "stop"
	case "max_tokens", "pause_turn", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "refusal":
		return "content_filter"
	}
	r.refuse(path, "OpenAI has nothing like the stop reason "+quoted(stop)+".", "")
	return ""
}

// stopReason translates OpenAI's finish_reason. Some servers say stop although
// the model called tools; an Anthropic client would then not run them.
// model_length is Mistral's.
func stopReason(r *reader, path, finish string, called, refused bool) string {
	switch finish {
	case "stop":
		switch {
		case called:
			return "tool_use"
		case refused:
			return "refusal"
		}
		return "end_turn"
	case "length":
		return "max_tokens"
	case "model_length":
		return "model_context_window_exceeded"
	case "tool_calls":
		return "tool_use"
	case "content_filter":
		return "refusal"
	}
	r.refuse(path, "Anthropic has nothing like the finish reason "+quoted(finish)+".", "")
	return ""
}

// stopDetails is what Anthropic says about a refusal.
type stopDetails struct {
	Type        string  `json:"type"`
	Category    *string `json:"category"`
	Explanation *string `json:"explanation"`
}

func detailsOf(stop string) *stopDetails {
	if stop == "refusal" {
		return &stopDetails{Type: "refusal"}
	}
	return nil
}
