package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// secureServer is a TLS listener with net/http's test certificate, for the
// names example.com and 127.0.0.1.
func secureServer(t *testing.T, config *tls.Config, script func(p *peer)) (addr string, roots *x509.CertPool) {
	t.Helper()
	model := httptest.NewTLSServer(nil)
	defer model.Close()
	if config == nil {
		config = &tls.Config{}
	}
	config.Certificates = model.TLS.Certificates
	roots = x509.NewCertPool()
	roots.AddCert(model.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, script)
	return l.Addr().String(), roots
}

func trusting(roots *x509.CertPool) func(*Options) {
	return func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} }
}

func TestCallsOverTLS(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			addr, roots := secureServer(t, &tls.Config{MaxVersion: version}, answering(hello))
			c := client(t, "https://"+addr, trusting(roots), within(Timeouts{FirstByte: patience, BetweenChunks: patience}))
			for range 10 {
				if _, got, err := call(c, strings.Repeat("x", 100)); err != nil || got != "hello" {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			if _, got, err := call(c, strings.Repeat("x", 3<<20)); err != nil || got != "hello" {
				t.Fatalf("a big upload got %q, %v", got, err)
			}
			if s := c.Stats(); s.Dialed != 1 || s.Reused != 10 {
				t.Errorf("unexpected %+v", s)
			}
		})
	}
}

func TestATLSSessionIsResumed(t *testing.T) {
	resumed := make(chan bool, 2)
	addr, roots := secureServer(t, nil, func(p *peer) {
		p.request()
		resumed <- p.Conn.(*tls.Conn).ConnectionState().DidResume
		p.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
	})
	c := client(t, "https://"+addr, trusting(roots))
	for _, want := range []bool{false, true} {
		if _, _, err := call(c, "{}"); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, "the handshake", resumed); got != want {
			t.Errorf("resumed: %v, want %v", got, want)
		}
	}
}

func TestTLSFailures(t *testing.T) {
	plain := listen(t, func(p *peer) { p.say("HTTP/1.1 400 Bad Request\r\n\r\n"); p.waitGone() })
	mute := listen(t, func(p *peer) { p.waitGone() })
	hangup := listen(t, func(p *peer) {})
	good, roots := secureServer(t, nil, answering(hello))
	old, oldRoots := secureServer(t, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, answering(hello))
	for _, tt := range []struct {
		name, base string
		change     func(*Options)
		want       error
		says       string
	}{
		{"an unknown authority", "https://" + good, nil, ErrTLS, "unknown authority"},
		{"another name's certificate", "https://" + good, func(o *Options) {
			o.TLS = &tls.Config{RootCAs: roots, ServerName: "api.mistral.ai"}
		}, ErrTLS, "not api.mistral.ai"},
		{"plain HTTP on the TLS port", "https://" + plain, nil, ErrTLS, "does not speak TLS"},
		{"TLS 1.1", "https://" + old, trusting(oldRoots), ErrTLS, "version"},
		{"a hang-up", "https://" + hangup, nil, ErrTLS, ""},
		{"silence", "https://" + mute, within(Timeouts{Connect: short}), ErrTimeoutConnect, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change == nil {
				tt.change = func(*Options) {}
			}
			c := client(t, tt.base, tt.change)
			_, _, err := call(c, "{}")
			if !errors.Is(err, tt.want) || !errors.Is(err, ErrConnect) || Sent(err) {
				t.Fatalf("got %v (sent %v), want %v", err, Sent(err), tt.want)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not say %q", err, tt.says)
			}
			if s := c.Stats(); s.Open != 0 {
				t.Errorf("a slot leaked: %+v", s)
			}
		})
	}
	if _, err := New(Options{BaseURL: "https://x", TLS: &tls.Config{MinVersion: tls.VersionTLS11}}); err == nil {
		t.Error("TLS 1.1 can be asked for")
	}
}

func TestAClientCertificateThatIsMissingIsATLSError(t *testing.T) {
	addr, roots := secureServer(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, answering(hello))
	c := client(t, "https://"+addr, trusting(roots))
	if _, _, err := call(c, "{}"); !errors.Is(err, ErrTLS) {
		t.Errorf("got %v", err)
	}
}

