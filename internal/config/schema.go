package config

import (
	"encoding/json"
	"path"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// Schema describes the configuration type of v as JSON Schema (2020-12), for
// completion and checks in editors.
func Schema(v any, title string) ([]byte, error) {
	r := &jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, Anonymous: true, ExpandedStruct: true, Namer: schemaName}
	s := r.Reflect(v)
	s.Title = title
	return json.MarshalIndent(s, "", "  ")
}

// schemaName tells types of one name apart: several packages have a Config.
func schemaName(t reflect.Type) string {
	if t.Name() != "Config" {
		return t.Name()
	}
	name := path.Base(t.PkgPath())
	return strings.ToUpper(name[:1]) + name[1:] + "Config"
}

// JSONSchema describes a duration.
func (Duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, Description: "A time span: 300ms, 5s, 10m, 4h.", Examples: []any{"5s"}}
}

// JSONSchema describes a date.
func (Date) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Format: "date", Description: "A calendar day, UTC: 2026-12-31."}
}
