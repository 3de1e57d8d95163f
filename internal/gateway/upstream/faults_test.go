package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const (
	chunkedHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	short       = 60 * time.Millisecond
)

// TestAnUpstreamThatMisbehaves says, for each way to fail, which error the
// caller sees, from Do or from Read, and that nothing is left open.
func TestAnUpstreamThatMisbehaves(t *testing.T) {
	hang := func(p *peer) { p.waitGone() }
	end := func(p *peer) {}
	reset := func(p *peer) { p.reset() }
	for _, tt := range []struct {
		name  string
		says  string
		then  func(*peer)
		want  error
		inDo  bool
		body  string // what arrives before the error
		limit Timeouts
	}{
		{name: "FIN before the head", then: end, want: ErrReset, inDo: true},
		{name: "RST before the head", then: reset, want: ErrReset, inDo: true},
		{name: "FIN in the status line", says: "HTTP/1.1 20", then: end, want: ErrReset, inDo: true},
		{name: "FIN in the header", says: "HTTP/1.1 200 OK\r\nContent-Le", then: end, want: ErrReset, inDo: true},
		{name: "RST in the header", says: "HTTP/1.1 200 OK\r\nContent-Le", then: reset, want: ErrReset, inDo: true},
		{name: "FIN after the head of a body with a length", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", then: end, want: io.ErrUnexpectedEOF},
		{name: "FIN within a body with a length", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", then: end, want: io.ErrUnexpectedEOF, body: "hel"},
		{name: "RST within a body with a length", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", then: reset, want: io.ErrUnexpectedEOF, body: "hel"},
		{name: "FIN before the first chunk", says: chunkedHead, then: end, want: io.ErrUnexpectedEOF},
		{name: "FIN within a chunk size", says: chunkedHead + "5", then: end, want: io.ErrUnexpectedEOF},
		{name: "FIN within a chunk", says: chunkedHead + "5\r\nhel", then: end, want: io.ErrUnexpectedEOF, body: "hel"},
		{name: "RST within a chunk", says: chunkedHead + "5\r\nhel", then: reset, want: io.ErrUnexpectedEOF, body: "hel"},
		{name: "FIN between chunks", says: chunkedHead + "5\r\nhello\r\n", then: end, want: io.ErrUnexpectedEOF, body: "hello"},
		{name: "FIN after the last chunk but before the end of the trailer", says: chunkedHead + "5\r\nhello\r\n0\r\n", then: end, want: io.ErrUnexpectedEOF, body: "hello"},
		{name: "hang before the head", then: hang, want: ErrTimeoutFirstByte, inDo: true, limit: Timeouts{FirstByte: short}},
		{name: "hang within the head", says: "HTTP/1.1 200 OK\r\n", then: hang, want: ErrTimeoutFirstByte, inDo: true, limit: Timeouts{FirstByte: short}},
		{name: "hang after an interim head", says: "HTTP/1.1 102 Processing\r\n\r\n", then: hang, want: ErrTimeoutFirstByte, inDo: true, limit: Timeouts{FirstByte: short}},
		{name: "hang after the head", says: chunkedHead, then: hang, want: ErrTimeoutBetweenChunks, limit: Timeouts{FirstByte: time.Hour, BetweenChunks: short}},
		{name: "hang between chunks", says: chunkedHead + "5\r\nhello\r\n", then: hang, want: ErrTimeoutBetweenChunks, body: "hello", limit: Timeouts{BetweenChunks: short}},
		{name: "total time before the head", then: hang, want: ErrTimeoutTotal, inDo: true, limit: Timeouts{FirstByte: time.Hour, Total: short}},
		{name: "total time within the body", says: chunkedHead + "5\r\nhello\r\n", then: hang, want: ErrTimeoutTotal, body: "hello", limit: Timeouts{BetweenChunks: time.Hour, Total: short}},
		{name: "total time alone", says: chunkedHead, then: hang, want: ErrTimeoutTotal, limit: Timeouts{Total: short}},
		{name: "an answer in TLS", says: "\x15\x03\x01\x00\x02\x02\x16", then: hang, want: ErrProtocol, inDo: true},
		{name: "another protocol", says: "SSH-2.0-OpenSSH_9\r\n", then: hang, want: ErrProtocol, inDo: true},
		{name: "HTTP/2", says: "HTTP/2 200\r\n\r\n", then: hang, want: ErrProtocol, inDo: true},
		{name: "bare line feeds", says: "HTTP/1.1 200 OK\nContent-Length: 0\n\n", then: hang, want: ErrProtocol, inDo: true},
		{name: "a giant header that ends", says: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", then: hang, want: ErrProtocol, inDo: true},
		{name: "a giant header that does not end", says: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10), then: hang, want: ErrProtocol, inDo: true},
		{name: "too many fields", says: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", then: hang, want: ErrProtocol, inDo: true},
		{name: "endless interim answers", says: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 6), then: hang, want: ErrProtocol, inDo: true},
		{name: "a switch of protocols", says: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", then: hang, want: ErrProtocol, inDo: true},
		{name: "length and chunks", says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", then: hang, want: ErrProtocol, inDo: true},
		{name: "a chunk size that is not one", says: chunkedHead + "5\r\nhello\r\nxyz\r\n", then: hang, want: ErrProtocol, body: "hello"},
		{name: "a chunk longer than its size", says: chunkedHead + "5\r\nhello!\r\n", then: hang, want: ErrProtocol, body: "hello"},
		{name: "a negative chunk size", says: chunkedHead + "-5\r\n", then: hang, want: ErrProtocol},
		{name: "a chunk size beyond all bounds", says: chunkedHead + "fffffffffffffffff\r\n", then: hang, want: ErrProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := client(t, "http://"+listen(t, func(p *peer) {
				p.request()
				p.say(tt.says)
				tt.then(p)
			}), within(tt.limit))
			begun := time.Now()
			r, err := c.Do(context.Background(), "POST", "/", nil, []byte("{}"))
			var body []byte
			if err == nil {
				if body, err = io.ReadAll(r); tt.inDo {
					t.Error("Do should have failed")
				}
				if n, again := r.Read(make([]byte, 1)); n != 0 || again != err {
					t.Errorf("the error does not stick: %d, %v", n, again)
				}
				r.Close()
			}
			if !errors.Is(err, tt.want) || errors.Is(err, io.EOF) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if !tt.inDo && tt.want == io.ErrUnexpectedEOF && !errors.Is(err, ErrReset) {
				t.Errorf("%v is not ErrReset", err)
			}
			if string(body) != tt.body {
				t.Errorf("body %q, want %q", body, tt.body)
			}
			if !Sent(err) {
				t.Errorf("%v claims that nothing was sent", err)
			}
			if took := time.Since(begun); errors.Is(err, ErrTimeout) && took < short {
				t.Errorf("the timeout came early, after %v", took)
			}
			if s := c.Stats(); s.Open != 0 || s.Retried != 0 {
				t.Errorf("left behind: %+v", s)
			}
		})
	}
}

func TestAHeadSplitAtEveryByte(t *testing.T) {
	whole := "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + chunkedHead + "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: r\r\n\r\n"
	next := make(chan struct{})
	c := client(t, "http://"+listen(t, func(p *peer) {
		for at := 1; p.request() != nil; at++ {
			p.say(whole[:at])
			next <- struct{}{} // the client may be reading the first part by now, or not
			p.say(whole[at:])
		}
	}))
	for at := 1; at < len(whole); at++ {
		go func() { wait(t, "the first part", next) }()
		if _, got, err := call(c, "{}"); err != nil || got != "hello" {
			t.Fatalf("split at %d: %q, %v", at, got, err)
		}
	}
	if s := c.Stats(); s.Dialed != 1 {
		t.Errorf("a connection was lost: %+v", s)
	}
}

func TestASlowDripIsNotAStall(t *testing.T) {
	t.Parallel()
	const gap, drips = 60 * time.Millisecond, 12 // together longer than the timeout with its eighth
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say(chunkedHead)
		tick := time.NewTicker(gap)
		defer tick.Stop()
		for range drips {
			<-tick.C
			p.say("1\r\nx\r\n")
		}
		p.say("0\r\n\r\n")
	}), within(Timeouts{BetweenChunks: 10 * gap}))
	if _, got, err := call(c, "{}"); err != nil || got != strings.Repeat("x", drips) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAGiantHeaderWithinTheLimit(t *testing.T) {
	value := strings.Repeat("v", 50<<10)
	c := client(t, "http://"+listen(t, answering("HTTP/1.1 200 OK\r\nX-Big: "+value+"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")))
	r, err := c.Do(context.Background(), "GET", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if r.Get("x-big") != value || string(b) != "hello" || err != nil {
		t.Errorf("got %d header bytes, %q, %v", len(r.Get("x-big")), b, err)
	}
}

func TestConnectFailures(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := gone.Addr().String()
	gone.Close()
	never := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	for _, tt := range []struct {
		name   string
		change func(*Options)
		want   error
	}{
		{"a refused connection", func(o *Options) { o.BaseURL = "http://" + refusing }, ErrConnect},
		{"an unknown name", func(o *Options) { o.BaseURL = "http://does-not-exist.invalid" }, ErrConnect},
		{"a connect timeout", func(o *Options) { o.Dial, o.Timeouts.Connect = never, short }, ErrTimeoutConnect},
		{"a total timeout while connecting", func(o *Options) { o.Dial, o.Timeouts.Connect, o.Timeouts.Total = never, time.Hour, short }, ErrTimeoutTotal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, "http://unused.invalid", tt.change)
			_, _, err := call(c, "{}")
			if !errors.Is(err, tt.want) || Sent(err) {
				t.Errorf("got %v (sent %v), want %v", err, Sent(err), tt.want)
			}
			if s := c.Stats(); s.Open != 0 {
				t.Errorf("a slot leaked: %+v", s)
			}
		})
	}
}

func TestTheFamilyOfErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		is   []error
		isnt []error
	}{
		{ErrTimeoutConnect, []error{ErrTimeout, ErrConnect}, []error{ErrTLS, ErrTimeoutTotal}},
		{ErrTimeoutFirstByte, []error{ErrTimeout}, []error{ErrConnect, ErrTimeoutBetweenChunks}},
		{ErrTimeoutBetweenChunks, []error{ErrTimeout}, []error{ErrConnect}},
		{ErrTimeoutTotal, []error{ErrTimeout}, []error{ErrConnect}},
		{ErrTLS, []error{ErrConnect}, []error{ErrTimeout}},
		{ErrReset, nil, []error{ErrConnect, ErrTimeout, io.ErrUnexpectedEOF}},
	} {
		wrapped := error(&Error{Kind: tt.err})
		for _, want := range tt.is {
			if !errors.Is(wrapped, want) {
				t.Errorf("%v is not %v", tt.err, want)
			}
		}
		for _, other := range tt.isnt {
			if errors.Is(wrapped, other) {
				t.Errorf("%v is %v", tt.err, other)
			}
		}
	}
	if !Sent(errors.New("another package's")) {
		t.Error("an unknown error must count as sent")
	}
}
