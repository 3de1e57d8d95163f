package daemon

import (
	"context"
	"strconv"
	"strings"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/problem"
)

// patroniDoers take the place of the steps that concern the fleet's own
// database, where Patroni keeps it. What it does not do by itself, such as a
// member that copies everything anew, waits for a person.
func (d *Daemon) patroniDoers() map[string]recovery.Doer {
	if d.config.Database.Patroni == nil {
		return nil
	}
	return map[string]recovery.Doer{
		"fence": {Do: d.fencePatroni, Again: true, Says: func(t recovery.Task) string {
			return "Waits until Patroni's leader's key is another's than " + strings.Join(concernedNodes(t), ", ") + "'s, and until that node follows or the key's time has passed once more."
		}},
		"promote": {Do: d.promotePatroni, Again: true, Says: func(recovery.Task) string {
			return "Waits until Patroni has made another member the leader, asks it to where it has not, and reads back that it leads."
		}},
		"reconcile": {Do: d.reconcilePatroni, Again: true, Says: func(recovery.Task) string {
			return "Reads back that Patroni is strict, so that nothing acknowledged was lost, and that a standby is in step again."
		}},
	}
}

var errPatroniAway = recovery.ByHand("This node cannot look at Patroni: configure database.patroni on every node that may lead a recovery.")

func telling(t recovery.Task) func(string) {
	return func(words string) { t.Progress(order.Progress{Words: words}) }
}

// fencePatroni makes certain that the lost nodes write no more: switched off,
// where that is configured, otherwise by Patroni's own failover.
func (d *Daemon) fencePatroni(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
	nodes := concernedNodes(t)
	switch {
	case d.patroniLook == nil:
		return recovery.Receipt{}, errPatroniAway
	case len(nodes) == 0:
		return recovery.Receipt{}, recovery.ByHand("Neither the step nor the run says which node is to be fenced.")
	}
	out := recovery.Receipt{Facts: map[string]string{}}
	for _, node := range nodes {
		f, err := d.fenceOneOfPatroni(ctx, t, node)
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

func (d *Daemon) fenceOneOfPatroni(ctx context.Context, t recovery.Task, node string) (recovery.Fence, error) {
	if s, _, ok := d.config.Continuity.supplierOf(node); ok && d.machines[s.Name] != nil {
		if f, err := d.powerOff(ctx, t, node); err == nil {
			return f, nil
		}
	}
	facts, err := d.patroniLook.Fenced(ctx, node, telling(t))
	return recovery.Fence{Node: node, By: recovery.FencedByPatroni, Facts: facts}, err
}

// promotePatroni waits until another member leads.
func (d *Daemon) promotePatroni(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
	if d.patroniLook == nil {
		return recovery.Receipt{}, errPatroniAway
	}
	s, by, err := d.patroniLook.Led(ctx, t.Run.Lost, t.Node(), telling(t))
	if err != nil {
		return recovery.Receipt{}, err
	}
	return recovery.Receipt{Words: s.Leader + " leads, on timeline " + strconv.FormatInt(by.Timeline, 10) + ".",
		Facts: map[string]string{"leader": s.Leader, "timeline": strconv.FormatInt(by.Timeline, 10), "epoch": strconv.FormatInt(d.epochs.Highest(), 10), "location": strconv.FormatInt(by.Location, 10)}}, nil
}

// reconcilePatroni says what can have been lost: nothing, where the cluster is
// strict.
func (d *Daemon) reconcilePatroni(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
	if d.patroniLook == nil {
		return recovery.Receipt{}, errPatroniAway
	}
	s, err := d.patroniLook.InStep(ctx, telling(t))
	if err != nil && problem.From(err).Code == "patroni-not-strict" {
		return recovery.Receipt{}, recovery.ByHand("Patroni is not strict: what the lost leader acknowledged alone has to be looked for on its disk.")
	}
	if err != nil {
		return recovery.Receipt{}, err
	}
	return recovery.Receipt{Words: "Strict mode: every acknowledged write is on " + s.Leader + " and on " + strings.Join(s.Standbys, ", ") + ". A write without an answer may be there or not; what gateways had not shipped is shipped to the new leader.",
		Facts: map[string]string{"leader": s.Leader, "in_step": strings.Join(s.Standbys, " "), "strict": "true", "timeline": strconv.FormatInt(s.Timeline, 10)}}, nil
}
