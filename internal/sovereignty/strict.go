package sovereignty

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// strictJSON decodes one JSON object into v and refuses what encoding/json
// lets pass: unknown fields, a key written twice or in other letter case
// (it takes the last and matches any case), and anything after the object.
func strictJSON(data []byte, v any, code, detail string) error {
	if err := uniqueKeys(data); err != nil {
		return strictError(err, code, detail)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return strictError(err, code, detail)
	}
	return nil
}

func strictError(err error, code, detail string) error {
	var known *problem.Error
	if errors.As(err, &known) {
		return known
	}
	e := problem.New(problem.Invalid, code, detail).Wrap(err)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return e.WithField(wrong.Field).WithMend("The value there has the wrong type.")
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return e.WithMend("It has an unknown field " + clean(strings.TrimPrefix(err.Error(), "json: unknown field ")) + ".")
	}
	return e
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
					return problem.New(problem.Invalid, "json-key", "The key "+quote(t)+" is written twice or not in lower case.").WithField(clean(t))
				}
				open[len(open)-1][t] = true
				key = false
				continue
			}
		}
		key = len(open) > 0 && open[len(open)-1] != nil
	}
}
