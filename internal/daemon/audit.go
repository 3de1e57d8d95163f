package daemon

import (
	"context"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
)

// openAuditLog opens this node's hold on the audit log. From here on denials
// that the database refuses are kept in memory.
func (d *Daemon) openAuditLog(context.Context) (err error) {
	proofs := ledger.NewProofs(d.db)
	d.auditLog, err = audit.OpenLog(audit.Options{
		DB: d.db, Dir: filepath.Join(d.config.DataDir, "audit"), Node: d.node.Number, Seal: d.keyring.Seal, Open: d.keyring.Open,
		Batches: proofs.Batches, CheckRows: proofs.Check, Clock: d.clock, Log: d.log,
	})
	return err
}

// runAuditLog orders the audit log and signs it.
func (d *Daemon) runAuditLog(ctx context.Context) {
	d.running.Go(func() { d.watchAuditLog(ctx) })
	if err := d.auditLog.Run(ctx); err != nil && ctx.Err() == nil {
		d.log.Error("sequencing the audit log stopped", "error", err)
	}
}

// closeAuditLog puts into the tree what was appended last, as far as the
// database answers. What is left waits for the next start.
func (d *Daemon) closeAuditLog(ctx context.Context) {
	if d.auditLog == nil {
		return
	}
	if err := d.auditLog.Close(ctx); err != nil {
		d.log.Warn("the audit log was not closed in order", "error", err)
	}
	for d.db.Healthy() && ctx.Err() == nil {
		n, err := d.auditLog.Sequence(ctx)
		if err != nil {
			d.log.Warn("the audit log's last entries are not in its tree yet; the next start puts them there", "error", err)
		}
		if n == 0 {
			return
		}
	}
}

// AuditLog is the node's hold on the audit log.
func (d *Daemon) AuditLog() *audit.Log { return d.auditLog }
