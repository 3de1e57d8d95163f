package backup

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// With is what a drill uses in the place of the node's own engines and keys: an
// escrow drill brings those that the emergency kit and its shares opened.
type With struct {
	Engine  engine.Engine
	Archive func(ctx context.Context, t targetType) (a scratch.Archive, newest time.Time, err error)
	Hooks   []scratch.Hook
	Close   func() // called when the drill has ended; may be nil
}

// Checks of a drill beside those of the copy.
const (
	CheckRestore  = "restore"
	CheckRecovery = "recovery time"
	CheckGap      = "data gap"
)

// StartDrill restores apart, proves what was restored and throws it away.
func (b *Backups) StartDrill(ctx context.Context, p principal.Principal, in DrillRequest) (Job, error) {
	return b.StartDrillWith(ctx, p, in, nil)
}

// StartDrillWith is StartDrill with the engines and keys of an emergency kit.
func (b *Backups) StartDrillWith(ctx context.Context, p principal.Principal, in DrillRequest, with *With) (Job, error) {
	if err := b.may(ctx, p, "backup.drill"); err != nil {
		return Job{}, err
	}
	t, in, err := b.drillOf(ctx, in)
	if err != nil {
		return Job{}, err
	}
	r := b.newRun(KindDrill, t, false)
	return b.launch(ctx, p, KindDrill, []*work{{run: r, task: t, do: func(ctx context.Context, w *work) error { return b.drill(ctx, w, in, p, with) }}})
}

// drillOf completes a request.
func (b *Backups) drillOf(ctx context.Context, in DrillRequest) (task, DrillRequest, error) {
	if in.Subject == "" {
		in.Subject = Database
	}
	if in.Which == "" {
		in.Which = Latest
		if !in.Time.IsZero() {
			in.Which = At
		}
	}
	switch in.Which {
	case Latest, Random, Oldest:
	case At:
		if in.Time.IsZero() {
			return task{}, in, problem.New(problem.Invalid, "drill-time", "Which moment to restore is missing.").WithField("time").WithMend("Give it as 2026-11-30T12:00:00Z.")
		}
		if in.Time.After(b.o.Clock()) {
			return task{}, in, problem.New(problem.Invalid, "drill-time", "The moment to restore is in the future.").WithField("time").WithMend("Give one that has been.")
		}
	default:
		return task{}, in, problem.New(problem.Invalid, "drill-which", fmt.Sprintf("%q is nothing to restore.", in.Which)).WithField("which").WithMend("Use latest, random, oldest, or at with a time.")
	}
	var targets []string
	if in.Target != "" {
		targets = []string{in.Target}
	}
	all, err := b.choose([]Subject{in.Subject}, targets)
	if err != nil {
		return task{}, in, err
	}
	if all, err = b.withBackups(ctx, all, in.Subject); err != nil {
		return task{}, in, err
	}
	past, err := b.histories(ctx)
	if err != nil {
		return task{}, in, err
	}
	chosen := all[0]
	for _, t := range all[1:] {
		if past[[2]string{string(t.subject), t.target.Name}].LastDrill.Before(past[[2]string{string(chosen.subject), chosen.target.Name}].LastDrill) {
			chosen = t
		}
	}
	in.Target = chosen.target.Name
	return chosen, in, nil
}

