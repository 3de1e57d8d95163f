package probe

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// drip says something again and again until the connection ends.
func drip(first, again string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, first)
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			if _, err := io.WriteString(conn, again); err != nil {
				tick.Stop()
				return
			}
		}
	}
}

// flood says something without a break until the connection ends.
func flood(first, again string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, first)
		for block := []byte(strings.Repeat(again, 4096)); ; {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	}
}

// TestNoServerKeepsALookOrFillsItsMemory sends each kind what it does not end
// by itself: a look ends in its time, by a cause, with bounded memory.
func TestNoServerKeepsALookOrFillsItsMemory(t *testing.T) {
	web := "http://localhost:%s/ plaintext=yes"
	a := newAuthority(t)
	cert := a.issue(nil, "localhost")
	overTLS := func(handle func(net.Conn)) func(net.Conn) {
		return func(conn net.Conn) {
			s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			if s.Handshake() == nil {
				handle(s)
			}
		}
	}
	for _, c := range []struct {
		name   string
		kind   Signal
		target string
		handle func(net.Conn)
		codes  []Code
	}{
		{"headers that drip", HTTPS, web, drip("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), []Code{Timeout}},
		{"headers without end", HTTPS, web, flood("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), []Code{TooMuch}},
		{"one header without end", HTTPS, web, flood("HTTP/1.1 200 OK\r\nX-A: ", "b"), []Code{TooMuch}},
		{"a status without end", HTTPS, web, flood("HTTP/1.1 200 ", "O"), []Code{TooMuch}},
		{"interim answers without end", HTTPS, web, flood("", "HTTP/1.1 100 Continue\r\n\r\n"), []Code{Protocol, TooMuch}},
		{"a page that drips", HTTPS, web, drip("HTTP/1.1 200 OK\r\n\r\n", "x"), []Code{Timeout}},
		{"a page without end, over TLS", HTTPS, "https://localhost:%s/ contains=needle", overTLS(flood("HTTP/1.1 200 OK\r\n\r\n", "x")), []Code{BadContent}},
		{"chunks that drip", HTTPS, web, drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), []Code{Timeout}},
		{"an extension of a chunk without end", HTTPS, web, flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=", "b"), []Code{Protocol, TooMuch, Reset}},
		{"a page shorter than it says", HTTPS, web, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort") }, []Code{Reset}},
		{"noise in place of TLS", TLS, "localhost:%s", flood("", "\x16\x03\x01\x40\x00"), []Code{Protocol, TLSFailed, Reset}},
		{"a record of TLS that drips", TLS, "localhost:%s", drip("\x16\x03\x03\x40\x00", "\x02"), []Code{Timeout}},
		{"a greeting that drips", SMTP, "localhost:%s", drip("", "220-wait\r\n"), []Code{Timeout, Protocol}},
		{"a greeting without end", SMTP, "localhost:%s", flood("220-", "x"), []Code{TooMuch}},
		{"lines without end", SMTP, "localhost:%s", flood("", "220-x\r\n"), []Code{TooMuch, Protocol}},
		{"an SSH banner without end", SSH, "localhost:%s", flood("", "x"), []Code{TooMuch, Protocol}},
		{"lines before the SSH banner", SSH, "localhost:%s", flood("", "hello\r\n"), []Code{TooMuch, Protocol}},
		{"an SSH banner that drips", SSH, "localhost:%s", drip("", "x\r\n"), []Code{Timeout, Protocol, TooMuch}},
		{"an SSH packet of four gigabytes", SSH, "localhost:%s", flood("SSH-2.0-x\r\n\xff\xff\xff\xff", "\xff"), []Code{Protocol, TooMuch}},
		{"a database that drips", PostgreSQL, "localhost:%s", drip("R\x00\x00\x10\x00", "x"), []Code{Timeout}},
		{"a model that drips", Model, "http://localhost:%s/v1 model=m", drip("HTTP/1.1 200 OK\r\n\r\n", " "), []Code{Timeout}},
		{"a model without end", Model, "http://localhost:%s/v1 model=m", flood("HTTP/1.1 200 OK\r\n\r\n", " "), []Code{TooMuch}},
		{"JSON as deep as it is long", Model, "http://localhost:%s/v1 model=m", func(c net.Conn) {
			_, _ = io.WriteString(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", maxBody-10, strings.Repeat("[", maxBody-10)))
			for piece := make([]byte, 512); ; { // until the probe has gone: what it asks is read here, or beside
				if _, err := c.Read(piece); err != nil {
					return
				}
			}
		}, []Code{NoText}},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := serveTCP(t, func(conn net.Conn) {
				go func() { _, _ = io.Copy(io.Discard, conn) }() // what the probe sends is not waited for
				c.handle(conn)
			})
			if strings.Contains(c.target, "https://") { // TLS reads for itself
				port = serveTCP(t, c.handle)
			}
			timeout := 500 * time.Millisecond
			if c.codes[0] != Timeout {
				timeout = generous // it ends by itself, long before
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := Run(t.Context(), Spec{Name: "p", Kind: c.kind, Target: fmt.Sprintf(c.target, port), Timeout: timeout}, Env{Roots: a.roots()})
			runtime.ReadMemStats(&after)
			if r.OK || !contains(c.codes, r.Code) {
				t.Fatalf("%+v, want one of %v", r, c.codes)
			}
			// The attacker's own side is in the count.
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Fatalf("%d MiB were allocated", used>>20)
			}
			if len(r.Words) > 500 || len(fmt.Sprint(r.Facts)) > 4000 {
				t.Fatalf("the result is large: %+v", r)
			}
		})
	}
}

func contains(codes []Code, c Code) bool {
	for _, code := range codes {
		if code == c {
			return true
		}
	}
	return false
}

func TestACertificateBombIsNoWork(t *testing.T) {
	a := newAuthority(t)
	for name, chain := range map[string]func() tls.Certificate{
		"thousands of names": func() tls.Certificate {
			return a.issue(func(c *x509.Certificate) {
				for i := range 3000 {
					c.DNSNames = append(c.DNSNames, fmt.Sprintf("n%d.example.org", i))
				}
			})
		},
		"a chain without end": func() tls.Certificate {
			c := a.issue(nil, "other.example.org")
			for range 500 {
				c.Certificate = append(c.Certificate, a.cert.Raw)
			}
			return c
		},
		"a megabyte of them": func() tls.Certificate {
			c := a.issue(nil, "other.example.org")
			for range 3000 {
				c.Certificate = append(c.Certificate, a.cert.Raw)
			}
			return c
		},
		"a name that is a terminal's command": func() tls.Certificate {
			return a.issue(func(c *x509.Certificate) { c.Subject.CommonName = "\x1b]0;owned\x07" }, "other.example.org")
		},
	} {
		t.Run(name, func(t *testing.T) {
			cert := chain()
			port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{cert}})
			r := Run(t.Context(), Spec{Name: "p", Kind: TLS, Target: "localhost:" + port, Timeout: generous}, Env{Roots: a.roots()})
			if r.OK || r.Code != BadCert && r.Code != TLSFailed && r.Code != Reset && r.Code != Protocol {
				t.Fatalf("%+v", r)
			}
			if all := fmt.Sprintf("%v %v", r.Words, r.Facts); len(all) > 2000 || strings.Contains(all, "\x1b") {
				t.Fatalf("%q", all)
			}
		})
	}
}

func TestAPublicNameDoesNotLeadToThisMachine(t *testing.T) {
	asked := false
	port := serveWeb(t, "127.0.0.1:0", nil, func(w http.ResponseWriter, _ *http.Request) { asked = true })
	// What a resolver could say of a name, and whether it is asked there.
	for _, c := range []struct {
		host, at string
		trusted  bool
		fine     bool
	}{
		{"localhost", "127.0.0.1", false, true},
		{"node-1", "127.0.0.1", false, true},
		{"app.localhost", "::1", false, true},
		{"app.example.org", "192.0.2.1", false, true},
		{"app.example.org", "10.0.0.1", false, true}, // private networks have names, too
		{"app.example.org", "127.0.0.1", false, false},
		{"app.example.org", "::1", false, false},
		{"app.example.org", "0.0.0.0", false, false},
		{"app.example.org", "169.254.169.254", false, false},
		{"app.example.org", "fe80::1", false, false},
		{"app.example.org", "224.0.0.1", false, false},
		{"app.example.org", "127.0.0.1", true, true}, // said by the fleet, not by DNS
		{"localhost.example.org", "127.0.0.1", false, false},
	} {
		if got := rebound(c.host, []netip.Addr{netip.MustParseAddr(c.at)}, c.trusted) == nil; got != c.fine {
			t.Errorf("%s at %s: %v", c.host, c.at, got)
		}
	}
	// A redirect there is one to another host.
	from := serveWeb(t, "127.0.0.1:0", nil, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:"+port+"/latest/meta-data", http.StatusFound)
	})
	expect(t, HTTPS, "http://localhost:"+from+"/ plaintext=yes", Env{}, BadRedirect)
	if asked {
		t.Fatal("the redirect was followed")
	}
}

func TestResultsAreOneReadableLine(t *testing.T) {
	port := serveTCP(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "220 \x1b[31mred\x07\u202e"+string([]byte{0xff, 0xfe})+"\r\n500 no\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	r := expect(t, SMTP, "localhost:"+port, Env{}, BadStatus)
	if b := r.Facts["banner"]; b != "[31mred" {
		t.Fatalf("%q", b)
	}
	if got := clean("a\n\tb\x00"+strings.Repeat("ü", 100), 20); !bytes.Equal([]byte(got), []byte("a büüüüüüü…")) {
		t.Fatalf("%q", got)
	}
}

func FuzzHTTPAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: //evil/\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		target, err := Parse(HTTPS, "http://localhost:1/ plaintext=yes")
		if err != nil {
			t.Fatal(err)
		}
		l := &look{t: target, facts: map[string]string{}}
		ans, err := l.readAnswer(bytes.NewReader(said), &http.Request{Method: http.MethodGet, URL: target.URL})
		if err != nil {
			if because(err, "x").code == "" {
				t.Fatal("no cause")
			}
			return
		}
		next, found := l.redirect(target.URL, ans)
		if next != nil && next.Hostname() != "localhost" {
			t.Fatalf("follows to %s", next)
		}
		if next == nil && found.code == "" {
			l.page(ans)
		}
	})
}
