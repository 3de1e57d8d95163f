package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// databaseDoers do the steps that concern the fleet's own database. A fleet
// without one leaves them to people.
func (d *Daemon) databaseDoers(desk *order.Desk) map[string]recovery.Doer {
	return map[string]recovery.Doer{
		"fence": {Do: d.fenceLost(desk), Says: d.saysFence, Again: true},
		"restore": {Do: d.restoreDatabase(desk), Again: true, Says: func(t recovery.Task) string {
			return fmt.Sprintf("Restores the database of %s on %s from its backups. What lies there is put aside, and nothing is removed.", strings.Join(t.Run.Lost, ", "), t.Node())
		}, Destroys: func(context.Context, recovery.Task) (bool, string, error) {
			return false, "What lies there is put aside, and nothing is removed.", nil
		}},
		"promote": {Do: d.promoteDatabase(desk), Again: true, Says: func(t recovery.Task) string {
			return "Names " + t.Node() + " as the primary of the database, at a new epoch, and starts it there."
		}},
		"reconcile": {Do: d.reconcileDatabase(desk), Again: true, Says: func(recovery.Task) string {
			return "Asks every gateway what the new database lacked of its journal, and whether all of it is there again."
		}},
	}
}

// primaryNow is the node that the fleet names for its database; false: the
// fleet has none.
func (d *Daemon) primaryNow(ctx context.Context) (r primaryRecord, found bool, err error) {
	if d.store == nil {
		return r, false, nil
	}
	e, err := d.store.Get(ctx, databasePrimary)
	if errors.Is(err, member.ErrAbsent) {
		return r, false, nil
	}
	if err == nil {
		err = e.Decode(&r)
	}
	return r, err == nil, err
}

var errNoFleetDatabase = recovery.ByHand("The fleet runs no database of its own: this is done where the database is.")

// needsDatabase leaves to people what cannot be done without a database of the
// fleet, or without a node to do it on.
func (d *Daemon) needsDatabase(ctx context.Context, placed bool) error {
	_, found, err := d.primaryNow(ctx)
	if err == nil && (!found || !placed) {
		return errNoFleetDatabase
	}
	return err
}

// fenceLost makes certain that the lost nodes write no more: by switching them off
// where that is configured, otherwise by the end of their lease on the database.
func (d *Daemon) fenceLost(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	return func(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
		_, found, err := d.primaryNow(ctx)
		if err != nil {
			return recovery.Receipt{}, err
		}
		if !found {
			return d.fenceByPower(ctx, t)
		}
		nodes := concernedNodes(t)
		if len(nodes) == 0 {
			return recovery.Receipt{}, recovery.ByHand("Neither the step nor the run says which node is to be fenced.")
		}
		out := recovery.Receipt{Facts: map[string]string{}}
		for _, node := range nodes {
			f, err := d.fenceOne(ctx, desk, t, node)
			if err != nil {
				return out, err
			}
			out.Fences = append(out.Fences, f)
			for k, v := range f.Facts {
				out.Facts[node+"."+k] = v
			}
		}
		out.Words = "They write no more: " + strings.Join(nodes, ", ") + "."
		return out, nil
	}
}

func (d *Daemon) fenceOne(ctx context.Context, desk *order.Desk, t recovery.Task, node string) (recovery.Fence, error) {
	if s, _, ok := d.config.Continuity.supplierOf(node); ok && d.machines[s.Name] != nil {
		if f, err := d.powerOff(ctx, t, node); err == nil {
			return f, nil
		}
	}
	return d.fenceByLease(ctx, desk, t, node)
}

// fenceByLease waits until a node cannot hold the database any more: another
// holds its lease, or nobody has held it for the margin, by this process's own
// clock. A node that still answers is told to stop, and says so itself.
func (d *Daemon) fenceByLease(ctx context.Context, desk *order.Desk, t recovery.Task, node string) (recovery.Fence, error) {
	var gone db.Moment
	asked := false
	for {
		var l primaryLease
		e, err := d.store.Get(ctx, databaseLease)
		if err == nil {
			err = e.Decode(&l)
		}
		switch {
		case err == nil && l.Node != node:
			return recovery.Fence{Node: node, By: recovery.FencedByLease, Facts: map[string]string{"lease_of": l.Node, "epoch": strconv.FormatInt(l.Epoch, 10)}}, nil
		case err == nil:
			gone = 0
			if !asked {
				asked = true
				soon := &order.Desk{Store: desk.Store, Heard: 3 * time.Second}
				if _, err := give(ctx, soon, t, node, "database-fence", nil); err == nil {
					return recovery.Fence{Node: node, By: recovery.FencedByItself, Facts: map[string]string{"state": "stopped"}}, nil
				}
			}
		case errors.Is(err, member.ErrAbsent) && gone == 0:
			gone = db.Now()
		case errors.Is(err, member.ErrAbsent) && -gone.Left() >= databaseMargin:
			return recovery.Fence{Node: node, By: recovery.FencedByLease, Facts: map[string]string{"lease": "ended", "margin": databaseMargin.String()}}, nil
		}
		select {
		case <-ctx.Done():
			return recovery.Fence{}, problem.New(problem.Conflict, "database-lease-held", node+" still holds the lease of the fleet's database.").
				WithMend("Switch it off, or stop its database; the lease ends by itself after that.").Wrap(ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (d *Daemon) restoreDatabase(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	return func(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
		r, found, err := d.primaryNow(ctx)
		switch {
		case err != nil:
			return recovery.Receipt{}, err
		case !found || t.Node() == "":
			return recovery.Receipt{}, errNoFleetDatabase
		case !slices.Contains(t.Run.Lost, r.Node):
			return recovery.Receipt{}, recovery.ByHand("The database was on " + r.Node + ", which this recovery does not hold to be lost.")
		}
		a, err := give(ctx, desk, t, t.Node(), "database-restore", map[string]string{"from": r.Node})
		return recovery.Receipt{Words: a.Words, Facts: a.Facts}, err
	}
}

func (d *Daemon) promoteDatabase(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	return func(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
		if err := d.needsDatabase(ctx, t.Node() != ""); err != nil {
			return recovery.Receipt{}, err
		}
		a, err := give(ctx, desk, t, t.Node(), "database-promote", nil)
		return recovery.Receipt{Words: a.Words, Facts: a.Facts}, err
	}
}

// reconcileDatabase asks every gateway that there is.
func (d *Daemon) reconcileDatabase(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	return func(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
		if err := d.needsDatabase(ctx, true); err != nil {
			return recovery.Receipt{}, err
		}
		nodes, err := d.Member().Nodes(ctx)
		if err != nil {
			return recovery.Receipt{}, err
		}
		out := recovery.Receipt{Facts: map[string]string{}}
		var asked, away []string
		for _, n := range nodes {
			if !slices.Contains(n.Roles, member.Gateway) {
				continue
			}
			if slices.Contains(t.Run.Lost, n.Name) {
				away = append(away, n.Name) // its disk may hold what nobody else has
				continue
			}
			a, err := give(ctx, desk, t, n.Name, "database-reconcile", nil)
			if err != nil {
				return out, err
			}
			asked = append(asked, n.Name)
			for k, v := range a.Facts {
				out.Facts[n.Name+"."+k] = v
			}
		}
		out.Words = "Compared with the journals of " + strings.Join(asked, ", ") + "."
		if len(away) > 0 {
			out.Words += " What the disks of " + strings.Join(away, ", ") + " hold and had not shipped is not known until they are back."
		}
		return out, nil
	}
}
