package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"syscall"

	"github.com/missionopsai/foundry/internal/problem"
	"go.yaml.in/yaml/v4"
)

// Plan is a fleet file that was read. It is not changed after that, and may be
// read by many at once.
type Plan struct {
	File
	Path  string            // of the fleet file; as given
	Text  []byte            // of the fleet file
	Books map[string][]byte // text of the runbooks that were found, by name

	src   *source
	root  *yaml.Node
	names map[string]map[string]int // kind → name → position in its list
}

// Load reads a fleet file, or the fleet.yaml in a directory, and the runbooks
// that it names. What is no plan is a *Mistakes.
func Load(path string) (*Plan, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "fleet.yaml")
	}
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	p, r, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	p.readBooks(r)
	if err := r.mistakes(p); err != nil {
		return nil, err
	}
	if err := p.checkBooks(); err != nil {
		return nil, err
	}
	return p, nil
}

func readFile(path string) ([]byte, error) {
	unreadable := func(err error) error {
		reason := err.Error()
		var pe *fs.PathError
		if errors.As(err, &pe) {
			reason = pe.Err.Error()
		}
		return problem.New(problem.Invalid, "plan-unreadable", fmt.Sprintf("The plan %s cannot be read: %s.", path, reason)).WithMend("Name a fleet file, or a directory with a fleet.yaml.").Wrap(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe has no end to wait for
	if err != nil {
		return nil, unreadable(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, unreadable(errors.Join(err, errors.New("it is no regular file")))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(err)
	}
	return text, nil
}

// Parse reads the text of a fleet file; path stands for it in messages. What
// is no plan is a *Mistakes. Runbooks are not read.
func Parse(path string, text []byte) (*Plan, error) {
	p, r, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	if err := r.mistakes(p); err != nil {
		return nil, err
	}
	return p, nil
}

// parse reads all that can be read, and keeps what is wrong in the reader. It
// fails where nothing can be read at all.
func parse(path string, text []byte) (*Plan, *reader, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	fail := func(m Mistake) (*Plan, *reader, error) {
		return nil, nil, &Mistakes{File: path, Text: text, List: []Mistake{m}}
	}
	root, m := tree(text)
	if m != nil {
		return fail(*m)
	}
	if root == nil {
		return fail(Mistake{Code: "plan-empty", Detail: "There is no plan in this file.", Mend: "Begin with \"version: 1\" and an organisation; docs/guides/plan.md shows how."})
	}
	p := &Plan{Path: path, Text: text, src: newSource(text), root: root}
	r := &reader{root: root, text: p.src}
	r.value(root, reflect.ValueOf(&p.File).Elem(), shapes(), nil, 0)
	p.index()
	if !r.full() {
		p.resolve(r)
	}
	return p, r, nil
}

// mistakes gives what was found its paths and places.
func (r *reader) mistakes(p *Plan) error {
	if len(r.found) == 0 {
		return nil
	}
	out := &Mistakes{File: p.Path, Text: p.Text, Abandoned: r.full()}
	found := &paths{wanted: map[*yaml.Node]string{}}
	for i := range r.found {
		found.wanted[r.found[i].node] = ""
	}
	found.walk(r.root)
	for i := range r.found {
		f := &r.found[i]
		m := Mistake{Code: f.code, Detail: f.detail, Mend: f.mend, Place: r.text.place(f.node, nil)}
		if f.also != nil {
			also := r.text.place(f.also, nil)
			m.Also = &also
		}
		m.Path = found.wanted[f.node]
		out.List = append(out.List, m)
	}
	return out.sorted()
}
