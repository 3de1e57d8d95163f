package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// directRead is the smallest destination that the socket is read into without
// a copy.
const directRead = 2 << 10

// Response is the answer to one request. It must be closed. It is not safe for
// concurrent use; to end it from elsewhere, cancel the context given to Do.
type Response struct {
	Status        int
	ContentLength int64  // -1 when the upstream did not say
	ContentType   string // as sent
	// UntilClose is true when only the end of the connection ends the body, so
	// that over plain TCP a cut cannot be told from a proper end. Over TLS the
	// end needs a close_notify alert (RFC 9112 section 9.8).
	UntilClose bool
	// Reused tells that the connection had served an earlier request.
	Reused bool

	client   *Client
	ctx      context.Context
	cn       *conn // nil once the connection went back or was closed
	scratch  *scratch
	upload   *upload
	sendErr  error // of an inline write
	stop     func() bool
	total    time.Duration // mono; 0 is none
	bodyless bool          // the request was HEAD

	next, filled int   // unread bytes are scratch.in[next:filled]
	bodyAt       int   // where in scratch.in body bytes go
	left         int64 // of a body with Content-Length
	chunked      bool
	chunks       chunked
	err          error // what Read returns from now on
}

// begin takes the framing from the parsed head.
func (r *Response) begin() {
	h := &r.scratch.head
	r.Status, r.ContentLength = h.status, h.contentLength
	r.ContentType = contentType(r.bytes("content-type"))
	r.bodyAt = r.next
	if r.bodyless || h.status == http.StatusNoContent || h.status == http.StatusNotModified {
		// A length says what another method would have got. After 204 it, or a
		// transfer coding, is an error, and who knows what follows.
		if h.status == http.StatusNoContent && (h.chunked || h.contentLength > 0) {
			h.close = true
		}
		r.finish(true)
		return
	}
	switch {
	case h.chunked:
		r.chunked = true
	case h.contentLength == 0:
		r.finish(true)
	case h.contentLength > 0:
		r.left = h.contentLength
	default:
		r.UntilClose = true
	}
}

// Read reads the body and returns as soon as any of it is there. A body cut
// short is io.ErrUnexpectedEOF (for errors.Is), never io.EOF.
func (r *Response) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := 0, error(nil)
	switch {
	case r.chunked:
		if n, err = r.readChunks(p); r.err != nil { // finished
			return n, err
		}
	case r.UntilClose:
		n, err = r.take(p)
		if errors.Is(err, io.EOF) && (r.cn.tls == nil || !r.cn.m.ended) {
			r.finish(false)
			return n, io.EOF
		}
	default:
		n, err = r.take(p[:min(int64(len(p)), r.left)])
		if r.left -= int64(n); r.left == 0 {
			r.finish(true)
			return n, nil
		}
	}
	if err != nil {
		r.err = r.broken(err)
		return n, r.err
	}
	return n, nil
}

// Ended reports whether the last Read took the end of the body with it, so
// that the next would return io.EOF without waiting.
func (r *Response) Ended() bool { return errors.Is(r.err, io.EOF) }

