package lane

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
)

// verdict is what the lane thinks of the bytes at the start of a request.
type verdict uint8

const (
	incomplete verdict = iota // may become a plain request
	odd                       // is not one, or will not be: net/http's
	whole                     // its head is whole and plain
)

const (
	maxFields = 48
	maxLength = 15 // digits of a Content-Length
)

// head is a plain request's head.
type head struct {
	size   int   // bytes, the empty line included
	length int64 // of the body
	close  bool  // the client wants the connection closed
}

// plain reads the head at the start of b into r, if it is plain:
//
//   - POST or GET, for a path under /v1/ of unreserved characters, in HTTP/1.1;
//   - every line ends in CRLF, every name is a token, every value is visible
//     ASCII with spaces and tabs; nothing is folded;
//   - exactly one Host, with the characters of names and addresses only;
//   - for POST at most one Content-Length, of digits, and for GET none;
//   - none of the fields that change what a message or a connection is.
//
// seen is how many bytes were looked at before.
func plain(b []byte, seen int, r *http.Request, u *url.URL, values *[maxFields]string) (head, verdict) {
	var h head
	if !begins(b) {
		return h, odd
	}
	end := bytes.Index(b[max(0, seen-3):], []byte("\r\n\r\n"))
	if end < 0 {
		if bareLF(b) {
			return h, odd
		}
		return h, incomplete
	}
	h.size = max(0, seen-3) + end + 4
	// One string for all: what the handler keeps of it stays valid.
	text := string(b[:h.size-2])
	rest, ok := requestLine(text, r, u)
	if !ok {
		return h, odd
	}
	clear(r.Header)
	r.Host = ""
	for n := 0; rest != ""; n++ {
		var name, value string
		if name, value, rest, ok = field(rest); !ok || n == maxFields || !h.significant(name, value, r) {
			return h, odd
		}
		if name == "Host" {
			continue
		}
		if have := r.Header[name]; have != nil {
			r.Header[name] = append(have, value)
			continue
		}
		values[n] = value
		r.Header[name] = values[n : n+1 : n+1]
	}
	if r.Host == "" {
		return h, odd
	}
	r.ContentLength, r.Close = h.length, h.close
	return h, whole
}

const (
	post = "POST /v1/"
	get  = "GET /v1/"
)

// begins tells whether b is, or may become, the start of a plain request.
func begins(b []byte) bool {
	n, m := min(len(b), len(post)), min(len(b), len(get))
	return string(b[:n]) == post[:n] || string(b[:m]) == get[:m]
}

func bareLF(b []byte) bool {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return false
		}
		if at+i == 0 || b[at+i-1] != '\r' {
			return true
		}
		at += i + 1
	}
}

// requestLine reads the first line and returns what follows it.
func requestLine(text string, r *http.Request, u *url.URL) (rest string, ok bool) {
	r.Method = http.MethodPost
	at := len("POST ")
	if text[0] == 'G' {
		r.Method, at = http.MethodGet, len("GET ")
	}
	start := at
	for at < len(text) && isPath[text[at]] {
		at++
	}
	const tail = " HTTP/1.1\r\n"
	if len(text)-at < len(tail) || text[at:at+len(tail)] != tail {
		return "", false
	}
	*u = url.URL{Path: text[start:at]}
	r.RequestURI = u.Path
	return text[at+len(tail):], true
}

// field reads one line, which ends in CRLF.
func field(text string) (name, value, rest string, ok bool) {
	at := 0
	for at < len(text) && isToken[text[at]] {
		at++
	}
	if at == 0 || at == len(text) || text[at] != ':' {
		return "", "", "", false
	}
	name = canonical(text[:at])
	at++
	for at < len(text) && (text[at] == ' ' || text[at] == '\t') {
		at++
	}
	start := at
	for at < len(text) && (text[at] >= ' ' && text[at] < 0x7f || text[at] == '\t') {
		at++
	}
	if len(text)-at < 2 || text[at] != '\r' || text[at+1] != '\n' {
		return "", "", "", false
	}
	end := at
	for end > start && (text[end-1] == ' ' || text[end-1] == '\t') {
		end--
	}
	return name, text[start:end], text[at+2:], true
}

// significant notes the fields that say what the message is; false if one of
// them makes it not plain.
func (h *head) significant(name, value string, r *http.Request) bool {
	switch name {
	case "Host":
		if r.Host != "" || value == "" {
			return false
		}
		for i := range len(value) {
			if !isHost[value[i]] {
				return false
			}
		}
		r.Host = value
	case "Content-Length":
		if r.Header[name] != nil || r.Method == http.MethodGet || len(value) == 0 || len(value) > maxLength {
			return false
		}
		for i := range len(value) {
			if value[i] < '0' || value[i] > '9' {
				return false
			}
			h.length = h.length*10 + int64(value[i]-'0')
		}
	case "Connection":
		h.close = equalFold(value, "close")
		return r.Header[name] == nil && (h.close || equalFold(value, "keep-alive"))
	case "Transfer-Encoding", "Te", "Trailer", "Expect", "Upgrade", "Keep-Alive", "Proxy-Connection", "Http2-Settings", "Pragma":
		return false
	}
	return true
}

// equalFold compares with a lower-case ASCII word.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// canonical is textproto's form of a field's name; the usual ones cost no
// allocation.
func canonical(name string) string {
	if c, ok := usual[name]; ok {
		return c
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

var usual = func() map[string]string {
	m := map[string]string{}
	for _, lower := range []string{"host", "content-length", "content-type", "connection", "authorization", "x-api-key", "user-agent", "accept",
		"accept-encoding", "accept-language", "anthropic-version", "anthropic-beta", "x-foundry-data-class", "x-forwarded-for",
		"x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-stainless-lang", "x-stainless-os", "x-stainless-arch", "x-stainless-runtime",
		"x-stainless-runtime-version", "x-stainless-package-version", "x-stainless-retry-count", "x-stainless-timeout", "traceparent", "origin"} {
		c := textproto.CanonicalMIMEHeaderKey(lower)
		m[lower], m[c] = c, c
	}
	return m
}()

type set [256]bool

func charset(more string) (s set) {
	for c := range s {
		s[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	for i := range len(more) {
		s[more[i]] = true
	}
	return s
}

var (
	isToken = charset("!#$%&'*+-.^_`|~") // RFC 9110, 5.6.2
	isPath  = charset("/-._~:")
	isHost  = charset("-._:[]")
)
