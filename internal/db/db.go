// Package db knows how to reach, start, migrate and listen to PostgreSQL.
//
// A process reaches the server under five roles, none of them a superuser:
// what a role may see is decided in the database, by row-level security, not
// by the code that happens to build the query. The server is either a private
// cluster that this package starts and supervises ([StartCluster]) or any
// PostgreSQL 15 or newer named by a connection string.
package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB reaches one database under every role. It is safe for concurrent use.
//
// While the server is away, calls fail at once with [ErrUnavailable]; they
// work again within about half a second of its return.
type DB struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex
	pools  map[Role]*pgxpool.Pool
	closed bool

	state  atomic.Pointer[state]
	beat   heartbeat
	cancel context.CancelFunc
	done   chan struct{}

	found atomic.Pointer[place] // of several servers, the one that can be written
	turn  context.CancelFunc    // ends the heartbeat's connection; guarded by mu
	wake  chan struct{}         // ends its pause
}

// Open prepares to reach the database and starts the heartbeat that watches
// it. It fails only for a wrong configuration: when the server is away it
// returns a DB whose calls fail with [ErrUnavailable] until the server
// answers. It waits for the first answer for as long as one attempt takes.
//
// The DB lives until Close; ctx bounds only the wait for the first answer.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*DB, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cfg = cfg.withDefaults()
	for _, role := range Roles {
		if _, err := cfg.pool(role); err != nil {
			return nil, err
		}
	}
	life, cancel := context.WithCancel(context.Background())
	d := &DB{cfg: cfg, log: log, pools: map[Role]*pgxpool.Pool{}, cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	d.state.Store(newState(false, errNeverTried))
	d.beat.every.Store(int64(cfg.Heartbeat))
	first := make(chan struct{})
	go d.watch(life, first)
	select {
	case <-first:
	case <-ctx.Done():
	}
	return d, nil
}

// Close stops the heartbeat and closes every pool. Transactions still running
// are waited for.
func (d *DB) Close() {
	d.cancel()
	<-d.done
	d.mu.Lock()
	d.closed = true
	pools := d.pools
	d.pools = map[Role]*pgxpool.Pool{}
	d.mu.Unlock()
	for _, p := range pools {
		p.Close()
	}
}

// Pool returns the pool of a role, made on first use. A caller that uses it
// directly sees raw driver errors, and under [App] sees no organisation.
func (d *DB) Pool(role Role) *pgxpool.Pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.pools[role]; p != nil {
		return p
	}
	pc, err := d.cfg.pool(role)
	if err != nil {
		panic(err) // Open checked the same configuration
	}
	d.follow(pc)
	p, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		panic(err) // fails only for a configuration that ParseConfig did not make
	}
	if d.closed {
		p.Close()
	}
	d.pools[role] = p
	return p
}

// Org runs fn in a transaction of the application role that sees exactly one
// organisation's rows. The organisation is set for this transaction only, in
// the same round trip as BEGIN, so it cannot leak into a later use of the
// connection. The transaction commits when fn returns nil. The nil organisation
// is the platform itself.
func (d *DB) Org(ctx context.Context, org uuid.UUID, fn func(tx pgx.Tx) error) error {
	// The text of a uuid.UUID is hexadecimal digits and dashes, whatever its
	// bytes are: it cannot end the literal. One message carries both statements.
	begin := "begin; select set_config('foundry.organisation', '" + org.String() + "', true)"
	return d.transact(ctx, App, begin, fn)
}

// Read runs fn in a READ ONLY transaction of the reader role, which sees the
// rows of all organisations.
func (d *DB) Read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return d.transact(ctx, Reader, "begin read only", fn)
}

// Ship runs fn in a transaction of the shipper role, which may only insert.
func (d *DB) Ship(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return d.transact(ctx, Shipper, "begin", fn)
}

// As runs fn in a plain transaction of any role. Under [App] no organisation
// is set, so tenant tables look empty.
func (d *DB) As(ctx context.Context, role Role, fn func(tx pgx.Tx) error) error {
	return d.transact(ctx, role, "begin", fn)
}

// transact runs one transaction. Nothing has been done before BEGIN succeeds,
// so a connection found dead there is replaced; after it, nothing is retried.
func (d *DB) transact(ctx context.Context, role Role, begin string, fn func(tx pgx.Tx) error) error {
	st := d.state.Load()
	if !st.healthy {
		return unavailable(st.cause)
	}
	conn, tx, err := d.begin(ctx, st, role, begin)
	if err != nil {
		return err
	}
	defer st.guard(conn)()

	committed := false
	defer func() {
		if !committed {
			// The caller's context may be over; the connection is worth a
			// short wait, after which the driver closes it.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			_ = tx.Rollback(ctx)
		}
	}()
	if err := fn(tx); err != nil {
		return classify(ctx, conn.Conn().IsClosed() || st.over.Err() != nil, err)
	}
	if ctx.Err() != nil { // COMMIT would not be sent: the outcome is known
		return fmt.Errorf("before the commit: %w", context.Cause(ctx))
	}
	if err := tx.Commit(ctx); err != nil {
		return classifyCommit(ctx, err)
	}
	committed = true
	if uncertain(conn.Conn().PgConn()) {
		return classifyCommit(ctx, errors.New("the commit was not countersigned"))
	}
	return nil
}

func (d *DB) begin(ctx context.Context, st *state, role Role, begin string) (*pgxpool.Conn, pgx.Tx, error) {
	wait, cancel := context.WithTimeout(ctx, d.cfg.AcquireTimeout)
	defer cancel()
	defer context.AfterFunc(st.over, cancel)()
	pool := d.Pool(role)
	for range pool.Config().MaxConns + 1 {
		conn, err := pool.Acquire(wait)
		if err != nil {
			return nil, nil, classifyAcquire(ctx, st, pool, err)
		}
		tx, err := conn.BeginTx(wait, pgx.TxOptions{BeginQuery: begin})
		if err == nil {
			return conn, tx, nil
		}
		dead := conn.Conn().IsClosed()
		conn.Release()
		if !dead || wait.Err() != nil {
			return nil, nil, classifyAcquire(ctx, st, pool, err)
		}
	}
	return nil, nil, unavailable(errors.New("every pooled connection was dead"))
}

// guard makes a connection fail when the state ends, until the returned
// function releases it. A server that stops answering without closing its
// connections (a frozen process, a cut network) would otherwise hold the
// caller for many minutes.
func (st *state) guard(conn *pgxpool.Conn) (release func()) {
	socket := conn.Conn().PgConn().Conn()
	cut := make(chan struct{})
	stop := context.AfterFunc(st.over, func() {
		defer close(cut)
		_ = socket.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() { // it runs or has run: nobody else may get this connection
			<-cut
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_ = conn.Conn().Close(ctx)
		}
		conn.Release()
	}
}
