package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// LeaderTTL is how long a leader may be silent before another is chosen.
const LeaderTTL = 3 * time.Second

// Lease is this node's sign of life. What is put under it goes when it ends.
type Lease struct {
	client *clientv3.Client
	id     clientv3.LeaseID
	ttl    time.Duration
	life   context.Context // until the lease has ended
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	renews time.Time // until when the fleet has promised it, by this node's clock
}

// Lease takes a lease and keeps it until [Lease.End], or until the fleet was
// not reached for ttl (whole seconds, at least one).
func (m *Member) Lease(ctx context.Context, ttl time.Duration) (*Lease, error) {
	return newLease(ctx, m.life, m.client, ttl)
}

func newLease(ctx, life context.Context, client *clientv3.Client, ttl time.Duration) (*Lease, error) {
	seconds := max(1, int64((ttl+time.Second-1)/time.Second))
	asked := time.Now()
	r, err := client.Grant(ctx, seconds)
	if err != nil {
		return nil, worded(err)
	}
	l := &Lease{client: client, id: r.ID, ttl: time.Duration(r.TTL) * time.Second, done: make(chan struct{})}
	l.renews = asked.Add(l.ttl)
	l.life, l.cancel = context.WithCancel(life)
	go l.keep(l.life)
	return l, nil
}

// ID is etcd's.
func (l *Lease) ID() clientv3.LeaseID { return l.id }

// Done is closed when the lease has ended, or may have: a node that does not
// reach the fleet stops before the fleet gives its place to another.
func (l *Lease) Done() <-chan struct{} { return l.done }

// Until is how long the lease holds without another answer of the fleet.
func (l *Lease) Until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renews
}

// End gives the lease back: what lies under it goes at once.
func (l *Lease) End(ctx context.Context) error {
	l.cancel()
	<-l.done
	_, err := l.client.Revoke(ctx, l.id)
	return worded(err)
}

// keep renews the lease at a third of its time. It counts from when it asked,
// not from when the answer came, so that this node's idea of the lease's end
// is never later than the fleet's.
func (l *Lease) keep(ctx context.Context) {
	defer l.cancel()
	defer close(l.done)
	every := l.ttl / 3
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		asked := time.Now()
		until := l.Until()
		one, cancel := context.WithDeadline(ctx, until)
		r, err := l.client.KeepAliveOnce(one, l.id)
		cancel()
		switch {
		case err == nil && r.TTL > 0:
			l.mu.Lock()
			l.renews = asked.Add(l.ttl)
			l.mu.Unlock()
			every = l.ttl / 3
		case ctx.Err() != nil || !time.Now().Before(until) || err == nil || isGone(err):
			return
		default:
			every = min(l.ttl/10, time.Until(until))
		}
	}
}

func isGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

// Term is one time of leadership.
type Term struct {
	of    *Member
	store *Store
	lease *Lease
	path  string
	epoch int64
}

// leadership is what stands at the path of an election.
type leadership struct {
	Node  string    `json:"node"`
	Since time.Time `json:"since"`
}

// Lead waits until this node leads the election called name ("leader": the
// fleet's own) and returns its term. One node at most leads at an epoch; that
// a node still believes to lead is no proof, so every write goes through the
// term, or carries its epoch to where it is checked.
func (m *Member) Lead(ctx context.Context, name string) (*Term, error) {
	return m.LeadFor(ctx, name, LeaderTTL)
}

// LeadFor is Lead with another time of silence.
func (m *Member) LeadFor(ctx context.Context, name string, ttl time.Duration) (*Term, error) {
	for {
		t, err := m.campaign(ctx, name, ttl)
		if t != nil || ctx.Err() != nil || m.life.Err() != nil {
			if t == nil && err == nil {
				err = errors.Join(ctx.Err(), m.life.Err())
			}
			return t, err
		}
		if err != nil {
			m.log.Debug("standing for leadership again", "election", name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-m.life.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// campaign takes the place if it is free, or waits until it is.
func (m *Member) campaign(ctx context.Context, path string, ttl time.Duration) (_ *Term, err error) {
	m.mu.Lock()
	draining := m.draining
	m.mu.Unlock()
	if draining {
		return nil, nil
	}
	quick, cancel := bounded(ctx)
	defer cancel()
	now, err := m.client.Get(quick, Prefix+path)
	if err != nil {
		return nil, worded(err)
	}
	if len(now.Kvs) > 0 {
		return nil, m.awaitVacancy(ctx, path, now.Header.Revision)
	}
	lease, err := newLease(quick, m.life, m.client, ttl)
	if err != nil {
		return nil, err
	}
	epoch, err := m.store.Put(quick, path, leadership{m.o.Name, m.clock().UTC()}, Under(lease), IfAbsent(path))
	if err != nil {
		give, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		_ = lease.End(give)
		if errors.Is(err, ErrChanged) {
			return nil, nil // another was faster
		}
		return nil, err
	}
	t := &Term{m, m.store, lease, path, epoch}
	m.mu.Lock()
	m.terms[t] = true
	m.mu.Unlock()
	context.AfterFunc(lease.life, func() {
		m.mu.Lock()
		delete(m.terms, t)
		m.mu.Unlock()
	})
	return t, nil
}

func (m *Member) awaitVacancy(ctx context.Context, path string, after int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range m.client.Watch(clientv3.WithRequireLeader(ctx), Prefix+path, clientv3.WithRev(after+1)) {
		if err := r.Err(); err != nil {
			return worded(err)
		}
		for _, e := range r.Events {
			if e.Type == clientv3.EventTypeDelete {
				return nil
			}
		}
	}
	return ctx.Err()
}

// Leader says who leads an election, and at which epoch; [ErrAbsent]: nobody.
func (m *Member) Leader(ctx context.Context, name string) (node string, epoch int64, err error) {
	e, err := m.store.Get(ctx, name)
	if err != nil {
		return "", 0, err
	}
	var l leadership
	err = e.Decode(&l)
	return l.Node, e.Created, err
}

// Epoch is the fencing token: the revision of the fleet's store at which this
// leadership was won. It only ever rises, over restarts and recoveries too.
func (t *Term) Epoch() int64 { return t.epoch }

// Done is closed when the term has ended, or may have.
func (t *Term) Done() <-chan struct{} { return t.lease.Done() }

// Lease is the term's: what is put under it goes with the leader.
func (t *Term) Lease() *Lease { return t.lease }

// Put stores a value only while the term holds; otherwise [ErrNotLeader].
func (t *Term) Put(ctx context.Context, path string, value any, options ...PutOption) (revision int64, err error) {
	return t.store.Put(ctx, path, value, append(options, During(t))...)
}

// Delete removes values only while the term holds.
func (t *Term) Delete(ctx context.Context, path string, options ...PutOption) error {
	return t.store.Delete(ctx, path, append(options, During(t))...)
}

// Check asks the fleet whether the term still holds.
func (t *Term) Check(ctx context.Context) error {
	r, err := t.store.client.Txn(ctx).If(t.guard()).Commit()
	if err != nil {
		return worded(err)
	}
	if !r.Succeeded {
		return ErrNotLeader
	}
	return nil
}

// Resign ends the term, so that another can lead at once.
func (t *Term) Resign(ctx context.Context) error {
	if err := t.lease.End(ctx); err != nil {
		return fmt.Errorf("giving leadership back: %w", err)
	}
	return nil
}

func (t *Term) guard() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(Prefix+t.path), "=", t.epoch)
}
