package simulator

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// instanceOf makes an instance and reads it back as a client would.
func instanceOf(t testing.TB, schema string) any {
	t.Helper()
	m, ok := decode([]byte(`{"schema":` + schema + `}`))
	if !ok {
		t.Fatalf("not JSON: %s", schema)
	}
	out, ok := decode([]byte(`{"v":` + string(render(instance(m["schema"]))) + `}`))
	if !ok {
		t.Fatalf("the instance of %s is not JSON", schema)
	}
	return out["v"]
}

func TestAnInstanceSatisfiesItsSchema(t *testing.T) {
	for schema, want := range map[string]string{
		`{"type":"string"}`:                                        `"simulated"`,
		`{"type":"string","maxLength":3}`:                          `"sim"`,
		`{"type":"string","minLength":12}`:                         `"simulatedddd"`,
		`{"type":"string","format":"date-time"}`:                   `"2026-01-01T00:00:00Z"`,
		`{"type":"integer"}`:                                       `0`,
		`{"type":"integer","minimum":3}`:                           `3`,
		`{"type":"integer","exclusiveMinimum":3}`:                  `4`,
		`{"type":"integer","minimum":2.5}`:                         `3`,
		`{"type":"integer","maximum":-4}`:                          `-4`,
		`{"type":"integer","minimum":1,"multipleOf":7}`:            `7`,
		`{"type":"number","minimum":0.5}`:                          `0.5`,
		`{"type":"boolean"}`:                                       `true`,
		`{"type":"null"}`:                                          `null`,
		`{"type":["integer","null"]}`:                              `0`,
		`{"enum":["b","a"]}`:                                       `"b"`,
		`{"const":{"x":1}}`:                                        `{"x":1}`,
		`{"type":"array","items":{"type":"boolean"}}`:              `[true]`,
		`{"type":"array","items":{"type":"boolean"},"minItems":2}`: `[true,true]`,
		`{"type":"array","maxItems":0}`:                            `[]`,
		`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["b"]}`:                                  `{"b":"simulated"}`,
		`{"properties":{"a":{"type":"integer"}},"required":["a","a","z"]}`:                                                                `{"a":0,"z":"simulated"}`,
		`{"anyOf":[{"type":"integer"},{"type":"string"}]}`:                                                                                `0`,
		`{"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"boolean"}},"required":["b"]}]}`:   `{"a":0,"b":true}`,
		`{"allOf":[{"allOf":[{"type":"string"}]},{"minLength":10}]}`:                                                                      `"simulatedd"`,
		`{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"$ref":"#/$defs/i"}},"required":["v"]},"i":{"minimum":8}}}`: `{"v":8}`,
		`true`: `{}`,
		`{"$ref":"http://elsewhere.invalid/schema"}`:                 `{}`,
		`{"$ref":"#/$defs/a~1b","$defs":{"a/b":{"type":"boolean"}}}`: `true`,
	} {
		if got := string(render(instanceOf(t, schema))); got != want {
			t.Errorf("%s: got %s, want %s", schema, got, want)
		}
	}
}

func TestARecursiveSchemaEnds(t *testing.T) {
	for _, schema := range []string{
		`{"$ref":"#"}`,
		`{"allOf":[{"$ref":"#"}]}`,
		`{"type":"object","properties":{"child":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["child"]}`,
		`{"type":"object","properties":{"kids":{"type":"array","items":{"$ref":"#"}}},"required":["kids"]}`,
		`{"type":"object","properties":{"a":{"$ref":"#"},"b":{"$ref":"#"},"c":{"$ref":"#"}},"required":["a","b","c"]}`,
		`{"type":"array","minItems":100,"items":{"$ref":"#"}}`,
		`{"type":"array","minItems":100,"items":{"type":"array","minItems":100,"items":{"type":"array","minItems":100,"items":{"minLength":65536}}}}`,
		`{"type":"number","minimum":1e308,"multipleOf":1e-308}`,
		`{"type":"integer","minimum":1e308}`,
	} {
		if size := len(render(instanceOf(t, schema))); size > 1<<20 {
			t.Errorf("%s: %d bytes", schema, size)
		}
	}
}

