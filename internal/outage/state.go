package outage

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/fleet/member"
)

// Run keeps the mirror and the state of the door until ctx ends.
func (d *Door) Run(ctx context.Context) {
	if d == nil {
		return
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		if err := d.Tick(ctx); err != nil && ctx.Err() == nil {
			d.Log.Debug("signing in without the database is not in order", "error", err)
		}
		select {
		case <-ctx.Done():
			d.unreach(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		}
	}
}

// Tick is one look. It is Run's, and tests'; looks do not overlap.
func (d *Door) Tick(ctx context.Context) error {
	err := d.barWaiting(ctx)
	if d.Healthy() {
		err = errors.Join(err, d.there(ctx))
	} else {
		err = errors.Join(err, d.gone(ctx))
	}
	return errors.Join(err, d.flush(ctx))
}

// there is a look while the database answers.
func (d *Door) there(ctx context.Context) error {
	if err := d.reach(ctx); err != nil {
		return err
	}
	now, kicked := d.Clock(), false
	select {
	case <-d.kicked:
		kicked = true
	default:
	}
	d.mu.Lock()
	back := !d.down.IsZero()
	d.down = time.Time{}
	if back {
		clear(d.tries) // they are the database's to count again
	}
	due := back || kicked || d.looked.IsZero() || now.Sub(d.looked).Abs() >= agreeEvery
	d.mu.Unlock()
	if !due {
		return nil
	}
	if err := d.end(ctx); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	if err := d.agree(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	d.looked = now
	d.mu.Unlock()
	return nil
}

// gone is a look while it does not.
func (d *Door) gone(ctx context.Context) error {
	now := d.Clock()
	d.mu.Lock()
	first := d.down.IsZero()
	if first {
		d.down = now
	}
	lost := first && d.known != nil && d.memory.Lost.IsZero()
	if lost {
		d.memory.Lost = now.UTC()
	}
	down := d.down
	d.mu.Unlock()
	if lost {
		d.note()
	}
	d.unreach(ctx)
	if now.Sub(down) < Patience {
		return nil
	}
	return d.declare(ctx)
}

// reach says that this node reaches the database, for as long as it lives and
// the fleet hears it.
func (d *Door) reach(ctx context.Context) error {
	if d.lease != nil {
		select {
		case <-d.lease.Done():
			d.lease = nil
		default:
			return nil
		}
	}
	l, err := d.Lease(ctx, reachTTL)
	if err != nil {
		return err
	}
	if err := d.put(ctx, pathReach+d.Node, bar{d.Clock().UTC(), d.Node}, member.Under(l)); err != nil {
		return errors.Join(err, l.End(ctx))
	}
	d.lease = l
	return nil
}

func (d *Door) unreach(ctx context.Context) {
	if d.lease == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := d.lease.End(ctx); err != nil {
		d.Log.Debug("the fleet hears by silence that the database is not reached here", "error", err)
	}
	d.lease = nil
}

// declare opens the door where no other node reaches the database.
func (d *Door) declare(ctx context.Context) error {
	if _, err := d.Store.Get(ctx, pathOutage); !errors.Is(err, member.ErrAbsent) {
		return err
	}
	others, err := d.reachers(ctx)
	if err != nil || len(others) > 0 {
		return err
	}
	o := Outage{ID: uuid.NewString(), Since: d.Clock().UTC(), By: d.Node}
	err = d.put(ctx, pathOutage, o, member.IfAbsent(pathOutage))
	if errors.Is(err, member.ErrChanged) {
		return nil
	}
	if err != nil {
		return err
	}
	d.Log.Warn("no gateway reaches the database: operators of the platform can sign in without it", "outage", o.ID)
	return d.Enter(ctx, member.Act{By: "system:sign-in", Act: "signin.open", Target: o.ID, Details: map[string]string{"why": "database-away"}})
}

// end closes the door: no session of it opens anything from then on.
func (d *Door) end(ctx context.Context) error {
	e, err := d.Store.Get(ctx, pathOutage)
	if errors.Is(err, member.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	var o Outage
	if err := d.unboxed(e, &o); err != nil {
		d.Log.Error("who opened signing in without the database is not known", "error", err)
	}
	if err := d.Store.Delete(ctx, pathOutage, member.IfRevision(pathOutage, e.Revision)); err != nil {
		return err
	}
	d.Log.Info("the database is back: sessions that were opened without it have ended", "outage", o.ID)
	err = d.Enter(ctx, member.Act{By: "system:sign-in", Act: "signin.close", Target: o.ID, Details: map[string]string{"why": "database-back"}})
	// Left over they are of no use: each names its outage.
	return errors.Join(err, d.Store.Delete(ctx, pathSessions), d.Store.Delete(ctx, pathUsed))
}

// settle enters into the database what was used up, and forgets it afterwards.
func (d *Door) settle(ctx context.Context) error {
	used, _, err := d.Store.List(ctx, pathSpent)
	if err != nil {
		return err
	}
	failed, _, err := d.Store.List(ctx, pathFailures)
	if err != nil || len(used)+len(failed) == 0 {
		return err
	}
	var all []access.Spent
	for _, e := range used {
		var s spent
		id, err := uuid.Parse(last(e.Path))
		if err == nil {
			err = d.unboxed(e, &s)
		}
		if err != nil {
			d.Log.Error("what was used without the database could not be read", "error", err)
			continue
		}
		one := access.Spent{Person: id, Step: s.Step}
		for _, k := range s.Passkeys {
			one.Passkeys = append(one.Passkeys, access.SpentPasskey(k))
		}
		all = append(all, one)
	}
	for _, e := range failed {
		var t tries
		if d.unboxed(e, &t) == nil && t.Account != nil && t.Failures > 0 {
			all = append(all, access.Spent{Account: t.Account, Failures: t.Failures, Locked: t.Locked})
		}
	}
	if err := d.Settle(ctx, all); err != nil {
		return err
	}
	for _, e := range append(used, failed...) {
		if err := d.Store.Delete(ctx, e.Path, member.IfRevision(e.Path, e.Revision)); err != nil && !errors.Is(err, member.ErrChanged) {
			return err
		}
	}
	return nil
}

// SpentStep is the last step of a person's code generator that was used without
// the database and is not settled in it. The fleet is asked for a short time,
// and this member's copy after that.
func (d *Door) SpentStep(ctx context.Context, person uuid.UUID) int64 {
	if d == nil {
		return 0
	}
	one, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var s spent
	e, err := d.Store.Get(one, pathSpent+person.String())
	if err != nil && !errors.Is(err, member.ErrAbsent) {
		e, err = d.Store.GetLocal(ctx, pathSpent+person.String())
	}
	if err == nil {
		err = d.unboxed(e, &s)
	}
	if err != nil {
		s = spent{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(s.Step, d.spent[person].Step)
}

// Report is what a node says about signing in without the database.
type Report struct {
	Version  int64     `json:"version"`            // of the mirror that this node has seen; zero: none
	AgreedAt time.Time `json:"agreed_at,omitzero"` // when the mirror was last seen to be what the database says
	Opened   bool      `json:"opened"`             // operators can sign in without the database now
	Why      string    `json:"why,omitempty"`      // why they cannot, while it is down
}

// Report says how it is.
func (d *Door) Report(ctx context.Context) *Report {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	r := Report{Version: d.memory.Version, AgreedAt: d.memory.Agreed}
	d.mu.Unlock()
	s := d.State(ctx)
	if r.Opened = s.Open; s.Why != nil {
		r.Why = s.Why.Code
	}
	return &r
}
