package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// schemaNode is a part of a JSON Schema, in the order in which it is written.
type schemaNode struct {
	Schema               string                 `json:"$schema,omitempty"`
	Title                string                 `json:"title,omitempty"`
	Description          string                 `json:"description,omitempty"`
	Ref                  string                 `json:"$ref,omitempty"`
	Type                 any                    `json:"type,omitempty"` // a name or a list of names
	Enum                 []any                  `json:"enum,omitempty"`
	Pattern              string                 `json:"pattern,omitempty"`
	PatternErrorMessage  string                 `json:"patternErrorMessage,omitempty"` // shown by editors
	Format               string                 `json:"format,omitempty"`
	MinLength            int                    `json:"minLength,omitempty"`
	MaxLength            int                    `json:"maxLength,omitempty"`
	Minimum              *int                   `json:"minimum,omitempty"`
	Properties           properties             `json:"properties,omitempty"`
	AdditionalProperties any                    `json:"additionalProperties,omitempty"` // false, or the schema of the values of a map
	Required             []string               `json:"required,omitempty"`
	Items                *schemaNode            `json:"items,omitempty"`
	Examples             []string               `json:"examples,omitempty"`
	Defs                 map[string]*schemaNode `json:"$defs,omitempty"`
}

// properties are the fields of an object in the order of the type.
type properties []property

type property struct {
	name string
	node *schemaNode
}

// MarshalJSON writes an object whose fields keep their order.
func (p properties) MarshalJSON() ([]byte, error) {
	var out strings.Builder
	for i, f := range p {
		text, err := json.Marshal(f.node)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "%c%q:%s", "{,"[min(i, 1)], f.name, text)
	}
	return []byte(out.String() + "}"), nil
}

// Schema describes the fleet file as JSON Schema (2020-12), for completion,
// explanations and checks in editors. It says what can be said without
// looking at two places at once: that names resolve, and that a commitment
// has one bound, only a reader knows.
func Schema() ([]byte, error) {
	defs := map[string]*schemaNode{}
	root := objectSchema(shapes(), defs)
	root.Schema, root.Title = "https://json-schema.org/draft/2020-12/schema", "Foundry continuity plan"
	root.Description = "A fleet file: the organisation, its nodes, functions, suppliers, promises, scenarios and recovery plans."
	root.Defs = defs
	return json.MarshalIndent(root, "", "  ")
}

// objectSchema describes a group of fields.
func objectSchema(s *shape, defs map[string]*schemaNode) *schemaNode {
	out := &schemaNode{Type: "object", AdditionalProperties: false, Required: []string{}}
	for i := range s.fields {
		f := &s.fields[i]
		out.Properties = append(out.Properties, property{f.name, fieldSchema(f, defs)})
		if f.required {
			out.Required = append(out.Required, f.name)
		}
	}
	return out
}

// fieldSchema describes one field with what its tags say.
func fieldSchema(f *field, defs map[string]*schemaNode) *schemaNode {
	out := valueSchema(f.shape, defs)
	word := out
	if out.Items != nil {
		word = out.Items
	}
	switch {
	case len(f.enum) > 0:
		if _, ok := word.Type.([]string); ok {
			word.Type = nil
		}
		for _, w := range f.enum {
			word.Enum = append(word.Enum, words(w, word.Type)...)
		}
	case f.is == "country":
		word.Type, word.Pattern, word.PatternErrorMessage = "string", "^[A-Z]{2}$", "Write an ISO 3166-1 code of two capital letters, such as DE."
	case f.is == "countries":
		word.Type, word.Pattern, word.PatternErrorMessage = "string", "^([A-Z]{2}|EEA)$", "Write ISO 3166-1 codes of two capital letters, such as DE, or EEA or EU."
	case f.is == "account":
		word.Type, word.Pattern, word.PatternErrorMessage = "string", accountPattern, "Write an e-mail address, or the id of an account."
	case f.name == "subject" && f.required:
		word.Type = "string"
		for _, s := range subjects {
			word.Enum = append(word.Enum, s.Name)
		}
	case f.name == "name":
		word.MinLength, word.MaxLength = 1, 100
	case f.required && word.Type != "array" && word.Ref == "":
		word.MinLength = 1
	}
	out.Description = strings.TrimSpace(f.says + " " + f.refers())
	if f.says == "" {
		out.Description = strings.TrimSpace(fieldWords[f.name] + " " + f.refers())
	}
	return out
}