// withBackups leaves those from which there is something to restore. Where
// nothing was backed up yet nothing is tried: a record of that would read as a
// drill that proved nothing.
func (b *Backups) withBackups(ctx context.Context, all []task, s Subject) (out []task, err error) {
	var targets []string
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce(array_agg(DISTINCT target), '{}') FROM backup_points WHERE subject = $1 AND gone_at IS NULL`, string(s)).Scan(&targets)
	})
	for _, t := range all {
		if slices.Contains(targets, t.target.Name) {
			out = append(out, t)
		}
	}
	if err == nil && len(out) == 0 {
		err = problem.New(problem.Conflict, "drill-nothing", fmt.Sprintf("There is no backup of the %s to restore.", s)).WithField("subject").
			WithMend("Make one: `foundry backup run`. Where one failed, `foundry backup list --runs` says why.")
	}
	return out, err
}

// trial is one drill under way.
type trial struct {
	b      *Backups
	w      *work
	in     DrillRequest
	with   With
	d      Drill
	place  *scratch.Place
	began  time.Time
	proof  scratch.Proof
	wanted time.Time
}

// drill makes one drill. The run fails when the drill does not pass, so that
// whoever looks only at runs is not misled.
func (b *Backups) drill(ctx context.Context, w *work, in DrillRequest, p principal.Principal, with *With) error {
	x := &trial{b: b, w: w, in: in, began: b.o.Clock()}
	w.after = func() {
		if x.place != nil {
			b.clear(x.place)
		}
	}
	x.with = With{Engine: w.task.engine, Archive: b.o.Archive, Hooks: b.o.Hooks}
	if with != nil {
		x.with = *with
		if with.Close != nil {
			defer with.Close()
		}
	}
	x.d = Drill{ID: uuid.Must(uuid.NewV7()), Run: w.run.ID, Subject: in.Subject, Target: in.Target, Which: in.Which, Escrow: with != nil, Started: x.began, By: p.String(),
		RTO: time.Duration(b.o.Config.RTO).Seconds(), RPO: time.Duration(b.o.Config.RPO).Seconds()}
	var err error
	if in.Subject == Database {
		err = x.database(ctx)
	} else {
		err = x.files(ctx)
	}
	b.o.Log.Info("a drill is over", "run", w.run.ID, "restore_seconds", x.d.Restore, "answered_seconds", x.d.Recovery, "proof_seconds", x.d.Prove, "seconds", b.o.Clock().Sub(x.began).Seconds())
	if ctx.Err() != nil {
		return ctx.Err() // the node stops: nothing was proven, and nothing disproven
	}
	if err != nil {
		x.proof.Checks = append(x.proof.Checks, failed(err))
	}
	x.judge()
	if err := b.keep(context.WithoutCancel(ctx), x); err != nil {
		return err
	}
	w.change(func(r *Run) { r.Drill, r.Label = &x.d.ID, x.d.Label })
	if err := b.watchArchive(ctx); err != nil { // so that who asks next hears what stands since
		b.o.Log.Warn("the archive was not looked at after a drill", "error", err)
	}
	switch x.d.Outcome {
	case Pass:
		b.resolved("backup-unproven", in.Target)
		return nil
	case Fail:
		return problem.New(problem.Conflict, "drill-failed", x.d.Reason).WithMend("This backup does not bring back what it should: `foundry backup verify` says what is missing, `foundry backup run --type full` makes a new one; drill again afterwards.").Wrap(err)
	}
	return problem.New(problem.Conflict, "drill-inconclusive", x.d.Reason).WithMend("Nothing is proven until a drill passes: mend what stood in the way, and drill again.").Wrap(err)
}

// environment are codes of failures that say nothing about the backup: the
// machine or the way to the target was in the way.
var environment = []string{"scratch-full", "scratch-unusable", "copy-slow", "copy-held", "engine-missing", "engine-locked", "restore-full", "server-missing", "server-memory", "cluster-unreachable",
	"timeout", "canceled", "space-unknown", "drill-nothing", "backup-running", "runtime-unusable"}

// failed says what an error means: that the backup cannot be restored, or that
// nobody knows.
func failed(err error) Check {
	p := problem.From(err)
	c := Check{Name: CheckRestore, Outcome: Fail, Reason: p.Detail}
	if p.Detail == "" {
		c.Reason = err.Error()
	}
	for _, code := range environment {
		if p.Code == code {
			c.Outcome = Inconclusive
		}
	}
	if strings.HasPrefix(p.Code, "target-") || p.Kind == problem.Canceled || p.Kind == problem.Timeout || errors.Is(err, context.DeadlineExceeded) {
		c.Outcome = Inconclusive
	}
	return c
}

// most sentinels that a copy is compared with, one by one; all of them are
// checked for gaps.
const mostSentinels = 5000

// database restores the database and proves the copy.
func (x *trial) database(ctx context.Context) error {
	b, t := x.b, x.w.task.target
	x.w.say("choosing the point")
	now, archivedTo, err := x.horizon(ctx)
	if err != nil {
		return err
	}
	if err := x.chooseMoment(ctx, now); err != nil {
		return err
	}
	// What is expected is read before anything is restored.
	until := now
	if !x.wanted.IsZero() {
		until = x.wanted
	}
	e := scratch.Expected{At: x.wanted, Interval: b.o.Beat, ReachLSN: archivedTo}
	if e.Sentinels, err = sentinelsUntil(ctx, b.o.DB, until, mostSentinels); err != nil {
		return err
	}
	x.reach(&e, archivedTo)
	if err := b.cleared(ctx); err != nil {
		return err
	}
	if err := b.roomFor(x.size(ctx)); err != nil {
		return err
	}
	if x.place, err = scratch.Make(b.scratchDir()); err != nil {
		return err
	}
	// A file's pages are read as soon as it is restored, while it is in memory.
	pages := scratch.ReadPages(x.place.Data())
	defer pages.Close()
	start := time.Now()
	restored, err := x.with.Engine.Restore(ctx, t, engine.RestoreRequest{Label: x.in.Label, Time: x.wanted, To: x.place.Data()}, x.w.progress())
	if err != nil {
		return err
	}
	x.d.Restore, x.d.Label, x.d.Bytes = time.Since(start).Seconds(), restored.Point.Label, restored.Bytes
	e.StartWAL = restored.Point.StartWAL
	x.w.change(func(r *Run) { r.Label = restored.Point.Label })
	x.w.say("replaying the log")
	// What it is compared with is listed while the log is replayed.
	var beside sync.WaitGroup
	var listing error
	beside.Go(func() { listing = x.expect(ctx, &e) })
	copy, err := scratch.Start(ctx, scratch.Options{Dir: x.place.Dir, BinDir: b.o.BinDir, User: b.o.User, Log: b.o.Log, Pages: pages})
	x.d.Recovery = time.Since(start).Seconds()
	beside.Wait()
	if err != nil {
		return err
	}
	defer func() { _ = copy.Stop(context.WithoutCancel(ctx)) }()
	if listing != nil {
		return listing
	}
	return x.prove(ctx, copy, e)
}

// expect reads what the copy is compared with beside sentinels.
func (x *trial) expect(ctx context.Context, e *scratch.Expected) (err error) {
	at := x.began
	if !x.wanted.IsZero() {
		at = x.wanted
	}
	if e.Notes, err = notesAround(ctx, x.b.o.DB, at); err != nil || x.with.Archive == nil {
		return err
	}
	e.Archive, _, err = x.with.Archive(ctx, x.w.task.target)
	return err
}

func (x *trial) prove(ctx context.Context, copy *scratch.Server, e scratch.Expected) error {
	e.Checks = x.with.Hooks
	proof, err := copy.Prove(ctx, e, func(what string) { x.w.say("checking: " + what) })
	x.proof = proof
	x.d.Prove, x.d.Rows = proof.Seconds, proof.Rows
	if !proof.Recovered.IsZero() {
		x.d.Recovered = &proof.Recovered
		gap := x.began
		if !x.wanted.IsZero() {
			gap = x.wanted
		}
		x.d.Gap = max(0, gap.Sub(proof.Recovered).Seconds())
	}
	return err
}

// horizon is the database's time now, and how far its log was archived.
func (x *trial) horizon(ctx context.Context) (now time.Time, lsn string, err error) {
	if x.b.o.Archived != nil {
		if lsn, _, err = x.b.archived(ctx); err != nil {
			return now, "", err
		}
	}
	err = x.b.o.DB.Read(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now) })
	return now, lsn, err
}

// chooseMoment turns what was asked for into a moment; zero: the end.
func (x *trial) chooseMoment(ctx context.Context, now time.Time) error {
	first, last, err := x.window(ctx, now)
	if err != nil {
		return err
	}
	switch x.in.Which {
	case Latest:
		return nil
	case Random:
		x.wanted = randomIn(first, last)
	case Oldest:
		x.wanted = first
	case At:
		x.wanted = x.in.Time
	}
	x.wanted = x.wanted.UTC().Truncate(time.Millisecond)
	x.d.Wanted = &x.wanted
	return nil
}

// window is between which moments anything can be asked for.
func (x *trial) window(ctx context.Context, now time.Time) (first, last time.Time, err error) {
	var oldest, archived *time.Time
	err = x.b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT (SELECT min(stopped_at) FROM backup_points WHERE target = $1 AND subject = 'database' AND gone_at IS NULL AND broken = ''),
			(SELECT written_at FROM backup_archived WHERE target = $1)`, x.in.Target).Scan(&oldest, &archived)
	})
	if err != nil {
		return first, last, err
	}
	if oldest == nil {
		return first, last, problem.New(problem.NotFound, "drill-nothing", "The catalogue knows of no backup of the database at "+x.in.Target+".").WithMend("Make one: `foundry backup run`.")
	}
	// A few beats after the backup's end, so that a sentinel tells.
	first = oldest.Add(2 * x.b.o.Beat)
	if promised := now.Add(-x.b.o.Config.keep()); promised.After(first) {
		first = promised
	}
	last = first
	if archived != nil && archived.After(first) {
		last = *archived
	}
	return first, last, nil
}

