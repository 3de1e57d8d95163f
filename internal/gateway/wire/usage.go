package wire

import "strconv"

// Usage is what an answer says it consumed, in tokens, alike for every
// dialect:
//
//	CachedInput + CacheWrite ≤ Input      both are contained in Input
//	Reasoning ≤ Output                    it is contained in Output
//
// OpenAI reports it so (prompt_tokens or input_tokens contain the details).
// Anthropic's input_tokens excludes both kinds of cached tokens; they are
// added here. Where an OpenAI-compatible server reports a total that exceeds
// its parts, because it leaves reasoning out of the completion (Gemini, Grok),
// the difference counts as output.
type Usage struct {
	Input       int64
	Output      int64
	CachedInput int64 // read from a prompt cache
	CacheWrite  int64 // written to a prompt cache
	Reasoning   int64

	Set     bool // the upstream has reported usage
	Partial bool // only the start of an Anthropic stream has: Output is yet to come
}

// maxTokenCount bounds what is believed of an upstream: JavaScript's largest
// safe integer.
const maxTokenCount = 1<<53 - 1

// counts are the figures as reported; negative is absent.
type counts struct {
	input, output, total, cached, write, reasoning int64
}

var noCounts = counts{-1, -1, -1, -1, -1, -1}

// merge takes what was reported later. Figures are cumulative, so the greater
// one stands: a repeated or a stale report changes nothing.
func (k *counts) merge(o counts) {
	k.input, k.output, k.total = max(k.input, o.input), max(k.output, o.output), max(k.total, o.total)
	k.cached, k.write, k.reasoning = max(k.cached, o.cached), max(k.write, o.write), max(k.reasoning, o.reasoning)
}

// usage normalises the figures.
func (k counts) usage(d Dialect) (u Usage) {
	if k.input < 0 && k.output < 0 {
		return u
	}
	u = Usage{Input: max(k.input, 0), Output: max(k.output, 0), CachedInput: max(k.cached, 0),
		CacheWrite: max(k.write, 0), Reasoning: max(k.reasoning, 0), Set: true}
	if d == Anthropic {
		u.Input = min(u.Input+u.CachedInput+u.CacheWrite, maxTokenCount)
	} else if k.total > u.Input {
		u.Output = max(u.Output, k.total-u.Input)
	}
	u.CachedInput = min(u.CachedInput, u.Input)
	u.CacheWrite = min(u.CacheWrite, u.Input-u.CachedInput)
	u.Reasoning = min(u.Reasoning, u.Output)
	return u
}

// usage reads a usage object of any dialect; the names do not collide.
func (a *answer) usage() {
	if a.peek() != '{' {
		a.skip()
		return
	}
	k := noCounts
	valid := true
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "prompt_tokens", "input_tokens":
			a.tokens(&k.input, &valid)
		case "completion_tokens", "output_tokens":
			a.tokens(&k.output, &valid)
		case "total_tokens":
			a.tokens(&k.total, &valid)
		case "cache_read_input_tokens":
			a.tokens(&k.cached, &valid)
		case "cache_creation_input_tokens":
			a.tokens(&k.write, &valid)
		case "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details":
			a.usageDetails(&k, &valid)
		default:
			a.skip()
		}
	}
	if !valid || a.fault != faultNone {
		return // figures that make no sense are no report at all
	}
	if k.input >= 0 || k.output >= 0 {
		a.reported = true
	}
	a.c.counts.merge(k)
}

func (a *answer) usageDetails(k *counts, valid *bool) {
	if a.peek() != '{' {
		a.skip()
		return
	}
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "cached_tokens":
			a.tokens(&k.cached, valid)
		case "cache_write_tokens":
			a.tokens(&k.write, valid)
		case "reasoning_tokens", "thinking_tokens":
			a.tokens(&k.reasoning, valid)
		default:
			a.skip()
		}
	}
}

// tokens reads a count; null leaves it absent.
func (a *answer) tokens(to *int64, valid *bool) {
	ch := a.peek()
	if ch == 'n' {
		a.skip()
		return
	}
	if ch < '0' || ch > '9' {
		*valid = false
		a.skip()
		return
	}
	span := a.number()
	if a.fault != faultNone {
		return
	}
	var v int64
	for _, d := range a.b[span.Start:span.End] {
		if d < '0' || d > '9' { // a fraction or an exponent: some servers print 12.0
			f, err := strconv.ParseFloat(string(a.b[span.Start:span.End]), 64)
			if err != nil || f > maxTokenCount {
				*valid = false
				return
			}
			v = int64(f)
			break
		}
		if v = v*10 + int64(d-'0'); v > maxTokenCount {
			*valid = false
			return
		}
	}
	*to = v
}
