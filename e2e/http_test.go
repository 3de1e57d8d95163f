package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// wired is a node with every listener and small bounds.
var wired = &shared{make: func() (*world, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	v, err := w.vendor("openai", simulator.Options{Format: simulator.OpenAI, Commands: true})
	if err != nil {
		return nil, err
	}
	cfg := daemon.Config{Config: gateway.Config{Providers: []gateway.ProviderConfig{patient(european("openai", gateway.OpenAI, v.url), "simulator-chat")},
		Limits: gateway.LimitsConfig{BodyBytes: 1 << 20, BodyMemory: 2 << 20}}}
	cfg.Listen = daemon.ListenConfig{HTTP: "127.0.0.1:0", Proxy: "127.0.0.1:0"}
	return w, w.launch(cfg, nil)
}}

// roots is what a client that trusts the node's authority has.
func (w *world) roots() *x509.CertPool {
	pem, err := os.ReadFile(daemon.AuthorityFile(w.d.DataDir()))
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// through is the same node seen through another client.
func (w *world) through(transport *http.Transport) *world {
	return &world{d: w.d, base: w.base, client: &http.Client{Transport: transport}, local: w.local, log: w.log, vendors: w.vendors}
}

func TestNothingOlderThanTLS13IsAccepted(t *testing.T) {
	w := wired.get(t)
	dial := func(version uint16, roots *x509.CertPool) error {
		conn, err := tls.Dial("tcp", w.d.Address("https"), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version, RootCAs: roots, ServerName: "localhost",
			CipherSuites: append(suites(tls.CipherSuites()), suites(tls.InsecureCipherSuites())...)})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	for version, name := range map[uint16]string{tls.VersionTLS10: "1.0", tls.VersionTLS11: "1.1", tls.VersionTLS12: "1.2"} {
		if err := dial(version, w.roots()); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("TLS %s: %v", name, err)
		}
	}
	if err := dial(tls.VersionTLS13, w.roots()); err != nil {
		t.Errorf("TLS 1.3: %v", err)
	}
	if err := dial(tls.VersionTLS13, x509.NewCertPool()); err == nil {
		t.Error("a client that does not know the authority was satisfied")
	}
	for _, name := range []string{"http", "proxy"} {
		if _, err := tls.Dial("tcp", w.d.Address(name), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}); err == nil {
			t.Errorf("the plain listener %s speaks TLS", name)
		}
	}
	if got := exchange(t, w.d.Address("https"), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 400") {
		t.Errorf("plain HTTP on the TLS port: %q", got)
	}
}

func suites(list []*tls.CipherSuite) (ids []uint16) {
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

// exchange sends raw bytes and reads until the server closes or has been
// silent for a moment.
func exchange(t testing.TB, address, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 64<<10)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			return got.String()
		}
	}
}

func TestPlainHTTPIsRedirectedAndOnlyHTTPSPromisesItself(t *testing.T) {
	w := wired.get(t)
	_, port, _ := net.SplitHostPort(w.d.Address("https"))
	for _, method := range []string{"GET", "POST", "DELETE"} {
		got := exchange(t, w.d.Address("http"), method+" /v1/chat/completions?a=b&c=%2f HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 308 ") || !strings.Contains(got, "\r\nLocation: https://localhost:"+port+"/v1/chat/completions?a=b&c=%2f\r\n") {
			t.Errorf("%s: %q", method, got)
		}
		if strings.Contains(got, "Strict-Transport-Security") {
			t.Errorf("HSTS over plain HTTP means nothing (RFC 6797, 7.2): %q", got)
		}
	}
	for _, path := range []string{"/healthz", "/v1/models", "/nowhere", "/v1/chat/completions"} {
		resp, err := w.client.Get(w.base + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Strict-Transport-Security"); !strings.HasPrefix(got, "max-age=31536000") {
			t.Errorf("%s: HSTS %q", path, got)
		}
	}
}

func TestTheRedirectGoesNowhereElse(t *testing.T) {
	w := wired.get(t)
	_, port, _ := net.SplitHostPort(w.d.Address("https"))
	for _, c := range []struct{ name, raw, location string }{
		{"a user name", "GET / HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", ""},
		{"a port with a host behind it", "GET / HTTP/1.1\r\nHost: localhost:80@evil.example\r\n\r\n", ""},
		{"a path", "GET / HTTP/1.1\r\nHost: localhost/evil\r\n\r\n", ""},
		{"a fragment", "GET / HTTP/1.1\r\nHost: localhost#evil\r\n\r\n", ""},
		{"a query", "GET / HTTP/1.1\r\nHost: localhost?evil\r\n\r\n", ""},
		{"white space", "GET / HTTP/1.1\r\nHost: localhost evil\r\n\r\n", ""},
		{"markup", "GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", ""},
		{"nothing", "GET / HTTP/1.1\r\nHost: \r\n\r\n", ""},
		{"no header at all", "GET / HTTP/1.1\r\n\r\n", ""},
		{"two of them", "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", ""},
		{"a header behind it", "GET / HTTP/1.1\r\nHost: localhost\rX-Evil: 1\r\n\r\n", ""},
		{"an address", "GET /a HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "https://[::1]:" + port + "/a"},
		{"a path that looks like a host", "GET //evil.example/x HTTP/1.1\r\nHost: localhost\r\n\r\n", "https://localhost:" + port + "//evil.example/x"},
		{"an encoded line end", "GET /a%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: localhost\r\n\r\n", "https://localhost:" + port + "/a%0d%0aX-Evil:%201"},
		{"a forwarded host", "GET /a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n\r\n", "https://localhost:" + port + "/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := exchange(t, w.d.Address("http"), c.raw)
			status, head, _ := strings.Cut(got, "\r\n")
			location := ""
			for line := range strings.SplitSeq(head, "\r\n") {
				if v, ok := strings.CutPrefix(line, "Location: "); ok {
					location = v
				}
				if strings.HasPrefix(line, "X-Evil") {
					t.Errorf("a header was injected: %q", got)
				}
			}
			if location != c.location || c.location == "" && !strings.HasPrefix(status, "HTTP/1.1 400") {
				t.Errorf("want location %q, got %q", c.location, got)
			}
		})
	}
}

