//go:build linux

package load

import (
	"bytes"
	"fmt"
	"strconv"
)

// answer reads one HTTP/1.1 answer (RFC 9112) in pieces of any size and
// compares its body with the one that is expected.
type answer struct {
	expect []byte
	state  state
	line   []byte // a line that is not whole yet
	pos    int    // bytes of the body that have come
	left   int64  // bytes of the body, or of its chunk, still to come
	length bool   // Content-Length was given
	chunks bool   // Transfer-Encoding: chunked was given
}

type state uint8

const (
	statusLine state = iota
	headerLine
	fixedBody
	chunkSize
	chunkData
	chunkEnd
	trailer
	complete
)

func (a *answer) reset(expect []byte) { *a = answer{expect: expect, line: a.line[:0]} }

// wrong is what makes an answer count as broken. Kind groups such answers.
type wrong struct{ kind, text string }

func (w *wrong) Error() string { return w.kind + ": " + w.text }

// feed takes the next bytes of the answer. After an error, or when more bytes
// follow a complete answer, the connection is of no use.
func (a *answer) feed(p []byte) error {
	for len(p) > 0 {
		switch a.state {
		case complete:
			return &wrong{"bytes after the answer", clip(p)}
		case fixedBody, chunkData:
			n := int(min(int64(len(p)), a.left))
			if err := a.body(p[:n]); err != nil {
				return err
			}
			p = p[n:]
			if a.left -= int64(n); a.left > 0 {
				return nil
			}
			if a.state == chunkData {
				a.state = chunkEnd
				continue
			}
			if err := a.end(); err != nil {
				return err
			}
		default:
			end := bytes.IndexByte(p, '\n')
			if end < 0 {
				a.line = append(a.line, p...)
				return nil
			}
			line := p[:end]
			if len(a.line) > 0 {
				a.line = append(a.line, line...)
				line = a.line
			}
			if err := a.next(bytes.TrimSuffix(line, []byte{'\r'})); err != nil {
				return err
			}
			a.line, p = a.line[:0], p[end+1:]
		}
	}
	return nil
}

// next takes one line that is not part of the body.
func (a *answer) next(line []byte) error {
	switch a.state {
	case statusLine:
		if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return &wrong{"not 200", clip(line)}
		}
		a.state = headerLine
	case headerLine:
		return a.header(line)
	case chunkSize:
		size, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil || size < 0 {
			return &wrong{"bad chunk", clip(line)}
		}
		a.left, a.state = size, chunkData
		if size == 0 {
			a.state = trailer
		}
	case chunkEnd:
		if len(line) > 0 {
			return &wrong{"bad chunk", clip(line)}
		}
		a.state = chunkSize
	case trailer:
		if len(line) == 0 {
			return a.end()
		}
	}
	return nil
}

var (
	contentLength    = []byte("content-length:")
	transferEncoding = []byte("transfer-encoding:")
)

// header looks only at the fields that say how long the body is.
func (a *answer) header(line []byte) error {
	if len(line) == 0 {
		switch {
		case a.chunks:
			a.state = chunkSize
		case a.length && a.left > 0:
			a.state = fixedBody
		default:
			return &wrong{"no body", "neither a length nor chunks"}
		}
		return nil
	}
	switch line[0] | 0x20 {
	case 'c':
		if v, ok := field(line, contentLength); ok {
			n, err := strconv.ParseInt(string(v), 10, 32)
			if err != nil {
				return &wrong{"bad length", clip(line)}
			}
			a.left, a.length = n, true
		}
	case 't':
		if v, ok := field(line, transferEncoding); ok {
			a.chunks = bytes.EqualFold(v, []byte("chunked"))
		}
	}
	return nil
}

func field(line, name []byte) ([]byte, bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], name) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name):]), true
}

func (a *answer) body(p []byte) error {
	if len(p) > len(a.expect)-a.pos || !bytes.Equal(p, a.expect[a.pos:a.pos+len(p)]) {
		return &wrong{"wrong body", fmt.Sprintf("at byte %d: %s", a.pos, clip(p))}
	}
	a.pos += len(p)
	return nil
}

func (a *answer) end() error {
	if a.pos != len(a.expect) {
		return &wrong{"body too short", fmt.Sprintf("%d of %d bytes", a.pos, len(a.expect))}
	}
	a.state = complete
	return nil
}

// clip shortens what an error quotes.
func clip(p []byte) string { return strconv.Quote(string(p[:min(len(p), 160)])) }
