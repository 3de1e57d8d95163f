package probe

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// space is what a file system has, as a process without privileges sees it.
type space struct {
	free, total             uint64 // bytes
	freeInodes, totalInodes uint64 // total is 0 where they are not counted
}

// disk looks at the file system that holds a path of this machine.
func (l *look) disk(ctx context.Context) finding {
	type outcome struct {
		s   space
		err error
	}
	// A file system of a server that is away keeps its callers for ever.
	done := make(chan outcome, 1)
	go func() { s, err := spaceAt(l.t.Rest); done <- outcome{s, err} }()
	select {
	case <-ctx.Done():
		return bad(Timeout, "The file system of %s does not answer.", l.t.Rest)
	case o := <-done:
		switch {
		case errors.Is(o.err, fs.ErrNotExist):
			return bad(NoName, "There is no %s on this machine.", l.t.Rest)
		case errors.Is(o.err, errors.ErrUnsupported):
			return unknown(NotAvailable, "This machine does not say how much space is free.")
		case o.err != nil:
			return bad(NotAvailable, "The file system of %s cannot be asked.", l.t.Rest)
		}
		return l.judgeSpace(o.s)
	}
}

func (l *look) judgeSpace(s space) finding {
	if s.total == 0 {
		return unknown(NotAvailable, "The file system of %s has no size.", l.t.Rest)
	}
	percent := 100 * float64(s.free) / float64(s.total)
	l.fact("free_bytes", strconv.FormatUint(s.free, 10))
	l.fact("total_bytes", strconv.FormatUint(s.total, 10))
	l.fact("free_percent", strconv.FormatFloat(percent, 'f', 1, 64))
	if want := l.t.word("free", "10%"); short(want, s.free, s.total) {
		return bad(NoSpace, "%.1f %% of the file system of %s is free; %s is wanted.", percent, l.t.Rest, want)
	}
	if s.totalInodes > 0 {
		inodes := 100 * float64(s.freeInodes) / float64(s.totalInodes)
		l.fact("free_inodes_percent", strconv.FormatFloat(inodes, 'f', 1, 64))
		if want := l.t.word("inodes", "5%"); short(want, s.freeInodes, s.totalInodes) {
			return bad(NoInodes, "%.1f %% of the inodes of the file system of %s are free; %s is wanted.", inodes, l.t.Rest, want)
		}
	}
	return good("%.1f %% of the file system of %s is free.", percent, l.t.Rest)
}

// short reports whether less is free than is wanted.
func short(want string, free, total uint64) bool {
	if part, ok := strings.CutSuffix(want, "%"); ok {
		n, _ := strconv.ParseFloat(part, 64) // checked when it was read
		return 100*float64(free) < n*float64(total)
	}
	s, _ := plan.ParseSize(want) // checked when it was read
	return free < uint64(s.Bytes())
}
