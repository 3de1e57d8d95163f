//go:build ollama

package ollama

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// The models are llama-architecture networks of two layers and some hundred
// kilobytes. They know nothing, but every token, stream, finish reason and
// count that comes out of them is real.
const (
	width  = 64 // of the hidden state
	heads  = 4
	inner  = 128 // of the feed-forward layers
	layers = 2
	window = 32768
)

// The vocabulary: three special tokens, the 256 bytes, the markers of the
// chat template, and the words of the scripts. No text that a client sends can
// become a word, because no pair of bytes can be merged.
const (
	unknown = iota
	begin
	end
	firstByte
	firstMarker = firstByte + 256
)

var markers = []string{"<|system|>", "<|user|>", "<|tool|>", "<|close|>", "<|assistant|>", "<|invoke|>", "<|answer|>", "<|reason|>"}

// scripts says which words follow which marker at the end of a prompt. A word
// may stand only once in all of them, because what follows a token depends on
// that token alone.
var scripts = map[string][]string{
	"<|assistant|>": {"The", " capital", " of", " France", " is", " Paris", "."},
	"<|invoke|>":    {`<tool_call>`, `{"name": "get_temperature", `, `"arguments": {"city": `, `"Oslo"`, `}}`, `</tool_call>`},
	"<|answer|>":    {"It", " has", " 7", " degrees", " in", " Oslo", "!"},
	"<|reason|>":    {"<think>", "I", " remember", " a", " map", "</think>", "Paris", ", ", "probably"},
}

// Types of tokens in llama.cpp.
const (
	normalToken  = 1
	unknownToken = 2
	controlToken = 3
	byteToken    = 6
)

// vocabulary returns the tokens, their types, and their numbers by text.
func vocabulary() (tokens []string, types []int32, number map[string]int) {
	number = map[string]int{}
	add := func(text string, kind int32) {
		number[text] = len(tokens)
		tokens, types = append(tokens, text), append(types, kind)
	}
	add("<unk>", unknownToken)
	add("<s>", controlToken)
	add("</s>", controlToken)
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), byteToken)
	}
	for _, m := range markers {
		add(m, controlToken)
	}
	for _, m := range markers {
		for _, word := range scripts[m] {
			// SentencePiece writes a space as U+2581.
			text := strings.ReplaceAll(word, " ", "\u2581")
			if _, twice := number[text]; twice {
				panic("the word " + word + " stands twice in the scripts")
			}
			add(text, normalToken)
		}
	}
	return tokens, types, number
}

// babbler has random weights, drawn with a fixed seed: it says printable ASCII
// at random and never ends by itself.
func babbler() []byte {
	tokens, _, _ := vocabulary()
	r := rand.New(rand.NewPCG(7, 11))
	n := func(size int, deviation float64) []float32 {
		out := make([]float32, size)
		for i := range out {
			out[i] = float32(r.NormFloat64() * deviation)
		}
		return out
	}
	w := weights{embedding: n(len(tokens)*width, 1), output: n(len(tokens)*width, 0.3)}
	// The first dimension is the same for every token and no layer writes to
	// it: the output matrix uses it to keep whatever is not printable unlikely.
	for t := range tokens {
		w.embedding[t*width] = 3
		printable := t >= firstByte+' ' && t < firstByte+'~'
		w.output[t*width] = 0
		if !printable {
			w.output[t*width] = -40
		}
	}
	for range layers {
		l := layer{q: n(width*width, 0.1), k: n(width*width, 0.1), v: n(width*width, 0.1), o: n(width*width, 0.1),
			gate: n(width*inner, 0.1), up: n(width*inner, 0.1), down: n(inner*width, 0.1)}
		clear(l.o[:width])
		clear(l.down[:inner])
		w.layers = append(w.layers, l)
	}
	return w.file("Foundry babbler")
}

// reciter says what the scripts say. Its layers do nothing, so that the next
// token depends on the last one alone.
func reciter() []byte {
	tokens, _, number := vocabulary()
	w := weights{embedding: make([]float32, len(tokens)*width), output: make([]float32, len(tokens)*width)}
	// Every marker and word has a dimension of its own; the rest share the
	// first. What follows is then 64 more likely, as a logit, than the rest.
	const strength = 8
	place := func(t int) int { return max(0, t-firstMarker+1) }
	if place(len(tokens)-1) >= width {
		panic("more words than dimensions")
	}
	for t := range tokens {
		w.embedding[t*width+place(t)] = strength
	}
	follow := func(last, next int) { w.output[next*width+place(last)] = strength }
	for _, m := range markers {
		last := number[m]
		for _, word := range scripts[m] {
			next := number[strings.ReplaceAll(word, " ", "\u2581")]
			follow(last, next)
			last = next
		}
		follow(last, end)
	}
	for range layers {
		z := func(size int) []float32 { return make([]float32, size) }
		w.layers = append(w.layers, layer{q: z(width * width), k: z(width * width), v: z(width * width), o: z(width * width),
			gate: z(width * inner), up: z(width * inner), down: z(inner * width)})
	}
	return w.file("Foundry reciter")
}

