package db

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// channel carries a notification for each committed Touch.
const channel = "foundry_changed"

// state is what the heartbeat last found out. It is replaced, never changed.
type state struct {
	healthy bool
	cause   error           // why not
	over    context.Context // ends when the next state begins
	end     context.CancelFunc
}

func newState(healthy bool, cause error) *state {
	over, end := context.WithCancel(context.Background())
	return &state{healthy: healthy, cause: cause, over: over, end: end}
}

// heartbeat holds who wants to hear of changes.
type heartbeat struct {
	every atomic.Int64 // nanoseconds between polls

	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
}

func (h *heartbeat) add(every time.Duration) chan struct{} {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = map[chan struct{}]struct{}{}
	}
	h.listeners[c] = struct{}{}
	if every > 0 && int64(every) < h.every.Load() {
		h.every.Store(int64(every))
	}
	return c
}

func (h *heartbeat) remove(c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, c)
}

// ring wakes every listener. A listener that is still busy hears one ring for
// all that happened meanwhile.
func (h *heartbeat) ring() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Listen calls fn once when the database is first seen to answer, after every
// committed [Touch], and after every reconnection, until ctx ends. A change is
// heard through a notification at once; should that be lost, the change
// counter is polled as well. Calls never overlap; changes during a call are
// gathered into one.
//
// One connection serves all listeners of a DB, so the shortest interval asked
// for is everyone's; zero asks for none.
func (d *DB) Listen(ctx context.Context, every time.Duration, fn func()) {
	c := d.beat.add(every)
	defer d.beat.remove(c)
	if d.WaitHealthy(ctx) != nil {
		return
	}
	select {
	case <-c: // the ring of the connection just waited for
	default:
	}
	fn()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c:
			if ctx.Err() == nil {
				fn()
			}
		}
	}
}

// Touch tells every node that hears the heartbeat that something changed, once
// the caller's transaction commits. It belongs at the end of the transaction,
// because it holds a lock on a shard of the change counter until commit.
func Touch(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "select foundry_touch()")
	return err
}

// Healthy reports whether the database answered at the last heartbeat.
func (d *DB) Healthy() bool { return d.state.Load().healthy }

// WaitHealthy waits until the database answers. When ctx ends first, the error
// matches ErrUnavailable and says why the last attempt failed.
func (d *DB) WaitHealthy(ctx context.Context) error {
	for {
		st := d.state.Load()
		if st.healthy {
			return nil
		}
		select {
		case <-st.over.Done():
		case <-ctx.Done():
			return unavailable(errors.Join(ctx.Err(), st.cause))
		}
	}
}

// enter replaces the state and ends the one before.
func (d *DB) enter(healthy bool, cause error) {
	old := d.state.Swap(newState(healthy, cause))
	old.end()
	if healthy && !old.healthy {
		d.log.Info("database answers")
	}
	if !healthy && old.healthy && !errors.Is(cause, errClosed) {
		d.log.Warn("database does not answer", "cause", cause)
	}
}

// watch is the heartbeat: one connection that listens and polls, replaced when
// it breaks. It closes first after the first attempt.
func (d *DB) watch(life context.Context, first chan struct{}) {
	defer close(d.done)
	defer func() { d.enter(false, errClosed) }()
	const shortest, longest = 50 * time.Millisecond, 500 * time.Millisecond
	pause := shortest
	for life.Err() == nil {
		answered, err := d.watchOnce(life, func() {
			if first != nil {
				close(first)
				first = nil
			}
		})
		if life.Err() != nil {
			break
		}
		d.enter(false, err)
		if first != nil {
			close(first)
			first = nil
		}
		if pause = min(pause*2, longest); answered {
			pause = shortest
		}
		select {
		case <-life.Done():
		case <-d.wake:
			pause = shortest
		case <-time.After(pause):
		}
	}
	if first != nil {
		close(first)
	}
}

// watchOnce connects, announces health, and watches until the connection breaks.
func (d *DB) watchOnce(life context.Context, announce func()) (answered bool, err error) {
	pc, err := d.cfg.pool(Reader)
	if err != nil {
		return false, err
	}
	life, over := d.turning(life)
	defer over()
	ctx, cancel := context.WithTimeout(life, d.cfg.SilenceTimeout)
	defer cancel()
	// The end of a wait for a notification is no reason to send a cancellation.
	pc.ConnConfig.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: pg.Conn()}
	}
	conn, err := d.search(ctx, pc)
	if err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return false, err
	}
	migrated := false
	seen, err := d.poll(life, conn, &migrated)
	if err != nil {
		return false, err
	}
	d.resetPools()
	d.enter(true, nil)
	announce()
	d.beat.ring()
	for {
		if err := d.pause(life, conn); err != nil {
			return true, err
		}
		now, err := d.poll(life, conn, &migrated)
		if err != nil {
			return true, err
		}
		if now != seen {
			seen = now
			d.beat.ring()
		}
	}
}

// pause waits for a notification or for the polling interval.
func (d *DB) pause(life context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(life, time.Duration(d.beat.every.Load()))
	defer cancel()
	_, err := conn.WaitForNotification(ctx)
	if err != nil && ctx.Err() != nil && life.Err() == nil && !conn.IsClosed() {
		return nil
	}
	return err
}

// poll reads the change counter. Before the first migration there is none,
// and the server counts as answering all the same.
func (d *DB) poll(life context.Context, conn *pgx.Conn, migrated *bool) (int64, error) {
	ctx, cancel := context.WithTimeout(life, d.cfg.SilenceTimeout)
	defer cancel()
	if !*migrated {
		err := conn.QueryRow(ctx, "select to_regclass('public.foundry_changes') is not null").Scan(migrated)
		if err != nil || !*migrated {
			return -1, err
		}
	}
	var n int64
	err := conn.QueryRow(ctx, "select sum(value)::bigint from foundry_changes").Scan(&n)
	return n, err
}

// resetPools drops connections to a server that may since have restarted.
func (d *DB) resetPools() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pools {
		p.Reset()
	}
}
