package sovereignty

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// strictJSON decodes one JSON object into v and refuses what encoding/json
// lets pass: unknown fields, a key written twice or in other letter case
// (it takes the last and matches any case), and anything after the object.
func strictJSON[T any](data []byte, v *T, code, detail string) error {
	if err := uniqueKeys(data); err != nil {
		return strictError(err, "", code, detail)
	}
	if err := decodeKnown(data, v); err != nil {
		return strictError(err, blame[T](data), code, detail)
	}
	return nil
}

func decodeKnown(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// blame finds the first top-level field that does not decode into T by itself:
// encoding/json does not say where a text unmarshaller failed.
func blame[T any](data []byte) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		var probe T
		one, err := json.Marshal(map[string]json.RawMessage{name: fields[name]})
		if err == nil && decodeKnown(one, &probe) != nil {
			return clean(name)
		}
	}
	return ""
}

func strictError(err error, field, code, detail string) error {
	var known *problem.Error
	if errors.As(err, &known) {
		if known.Field == "" {
			known.Field = field
		}
		return known
	}
	e := problem.New(problem.Invalid, code, detail).WithField(field).Wrap(err)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		if wrong.Field != "" {
			e.Field = clean(wrong.Field)
		}
		return e.WithMend("The value there has the wrong type.")
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return e.WithMend("There is no field " + clean(strings.TrimPrefix(err.Error(), "json: unknown field ")) + ".")
	}
	return e.WithMend("Write it as one JSON object.")
}

const maxDepth = 32

// uniqueKeys walks the tokens of exactly one value and checks its keys.
func uniqueKeys(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var open []map[string]bool // nil for an array
	key := false               // the next token is a key
	for n := 0; ; n++ {
		tok, err := dec.Token()
		if err == io.EOF && n > 0 && len(open) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 && len(open) == 0 {
			return problem.New(problem.Invalid, "json-trailing", "There is something after the end of the JSON object.")
		}
		switch t := tok.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, map[string]bool{})
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
			if len(open) > maxDepth {
				return problem.New(problem.Invalid, "json-depth", "The JSON is nested too deeply.")
			}
		case string:
			if key {
				if open[len(open)-1][t] || strings.ToLower(t) != t {
					return problem.New(problem.Invalid, "json-key", "The key "+quote(t)+" is written twice or not in lower case.").WithField(clean(t)).WithMend("Write each key once, in lower case.")
				}
				open[len(open)-1][t] = true
				key = false
				continue
			}
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
}
