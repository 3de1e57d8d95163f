package backup

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

type targetType = target.Target

// backups makes the runs of a backup.
func (b *Backups) backups(chosen []task, past map[[2]string]history, typ engine.Type, scheduled bool) (out []*work) {
	for _, t := range chosen {
		r := b.newRun(KindBackup, t, scheduled)
		kind := typ
		switch {
		case t.subject != Database:
			kind = engine.Snapshot
		case kind == "":
			kind = typeFor(past[[2]string{string(t.subject), t.target.Name}], b.o.Clock(), b.o.Config.FullEvery)
		}
		r.Type = string(kind)
		out = append(out, &work{run: r, task: t, do: b.backUp})
	}
	return out
}

// backUp makes one backup, with a sentinel and the counts of rows on both
// sides, and notes what the repository says afterwards.
func (b *Backups) backUp(ctx context.Context, w *work) error {
	t := w.task
	if b.production() {
		if err := t.target.Refused(b.o.Place, "backup.targets"); err != nil {
			return err
		}
	}
	if err := t.target.There(); err != nil {
		return err
	}
	if err := connects(ctx, t.target); err != nil { // an engine tries a server that is gone for minutes
		return err
	}
	w.say("preparing the repository")
	if err := t.engine.Prepare(ctx, t.target); err != nil {
		return err
	}
	req := engine.BackupRequest{Type: engine.Type(w.run.Type), Tags: map[string]string{"node": fmt.Sprint(b.o.Node)}}
	var rows int64
	switch t.subject {
	case Database:
		w.say("counting rows")
		n, err := b.noteCounts(ctx)
		if err != nil {
			return err
		}
		rows = n.Total()
	case Files:
		sources, err := b.o.Sources(ctx)
		if err != nil {
			return err
		}
		req.Sources = append(sources, b.o.Config.Files...)
		if err := b.writeManifest(ctx, t.target.Name, req.Sources); err != nil {
			return err
		}
	}
	if err := b.beat(ctx); err != nil {
		return err
	}
	var point engine.Point
	err := whileThere(ctx, t.target, func(ctx context.Context) (err error) {
		point, err = t.engine.Backup(ctx, t.target, req, w.progress())
		return err
	})
	if err != nil {
		return err
	}
	if point.Label == "" {
		return problem.New(problem.Internal, "engine-nothing", "The engine reported success and named no backup.").WithMend("Look at the target with `foundry backup verify`.")
	}
	w.change(func(r *Run) { r.Label, r.Type = point.Label, string(point.Type) })
	if err := b.beat(ctx); err != nil {
		return err
	}
	w.say("reading the repository")
	if err := b.readBack(ctx, t, point, rows); err != nil {
		return err
	}
	if t.subject == Database {
		if _, err := b.noteCounts(ctx); err != nil {
			return err
		}
	}
	if b.o.Made != nil {
		if err := b.o.Made(ctx, t.target); err != nil {
			b.alarm(notify.Warning, "kit-not-placed", t.target.Name, map[string]string{"next": "foundry breakglass status"})
			b.o.Log.Warn("the emergency kit was not put beside the backup", "target", t.target.Name, "error", err)
		}
	}
	if w.run.Scheduled {
		return b.expireAt(ctx, w, false)
	}
	return nil
}

func (b *Backups) production() bool { return b.o.Mode == "production" }

// readBack asks the repository what it has: an engine that exits 0 and did
// nothing has no such point.
func (b *Backups) readBack(ctx context.Context, t task, made engine.Point, rows int64) error {
	points, err := t.engine.Points(ctx, t.target)
	if err != nil {
		return err
	}
	if err := b.catalogue(ctx, t.subject, t.target.Name, t.engine.Name(), points, whyLost); err != nil {
		return err
	}
	for _, p := range points {
		if p.Label != made.Label {
			continue
		}
		if p.Broken != "" {
			return problem.New(problem.Unavailable, "backup-broken", "The engine says of the backup that it has just made: "+p.Broken).WithMend("Make another: `foundry backup run --type full`.")
		}
		err := b.onPlatform(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE backup_points SET row_count = $4 WHERE target = $1 AND engine = $2 AND label = $3`, t.target.Name, t.engine.Name(), p.Label, rows)
			return err
		})
		if err != nil {
			return err
		}
		return b.measure(ctx, t.target, points)
	}
	return problem.New(problem.Internal, "engine-nothing", fmt.Sprintf("The engine reported success, but the repository at %s has no backup %s.", t.target.Name, made.Label)).
		WithMend("Look at the target with `foundry backup verify`; the backups from before are still there.")
}

// space is how much room a target has.
type space struct {
	At          time.Time
	Free, Total int64
	Stored      int64
	Failure     string
}

// measure notes how full a target is.
func (b *Backups) measure(ctx context.Context, t target.Target, points []engine.Point) error {
	s := b.spaceOf(ctx, t)
	for _, p := range points {
		s.Stored += p.Stored
	}
	b.mu.Lock()
	b.seen[t.Name] = s
	b.mu.Unlock()
	return b.onPlatform(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO backup_space (target, free, total, stored) VALUES ($1, $2, $3, $4) ON CONFLICT (target, at) DO NOTHING`, t.Name, s.Free, s.Total, s.Stored)
		return err
	})
}

func (b *Backups) spaceOf(ctx context.Context, t target.Target) space {
	s := space{At: b.o.Clock(), Free: -1, Total: -1}
	free, total, err := t.Space(ctx)
	switch {
	case err == nil && total > 0:
		s.Free, s.Total = free, total
	case err != nil && problem.From(err).Code != "space-unknown":
		s.Failure = problem.From(err).Detail
	}
	return s
}
