package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/engine/enginetest"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/scratch/scratchtest"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// operator may run and drill; security may hold.
var (
	operator = principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Roles: principal.RolesOf(principal.PlatformOperator), SecondFactor: time.Now()}
	security = principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Roles: principal.RolesOf(principal.PlatformSecurity), SecondFactor: time.Now()}
)

// alarms are what people would have been told.
type alarms struct {
	mu   sync.Mutex
	said []string
}

func (a *alarms) tell(s notify.Severity, code string, facts map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, code)
}

func (a *alarms) has(code string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.said, func(s string) bool { return strings.HasPrefix(s, code) })
}

// house is a node with backups.
type house struct {
	t      *testing.T
	plain  *scratchtest.Plain
	db     *db.DB
	b      *Backups
	target target.Target
	alarms alarms
	work   sync.WaitGroup
	now    func() time.Time
}

// newHouse makes it, with an engine that change may replace.
func newHouse(t *testing.T, change func(h *house, o *Options)) *house {
	t.Helper()
	p, d := scratchtest.New(t)
	h := &house{t: t, plain: p, db: d, target: scratchtest.Target(t, "one"), now: time.Now}
	h.target.Engines = nil
	rules, err := policy.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{DB: d, Guard: access.NewGuard(rules, d, time.Now, policy.Development), Config: Config{}, Targets: []target.Target{h.target}, Mode: "development", Node: 7, Boot: 1,
		Scratch: filepath.Join(dbtest.Dir(t), "scratch"), Database: p, Archived: h.archived,
		Archive: func(ctx context.Context, t target.Target) (a scratch.Archive, newest time.Time, err error) {
			a.Names, err = p.Segments(ctx, t)
			return a, time.Time{}, err
		},
		Sign:  func(m []byte) (string, []byte, error) { return "test", []byte("signed"), nil },
		Alarm: h.alarms.tell, Background: h.work.Go, Clock: func() time.Time { return h.now() }, Log: dbtest.Log(t), Beat: 200 * time.Millisecond}
	if change != nil {
		change(h, &o)
	}
	if h.b, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.b.end(); h.work.Wait() })
	return h
}

// archived asks the server how far it has archived.
func (h *house) archived(ctx context.Context) (lsn string, at time.Time, failing string, err error) {
	return ServerArchived(ctx, h.db)
}

