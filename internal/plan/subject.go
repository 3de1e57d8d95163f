package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Unit is how the values of a subject are compared.
type Unit string

// Units of what is promised.
const (
	Time      Unit = "time"      // a span; vague ones compare with nothing
	Count     Unit = "count"     // a whole number
	Version   Unit = "version"   // numbers with dots between them
	Countries Unit = "countries" // ISO 3166-1 codes and groups of them: EEA, EU
	Suppliers Unit = "suppliers" // names of suppliers
	Words     Unit = "words"     // a word; aes-256 is also said by aes-256-gcm
	YesNo     Unit = "yes-no"
)

// Subject is something that a commitment may promise, and that the plan may
// say of itself.
type Subject struct {
	Name string `json:"name"`
	Unit Unit   `json:"unit"`
	Of   string `json:"of,omitempty"` // kind of thing it is promised of; "" for the whole organisation
	Says string `json:"says"`         // what is promised, in a few words

	values func(*Plan, *values)
}

// Value is what the plan says of a subject, for one thing.
type Value struct {
	Of   string // name of the thing; "" for the whole organisation
	Text string // as written
	Path string

	also []string // other names that it may be asked for by
}

// values collects what a plan says.
type values []Value

func (vs *values) add(of, text, path string, also ...string) {
	if text != "" {
		*vs = append(*vs, Value{Of: of, Text: text, Path: path, also: also})
	}
}

// Subjects lists what commitments may promise, by name.
func Subjects() []Subject { return slices.Clone(subjects) }

// SubjectNamed finds a subject.
func SubjectNamed(name string) (Subject, bool) {
	i, ok := slices.BinarySearchFunc(subjects, name, func(s Subject, name string) int { return strings.Compare(s.Name, name) })
	if !ok {
		return Subject{}, false
	}
	return subjects[i], true
}

// Says lists what the plan itself says of a subject: of one thing, or of all
// when of is empty. What it does not say is left out.
func (p *Plan) Says(subject, of string) []Value {
	s, ok := SubjectNamed(subject)
	if !ok {
		return nil
	}
	var all values
	s.values(p, &all)
	if of == "" {
		return all
	}
	return slices.DeleteFunc(all, func(v Value) bool { return !v.Is(of) })
}

// Is reports whether a value is of the thing with this name, or of one that
// stands for it: a function is also asked for by its node and its client.
func (v Value) Is(of string) bool { return v.Of == of || slices.Contains(v.also, of) }

// Compare orders two bounds; ok is false for units without an order, and for
// what is no bound, such as a vague span.
func (u Unit) Compare(a, b Bound) (order int, ok bool) {
	switch u {
	case Time:
		x, errX := ParseSpan(string(a))
		y, errY := ParseSpan(string(b))
		if errX != nil || errY != nil || !x.Known() || !y.Known() {
			return 0, false
		}
		return cmp.Compare(x.Longest(), y.Longest()), true
	case Count:
		x, errX := strconv.Atoi(string(a))
		y, errY := strconv.Atoi(string(b))
		return cmp.Compare(x, y), errX == nil && errY == nil
	case Version:
		x, okX := version(string(a))
		y, okY := version(string(b))
		return slices.Compare(x, y), okX && okY
	}
	return 0, false
}

// Same reports whether two bounds say the same.
func (u Unit) Same(a, b Bound) bool {
	if order, ok := u.Compare(a, b); ok {
		return order == 0
	}
	switch u {
	case Countries:
		return set(string(a)).Equal(set(string(b)))
	case Words:
		return says(string(a), string(b)) || says(string(b), string(a))
	case YesNo:
		x, okX := yes(string(a))
		y, okY := yes(string(b))
		return okX && okY && x == y
	}
	return strings.EqualFold(string(a), string(b))
}

