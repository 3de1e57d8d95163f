package simulator

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Received is a snapshot of one request as it arrived and of how its answer
// went. Gone and Done are signals to wait on; GoneAt, Status and Sent are as
// of the snapshot.
type Received struct {
	At       time.Time
	Method   string
	Path     string
	RawQuery string
	Host     string
	Header   http.Header
	Body     []byte
	Fault    string // the fault that was applied, in its textual form; "" if none

	Status int   // of the answer; 0 before its header
	Sent   int64 // bytes of the answer's body handed to the connection

	Gone   <-chan struct{} // closed when the client goes away before the answer is complete
	GoneAt time.Time       // when that was noticed; zero if it was not
	Done   <-chan struct{} // closed when the answer is over, whichever way
}

// record is the live side of a Received. mu guards seen and over.
type record struct {
	mu     sync.Mutex
	seen   Received
	over   bool
	gone   chan struct{}
	done   chan struct{}
	status atomic.Int64
	sent   atomic.Int64
}

func newRecord(r *http.Request, body []byte, f Fault, now time.Time) *record {
	rec := &record{gone: make(chan struct{}), done: make(chan struct{})}
	rec.seen = Received{
		At: now, Method: r.Method, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Host: r.Host,
		Header: r.Header.Clone(), Body: body, Fault: f.String(), Gone: rec.gone, Done: rec.done,
	}
	return rec
}

func (rec *record) snapshot() Received {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	seen := rec.seen
	seen.Status, seen.Sent = int(rec.status.Load()), rec.sent.Load()
	return seen
}

func (rec *record) setFault(f Fault) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.seen.Fault = f.String()
}

// leave notes that the client went away, unless the answer was over already.
func (rec *record) leave(now time.Time) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.over || !rec.seen.GoneAt.IsZero() {
		return
	}
	rec.seen.GoneAt = now
	close(rec.gone)
}

func (rec *record) finish() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.over = true
	close(rec.done)
}

// Requests returns what arrived so far, in order of arrival. A request counts
// as arrived when its body was read, or could not be read to its end.
func (s *Simulator) Requests() []Received {
	s.mu.Lock()
	records := s.records
	s.mu.Unlock()
	seen := make([]Received, len(records))
	for i, rec := range records {
		seen[i] = rec.snapshot()
	}
	return seen
}

// WaitRequests waits until n requests have arrived in all and returns every
// one that did. It gives up when the context ends.
func (s *Simulator) WaitRequests(ctx context.Context, n int) ([]Received, error) {
	for {
		s.mu.Lock()
		have, more := len(s.records), s.arrived
		s.mu.Unlock()
		if have >= n {
			return s.Requests(), nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return s.Requests(), fmt.Errorf("waiting for request %d of %d at the simulator: %w", have+1, n, ctx.Err())
		}
	}
}

// ForgetRequests drops what arrived so far.
func (s *Simulator) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = nil
}

func (s *Simulator) remember(rec *record) {
	if s.o.Forget {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, rec)
	close(s.arrived)
	s.arrived = make(chan struct{})
}
