package probe

import (
	"time"
)

// state is what is known of a function or probe at a moment.
type state uint8

const (
	stateNone state = iota
	stateUp
	stateDown
)

// record is what is remembered of one function. Times are milliseconds since
// 1970: spent holds what was before at, and the probes say what is from there.
type record struct {
	at      int64
	probes  map[string]probeState
	spent   [3]ring // minutes, hours, days
	recent  []Result
	outages []Outage
	open    bool // the last outage lasts
}

type probeState struct {
	state state
	until int64
}

// lengths of units in milliseconds, and how many of each are kept: six hours
// of minutes, five weeks of hours, thirteen months of days.
var units = [3]struct {
	length int64
	kept   int
}{{60_000, 360}, {3_600_000, 840}, {86_400_000, 400}}

func newRecord() *record {
	rec := &record{probes: map[string]probeState{}}
	for i := range rec.spent {
		rec.spent[i].unit = i
	}
	return rec
}

// state is that of the function at a moment at or after rec.at.
func (rec *record) state(at int64) state {
	s := stateNone
	for _, p := range rec.probes {
		if p.until > at {
			s = max(s, p.state) // one that is down outweighs those that are up
		}
	}
	return s
}

// add takes a result in.
func (rec *record) add(r Result, valid time.Duration) {
	t := r.At.UnixMilli()
	switch {
	case rec.at == 0:
		rec.at = t
	case t < rec.at-late.Milliseconds():
		rec.back(t)
	case t < rec.at:
		t = rec.at
	}
	rec.advance(t)
	if rec.recent = append(rec.recent, r); len(rec.recent) > keptResults {
		rec.recent = append(rec.recent[:0:0], rec.recent[1:]...)
	}
	if r.Inconclusive { // what was known before holds for as long as it did
		rec.turn(t, rec.state(t), Result{})
		return
	}
	s := stateDown
	if r.OK {
		s = stateUp
		for i := range rec.spent {
			rec.spent[i].answered(t, r.Took)
		}
	}
	if len(rec.probes) < 256 || rec.probes[r.Probe] != (probeState{}) {
		rec.probes[r.Probe] = probeState{s, t + valid.Milliseconds()}
	}
	rec.turn(t, rec.state(t), r)
}

// advance spends the time up to t. What each probe said counts until another
// result of it came, or until it says nothing any more.
func (rec *record) advance(t int64) {
	for rec.at < t {
		next, s := rec.piece(rec.at, t)
		for i := range rec.spent {
			rec.spent[i].credit(rec.at, next, s)
		}
		if rec.at = next; next < t { // what t itself brings is not known yet
			rec.turn(next, rec.state(next), Result{})
		}
	}
	for name, p := range rec.probes {
		if p.until <= rec.at {
			delete(rec.probes, name)
		}
	}
}

// piece is how long the state at a moment stays as it is, up to t.
func (rec *record) piece(at, t int64) (next int64, s state) {
	next = t
	for _, p := range rec.probes {
		if p.until > at {
			next = min(next, p.until)
		}
	}
	return next, rec.state(at)
}

// back follows a clock that was set back: what was said for a time that is
// now to come is void, and counts for nothing.
func (rec *record) back(t int64) {
	rec.turn(rec.at, stateNone, Result{})
	clear(rec.probes)
	rec.at = t
}

// turn opens and closes outages.
func (rec *record) turn(t int64, s state, r Result) {
	if down := s == stateDown; down == rec.open {
		return
	}
	moment := time.UnixMilli(t).UTC()
	if rec.open {
		rec.outages[len(rec.outages)-1].To, rec.open = moment, false
		return
	}
	if rec.outages, rec.open = append(rec.outages, Outage{From: moment, Code: r.Code, Words: r.Words}), true; len(rec.outages) > keptOutages {
		rec.outages = append(rec.outages[:0:0], rec.outages[1:]...)
	}
}

// uptime adds up what was spent, and what is still said for the time since.
func (rec *record) uptime(from, to int64) Uptime {
	// Minutes are asked back to minute, hours to hour: edges of the next longer
	// unit, so that no time counts twice.
	minute := ceil(rec.at-int64(units[0].kept-1)*units[0].length, units[1].length)
	hour := ceil(rec.at-int64(units[1].kept-1)*units[1].length, units[2].length)
	unit := func(t int64) int64 {
		switch {
		case t >= minute:
			return units[0].length
		case t >= hour:
			return units[1].length
		}
		return units[2].length
	}
	begin, end := floor(from, unit(from)), to
	if to < rec.at {
		end = min(ceil(to, unit(to-1)), rec.at)
	}
	var sum tally
	rec.spent[2].sum(begin, min(end, hour), &sum)
	rec.spent[1].sum(max(begin, hour), min(end, minute), &sum)
	rec.spent[0].sum(max(begin, minute), end, &sum)
	for at := max(rec.at, begin); at < end; {
		next, s := rec.piece(at, end)
		switch s {
		case stateUp:
			sum.up += next - at
		case stateDown:
			sum.down += next - at
		}
		at = next
	}
	total := end - begin
	down := min(sum.down, total)
	up := min(sum.up, total-down)
	return Uptime{From: time.UnixMilli(begin).UTC(), To: time.UnixMilli(end).UTC(), Up: ms(up), Down: ms(down), Unknown: ms(total - up - down),
		P50: sum.answers.quantile(0.50), P95: sum.answers.quantile(0.95)}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// floor and ceil move a moment to the edge of a unit.
func floor(t, unit int64) int64 {
	if m := t % unit; m < 0 {
		return t - m - unit
	} else {
		return t - m
	}
}

func ceil(t, unit int64) int64 { return -floor(-t, unit) }
