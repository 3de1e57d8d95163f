package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// canonicalForm names the way in which plans are hashed. Another way needs
// another name, so that a hash never means two plans.
const canonicalForm = "foundry-plan-2\n"

// Hash is the SHA-256 of what the plan says, in hexadecimal. Comments, the
// order of lists whose order says nothing and the spelling of values do not
// change it; everything else does, and so does every byte of a runbook's text:
// who approves a plan approves what is done by it.
func (p *Plan) Hash() string {
	h := sha256.New()
	h.Write([]byte(canonicalForm))
	h.Write(canonical(nil, reflect.ValueOf(&p.File).Elem(), shapes(), nil))
	for _, name := range slices.Sorted(maps.Keys(p.Books)) {
		h.Write(text(text(nil, name), string(p.Books[name])))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// canonical appends what a value says: each part with its length or in
// brackets, so that no two values have one form. What says nothing is left out.
func canonical(out []byte, v reflect.Value, s *shape, in *field) []byte {
	switch x := v.Interface().(type) {
	case Span:
		return text(out, x.canonical())
	case Size:
		return text(out, strconv.FormatInt(x.bytes, 10))
	case Date:
		return text(out, x.Format(time.DateOnly))
	case Bound:
		return text(out, x.canonical())
	}
	switch v.Kind() {
	case reflect.Pointer:
		return canonical(out, v.Elem(), s.element, in)
	case reflect.Struct:
		out = append(out, '{')
		for i := range s.fields {
			f := &s.fields[i]
			if value := v.FieldByIndex(f.index); !silent(value) {
				out = canonical(text(out, f.name), value, f.shape, f)
			}
		}
		return append(out, '}')
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = string(canonical(nil, v.Index(i), s.element, in))
		}
		if in == nil || !in.ordered {
			slices.Sort(items)
		}
		out = append(out, '[')
		for _, item := range items {
			out = append(out, item...)
		}
		return append(out, ']')
	case reflect.Map:
		out = append(out, '(')
		values := map[string]reflect.Value{}
		for _, k := range v.MapKeys() {
			values[k.String()] = v.MapIndex(k)
		}
		for _, k := range slices.Sorted(maps.Keys(values)) {
			out = canonical(text(out, k), values[k], s.element, nil)
		}
		return append(out, ')')
	default:
		return text(out, fmt.Sprint(v.Interface()))
	}
}

func text(out []byte, s string) []byte {
	out = strconv.AppendInt(out, int64(len(s)), 10)
	return append(append(out, ':'), s...)
}

// silent reports that nothing was written: false, where it was written, says
// what leaving it out says, unless the field is a pointer.
func silent(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
		return z.IsZero()
	}
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() == 0
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !silent(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

// canonical is what the span means.
func (s Span) canonical() string {
	switch {
	case s.vague != "":
		return s.vague
	case s.business > 0:
		return fmt.Sprintf("%d business days", s.business)
	}
	return strconv.FormatInt(int64(s.d), 10) + "ns"
}

// canonical is what the bound means: a span by its length.
func (b Bound) canonical() string {
	if span, err := ParseSpan(string(b)); err == nil {
		return span.canonical()
	}
	return string(b)
}
