package simulator

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTheInProcessListenerServesHTTPWithoutAPort(t *testing.T) {
	l, dial := Listen()
	s := New(Options{})
	server := Serve(l, s)
	defer server.Close()
	if l.Addr().Network() != "in-process" {
		t.Errorf("address %v", l.Addr())
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			path, body := chatBody(OpenAI, true)
			resp, err := client.Post("http://simulator"+path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !strings.HasSuffix(string(got), "data: [DONE]\n\n") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	all.Wait()
}

func TestDeadlinesWorkOnBothEndsOfAnInProcessConnection(t *testing.T) {
	l, dial := Listen()
	defer l.Close()
	far := make(chan net.Conn, 1)
	go func() { c, _ := l.Accept(); far <- c }()
	near, err := dial(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	other := <-far
	defer other.Close()
	for _, c := range []net.Conn{near, other} {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("reading: %v", err)
		}
	}
	for _, c := range []net.Conn{near, other} {
		_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Write(make([]byte, 64<<20)); !isTimeout(err) {
			t.Errorf("writing what nobody reads: %v", err)
		}
		_ = c.SetDeadline(time.Time{})
	}
	_ = other.Close()
	if _, err := io.Copy(io.Discard, near); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("after the other end closed: %v", err)
	}
}

func TestDialingAClosedOrBusyListenerFails(t *testing.T) {
	l, dial := Listen()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody accepts: %v", err)
	}
	_ = l.Close()
	_ = l.Close()
	if _, err := dial(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accepting when closed: %v", err)
	}
}

func TestACutReachesAnInProcessClientToo(t *testing.T) {
	l, dial := Listen()
	s := New(Options{})
	server := Serve(l, s)
	defer server.Close()
	s.Next(MustFault("cut chunk=2 with=rst"))
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	path, body := chatBody(OpenAI, true)
	resp, err := client.Post("http://simulator"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}
