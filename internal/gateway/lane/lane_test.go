package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAConnectionServesOneRequestAfterAnother(t *testing.T) {
	w := serve(t, echo)
	c := w.dial()
	for i := range 5 {
		body := strings.Repeat("x", i*5000) // the largest do not come with their head
		_, got := c.send(message(body)).receive()
		if want := fmt.Sprintf("POST /v1/echo a %d %q", len(body), body); got != want {
			t.Fatalf("got %q", got)
		}
	}
	if n := w.odd.Load(); n != 0 {
		t.Errorf("net/http served %d plain requests", n)
	}
}

func TestAMessageIsReadHoweverItIsCut(t *testing.T) {
	w := serve(t, echo)
	text := message("hello")
	want := fmt.Sprintf("POST /v1/echo a 5 %q", "hello")
	for at := 1; at < len(text); at++ {
		c := w.dial()
		_ = c.Conn.(*net.TCPConn).SetNoDelay(true)
		c.send(text[:at])
		c.send(text[at:])
		if _, got := c.receive(); got != want {
			t.Fatalf("cut at %d: %q", at, got)
		}
	}
	c := w.dial()
	for i := range len(text) {
		c.send(text[i : i+1])
	}
	if _, got := c.receive(); got != want {
		t.Fatalf("byte by byte: %q", got)
	}
}

// every strange message gets the answers that net/http alone gives.
func TestStrangeMessagesAreAnsweredAsByNetHTTP(t *testing.T) {
	w := serve(t, echo)
	reference := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	reference.Config.ReadHeaderTimeout, reference.Config.ErrorLog = patience, w.http.ErrorLog
	reference.Start()
	defer reference.Close()
	bare := &world{t: t, address: reference.Listener.Addr().String()}
	answers := func(w *world, text string) string {
		c := w.dial()
		c.send(text)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		var out []string
		for line := range strings.SplitSeq(c.ended(), "\r\n") {
			if !strings.HasPrefix(line, "Date:") {
				out = append(out, line)
			}
		}
		return strings.Join(out, "|")
	}
	for name, text := range strange {
		for variant, text := range map[string]string{"": text, "after a plain one": message("first") + text, "before a plain one": text + message("last")} {
			got, want := answers(w, text), answers(bare, text)
			if got != want && !(strings.Contains(got, "200 OK") && sameStatuses(got, want)) {
				t.Errorf("%s %s: %q\ngot  %q\nwant %q", name, variant, text, got, want)
			}
		}
	}
}

func sameStatuses(a, b string) bool {
	statuses := func(s string) (out []string) {
		for line := range strings.SplitSeq(s, "|") {
			if strings.HasPrefix(line, "HTTP/") {
				out = append(out, line)
			}
		}
		return out
	}
	return reflect.DeepEqual(statuses(a), statuses(b))
}

func TestPipelinedRequestsAreAllAnsweredInOrder(t *testing.T) {
	w := serve(t, echo)
	c := w.dial()
	c.send(message("one") + message("two") + "GET /v1/three HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, want := range []string{`"one"`, `"two"`, `/v1/three`} {
		_, got := c.receive()
		contains(t, got, want)
	}
	if n := w.odd.Load(); n != 3 {
		t.Errorf("net/http served %d of three pipelined requests", n)
	}
}

func TestARequestThatComesDuringAnotherWaits(t *testing.T) {
	entered, release := make(chan struct{}, 2), make(chan struct{})
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		echo(rw, r)
	})
	c := w.dial()
	c.send(message("one"))
	<-entered
	c.send(message("two"))
	close(release)
	_, got := c.receive()
	contains(t, got, `"one"`)
	_, got = c.receive()
	contains(t, got, `"two"`)
}

func TestAnOddRequestTakesTheConnectionAlong(t *testing.T) {
	w := serve(t, echo)
	c := w.dial()
	c.send(message("one")).receive()
	c.send("POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	_, got := c.receive()
	contains(t, got, `"abc"`)
	_, got = c.send(message("plain again")).receive()
	contains(t, got, "plain again")
	if n := w.odd.Load(); n != 2 {
		t.Errorf("net/http served %d requests, not the two that follow", n)
	}
}

func TestALongHeadIsNetHTTPs(t *testing.T) {
	w := serve(t, echo, func(s *http.Server) { s.MaxHeaderBytes = 32 << 10 })
	fill := func(n int) string {
		return "GET /v1/x HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("x", n) + "\r\n\r\n"
	}
	if resp, _ := w.dial().send(fill(20 << 10)).receive(); resp.StatusCode != http.StatusOK || w.odd.Load() != 1 {
		t.Errorf("%s, %d by net/http", resp.Status, w.odd.Load())
	}
	c := w.dial()
	go func() { _, _ = io.WriteString(c.Conn, fill(100<<10)) }()
	if resp, _ := c.receive(); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.Status)
	}
}

