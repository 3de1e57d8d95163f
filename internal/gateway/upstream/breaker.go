package upstream

import (
	"sync/atomic"
	"time"
)

// State is what a Breaker does with the next call.
type State uint8

// The states of a Breaker.
const (
	Closed   State = iota // calls pass
	Open                  // calls are refused
	HalfOpen              // one probe may pass, or is on its way
)

func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	}
	return "half-open"
}

// Breaker stops calls to an upstream that keeps failing. The closed path takes
// no lock and allocates nothing.
//
// It opens after so many failures in a row, or when a window holds at least so
// many failures and they are at least half of the calls. After the cooldown it
// lets exactly one probe through: success closes it, failure opens it again for
// another cooldown.
type Breaker struct {
	failures         int64
	window, cooldown time.Duration
	clock            func() time.Time
	phase            atomic.Pointer[phase]
}

// The window is cut into this many buckets: a failure stops counting after
// between (buckets-1)/buckets of the window and the whole window.
const breakerBuckets = 8

// phase is one stay in one state. Outcomes are reported to the phase that
// admitted the call, so that a straggler from before the breaker opened can
// neither close it nor keep it open.
type phase struct {
	breaker *Breaker
	open    bool
	until   time.Time    // open: when the probe may pass
	probing atomic.Bool  // open: the probe is on its way
	streak  atomic.Int64 // closed: failures in a row
	buckets [breakerBuckets]atomic.Uint64
	done    func(success bool) // made once, so that Allow does not allocate
}

// Permit is the right to make one call. Exactly one of its methods must be
// called exactly once, whatever happens to the call.
type Permit struct{ phase *phase }

// NewBreaker makes a closed breaker. failures below 1 counts as 1; a nil clock
// is time.Now.
func NewBreaker(failures int, window, cooldown time.Duration, clock func() time.Time) *Breaker {
	if clock == nil {
		clock = time.Now
	}
	b := &Breaker{failures: int64(max(failures, 1)), window: max(window, breakerBuckets), cooldown: cooldown, clock: clock}
	b.phase.Store(b.newPhase(false, time.Time{}))
	return b
}

func (b *Breaker) newPhase(open bool, until time.Time) *phase {
	p := &phase{breaker: b, open: open, until: until}
	p.done = func(success bool) {
		if success {
			Permit{p}.Success()
		} else {
			Permit{p}.Failure()
		}
	}
	return p
}

// Allow asks for one call. When ok, done must be called exactly once with the
// outcome. A call that ended for reasons of the caller's own (it went away) is
// neither: use Acquire and Permit.Abandon for it.
func (b *Breaker) Allow() (done func(success bool), ok bool) {
	p, ok := b.Acquire()
	if !ok {
		return nil, false
	}
	return p.phase.done, true
}

// Acquire is Allow with a third outcome.
func (b *Breaker) Acquire() (Permit, bool) {
	p := b.phase.Load()
	if !p.open {
		return Permit{p}, true
	}
	if b.clock().Before(p.until) || !p.probing.CompareAndSwap(false, true) {
		return Permit{}, false
	}
	return Permit{p}, true
}

// Success reports that the upstream worked.
func (p Permit) Success() {
	ph := p.phase
	if ph.open {
		ph.breaker.phase.CompareAndSwap(ph, ph.breaker.newPhase(false, time.Time{}))
		return
	}
	if ph.streak.Load() != 0 { // a load of a shared line is cheaper than a store to it
		ph.streak.Store(0)
	}
	ph.count(ph.breaker.slot(), false)
}

// Failure reports that the upstream failed.
func (p Permit) Failure() {
	ph, b := p.phase, p.phase.breaker
	if ph.open {
		ph.trip()
		return
	}
	slot := b.slot()
	ph.count(slot, true)
	if ph.streak.Add(1) >= b.failures {
		ph.trip()
		return
	}
	if ok, failed := ph.sum(slot); failed >= b.failures && failed >= ok {
		ph.trip()
	}
}

// Abandon reports no verdict; a probe that is abandoned makes room for another.
func (p Permit) Abandon() {
	if p.phase.open {
		p.phase.probing.Store(false)
	}
}

func (ph *phase) trip() {
	b := ph.breaker
	b.phase.CompareAndSwap(ph, b.newPhase(true, b.clock().Add(b.cooldown)))
}

// Trip opens the breaker now, whatever was counted, for as long as given:
// whoever calls it knows that the upstream is away.
func (b *Breaker) Trip(until time.Duration) {
	b.phase.Store(b.newPhase(true, b.clock().Add(until)))
}

// Reset closes the breaker now: whoever calls it knows that the upstream is
// back.
func (b *Breaker) Reset() { b.phase.Store(b.newPhase(false, time.Time{})) }

// State returns the present state.
func (b *Breaker) State() State {
	p := b.phase.Load()
	switch {
	case !p.open:
		return Closed
	case p.probing.Load() || !b.clock().Before(p.until):
		return HalfOpen
	}
	return Open
}

// RetryAfter returns how long calls will still be refused; 0 unless open.
func (b *Breaker) RetryAfter() time.Duration {
	p := b.phase.Load()
	if !p.open {
		return 0
	}
	return max(0, p.until.Sub(b.clock()))
}

// A bucket packs the slot it counts for (24 bits), successes and failures (20
// bits each), so that one compare-and-swap both resets and counts.
const (
	countBits = 20
	countMax  = 1<<countBits - 1
	slotMask  = 1<<24 - 1
)

// slot numbers the present eighth of a window.
func (b *Breaker) slot() uint64 {
	return uint64(b.clock().UnixNano()/int64(b.window/breakerBuckets)) & slotMask
}

func (ph *phase) count(slot uint64, failed bool) {
	bucket := &ph.buckets[slot%breakerBuckets]
	for {
		old := bucket.Load()
		ok, bad := old>>countBits&countMax, old&countMax
		if old>>(2*countBits) != slot {
			ok, bad = 0, 0
		}
		if ok == countMax || bad == countMax { // keep the ratio
			ok, bad = ok/2, bad/2
		}
		if failed {
			bad++
		} else {
			ok++
		}
		if bucket.CompareAndSwap(old, slot<<(2*countBits)|ok<<countBits|bad) {
			return
		}
	}
}

func (ph *phase) sum(slot uint64) (ok, failed int64) {
	for i := range ph.buckets {
		v := ph.buckets[i].Load()
		if age := (slot - v>>(2*countBits)) & slotMask; age < breakerBuckets {
			ok += int64(v >> countBits & countMax)
			failed += int64(v & countMax)
		}
	}
	return ok, failed
}
