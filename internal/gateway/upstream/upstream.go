// Package upstream knows how to call a model provider over pooled HTTP/1.1
// connections, and when to leave a failing one alone for a while. It decides
// nothing about where data may go.
//
// A pooled connection can be closed by the server just as a request is written
// to it. A call to a model is billed and is not idempotent, so it is repeated,
// once and on a fresh connection, only when no byte of an answer arrived and
//
//   - no byte of the request was written, or
//   - the server ended the connection cleanly and its kernel had acknowledged
//     none of the request by then (Linux's TCP_INFO tells), so that it ended
//     the connection before the request arrived, or
//   - the method is GET or HEAD, which is net/http's own rule.
//
// Redirects are not followed and nothing is decompressed.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// Timeouts bound the phases of one call. Zero means no bound.
type Timeouts struct {
	// Queue is how long a caller waits for a free connection before ErrOverloaded.
	Queue time.Duration
	// Connect covers name resolution, TCP, the proxy and the TLS handshake.
	Connect time.Duration
	// FirstByte runs from the last time the kernel took a part of the request
	// to the end of the response head. It may fire up to an eighth late.
	FirstByte time.Duration
	// BetweenChunks is the longest silence within the body. It may fire up to
	// an eighth late, never early.
	BetweenChunks time.Duration
	// Total covers the whole call, from Do to the last byte of the body.
	Total time.Duration
}

// Options say how to reach one upstream.
type Options struct {
	// BaseURL is http or https; a path prefix is kept in front of every path.
	BaseURL string
	// Dial, if set, replaces name resolution and TCP, for upstreams in process
	// or behind a Unix socket. TLS still follows when BaseURL says https. The
	// connections must support deadlines.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS is cloned; nil means system roots. Below TLS 1.2 is refused.
	TLS *tls.Config
	// Proxy is an optional http:// egress proxy that is asked to CONNECT.
	Proxy *url.URL

	MaxConns    int           // open connections, and so calls at once; 0 means 512
	MaxIdle     int           // idle connections kept; 0 means MaxConns
	IdleTimeout time.Duration // 0 means 55 s, just under the usual minute of load balancers
	MaxQueue    int           // callers waiting for a connection; beyond it ErrOverloaded at once; 0 means nobody waits

	Timeouts Timeouts
	// Header is sent with every request; rendered once, never logged.
	Header http.Header
	// MaxHeaderBytes bounds a response head; 0 means 64 KiB.
	MaxHeaderBytes int
}

// Header is one extra request header field. It may not repeat one of
// Options.Header, nor be one that frames the message.
type Header struct{ Name, Value string }

// Client calls one upstream. It is safe for concurrent use.
type Client struct {
	pool      pool
	dialer    dialer
	timeouts  Timeouts
	prefix    string   // of every path
	fixed     []byte   // rendered header fields
	fixedName []string // their names, lower case
	headLimit int
	clock     func() time.Time // for dates in headers

	dialed, reused, retried atomic.Int64

	// beforeSend, in tests, runs between the choice of a pooled connection and
	// the writing of the request: the moment in which servers close.
	beforeSend func(reused bool)
}

// Stats is a snapshot of a Client.
type Stats struct {
	Open     int // connections open or being opened
	Idle     int // of these, idle
	InFlight int // calls that hold a connection
	Waiting  int // callers queued for one

	Dialed  int64 // connections made since New
	Reused  int64 // calls sent on a pooled connection
	Retried int64 // calls repeated because the pooled connection was stale
}

// New checks the options; it does not connect.
func New(o Options) (*Client, error) {
	base, prefix, err := parseBase(o.BaseURL)
	if err != nil {
		return nil, err
	}
	if o.Proxy != nil && (o.Proxy.Scheme != "http" || o.Proxy.Hostname() == "") {
		return nil, errors.New("the egress proxy must be an http:// URL with a host")
	}
	if o.Proxy != nil && o.Dial != nil {
		return nil, errors.New("an upstream has either an egress proxy or a dial function of its own")
	}
	c := &Client{
		timeouts:  o.Timeouts,
		prefix:    prefix,
		headLimit: cmp.Or(o.MaxHeaderBytes, defaultMaxHeaderBytes),
		clock:     time.Now,
		dialer:    dialer{dial: o.Dial, address: hostPort(base), proxy: o.Proxy, timeout: o.Timeouts.Connect},
	}
	if c.fixed, c.fixedName, err = renderHeader(base.Host, o.Header); err != nil {
		return nil, err
	}
	if base.Scheme == "https" {
		if c.dialer.tls, err = secure(o.TLS, base.Hostname()); err != nil {
			return nil, err
		}
	}
	c.pool.maxConns = cmp.Or(o.MaxConns, defaultMaxConns)
	c.pool.maxIdle = cmp.Or(o.MaxIdle, c.pool.maxConns)
	c.pool.maxQueue = o.MaxQueue
	c.pool.idleTimeout = cmp.Or(o.IdleTimeout, defaultIdleTimeout)
	return c, nil
}

