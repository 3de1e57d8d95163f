package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestARequestArrivesAsWritten(t *testing.T) {
	seen := make(chan *http.Request, 1)
	addr := listen(t, func(p *peer) {
		seen <- p.request()
		p.say(hello)
	})
	c := client(t, "http://"+addr+"/prefix/v1/", func(o *Options) {
		o.Header = http.Header{"Authorization": {"Bearer sk-secret"}, "User-Agent": {"foundry"}}
	})
	r, err := c.Do(context.Background(), "POST", "/chat?x=1", []Header{{"X-Request-Id", "abc"}}, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	req := wait(t, "the request", seen)
	for _, want := range []struct{ name, got, want string }{
		{"method", req.Method, "POST"},
		{"target", req.RequestURI, "/prefix/v1/chat?x=1"},
		{"host", req.Host, addr},
		{"length", req.Header.Get("Content-Length"), "7"},
		{"authorization", req.Header.Get("Authorization"), "Bearer sk-secret"},
		{"user agent", req.Header.Get("User-Agent"), "foundry"},
		{"extra header", req.Header.Get("X-Request-Id"), "abc"},
		{"accept-encoding", req.Header.Get("Accept-Encoding"), ""},
		{"body", req.Header.Get("Test-Body"), `{"a":1}`},
	} {
		if want.got != want.want {
			t.Errorf("%s is %q, want %q", want.name, want.got, want.want)
		}
	}
	if r.Status != 200 || r.ContentLength != 5 || r.ContentType != "application/json" || r.Reused {
		t.Errorf("unexpected response %+v", r)
	}
}

func TestAConnectionServesManyCallsOneAfterAnother(t *testing.T) {
	for name, answer := range map[string]string{
		"with a length": hello,
		"chunked":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
		"1.0 keep":      "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello",
		"after interim": "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + hello,
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, "http://"+listen(t, answering(answer)))
			for range 20 {
				if _, got, err := call(c, "{}"); err != nil || got != "hello" {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			if s := c.Stats(); s.Dialed != 1 || s.Reused != 19 || s.Idle != 1 || s.InFlight != 0 {
				t.Errorf("unexpected stats %+v", s)
			}
		})
	}
}