// words are the values of an enumeration; what looks like a number in YAML may
// be written as one.
func words(word string, typ any) []any {
	var number json.Number
	if json.Unmarshal([]byte(word), &number) != nil {
		return []any{word}
	}
	if typ == "integer" {
		return []any{number}
	}
	return []any{word, number}
}

// refers says whose names a field holds.
func (f *field) refers() string {
	if len(f.ref) == 0 {
		return ""
	}
	var lists []string
	for _, kind := range f.ref {
		lists = append(lists, kinds[kind])
	}
	out := "Named under " + strings.Join(lists, ", ")
	if len(f.words) > 0 {
		out += "; or one of " + strings.Join(f.words, ", ")
	}
	return out + "."
}

// valueSchema describes what may stand at one place.
func valueSchema(s *shape, defs map[string]*schemaNode) *schemaNode {
	switch s.typ {
	case reflect.TypeFor[Span]():
		return ref("Span", defs, spanSchema)
	case reflect.TypeFor[Size]():
		return ref("Size", defs, sizeSchema)
	case reflect.TypeFor[Date]():
		return ref("Date", defs, func() *schemaNode {
			return &schemaNode{Type: "string", Format: "date", Pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", PatternErrorMessage: "Write a day as 2026-12-31.", Description: "A calendar day in UTC.", Examples: []string{"2026-12-31"}}
		})
	case reflect.TypeFor[Bound]():
		return &schemaNode{Type: []string{"string", "number", "boolean"}}
	}
	switch s.typ.Kind() {
	case reflect.Pointer:
		return valueSchema(s.element, defs)
	case reflect.Slice:
		return &schemaNode{Type: "array", Items: valueSchema(s.element, defs)}
	case reflect.Map:
		return &schemaNode{Type: "object", AdditionalProperties: valueSchema(s.element, defs)}
	case reflect.Struct:
		name := s.typ.Name()
		if defs[name] == nil {
			defs[name] = &schemaNode{}
			*defs[name] = *objectSchema(s, defs)
		}
		return &schemaNode{Ref: "#/$defs/" + name}
	case reflect.Bool:
		return &schemaNode{Type: "boolean"}
	case reflect.Int, reflect.Int64:
		return &schemaNode{Type: "integer", Minimum: new(int)}
	case reflect.Float64:
		return &schemaNode{Type: "number"}
	default:
		return &schemaNode{Type: []string{"string", "number"}}
	}
}

func ref(name string, defs map[string]*schemaNode, make func() *schemaNode) *schemaNode {
	if defs[name] == nil {
		defs[name] = make()
	}
	return &schemaNode{Ref: "#/$defs/" + name}
}

func spanSchema() *schemaNode {
	units := slices.Sorted(maps.Keys(spanUnits))
	slices.Reverse(units) // longest first where one begins another
	whole := slices.Concat(slices.Sorted(maps.Keys(spanNames)), vagueWords)
	number := `[0-9]+(\.[0-9]+)?`
	return &schemaNode{
		Type:                "string",
		Pattern:             `^( *` + number + ` *(` + strings.Join(units, "|") + `))+$|^[0-9]+ (business|working) days?$|^(` + strings.Join(whole, "|") + `)$`,
		PatternErrorMessage: "Write a length of time: 90s, 15 min, 4h, 1h30m, 30 days, 2 business days, quarterly, or a word such as regularly where no number is promised.",
		Description:         "A length of time. A month is a twelfth of 365 days. A word such as regularly promises nothing.",
		Examples:            []string{"15 min", "4h", "30 days", "2 business days", "quarterly"},
	}
}

func sizeSchema() *schemaNode {
	return &schemaNode{
		Type:                "string",
		Pattern:             `^ *[0-9]+(\.[0-9]+)? *([kKmMgGtTpP][iI]?)?[bB] *$`,
		PatternErrorMessage: "Write an amount of data: 500 MB, 120 GB, 2 TiB.",
		Description:         "An amount of data: GB is 10⁹ bytes, GiB 2³⁰.",
		Examples:            []string{"500 MB", "120 GB", "2 TiB"},
	}
}
