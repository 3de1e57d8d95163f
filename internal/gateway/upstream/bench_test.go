package upstream

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// instant is a trivial server: it answers each 716-byte request with fixed bytes.
func instant(b *testing.B, answer string) string {
	reply := []byte(answer)
	return listen(b, func(p *peer) {
		in := bufio.NewReaderSize(p.Conn, 8<<10)
		for {
			length := 0
			for {
				line, err := in.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					break
				}
				if bytes.HasPrefix(line, []byte("Content-Length: ")) {
					for _, c := range line[16 : len(line)-2] {
						length = length*10 + int(c-'0')
					}
				}
			}
			if _, err := in.Discard(length); err != nil {
				return
			}
			if _, err := p.Write(reply); err != nil {
				return
			}
		}
	})
}

var answers = map[string]string{
	"length":  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: abcdef\r\nDate: Sun, 01 Mar 2026 11:00:00 GMT\r\nContent-Length: 716\r\n\r\n" + strings.Repeat("x", 716),
	"chunked": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("c8\r\n"+strings.Repeat("y", 200)+"\r\n", 40) + "0\r\n\r\n",
}

func BenchmarkUpstream(b *testing.B) {
	for name, answer := range answers {
		b.Run(name, func(b *testing.B) {
			c := client(b, "http://"+instant(b, answer), func(o *Options) {
				o.Header = http.Header{"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}}
				o.Timeouts = Timeouts{Connect: 5e9, FirstByte: 60e9, BetweenChunks: 30e9, Total: 600e9}
				o.MaxConns = 64
			})
			body := bytes.Repeat([]byte("z"), 716)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 4096)
				for pb.Next() {
					ctx, cancel := context.WithCancel(ctx)
					r, err := c.Do(ctx, "POST", "/v1/chat/completions", nil, body)
					if err != nil {
						cancel()
						b.Error(err)
						return
					}
					for err == nil {
						_, err = r.Read(buf)
					}
					r.Close()
					cancel()
					if err != io.EOF {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkTransport is the same with net/http, called below Client as a
// reverse proxy does.
func BenchmarkTransport(b *testing.B) {
	for name, answer := range answers {
		b.Run(name, func(b *testing.B) {
			t := &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64, DisableCompression: true, DialContext: new(net.Dialer).DialContext}
			defer t.CloseIdleConnections()
			url := "http://" + instant(b, answer) + "/v1/chat/completions"
			body := bytes.Repeat([]byte("z"), 716)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 4096)
				for pb.Next() {
					ctx, cancel := context.WithCancel(ctx)
					req, _ := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
					req.Header["Authorization"] = []string{"Bearer x"}
					req.Header["Content-Type"] = []string{"application/json"}
					r, err := t.RoundTrip(req)
					if err != nil {
						cancel()
						b.Error(err)
						return
					}
					for err == nil {
						_, err = r.Body.Read(buf)
					}
					r.Body.Close()
					cancel()
				}
			})
		})
	}
}
