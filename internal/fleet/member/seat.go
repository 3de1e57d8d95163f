package member

import (
	"context"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

var errStopped = problem.New(problem.Unavailable, "fleet-member-stopped", "This node takes no part in the fleet any more.").
	WithMend("`foundry node status` says why.")

// seat is one run of the etcd in this process. A member that leaves its seat
// because its disk is full takes another when there is room again; whoever
// works on the member's client notices an error in between.
type seat struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	life   context.Context // until the seat is left, or etcd gives up
	end    context.CancelFunc
	closed bool // by whoever left it
}

// take makes an etcd that runs the one that this member works on.
func (m *Member) take(e *embed.Etcd) {
	s := &seat{etcd: e, client: v3client.New(e.Server)}
	s.life, s.end = context.WithCancel(context.Background())
	m.seat.Store(s)
	if m.client != nil {
		return
	}
	c := clientv3.NewCtxClient(context.Background(), clientv3.WithZapLogger(newEtcdLog(m.log, func(error) {})))
	c.KV, c.Lease, c.Watcher, c.Cluster = seatedKV{m}, seatedLease{m}, seatedWatcher{m}, seatedCluster{m}
	c.Maintenance = s.client.Maintenance // of the first run: nothing here asks it
	m.client, m.store.client = c, c
}

// etcd is the etcd in this process, which may have stopped; nil: this process
// dials.
func (m *Member) etcd() *embed.Etcd {
	if s := m.seat.Load(); s != nil {
		return s.etcd
	}
	return nil
}

// seated does one call of the etcd in this process. When that has stopped,
// because its node was removed or its disk is full, its database is closed and
// reading it panics; when it gave up, it holds its locks for ever. Both become
// an error here, and the process goes on.
func seated[T any](ctx context.Context, m *Member, do func(*clientv3.Client) (T, error)) (out T, err error) {
	s := m.seat.Load()
	if s.life.Err() != nil {
		return out, m.away()
	}
	select {
	case <-s.etcd.Server.StoppingNotify():
		return out, m.away()
	default:
	}
	type answer struct {
		out T
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		a := answer{err: errStopped} // and stays so when etcd ends this goroutine
		defer func() {
			if v := recover(); v != nil {
				select {
				case <-s.etcd.Server.StoppingNotify():
					a.err = fmt.Errorf("%w (%v)", errStopped, v)
				case <-s.life.Done():
					a.err = fmt.Errorf("%w (%v)", errStopped, v)
				default:
					panic(v)
				}
			}
			answered <- a
		}()
		a.out, a.err = do(s.client)
	}()
	select {
	case a := <-answered:
		return a.out, a.err
	case <-s.life.Done():
		return out, m.away()
	case <-ctx.Done():
		return out, ctx.Err()
	}
}

// away says why the etcd in this process is not asked.
func (m *Member) away() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full != nil {
		return m.full
	}
	return errStopped
}

type seatedKV struct{ m *Member }

// Do implements clientv3.KV.
func (k seatedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	return seated(ctx, k.m, func(c *clientv3.Client) (clientv3.OpResponse, error) { return c.Do(ctx, op) })
}

// Get implements clientv3.KV.
func (k seatedKV) Get(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	r, err := k.Do(ctx, clientv3.OpGet(key, o...))
	return r.Get(), err
}

// Put implements clientv3.KV.
func (k seatedKV) Put(ctx context.Context, key, value string, o ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	r, err := k.Do(ctx, clientv3.OpPut(key, value, o...))
	return r.Put(), err
}

// Delete implements clientv3.KV.
func (k seatedKV) Delete(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	r, err := k.Do(ctx, clientv3.OpDelete(key, o...))
	return r.Del(), err
}

// GetStream implements clientv3.KV.
func (k seatedKV) GetStream(ctx context.Context, key string, o ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return seated(ctx, k.m, func(c *clientv3.Client) (clientv3.GetStreamChan, error) { return c.GetStream(ctx, key, o...) })
}

// Compact implements clientv3.KV.
func (k seatedKV) Compact(ctx context.Context, rev int64, o ...clientv3.CompactOption) (*clientv3.CompactResponse, error) {
	return seated(ctx, k.m, func(c *clientv3.Client) (*clientv3.CompactResponse, error) { return c.Compact(ctx, rev, o...) })
}

// Txn implements clientv3.KV.
func (k seatedKV) Txn(ctx context.Context) clientv3.Txn { return &seatedTxn{m: k.m, ctx: ctx} }

type seatedTxn struct {
	m         *Member
	ctx       context.Context
	when      []clientv3.Cmp
	yes, no   []clientv3.Op
	then, els bool
}

// If implements clientv3.Txn.
func (t *seatedTxn) If(c ...clientv3.Cmp) clientv3.Txn { t.when = append(t.when, c...); return t }

// Then implements clientv3.Txn.
func (t *seatedTxn) Then(o ...clientv3.Op) clientv3.Txn {
	t.yes, t.then = append(t.yes, o...), true
	return t
}

// Else implements clientv3.Txn.
func (t *seatedTxn) Else(o ...clientv3.Op) clientv3.Txn {
	t.no, t.els = append(t.no, o...), true
	return t
}

// Commit implements clientv3.Txn.
func (t *seatedTxn) Commit() (*clientv3.TxnResponse, error) {
	return seated(t.ctx, t.m, func(c *clientv3.Client) (*clientv3.TxnResponse, error) {
		x := c.Txn(t.ctx)
		if len(t.when) > 0 {
			x = x.If(t.when...)
		}
		if t.then {
			x = x.Then(t.yes...)
		}
		if t.els {
			x = x.Else(t.no...)
		}
		return x.Commit()
	})
}

