package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/db"
)

const (
	lookEvery   = 2 * time.Second // for messages that are due
	sweepEvery  = time.Minute     // for messages that expired
	atOnce      = 4               // messages sent at a time, per node
	firstWait   = 15 * time.Second
	longestWait = 30 * time.Minute
	maxDoubtful = 3 // after so many attempts with a lost answer, a person decides
)

// SenderOptions make a sender.
type SenderOptions struct {
	DB   *db.DB
	Log  *slog.Logger
	Look time.Duration // how often to look for due messages; 0: every 2 s

	// Wait gives the pause before attempt n+1 (n from 1); nil: exponential with
	// jitter, from 15 s to 30 min.
	Wait func(n int) time.Duration

	// Taken is told that a relay accepted a message, before that is stored; may
	// be nil. It is where a test kills the process.
	Taken func(id uuid.UUID)
}

// Send sends what is due, until ctx ends. Any number of nodes may run it.
// Without a relay it only wipes what has expired.
func (b *Outbox) Send(ctx context.Context, o SenderOptions) error {
	if o.Wait == nil {
		o.Wait = backoff
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Look <= 0 {
		o.Look = lookEvery
	}
	tick := time.NewTicker(o.Look)
	defer tick.Stop()
	var swept time.Time
	for {
		if o.DB.Healthy() {
			if now := b.clock(); now.Sub(swept) >= sweepEvery || now.Before(swept) {
				swept = now
				if _, err := expire(ctx, o.DB); err != nil && ctx.Err() == nil {
					o.Log.Warn("expired messages were not wiped", "error", err)
				}
			}
			if err := b.call(ctx, o); err != nil && ctx.Err() == nil {
				o.Log.Warn("nobody was called", "error", err)
			}
			if err := b.round(ctx, o); err != nil && ctx.Err() == nil {
				o.Log.Warn("messages were not sent", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-b.kick:
		}
	}
}

// round sends everything that is due now.
func (b *Outbox) round(ctx context.Context, o SenderOptions) error {
	channels := b.reached()
	if len(channels) == 0 {
		return nil
	}
	for ctx.Err() == nil {
		list, err := due(ctx, o.DB, channels, 20)
		if err != nil || len(list) == 0 {
			return err
		}
		var wg sync.WaitGroup
		slots := make(chan struct{}, atOnce)
		var mu sync.Mutex
		var sent int
		for _, n := range list {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				ok, err := b.one(ctx, o, n)
				if err != nil && ctx.Err() == nil {
					o.Log.Warn("a message was not sent", "message", n.ID, "error", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if ok {
					sent++
				}
			})
		}
		wg.Wait()
		if sent == 0 { // others hold them, or none could be tried
			return nil
		}
	}
	return ctx.Err()
}

// one claims, sends and settles one message.
func (b *Outbox) one(ctx context.Context, o SenderOptions, n Notification) (bool, error) {
	lease, bound := uuid.New(), b.bound(n.Channel)
	span := bound + 30*time.Second
	c, attempt, ok, err := b.claim(ctx, o.DB, n, lease, span)
	if !ok || err != nil {
		return false, err
	}
	// The lease outlasts the attempt by half a minute, in which the outcome is
	// entered.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	tries := b.attempt(work, n, c)
	last := tries[len(tries)-1]
	if last.outcome == accepted && o.Taken != nil {
		o.Taken(n.ID)
	}
	o.Log.Info("a message was tried", "message", n.ID, "template", n.Template, "attempt", attempt, "outcome", last.String())
	doubts := n.Doubtful
	if n.State == Sending {
		doubts++
	}
	v := judge(last.outcome, doubts, o.Wait(attempt))
	enter, cancelEnter := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second)
	defer cancelEnter()
	for {
		err = settle(enter, o.DB, n, lease, attempt, tries, v)
		if err == nil || !errors.Is(err, db.ErrUnavailable) {
			return true, err // where it could not be entered, the lease runs out and the message becomes indeterminate
		}
		select {
		case <-enter.Done():
			return true, err
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// stopGrace is what a node that stops gives to the messages it is sending.
const stopGrace = 3 * time.Second

// attempt tries the relays in order until one has accepted the message, has
// refused it for good, or may have taken it.
func (b *Outbox) attempt(ctx context.Context, n Notification, c content) (tries []try) {
	if n.Channel != mailChannel {
		h, ok := b.channels.webhook(n.Channel)
		if !ok {
			return []try{{relay: n.Channel, outcome: deferred, stage: "connect", answer: "No webhook of this name is configured."}}
		}
		return []try{h.deliver(ctx, n.ID.String(), b.clock(), c.Payload)}
	}
	message, err := compose(n.MessageID, c)
	if err != nil {
		return []try{{outcome: refused, stage: "content", answer: "The message could not be composed."}}
	}
	helo, err := os.Hostname()
	if err != nil || notHost(helo) {
		helo = "localhost"
	}
	for _, r := range b.config.Relays {
		t := r.deliver(ctx, helo, c, message)
		tries = append(tries, t)
		// Not to the next relay after a doubt: that would make a double of
		// what the first may have taken.
		if t.outcome != deferred {
			break
		}
	}
	return tries
}

// bound is how long one attempt may take.
func (b *Outbox) bound(channel string) time.Duration {
	if h, ok := b.channels.webhook(channel); ok {
		return h.timeout() + 5*time.Second
	}
	return b.config.attempt()
}

func notHost(s string) bool {
	for _, r := range s {
		if r != '.' && notDomain(r|0x20) {
			return true
		}
	}
	return s == ""
}

// verdict is what an attempt means for its message.
type verdict struct {
	state State
	wait  *time.Duration // nil: no further attempt by itself
	wipe  bool
}

// judge decides what follows. doubts counts the earlier attempts whose outcome
// nobody knows.
func judge(o outcome, doubts int, wait time.Duration) verdict {
	switch {
	case o == accepted:
		return verdict{state: Accepted, wipe: true}
	case o == refused && doubts == 0:
		return verdict{state: Failed} // kept until it expires, so that a person can retry
	case o == refused: // an earlier attempt may have arrived
		return verdict{state: Indeterminate}
	case o == doubtful && doubts+1 >= maxDoubtful:
		return verdict{state: Indeterminate}
	case o == doubtful || doubts > 0:
		return verdict{state: Indeterminate, wait: &wait}
	}
	return verdict{state: Queued, wait: &wait}
}

// backoff doubles from 15 s to 30 min, with a fifth of jitter, so that what
// waited for one relay does not come back all at once.
func backoff(n int) time.Duration {
	wait := longestWait
	if n < 8 {
		wait = min(firstWait<<(n-1), longestWait)
	}
	return wait + time.Duration((rand.Float64()-0.5)*0.4*float64(wait))
}
