package order

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// Desk gives orders, for whoever leads.
type Desk struct {
	Store *member.Store

	// Heard is how long a node has to take an order; default 30 s.
	Heard time.Duration
}

const (
	usualHeard = 30 * time.Second
	retryEvery = 500 * time.Millisecond // where the store does not answer
)

// Give has an order carried out and waits until that is over, or ctx is. An
// order that the node has, from this leader or one before, is not given a
// second time: its answer is. One that failed or was refused is an error too. A node that does not take it in time gets it no
// more ([ErrUnheard]); one that took it and is not done when ctx ends may go on
// ([ErrUnending]).
func (d *Desk) Give(ctx context.Context, term *member.Term, o Order) (Answer, error) {
	return d.GiveTold(ctx, term, o, nil)
}

// GiveTold is Give, and tells every answer on the way.
func (d *Desk) GiveTold(ctx context.Context, term *member.Term, o Order, told func(Answer)) (Answer, error) {
	if o.Node == "" || o.ID != o.Run+"/"+o.Step || o.Attempt < 1 || o.Kind == "" {
		return Answer{}, problem.New(problem.Invalid, "order-incomplete", "An order names its run, step, node, kind and attempt.")
	}
	if o.Epoch == 0 {
		o.Epoch = term.Epoch()
	}
	revision, err := d.put(ctx, term, o)
	if err != nil {
		return Answer{}, err
	}
	heard := d.Heard
	if heard <= 0 {
		heard = usualHeard
	}
	timer := time.NewTimer(heard)
	defer timer.Stop()
	var last Answer
	var at int64 // revision of the answer that was seen last
	for {
		a, there, seen, err := d.answer(ctx, o)
		if err == nil {
			at = seen
		}
		if err == nil && there {
			if told != nil {
				told(a)
			}
			if last = a; a.Over() {
				return a, a.Err()
			}
			timer.Stop()
		}
		switch d.await(ctx, term, o, max(at, revision), timer.C, err != nil) {
		case awaitEnded:
			return last, d.unended(ctx, last)
		case awaitLate:
			if err := d.withdraw(ctx, term, o, revision, at); err == nil {
				return Answer{}, ErrUnheard
			}
			timer.Reset(retryEvery) // it was taken this moment, or the store does not answer
		case awaitOver:
			return last, member.ErrNotLeader
		}
	}
}

func (d *Desk) unended(ctx context.Context, last Answer) error {
	if last.Attempt == 0 {
		return ctx.Err()
	}
	return problem.New(ErrUnending.Kind, ErrUnending.Code, ErrUnending.Detail).WithMend(ErrUnending.Mend).Wrap(errors.Join(ErrUnending, ctx.Err()))
}

// put has the order stand in the store under this leader's epoch.
func (d *Desk) put(ctx context.Context, term *member.Term, o Order) (int64, error) {
	path := orderPath(o.Node, o.ID)
	for {
		var old Order
		e, err := d.Store.Get(ctx, path)
		switch {
		case errors.Is(err, member.ErrAbsent):
		case err != nil:
			return 0, err
		default:
			if err := e.Decode(&old); err != nil {
				return 0, err
			}
			if old.Attempt > o.Attempt || old.Attempt == o.Attempt && !same(old, o) {
				return 0, problem.New(problem.Conflict, "order-other", fmt.Sprintf("%s has another order for attempt %d of %s.", o.Node, old.Attempt, o.ID)).WithMend("Begin another attempt.")
			}
			if same(old, o) && old.Epoch >= o.Epoch {
				return e.Revision, nil
			}
		}
		revision, err := term.Put(ctx, path, o, member.IfRevision(path, e.Revision))
		if err == nil {
			return revision, nil
		}
		if !errors.Is(err, member.ErrNotLeader) {
			return 0, err
		}
		if err := term.Check(ctx); err != nil { // or else somebody was faster with this order
			return 0, err
		}
	}
}

// withdraw takes an order back that the node has not answered: it can take it
// no more. It fails where the node has.
func (d *Desk) withdraw(ctx context.Context, term *member.Term, o Order, revision, answer int64) error {
	path := orderPath(o.Node, o.ID)
	return term.Delete(ctx, path, member.IfRevision(path, revision), member.IfRevision(answerPath(o.Node, o.ID), answer))
}

// Withdraw takes back whatever orders a run has given to a node: what was not
// taken is not begun, and what runs is told to end.
func (d *Desk) Withdraw(ctx context.Context, term *member.Term, node, run string) error {
	return term.Delete(ctx, orderPath(node, run)+"/")
}

// Look says what the node has answered to an attempt so far; false: nothing.
func (d *Desk) Look(ctx context.Context, o Order) (Answer, bool, error) {
	a, there, _, err := d.answer(ctx, o)
	return a, there, err
}

// answer reads what there is. A refusal of an epoch before is no answer: the
// node may take the order from this leader.
func (d *Desk) answer(ctx context.Context, o Order) (a Answer, there bool, revision int64, err error) {
	e, err := d.Store.Get(ctx, answerPath(o.Node, o.ID))
	if errors.Is(err, member.ErrAbsent) {
		return a, false, 0, nil
	}
	if err != nil {
		return a, false, 0, err
	}
	if err := e.Decode(&a); err != nil {
		return a, false, e.Revision, err
	}
	if a.ID != o.ID || a.Attempt != o.Attempt || a.State == Refused && a.Epoch < o.Epoch {
		return Answer{}, false, e.Revision, nil
	}
	return a, true, e.Revision, nil
}

type awaited int

const (
	awaitAgain awaited = iota // look again
	awaitEnded                // ctx has
	awaitLate                 // nothing was heard in time
	awaitOver                 // the term is
)

// await waits until the answer may be another.
func (d *Desk) await(ctx context.Context, term *member.Term, o Order, after int64, late <-chan time.Time, poll bool) awaited {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	var changes <-chan member.Event
	var again <-chan time.Time
	if poll {
		again = time.After(retryEvery)
	} else {
		// From the answer that was seen last, or else from the order: none is missed.
		changes = d.Store.Watch(watching, answerPath(o.Node, o.ID), after)
		again = time.After(10 * time.Second) // a watch that has gone silent costs no more than this
	}
	select {
	case <-ctx.Done():
		return awaitEnded
	case <-term.Done():
		return awaitOver
	case <-late:
		return awaitLate
	case <-changes:
	case <-again:
	}
	return awaitAgain
}