type seatedLease struct{ m *Member }

// Grant implements clientv3.Lease.
func (l seatedLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	return seated(ctx, l.m, func(c *clientv3.Client) (*clientv3.LeaseGrantResponse, error) { return c.Grant(ctx, ttl) })
}

// Revoke implements clientv3.Lease.
func (l seatedLease) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return seated(ctx, l.m, func(c *clientv3.Client) (*clientv3.LeaseRevokeResponse, error) { return c.Revoke(ctx, id) })
}

// TimeToLive implements clientv3.Lease.
func (l seatedLease) TimeToLive(ctx context.Context, id clientv3.LeaseID, o ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	return seated(ctx, l.m, func(c *clientv3.Client) (*clientv3.LeaseTimeToLiveResponse, error) {
		return c.TimeToLive(ctx, id, o...)
	})
}

// Leases implements clientv3.Lease.
func (l seatedLease) Leases(ctx context.Context) (*clientv3.LeaseLeasesResponse, error) {
	return seated(ctx, l.m, func(c *clientv3.Client) (*clientv3.LeaseLeasesResponse, error) { return c.Leases(ctx) })
}

// KeepAlive implements clientv3.Lease.
func (l seatedLease) KeepAlive(ctx context.Context, id clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	return seated(ctx, l.m, func(c *clientv3.Client) (<-chan *clientv3.LeaseKeepAliveResponse, error) { return c.KeepAlive(ctx, id) })
}

// KeepAliveOnce implements clientv3.Lease.
func (l seatedLease) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return seated(ctx, l.m, func(c *clientv3.Client) (*clientv3.LeaseKeepAliveResponse, error) { return c.KeepAliveOnce(ctx, id) })
}

// Close implements clientv3.Lease.
func (l seatedLease) Close() error { return l.m.seat.Load().client.Lease.Close() }

type seatedWatcher struct{ m *Member }

// Watch implements clientv3.Watcher. A watch ends with its seat: the etcd that
// was left would never end it.
func (w seatedWatcher) Watch(ctx context.Context, key string, o ...clientv3.OpOption) clientv3.WatchChan {
	s := w.m.seat.Load()
	one, cancel := context.WithCancel(ctx)
	if s.life.Err() != nil {
		cancel()
		ended := make(chan clientv3.WatchResponse)
		close(ended)
		return ended
	}
	context.AfterFunc(s.life, cancel)
	return s.client.Watch(one, key, o...) //nolint:govet // canceled with ctx or the seat
}

// RequestProgress implements clientv3.Watcher.
func (w seatedWatcher) RequestProgress(ctx context.Context) error {
	return w.m.seat.Load().client.RequestProgress(ctx)
}

// Close implements clientv3.Watcher.
func (w seatedWatcher) Close() error { return w.m.seat.Load().client.Watcher.Close() }

type seatedCluster struct{ m *Member }

// MemberList implements clientv3.Cluster.
func (x seatedCluster) MemberList(ctx context.Context, o ...clientv3.OpOption) (*clientv3.MemberListResponse, error) {
	return seated(ctx, x.m, func(c *clientv3.Client) (*clientv3.MemberListResponse, error) { return c.MemberList(ctx, o...) })
}

// MemberAdd implements clientv3.Cluster.
func (x seatedCluster) MemberAdd(ctx context.Context, at []string) (*clientv3.MemberAddResponse, error) {
	return seated(ctx, x.m, func(c *clientv3.Client) (*clientv3.MemberAddResponse, error) { return c.MemberAdd(ctx, at) })
}

// MemberAddAsLearner implements clientv3.Cluster.
func (x seatedCluster) MemberAddAsLearner(ctx context.Context, at []string) (*clientv3.MemberAddResponse, error) {
	return seated(ctx, x.m, func(c *clientv3.Client) (*clientv3.MemberAddResponse, error) { return c.MemberAddAsLearner(ctx, at) })
}

// MemberRemove implements clientv3.Cluster.
func (x seatedCluster) MemberRemove(ctx context.Context, id uint64) (*clientv3.MemberRemoveResponse, error) {
	return seated(ctx, x.m, func(c *clientv3.Client) (*clientv3.MemberRemoveResponse, error) { return c.MemberRemove(ctx, id) })
}

// MemberUpdate implements clientv3.Cluster.
func (x seatedCluster) MemberUpdate(ctx context.Context, id uint64, at []string) (*clientv3.MemberUpdateResponse, error) {
	return seated(ctx, x.m, func(c *clientv3.Client) (*clientv3.MemberUpdateResponse, error) { return c.MemberUpdate(ctx, id, at) })
}

// MemberPromote implements clientv3.Cluster.
func (x seatedCluster) MemberPromote(ctx context.Context, id uint64) (*clientv3.MemberPromoteResponse, error) {
	return seated(ctx, x.m, func(c *clientv3.Client) (*clientv3.MemberPromoteResponse, error) { return c.MemberPromote(ctx, id) })
}

// closePatience is how long etcd may take to close.
const closePatience = 10 * time.Second

// close closes etcd. One whose disk failed may never come to its end: then the
// process goes on without waiting for it.
func (m *Member) close() {
	s := m.seat.Load()
	if s.closed {
		return
	}
	s.closed = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.etcd.Close()
		<-s.etcd.Server.StopNotify()
	}()
	select {
	case <-done:
	case <-time.After(closePatience):
		m.log.Warn("the fleet's store did not close in time")
	}
}
