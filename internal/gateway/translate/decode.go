package translate

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/missionopsai/foundry/internal/problem"
)

// maxMembers bounds the members of an object that is read member by member.
// Neither API has an object with a tenth of that; schemas are never read this
// way. It keeps the search for duplicates linear in the body.
const maxMembers = 256

// reader reads one JSON document member by member and remembers the first
// thing that was wrong, so that code can read straight down a document and ask
// once at the end. encoding/json's structs are not used for reading: they
// match member names without regard to case and drop what they do not know,
// and both would be silent.
type reader struct {
	err    *problem.Error
	answer bool // the document is an upstream's answer: its faults are not the client's
}

// read checks body and returns it as an object.
func (r *reader) read(body []byte) *object {
	if !json.Valid(body) {
		r.wrong("", "The body is not valid JSON.")
		return &object{r: r}
	}
	return r.object(bytes.TrimSpace(body), "")
}

// result returns the error as an error, without the typed-nil trap.
func (r *reader) result() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

func (r *reader) fail(e *problem.Error) {
	if r.err == nil {
		r.err = e
	}
}

// wrong records a document that breaks its own dialect.
func (r *reader) wrong(path, detail string) {
	if r.answer {
		r.fail(malformed(path, detail))
		return
	}
	r.fail(problem.New(problem.Invalid, CodeInvalid, detail).WithField(path))
}

// refuse records what the other dialect cannot express.
func (r *reader) refuse(path, detail, mend string) {
	kind := problem.Unsupported
	if r.answer {
		kind, mend = problem.Upstream, ""
	}
	r.fail(problem.New(kind, CodeNotTranslatable, detail).WithField(path).WithMend(mend))
}

// other is the API that is being translated to.
func (r *reader) other() string {
	if r.answer {
		return "The API you are calling"
	}
	return "The provider's API"
}

func malformed(path, detail string) *problem.Error {
	return problem.New(problem.Upstream, CodeUpstreamMalformed, detail).WithField(path)
}

// node is a JSON value and where it stands. Raw has no surrounding space.
type node struct {
	r    *reader
	path string
	raw  []byte
}

func (n node) isString() bool { return len(n.raw) > 0 && n.raw[0] == '"' }
func (n node) isArray() bool  { return len(n.raw) > 0 && n.raw[0] == '[' }
func (n node) isObject() bool { return len(n.raw) > 0 && n.raw[0] == '{' }

func (n node) str() string {
	if !n.isString() {
		n.r.wrong(n.path, "It must be a string.")
		return ""
	}
	return unquote(n.raw)
}

func (n node) object() *object { return n.r.object(n.raw, n.path) }

func (n node) list() []node {
	if !n.isArray() {
		n.r.wrong(n.path, "It must be an array.")
		return nil
	}
	var out []node
	i := skipSpace(n.raw, 1)
	for n.raw[i] != ']' {
		end := skipValue(n.raw, i)
		out = append(out, node{n.r, n.path + "[" + strconv.Itoa(len(out)) + "]", n.raw[i:end]})
		if i = skipSpace(n.raw, end); n.raw[i] == ',' {
			i = skipSpace(n.raw, i+1)
		}
	}
	return out
}

// object is a JSON object whose members are marked as they are read, so that
// rest can refuse those that nobody understood.
type object struct {
	r       *reader
	path    string
	members []member
}

type member struct {
	key  string
	raw  []byte
	read bool
}

