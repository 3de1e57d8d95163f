package recovery

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
)

// Executor carries the runs out while this process leads the fleet.
type Executor struct {
	Store *member.Store
	Book  *incident.Book
	Node  string
	Plan  func() *plan.Plan // in force; may return nil
	Doers map[string]Doer   // by kind of step
	Clock func() time.Time  // with a monotonic part, as time.Now gives it
	Log   *slog.Logger

	at func(point string) // in tests: told of every point at which a leader may die
}

// itself is who acts where nobody else does.
var itself = principal.Node("recovery")

const (
	retryEvery = 500 * time.Millisecond // where the store or the timeline does not answer
	lookEvery  = 2 * time.Second        // at a run in which nothing happens: time passes, and incidents change
	noteEvery  = time.Second            // how often it is written how far a step is
	grace      = 10 * time.Second       // for a doer to end when it has been told to
)

// Lead carries the runs out until the term or ctx ends. It returns when nothing
// that it began is waited for any more.
func (e *Executor) Lead(ctx context.Context, term *member.Term) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-term.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	var work sync.WaitGroup
	defer work.Wait()
	drives := map[string]*drive{}
	for ctx.Err() == nil {
		if err := e.follow(ctx, term, drives, &work); err != nil && ctx.Err() == nil {
			e.Log.Warn("the runs of recoveries cannot be followed; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// follow drives every run that has not ended, and tells each drive when its run
// has changed.
func (e *Executor) follow(life context.Context, term *member.Term, drives map[string]*drive, work *sync.WaitGroup) error {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	all, revision, err := e.Store.List(ctx, pathRuns)
	if err != nil {
		return err
	}
	see := func(v member.Entry) error {
		var r Run
		if err := v.Decode(&r); err != nil {
			return err
		}
		if d := drives[r.ID]; d != nil {
			d.wake()
		} else if r.Ended.IsZero() {
			d := newDrive(e, term, r.ID)
			drives[r.ID] = d
			work.Go(func() { d.run(life) })
		}
		return nil
	}
	for _, v := range all {
		if err := see(v); err != nil {
			return err
		}
	}
	for event := range e.Store.Watch(ctx, pathRuns, revision) {
		switch {
		case event.Err != nil:
			return event.Err
		case event.Deleted:
			if d := drives[strings.TrimPrefix(event.Path, pathRuns)]; d != nil {
				d.wake()
			}
		default:
			if err := see(event.Entry); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