// readChunks decodes what is buffered, and reads only if that yields nothing.
func (r *Response) readChunks(p []byte) (int, error) {
	for {
		n, used, err := r.chunks.decode(p, r.scratch.in[r.next:r.filled])
		r.next += used
		switch {
		case err != nil:
			return n, err
		case r.chunks.done():
			if r.finish(true); n > 0 {
				return n, nil
			}
			return 0, io.EOF
		case n > 0:
			return n, nil
		}
		if r.chunks.state == chunkData && len(p) >= directRead {
			n, err := r.read(p[:min(int64(len(p)), r.chunks.left)])
			r.chunks.took(n)
			return n, err
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

// take gives body bytes as they come, without decoding.
func (r *Response) take(p []byte) (int, error) {
	if r.next == r.filled {
		if len(p) >= directRead {
			return r.read(p)
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.scratch.in[r.next:r.filled])
	r.next += n
	return n, nil
}

// fill reads once into the buffer behind the head, which is empty there.
func (r *Response) fill() error {
	s := r.scratch
	if len(s.in)-r.bodyAt < directRead {
		s.in = append(s.in, make([]byte, scratchSize)...)
	}
	n, err := r.read(s.in[r.bodyAt:])
	r.next, r.filled = r.bodyAt, r.bodyAt+n
	return err
}

// read reads once from the connection, under the deadlines of the body.
func (r *Response) read(p []byte) (int, error) {
	if err := r.cn.arm(r.client.timeouts.BetweenChunks, r.total, false); err != nil {
		return 0, err
	}
	for {
		n, err := r.cn.nc.Read(p)
		if n > 0 {
			return n, nil // an error will come again
		}
		if err != nil {
			return 0, err
		}
	}
}

// broken ends the call after a failed read of the body.
func (r *Response) broken(err error) error {
	e := r.failure(err, ErrTimeoutBetweenChunks)
	e.cut = e.Kind == ErrReset
	r.abandon(false)
	r.client.pool.drop()
	return e
}

// finish returns the connection after the proper end of the body, if it can
// serve another call: nothing may follow the body, the request must have been
// written whole, and the cancellation of this call must not be under way.
func (r *Response) finish(delimited bool) {
	r.err = io.EOF
	cn := r.cn
	written := r.sendErr == nil && r.upload.sent()
	reuse := delimited && written && r.scratch.head.persistent() && r.next == r.filled
	if reuse && (r.stop == nil || r.stop()) {
		r.cn = nil
		r.client.pool.put(cn)
		return
	}
	r.abandon(written)
	r.client.pool.drop()
}

// Close ends the call. The connection is kept for reuse only if the body was
// read to its proper end, or its end is in memory already; otherwise it is
// closed at once, which tells the upstream to stop generating. Reading until
// io.EOF before Close is what makes reuse happen. Close may be called more than
// once.
func (r *Response) Close() error {
	if r.scratch == nil {
		return nil
	}
	if r.err == nil {
		r.skip()
	}
	if r.cn != nil {
		r.abandon(false)
		r.client.pool.drop()
	}
	if r.err == nil || r.err == io.EOF {
		r.err = http.ErrBodyReadAfterClose
	}
	r.scratch.free()
	r.scratch = nil
	return nil
}

// skip finishes a body whose end is in the buffer.
func (r *Response) skip() {
	have := r.scratch.in[r.next:r.filled]
	switch {
	case r.chunked:
		var void [512]byte
		for len(have) > 0 && !r.chunks.done() {
			_, used, err := r.chunks.decode(void[:], have)
			if err != nil {
				return
			}
			r.next, have = r.next+used, have[used:]
		}
		if r.chunks.done() {
			r.finish(true)
		}
	case !r.UntilClose && int64(len(have)) >= r.left:
		r.next += int(r.left)
		r.finish(true)
	}
}

// Get returns the first value of a header field, or "". Not after Close.
func (r *Response) Get(name string) string { return string(r.bytes(name)) }

// Fields calls yield for each header field, in the order sent. Not after Close.
func (r *Response) Fields(yield func(name, value string) bool) {
	if r.scratch == nil {
		return
	}
	b := r.scratch.in
	for _, f := range r.scratch.head.fields {
		if !yield(string(b[f.nameStart:f.nameEnd]), string(b[f.valueStart:f.valueEnd])) {
			return
		}
	}
}

func (r *Response) bytes(name string) []byte {
	if r.scratch == nil {
		return nil
	}
	b := r.scratch.in
	for _, f := range r.scratch.head.fields {
		if sameName(b[f.nameStart:f.nameEnd], name) {
			return b[f.valueStart:f.valueEnd]
		}
	}
	return nil
}

// sameName compares two field names, folding ASCII only. Both are tokens, in
// which bit 0x20 separates upper from lower case, and a few punctuation marks
// that no field name in use differs by.
func sameName(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i]|0x20 != b[i]|0x20 {
			return false
		}
	}
	return true
}

// maxRetryAfter caps what an upstream can ask for.
const maxRetryAfter = 24 * time.Hour

// RetryAfter returns how long the upstream asks to wait: retry-after-ms, which
// OpenAI sends and its SDKs prefer, or Retry-After in seconds or as an HTTP date
// (RFC 9110 section 10.2.3); 0 when it does not ask, a day at most. Not after Close.
func (r *Response) RetryAfter() time.Duration {
	if d, ok := number(r.Get("retry-after-ms"), time.Millisecond); ok {
		return d
	}
	value := r.Get("retry-after")
	if d, ok := number(value, time.Second); ok {
		return d
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(r.client.clock())), maxRetryAfter)
}

// number reads a non-negative decimal; vendors send fractions, too.
func number(s string, unit time.Duration) (time.Duration, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0) {
		return 0, false
	}
	return time.Duration(min(f*float64(unit), float64(maxRetryAfter))), true
}

// contentType spares the two usual values an allocation.
func contentType(b []byte) string {
	switch string(b) {
	case "application/json":
		return "application/json"
	case "text/event-stream":
		return "text/event-stream"
	case "text/event-stream; charset=utf-8":
		return "text/event-stream; charset=utf-8"
	}
	return string(b)
}
