//go:build linux

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// frame is a function in a flame graph, with what it and those it called used.
type frame struct {
	name  string
	time  time.Duration
	calls map[string]*frame
}

// flame is a whole profile.
type flame struct {
	frame
	system time.Duration // in system calls
}

func (f *frame) child(name string) *frame {
	if f.calls == nil {
		f.calls = map[string]*frame{}
	}
	c := f.calls[name]
	if c == nil {
		c = &frame{name: name}
		f.calls[name] = c
	}
	return c
}

// readTraces folds what `go tool pprof -traces` prints: stacks with the leaf
// first, its time before it, and a ruled line between them.
func readTraces(r io.Reader) (*flame, error) {
	root := &flame{}
	var stack []string
	var took time.Duration
	fold := func() {
		if took == 0 {
			return
		}
		root.time += took
		if strings.HasSuffix(stack[0], ".Syscall6") {
			root.system += took
		}
		at := &root.frame
		for _, name := range slices.Backward(stack) {
			at = at.child(name)
			at.time += took
		}
		stack, took = nil, 0
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(lines.Text()), "(inline)"))
		if strings.HasPrefix(line, "-----") {
			fold()
			continue
		}
		if value, name, ok := strings.Cut(line, " "); ok && took == 0 {
			if d, err := time.ParseDuration(value); err == nil {
				took, line = d, strings.TrimSpace(name)
			}
		}
		if took > 0 {
			stack = append(stack, line)
		}
	}
	fold()
	return root, lines.Err()
}

// ours is how the names of this module's functions begin.
const ours = "github.com/missionopsai/foundry/internal/"

func shortName(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, ours), "github.com/")
}

// label names a function and those that spend nearly all of its time for it by
// the deepest of them that is this module's, or else by the first.
func (f *frame) label() string {
	name := f.name
	for at := f; at != nil && float64(at.time) > same*float64(f.time); at = at.dearest() {
		if strings.HasPrefix(at.name, ours) {
			name = at.name
		}
	}
	return shortName(name)
}

func (f *frame) dearest() *frame {
	var most *frame
	for _, c := range f.calls {
		if most == nil || c.time > most.time {
			most = c
		}
	}
	return most
}

// least is the share of all time that a line of the text must have; same is
// the share of its caller's time above which a function is left out, because
// the line above says it already.
const (
	least = 0.015
	same  = 0.93
)

// print writes the flame graph as text, the dearest calls first.
func (f *flame) print(w io.Writer) {
	_, _ = fmt.Fprintf(w, "100.0 %%  %s of processor time, %.1f %% of it in system calls\n", f.time, 100*float64(f.system)/float64(max(f.time, 1)))
	f.lines(w, f.time, f.time, 1)
}

// plumbing reports functions that lead into the kernel and tell nothing more.
func plumbing(name string) bool {
	for _, p := range []string{"syscall.", "internal/poll.", "internal/runtime/syscall", "golang.org/x/sys/unix."} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func (f *frame) lines(w io.Writer, all, shown time.Duration, depth int) {
	calls := slices.SortedFunc(maps.Values(f.calls), func(a, b *frame) int {
		return cmp.Or(cmp.Compare(b.time, a.time), cmp.Compare(a.name, b.name))
	})
	for _, c := range calls {
		share := float64(c.time) / float64(all)
		switch {
		case share < least || depth > 12:
		case float64(c.time) > same*float64(shown), plumbing(c.name):
			c.lines(w, all, shown, depth)
		default:
			_, _ = fmt.Fprintf(w, "%5.1f %%  %s%s\n", share*100, strings.Repeat("  ", depth), c.label())
			c.lines(w, all, c.time, depth+1)
		}
	}
}
