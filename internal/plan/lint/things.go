package lint

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// nouns says what one thing of a list of the fleet file is called.
var nouns = map[string]string{
	"documents": "document", "people": "person", "sites": "site", "suppliers": "supplier", "nodes": "node",
	"functions": "function", "data": "data class", "backups": "backup", "clients": "client", "notices": "notice",
	"scenarios": "scenario", "recovery": "recovery plan", "runbooks": "runbook", "duties": "duty", "claims": "claim",
	"commitments": "commitment", "watches": "watch", "suppress": "suppression",
}

// at is the path of a value in a list: at("functions", 2, "rto") is
// "functions[2].rto".
func at(list string, i int, field ...string) string {
	return strings.Join(append([]string{fmt.Sprintf("%s[%d]", list, i)}, field...), ".")
}

// quoted lists names in a sentence, in an order that does not depend on the
// file: "a", "b" and "c".
func quoted(names []string) string {
	words := make([]string, 0, len(names))
	for _, n := range slices.Compact(slices.Sorted(slices.Values(names))) {
		words = append(words, fmt.Sprintf("%q", n))
	}
	return listed(words)
}

// listed joins words in a sentence, in their order: a, b and c.
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// these names things of one kind: function "a", or functions "a" and "b".
func these(singular, plural string, names []string) string {
	return does(names, singular, plural) + " " + quoted(names)
}

// does says what one thing does, or what several do.
func does(names []string, one, several string) string {
	if len(slices.Compact(slices.Sorted(slices.Values(names)))) == 1 {
		return one
	}
	return several
}

// upper begins a sentence.
func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// each visits every value of a type that the fleet file holds, with its path
// and the words for the thing that holds it.
func each[T any](c *Context, visit func(v T, path, subject string)) {
	w := walker{want: reflect.TypeFor[T](), visit: func(v reflect.Value, path, subject string) {
		visit(v.Interface().(T), path, subject)
	}}
	w.walk(reflect.ValueOf(&c.File).Elem(), "", "the plan")
}

type walker struct {
	want  reflect.Type
	visit func(v reflect.Value, path, subject string)
}

func (w *walker) walk(v reflect.Value, path, subject string) {
	if v.Type() == w.want {
		w.visit(v, path, subject)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			w.walk(v.Elem(), path, subject)
		}
	case reflect.Slice:
		for i := range v.Len() {
			w.walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i), itemSubject(path, subject, v.Index(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if !field.IsExported() || name == "" {
				continue
			}
			below := name
			if path != "" {
				below = path + "." + name
			}
			w.walk(v.Field(i), below, sectionSubject(below, subject))
		}
	}
}

// itemSubject names an item of a list: what is on top of the file has a name;
// a step has one within its plan; the rest is spoken of by what holds it.
func itemSubject(list, above string, v reflect.Value) string {
	if v.Kind() != reflect.Struct {
		return above
	}
	switch name := v.FieldByName("Name"); {
	case nouns[list] != "" && name.IsValid():
		return fmt.Sprintf("%s %q", nouns[list], name.String())
	case v.Type() == reflect.TypeFor[plan.Step]():
		return fmt.Sprintf("step %q of %s", name.String(), above)
	case v.Type() == reflect.TypeFor[plan.Suppression]():
		return fmt.Sprintf("suppression of %q", v.FieldByName("Rule").String())
	case v.Type() == reflect.TypeFor[plan.TLS]():
		return fmt.Sprintf("TLS for %q", v.FieldByName("For").String())
	}
	return above
}

// sectionSubject names the parts of the file that are no list.
func sectionSubject(path, above string) string {
	switch path {
	case "organisation":
		return "the organisation"
	case "security":
		return "security"
	case "security.patching":
		return "patching"
	case "security.disclosure":
		return "disclosure"
	case "security.hashing":
		return "hashing"
	case "security.encryption":
		return "data at rest"
	}
	return above
}
