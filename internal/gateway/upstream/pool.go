package upstream

import (
	"context"
	"sync"
	"time"
)

// pool counts the connections of one Client and keeps the idle ones. Its one
// lock is held for a few dozen nanoseconds and never across a system call;
// upstreams share nothing. A stack, not a queue: the warmest connection is used
// and the coldest one ages out.
type pool struct {
	maxConns, maxIdle, maxQueue int
	idleTimeout                 time.Duration

	mu      sync.Mutex
	closed  bool
	open    int     // slots taken: connections open or being opened
	idle    []*conn // the longest idle first
	waiters []*waiter
	reaper  *time.Timer
}

// waiter is a caller in the queue. It is given a connection, or nil for the
// right to open one; the channel is closed when the pool closes.
type waiter struct{ ready chan *conn }

// take returns an idle connection, or nil when the caller now holds a slot and
// must dial, or a waiter when it must wait.
func (p *pool) take() (*conn, *waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, unsent(ErrClosed, "", nil)
	}
	if n := len(p.idle); n > 0 {
		cn := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		return cn, nil, nil
	}
	if p.open < p.maxConns {
		p.open++
		return nil, nil, nil
	}
	if len(p.waiters) >= p.maxQueue {
		return nil, nil, unsent(ErrOverloaded, "", nil)
	}
	w := &waiter{ready: make(chan *conn, 1)}
	p.waiters = append(p.waiters, w)
	return nil, w, nil
}

// wait blocks until w is served, ctx ends, it took queue, or total (a mono
// time) has come; zero is no bound.
func (p *pool) wait(ctx context.Context, w *waiter, queue, total time.Duration) (*conn, error) {
	limit, kind := queue, ErrOverloaded
	if total > 0 {
		if left := total - mono(); limit == 0 || left < limit {
			limit, kind = max(left, 1), ErrTimeoutTotal
		}
	}
	var fired <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		fired = timer.C
	}
	var err error
	select {
	case cn, ok := <-w.ready:
		if !ok {
			return nil, unsent(ErrClosed, "", nil)
		}
		return cn, nil
	case <-ctx.Done():
		err = contextError(ctx, false)
	case <-fired:
		err = unsent(kind, "waiting for a connection", nil)
	}
	p.leave(w)
	return nil, err
}

// leave takes w out of the queue, or gives back what it was just given.
func (p *pool) leave(w *waiter) {
	p.mu.Lock()
	for i, q := range p.waiters {
		if q == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			p.mu.Unlock()
			return
		}
	}
	p.mu.Unlock()
	if cn, ok := <-w.ready; ok {
		if cn == nil {
			p.drop()
			return
		}
		p.put(cn)
	}
}

// put returns a connection that may serve another call.
func (p *pool) put(cn *conn) {
	p.mu.Lock()
	if w := p.nextWaiter(); w != nil {
		w.ready <- cn
		p.mu.Unlock()
		return
	}
	if p.closed || len(p.idle) >= p.maxIdle {
		p.open--
		p.mu.Unlock()
		cn.closeQuietly()
		return
	}
	cn.idleSince = mono()
	p.idle = append(p.idle, cn)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.idleTimeout, p.reap)
	}
	p.mu.Unlock()
}

// drop gives back a slot whose connection is gone.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.nextWaiter(); w != nil {
		w.ready <- nil // the slot goes with it
		return
	}
	p.open--
}

// nextWaiter pops the longest waiting caller, nil if there is none.
func (p *pool) nextWaiter() *waiter {
	if len(p.waiters) == 0 {
		return nil
	}
	w := p.waiters[0]
	p.waiters[0] = nil
	p.waiters = p.waiters[1:]
	return w
}

// reap closes what has been idle for too long and comes back for the rest.
func (p *pool) reap() {
	p.mu.Lock()
	now, n := mono(), 0
	for n < len(p.idle) && now-p.idle[n].idleSince >= p.idleTimeout {
		n++
	}
	expired := append([]*conn(nil), p.idle[:n]...)
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	p.open -= n
	p.reaper = nil
	if rest > 0 && !p.closed {
		p.reaper = time.AfterFunc(p.idle[0].idleSince+p.idleTimeout-now, p.reap)
	}
	p.mu.Unlock()
	for _, cn := range expired {
		cn.closeQuietly()
	}
}

// shut closes the idle connections and turns the waiting away.
func (p *pool) shut() {
	p.mu.Lock()
	idle, waiters := p.idle, p.waiters
	p.idle, p.waiters, p.closed = nil, nil, true
	p.open -= len(idle)
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	for _, w := range waiters {
		close(w.ready)
	}
	for _, cn := range idle {
		cn.closeQuietly()
	}
}
