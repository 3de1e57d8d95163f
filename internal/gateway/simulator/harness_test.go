package simulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const patience = 10 * time.Second

var testTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func fixedNow() time.Time { return testTime }

// chatBody is a small request in a format's main endpoint.
func chatBody(f Format, stream bool) (path, body string) {
	path, body = "/v1/chat/completions", `{"model":"simulator-chat","messages":[{"role":"user","content":"Hello there"}]`
	if f == Anthropic {
		path, body = "/v1/messages", `{"model":"simulator-chat","max_tokens":500,"messages":[{"role":"user","content":"Hello there"}]`
	}
	if stream {
		body += `,"stream":true`
		if f == OpenAI {
			body += `,"stream_options":{"include_usage":true}`
		}
	}
	return path, body + "}"
}

// ask calls a simulator without a network.
func ask(s *Simulator, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Anthropic-Version", secondVersion)
	for i := 0; i+1 < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i+1] == "" {
			r.Header.Del(header[i])
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// askFor posts a body and decodes a 200.
func askFor(t *testing.T, s *Simulator, path, body string) object {
	t.Helper()
	w := ask(s, "POST", path, body)
	m, ok := decode(w.Body.Bytes())
	if w.Code != 200 || !ok {
		t.Fatalf("POST %s %s: status %d, body %s", path, body, w.Code, w.Body)
	}
	return m
}

// at follows a path of keys and indexes through decoded JSON.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m := asObject(v)
			if _, ok := m[k]; !ok {
				t.Fatalf("no %q on the way %v in %s", k, path, render(v))
			}
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				t.Fatalf("no [%d] on the way %v in %s", k, path, render(v))
			}
			v = l[k]
		}
	}
	return v
}

func start(t *testing.T, o Options) (*Simulator, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	server := Serve(l, s)
	t.Cleanup(func() { _ = s.Close(); _ = server.Close() })
	return s, l.Addr().String()
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// rawAsk sends one request over TCP and returns a connection to read from.
func rawAsk(t *testing.T, addr string, f Format, stream bool) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	path, body := chatBody(f, stream)
	r, _ := http.NewRequest("POST", "http://"+addr+path, strings.NewReader(body))
	r.Header.Set("Anthropic-Version", firstVersion)
	r.Header.Set("Authorization", "Bearer sk-secret-key-0123456789")
	r.Header.Set("Connection", "close")
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// rawAnswer is what a TCP client sees until the connection ends.
func rawAnswer(t *testing.T, addr string, f Format, stream bool) (string, error) {
	t.Helper()
	raw, err := io.ReadAll(rawAsk(t, addr, f, stream))
	return string(raw), err
}

// httpAnswer is what a net/http client sees.
func httpAnswer(t *testing.T, addr string, f Format, stream bool) (*http.Response, string, error) {
	t.Helper()
	path, body := chatBody(f, stream)
	r, _ := http.NewRequestWithContext(patient(t), "POST", "http://"+addr+path, strings.NewReader(body))
	r.Header.Set("Anthropic-Version", firstVersion)
	r.Header.Set("Authorization", "Bearer sk-secret-key-0123456789")
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp, string(got), err
}

// eventsOf cuts a stream into events: name and data.
func eventsOf(stream string) (names, datas []string) {
	for _, block := range strings.Split(strings.TrimSpace(stream), "\n\n") {
		name, data := "", ""
		for _, line := range strings.Split(block, "\n") {
			if v, ok := strings.CutPrefix(line, "event: "); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(line, "data: "); ok {
				data += v
			}
		}
		names, datas = append(names, name), append(datas, data)
	}
	return names, datas
}

// textOf joins what a stream says, in any of the formats.
func textOf(stream string) string {
	var b bytes.Buffer
	_, datas := eventsOf(stream)
	for _, d := range datas {
		m, ok := decode([]byte(d))
		if !ok {
			continue
		}
		b.WriteString(m.obj("delta").str("text"))
		if s, ok := m["delta"].(string); ok {
			b.WriteString(s)
		}
		for _, c := range m.list("choices") {
			b.WriteString(asObject(c).obj("delta").str("content"))
		}
	}
	return b.String()
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
