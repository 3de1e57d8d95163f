package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestCancellationReachesTheUpstreamWithin100Milliseconds(t *testing.T) {
	reason := errors.New("the client went away")
	for _, tt := range []struct {
		name   string
		says   string
		body   []byte
		inBody bool
	}{
		{"before the head", "", []byte("{}"), false},
		{"within the body", chunkedHead + "5\r\nhello\r\n", []byte("{}"), true},
		{"during an upload", "", make([]byte, 20<<20), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reached, gone := make(chan struct{}), make(chan time.Time, 1)
			c := client(t, "http://"+listen(t, func(p *peer) {
				p.header()
				p.say(tt.says)
				close(reached)
				p.waitGone()
				gone <- time.Now()
			}))
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			var r *Response
			var err error
			if tt.inBody {
				if r, err = c.Do(ctx, "POST", "/", nil, tt.body); err != nil {
					t.Fatal(err)
				}
				if _, err = io.ReadFull(r, make([]byte, 5)); err != nil {
					t.Fatal(err)
				}
			}
			cancelled := make(chan time.Time, 1)
			go func() {
				<-reached
				cancelled <- time.Now()
				cancel(reason)
			}()
			if tt.inBody {
				_, err = r.Read(make([]byte, 5))
				r.Close()
			} else {
				_, err = c.Do(ctx, "POST", "/", nil, tt.body)
			}
			if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) || !Sent(err) {
				t.Errorf("got %v", err)
			}
			if took := wait(t, "the server to notice", gone).Sub(<-cancelled); took > 100*time.Millisecond {
				t.Errorf("the server noticed after %v", took)
			}
			if s := c.Stats(); s.Open != 0 {
				t.Errorf("left behind: %+v", s)
			}
		})
	}
}

// Nobody may be reading when the caller's client leaves.
func TestCancellationNeedsNoReader(t *testing.T) {
	gone := make(chan struct{})
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say(chunkedHead)
		p.waitGone()
		close(gone)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	r, err := c.Do(ctx, "POST", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	wait(t, "the server to notice", gone)
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.Close()
}

func TestClosingAResponseEarlyEndsTheConnection(t *testing.T) {
	gone := make(chan struct{})
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say(chunkedHead + "5\r\nhello\r\n")
		p.waitGone()
		close(gone)
	}))
	r, err := c.Do(context.Background(), "POST", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	wait(t, "the server to notice", gone)
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

func TestClosingAResponseWhoseEndIsInMemoryKeepsTheConnection(t *testing.T) {
	for name, answer := range map[string]string{
		"with a length": hello,
		"chunked":       chunkedHead + "5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, "http://"+listen(t, answering(answer)))
			for range 3 {
				r, err := c.Do(context.Background(), "POST", "/", nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Close()
			}
			if s := c.Stats(); s.Dialed != 1 || s.Idle != 1 {
				t.Errorf("unexpected %+v", s)
			}
		})
	}
}

func TestACancelledCallNeverHandsOnItsConnection(t *testing.T) {
	c := client(t, "http://"+listen(t, answering(hello)))
	for range 200 {
		ctx, cancel := context.WithCancel(context.Background())
		go cancel() // races with the end of the body
		_, _, _ = callWith(ctx, c, "{}")
		if _, got, err := call(c, "{}"); err != nil || got != "hello" {
			t.Fatalf("the next call got %q, %v", got, err)
		}
	}
	if s := c.Stats(); s.InFlight != 0 || s.Open != s.Idle {
		t.Errorf("left behind: %+v", s)
	}
}

func TestADeadlineOfTheContext(t *testing.T) {
	c := client(t, "http://"+listen(t, func(p *peer) { p.waitGone() }))
	ctx, cancel := context.WithTimeout(context.Background(), short)
	defer cancel()
	if _, _, err := callWith(ctx, c, "{}"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

func TestAContextThatEndedAlreadySendsNothing(t *testing.T) {
	c := client(t, "http://"+listen(t, answering(hello)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := callWith(ctx, c, "{}")
	if !errors.Is(err, context.Canceled) || Sent(err) || c.Stats().Dialed != 0 {
		t.Errorf("got %v, sent %v, %+v", err, Sent(err), c.Stats())
	}
}

// deadlines counts the calls that the coalescing is there to save.
type deadlines struct {
	net.Conn
	set int
}

func (d *deadlines) SetDeadline(t time.Time) error     { d.set++; return d.Conn.SetDeadline(t) }
func (d *deadlines) SetReadDeadline(t time.Time) error { d.set++; return d.Conn.SetReadDeadline(t) }

func TestDeadlinesMoveOnlyWhenTheyMust(t *testing.T) {
	addr := listen(t, answering(hello))
	var nc *deadlines
	c := client(t, "http://"+addr, within(Timeouts{FirstByte: time.Minute, BetweenChunks: time.Minute}), func(o *Options) {
		o.Dial = func(ctx context.Context) (net.Conn, error) {
			raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			nc = &deadlines{Conn: raw}
			return nc, err
		}
	})
	for range 50 {
		if _, _, err := call(c, "{}"); err != nil {
			t.Fatal(err)
		}
	}
	if nc.set > 3 {
		t.Errorf("deadlines were set %d times for 50 calls", nc.set)
	}
}

// The whole answer is in memory, but its call was cancelled: the connection is
// gone, or about to be, and must not be given to another.
func TestAConnectionWhoseCallWasCancelledIsNotPutBack(t *testing.T) {
	gone := make(chan struct{})
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say(hello)
		p.waitGone()
		close(gone)
	}))
	ctx, cancel := context.WithCancel(context.Background())
	r, err := c.Do(ctx, "POST", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	wait(t, "the server to notice", gone)
	if b, err := io.ReadAll(r); string(b) != "hello" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	r.Close()
	if s := c.Stats(); s.Open != 0 {
		t.Errorf("put back: %+v", s)
	}
}

// A FIN alone is not noticed by a server that only writes, and lets the kernel
// deliver what is left of an upload.
func TestAnAbandonedCallIsReset(t *testing.T) {
	seen := make(chan error, 1)
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say(chunkedHead)
		_, err := p.in.ReadByte()
		seen <- err
	}))
	r, err := c.Do(context.Background(), "POST", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := wait(t, "the server's error", seen); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server saw %v", err)
	}
}
