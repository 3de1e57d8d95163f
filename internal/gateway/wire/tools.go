package wire

import "bytes"

// tools reads a list of tool definitions.
func (s *scan) tools() {
	switch s.peek() {
	case '[':
	case 'n':
		s.skip()
		return
	default:
		s.wrongType("a list")
		return
	}
	n := 0
	for more := s.open(']'); more; more = s.next(']') {
		s.r.Features |= Tools
		s.r.path = append(s.r.path, segment{start: n})
		if s.peek() != '{' {
			s.wrongType("an object")
			return
		}
		s.tool()
		if s.fault != faultNone {
			return
		}
		s.leave()
		n++
	}
}

// tool reads one definition. Only what the client itself carries out is free
// of risk.
func (s *scan) tool() {
	var had seen
	var hosted string
	typed := false
	for more := s.open('}'); more; more = s.next('}') {
		_, id, _ := s.member(&had)
		if s.fault != faultNone {
			return
		}
		switch id {
		case kType:
			if s.peek() == 'n' {
				s.skip()
				break
			}
			typed = true
			hosted = s.toolType()
		case kTools: // a namespace of tools
			s.tools()
		case kFunction, kSchema, kOpaque:
			s.schema()
		case kCacheControl:
			s.feature(PromptCaching)
		default:
			s.skip()
		}
		if s.fault != faultNone {
			return
		}
		s.leave()
	}
	if s.fault != faultNone {
		return
	}
	if !typed && s.ep.Dialect() == OpenAI && !had.has(kName) && !had.has(kFunction) {
		hosted = "untyped" // an upstream would guess from the other fields
	}
	if hosted != "" {
		s.risky("tools." + hosted)
		if typed {
			s.r.Risky[len(s.r.Risky)-1].Path += ".type"
		}
	}
}

// toolType reads a tool's type and returns its name without a version if the
// upstream, not the client, would carry it out, or if it is not known.
func (s *scan) toolType() string {
	if s.peek() != '"' {
		s.skip()
		return "unknown"
	}
	t := s.text()
	if s.fault != faultNone {
		return ""
	}
	if s.ep.Dialect() == OpenAI {
		if string(t) == "function" || string(t) == "custom" {
			return ""
		}
		return cleanType(t)
	}
	if string(t) == "custom" {
		return ""
	}
	base := unversioned(t)
	if len(base) == len(t)-len("_20250124") {
		switch string(base) {
		case "bash", "text_editor", "computer", "memory", "computer_toolset", "browser_toolset":
			return ""
		}
	}
	return cleanType(t)
}

// unversioned drops a date from the end of a type: "_20250305" (Anthropic) or
// "_2025_08_26" (OpenAI). A policy names what a tool does, not its edition.
func unversioned(t []byte) []byte {
	for _, layout := range []string{"_dddddddd", "_dddd_dd_dd"} {
		if len(t) > len(layout) && matches(t[len(t)-len(layout):], layout) {
			return t[:len(t)-len(layout)]
		}
	}
	return t
}

func matches(t []byte, layout string) bool {
	for i := range layout {
		if layout[i] == 'd' && (t[i] < '0' || t[i] > '9') || layout[i] == '_' && t[i] != '_' {
			return false
		}
	}
	return true
}

// cleanType makes a type that a client chose fit for a policy's name and a
// log: anything but a short word is "unknown".
func cleanType(t []byte) string {
	t = unversioned(t)
	if len(t) == 0 || len(t) > 64 {
		return "unknown"
	}
	for _, ch := range t {
		if (ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') && ch != '_' && ch != '.' && ch != '-' {
			return "unknown"
		}
	}
	return string(t)
}

// schema reads a JSON schema, in which everything is data except a reference
// out of it, which some validators resolve by fetching.
func (s *scan) schema() {
	switch s.peek() {
	case '{':
		for more := s.open('}'); more; more = s.next('}') {
			name, escaped := s.key()
			if escaped {
				s.r.scratch = appendUnescaped(s.r.scratch[:0], name)
				name = s.r.scratch
			}
			if len(name) > 0 && name[0] == '$' && s.peek() == '"' && (string(name) == "$ref" || string(name) == "$dynamicRef" || string(name) == "$recursiveRef") {
				if to := s.raw(); !bytes.HasPrefix(to, []byte("#")) {
					s.risky("schema_ref")
				}
				continue
			}
			s.schema()
		}
	case '[':
		for more := s.open(']'); more; more = s.next(']') {
			s.schema()
		}
	default:
		s.skip()
	}
}
