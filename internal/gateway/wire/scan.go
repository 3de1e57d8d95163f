package wire

import (
	"bytes"
	"strconv"

	"github.com/missionopsai/foundry/internal/problem"
)

// segment is one step of the path to where the scanner is: a key, as a raw
// range of the body, or, where end is 0, the index start.
type segment struct{ start, end int }

// seen is the set of keys an object has had.
type seen [2]uint64

func (s *seen) add(k keyID) (again bool) {
	w, bit := &s[k>>6], uint64(1)<<(k&63)
	again = *w&bit != 0
	*w |= bit
	return again
}

func (s *seen) has(k keyID) bool { return s[k>>6]&(1<<(k&63)) != 0 }

// scan is one pass over a request.
type scan struct {
	cursor
	ep  Endpoint
	r   *Request
	err *problem.Error // set with faultSemantic
}

// Scan reads a request body once, checks that it is strict JSON which every
// parser reads alike, and fills r. It returns a *problem.Error of kind
// Invalid; r is then not to be used.
func Scan(ep Endpoint, body []byte, r *Request) error {
	r.Reset()
	r.Endpoint = ep
	s := scan{cursor: cursor{b: body}, ep: ep, r: r}
	s.ws()
	switch {
	case s.i >= len(body):
		s.fail(faultEnd)
	case len(body) >= 3 && string(body[:3]) == "\xef\xbb\xbf":
		s.fail(faultBOM)
	case body[s.i] != '{':
		s.skip()
		if s.end(); s.fault == faultNone {
			s.semantic("json-not-object", "The body must be a JSON object.", `Send an object such as {"model": "…"}.`)
		}
	default:
		s.top()
		s.end()
		if s.fault == faultNone && !r.ModelSpan.Present() {
			s.semantic("model-missing", "The request names no model.", "Add \"model\"; GET /v1/models lists what there is.")
			s.err.Field = "model"
		}
	}
	if s.fault != faultNone {
		return s.problem()
	}
	r.InputBytes = int64(len(body)) - r.MediaBytes
	return nil
}

// member reads a key of an interpreted object, refuses one that was there
// before or that another parser would take for a known one, and enters it.
// The value is at the cursor afterwards; leave must follow it.
func (s *scan) member(had *seen) (raw []byte, id keyID, h int) {
	start := s.i + 1
	raw, escaped := s.key()
	if s.fault != faultNone {
		return raw, kUnknown, hintNone
	}
	s.r.path = append(s.r.path, segment{start, start + len(raw)})
	if escaped {
		s.r.scratch = appendUnescaped(s.r.scratch[:0], raw)
		raw = s.r.scratch
	}
	if id = exactKey(raw); id == kUnknown {
		return raw, id, s.guess(raw)
	}
	if again := had.add(id); again && id > kGroups {
		s.semantic("json-duplicate-key", "The field is given twice.", "Give it once: parsers differ in which one they take.")
	}
	return raw, id, hintNone
}

// guess looks at a key that is not known as it is spelt.
func (s *scan) guess(k []byte) int {
	if len(k) > 64 {
		k = k[len(k)-64:]
	}
	var buf [64 * 3]byte
	f := appendFolded(buf[:0], k)
	if as, ok := folded[string(f)]; ok {
		s.semantic("json-ambiguous-key", "Some servers read this field as \""+as+"\" and some do not.", "Spell it \""+as+"\", or rename it.")
	}
	return hint(f)
}

func (s *scan) leave() {
	if n := len(s.r.path); n > 0 {
		s.r.path = s.r.path[:n-1]
	}
}

// given reports whether the value at the cursor is anything but null, false or
// an empty list.
func (s *scan) given() bool {
	switch s.peek() {
	case 'n', 'f', 0:
		return false
	case '[':
		c := cursor{b: s.b, i: s.i + 1}
		c.ws()
		return c.i >= len(c.b) || c.b[c.i] != ']'
	}
	return true
}

// text reads a string and returns it unescaped, valid until the next use of
// scratch; it skips any other value and returns nil.
func (s *scan) text() []byte {
	if s.peek() != '"' {
		s.skip()
		return nil
	}
	span, escaped := s.str()
	if s.fault != faultNone {
		return nil
	}
	raw := s.b[span.Start:span.End]
	if escaped {
		s.r.scratch = appendUnescaped(s.r.scratch[:0], raw)
		raw = s.r.scratch
	}
	return raw
}

