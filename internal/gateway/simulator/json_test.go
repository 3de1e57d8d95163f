package simulator

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// drawValue draws what answers are made of.
func drawValue(t *rapid.T, depth int) any {
	kinds := []string{"string", "int", "bool", "null", "number"}
	if depth > 0 {
		kinds = append(kinds, "object", "list")
	}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "string":
		return rapid.String().Draw(t, "string")
	case "int":
		return rapid.Int().Draw(t, "int")
	case "bool":
		return rapid.Bool().Draw(t, "bool")
	case "number":
		return json.Number("1.50e3")
	case "object":
		m := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "fields") {
			m[rapid.String().Draw(t, "key")] = drawValue(t, depth-1)
		}
		return m
	case "list":
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			list = append(list, drawValue(t, depth-1))
		}
		return list
	}
	return nil
}

func TestRenderingAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawValue(t, 3)
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(render(o{"v", v}), &a); err != nil {
			t.Fatalf("%q: %v", render(v), err)
		}
		if err := json.Unmarshal([]byte(`{"v":`+string(want)+`}`), &b); err != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("render %q, encoding/json %q, %v", render(v), want, err)
		}
	})
}

func TestOnlyOneJSONObjectAndNothingElseIsDecoded(t *testing.T) {
	for body, want := range map[string]bool{
		`{"a":1}`: true, ` {} ` + "\n": true, `{}{}`: false, `{} x`: false, `{}]`: false, `[]`: false, `null`: false, ``: false, `{"a":}`: false, `{"a":NaN}`: false,
	} {
		if _, ok := decode([]byte(body)); ok != want {
			t.Errorf("decode(%q) is %t", body, ok)
		}
	}
}

func TestFieldsOfAnotherTypeReadAsAbsent(t *testing.T) {
	m, _ := decode([]byte(`{"s":1,"i":1.5,"big":99999999999,"b":"true","o":[],"l":{},"n":null}`))
	if _, ok := m.int("i"); ok || m.str("s") != "" || m.flag("b") || m.obj("o") != nil || m.list("l") != nil || m.has("n") {
		t.Errorf("%v reads as something", m)
	}
	if _, ok := m.int("big"); ok {
		t.Error("a number beyond int32 is read")
	}
}
