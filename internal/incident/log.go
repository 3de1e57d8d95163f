package incident

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Log is a timeline outside of every fleet: of an exercise, whose own fleet is
// broken on purpose. Each entry is written out before it counts.
type Log struct {
	id, node, by string
	clock        func() time.Time

	mu sync.Mutex
	to io.Writer
	t  Timeline
}

// NewLog begins a timeline whose entries go to a writer, each as its one line.
func NewLog(to io.Writer, id, node, by string, clock func() time.Time) *Log {
	return &Log{id: id, node: node, by: by, clock: clock, to: to, t: Timeline{State: Fold(nil)}}
}

// ResumeLog goes on with a timeline that was written before.
func ResumeLog(to io.Writer, before []Entry, node, by string, clock func() time.Time) (*Log, error) {
	if len(before) == 0 {
		return nil, broken("There is no timeline to go on with.", nil)
	}
	if err := Verify(before); err != nil {
		return nil, err
	}
	return &Log{id: before[0].Incident, node: node, by: by, clock: clock, to: to, t: Timeline{Entries: slices.Clone(before), State: Fold(before)}}, nil
}

// Append writes an entry, where the timeline allows it.
func (l *Log) Append(body Body) (*Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	if err := l.t.State.Check(body, l.by, now); err != nil {
		return nil, err
	}
	var before *Entry
	if n := len(l.t.Entries); n > 0 {
		before = &l.t.Entries[n-1]
	}
	e, err := link(before, l.id, now, l.by, l.node, body.kind(), body)
	if err != nil {
		return nil, err
	}
	line, err := e.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := l.to.Write(append(line, '\n')); err != nil {
		return nil, fmt.Errorf("writing entry %d of %s: %w", e.N, l.id, err)
	}
	l.t.Entries = append(l.t.Entries, e)
	l.t.State.Apply(&e)
	return &e, nil
}

// Timeline is what was written so far.
func (l *Log) Timeline() *Timeline {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := slices.Clone(l.t.Entries)
	return &Timeline{Entries: entries, State: Fold(entries)}
}
