package plan

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/sovereignty"
	"go.yaml.in/yaml/v4"
)

// reader turns a tree into a File and collects everything that is wrong.
type reader struct {
	root  *yaml.Node
	text  *source
	found []mistakeAt
	refs  []reference
	cited []*yaml.Node // sources
}

// mistakeAt is a mistake whose path is not yet known.
type mistakeAt struct {
	node, also         *yaml.Node
	code, detail, mend string
}

// reference is a value that names a thing.
type reference struct {
	node *yaml.Node
	in   *field
}

func (r *reader) wrong(n *yaml.Node, code, detail, mend string) *mistakeAt {
	r.found = append(r.found, mistakeAt{node: n, code: code, detail: detail, mend: mend})
	return &r.found[len(r.found)-1]
}

// full reports that there is no point in looking for more: this is some other
// file, and each mistake costs time.
func (r *reader) full() bool { return len(r.found) >= 10*maxMistakes }

// nearest is the name that may have been meant. It is not looked for among
// too many, nor for mistakes that are not shown: it costs the length of both.
func (r *reader) nearest(written string, names []string) string {
	if len(r.found) >= maxMistakes || len(names) > 10_000 {
		return ""
	}
	return config.Nearest(written, names)
}

// value reads one node into v. in is the field that holds it, for what its
// values may be.
func (r *reader) value(n *yaml.Node, v reflect.Value, s *shape, in *field, depth int) {
	switch {
	case r.full():
		return
	case depth > maxDepth:
		r.wrong(n, "plan-depth", "The file is nested too deeply.", "A plan has no more than a few levels.")
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.wrong(n, "plan-alias", "Anchors and aliases are not used in plans.", "Write the value out.")
		return
	case n.Style&yaml.TaggedStyle != 0:
		r.wrong(n, "plan-tag", "Tags are not used in plans.", "Remove the tag.")
		return
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		r.wrong(n, "plan-value", "The field has no value.", "Write "+s.expects()+" after the colon, or remove the line.")
		return
	}
	switch k := v.Kind(); {
	case s.text:
		if r.scalar(n, s) {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
				detail, mend, _ := strings.Cut(err.Error(), "; ")
				r.wrong(n, "plan-value", sentence(detail), sentence(mend))
			}
		}
	case k == reflect.Pointer:
		v.Set(reflect.New(s.typ.Elem()))
		r.value(n, v.Elem(), s.element, in, depth)
	case k == reflect.Struct:
		r.fields(n, v, s, depth)
	case k == reflect.Slice:
		r.list(n, v, s, in, depth)
	case k == reflect.Map:
		r.mapping(n, v, s, depth)
	default:
		r.single(n, v, s, in)
	}
}

func (r *reader) scalar(n *yaml.Node, s *shape) bool {
	if n.Kind == yaml.ScalarNode {
		return true
	}
	what := "A list stands"
	if n.Kind == yaml.MappingNode {
		what = "Fields stand"
	}
	r.wrong(n, "plan-value", what+" where "+s.expects()+" is expected.", "")
	return false
}

// fields reads a group of fields.
func (r *reader) fields(n *yaml.Node, v reflect.Value, s *shape, depth int) {
	if n.Kind != yaml.MappingNode {
		what := "A list stands"
		if n.Kind == yaml.ScalarNode {
			what = fmt.Sprintf("%q stands", short(n.Value))
		}
		r.wrong(n, "plan-value", what+" where "+s.expects()+" is expected.", "Here may stand: "+strings.Join(s.names(), ", ")+".")
		return
	}
	seen := make([]*yaml.Node, len(s.fields))
	for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 || key.Tag == "!!merge" {
			r.wrong(key, "plan-key", "This is not a plain field name.", "Write one of: "+strings.Join(s.names(), ", ")+".")
			continue
		}
		at, ok := s.byName[key.Value]
		if !ok {
			mend := "Here may stand: " + strings.Join(s.names(), ", ") + "."
			if near := r.nearest(key.Value, s.names()); near != "" {
				mend = fmt.Sprintf("Did you mean %q?", near)
			}
			r.wrong(key, "plan-field", fmt.Sprintf("There is no field %q here.", short(key.Value)), mend)
			continue
		}
		if seen[at] != nil {
			r.wrong(key, "plan-twice", fmt.Sprintf("The field %q is given twice.", key.Value), "Keep one of them.").also = seen[at]
			continue
		}
		seen[at] = key
		f := &s.fields[at]
		r.value(value, v.FieldByIndex(f.index), f.shape, f, depth+1)
	}
	for i := range s.fields {
		if f := &s.fields[i]; f.required && seen[i] == nil {
			r.wrong(n, "plan-required", fmt.Sprintf("The field %q is missing.", f.name), "Write "+f.name+": and "+f.shape.expects()+f.choices()+".")
		}
	}
}

