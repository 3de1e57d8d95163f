package plan

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Bounds of a fleet file. A plan of 500 functions and 100 nodes has 12,000
// lines and 250 kB.
const (
	maxFile   = 4 << 20
	maxValues = 250_000 // each costs about a kilobyte of memory while it is read
	maxDepth  = 32
)

// tree reads text as one YAML document without anchors, aliases or tags.
// Nothing is in it where the text is empty.
func tree(text []byte) (*yaml.Node, *Mistake) {
	if m := foreign(text); m != nil {
		return nil, m
	}
	values := 0
	for _, c := range text {
		if c == '\n' || c == ',' || c == '[' || c == '{' {
			values++
		}
	}
	if len(text) > maxFile || values > maxValues {
		return nil, &Mistake{Code: "plan-size", Detail: "The file is too large for a plan: more than 4 MiB, or 250,000 lines and values.", Mend: "Is it the right file?"}
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, syntax(text, err)
	}
	var doc, second yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, syntax(text, err)
	}
	switch err := loader.Load(&second); {
	case err == nil:
		at := Place{Line: second.Line, Column: second.Column, Length: 1}
		return nil, &Mistake{Code: "plan-documents", Detail: "There is a second document in the file.", Mend: "Keep one document: remove the --- line.", Place: at}
	case !errors.Is(err, io.EOF):
		return nil, syntax(text, err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	return root, nil
}

// foreign refuses what would be read as other lines or letters than an
// editor shows.
func foreign(text []byte) *Mistake {
	bad := func(i int, detail string) *Mistake {
		return &Mistake{Code: "plan-encoding", Detail: detail, Mend: "Save it as UTF-8, with lines that end in LF or CR LF.", Place: placeOf(text, i)}
	}
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return bad(0, "The file is UTF-16.")
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return bad(i, "There is a NUL byte: the file is UTF-16 or no text.")
	}
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c == '\r' && (i+1 == len(text) || text[i+1] != '\n') {
				return bad(i, "A line ends in a lone carriage return.")
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return bad(i, "The file is not UTF-8.")
		case r == '\u0085' || r == '\u2028' || r == '\u2029':
			return bad(i, "There is a line separator that is no newline.")
		}
		i += n
	}
	return nil
}

// placeOf counts lines and characters up to a byte.
func placeOf(text []byte, at int) Place {
	at = max(0, min(at, len(text)))
	before := text[:at]
	start := bytes.LastIndexByte(before, '\n') + 1
	return Place{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1, Length: 1}
}

// mends says what to do about what the parser did not expect. The first that
// fits is taken.
var mends = []struct{ message, says, mend string }{
	{"mapping values are not allowed", "A colon stands where no field can begin.", "Check the indentation of this line and the one before, and put text that contains \": \" in quotes."},
	{"tab character", "A tab is used to indent.", "Indent with spaces, not tabs."},
	{"cannot start any token", "This character cannot begin a value.", "Indent with spaces, not tabs, and put text that begins with @, ` or % in quotes."},
	{"expected ',' or ']'", "A list that was opened with [ does not end.", "Add the missing ] or a comma."},
	{"expected ',' or '}'", "Fields that were opened with { do not end.", "Add the missing } or a comma."},
	{"expected '-' indicator", "A field stands among the items of a list.", "Begin the line with \"- \", or indent it as the list's own field."},
	{"expected key", "A field was expected here.", "Check the indentation, and that each line is \"field: value\" or \"- item\"."},
	{"could not find expected ':'", "A colon is missing.", "Write \"field: value\", with a space after the colon."},
	{"unexpected end of stream", "Something that was opened does not end.", "Look for a missing quote or bracket."},
	{"exceeded max depth", "The file is nested too deeply.", "A plan has no more than a few levels."},
	{"control characters", "There is a control character.", "Remove it."},
	{"directive", "Lines that begin with % are directives; plans use none.", "Remove the line."},
	{"unknown anchor", "Anchors and aliases are not used in plans.", "Write the value out."},
}

// syntax says where and why text is no YAML.
func syntax(text []byte, err error) *Mistake {
	out := &Mistake{Code: "plan-syntax", Detail: "This is no YAML: " + firstLine(err.Error()) + ".", Mend: "Check quotes, brackets and indentation around this line.", Place: Place{Line: 1, Column: 1, Length: 1}}
	var load *yaml.LoadError
	if errors.As(err, &load) {
		out.Detail = "This is no YAML: " + firstLine(load.Message) + "."
		switch {
		case load.Mark.Line > 0:
			out.Place = Place{Line: load.Mark.Line, Column: max(load.Mark.Column, 1), Length: 1}
		case load.Mark.Index > 0:
			out.Place = placeOf(text, load.Mark.Index)
		}
		if c := load.ContextMark; c.Line > 0 && c.Line < out.Place.Line {
			out.Also = &Place{Line: c.Line, Column: max(c.Column, 1), Length: 1}
		}
	}
	for _, m := range mends {
		if strings.Contains(err.Error(), m.message) {
			out.Detail, out.Mend = m.says, m.mend
			break
		}
	}
	return out
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.TrimSuffix(strings.TrimPrefix(s, "yaml: "), ".")
}
