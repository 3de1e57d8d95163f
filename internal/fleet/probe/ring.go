package probe

import (
	"math"
	"time"
)

// ring holds the last units of one length. Where nothing was seen, nothing is
// stored: the rest of a unit is unknown.
type ring struct {
	unit  int
	pages [][]bucket
}

// bucket is one unit of time.
type bucket struct {
	n        int64 // units since 1970; a slot that holds another one is empty
	up, down uint32
	answers  latencies
}

const pageSize = 40

// slot is where a unit is kept; nil where it is not, unless it is to be made.
func (r *ring) slot(n int64, make_ bool) *bucket {
	kept := units[r.unit].kept
	i := int(((n % int64(kept)) + int64(kept)) % int64(kept))
	if r.pages == nil {
		if !make_ {
			return nil
		}
		r.pages = make([][]bucket, (kept+pageSize-1)/pageSize)
	}
	page := &r.pages[i/pageSize]
	if *page == nil {
		if !make_ {
			return nil
		}
		*page = make([]bucket, pageSize)
	}
	b := &(*page)[i%pageSize]
	if b.n != n {
		if !make_ {
			return nil
		}
		*b = bucket{n: n}
	}
	return b
}

// credit notes what a stretch of time was. Time that is lived again, after a
// clock was set back, counts once, and as down where it was that either time.
func (r *ring) credit(from, to int64, s state) {
	if s == stateNone {
		return
	}
	length := units[r.unit].length
	first, last := floor(from, length)/length, floor(to-1, length)/length
	for n := max(first, last-int64(units[r.unit].kept)+1); n <= last; n++ {
		d := uint32(min(to, (n+1)*length) - max(from, n*length))
		b := r.slot(n, true)
		if s == stateDown {
			b.down = min(b.down+d, uint32(length))
			b.up = min(b.up, uint32(length)-b.down)
		} else {
			b.up = min(b.up+d, uint32(length)-b.down)
		}
	}
}

// answered notes how fast a good answer came.
func (r *ring) answered(at int64, took time.Duration) {
	length := units[r.unit].length
	r.slot(floor(at, length)/length, true).answers.add(took)
}

// tally is a sum over units.
type tally struct {
	up, down int64
	answers  counts
}

// sum adds the units that begin in [from, to).
func (r *ring) sum(from, to int64, t *tally) {
	length := units[r.unit].length
	for n := ceil(from, length) / length; n*length < to; n++ {
		if b := r.slot(n, false); b != nil {
			t.up += int64(b.up)
			t.down += int64(b.down)
			for i, c := range b.answers {
				t.answers[i] += uint64(c)
			}
		}
	}
}

// latencies counts answers by how long they took, in classes that each reach
// to 1.7 times the one before: the first to 1 ms, the last without end. When a
// count is full, all are halved: their proportions are what matters.
type latencies [latencyClasses]uint8

type counts [latencyClasses]uint64

const (
	latencyClasses = 20
	latencyBase    = time.Millisecond
	latencyFactor  = 1.7
)

func latencyClass(d time.Duration) int {
	if d <= latencyBase {
		return 0
	}
	return min(int(math.Ceil(math.Log(float64(d)/float64(latencyBase))/math.Log(latencyFactor))), latencyClasses-1)
}

func (l *latencies) add(d time.Duration) {
	c := latencyClass(d)
	if l[c] == math.MaxUint8 {
		for i := range l {
			l[i] = (l[i] + 1) / 2
		}
	}
	l[c]++
}

// quantile is below what a part of the answers stayed; zero without answers.
func (c *counts) quantile(part float64) time.Duration {
	total := uint64(0)
	for _, n := range c {
		total += n
	}
	if total == 0 {
		return 0
	}
	want, seen := part*float64(total), 0.0
	for i, n := range c {
		if n == 0 {
			continue
		}
		if seen+float64(n) >= want {
			high := float64(latencyBase) * math.Pow(latencyFactor, float64(i))
			low := high / latencyFactor
			if i == 0 {
				low = 0
			}
			return time.Duration(low + (high-low)*(want-seen)/float64(n)).Round(time.Microsecond)
		}
		seen += float64(n)
	}
	return 0
}
