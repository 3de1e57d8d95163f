package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Change is one difference between two plans.
type Change struct {
	What     string `json:"what"`            // kind of the thing: function, node, organisation, security, version
	Name     string `json:"name,omitempty"`  // of the thing
	How      string `json:"how"`             // added, removed, renamed, changed
	Field    string `json:"field,omitempty"` // path below the thing: fallbacks[1].state
	Path     string `json:"path"`            // where it stands: in the new plan, or in the old one for what was removed
	Old      string `json:"old,omitempty"`
	New      string `json:"new,omitempty"`
	Clock    string `json:"clock,omitempty"` // tighter or looser, for what bounds a time
	Review   bool   `json:"review"`          // nodes, suppliers or people: somebody has to look again
	Sentence string `json:"sentence"`
}

// Clocks of a change.
const (
	Tighter = "tighter" // less time is left than before, or a promise is new
	Looser  = "looser"
)

// topKinds are the kinds of things of the lists of a file, by list.
var topKinds = func() map[string]string {
	out := map[string]string{"suppress": "suppression"}
	for kind, list := range kinds {
		out[list] = kind
	}
	return out
}()

// reviewed are the lists whose change opens a review.
var reviewed = []string{"nodes", "suppliers", "people"}

// Diff says what changed between two plans, in the order in which the file
// lists things, then by name. The order of lists, comments and spelling are no
// change.
func Diff(old, new *Plan) []Change {
	d := &differ{}
	a, b := reflect.ValueOf(&old.File).Elem(), reflect.ValueOf(&new.File).Elem()
	for i := range shapes().fields {
		f := &shapes().fields[i]
		before, after := a.FieldByIndex(f.index), b.FieldByIndex(f.index)
		d.top = f.name
		if kind := topKinds[f.name]; kind != "" {
			d.things(kind, f, before, after)
			continue
		}
		d.thing, d.base, d.title = Change{What: f.name}, f.name, strings.ToUpper(f.name[:1])+f.name[1:]
		if f.shape.fields != nil {
			d.group(f.shape, before, after, "", "")
			continue
		}
		d.base, d.title = "", "The format"
		d.field(f, before, after, "", "")
	}
	d.books(old, new)
	return d.out
}

// books compares the texts of runbooks that both plans have: what people do at
// night has changed, though no clock has.
func (d *differ) books(old, new *Plan) {
	for i, b := range new.Runbooks {
		before, after := old.Books[b.Name], new.Books[b.Name]
		if old.Runbook(b.Name) == nil || bytes.Equal(before, after) {
			continue
		}
		d.start("runbook", entry{key: b.Name, index: i}, "runbooks")
		says := "its text is another"
		switch {
		case before == nil:
			says = "its text is there now"
		case after == nil:
			says = "its text is not there any more"
		}
		d.add(Change{How: "changed", Field: "text", Path: d.base + ".file", Review: true, Sentence: d.title + ": " + says + "."})
	}
}

// differ walks two plans side by side.
type differ struct {
	out   []Change
	top   string // list that is compared
	thing Change // the thing that is compared
	title string // of the thing, at the beginning of a sentence
	base  string // its path
}

func (d *differ) add(c Change) {
	c.What, c.Name = d.thing.What, d.thing.Name
	c.Review = c.Review || slices.Contains(reviewed, d.top)
	d.out = append(d.out, c)
}

// things compares a list of things that have names.
func (d *differ) things(kind string, f *field, before, after reflect.Value) {
	old, now := named(before, f), named(after, f)
	gone, come := slices.Clone(old), []entry{}
	for _, n := range now {
		i := slices.IndexFunc(gone, func(o entry) bool { return o.key == n.key })
		if i < 0 {
			come = append(come, n)
			continue
		}
		d.start(kind, n, f.name)
		d.group(f.shape.element, gone[i].value, n.value, "", "")
		gone = slices.Delete(gone, i, i+1)
	}
	for _, n := range come {
		d.start(kind, n, f.name)
		twin := slices.IndexFunc(gone, func(o entry) bool { return sameButName(o.value, n.value, f.shape.element) })
		if twin >= 0 {
			d.add(Change{How: "renamed", Path: d.base, Old: gone[twin].key, New: n.key, Sentence: fmt.Sprintf("%s was named %q before.", d.title, gone[twin].key)})
			gone = slices.Delete(gone, twin, twin+1)
			continue
		}
		d.add(Change{How: "added", Path: d.base, New: n.key, Sentence: d.title + " is new."})
	}
	for _, o := range gone {
		d.start(kind, o, f.name)
		d.add(Change{How: "removed", Path: d.base, Old: o.key, Sentence: d.title + " is gone."})
	}
}