func TestContinueIsSentToThoseWhoExpectIt(t *testing.T) {
	w := serve(t, echo)
	c := w.dial()
	c.send("POST /v1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	line, _ := c.buf.ReadString('\n')
	contains(t, line, "100 Continue")
	_, _ = c.buf.ReadString('\n')
	_, got := c.send("{}").receive()
	contains(t, got, `"{}"`)
}

func TestSlowClientsAreLeft(t *testing.T) {
	short := 150 * time.Millisecond
	w := serve(t, echo, func(s *http.Server) { s.ReadHeaderTimeout, s.IdleTimeout = short, short })
	for name, start := range map[string]string{"nothing": "", "half a head": message("")[:20], "half an odd head": "PUT /"} {
		began := time.Now()
		c := w.dial().send(start)
		if got := c.ended(); strings.Contains(got, "200") {
			t.Errorf("%s: %q", name, got)
		}
		if took := time.Since(began); took < short/2 {
			t.Errorf("%s: left after %s", name, took)
		}
	}
	c := w.dial()
	c.send(message("")).receive()
	if got := c.ended(); got != "" {
		t.Errorf("idle: %q", got)
	}
	// A byte now and then does not buy more time.
	c = w.dial()
	dripped := make(chan error, 1)
	go func() {
		for _, b := range []byte(message("")) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			<-time.After(short / 8)
		}
		dripped <- nil
	}()
	if got := c.ended(); strings.Contains(got, "200") {
		t.Errorf("a dripped head was answered: %q", got)
	}
	_ = within(t, "dripping", dripped)
}

func TestABodyThatStallsHitsTheHandlersDeadline(t *testing.T) {
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(rw).SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Error(err)
		}
		echo(rw, r)
	})
	c := w.dial()
	c.send("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	if resp, _ := c.receive(); resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
	if rest := c.ended(); rest != "" {
		t.Errorf("%q", rest)
	}
	// The deadline of one request says nothing about the next.
	c = w.dial()
	c.send(message("one")).receive()
	c.send("POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
	c.send("late")
	_, got := c.receive()
	contains(t, got, "late")
}

func TestAClientThatLeavesEndsTheContext(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"closing":      func(c *net.TCPConn) { _ = c.Close() },
		"resetting":    func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
		"half closing": func(c *net.TCPConn) { _ = c.CloseWrite() },
	} {
		entered, ended := make(chan struct{}), make(chan error, 1)
		w := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			ended <- nil
		})
		c := w.dial()
		c.send(message("x"))
		<-entered
		leave(c.Conn.(*net.TCPConn))
		_ = within(t, name, ended)
	}
}

func TestOthersAreNotDisturbedByOneThatLeaves(t *testing.T) {
	entered, release := make(chan struct{}, 10), make(chan struct{})
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		if err := r.Context().Err(); err != nil && r.Header.Get("X-Stays") != "" {
			t.Error(err)
		}
		echo(rw, r)
	})
	stays := w.dial().send("GET /v1/x HTTP/1.1\r\nHost: a\r\nX-Stays: yes\r\n\r\n")
	<-entered
	for range 5 {
		c := w.dial().send(message("x"))
		<-entered
		_ = c.Close()
	}
	close(release)
	if resp, _ := stays.receive(); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}

func TestShutdownLetsRequestsFinishAndClosesIdleConnections(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/wait" {
			close(entered)
			<-release
		}
		echo(rw, r)
	})
	fresh, used, busy := w.dial(), w.dial(), w.dial()
	used.send(message("x")).receive()
	busy.send("GET /v1/wait HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	done := shutdown(t, w)
	for name, c := range map[string]*client{"fresh": fresh, "used": used} {
		if rest := c.ended(); rest != "" {
			t.Errorf("%s: %q", name, rest)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("shut down with a request in flight: %v", err)
	default:
	}
	close(release)
	resp, _ := busy.receive()
	if resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("%s, close %t", resp.Status, resp.Close)
	}
	if rest := busy.ended(); rest != "" {
		t.Errorf("%q", rest)
	}
	if err := within(t, "shutting down", done); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", w.address); err == nil {
		t.Error("it still listens")
	}
}

