package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// peer is the server's side of one connection, driven by a script.
type peer struct {
	net.Conn
	in *bufio.Reader
	n  int // which connection of the server this is, from 0
	// over is closed when the test is.
	over <-chan struct{}
}

// request reads one request and its body; nil when the client is gone.
func (p *peer) request() *http.Request {
	req, err := http.ReadRequest(p.in)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil
	}
	req.Header.Set("Test-Body", string(body))
	return req
}

// say writes raw bytes; a client that is gone is no failure.
func (p *peer) say(s string) { _, _ = io.WriteString(p, s) }

// reset closes with RST.
func (p *peer) reset() {
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close()
}

// waitGone blocks until the client has closed or reset the connection.
func (p *peer) waitGone() {
	_ = p.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.Copy(io.Discard, p.in)
}

// listen runs script for every connection on a loopback port, closes each
// afterwards, and ends with the test.
func listen(t testing.TB, script func(p *peer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, script)
	return l.Addr().String()
}

func serve(t testing.TB, l net.Listener, script func(p *peer)) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	over := make(chan struct{})
	all.Go(func() {
		for n := 0; ; n++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			all.Go(func() {
				defer nc.Close()
				script(&peer{Conn: nc, in: bufio.NewReader(nc), n: n, over: over})
			})
		}
	})
	t.Cleanup(func() {
		close(over)
		l.Close()
		mu.Lock()
		for _, nc := range open {
			nc.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}

// answering replies to every request on a connection with the same bytes.
func answering(answer string) func(*peer) {
	return func(p *peer) {
		for p.request() != nil {
			p.say(answer)
		}
	}
}

const hello = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello"

func client(t testing.TB, base string, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{BaseURL: base, MaxConns: 8, MaxQueue: 8}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func within(d Timeouts) func(*Options) { return func(o *Options) { o.Timeouts = d } }

// call posts body and reads the whole answer.
func call(c *Client, body string) (status int, answer string, err error) {
	return callWith(context.Background(), c, body)
}

func callWith(ctx context.Context, c *Client, body string) (status int, answer string, err error) {
	r, err := c.Do(ctx, "POST", "/v1/chat/completions", nil, []byte(body))
	if err != nil {
		return 0, "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return r.Status, string(b), err
}

// until polls a condition that nothing signals.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		}
	}
}

// wait blocks until ch is closed or has a value.
func wait[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("timed out waiting for %s", what)
	}
	return v
}
