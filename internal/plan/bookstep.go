package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// BookStep is a step of a runbook that a machine can read: a fenced block of
// the Markdown whose language is foundry-step. Nothing carries it out by
// itself; it says what would be done, for how long at most, and how to see that
// it worked.
type BookStep struct {
	Name   string   `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"Its name; unique in the runbook."`
	Kind   string   `yaml:"kind" json:"kind" jsonschema:"required,enum=detect,enum=confirm,enum=declare,enum=fence,enum=isolate,enum=capture,enum=investigate,enum=notify,enum=decide,enum=approve,enum=provision,enum=promote,enum=restore,enum=replay,enum=rebuild,enum=certificate,enum=start,enum=validate,enum=dns,enum=watch,enum=reconcile,enum=failback,enum=wipe,enum=review,enum=hand-over,enum=switch" jsonschema_description:"As of steps of recovery plans."`
	Bound  Span     `yaml:"bound,omitempty" json:"bound,omitzero" jsonschema_description:"How long it may take; after that it has failed."`
	Person bool     `yaml:"needs_person,omitempty" json:"needs_person,omitempty" jsonschema_description:"Whether somebody has to be there for it."`
	Run    string   `yaml:"run,omitempty" json:"run,omitempty" jsonschema_description:"A foundry command that does it; or do."`
	Do     string   `yaml:"do,omitempty" json:"do,omitempty" jsonschema_description:"What somebody does, in words; or run."`
	Node   string   `yaml:"node,omitempty" json:"node,omitempty" jsonschema_description:"The node at which it is done, by its name in the plan."`
	Uses   []string `yaml:"uses,omitempty" json:"uses,omitempty" jsonschema_description:"Functions of the plan that it needs to work."`
	Verify string   `yaml:"verify" json:"verify" jsonschema:"required" jsonschema_description:"How it is seen that it worked: a foundry command, or the name of a probe of the plan."`

	Line int `yaml:"-" json:"line"` // of the block's first line in the runbook
}

// Bounds of the steps of a runbook.
const (
	maxBookSteps = 200
	bookStepWord = "foundry-step"
)

var bookStepShape = sync.OnceValue(func() *shape { return shapeOf(reflect.TypeFor[BookStep](), map[reflect.Type]*shape{}) })

// BookSteps reads the steps of a runbook. What is no step is a *Mistakes of
// the runbook's file; names are not looked up in the plan.
func (p *Plan) BookSteps(name string) ([]BookStep, error) {
	b := p.Runbook(name)
	if b == nil {
		return nil, nil
	}
	return ParseBook(cmp.Or(b.File, b.Name), p.Books[name])
}

// ParseBook reads the steps in the Markdown of a runbook; path stands for it
// in messages.
func ParseBook(path string, text []byte) ([]BookStep, error) {
	if !bytes.Contains(text, []byte(bookStepWord)) {
		return nil, nil
	}
	out := &Mistakes{File: path, Text: text}
	blocks, bad := fences(text)
	out.List = append(out.List, bad...)
	var steps []BookStep
	seen := map[string]int{}
	for _, b := range blocks {
		s, wrong := bookStep(b)
		s.Line = b.line
		if out.List = append(out.List, wrong...); len(wrong) > 0 {
			continue
		}
		if first, twice := seen[s.Name]; twice {
			out.List = append(out.List, Mistake{Code: "plan-step", Detail: fmt.Sprintf("There are two steps %q.", short(s.Name)), Mend: "Give each its own name.", Place: Place{Line: b.line, Column: 1, Length: 1}, Also: &Place{Line: first, Column: 1, Length: 1}})
			continue
		}
		seen[s.Name] = b.line
		steps = append(steps, s)
	}
	if len(out.List) > 0 {
		return nil, out.sorted()
	}
	return steps, nil
}

// block is the text between two fences.
type block struct {
	line int    // of the opening fence
	text []byte // with a line end for every line before it, so that places are those of the file
}

// fences finds the blocks of steps (CommonMark 0.31.2, 4.5: three backticks or
// tildes or more, at most three spaces before them, closed by as many).
func fences(text []byte) (out []block, bad []Mistake) {
	lines := bytes.Split(text, []byte("\n"))
	for i := 0; i < len(lines); i++ {
		mark, word := fence(lines[i])
		if mark == "" {
			continue
		}
		end := i + 1
		for end < len(lines) && !closes(lines[end], mark) {
			end++
		}
		if word != bookStepWord {
			if strings.HasPrefix(word, bookStepWord) || strings.EqualFold(word, bookStepWord) {
				bad = append(bad, Mistake{Code: "plan-step", Detail: fmt.Sprintf("%q is no language of a block of a runbook.", short(word)), Mend: "Write " + bookStepWord + " after the fence, and all else inside.", Place: Place{Line: i + 1, Column: 1, Length: len(lines[i])}})
			}
			i = end
			continue
		}
		switch {
		case end == len(lines):
			bad = append(bad, Mistake{Code: "plan-step", Detail: "The block of this step has no end.", Mend: "Close it with " + mark + " on a line of its own.", Place: Place{Line: i + 1, Column: 1, Length: len(lines[i])}})
			return out, bad
		case len(out) == maxBookSteps:
			bad = append(bad, Mistake{Code: "plan-step", Detail: fmt.Sprintf("The runbook has more than %d steps.", maxBookSteps), Mend: "Make it two runbooks.", Place: Place{Line: i + 1, Column: 1, Length: 1}})
			return out, bad
		}
		body := append(bytes.Repeat([]byte("\n"), i+1), bytes.Join(lines[i+1:end], []byte("\n"))...)
		out = append(out, block{line: i + 1, text: append(body, '\n')})
		i = end
	}
	return out, bad
}

