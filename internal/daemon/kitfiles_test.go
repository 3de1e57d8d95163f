package daemon

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// A setting that names a file says so in its description, for whoever writes
// the configuration. The kit must take each of them along.
func TestEveryFileThatASettingNamesIsInTheKit(t *testing.T) {
	t.Parallel()
	var found int
	names := regexp.MustCompile(`description=(PEM file|File with)`)
	var walk func(v reflect.Type, field string, depth int)
	walk = func(v reflect.Type, field string, depth int) {
		switch v.Kind() {
		case reflect.Pointer:
			walk(v.Elem(), field, depth)
		case reflect.Slice:
			walk(v.Elem(), field+"[0]", depth)
		case reflect.Map:
			walk(v.Elem(), field+".x", depth)
		case reflect.Struct:
			if depth > 8 {
				return
			}
			for f := range v.Fields() {
				name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
				if !f.IsExported() || name == "-" {
					continue
				}
				at := joinSetting(field, name)
				if f.Type.Kind() == reflect.String && names.MatchString(f.Tag.Get("jsonschema")) {
					if found++; !namesFile(at) {
						t.Errorf("the kit leaves out the file that %s names", at)
					}
				}
				walk(f.Type, at, depth+1)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "", 0)
	if found < 7 {
		t.Errorf("only %d settings name a file: are they described otherwise now?", found)
	}
}
