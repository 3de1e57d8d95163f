package plantest

import (
	"reflect"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/missionopsai/foundry/internal/plan"
)

// Write is the text of a file.
func Write(f *plan.File) ([]byte, error) { return yaml.Marshal(f) }

// ordered are the fields whose lists say something by their order.
func ordered(f reflect.StructField) bool { return f.Tag.Get("ordered") != "" }

// Shuffle puts every list of a file into another order, except those whose
// order says something.
func Shuffle(f *plan.File, intn func(int) int) { shuffle(reflect.ValueOf(f).Elem(), intn) }

func shuffle(v reflect.Value, intn func(int) int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			shuffle(v.Elem(), intn)
		}
	case reflect.Slice:
		for i := range v.Len() {
			shuffle(v.Index(i), intn)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			shuffle(v.Field(i), intn)
			if list := v.Field(i); list.Kind() == reflect.Slice && list.Len() > 1 && !ordered(field) {
				copied := reflect.MakeSlice(list.Type(), list.Len(), list.Len())
				reflect.Copy(copied, list)
				swap := reflect.Swapper(copied.Interface())
				for i := list.Len() - 1; i > 0; i-- {
					swap(i, intn(i+1))
				}
				list.Set(copied)
			}
		}
	}
}

// Leaves lists every value of a file that can be changed, to be changed one at
// a time.
func Leaves(f *plan.File) []reflect.Value {
	var out []reflect.Value
	leaves(reflect.ValueOf(f).Elem(), &out)
	return out
}

func leaves(v reflect.Value, out *[]reflect.Value) {
	atoms := []reflect.Type{reflect.TypeFor[plan.Span](), reflect.TypeFor[plan.Size](), reflect.TypeFor[plan.Date]()}
	switch {
	case slices.Contains(atoms, v.Type()):
		*out = append(*out, v)
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			leaves(v.Elem(), out)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				leaves(v.Field(i), out)
			}
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			leaves(v.Index(i), out)
		}
	default:
		*out = append(*out, v)
	}
}
