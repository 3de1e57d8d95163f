package probe

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// schedule says what is due when. It asks no clock: now is given, and may stop,
// jump and go back.
type schedule struct {
	queue  dueQueue
	byName map[string]*due
	random func(time.Duration) time.Duration // in [0, d)
}

type due struct {
	name  string
	every time.Duration
	at    time.Time
	index int
}

// jitter is the part of a period by which each look may come earlier or later,
// so that what once fell together does not for ever.
const jitter = 0.1

func newSchedule(random func(time.Duration) time.Duration) *schedule {
	if random == nil {
		random = func(d time.Duration) time.Duration { return rand.N(max(d, 1)) }
	}
	return &schedule{byName: map[string]*due{}, random: random}
}

// set makes a thing due every so often, first at any moment of its period, but
// within half a minute: nobody wants to wait a day for a first look.
func (s *schedule) set(name string, every time.Duration, now time.Time) {
	if d := s.byName[name]; d != nil {
		if d.every == every {
			return
		}
		s.remove(name)
	}
	d := &due{name: name, every: every, at: now.Add(s.random(min(every, DefaultEvery)))}
	s.byName[name] = d
	heap.Push(&s.queue, d)
}

func (s *schedule) remove(name string) {
	if d := s.byName[name]; d != nil {
		heap.Remove(&s.queue, d.index)
		delete(s.byName, name)
	}
}

// take returns the names that are due, and when the next one is.
//
// What is late by more than half its jitter was not late alone: the machine
// slept, or the clock jumped. All of it would be due at once, so it is spread
// over twice the time that it is late, at most over its period. A clock that
// went back would leave everything waiting: what is due later than a period and
// its jitter from now is spread, too.
func (s *schedule) take(now time.Time) (names []string, next time.Time) {
	if len(s.queue) > 0 {
		s.comeBack(now)
	}
	for len(s.queue) > 0 && !s.queue[0].at.After(now) {
		d := s.queue[0]
		if late := now.Sub(d.at); late > time.Duration(float64(d.every)*jitter/2) {
			d.at = now.Add(1 + s.random(min(max(2*late, late), d.every, DefaultEvery))) // twice a long time may be out of range
			heap.Fix(&s.queue, 0)
			continue
		}
		names = append(names, d.name)
		swing := time.Duration(float64(d.every) * jitter)
		d.at = d.at.Add(d.every - swing + s.random(2*swing+1))
		if soonest := now.Add(d.every / 2); d.at.Before(soonest) {
			d.at = soonest
		}
		heap.Fix(&s.queue, 0)
	}
	if len(s.queue) > 0 {
		next = s.queue[0].at
	}
	return names, next
}

// comeBack finds a clock that went back by more than anything could wait.
func (s *schedule) comeBack(now time.Time) {
	moved := false
	for _, d := range s.queue {
		if d.at.Sub(now) > d.every+time.Duration(float64(d.every)*jitter)+time.Second {
			d.at, moved = now.Add(1+s.random(min(d.every, DefaultEvery))), true
		}
	}
	if moved {
		heap.Init(&s.queue)
	}
}

// dueQueue is a heap by time.
type dueQueue []*due

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *dueQueue) Push(x any) {
	d := x.(*due)
	d.index = len(*q)
	*q = append(*q, d)
}
func (q *dueQueue) Pop() any {
	d := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return d
}
