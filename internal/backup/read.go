package backup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Status says what could be recovered now, and what would be lost.
func (b *Backups) Status(ctx context.Context, p principal.Principal) (Status, error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return Status{}, err
	}
	return b.status(ctx)
}

func (f Filter) limit() int {
	if f.Limit <= 0 {
		return 100
	}
	return min(f.Limit, 1000)
}

// Jobs lists what was done, the newest first.
func (b *Backups) Jobs(ctx context.Context, p principal.Principal, f Filter) (jobs []Job, err error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return nil, err
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		runs, err := readRuns(ctx, tx, `WHERE ($1 = '' OR subject = $1) AND ($2 = '' OR target = $2) AND ($3 = '' OR kind = $3) AND started_at >= $4 ORDER BY started_at DESC, id DESC LIMIT $5`,
			string(f.Subject), f.Target, string(f.Kind), f.Since, f.limit())
		jobs = jobsOf(runs)
		return err
	})
	return jobs, err
}

// Job says how far something has come.
func (b *Backups) Job(ctx context.Context, p principal.Principal, id uuid.UUID) (j Job, err error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return j, err
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		runs, err := readRuns(ctx, tx, `WHERE job = $1 ORDER BY started_at, id`, id)
		if err != nil {
			return err
		}
		if len(runs) == 0 {
			return problem.New(problem.NotFound, "job-unknown", "There is no such job of backups.").WithField("id").WithMend("`foundry backup list --runs` shows them.")
		}
		j = jobsOf(runs)[0]
		return nil
	})
	return j, err
}

// jobsOf joins runs into jobs, in the order of their first runs.
func jobsOf(runs []Run) []Job {
	jobs := []Job{}
	for _, r := range runs {
		i := slices.IndexFunc(jobs, func(j Job) bool { return j.ID == r.Job })
		if i < 0 {
			jobs, i = append(jobs, Job{ID: r.Job, Kind: r.Kind}), len(jobs)
		}
		jobs[i].Runs = append(jobs[i].Runs, r)
	}
	for i := range jobs {
		jobs[i].State = worst(jobs[i].Runs)
	}
	return jobs
}

// worst is the state of a job: running until all have ended.
func worst(runs []Run) State {
	order := []State{Done, Interrupted, Failed, Running}
	s := Done
	for _, r := range runs {
		if slices.Index(order, r.State) > slices.Index(order, s) {
			s = r.State
		}
	}
	return s
}

// Points lists what could be restored, the newest first.
func (b *Backups) Points(ctx context.Context, p principal.Principal, f Filter) (points []Point, err error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return nil, err
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		points, err = readPoints(ctx, tx, `WHERE ($1 = '' OR subject = $1) AND ($2 = '' OR target = $2) AND stopped_at >= $3 AND ($4 OR gone_at IS NULL) ORDER BY stopped_at DESC LIMIT $5`,
			string(f.Subject), f.Target, f.Since, f.Gone, f.limit())
		if err != nil {
			return err
		}
		return countHolds(ctx, tx, points)
	})
	return points, err
}

// countHolds notes how many holds are on each point.
func countHolds(ctx context.Context, tx pgx.Tx, points []Point) error {
	holds, err := readHolds(ctx, tx, `WHERE released_at IS NULL`)
	if err != nil || len(holds) == 0 {
		return err
	}
	for i := range points {
		p := &points[i]
		for _, h := range holds {
			if h.Target != "" && h.Target != p.Target {
				continue
			}
			if slices.Contains(heldBy([]Hold{h}, enginePoints(points, p)), p.Label) {
				p.Holds++
			}
		}
	}
	return nil
}

// Point shows one point.
func (b *Backups) Point(ctx context.Context, p principal.Principal, target, label string) (pt Point, err error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return pt, err
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		list, err := readPoints(ctx, tx, `WHERE ($1 = '' OR target = $1) AND label = $2 ORDER BY stopped_at DESC LIMIT 2`, target, label)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return problem.New(problem.NotFound, "point-unknown", fmt.Sprintf("There is no backup %q.", label)).WithField("label").WithMend("`foundry backup list` shows them.")
		case len(list) > 1:
			return problem.New(problem.Invalid, "point-ambiguous", "There is a backup of that name at more than one target.").WithField("target").WithMend("Say which with --target.")
		}
		err = countHolds(ctx, tx, list)
		pt = list[0]
		return err
	})
	return pt, err
}

