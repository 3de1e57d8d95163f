package backup

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/problem"
)

// moments of one day in March, at which backups are due at 02:15.
var (
	due0215 = 2*time.Hour + 15*time.Minute
	today   = time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC)
)

func at(hours, minutes int) time.Time {
	return today.Add(time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute)
}

func TestABackupIsDueOnceADayAndAgainAfterFailures(t *testing.T) {
	yesterday := at(-24+2, 20)
	for name, c := range map[string]struct {
		h    history
		now  time.Time
		due  bool
		next time.Time
	}{
		"never made":                              {history{}, at(1, 0), true, at(1, 0)},
		"never made, and one is being made":       {history{Running: true}, at(1, 0), false, at(2, 15)},
		"made yesterday, before the hour":         {history{LastDone: yesterday}, at(2, 14), false, at(2, 15)},
		"made yesterday, at the hour":             {history{LastDone: yesterday}, at(2, 15), true, at(2, 15)},
		"made yesterday, hours late":              {history{LastDone: yesterday}, at(9, 0), true, at(9, 0)},
		"made today":                              {history{LastDone: at(2, 20)}, at(9, 0), false, at(26, 15)},
		"made today, just before the hour":        {history{LastDone: at(2, 14)}, at(2, 20), true, at(2, 20)},
		"failed just now":                         {history{LastDone: yesterday, LastTry: at(2, 15), Failures: 1}, at(2, 19), false, at(2, 20)},
		"failed five minutes ago":                 {history{LastDone: yesterday, LastTry: at(2, 15), Failures: 1}, at(2, 20), true, at(2, 20)},
		"failed three times":                      {history{LastDone: yesterday, LastTry: at(2, 15), Failures: 3}, at(2, 34), false, at(2, 35)},
		"failed three times, and waited":          {history{LastDone: yesterday, LastTry: at(2, 15), Failures: 3}, at(2, 35), true, at(2, 35)},
		"failed ever since":                       {history{LastTry: at(2, 15), Failures: 99}, at(4, 14), false, at(4, 15)},
		"failed ever since, two hours ago":        {history{LastTry: at(2, 15), Failures: 99}, at(4, 15), true, at(4, 15)},
		"tried in the future of a clock put back": {history{LastDone: yesterday, LastTry: at(20, 0), Failures: 1}, at(9, 0), true, at(9, 0)},
		"made in the future of a clock put back":  {history{LastDone: at(48, 0)}, at(9, 0), true, at(9, 0)},
		"made a moment ahead of this clock":       {history{LastDone: at(9, 30)}, at(9, 0), false, at(26, 15)},
	} {
		if got := due(c.h, c.now, due0215); got != c.due {
			t.Errorf("%s: due is %v", name, got)
		}
		if got := next(c.h, c.now, due0215); !got.Equal(c.next) {
			t.Errorf("%s: the next is due at %s, want %s", name, got, c.next)
		}
	}
}

func TestTriesAreFurtherApartAndNeverTooFar(t *testing.T) {
	last := time.Duration(0)
	for failures := range 200 {
		d := retryAfter(failures)
		if d < firstRetry || d > lastRetry || d < last {
			t.Fatalf("after %d failures it waits %s, before %s", failures, d, last)
		}
		last = d
	}
	for failures, want := range map[int]time.Duration{1: 5 * time.Minute, 2: 10 * time.Minute, 3: 20 * time.Minute, 5: 80 * time.Minute, 6: 2 * time.Hour} {
		if got := retryAfter(failures); got != want {
			t.Errorf("after %d failures it waits %s, want %s", failures, got, want)
		}
	}
}

