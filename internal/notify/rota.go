package notify

import (
	"slices"
	"time"
	_ "time/tzdata" // the same zones on every node, whatever is installed there
)

// Rota says who is on call. It only computes: the same instant always has the
// same answer, on every node.
type Rota struct {
	zone  *time.Location
	first time.Time // a day of a hand-over; only its date counts
	hour  int       // wall-clock time of the hand-over
	min   int
	weeks int
	order []string
}

// Override puts somebody on call from Begins until Ends, whoever the rota
// names. Of two at once, the one that was made later wins.
type Override struct {
	Person string    `json:"person"`
	Begins time.Time `json:"begins_at"`
	Ends   time.Time `json:"ends_at"`
	Made   time.Time `json:"made_at"`
}

// Shift is who is on call for a time.
type Shift struct {
	Person   string    `json:"person"`
	Begins   time.Time `json:"begins_at"`
	Ends     time.Time `json:"ends_at"`
	Override bool      `json:"override"` // not the rota's own
}

// start is the instant of hand-over n. It keeps its time of day through changes
// of daylight saving: a week with such a change is an hour longer or shorter. A
// wall-clock time that does not exist on that day becomes the one that time.Date
// makes of it, always the same.
func (r Rota) start(n int) time.Time {
	return time.Date(r.first.Year(), r.first.Month(), r.first.Day()+7*r.weeks*n, r.hour, r.min, 0, 0, r.zone)
}

// turn is the number of the hand-over that t comes after; before the first one
// it is negative: the rota has no beginning.
func (r Rota) turn(t time.Time) int {
	span := time.Duration(r.weeks) * 7 * 24 * time.Hour
	n := int(t.Sub(r.start(0)) / span)
	for r.start(n).After(t) { // at most twice: division rounds to zero, and an hour of daylight saving
		n--
	}
	for !r.start(n + 1).After(t) {
		n++
	}
	return n
}

// Scheduled is who the rota itself names at t.
func (r Rota) Scheduled(t time.Time) Shift {
	n := r.turn(t)
	return Shift{Person: r.order[((n%len(r.order))+len(r.order))%len(r.order)], Begins: r.start(n), Ends: r.start(n + 1)}
}

// At is who is on call at t, and until when that is known.
func (r Rota) At(t time.Time, overrides []Override) Shift {
	s := r.Scheduled(t)
	best := -1
	for i, o := range overrides {
		if !o.Begins.After(t) && o.Ends.After(t) && (best < 0 || !o.Made.Before(overrides[best].Made)) {
			best = i
		}
	}
	if best >= 0 {
		o := overrides[best]
		s = Shift{Person: o.Person, Begins: o.Begins, Ends: o.Ends, Override: true}
	}
	// Another override may begin or end before this shift does.
	for i, o := range overrides {
		if i == best {
			continue
		}
		later := best < 0 || !o.Made.Before(overrides[best].Made)
		if later && o.Begins.After(t) && o.Begins.Before(s.Ends) {
			s.Ends = o.Begins
		}
		if later && !o.Ends.After(t) && o.Ends.After(s.Begins) {
			s.Begins = o.Ends
		}
	}
	return s
}

// Next is who is called when the one on call does not answer: the one who
// follows in the rota's order, never the same person where there is another.
func (r Rota) Next(person string) string {
	i := slices.Index(r.order, person)
	return r.order[(i+1)%len(r.order)]
}

// Shifts lists who is on call from a time on, in order.
func (r Rota) Shifts(from time.Time, overrides []Override, count int) (out []Shift) {
	for t := from; len(out) < count; {
		s := r.At(t, overrides)
		out = append(out, s)
		t = s.Ends
	}
	return out
}