// drawSchema makes schemas that small values can satisfy.
func drawSchema(t *rapid.T, depth int) map[string]any {
	kinds := []string{"string", "integer", "number", "boolean", "null", "enum"}
	if depth > 0 {
		kinds = append(kinds, "object", "array", "anyOf", "allOf")
	}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
	case "string":
		low := rapid.IntRange(0, 20).Draw(t, "minLength")
		return map[string]any{"type": kind, "minLength": low, "maxLength": low + rapid.IntRange(0, 5).Draw(t, "more")}
	case "integer", "number":
		low := rapid.IntRange(-50, 50).Draw(t, "low")
		return map[string]any{"type": kind, "minimum": low, "maximum": low + rapid.IntRange(0, 9).Draw(t, "more")}
	case "enum":
		return map[string]any{"enum": []any{rapid.StringMatching(`[a-z]{1,5}`).Draw(t, "enum"), "other"}}
	case "object":
		props, required := map[string]any{}, []any{}
		for i := range rapid.IntRange(0, 4).Draw(t, "properties") {
			name := fmt.Sprint("p", i)
			props[name] = drawSchema(t, depth-1)
			if rapid.Bool().Draw(t, "required") {
				required = append(required, name)
			}
		}
		return map[string]any{"type": kind, "properties": props, "required": required, "additionalProperties": false}
	case "array":
		low := rapid.IntRange(0, 3).Draw(t, "minItems")
		return map[string]any{"type": kind, "items": drawSchema(t, depth-1), "minItems": low, "maxItems": low + 1}
	case "anyOf":
		return map[string]any{"anyOf": []any{drawSchema(t, depth-1), drawSchema(t, depth-1)}}
	case "allOf":
		return map[string]any{"allOf": []any{drawSchema(t, depth-1)}}
	default:
		return map[string]any{"type": kind}
	}
}

func TestInstancesOfDrawnSchemasSatisfyThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schema := string(render(drawSchema(t, 3)))
		m, _ := decode([]byte(schema))
		out, _ := decode([]byte(`{"v":` + string(render(instance(map[string]any(m)))) + `}`))
		if err := satisfies(m, out["v"]); err != nil {
			t.Fatalf("%s: %s: %v", schema, render(out["v"]), err)
		}
	})
}

// satisfies is a small JSON Schema validator, written from the specification
// and not from the generator.
func satisfies(m object, v any) error {
	for _, sub := range m.list("allOf") {
		if err := satisfies(asObject(sub), v); err != nil {
			return err
		}
	}
	if l := m.list("anyOf"); l != nil {
		ok := false
		for _, sub := range l {
			ok = ok || satisfies(asObject(sub), v) == nil
		}
		if !ok {
			return fmt.Errorf("none of anyOf")
		}
	}
	if l := m.list("enum"); l != nil {
		ok := false
		for _, e := range l {
			ok = ok || reflect.DeepEqual(e, v)
		}
		if !ok {
			return fmt.Errorf("%v is not in enum", v)
		}
	}
	switch kind := m.str("type"); kind {
	case "string":
		s, ok := v.(string)
		low, _ := m.int("minLength")
		high, _ := m.int("maxLength")
		if !ok || len(s) < low || len(s) > high {
			return fmt.Errorf("%v is no string of %d to %d", v, low, high)
		}
	case "integer", "number":
		n, ok := v.(json.Number)
		x, _ := n.Float64()
		low, _ := number(m["minimum"])
		high, _ := number(m["maximum"])
		if !ok || x < low || x > high || kind == "integer" && (x != math.Trunc(x) || strings.ContainsAny(string(n), ".e")) {
			return fmt.Errorf("%v is no %s of %v to %v", v, kind, low, high)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return fmt.Errorf("%v is no boolean", v)
		}
	case "null":
		if v != nil {
			return fmt.Errorf("%v is not null", v)
		}
	case "array":
		l, ok := v.([]any)
		low, _ := m.int("minItems")
		high, _ := m.int("maxItems")
		if !ok || len(l) < low || len(l) > high {
			return fmt.Errorf("%v is no array of %d to %d", v, low, high)
		}
		for _, e := range l {
			if err := satisfies(m.obj("items"), e); err != nil {
				return err
			}
		}
	case "object":
		got, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%v is no object", v)
		}
		for _, name := range m.list("required") {
			if _, ok := got[name.(string)]; !ok {
				return fmt.Errorf("%v lacks %s", v, name)
			}
		}
		for name, e := range got {
			sub, ok := m.obj("properties")[name]
			if !ok {
				return fmt.Errorf("%s is not described", name)
			}
			if err := satisfies(asObject(sub), e); err != nil {
				return err
			}
		}
	}
	return nil
}
