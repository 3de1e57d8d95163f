package order

import (
	"context"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
)

// Desk gives orders, for whoever leads.
type Desk struct {
	Store *member.Store
	Log   interface{ Warn(string, ...any) }

	// Heard is how long a node has to take an order; default 30 s.
	Heard time.Duration
}

// Give has an order carried out and waits until that is over, or ctx is. An
// order that the node has, from this leader or one before, is not given a
// second time: its answer is.
func (d *Desk) Give(ctx context.Context, term *member.Term, o Order) (Answer, error) {
	return d.GiveTold(ctx, term, o, nil)
}

// GiveTold is Give, and tells every answer on the way.
func (d *Desk) GiveTold(ctx context.Context, term *member.Term, o Order, told func(Answer)) (Answer, error) {
	return Answer{}, ErrUnheard
}

// Look says what the node has answered to an attempt so far; false: nothing.
func (d *Desk) Look(ctx context.Context, o Order) (Answer, bool, error) {
	return Answer{}, false, nil
}
