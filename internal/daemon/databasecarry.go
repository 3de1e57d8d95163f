package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// databaseMargin is how long after the end of the lease nobody else may be
// named: by this node's own clock, from when it first saw that the lease was
// gone. It covers how late the node that held it ends its server.
const databaseMargin = 3 * time.Second

// databaseCarries are what this node does with the fleet's database when the
// leader of a recovery orders it.
//
//	database-fence      stop it and keep it down
//	database-restore    bring it here from the backups of the node `from`
//	database-promote    name this node as the primary, at a new epoch, and start
//	database-rejoin     put aside what lies here of an earlier epoch
//	database-reconcile  say what the new primary lacked of this gateway's journal
func (d *Daemon) databaseCarries() map[string]order.Carry {
	out := map[string]order.Carry{}
	if d.followsFleet() {
		out["database-reconcile"] = d.carryReconcile
	}
	if k := d.keeper; k != nil {
		out["database-fence"], out["database-restore"], out["database-promote"], out["database-rejoin"] = k.carryFence, k.carryRestore, k.carryPromote, k.carryRejoin
	}
	return out
}

// databaseAgain are those that find what they have done already.
func databaseAgain() map[string]bool {
	return map[string]bool{"database-fence": true, "database-restore": true, "database-promote": true, "database-rejoin": true, "database-reconcile": true}
}

// halt ends the serving and holds the keeper until the returned function runs.
func (k *keeper) halt(why error) (release func()) {
	if end := k.end.Load(); end != nil {
		(*end)(why)
	}
	k.acts.Lock()
	return func() {
		k.acts.Unlock()
		k.look()
	}
}

// carryFence stops the database of this node and keeps it down.
func (k *keeper) carryFence(_ context.Context, o order.Order, _ func(order.Progress)) (map[string]string, string, error) {
	note := k.read()
	note.Fenced = "it was ordered by the recovery " + o.Run
	if err := k.write(note); err != nil { // first: what dies in between must not start again
		return nil, "", err
	}
	defer k.halt(errFencedOff)()
	return map[string]string{"epoch": fmt.Sprint(note.Epoch), "stopped": "true"}, "stopped", nil
}

// carryRestore brings the database here from the backups of a lost node. What
// lay here before is put aside.
func (k *keeper) carryRestore(ctx context.Context, o order.Order, progress func(order.Progress)) (map[string]string, string, error) {
	from := o.Args["from"]
	note := k.read()
	if note.Restored != o.Run {
		if s := k.state.Load(); s != nil && s.state == DatabasePrimary {
			return nil, "", problem.New(problem.Conflict, "database-primary", "This node runs the fleet's database: nothing is restored over it.").WithMend("Fence it first, if it has to be.")
		}
		defer k.halt(errReplaced)()
		dir := filepath.Join(k.d.config.DataDir, "takeover", o.Run)
		r, err := k.d.recoverDatabase(ctx, dir, from, o, progress)
		if err != nil {
			return nil, "", err
		}
		facts := restoredFacts(r, from)
		facts["backups"] = k.d.goOn(ctx, dir, r)
		if _, err := k.setAside("before the recovery " + o.Run); err != nil {
			return nil, "", err
		}
		if err := os.Rename(filepath.Join(dir, "postgres"), k.dir); err != nil {
			return nil, "", unusable(k.dir, err)
		}
		if err := k.write(office{Restored: o.Run}); err != nil {
			return nil, "", err
		}
		return facts, fmt.Sprintf("The database of %s is restored, as it was at %s.", from, r.Recovered.UTC().Format(time.DateTime)), nil
	}
	r, err := backup.ReadRecovery(filepath.Join(k.d.config.DataDir, "takeover", o.Run))
	if err != nil || r == nil {
		return map[string]string{"from": from}, "The database was restored before.", err
	}
	return restoredFacts(r, from), "The database was restored before.", nil
}