// fence reads an opening fence: its mark, and the words after it.
func fence(line []byte) (mark, word string) {
	s := strings.TrimRight(string(line), " \t\r")
	trimmed := strings.TrimLeft(s, " ")
	if len(s)-len(trimmed) > 3 {
		return "", ""
	}
	for _, c := range []string{"`", "~"} {
		n := len(trimmed) - len(strings.TrimLeft(trimmed, c))
		rest := strings.TrimSpace(trimmed[n:])
		if n >= 3 && (c == "~" || !strings.Contains(rest, "`")) {
			return trimmed[:n], rest
		}
	}
	return "", ""
}

func closes(line []byte, mark string) bool {
	s := strings.TrimRight(string(line), " \t\r")
	trimmed := strings.TrimLeft(s, " ")
	return len(s)-len(trimmed) <= 3 && len(trimmed) >= len(mark) && strings.Trim(trimmed, mark[:1]) == ""
}

// bookStep reads one step.
func bookStep(b block) (s BookStep, wrong []Mistake) {
	empty := Mistake{Code: "plan-step", Detail: "There is no step in this block.", Mend: "Write name:, kind:, bound:, run: or do:, and verify:.", Place: Place{Line: b.line, Column: 1, Length: 1}}
	root, m := tree(b.text)
	switch {
	case m != nil:
		return s, []Mistake{*m}
	case root == nil:
		return s, []Mistake{empty}
	}
	r := &reader{root: root, text: newSource(b.text)}
	r.value(root, reflect.ValueOf(&s).Elem(), bookStepShape(), nil, 0)
	if len(r.found) == 0 {
		r.whole(&s, root)
	}
	for _, f := range r.found {
		wrong = append(wrong, Mistake{Code: f.code, Detail: f.detail, Mend: f.mend, Place: r.text.place(f.node, nil)})
	}
	return s, wrong
}

// whole looks at what only all of a step's fields tell.
func (r *reader) whole(s *BookStep, root *yaml.Node) {
	switch {
	case s.Run == "" && s.Do == "":
		r.wrong(root, "plan-step", fmt.Sprintf("Step %q does nothing.", short(s.Name)), "Write run: with a foundry command, or do: with what somebody does.")
	case s.Run != "" && s.Do != "":
		r.wrong(nodeAt(root, "do"), "plan-step", fmt.Sprintf("Step %q is done by a command and by somebody.", short(s.Name)), "Make two steps of it.")
	case s.Run != "" && !isCommand(s.Run):
		r.wrong(nodeAt(root, "run"), "plan-step", "This is no foundry command.", "Begin with foundry, and write one command without pipes and redirections; what else has to be done is done by somebody: do:.")
	case s.Do != "" && !s.Person:
		r.wrong(nodeAt(root, "do"), "plan-step", fmt.Sprintf("Step %q is done by somebody, and needs nobody.", short(s.Name)), "Write needs_person: true.")
	case strings.HasPrefix(s.Verify, "foundry ") && !isCommand(s.Verify):
		r.wrong(nodeAt(root, "verify"), "plan-step", "This is no foundry command.", "Write one command without pipes and redirections.")
	}
}

// isCommand reports whether a text is one foundry command, and no program of a
// shell.
func isCommand(text string) bool {
	return strings.HasPrefix(text, "foundry ") && !strings.ContainsAny(text, "|&;<>$`\n\\(){}*?~")
}

// checkBooks reads the steps of every runbook that was found.
func (p *Plan) checkBooks() error {
	for i := range p.Runbooks {
		if _, err := p.BookSteps(p.Runbooks[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// SetBooks gives a plan that was parsed the texts of its runbooks, by name.
// What is no step in them is a *Mistakes of the runbook's file.
func (p *Plan) SetBooks(books map[string][]byte) error {
	p.Books = books
	return p.checkBooks()
}

// Probe finds a probe by name, and the function that it is of.
func (p *Plan) Probe(name string) (*Probe, *Function) {
	for i := range p.Functions {
		f := &p.Functions[i]
		if at := slices.IndexFunc(f.Probes, func(x Probe) bool { return x.Name == name }); at >= 0 {
			return &f.Probes[at], f
		}
	}
	return nil, nil
}