// settle writes sentinels and waits until they are archived, and until the
// server says so.
func (h *house) settle() {
	h.t.Helper()
	for range 2 {
		if err := h.b.beat(h.t.Context()); err != nil {
			h.t.Fatal(err)
		}
	}
	want, err := scratch.ParseLSN(h.plain.WaitArchived(h.t))
	if err != nil {
		h.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		lsn, _, _, err := h.archived(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		if n, err := scratch.ParseLSN(lsn); err == nil && n+scratch.SegmentBytes > want {
			break
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the server says that it archived up to %q only", lsn)
		}
	}
	if err := h.b.watchArchive(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// done waits for a job.
func (h *house) done(j Job, err error) Job {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	h.work.Wait()
	j, err = h.b.Job(h.t.Context(), operator, j.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

func (h *house) backUp() Job {
	h.t.Helper()
	j := h.done(h.b.Start(h.t.Context(), operator, Request{Subjects: []Subject{Database}}))
	if j.State != Done {
		h.t.Fatalf("%+v", j.Runs)
	}
	return j
}

func (h *house) drill(in DrillRequest) (Job, Drill) {
	h.t.Helper()
	j := h.done(h.b.StartDrill(h.t.Context(), operator, in))
	d, err := h.b.Drill(h.t.Context(), operator, j.Runs[0].ID)
	if err != nil {
		h.t.Fatalf("%v (run: %+v)", err, j.Runs[0])
	}
	return j, d
}

func (h *house) acts(act string) (n int) {
	h.t.Helper()
	rows, err := audit.Find(h.t.Context(), h.db, audit.Filter{Act: act})
	if err != nil {
		h.t.Fatal(err)
	}
	return len(rows)
}

func (h *house) status() Status {
	h.t.Helper()
	s, err := h.b.Status(h.t.Context(), operator)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func TestABackupIsGreenOnlyAfterADrillHasProvenIt(t *testing.T) {
	h := newHouse(t, nil)
	if s := h.status(); s.CanRestore.Outcome != Fail || s.WouldLose >= 0 || !strings.Contains(s.CanRestore.Reason, "no backup yet") {
		t.Fatalf("%+v", s.CanRestore)
	}
	h.backUp()
	h.settle()
	s := h.status()
	if s.CanRestore.Outcome != Inconclusive || s.WouldLose >= 0 || s.NewestProven != nil || s.Newest == nil {
		t.Fatalf("before any drill: %+v, %v", s.CanRestore, s.WouldLose)
	}
	j, d := h.drill(DrillRequest{})
	if j.State != Done || d.Outcome != Pass || d.Recovered == nil || d.Rows == 0 || d.Recovery <= 0 || d.Evidence == "" {
		t.Fatalf("%+v\n%+v", j, d)
	}
	t.Log(d.Reason)
	s = h.status()
	if s.CanRestore.Outcome != Pass || s.WouldLose < 0 || s.WouldLose > 60 || s.NewestProven == nil || s.NewestProven.Label != d.Label {
		t.Fatalf("after it: %+v, loses %v", s.CanRestore, s.WouldLose)
	}
	t.Log(s.CanRestore.Reason)
	if n := h.acts("backup.run"); n != 1 {
		t.Errorf("backup.run stands %d times in the audit log", n)
	}
	if n := h.acts("backup.drill"); n != 1 {
		t.Errorf("backup.drill stands %d times in the audit log", n)
	}
	if n := h.acts("backup.proof"); n != 1 {
		t.Errorf("backup.proof stands %d times in the audit log", n)
	}
	left, _ := filepath.Glob(filepath.Join(h.b.o.Scratch, "*copy-*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	days, err := h.b.Calendar(t.Context(), operator, 30)
	if err != nil || len(days) != 30 || days[29].Points != 1 || days[29].Proven != 1 || days[29].Worst != Pass || days[28].Missed {
		t.Fatalf("%+v %v", days[29], err)
	}
}

func TestEveryMomentOfTheWindowCanBeDrilled(t *testing.T) {
	h := newHouse(t, nil)
	h.backUp()
	first := time.Now()
	deadline := first.Add(2 * time.Second)
	for time.Now().Before(deadline) {
		if err := h.b.beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.plain.WaitArchived(t)
	}
	h.settle()
	for _, in := range []DrillRequest{{Which: Latest}, {Which: At, Time: first.Add(time.Second)}, {Which: Random}, {Which: Oldest}} {
		_, d := h.drill(in)
		if in.Which != Latest && d.Wanted == nil {
			t.Errorf("%s: no moment was asked for", in.Which)
		}
		// A slack of 5 s for commits leaves nothing to tell by in a world of two
		// seconds: that is inconclusive, and never green for it.
		if in.Which == Latest && d.Outcome != Pass || d.Outcome == Fail {
			t.Errorf("%s: %s %s", in.Which, d.Outcome, d.Reason)
		}
	}
	if j, err := h.b.StartDrill(t.Context(), operator, DrillRequest{Which: At}); err == nil {
		t.Errorf("no time: %+v", j)
	}
	if j, err := h.b.StartDrill(t.Context(), operator, DrillRequest{Time: time.Now().Add(time.Hour)}); err == nil {
		t.Errorf("the future: %+v", j)
	}
}

// liar wraps the honest engine in a lie.
type liar struct {
	*scratchtest.Plain
	backup  func(ctx context.Context, t target.Target, r engine.BackupRequest) (engine.Point, error)
	points  func([]engine.Point) []engine.Point
	restore func(ctx context.Context, t target.Target, r engine.RestoreRequest) (engine.Restored, error)
	expire  func() (engine.Expired, error)
}

func (l *liar) Backup(ctx context.Context, t target.Target, r engine.BackupRequest, p engine.Progress) (engine.Point, error) {
	if l.backup != nil {
		return l.backup(ctx, t, r)
	}
	return l.Plain.Backup(ctx, t, r, p)
}

func (l *liar) Points(ctx context.Context, t target.Target) ([]engine.Point, error) {
	all, err := l.Plain.Points(ctx, t)
	if l.points != nil {
		all = l.points(all)
	}
	return all, err
}

func (l *liar) Restore(ctx context.Context, t target.Target, r engine.RestoreRequest, p engine.Progress) (engine.Restored, error) {
	if l.restore != nil {
		return l.restore(ctx, t, r)
	}
	return l.Plain.Restore(ctx, t, r, p)
}

func (l *liar) Expire(ctx context.Context, t target.Target, r engine.ExpireRequest) (engine.Expired, error) {
	if l.expire != nil {
		return l.expire()
	}
	return l.Plain.Expire(ctx, t, r)
}

func TestAnEngineThatReportsSuccessAndDidNothingMakesNoBackup(t *testing.T) {
	h := newHouse(t, func(h *house, o *Options) {
		o.Database = &liar{Plain: h.plain, backup: func(context.Context, target.Target, engine.BackupRequest) (engine.Point, error) {
			return engine.Point{Engine: "plain", Target: "one", Label: "P001", Type: engine.Full, Started: time.Now(), Stopped: time.Now(), StartWAL: "000000010000000000000002"}, nil
		}}
	})
	j := h.done(h.b.Start(t.Context(), operator, Request{}))
	if j.State != Failed || j.Runs[0].Code != "engine-nothing" || j.Runs[0].Mend == "" {
		t.Fatalf("%+v", j.Runs)
	}
	if s := h.status(); s.CanRestore.Outcome != Fail || s.Newest != nil {
		t.Fatalf("%+v", s.CanRestore)
	}
	if !h.alarms.has("backup-backup-failed") {
		t.Fatalf("nobody was told: %v", h.alarms.said)
	}
}

func TestNothingThatALyingEngineRestoresIsEverGreen(t *testing.T) {
	l := &liar{}
	h := newHouse(t, func(h *house, o *Options) { l.Plain, o.Database = h.plain, l })
	h.backUp()
	old := filepath.Join(dbtest.Dir(t), "stale")
	if _, err := h.plain.Restore(t.Context(), h.target, engine.RestoreRequest{To: old}, nil); err != nil {
		t.Fatal(err)
	}
	h.settle()
	point := func() engine.Point {
		all, _ := h.plain.Points(t.Context(), h.target)
		return all[0]
	}
	copyOf := func(from, to string) error {
		out, err := exec.Command("cp", "-a", "-T", from, to).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	}
	for name, lie := range map[string]func(ctx context.Context, t target.Target, r engine.RestoreRequest) (engine.Restored, error){
		"restores nothing": func(context.Context, target.Target, engine.RestoreRequest) (engine.Restored, error) {
			return engine.Restored{Point: point(), Bytes: 1 << 30}, nil
		},
		"restores an empty directory": func(_ context.Context, _ target.Target, r engine.RestoreRequest) (engine.Restored, error) {
			return engine.Restored{Point: point(), Bytes: 1 << 30}, os.Mkdir(r.To, 0o700)
		},
		"restores without the log": func(_ context.Context, _ target.Target, r engine.RestoreRequest) (engine.Restored, error) {
			err := copyOf(old, r.To)
			// The backup's own segment comes along, and nothing after it.
			conf := "restore_command = 'test %f = " + point().StartWAL + " && cp " + h.plain.Archive + "/%f %p'\n"
			return engine.Restored{Point: point(), Bytes: 1 << 30}, errors.Join(err, os.WriteFile(filepath.Join(r.To, "postgresql.auto.conf"), []byte(conf), 0o644))
		},
		"says another point than it restored": func(ctx context.Context, t target.Target, r engine.RestoreRequest) (engine.Restored, error) {
			out, err := h.plain.Restore(ctx, t, r, nil)
			out.Point.StartWAL = "0000000100000000000000F0"
			return out, err
		},
		"is silent about what it restored": func(ctx context.Context, t target.Target, r engine.RestoreRequest) (engine.Restored, error) {
			_, err := h.plain.Restore(ctx, t, r, nil)
			return engine.Restored{}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			l.restore = lie
			_, d := h.drill(DrillRequest{})
			if d.Outcome == Pass {
				t.Fatalf("green: %s", d.Reason)
			}
			t.Logf("%s: %s", d.Outcome, d.Reason)
			if s := h.status(); s.CanRestore.Outcome == Pass {
				t.Fatalf("%+v", s.CanRestore)
			}
		})
	}
	h.t = t
	// A backup younger than what it is asked to bring back, and one that vanishes.
	l.restore = nil
	l.points = func([]engine.Point) []engine.Point { return nil }
	j := h.done(h.b.StartVerify(t.Context(), operator, TargetRequest{}))
	if j.State != Failed || !strings.Contains(j.Runs[0].Reason, "missing that nobody removed") {
		t.Fatalf("%+v", j.Runs[0])
	}
}

// Every lie of the conformance suite's liar, from backup to drill: the run may
// look as it likes, the verdict is never a pass.
func TestNoLieOfTheSuiteIsEverGreen(t *testing.T) {
	l := &enginetest.Liar{}
	h := newHouse(t, func(h *house, o *Options) { l.Engine, o.Database = h.plain, l })
	h.backUp()
	h.settle()
	h.plain.WaitArchived(t)
	h.backUp()
	h.settle()
	for lie, name := range map[enginetest.Lie]string{enginetest.Nothing: "nothing", enginetest.Empty: "empty", enginetest.Stale: "stale"} {
		t.Run(name, func(t *testing.T) {
			h.t, l.Lie = t, lie
			if lie == enginetest.Nothing {
				h.done(h.b.Start(t.Context(), operator, Request{}))
			}
			_, d := h.drill(DrillRequest{})
			if d.Outcome == Pass {
				t.Fatalf("green: %s", d.Reason)
			}
			t.Logf("%s: %s", d.Outcome, d.Reason)
			if s := h.status(); s.CanRestore.Outcome == Pass || s.WouldLose >= 0 {
				t.Fatalf("%+v", s.CanRestore)
			}
		})
	}
	h.t = t
}

func TestARemovedSegmentIsFoundByVerifyByTheWatchAndByADrill(t *testing.T) {
	h := newHouse(t, nil)
	h.backUp()
	h.settle()
	h.settle()
	all, err := h.plain.Segments(t.Context(), h.target)
	if err != nil {
		t.Fatal(err)
	}
	points, _ := h.plain.Points(t.Context(), h.target)
	// The backup itself may need several, under load; the one after them has a
	// name without more.
	gap := all[slices.IndexFunc(all, func(name string) bool { return len(name) == 24 && name > points[0].StopWAL })]
	if err := os.Remove(filepath.Join(h.plain.Archive, gap)); err != nil {
		t.Fatal(err)
	}
	if j := h.done(h.b.StartVerify(t.Context(), operator, TargetRequest{})); j.State != Failed || !strings.Contains(j.Runs[0].Reason, gap) {
		t.Fatalf("verify: %+v", j.Runs[0])
	}
	if _, d := h.drill(DrillRequest{}); d.Outcome != Fail || !strings.Contains(d.Reason, gap) {
		t.Fatalf("drill: %s %s", d.Outcome, d.Reason)
	}
	h.b.watched = map[string]watched{} // as after an hour
	if err := h.b.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !h.alarms.has("backup-log-gap") || !h.alarms.has("backup-unproven") || !h.alarms.has("backup-drill-failed") {
		t.Fatalf("alarms: %v", h.alarms.said)
	}
	if lsn, waits := h.b.ArchivedTo(); lsn != "" || !waits {
		t.Fatalf("the journal would be released up to %q", lsn)
	}
	// A new full backup begins behind the gap.
	h.backUp()
	h.settle()
	if _, d := h.drill(DrillRequest{}); d.Outcome == Pass {
		t.Logf("after a new backup: %s", d.Reason)
	} else {
		t.Fatalf("after a new backup: %s %s", d.Outcome, d.Reason)
	}
}

func TestTwoProcessesNeverMakeTheSameBackup(t *testing.T) {
	var other *Backups
	h := newHouse(t, nil)
	o := h.b.o
	o.Node, o.Boot = 8, 1
	other, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	block := make(chan struct{})
	in := make(chan struct{})
	h.b.o.Database = &liar{Plain: h.plain, backup: func(ctx context.Context, t target.Target, r engine.BackupRequest) (engine.Point, error) {
		close(in)
		<-block
		return h.plain.Backup(ctx, t, r, nil)
	}}
	j, err := h.b.Start(t.Context(), operator, Request{})
	if err != nil {
		t.Fatal(err)
	}
	<-in
	if _, err := other.Start(t.Context(), operator, Request{}); problem.From(err).Code != "backup-running" {
		t.Fatalf("%v", err)
	}
	if _, err := h.b.Start(t.Context(), operator, Request{}); problem.From(err).Code != "backup-running" {
		t.Fatalf("%v", err)
	}
	close(block)
	if j = h.done(j, nil); j.State != Done {
		t.Fatalf("%+v", j.Runs)
	}
	if n := h.acts("backup.run"); n != 1 {
		t.Errorf("backup.run stands %d times in the audit log", n)
	}
}

func TestARunOfAKilledProcessIsInterruptedAndMadeAgain(t *testing.T) {
	h := newHouse(t, nil)
	ctx := t.Context()
	// What a kill leaves: a run of an earlier start that nobody ends.
	r := &Run{ID: uuid.Must(uuid.NewV7()), Kind: KindBackup, Subject: Database, Target: "one", Engine: "plain", Type: "full", By: "system:backup", Node: 7}
	r.Job = r.ID
	boot := h.b.o.Boot
	h.b.o.Boot = 0
	if err := h.b.onPlatform(ctx, func(tx pgx.Tx) error { return h.b.claim(ctx, tx, r) }); err != nil {
		t.Fatal(err)
	}
	h.b.o.Boot = boot
	if _, err := h.b.Start(ctx, operator, Request{}); problem.From(err).Code != "backup-running" {
		t.Fatalf("%v", err)
	}
	h.b.settle(ctx)
	j, err := h.b.Job(ctx, operator, r.ID)
	if err != nil || j.State != Interrupted || j.Runs[0].Reason == "" || j.Runs[0].Mend == "" {
		t.Fatalf("%+v %v", j, err)
	}
	if !h.alarms.has("backup-interrupted") {
		t.Error("nobody was told")
	}
	h.now = func() time.Time { return time.Now().Add(firstRetry + time.Minute) }
	if err := h.b.schedule(ctx); err != nil {
		t.Fatal(err)
	}
	h.work.Wait()
	if s := h.status(); s.Newest == nil {
		t.Fatal("the schedule did not make it again")
	}
}

func TestTheScheduleMakesABackupAndDrillsItByItself(t *testing.T) {
	h := newHouse(t, nil)
	if err := h.b.schedule(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.work.Wait()
	h.settle()
	if err := h.b.schedule(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.work.Wait()
	s := h.status()
	if s.CanRestore.Outcome != Pass || s.LastDrill == nil || s.LastDrill.By != "system:backup" {
		t.Fatalf("%+v %+v", s.CanRestore, s.LastDrill)
	}
	before := h.acts("backup.")
	if err := h.b.schedule(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.work.Wait()
	if h.acts("backup.") != before {
		t.Fatal("something ran that was not due")
	}
}

func TestOnlyWhoMayDoes(t *testing.T) {
	h := newHouse(t, nil)
	ctx := t.Context()
	nobody := principal.Principal{Kind: principal.Person, ID: uuid.NewString(), Organisation: uuid.New(), Roles: principal.RolesOf(principal.Administrator), SecondFactor: time.Now()}
	for name, act := range map[string]func(p principal.Principal) error{
		"backup.run":    func(p principal.Principal) error { _, err := h.b.Start(ctx, p, Request{}); return err },
		"backup.drill":  func(p principal.Principal) error { _, err := h.b.StartDrill(ctx, p, DrillRequest{}); return err },
		"backup.verify": func(p principal.Principal) error { _, err := h.b.StartVerify(ctx, p, TargetRequest{}); return err },
		"backup.expire": func(p principal.Principal) error { _, err := h.b.StartExpire(ctx, p, TargetRequest{}); return err },
		"backup.hold":   func(p principal.Principal) error { _, err := h.b.Hold(ctx, p, NewHold{}); return err },
		"backup.release": func(p principal.Principal) error {
			_, err := h.b.Release(ctx, p, uuid.New(), "no longer needed")
			return err
		},
		"backup.read": func(p principal.Principal) error {
			_, e1 := h.b.Status(ctx, p)
			_, e2 := h.b.Calendar(ctx, p, 1)
			_, e3 := h.b.Jobs(ctx, p, Filter{})
			_, e4 := h.b.Job(ctx, p, uuid.New())
			_, e5 := h.b.Points(ctx, p, Filter{})
			_, e6 := h.b.Point(ctx, p, "", "x")
			_, e7 := h.b.Drills(ctx, p, Filter{})
			_, e8 := h.b.Drill(ctx, p, uuid.New())
			_, e9 := h.b.Holds(ctx, p)
			_, e10 := h.b.Targets(ctx, p)
			for _, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8, e9, e10} {
				if problem.From(err).Kind != problem.Denied {
					return err
				}
			}
			return e1
		},
	} {
		if err := act(nobody); problem.From(err).Kind != problem.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.work.Wait()
	if n := h.acts("backup."); n < 7 {
		t.Errorf("%d denials in the audit log", n)
	}
	if s := h.status(); s.Newest != nil {
		t.Error("somebody who may not made a backup")
	}
}

func TestHoldsKeepAndAreReleasedOnce(t *testing.T) {
	h := newHouse(t, nil)
	ctx := t.Context()
	h.backUp()
	h.backUp()
	points, err := h.b.Points(ctx, operator, Filter{})
	if err != nil || len(points) != 2 {
		t.Fatalf("%v %v", points, err)
	}
	old := points[1].Label
	for _, bad := range []NewHold{{Label: old, Ticket: "T-1"}, {Label: old, Reason: "for the court case", Ticket: ""}, {Reason: "for the court case", Ticket: "T-1"},
		{Label: "P999", Reason: "for the court case", Ticket: "T-1"}, {Label: old, Target: "elsewhere", Reason: "for the court case", Ticket: "T-1"}} {
		if _, err := h.b.Hold(ctx, security, bad); err == nil || problem.From(err).Field == "" || problem.From(err).Mend == "" {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	hold, err := h.b.Hold(ctx, security, NewHold{Label: old, Reason: "for the court case", Ticket: "T-1"})
	if err != nil {
		t.Fatal(err)
	}
	h.now = func() time.Time { return time.Now().Add(40 * 24 * time.Hour) }
	h.backUpLater()
	j := h.done(h.b.StartExpire(ctx, operator, TargetRequest{DryRun: true}))
	if j.State != Done || slices.Contains(j.Runs[0].Gone, old) {
		t.Fatalf("%+v", j.Runs[0])
	}
	if !strings.Contains(strings.Join(j.Runs[0].Kept, "\n"), old+": held") {
		t.Fatalf("kept: %v", j.Runs[0].Kept)
	}
	if _, err := h.b.Release(ctx, security, hold.ID, "the case is closed"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.b.Release(ctx, security, hold.ID, "the case is closed"); problem.From(err).Code != "hold-released" {
		t.Fatalf("%v", err)
	}
	j = h.done(h.b.StartExpire(ctx, operator, TargetRequest{}))
	if j.State != Done || !slices.Contains(j.Runs[0].Gone, old) {
		t.Fatalf("%+v", j.Runs[0])
	}
	if p, err := h.b.Point(ctx, operator, "one", old); err != nil || p.Gone == nil || !strings.Contains(p.GoneWhy, "Expired") {
		t.Fatalf("%+v %v", p, err)
	}
	if h.acts("backup.hold") != 1 || h.acts("backup.release") != 1 {
		t.Error("holds are not in the audit log once")
	}
}

// backUpLater makes a backup that the clock of the node says is of today. The
// plain engine dates points by the database's clock: its list is moved.
func (h *house) backUpLater() {
	h.t.Helper()
	h.b.o.Database = &liar{Plain: h.plain, points: func(all []engine.Point) []engine.Point {
		out := slices.Clone(all)
		out[len(out)-1].Stopped = h.now()
		return out
	}}
	h.backUp()
}

func TestExpiryNeverLeavesNothingAndIsCheckedAfterwards(t *testing.T) {
	l := &liar{}
	h := newHouse(t, func(h *house, o *Options) { l.Plain, o.Database = h.plain, l })
	ctx := t.Context()
	h.backUp()
	h.backUp()
	h.now = func() time.Time { return time.Now().AddDate(10, 0, 0) } // a clock gone wrong
	j := h.done(h.b.StartExpire(ctx, operator, TargetRequest{}))
	if j.State != Failed || j.Runs[0].Code != "expire-all" {
		t.Fatalf("%+v", j.Runs[0])
	}
	h.now = time.Now
	l.expire = func() (engine.Expired, error) { // removes what it must not
		return engine.Expired{}, os.RemoveAll(filepath.Join(h.target.Path, "P002"))
	}
	j = h.done(h.b.StartExpire(ctx, operator, TargetRequest{}))
	if j.State != Failed || j.Runs[0].Code != "expire-too-much" {
		t.Fatalf("%+v", j.Runs[0])
	}
	l.expire = func() (engine.Expired, error) { return engine.Expired{Gone: []string{"P001"}}, nil } // did not
	j = h.done(h.b.StartExpire(ctx, operator, TargetRequest{}))
	if j.State != Failed || j.Runs[0].Code != "expire-nothing" {
		t.Fatalf("%+v", j.Runs[0])
	}
}

func TestATargetThatGoesAwayIsSaidToBeAndNothingIsProvenFromIt(t *testing.T) {
	h := newHouse(t, nil)
	h.backUp()
	h.settle()
	away := h.target.Path + ".away"
	if err := os.Rename(h.target.Path, away); err != nil {
		t.Fatal(err)
	}
	j := h.done(h.b.Start(t.Context(), operator, Request{}))
	_ = os.RemoveAll(h.target.Path) // the plain engine makes its directory anew
	if j.State == Done {
		// Prepare made an empty repository: the backup in it is whole all the
		// same, and the lost ones are noticed.
		t.Log("the engine began a new repository")
	}
	if err := os.Rename(away, h.target.Path); err != nil {
		t.Fatal(err)
	}
	if _, d := h.drill(DrillRequest{}); d.Outcome != Pass {
		t.Fatalf("back again: %s %s", d.Outcome, d.Reason)
	}
}

func TestWhileArchivingIsBlockedTheLossGrowsAndPeopleAreTold(t *testing.T) {
	h := newHouse(t, nil)
	h.backUp()
	h.settle()
	h.drill(DrillRequest{})
	if err := h.plain.Block(true); err != nil {
		t.Fatal(err)
	}
	if err := h.b.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := h.plain.Admin(t.Context(), func(c *pgx.Conn) error { _, err := c.Exec(t.Context(), `SELECT pg_switch_wal()`); return err })
	if err != nil {
		t.Fatal(err)
	}
	// One failed push is nothing to wake people for: it has to go on failing.
	deadline := time.Now().Add(time.Minute)
	for ahead := 30 * time.Minute; !h.alarms.has("backup-target-failing"); ahead = min(ahead+time.Minute, time.Hour) {
		h.now = func() time.Time { return time.Now().Add(ahead) }
		if err := h.b.watch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("alarms: %v", h.alarms.said)
		}
	}
	s := h.status()
	if s.WouldLose < 1700 || s.WALLagSeconds < 1700 || !h.alarms.has("backup-archive-late") {
		t.Fatalf("would lose %v, lag %v, %v", s.WouldLose, s.WALLagSeconds, h.alarms.said)
	}
	h.now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	if s := h.status(); s.CanRestore.Outcome != Fail {
		t.Fatalf("behind the objective: %+v", s.CanRestore)
	}
}

// Backups write sentinels while the node does: none fails, and none is missing.
func TestSentinelsAreWrittenOneAfterTheOther(t *testing.T) {
	h := newHouse(t, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if err := h.b.beat(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	list, err := sentinelsUntil(t.Context(), h.db, time.Now().Add(time.Hour), 1000)
	if err != nil || len(list) < 80 {
		t.Fatalf("%d sentinels, %v", len(list), err)
	}
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; b.ID != a.ID+1 || b.At.Before(a.At) {
			t.Fatalf("sentinel %d of %s follows %d of %s", b.ID, b.At, a.ID, a.At)
		}
	}
}