// Do sends one request and returns when the response head has arrived.
//
// The body may still be read from until the returned Response is closed or its
// Read has returned an error or io.EOF (an upstream can answer before it has
// read everything), or until Do returned an error: do not reuse its memory
// earlier. Cancelling ctx closes the connection at once, also while the body of
// the response is being read.
func (c *Client) Do(ctx context.Context, method, path string, header []Header, body []byte) (*Response, error) {
	if err := c.check(method, path, header); err != nil {
		return nil, unsent(ErrRequest, "", err)
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx, false)
	}
	r := &Response{client: c, ctx: ctx, bodyless: method == http.MethodHead}
	if c.timeouts.Total > 0 {
		r.total = mono() + c.timeouts.Total
	}
	cn, err := c.connection(ctx, r.total)
	if err != nil {
		return nil, err
	}
	r.scratch = scratches.Get().(*scratch)
	r.scratch.out = c.appendHead(r.scratch.out[:0], method, path, header, len(body))
	head := len(r.scratch.out)
	failed, again := r.exchange(cn, head, body)
	for failed == stale {
		c.pool.drop()
		r.scratch.out = r.scratch.out[:head]
		if cn, err = c.connection(ctx, r.total); err != nil {
			r.scratch.free()
			return nil, err
		}
		failed, again = r.exchange(cn, head, body)
	}
	if cn.reused {
		c.reused.Add(1)
	}
	if again && ctx.Err() == nil {
		c.retried.Add(1)
		if cn, err = c.dial(ctx, r.total); err != nil { // on the slot of the stale one
			r.scratch.free()
			return nil, err
		}
		r.scratch.out = r.scratch.out[:head]
		failed, _ = r.exchange(cn, head, body)
	}
	if failed != nil {
		c.pool.drop()
		r.scratch.free()
		return nil, failed
	}
	return r, nil
}

func (c *Client) check(method, path string, header []Header) error {
	if err := checkLine(method, path); err != nil {
		return err
	}
	for _, h := range header {
		if err := checkField(h.Name, h.Value); err != nil {
			return err
		}
		for _, name := range c.fixedName {
			if equalFold(h.Name, name) {
				return errors.New("the header " + name + " is fixed for this upstream")
			}
		}
	}
	return nil
}

// connection returns a pooled connection that is alive, or a new one. The
// caller then holds one slot of the pool.
func (c *Client) connection(ctx context.Context, total time.Duration) (*conn, error) {
	for {
		cn, w, err := c.pool.take()
		if w != nil {
			cn, err = c.pool.wait(ctx, w, c.timeouts.Queue, total)
		}
		if err != nil {
			return nil, err
		}
		if cn == nil {
			return c.dial(ctx, total)
		}
		if cn.turns() || cn.alive() {
			cn.reused = true
			return cn, nil
		}
		cn.closeQuietly()
		c.pool.drop()
	}
}

// dial opens a connection for the slot that the caller holds, and gives the
// slot back if that fails.
func (c *Client) dial(ctx context.Context, total time.Duration) (*conn, error) {
	cn, err := c.dialer.connect(ctx, total)
	if err != nil {
		c.pool.drop()
		return nil, err
	}
	c.dialed.Add(1)
	return cn, nil
}

// appendHead renders the request line and header. Content-Length is sent where
// there is a body or the method usually has one (RFC 9110 section 8.6).
func (c *Client) appendHead(b []byte, method, path string, header []Header, n int) []byte {
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, c.prefix...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = append(b, c.fixed...)
	for _, h := range header {
		b = append(b, h.Name...)
		b = append(b, ": "...)
		b = append(b, h.Value...)
		b = append(b, "\r\n"...)
	}
	if n > 0 || method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...)
}

// Close closes idle connections and refuses new calls. Calls in flight finish.
func (c *Client) Close() error {
	c.pool.shut()
	return nil
}

// Stats returns a snapshot.
func (c *Client) Stats() Stats {
	s := Stats{Dialed: c.dialed.Load(), Reused: c.reused.Load(), Retried: c.retried.Load()}
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	s.Open, s.Idle, s.Waiting = c.pool.open, len(c.pool.idle), len(c.pool.waiters)
	s.InFlight = s.Open - s.Idle
	return s
}