// recoverDatabase is a take-over whose keys and files stay where they are
// restored, as evidence: this node has its own.
func (d *Daemon) recoverDatabase(ctx context.Context, dir, from string, o order.Order, progress func(order.Progress)) (*backup.Recovery, error) {
	taking := TakeOverOptions{From: from, Reason: "ordered by the recovery " + o.Run, DataDir: dir, Target: o.Args["target"],
		Progress: func(step string, done, total int64, what string) {
			progress(order.Progress{Words: step + " " + what, Done: done, Total: total, Unit: "bytes"})
		}}
	if d.config.Mode == Production && d.keeper.private != nil {
		taking.KEK = filepath.Join(d.keeper.private.Dir(), "kek-"+from) // in memory: it is this installation's, which this node has
	}
	r, err := d.TakeOver(ctx, principal.Node("recovery"), taking)
	if err != nil && problem.From(err).Code == "recovery-done" {
		err = nil
	}
	return r, err
}

func restoredFacts(r *backup.Recovery, from string) map[string]string {
	out := map[string]string{"from": from, "target": r.Target, "label": r.Point.Label, "recovered_to": r.Recovered.UTC().Format(time.RFC3339Nano),
		"lost_seconds": strconv.FormatFloat(r.Lost, 'f', 1, 64), "audit_behind": strconv.FormatBool(r.AuditBehind),
		auditSize: strconv.FormatInt(r.AuditSize, 10), auditRoot: r.AuditRoot}
	if r.Proof != nil {
		out["proof"] = string(r.Proof.Outcome)
	}
	return out
}

