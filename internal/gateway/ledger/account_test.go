package ledger

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/problem"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// leased returns an account with one budget of which this node has leased
// nano, without a database behind it.
func leased(limit, nano int64) (*Account, *pot) {
	b := NewBudgets(nil, BudgetOptions{Node: 1, Boot: 1, Now: func() time.Time { return noon }})
	def := Budget{ID: uuid.New(), Organisation: uuid.New(), Period: Day, LimitNano: limit, Currency: "EUR", AlarmPercent: 80}
	b.Load([]Budget{def})
	p := b.defs[def.ID]
	w := p.current.Load()
	w.balance.Store(nano)
	w.left.Store(0)
	return b.Account(def.Organisation, "k", Limits{}), p
}

func kindOf(err error) problem.Kind { return problem.From(err).Kind }

func TestARequestReservesItsWorstAndGivesBackTheRest(t *testing.T) {
	a, p := leased(1000, 1000)
	r, err := a.Admit(noon, 600, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Admit(noon, 600, 0); kindOf(err) != problem.Exhausted {
		t.Fatalf("what is reserved was reserved again: %v", err)
	}
	r.Settle(100, 0)
	if got := p.current.Load().balance.Load(); got != 900 {
		t.Errorf("900 should be left, not %d", got)
	}
	if got := p.current.Load().settled.Load(); got != 100 {
		t.Errorf("100 was spent, not %d", got)
	}
}

func TestAReservationIsSettledOnceWhoeverDoesIt(t *testing.T) {
	a, p := leased(1000, 1000)
	w := p.current.Load()
	first := a.mustAdmit(t, 300)
	copied := first
	first.Settle(100, 0)
	first.Settle(0, 0)
	copied.Settle(0, 0)
	if w.balance.Load() != 900 {
		t.Errorf("settling again changed the balance to %d", w.balance.Load())
	}
	second := a.mustAdmit(t, 500) // uses the memory of the first, most likely
	copied.Settle(0, 0)
	if w.balance.Load() != 400 {
		t.Errorf("an old copy settled another request: %d", w.balance.Load())
	}
	second.Settle(500, 0)
	Reservation{}.Settle(1, 1)
	if w.balance.Load() != 400 || w.settled.Load() != 600 {
		t.Errorf("balance %d, settled %d", w.balance.Load(), w.settled.Load())
	}
}

func TestACostAboveTheReservationCountsAgainstWhatComesNext(t *testing.T) {
	a, p := leased(1000, 1000)
	a.mustAdmit(t, 900).Settle(1200, 0)
	if got := p.current.Load().balance.Load(); got != -200 {
		t.Errorf("the balance is %d, want -200", got)
	}
	if _, err := a.Admit(noon, 1, 0); kindOf(err) != problem.Exhausted {
		t.Errorf("an overspent budget admits: %v", err)
	}
}

func TestWhatCostsNothingPassesASpentBudget(t *testing.T) {
	a, _ := leased(1000, 0)
	for range 3 {
		a.mustAdmit(t, 0).Settle(0, 10)
	}
	if _, err := a.Admit(noon, math.MinInt64, math.MinInt64); err != nil {
		t.Errorf("a negative worst case is nothing: %v", err)
	}
}

func TestNothingThatCostsMoneyPassesBeforeTheBudgetsAreKnown(t *testing.T) {
	a := NewBudgets(nil, BudgetOptions{}).Account(uuid.New(), "k", Limits{})
	if _, err := a.Admit(noon, 1, 0); kindOf(err) != problem.Unavailable {
		t.Errorf("got %v", err)
	}
	if _, err := a.Admit(noon, 0, 0); err != nil {
		t.Errorf("what costs nothing passes: %v", err)
	}
}

func TestARefusalNamesTheBudgetAndWhenItStartsAgain(t *testing.T) {
	b := NewBudgets(nil, BudgetOptions{Now: func() time.Time { return noon }})
	org := uuid.New()
	for _, c := range []struct {
		def   Budget
		want  string
		retry time.Duration
	}{
		{Budget{Period: Day, LimitNano: 10e9}, "The daily budget of the organisation of 10.00 EUR has 0.50 EUR left, and this request could cost 2.00 EUR. It starts again at 2026-11-23 00:00 UTC. ", 12 * time.Hour},
		{Budget{Period: Month, LimitNano: 100e9, Key: "abc"}, "The monthly budget of key abc of 100.00 EUR has 0.50 EUR left, and this request could cost 2.00 EUR. It starts again at 2026-12-01 00:00 UTC. ", 8*24*time.Hour + 12*time.Hour},
		{Budget{Period: Total, LimitNano: 5e9}, "The total budget of the organisation of 5.00 EUR has 0.50 EUR left, and this request could cost 2.00 EUR. Ask for a higher budget", 0},
	} {
		c.def.ID, c.def.Organisation, c.def.Currency = uuid.New(), org, "EUR"
		b.Load([]Budget{c.def})
		w := b.defs[c.def.ID].current.Load()
		w.balance.Store(2e8)
		w.left.Store(3e8)
		_, err := b.Account(org, "abc", Limits{}).Admit(noon, 2e9, 0)
		p := problem.From(err)
		if p.Kind != problem.Exhausted || p.Code != "budget-exhausted" || p.RetryAfter != c.retry || !strings.HasPrefix(p.Error(), c.want) {
			t.Errorf("got %s, retry %v:\n%v\nwant %q", p.Code, p.RetryAfter, p, c.want)
		}
	}
}

func TestARequestCountsAgainstTheKeyAndTheOrganisationOrNeither(t *testing.T) {
	b := NewBudgets(nil, BudgetOptions{Now: func() time.Time { return noon }})
	org := uuid.New()
	whole := Budget{ID: uuid.New(), Organisation: org, Period: Month, LimitNano: 1000, Currency: "EUR"}
	key := Budget{ID: uuid.New(), Organisation: org, Key: "k", Period: Day, LimitNano: 100, Currency: "EUR"}
	b.Load([]Budget{whole, key})
	wholeW, keyW := b.defs[whole.ID].current.Load(), b.defs[key.ID].current.Load()
	wholeW.balance.Store(1000)
	keyW.balance.Store(100)
	b.Account(org, "k", Limits{}).mustAdmit(t, 80)
	if _, err := b.Account(org, "k", Limits{}).Admit(noon, 80, 0); kindOf(err) != problem.Exhausted {
		t.Fatalf("the key's budget does not hold: %v", err)
	}
	if wholeW.balance.Load() != 920 || keyW.balance.Load() != 20 {
		t.Errorf("a refused request holds money: %d, %d", wholeW.balance.Load(), keyW.balance.Load())
	}
	b.Account(org, "other", Limits{}).mustAdmit(t, 500)
	b.Account(uuid.New(), "k", Limits{}).mustAdmit(t, 1e9) // another organisation has no budget
	if wholeW.balance.Load() != 420 || keyW.balance.Load() != 20 {
		t.Errorf("got %d, %d", wholeW.balance.Load(), keyW.balance.Load())
	}
}

func TestAnAccountFollowsItsBudgetsAndKeepsItsLimits(t *testing.T) {
	b := NewBudgets(nil, BudgetOptions{Now: func() time.Time { return noon }})
	org := uuid.New()
	b.Load(nil)
	a := b.Account(org, "k", Limits{RequestsPerMinute: 2})
	a.mustAdmit(t, 1e9)
	def := Budget{ID: uuid.New(), Organisation: org, Period: Day, LimitNano: 10, Currency: "EUR"}
	b.Load([]Budget{def})
	if _, err := a.Admit(noon, 1, 0); kindOf(err) != problem.Exhausted {
		t.Errorf("a new budget is not seen: %v", err)
	}
	b.Load(nil)
	a.mustAdmit(t, 1e9)
	if again := b.Account(org, "k", Limits{RequestsPerMinute: 2}); again != a {
		t.Error("asking again gives another account: its limits would start anew")
	}
	if _, err := a.Admit(noon, 0, 0); kindOf(err) != problem.RateLimited {
		t.Errorf("the third request of the minute passes: %v", err)
	}
	b.Account(org, "k", Limits{})
	a.mustAdmit(t, 1)
}

func TestLimitsPerMinute(t *testing.T) {
	b := NewBudgets(nil, BudgetOptions{})
	b.Load(nil)
	a := b.Account(uuid.New(), "k", Limits{RequestsPerMinute: 60, TokensPerMinute: 6000})
	for i := range 60 {
		if _, err := a.Admit(noon, 0, 0); err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
	}
	if _, err := a.Admit(noon, 0, 0); problem.From(err).Code != "requests-per-minute" || problem.From(err).RetryAfter != time.Second {
		t.Errorf("got %v, retry %v", err, problem.From(err).RetryAfter)
	}
	later := noon.Add(time.Second)
	if _, err := a.Admit(later, 0, 6000); err != nil {
		t.Fatalf("a second later: %v", err)
	}
	later = later.Add(time.Minute)
	if _, err := a.Admit(later.Add(-30*time.Second), 0, 3001); problem.From(err).Code != "tokens-per-minute" || problem.From(err).RetryAfter != 10*time.Millisecond {
		t.Errorf("got %v, retry %v", err, problem.From(err).RetryAfter)
	}
	if _, err := a.Admit(later, 0, 6001); problem.From(err).Code != "tokens-per-minute" || problem.From(err).RetryAfter != 0 || !strings.Contains(err.Error(), "waiting does not help") {
		t.Errorf("more than a minute holds: %v, retry %v", err, problem.From(err).RetryAfter)
	}
	r, err := a.Admit(later, 0, 6000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Admit(later, 0, 1000); kindOf(err) != problem.RateLimited {
		t.Fatalf("reserved tokens are given twice: %v", err)
	}
	r.Settle(0, 100)
	if _, err := a.Admit(later, 0, 5900); err != nil {
		t.Errorf("what was not used is not given back: %v", err)
	}
}

func TestARefusedRequestUsesNoneOfTheLimits(t *testing.T) {
	a, _ := leased(100, 0)
	a.requests.limit.Store(5)
	a.tokens.limit.Store(100)
	for range 100 {
		if _, err := a.Admit(noon, 50, 50); kindOf(err) != problem.Exhausted {
			t.Fatal(err)
		}
		if _, err := a.Admit(noon, 0, 200); kindOf(err) != problem.RateLimited {
			t.Fatal(err)
		}
	}
	if _, err := a.Admit(noon, 0, 100); err != nil {
		t.Error(err)
	}
}

// TestTheRateIsThatOfABucket compares with a bucket in plain arithmetic.
func TestTheRateIsThatOfABucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int64{1, 7, 60, 1000, 1e6, 1e12}).Draw(t, "limit")
		var r rate
		r.limit.Store(limit)
		level, now := float64(limit), noon.UnixNano()
		for range 50 {
			step := rapid.Int64Range(0, 20*int64(time.Second)).Draw(t, "step")
			now += step
			level = min(level+float64(step)*float64(limit)/float64(minute), float64(limit))
			n := rapid.Int64Range(1, max(limit/3, 1)).Draw(t, "n")
			wait, ok := r.take(now, n)
			near := math.Abs(level-float64(n)) < 1e-6*float64(limit)+1e-6
			if ok != (level >= float64(n)) && !near {
				t.Fatalf("level %v, asked %d, got %v", level, n, ok)
			}
			if ok {
				level -= float64(n)
			} else if want := (float64(n) - level) * float64(minute) / float64(limit); math.Abs(float64(wait)-want) > 1e-6*float64(minute)+100 {
				t.Fatalf("wait %v, want %v", wait, time.Duration(want))
			}
		}
	})
	if span(math.MaxInt64, 1) != 60*minute || span(1, math.MaxInt64) != 0 {
		t.Error("extremes are not bounded")
	}
}

