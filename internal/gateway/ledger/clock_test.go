package ledger

import (
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
)

// stepped is a moment as time.Now gives it after the wall clock was set: the
// monotonic reading stays. No function of package time makes one; the upper
// bits of its first word are the seconds on the wall (time.Time).
func stepped(t time.Time, by time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(int64(by/time.Second)) << 30
	return t
}

func TestTheHelperSetsTheWallAndNotTheMonotonicClock(t *testing.T) {
	now := time.Now()
	back := stepped(now, -2*time.Hour)
	if back.UnixNano()-now.UnixNano() != int64(-2*time.Hour) || back.Sub(now) != 0 {
		t.Fatalf("wall %s, monotonic %s", time.Duration(back.UnixNano()-now.UnixNano()), back.Sub(now))
	}
}

func TestLimitsPerMinuteOutlastAClockThatIsSet(t *testing.T) {
	b := NewBudgets(nil, BudgetOptions{})
	b.Load(nil)
	a := b.Account(uuid.New(), "k", Limits{RequestsPerMinute: 2, TokensPerMinute: 100})
	now := time.Now()
	admit := func(at time.Time) error {
		r, err := a.Admit(at, 0, 10)
		r.Settle(0, 10)
		return err
	}
	for range 2 {
		if err := admit(now); err != nil {
			t.Fatal(err)
		}
	}
	for _, by := range []time.Duration{-2 * time.Hour, 2 * time.Hour} {
		if err := admit(stepped(now, by)); err == nil {
			t.Errorf("a clock set by %s opened the limit", by)
		}
	}
	later := now.Add(31 * time.Second)
	if err := admit(stepped(later, -2*time.Hour)); err != nil {
		t.Errorf("half a minute after the clock was set back: %v", err)
	}
}

func TestSpendingIsReportedAtOnceAfterAClockIsSetBack(t *testing.T) {
	w := &window{reportedAt: noon.UnixNano()}
	for after, want := range map[time.Duration]bool{0: false, time.Second: false, reportEvery: true, -time.Hour: true} {
		if got := w.due(noon.Add(after)); got != want {
			t.Errorf("%s after the last report: due %t", after, got)
		}
	}
}
