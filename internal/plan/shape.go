package plan

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// shape is what may stand at one place of a fleet file; it is made from the
// types and their tags, so that reader and schema cannot differ.
type shape struct {
	typ      reflect.Type
	text     bool // reads itself from a single value
	fields   []field
	byName   map[string]int
	element  *shape // of a list, pointer or map
	hasNames bool   // a list of things that have names
}

// field is one field of a struct.
type field struct {
	name     string
	index    []int
	shape    *shape
	required bool
	ordered  bool // the order of the list says something
	enum     []string
	ref      []string // kinds of things that it may name
	words    []string // what it may hold besides names
	says     string   // its description
	is       string   // "country": ISO 3166-1 codes; "countries": groups of them too
}

// shapes is the shape of a whole file.
var shapes = sync.OnceValue(func() *shape {
	return shapeOf(reflect.TypeFor[File](), map[reflect.Type]*shape{})
})

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func shapeOf(t reflect.Type, known map[reflect.Type]*shape) *shape {
	if s := known[t]; s != nil {
		return s
	}
	s := &shape{typ: t}
	known[t] = s
	switch {
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		s.text = true
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice, t.Kind() == reflect.Map:
		s.element = shapeOf(t.Elem(), known)
		_, named := s.element.byName["name"]
		s.hasNames = t.Kind() == reflect.Slice && named
	case t.Kind() == reflect.Struct:
		s.byName = map[string]int{}
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || name == "" || name == "-" {
				continue
			}
			out := field{name: name, index: f.Index, shape: shapeOf(f.Type, known), is: f.Tag.Get("is"), ordered: f.Tag.Get("ordered") == "true", says: f.Tag.Get("jsonschema_description"), ref: list(f.Tag.Get("ref")), words: list(f.Tag.Get("words"))}
			for _, option := range strings.Split(f.Tag.Get("jsonschema"), ",") {
				if value, ok := strings.CutPrefix(option, "enum="); ok {
					out.enum = append(out.enum, value)
				}
				out.required = out.required || option == "required"
			}
			s.byName[name] = len(s.fields)
			s.fields = append(s.fields, out)
		}
	}
	return s
}

func list(tag string) []string {
	if tag == "" {
		return nil
	}
	return strings.Split(tag, ",")
}

// names lists the fields of a struct.
func (s *shape) names() []string {
	out := make([]string, 0, len(s.fields))
	for _, f := range s.fields {
		out = append(out, f.name)
	}
	return out
}

// kinds are the lists whose things have names, by what a ref tag calls them.
var kinds = map[string]string{
	"document": "documents", "person": "people", "site": "sites", "supplier": "suppliers", "node": "nodes", "function": "functions",
	"data": "data", "backup": "backups", "client": "clients", "notice": "notices", "scenario": "scenarios", "recovery": "recovery",
	"runbook": "runbooks", "duty": "duties", "claim": "claims", "commitment": "commitments", "watch": "watches",
}

// kindWords are the kinds as sentences say them.
var kindWords = map[string]string{"data": "class of data", "recovery": "recovery plan", "notice": "notice"}

func kindWord(kind string) string {
	if w := kindWords[kind]; w != "" {
		return w
	}
	return kind
}

// Kinds lists the kinds of named things of a plan.
func Kinds() []string {
	var out []string
	for k := range kinds {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
