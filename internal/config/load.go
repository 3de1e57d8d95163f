package config

import (
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/missionopsai/foundry/internal/problem"
)

// maxFile bounds a configuration file; aliases are refused, so a small file
// cannot grow in memory.
const maxFile = 1 << 20

// Load reads a YAML file into v, a pointer to a struct, strictly: an unknown
// field, a field given twice, an alias or a second document is an error that
// names line and column. Field names are those of the yaml tags.
func Load(path string, v any) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		return problem.New(problem.TooLarge, "config-size", fmt.Sprintf("%s is larger than %d bytes.", path, maxFile)).WithMend("Is it the right file?")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		reason := err.Error()
		var pe *fs.PathError
		if errors.As(err, &pe) {
			reason = pe.Err.Error()
		}
		return problem.New(problem.Invalid, "config-unreadable", fmt.Sprintf("The configuration file %s cannot be read: %s.", path, reason)).Wrap(err)
	}
	return Parse(path, text, v)
}

// Parse is Load on text; name stands for the file in errors.
func Parse(name string, text []byte, v any) error {
	if !utf8.Valid(text) {
		return problem.New(problem.Invalid, "config-encoding", name+" is not UTF-8.").WithMend("Save it as UTF-8.")
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return located(name, err)
	}
	docs := 0
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.CommentGroupType {
			continue
		}
		if docs++; docs > 1 {
			return at(name, doc.Body, "config-documents", "There is a second document in the file.", "Keep one document: remove the --- line.")
		}
		if err := check(name, doc.Body, reflect.TypeOf(v), 0); err != nil {
			return err
		}
	}
	if docs == 0 {
		return nil
	}
	if err := yaml.UnmarshalWithOptions(text, v, yaml.Strict()); err != nil {
		return located(name, err)
	}
	return nil
}

// maxDepth is far beyond any real file and keeps recursion bounded.
const maxDepth = 64

// check compares the shape of a document with the type it will be read into.
func check(name string, n ast.Node, t reflect.Type, depth int) error {
	if depth > maxDepth {
		return at(name, n, "config-depth", "The file is nested too deeply.", "")
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n := n.(type) {
	case *ast.AliasNode, *ast.AnchorNode, *ast.MergeKeyNode:
		return at(name, n, "config-alias", "Anchors and aliases are not used in configuration files.", "Write the values out.")
	case *ast.TagNode:
		return at(name, n, "config-tag", "Tags are not used in configuration files.", "Remove the tag.")
	case *ast.MappingNode:
		return checkMapping(name, n.Values, n, t, depth)
	case *ast.MappingValueNode:
		return checkMapping(name, []*ast.MappingValueNode{n}, n, t, depth)
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
		// Types that read themselves lose their place in the decoder's errors.
		if u, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(n.GetToken().Value)); err != nil {
				return at(name, n, "config-value", plain(err.Error()), "")
			}
		}
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Array && !ownDecoder(t) {
			return at(name, n, "config-list", "A list stands where "+kindName(t)+" is expected.", "")
		}
		if t.Kind() == reflect.Slice && !ownDecoder(t) {
			for _, item := range n.Values {
				if err := check(name, item, t.Elem(), depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func checkMapping(name string, values []*ast.MappingValueNode, n ast.Node, t reflect.Type, depth int) error {
	var fields map[string]reflect.Type
	switch {
	case ownDecoder(t):
		return nil
	case t.Kind() == reflect.Struct:
		fields = fieldsOf(t)
	case t.Kind() != reflect.Map:
		return at(name, n, "config-mapping", "Fields stand where "+kindName(t)+" is expected.", "")
	}
	seen := map[string]bool{}
	for _, v := range values {
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			return at(name, v.Key, "config-key", "This is not a plain field name.", "Write a name, in quotes if it looks like a number.")
		}
		if seen[key.Value] {
			return at(name, key, "config-twice", fmt.Sprintf("The field %q is given twice.", key.Value), "Keep one of them.")
		}
		seen[key.Value] = true
		ft := t
		if fields != nil {
			if ft, ok = fields[key.Value]; !ok {
				return unknownField(name, key, fields)
			}
		} else {
			ft = t.Elem()
		}
		if v.Value == nil {
			continue
		}
		if err := check(name, v.Value, ft, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func unknownField(name string, key *ast.StringNode, fields map[string]reflect.Type) error {
	var names []string
	for f := range fields {
		names = append(names, f)
	}
	mend := "`foundry config schema` describes every field."
	if near := Nearest(key.Value, names); near != "" {
		mend = fmt.Sprintf("Did you mean %q?", near)
	}
	return at(name, key, "config-field", fmt.Sprintf("There is no field %q here.", key.Value), mend)
}

// fieldsOf lists the yaml names of a struct's fields, inlined ones included.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for f := range t.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case tag == "-" || !f.IsExported():
		case strings.Contains(options, "inline"):
			ft := f.Type
			for ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			for k, v := range fieldsOf(ft) {
				out[k] = v
			}
		case tag != "":
			out[tag] = f.Type
		default:
			out[strings.ToLower(f.Name)] = f.Type
		}
	}
	return out
}

// ownDecoder reports whether a type reads itself.
func ownDecoder(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || p.Implements(reflect.TypeFor[yaml.BytesUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[yaml.InterfaceUnmarshaler]())
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a group of fields"
	default:
		return "a single value"
	}
}

func at(name string, n ast.Node, code, detail, mend string) error {
	place := name
	if tok := n.GetToken(); tok != nil && tok.Position != nil {
		place = fmt.Sprintf("%s:%d:%d", name, tok.Position.Line, tok.Position.Column)
	}
	if path := strings.TrimPrefix(n.GetPath(), "$."); path != "" && path != "$" {
		place += " (" + path + ")"
	}
	return problem.New(problem.Invalid, code, detail).WithField(place).WithMend(mend)
}

// located turns a parser's or decoder's error into one with line and column.
func located(name string, err error) error {
	var p *problem.Error
	if errors.As(err, &p) {
		return p
	}
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil && y.GetToken().Position != nil {
		pos := y.GetToken().Position
		return problem.New(problem.Invalid, "config-value", plain(y.GetMessage())).
			WithField(fmt.Sprintf("%s:%d:%d", name, pos.Line, pos.Column)).Wrap(err)
	}
	return problem.New(problem.Invalid, "config-value", plain(err.Error())).WithField(name).Wrap(err)
}

// plain makes a library's message a sentence without Go's type names.
func plain(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	if _, rest, ok := strings.Cut(message, "cannot unmarshal "); ok {
		if from, to, ok := strings.Cut(rest, " into Go "); ok {
			if _, typ, ok := strings.Cut(to, " of type "); ok {
				to = typ
			} else if _, typ, ok := strings.Cut(to, "value of type "); ok {
				to = typ
			}
			message = fmt.Sprintf("a %s stands where %s is expected", from, strings.NewReplacer("bool", "true or false", "int64", "a whole number", "int", "a whole number", "string", "text").Replace(to))
		}
	}
	if message == "" {
		return "The value is not valid."
	}
	return strings.ToUpper(message[:1]) + strings.TrimSuffix(message[1:], ".") + "."
}