// Drills lists drills, the newest first.
func (b *Backups) Drills(ctx context.Context, p principal.Principal, f Filter) (drills []Drill, err error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return nil, err
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		drills, err = readDrills(ctx, tx, `WHERE ($1 = '' OR subject = $1) AND ($2 = '' OR target = $2) AND started_at >= $3 ORDER BY started_at DESC LIMIT $4`, string(f.Subject), f.Target, f.Since, f.limit())
		return err
	})
	return drills, err
}

// Drill shows one drill.
func (b *Backups) Drill(ctx context.Context, p principal.Principal, id uuid.UUID) (d Drill, err error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return d, err
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		list, err := readDrills(ctx, tx, `WHERE id = $1 OR run = $1`, id)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return problem.New(problem.NotFound, "drill-unknown", "There is no such drill.").WithField("id").WithMend("`foundry backup list --drills` shows them.")
		}
		d = list[0]
		return nil
	})
	return d, err
}

// Holds lists holds, the newest first, those that were released last.
func (b *Backups) Holds(ctx context.Context, p principal.Principal) (holds []Hold, err error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return nil, err
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		holds, err = readHolds(ctx, tx, `ORDER BY released_at IS NOT NULL, placed_at DESC LIMIT 1000`)
		return err
	})
	return holds, err
}

// Targets says how the places of backups are.
func (b *Backups) Targets(ctx context.Context, p principal.Principal) ([]TargetStatus, error) {
	s, err := b.Status(ctx, p)
	return s.Targets, err
}

// mostDays bounds a calendar.
const mostDays = 400

// Calendar describes the last days, the oldest first; days 0: 30.
func (b *Backups) Calendar(ctx context.Context, p principal.Principal, days int) ([]Day, error) {
	if err := b.may(ctx, p, "backup.read"); err != nil {
		return nil, err
	}
	if days <= 0 {
		days = 30
	}
	days = min(days, mostDays)
	now := b.o.Clock().UTC()
	first := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC).AddDate(0, 0, 1-days)
	var points []Point
	var runs []Run
	var drills []Drill
	err := b.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		if points, err = readPoints(ctx, tx, `WHERE gone_at IS NULL AND subject = 'database' ORDER BY stopped_at`); err != nil {
			return err
		}
		if err = countHolds(ctx, tx, points); err != nil {
			return err
		}
		if runs, err = readRuns(ctx, tx, `WHERE started_at >= $1 AND kind = 'backup' AND subject = 'database' ORDER BY started_at`, first); err != nil {
			return err
		}
		drills, err = readDrills(ctx, tx, `WHERE started_at >= $1 AND subject = 'database' ORDER BY started_at`, first)
		return err
	})
	if err != nil {
		return nil, err
	}
	return calendar(first, now, days, points, runs, drills, b.Configured()), nil
}

// calendar makes the days.
func calendar(first, now time.Time, days int, points []Point, runs []Run, drills []Drill, configured bool) []Day {
	out := make([]Day, days)
	began := now // of backups at all
	for i := range points {
		if points[i].Stopped.Before(began) {
			began = points[i].Stopped
		}
	}
	for _, r := range runs {
		if r.Started.Before(began) {
			began = r.Started
		}
	}
	for i := range out {
		start := first.AddDate(0, 0, i)
		end := start.AddDate(0, 0, 1)
		in := func(t time.Time) bool { return !t.Before(start) && t.Before(end) }
		d := &out[i]
		d.Day = start.Format(time.DateOnly)
		for _, p := range points {
			if p.Stopped.Before(end) {
				d.Covered = true
			}
			if !in(p.Stopped) {
				continue
			}
			d.Points++
			d.Held = d.Held || p.Holds > 0
			if p.Proven != nil {
				d.Proven++
			}
		}
		for _, r := range runs {
			if in(r.Started) && (r.State == Failed || r.State == Interrupted) {
				d.Failed++
			}
		}
		for _, x := range drills {
			if in(x.Started) {
				d.Drills++
				d.Worst = worse(d.Worst, x.Outcome)
			}
		}
		d.Missed = configured && d.Points == 0 && end.Before(now) && !start.Before(began.Truncate(24*time.Hour))
	}
	return out
}

func worse(a, b Outcome) Outcome {
	order := []Outcome{"", Pass, Inconclusive, Fail}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}
