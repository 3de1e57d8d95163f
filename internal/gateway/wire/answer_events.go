package wire

import "bytes"

// anthropic reads an event of a message stream, a whole message, a token
// count, or an error.
func (a *answer) anthropic() {
	var typ []byte
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "type":
			typ = a.rawString()
		case "message":
			a.message()
		case "delta":
			a.anthropicDelta()
		case "content_block":
			a.contentBlock()
		case "content":
			if a.stream {
				a.skip()
			} else {
				a.value()
			}
		case "stop_reason":
			a.finish()
		case "usage":
			a.usage()
		case "input_tokens": // a token count
			a.countedTokens()
		case "error":
			a.error()
		default:
			a.skip()
		}
	}
	if a.stream && a.fault == faultNone {
		switch string(typ) {
		case "message_stop":
			a.c.Done = true
		case "message_start":
			return
		}
		if a.reported {
			a.c.final = true
		}
	}
}

// rawString reads a string with its escapes, or skips anything else.
func (a *answer) rawString() []byte {
	if a.peek() != '"' {
		a.skip()
		return nil
	}
	s, _ := a.str()
	if a.fault != faultNone {
		return nil
	}
	return a.b[s.Start:s.End]
}

func (a *answer) countedTokens() {
	if a.ep != CountTokens {
		a.skip()
		return
	}
	k, valid := noCounts, true
	a.tokens(&k.input, &valid)
	if valid && k.input >= 0 {
		a.c.counts.merge(k)
		a.reported = true
	}
}

// message reads message_start's message.
func (a *answer) message() {
	if a.peek() != '{' {
		a.skip()
		return
	}
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "usage":
			a.usage()
		case "stop_reason":
			a.finish()
		default:
			a.skip()
		}
	}
}

func (a *answer) anthropicDelta() {
	if a.peek() != '{' {
		a.skip()
		return
	}
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "stop_reason":
			a.finish()
		case "type", "stop_sequence", "stop_details", "container":
			a.skip()
		default: // text, thinking, partial_json, signature, citation
			a.value()
		}
	}
}

// contentBlock reads content_block_start's block: one of text or thinking
// starts empty, any other is content at once.
func (a *answer) contentBlock() {
	if a.peek() != '{' {
		a.skip()
		return
	}
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "type":
			switch t := a.rawString(); string(t) {
			case "text", "thinking":
			default:
				a.content += int64(len(t))
			}
		case "text", "thinking", "data":
			a.value()
		default:
			a.skip()
		}
	}
}

// responses reads an event of the Responses API, or a whole response.
func (a *answer) responses() {
	var typ []byte
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "type":
			typ = a.rawString()
		case "response":
			a.response()
		case "delta":
			a.value()
		case "error":
			a.error()
		case "usage":
			a.usage()
		case "output":
			a.value()
		case "status":
			a.status()
		case "incomplete_details":
			a.incomplete()
		default:
			a.skip()
		}
	}
	if !a.stream || a.fault != faultNone {
		return
	}
	switch string(typ) {
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled":
		a.c.Done = true
		a.content = 0 // it repeats what was streamed
	case "error":
		if a.c.Done = true; a.c.Error == nil {
			a.c.Error = bytes.TrimSpace(a.b)
		}
	case "response.created", "response.queued", "response.in_progress":
		a.content = 0
	case "response.output_item.added", "response.content_part.added",
		"response.reasoning_summary_part.added", "keepalive", "":
	default:
		if a.content == 0 && !bytes.HasSuffix(typ, []byte(".done")) && !bytes.HasSuffix(typ, []byte(".delta")) {
			a.content = 1 // progress of a hosted tool, or an event invented since
		}
	}
}

func (a *answer) response() {
	if a.peek() != '{' {
		a.skip()
		return
	}
	for more := a.open('}'); more; more = a.next('}') {
		switch string(a.name()) {
		case "usage":
			a.usage()
		case "error":
			a.error()
		case "status":
			a.status()
		case "incomplete_details":
			a.incomplete()
		default:
			a.skip()
		}
	}
}

// status takes a last status for the finish, unless a reason is known.
func (a *answer) status() {
	switch w := a.word(); w {
	case "", "in_progress", "queued":
	case "incomplete":
		if a.c.Finish == "" {
			a.c.Finish = w
		}
	default:
		a.c.Finish = w
	}
}

func (a *answer) incomplete() {
	if a.peek() != '{' {
		a.skip()
		return
	}
	for more := a.open('}'); more; more = a.next('}') {
		if string(a.name()) == "reason" {
			a.finish()
		} else {
			a.skip()
		}
	}
}
