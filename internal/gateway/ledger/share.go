package ledger

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// rateChannel carries what gateways used of the limits per minute.
const rateChannel = "foundry_rates"

const (
	shareEvery = 100 * time.Millisecond
	maxShared  = 100 // keys in one message: PostgreSQL takes less than 8000 bytes
)

// shared is what one gateway used since it last said so.
type shared struct {
	From uuid.UUID `json:"f"`
	Used []used    `json:"u"`
}

type used struct {
	Org      uuid.UUID `json:"o"`
	Key      string    `json:"k"`
	Requests int64     `json:"r,omitempty"`
	Tokens   int64     `json:"t,omitempty"`
}

// Share keeps limits per minute common to all gateways, until ctx ends: each
// tells the others a few times a second what it let through, and takes from
// its own buckets what they did. Between two messages each gateway decides by
// itself: so much can pass beyond a limit as the others let through in that
// time, and it is then missing from the minute that follows. While the
// database is away each gateway keeps the limits by itself.
func (b *Budgets) Share(ctx context.Context, peers func() int) {
	me := uuid.New()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		b.db.Hear(ctx, rateChannel, func(payload string) { b.hear(me, payload) })
	}()
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			<-heard
			return
		case <-tick.C:
		}
		list := b.used()
		if peers() == 0 || !b.db.Healthy() {
			continue // nobody hears it: what was used is in this node's own buckets
		}
		for len(list) > 0 {
			part := list[:min(len(list), maxShared)]
			list = list[len(part):]
			if err := b.tell(ctx, shared{me, part}); err != nil && ctx.Err() == nil {
				b.log.Debug("what was used of limits per minute was not told", "error", err)
			}
		}
	}
}

func (b *Budgets) tell(ctx context.Context, s shared) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return b.db.Tell(ctx, rateChannel, string(text))
}

// used takes what was let through since it was last asked.
func (b *Budgets) used() (list []used) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for o, a := range b.accounts {
		r, t := a.requests.used.Swap(0), a.tokens.used.Swap(0)
		if r != 0 || t != 0 {
			list = append(list, used{o.org, o.key, r, t})
		}
	}
	return list
}

// hear takes from this node's buckets what others let through.
func (b *Budgets) hear(me uuid.UUID, payload string) {
	var s shared
	if json.Unmarshal([]byte(payload), &s) != nil || s.From == me {
		return
	}
	now := b.steady(b.o.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, u := range s.Used {
		if a := b.accounts[owner{u.Org, u.Key}]; a != nil {
			a.requests.owe(now, u.Requests)
			a.tokens.owe(now, u.Tokens)
		}
	}
}

// owe takes n that was used elsewhere, whether it is there or not; a negative
// n gives it back.
func (r *rate) owe(now, n int64) {
	limit := r.limit.Load()
	if limit <= 0 || n == 0 {
		return
	}
	cost := span(max(n, -n), limit)
	if n < 0 {
		cost = -cost
	}
	for {
		full := r.full.Load()
		if r.full.CompareAndSwap(full, max(full, now)+cost) {
			return
		}
	}
}
