package backup

import (
	"context"
	"errors"
	"time"

	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// away is why a target cannot be used now because what was accepted is not
// there; nil: it is, as far as can be seen without asking a server.
func away(t target.Target) *problem.Error {
	if err := t.There(); err != nil {
		return problem.From(err)
	}
	return nil
}

// watchAway notices targets that go and come back. What was known of one that
// is back is looked at anew, and the schedule does not wait for the next try.
func (b *Backups) watchAway() {
	for _, t := range b.o.Targets {
		p := away(t)
		b.mu.Lock()
		since, was := b.away[t.Name]
		switch {
		case p != nil && !was:
			b.away[t.Name] = b.o.Clock()
			delete(b.seen, t.Name)
		case p == nil && was:
			delete(b.away, t.Name)
			b.forget(t.Name)
		}
		b.mu.Unlock()
		switch {
		case p != nil && !was:
			b.o.Log.Error("a target of backups is away", "target", t.Name, "code", p.Code, "detail", p.Detail, "mend", p.Mend)
		case p == nil && was:
			b.o.Log.Info("a target of backups is back", "target", t.Name, "after", b.o.Clock().Sub(since).Round(time.Second).String())
			b.resolved("backup-target-failing", t.Name)
		}
	}
}

// sinceBack forgets failures from before a target was back.
func (b *Backups) sinceBack(target string, h history) history {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.back[target]; ok && h.LastTry.Before(at) {
		h.Failures = 0
	}
	return h
}

// glance is how often a run looks whether its target is still there.
const glance = time.Second

// whileThere does something at a target, and ends it when the target goes
// away: engines make directories anew that they miss, and would go on with an
// empty mount point.
func whileThere(ctx context.Context, t target.Target, do func(context.Context) error) error {
	if t.Kind != target.Directory {
		return do(ctx)
	}
	watched, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(glance)
		defer tick.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-tick.C:
				if p := away(t); p != nil {
					stop(p)
					return
				}
			}
		}
	}()
	err := do(watched)
	gone := context.Cause(watched)
	stop(nil)
	<-ended
	var p *problem.Error
	if err != nil && ctx.Err() == nil && errors.As(gone, &p) {
		said := *p // what the engine returns may be the very same
		return said.Wrap(err)
	}
	if err == nil {
		return t.There()
	}
	return err
}
