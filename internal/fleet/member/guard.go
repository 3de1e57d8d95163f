package member

import (
	"context"
	"fmt"

	"github.com/missionopsai/foundry/internal/problem"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var errStopped = problem.New(problem.Unavailable, "fleet-member-stopped", "This node takes no part in the fleet any more.").
	WithMend("`foundry node status` says why.")

// guardedKV asks the etcd of this process. When that has stopped, because its
// node was removed or its disk is full, its database is closed and reading it
// panics in the goroutine that asks: that becomes an error here, and the
// process goes on.
type guardedKV struct {
	clientv3.KV
	stopping <-chan struct{} // closed before the database is
}

// closing turns a panic of a closed database into an error. It is deferred.
func (g guardedKV) closing(err *error) {
	if v := recover(); v != nil {
		select {
		case <-g.stopping:
			*err = fmt.Errorf("%w (%v)", errStopped, v)
		default:
			panic(v)
		}
	}
}

func (g guardedKV) gone() bool {
	select {
	case <-g.stopping:
		return true
	default:
		return false
	}
}

// Do implements clientv3.KV.
func (g guardedKV) Do(ctx context.Context, op clientv3.Op) (r clientv3.OpResponse, err error) {
	if g.gone() {
		return r, errStopped
	}
	defer g.closing(&err)
	return g.KV.Do(ctx, op)
}

// Get implements clientv3.KV.
func (g guardedKV) Get(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	r, err := g.Do(ctx, clientv3.OpGet(key, o...))
	return r.Get(), err
}

// Put implements clientv3.KV.
func (g guardedKV) Put(ctx context.Context, key, value string, o ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	r, err := g.Do(ctx, clientv3.OpPut(key, value, o...))
	return r.Put(), err
}

// Delete implements clientv3.KV.
func (g guardedKV) Delete(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	r, err := g.Do(ctx, clientv3.OpDelete(key, o...))
	return r.Del(), err
}

// Txn implements clientv3.KV.
func (g guardedKV) Txn(ctx context.Context) clientv3.Txn { return &guardedTxn{g.KV.Txn(ctx), g} }

type guardedTxn struct {
	clientv3.Txn
	g guardedKV
}

// If implements clientv3.Txn.
func (t *guardedTxn) If(c ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(c...); return t }

// Then implements clientv3.Txn.
func (t *guardedTxn) Then(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(o...); return t }

// Else implements clientv3.Txn.
func (t *guardedTxn) Else(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(o...); return t }

// Commit implements clientv3.Txn.
func (t *guardedTxn) Commit() (r *clientv3.TxnResponse, err error) {
	if t.g.gone() {
		return nil, errStopped
	}
	defer t.g.closing(&err)
	return t.Txn.Commit()
}
