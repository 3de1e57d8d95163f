package backup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/notify"
)

// picture is everything that a status is made from.
type picture struct {
	now     time.Time
	past    map[[2]string]history
	drills  map[[2]string]*Drill // the last of each subject and target
	passed  map[[2]string]*Drill // the last that passed
	points  []Point              // those that are there
	runs    []Run                // the last of each kind, subject and target, and the running ones
	rooms   map[string][]room
	written map[string]time.Time // from backup_archived
	gaps    map[string]string
	lsn     string // of the server, now
}

// lastDrills reads the last drill of each subject and target.
func (b *Backups) lastDrills(ctx context.Context) (out map[[2]string]*Drill, err error) {
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		out, err = drillsBy(ctx, tx, ``)
		return err
	})
	return out, err
}

func drillsBy(ctx context.Context, tx pgx.Tx, where string) (map[[2]string]*Drill, error) {
	list, err := readDrills(ctx, tx, `WHERE id IN (SELECT DISTINCT ON (subject, target) id FROM backup_drills `+where+` ORDER BY subject, target, started_at DESC)`)
	if err != nil {
		return nil, err
	}
	out := map[[2]string]*Drill{}
	for i := range list {
		out[[2]string{string(list[i].Subject), list[i].Target}] = &list[i]
	}
	return out, nil
}

// look reads the picture.
func (b *Backups) look(ctx context.Context) (p picture, err error) {
	p.now = b.o.Clock()
	if p.past, err = b.histories(ctx); err != nil {
		return p, err
	}
	p.rooms, p.written, p.gaps = map[string][]room{}, map[string]time.Time{}, map[string]string{}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if p.drills, err = drillsBy(ctx, tx, ``); err != nil {
			return err
		}
		if p.passed, err = drillsBy(ctx, tx, `WHERE outcome = 'pass'`); err != nil {
			return err
		}
		if p.points, err = readPoints(ctx, tx, `WHERE gone_at IS NULL ORDER BY stopped_at`); err != nil {
			return err
		}
		if p.runs, err = readRuns(ctx, tx, `WHERE state = 'running' OR id IN (SELECT DISTINCT ON (kind, subject, target) id FROM backup_runs WHERE state <> 'running' AND NOT dry_run ORDER BY kind, subject, target, started_at DESC) ORDER BY started_at`); err != nil {
			return err
		}
		if err := p.readRooms(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text`).Scan(&p.lsn)
	})
	return p, err
}

func (p *picture) readRooms(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT target, at, free FROM backup_space WHERE free >= 0 AND at > now() - interval '30 days' ORDER BY at`)
	if err != nil {
		return err
	}
	var name, gap string
	var r room
	if _, err := pgx.ForEachRow(rows, []any{&name, &r.At, &r.Free}, func() error { p.rooms[name] = append(p.rooms[name], r); return nil }); err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, `SELECT target, written_at, gap FROM backup_archived`); err != nil {
		return err
	}
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&name, &at, &gap}, func() error { p.written[name], p.gaps[name] = at, gap; return nil })
	return err
}

// freshFor is how long a drill's pass counts: two rounds of the schedule.
func (b *Backups) freshFor() time.Duration {
	return 2*time.Duration(b.o.Config.DrillEvery) + 24*time.Hour
}

// status makes the status from what is stored and watched.
func (b *Backups) status(ctx context.Context) (Status, error) {
	p, err := b.look(ctx)
	if err != nil {
		return Status{}, err
	}
	c := b.o.Config
	s := Status{Configured: b.Configured(), At: p.now, RTO: time.Duration(c.RTO).Seconds(), RPO: time.Duration(c.RPO).Seconds(), KeepDays: c.KeepDays,
		WouldLose: -1, WouldLoseBytes: -1, WALLagSeconds: -1, WALLagBytes: -1, Problems: []Problem{}, Running: jobsOf(p.running()), Targets: []TargetStatus{}}
	var all []standing
	for _, t := range b.tasks() {
		key := [2]string{string(t.subject), t.target.Name}
		if t.subject == Database {
			all = append(all, b.standing(t.target.Name, &p))
		}
		b.plan(&s, p.past[key], p.drills[key], p.now)
	}
	s.CanRestore, s.WouldLose = judge(s.Configured, all, p.now, b.freshFor(), time.Duration(c.RPO))
	b.lag(&s, &p)
	if b.o.JournalHeld != nil {
		s.JournalHeld = b.o.JournalHeld()
	}
	for i := range p.points {
		pt := &p.points[i]
		if pt.Subject != Database {
			continue
		}
		s.Newest = pt
		if pt.Proven != nil {
			if s.OldestProven == nil {
				s.OldestProven = pt
			}
			s.NewestProven = pt
		}
	}
	for _, d := range p.drills {
		if s.LastDrill == nil || d.Started.After(s.LastDrill.Started) {
			s.LastDrill = d
		}
	}
	for _, d := range p.passed {
		if s.LastPassed == nil || d.Started.After(s.LastPassed.Started) {
			s.LastPassed = d
		}
	}
	for _, t := range b.o.Targets {
		s.Targets = append(s.Targets, b.targetStatus(t, &p))
	}
	b.problems(&s, &p)
	return s, nil
}

