package probe

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestNothingIsEverDueInAStorm moves a clock about: it runs, stands still,
// jumps ahead for weeks and goes back. Everything comes due again and again,
// and never much of it at once.
func TestNothingIsEverDueInAStorm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		s := newSchedule(func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(max(d, 1)))) })
		now := time.Unix(1_800_000_000, 0)
		const targets, every = 200, 30 * time.Second
		for i := range targets {
			s.set(fmt.Sprint(i), every, now)
		}
		for range rapid.IntRange(1, 6).Draw(t, "jumps") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(40*24*time.Hour), int64(40*24*time.Hour)).Draw(t, "jump")))
			seen := map[string]int{}
			most := 0
			for range 120 { // one minute, by half seconds
				names, _ := s.take(now)
				for _, n := range names {
					seen[n]++
				}
				most = max(most, len(names))
				now = now.Add(every / 60)
			}
			// On average 3.3 of 200 are due in half a second.
			if most > 30 {
				t.Fatalf("%d of %d were due at once", most, targets)
			}
			for i := range targets {
				if n := seen[fmt.Sprint(i)]; n < 1 || n > 4 {
					t.Fatalf("%d was due %d times in a minute", i, n)
				}
			}
		}
	})
}

func TestATargetKeepsItsPlaceUnlessItsPeriodChanges(t *testing.T) {
	s := newSchedule(func(time.Duration) time.Duration { return time.Second })
	now := time.Unix(1_800_000_000, 0)
	s.set("a", time.Minute, now)
	s.set("a", time.Minute, now.Add(time.Hour))
	if _, next := s.take(now); next != now.Add(time.Second) {
		t.Fatalf("due at %s", next)
	}
	s.set("a", time.Hour, now)
	if names, next := s.take(now.Add(time.Second)); len(names) != 1 || next.Before(now.Add(50*time.Minute)) {
		t.Fatalf("%v, next at %s", names, next)
	}
	s.remove("a")
	s.remove("a")
	if names, next := s.take(now.Add(24 * time.Hour)); names != nil || !next.IsZero() {
		t.Fatal(names, next)
	}
}

func TestWhatIsRareIsLookedAtSoonAfterAStart(t *testing.T) {
	s := newSchedule(nil)
	now := time.Unix(1_800_000_000, 0)
	s.set("once a day", 24*time.Hour, now)
	if names, _ := s.take(now.Add(DefaultEvery)); len(names) != 1 {
		t.Fatal("a daily look waits for a day")
	}
}