// reach says until when everything has to be there.
func (x *trial) reach(e *scratch.Expected, archivedTo string) {
	if x.wanted.IsZero() {
		if end, err := scratch.ParseLSN(archivedTo); err == nil {
			e.Reach = reachOf(e.Sentinels, end)
		}
		return
	}
	e.ReachLSN = ""
	for _, s := range e.Sentinels {
		if !s.At.After(x.wanted) {
			e.ReachLSN = s.LSN
		}
	}
}

// size is how large the copy will be, as far as the catalogue knows.
func (x *trial) size(ctx context.Context) (n int64) {
	_ = x.b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce(max(bytes), 0) FROM backup_points WHERE target = $1 AND subject = $2 AND gone_at IS NULL`, x.in.Target, string(x.in.Subject)).Scan(&n)
	})
	return n
}

// judge completes the record: the proof, and time and gap against what was
// promised.
func (x *trial) judge() {
	d := &x.d
	end := x.b.o.Clock()
	d.Ended = &end
	d.FullSize = d.Recovery
	if full := x.fullSize(); d.Bytes > 0 && full > d.Bytes {
		d.FullSize = d.Recovery * float64(full) / float64(d.Bytes)
	}
	required := []string{}
	if len(x.proof.Checks) > 0 && x.proof.Checks[len(x.proof.Checks)-1].Name != CheckRestore {
		x.proof.Checks = append(x.proof.Checks, timeCheck(d), gapCheck(d))
	}
	x.proof.Settle(required...)
	d.Outcome, d.Reason, d.Checks = x.proof.Outcome, x.proof.Reason, x.proof.Checks
	if d.Outcome == Pass {
		d.Reason = fmt.Sprintf("Restored in %s up to %s. %s", inWords(d.Recovery), stamp(*d.Recovered), d.Reason)
	}
}

func (x *trial) fullSize() int64 {
	if x.in.Subject == Database {
		return 0 // everything is restored
	}
	return x.size(context.WithoutCancel(x.b.life))
}

func timeCheck(d *Drill) Check {
	c := Check{Name: CheckRecovery, Outcome: Pass, Reason: fmt.Sprintf("%s for everything, of %s.", inWords(d.FullSize), inWords(d.RTO))}
	if d.FullSize > d.RTO {
		c.Outcome, c.Reason = Fail, fmt.Sprintf("It would take %s for everything, and %s were promised.", inWords(d.FullSize), inWords(d.RTO))
	}
	return c
}

func gapCheck(d *Drill) Check {
	if d.Recovered == nil {
		return Check{Name: CheckGap, Outcome: Inconclusive, Reason: "The moment that the copy had reached is not known."}
	}
	c := Check{Name: CheckGap, Outcome: Pass, Reason: fmt.Sprintf("%s, of %s.", inWords(d.Gap), inWords(d.RPO))}
	if d.Gap > d.RPO {
		c.Outcome, c.Reason = Fail, fmt.Sprintf("What was written in the last %s would be lost, and %s were promised.", inWords(d.Gap), inWords(d.RPO))
	}
	return c
}

// keep signs the record and stores it with its audit entry.
func (b *Backups) keep(ctx context.Context, x *trial) error {
	d := &x.d
	d.Evidence, d.Signer = "", ""
	message, err := json.Marshal(d)
	if err != nil {
		return err
	}
	signer, signature, err := b.o.Sign(message)
	if err != nil {
		return fmt.Errorf("signing the record of a drill: %w", err)
	}
	hash := sha256.Sum256(message)
	d.Evidence, d.Signer = fmt.Sprintf("%x", hash), signer
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	err = b.onPlatform(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO backup_drills (id, run, subject, target, engine, label, which, escrow, outcome, started_at, ended_at, recovered_at, record, hash, signed, signer, signature)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
			d.ID, d.Run, d.Subject, d.Target, x.w.task.engine.Name(), d.Label, d.Which, d.Escrow, d.Outcome, d.Started, d.Ended, d.Recovered, message, hash[:], message, signer, signature)
		if err != nil {
			return err
		}
		return audit.Append(ctx, tx, node, uuid.Nil, "backup.proof", d.ID.String(), map[string]any{"outcome": d.Outcome, "target": d.Target, "point": d.Label, "record_sha256": d.Evidence})
	})
	if err != nil {
		return fmt.Errorf("keeping the record of a drill: %w", err)
	}
	if d.Outcome != Pass {
		b.alarm(notify.Critical, "backup-unproven", d.Target, map[string]string{"outcome": string(d.Outcome), "reason": d.Reason, "next": "foundry backup drill " + d.ID.String()})
	}
	return nil
}

func errScratchFull(dir string, need, free int64) error {
	return problem.New(problem.Unavailable, "scratch-full", fmt.Sprintf("A copy needs %d MB, and %d MB are free at %s.", need>>20, free>>20, dir)).
		WithMend("Free space there, or name another place in backup.scratch_dir.")
}
