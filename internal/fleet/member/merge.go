package member

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// merged writes value as JSON over old, keeping the fields of old that the
// type of value does not have: a younger member wrote them.
func merged(old json.RawMessage, value any) (json.RawMessage, error) {
	now, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("writing a value of the fleet: %w", err)
	}
	if len(old) == 0 {
		return now, nil
	}
	return overlay(old, now, reflect.TypeOf(value))
}

func overlay(old, now json.RawMessage, t reflect.Type) (json.RawMessage, error) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct || !isObject(old) || !isObject(now) {
		return now, nil
	}
	var was, is map[string]json.RawMessage
	if err := json.Unmarshal(old, &was); err != nil {
		return nil, fmt.Errorf("reading what the fleet has: %w", err)
	}
	if err := json.Unmarshal(now, &is); err != nil {
		return nil, fmt.Errorf("reading what is written: %w", err)
	}
	known := map[string]reflect.Type{}
	fields(t, known)
	for name, body := range was {
		ft, ours := known[name]
		if !ours {
			is[name] = body
			continue
		}
		if _, there := is[name]; !there {
			continue // left out on purpose: omitempty
		}
		below, err := overlay(body, is[name], ft)
		if err != nil {
			return nil, err
		}
		is[name] = below
	}
	return json.Marshal(is)
}

func isObject(b json.RawMessage) bool { return bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) }

// fields lists the names under which encoding/json writes a struct's fields.
func fields(t reflect.Type, into map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		embedded := f.Type
		if embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		switch {
		case name == "-":
		case f.Anonymous && name == "" && embedded.Kind() == reflect.Struct:
			fields(embedded, into)
		case !f.IsExported():
		case name == "":
			into[f.Name] = f.Type
		default:
			into[name] = f.Type
		}
	}
}

// reset empties what a value is read into, so that a field which is gone does
// not stay from the reading before.
func reset(into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("a value of the fleet is read into %T, not a pointer", into)
	}
	v.Elem().SetZero()
	return nil
}
