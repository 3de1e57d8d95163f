package plan

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unicode/utf8"
)

// Bounds of runbooks: one is read by a person at night.
const (
	maxBook  = 1 << 20
	maxBooks = 32 << 20
)

// readBooks reads the runbooks beside the plan. None outside of the plan's
// directory is read, by whatever path or link.
func (p *Plan) readBooks(r *reader) {
	var dir *os.Root
	total := 0
	for i := range p.Runbooks {
		b := &p.Runbooks[i]
		if b.File == "" {
			continue
		}
		node := nodeAt(r.root, fmt.Sprintf("runbooks[%d].file", i))
		if dir == nil {
			var err error
			if dir, err = os.OpenRoot(filepath.Dir(p.Path)); err != nil {
				r.wrong(node, "plan-runbook", "The plan's directory cannot be opened.", "")
				return
			}
			defer dir.Close()
		}
		text, err := readBook(dir, b.File)
		if total += len(text); err == nil && total > maxBooks {
			err = errors.New("all runbooks together are larger than 32 MiB")
		}
		if err != nil {
			r.wrong(node, "plan-runbook", fmt.Sprintf("The runbook %q cannot be read: %s.", short(b.File), err), "Name a Markdown file in the plan's directory or below it, relative to the plan.")
			continue
		}
		if p.Books == nil {
			p.Books = map[string][]byte{}
		}
		p.Books[b.Name] = text
	}
}

func readBook(dir *os.Root, name string) ([]byte, error) {
	if !filepath.IsLocal(name) {
		return nil, errors.New("it lies outside of the plan's directory")
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxBook+1))
	switch {
	case err != nil:
		return nil, errors.New("reading it failed")
	case len(text) > maxBook:
		return nil, errors.New("it is larger than 1 MiB")
	case !utf8.Valid(text):
		return nil, errors.New("it is not UTF-8")
	}
	return text, nil
}