// list reads a list; the names of its things are unique.
func (r *reader) list(n *yaml.Node, v reflect.Value, s *shape, in *field, depth int) {
	if n.Kind != yaml.SequenceNode {
		if n.Kind == yaml.ScalarNode {
			r.wrong(n, "plan-value", fmt.Sprintf("%q stands where a list is expected.", short(n.Value)), fmt.Sprintf("Write [%s].", short(n.Value)))
		} else {
			r.wrong(n, "plan-value", "Fields stand where a list is expected.", "Begin each item with \"- \".")
		}
		return
	}
	v.Set(reflect.MakeSlice(s.typ, len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		r.value(item, v.Index(i), s.element, in, depth+1)
	}
	if !s.hasNames {
		return
	}
	names := make(map[string]*yaml.Node, len(n.Content))
	for _, item := range n.Content {
		name := child(item, "name")
		if name == nil || name.Kind != yaml.ScalarNode {
			continue
		}
		if first := names[name.Value]; first != nil && !r.full() {
			r.wrong(name, "plan-name-twice", fmt.Sprintf("The name %q is given twice in this list.", short(name.Value)), "Give each its own name.").also = first
		}
		names[name.Value] = name
	}
}

func (r *reader) mapping(n *yaml.Node, v reflect.Value, s *shape, depth int) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "plan-value", "Fields are expected here.", "Write \"name: value\", one a line.")
		return
	}
	v.Set(reflect.MakeMap(s.typ))
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content) && !r.full(); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 || key.Tag == "!!merge" {
			r.wrong(key, "plan-key", "This is not a plain name.", "Write a word.")
			continue
		}
		if seen[key.Value] != nil {
			r.wrong(key, "plan-twice", fmt.Sprintf("%q is given twice.", short(key.Value)), "Keep one of them.").also = seen[key.Value]
			continue
		}
		seen[key.Value] = key
		value := reflect.New(s.typ.Elem()).Elem()
		r.value(n.Content[i+1], value, s.element, nil, depth+1)
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(s.typ.Key()), value)
	}
}

// single reads a word, a number or a truth value.
func (r *reader) single(n *yaml.Node, v reflect.Value, s *shape, in *field) {
	if !r.scalar(n, s) {
		return
	}
	bad := func(mend string) {
		r.wrong(n, "plan-value", fmt.Sprintf("%q stands where %s is expected.", short(n.Value), s.expects()), mend)
	}
	switch v.Kind() {
	case reflect.Bool:
		if n.Tag != "!!bool" {
			bad("Write true or false.")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int, reflect.Int64:
		i, err := strconv.Atoi(n.Value)
		if n.Tag != "!!int" || err != nil || i < 0 || i > 1<<31 {
			bad("Write it in digits, such as 12.")
			return
		}
		v.SetInt(int64(i))
		if in != nil && len(in.enum) > 0 && !slices.Contains(in.enum, strconv.Itoa(i)) {
			bad("Write" + in.choices() + ".")
		}
	case reflect.Float64:
		x, err := strconv.ParseFloat(n.Value, 64)
		if n.Tag != "!!int" && n.Tag != "!!float" || err != nil || x-x != 0 {
			bad("Write it in digits, such as 0.5.")
			return
		}
		v.SetFloat(x)
	case reflect.String:
		if n.Tag == "!!binary" || n.Tag == "!!bool" && s.typ != reflect.TypeFor[Bound]() {
			bad(fmt.Sprintf("Write %q, in quotes.", short(n.Value)))
			return
		}
		v.SetString(n.Value)
		r.word(n, s, in)
	}
}

// maxWord bounds a text; a plan quotes clauses, not documents.
const maxWord = 10_000

// word looks at what a text may be.
func (r *reader) word(n *yaml.Node, s *shape, in *field) {
	text := n.Value
	switch {
	case len(text) > maxWord:
		r.wrong(n, "plan-value", fmt.Sprintf("The text is longer than %d bytes.", maxWord), "Put it into a document and name its clause.")
	case strings.ContainsFunc(text, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }):
		r.wrong(n, "plan-value", "There is a control character in the text.", "Remove it.")
	case in == nil:
	case in.name == "name" && (strings.TrimSpace(text) != text || strings.ContainsAny(text, "\n\t") || utf8.RuneCountInString(text) > 100):
		r.wrong(n, "plan-name", "This is no name.", "Write at most 100 characters on one line.")
	case in.required && strings.TrimSpace(text) == "":
		r.wrong(n, "plan-required", fmt.Sprintf("The field %q is empty.", in.name), "Write "+in.shape.expects()+in.choices()+".")
	case len(in.enum) > 0 && !slices.Contains(in.enum, text):
		mend := "Write" + in.choices() + "."
		if near := r.nearest(text, in.enum); near != "" {
			mend = fmt.Sprintf("Did you mean %q? It is%s.", near, in.choices())
		}
		r.wrong(n, "plan-word", fmt.Sprintf("%q is none of the words that may stand here.", short(text)), mend)
	case in.is == "country" || in.is == "countries" && text != "EU" && text != "EEA":
		if _, err := sovereignty.ParseJurisdiction(text); err != nil {
			detail, mend := split(err)
			r.wrong(n, "plan-country", detail, mend)
		}
	case in.is == "account":
		if !isAccount(text) {
			r.wrong(n, "plan-account", "This is no account.", "Write the e-mail address with which the person signs in, or the id that `foundry person list` shows.")
		}
	case len(in.ref) > 0:
		r.refs = append(r.refs, reference{n, in})
	case s.typ == reflect.TypeFor[Source]():
		r.cited = append(r.cited, n)
	}
}

// expects says in words what may stand at a place.
func (s *shape) expects() string {
	switch {
	case s.typ == reflect.TypeFor[Span]():
		return "a length of time"
	case s.typ == reflect.TypeFor[Size]():
		return "a size"
	case s.typ == reflect.TypeFor[Date]():
		return "a date"
	}
	switch s.typ.Kind() {
	case reflect.Pointer:
		return s.element.expects()
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a group of fields"
	default:
		return "a single value"
	}
}

// choices lists the words of a field, to follow a sentence.
func (f *field) choices() string {
	switch len(f.enum) {
	case 0:
		return ""
	case 1:
		return " " + f.enum[0]
	}
	return " one of " + strings.Join(f.enum, ", ")
}

// short bounds what a message quotes.
func short(s string) string {
	if utf8.RuneCountInString(s) > 60 {
		return string([]rune(s)[:60]) + "…"
	}
	return s
}

// sentence makes a sentence of a fragment.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + strings.TrimSuffix(s[n:], ".") + "."
}