// carryPromote names this node as the primary and starts its database. The
// fleet's store refuses it while anybody holds the lease, whatever was ordered.
func (k *keeper) carryPromote(ctx context.Context, o order.Order, progress func(order.Progress)) (map[string]string, string, error) {
	began := db.Now()
	if err := k.nominate(ctx, o); err != nil {
		return nil, "", err
	}
	k.look()
	for {
		s, r := k.state.Load(), k.read()
		if s != nil && s.own == r.Epoch {
			switch s.state {
			case DatabasePrimary:
				return map[string]string{"epoch": fmt.Sprint(r.Epoch), "address": k.name, "took_ms": fmt.Sprint((-began.Left()).Milliseconds())}, s.words, nil
			case DatabaseFenced:
				return nil, "", problem.New(problem.Unavailable, "database-not-started", s.words)
			}
			progress(order.Progress{Words: s.words})
		}
		select {
		case <-ctx.Done():
			return nil, "", ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// nominate makes this node the one that the fleet names.
func (k *keeper) nominate(ctx context.Context, o order.Order) error {
	defer k.halt(errReplaced)()
	s, note := k.m.Store(), k.read()
	if note.Restored != o.Run && note.Epoch == 0 {
		return problem.New(problem.Conflict, "database-nothing", "There is nothing to start on this node: nothing was restored here.").WithMend("Restore it first.")
	}
	if err := k.awaitLeaseEnd(ctx); err != nil {
		return err
	}
	one, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var r primaryRecord
	e, err := s.Get(one, databasePrimary)
	if err == nil {
		err = e.Decode(&r)
	}
	if err != nil && !errors.Is(err, member.ErrAbsent) {
		return err
	}
	if r.Node != k.m.Name() || r.Run != o.Run {
		next := primaryRecord{Node: k.m.Name(), Epoch: max(r.Epoch, note.Epoch, k.d.epochs.Highest()) + 1, Since: k.d.clock().UTC(), Run: o.Run, Before: r.Node}
		if _, err := s.Put(one, databasePrimary, next, member.IfRevision(databasePrimary, e.Revision), member.IfAbsent(databaseLease)); err != nil {
			return err
		}
		r = next
	}
	return k.write(office{Epoch: r.Epoch, Restored: note.Restored, Served: note.Served})
}

// awaitLeaseEnd waits until nobody has held the lease for the margin.
func (k *keeper) awaitLeaseEnd(ctx context.Context) error {
	var gone db.Moment
	for {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := k.m.Store().Get(one, databaseLease)
		cancel()
		switch {
		case err == nil:
			gone = 0
		case errors.Is(err, member.ErrAbsent) && gone == 0:
			gone = db.Now()
		case errors.Is(err, member.ErrAbsent) && -gone.Left() >= databaseMargin:
			return nil
		}
		select {
		case <-ctx.Done():
			return problem.New(problem.Conflict, "database-lease-held", "Another node still holds the lease of the fleet's database: nobody else may start it.").
				WithMend("Switch that node off, or stop its database; the lease ends by itself after that.").Wrap(ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// carryRejoin puts aside what lies here of an earlier epoch.
func (k *keeper) carryRejoin(ctx context.Context, _ order.Order, _ func(order.Progress)) (map[string]string, string, error) {
	var r primaryRecord
	e, err := k.m.Store().Get(ctx, databasePrimary)
	if err == nil {
		err = e.Decode(&r)
	}
	if err != nil {
		return nil, "", err
	}
	if r.Node == k.m.Name() {
		return nil, "", problem.New(problem.Conflict, "database-primary", "The fleet names this node as its primary: its data are not put aside.")
	}
	defer k.halt(errReplaced)()
	to, err := k.setAside(fmt.Sprintf("%s took over in epoch %d", r.Node, r.Epoch))
	return map[string]string{"kept": to, "primary": r.Node, "epoch": fmt.Sprint(r.Epoch)}, "rejoined", err
}

// setAside keeps a database that is not used any more as evidence; it removes
// nothing. Empty: there was none.
func (k *keeper) setAside(why string) (to string, err error) { return setDatabaseAside(k.dir, why) }

func setDatabaseAside(dir, why string) (to string, err error) {
	if _, err := os.Stat(filepath.Join(dir, "data", "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := os.Remove(filepath.Join(dir, "office.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", unusable(dir, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) == 0 {
			_ = os.Remove(dir)
		}
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			return "", nil
		}
	}
	to = dir + ".aside-" + time.Now().UTC().Format("20060102T150405.000")
	if err := os.Rename(dir, to); err != nil {
		return "", unusable(dir, err)
	}
	return to, os.WriteFile(filepath.Join(to, "why.txt"), []byte(why+"\n"), 0o600)
}

// RejoinDatabase lets a node whose database stays down go on: where another
// node took over, as this one has heard, its data are put aside; where it was
// only fenced, it may be started again, if the fleet still names it. The node is
// stopped meanwhile.
func RejoinDatabase(dataDir string) (kept string, err error) {
	release, err := HoldDataDir(dataDir)
	if err != nil {
		return "", err
	}
	defer release()
	k := &keeper{dir: filepath.Join(dataDir, "postgres")}
	o := k.read()
	switch {
	case o.Replaced != "":
		return k.setAside(o.Replaced)
	case o.Fenced != "" && o.Epoch > 0:
		o.Fenced = ""
		return "", k.write(o)
	}
	return "", problem.New(problem.Conflict, "database-not-fenced", "As far as this node has heard, its database was neither replaced nor fenced.").
		WithMend("Start the node: it asks the fleet. `foundry status` then says how its database is.")
}

// carryReconcile says what the newest primary lacked of this gateway's journal,
// and whether all of it is shipped again.
func (d *Daemon) carryReconcile(ctx context.Context, _ order.Order, _ func(order.Progress)) (map[string]string, string, error) {
	s := d.ships.Load()
	if s == nil {
		return map[string]string{}, "This node has no journal.", nil
	}
	if err := d.turns.Load().WaitHealthy(ctx); err != nil {
		return nil, "", err
	}
	if err := s.Flush(ctx); err != nil {
		return nil, "", err
	}
	q := s.Queue()
	facts := map[string]string{"epoch": fmt.Sprint(d.epochs.Highest()), "waiting": fmt.Sprint(q.Events), "indeterminate": fmt.Sprint(q.Open), "rejected": fmt.Sprint(q.Rejected), "replayed": "0", "lost": "0"}
	words := "Everything that this gateway's journal holds is in the database."
	if r := d.again.Load(); r != nil {
		replayed, lost := r.Count()
		facts["replayed"], facts["lost"] = fmt.Sprint(replayed), fmt.Sprint(lost)
		facts["had"], facts["has"], facts["journal_from"] = fmt.Sprint(r.Had), fmt.Sprint(r.Has), fmt.Sprint(r.From)
		words = fmt.Sprintf("%d records were shipped again; %d are in no journal of this gateway any more.", replayed, lost)
	}
	return facts, words, nil
}