func (d *differ) start(kind string, e entry, list string) {
	d.thing, d.base = Change{What: kind, Name: e.key}, fmt.Sprintf("%s[%d]", list, e.index)
	word := kindWord(kind)
	d.title = fmt.Sprintf("%s %q", strings.ToUpper(word[:1])+word[1:], e.key)
}

// entry is one thing of a list and what tells it from the others.
type entry struct {
	key   string
	index int
	value reflect.Value
}

// identities are the fields that tell things without names apart, the first
// that is written first.
var identities = []string{"name", "rule", "node", "supplier", "kind", "for", "of", "site", "country"}

// named gives the things of a list their keys, in the order of the keys. Equal
// ones are counted: as they are written where the order says something, and
// otherwise by what they say, so that the order of the file does not matter.
func named(list reflect.Value, f *field) []entry {
	s := f.shape
	out := make([]entry, list.Len())
	for i := range out {
		v := list.Index(i)
		var key string
		for _, id := range identities {
			if at, ok := s.element.byName[id]; ok && key == "" {
				key = raw(v.FieldByIndex(s.element.fields[at].index))
			}
		}
		if at, ok := s.element.byName["at"]; ok { // a suppression is of a rule at a thing
			key = strings.TrimSpace(key + " " + raw(v.FieldByIndex(s.element.fields[at].index)))
		}
		out[i] = entry{key, i, v}
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		c := strings.Compare(a.key, b.key)
		if c == 0 && !f.ordered {
			c = bytes.Compare(canonical(nil, a.value, s.element, nil), canonical(nil, b.value, s.element, nil))
		}
		return c
	})
	for i, n := 1, 1; i < len(out); i++ {
		n++
		if first := out[i-n+1]; first.key != out[i].key {
			n = 1
			continue
		}
		out[i].key = fmt.Sprintf("%s (%d)", out[i].key, n)
	}
	return out
}

func sameButName(a, b reflect.Value, s *shape) bool {
	if _, ok := s.byName["name"]; !ok {
		return false
	}
	x, y := reflect.New(a.Type()).Elem(), reflect.New(b.Type()).Elem()
	x.Set(a)
	y.Set(b)
	at := s.fields[s.byName["name"]].index
	x.FieldByIndex(at).SetString("")
	y.FieldByIndex(at).SetString("")
	return !silent(x) && bytes.Equal(canonical(nil, x, s, nil), canonical(nil, y, s, nil))
}

// group compares the fields of a thing. below is the path from the thing, in
// names the words for it: `fallback "n2", `.
func (d *differ) group(s *shape, before, after reflect.Value, below, in string) {
	for i := range s.fields {
		f := &s.fields[i]
		if f.name == "name" && d.base != "organisation" { // by which things were found
			continue
		}
		d.field(f, before.FieldByIndex(f.index), after.FieldByIndex(f.index), below, in)
	}
}

func (d *differ) field(f *field, before, after reflect.Value, below, in string) {
	if silent(before) || silent(after) {
		if silent(before) == silent(after) {
			return
		}
	} else if bytes.Equal(canonical(nil, before, f.shape, f), canonical(nil, after, f.shape, f)) {
		return
	}
	s := f.shape
	path := strings.TrimPrefix(below+"."+f.name, ".")
	if s.typ.Kind() == reflect.Pointer && s.element.fields != nil {
		before, after, s = filled(before), filled(after), s.element
	}
	switch {
	case s.fields != nil:
		d.group(s, before, after, path, in+label(f.name)+", ")
	case s.element != nil && s.element.fields != nil && s.typ.Kind() == reflect.Slice:
		d.nested(f, before, after, path, in)
	case s.typ.Kind() == reflect.Slice:
		d.words(f, before, after, path, in)
	default:
		d.value(f, before, after, path, in)
	}
}

// filled is what a pointer points to, or nothing written.
func filled(v reflect.Value) reflect.Value {
	if v.IsNil() {
		return reflect.New(v.Type().Elem()).Elem()
	}
	return v.Elem()
}

// nested compares a list of things inside of a thing.
func (d *differ) nested(f *field, before, after reflect.Value, path, in string) {
	old, now := named(before, f), named(after, f)
	word := singular(f.name)
	say := func(e entry) string { return strings.TrimSpace(word + " " + quoteWord(e.key)) }
	for _, n := range now {
		at := fmt.Sprintf("%s[%d]", path, n.index)
		i := slices.IndexFunc(old, func(o entry) bool { return o.key == n.key })
		if i < 0 {
			d.change(at, in, "", n.key, "", "has a new "+say(n), "added")
			continue
		}
		d.group(f.shape.element, old[i].value, n.value, at, in+say(n)+", ")
		old = slices.Delete(old, i, i+1)
	}
	for _, o := range old {
		d.change(path, in, o.key, "", "", "no longer has the "+say(o), "removed")
	}
	if f.ordered && order(before, f) != order(after, f) && before.Len() == after.Len() {
		d.change(path, in, "", "", "", "has its "+label(f.name)+" in another order", "changed")
	}
}

