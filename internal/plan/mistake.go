package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/problem"
)

// Mistake is one place where a text is no fleet file: it cannot be read as
// one, whatever its plan is worth.
type Mistake struct {
	Code   string `json:"code"`           // stable, kebab-case
	Detail string `json:"detail"`         // one sentence
	Mend   string `json:"mend,omitempty"` // one sentence
	Path   string `json:"path,omitempty"` // functions[2].rto
	Place  Place  `json:"place"`
	Also   *Place `json:"also,omitempty"` // the other place, of what is there twice
}

// Mistakes is the error of a text that is no fleet file, with everything that
// is wrong with it, in the order of the text.
type Mistakes struct {
	File string
	Of   string // what it should be; "": a plan
	Text []byte
	List []Mistake
	More int // how many more there are

	Abandoned bool // there are so many that the rest was not looked at
}

// maxMistakes bounds how many are shown: who pastes the wrong file needs few.
const maxMistakes = 100

// Error is the first mistake, and how many more there are.
func (m *Mistakes) Error() string { return m.Problem().Error() }

// Unwrap gives the problem of which everything at the edge makes its answer.
func (m *Mistakes) Unwrap() error { return m.Problem() }

// Problem is the first mistake as a problem.
func (m *Mistakes) Problem() *problem.Error {
	first := m.List[0]
	field := m.File
	if first.Place.Line > 0 {
		field = fmt.Sprintf("%s:%d:%d", m.File, first.Place.Line, first.Place.Column)
	}
	if first.Path != "" {
		field += " (" + first.Path + ")"
	}
	detail := first.Detail
	switch n := len(m.List) - 1 + m.More; {
	case m.Abandoned:
		detail += fmt.Sprintf(" There are more than %d more mistakes.", n)
	case n == 1:
		detail += " There is one more mistake."
	case n > 1:
		detail += fmt.Sprintf(" There are %d more mistakes.", n)
	}
	kind := problem.Invalid
	if first.Code == "plan-size" {
		kind = problem.TooLarge
	}
	return problem.New(kind, first.Code, detail).WithField(field).WithMend(first.Mend)
}

// sorted orders mistakes by place and cuts them off.
func (m *Mistakes) sorted() *Mistakes {
	slices.SortStableFunc(m.List, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Place.Column, b.Place.Column))
	})
	if len(m.List) > maxMistakes {
		m.More += len(m.List) - maxMistakes
		m.List = m.List[:maxMistakes]
	}
	return m
}

// Line is the text of a line, counted from 1.
func (m *Mistakes) Line(n int) string { return newSource(m.Text).line(n) }
