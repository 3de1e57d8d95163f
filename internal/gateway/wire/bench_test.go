package wire

import (
	"strings"
	"testing"
)

// smallRequest is a 716-byte chat request, the size the load tests use.
func smallRequest() []byte {
	head := `{"model":"mistral-small-latest","messages":[{"role":"system","content":"You are a careful assistant. Answer in one sentence."},{"role":"user","content":"`
	tail := `"}],"temperature":0.2,"max_tokens":256,"stream":true,"stream_options":{"include_usage":true}}`
	text := strings.Repeat("Summarise the quarterly report for the board, please.\\n", 20)
	return []byte(head + text[:716-len(head)-len(tail)-1] + "." + tail)
}

// largeRequest is a 100 KB conversation with tools.
func largeRequest() []byte {
	var b strings.Builder
	b.WriteString(`{"model":"m","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"}}}}}],"messages":[`)
	for i := 0; b.Len() < 100_000; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"role":"user","content":[{"type":"text","text":"` + strings.Repeat("The quick brown fox — jumps over\\nthe lazy dog, says \\\"hello\\\". ", 25) + `"}]}`)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

func benchmarkScan(b *testing.B, body []byte) {
	var r Request
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Scan(ChatCompletions, body, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScanSmall(b *testing.B) { benchmarkScan(b, smallRequest()) }
func BenchmarkScanLarge(b *testing.B) { benchmarkScan(b, largeRequest()) }

func BenchmarkAppendEdited(b *testing.B) {
	body := smallRequest()
	var r Request
	if err := Scan(ChatCompletions, body, &r); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 2*len(body))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		dst = r.AppendEdited(dst[:0], body, Edit{Model: "upstream", ForceNoStore: true, InjectUsage: true})
	}
}

const typicalDelta = `{"id":"chatcmpl-BfTkGq2PyA3bT8Zr","object":"chat.completion.chunk","created":1753000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_34a54ae93c","choices":[{"index":0,"delta":{"content":" world"},"logprobs":null,"finish_reason":null}],"usage":null}`

func BenchmarkScanChunk(b *testing.B) {
	ev := Event{Data: []byte(typicalDelta)}
	var c Chunk
	b.ReportAllocs()
	for b.Loop() {
		if err := ScanChunk(ChatCompletions, ev, &c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScanChunkAnthropic(b *testing.B) {
	ev := Event{Name: []byte("content_block_delta"), Data: []byte(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" world"}}`)}
	var c Chunk
	b.ReportAllocs()
	for b.Loop() {
		if err := ScanChunk(Messages, ev, &c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNextEvent(b *testing.B) {
	buf := []byte("data: " + typicalDelta + "\n\n")
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, n := NextEvent(buf); n == 0 {
			b.Fatal("incomplete")
		}
	}
}
