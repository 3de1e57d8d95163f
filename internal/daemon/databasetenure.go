package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

var (
	errLeaseLost = errors.New("the fleet was not reached for the time of the lease")
	errReplaced  = errors.New("the fleet names another node")
	errFencedOff = errors.New("this node was ordered to stop it")
	errStopping  = errors.New("this node stops")
)

// tenure is one time of running the database.
type tenure struct {
	k     *keeper
	r     primaryRecord
	lease atomic.Pointer[member.Lease]
	until atomic.Int64 // db.Moment
	over  context.CancelCauseFunc
}

// serve runs the database while the fleet lets it.
func (k *keeper) serve(ctx context.Context, r primaryRecord, revision int64) (err error) {
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	k.end.Store(&over)
	defer k.end.Store(nil)
	t := &tenure{k: k, r: r, over: over}
	if err := t.take(ctx, revision); err != nil {
		if errors.Is(err, member.ErrChanged) {
			k.say(DatabaseWaiting, "Another process still holds the lease of the database; waiting for its end.", r.Epoch)
			return nil
		}
		return err
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	defer over(nil)
	beside.Go(func() { t.renew(ctx) })
	beside.Go(func() { t.watch(ctx, revision) })
	defer t.giveBack()

	k.say(DatabaseStarting, fmt.Sprintf("This node is starting the fleet's database, in epoch %d.", r.Epoch), r.Epoch)
	cluster, err := t.start(ctx)
	if err != nil {
		if ctx.Err() == nil {
			k.failed(r, err)
		}
		return errors.Join(err, context.Cause(ctx))
	}
	k.d.cluster.Store(cluster)
	beside.Go(func() { t.admit(ctx, cluster) })
	defer func() {
		if errors.Is(context.Cause(ctx), errStopping) { // everything is shipped by now
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.ttl/2)
			defer cancel()
			err = errors.Join(err, cluster.Stop(one))
			return
		}
		k.d.moveDatabase(nil, errNobody)
		k.d.cluster.Store(nil)
		err = errors.Join(err, cluster.Fence(context.WithoutCancel(ctx)))
	}()
	if err := t.takeOffice(ctx, cluster); err != nil {
		if ctx.Err() == nil {
			k.failed(r, err)
		}
		return errors.Join(err, context.Cause(ctx))
	}
	<-ctx.Done()
	k.log.Warn("this node runs the fleet's database no more", "cause", context.Cause(ctx), "epoch", r.Epoch)
	return nil
}

// failed says that the database does not start. The very first start of a node
// is ended by it, so that whoever started it reads why.
func (k *keeper) failed(r primaryRecord, err error) {
	select {
	case <-k.settled:
	default:
		select {
		case k.d.failed <- err:
		default:
		}
	}
	k.say(DatabaseFenced, "The database does not start on this node: "+problem.From(err).Detail, r.Epoch)
}

// take takes the lease. One that an earlier process of this node left is
// replaced: its server ended with it, and the data directory is ours.
func (t *tenure) take(ctx context.Context, revision int64) error {
	one, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	k := t.k
	asked := db.Now()
	lease, err := k.m.Lease(one, k.ttl)
	if err != nil {
		return err
	}
	options := []member.PutOption{member.Under(lease), member.IfRevision(databasePrimary, revision), member.IfAbsent(databaseLease)}
	if old, err := k.m.Store().Get(one, databaseLease); err == nil {
		var l primaryLease
		if err := old.Decode(&l); err == nil && l.Node == t.r.Node && l.Epoch == t.r.Epoch {
			options[2] = member.IfRevision(databaseLease, old.Revision)
		}
	}
	if _, err := k.m.Store().Put(one, databaseLease, t.says(false), options...); err != nil {
		give, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		_ = lease.End(give)
		return err
	}
	t.lease.Store(lease)
	t.extend(asked.Add(k.ttl))
	return nil
}

func (t *tenure) says(ready bool) primaryLease {
	return primaryLease{Node: t.r.Node, Epoch: t.r.Epoch, Address: t.k.name, Ready: ready}
}

// extend notes until when the database may run.
func (t *tenure) extend(until db.Moment) {
	if t.k.m.Alone() {
		until = db.Forever
	}
	t.until.Store(int64(until))
	if c := t.k.d.cluster.Load(); c != nil {
		c.Extend(until)
	}
	if s := t.k.state.Load(); s != nil && s.state == DatabasePrimary {
		next := *s
		next.until = until
		t.k.state.CompareAndSwap(s, &next)
	}
}

// renew asks the fleet for more time, several times in the length of the
// lease, and ends the tenure when there is none left. It counts from when it
// asked, by a clock that goes on while the machine sleeps.
func (t *tenure) renew(ctx context.Context) {
	every := time.NewTicker(t.k.ttl / 5)
	defer every.Stop()
	left := t.k.m.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case <-left:
			if !t.k.m.Alone() {
				t.over(errLeaseLost)
				return
			}
			left = nil // a fleet of one whose store failed: nobody else can take over
		case <-every.C:
		}
		l := t.lease.Load()
		asked := db.Now()
		one, cancel := context.WithTimeout(ctx, t.k.ttl/5)
		ttl, gone, err := t.k.m.Renew(one, l)
		cancel()
		switch alone := t.k.m.Alone(); {
		case err == nil && !gone:
			t.extend(asked.Add(ttl))
		case alone:
			t.relet(ctx)
		case gone || ended(l) || db.Moment(t.until.Load()) != db.Forever && db.Moment(t.until.Load()).Left() <= 0:
			t.over(errLeaseLost)
			return
		case db.Moment(t.until.Load()) == db.Forever: // it was alone until now, and the answer is not there
			t.extend(asked.Add(t.k.ttl))
		}
	}
}

func ended(l *member.Lease) bool {
	select {
	case <-l.Done():
		return true
	default:
		return false
	}
}

// relet takes another lease in a fleet of one, whose database never stops for
// want of it.
func (t *tenure) relet(ctx context.Context) {
	if !ended(t.lease.Load()) {
		return
	}
	one, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	lease, err := t.k.m.Lease(one, t.k.ttl)
	if err != nil {
		return
	}
	t.lease.Store(lease)
	if _, err := t.k.m.Store().Put(one, databaseLease, t.says(t.k.state.Load().state == DatabasePrimary), member.Under(lease)); err != nil {
		t.k.log.Debug("the lease of the database is not in the fleet's store yet", "error", err)
	}
}

// watch ends the tenure when the fleet names another node, or another epoch.
func (t *tenure) watch(ctx context.Context, revision int64) {
	for ctx.Err() == nil {
		for e := range t.k.m.Store().Watch(ctx, databasePrimary, revision) {
			if e.Err != nil {
				break
			}
			revision = e.Revision
			var r primaryRecord
			if e.Path == databasePrimary && (e.Deleted || e.Decode(&r) == nil && (r.Node != t.r.Node || r.Epoch != t.r.Epoch)) {
				t.over(errReplaced)
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(keeperEvery):
		}
	}
}
