package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/internal/gateway/wire"
)

// question is one request as a client sends it.
type question struct {
	dialect wire.Dialect
	model   string
	text    string // the user's message
	mark    string // put into the system prompt, so that the request is found at the vendor
	stream  bool
	usage   bool // asks for usage in an OpenAI stream
	limit   int  // of tokens; 0: 256
	extra   map[string]any
	header  map[string]string
}

// path is the endpoint of the dialect.
func (q question) path() string {
	if q.dialect == wire.Anthropic {
		return "/v1/messages"
	}
	return "/v1/chat/completions"
}

func (q question) body() []byte {
	limit := q.limit
	if limit == 0 {
		limit = 256
	}
	text := q.text
	if text == "" {
		text = "Hello there"
	}
	m := map[string]any{"model": q.model, "max_tokens": limit}
	user := map[string]any{"role": "user", "content": text}
	if q.dialect == wire.Anthropic {
		m["messages"] = []any{user}
		if q.mark != "" {
			m["system"] = q.mark
		}
	} else {
		messages := []any{user}
		if q.mark != "" {
			messages = []any{map[string]any{"role": "system", "content": q.mark}, user}
		}
		m["messages"] = messages
		if q.stream && q.usage {
			m["stream_options"] = map[string]any{"include_usage": true}
		}
	}
	if q.stream {
		m["stream"] = true
	}
	for k, v := range q.extra {
		m[k] = v
	}
	out, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return out
}

// reply is what the client got.
type reply struct {
	status   int
	header   http.Header
	body     []byte
	err      error // of reading: the answer broke off
	id       string
	text     string // of the answer, deltas joined
	finish   string
	complete bool   // a stream said that it is whole: [DONE] or message_stop
	errType  string // of an error body or error event, as the dialect names it
	errText  string
	errEvent bool // the error came as an event within a stream
	after    int  // events after the error event
	reported bool // usage is there
	input    int64
	output   int64
}

func (r reply) String() string {
	return fmt.Sprintf("status %d, complete %t, error %q %q (event %t, %d after it), transport %v, text %q, body %.400s",
		r.status, r.complete, r.errType, r.errText, r.errEvent, r.after, r.err, r.text, r.body)
}

// request makes the HTTP request.
func (w *world) request(ctx context.Context, token string, q question) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.base+q.path(), bytes.NewReader(q.body()))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if q.dialect == wire.Anthropic {
		req.Header.Set("X-Api-Key", token)
		req.Header.Set("Anthropic-Version", "2023-06-01")
	} else {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range q.header {
		req.Header.Set(k, v)
	}
	return req
}

// ask sends a question and reads the whole answer.
func (w *world) ask(ctx context.Context, token string, q question) (reply, error) {
	resp, err := w.client.Do(w.request(ctx, token, q))
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, header: resp.Header, id: resp.Header.Get("X-Request-Id")}
	r.body, r.err = io.ReadAll(resp.Body)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		r.readStream(q.dialect)
	} else {
		r.readWhole(q.dialect)
	}
	return r, nil
}

