package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Prefix is before the path of every value. The number is that of the layout
// of paths, and outlives many schemas of values.
const Prefix = "/foundry/1/"

// Schema is the number of the schema in which this binary writes values.
// Members one apart work together: a value keeps the fields that the one who
// rewrites it does not know (see [Store.Update]).
const Schema = 1

// Store keeps values sealed under the fleet's keyset, each bound to its path.
// Paths are relative to [Prefix], and lie open: they may hold names of nodes
// and ids, and never personal data.
type Store struct {
	client *clientv3.Client
	seal   sealer
	schema int
}

// sealer is the fleet's keyset.
type sealer interface {
	Encrypt(plaintext, associated []byte) ([]byte, error)
	Decrypt(sealed, associated []byte) ([]byte, error)
}

// Entry is one value as it was read.
type Entry struct {
	Path     string // relative to [Prefix]
	Revision int64  // at which it was last changed
	Created  int64  // revision at which it was made
	Schema   int    // in which it was written
	Lease    clientv3.LeaseID
	body     json.RawMessage
}

// Decode reads the value.
func (e Entry) Decode(into any) error {
	if err := json.Unmarshal(e.body, into); err != nil {
		return fmt.Errorf("reading the fleet's value %s: %w", e.Path, err)
	}
	return nil
}

// envelope is what is sealed.
type envelope struct {
	Schema int             `json:"schema"`
	Value  json.RawMessage `json:"value"`
}

// PutOption bounds or binds a put.
type PutOption func(*put)

type put struct {
	lease clientv3.LeaseID
	when  []clientv3.Cmp
	miss  error
}

// Under binds the value to a lease: it goes when the lease ends.
func Under(l *Lease) PutOption { return func(p *put) { p.lease = l.ID() } }

// IfAbsent refuses with [ErrChanged] where there is a value already.
func IfAbsent(path string) PutOption {
	return func(p *put) { p.when = append(p.when, clientv3.Compare(clientv3.CreateRevision(Prefix+path), "=", 0)) }
}

// IfRevision refuses with [ErrChanged] unless the value at path was last
// changed at a revision (0: is absent).
func IfRevision(path string, revision int64) PutOption {
	return func(p *put) {
		p.when = append(p.when, clientv3.Compare(clientv3.ModRevision(Prefix+path), "=", revision))
	}
}

// During refuses with [ErrNotLeader] unless the term still holds.
func During(t *Term) PutOption {
	return func(p *put) { p.when, p.miss = append(p.when, t.guard()), ErrNotLeader }
}

// Put stores a value and returns the revision at which it stands. It replaces
// what was there: to change a value that other versions may have written, use
// [Store.Update].
func (s *Store) Put(ctx context.Context, path string, value any, options ...PutOption) (revision int64, err error) {
	body, err := s.sealed(path, value)
	if err != nil {
		return 0, err
	}
	p := applied(options)
	return s.commit(ctx, p, clientv3.OpPut(Prefix+path, string(body), clientv3.WithLease(p.lease)))
}

// Delete removes a value, or with a path that ends in "/" all below it.
func (s *Store) Delete(ctx context.Context, path string, options ...PutOption) error {
	var o []clientv3.OpOption
	if strings.HasSuffix(path, "/") {
		o = append(o, clientv3.WithPrefix())
	}
	_, err := s.commit(ctx, applied(options), clientv3.OpDelete(Prefix+path, o...))
	return err
}

// Write is one of several that are put at once, see [Store.PutAll].
type Write struct {
	Path  string
	Value any // nil: delete
}

// PutAll stores several values in one step, or none.
func (s *Store) PutAll(ctx context.Context, writes []Write, options ...PutOption) (revision int64, err error) {
	p := applied(options)
	ops := make([]clientv3.Op, 0, len(writes))
	for _, w := range writes {
		if w.Value == nil {
			ops = append(ops, clientv3.OpDelete(Prefix+w.Path))
			continue
		}
		body, err := s.sealed(w.Path, w.Value)
		if err != nil {
			return 0, err
		}
		ops = append(ops, clientv3.OpPut(Prefix+w.Path, string(body), clientv3.WithLease(p.lease)))
	}
	return s.commit(ctx, p, ops...)
}

func applied(options []PutOption) (p put) {
	p.miss = ErrChanged
	for _, o := range options {
		o(&p)
	}
	return p
}

func (s *Store) commit(ctx context.Context, p put, ops ...clientv3.Op) (int64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := s.client.Txn(ctx).If(p.when...).Then(ops...).Commit()
	if err != nil {
		return 0, worded(err)
	}
	if !r.Succeeded {
		return 0, p.miss
	}
	return r.Header.Revision, nil
}

// Get reads one value, as a majority of the members has it. Absent: [ErrAbsent].
func (s *Store) Get(ctx context.Context, path string) (Entry, error) { return s.get(ctx, path) }

// GetLocal reads one value as this member has it, which may be old: what is
// left when there is no majority.
func (s *Store) GetLocal(ctx context.Context, path string) (Entry, error) {
	return s.get(ctx, path, clientv3.WithSerializable())
}

func (s *Store) get(ctx context.Context, path string, o ...clientv3.OpOption) (Entry, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := s.client.Get(ctx, Prefix+path, o...)
	if err != nil {
		return Entry{}, worded(err)
	}
	if len(r.Kvs) == 0 {
		return Entry{}, ErrAbsent
	}
	return s.open(r.Kvs[0])
}

// List reads all values below a prefix such as "seen/node1/", in the order of
// their paths, and says at which revision they stood.
func (s *Store) List(ctx context.Context, prefix string) ([]Entry, int64, error) {
	return s.list(ctx, prefix)
}