func TestTheProxyListenerAnswersLikeTheOther(t *testing.T) {
	w := wired.get(t)
	token := w.token(t, anywhere())
	body := string(question{model: "simulator-chat"}.body())
	got := exchange(t, w.d.Address("proxy"), fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", token, len(body), body))
	if !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.Contains(got, "simulated") {
		t.Errorf("%q", got)
	}
	for _, path := range []string{"/metrics", "/api/v1/status", "/api/v1/keys", "/debug/pprof/", "/openapi.yaml"} {
		if got := exchange(t, w.d.Address("proxy"), "GET "+path+" HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n"); strings.HasPrefix(got, "HTTP/1.1 2") {
			t.Errorf("%s is open to whoever reaches the proxy: %.200q", path, got)
		}
	}
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "example.com:80"} {
		cfg := daemon.Config{Listen: daemon.ListenConfig{Proxy: address}}
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), "outside") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestRequestsCannotBeSmuggled(t *testing.T) {
	w := wired.get(t)
	v := w.vendors["openai"]
	token := w.token(t, anywhere())
	inner := string(question{model: "simulator-chat", text: "smuggled"}.body())
	second := fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", token, len(inner), inner)
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
	for _, c := range []struct{ name, raw string }{
		{"both lengths", head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(second), second)},
		{"two lengths", head + fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n%s", len(second), second)},
		{"a list of lengths", head + fmt.Sprintf("Content-Length: 0, %d\r\n\r\n%s", len(second), second)},
		{"a negative length", head + "Content-Length: -1\r\n\r\n" + second},
		{"a signed length", head + "Content-Length: +0\r\n\r\n" + second},
		{"an unknown coding", head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + second},
		{"two codings", head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + second},
		{"a repeated coding", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + second},
		{"a blank in a name", head + "Transfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + second},
		{"a folded line", head + "Content-Length:\r\n 0\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + second},
		{"a bare line feed in a chunk size", head + "Transfer-Encoding: chunked\r\n\r\n0\n\n" + second},
		{"a chunk size that is no number", head + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + second},
		{"HTTP/1.0 with chunks", strings.Replace(head, "1.1", "1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(v.Requests())
			got := exchange(t, w.d.Address("proxy"), c.raw)
			if n := strings.Count(got, "HTTP/1."); n > 1 {
				t.Errorf("%d answers to one request: %.600q", n, got)
			}
			for _, r := range v.Requests()[before:] {
				if bytes.Contains(r.Body, []byte("smuggled")) {
					t.Error("the second request was answered")
				}
			}
		})
	}
}

func TestNothingOfAClientsHeadersGoesUp(t *testing.T) {
	w := wired.get(t)
	token := w.token(t, anywhere())
	mark := fmt.Sprintf("mark-%d-end", serial.Add(1))
	r := w.get(t, token, question{model: "simulator-chat", mark: mark, header: map[string]string{"Cookie": "c=1", "X-Evil": "1", "X-Forwarded-For": "192.0.2.1",
		"User-Agent": "client/1", "Openai-Organization": "org-x", "Anthropic-Beta": "b", "X-Foundry-Data-Class": "internal"}})
	if r.status != 200 {
		t.Fatal(r)
	}
	for _, up := range w.vendors["openai"].Requests() {
		if !bytes.Contains(up.Body, []byte(mark)) {
			continue
		}
		for name, values := range up.Header {
			switch name {
			case "Content-Length", "Content-Type", "User-Agent", "Accept", "Accept-Encoding", "Connection":
			default:
				t.Errorf("%s: %v went up", name, values)
			}
		}
		if up.Header.Get("User-Agent") != "foundry" || strings.Contains(fmt.Sprint(up.Header), token) {
			t.Errorf("%v", up.Header)
		}
		return
	}
	t.Error("nothing arrived")
}

func TestWhatIsTooLargeIsRefusedEarly(t *testing.T) {
	w := wired.get(t)
	token := w.token(t, anywhere())
	for _, d := range []wire.Dialect{wire.OpenAI, wire.Anthropic} {
		q := question{dialect: d, model: "simulator-chat", text: strings.Repeat("x", 1<<20)}
		if r := w.get(t, token, q); r.status != 413 || r.errType == "" || r.header.Get("X-Foundry-Problem") != "body-too-large" {
			t.Errorf("%s: %s", d, r)
		}
		req := w.request(t.Context(), token, q)
		req.Body, req.ContentLength, req.GetBody = io.NopCloser(bytes.NewReader(q.body())), -1, nil // no length: in chunks
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("%s in chunks: %d", d, resp.StatusCode)
		}
	}
	if r := w.get(t, token, question{model: "simulator-chat", header: map[string]string{"X-Large": strings.Repeat("x", 64<<10)}}); r.status != 431 {
		t.Errorf("a header of 64 KiB: %s", r)
	}
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	if r := w.post(t, token, "/v1/chat/completions", `{"model":"simulator-chat","messages":`+deep+`}`); r.status != 400 {
		t.Errorf("10,000 levels of nesting: %s", r)
	}
	if r := w.post(t, token, "/v1/chat/completions", `{"model":"a","model":"simulator-chat","messages":[]}`); r.status != 400 {
		t.Errorf("a field given twice: %s", r)
	}
}

func TestBodiesBeyondTheMemoryOfTheNodeAreShed(t *testing.T) {
	w := wired.get(t)
	token := w.token(t, anywhere())
	w.get(t, token, question{model: "simulator-chat"})
	// Bodies that are announced and never come hold what they announce.
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	shed := false
	for range 4 {
		conn, err := net.Dial("tcp", w.d.Address("proxy"))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		_, _ = fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 900000\r\n\r\n{", token)
	}
	for _, c := range held {
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			shed = true
			if !strings.HasPrefix(line, "HTTP/1.1 503") {
				t.Errorf("%q", line)
			}
		}
	}
	if !shed {
		t.Error("four bodies of 900 kB were held in 2 MiB")
	}
	if r := w.get(t, token, question{model: "simulator-chat"}); r.status != 200 {
		t.Errorf("a small request beside them: %s", r)
	}
	for _, c := range held {
		_ = c.Close()
	}
	eventually(t, "the memory to be free again", func() (bool, string) {
		r := w.get(t, token, question{model: "simulator-chat", text: strings.Repeat("x ", 450_000)})
		return r.status != 503, r.String()
	})
}

func TestSlowClientsAreCutOffAndHarmNobody(t *testing.T) {
	t.Parallel()
	w := wired.get(t)
	token := w.token(t, anywhere())
	var wg sync.WaitGroup
	for _, name := range []string{"https", "http", "proxy"} {
		for _, first := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "} {
			for range 20 {
				wg.Go(func() {
					conn, err := net.Dial("tcp", w.d.Address(name))
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					_, _ = io.WriteString(conn, first)
					if first == "" && name != "https" {
						return // an idle connection is no harm: net/http closes it later
					}
					began := time.Now()
					_ = conn.SetReadDeadline(began.Add(patience))
					_, err = io.Copy(io.Discard, conn)
					if ne, ok := err.(net.Error); ok && ne.Timeout() {
						t.Errorf("%s: a connection that sends %q was kept for %v", name, first, time.Since(began))
					}
				})
			}
		}
	}
	for range 5 {
		if r := w.get(t, token, question{model: "simulator-chat"}); r.status != 200 {
			t.Errorf("beside slow clients: %s", r)
		}
	}
	wg.Wait()
}

