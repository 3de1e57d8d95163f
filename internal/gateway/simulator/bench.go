package simulator

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// benchBody is a chat completion of exactly benchSize bytes.
const benchSize = 716

// benchChunks is the number of content chunks of the stream.
const benchChunks = 40

// bench answers from precomputed bytes.
type bench struct {
	firstByte time.Duration
	body      []byte
	stream    []byte
	length    []string
	buffers   sync.Pool
}

// NewBench returns the cheapest possible OpenAI upstream for load tests: every
// request gets the same precomputed 716-byte chat completion, or the same
// 40-chunk stream if its body asks for one, firstByte after it was read. The
// stream goes out in one write: what is measured is the reader.
func NewBench(firstByte time.Duration) http.Handler {
	b := &bench{firstByte: firstByte, body: benchCompletion(), stream: benchStream()}
	b.length = []string{strconv.Itoa(len(b.body))}
	b.buffers.New = func() any { return new(make([]byte, 4096)) }
	return b
}

var (
	benchJSON = []string{"application/json"}
	benchSSE  = []string{"text/event-stream; charset=utf-8"}
	benchName = []string{"foundry-simulator"}
)

func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	streams := b.readBody(r)
	if b.firstByte > 0 {
		time.Sleep(b.firstByte)
	}
	h := w.Header()
	h["Server"] = benchName
	if streams {
		h["Content-Type"] = benchSSE
		_, _ = w.Write(b.stream)
		return
	}
	h["Content-Type"] = benchJSON
	h["Content-Length"] = b.length
	_, _ = w.Write(b.body)
}

// readBody reads the body to its end and looks for "stream": true in it, in a
// window that remembers the end of the last read.
func (b *bench) readBody(r *http.Request) (streams bool) {
	buf := b.buffers.Get().(*[]byte)
	defer b.buffers.Put(buf)
	const overlap = 32
	kept := 0
	for {
		n, err := r.Body.Read((*buf)[kept:])
		window := (*buf)[:kept+n]
		streams = streams || asksForStream(window)
		if err != nil {
			return streams
		}
		kept = copy(*buf, window[max(0, len(window)-overlap):])
	}
}

var streamKey = []byte(`"stream"`)

// asksForStream finds the key and true after it. A load test's own body is not
// hostile, so no JSON is parsed.
func asksForStream(body []byte) bool {
	i := bytes.Index(body, streamKey)
	if i < 0 {
		return false
	}
	rest := bytes.TrimLeft(body[i+len(streamKey):], " \t\r\n:")
	return bytes.HasPrefix(rest, []byte("true"))
}

// benchCompletion pads the text until the body has its size.
func benchCompletion() []byte {
	text := "This is a simulated answer for load tests, no model was asked."
	body := func() []byte {
		return render(o{"id", "chatcmpl-simulator000000000000000", "object", "chat.completion", "created", released.Unix(),
			"model", "simulator-chat", "choices", []any{o{"index", 0, "message",
				o{"role", "assistant", "content", text, "refusal", nil}, "logprobs", nil, "finish_reason", "stop"}},
			"usage", o{"prompt_tokens", 20, "completion_tokens", 40, "total_tokens", 60},
			"service_tier", "default", "system_fingerprint", "fp_simulator"})
	}
	for i := 0; len(body()) < benchSize; i++ {
		text += " word"[:min(5, benchSize-len(body()))]
	}
	return body()
}

func benchStream() []byte {
	var out []byte
	chunk := func(choices []any, more ...any) {
		head := o{"id", "chatcmpl-simulator000000000000000", "object", "chat.completion.chunk", "created", released.Unix(),
			"model", "simulator-chat", "system_fingerprint", "fp_simulator", "choices", choices}
		out = append(out, data(render(append(head, more...)))...)
	}
	chunk([]any{o{"index", 0, "delta", o{"role", "assistant", "content", ""}, "finish_reason", nil}})
	for range benchChunks {
		chunk([]any{o{"index", 0, "delta", o{"content", " simulated"}, "finish_reason", nil}})
	}
	chunk([]any{o{"index", 0, "delta", o{}, "finish_reason", "stop"}})
	chunk([]any{}, "usage", o{"prompt_tokens", 20, "completion_tokens", benchChunks, "total_tokens", 20 + benchChunks})
	return append(out, "data: [DONE]\n\n"...)
}
