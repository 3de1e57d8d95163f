package plan

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/missionopsai/foundry/internal/problem"
)

// Format writes a fleet file in canonical order and notation: sections and
// fields in the order of the reference, two spaces for each level, quotes only
// where they are needed, a blank line between sections. Lists keep their order,
// and every comment its words. It never changes what the plan says: where the
// result would not have the same hash and the same comments, or would be
// written otherwise a second time, it is refused.
func Format(path string, text []byte) ([]byte, error) {
	before, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	once, err := formatted(text)
	if err != nil {
		return nil, err
	}
	twice, err := formatted(once)
	if err != nil {
		return nil, err
	}
	after, err := Parse(path, once)
	switch {
	case err != nil:
		return nil, unformatted(path, "what would be written is no plan", err)
	case after.Hash() != before.Hash():
		return nil, unformatted(path, "what would be written says something else", nil)
	case !slices.Equal(comments(text), comments(once)):
		return nil, unformatted(path, "a comment would be lost", nil)
	case !bytes.Equal(once, twice):
		return nil, unformatted(path, "a comment would move each time", nil)
	}
	return once, nil
}

func unformatted(path, why string, err error) error {
	return problem.New(problem.Invalid, "plan-format", fmt.Sprintf("The file cannot be formatted: %s.", why)).WithField(path).WithMend("Put comments on lines of their own, above what they are about.").Wrap(err)
}

func formatted(text []byte) ([]byte, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	if err != nil {
		return nil, fmt.Errorf("reading a plan again: %w", err)
	}
	var doc yaml.Node
	if err := loader.Load(&doc); err != nil {
		return nil, fmt.Errorf("reading a plan again: %w", err)
	}
	root := doc.Content[0] // the caller has parsed it: it is a mapping
	head, foot := first(doc.HeadComment, root.HeadComment), first(root.FootComment, doc.FootComment)
	if root.Style&yaml.FlowStyle != 0 {
		root.Style = 0
	}
	canonicalNode(root, shapes())
	var out bytes.Buffer
	if head != "" {
		out.WriteString(head + "\n\n")
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		section := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: root.Content[i : i+2]}
		var one bytes.Buffer
		e, err := yaml.NewDumper(&one, yaml.WithIndent(2), yaml.WithCompactSeqIndent(false), yaml.WithLineWidth(-1), yaml.WithQuotePreference(yaml.QuoteDouble))
		if err == nil {
			err = e.Dump(section)
		}
		if err == nil {
			err = e.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("writing a plan: %w", err)
		}
		if i > 0 {
			out.WriteByte('\n')
		}
		out.WriteString(strings.TrimRight(one.String(), "\n") + "\n")
	}
	if foot != "" {
		out.WriteString("\n" + foot + "\n")
	}
	return out.Bytes(), nil
}

// first joins comments that stand one after the other.
func first(comments ...string) string {
	return strings.Join(slices.DeleteFunc(comments, func(c string) bool { return c == "" }), "\n\n")
}

// canonicalNode puts fields into the order of the reference and takes quotes
// away that say nothing.
func canonicalNode(n *yaml.Node, s *shape) {
	for s != nil && s.element != nil && s.typ.Kind().String() == "ptr" {
		s = s.element
	}
	switch n.Kind {
	case yaml.MappingNode:
		if s == nil || s.byName == nil {
			return
		}
		type pair struct{ key, value *yaml.Node }
		var pairs []pair
		for i := 0; i+1 < len(n.Content); i += 2 {
			pairs = append(pairs, pair{n.Content[i], n.Content[i+1]})
		}
		sort.SliceStable(pairs, func(i, j int) bool { return s.byName[pairs[i].key.Value] < s.byName[pairs[j].key.Value] })
		n.Content = n.Content[:0]
		for _, p := range pairs {
			n.Content = append(n.Content, p.key, p.value)
			canonicalNode(p.value, s.fields[s.byName[p.key.Value]].shape)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if s != nil {
				canonicalNode(item, s.element)
			}
		}
	case yaml.ScalarNode:
		if n.Tag == "!!str" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
			n.Style &^= yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle
		}
	}
}

// comments lists what stands behind a # in the lines of a text, outside of
// quotes, in the order of its words. It does not ask the reader of YAML, which
// may have lost one already. In a text of several lines it may take a # for one
// that is none; it then stands there after formatting too.
func comments(text []byte) (out []string) {
	for line := range bytes.Lines(text) {
		quote, before := byte(0), byte(' ')
		for i, c := range line {
			switch {
			case quote == '"' && c == '"' && before != '\\', quote == '\'' && c == '\'':
				quote = 0
			case quote != 0:
			case (c == '"' || c == '\'') && strings.IndexByte(" [{,:", before) >= 0:
				quote = c
			case c == '#' && (before == ' ' || before == '\t'):
				out = append(out, strings.TrimSpace(string(line[i:])))
				quote = '#'
			}
			before = c
		}
	}
	slices.Sort(out)
	return out
}