func TestHTTP2WorksAsHTTP1Does(t *testing.T) {
	w := wired.get(t)
	token := w.token(t, anywhere())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots()}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	second := w.through(transport)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			q := question{model: "simulator-chat", dialect: []wire.Dialect{wire.OpenAI, wire.Anthropic}[i%2], stream: i/2%2 == 0, usage: true}
			broken := i%10 == 4 // of these some stream
			if broken {
				q.text = "simulate cut chunk=3"
			}
			r, err := second.ask(t.Context(), token, q)
			if err != nil {
				t.Error(err)
				return
			}
			switch {
			case broken && q.stream:
				if !r.errEvent || r.complete || r.err != nil {
					t.Errorf("a broken stream: %s", r)
				}
			case broken:
				if r.status != 502 {
					t.Errorf("a broken answer: %s", r)
				}
			case r.status != 200 || !r.complete || r.err != nil:
				t.Errorf("stream %t: %s", q.stream, r)
			}
		})
	}
	wg.Wait()
	resp, err := second.client.Get(w.base + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Errorf("spoke %s", resp.Proto)
	}
	odd := odd.get(t)
	other := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: odd.roots()}, ForceAttemptHTTP2: true}
	defer other.CloseIdleConnections()
	if r := odd.through(other).get(t, odd.token(t, anywhere()), question{model: "large-cut"}); r.err == nil {
		t.Errorf("%d bytes of a cut answer ended as if they were all", len(r.body))
	}
}
