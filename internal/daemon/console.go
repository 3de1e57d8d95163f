package daemon

import (
	"context"

	"github.com/missionopsai/foundry/internal/console"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/keys"
)

// consoleOptions is what the console shows and acts on.
func (d *Daemon) consoleOptions(store *ledger.Store) console.Options {
	return console.Options{Version: d.version, Mode: d.config.Mode, Country: d.config.Node.Country, Started: d.started, URL: d.URL,
		DB: d.db, Gateway: d.gateway, Verifier: d.verifier, Guard: d.guard, Store: store, Queue: d.shipper.Queue,
		People: d.people, Sessions: d.sessions, Grants: d.grants, Register: d.register, Audit: d.auditLog, Vault: d.vault, Rotate: d.rotate, Controls: d.controls, RunControls: d.startControls, Outbox: d.outbox, Backups: d.backups, Glass: d.glass, Code: d.code, Exercises: d.exercises, Plans: d.plans, Fleet: d.consoleFleet(), Incidents: d.incident, Recoveries: d.recovery, Door: d.door,
		Canary:   d.canary,
		Go:       func(work func(context.Context)) { d.running.Go(func() { work(d.life) }) },
		Storage:  func(ctx context.Context) keys.StorageReport { return keys.Node{DataDir: d.config.DataDir}.Storage(ctx) },
		Refusing: func() error { return d.journal.Stats().Failure }, Log: d.log, Clock: d.clock}
}
