package plan

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Place is where a value stands in the fleet file. Line and column count from 1
// and in characters; a zero line means that there is no such place.
type Place struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Length int `json:"length"` // characters of the value or key that is marked; at least 1
}

// source is a text whose lines can be found.
type source struct {
	text  []byte
	lines []int // where each line begins
}

func newSource(text []byte) *source {
	s := &source{text: text, lines: make([]int, 1, bytes.Count(text, []byte("\n"))+1)}
	for i, c := range text {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// line is the text of a line, counted from 1, without its end.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	end := len(s.text)
	if n < len(s.lines) {
		end = s.lines[n] - 1
	}
	return strings.TrimSuffix(string(s.text[s.lines[n-1]:end]), "\r")
}

// Line is the text of a line of the fleet file, counted from 1.
func (p *Plan) Line(n int) string {
	if p.src == nil {
		return ""
	}
	return p.src.line(n)
}

// At is the place of a value, such as "functions[2].rto"; where the value is
// not written, the place of the thing that would hold it.
func (p *Plan) At(path string) Place {
	if p.root == nil {
		return Place{}
	}
	n, key := p.root, (*yaml.Node)(nil)
	for _, step := range steps(path) {
		next, k := descend(n, step)
		if next == nil {
			break
		}
		n, key = next, k
	}
	return p.src.place(n, key)
}

// steps splits a path: functions[2].rto is functions, [2], rto.
func steps(path string) []string {
	var out []string
	for part := range strings.SplitSeq(path, ".") {
		for {
			i := strings.IndexByte(part[min(1, len(part)):], '[')
			if i < 0 {
				break
			}
			out, part = append(out, part[:i+1]), part[i+1:]
		}
		if part != "" {
			out = append(out, part)
		}
	}
	return out
}

// descend goes one step down; key is the field's name, nil for an item.
func descend(n *yaml.Node, step string) (value, key *yaml.Node) {
	if index, ok := strings.CutPrefix(step, "["); ok {
		i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if err != nil || n.Kind != yaml.SequenceNode || i < 0 || i >= len(n.Content) {
			return nil, nil
		}
		return n.Content[i], nil
	}
	if n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return n.Content[i+1], n.Content[i]
		}
	}
	return nil, nil
}

// nodeAt is the node at a path, or the nearest above it.
func nodeAt(n *yaml.Node, path string) *yaml.Node {
	for _, step := range steps(path) {
		next, _ := descend(n, step)
		if next == nil {
			break
		}
		n = next
	}
	return n
}

func child(n *yaml.Node, name string) *yaml.Node {
	value, _ := descend(n, name)
	return value
}

// place marks a value; a group or list over several lines is marked by its
// name, or by the field that holds it.
func (s *source) place(n, key *yaml.Node) Place {
	switch {
	case n.Kind == yaml.ScalarNode:
	case n.Kind == yaml.MappingNode && key == nil:
		if name := child(n, "name"); name != nil && name.Kind == yaml.ScalarNode {
			n = name
		} else if n.Style&yaml.FlowStyle == 0 && len(n.Content) > 0 {
			return s.through(n.Content[0], n.Content[1])
		}
	case n.Style&yaml.FlowStyle == 0 && key != nil:
		n = key
	}
	return Place{Line: n.Line, Column: n.Column, Length: s.length(n)}
}

// through marks a field from its name to the end of its value, on one line.
func (s *source) through(key, value *yaml.Node) Place {
	out := Place{Line: key.Line, Column: key.Column, Length: s.length(key)}
	if value.Line == key.Line && (value.Kind == yaml.ScalarNode || value.Style&yaml.FlowStyle != 0) {
		out.Length = value.Column - key.Column + s.length(value)
	}
	return out
}

// length counts the characters of a node on its first line.
func (s *source) length(n *yaml.Node) int {
	rest := []rune(s.line(n.Line))
	if n.Column < 1 || n.Column > len(rest) {
		return 1
	}
	rest = rest[n.Column-1:]
	if n.Kind == yaml.ScalarNode {
		switch {
		case n.Style&yaml.DoubleQuotedStyle != 0:
			return quoted(rest, '"')
		case n.Style&yaml.SingleQuotedStyle != 0:
			return quoted(rest, '\'')
		case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
			return 1
		}
		if strings.HasPrefix(string(rest), n.Value) {
			return max(1, utf8.RuneCountInString(n.Value))
		}
		return max(1, utf8.RuneCountInString(strings.TrimRight(string(rest), " \t")))
	}
	if n.Style&yaml.FlowStyle != 0 {
		return bracketed(rest)
	}
	return 1
}

// quoted counts to the closing quote, or to the end of the line.
func quoted(rest []rune, quote rune) int {
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && quote == '"':
			i++
		case rest[i] == quote && quote == '\'' && i+1 < len(rest) && rest[i+1] == quote:
			i++
		case rest[i] == quote:
			return i + 1
		}
	}
	return max(1, len(rest))
}

// bracketed counts to the bracket that closes, or to the end of the line.
func bracketed(rest []rune) int {
	depth := 0
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '"', '\'':
			i += quoted(rest[i:], rest[i]) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return max(1, len(strings.TrimRight(string(rest), " \t")))
}

// paths finds the paths of nodes, in one walk.
type paths struct {
	wanted map[*yaml.Node]string
	at     []string // the way to here: names, and [0]
}

func (p *paths) walk(n *yaml.Node) {
	if _, ok := p.wanted[n]; ok {
		p.wanted[n] = strings.ReplaceAll(strings.Join(p.at, "."), ".[", "[")
	}
	if len(p.at) > maxDepth {
		return
	}
	p.at = append(p.at, "")
	last := len(p.at) - 1
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			p.at[last] = n.Content[i].Value
			if _, ok := p.wanted[n.Content[i]]; ok {
				p.wanted[n.Content[i]] = strings.ReplaceAll(strings.Join(p.at, "."), ".[", "[")
			}
			p.walk(n.Content[i+1])
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			p.at[last] = "[" + strconv.Itoa(i) + "]"
			p.walk(item)
		}
	}
	p.at = p.at[:last]
}

// SourcesAt lists the sources of the thing that a path is about: those of the
// innermost thing on the way that says where it comes from.
func (p *Plan) SourcesAt(path string) []string {
	if p.root == nil {
		return nil
	}
	n := p.root
	found := child(n, "source")
	for _, step := range steps(path) {
		next, _ := descend(n, step)
		if next == nil {
			break
		}
		n = next
		if s := child(n, "source"); s != nil {
			found = s
		}
	}
	if found == nil || found.Kind != yaml.SequenceNode {
		return nil
	}
	var out []string
	for _, item := range found.Content {
		out = append(out, item.Value)
	}
	return out
}
