package inference

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// queue lets so many requests through at once; so many others wait, first
// come, first served.
type queue struct {
	clock    func() time.Time
	places   int
	capacity int

	mu      sync.Mutex
	busy    int
	waiting list.List // of *waiter
	closed  bool
	typical time.Duration // how long a request takes; 0: none has ended yet
	refused int64
	served  int64
}

type waiter struct {
	ready chan bool // true: go; false: the front stops
}

// Standing is how the queue stands.
type Standing struct {
	Length      int   `json:"length"`    // requests that wait
	InFlight    int   `json:"in_flight"` // requests being answered
	Concurrency int   `json:"concurrency"`
	Capacity    int   `json:"capacity"` // how many may wait
	WaitMs      int64 `json:"estimated_wait_ms"`
	TypicalMs   int64 `json:"typical_request_ms"` // a moving average; 0: nothing was answered yet
	Served      int64 `json:"served"`
	Refused     int64 `json:"refused"` // because too many waited, or too long
}

func newQueue(places, capacity int, clock func() time.Time) *queue {
	return &queue{clock: clock, places: places, capacity: capacity}
}

// enter waits for a place, at most for patience. leave must be called once
// the request has been answered. length is how many waited before this one.
func (q *queue) enter(ctx context.Context, patience time.Duration) (leave func(), length int, err error) {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return nil, 0, stopping()
	case q.busy < q.places:
		q.busy++
		q.mu.Unlock()
		return q.begun(), 0, nil
	case q.waiting.Len() >= q.capacity:
		q.refused++
		wait := q.estimate(q.waiting.Len())
		q.mu.Unlock()
		return nil, 0, full("As many requests wait for the model as may.", wait)
	}
	w := &waiter{ready: make(chan bool, 1)}
	at := q.waiting.PushBack(w)
	length = q.waiting.Len() - 1
	q.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case ok := <-w.ready:
		if !ok {
			return nil, length, stopping()
		}
		return q.begun(), length, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = full("The request waited for the model as long as it may.", 0)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case ok := <-w.ready: // its place came at the same moment: it goes to the next
		if ok {
			q.pass()
		}
	default:
		q.waiting.Remove(at)
	}
	if ctx.Err() == nil {
		q.refused++
		err = full("The request waited for the model as long as it may.", q.estimate(q.waiting.Len()))
	}
	return nil, length, err
}

// begun returns what ends a request that has a place.
func (q *queue) begun() func() {
	began := q.clock()
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		took := max(q.clock().Sub(began), time.Millisecond)
		if q.typical == 0 {
			q.typical = took
		}
		q.typical += (took - q.typical) / 8 // an average that forgets: half of it is of the last five or six
		q.served++
		q.pass()
	}
}

// pass gives a place that became free to whoever waits longest.
func (q *queue) pass() {
	front := q.waiting.Front()
	if front == nil {
		q.busy--
		return
	}
	q.waiting.Remove(front)
	front.Value.(*waiter).ready <- true
}

// estimate says how long a request would wait behind so many others. It is as
// good as the assumption that they take as long as those before.
func (q *queue) estimate(before int) time.Duration {
	if q.busy < q.places {
		return 0
	}
	return q.typical * time.Duration(before+1) / time.Duration(q.places)
}

// close refuses whoever waits and whoever comes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for e := q.waiting.Front(); e != nil; e = q.waiting.Front() {
		q.waiting.Remove(e)
		e.Value.(*waiter).ready <- false
	}
}

func (q *queue) standing() Standing {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Standing{Length: q.waiting.Len(), InFlight: q.busy, Concurrency: q.places, Capacity: q.capacity,
		WaitMs: q.estimate(q.waiting.Len()).Milliseconds(), TypicalMs: q.typical.Milliseconds(), Served: q.served, Refused: q.refused}
}

// full is 429 and not 503: nothing is broken, and a gateway must not take a
// busy node for one that fails.
func full(detail string, wait time.Duration) error {
	return problem.New(problem.RateLimited, "inference-queue", detail).WithMend("Try again shortly, or elsewhere.").
		WithRetry(min(max(wait, time.Second), time.Minute))
}

func stopping() error {
	return problem.New(problem.Unavailable, "inference-stopping", "This inference node is stopping.").WithMend("Ask another.").WithRetry(time.Second)
}

// budget bounds the bytes of bodies in memory.
type budget struct {
	limit int64
	mu    sync.Mutex
	held  int64
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.limit {
		return false
	}
	b.held += n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
}

func (q *queue) stops() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}