func TestNoNumberOfRequestsAtOnceSpendsMoreThanTheLease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lease := rapid.Int64Range(0, 10_000).Draw(t, "lease")
		a, p := leased(lease, lease)
		w := p.current.Load()
		workers := rapid.IntRange(2, 8).Draw(t, "workers")
		var spent, reserved, refused atomic.Int64
		var all sync.WaitGroup
		for i := range workers {
			worst := rapid.Int64Range(1, 500).Draw(t, fmt.Sprintf("worst %d", i))
			share := rapid.Int64Range(0, 100).Draw(t, fmt.Sprintf("share %d", i))
			all.Go(func() {
				for range 100 {
					r, err := a.Admit(noon, worst, 0)
					if err != nil {
						refused.Add(1)
						continue
					}
					if held := reserved.Add(worst); held > lease {
						t.Errorf("%d is reserved of %d", held, lease)
					}
					cost := worst * share / 100
					reserved.Add(-worst)
					spent.Add(cost)
					r.Settle(cost, 0)
				}
			})
		}
		all.Wait()
		if spent.Load() > lease || w.balance.Load() != lease-spent.Load() || w.settled.Load() != spent.Load() {
			t.Fatalf("lease %d, spent %d, balance %d, settled %d", lease, spent.Load(), w.balance.Load(), w.settled.Load())
		}
	})
}

