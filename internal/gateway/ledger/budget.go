package ledger

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/db"
)

// Period is how long a budget lasts before it starts again, in UTC.
type Period string

const (
	Day   Period = "day"
	Month Period = "month"
	Total Period = "total" // never starts again
)

// Bounds returns the period that now lies in. Total began in 1970 and ends
// with the zero time.
func (p Period) Bounds(now time.Time) (start, end time.Time) {
	y, m, d := now.UTC().Date()
	switch p {
	case Day:
		start = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 1)
	case Month:
		start = time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	default:
		return time.Unix(0, 0).UTC(), time.Time{}
	}
}

// Budget is a limit on what an organisation, or one of its keys, may spend.
type Budget struct {
	ID           uuid.UUID `json:"id"`
	Organisation uuid.UUID `json:"organisation"`
	Key          string    `json:"key,omitempty"` // selector; empty: the whole organisation
	Period       Period    `json:"period"`
	LimitNano    int64     `json:"limit_nano"`
	Currency     string    `json:"currency"`
	AlarmPercent int       `json:"alarm_percent"`
}

// Alarm says that a budget's spending passed its alarm line. It is raised
// once for each budget and period. (While the database is away every node
// that sees the line passed raises it by itself.)
type Alarm struct {
	Budget      Budget
	PeriodStart time.Time
	SpentNano   int64
	At          time.Time
}

// BudgetOptions configure NewBudgets.
type BudgetOptions struct {
	Node, Boot uint32
	Alarm      func(Alarm)      // called from Run; may be nil
	Log        *slog.Logger     // nil discards
	Now        func() time.Time // nil is time.Now
}

// Budgets keeps spending under its limits. Admitting and settling touch
// memory only; Run leases chunks of each budget from the database ahead of
// need, so that the sum over all nodes never exceeds a limit, and a node that
// has spent its lease refuses whether or not the database is there.
type Budgets struct {
	db  *db.DB
	o   BudgetOptions
	log *slog.Logger

	origin time.Time // of the steady clock

	loaded atomic.Bool   // which budgets exist is known
	wake   chan struct{} // a lease runs low
	round  atomic.Pointer[chan struct{}]

	mu       sync.Mutex
	defs     map[uuid.UUID]*pot
	sets     map[owner]*potSet
	accounts map[owner]*Account

	leasing sync.Mutex // one round of leasing at a time
}

// owner is whom a budget limits: an organisation, or one of its keys.
type owner struct {
	org uuid.UUID
	key string
}

// NewBudgets returns budgets that refuse everything that costs money until
// Refresh or Load has said which budgets exist.
func NewBudgets(d *db.DB, o BudgetOptions) *Budgets {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &Budgets{
		db: d, o: o, log: o.Log, origin: o.Now().Add(-century), wake: make(chan struct{}, 1),
		defs: map[uuid.UUID]*pot{}, sets: map[owner]*potSet{}, accounts: map[owner]*Account{},
	}
	round := make(chan struct{})
	b.round.Store(&round)
	return b
}

// century keeps moments before the start positive, as clocks of tests have.
const century = 100 * 365 * 24 * time.Hour

// steady is a moment for the limits per minute: by the monotonic clock, where
// now has one, so that a wall clock that is set back does not close them until
// it has caught up.
func (b *Budgets) steady(now time.Time) int64 { return int64(now.Sub(b.origin)) }

// Load says which budgets exist, as read from a snapshot. Budgets that are
// not in the list end; the leases of those that stay are kept.
func (b *Budgets) Load(list []Budget) {
	now := b.o.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := make(map[uuid.UUID]*pot, len(list))
	members := map[owner][]*pot{}
	for _, def := range list {
		p := b.defs[def.ID]
		if p == nil || p.def.Load().Period != def.Period {
			p = newPot(b, def, now)
		}
		p.def.Store(&def)
		kept[def.ID] = p
		o := owner{def.Organisation, def.Key}
		members[o] = append(members[o], p)
	}
	b.defs = kept
	for o, set := range b.sets {
		if _, any := members[o]; !any {
			set.pots.Store(nil)
		}
	}
	for o, pots := range members {
		b.set(o).pots.Store(&pots)
	}
	b.loaded.Store(true)
}

