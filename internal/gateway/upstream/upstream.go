// Package upstream knows how to call a model provider over pooled HTTP/1.1
// connections, and when to leave a failing one alone for a while. It decides
// nothing about where data may go.
package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Timeouts bound the phases of one call. Zero means no bound.
type Timeouts struct {
	// Queue is how long a caller waits for a free connection before ErrOverloaded.
	Queue time.Duration
	// Connect covers name resolution, TCP, the proxy and the TLS handshake.
	Connect time.Duration
	// FirstByte runs from the last request byte the kernel took to the end of
	// the response head. It may fire up to an eighth late, never early.
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
	// or behind a Unix socket. TLS still follows when BaseURL says https.
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

// Header is one extra request header field.
type Header struct{ Name, Value string }

// Client calls one upstream. It is safe for concurrent use.
type Client struct{ opt Options }

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
func New(o Options) (*Client, error) { return &Client{opt: o}, nil }

// Do sends one request and returns when the response head has arrived.
//
// The body may still be read from until the returned Response is closed (an
// upstream can answer before it has read everything), or until Do returned an
// error: do not reuse its memory earlier. Cancelling ctx closes the connection
// at once, also while the body of the response is being read.
func (c *Client) Do(ctx context.Context, method, path string, header []Header, body []byte) (*Response, error) {
	return nil, unsent(ErrConnect, "not built yet", nil)
}

// Close closes idle connections and refuses new calls. Calls in flight finish.
func (c *Client) Close() error { return nil }

// Stats returns a snapshot.
func (c *Client) Stats() Stats { return Stats{} }
