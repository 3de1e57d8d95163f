// Package plantest knows how plans are made for tests and measurements: valid
// ones of any content, and large ones of a given size.
package plantest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// lists are the lists of named things, by what a ref tag calls them.
var lists = map[string]string{
	"document": "Documents", "person": "People", "site": "Sites", "supplier": "Suppliers", "node": "Nodes", "function": "Functions",
	"data": "Data", "backup": "Backups", "client": "Clients", "notice": "Notices", "scenario": "Scenarios", "recovery": "Recovery",
	"runbook": "Runbooks", "duty": "Duties", "claim": "Claims", "commitment": "Commitments", "watch": "Watches",
}

// Random makes a file that a reader takes, of anything else: intn gives a
// number from 0 up to, not including, its argument.
func Random(intn func(int) int) *plan.File {
	r := &random{intn: intn, names: map[string][]string{}}
	f := reflect.ValueOf(&r.file).Elem()
	for _, kind := range slices.Sorted(maps.Keys(lists)) { // names first, so that anything can name anything
		for i := range 1 + intn(4) {
			r.names[kind] = append(r.names[kind], fmt.Sprintf("%s %c", kind, 'a'+i))
		}
		v := f.FieldByName(lists[kind])
		v.Set(reflect.MakeSlice(v.Type(), len(r.names[kind]), len(r.names[kind])))
	}
	for i := range f.NumField() {
		r.fill(f.Field(i), f.Type().Field(i), 0)
	}
	for kind, list := range lists {
		for i, name := range r.names[kind] {
			f.FieldByName(list).Index(i).FieldByName("Name").SetString(name)
		}
	}
	for i := range r.file.People { // one account is one person's
		if x := &r.file.People[i]; x.Account != "" {
			x.Account = fmt.Sprintf("person-%d@example.org", i)
		}
	}
	r.file.Version = 1
	r.commitments()
	for i := range r.file.Duties {
		r.file.Duties[i].Of = r.some("function", "node")
	}
	for i := range r.file.Recovery {
		steps := r.file.Recovery[i].Steps
		for j := range steps {
			steps[j].Name = fmt.Sprintf("step %c", 'a'+j)
			if steps[j].After = nil; j > 0 && intn(3) == 0 {
				steps[j].After = []string{steps[intn(j)].Name}
			}
		}
	}
	return &r.file
}

type random struct {
	intn  func(int) int
	names map[string][]string
	file  plan.File
}

var (
	spans = []string{"90s", "15 min", "1h", "4h", "1h30m", "1 day", "30 days", "2 business days", "quarterly", "2 years", "regularly", "promptly"}
	words = []string{"alpha", "beta", "compose+traefik", "200 EUR/day", "what somebody wrote: \"this\""}
)

// some picks names of kinds; none where there is nothing to name.
func (r *random) some(kinds ...string) []string {
	var all, out []string
	for _, k := range kinds {
		all = append(all, r.names[k]...)
	}
	for _, n := range all {
		if r.intn(3) == 0 && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (r *random) one(list []string) string { return list[r.intn(len(list))] }

// fill writes something that may stand in a field.
func (r *random) fill(v reflect.Value, f reflect.StructField, depth int) {
	tag := f.Tag.Get("jsonschema")
	if !strings.Contains(tag, "required") && depth > 0 && r.intn(3) == 0 {
		return
	}
	switch x := v.Addr().Interface().(type) {
	case *plan.Span:
		_ = x.UnmarshalText([]byte(r.one(spans)))
		return
	case *plan.Size:
		_ = x.UnmarshalText([]byte(fmt.Sprintf("%d GB", 1+r.intn(900))))
		return
	case *plan.Date:
		x.Time = time.Date(2025+r.intn(3), time.Month(1+r.intn(12)), 1+r.intn(28), 0, 0, 0, 0, time.UTC)
		return
	case *plan.Source:
		*x = plan.Source(fmt.Sprintf("%s %d.%d", r.one(r.names["document"]), r.intn(9), r.intn(9)))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.fill(v.Elem(), f, 0)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				r.fill(v.Field(i), v.Type().Field(i), depth+1)
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			n := 1 + r.intn(3)
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			r.fill(v.Index(i), f, 0)
			if name := v.Index(i); name.Kind() == reflect.Struct && name.FieldByName("Name").IsValid() {
				name.FieldByName("Name").SetString(fmt.Sprintf("thing %d", i))
			}
		}
	case reflect.Bool:
		v.SetBool(r.intn(2) == 0)
	case reflect.Int:
		v.SetInt(int64(1 + r.intn(14)))
	case reflect.String:
		v.SetString(r.word(f, tag))
	}
}

func (r *random) word(f reflect.StructField, tag string) string {
	var enum []string
	for _, option := range strings.Split(tag, ",") {
		if value, ok := strings.CutPrefix(option, "enum="); ok {
			enum = append(enum, value)
		}
	}
	switch of := f.Tag.Get("ref"); {
	case len(enum) > 0:
		return r.one(enum)
	case f.Tag.Get("is") != "":
		return r.one([]string{"DE", "FI", "GB", "IE", "US"})
	case of != "":
		return r.one(r.names[r.one(strings.Split(of, ","))])
	case f.Name == "File":
		return ""
	}
	return r.one(words)
}

// commitments gives each one bound, of the unit of its subject.
func (r *random) commitments() {
	subjects := plan.Subjects()
	for i := range r.file.Commitments {
		c := &r.file.Commitments[i]
		s := subjects[r.intn(len(subjects))]
		c.Subject, c.Of, c.AtMost, c.AtLeast, c.Equals, c.OneOf, c.NoneOf = s.Name, nil, "", "", "", nil, nil
		if _, ok := lists[s.Of]; ok {
			c.Of = r.some(s.Of)
		}
		switch s.Unit {
		case plan.Time:
			if b := plan.Bound(r.one(spans)); r.intn(2) == 0 {
				c.AtMost = b
			} else {
				c.AtLeast = b
			}
		case plan.Count:
			c.Equals = plan.Bound(fmt.Sprint(r.intn(9)))
		case plan.Version:
			c.AtLeast = "1.2"
		case plan.Countries:
			c.OneOf = []string{"EEA", "GB"}
		case plan.Suppliers:
			c.NoneOf = []string{r.one(r.names["supplier"])}
		case plan.YesNo:
			c.Equals = "yes"
		default:
			c.Equals = plan.Bound(r.one(words))
		}
	}
}
