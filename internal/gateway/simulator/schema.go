package simulator

import (
	"math"
	"strings"
)

// Bounds of an instance: how deep a recursive schema goes, and how many bytes
// of strings and how many values a hostile one gets.
const (
	maxDepth    = 24
	maxInstance = 1 << 16
)

// instance makes a small value that satisfies a JSON Schema, from the parts
// that OpenAI's and Anthropic's structured outputs and tool definitions use:
// type, properties and required, items, enum, const, anyOf, oneOf, allOf,
// $ref, bounds of numbers, lengths and counts, and common formats. A pattern
// is not honoured. Optional properties are left out. A schema that no small
// value satisfies gets one that does not.
func instance(schema any) any {
	k := maker{root: schema, left: maxInstance}
	return k.make(schema, 0)
}

type maker struct {
	root any
	left int
}

func (k *maker) make(schema any, depth int) any {
	m := asObject(schema)
	if k.left--; m == nil || depth > maxDepth || k.left < 0 {
		return o{}
	}
	if v, ok := m["const"]; ok {
		return v
	}
	if l := m.list("enum"); len(l) > 0 {
		return l[0]
	}
	if ref := m.str("$ref"); ref != "" {
		return k.make(k.resolve(ref), depth+1)
	}
	if len(m.list("allOf")) > 0 {
		return k.make(merge(m), depth+1)
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if l := m.list(key); len(l) > 0 {
			return k.make(l[k.simplest(l, depth)], depth+1)
		}
	}
	return k.byType(m, depth)
}

// simplest prefers, near the bound of the depth, an alternative that ends.
func (k *maker) simplest(list []any, depth int) int {
	if depth < maxDepth/3 {
		return 0
	}
	for i, v := range list {
		if t := asObject(v).str("type"); t != "" && t != "object" && t != "array" {
			return i
		}
	}
	return 0
}

func (k *maker) byType(m object, depth int) any {
	kind := m.str("type")
	if l := m.list("type"); len(l) > 0 {
		kind, _ = l[0].(string)
	}
	if kind == "" {
		kind = guess(m)
	}
	switch kind {
	case "object":
		return k.object(m, depth)
	case "array":
		return k.array(m, depth)
	case "integer":
		return int64(bounded(m, 1))
	case "number":
		return bounded(m, 0)
	case "boolean":
		return true
	case "null":
		return nil
	}
	return k.text(m)
}

func guess(m object) string {
	switch {
	case m.has("properties") || m.has("required"):
		return "object"
	case m.has("items"):
		return "array"
	case m.has("minimum") || m.has("maximum"):
		return "number"
	}
	return "string"
}

func (k *maker) object(m object, depth int) any {
	props, out := m.obj("properties"), o{}
	seen := map[string]bool{}
	for _, v := range m.list("required") {
		name, ok := v.(string)
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		schema, described := props[name]
		if !described {
			schema = map[string]any{"type": "string"}
		}
		out = append(out, name, k.make(schema, depth+1))
	}
	return out
}

func (k *maker) array(m object, depth int) any {
	n, _ := m.int("minItems")
	if n == 0 && depth < maxDepth/3 {
		n = 1
	}
	if most, ok := m.int("maxItems"); ok {
		n = min(n, most)
	}
	n = max(0, min(n, 100))
	if items, ok := m["items"].(bool); ok && !items {
		n = 0
	}
	list := make([]any, n)
	for i := range list {
		list[i] = k.make(m["items"], depth+1)
		if m["items"] == nil {
			list[i] = "simulated"
		}
	}
	return list
}

// bounded is the smallest whole number from zero up that the bounds allow.
// step is 1 if only whole numbers will do, else 0.
func bounded(m object, step float64) float64 {
	v := 0.0
	low, hasLow := number(m["minimum"])
	if x, ok := number(m["exclusiveMinimum"]); ok && (!hasLow || x >= low) {
		low, hasLow = above(x, step), true
	}
	high, hasHigh := number(m["maximum"])
	if x, ok := number(m["exclusiveMaximum"]); ok && (!hasHigh || x <= high) {
		high, hasHigh = -above(-x, step), true
	}
	if hasHigh && v > high {
		v = high
	}
	if hasLow && v < low {
		v = low
	}
	if of, ok := number(m["multipleOf"]); ok && of > 0 {
		v = math.Ceil(v/of) * of
	}
	if math.IsInf(v, 0) || math.IsNaN(v) {
		v = 0
	}
	if step == 1 {
		v = math.Ceil(v)
		if hasHigh && v > high {
			v = math.Floor(high)
		}
		v = max(-1<<53, min(v, 1<<53))
	}
	return v
}

// above is a value over an exclusive bound.
func above(x, step float64) float64 {
	if step == 1 {
		return math.Floor(x) + 1
	}
	return x + max(1, math.Abs(x))*1e-6
}

var formats = map[string]string{
	"date-time": "2026-01-01T00:00:00Z",
	"date":      "2026-01-01",
	"time":      "00:00:00Z",
	"duration":  "PT1H",
	"email":     "simulator@example.com",
	"hostname":  "simulator.example.com",
	"uri":       "https://simulator.example.com/",
	"uuid":      "00000000-0000-4000-8000-000000000000",
	"ipv4":      "192.0.2.1",
	"ipv6":      "2001:db8::1",
}

func (k *maker) text(m object) string {
	if s, ok := formats[m.str("format")]; ok {
		return s
	}
	s := "simulated"
	if n, ok := m.int("minLength"); ok && n > len(s) {
		s += strings.Repeat("d", max(0, min(n, k.left)-len(s)))
		k.left -= len(s)
	}
	if n, ok := m.int("maxLength"); ok && n >= 0 && n < len(s) {
		s = s[:n]
	}
	return s
}

// merge folds the parts of an allOf into one schema: properties and required
// add up; of any other keyword one wins.
func merge(m object) map[string]any {
	out := map[string]any{}
	props, required := map[string]any{}, []any{}
	var add func(part object)
	add = func(part object) {
		for key, v := range part {
			switch key {
			case "allOf":
				for _, p := range part.list("allOf") {
					add(asObject(p))
				}
			case "properties":
				for name, schema := range asObject(v) {
					props[name] = schema
				}
			case "required":
				required = append(required, part.list("required")...)
			default:
				out[key] = v
			}
		}
	}
	add(m)
	out["properties"], out["required"] = props, required
	if len(props) == 0 && len(required) == 0 {
		delete(out, "properties")
		delete(out, "required")
	}
	return out
}

// resolve follows a local reference, "#" or "#/$defs/name".
func (k *maker) resolve(ref string) any {
	var at = k.root
	path, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil
	}
	for _, name := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		if name == "" {
			continue
		}
		name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
		at = asObject(at)[name]
	}
	return at
}
