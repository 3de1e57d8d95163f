package upstream

import (
	"bytes"
	"strings"
)

const (
	maxFields  = 256 // header fields in one response
	maxInterim = 5   // 1xx answers before the real one, as net/http allows
)

// malformed is a protocol violation in the package's own words; it never quotes
// what the upstream sent.
type malformed string

func (m malformed) Error() string { return string(m) }

// field is one header field, as offsets into the head's bytes.
type field struct{ nameStart, nameEnd, valueStart, valueEnd uint32 }

// head is a parsed response head (RFC 9112). Whatever RFC 9112 leaves to the
// recipient's leniency is refused here: two readers that repair differently
// disagree on where a response ends.
type head struct {
	status        int
	minor         byte // HTTP/1.minor
	fields        []field
	contentLength int64 // -1 if absent
	chunked       bool
	close         bool
	keepAlive     bool
}

// headEnd returns the length of the head at the start of b, 0 if it is not
// complete yet. Bytes before seen were searched earlier.
func headEnd(b []byte, seen int) (int, error) {
	if err := checkStart(b); err != nil {
		return 0, err
	}
	from := max(0, seen-3)
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4, nil
	}
	if bytes.Contains(b[from:], []byte("\n\n")) {
		return 0, malformed("the response head has bare line feeds")
	}
	return 0, nil
}

// checkStart fails as soon as b cannot become an HTTP/1 response, so that a
// server of another protocol is named at once and not by a timeout.
func checkStart(b []byte) error {
	const prefix = "HTTP/1."
	n := min(len(b), len(prefix))
	if string(b[:n]) == prefix[:n] {
		return nil
	}
	if b[0] == 0x15 || b[0] == 0x16 {
		return malformed("the answer is TLS, not HTTP: the base URL should perhaps begin with https")
	}
	return malformed("the answer does not begin like an HTTP/1 response")
}

// parse reads a complete head, its last CRLF CRLF included.
func (h *head) parse(b []byte) error {
	*h = head{fields: h.fields[:0], contentLength: -1}
	line := bytes.IndexByte(b, '\n')
	if line < 1 || b[line-1] != '\r' {
		return malformed("the status line does not end in CRLF")
	}
	if err := h.statusLine(b[:line-1]); err != nil {
		return err
	}
	for at := line + 1; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 1 || b[at+n-1] != '\r' {
			return malformed("a header line does not end in CRLF")
		}
		if n == 1 {
			return h.framing()
		}
		if len(h.fields) == maxFields {
			return malformed("the response has too many header fields")
		}
		f, err := parseField(b, at, at+n-1)
		if err != nil {
			return err
		}
		h.fields = append(h.fields, f)
		if err := h.significant(b[f.nameStart:f.nameEnd], b[f.valueStart:f.valueEnd]); err != nil {
			return err
		}
		at += n + 1
	}
}

// statusLine reads "HTTP/1.x SP 3DIGIT [SP reason]".
func (h *head) statusLine(b []byte) error {
	if len(b) < len("HTTP/1.1 200") || string(b[:7]) != "HTTP/1." || (b[7] != '0' && b[7] != '1') || b[8] != ' ' {
		return malformed("the status line is malformed")
	}
	h.minor = b[7] - '0'
	for _, c := range b[9:12] {
		if c < '0' || c > '9' {
			return malformed("the status code is not a number")
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 || (len(b) > 12 && b[12] != ' ') {
		return malformed("the status code is malformed")
	}
	for _, c := range b[12:] {
		if !fieldByte(c) {
			return malformed("the status line has a control character")
		}
	}
	return nil
}

// parseField reads one header line b[at:end], without its CRLF.
func parseField(b []byte, at, end int) (field, error) {
	i := at
	for i < end && isToken[b[i]] {
		i++
	}
	if i == at || i == end || b[i] != ':' {
		if b[at] == ' ' || b[at] == '\t' {
			return field{}, malformed("a header line is folded, which RFC 9112 forbids")
		}
		return field{}, malformed("a header field name is malformed")
	}
	f := field{nameStart: uint32(at), nameEnd: uint32(i)}
	i++
	for i < end && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	for end > i && (b[end-1] == ' ' || b[end-1] == '\t') {
		end--
	}
	for _, c := range b[i:end] {
		if !fieldByte(c) {
			return field{}, malformed("a header field value has a control character")
		}
	}
	f.valueStart, f.valueEnd = uint32(i), uint32(end)
	return f, nil
}

// significant notes the fields that decide where the body ends and whether the
// connection lives on.
func (h *head) significant(name, value []byte) error {
	switch len(name) {
	case len("Connection"):
		if equalFold(name, "connection") {
			h.connection(value)
		}
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			n, ok := parseLength(value)
			if !ok {
				return malformed("Content-Length is not a number")
			}
			if h.contentLength >= 0 && h.contentLength != n {
				return malformed("there are two different Content-Length fields")
			}
			h.contentLength = n
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			if h.chunked || !equalFold(value, "chunked") {
				return malformed("Transfer-Encoding is not exactly chunked")
			}
			h.chunked = true
		}
	}
	return nil
}

func (h *head) connection(value []byte) {
	for len(value) > 0 {
		token, rest, _ := bytes.Cut(value, []byte(","))
		token, value = bytes.TrimSpace(token), rest
		h.close = h.close || equalFold(token, "close")
		h.keepAlive = h.keepAlive || equalFold(token, "keep-alive")
	}
}

// framing refuses what RFC 9112 section 6.3 calls a likely smuggling attempt.
func (h *head) framing() error {
	if h.chunked && h.contentLength >= 0 {
		return malformed("the response has both Content-Length and Transfer-Encoding")
	}
	if h.chunked && h.minor == 0 {
		return malformed("an HTTP/1.0 response has a Transfer-Encoding")
	}
	return nil
}

// persistent tells whether the connection may serve another request once the
// body has ended (RFC 9112 section 9.3).
func (h *head) persistent() bool {
	return !h.close && (h.minor == 1 || h.keepAlive)
}

// parseLength reads 1*DIGIT that fits an int64: no sign, no space, no list.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// fieldByte: field-content of RFC 9110 section 5.5 (obs-text included), HT and SP.
func fieldByte(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' }

// isToken holds tchar of RFC 9110 section 5.6.2.
var isToken = func() (t [256]bool) {
	for c := range t {
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		t[c] = alphanumeric || c > 0 && c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0
	}
	return t
}()

// equalFold compares with a lower-case ASCII string, folding ASCII only: the
// Kelvin sign is not a k in a protocol.
func equalFold[B ~[]byte | ~string](b B, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
