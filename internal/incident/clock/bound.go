package clock

import (
	"time"
	_ "time/tzdata" // a small host may have no zones, and a clock in local days must not depend on that
)

// Due is when a bound runs out that started at an instant; false where it has
// no number.
//
// A length in hours or days is elapsed time: 72 hours are 72 hours over a
// weekend, a holiday and a change of the clocks, and a day is 24 of them. (In
// the European Union, Regulation 1182/71, article 3, may give longer. A clock
// here goes by the shorter reading.)
//
// A length in business days is that many whole days of the calendar's country
// of which weekends and holidays do not count: from 15:00 on a Friday, one
// business day ends at 15:00 on Monday. What starts on a day that does not
// count starts at the beginning of the next that does.
func (b Bound) Due(from time.Time) (time.Time, bool) {
	if !b.Within.Known() {
		return time.Time{}, false
	}
	if n := b.Within.BusinessDays(); n > 0 {
		return CalendarOf(b.Calendar).Add(from, n), true
	}
	return from.Add(b.Within.Longest()), true
}

// Add is the instant at which n business days have passed.
func (c Calendar) Add(from time.Time, n int) time.Time {
	at := from.In(c.zone())
	if !c.Business(at) {
		at = c.next(midnight(at))
	}
	clock := at.Sub(midnight(at)) // elapsed, not the face: weekends alone change the clocks
	for range n {
		at = c.next(midnight(at))
	}
	return at.Add(clock).In(from.Location())
}

// next is the beginning of the next business day after a day.
func (c Calendar) next(day time.Time) time.Time {
	for {
		day = time.Date(day.Year(), day.Month(), day.Day()+1, 0, 0, 0, 0, day.Location())
		if c.Business(day) {
			return day
		}
	}
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

// Business says whether the day of an instant, as the calendar's country has
// it, is a business day.
func (c Calendar) Business(t time.Time) bool {
	local := t.In(c.zone())
	switch local.Weekday() {
	case time.Saturday, time.Sunday:
		return false
	}
	_, off := c.Holiday(local)
	return !off
}

func (c Calendar) zone() *time.Location {
	if c.Zone == nil {
		return time.UTC
	}
	return c.Zone
}
