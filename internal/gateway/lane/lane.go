// Package lane knows how to serve plain HTTP/1.1 requests for models more
// cheaply than net/http, and to leave every other to net/http.
//
// A connection begins in the lane. As long as each request on it has a
// strictly recognised plain shape (see plain), it is parsed here and handed to
// the same handler. The first request that has any other, down to a bare line
// feed or a byte too many, goes to net/http together with the connection and
// every byte that was read, for the rest of the connection's life. So the lane
// never decides what an unusual message means: whatever it accepts, net/http
// reads in the same way, which a differential fuzz test shows.
//
// It differs from net/http where that is what makes it cheap:
//
//   - one goroutine per connection: that a client has left is told by one
//     epoll instance for all (EPOLLRDHUP), not by a goroutine that reads;
//   - the request, its maps and the response belong to the connection and are
//     used again: a handler must not keep them after it has returned;
//   - the request's context is the connection's: it ends when the client leaves
//     or the server's base context does, not when the handler returns;
//   - the deadlines of an idle connection and of writing may fire up to an
//     eighth early, so that they need not be moved for every request;
//   - what a handler writes is sent by Flush, at its end, or when 16 KiB have
//     come together; head, body and the end of the body leave in one write.
package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves the listeners of an http.Server. The http.Server's Handler,
// TLSConfig, BaseContext, ConnContext, ReadHeaderTimeout, IdleTimeout and
// ErrorLog hold in the lane, too; it must not be given a listener of its own.
type Server struct {
	http   *http.Server
	odd    *handover
	closed atomic.Bool
	tls    *tls.Config
	base   context.Context
	watch  *watcher

	mu       sync.Mutex // guards the following
	listener net.Listener
	conns    map[*conn]struct{}
	active   sync.WaitGroup // connections in the lane
}

// New makes a server that gives what is not plain to h.
func New(h *http.Server) *Server {
	return &Server{http: h, conns: map[*conn]struct{}{}}
}

// Serve answers on l until Shutdown or Close, and then returns
// http.ErrServerClosed. It is called once. With a TLSConfig it speaks TLS.
func (s *Server) Serve(l net.Listener) error {
	watch, err := newWatcher()
	if err != nil {
		return err
	}
	defer watch.close()
	s.mu.Lock()
	s.listener, s.watch, s.odd = l, watch, newHandover(l.Addr())
	if s.closed.Load() { // before it began
		_ = l.Close()
	}
	s.mu.Unlock()
	s.base = context.Background()
	if s.http.BaseContext != nil {
		s.base = s.http.BaseContext(l)
	}
	s.base = context.WithValue(context.WithValue(s.base, http.ServerContextKey, s.http), http.LocalAddrContextKey, l.Addr())
	if s.http.TLSConfig != nil {
		s.tls = s.http.TLSConfig.Clone()
	}
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.odd) }()
	err = s.accept(l)
	if s.closed.Load() {
		err = http.ErrServerClosed
	} else {
		_ = s.Close()
	}
	s.active.Wait() // the watcher belongs to them
	<-served
	return err
}

// accept takes connections until the listener fails for good.
func (s *Server) accept(l net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || isShortage(err) {
				time.Sleep(pause) // too many open files, for example
				pause = min(2*pause, time.Second)
				continue
			}
			return err
		}
		pause = 5 * time.Millisecond
		c := newConn(s, nc)
		s.mu.Lock()
		if s.closed.Load() {
			s.mu.Unlock()
			_ = nc.Close()
			continue
		}
		s.conns[c] = struct{}{}
		s.active.Add(1)
		s.mu.Unlock()
		go c.serve()
	}
}

// forget ends the lane's part in a connection.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.active.Done()
}

// stop closes the listener and every connection that waits for a request.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed.Store(true)
	if s.listener != nil {
		_ = s.listener.Close()
	}
	for c := range s.conns {
		c.stopIdle()
	}
}

// Shutdown stops taking connections, closes those that wait for a request and
// lets the others finish theirs, until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	done := make(chan struct{})
	go func() { s.active.Wait(); close(done) }()
	err := s.http.Shutdown(ctx)
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return err
}

// Close closes the listener and every connection.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.nc.Close()
	}
	s.mu.Unlock()
	return s.http.Close()
}

func (s *Server) logf(format string, args ...any) {
	if s.http.ErrorLog != nil {
		s.http.ErrorLog.Printf(format, args...)
	}
}