func (p *picture) running() (out []Run) {
	for _, r := range p.runs {
		if r.State == Running {
			out = append(out, r)
		}
	}
	return out
}

func (b *Backups) standing(target string, p *picture) standing {
	b.mu.Lock()
	w := b.watched[target]
	b.mu.Unlock()
	s := standing{Target: target, Last: p.drills[[2]string{string(Database), target}], Archived: p.written[target], Gap: p.gaps[target], Failure: w.Failure}
	for _, pt := range p.points {
		if pt.Target == target && pt.Subject == Database {
			s.Points++
		}
	}
	return s
}

// plan notes when the next backup and the next drill are due.
func (b *Backups) plan(s *Status, h history, d *Drill, now time.Time) {
	if at := next(h, now, b.o.Config.daily()); s.NextBackup == nil || at.Before(*s.NextBackup) {
		s.NextBackup = &at
	}
	if h.LastDone.IsZero() {
		return
	}
	at := now
	if !h.LastDrill.IsZero() {
		every := time.Duration(b.o.Config.DrillEvery)
		if d != nil && d.Outcome != Pass {
			every = min(every, drillRetry)
		}
		at = h.LastDrill.Add(every)
	}
	if s.NextDrill == nil || at.Before(*s.NextDrill) {
		s.NextDrill = &at
	}
}

