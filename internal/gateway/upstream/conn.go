package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	scratchSize = 8 << 10
	// inputSize is what one read from the upstream may bring: a short stream
	// that is sent at once then goes to the client at once.
	inputSize = 16 << 10
	// inlineMax is the largest request, head included, that is written without
	// a goroutine. It fits the initial receive window of every usual TCP stack,
	// so that the write cannot wait for a peer which answers without reading.
	inlineMax = 16 << 10
	// uploadStep bounds one Write of a large body, so that progress is seen.
	uploadStep = 256 << 10
	// uploadGrace is how long a complete answer waits for the end of its upload.
	uploadGrace = 10 * time.Millisecond
)

// mono is time since the process began, on the monotonic clock alone: half the
// price of time.Now and comparable as an integer.
func mono() time.Duration { return time.Since(processStart) }

var processStart = time.Now()

// scratch is the memory a call borrows: the request is rendered into out, the
// answer is read into in, its head staying at the front until Close.
type scratch struct {
	out, in []byte
	head    head
}

var scratches = sync.Pool{New: func() any {
	return &scratch{out: make([]byte, 0, scratchSize), in: make([]byte, inputSize)}
}}

// free returns the scratch unless a giant head or request made it large.
func (s *scratch) free() {
	if cap(s.out) <= 2*inlineMax && cap(s.in) <= inputSize {
		scratches.Put(s)
	}
}

// meter notes what happens on the socket, below TLS.
type meter struct {
	net.Conn
	written atomic.Int64
	// ended is set by the end of the stream. crypto/tls, having seen a
	// close_notify alert, does not read on to it; without one it reports the
	// bare end, where a record ended, as a proper one.
	ended bool
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if err == io.EOF {
		m.ended = true
	}
	return n, err
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.written.Add(int64(n))
	return n, err
}

// conn is one connection. It belongs to one call at a time.
type conn struct {
	nc     net.Conn        // what HTTP is spoken over: m, or TLS over it
	m      *meter          // the socket
	socket syscall.RawConn // nil for in-process connections
	tls    *tls.Conn       // nil for plain text

	reused    bool
	idleSince time.Duration
	// The deadlines that are set, as mono times; 0 is none. Setting one costs
	// as much as parsing a response head, so they move only when they must.
	readBy, writeBy time.Duration

	watch  watch  // scratch of alive
	turn   turn   // scratch of sendTurn
	cancel func() // abort, made once for context.AfterFunc
}

func newConn(m *meter) *conn {
	cn := &conn{nc: m, m: m}
	if s, ok := m.Conn.(syscall.Conn); ok {
		if socket, err := s.SyscallConn(); err == nil {
			cn.socket = socket
		}
	}
	cn.watch.bind()
	cn.turn.bind()
	cn.cancel = cn.abort
	return cn
}

// abort tells the peer at once that nobody listens any more: a reset reaches a
// server that is blocked writing, and drops what the kernel has not sent yet.
func (cn *conn) abort() {
	if t, ok := cn.m.Conn.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0) // best effort: Close below is what counts
	}
	_ = cn.m.Conn.Close()
}

// closeQuietly ends a connection between calls.
func (cn *conn) closeQuietly() { _ = cn.nc.Close() }

// alive tells whether an idle connection can serve a call. The server may have
// closed it, or sent bytes that nobody asked for: those would be read as the
// answer to the next request, so the connection is not used.
func (cn *conn) alive() bool {
	if cn.tls != nil && !cn.silent(-time.Second) { // decrypted already, or read along with the last record
		return false
	}
	if cn.socket == nil {
		return true
	}
	switch readable, broken := cn.watch.poll(cn.socket); {
	case broken:
		return false
	case readable:
		// TLS 1.3 has messages of its own (tickets, key updates).
		return cn.tls != nil && cn.silent(time.Millisecond)
	}
	return true
}

// turns tells whether requests go over the connection by turns, which look by
// themselves whether it lives.
func (cn *conn) turns() bool { return turns && cn.socket != nil && cn.tls == nil }

// silent reads for so long and tells whether nothing came, not even an end.
func (cn *conn) silent(d time.Duration) bool {
	cn.readBy = max(mono()+d, 1)
	if cn.tls.SetReadDeadline(processStart.Add(mono()+d)) != nil {
		return false
	}
	n, err := cn.tls.Read(cn.watch.one[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// arm makes reads (and with writes, writes) fail no earlier than timeout from
// now and at most an eighth of it late, but exactly at total. It touches the
// deadlines only when the ones that are set do not fit.
func (cn *conn) arm(timeout, total time.Duration, writes bool) error {
	var want, latest time.Duration
	if timeout > 0 {
		want = mono() + timeout
		latest = want + timeout/8
	}
	if total > 0 && (timeout == 0 || total < latest) {
		latest = total
		if timeout == 0 || want > total {
			want = total
		}
	}
	fits := func(set time.Duration) bool { return set >= want && set <= latest && (set == 0) == (latest == 0) }
	readOK, writeOK := fits(cn.readBy), !writes || fits(cn.writeBy)
	at := time.Time{}
	if latest != 0 {
		at = processStart.Add(latest)
	}
	switch {
	case readOK && writeOK:
		return nil
	case !writes || writeOK:
		cn.readBy = latest
		return cn.nc.SetReadDeadline(at)
	}
	cn.readBy, cn.writeBy = latest, latest
	return cn.nc.SetDeadline(at)
}

// disarmWrites removes a write deadline that an earlier call left.
func (cn *conn) disarmWrites() error {
	if cn.writeBy == 0 {
		return nil
	}
	cn.writeBy = 0
	return cn.nc.SetWriteDeadline(time.Time{})
}

// upload is a request being written beside the reading of its answer.
type upload struct {
	done     chan struct{}
	progress atomic.Int64 // mono time when the kernel last took some of it
	err      error        // after done
}

// startUpload writes head and body in a goroutine that ends when the
// connection does.
func (cn *conn) startUpload(head, body []byte) *upload {
	u := &upload{done: make(chan struct{})}
	u.progress.Store(int64(mono()))
	go func() {
		defer close(u.done)
		if n := min(len(body), cap(head)-len(head)); n > 0 { // head and the body's start in one segment
			head, body = append(head, body[:n]...), body[n:]
		}
		u.err = u.write(cn.nc, head)
		for len(body) > 0 && u.err == nil {
			n := min(len(body), uploadStep)
			u.err = u.write(cn.nc, body[:n])
			body = body[n:]
		}
	}()
	return u
}

func (u *upload) write(w io.Writer, p []byte) error {
	_, err := w.Write(p)
	u.progress.Store(int64(mono()))
	return err
}

// sent tells whether the whole request was written; a nil upload was, inline.
// The server may have answered the last byte before the goroutine that wrote it
// runs again, so it is waited for, shortly.
func (u *upload) sent() bool {
	if u == nil {
		return true
	}
	select {
	case <-u.done:
		return u.err == nil
	default:
	}
	grace := time.NewTimer(uploadGrace)
	defer grace.Stop()
	select {
	case <-u.done:
		return u.err == nil
	case <-grace.C:
		return false
	}
}

// contextError reports the end of ctx; the cause is added where it says more.
func contextError(ctx context.Context, sent bool) *Error {
	e := &Error{Kind: ctx.Err(), sent: sent}
	if cause := context.Cause(ctx); cause != e.Kind {
		e.Cause = cause
	}
	return e
}
