package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/notify"
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
		}, Authority: d.knownBy(), Differs: d.authorityDiffers})
}

// knownBy is the fingerprint of the authority by which clients know this
// gateway; empty where an operator's own certificate is used.
func (d *Daemon) knownBy() string {
	if d.config.TLS.Certificate != "" || d.authority == nil {
		return ""
	}
	sum := sha256.Sum256(d.authority.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// authorityWords says which gateways of this database are known by another
// authority, and what to do.
func authorityWords(nodes []uint32) string {
	var names []string
	for _, n := range nodes {
		names = append(names, fmt.Sprint(n))
	}
	return fmt.Sprintf("clients that trust this node's certificate authority do not trust node %[1]s, which has another: stop this node, replace the directory ca of its data directory by that of node %[1]s and start it again, or give all of them a certificate of your own (tls.certificate)",
		strings.Join(names, ", "))
}

// authorityDiffers is told which other gateways have another authority.
func (d *Daemon) authorityDiffers(nodes []uint32) {
	if len(nodes) == 0 {
		d.log.Info("all gateways of this database are known by one certificate authority again")
		return
	}
	d.log.Warn("the gateways of this database are not known by one certificate authority", "why", authorityWords(nodes))
	d.alarm(notify.Warning, "authority-differs", uuid.Nil, map[string]string{"node": fmt.Sprint(d.node.Number), "why": authorityWords(nodes), "next": "foundry status"})
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