func TestAConnectionIsNotReusedAfter(t *testing.T) {
	for name, answer := range map[string]string{
		"connection close":            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
		"close in a list":             "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n\r\nhello",
		"http 1.0":                    "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"bytes behind the body":       hello + "HTTP/1.1 200 OK\r\n",
		"bytes behind the last chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nX",
	} {
		t.Run(name, func(t *testing.T) {
			addr := listen(t, func(p *peer) {
				p.request()
				p.say(answer)
				p.waitGone()
			})
			c := client(t, "http://"+addr)
			for range 3 {
				if _, got, err := call(c, "{}"); err != nil || got != "hello" {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			if s := c.Stats(); s.Dialed != 3 || s.Open != 0 {
				t.Errorf("unexpected stats %+v", s)
			}
		})
	}
}

func TestAnswersWithoutABody(t *testing.T) {
	for _, tt := range []struct {
		name, method, answer string
		reused               bool
	}{
		{"204", "POST", "HTTP/1.1 204 No Content\r\n\r\n", true},
		{"204 that claims a length", "POST", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false},
		{"204 that claims chunks", "POST", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", false},
		{"304 with the length of the real thing", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", true},
		{"an answer to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", true},
		{"length nought", "POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, "http://"+listen(t, answering(tt.answer)))
			for range 2 {
				r, err := c.Do(context.Background(), tt.method, "/", nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(r); len(b) != 0 || err != nil {
					t.Errorf("body %q, %v", b, err)
				}
				r.Close()
			}
			if got := c.Stats().Reused == 1; got != tt.reused {
				t.Errorf("reused: %v, want %v", got, tt.reused)
			}
		})
	}
}

func TestABodyThatEndsWithTheConnection(t *testing.T) {
	c := client(t, "http://"+listen(t, func(p *peer) {
		p.request()
		p.say("HTTP/1.1 200 OK\r\n\r\nhel")
		p.say("lo")
	}))
	r, err := c.Do(context.Background(), "GET", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if string(b) != "hello" || err != nil || !r.UntilClose || r.ContentLength != -1 {
		t.Errorf("got %q, %v, %+v", b, err, r)
	}
}

func TestRequestsThatCannotBeSentSafely(t *testing.T) {
	c := client(t, "http://"+listen(t, answering(hello)), func(o *Options) {
		o.Header = http.Header{"Authorization": {"Bearer a"}}
	})
	for _, tt := range []struct {
		name, method, path string
		header             Header
	}{
		{"line break in a value", "POST", "/", Header{"X", "a\r\nHost: evil"}},
		{"bare line feed in a value", "POST", "/", Header{"X", "a\nb"}},
		{"NUL in a value", "POST", "/", Header{"X", "a\x00b"}},
		{"colon in a name", "POST", "/", Header{"X:y", "a"}},
		{"empty name", "POST", "/", Header{"", "a"}},
		{"a second length", "POST", "/", Header{"content-LENGTH", "0"}},
		{"a transfer coding", "POST", "/", Header{"Transfer-Encoding", "chunked"}},
		{"another host", "POST", "/", Header{"Host", "evil"}},
		{"compression", "POST", "/", Header{"Accept-Encoding", "gzip"}},
		{"a second credential", "POST", "/", Header{"authorization", "Bearer b"}},
		{"space in the path", "POST", "/a b", Header{"X", "a"}},
		{"line break in the path", "POST", "/a\r\nX: y", Header{"X", "a"}},
		{"a relative path", "POST", "a", Header{"X", "a"}},
		{"no path", "POST", "", Header{"X", "a"}},
		{"space in the method", "PO ST", "/", Header{"X", "a"}},
		{"CONNECT", "CONNECT", "/", Header{"X", "a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.Do(context.Background(), tt.method, tt.path, []Header{tt.header}, nil)
			if !errors.Is(err, ErrRequest) || Sent(err) {
				t.Errorf("got %v, sent %v", err, Sent(err))
			}
			if err != nil && strings.Contains(err.Error(), "evil") {
				t.Errorf("the error quotes the value: %v", err)
			}
		})
	}
	if s := c.Stats(); s.Dialed != 0 {
		t.Errorf("something was dialled: %+v", s)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	proxy := func(s string) *url.URL { u, _ := url.Parse(s); return u }
	for _, tt := range []struct {
		name string
		o    Options
	}{
		{"no scheme", Options{BaseURL: "127.0.0.1:80"}},
		{"another scheme", Options{BaseURL: "ftp://x"}},
		{"no host", Options{BaseURL: "http:///x"}},
		{"credentials", Options{BaseURL: "http://user:hunter2@x"}},
		{"unparsable with credentials", Options{BaseURL: "http://user:hunter2@x:y:z"}},
		{"a query", Options{BaseURL: "http://x/?key=hunter2"}},
		{"a fragment", Options{BaseURL: "http://x/#hunter2"}},
		{"a header with a line break", Options{BaseURL: "http://x", Header: http.Header{"X": {"hunter2\r\n"}}}},
		{"a header that frames", Options{BaseURL: "http://x", Header: http.Header{"Connection": {"hunter2"}}}},
		{"a proxy of another kind", Options{BaseURL: "http://x", Proxy: proxy("socks5://user:hunter2@p")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.o)
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes a secret: %v", err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, header string
		want         time.Duration
	}{
		{"absent", "X: y", 0},
		{"seconds", "Retry-After: 7", 7 * time.Second},
		{"a fraction", "retry-after: 0.5", 500 * time.Millisecond},
		{"a date ahead", "Retry-After: Sun, 01 Mar 2026 12:01:30 GMT", 90 * time.Second},
		{"a date gone by", "Retry-After: Sun, 01 Mar 2026 11:00:00 GMT", 0},
		{"milliseconds win", "Retry-After: 7\r\nretry-after-ms: 1500", 1500 * time.Millisecond},
		{"nonsense", "Retry-After: soon", 0},
		{"negative", "Retry-After: -7", 0},
		{"not a number", "Retry-After: NaN", 0},
		{"for ever", "Retry-After: 1e300", 24 * time.Hour},
		{"infinite", "Retry-After: Inf", 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, "http://"+listen(t, answering("HTTP/1.1 429 Slow Down\r\n"+tt.header+"\r\nContent-Length: 0\r\n\r\n")))
			c.clock = func() time.Time { return now }
			r, err := c.Do(context.Background(), "POST", "/", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got := r.RetryAfter(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAClosedResponseIsInert(t *testing.T) {
	c := client(t, "http://"+listen(t, answering(hello)))
	r, err := c.Do(context.Background(), "POST", "/", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Get("content-TYPE") != "application/json" || r.Get("Content-Typo") != "" {
		t.Error("Get does not find what was sent")
	}
	for range 3 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := r.Read(make([]byte, 5)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("read %d, %v after Close", n, err)
	}
	if r.Get("Content-Type") != "" {
		t.Error("a header field is there after Close")
	}
	// Its memory has gone to the next call: nothing of it may show through.
	if _, got, err := call(c, "{}"); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if s := c.Stats(); s.Open != 1 || s.Idle != 1 {
		t.Errorf("a second Close counted twice: %+v", s)
	}
}