// weights are a model's matrices, row by row.
type weights struct {
	embedding, output []float32
	layers            []layer
}

type layer struct{ q, k, v, o, gate, up, down []float32 }

// file writes the model with the keys that llama.cpp requires of the
// architecture llama and of a SentencePiece vocabulary.
func (w weights) file(name string) []byte {
	tokens, types, number := vocabulary()
	ones := make([]float32, width)
	for i := range ones {
		ones[i] = 1
	}
	var g gguf
	g.set("general.architecture", "llama")
	g.set("general.name", name)
	g.set("general.file_type", 0)
	g.set("llama.block_count", layers)
	g.set("llama.context_length", window)
	g.set("llama.embedding_length", width)
	g.set("llama.feed_forward_length", inner)
	g.set("llama.attention.head_count", heads)
	g.set("llama.attention.head_count_kv", heads)
	g.set("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	g.set("llama.rope.dimension_count", width/heads)
	g.set("llama.vocab_size", len(tokens))
	g.set("tokenizer.ggml.model", "llama")
	g.set("tokenizer.ggml.tokens", tokens)
	g.set("tokenizer.ggml.scores", make([]float32, len(tokens)))
	g.set("tokenizer.ggml.token_type", types)
	g.set("tokenizer.ggml.bos_token_id", number["<s>"])
	g.set("tokenizer.ggml.eos_token_id", number["</s>"])
	g.set("tokenizer.ggml.unknown_token_id", number["<unk>"])
	g.set("tokenizer.ggml.add_bos_token", true)
	g.set("tokenizer.ggml.add_eos_token", false)
	g.set("tokenizer.ggml.add_space_prefix", false)
	g.add("token_embd.weight", width, len(tokens), w.embedding)
	for i, l := range w.layers {
		block := fmt.Sprintf("blk.%d.", i)
		g.add(block+"attn_norm.weight", width, 0, ones)
		g.add(block+"attn_q.weight", width, width, l.q)
		g.add(block+"attn_k.weight", width, width, l.k)
		g.add(block+"attn_v.weight", width, width, l.v)
		g.add(block+"attn_output.weight", width, width, l.o)
		g.add(block+"ffn_norm.weight", width, 0, ones)
		g.add(block+"ffn_gate.weight", width, inner, l.gate)
		g.add(block+"ffn_up.weight", width, inner, l.up)
		g.add(block+"ffn_down.weight", inner, width, l.down)
	}
	g.add("output_norm.weight", width, 0, ones)
	g.add("output.weight", width, len(tokens), w.output)
	return g.bytes()
}

// The Modelfiles. Go templates are how Ollama turns messages into a prompt;
// that one mentions .Tools is what makes a model capable of tools.
const plainTemplate = `{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}<|close|>{{ end }}<|assistant|>`

const toolTemplate = `{{- if .Tools }}<|system|>{{ range .Tools }}{{ . }}{{ end }}<|close|>{{ end -}}
{{- range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if .ToolCalls }}<tool_call>{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}</tool_call>
{{- else }}<|{{ .Role }}|>{{ .Content }}{{ end }}<|close|>
{{- if $last }}{{ if eq .Role "tool" }}<|answer|>{{ else if $.Tools }}<|invoke|>{{ else }}<|assistant|>{{ end }}{{ end }}
{{- end }}`

const reasonTemplate = `{{- range .Messages }}<|{{ .Role }}|>
{{- if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}<|close|>{{ end }}<|reason|>`

// modelfiles lists the models that the tests create, by name.
func modelfiles(babble, recite string) map[string]string {
	// One thread, because several wait for each other by spinning, which on a
	// busy machine takes longer than the little there is to compute.
	file := func(from, template string) string {
		return fmt.Sprintf("FROM %s\nTEMPLATE \"\"\"%s\"\"\"\nPARAMETER num_ctx %d\nPARAMETER num_thread 1\n", from, template, window)
	}
	return map[string]string{
		"babble":       file(babble, plainTemplate),
		"babble-embed": file(babble, plainTemplate),
		"recite":       file(recite, toolTemplate),
		"reason":       file(recite, reasonTemplate),
	}
}
