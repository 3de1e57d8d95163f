package daemon

import (
	"context"

	"github.com/missionopsai/foundry/internal/gateway/ledger"
)

// makeGateways prepares what tells the gateways of this database from one
// another, and gives back what lost ones had leased.
func (d *Daemon) makeGateways() {
	d.gateways = ledger.NewGateways(d.db, ledger.GatewayOptions{Node: d.node.Number, Boot: d.node.Boot, Trusts: d.gateway.SnapshotLimit(), Version: d.version,
		Budgets: d.budgets, Log: d.log, Replaced: func(err error) {
			select {
			case d.failed <- err:
			default: // it fails already
			}
		}})
}

// runGateways keeps this gateway in the list of those that live, and limits
// per minute common to all of them, until ctx ends.
func (d *Daemon) runGateways(ctx context.Context) {
	d.running.Go(func() { d.gateways.Run(ctx) })
	d.running.Go(func() { d.budgets.Share(ctx, d.gateways.Peers) })
}

// leaveGateways says that this gateway stops in order.
func (d *Daemon) leaveGateways(ctx context.Context) {
	if d.gateways == nil {
		return
	}
	if err := d.gateways.Leave(ctx); err != nil {
		d.log.Warn("that this gateway stops was not written down", "error", err)
	}
}
