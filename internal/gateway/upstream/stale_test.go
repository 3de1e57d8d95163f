package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
)

// afterOne lets a server end its first connection once it has answered there,
// by finish, at the moment in which the client has chosen that connection.
func staleServer(t *testing.T, finish func(p *peer)) (*Client, *atomic.Int64) {
	t.Helper()
	served := new(atomic.Int64)
	chosen, done := make(chan struct{}), make(chan struct{})
	addr := listen(t, func(p *peer) {
		for p.n > 0 {
			if p.request() == nil {
				return
			}
			served.Add(1)
			p.say(hello)
		}
		p.request()
		p.say(hello)
		wait(t, "the client's choice", chosen)
		finish(p)
		close(done)
		p.waitGone()
	})
	c := client(t, "http://"+addr)
	if _, _, err := call(c, "{}"); err != nil {
		t.Fatal(err)
	}
	c.beforeSend = func(reused bool) {
		if reused {
			close(chosen)
			wait(t, "the server's end", done)
		}
	}
	return c, served
}

func post(c *Client, method string) error {
	r, err := c.Do(context.Background(), method, "/", nil, []byte("{}"))
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.ReadAll(r)
	return err
}

func TestAConnectionThatTheServerClosesAsARequestIsWritten(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs TCP_INFO")
	}
	c, served := staleServer(t, func(p *peer) { p.Close() })
	if err := post(c, "POST"); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Retried != 1 || served.Load() != 1 || s.Open != 1 {
		t.Errorf("unexpected: %+v, served %d", s, served.Load())
	}
}

// The server takes the request and then goes away. It may have begun to
// generate, and to bill: only a GET may be repeated.
func TestARequestThatTheServerTookIsNotRepeated(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		end          func(p *peer)
		retried      int64
	}{
		{"POST, FIN", "POST", func(p *peer) { p.Close() }, 0},
		{"POST, RST", "POST", func(p *peer) { p.reset() }, 0},
		{"GET, FIN", "GET", func(p *peer) { p.Close() }, 1},
		{"GET, RST", "GET", func(p *peer) { p.reset() }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, "http://"+listen(t, func(p *peer) {
				for p.request() != nil {
					p.say(hello)
					if p.n == 0 {
						p.request()
						tt.end(p)
						return
					}
				}
			}))
			if err := post(c, "POST"); err != nil {
				t.Fatal(err)
			}
			err := post(c, tt.method)
			if (err == nil) != (tt.retried == 1) || c.Stats().Retried != tt.retried {
				t.Errorf("got %v, %+v", err, c.Stats())
			}
			if err != nil && (!errors.Is(err, ErrReset) || !Sent(err)) {
				t.Errorf("got %v, sent %v", err, Sent(err))
			}
		})
	}
}

// A reset proves nothing: the server may have read the request and not
// acknowledged it yet.
func TestAResetAsARequestIsWrittenIsNotProof(t *testing.T) {
	c, served := staleServer(t, func(p *peer) { p.reset() })
	err := post(c, "POST")
	// The reset is known to the kernel before the write, so that nothing is
	// written, unless it is still on its way.
	if err == nil {
		if s := c.Stats(); s.Retried != 1 || served.Load() != 1 {
			t.Errorf("unexpected: %+v, served %d", s, served.Load())
		}
	} else if !Sent(err) || c.Stats().Retried != 0 {
		t.Errorf("got %v, sent %v, %+v", err, Sent(err), c.Stats())
	}
}

func TestAnAnswerThatBeganIsNeverRepeated(t *testing.T) {
	c := client(t, "http://"+listen(t, func(p *peer) {
		for p.request() != nil {
			p.say(hello)
			p.request()
			p.say("HTTP/1.1 2")
			return
		}
	}))
	if err := post(c, "GET"); err != nil {
		t.Fatal(err)
	}
	if err := post(c, "GET"); !errors.Is(err, ErrReset) || c.Stats().Retried != 0 {
		t.Errorf("got %v, %+v", err, c.Stats())
	}
}

func TestAFreshConnectionIsNotTriedTwice(t *testing.T) {
	var conns atomic.Int64
	c := client(t, "http://"+listen(t, func(p *peer) {
		conns.Add(1)
		p.request()
	}))
	if err := post(c, "GET"); !errors.Is(err, ErrReset) || conns.Load() != 1 {
		t.Errorf("got %v over %d connections", err, conns.Load())
	}
}

func TestAnIdleConnectionThatIsNoLongerGoodIsDropped(t *testing.T) {
	for name, spoil := range map[string]func(p *peer){
		"the server closed it":              func(p *peer) { p.Close() },
		"the server reset it":               func(p *peer) { p.reset() },
		"the server sent bytes of its own":  func(p *peer) { p.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") },
		"the server sent bytes, then a FIN": func(p *peer) { p.say("x"); p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			spoilt, idle := make(chan struct{}), make(chan struct{})
			c := client(t, "http://"+listen(t, func(p *peer) {
				for p.request() != nil {
					p.say(hello)
					if p.n == 0 {
						wait(t, "idleness", idle)
						spoil(p)
						close(spoilt)
						p.waitGone()
					}
				}
			}))
			if err := post(c, "POST"); err != nil {
				t.Fatal(err)
			}
			close(idle)
			wait(t, "the spoiling", spoilt)
			if _, got, err := call(c, "{}"); err != nil || got != "hello" {
				t.Errorf("got %q, %v", got, err)
			}
			if s := c.Stats(); s.Dialed != 2 || s.Reused != 0 || s.Retried != 0 || s.Open != 1 {
				t.Errorf("unexpected %+v", s)
			}
		})
	}
}

// A Unix socket knows at once that its peer is gone: nothing is written.
func TestAStaleUnixSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	chosen, closed := make(chan struct{}), make(chan struct{})
	serve(t, l, func(p *peer) {
		for p.request() != nil {
			p.say(hello)
			if p.n == 0 {
				wait(t, "the client's choice", chosen)
				p.Close()
				close(closed)
				return
			}
		}
	})
	c := client(t, "http://local/v1", func(o *Options) {
		o.Dial = func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) }
	})
	if err := post(c, "POST"); err != nil {
		t.Fatal(err)
	}
	c.beforeSend = func(reused bool) {
		if reused {
			close(chosen)
			wait(t, "the close", closed)
		}
	}
	if err := post(c, "POST"); err != nil || c.Stats().Retried != 1 {
		t.Errorf("got %v, %+v", err, c.Stats())
	}
	_ = os.Remove(path)
}