// lag says how far the archive is behind the server, and what would be lost.
func (b *Backups) lag(s *Status, p *picture) {
	to, waits := b.ArchivedTo()
	if !waits || to == "" {
		return
	}
	archived, err1 := scratch.ParseLSN(to)
	now, err2 := scratch.ParseLSN(p.lsn)
	if err1 != nil || err2 != nil {
		return
	}
	s.WALLagBytes = int64(now) - int64(archived) //nolint:gosec // a log of 8 EB is not to be expected
	s.WALLagBytes = max(0, s.WALLagBytes)
	var oldest time.Time
	for _, t := range b.tasks() {
		if at := p.written[t.target.Name]; t.subject == Database && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	if !oldest.IsZero() {
		s.WALLagSeconds = max(0, p.now.Sub(oldest).Seconds())
	}
	if s.WouldLose >= 0 {
		s.WouldLoseBytes = s.WALLagBytes
	}
}

func (b *Backups) targetStatus(t target.Target, p *picture) TargetStatus {
	b.mu.Lock()
	w, sp, known := b.watched[t.Name], b.seen[t.Name], true
	if _, known = b.seen[t.Name]; !known {
		sp.Free, sp.Total = -1, -1
	}
	tried, wasTried := b.probed[t.Name]
	b.mu.Unlock()
	s := TargetStatus{Name: t.Name, Kind: t.Kind, Place: placeOf(t), Supplier: t.Supplier, Country: t.Country, Free: sp.Free, Total: sp.Total, Reachable: sp.Failure == "", Failure: sp.Failure, NotApart: []string{}, Subjects: []Subject{}}
	if s.Failure == "" && w.Failure != "" {
		s.Failure = w.Failure
	}
	if wasTried {
		s.Probed = &tried
	}
	if p := cmp.Or(away(t), b.unanswered(t.Name)); p != nil {
		s.Reachable, s.Failure, s.mend, s.Free, s.Total = false, p.Detail, p.Mend, -1, -1
	}
	for _, f := range t.Apart(b.o.Place, b.production()) {
		if f.Away() {
			continue // it is said above, and nobody can tell
		}
		s.NotApart = append(s.NotApart, f.Detail)
		if !strings.Contains(s.near, f.Mend) {
			s.near = strings.TrimSpace(s.near + " " + f.Mend)
		}
	}
	for _, k := range b.tasks() {
		if k.target.Name == t.Name {
			s.Subjects = append(s.Subjects, k.subject)
		}
	}
	if at, ok := fullAt(p.rooms[t.Name]); ok {
		s.FullAt = &at
	}
	for i := range p.points {
		pt := &p.points[i]
		if pt.Target != t.Name {
			continue
		}
		s.Stored += pt.Stored
		if pt.Subject != Database {
			continue
		}
		if s.Oldest == nil {
			s.Oldest = &pt.Stopped
		}
		s.Newest = &pt.Stopped
		if pt.Proven != nil {
			s.NewestProven = &pt.Stopped
		}
	}
	for i := range p.runs {
		if r := &p.runs[i]; r.Target == t.Name && r.State != Running && (s.LastRun == nil || r.Started.After(s.LastRun.Started)) {
			s.LastRun = r
		}
	}
	if at, ok := p.written[t.Name]; ok {
		s.ArchivedAt, s.ArchivedTo = &at, w.LSN
	}
	return s
}

// placeOf says in words where a target is, without credentials.
func placeOf(t target.Target) string {
	switch {
	case t.S3 != nil:
		return strings.TrimSuffix("bucket "+t.S3.Bucket+" at "+t.S3.Endpoint+", "+t.Path, ", ")
	case t.SFTP != nil:
		return t.SFTP.User + "@" + t.SFTP.Host + ":" + t.Path
	}
	return t.Path
}

// archiveLate is when somebody is told that the archive is behind: some pushes
// after the promise of a minute.
const archiveLate = 5 * time.Minute

// problems lists what is wrong, the worst first.
func (b *Backups) problems(s *Status, p *picture) {
	add := func(severity notify.Severity, code, target, reason, mend string) {
		s.Problems = append(s.Problems, Problem{Code: code, Severity: string(severity), Target: target, Reason: reason, Mend: mend})
	}
	if !s.Configured {
		add(notify.Critical, "backup-unconfigured", "", "There is no target for backups: a loss of this node loses everything.", "Name a target under backup.targets in the configuration.")
		return
	}
	for _, t := range b.tasks() {
		key := [2]string{string(t.subject), t.target.Name}
		h := p.past[key]
		if late := missed(h, p.now, b.o.Config.daily(), b.began); late > 0 {
			reason := fmt.Sprintf("The %s has not been backed up there since it was due, %s ago.", t.subject, inWords(late.Seconds()))
			if h.Running {
				reason = fmt.Sprintf("A backup of the %s that was due %s ago is still running.", t.subject, inWords(late.Seconds()))
			}
			add(notify.Critical, "backup-missed", t.target.Name, reason, "`foundry backup list --runs` shows why; `foundry backup run` makes one now.")
		}
		for i := range p.runs {
			if r := &p.runs[i]; r.Kind == KindBackup && r.State == Failed && r.Subject == t.subject && r.Target == t.target.Name {
				add(notify.Critical, "backup-backup-failed", t.target.Name, fmt.Sprintf("The last backup of the %s there failed: %s", t.subject, r.Reason), r.Mend)
			}
		}
		d := p.drills[key]
		switch {
		case d != nil && d.Outcome == Fail:
			add(notify.Critical, "backup-unproven", t.target.Name, fmt.Sprintf("The last drill of the %s failed: %s", t.subject, d.Reason), "`foundry backup run --type full`, then `foundry backup drill`.")
		case d != nil && d.Outcome == Inconclusive:
			add(notify.Warning, "backup-unproven", t.target.Name, fmt.Sprintf("The last drill of the %s proved nothing: %s", t.subject, d.Reason), "Mend what stood in the way, then `foundry backup drill`.")
		case d == nil && !h.LastDone.IsZero() && p.now.Sub(h.LastDone) > 24*time.Hour, d != nil && p.now.Sub(*d.Ended) > b.freshFor():
			add(notify.Warning, "backup-drill-overdue", t.target.Name, fmt.Sprintf("No restore of the %s was proven from there for too long.", t.subject), "`foundry backup drill`")
		}
	}
	for _, t := range s.Targets {
		b.targetProblems(s, t, add)
	}
	if s.WALLagSeconds > archiveLate.Seconds() {
		add(notify.Critical, "backup-archive-late", "", fmt.Sprintf("What was written in the last %s is in no backup.", inWords(s.WALLagSeconds)), "Look at why the targets do not take the log: `foundry backup targets`.")
	}
	slices.SortStableFunc(s.Problems, func(a, b Problem) int { return strings.Compare(a.Severity, b.Severity) }) // critical, warning
}

func (b *Backups) targetProblems(s *Status, t TargetStatus, add func(severity notify.Severity, code, target, reason, mend string)) {
	b.mu.Lock()
	w := b.watched[t.Name]
	b.mu.Unlock()
	switch {
	case w.Gap != "":
		add(notify.Critical, "backup-log-gap", t.Name, fmt.Sprintf("Segment %s of the write-ahead log is missing there: nothing after it can be restored from the backups before it.", w.Gap), "Make a full backup: `foundry backup run --type full`.")
	case w.Behind != "":
		add(notify.Critical, "backup-log-gap", t.Name, w.Behind, "Make a full backup: `foundry backup run --type full`.")
	}
	if t.Failure != "" {
		mend := t.mend
		if mend == "" {
			mend = "Bring the target back; what was not archived waits in pg_wal meanwhile."
		}
		add(notify.Critical, "backup-target-failing", t.Name, t.Failure, mend)
	}
	if t.Free >= 0 && t.Total > 0 && t.Free < t.Total/10 {
		add(notify.Warning, "backup-target-filling", t.Name, fmt.Sprintf("%d%% of the target are free.", t.Free*100/t.Total), "Give it more room, or keep fewer days.")
	} else if t.FullAt != nil && t.FullAt.Sub(s.At) < 14*24*time.Hour {
		add(notify.Warning, "backup-target-filling", t.Name, fmt.Sprintf("At the pace of the last runs it is full on %s.", t.FullAt.UTC().Format("2006-01-02")), "Give it more room, or keep fewer days.")
	}
	if len(t.NotApart) > 0 {
		add(notify.Warning, "backup-not-apart", t.Name, strings.Join(t.NotApart, " "), t.near)
	}
}
