package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/missionopsai/foundry/internal/outage"
)

// doorPoll is how soon a change of who may sign in reaches the fleet's store if
// its notification is lost.
const doorPoll = 500 * time.Millisecond

// makeDoor makes where operators sign in while the database is down. A node
// that belongs to no fleet has none.
func (d *Daemon) makeDoor(context.Context) error {
	m := d.Member()
	if m == nil || d.people == nil {
		return nil
	}
	key, err := d.keyring.MACKey("outage session tag")
	if err != nil {
		return fmt.Errorf("deriving the key of sessions without the database: %w", err)
	}
	d.door = outage.New(outage.Options{
		Node: m.Name(), Store: m.Store(), Lease: m.Lease, Enter: m.Enter, Seal: d.keyring.Seal, Open: d.keyring.Open, TokenKey: key,
		Healthy: d.db.Healthy, Material: d.people.Material, Settle: d.people.Settle, Account: d.people.Account, Verify: d.people.Verify, Limit: d.people.Limit,
		Web: d.people.RelyingParty(), File: filepath.Join(d.config.DataDir, "signin.sealed"), Clock: d.clock, Log: d.log,
	})
	return nil
}

// runDoor keeps it until ctx ends.
func (d *Daemon) runDoor(ctx context.Context) {
	if d.door == nil {
		return
	}
	d.running.Go(func() { d.door.Run(ctx) })
	d.running.Go(func() { d.db.Listen(ctx, doorPoll, d.door.Kick) })
}

// signInWithout is how people sign in here while the database is down. The
// fleet is asked for a moment only: a status must not wait for it.
func (d *Daemon) signInWithout() *outage.Report {
	ctx, cancel := context.WithTimeout(d.life, time.Second)
	defer cancel()
	return d.door.Report(ctx)
}
