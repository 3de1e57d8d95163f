package backup

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
)

// Options is what Backups stands on.
type Options struct {
	DB      *db.DB
	Guard   *access.Guard
	Config  Config
	Targets []target.Target // opened; empty: there are no backups
	Place   target.Place    // where the data stands
	Mode    string          // development or production
	Node    uint32
	Boot    uint32
	BinDir  string // of PostgreSQL; empty: found
	User    string // who runs the server; empty: as for the private cluster
	Scratch string // directory for restored copies

	Database engine.Engine // nil: the database is not backed up here
	// Archive lists what the repository at a target has of the write-ahead
	// log, and when the newest of it came there.
	Archive func(ctx context.Context, t target.Target) (a scratch.Archive, newest time.Time, err error)
	// Archived is how far the server says that its log was archived to every
	// target; empty: it does not say. Not from the repository, so that the two
	// can be compared.
	Archived func(ctx context.Context) (lsn string, at time.Time, failing string, err error)

	Files   engine.Engine // nil: files are not backed up here
	Sources func(ctx context.Context) ([]string, error)
	// Restored are further checks of a restored copy of the files, which stand
	// below root at their whole former path. May be nil.
	Restored func(ctx context.Context, root string) []Check

	// Hooks are further checks of a restored copy of the database.
	Hooks []scratch.Hook
	// Sign signs the record of a drill.
	Sign func(message []byte) (signer string, signature []byte, err error)
	// Alarm tells people; may be nil. Repetitions are counted by whoever tells.
	Alarm func(severity notify.Severity, code string, facts map[string]string)
	// Made is told after a backup was made at a target: the emergency kit goes
	// there. May be nil.
	Made func(ctx context.Context, t target.Target) error
	// Background starts a goroutine that the process waits for when it stops.
	Background func(func())

	// JournalHeld is how much of the gateway's journal is kept only because it
	// is not archived yet; may be nil.
	JournalHeld func() int64

	Clock func() time.Time // time.Now when nil
	Log   *slog.Logger
	Beat  time.Duration // between sentinels; 0: scratch.SentinelEvery
	Look  time.Duration // between looks at the schedule; 0: 15 s
}

// Backups makes, keeps, proves and expires backups. Safe for concurrent use.
// Every method that takes a principal authorises it.
type Backups struct {
	o     Options
	began time.Time

	mu           sync.Mutex
	cancel       map[uuid.UUID]context.CancelFunc // of running jobs
	told         map[string]time.Time             // alarms, by code and target: when last told
	watched      map[string]watched               // by target
	seen         map[string]space                 // by target
	probed       map[string]TargetProbe           // by target
	claimed      uint64                           // how far the server said that it has archived
	failingSince time.Time                        // since when archiving fails; zero: it does not
	away         map[string]time.Time             // by target: since when it is not there
	back         map[string]time.Time             // by target: since when it is there again
	reached      map[string]reach                 // by target: whether its server answers
	removals     *removals
	life         context.Context
	end          context.CancelFunc
}

// New makes it. It looks at nothing yet.
func New(o Options) (*Backups, error) {
	o.Config = o.Config.WithDefaults()
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Alarm == nil {
		o.Alarm = func(notify.Severity, string, map[string]string) {}
	}
	if o.Background == nil {
		o.Background = func(do func()) { go do() }
	}
	if o.Beat <= 0 {
		o.Beat = scratch.SentinelEvery
	}
	if o.Look <= 0 {
		o.Look = 15 * time.Second
	}
	if o.Scratch == "" {
		return nil, errors.New("backup: no directory for restored copies")
	}
	if len(o.Targets) > 0 && o.Sign == nil {
		return nil, errors.New("backup: nothing signs the records of drills")
	}
	b := &Backups{o: o, began: o.Clock(), cancel: map[uuid.UUID]context.CancelFunc{}, told: map[string]time.Time{}, watched: map[string]watched{}, seen: map[string]space{}, probed: map[string]TargetProbe{}, away: map[string]time.Time{}, back: map[string]time.Time{}, reached: map[string]reach{}, removals: newRemovals()}
	b.life, b.end = context.WithCancel(context.Background())
	return b, nil
}

// Configured reports whether there is a target at all.
func (b *Backups) Configured() bool { return len(b.o.Targets) > 0 }

// task is one subject at one target, with the engine that serves it.
type task struct {
	subject Subject
	target  target.Target
	engine  engine.Engine
}

// tasks lists what is backed up where.
func (b *Backups) tasks() (out []task) {
	for _, t := range b.o.Targets {
		if b.o.Database != nil && t.Serves(b.o.Database.Name()) && t.Kind != target.SFTPHost {
			out = append(out, task{Database, t, b.o.Database})
		}
		if b.o.Files != nil && t.Serves(b.o.Files.Name()) {
			out = append(out, task{Files, t, b.o.Files})
		}
	}
	return out
}

// Run keeps the schedule, writes sentinels and watches, until ctx ends. Runs
// that were begun are stopped then, and done again by the next start.
func (b *Backups) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, b.end)
	defer stop()
	if err := b.o.DB.WaitHealthy(ctx); err != nil {
		return err
	}
	b.settle(ctx)
	b.prepare(ctx)
	var wg sync.WaitGroup
	if b.Configured() {
		wg.Go(func() { b.every(ctx, b.o.Beat, "a sentinel was not written", b.beat) })
		wg.Go(func() { b.every(ctx, time.Hour, "old sentinels were not removed", b.prune) })
	}
	wg.Go(func() { b.every(ctx, b.o.Look, "backups were not watched", b.watch) })
	b.every(ctx, b.o.Look, "the schedule of backups was not kept", b.schedule)
	wg.Wait()
	return ctx.Err()
}

