package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// exchange writes the request, whose head is in scratch.out, and reads the
// response head. When it fails the connection is closed, the upload has ended,
// and the pool's slot is still held; again then tells whether the request is
// known not to have been processed, see the package comment.
func (r *Response) exchange(cn *conn, head int, body []byte) (failed *Error, again bool) {
	c := r.client
	r.cn, r.Reused, r.upload, r.sendErr, r.stop = cn, cn.reused, nil, nil, nil
	r.next, r.filled = 0, 0
	before := cn.m.written.Load()
	inTurn := cn.reused && cn.turns() && head+len(body) <= inlineMax
	if cn.reused && cn.turns() && !inTurn && !cn.alive() {
		r.abandon(true)
		return stale, false
	}
	if c.beforeSend != nil && !inTurn {
		c.beforeSend(cn.reused)
	}
	if r.ctx.Done() != nil {
		r.stop = context.AfterFunc(r.ctx, cn.cancel)
	}
	err := error(nil)
	if inTurn {
		err = r.takeTurn(body)
	} else {
		err = r.send(head, body)
	}
	if errors.Is(err, errStale) && r.ctx.Err() == nil {
		r.abandon(true)
		return stale, false
	}
	if err == nil {
		err = r.receive()
	}
	if err == nil {
		r.begin()
		return nil, false
	}
	failed = r.failure(err, ErrTimeoutFirstByte)
	clean := errors.Is(err, io.EOF) && r.filled == 0 // before abort, which ends the socket
	unacknowledged := clean && cn.reused && cn.unacknowledged(before)
	r.abandon(false)
	unwritten := cn.m.written.Load() == before
	failed.sent = !unwritten && !unacknowledged
	if !cn.reused || r.filled > 0 || failed.Kind != ErrReset {
		return failed, false
	}
	line := r.scratch.out
	safe := bytes.HasPrefix(line, []byte("GET ")) || bytes.HasPrefix(line, []byte("HEAD "))
	return failed, unwritten || unacknowledged || safe
}

// errStale says that a pooled connection had ended, or had bytes that nobody
// asked for, before anything was written to it. Another is taken.
var errStale = errors.New("the pooled connection is stale")

var stale = unsent(errStale, "", nil)

// takeTurn writes a short request on a pooled connection, and reads the first
// of what comes back.
func (r *Response) takeTurn(body []byte) error {
	cn, s, t := r.cn, r.scratch, &r.cn.turn
	s.out = append(s.out, body...)
	if err := cn.arm(r.client.timeouts.FirstByte, r.total, false); err != nil {
		return err
	}
	if r.client.beforeSend != nil {
		t.hook = func() { r.client.beforeSend(true) }
	}
	err := t.take(cn.socket, s.out, s.in[:min(len(s.in), r.client.headLimit)])
	cn.m.written.Add(int64(t.wrote))
	r.filled = t.n
	switch {
	case err != nil:
		return err
	case t.stale:
		return errStale
	case t.err != nil:
		return t.err
	case t.werr != nil:
		r.sendErr = t.werr // the server may have answered before it stopped reading
	case t.wrote < len(s.out):
		if err := cn.arm(r.client.timeouts.FirstByte, r.total, true); err != nil {
			return err
		}
		if _, err := cn.nc.Write(s.out[t.wrote:]); err != nil {
			r.sendErr = err
		}
	}
	return nil
}

// send writes the request. A failed inline write is not an error yet: the
// server may have answered before it stopped reading.
func (r *Response) send(head int, body []byte) error {
	cn, s := r.cn, r.scratch
	if cn.socket != nil && head+len(body) <= inlineMax {
		s.out = append(s.out, body...)
		if err := cn.arm(r.client.timeouts.FirstByte, r.total, true); err != nil {
			return err
		}
		if _, err := cn.nc.Write(s.out); err != nil {
			r.sendErr = err
		}
		return nil
	}
	if err := cn.disarmWrites(); err != nil {
		return err
	}
	if err := cn.arm(r.client.timeouts.FirstByte, r.total, false); err != nil {
		return err
	}
	r.upload = cn.startUpload(s.out, body)
	return nil
}

// receive reads heads until one is final; what has been read of them is in
// scratch.in[:filled]. Their bytes stay in scratch.in, the
// final head's at the front.
func (r *Response) receive() error {
	s := r.scratch
	interim := 0
	for seen := 0; ; {
		if r.filled > seen {
			end, err := headEnd(s.in[:r.filled], seen)
			if err != nil {
				return err
			}
			if end > 0 {
				if err := s.head.parse(s.in[:end]); err != nil {
					return err
				}
				if s.head.status >= 200 {
					r.next = end
					return nil
				}
				if interim++; interim > maxInterim || s.head.status == http.StatusSwitchingProtocols {
					return malformed("the upstream sent interim answers that were not asked for")
				}
				r.filled = copy(s.in, s.in[end:r.filled])
				seen = 0
				continue
			}
			seen = r.filled
		}
		if err := r.more(); err != nil {
			return err
		}
	}
}

// more reads once into scratch.in, behind what is there, within the head's limits.
func (r *Response) more() error {
	s := r.scratch
	if r.filled >= r.client.headLimit {
		return malformed("the response head is too long")
	}
	if r.filled == len(s.in) {
		s.in = append(s.in, make([]byte, len(s.in))...)
	}
	for {
		n, err := r.cn.nc.Read(s.in[r.filled:min(len(s.in), r.client.headLimit)])
		if n > 0 {
			r.filled += n
			return nil
		}
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && r.uploading() {
			continue
		}
		return err
	}
}

// uploading moves the deadline for the answer when the request is, or was until
// lately, still being taken by the upstream.
func (r *Response) uploading() bool {
	first := r.client.timeouts.FirstByte
	if r.upload == nil || first == 0 || (r.total > 0 && mono() >= r.total) {
		return false
	}
	left := time.Duration(r.upload.progress.Load()) + first - mono()
	return left > 0 && r.cn.arm(left, r.total, false) == nil
}

// failure puts err into the words of this package. phase is the timeout that a
// deadline means now.
func (r *Response) failure(err, phase error) *Error {
	e := &Error{Kind: ErrReset, Cause: err, sent: true}
	var bad malformed
	var alert *net.OpError
	switch {
	case r.ctx.Err() != nil:
		return contextError(r.ctx, true)
	case errors.As(err, &bad):
		e.Kind, e.Detail, e.Cause = ErrProtocol, string(bad), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.Kind, e.Cause = phase, nil
		if r.total > 0 && mono() >= r.total {
			e.Kind = ErrTimeoutTotal
		}
	case errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error"): // crypto/tls's alerts
		e.Kind = ErrTLS
	case errors.Is(err, io.EOF):
		e.Cause = io.ErrUnexpectedEOF // never io.EOF: that means a proper end
	}
	return e
}

// abandon closes the connection, politely or at once, and waits for the upload,
// which that ends.
func (r *Response) abandon(politely bool) {
	if r.stop != nil && !r.stop() {
		politely = false
	}
	if politely {
		r.cn.closeQuietly()
	} else {
		r.cn.abort()
	}
	if r.upload != nil {
		<-r.upload.done
	}
	r.cn = nil
}
