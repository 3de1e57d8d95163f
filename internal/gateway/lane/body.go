package lane

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// body reads a request's body: first what came with the head, then from the
// connection, never further than its end.
type body struct {
	c    *conn
	left int64 // not read yet
	by   time.Time
	err  error
}

func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	p = p[:min(int64(len(p)), b.left)]
	var n int
	var err error
	if have := b.c.in[b.c.next:b.c.filled]; len(have) > 0 {
		n = copy(p, have)
		b.c.next += n
	} else {
		b.c.readUntil(b.by)
		n, err = b.c.stream.Read(p)
	}
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case n > 0:
		return n, nil // an error will come again
	case errors.Is(err, io.EOF):
		b.err = io.ErrUnexpectedEOF
	default:
		b.err = err
	}
	return n, b.err
}

func (b *body) Close() error { return nil }

var _ io.ReadCloser = (*body)(nil)

// The most that is read of a body that the handler left, and for how long, so
// that the connection can be kept: net/http's measure.
const (
	drainBytes = 256 << 10
	drainTime  = 5 * time.Second
)

// drain reads what the handler left of the body; false if that is too much.
func (b *body) drain() bool {
	if b.left == 0 {
		return true
	}
	if b.err != nil || b.left > drainBytes {
		return false
	}
	b.by = time.Now().Add(drainTime)
	var void [4 << 10]byte
	for b.left > 0 {
		if _, err := b.Read(void[:]); err != nil && err != io.EOF {
			return false
		}
	}
	return true
}

// bodyOf is the request's Body for a length.
func (c *conn) bodyOf(length int64) io.ReadCloser {
	if length == 0 {
		return http.NoBody
	}
	return &c.body
}
