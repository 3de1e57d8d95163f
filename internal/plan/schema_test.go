package plan_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/missionopsai/foundry/internal/plan"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := plan.Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("plan.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("plan.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// value is what an editor sees of a document: YAML 1.2, in which dates are text.
func value(t *testing.T, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.DocumentNode:
		return value(t, n.Content[0])
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			out[n.Content[i].Value] = value(t, n.Content[i+1])
		}
		return out
	case yaml.SequenceNode:
		out := []any{}
		for _, item := range n.Content {
			out = append(out, value(t, item))
		}
		return out
	}
	switch n.Tag {
	case "!!int", "!!float":
		return json.Number(n.Value)
	case "!!bool":
		return n.Value == "true"
	case "!!null":
		return nil
	}
	return n.Value
}

func validate(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatal(err)
	}
	return s.Validate(value(t, &n))
}

func TestEveryPlanOfTheTreeFitsTheSchema(t *testing.T) {
	schema := compiled(t)
	var files []string
	for _, pattern := range []string{"../../examples/*/fleet.yaml", "lint/testdata/rules/*/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plan.Parse(file, text); err != nil {
			t.Error(err)
		}
		if err := validate(t, schema, string(text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// What the reader refuses by its shape, an editor underlines.
func TestReaderAndSchemaRefuseTheSame(t *testing.T) {
	schema := compiled(t)
	if err := validate(t, schema, bakery); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"an unknown field":                      at("rto:", "rtoo:"),
		"an unknown field at the top":           bakery + "nodez: []\n",
		"an unknown word":                       at("warm", "tepid"),
		"an unknown word in a list":             bakery + "duties: [{name: d, kind: exercise, proves: [luck]}]\n",
		"a bad span":                            at("4h", "4 parsecs"),
		"a span without a unit":                 at("4h", "4"),
		"a bad size":                            at("rto: 4h", "size: 12"),
		"a bad date":                            bakery + "claims: [{name: c, standard: s, status: held, until: 31.12.2026}]\n",
		"no value":                              at("rto: 4h", "rto:"),
		"a list where a value is expected":      at("rto: 4h", "rto: [4h]"),
		"a value where a list is expected":      at("host: [shop]", "host: shop"),
		"a value where a group is expected":     at("- name: baker", "- baker"),
		"a missing name":                        at("- name: baker", "- title: baker"),
		"an empty name":                         at("- name: baker", "- name: \"\""),
		"a missing organisation":                "version: 1\n",
		"a missing version":                     at("version: 1\n", ""),
		"another version":                       at("version: 1\n", "version: 3\n"),
		"a version in quotes":                   at("version: 1\n", "version: \"1\"\n"),
		"a word where true or false is meant":   at("supplier: oven-host", "isolated: yes"),
		"true as a name":                        at("name: owner", "name: true"),
		"a country in small letters":            at("country: IE", "country: ie"),
		"a subject that is none":                at("function.rto", "function.rtp"),
		"a number where a whole one is meant":   at("security:", "security:\n  hashing: [{of: [passwords], work_factor: 1.5}]"),
		"a negative number":                     at("security:", "security:\n  hashing: [{of: [passwords], work_factor: -1}]"),
		"fields where a list of them is needed": at("suppliers:\n  - {name: oven-host, jurisdiction: IE}", "suppliers: {name: oven-host}"),
	} {
		if list := mistakes(t, text); len(list) == 0 {
			t.Errorf("%s: the reader takes it", name)
		}
		if err := validate(t, schema, text); err == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}

func TestSpansOfTheSchemaAreThoseOfTheReader(t *testing.T) {
	schema := compiled(t)
	for _, span := range []string{
		"90s", "15 min", "4h", "1h30m", "1 h 30 min", "30 days", "2 business days", "1 working day", "quarterly", "regularly", "as soon as possible", "1.5h", "1 quarter", "2 years", "daily",
		"", "4", "4 parsecs", "h", "4hh", "1 businessday", "yesterday", "-4h", "4h-", "quarterly 4h", "0x4h", "1,5h", "P1D",
	} {
		_, err := plan.ParseSpan(span)
		text := strings.Replace(bakery, "rto: 4h", "rto: '"+span+"'", 1)
		if schemaErr := validate(t, schema, text); (err == nil) != (schemaErr == nil) {
			t.Errorf("%q: the reader says %v, the schema %v", span, err, schemaErr)
		}
	}
	for _, size := range []string{"12 GB", "12GiB", "1.5 tb", "0 b", "12", "GB", "12 parsecs", "-1 GB", ""} {
		_, err := plan.ParseSize(size)
		text := strings.Replace(bakery, "rto: 4h", "size: '"+size+"'", 1)
		if schemaErr := validate(t, schema, text); (err == nil) != (schemaErr == nil) {
			t.Errorf("%q: the reader says %v, the schema %v", size, err, schemaErr)
		}
	}
}

// Whoever hovers over a field in an editor reads what it is for.
func TestMostFieldsOfTheSchemaSayWhatTheyAreFor(t *testing.T) {
	text, err := plan.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]any                                            `json:"properties"`
		Defs       map[string]struct{ Properties map[string]map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var silent []string
	all := 0
	for name, d := range schema.Defs {
		for field, node := range d.Properties {
			if all++; node["description"] == nil && node["enum"] == nil {
				silent = append(silent, name+"."+field)
			}
		}
	}
	if all < 150 || len(silent)*20 > all {
		t.Errorf("%d of %d fields have no description: %s", len(silent), all, strings.Join(silent, " "))
	}
}
