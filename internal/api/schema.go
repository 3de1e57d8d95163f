package api

import (
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// newSchemas names the types of the interface's description. Packages name
// their types for themselves, so two may have the same name: the first keeps
// it, and a later one gets its package's name before its own.
func newSchemas() huma.Registry {
	taken := map[string]reflect.Type{}
	return huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		of := t
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if first, found := taken[name]; found && first != of && of.Name() != "" {
			own := path.Base(of.PkgPath())
			name = strings.ToUpper(own[:1]) + own[1:] + name
		} else {
			taken[name] = of
		}
		return name
	})
}
