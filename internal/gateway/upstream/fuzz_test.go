package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"
)

// scripted is a connection whose peer says answer, in pieces of at most step
// bytes, and then ends.
type scripted struct {
	answer []byte
	step   int
}

func (s *scripted) Read(p []byte) (int, error) {
	if len(s.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.step)], s.answer)
	s.answer = s.answer[n:]
	return n, nil
}
func (s *scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (s *scripted) Close() error                     { return nil }
func (s *scripted) LocalAddr() net.Addr              { return nil }
func (s *scripted) RemoteAddr() net.Addr             { return nil }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// outcome is what a caller can see of one call.
type outcome struct {
	status int
	header http.Header
	body   string
	err    error
	reuse  bool
}

func ours(t testing.TB, method string, answer []byte, step, dst int) outcome {
	c, err := New(Options{BaseURL: "http://x", Dial: func(context.Context) (net.Conn, error) {
		return &scripted{answer: answer, step: step}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Do(context.Background(), method, "/", nil, nil)
	if err != nil {
		return outcome{err: err}
	}
	o := outcome{status: r.Status, header: http.Header{}}
	for name, value := range r.Fields {
		o.header.Add(name, value)
	}
	var body bytes.Buffer
	_, o.err = io.CopyBuffer(struct{ io.Writer }{&body}, struct{ io.Reader }{r}, make([]byte, dst))
	o.body = body.String()
	r.Close()
	o.reuse = c.Stats().Idle == 1
	return o
}

// theirs is net/http's reading of the same bytes, interim answers skipped.
func theirs(method string, answer []byte) outcome {
	in := bufio.NewReader(bytes.NewReader(answer))
	req := &http.Request{Method: method}
	for {
		r, err := http.ReadResponse(in, req)
		if err != nil {
			return outcome{err: err}
		}
		if r.StatusCode < 200 {
			continue
		}
		b, err := io.ReadAll(r.Body)
		return outcome{status: r.StatusCode, header: r.Header, body: string(b), err: err}
	}
}

var legal = []string{
	hello,
	"HTTP/1.1 200 OK\r\n\r\nuntil the end",
	"HTTP/1.0 200 OK\r\n\r\nuntil the end",
	"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"x\"\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0a;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1  \r\na\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
	"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
	"HTTP/1.1 529 \r\nx-empty:\r\nx-spaces: \t a  b \t\r\nx-latin: caf\xe9\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
	"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("ff\r\n"+strings.Repeat("z", 255)+"\r\n", 60) + "0\r\n\r\n",
}

func TestLegalAnswersReadAsNetHTTPReadsThem(t *testing.T) {
	for _, answer := range legal {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			want := theirs(method, []byte(answer))
			if want.err != nil {
				t.Fatalf("net/http refuses %q: %v", answer, want.err)
			}
			for _, step := range []int{1, 2, 7, 100, 1 << 20} {
				for _, dst := range []int{1, 100, 4 << 10, 64 << 10} {
					compare(t, answer, ours(t, method, []byte(answer), step, dst), want)
				}
			}
		}
	}
}

func compare(t testing.TB, answer string, got, want outcome) {
	t.Helper()
	if got.status != want.status || got.body != want.body || got.err != nil {
		t.Fatalf("%q: got %d, %q, %v; net/http %d, %q", answer, got.status, got.body, got.err, want.status, want.body)
	}
	for name, values := range want.header {
		if name == "Content-Length" { // net/http makes one of several
			continue
		}
		if strings.Join(got.header[name], "|") != strings.Join(values, "|") {
			t.Fatalf("%q: %s is %q, net/http says %q", answer, name, got.header[name], values)
		}
	}
}

// FuzzResponse: what we accept, net/http accepts and reads alike; how the bytes
// are cut changes nothing; and no connection with bytes left over is reused.
func FuzzResponse(f *testing.F) {
	for i, answer := range legal {
		f.Add([]byte(answer), uint16(i%9+1), uint16(i*31%5000+1))
	}
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		chunkedHead + "fffffffffffffffff\r\n",
		chunkedHead + "5\r\nhel",
		hello + hello,
	} {
		f.Add([]byte(answer), uint16(3), uint16(100))
	}
	f.Fuzz(func(t *testing.T, answer []byte, step, dst uint16) {
		got := ours(t, "POST", answer, int(step)+1, int(dst)+1)
		again := ours(t, "POST", answer, len(answer)+1, 8<<10)
		if got.status != again.status || got.body != again.body || (got.err == nil) != (again.err == nil) {
			t.Fatalf("cut differently: %+v and %+v", got, again)
		}
		if errors.Is(got.err, io.EOF) {
			t.Fatalf("a failure is io.EOF: %v", got.err)
		}
		if got.err != nil {
			return
		}
		want := theirs("POST", answer)
		if want.err != nil {
			t.Fatalf("accepted %q, which net/http refuses: %v", answer, want.err)
		}
		compare(t, string(answer), got, want)
		if again.reuse {
			checkNothingLeft(t, answer)
		}
	})
}

// checkNothingLeft fails if net/http sees bytes behind the answer.
func checkNothingLeft(t *testing.T, answer []byte) {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(answer))
	for {
		r, err := http.ReadResponse(in, &http.Request{Method: "POST"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.StatusCode >= 200 {
			break
		}
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		t.Fatalf("reused with %q left", rest)
	}
}

// FuzzChunked: what we accept, net/http's reader accepts, with the same payload;
// how the bytes are cut changes nothing.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n",
		"5;a=b\r\nhello\r\n00\r\nT: r\r\n\r\nrest",
		"A \t\r\n0123456789\r\n0\r\n\r\n",
		"5\nhello\n0\n\n",
		"-1\r\n", "0x5\r\n", "fffffffffffffffff\r\n", "5\r\nhello5\r\n", "0\r\n x: y\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, src, dst uint8) {
		var d, e chunked
		got, err := drain(&d, b, int(src)+1, int(dst)+1)
		whole, err2 := drain(&e, b, len(b)+1, len(b)+1)
		if got != whole && (err == nil || err2 == nil) || (err == nil) != (err2 == nil) {
			t.Fatalf("cut differently: %q, %v and %q, %v", got, err, whole, err2)
		}
		if err != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b)))
		if err != nil || string(want) != got {
			t.Fatalf("%q: got %q, net/http %q, %v", b, got, want, err)
		}
	})
}
