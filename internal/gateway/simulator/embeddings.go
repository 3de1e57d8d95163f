package simulator

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
)

const mistralEmbeddingFields = "model metadata input output_dimension output_dtype encoding_format"

// widths of an embedding, if the request does not say: those of
// text-embedding-3-small, mistral-embed and nomic-embed-text.
var widths = map[Format]int{OpenAI: 1536, OpenAICompatible: 1536, Mistral: 1024, Ollama: 768}

// embeddings answers /v1/embeddings.
func (x *exchange) embeddings() reply {
	m, ok := decode(x.body)
	if !ok {
		return x.badJSON()
	}
	inputs, tokens, f := x.checkEmbeddings(m)
	if f != nil {
		return x.fail(*f)
	}
	dims := widths[x.s.o.Format]
	for _, key := range []string{"dimensions", "output_dimension"} {
		if n, ok := m.int(key); ok {
			dims = n
		}
	}
	list := make([]any, len(inputs))
	for i, text := range inputs {
		var vector any = Embed(text, dims)
		if m.str("encoding_format") == "base64" {
			vector = encode(vector.([]float32))
		}
		list[i] = o{"object", "embedding", "index", i, "embedding", vector}
	}
	body := o{"object", "list", "data", list, "model", m["model"]}
	if x.s.o.Format == Mistral {
		body = o{"id", x.id(""), "object", "list", "data", list, "model", m["model"]}
	}
	for _, u := range x.usages(usage{in: tokens}) {
		used := o{"prompt_tokens", u.in, "total_tokens", u.in}
		if x.s.o.Format == Mistral {
			used = append(used, "completion_tokens", 0)
		}
		body = append(body, "usage", used)
	}
	return x.ok(body)
}

// checkEmbeddings validates and returns the texts and their size. An input of
// token ids is read as the text of their numbers, one token each.
func (x *exchange) checkEmbeddings(m object) (texts []string, tokens int, f *failure) {
	if x.s.o.Format == Mistral {
		if u := unknown(m, mistralEmbeddingFields); u != nil {
			f := x.unprocessable(o{"type", "extra_forbidden", "loc", []any{"body", u[0]}, "msg", "Extra inputs are not permitted", "input", m[u[0]]})
			return nil, 0, &f
		}
	}
	if m.str("model") == "" {
		return nil, 0, x.lacks("model", m)
	}
	if !m.has("input") {
		return nil, 0, x.lacks("input", m)
	}
	if !x.s.offers(m.str("model")) {
		f := x.unknownModel(m.str("model"))
		return nil, 0, &f
	}
	for _, key := range []string{"dimensions", "output_dimension"} {
		if n, ok := m.int(key); m.has(key) && (!ok || n < 1 || n > 3072) {
			return nil, 0, invalid(fmt.Sprintf("Invalid '%s': must be between 1 and 3072.", key), key, "invalid_value")
		}
	}
	if e := m.str("encoding_format"); m.has("encoding_format") && e != "float" && e != "base64" {
		return nil, 0, invalid(fmt.Sprintf("Invalid value: '%v'. Supported values are: 'float' and 'base64'.", m["encoding_format"]), "encoding_format", "invalid_value")
	}
	switch input := m["input"].(type) {
	case string:
		texts, tokens = []string{input}, CountTokens(input)
	case []any:
		texts, tokens = readInputs(input)
	}
	if len(texts) == 0 || len(texts) > 2048 {
		return nil, 0, invalid("Invalid 'input': expected a string, or an array of 1 to 2048 strings or token arrays.", "input", "invalid_value")
	}
	return texts, tokens, nil
}

func (x *exchange) lacks(field string, m object) *failure {
	if x.s.o.Format == Mistral {
		f := x.unprocessable(o{"type", "missing", "loc", []any{"body", field}, "msg", "Field required", "input", m})
		return &f
	}
	if field == "model" {
		return invalid("you must provide a model parameter", "", "")
	}
	return missing(field)
}

// readInputs reads an array of strings, of token ids, or of arrays of them;
// nil if it is something else.
func readInputs(input []any) (texts []string, tokens int) {
	var ids []string
	for _, v := range input {
		switch e := v.(type) {
		case string:
			texts = append(texts, e)
			tokens += CountTokens(e)
		case []any:
			part, n := readInputs(e)
			if len(part) != 1 {
				return nil, 0
			}
			texts, tokens = append(texts, part[0]), tokens+n
		default:
			if !isInt(v) || v == nil {
				return nil, 0
			}
			ids = append(ids, fmt.Sprint(e))
		}
	}
	if ids != nil && texts != nil {
		return nil, 0
	}
	if ids != nil {
		return []string{strings.Join(ids, " ")}, len(ids)
	}
	return texts, tokens
}

// Embed maps a text to a unit vector: the sum of one fixed pseudo-random
// direction per word, so texts that share words point the same way.
func Embed(text string, dims int) []float32 {
	sum := make([]float64, dims)
	words := append(strings.Fields(strings.ToLower(text)), "\x00")
	for i, w := range words {
		weight := 1.0
		if i == len(words)-1 {
			weight = 0.1 // a text without words still has a direction
		}
		h := fnv.New64a()
		_, _ = h.Write([]byte(strings.Trim(w, ".,;:!?\"'()")))
		state := h.Sum64()
		for d := range sum {
			// splitmix64 (Steele, Lea and Flood 2014)
			state += 0x9e3779b97f4a7c15
			z := state
			z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			sum[d] += weight * (float64((z^z>>31)>>11)/(1<<52) - 1)
		}
	}
	norm := 0.0
	for _, v := range sum {
		norm += v * v
	}
	norm = math.Sqrt(norm)
	out := make([]float32, dims)
	for d, v := range sum {
		out[d] = float32(v / norm)
	}
	return out
}

// encode is encoding_format base64: little-endian float32.
func encode(v []float32) string {
	raw := make([]byte, 0, 4*len(v))
	for _, f := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
