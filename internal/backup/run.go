package backup

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// work is one run to be made.
type work struct {
	run  *Run
	task task
	do   func(ctx context.Context, w *work) error
	b    *Backups
	last time.Time // when progress was last written down

	told  chan struct{} // has one when there is something to write down
	after func()        // called when the run has ended; may be nil
}

func (b *Backups) newRun(kind Kind, t task, scheduled bool) *Run {
	return &Run{ID: uuid.Must(uuid.NewV7()), Kind: kind, Subject: t.subject, Target: t.target.Name, Engine: t.engine.Name(), State: Running, Node: b.o.Node, Scheduled: scheduled}
}

// launch enters runs and the act that asked for them in one transaction, and
// makes the runs one after the other in the background. The schedule leaves out
// what somebody makes already; for anybody else that is an error, and nothing
// is entered.
func (b *Backups) launch(ctx context.Context, p principal.Principal, kind Kind, all []*work) (Job, error) {
	if len(all) == 0 {
		return Job{}, errNothing()
	}
	job := Job{ID: all[0].run.ID, Kind: kind, State: Running}
	var claimed []*work
	err := b.onPlatform(ctx, func(tx pgx.Tx) error {
		claimed = nil
		var names []string
		var busy error
		for _, w := range all {
			w.b, w.run.Job, w.run.By = b, job.ID, p.String()
			err := b.claim(ctx, tx, w.run)
			if err != nil && problem.From(err).Code == "backup-running" && p == node {
				busy = err
				continue
			}
			if err != nil {
				return err
			}
			claimed = append(claimed, w)
			names = append(names, string(w.run.Subject)+" at "+w.run.Target)
		}
		if len(claimed) == 0 {
			return busy
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "backup."+verb(kind), job.ID.String(), map[string]any{"of": names})
	})
	if err != nil {
		return Job{}, err
	}
	running, cancel := context.WithCancel(b.life)
	b.mu.Lock()
	b.cancel[job.ID] = cancel
	b.mu.Unlock()
	for _, w := range claimed {
		job.Runs = append(job.Runs, *w.run)
	}
	b.o.Background(func() {
		defer func() {
			b.mu.Lock()
			delete(b.cancel, job.ID)
			b.mu.Unlock()
			cancel()
		}()
		for _, w := range claimed {
			b.make(running, w)
		}
	})
	return job, nil
}

func verb(k Kind) string {
	if k == KindBackup {
		return "run"
	}
	return string(k)
}

// heartbeat is how often a run says that it lives.
const heartbeat = 2 * time.Second

// make makes one run, from entered to ended.
func (b *Backups) make(ctx context.Context, w *work) {
	alive, stop := context.WithCancel(ctx)
	defer stop()
	w.told = make(chan struct{}, 1)
	go b.listen(alive, w)
	err := ctx.Err()
	if err == nil {
		err = func() (err error) {
			defer func() {
				if v := recover(); v != nil {
					b.o.Log.Error("a run of backups panicked", "panic", fmt.Sprint(v), "run", w.run.ID, "stack", string(debug.Stack()))
					err = problem.New(problem.Internal, "backup-defect", "The run failed by a defect of the program.").WithMend("Tell its makers; the log has the details.")
				}
			}()
			return w.do(ctx, w)
		}()
	}
	stop()
	b.over(context.WithoutCancel(ctx), w, err)
	if w.after != nil {
		w.after()
	}
}

// listen writes down how far a run is, whenever it says so and now and then
// otherwise. The run does not wait for it: what it gives the disk to do keeps
// every commit waiting.
func (b *Backups) listen(ctx context.Context, w *work) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.told:
		case <-tick.C:
		}
		err := b.hear(ctx, w.snapshot())
		if err != nil && ctx.Err() == nil && !failing {
			b.o.Log.Warn("a run's progress was not written down", "error", err)
		}
		failing = err != nil
	}
}

// tell has the run's state written down.
func (w *work) tell() {
	select {
	case w.told <- struct{}{}:
	default: // it is being told, and newer than what was to be told
	}
}

// snapshot copies the run for another goroutine.
func (w *work) snapshot() *Run {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	r := *w.run
	return &r
}

// change changes the run under its lock.
func (w *work) change(do func(r *Run)) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	do(w.run)
}

// progress takes what an engine says, and writes it down now and then.
func (w *work) progress() engine.Progress {
	return func(done, total int64, what string) {
		now := time.Now()
		w.change(func(r *Run) { r.Progress = Progress{done, total, what} })
		w.b.mu.Lock()
		write := now.Sub(w.last) >= heartbeat
		if write {
			w.last = now
		}
		w.b.mu.Unlock()
		if write {
			w.tell()
		}
	}
}

// say notes what a run is doing.
func (w *work) say(what string) {
	w.change(func(r *Run) { r.Progress.What = what })
	w.tell()
}

const endTimeout = 30 * time.Second