func TestATLSBodyUntilCloseNeedsACloseNotify(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(p *peer)
		want error
	}{
		{"with it", func(p *peer) { p.Close() }, nil},
		{"without it", func(p *peer) { p.Conn.(*tls.Conn).NetConn().Close() }, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, roots := secureServer(t, nil, func(p *peer) {
				p.request()
				p.say("HTTP/1.1 200 OK\r\n\r\nhello")
				tt.end(p)
			})
			_, got, err := call(client(t, "https://"+addr, trusting(roots)), "{}")
			if got != "hello" || !errors.Is(err, tt.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestAnIdleTLSConnectionThatIsNoLongerGoodIsDropped(t *testing.T) {
	evil := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for name, spoil := range map[string]func(p *peer){
		"a close":          func(p *peer) { p.Close() },
		"bytes of its own": func(p *peer) { p.say(evil) },
		"both":             func(p *peer) { p.say(evil); p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			spoilt, idle := make(chan struct{}), make(chan struct{})
			addr, roots := secureServer(t, nil, func(p *peer) {
				for p.request() != nil {
					p.say(hello)
					if p.n == 0 {
						wait(t, "idleness", idle)
						spoil(p)
						close(spoilt)
						p.waitGone()
					}
				}
			})
			c := client(t, "https://"+addr, trusting(roots))
			if err := post(c, "POST"); err != nil {
				t.Fatal(err)
			}
			close(idle)
			wait(t, "the spoiling", spoilt)
			if _, got, err := call(c, "{}"); err != nil || got != "hello" {
				t.Errorf("got %q, %v", got, err)
			}
			if s := c.Stats(); s.Dialed != 2 || s.Retried != 0 {
				t.Errorf("unexpected %+v", s)
			}
		})
	}
}

// crypto/tls may have read a second record along with the end of the answer:
// the socket is silent, and still there are bytes nobody asked for.
func TestBytesHiddenInTheTLSBufferSpoilTheConnection(t *testing.T) {
	var wire net.Conn
	held := &holdingConn{}
	addr, roots := secureServer(t, nil, func(p *peer) {
		for p.request() != nil {
			p.say(hello)
			if p.n == 0 {
				p.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
			}
		}
	})
	c := client(t, "https://"+addr, trusting(roots), func(o *Options) {
		o.Dial = func(ctx context.Context) (net.Conn, error) {
			var err error
			wire, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
			if held.Conn == nil {
				held.Conn = wire
				return held, err
			}
			return wire, err
		}
	})
	c.beforeSend = func(reused bool) { held.hold = !reused }
	for range 2 {
		if _, got, err := call(c, "{}"); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if s := c.Stats(); s.Dialed != 2 {
		t.Errorf("unexpected %+v", s)
	}
}

// holdingConn gives two TLS records in one read.
type holdingConn struct {
	net.Conn
	hold bool
}

func (h *holdingConn) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	for h.hold && err == nil && n < 150 { // the tickets or one answer are not enough
		var more int
		more, err = h.Conn.Read(p[n:])
		n += more
	}
	return n, err
}

func TestAnEgressProxyIsAskedToConnect(t *testing.T) {
	target, roots := secureServer(t, nil, answering(hello))
	asked := make(chan *http.Request, 1)
	proxy := listen(t, func(p *peer) {
		req, err := http.ReadRequest(p.in)
		if err != nil {
			return
		}
		asked <- req
		to, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer to.Close()
		p.say("HTTP/1.1 200 Connection established\r\nProxy-Agent: x\r\n\r\n")
		go func() { _, _ = io.Copy(p, to); p.Close() }()
		_, _ = io.Copy(to, p.in)
	})
	c := client(t, "https://example.com", trusting(roots), func(o *Options) {
		o.Proxy = &url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("user", "hunter2")}
	})
	for range 3 {
		if _, got, err := call(c, "{}"); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	req := wait(t, "the proxy", asked)
	if req.Method != "CONNECT" || req.RequestURI != "example.com:443" || req.Host != "example.com:443" ||
		req.Header.Get("Proxy-Authorization") != "Basic dXNlcjpodW50ZXIy" {
		t.Errorf("the proxy was asked %+v", req)
	}
	if c.Stats().Dialed != 1 {
		t.Errorf("unexpected %+v", c.Stats())
	}
}

func TestAnEgressProxyThatDoesNotHelp(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		then         func(p *peer)
		want         error
		says         string
	}{
		{"refuses", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", (*peer).waitGone, ErrConnect, "refused with status 403"},
		{"wants a password", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", (*peer).waitGone, ErrConnect, "refused with status 407"},
		{"hangs up", "", func(*peer) {}, ErrConnect, "did not answer"},
		{"hangs up half-way", "HTTP/1.1 200", func(*peer) {}, ErrConnect, "did not answer"},
		{"is silent", "", (*peer).waitGone, ErrTimeoutConnect, ""},
		{"is no HTTP proxy", "\x05\xff", (*peer).waitGone, ErrConnect, "not HTTP"},
		{"talks into the tunnel", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", (*peer).waitGone, ErrConnect, "before the tunnel"},
		{"never stops", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20<<10), (*peer).waitGone, ErrConnect, "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := listen(t, func(p *peer) {
				_, _ = http.ReadRequest(bufio.NewReader(p.Conn))
				p.say(tt.answer)
				tt.then(p)
			})
			c := client(t, "http://example.com", within(Timeouts{Connect: 3 * short}), func(o *Options) {
				o.Proxy = &url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("user", "hunter2")}
			})
			_, _, err := call(c, "{}")
			if !errors.Is(err, tt.want) || Sent(err) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, sent %v", err, Sent(err))
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes the password: %v", err)
			}
			if s := c.Stats(); s.Open != 0 {
				t.Errorf("a slot leaked: %+v", s)
			}
		})
	}
}
