package upstream

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ticking is a clock that tests move.
type ticking struct{ ns atomic.Int64 }

func newTicking() *ticking {
	c := new(ticking)
	c.ns.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *ticking) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *ticking) advance(d time.Duration) { c.ns.Add(int64(d)) }

func report(t *testing.T, b *Breaker, outcomes string) {
	t.Helper()
	for i, o := range outcomes {
		done, ok := b.Allow()
		if !ok {
			t.Fatalf("call %d of %q was refused", i, outcomes)
		}
		done(o == '+')
	}
}

func TestABreakerOpensWhen(t *testing.T) {
	for _, tt := range []struct {
		name, outcomes string
		gap            time.Duration // between calls
		want           State
	}{
		{"nothing happened", "", 0, Closed},
		{"fewer failures in a row than it takes", "----", 0, Closed},
		{"as many in a row", "-----", 0, Open},
		{"as many in a row, far apart", "-----", time.Hour, Open},
		{"as many after plenty of success", "++++++++++++++++++++-----", 0, Open},
		{"a success in between, and most calls succeed", "++++++++----+----", 0, Closed},
		{"half of the calls of a window fail", "+-+-+-+-+-", 0, Open},
		{"half fail, but spread over many windows", "+-+-+-+-+-+-+-+-", 5 * time.Second, Closed},
		{"less than half fail", "+-++-++-++-++-++-+", 0, Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := newTicking()
			b := NewBreaker(5, 10*time.Second, time.Minute, clock.now)
			for _, o := range tt.outcomes {
				report(t, b, string(o))
				clock.advance(tt.gap)
			}
			if got := b.State(); tt.gap == 0 && got != tt.want || tt.gap > 0 && (got == Closed) != (tt.want == Closed) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestAnOpenBreakerLetsOneProbeThroughAfterTheCooldown(t *testing.T) {
	clock := newTicking()
	b := NewBreaker(2, time.Minute, 10*time.Second, clock.now)
	report(t, b, "--")
	refused := func(why string, want State) {
		t.Helper()
		if _, ok := b.Allow(); ok || b.State() != want {
			t.Fatalf("%s: allowed %v, %v", why, ok, b.State())
		}
	}
	refused("just opened", Open)
	if got := b.RetryAfter(); got != 10*time.Second {
		t.Errorf("retry after %v", got)
	}
	clock.advance(10*time.Second - 1)
	refused("a nanosecond too early", Open)
	clock.advance(1)
	if b.State() != HalfOpen || b.RetryAfter() != 0 {
		t.Errorf("%v, retry after %v", b.State(), b.RetryAfter())
	}
	probe, ok := b.Allow()
	if !ok {
		t.Fatal("no probe")
	}
	refused("the probe is on its way", HalfOpen)
	probe(false)
	refused("the probe failed", Open)
	clock.advance(10 * time.Second)
	second, ok := b.Acquire()
	if !ok {
		t.Fatal("no second probe")
	}
	second.Abandon()
	third, ok := b.Acquire()
	if !ok {
		t.Fatal("an abandoned probe blocks the next")
	}
	refused("the third probe is on its way", HalfOpen)
	third.Success()
	if b.State() != Closed {
		t.Fatal("a good probe does not close it")
	}
	report(t, b, "-") // the count begins anew
	if b.State() != Closed {
		t.Error("old failures count")
	}
}

func TestStragglersDoNotDecide(t *testing.T) {
	clock := newTicking()
	b := NewBreaker(2, time.Minute, 10*time.Second, clock.now)
	good, _ := b.Allow()
	bad, _ := b.Allow()
	report(t, b, "--")
	good(true)
	if b.State() != Open {
		t.Error("a success from before closed it")
	}
	clock.advance(9 * time.Second)
	bad(false)
	if got := b.RetryAfter(); got != time.Second {
		t.Errorf("a failure from before prolonged it: %v", got)
	}
	clock.advance(time.Second)
	probe, ok := b.Allow()
	if !ok {
		t.Fatal("no probe")
	}
	probe(true)
	bad(false)
	bad(false)
	if b.State() != Closed {
		t.Error("failures from before opened the new phase")
	}
}

func TestExactlyOneProbeAmongMany(t *testing.T) {
	clock := newTicking()
	b := NewBreaker(1, time.Minute, time.Second, clock.now)
	for range 200 {
		report(t, b, "-")
		clock.advance(time.Second)
		var probes atomic.Int64
		var probe atomic.Pointer[func(bool)]
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if done, ok := b.Allow(); ok {
					probes.Add(1)
					probe.Store(&done)
				}
			})
		}
		all.Wait()
		if probes.Load() != 1 {
			t.Fatalf("%d probes", probes.Load())
		}
		(*probe.Load())(true)
	}
}

func TestABreakerCountsUnderConcurrency(t *testing.T) {
	clock := newTicking()
	b := NewBreaker(1<<30, time.Minute, time.Second, clock.now)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 1000 {
				p, _ := b.Acquire()
				if i%2 == 0 {
					p.Success()
				} else {
					p.Failure()
				}
			}
		})
	}
	all.Wait()
	if ok, failed := b.phase.Load().sum(b.slot()); ok != 4000 || failed != 4000 {
		t.Errorf("%d and %d", ok, failed)
	}
}

func TestABucketThatIsFullKeepsItsRatio(t *testing.T) {
	clock := newTicking()
	b := NewBreaker(1<<30, time.Minute, time.Second, clock.now)
	p := b.phase.Load()
	slot := b.slot()
	p.buckets[slot%breakerBuckets].Store(slot<<(2*countBits) | countMax<<countBits | 1000)
	p.count(slot, true)
	if ok, failed := p.sum(slot); ok != countMax/2 || failed != 501 {
		t.Errorf("%d and %d", ok, failed)
	}
}

func TestTheClosedPathDoesNotAllocate(t *testing.T) {
	b := NewBreaker(5, time.Minute, time.Second, nil)
	if n := testing.AllocsPerRun(1000, func() {
		done, _ := b.Allow()
		done(true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBreaker(b *testing.B) {
	br := NewBreaker(5, time.Minute, time.Second, nil)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			done, _ := br.Allow()
			done(true)
		}
	})
}
