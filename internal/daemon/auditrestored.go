package daemon

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
)

// Facts of a restore that say with which audit tree the database came back.
const (
	auditSize = "audit_size"
	auditRoot = "audit_root"
)

// actEntriesLost says in the audit log that a restore has lost entries of it.
const actEntriesLost = "audit.entries-lost"

// auditGoesOn lets the audit log go on after a recovery has restored the
// database to an earlier moment than this node had signed for. It believes the
// recovery's receipt in the fleet's store, never the database: whoever can
// write there could cut the log short. It looks at every restore once, not only
// where sequencing has stopped: that may be another node's turn. That entries are lost is entered, into
// the log and the incident, before anything is set aside.
func (d *Daemon) auditGoesOn(ctx context.Context) error {
	all, err := d.ownDesk.List(ctx, principal.Node("recovery"))
	if err != nil {
		return err
	}
	var bad error
	for _, r := range all {
		came, ok := restoredTree(&r.Run)
		if r.Stale || !ok || d.wentOn[r.ID] {
			continue
		}
		gone, err := d.auditLog.SetAside(ctx, came, func(gone []audit.Aside) error { return d.tellLost(ctx, &r.Run, came, gone) })
		if err == nil && len(gone) > 0 {
			d.log.Warn("the audit log goes on from a restored database: what was signed over lost entries is set aside", "recovery", r.ID, "restored", came.Size, "checkpoints", len(gone))
		}
		d.wentOn[r.ID] = err == nil
		bad = errors.Join(bad, err)
	}
	return bad
}

// restoredTree is the audit tree with which a run has restored the database.
func restoredTree(r *recovery.Run) (came audit.Restored, ok bool) {
	for _, s := range r.Steps {
		if s.Kind != "restore" || s.State != recovery.Done || s.Receipt == nil {
			continue
		}
		size, err := strconv.ParseInt(s.Receipt.Facts[auditSize], 10, 64)
		if err == nil && size > 0 {
			came, ok = audit.Restored{Size: size, Root: s.Receipt.Facts[auditRoot], By: "recovery " + r.ID}, true
		}
	}
	return came, ok
}

// tellLost enters that entries are lost, and calls who has to know.
func (d *Daemon) tellLost(ctx context.Context, r *recovery.Run, came audit.Restored, gone []audit.Aside) error {
	newest := gone[len(gone)-1]
	node := d.Member().Name()
	words := fmt.Sprintf("The database came back with %d leaves of the audit log; %s had signed for %d. What was entered in between is lost.", came.Size, node, newest.Size)
	details := map[string]any{"recovery": r.ID, "incident": r.Incident, "restored_size": came.Size, "restored_root": came.Root,
		"lost_size": newest.Size, "lost_root": newest.Root.String(), "signed_at": newest.At.UTC(), "node": node}
	err := d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := audit.Append(ctx, tx, principal.Node(node), uuid.Nil, actEntriesLost, "recovery/"+r.ID, details); err != nil {
			return err
		}
		_, err := d.outbox.Alarm(ctx, tx, notify.Critical, "audit-log.entries-lost", uuid.Nil, map[string]string{"why": words, "next": "Tell every auditor who holds a checkpoint over more leaves: docs/runbooks/audit-verify-fails.md"})
		return err
	})
	if err != nil || r.Incident == "" {
		return err
	}
	_, _, err = d.book.Enter(ctx, principal.Node(node), r.Incident, &incident.Act{Act: actEntriesLost, Target: "node/" + node, Words: words,
		Facts: map[string]string{"restored_size": strconv.FormatInt(came.Size, 10), "restored_root": came.Root, "lost_size": strconv.FormatInt(newest.Size, 10), "lost_root": newest.Root.String()}})
	return err
}
