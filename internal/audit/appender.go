package audit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// record is an entry on its way into the table. Its id makes storing it twice
// the same as once.
type record struct {
	id                          uuid.UUID
	org                         uuid.UUID
	actor, act, target, outcome string
	body                        []byte
	done                        chan error
}

// appender stores entries that have no transaction of their own: denials and
// reads. Independent callers share a transaction, so that a flood of them
// costs a few commits and not one each; everybody waits until their own entry
// is durable. Denials that the database refuses are held in memory, within a
// bound, and stored when it takes them again.
type appender struct {
	db    *db.DB
	most  int
	clock func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	pending []*record
	running int
	closed  bool
	held    []*record
	lost    uint64
	work    sync.WaitGroup
	holding sync.Mutex // one retry at a time
}

const (
	mostAtOnce  = 1000             // entries in one transaction
	storers     = 2                // transactions at once
	storeLimit  = 3 * time.Second  // for one transaction
	mostPending = 20 * mostAtOnce  // entries that wait for a transaction
	closeLimit  = 10 * time.Second // for what is left at the end
)

func newAppender(d *db.DB, held int, clock func() time.Time, log *slog.Logger) *appender {
	return &appender{db: d, most: held, clock: clock, log: log}
}

// appenders finds the appender of a database, so that Deny, which is given
// nothing but the database, reaches it. A database without one stores denials
// directly.
var appenders sync.Map // *db.DB → *appender

func enroll(d *db.DB, a *appender) { appenders.Store(d, a) }
func dismiss(d *db.DB)             { appenders.Delete(d) }

func appenderOf(d *db.DB) *appender {
	a, _ := appenders.Load(d)
	found, _ := a.(*appender)
	return found
}

var errFull = problem.New(problem.Overloaded, "audit-overloaded", "Too many entries wait for the audit log.").WithMend("Try again in a moment.")

// store waits until r is durable.
func (a *appender) store(ctx context.Context, r *record) error {
	r.done = make(chan error, 1)
	a.mu.Lock()
	if a.closed || len(a.pending) >= mostPending {
		a.mu.Unlock()
		return errFull
	}
	a.pending = append(a.pending, r)
	if a.running < storers {
		a.running++
		a.work.Go(a.run)
	}
	a.mu.Unlock()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done(): // it may be stored all the same
		return context.Cause(ctx)
	}
}

// deny stores a denial, or holds it in memory: it is lost only when that
// memory is full, and then it is counted and the caller is told. A caller
// whose time is over does not wait; the denial goes its way without them.
func (a *appender) deny(ctx context.Context, r *record) error {
	stored := make(chan error, 1)
	go func() {
		err := a.store(context.WithoutCancel(ctx), r) // each step of it has a limit
		if err != nil {
			err = a.hold(r, err)
		}
		stored <- err
	}()
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (a *appender) hold(r *record, cause error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.held) >= a.most {
		a.lost++
		a.log.Error("a denial was not audited: the database refuses it and memory is full", "act", r.act, "actor", r.actor, "organisation", r.org, "error", cause)
		return cause
	}
	r.body = withMoment(r.body, a.clock())
	a.held = append(a.held, r)
	a.log.Warn("a denial is held in memory: the database refuses it", "act", r.act, "actor", r.actor, "organisation", r.org, "held", len(a.held), "error", cause)
	return nil
}

// withMoment notes when it happened: the entry's own time will be when it was
// stored.
func withMoment(body []byte, at time.Time) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		fields = map[string]json.RawMessage{"details": body}
	}
	fields["held_since"], _ = json.Marshal(at.UTC().Truncate(time.Microsecond))
	out, err := json.Marshal(fields)
	if err != nil {
		return body
	}
	return out
}

// run stores what is pending until nothing is.
func (a *appender) run() {
	for {
		a.mu.Lock()
		batch := a.pending
		if len(batch) == 0 {
			a.running--
			a.mu.Unlock()
			return
		}
		if len(batch) > mostAtOnce {
			batch = batch[:mostAtOnce:mostAtOnce]
		}
		a.pending = append([]*record(nil), a.pending[len(batch):]...)
		a.mu.Unlock()
		err := a.insert(batch)
		if err != nil && len(batch) > 1 && !errors.Is(err, db.ErrUnavailable) {
			for _, r := range batch { // one that cannot be stored must not take the others with it
				r.done <- a.insert([]*record{r})
			}
			continue
		}
		for _, r := range batch {
			r.done <- err
		}
	}
}

func (a *appender) insert(batch []*record) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeLimit)
	defer cancel()
	return a.db.As(ctx, db.App, func(tx pgx.Tx) error { return insertRecords(ctx, tx, batch) })
}

// insertRecords stores entries of any organisations in one round trip: the
// setting that row-level security reads changes between their statements.
func insertRecords(ctx context.Context, tx pgx.Tx, batch []*record) error {
	byOrg, orgs := map[uuid.UUID][]*record{}, []uuid.UUID(nil)
	for _, r := range batch {
		if byOrg[r.org] == nil {
			orgs = append(orgs, r.org)
		}
		byOrg[r.org] = append(byOrg[r.org], r)
	}
	var b pgx.Batch
	for _, org := range orgs {
		list := byOrg[org]
		ids, bodies := make([]uuid.UUID, len(list)), make([]string, len(list))
		actors, acts, targets, outcomes := make([]string, len(list)), make([]string, len(list)), make([]string, len(list)), make([]string, len(list))
		for i, r := range list {
			ids[i], bodies[i], actors[i], acts[i], targets[i], outcomes[i] = r.id, string(r.body), r.actor, r.act, r.target, r.outcome
		}
		b.Queue(`SELECT set_config('foundry.organisation', $1, true)`, org.String())
		b.Queue(`INSERT INTO audit (id, organisation_id, actor, act, target, outcome, details)
			SELECT id, $1, actor, act, target, outcome, details::jsonb
			  FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS t (id, actor, act, target, outcome, details)
			    ON CONFLICT (id) DO NOTHING`, org, ids, actors, acts, targets, outcomes, bodies)
	}
	return tx.SendBatch(ctx, &b).Close()
}

// retry stores what is held, oldest first, until the database refuses.
func (a *appender) retry(ctx context.Context) {
	a.holding.Lock()
	defer a.holding.Unlock()
	for ctx.Err() == nil {
		a.mu.Lock()
		batch := a.held[:min(len(a.held), mostAtOnce):min(len(a.held), mostAtOnce)]
		a.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		stored := len(batch)
		if err := a.insert(batch); err != nil {
			if errors.Is(err, db.ErrUnavailable) || len(batch) == 1 {
				return
			}
			if a.insert(batch[:1]) != nil {
				return
			}
			stored = 1
		}
		a.mu.Lock()
		a.held = append([]*record(nil), a.held[stored:]...)
		a.mu.Unlock()
	}
}

func (a *appender) heldNow() (held int, lost uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.held), a.lost
}

// close waits for what is pending and stores what is held, as far as the
// database takes it.
func (a *appender) close(ctx context.Context) error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.work.Wait() // each transaction has a limit
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	a.retry(ctx)
	if n, _ := a.heldNow(); n > 0 {
		return problem.New(problem.Unavailable, "audit-held-lost", "Denials that the database had refused were still in memory when the node stopped; they are in its log.")
	}
	return nil
}
