package wire

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// Edit is what the gateway changes in a body that it forwards.
type Edit struct {
	// Model is the upstream's name for the model; empty keeps the client's.
	Model string

	// InjectUsage asks for the usage of a chat stream: include_usage = true,
	// merged into a stream_options that is there. It does nothing where the
	// request does not stream or the endpoint reports usage anyway. Unless
	// the client asked as well (Request.IncludeUsage), hide the events whose
	// Chunk.UsageOnly is set.
	InjectUsage bool

	// DropStreamOptions takes stream_options out of a chat request, for a
	// server that refuses it. It wins over InjectUsage.
	DropStreamOptions bool

	// ForceNoStore sets store to false on the two endpoints that have it. The
	// Responses API stores what does not say otherwise.
	ForceNoStore bool

	// MaxTokens is the bound on output tokens to add where the request sets
	// none; 0 adds none. MaxTokensField is the name to give it: empty means
	// "max_tokens" for chat, which every compatible server knows (OpenAI's
	// own reasoning models want "max_completion_tokens"), and the endpoint's
	// only name elsewhere. If it is set, the bound is added unless that very
	// field holds one.
	MaxTokens      int64
	MaxTokensField string
}

// splice replaces a range of the body; an empty range inserts.
type splice struct {
	at   Span
	what uint8
}

const (
	spliceModel = iota
	spliceStore
	spliceBound
	spliceOptions    // the whole of stream_options, which is null
	spliceUsage      // the value of include_usage
	spliceUsageField // include_usage, as the first member of stream_options
	spliceNewStore
	spliceNewBound
	spliceNewOptions
	spliceDrop // nothing in its place
)

// AppendEdited appends to dst the body that was scanned into r, with the edits
// of e. Every other byte stays as it is and in order.
func (r *Request) AppendEdited(dst, body []byte, e Edit) []byte {
	var buf [5]splice
	field, bound := r.boundToAdd(e)
	edits := r.splices(buf[:0], body, e, bound)
	from := 0
	for _, x := range edits {
		dst = append(dst, body[from:x.at.Start]...)
		from = x.at.End
		switch x.what {
		case spliceModel:
			dst = appendString(dst, e.Model)
		case spliceStore:
			dst = append(dst, "false"...)
		case spliceBound:
			dst = appendInt(dst, e.MaxTokens)
		case spliceOptions:
			dst = append(dst, `{"include_usage":true}`...)
		case spliceUsage:
			dst = append(dst, "true"...)
		case spliceUsageField:
			dst = append(dst, `"include_usage":true`...)
			if !r.opts.empty {
				dst = append(dst, ',')
			}
		// The object has a model, so a comma follows what is inserted.
		case spliceNewStore:
			dst = append(dst, `"store":false,`...)
		case spliceNewBound:
			dst = append(append(append(dst, '"'), field...), `":`...)
			dst = append(appendInt(dst, e.MaxTokens), ',')
		case spliceNewOptions:
			dst = append(dst, `"stream_options":{"include_usage":true},`...)
		}
	}
	return append(dst, body[from:]...)
}

// boundToAdd returns the field that is to hold e.MaxTokens, and where its null
// is if it is there; an empty field means that none is to be added.
func (r *Request) boundToAdd(e Edit) (field string, at Span) {
	if e.MaxTokens <= 0 {
		return "", Span{}
	}
	fields := boundsOf(r.Endpoint)
	if e.MaxTokensField == "" {
		if r.MaxTokensField != "" || len(fields) == 0 {
			return "", Span{}
		}
		e.MaxTokensField = fields[0]
	}
	i := slices.Index(boundFields[:], e.MaxTokensField)
	if !slices.Contains(fields, e.MaxTokensField) || r.given&(1<<i) != 0 {
		return "", Span{}
	}
	return e.MaxTokensField, r.bounds[i]
}

// splices lists the edits in the order of the body.
func (r *Request) splices(list []splice, body []byte, e Edit, bound Span) []splice {
	insert := Span{r.Open, r.Open}
	if field, _ := r.boundToAdd(e); field != "" {
		if bound.Present() {
			list = append(list, splice{bound, spliceBound})
		} else {
			list = append(list, splice{insert, spliceNewBound})
		}
	}
	if e.ForceNoStore && (r.Endpoint == ChatCompletions || r.Endpoint == Responses) {
		if r.Store.Present() {
			list = append(list, splice{r.Store, spliceStore})
		} else {
			list = append(list, splice{insert, spliceNewStore})
		}
	}
	if e.DropStreamOptions && r.Endpoint == ChatCompletions {
		if r.StreamOpts.Present() {
			list = append(list, splice{r.streamOptionsMember(body), spliceDrop})
		}
	} else if e.InjectUsage && r.Stream && !r.IncludeUsage && r.Endpoint == ChatCompletions {
		switch {
		case !r.StreamOpts.Present():
			list = append(list, splice{insert, spliceNewOptions})
		case r.opts.open == 0:
			list = append(list, splice{r.StreamOpts, spliceOptions})
		case r.opts.usage.Present():
			list = append(list, splice{r.opts.usage, spliceUsage})
		default:
			list = append(list, splice{Span{r.opts.open, r.opts.open}, spliceUsageField})
		}
	}
	if e.Model != "" {
		list = append(list, splice{r.ModelSpan, spliceModel})
	}
	for i := 1; i < len(list); i++ {
		for j := i; j > 0 && list[j].at.Start < list[j-1].at.Start; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
	return list
}

// streamOptionsMember is where stream_options is with its name and one comma.
// The object has a model too, so there is a comma on one side.
func (r *Request) streamOptionsMember(body []byte) Span {
	const space = " \t\r\n"
	start := bytes.LastIndexByte(body[:r.StreamOpts.Start], ':')
	start = bytes.LastIndexByte(body[:start], '"')
	start = bytes.LastIndexByte(body[:start], '"') // no quote is within the name
	end := r.StreamOpts.End
	rest := bytes.TrimLeft(body[end:], space)
	if len(rest) > 0 && rest[0] == ',' {
		return Span{start, len(body) - len(rest) + 1}
	}
	return Span{bytes.LastIndexByte(body[:start], ','), end}
}

func appendInt(dst []byte, v int64) []byte {
	if v >= 10 {
		dst = appendInt(dst, v/10)
	}
	return append(dst, byte('0'+v%10))
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		ch := s[i]
		switch {
		case ch == '"' || ch == '\\':
			dst = append(dst, '\\', ch)
		case ch == '\n':
			dst = append(dst, '\\', 'n')
		case ch < 0x20 || ch == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[ch>>4], hexDigits[ch&15])
		case ch < utf8.RuneSelf:
			dst = append(dst, ch)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n - 1
		}
		i++
	}
	return append(dst, '"')
}
