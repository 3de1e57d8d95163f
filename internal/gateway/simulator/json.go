package simulator

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
)

// o is a JSON object in the order written: key, value, key, value. Vendors
// keep their order, and clients that should not depend on it may.
type o []any

// MarshalJSON renders the pairs in order.
func (p o) MarshalJSON() ([]byte, error) { return render(p), nil }

// render marshals without escaping <, > and &, as the vendors do. What it is
// given is built here, so it cannot fail.
func render(v any) []byte { return appendJSON(nil, v) }

// appendJSON renders what answers are made of in one pass; encoding/json would
// read the bytes of an o again at every level it is nested in.
func appendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case string:
		return appendString(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case json.Number:
		return append(dst, v...)
	case o:
		dst = append(dst, '{')
		for i := 0; i+1 < len(v); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSON(dst, v[i]), ':')
			dst = appendJSON(dst, v[i+1])
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e)
		}
		return append(dst, ']')
	case map[string]any:
		return appendObject(dst, v)
	case object:
		return appendObject(dst, v)
	}
	return appendOther(dst, v)
}

// appendObject renders a decoded object with its keys sorted: their order got
// lost in decoding.
func appendObject(dst []byte, m map[string]any) []byte {
	pairs := make(o, 0, 2*len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, key, m[key])
	}
	return appendJSON(dst, pairs)
}

func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return appendOther(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func appendOther(dst []byte, v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("simulator: rendering its own answer: " + err.Error())
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

// object is a decoded JSON object. Its methods never fail: a value of another
// type reads as absent.
type object map[string]any

// decode reads one JSON object and nothing after it.
func decode(body []byte) (object, bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	if _, err := d.Token(); err != io.EOF { // More is false before a stray bracket
		return nil, false
	}
	m, ok := v.(map[string]any)
	return m, ok
}

func asObject(v any) object {
	if m, ok := v.(object); ok {
		return m
	}
	m, _ := v.(map[string]any)
	return m
}

// has says whether a field is there and not null.
func (m object) has(key string) bool { return m[key] != nil }

func (m object) str(key string) string {
	s, _ := m[key].(string)
	return s
}

func (m object) flag(key string) bool {
	b, _ := m[key].(bool)
	return b
}

func (m object) list(key string) []any {
	l, _ := m[key].([]any)
	return l
}

func (m object) obj(key string) object { return asObject(m[key]) }

// int reads an integer; ok is false if the field is absent, null or no
// integer in the range of int32.
func (m object) int(key string) (n int, ok bool) {
	num, isNumber := m[key].(json.Number)
	if !isNumber {
		return 0, false
	}
	i, err := num.Int64()
	if err != nil || i > math.MaxInt32 || i < math.MinInt32 {
		return 0, false
	}
	return int(i), true
}

// number reads any JSON number.
func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(n), 64)
	return f, err == nil
}

// typeName names a JSON type as OpenAI's errors do.
func typeName(v any) string {
	switch n := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	case json.Number:
		if _, err := n.Int64(); err == nil {
			return "integer"
		}
		return "decimal"
	}
	return "value"
}