// ListLocal reads them as this member has them.
func (s *Store) ListLocal(ctx context.Context, prefix string) ([]Entry, int64, error) {
	return s.list(ctx, prefix, clientv3.WithSerializable())
}

func (s *Store) list(ctx context.Context, prefix string, o ...clientv3.OpOption) ([]Entry, int64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := s.client.Get(ctx, Prefix+prefix, append(o, clientv3.WithPrefix())...)
	if err != nil {
		return nil, 0, worded(err)
	}
	out := make([]Entry, 0, len(r.Kvs))
	for _, kv := range r.Kvs {
		e, err := s.open(kv)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, e)
	}
	return out, r.Header.Revision, nil
}

// Event is one change.
type Event struct {
	Entry
	Deleted bool
	// Err ends the watch: what came before it was told. Where it is
	// [ErrCompacted], list again and watch from there.
	Err error
}

// ErrCompacted says that a watch began before what the fleet still has.
var ErrCompacted = problem.New(problem.Conflict, "fleet-compacted", "What changed since then is no longer kept.").WithMend("List the values again and watch from there.")

// Watch tells every change below a prefix, from the one after a revision on
// (0: from now). The channel closes when ctx ends or after an event with Err.
func (s *Store) Watch(ctx context.Context, prefix string, after int64) <-chan Event {
	out := make(chan Event)
	go func() {
		defer close(out)
		tell := func(e Event) bool {
			select {
			case out <- e:
				return e.Err == nil
			case <-ctx.Done():
				return false
			}
		}
		options := []clientv3.OpOption{clientv3.WithPrefix()}
		if after > 0 {
			options = append(options, clientv3.WithRev(after+1))
		}
		for r := range s.client.Watch(clientv3.WithRequireLeader(ctx), Prefix+prefix, options...) {
			if err := r.Err(); err != nil {
				if r.CompactRevision > 0 {
					err = ErrCompacted
				}
				tell(Event{Err: worded(err)})
				return
			}
			for _, ev := range r.Events {
				e := Event{Entry: Entry{Path: strings.TrimPrefix(string(ev.Kv.Key), Prefix), Revision: ev.Kv.ModRevision}, Deleted: ev.Type == clientv3.EventTypeDelete}
				if !e.Deleted {
					e.Entry, e.Err = s.open(ev.Kv)
				}
				if !tell(e) {
					return
				}
			}
		}
	}()
	return out
}

// Update reads a value into into (left as it is where there is none), lets
// change alter it, and stores it; where another node was faster it begins
// again. Fields that this binary does not know are kept.
func (s *Store) Update(ctx context.Context, path string, into any, change func() error, options ...PutOption) (revision int64, err error) {
	for {
		old, err := s.Get(ctx, path)
		if err != nil && !errors.Is(err, ErrAbsent) {
			return 0, err
		}
		if err == nil {
			if err := reset(into); err != nil {
				return 0, err
			}
			if err := old.Decode(into); err != nil {
				return 0, err
			}
		}
		if err := change(); err != nil {
			return 0, err
		}
		body, err := merged(old.body, into)
		if err != nil {
			return 0, err
		}
		revision, err := s.Put(ctx, path, body, append([]PutOption{keepLease(old.Lease), IfRevision(path, old.Revision)}, options...)...)
		if err == nil || !errors.Is(err, ErrChanged) {
			return revision, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
}

func keepLease(id clientv3.LeaseID) PutOption { return func(p *put) { p.lease = id } }

func (s *Store) sealed(path string, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err == nil {
		body, err = json.Marshal(envelope{s.schema, body})
	}
	if err != nil {
		return nil, fmt.Errorf("writing the fleet's value %s: %w", path, err)
	}
	sealed, err := s.seal.Encrypt(body, []byte(Prefix+path))
	if err != nil {
		return nil, fmt.Errorf("sealing the fleet's value %s: %w", path, err)
	}
	return sealed, nil
}

func (s *Store) open(kv *mvccpb.KeyValue) (Entry, error) {
	e := Entry{Path: strings.TrimPrefix(string(kv.Key), Prefix), Revision: kv.ModRevision, Created: kv.CreateRevision, Lease: clientv3.LeaseID(kv.Lease)}
	body, err := s.seal.Decrypt(kv.Value, kv.Key)
	if err != nil {
		return e, problem.New(problem.Internal, "fleet-value-unreadable", "The fleet's value "+e.Path+" does not open: it was changed outside Foundry, or moved from another path.").Wrap(err)
	}
	var v envelope
	if err := json.Unmarshal(body, &v); err != nil {
		return e, fmt.Errorf("reading the fleet's value %s: %w", e.Path, err)
	}
	e.Schema, e.body = v.Schema, v.Value
	return e, nil
}

// worded turns what etcd says into what an operator can act on.
func worded(err error) error {
	var known *problem.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, rpctypes.ErrNoLeader), errors.Is(err, rpctypes.ErrTimeout), errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail),
		errors.Is(err, rpctypes.ErrTimeoutDueToConnectionLost), errors.Is(err, rpctypes.ErrLeaderChanged), errors.Is(err, context.DeadlineExceeded):
		return &problem.Error{Kind: ErrNoMajority.Kind, Code: ErrNoMajority.Code, Detail: ErrNoMajority.Detail, Mend: ErrNoMajority.Mend, Err: errors.Join(ErrNoMajority, err)}
	case errors.Is(err, rpctypes.ErrNoSpace):
		return problem.New(problem.Unavailable, "fleet-full", "The fleet's store is full: it takes no more values until there is room.").
			WithMend("Check the disk of the members; `foundry node status` says how large the store is.").Wrap(err)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return problem.New(problem.Conflict, "fleet-lease-ended", "The lease has ended: this node was not heard in time.").WithMend("Take a new one.").Wrap(err)
	}
	return err
}