// Definitions returns what Load was last told, for a snapshot.
func (b *Budgets) Definitions() []Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Budget, 0, len(b.defs))
	for _, p := range b.defs {
		list = append(list, *p.def.Load())
	}
	return list
}

// set returns the pots of an owner; b.mu is held.
func (b *Budgets) set(o owner) *potSet {
	s := b.sets[o]
	if s == nil {
		s = new(potSet)
		b.sets[o] = s
	}
	return s
}

// Account returns the account of one API key. There is one for each key:
// asking again changes its limits and keeps what it has used of them.
func (b *Budgets) Account(org uuid.UUID, key string, l Limits) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[owner{org, key}]
	if a == nil {
		a = &Account{budgets: b, sets: [2]*potSet{b.set(owner{org, ""}), b.set(owner{org, key})}}
		if key == "" {
			a.sets[1] = new(potSet)
		}
		b.accounts[owner{org, key}] = a
	}
	a.requests.limit.Store(l.RequestsPerMinute)
	a.tokens.limit.Store(l.TokensPerMinute)
	return a
}

// potSet is the budgets of one owner, replaced as a whole.
type potSet struct{ pots atomic.Pointer[[]*pot] }

// pot is one budget on this node.
type pot struct {
	budgets *Budgets
	def     atomic.Pointer[Budget]
	current atomic.Pointer[window]
	next    atomic.Pointer[window] // leased before its period begins; may be nil
	past    atomic.Pointer[window] // the one before current, until its spending is reported
}

// window is the lease of one budget in one period.
type window struct {
	start, end int64 // Unix nanoseconds; end is exclusive

	balance atomic.Int64 // leased and not reserved; below zero after an overspending
	settled atomic.Int64 // spent, as settled
	low     atomic.Int64 // below this, ask for more
	want    atomic.Int64 // the sum of the reservations that were refused since the last round
	left    atomic.Int64 // what the database had left for others after the last round; -1: never asked
	asked   atomic.Bool  // more was asked for and no round has run since

	// Written by the leasing loop only.
	reported   int64 // of settled, in the database
	elsewhere  int64 // settled by other nodes and boots, as last seen
	limit      int64 // the limit that the lease was granted under
	alarmed    bool
	unrecorded bool  // the alarm was raised while the database was away
	reportedAt int64 // Unix nanoseconds
}

func newWindow(p Period, now time.Time) *window {
	start, end := p.Bounds(now)
	w := &window{start: start.UnixNano(), end: math.MaxInt64}
	if !end.IsZero() {
		w.end = end.UnixNano()
	}
	w.left.Store(-1)
	return w
}

func newPot(b *Budgets, def Budget, now time.Time) *pot {
	p := &pot{budgets: b}
	p.def.Store(&def)
	p.current.Store(newWindow(def.Period, now))
	return p
}

// at returns the window that now lies in. A clock that steps back stays in
// the window it was in: what is spent is spent.
func (p *pot) at(now int64) *window {
	w := p.current.Load()
	if now < w.end {
		return w
	}
	return p.roll(w, now)
}

func (p *pot) roll(old *window, now int64) *window {
	w := p.next.Load()
	if w == nil || now < w.start || now >= w.end {
		w = newWindow(p.def.Load().Period, time.Unix(0, now))
	}
	if !p.current.CompareAndSwap(old, w) {
		return p.current.Load()
	}
	p.past.Store(old)
	p.next.Store(nil)
	p.budgets.ask(w)
	return w
}

// take reserves n, all or nothing.
func (w *window) take(n int64) bool {
	if n <= 0 {
		return true
	}
	for {
		balance := w.balance.Load()
		if balance < n {
			return false
		}
		if w.balance.CompareAndSwap(balance, balance-n) {
			return true
		}
	}
}

// ask wakes the leasing loop, once for each round.
func (b *Budgets) ask(w *window) {
	if w.asked.Load() || !w.asked.CompareAndSwap(false, true) {
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run leases until ctx ends.
func (b *Budgets) Run(ctx context.Context) error { return b.run(ctx) }