func TestShutdownGivesUpWhenItsContextEnds(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := serve(t, func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	defer close(release)
	w.dial().send(message("x"))
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := w.server.Shutdown(ctx); err == nil {
		t.Error("shut down with a request in flight")
	}
}

func TestAServerThatIsClosedBeforeItServesDoesNotServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(&http.Server{Handler: http.HandlerFunc(echo)})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	if err := within(t, "serving", served); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it listens")
	}
}

func TestAPanicEndsOneConnectionOnly(t *testing.T) {
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/panic":
			panic("oh")
		case "/v1/abort":
			rw.Header().Set("Content-Length", "10")
			_, _ = rw.Write([]byte("half"))
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}
		echo(rw, r)
	})
	other := w.dial()
	other.send(message("x")).receive()
	if rest := w.dial().send("GET /v1/panic HTTP/1.1\r\nHost: a\r\n\r\n").ended(); rest != "" {
		t.Errorf("%q", rest)
	}
	c := w.dial().send("GET /v1/abort HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(c.buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err == nil || string(body) != "half" {
		t.Errorf("%q, %v", body, err)
	}
	_, got := other.send(message("still")).receive()
	contains(t, got, "still")
}

func TestWhatAHandlerLeavesOfABodyDoesNotBecomeARequest(t *testing.T) {
	w := serve(t, func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusUnauthorized) })
	smuggled := message("smuggled")
	for _, n := range []int{0, 100, 7 << 10, 100 << 10} {
		c := w.dial()
		c.send(message(strings.Repeat(smuggled, 1+n/len(smuggled))))
		if resp, _ := c.receive(); resp.StatusCode != http.StatusUnauthorized || resp.Close {
			t.Fatalf("%s, close %t", resp.Status, resp.Close)
		}
		c.send(message("x")).receive()
	}
	c := w.dial()
	go func() { _, _ = io.WriteString(c.Conn, message(strings.Repeat("x", 4<<20))) }()
	if resp, _ := c.receive(); resp.StatusCode != http.StatusUnauthorized || !resp.Close {
		t.Errorf("%s, close %t", resp.Status, resp.Close)
	}
	if rest := c.ended(); rest != "" {
		t.Errorf("%q", rest)
	}
}

func TestTLSAndItsProtocolsWork(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	config := certified.TLS.Clone()
	config.MinVersion, config.NextProtos = tls.VersionTLS13, []string{"h2", "http/1.1"}
	versions := make(chan string, 10)
	w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.Version != tls.VersionTLS13 {
			t.Errorf("%s: TLS state %v", r.URL, r.TLS)
		}
		versions <- r.Proto
		echo(rw, r)
	}, func(s *http.Server) { s.TLSConfig = config })
	transport := certified.Client().Transport.(*http.Transport)
	for _, c := range []struct {
		name, path, proto string
		h2                bool
		odd               int64
	}{{"plain", "/v1/x", "HTTP/1.1", false, 0}, {"another path", "/console", "HTTP/1.1", false, 1}, {"HTTP/2", "/v1/x", "HTTP/2.0", true, 2}} {
		tr := transport.Clone()
		tr.ForceAttemptHTTP2 = c.h2
		if !c.h2 {
			tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + w.address + c.path)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		contains(t, string(body), c.path)
		if got := <-versions; got != c.proto || w.odd.Load() != c.odd {
			t.Errorf("%s: %s, %d by net/http", c.name, got, w.odd.Load())
		}
		tr.CloseIdleConnections()
	}
	contains(t, w.dial().send("GET /v1/x HTTP/1.1\r\n\r\n").ended(), "HTTP request to an HTTPS server")
}

func TestAnEarlierTLSIsRefused(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	config := certified.TLS.Clone()
	config.MinVersion = tls.VersionTLS13
	w := serve(t, echo, func(s *http.Server) { s.TLSConfig = config })
	if c, err := tls.Dial("tcp", w.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		_ = c.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestTheBaseContextEndsRequests(t *testing.T) {
	base, cut := context.WithCancelCause(context.Background())
	entered, causes := make(chan struct{}), make(chan error, 1)
	cause := fmt.Errorf("stopping")
	w := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		causes <- context.Cause(r.Context())
	}, func(s *http.Server) { s.BaseContext = func(net.Listener) context.Context { return base } })
	w.dial().send(message("x"))
	<-entered
	cut(cause)
	if got := within(t, "the cause", causes); got != cause {
		t.Error(got)
	}
}