// Valid says what is wrong with a bound, or nil.
func (u Unit) Valid(b Bound) error {
	text := string(b)
	switch u {
	case Time:
		_, err := ParseSpan(text)
		return err
	case Count:
		if n, err := strconv.Atoi(text); err != nil || n < 0 {
			return fmt.Errorf("%q is not a whole number; write for example 5", text)
		}
	case Version:
		if _, ok := version(text); !ok {
			return fmt.Errorf("%q is not a version; write for example 1.3", text)
		}
	case Countries:
		_, err := sovereignty.ParseSet(text)
		return err
	case YesNo:
		if _, ok := yes(text); !ok {
			return fmt.Errorf("%q is neither yes nor no", text)
		}
	}
	return nil
}

// Keeps reports whether a value keeps a promise; ok is false when the two
// cannot be compared: one of them is vague, or the unit has no order.
func (s Subject) Keeps(c *Commitment, v Value) (kept, ok bool) {
	said := Bound(v.Text)
	if s.Unit == Time {
		if span, err := ParseSpan(v.Text); err != nil || !span.Known() {
			return false, false
		}
	}
	switch {
	case c.AtMost != "":
		order, ok := s.Unit.Compare(said, c.AtMost)
		return ok && order <= 0, ok
	case c.AtLeast != "":
		order, ok := s.Unit.Compare(said, c.AtLeast)
		return ok && order >= 0, ok
	case c.Equals != "":
		if s.Unit == Time {
			order, ok := s.Unit.Compare(said, c.Equals)
			return ok && order == 0, ok
		}
		return s.Unit.Same(said, c.Equals), true
	case len(c.OneOf) > 0:
		return s.among(said, c.OneOf), true
	case len(c.NoneOf) > 0:
		return !s.among(said, c.NoneOf), true
	}
	return false, false
}

func (s Subject) among(said Bound, words []string) bool {
	if s.Unit == Countries {
		return set(words...).Contains(set(string(said)))
	}
	return slices.ContainsFunc(words, func(w string) bool { return s.Unit.Same(said, Bound(w)) })
}

// Promise says a commitment's bound in words: "at most 4h".
func (c *Commitment) Promise() string {
	switch {
	case c.AtMost != "":
		return "at most " + string(c.AtMost)
	case c.AtLeast != "":
		return "at least " + string(c.AtLeast)
	case c.Equals != "":
		return string(c.Equals)
	case len(c.OneOf) == 1:
		return "only " + c.OneOf[0]
	case len(c.OneOf) > 1:
		return "only one of " + strings.Join(slices.Sorted(slices.Values(c.OneOf)), ", ")
	case len(c.NoneOf) > 0:
		return "none of " + strings.Join(slices.Sorted(slices.Values(c.NoneOf)), ", ")
	}
	return "nothing"
}

// set expands country codes and groups; what is neither is left out.
func set(words ...string) sovereignty.Set {
	var all sovereignty.Set
	for _, w := range words {
		if s, err := sovereignty.ParseSet(w); err == nil {
			all = all.Union(s)
		}
	}
	return all
}

// InCountries reports whether a country is one of those named, as codes or as
// groups such as EEA.
func InCountries(country string, of []string) bool {
	s := set(country)
	return !s.Empty() && set(of...).Contains(s)
}

// says reports whether a word is the other, or begins with it at a hyphen.
func says(word, asked string) bool {
	word, asked = strings.ToLower(word), strings.ToLower(asked)
	return word == asked || strings.HasPrefix(word, asked+"-")
}

func version(text string) (parts []int, ok bool) {
	for _, part := range strings.Split(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, false
		}
		parts = append(parts, n)
	}
	return parts, true
}

func yes(text string) (bool, bool) {
	switch strings.ToLower(text) {
	case "yes", "true":
		return true, true
	case "no", "false":
		return false, true
	}
	return false, false
}

// CountriesOf lists the countries that codes and groups such as EEA name.
func CountriesOf(words ...string) (out []string) {
	for _, j := range set(words...).All() {
		out = append(out, string(j))
	}
	return out
}
