package probe

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// mailServer is a mail server's side of a conversation, as far as EHLO and
// STARTTLS go, and a record of what it was told.
type mailServer struct {
	cert     *tls.Certificate
	implicit bool
	greeting string // 220 … when empty
	inject   bool   // says more after it agreed to encrypt

	mu   sync.Mutex
	said []string
}

func (m *mailServer) handle(conn net.Conn) {
	secure := m.implicit
	if m.implicit {
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*m.cert}})
	}
	greeting := m.greeting
	if greeting == "" {
		greeting = "220-mail.example.org ESMTP\r\n220 at your service\r\n"
	}
	_, _ = io.WriteString(conn, greeting)
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		m.mu.Lock()
		m.said = append(m.said, line)
		m.mu.Unlock()
		switch verb, _, _ := strings.Cut(line, " "); verb {
		case "EHLO":
			fmt.Fprint(conn, "250-mail.example.org\r\n")
			if m.cert != nil && !secure {
				fmt.Fprint(conn, "250-STARTTLS\r\n")
			}
			fmt.Fprint(conn, "250 SIZE 1000\r\n")
		case "STARTTLS":
			answer := "220 go ahead\r\n"
			if m.inject {
				answer += "250 injected\r\n"
			}
			_, _ = io.WriteString(conn, answer)
			s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*m.cert}})
			if s.Handshake() != nil {
				return
			}
			conn, r, secure = s, bufio.NewReader(s), true
		case "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "502 no\r\n")
		}
	}
}

func TestAMailServerIsGreetedAndNothingIsSent(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	cert, foreign := a.issue(nil, "localhost"), stranger.issue(nil, "localhost")
	e := Env{Roots: a.roots()}
	start := &mailServer{cert: &cert}
	implicit := &mailServer{cert: &cert, implicit: true}
	for _, c := range []struct {
		name   string
		server *mailServer
		words  string
		code   Code
		says   string
	}{
		{"STARTTLS", start, "", "", "takes mail over TLS 1.3"},
		{"implicit TLS", implicit, " tls=implicit days=90", "", "takes mail"},
		{"a certificate that ends soon", start, " days=91", BadCert, "91 are wanted"},
		{"a certificate of a stranger", &mailServer{cert: &foreign}, "", BadCert, "not signed"},
		{"no STARTTLS", &mailServer{}, "", TLSVersion, "does not offer STARTTLS"},
		{"no encryption, and that is expected", &mailServer{}, " tls=none", "", ""},
		{"another certificate's name", start, " name=mail.example.org", BadCert, "not for mail.example.org"},
		{"too busy", &mailServer{greeting: "421 too many\r\n"}, "", Busy, "421"},
		{"no service", &mailServer{greeting: "554 go away\r\n"}, "", BadStatus, "554"},
		{"a web server", &mailServer{greeting: "HTTP/1.1 400 Bad Request\r\n\r\n"}, "", Protocol, "not a mail server"},
		{"words before encryption, to count after it", &mailServer{cert: &cert, inject: true}, "", Protocol, "more in the clear"},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := serveTCP(t, c.server.handle)
			if r := expect(t, SMTP, "localhost:"+port+c.words, e, c.code); !strings.Contains(r.Words, c.says) {
				t.Fatalf("says %q, not %q", r.Words, c.says)
			}
		})
	}
	start.mu.Lock()
	defer start.mu.Unlock()
	for _, line := range start.said {
		if !strings.HasPrefix(line, "EHLO ") && line != "STARTTLS" && line != "QUIT" {
			t.Errorf("the server was told %q", line)
		}
	}
	expect(t, SMTP, "localhost:"+closedPort(t), e, Refused)
}

func FuzzMailServer(f *testing.F) {
	f.Add([]byte("220 hello\r\n250-a\r\n250 b\r\n"))
	f.Add([]byte("220-a\r\n220"))
	f.Add([]byte("421\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		here, there := net.Pipe()
		defer here.Close()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		go func() { _, _ = there.Write(said); there.Close() }()
		_ = here.SetDeadline(time.Now().Add(10 * time.Second))
		c := converse(here)
		if text, err := c.expect(220); err == nil && strings.ContainsAny(clean(text, 200), "\r\n") {
			t.Fatal("a line was broken")
		}
	})
}