// boolean reads true, false or null.
func (s *scan) boolean() (v bool, span Span) {
	ch := s.peek()
	if ch != 't' && ch != 'f' && ch != 'n' {
		s.wrongType("a boolean")
		return false, span
	}
	return ch == 't', s.skip()
}

// integer reads an integer within bounds, or null. It takes no fraction and no
// exponent: parsers differ on whether 1.0 and 1e0 are integers.
func (s *scan) integer(lo, hi int64) (v int64, null bool, span Span) {
	ch := s.peek()
	if ch == 'n' {
		return 0, true, s.skip()
	}
	if ch != '-' && (ch < '0' || ch > '9') {
		s.wrongType("an integer")
		return 0, true, span
	}
	span = s.number()
	if s.fault != faultNone {
		return 0, true, span
	}
	v, err := strconv.ParseInt(string(s.b[span.Start:span.End]), 10, 64)
	if err != nil || v < lo || v > hi {
		s.semantic("field-range", "The value must be an integer from "+strconv.FormatInt(lo, 10)+" to "+strconv.FormatInt(hi, 10)+", without fraction or exponent.", "Correct it.")
		return 0, true, span
	}
	return v, false, span
}

// risky records a risk at the current path.
func (s *scan) risky(name string) {
	if s.fault == faultNone {
		s.r.Risky = append(s.r.Risky, Risky{name, s.where()})
	}
}

// hosted skips a value and records a risk if it is given.
func (s *scan) hosted(name string) {
	if s.given() {
		s.risky(name)
	}
	s.skip()
}

// where renders the current path, e.g. "messages[2].content[0].type".
func (s *scan) where() string {
	var b []byte
	for _, seg := range s.r.path {
		if seg.end == 0 {
			b = append(b, '[')
			b = strconv.AppendInt(b, int64(seg.start), 10)
			b = append(b, ']')
			continue
		}
		if len(b) > 0 {
			b = append(b, '.')
		}
		b = append(b, bytes.ToValidUTF8(unescapeHead(s.b[seg.start:seg.end]), []byte("\uFFFD"))...)
	}
	return string(b)
}

func (s *scan) wrongType(want string) {
	if s.peek(); s.fault == faultNone {
		s.semantic("field-type", "The value must be "+want+".", "Correct its type.")
	}
}

// semantic stops the scan with a problem at the current path.
func (s *scan) semantic(code, detail, mend string) {
	if s.fault == faultNone {
		s.fault = faultSemantic
		s.err = problem.New(problem.Invalid, code, detail).WithField(s.where()).WithMend(mend)
	}
}

var faults = [...]struct{ code, detail, mend string }{
	faultEnd:       {"json-truncated", "The JSON ends too early", "Send the whole body."},
	faultSyntax:    {"json-syntax", "The body is not valid JSON", "Send strict JSON (RFC 8259): no comments, no trailing commas, no NaN."},
	faultControl:   {"json-control-character", "A string holds a bare control character", "Escape it, e.g. \\n."},
	faultEscape:    {"json-escape", "A string holds an unknown escape sequence", "Use only the escapes of RFC 8259."},
	faultSurrogate: {"json-surrogate", "A string holds half of a surrogate pair", "Encode the character whole, as UTF-8 or as a pair of \\u escapes."},
	faultNUL:       {"json-nul", "A string holds a NUL", "Remove it: some servers end the string there."},
	faultUTF8:      {"json-utf8", "The body is not valid UTF-8", "Encode the body as UTF-8."},
	faultNumber:    {"json-number", "A number has leading zeros", "Remove them."},
	faultRange:     {"json-number-range", "A number is too large or too small for a 64-bit float", "Use a number within range."},
	faultDepth:     {"json-depth", "The JSON is nested too deeply", "Nest at most 128 levels."},
	faultTrailing:  {"json-trailing", "Something follows the JSON document", "Send one document and nothing else."},
	faultBOM:       {"json-bom", "The body starts with a byte order mark", "Send UTF-8 without a byte order mark."},
}

// problem says what stopped the scan.
func (s *scan) problem() error {
	if s.fault == faultSemantic {
		return s.err
	}
	f := faults[s.fault]
	return problem.New(problem.Invalid, f.code, f.detail+" (byte "+strconv.Itoa(s.i)+").").WithField(s.where()).WithMend(f.mend)
}