// order is the keys of a list as they are written.
func order(list reflect.Value, f *field) string {
	all := named(list, f)
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.index, b.index) })
	var keys []string
	for _, e := range all {
		keys = append(keys, e.key)
	}
	return strings.Join(keys, "\x00")
}

// words compares a list of words.
func (d *differ) words(f *field, before, after reflect.Value, path, in string) {
	old, now := wordsOf(before), wordsOf(after)
	var gains, loses []string
	for _, w := range now {
		if !slices.Contains(old, w) {
			gains = append(gains, w)
		}
	}
	for _, w := range old {
		if !slices.Contains(now, w) {
			loses = append(loses, w)
		}
	}
	slices.Sort(gains)
	slices.Sort(loses)
	says := ""
	switch {
	case len(gains) > 0 && len(loses) > 0:
		says = fmt.Sprintf("now with %s and without %s", quoteWords(gains), quoteWords(loses))
	case len(gains) > 0:
		says = "now with " + quoteWords(gains)
	case len(loses) > 0:
		says = "now without " + quoteWords(loses)
	default:
		says = "are in another order"
	}
	d.change(path, in, strings.Join(loses, ", "), strings.Join(gains, ", "), "", label(f.name)+" "+says, "changed")
}

// value compares one value.
func (d *differ) value(f *field, before, after reflect.Value, path, in string) {
	old, now := plain(before), plain(after)
	subject := label(f.name)
	says := fmt.Sprintf("%s is %s, it was %s", subject, now, old)
	switch {
	case before.Kind() == reflect.Bool:
	case silent(before):
		says = fmt.Sprintf("%s is %s, nothing was said of it", subject, now)
	case silent(after):
		says = fmt.Sprintf("%s is no longer said, it was %s", subject, old)
	}
	if f.is == "account" { // sentences go where personal data do not
		old, now, says = "", "", "is another account's now"
		switch {
		case silent(before):
			says = "is tied to an account now"
		case silent(after):
			says = "is tied to no account any more"
		}
	}
	clock := direction(f.name, before, after)
	if clock != "" {
		says += ": " + clock
	}
	d.change(path, in, old, now, clock, says, "changed")
}

// change adds a difference below the thing that is compared.
func (d *differ) change(path, in, old, now, clock, says, how string) {
	at := strings.Trim(d.base+"."+path, ".")
	d.add(Change{How: how, Field: path, Path: at, Old: old, New: now, Clock: clock, Sentence: d.title + ": " + in + says + "."})
}

// deadlines are the fields that bound a time from above: shorter is tighter.
var deadlines = []string{"mtd", "rto", "rpo", "within", "every", "detect_within", "confirm_within", "restore_within", "update_every", "notify_within", "review_every",
	"test_every", "close_within", "continuous", "provisions_within", "acknowledge_within", "root_cause_within", "critical", "high", "medium", "low", "delete_after", "check_in", "away_after", "at_most"}

// floors bound it from below: longer is tighter.
var floors = []string{"keep_at_least", "at_least"}

// direction says what a change does to a clock. A word instead of a number, or
// nothing at all, is the loosest.
func direction(field string, before, after reflect.Value) string {
	old, okOld := spanOf(before)
	now, okNow := spanOf(after)
	sign := 0
	switch {
	case slices.Contains(deadlines, field):
		sign = 1
	case slices.Contains(floors, field):
		sign = -1
	}
	if sign == 0 || !okOld || !okNow {
		return ""
	}
	const none = time.Duration(1<<63 - 1)
	length := func(s Span) time.Duration {
		if s.Known() {
			return s.Longest()
		}
		if sign < 0 {
			return -1
		}
		return none
	}
	switch c := cmp.Compare(length(now), length(old)) * sign; {
	case c < 0:
		return Tighter
	case c > 0:
		return Looser
	}
	return ""
}

// spanOf reads a value as a span; what is not written is an empty one.
func spanOf(v reflect.Value) (Span, bool) {
	switch x := v.Interface().(type) {
	case Span:
		return x, true
	case Bound:
		if x == "" {
			return Span{}, true
		}
		s, err := ParseSpan(string(x))
		return s, err == nil
	}
	return Span{}, false
}
