package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

func TestTheEndOfABodyIsKnownWithoutWaitingWhenItCameAlong(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for _, end := range []string{"0\r\n\r\n", ""} {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n"+end)
		}
	}()
	for _, want := range []bool{true, false} {
		c, err := New(Options{BaseURL: "http://" + l.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(t.Context(), http.MethodGet, "/", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := resp.Read(make([]byte, 100)); n != 3 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		if resp.Ended() != want {
			t.Errorf("Ended is %v, want %v", resp.Ended(), want)
		}
		_ = resp.Close()
	}
}