// over ends a run: done, failed, or interrupted because the node stops.
func (b *Backups) over(ctx context.Context, w *work, err error) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	w.change(func(r *Run) {
		r.State = Done
		if err == nil {
			return
		}
		p := problem.From(err)
		r.State, r.Code, r.Reason, r.Mend = Failed, p.Code, p.Detail, p.Mend
		if p.Kind == problem.Internal && p.Code == "" || r.Reason == "" {
			r.Code, r.Reason, r.Mend = "internal", "It failed; the log has the details under "+p.ID+".", "Look at the node's log."
		}
		if errors.Is(err, context.Canceled) && b.life.Err() != nil {
			r.State, r.Code, r.Reason, r.Mend = Interrupted, "interrupted", "The node was stopped.", "The schedule does it again."
		}
	})
	r := w.snapshot()
	if err != nil {
		b.o.Log.Error("a run of backups did not succeed", "kind", r.Kind, "subject", r.Subject, "target", r.Target, "state", r.State, "code", r.Code, "run", r.ID, "error", chain(err))
	}
	if serr := b.onPlatform(ctx, func(tx pgx.Tx) error { return finish(ctx, tx, r) }); serr != nil {
		b.o.Log.Error("the end of a run was not written down; it counts as interrupted", "run", r.ID, "error", serr)
	}
	switch r.State {
	case Failed:
		b.alarm(severityOf(r), "backup-"+string(r.Kind)+"-failed", r.Target, map[string]string{"subject": string(r.Subject), "code": r.Code, "reason": r.Reason, "next": r.Mend})
	case Done:
		b.resolved("backup-"+string(r.Kind)+"-failed", r.Target)
	}
	if took := r.took(); r.State == Done && r.Kind == KindBackup && took > slow {
		b.alarm(notify.Warning, "backup-slow", r.Target, map[string]string{"subject": string(r.Subject), "took": took.Round(time.Second).String(), "next": "foundry backup list --runs"})
	}
}

// chain joins the texts of an error and what it wraps, for the log.
func chain(err error) string {
	var all []string
	for ; err != nil; err = errors.Unwrap(err) {
		if text := err.Error(); len(all) == 0 || !strings.Contains(all[len(all)-1], text) {
			all = append(all, text)
		}
	}
	return strings.Join(all, ": ")
}

// slow is when a backup takes so long that somebody should know: with the next
// one a day later, it leaves little for repeating one that failed.
const slow = 6 * time.Hour

func (r *Run) took() time.Duration {
	if r.Ended == nil {
		return 0
	}
	return r.Ended.Sub(r.Started)
}

func severityOf(r *Run) notify.Severity {
	if r.Kind == KindBackup || r.Kind == KindDrill {
		return notify.Critical
	}
	return notify.Warning
}

func errNothing() error {
	return problem.New(problem.Conflict, "backup-none", "There is nothing to back up to: no target is configured that fits.").
		WithMend("Name one under backup.targets in the configuration; `foundry backup targets` shows those that there are.")
}

// choose finds the tasks that a request names.
func (b *Backups) choose(subjects []Subject, targets []string) (out []task, err error) {
	all := b.tasks()
	for i, s := range subjects {
		if !slices.Contains(Subjects, s) {
			return nil, problem.New(problem.Invalid, "backup-subject", fmt.Sprintf("%q is nothing that is backed up.", s)).WithField(fmt.Sprintf("subjects[%d]", i)).WithMend("Use database, files or mirrors.")
		}
	}
	for i, name := range targets {
		if !slices.ContainsFunc(b.o.Targets, func(t targetType) bool { return t.Name == name }) {
			return nil, problem.New(problem.NotFound, "target-unknown", fmt.Sprintf("There is no target %q.", name)).WithField(fmt.Sprintf("targets[%d]", i)).WithMend("`foundry backup targets` shows them.")
		}
	}
	for _, t := range all {
		if (len(subjects) == 0 || slices.Contains(subjects, t.subject)) && (len(targets) == 0 || slices.Contains(targets, t.target.Name)) {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return nil, errNothing()
	}
	return out, nil
}

// Start makes backups in the background.
func (b *Backups) Start(ctx context.Context, p principal.Principal, in Request) (Job, error) {
	if err := b.may(ctx, p, "backup.run"); err != nil {
		return Job{}, err
	}
	if t := engine.Type(in.Type); t != "" && t != engine.Full && t != engine.Differential && t != engine.Incremental {
		return Job{}, problem.New(problem.Invalid, "backup-type", fmt.Sprintf("%q is no type of backup.", in.Type)).WithField("type").WithMend("Use full, differential or incremental, or leave it out.")
	}
	chosen, err := b.choose(in.Subjects, in.Targets)
	if err != nil {
		return Job{}, err
	}
	past, err := b.histories(ctx)
	if err != nil {
		return Job{}, err
	}
	return b.launch(ctx, p, KindBackup, b.backups(chosen, past, engine.Type(in.Type), false))
}

func (b *Backups) may(ctx context.Context, p principal.Principal, action policy.Action) error {
	return b.o.Guard.Authorise(ctx, p, action, policy.Resource{})
}