func TestAFullBackupIsMadeEverySoManyDays(t *testing.T) {
	for name, c := range map[string]struct {
		last time.Time
		want engine.Type
	}{
		"never":                             {time.Time{}, engine.Full},
		"yesterday":                         {at(-22, 0), engine.Differential},
		"six days ago":                      {at(2-6*24, 20), engine.Differential},
		"seven days ago":                    {at(2-7*24, 20), engine.Full},
		"seven days ago, and took long":     {at(2-7*24+5, 0), engine.Full},
		"in the future of a clock put back": {at(48, 0), engine.Full},
	} {
		if got := typeFor(history{LastFull: c.last}, at(2, 15), 7); got != c.want {
			t.Errorf("the last full one %s: %s", name, got)
		}
	}
}

func TestDrillsAreDueAndSoonerAfterOneThatProvedNothing(t *testing.T) {
	const week = 7 * 24 * time.Hour
	done := at(-200*24, 0)
	for name, c := range map[string]struct {
		h      history
		proven bool
		due    bool
	}{
		"nothing to restore":             {history{}, true, false},
		"never tried":                    {history{LastDone: done}, true, true},
		"one is being made":              {history{LastDone: done, Running: true}, true, false},
		"six days ago":                   {history{LastDone: done, LastDrill: at(-6*24, 0)}, true, false},
		"a week ago":                     {history{LastDone: done, LastDrill: at(-7*24, 0)}, true, true},
		"five hours ago, not proven":     {history{LastDone: done, LastDrill: at(-5, 0)}, false, false},
		"six hours ago, not proven":      {history{LastDone: done, LastDrill: at(-6, 0)}, false, true},
		"in the future of a moved clock": {history{LastDone: done, LastDrill: at(30, 0)}, true, true},
	} {
		if got := drillDue(c.h, today, week, c.proven); got != c.due {
			t.Errorf("%s: due is %v", name, got)
		}
	}
	if drillDue(history{LastDone: done, LastDrill: at(-2, 0)}, today, time.Hour, false) != true {
		t.Error("one that proved nothing makes the next wait longer than it would have")
	}
	if got := []Which{whichNext(0), whichNext(1), whichNext(2), whichNext(3)}; !slices.Equal(got, []Which{Latest, Random, Oldest, Latest}) {
		t.Errorf("drills try %v", got)
	}
}

func TestABackupIsMissedAnHourAfterItWasDue(t *testing.T) {
	long := at(-100*24, 0)
	for name, c := range map[string]struct {
		done, now, began time.Time
		want             time.Duration
	}{
		"made since":                      {at(2, 20), at(20, 0), long, 0},
		"made at the very moment":         {at(2, 15), at(20, 0), long, 0},
		"an hour late":                    {at(-21, 0), at(3, 15), long, 0},
		"more than an hour late":          {at(-21, 0), at(3, 16), long, time.Hour + time.Minute},
		"never, of a node that has begun": {time.Time{}, at(9, 0), at(8, 30), 0},
		"never, of a node that runs long": {time.Time{}, at(9, 0), at(5, 0), 4 * time.Hour},
	} {
		if got := missed(history{LastDone: c.done}, c.now, due0215, c.began); got != c.want {
			t.Errorf("%s: late by %s, want %s", name, got, c.want)
		}
	}
}

func TestAHoldKeepsWhatItsMomentsNeed(t *testing.T) {
	point := func(label string, hours int) engine.Point { return engine.Point{Label: label, Stopped: at(hours, 0)} }
	points := []engine.Point{point("a", 0), point("b", 10), point("c", 20), point("d", 30)}
	span := func(from, until int) Hold { f, u := at(from, 0), at(until, 0); return Hold{From: &f, Until: &u} }
	for name, c := range map[string]struct {
		holds []Hold
		want  []string
	}{
		"none":                               {nil, nil},
		"a label":                            {[]Hold{{Label: "b"}}, []string{"b"}},
		"a label that is not there":          {[]Hold{{Label: "x"}}, nil},
		"a span between two":                 {[]Hold{span(12, 18)}, []string{"b"}},
		"a span over one":                    {[]Hold{span(12, 22)}, []string{"c", "b"}},
		"a span that begins with one":        {[]Hold{span(10, 12)}, []string{"b"}},
		"a span that ends with one":          {[]Hold{span(12, 20)}, []string{"c", "b"}},
		"a span before the first":            {[]Hold{span(-9, -5)}, nil},
		"a span from before the first":       {[]Hold{span(-9, 5)}, []string{"a"}},
		"a span after the last":              {[]Hold{span(40, 50)}, []string{"d"}},
		"two that need the same, named once": {[]Hold{span(12, 18), {Label: "b"}}, []string{"b"}},
	} {
		if got := heldBy(c.holds, points); !slices.Equal(got, c.want) {
			t.Errorf("%s: keeps %q, want %q", name, got, c.want)
		}
	}
}