func TestAPeriodBeginsWithoutWhatTheLastOneLeft(t *testing.T) {
	a, p := leased(1000, 1000)
	midnight := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	if _, err := a.Admit(midnight.Add(-1), 100, 0); err != nil {
		t.Fatal(err)
	}
	_, err := a.Admit(midnight, 100, 0)
	if !errors.Is(err, errLeaseShort) {
		t.Errorf("yesterday's lease is spent today: %v", err)
	}
	if w := p.current.Load(); time.Unix(0, w.start).UTC() != midnight {
		t.Errorf("the period begins at %v", time.Unix(0, w.start).UTC())
	}
	next := p.current.Load()
	next.balance.Store(500)
	if _, err := a.Admit(midnight.Add(-time.Hour), 100, 0); err != nil || next.balance.Load() != 400 {
		t.Errorf("a clock that steps back leaves the period: %v", err)
	}
}

func TestPeriodsAreInUTC(t *testing.T) {
	east := time.FixedZone("", 5*3600)
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, east) // the last day of February in UTC
	for period, want := range map[Period][2]string{
		Day: {"2026-02-28", "2026-03-01"}, Month: {"2026-02-01", "2026-03-01"}, Total: {"1970-01-01", "0001-01-01"},
	} {
		start, end := period.Bounds(at)
		if start.Format(time.DateOnly) != want[0] || end.Format(time.DateOnly) != want[1] || start.Location() != time.UTC {
			t.Errorf("%s: %v to %v", period, start, end)
		}
	}
}

func TestAdmittingDoesNotAllocate(t *testing.T) {
	a, _ := leased(math.MaxInt64, math.MaxInt64/2)
	a.requests.limit.Store(math.MaxInt64)
	a.tokens.limit.Store(math.MaxInt64)
	n := testing.AllocsPerRun(1000, func() {
		r, err := a.Admit(noon, 1000, 1000)
		if err != nil {
			t.Fatal(err)
		}
		r.Settle(10, 10)
	})
	if n > 0.1 { // under the race detector a pool forgets on purpose
		t.Logf("%v allocations", n)
		if !raceEnabled {
			t.Error("admitting allocates")
		}
	}
}

func BenchmarkAdmitAndSettle(b *testing.B) {
	a, _ := leased(math.MaxInt64, math.MaxInt64/2)
	a.requests.limit.Store(math.MaxInt64)
	a.tokens.limit.Store(math.MaxInt64)
	b.ReportAllocs()
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			r, _ := a.Admit(noon, 1000, 1000)
			r.Settle(0, 10)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r, _ := a.Admit(noon, 1000, 1000)
				r.Settle(0, 10)
			}
		})
	})
}
