package ledger

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
)

// Fallback is a time in which one of the fleet's own providers was away and
// requests that it comes first for went elsewhere.
type Fallback struct {
	ID            uuid.UUID
	Provider      string
	Began, Last   time.Time
	Ended         time.Time // zero: it is not over
	Organisations int
	Requests      int64
	Cost          []Amount // by currency
}

// FallbackOptions configure NewFallbacks.
type FallbackOptions struct {
	Node uint32
	Log  *slog.Logger // nil discards
	// Told is called in the transaction in which a fallback begins or ends,
	// once for each on all nodes; may be nil.
	Told func(ctx context.Context, tx pgx.Tx, f Fallback) error
}

// Fallbacks sums what it costs that the fleet's own models are away. Counting
// touches memory only; Flush writes it down. What a node has counted and not
// written down when it is killed, about a second's worth, is missing from
// these sums; the ledger has it.
type Fallbacks struct {
	db *db.DB
	o  FallbackOptions

	mu      sync.Mutex
	counted map[fallbackKey]*fallbackSum
	looked  time.Time // for open ones
	open    bool      // there are some, as far as this node knows
}

type fallbackKey struct {
	provider string
	org      uuid.UUID
	currency string
}

type fallbackSum struct {
	requests, nano int64
	away           bool // of the provider, while one of them was answered
	waited         int  // flushes that found no fallback to put it to
}

// fallbackDoubt is for how many flushes a request that went elsewhere waits for
// the provider to be known to be away.
const fallbackDoubt = 3

// NewFallbacks returns sums that are all zero.
func NewFallbacks(d *db.DB, o FallbackOptions) *Fallbacks {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Fallbacks{db: d, o: o, counted: map[fallbackKey]*fallbackSum{}}
}

// Add counts a request that went elsewhere. away says that the provider is out
// of use; otherwise the request belongs to a fallback only if one is open.
func (f *Fallbacks) Add(provider string, org uuid.UUID, nano int64, currency string, away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := fallbackKey{provider, org, currency}
	s := f.counted[k]
	if s == nil {
		s = &fallbackSum{}
		f.counted[k] = s
	}
	s.requests++
	s.nano = saturatingAdd(s.nano, max(nano, 0))
	s.away = s.away || away
}

// Flush writes down what was counted. What could not be written stays counted.
func (f *Fallbacks) Flush(ctx context.Context) error {
	if !f.db.Healthy() {
		return nil
	}
	f.mu.Lock()
	counted := f.counted
	f.counted = map[fallbackKey]*fallbackSum{}
	f.mu.Unlock()
	away := map[string]bool{}
	for k, s := range counted {
		away[k.provider] = away[k.provider] || s.away
	}
	ids := map[string]uuid.UUID{}
	var errs []error
	for provider, away := range away {
		id, err := f.enter(ctx, provider, away)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ids[provider] = id
	}
	for k, s := range counted {
		id, known := ids[k.provider]
		if known && id == uuid.Nil { // an answer that failed, and no fallback: unless this is how one begins
			if s.waited++; s.waited < fallbackDoubt {
				f.keep(k, s)
			}
			continue
		}
		if known {
			err := f.db.Org(ctx, k.org, func(tx pgx.Tx) error { return addFallbackCost(ctx, tx, id, f.o.Node, k, s) })
			if err == nil {
				continue
			}
			errs = append(errs, err)
		}
		f.keep(k, s)
	}
	return errors.Join(errs...)
}

// keep puts back what was not written down.
func (f *Fallbacks) keep(k fallbackKey, s *fallbackSum) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.counted[k]; now != nil {
		s.requests, s.nano, s.away = s.requests+now.requests, saturatingAdd(s.nano, now.nano), s.away || now.away // waited stays that of the older
	}
	f.counted[k] = s
}

// enter finds the open fallback of a provider, and begins one where there is
// none and the provider is away. It returns the nil id if there is none.
func (f *Fallbacks) enter(ctx context.Context, provider string, away bool) (id uuid.UUID, err error) {
	err = f.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		var fresh bool
		if id, fresh, err = enterFallback(ctx, tx, provider, away); err != nil || !fresh || f.o.Told == nil {
			return err
		}
		now := time.Now().UTC()
		return f.o.Told(ctx, tx, Fallback{ID: id, Provider: provider, Began: now, Last: now})
	})
	if err == nil && id != uuid.Nil {
		f.mu.Lock()
		f.open = true
		f.mu.Unlock()
	}
	return id, err
}

// lookForOpen is how often a node that knows of no fallback looks for one that
// another node left open.
const lookForOpen = 15 * time.Second

// End ends fallbacks whose provider is back, as far as this node sees, and in
// which for as long as calm no request has gone elsewhere. back is asked for
// each by its provider's name.
func (f *Fallbacks) End(ctx context.Context, calm time.Duration, back func(provider string) bool) error {
	f.mu.Lock()
	look := f.db.Healthy() && (f.open || time.Since(f.looked) >= lookForOpen)
	if look {
		f.looked = time.Now()
	}
	f.mu.Unlock()
	if !look {
		return nil
	}
	var all []Fallback
	err := f.db.Read(ctx, func(tx pgx.Tx) (err error) { all, err = openFallbacks(ctx, tx, uuid.Nil); return err })
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.open = len(all) > 0
	f.mu.Unlock()
	for _, one := range all {
		if back(one.Provider) {
			if err := f.end(ctx, one, calm); err != nil {
				return err
			}
		}
	}
	return nil
}

// end ends one fallback, if it is calm by the database's clock and no other
// node was first.
func (f *Fallbacks) end(ctx context.Context, one Fallback, calm time.Duration) error {
	ended := false
	err := f.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) (err error) {
		if ended, err = endFallback(ctx, tx, &one, calm); err != nil || !ended || f.o.Told == nil {
			return err
		}
		return f.o.Told(ctx, tx, one)
	})
	if err != nil || !ended {
		return err
	}
	var orgs []uuid.UUID
	if err := f.db.Read(ctx, func(tx pgx.Tx) (err error) { orgs, err = fallbackOrganisations(ctx, tx, one.ID); return err }); err != nil {
		return err
	}
	for _, org := range orgs {
		if err := f.db.Org(ctx, org, func(tx pgx.Tx) error { return endFallbackCosts(ctx, tx, one) }); err != nil {
			return err
		}
	}
	return nil
}
