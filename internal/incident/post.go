package incident

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/missionopsai/foundry/internal/principal"
)

// Posted is what became of one attempt to send a notice.
type Posted struct {
	Step    Step   // Accepted; Failed: certainly not taken; SentOff: nobody knows
	Again   bool   // of a failed one: another attempt may do better
	Channel string // by which it went
	Receipt string // what the carrier said
	Words   string
}

// Post sends the notices that were released. The timeline is its outbox: an
// attempt is written down before it is made, and what the carrier said after
// it. Who dies in between leaves a notice of which it is not known whether it
// arrived; whoever comes next sends it again under the same id, so that a
// receiver can drop a double, and after three such doubts leaves it to people.
type Post struct {
	Book *Book
	Log  *slog.Logger

	// Send makes one attempt. id is the same for every attempt at a notice.
	Send func(ctx context.Context, id string, s *State, n *Sent) (Posted, error)

	// Flight is how long an attempt of another node may still be under way: 1 min.
	Flight time.Duration
	// Wait is the pause after so many attempts; nil: from 15 s to 15 min.
	Wait func(tries int) time.Duration
}

const (
	maxDoubts = 3
	flight    = time.Minute
)

// PostID names a notice for good, whoever sends it.
func PostID(incident, notice string) string { return incident + "/notice/" + notice }

// Tick sends what is due.
func (p *Post) Tick(ctx context.Context) error {
	all, _, err := p.Book.all(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Stale || !t.State.ClosedAt.IsZero() {
			continue
		}
		for i := range t.State.Notices {
			n := t.State.Notices[i]
			if !p.due(&n) {
				continue
			}
			if err := p.one(ctx, t, n); err != nil && ctx.Err() == nil {
				p.Log.Warn("a notice was not sent", "incident", t.State.ID, "notice", n.ID, "error", err)
			}
		}
	}
	return ctx.Err()
}

// due says whether a notice is to be sent now.
func (p *Post) due(n *Sent) bool {
	since := p.Book.Clock().Sub(n.LastAt)
	switch {
	case !n.Released:
		return false
	case n.Step == Released:
		return true
	case n.Step == Failed:
		return since >= p.wait(n.Tries)
	case n.Step == SentOff: // left by somebody who died, or whose answer was lost
		return n.Doubts+1 < maxDoubts && since >= p.flight()
	}
	return false
}

func (p *Post) flight() time.Duration {
	if p.Flight > 0 {
		return p.Flight
	}
	return flight
}

func (p *Post) wait(tries int) time.Duration {
	if p.Wait != nil {
		return p.Wait(tries)
	}
	return min(15*time.Second<<min(max(tries-1, 0), 6), 15*time.Minute)
}

// one writes that it is tried, tries, and writes what was said.
func (p *Post) one(ctx context.Context, t *Timeline, n Sent) error {
	who, id := principal.Node("incident"), t.State.ID
	_, t, err := p.Book.append(ctx, who, id, &Notice{ID: n.ID, Step: SentOff, Try: n.Tries + 1, Words: fmt.Sprintf("Attempt %d.", n.Tries+1)})
	if codeIs(err, "incident-notice-tried") || codeIs(err, "incident-notice-told") {
		return nil
	}
	if err != nil {
		return err
	}
	what, err := p.Send(ctx, PostID(id, n.ID), t.State, t.State.notice(n.ID))
	if err != nil {
		what = Posted{Step: Failed, Again: true, Words: err.Error()}
	}
	if what.Step == SentOff {
		return nil // it stands as sent, and as not known
	}
	if ctx.Err() != nil { // what was said must not be lost because this process ends
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
	}
	b := &Notice{ID: n.ID, Step: what.Step, Channel: what.Channel, Receipt: what.Receipt, Again: what.Again, Words: what.Words, At: p.Book.Clock()}
	_, _, err = p.Book.append(ctx, who, id, b)
	return err
}