// every does something again and again, and logs what goes wrong once.
func (b *Backups) every(ctx context.Context, d time.Duration, wrong string, do func(context.Context) error) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	failing := false
	for {
		if b.o.DB.Healthy() {
			err := do(ctx)
			if err != nil && ctx.Err() == nil && !failing {
				b.o.Log.Warn(wrong, "error", err)
			}
			failing = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (b *Backups) beat(ctx context.Context) error {
	_, err := b.writeSentinel(ctx)
	return err
}

// settle ends what earlier processes left.
func (b *Backups) settle(ctx context.Context) {
	b.sweep(ctx)
	ended, err := b.endStale(ctx)
	if err != nil {
		b.o.Log.Warn("interrupted runs were not put in order", "error", err)
	}
	for _, r := range ended {
		b.o.Log.Warn("a run was interrupted", "kind", r.Kind, "subject", r.Subject, "target", r.Target, "run", r.ID)
		b.alarm(notify.Warning, "backup-interrupted", r.Target, map[string]string{"kind": string(r.Kind), "subject": string(r.Subject), "next": "foundry backup status"})
	}
}

// prepare makes the repositories of the database where there are none: its log
// cannot be archived before.
func (b *Backups) prepare(ctx context.Context) {
	for _, t := range b.tasks() {
		if t.subject != Database {
			continue
		}
		if err := t.engine.Prepare(ctx, t.target); err != nil && ctx.Err() == nil {
			b.o.Log.Error("a repository of backups was not prepared", "target", t.target.Name, "error", chain(err))
		}
	}
}

// node is who acts when the schedule does.
var node = principal.Node("backup")

// schedule starts what is due: one job at a time.
func (b *Backups) schedule(ctx context.Context) error {
	if b.busy() {
		return nil
	}
	if _, err := b.endStale(ctx); err != nil {
		return err
	}
	past, err := b.histories(ctx)
	if err != nil {
		return err
	}
	now := b.o.Clock()
	var chosen []task
	for _, t := range b.tasks() {
		if due(b.sinceBack(t.target.Name, past[[2]string{string(t.subject), t.target.Name}]), now, b.o.Config.daily()) && away(t.target) == nil {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) > 0 {
		return ignoreBusy(b.launch(ctx, node, KindBackup, b.backups(chosen, past, "", true)))
	}
	return b.scheduleDrill(ctx, past, now)
}

func ignoreBusy(_ Job, err error) error { return err }

// scheduleDrill starts the drill that is due longest.
func (b *Backups) scheduleDrill(ctx context.Context, past map[[2]string]history, now time.Time) error {
	last, err := b.lastDrills(ctx)
	if err != nil {
		return err
	}
	var chosen *task
	var oldest time.Time
	all := b.tasks()
	for i, t := range all {
		key := [2]string{string(t.subject), t.target.Name}
		h, d := past[key], last[key]
		proven := d == nil || d.Outcome == Pass
		if !drillDue(h, now, time.Duration(b.o.Config.DrillEvery), proven) || away(t.target) != nil {
			continue
		}
		if chosen == nil || h.LastDrill.Before(oldest) {
			chosen, oldest = &all[i], h.LastDrill
		}
	}
	if chosen == nil {
		return nil
	}
	which := whichNext(past[[2]string{string(chosen.subject), chosen.target.Name}].Drills)
	if chosen.subject != Database {
		which = Latest
	}
	r := b.newRun(KindDrill, *chosen, true)
	in := DrillRequest{Subject: chosen.subject, Target: chosen.target.Name, Which: which}
	return ignoreBusy(b.launch(ctx, node, KindDrill, []*work{{run: r, task: *chosen, do: func(ctx context.Context, w *work) error { return b.drill(ctx, w, in, node, nil) }}}))
}

// busy reports whether this process makes a run now.
func (b *Backups) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.cancel) > 0
}

// alarm tells people once an hour at most about one thing at one target.
func (b *Backups) alarm(severity notify.Severity, code, target string, facts map[string]string) {
	name := code
	if target != "" {
		name += "." + target
		facts["target"] = target
	}
	b.mu.Lock()
	now := b.o.Clock()
	last, ok := b.told[name]
	quiet := ok && now.Sub(last) < time.Hour && !now.Before(last)
	if !quiet {
		b.told[name] = now
	}
	b.mu.Unlock()
	if !quiet {
		b.o.Alarm(severity, name, facts)
	}
}

// resolved lets the next alarm of a kind through at once.
func (b *Backups) resolved(code, target string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.told, code+"."+target)
}

// randomIn picks a moment between two.
func randomIn(from, until time.Time) time.Time {
	if !until.After(from) {
		return from
	}
	return from.Add(time.Duration(rand.Int64N(int64(until.Sub(from))))) //nolint:gosec // nobody gains by guessing it
}

// roomFor refuses a copy that the disk has no room for.
func (b *Backups) roomFor(bytes int64) error {
	free, err := scratch.Free(b.o.Scratch)
	if err != nil {
		return err
	}
	// The log that is replayed comes on top, and the live database must not
	// run out of room because of a drill.
	if need := bytes + bytes/5 + 512<<20; free < need {
		return errScratchFull(b.o.Scratch, need, free)
	}
	return nil
}

func (b *Backups) scratchDir() string { return filepath.Clean(b.o.Scratch) }
