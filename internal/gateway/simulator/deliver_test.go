package simulator

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

const chunkedEnd = "\r\n0\r\n\r\n"

// tcpCase is one fault as a TCP client and as net/http see it.
type tcpCase struct {
	fault  string
	format Format
	stream bool
	tcp    func(t *testing.T, raw string, err error)
	http   func(t *testing.T, resp *http.Response, body string, err error)
}

func contents(stream string) int { return strings.Count(stream, `"delta":{"content":"`) }

var tcpCases = []tcpCase{
	{"early-close", OpenAI, false,
		func(t *testing.T, raw string, err error) {
			if raw != "" || err != nil {
				t.Errorf("want a FIN and nothing else, got %q, %v", raw, err)
			}
		},
		func(t *testing.T, resp *http.Response, body string, err error) {
			if !errors.Is(err, io.EOF) {
				t.Errorf("want EOF, got %v", err)
			}
		}},
	{"early-close with=rst", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			if raw != "" || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("want an RST, got %q, %v", raw, err)
			}
		},
		func(t *testing.T, resp *http.Response, body string, err error) {
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
				t.Errorf("want an RST, got %v", err)
			}
		}},
	{"cut chunk=3", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			if err != nil || strings.HasSuffix(raw, chunkedEnd) || contents(raw) != 3 || strings.Contains(raw, "[DONE]") {
				t.Errorf("want 3 content chunks, then a FIN, got %d in %q, %v", contents(raw), raw, err)
			}
		},
		func(t *testing.T, resp *http.Response, body string, err error) {
			if !errors.Is(err, io.ErrUnexpectedEOF) || contents(body) != 3 {
				t.Errorf("want an unexpected EOF after 3 chunks, got %d, %v", contents(body), err)
			}
		}},
	{"cut chunk=0", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			if contents(raw) != 0 || !strings.Contains(raw, `"role":"assistant"`) {
				t.Errorf("want the role's chunk only, got %q", raw)
			}
		}, nil},
	{"cut event=1", Anthropic, true,
		func(t *testing.T, raw string, err error) {
			if strings.Count(raw, "event: ") != 1 || !strings.Contains(raw, "event: message_start") {
				t.Errorf("want message_start only, got %q", raw)
			}
		}, nil},
	{"cut chunk=3 with=rst", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("want an RST, got %v", err)
			}
		},
		func(t *testing.T, resp *http.Response, body string, err error) {
			if err == nil {
				t.Errorf("want an error, got %q", body)
			}
		}},
	{"cut chunk=3 with=eof", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			if err != nil || !strings.HasSuffix(raw, chunkedEnd) || contents(raw) != 3 || strings.Contains(raw, `"finish_reason":"stop"`) {
				t.Errorf("want 3 chunks and a proper end, got %q, %v", raw, err)
			}
		},
		func(t *testing.T, resp *http.Response, body string, err error) {
			if err != nil || contents(body) != 3 {
				t.Errorf("want 3 chunks and no error, got %d, %v", contents(body), err)
			}
		}},
	{"cut chunk=2 mid", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			if contents(raw) < 2 || strings.HasSuffix(strings.TrimSuffix(raw, "\r\n"), "\n\n") {
				t.Errorf("want half an event after 2 chunks, got %q", raw)
			}
		}, nil},
	{"cut chunk=999", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			if contents(raw) < 5 || strings.Contains(raw, `"finish_reason":"stop"`) || strings.HasSuffix(raw, chunkedEnd) {
				t.Errorf("want all the content and then the cut, got %q", raw)
			}
		}, nil},
	{"cut chunk=4", OpenAI, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if !errors.Is(err, io.ErrUnexpectedEOF) || resp.ContentLength < 100 || int64(len(body)) != resp.ContentLength/2 {
				t.Errorf("want half of %d bytes, got %d, %v", resp.ContentLength, len(body), err)
			}
		}},
	{"error-event chunk=2", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			_, datas := eventsOf(body)
			last := datas[len(datas)-1]
			if err != nil || contents(body) != 2 || !strings.HasPrefix(last, `{"error":{"message":"`) {
				t.Errorf("want an error after 2 chunks and a proper end, got %q, %v", body, err)
			}
		}},
	{"error-event chunk=2", Anthropic, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			names, datas := eventsOf(body)
			n := len(names) - 1
			if names[n] != "error" || !strings.HasPrefix(datas[n], `{"type":"error","error":{"type":"overloaded_error"`) || strings.Count(body, "text_delta") != 2 {
				t.Errorf("want event: error after 2 deltas, got %q", body)
			}
		}},
	{"error-event", Mistral, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if resp.StatusCode != 500 {
				t.Errorf("want a 500 where nothing streams, got %d", resp.StatusCode)
			}
		}},
	{"no-done", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if err != nil || strings.Contains(body, "[DONE]") || !strings.Contains(body, `"finish_reason":"stop"`) {
				t.Errorf("want all but [DONE], got %q, %v", body, err)
			}
		}},
	{"no-done", Anthropic, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if strings.Contains(body, "message_stop") || !strings.Contains(body, "message_delta") {
				t.Errorf("want all but message_stop, got %q", body)
			}
		}},
	{"malformed-json chunk=2", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			_, datas := eventsOf(body)
			for i, d := range datas[:len(datas)-1] {
				if _, ok := decode([]byte(d)); ok == (i == 3) { // role, two chunks, the broken one
					t.Errorf("event %d: valid is %t: %s", i, ok, d)
				}
			}
		}},
	{"malformed-json", Anthropic, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if _, ok := decode([]byte(body)); ok || resp.StatusCode != 200 {
				t.Errorf("want a broken 200, got %d %s", resp.StatusCode, body)
			}
		}},
	{"split-every-byte", OpenAI, true,
		func(t *testing.T, raw string, err error) {
			_, rest, _ := strings.Cut(raw, "\r\n\r\n")
			if !strings.HasPrefix(rest, "1\r\nd\r\n1\r\na\r\n1\r\nt\r\n") {
				t.Errorf("want one byte per HTTP chunk, got %.60q", rest)
			}
		},
		func(t *testing.T, resp *http.Response, body string, err error) {
			if err != nil || !strings.HasSuffix(body, "data: [DONE]\n\n") {
				t.Errorf("want the whole answer, got %q, %v", body, err)
			}
		}},
	{"drip 1ms size=40", OpenAI, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if _, ok := decode([]byte(body)); err != nil || !ok {
				t.Errorf("want the whole answer, got %q, %v", body, err)
			}
		}},
	{"huge 3MB", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if got := len(textOf(body)); err != nil || got != 3<<20 || contents(body) != 48 {
				t.Errorf("want 3 MiB of text in 48 chunks, got %d in %d, %v", got, contents(body), err)
			}
		}},
	{"huge 300KB in=event", Anthropic, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if strings.Count(body, "text_delta") != 1 || len(textOf(body)) != 300<<10 {
				t.Errorf("want one event of 300 KB, got %d bytes", len(body))
			}
		}},
	{"huge 1MB", Mistral, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if resp.ContentLength < 1<<20 || len(body) < 1<<20 {
				t.Errorf("want a body over 1 MB, got %d", len(body))
			}
		}},
	{"huge 200KB in=header", OpenAI, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if len(resp.Header.Get("X-Simulator-Huge")) != 200<<10 {
				t.Errorf("want a huge header, got %d bytes", len(resp.Header.Get("X-Simulator-Huge")))
			}
		}},
	{"wrong-content-type", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(body, "[DONE]") {
				t.Errorf("got %q %q", resp.Header.Get("Content-Type"), body)
			}
		}},
	{"html-page", Anthropic, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if resp.StatusCode != 502 || !strings.HasPrefix(body, "<html>") {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
		}},
	{"redirect", OpenAI, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if resp.StatusCode != 307 || resp.Header.Get("Location") != "https://elsewhere.invalid/v1/chat/completions" {
				t.Errorf("got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
			}
		}},
	{"empty-body", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if resp.StatusCode != 200 || body != "" || err != nil {
				t.Errorf("got %d %q %v", resp.StatusCode, body, err)
			}
		}},
	{"trailing-garbage", OpenAI, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if _, ok := decode([]byte(body)); ok || !strings.Contains(body, "}\x00") {
				t.Errorf("want an answer and more, got %q", body)
			}
		}},
	{"trailing-garbage", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			_, rest, ok := strings.Cut(body, "data: [DONE]\n\n")
			if !ok || rest == "" {
				t.Errorf("want something after [DONE], got %q", body)
			}
		}},
	{"gzip", OpenAI, true, nil, wantGzip},
	{"gzip", OpenAI, false, nil, wantGzip},
	{"sse-crlf", Anthropic, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if strings.Count(body, "\n") != strings.Count(body, "\r\n") || !strings.Contains(body, "\r\n\r\n") {
				t.Errorf("want CRLF only, got %q", body)
			}
		}},
	{"sse-comments", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if strings.Count(body, ": simulator is thinking\n\n") != strings.Count(body, "data: ") {
				t.Errorf("want a comment before every event, got %q", body)
			}
		}},
	{"early-hints", OpenAI, false,
		func(t *testing.T, raw string, err error) {
			if !strings.HasPrefix(raw, "HTTP/1.1 103 Early Hints\r\n") || !strings.Contains(raw, "\r\n\r\nHTTP/1.1 200 OK\r\n") {
				t.Errorf("want a 103, then a 200, got %q", raw)
			}
		},
		func(t *testing.T, resp *http.Response, body string, err error) {
			if resp.StatusCode != 200 || err != nil {
				t.Errorf("got %d, %v", resp.StatusCode, err)
			}
		}},
	{"connection-close", OpenAI, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if _, ok := decode([]byte(body)); !resp.Close || !ok {
				t.Errorf("want Connection: close and an answer, got close %t, %q", resp.Close, body)
			}
		}},
	{"hang-after-headers for=20ms", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if err != nil || !strings.Contains(body, "[DONE]") {
				t.Errorf("want the answer after the hang, got %q, %v", body, err)
			}
		}},
	{"stall chunk=3 for=20ms", OpenAI, true, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if err != nil || !strings.Contains(body, "[DONE]") {
				t.Errorf("want the rest after the stall, got %q, %v", body, err)
			}
		}},
	{"hang-before-headers 20ms", OpenAI, false, nil,
		func(t *testing.T, resp *http.Response, body string, err error) {
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("want the answer after the hang, got %v", err)
			}
		}},
}