// However points lie, every moment of a held span can be restored from what the
// hold keeps, if it could be before.
func TestEveryMomentOfAHeldSpanStaysRestorable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hours := rapid.SliceOfNDistinct(rapid.IntRange(0, 100), 1, 12, rapid.ID).Draw(t, "points")
		var points []engine.Point
		for i, h := range hours { // in no order
			points = append(points, engine.Point{Label: string(rune('a' + i)), Stopped: at(h, 0)})
		}
		from := rapid.IntRange(-10, 110).Draw(t, "from")
		until := rapid.IntRange(from, 120).Draw(t, "until")
		f, u := at(from, 0), at(until, 0)
		kept := heldBy([]Hold{{From: &f, Until: &u}}, points)
		best := func(moment time.Time, only []string) (label string) {
			var newest time.Time
			for _, p := range points {
				if !p.Stopped.After(moment) && !p.Stopped.Before(newest) && (only == nil || slices.Contains(only, p.Label)) {
					label, newest = p.Label, p.Stopped
				}
			}
			return label
		}
		for h := from; h <= until; h++ {
			if want, got := best(at(h, 0), nil), best(at(h, 0), append([]string{""}, kept...)); want != got {
				t.Fatalf("hour %d is restored from %q, and after the expiry from %q (kept %q of %v)", h, want, got, kept, hours)
			}
		}
	})
}

func TestNothingExpiresWhereNothingIsYoung(t *testing.T) {
	before := at(0, 0)
	old, young, broken := engine.Point{Stopped: at(-1, 0)}, engine.Point{Stopped: at(1, 0)}, engine.Point{Stopped: at(1, 0), Broken: "pages"}
	for name, c := range map[string]struct {
		points []engine.Point
		code   string
	}{
		"no backup":                 {nil, ""},
		"one within the retention":  {[]engine.Point{old, young}, ""},
		"all of them old":           {[]engine.Point{old, old}, "expire-all"},
		"the only young one broken": {[]engine.Point{old, broken}, "expire-all"},
		"one of the very moment":    {[]engine.Point{old, {Stopped: before}}, "expire-all"},
	} {
		err := mayExpire(c.points, before)
		got := ""
		if err != nil {
			got = problem.From(err).Code
		}
		if got != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}

func TestWhenATargetIsFullIsForetoldFromItsPace(t *testing.T) {
	const gb = 1 << 30
	line := func(free ...int64) (r []room) {
		for i, f := range free {
			r = append(r, room{at(24*i, 0), f * gb})
		}
		return r
	}
	if when, ok := fullAt(line(10, 8, 6)); !ok || !when.Equal(at(5*24, 0)) {
		t.Errorf("two a day, six left: %s %v", when, ok)
	}
	for name, r := range map[string][]room{
		"two points":         line(10, 8),
		"it does not shrink": line(10, 10, 10),
		"it grows":           line(10, 11, 12),
		"beyond all plans":   {{at(0, 0), 1000 * gb}, {at(24, 0), 1000*gb - 1}, {at(48, 0), 1000*gb - 2}},
		"all within an hour": {{at(0, 0), 10 * gb}, {at(0, 20), 9 * gb}, {at(0, 59), 8 * gb}},
	} {
		if when, ok := fullAt(r); ok {
			t.Errorf("%s: full at %s", name, when)
		}
	}
}