func (r *reader) object(raw []byte, path string) *object {
	o := &object{r: r, path: path}
	if len(raw) == 0 || raw[0] != '{' {
		r.wrong(path, "It must be an object.")
		return o
	}
	i := skipSpace(raw, 1)
	for raw[i] != '}' {
		end := skipString(raw, i)
		key := unquote(raw[i:end])
		i = skipSpace(raw, skipSpace(raw, end)+1) // past the colon
		end = skipValue(raw, i)
		if o.find(key) != nil {
			r.wrong(o.at(key), "It is given twice.")
			return o
		}
		if len(o.members) == maxMembers {
			r.wrong(path, "It has too many members.")
			return o
		}
		o.members = append(o.members, member{key: key, raw: raw[i:end]})
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return o
}

func (o *object) find(key string) *member {
	for i := range o.members {
		if o.members[i].key == key {
			return &o.members[i]
		}
	}
	return nil
}

// at is the path of a member.
func (o *object) at(key string) string {
	key = clip(key)
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

// take returns a member and marks it as read. A null counts as absent: in both
// dialects it means "not set".
func (o *object) take(key string) (node, bool) {
	m := o.find(key)
	if m == nil {
		return node{}, false
	}
	m.read = true
	if string(m.raw) == "null" {
		return node{}, false
	}
	return node{o.r, o.at(key), m.raw}, true
}

// need is take for a member that must be there.
func (o *object) need(key string) (node, bool) {
	n, ok := o.take(key)
	if !ok {
		o.r.wrong(o.at(key), "It is required.")
	}
	return n, ok
}

func (o *object) str(key string) (string, bool) {
	n, ok := o.take(key)
	if !ok {
		return "", false
	}
	return n.str(), true
}

func (o *object) needStr(key string) string {
	n, ok := o.need(key)
	if !ok {
		return ""
	}
	return n.str()
}

// needName is needStr for the name of a function, which both sides want.
func (o *object) needName(key string) string {
	n, ok := o.need(key)
	if !ok {
		return ""
	}
	name := n.str()
	if name == "" && n.isString() {
		o.r.wrong(n.path, "It must not be empty.")
	}
	return name
}

func (o *object) boolean(key string) (v, ok bool) {
	n, ok := o.take(key)
	if !ok {
		return false, false
	}
	if s := string(n.raw); s != "true" && s != "false" {
		o.r.wrong(n.path, "It must be true or false.")
		return false, false
	}
	return n.raw[0] == 't', true
}

func (o *object) integer(key string) (int64, bool) {
	n, ok := o.take(key)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(string(n.raw), 10, 64)
	if err != nil {
		o.r.wrong(n.path, "It must be an integer.")
		return 0, false
	}
	return v, true
}

// number returns the value and its own spelling, which is what is passed on.
func (o *object) number(key string) (float64, json.RawMessage, bool) {
	n, ok := o.take(key)
	if !ok {
		return 0, nil, false
	}
	v, err := strconv.ParseFloat(string(n.raw), 64)
	if err != nil {
		o.r.wrong(n.path, "It must be a number.")
		return 0, nil, false
	}
	return v, json.RawMessage(n.raw), true
}

func (o *object) child(key string) (*object, bool) {
	n, ok := o.take(key)
	if !ok {
		return nil, false
	}
	return n.object(), true
}

func (o *object) list(key string) []node {
	n, ok := o.take(key)
	if !ok {
		return nil
	}
	return n.list()
}

// skip marks members as read that are knowingly left out; doc.go says why.
func (o *object) skip(keys ...string) {
	for _, k := range keys {
		o.take(k)
	}
}

// refuse refuses a member that the other dialect has no word for.
func (o *object) refuse(key, mend string) {
	if n, ok := o.take(key); ok {
		o.r.refuse(n.path, o.r.other()+" has nothing like it.", mend)
	}
}

// unless refuses a member unless it has one of the given spellings, each of
// which says no more than leaving it out does.
func (o *object) unless(key, mend string, neutral ...string) {
	n, ok := o.take(key)
	if !ok {
		return
	}
	if slices.Contains(neutral, compact(n.raw)) {
		return
	}
	o.r.refuse(n.path, o.r.other()+" has nothing like this value of it.", mend)
}

// rest refuses the first member that nobody has read, unless it is null.
func (o *object) rest() {
	for i := range o.members {
		if m := &o.members[i]; !m.read && string(m.raw) != "null" {
			o.r.refuse(o.at(m.key), "It has no known counterpart in the provider's API.",
				"Remove it, or use a model whose provider speaks the API you are calling.")
			return
		}
	}
}

// clip shortens text from outside that an error quotes.
func clip(s string) string {
	const most = 48
	if len(s) <= most {
		return s
	}
	for cut := most; ; cut-- {
		if utf8.RuneStart(s[cut]) {
			return s[:cut] + "…"
		}
	}
}

func quoted(s string) string { return strconv.Quote(clip(s)) }

// unquote decodes a valid JSON string.
func unquote(raw []byte) string {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var s string
	_ = json.Unmarshal(raw, &s) // raw is a string of a document that is valid JSON
	return s
}

// The functions below walk a document that json.Valid has accepted, so they
// never run off its end.

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t' {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch b[i] {
			case '"':
				i = skipString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(b) && !strings.ContainsRune(",]} \n\r\t", rune(b[i])) {
		i++
	}
	return i
}

// encode renders v without HTML escaping and without a trailing newline.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// compact renders a valid JSON value without space between its tokens.
func compact(raw []byte) string {
	var b bytes.Buffer
	_ = json.Compact(&b, raw) // raw is part of a document that is valid JSON
	return b.String()
}
