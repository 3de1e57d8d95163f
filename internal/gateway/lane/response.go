package lane

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// held is how much of an answer is kept back until Flush or the end.
const held = 16 << 10

// response is an http.ResponseWriter. http.ResponseController finds its Flush
// and its deadlines.
type response struct {
	c      *conn
	header http.Header
	mem    *memory

	status   int   // 0 until WriteHeader
	declared int64 // Content-Length as the handler set it, or -1
	wrote    int64 // bytes of the body
	began    bool  // the head has been sent
	chunked  bool
	bodyless bool
	typed    bool // the handler set a Content-Type
	dated    bool
	timed    bool // the handler set a deadline for writing
	close    bool
	err      error // of the connection
}

// memory is what a response borrows.
type memory struct{ wire, body []byte }

var memories = sync.Pool{New: func() any { return &memory{wire: make([]byte, 0, 2<<10), body: make([]byte, 0, 4<<10)} }}

func (w *response) begin() {
	clear(w.header)
	m := memories.Get().(*memory)
	m.wire, m.body = m.wire[:0], m.body[:0]
	*w = response{c: w.c, header: w.header, mem: m, declared: -1}
}

func (w *response) release() {
	if m := w.mem; m != nil && cap(m.wire) <= 4*held {
		memories.Put(m)
	}
	w.mem = nil
}

func (w *response) Header() http.Header { return w.header }

// WriteHeader takes the header as it is now. Interim answers are not sent.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || status >= 100 && status < 200 {
		return
	}
	if status < 100 || status > 999 {
		panic("lane: invalid status " + strconv.Itoa(status))
	}
	w.status = status
	w.bodyless = status == http.StatusNoContent || status == http.StatusNotModified
	b := append(w.mem.wire[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	b = append(b, "\r\n"...)
	for name, values := range w.header {
		if w.framing(name, values) {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	w.mem.wire = b
}

// framing keeps what the handler says about the message itself: those fields
// are written when it is sent.
func (w *response) framing(name string, values []string) bool {
	switch name {
	case "Content-Length":
		if n, err := strconv.ParseInt(strings.TrimSpace(first(values)), 10, 64); err == nil && n >= 0 {
			w.declared = n
		}
		return true
	case "Transfer-Encoding", "Trailer":
		return true
	case "Connection":
		for _, v := range values {
			w.close = w.close || equalFold(v, "close")
		}
		return true
	case "Content-Type":
		w.typed = true
	case "Content-Encoding":
		w.typed = w.typed || first(values) != ""
	case "Date":
		w.dated = true
	}
	return !token(name)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func token(name string) bool {
	for i := range len(name) {
		if !isToken[name[i]] {
			return false
		}
	}
	return name != ""
}

// appendField writes a line. A value cannot end it.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	start := len(b)
	b = append(b, value...)
	for i := start; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return append(b, "\r\n"...)
}

// Write keeps p until there is more, Flush is called or the handler returns.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, w.err
	case w.err != nil:
		return 0, w.err
	case w.bodyless:
		return 0, http.ErrBodyNotAllowed
	case w.declared >= 0 && w.wrote+int64(len(p)) > w.declared:
		return 0, http.ErrContentLength
	}
	w.wrote += int64(len(p))
	if len(w.mem.body)+len(p) > held {
		if w.err = w.send(p, false); w.err != nil {
			return 0, w.err
		}
		return len(p), nil
	}
	w.mem.body = append(w.mem.body, p...)
	return len(p), nil
}

func (w *response) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// Flush sends what was written.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError is Flush, for http.ResponseController.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err == nil && (!w.began || len(w.mem.body) > 0) {
		w.err = w.send(nil, false)
	}
	return w.err
}

// SetReadDeadline bounds reading the request's body.
func (w *response) SetReadDeadline(at time.Time) error {
	w.c.body.by = at
	return nil
}

// SetWriteDeadline bounds writing, up to an eighth early, until the handler
// returns.
func (w *response) SetWriteDeadline(at time.Time) error {
	w.timed = true
	if now := time.Now(); at.After(now) {
		w.c.writeAbout(at.Sub(now))
		return nil
	}
	w.c.writeBy = at
	return w.c.nc.SetWriteDeadline(at)
}

// EnableFullDuplex is what the lane does anyway: nothing is read from the
// client before the handler asks for it.
func (w *response) EnableFullDuplex() error { return nil }

// finish sends the rest; false when the connection cannot go on.
func (w *response) finish() bool {
	if w.c.request.Context().Err() != nil && w.status == 0 {
		return false // nobody is there to read an empty answer
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.declared > w.wrote && !w.bodyless {
		w.close = true // the client must not wait for the rest
	}
	if w.err == nil && (!w.began || w.chunked || len(w.mem.body) > 0) {
		w.err = w.send(nil, true)
	}
	return w.err == nil && !w.close
}

// send writes head, body and p, and with last the end of the body, in one
// write unless p is large.
func (w *response) send(p []byte, last bool) error {
	m := w.mem
	b := m.wire
	if !w.began {
		w.began = true
		b = w.frame(b, p, last)
	}
	n := len(m.body) + len(p)
	if w.chunked && n > 0 {
		b = strconv.AppendInt(b, int64(n), 16)
		b = append(b, "\r\n"...)
	}
	b = append(b, m.body...)
	m.body = m.body[:0]
	if len(p) > held {
		if err := w.write(b); err != nil {
			return err
		}
		if err := w.write(p); err != nil {
			return err
		}
		b = b[:0]
	} else {
		b = append(b, p...)
	}
	if w.chunked && n > 0 {
		b = append(b, "\r\n"...)
	}
	if w.chunked && last {
		b = append(b, "0\r\n\r\n"...)
	}
	m.wire = b[:0]
	return w.write(b)
}

// frame ends the head with the fields that say how long the body is and
// whether the connection goes on. p is the rest of the body if this is the last.
func (w *response) frame(b, p []byte, last bool) []byte {
	m := w.mem
	if !w.typed && !w.bodyless && len(m.body)+len(p) > 0 {
		sample := m.body
		if len(sample) == 0 {
			sample = p
		}
		b = appendField(b, "Content-Type", http.DetectContentType(sample))
	}
	switch {
	case w.declared >= 0 && w.status != http.StatusNoContent:
		b = appendLength(b, w.declared)
	case w.bodyless:
	case last:
		b = appendLength(b, int64(len(m.body)+len(p)))
	default:
		w.chunked = true
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	r := w.c.request
	if r.Close || w.c.server.closed.Load() || w.c.body.left > drainBytes {
		w.close = true
	}
	if w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	if !w.dated {
		b = append(b, date()...)
	}
	return append(b, "\r\n"...)
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

func (w *response) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if !w.timed {
		w.c.writeAbout(writeTimeout)
	}
	_, err := w.c.stream.Write(b)
	return err
}

// dateLine is the Date field of one second.
type dateLine struct {
	second int64
	text   string
}

var dates atomic.Pointer[dateLine]

func date() string {
	now := time.Now()
	d := dates.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
		dates.Store(d)
	}
	return d.text
}
