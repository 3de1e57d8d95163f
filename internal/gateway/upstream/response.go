package upstream

import (
	"io"
	"time"
)

// Response is the answer to one request. It must be closed. It is not safe for
// concurrent use; to end it from elsewhere, cancel the context given to Do.
type Response struct {
	Status        int
	ContentLength int64  // -1 when the upstream did not say
	ContentType   string // as sent
	// UntilClose is true when only the end of the connection ends the body, so
	// that over plain TCP a cut cannot be told from a proper end.
	UntilClose bool
	// Reused tells that the connection had served an earlier request.
	Reused bool
}

// Get returns the first value of a header field, or "". Not after Close.
func (r *Response) Get(name string) string { return "" }

// RetryAfter returns how long the upstream asks to wait: Retry-After in seconds
// or as an HTTP date, or retry-after-ms; 0 when it does not ask.
func (r *Response) RetryAfter() time.Duration { return 0 }

// Read reads the body and returns as soon as any of it is there. A body cut
// short is io.ErrUnexpectedEOF, never io.EOF.
func (r *Response) Read(p []byte) (int, error) { return 0, io.EOF }

// Close ends the call. The connection is kept for reuse only if the body was
// read to its proper end; otherwise it is closed at once, which tells the
// upstream to stop generating. Reading until io.EOF before Close is what makes
// reuse happen. Close may be called more than once.
func (r *Response) Close() error { return nil }
