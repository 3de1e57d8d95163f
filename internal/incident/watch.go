package incident

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/principal"
)

// Watch looks at the clocks of every open incident and has people told. One
// node does it at a time, the one that leads; another that takes over reads
// from the timelines what was told.
type Watch struct {
	Book *Book
	Log  *slog.Logger

	// Tell sends an escalation. It may be asked twice for one, across a crash
	// or a change of leaders: id is the same then. It gives what the carriers
	// said. An error: it is tried again.
	Tell func(ctx context.Context, id string, s *State, r *clock.Reading, e clock.Escalation) (receipts string, err error)

	// Counter is a clock that nobody can set: time since any moment.
	Counter func() time.Duration

	mu   sync.Mutex
	last *clock.Pulse
	said map[string]string // of an escalation that could not be sent: why, as it was last logged
}

// EscalationID names an escalation for good.
func EscalationID(incident string, e clock.Escalation) string {
	return fmt.Sprintf("%s/%s/%d/%g", incident, e.Clock, e.Round, e.Share*100)
}

// Tick looks once. What could not be told, or written, is tried at the next.
func (w *Watch) Tick(ctx context.Context) error {
	now := w.Book.Clock()
	jump := w.pulse(now)
	all, broken, err := w.Book.all(ctx)
	if err != nil {
		return err
	}
	for id, err := range broken {
		w.Log.Error("an incident's timeline does not verify", "incident", id, "error", err)
	}
	for _, t := range all {
		if t.Stale || !t.State.ClosedAt.IsZero() {
			continue
		}
		if jump != "" {
			w.write(ctx, t, &ClockEvent{Event: "jump", Words: jump})
		}
		w.look(ctx, t, now)
	}
	return nil
}

// pulse says whether this node's clock was set since the last look.
func (w *Watch) pulse(now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := clock.Pulse{Wall: now.Round(0), Counter: w.Counter()}
	before := w.last
	w.last = &p
	if before == nil {
		return ""
	}
	_, says, jumped := clock.Jump(*before, p)
	if jumped {
		w.Log.Warn("this node's clock was set", "says", says)
	}
	return says
}

func (w *Watch) look(ctx context.Context, t *Timeline, now time.Time) {
	readings := t.State.Clocks(now)
	tell, passed := clock.Pending(readings, t.State.Told, now)
	for _, e := range passed {
		w.write(ctx, t, event("passed", e))
	}
	for _, e := range tell {
		for i := range readings {
			if readings[i].ID != e.Clock {
				continue
			}
			id := EscalationID(t.State.ID, e)
			receipts, err := w.Tell(ctx, id, t.State, &readings[i], e)
			if err != nil {
				w.unsent(id, t.State.ID, err)
				continue
			}
			told := event("told", e)
			told.Words = receipts
			w.write(ctx, t, told)
		}
	}
}

// unsent logs why, once for each reason: it is tried again every few seconds.
func (w *Watch) unsent(id, incident string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == nil {
		w.said = map[string]string{}
	}
	if w.said[id] != err.Error() {
		w.said[id] = err.Error()
		w.Log.Warn("an escalation could not be sent", "incident", incident, "escalation", id, "error", err)
	}
}

func event(what string, e clock.Escalation) *ClockEvent {
	return &ClockEvent{Event: what, Clock: e.Clock, Round: e.Round, Share: e.Share, Who: e.Who}
}

func (w *Watch) write(ctx context.Context, t *Timeline, e *ClockEvent) {
	_, _, err := w.Book.append(ctx, principal.Node("incident"), t.State.ID, e)
	if err != nil && codeIs(err, "incident-escalated") {
		return // another node was faster
	}
	if err != nil {
		w.Log.Warn("what a clock led to could not be written", "incident", t.State.ID, "error", err)
	}
}
