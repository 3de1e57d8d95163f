package patroni

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

type header struct {
	Revision number `json:"revision,omitempty"`
	Term     number `json:"raft_term,omitempty"`
}

func headerOf(h *pb.ResponseHeader) header {
	if h == nil {
		return header{}
	}
	return header{number(h.Revision), number(h.RaftTerm)}
}

type keyValue struct {
	Key     []byte `json:"key"`
	Value   []byte `json:"value,omitempty"`
	Created number `json:"create_revision,omitempty"`
	Changed number `json:"mod_revision,omitempty"`
	Version number `json:"version,omitempty"`
	Lease   number `json:"lease,omitempty"`
}

func keyValueOf(kv *mvccpb.KeyValue) keyValue {
	return keyValue{kv.Key, kv.Value, number(kv.CreateRevision), number(kv.ModRevision), number(kv.Version), number(kv.Lease)}
}

type rangeRequest struct {
	Key          []byte `json:"key"`
	End          []byte `json:"range_end"`
	Serializable bool   `json:"serializable"`
	Revision     number `json:"revision"`
	Limit        number `json:"limit"`
}

type putRequest struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
	Lease number `json:"lease"`
}

type removeRequest struct {
	Key []byte `json:"key"`
	End []byte `json:"range_end"`
}

type txnRequest struct {
	Compare []struct {
		Key     []byte  `json:"key"`
		Target  string  `json:"target"`
		Created *number `json:"create_revision"`
		Changed *number `json:"mod_revision"`
	} `json:"compare"`
	Success []struct {
		Put    *putRequest    `json:"request_put"`
		Remove *removeRequest `json:"request_delete_range"`
	} `json:"success"`
}