// get is ask for a test.
func (w *world) get(t testing.TB, token string, q question) reply {
	t.Helper()
	r, err := w.ask(t.Context(), token, q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// post sends any body to any path.
func (w *world) post(t testing.TB, token, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, header: resp.Header, id: resp.Header.Get("X-Request-Id")}
	r.body, r.err = io.ReadAll(resp.Body)
	d := wire.OpenAI
	if strings.HasPrefix(path, "/v1/messages") {
		d = wire.Anthropic
	}
	r.readWhole(d)
	return r
}

type usageJSON struct {
	Prompt     *int64 `json:"prompt_tokens"`
	Completion *int64 `json:"completion_tokens"`
	Input      *int64 `json:"input_tokens"`
	Output     *int64 `json:"output_tokens"`
	Read       int64  `json:"cache_read_input_tokens"`
	Written    int64  `json:"cache_creation_input_tokens"`
}

// take notes a usage object; figures are cumulative.
func (r *reply) take(u *usageJSON) {
	if u == nil {
		return
	}
	for _, p := range []*int64{u.Prompt, u.Input} {
		if p != nil {
			r.input, r.reported = max(r.input, *p+u.Read+u.Written), true
		}
	}
	for _, p := range []*int64{u.Completion, u.Output} {
		if p != nil {
			r.output, r.reported = max(r.output, *p), true
		}
	}
}

type errorJSON struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// readWhole reads an answer that is no stream. An error must have the shape
// that its dialect documents.
func (r *reply) readWhole(d wire.Dialect) {
	var m struct {
		Type    string          `json:"type"`
		Error   *errorJSON      `json:"error"`
		Content json.RawMessage `json:"content"`
		Stop    string          `json:"stop_reason"`
		Choices []struct {
			Finish  string `json:"finish_reason"`
			Message struct {
				Content json.RawMessage `json:"content"`
			} `json:"message"`
		} `json:"choices"`
		Usage *usageJSON `json:"usage"`
	}
	if json.Unmarshal(r.body, &m) != nil {
		return
	}
	if m.Error != nil {
		r.errType, r.errText = m.Error.Type, m.Error.Message
		if d == wire.Anthropic && m.Type != "error" {
			r.errType = "malformed: " + r.errType
		}
		return
	}
	r.take(m.Usage)
	if d == wire.Anthropic {
		r.text, r.finish, r.complete = blocks(m.Content), m.Stop, m.Type == "message"
		return
	}
	for _, c := range m.Choices {
		r.text += blocks(c.Message.Content)
		r.finish, r.complete = c.Finish, c.Finish != ""
	}
}

// blocks is the text of a content: a string, or a list of blocks.
func blocks(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var list []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(raw, &list)
	for _, b := range list {
		text += b.Text
	}
	return text
}

// sse cuts a stream into events as the standard says, apart from the code
// under test.
func sse(body []byte) (events []struct{ name, data string }) {
	scanner := bufio.NewScanner(bytes.NewReader(body))
	scanner.Buffer(nil, 64<<20)
	name, data, some := "", []string(nil), false
	for scanner.Scan() {
		line := strings.TrimSuffix(scanner.Text(), "\r")
		switch {
		case line == "":
			if some {
				events = append(events, struct{ name, data string }{name, strings.Join(data, "\n")})
			}
			name, data, some = "", nil, false
		case strings.HasPrefix(line, ":"):
		case strings.HasPrefix(line, "event:"):
			name = strings.TrimPrefix(strings.TrimPrefix(line, "event:"), " ")
		case strings.HasPrefix(line, "data:"):
			data, some = append(data, strings.TrimPrefix(strings.TrimPrefix(line, "data:"), " ")), true
		}
	}
	return events
}

func (r *reply) readStream(d wire.Dialect) {
	for _, ev := range sse(r.body) {
		if r.errEvent {
			r.after++
		}
		if d == wire.Anthropic {
			r.readAnthropicEvent(ev.name, ev.data)
		} else {
			r.readOpenAIEvent(ev.data)
		}
	}
}

func (r *reply) readOpenAIEvent(data string) {
	if data == "[DONE]" {
		r.complete = true
		return
	}
	var m struct {
		Error   *errorJSON `json:"error"`
		Choices []struct {
			Finish string `json:"finish_reason"`
			Delta  struct {
				Content json.RawMessage `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Usage *usageJSON `json:"usage"`
	}
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		r.err = fmt.Errorf("an event that is not JSON went to the client: %.200s", data)
		return
	}
	if m.Error != nil {
		r.errType, r.errText, r.errEvent = m.Error.Type, m.Error.Message, true
	}
	for _, c := range m.Choices {
		r.text += blocks(c.Delta.Content)
		if c.Finish != "" {
			r.finish = c.Finish
		}
	}
	r.take(m.Usage)
}

func (r *reply) readAnthropicEvent(name, data string) {
	var m struct {
		Type    string     `json:"type"`
		Error   *errorJSON `json:"error"`
		Message struct {
			Usage *usageJSON `json:"usage"`
		} `json:"message"`
		Delta struct {
			Text string `json:"text"`
			Stop string `json:"stop_reason"`
		} `json:"delta"`
		Usage *usageJSON `json:"usage"`
	}
	if err := json.Unmarshal([]byte(data), &m); err != nil {
		r.err = fmt.Errorf("an event that is not JSON went to the client: %.200s", data)
		return
	}
	if m.Type != name {
		r.err = fmt.Errorf("the event %q says it is %q", name, m.Type)
	}
	switch m.Type {
	case "error":
		r.errEvent = true
		if m.Error != nil {
			r.errType, r.errText = m.Error.Type, m.Error.Message
		}
	case "message_stop":
		r.complete = true
	}
	r.text += m.Delta.Text
	if m.Delta.Stop != "" {
		r.finish = m.Delta.Stop
	}
	r.take(m.Message.Usage)
	r.take(m.Usage)
}
