package daemon

import (
	"context"

	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/principal"
)

// actOpened says in an incident that a node has opened itself again.
const actOpened = "quarantine.opened"

// openAgain opens this machine once its incident says that the quarantine is
// lifted: which its domain allows only after capture or containment, and after
// a decision that those approved whom the plan asks for. What is cut off still
// reaches the fleet's store, and nobody has to get at its rules by hand.
func (d *Daemon) openAgain(ctx context.Context) error {
	c, found, err := d.machine.Quarantined()
	if err != nil || !found || c.Run == "" {
		return err
	}
	run, err := d.ownDesk.Get(ctx, principal.Node("recovery"), c.Run)
	if err != nil || run.Stale || run.Incident == "" {
		return err
	}
	all, _, err := d.book.All(ctx)
	if err != nil {
		return err
	}
	self := d.Member().Name()
	for _, t := range all {
		if t.State.ID != run.Incident || t.Stale || !lifted(t.State, self, c) {
			continue
		}
		if err := d.machine.Lift(ctx); err != nil {
			return err
		}
		d.log.Warn("this machine is open again: its quarantine was lifted", "incident", run.Incident, "recovery", c.Run)
		_, _, err := d.book.Enter(ctx, principal.Node(self), run.Incident, &incident.Act{Act: actOpened, Target: "node/" + self, Words: "The rules that cut it off are gone."})
		return err
	}
	return nil
}

// lifted says whether the last word about a node, since it was cut off, is that
// it no longer is.
func lifted(s *incident.State, node string, c host.Cut) bool {
	for _, q := range s.Isolated {
		if q.Node == node {
			return q.Step == "lifted" && q.At.After(c.Since)
		}
	}
	return false
}