func wantGzip(t *testing.T, resp *http.Response, body string, _ error) {
	if resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("no Content-Encoding in %v", resp.Header)
	}
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil || !strings.Contains(string(plain), "simulat") {
		t.Errorf("got %q, %v", plain, err)
	}
}

func TestFaultsAsATCPClientAndNetHTTPSeeThem(t *testing.T) {
	for _, c := range tcpCases {
		name := c.fault + " from " + string(c.format)
		if c.stream {
			name += " streaming"
		}
		t.Run(name, func(t *testing.T) {
			s, addr := start(t, Options{Format: c.format})
			if c.tcp != nil {
				s.Next(MustFault(c.fault))
				raw, err := rawAnswer(t, addr, c.format, c.stream)
				c.tcp(t, raw, err)
			}
			if c.http != nil {
				s.Next(MustFault(c.fault))
				resp, body, err := httpAnswer(t, addr, c.format, c.stream)
				if resp == nil && err == nil {
					t.Fatal("neither an answer nor an error")
				}
				c.http(t, resp, body, err)
			}
			for _, r := range s.Requests() {
				if r.Fault != MustFault(c.fault).String() {
					t.Errorf("the request is recorded with fault %q", r.Fault)
				}
			}
		})
	}
}

func TestAHangEndsOnlyWhenTheClientLeavesOrTheSimulatorCloses(t *testing.T) {
	for _, c := range []struct{ fault, before string }{
		{"hang-before-headers", ""},
		{"hang-after-headers", "\r\n\r\n"},
		{"stall chunk=2", `"content":" is"`},
		{"stall chunk=2 mid", `data: {"id`},
	} {
		t.Run(c.fault, func(t *testing.T) {
			s, addr := start(t, Options{})
			s.Always(MustFault(c.fault))
			conn := rawAsk(t, addr, OpenAI, true)
			got := readUntil(t, conn, c.before)
			if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(conn)
			if !isTimeout(err) || strings.Contains(got+string(rest), "[DONE]") {
				t.Fatalf("want silence, got %q, %v", rest, err)
			}
			seen, err := s.WaitRequests(patient(t), 1)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			wait(t, seen[0].Gone)
			wait(t, seen[0].Done)
			if s.Requests()[0].GoneAt.IsZero() {
				t.Error("when the client went is not recorded")
			}

			second := rawAsk(t, addr, OpenAI, true)
			if _, err := s.WaitRequests(patient(t), 2); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			if _, err := io.ReadAll(second); err != nil {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// readUntil reads from a connection until text was seen.
func readUntil(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	r, got := bufio.NewReader(conn), ""
	for !strings.Contains(got, text) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatalf("waiting for %q after %q: %v", text, got, err)
		}
		got += string(b)
	}
	return got
}

func wait(t *testing.T, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-patient(t).Done():
		t.Fatal("waited in vain")
	}
}

func TestAnEarlyErrorArrivesWhileTheClientStillSends(t *testing.T) {
	s, addr := start(t, Options{})
	s.Next(MustFault("early-error status=429"))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 429 || !resp.Close {
		t.Fatalf("want a 429 and the connection closed, got %+v, %v", resp, err)
	}
	if seen := s.Requests(); len(seen) != 1 || seen[0].Body != nil {
		t.Errorf("want a request without a body, got %+v", seen)
	}
}
