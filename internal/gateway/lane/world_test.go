package lane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// world is a server under test.
type world struct {
	t       *testing.T
	server  *Server
	http    *http.Server
	address string
	served  chan error
	odd     atomic.Int64 // requests that net/http served
}

const patience = 10 * time.Second

func serve(t *testing.T, handler http.HandlerFunc, adjust ...func(*http.Server)) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, address: l.Addr().String(), served: make(chan error, 1)}
	w.http = &http.Server{ReadHeaderTimeout: patience, IdleTimeout: patience, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if _, ours := rw.(*response); !ours {
				w.odd.Add(1)
			}
			handler(rw, r)
		})}
	for _, f := range adjust {
		f(w.http)
	}
	w.server = New(w.http)
	go func() { w.served <- w.server.Serve(l) }()
	t.Cleanup(func() {
		_ = w.server.Close()
		select {
		case err := <-w.served:
			if !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serving ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("serving did not end")
		}
	})
	return w
}

// client is a connection to the server.
type client struct {
	net.Conn
	t   *testing.T
	buf *bufio.Reader
}

func (w *world) dial() *client {
	w.t.Helper()
	c, err := net.Dial("tcp", w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	return &client{c, w.t, bufio.NewReader(c)}
}

func (c *client) send(text string) *client {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
	return c
}

// receive reads one answer and its body.
func (c *client) receive() (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.buf, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(body)
}

// ended waits for the end of the connection and says what came before it.
func (c *client) ended() string {
	c.t.Helper()
	rest, err := io.ReadAll(c.buf)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		c.t.Fatal("the connection stays open")
	}
	return string(rest)
}

func message(body string) string {
	return fmt.Sprintf("POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// echo answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, "%s %s %s %d %q", r.Method, r.URL, r.Host, r.ContentLength, body)
}

func shutdown(t *testing.T, w *world) chan error {
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	go func() { done <- w.server.Shutdown(ctx) }()
	return done
}

func within(t *testing.T, what string, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatalf("%s takes too long", what)
		return nil
	}
}

func contains(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q is not in %q", part, text)
	}
}