func (d *Door) read(_ http.ResponseWriter, r *http.Request, _ string) (any, error) {
	var q rangeRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if !d.mayRead(string(q.Key), string(q.End)) {
		return nil, errDenied
	}
	var o []clientv3.OpOption
	if len(q.End) > 0 {
		o = append(o, clientv3.WithRange(string(q.End)))
	}
	if q.Serializable {
		o = append(o, clientv3.WithSerializable())
	}
	if q.Revision > 0 {
		o = append(o, clientv3.WithRev(int64(q.Revision)))
	}
	if q.Limit > 0 {
		o = append(o, clientv3.WithLimit(int64(q.Limit)))
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	a, err := d.Client.Get(ctx, string(q.Key), o...)
	if err != nil {
		return nil, err
	}
	out := struct {
		Header header     `json:"header"`
		KVs    []keyValue `json:"kvs,omitempty"`
		More   bool       `json:"more,omitempty"`
		Count  number     `json:"count,omitempty"`
	}{Header: headerOf(a.Header), More: a.More, Count: number(a.Count)}
	for _, kv := range a.Kvs {
		out.KVs = append(out.KVs, keyValueOf(kv))
	}
	return out, nil
}

// putOp checks one write.
func (d *Door) putOp(ctx context.Context, node string, q *putRequest) (clientv3.Op, error) {
	if !d.mayPut(node, string(q.Key), string(q.Value), int64(q.Lease)) {
		return clientv3.Op{}, errDenied
	}
	if err := d.holds(ctx, node, int64(q.Lease)); err != nil {
		return clientv3.Op{}, err
	}
	var o []clientv3.OpOption
	if q.Lease != 0 {
		o = append(o, clientv3.WithLease(clientv3.LeaseID(q.Lease)))
	}
	return clientv3.OpPut(string(q.Key), string(q.Value), o...), nil
}

func (d *Door) removeOp(node string, q *removeRequest) (clientv3.Op, error) {
	if len(q.End) > 0 || !d.mayRemove(node, string(q.Key)) {
		return clientv3.Op{}, errDenied
	}
	return clientv3.OpDelete(string(q.Key)), nil
}

type answered struct {
	Header    header `json:"header"`
	Succeeded bool   `json:"succeeded,omitempty"`
	Deleted   number `json:"deleted,omitempty"`
}

func (d *Door) put(_ http.ResponseWriter, r *http.Request, node string) (any, error) {
	var q putRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	op, err := d.putOp(ctx, node, &q)
	if err != nil {
		return nil, err
	}
	a, err := d.Client.Do(ctx, op)
	if err != nil {
		return nil, err
	}
	return answered{Header: headerOf(a.Put().Header)}, nil
}

func (d *Door) remove(_ http.ResponseWriter, r *http.Request, node string) (any, error) {
	var q removeRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	op, err := d.removeOp(node, &q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	a, err := d.Client.Do(ctx, op)
	if err != nil {
		return nil, err
	}
	return answered{Header: headerOf(a.Del().Header), Deleted: number(a.Del().Deleted)}, nil
}

// txn is one write on a condition, which is all that Patroni asks for.
func (d *Door) txn(_ http.ResponseWriter, r *http.Request, node string) (any, error) {
	var q txnRequest
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if len(q.Compare) != 1 || len(q.Success) != 1 {
		return nil, errMalformed
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	var when clientv3.Cmp
	switch c := q.Compare[0]; {
	case !d.mayRead(string(c.Key), ""):
		return nil, errDenied
	case c.Target == "CREATE" && c.Created != nil && c.Changed == nil:
		when = clientv3.Compare(clientv3.CreateRevision(string(c.Key)), "=", int64(*c.Created))
	case c.Target == "MOD" && c.Changed != nil && c.Created == nil:
		when = clientv3.Compare(clientv3.ModRevision(string(c.Key)), "=", int64(*c.Changed))
	default:
		return nil, errMalformed
	}
	var op clientv3.Op
	var err error
	switch s := q.Success[0]; {
	case s.Put != nil && s.Remove == nil:
		op, err = d.putOp(ctx, node, s.Put)
	case s.Remove != nil && s.Put == nil:
		op, err = d.removeOp(node, s.Remove)
	default:
		err = errMalformed
	}
	if err != nil {
		return nil, err
	}
	a, err := d.Client.Txn(ctx).If(when).Then(op).Commit()
	if err != nil {
		return nil, err
	}
	return answered{Header: headerOf(a.Header), Succeeded: a.Succeeded}, nil
}

type leaseAnswer struct {
	Header header `json:"header"`
	ID     number `json:"ID"`
	TTL    number `json:"TTL,omitempty"` // left out: it has ended
}

func (d *Door) grant(_ http.ResponseWriter, r *http.Request, node string) (any, error) {
	var q struct {
		TTL number `json:"TTL"`
	}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	if q.TTL < 1 || q.TTL > longestTTL {
		return nil, errMalformed
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	n, err := d.Client.Get(ctx, leases+d.Scope+"/"+node+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return nil, err
	}
	if n.Count >= mostLeases {
		return nil, errTooMany
	}
	g, err := d.Client.Grant(ctx, int64(q.TTL))
	if err != nil {
		return nil, err
	}
	if _, err := d.Client.Put(ctx, d.leasePath(node, int64(g.ID)), "", clientv3.WithLease(g.ID)); err != nil {
		return nil, err
	}
	return leaseAnswer{headerOf(g.ResponseHeader), number(g.ID), number(g.TTL)}, nil
}

func (d *Door) keep(_ http.ResponseWriter, r *http.Request, node string) (any, error) {
	var q struct {
		ID number `json:"ID"`
	}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	err := d.holds(ctx, node, int64(q.ID))
	out := leaseAnswer{ID: q.ID}
	if err == nil && q.ID != 0 {
		var k *clientv3.LeaseKeepAliveResponse
		if k, err = d.Client.KeepAliveOnce(ctx, clientv3.LeaseID(q.ID)); err == nil {
			out = leaseAnswer{headerOf(k.ResponseHeader), number(k.ID), number(k.TTL)}
		}
	}
	if err != nil && d.failure(err).Code != int(codes.NotFound) {
		return nil, err
	}
	return map[string]any{"result": out}, nil
}

// watch tells what changes, for as long as the Patroni listens.
func (d *Door) watch(w http.ResponseWriter, r *http.Request, _ string) (any, error) {
	var q struct {
		Create struct {
			Key     []byte            `json:"key"`
			End     []byte            `json:"range_end"`
			From    number            `json:"start_revision"`
			Filters []json.RawMessage `json:"filters"`
		} `json:"create_request"`
	}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	c := q.Create
	if len(c.Filters) > 0 {
		return nil, errMalformed
	}
	if !d.mayRead(string(c.Key), string(c.End)) {
		return nil, errDenied
	}
	o := []clientv3.OpOption{clientv3.WithCreatedNotify()}
	if len(c.End) > 0 {
		o = append(o, clientv3.WithRange(string(c.End)))
	}
	if c.From > 0 {
		o = append(o, clientv3.WithRev(int64(c.From)))
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	changes := d.Client.Watch(ctx, string(c.Key), o...)
	w.Header().Set("Content-Type", "application/json")
	control := http.NewResponseController(w)
	stillOne := time.NewTicker(time.Second)
	defer stillOne.Stop()
	for {
		select {
		case a, open := <-changes:
			if !open {
				return nil, nil
			}
			if _, ok := d.Who(r.TLS); !ok {
				return nil, nil
			}
			if json.NewEncoder(w).Encode(d.told(&a)) != nil || control.Flush() != nil || a.Err() != nil {
				return nil, nil
			}
		case <-stillOne.C:
			if _, ok := d.Who(r.TLS); !ok {
				return nil, nil
			}
		case <-ctx.Done():
			return nil, nil
		}
	}
}

type event struct {
	Type string   `json:"type,omitempty"` // left out: PUT
	KV   keyValue `json:"kv"`
}

type told struct {
	Header  header  `json:"header"`
	Created bool    `json:"created,omitempty"`
	Events  []event `json:"events,omitempty"`
}

func (d *Door) told(a *clientv3.WatchResponse) any {
	if err := a.Err(); err != nil {
		f := d.failure(err)
		return map[string]any{"error": map[string]any{"grpc_code": f.Code, "http_code": httpStatus(codes.Code(f.Code)), "message": f.Message}}
	}
	out := told{Header: headerOf(a.Header), Created: a.Created}
	for _, e := range a.Events {
		x := event{KV: keyValueOf(e.Kv)}
		if e.Type == clientv3.EventTypeDelete {
			x.Type = "DELETE"
		}
		out.Events = append(out.Events, x)
	}
	return map[string]any{"result": out}
}
