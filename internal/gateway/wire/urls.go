package wire

import "bytes"

// raw reads the string at the cursor and returns it with its escapes.
func (s *scan) raw() []byte {
	span, _ := s.str()
	if s.fault != faultNone {
		return nil
	}
	return s.b[span.Start:span.End]
}

// url reads a URL, or something that holds URLs. Only data: URLs, in exactly
// this spelling, carry what they name; any other makes the upstream open
// something (http, s3, file) or is not a URL.
func (s *scan) url(name string) {
	switch s.peek() {
	case '"':
		if raw := s.raw(); isData(raw) {
			s.r.MediaBytes += int64(len(raw))
		} else {
			s.risky(name)
		}
	case '[', '{':
		mark := len(s.r.Risky)
		if s.peek() == '{' {
			s.object(posInner)
		} else {
			s.urls(name)
		}
		s.rename(mark, name)
	default:
		s.skip()
	}
}

func (s *scan) urls(name string) {
	n := 0
	for more := s.open(']'); more; more = s.next(']') {
		s.r.path = append(s.r.path, segment{start: n})
		s.url(name)
		if s.fault != faultNone {
			return
		}
		s.leave()
		n++
	}
}

// medium reads an image, video or file: an object, or a string that is base64,
// a data: URL, or a URL to fetch.
func (s *scan) medium(name string) {
	switch s.peek() {
	case '"':
		if raw := s.raw(); hasScheme(raw) {
			s.risky(name)
		} else {
			s.r.MediaBytes += int64(len(raw))
		}
	case '[':
		n := 0
		for more := s.open(']'); more; more = s.next(']') {
			s.r.path = append(s.r.path, segment{start: n})
			s.medium(name)
			if s.fault != faultNone {
				return
			}
			s.leave()
			n++
		}
	default:
		mark := len(s.r.Risky)
		s.node(posInner)
		s.rename(mark, name)
	}
}

// rename gives the risks since mark that are only known to be URLs a name.
func (s *scan) rename(mark int, name string) {
	for i := mark; i < len(s.r.Risky); i++ {
		if s.r.Risky[i].Name == "url" {
			s.r.Risky[i].Name = name
		}
	}
}

// isData reports whether a raw string starts with "data:" once unescaped.
func isData(raw []byte) bool {
	if bytes.HasPrefix(raw, []byte("data:")) {
		return true
	}
	head := raw[:min(len(raw), 5*6)] // five characters, each escaped at most
	if bytes.IndexByte(head, '\\') < 0 {
		return false
	}
	return bytes.HasPrefix(unescapeHead(raw), []byte("data:"))
}

// hasScheme reports whether a raw string starts like a URL that somebody has
// to open, or like a path. Base64 holds neither ':' nor a leading "//" or ".".
func hasScheme(raw []byte) bool {
	if isData(raw) {
		return false
	}
	head := unescapeHead(raw)
	return bytes.IndexByte(head, ':') >= 0 || bytes.HasPrefix(head, []byte("//")) || bytes.HasPrefix(head, []byte("."))
}

// maxHead is how many bytes of a string are enough to see a URL's scheme, or
// to name a key in a path.
const maxHead = 128

// unescapeHead unescapes the start of a checked string.
func unescapeHead(raw []byte) []byte {
	head := raw[:min(len(raw), maxHead)]
	if bytes.IndexByte(head, '\\') < 0 {
		return head
	}
	// Do not cut an escape sequence in two.
	end := 0
	for end < len(head) {
		n := 1
		if head[end] == '\\' {
			n = 2
			if end+1 < len(head) && head[end+1] == 'u' {
				n = 6
			}
		}
		if end+n > len(head) {
			break
		}
		end += n
	}
	return appendUnescaped(nil, head[:end])
}
