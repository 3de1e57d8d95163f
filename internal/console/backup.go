package console

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	toBackups = "/console/backups"
	toPoints  = "/console/backups/points"
	toDrill   = "/console/backups/drill"
	toExpire  = "/console/backups/expire"
	toHold    = "/console/backups/hold"
)

func (c *Console) backupRoutes() []Route {
	with := func(do bounded) func(*visit) error { return within(absent(c.Backups, errNoBackups), do) }
	drill, expire, hold, release := sheet(c.showDrillForm), sheet(c.showExpire), sheet(c.showHoldPoints), sheet(c.showReleasePoints)
	return []Route{
		{Pattern: "GET " + toBackups, Action: "backup.read", do: with(c.backups)},
		{Pattern: "POST " + toBackups + "/run", Action: "backup.run", do: with(c.runBackup)},
		{Pattern: "POST " + toBackups + "/verify", Action: "backup.verify", do: with(c.verifyBackups)},
		{Pattern: "POST " + toBackups + "/targets/probe", Action: "backup.probe", do: with(c.probeTargets)},
		{Pattern: "GET " + toPoints, Action: "backup.read", do: with(c.points)},
		{Pattern: "GET " + toDrill, Action: "backup.drill", do: with(c.drillPage)},
		{Pattern: "POST " + toDrill, Action: "backup.drill", do: with(drill.sent("which", []string{"subject", "target", "which", "time"}, c.drill))},
		{Pattern: "GET " + toExpire, Action: "backup.expire", do: with(expire.empty)},
		{Pattern: "POST " + toExpire, Action: "backup.expire", do: with(expire.sent("confirm", []string{"do", "confirm"}, c.expire))},
		{Pattern: "GET " + toHold, Action: "backup.hold", do: with(c.holdPointsPage)},
		{Pattern: "POST " + toHold, Action: "backup.hold", do: with(hold.sent("reason", []string{"target", "label", "from", "until", "reason", "ticket"}, c.holdPoints))},
		{Pattern: "GET " + toBackups + "/holds/{hold}/release", Action: "backup.release", do: with(release.empty)},
		{Pattern: "POST " + toBackups + "/holds/{hold}/release", Action: "backup.release", do: with(release.sent("reason", []string{"reason"}, c.releasePoints))},
		{Pattern: "GET " + toBackups + "/jobs/{job}", Action: "backup.read", do: with(c.backupJob)},
		{Pattern: "GET " + toBackups + "/drills/{drill}", Action: "backup.read", do: with(c.backupDrill)},
	}
}

var (
	errNoBackups    = problem.New(problem.Unavailable, "backups-away", "Backups are not made by this node.").WithMend("Ask the node that runs the database.")
	errJobUnknown   = problem.New(problem.NotFound, "job-unknown", "There is no such job.").WithMend("Choose one from the page Backups and recovery.")
	errDrillUnknown = problem.New(problem.NotFound, "drill-unknown", "There is no such drill.").WithMend("Choose one from the page Backups and recovery.")
)

var backupCrumbs = []crumb{{"Backups and recovery", toBackups}}

// calendarDays is how far back the calendar looks: the retention the policy
// promises.
const calendarDays = 30

type backupsData struct {
	v      *visit
	status backup.Status
	days   []backup.Day
	drills []backup.Drill
	holds  []backup.Hold
}

func (c *Console) backups(ctx context.Context, v *visit) error {
	d := backupsData{v: v}
	var err error
	if d.status, err = c.Backups.Status(ctx, v.who()); err != nil {
		return err
	}
	if d.days, err = c.Backups.Calendar(ctx, v.who(), calendarDays); err != nil && !away(err) {
		return err
	}
	if d.drills, err = c.Backups.Drills(ctx, v.who(), backup.Filter{Limit: 20}); err != nil && !away(err) {
		return err
	}
	if d.holds, err = c.Backups.Holds(ctx, v.who()); err != nil && !away(err) {
		return err
	}
	d.holds = slices.DeleteFunc(d.holds, func(h backup.Hold) bool { return h.Released != nil })
	if len(d.status.Running) > 0 {
		c.working.note(v.now)
	}
	return v.show(page{Title: "Backups and recovery", Path: toBackups, Live: true}, backupsBody(d))
}

// working makes pages that show work in progress refresh every two seconds,
// for as long as one of them was shown while something ran.
type working struct{ until atomic.Int64 }

const workingFor = 30 * time.Second

func (w *working) note(now time.Time) { w.until.Store(now.Add(workingFor).Unix()) }

func (w *working) pulse(now time.Time) int64 {
	if now.Unix() < w.until.Load() {
		return now.Unix() / 2
	}
	return 0
}

// runBackup starts what the schedule would do now, or a full backup.
func (c *Console) runBackup(ctx context.Context, v *visit) error {
	f, err := readForm(v.r, "type")
	if err != nil {
		return err
	}
	job, err := c.Backups.Start(ctx, v.who(), backup.Request{Type: f.value("type")})
	if err != nil {
		return err
	}
	return v.seeOther(jobLink(job.ID))
}

func (c *Console) verifyBackups(ctx context.Context, v *visit) error {
	job, err := c.Backups.StartVerify(ctx, v.who(), backup.TargetRequest{})
	if err != nil {
		return err
	}
	return v.seeOther(jobLink(job.ID))
}

// probeTargets tries one target, or all. Each has a bound of its own, longer
// than a page's: somebody asked for it and waits.
func (c *Console) probeTargets(_ context.Context, v *visit) error {
	f, err := readForm(v.r, "target")
	if err != nil {
		return err
	}
	var in backup.TargetRequest
	if name := f.value("target"); name != "" {
		in.Targets = []string{name}
	}
	if _, err := c.Backups.Probe(v.r.Context(), v.who(), in); err != nil {
		return err
	}
	return v.seeOther(toBackups + "#targets")
}

type jobData struct {
	v   *visit
	job backup.Job
}

// backupJob shows how far one piece of work has come, and what came of it.
func (c *Console) backupJob(ctx context.Context, v *visit) error {
	id, err := v.pathID("job", errJobUnknown)
	if err != nil {
		return err
	}
	job, err := c.Backups.Job(ctx, v.who(), id)
	if err != nil {
		return err
	}
	if job.State == backup.Running {
		c.working.note(v.now)
	}
	return v.show(page{Title: jobTitle(job), Path: toBackups, Live: job.State == backup.Running, Crumbs: backupCrumbs}, jobBody(jobData{v, job}))
}

type pointsData struct {
	v       *visit
	subject string
	target  string
	gone    bool
	targets []string
	list    []backup.Point
}

// pointsShown is as many points as the page lists: a month of two targets
// and three subjects.
const pointsShown = 500

func (c *Console) points(ctx context.Context, v *visit) error {
	q := v.r.URL.Query()
	d := pointsData{v: v, subject: q.Get("subject"), target: q.Get("target"), gone: q.Get("gone") == "1"}
	if d.subject != "" && !slices.Contains(backup.Subjects, backup.Subject(d.subject)) {
		return problem.New(problem.Invalid, "subject", "That is nothing that is backed up.").WithField("subject").WithMend("Choose database, files or mirrors.")
	}
	var err error
	if d.list, err = c.Backups.Points(ctx, v.who(), backup.Filter{Subject: backup.Subject(d.subject), Target: d.target, Gone: d.gone, Limit: pointsShown}); err != nil {
		return err
	}
	targets, err := c.Backups.Targets(ctx, v.who())
	if err != nil {
		return err
	}
	for _, t := range targets {
		d.targets = append(d.targets, t.Name)
	}
	return v.show(page{Title: "Recovery points", Path: toBackups, Crumbs: backupCrumbs}, pointsBody(d))
}

type drillData struct {
	v     *visit
	drill backup.Drill
}

func (c *Console) backupDrill(ctx context.Context, v *visit) error {
	id, err := v.pathID("drill", errDrillUnknown)
	if err != nil {
		return err
	}
	d, err := c.Backups.Drill(ctx, v.who(), id)
	if err != nil {
		return err
	}
	if d.Ended == nil {
		c.working.note(v.now)
	}
	return v.show(page{Title: "Drill of " + day(d.Started), Path: toBackups, Live: d.Ended == nil, Crumbs: backupCrumbs}, drillBody(drillData{v, d}))
}

func jobLink(id uuid.UUID) templ.SafeURL {
	return templ.SafeURL(toBackups + "/jobs/" + id.String())
}

func drillLink(id uuid.UUID) templ.SafeURL {
	return templ.SafeURL(toBackups + "/drills/" + id.String())
}

func releaseHoldLink(id uuid.UUID) templ.SafeURL {
	return templ.SafeURL(toBackups + "/holds/" + id.String() + "/release")
}

// proofState is what a proof came to: one of the five statuses.
func proofState(o backup.Outcome) state {
	switch o {
	case backup.Pass:
		return state{ok, "Proven"}
	case backup.Fail:
		return state{bad, "Failed"}
	case backup.Inconclusive:
		return state{warn, "Not proven"}
	}
	return state{idle, "Never tried"}
}

func runState(s backup.State) state {
	switch s {
	case backup.Running:
		return state{info, "Running"}
	case backup.Done:
		return state{ok, "Done"}
	case backup.Failed:
		return state{bad, "Failed"}
	}
	return state{warn, "Interrupted"}
}

// pointState is how far a point can be trusted.
func pointState(p backup.Point) state {
	switch {
	case p.Gone != nil:
		return state{idle, "Gone"}
	case p.Broken != "":
		return state{bad, "Broken"}
	}
	return proofState(p.Outcome)
}

func jobTitle(j backup.Job) string {
	return map[backup.Kind]string{backup.KindBackup: "Backup", backup.KindDrill: "Drill", backup.KindVerify: "Check of the repositories", backup.KindExpire: "Expiry"}[j.Kind]
}

// seconds renders a measured time, to a second from ten seconds on.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d <= 0:
		return "–"
	case d < 10*time.Second:
		return span(d)
	}
	d = d.Round(time.Second)
	switch h, m, s := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60; {
	case d < time.Minute:
		return fmt.Sprintf("%d s", s)
	case d < time.Hour && s > 0:
		return fmt.Sprintf("%d min %d s", m, s)
	case d < time.Hour:
		return fmt.Sprintf("%d min", m)
	case m > 0:
		return fmt.Sprintf("%d h %d min", h, m)
	default:
		return fmt.Sprintf("%d h", h)
	}
}

// lossText is what a loss of the node now would cost, in one number.
func lossText(s backup.Status) string {
	if s.WouldLose < 0 {
		return "everything"
	}
	return age(time.Duration(math.Ceil(s.WouldLose)) * time.Second)
}

func lossNote(s backup.Status) string {
	var parts []string
	if s.WouldLose < 0 {
		parts = append(parts, "no point is proven")
	}
	if s.WouldLoseBytes >= 0 {
		parts = append(parts, bytesText(s.WouldLoseBytes)+" of log")
	}
	return strings.Join(append(parts, "promised at most "+seconds(s.RPO)), "; ")
}

func lagText(s backup.Status) string {
	if s.WALLagSeconds < 0 {
		return "not known"
	}
	return age(time.Duration(s.WALLagSeconds) * time.Second)
}

func lagNote(s backup.Status) string {
	if s.WALLagBytes < 0 {
		return "of the write-ahead log, not yet in every repository"
	}
	return bytesText(s.WALLagBytes) + " of write-ahead log are not yet in every repository"
}

// ago is a moment in a fact: how long ago, or never.
func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return "never"
	}
	return age(now.Sub(*t)) + " ago"
}

func provenNote(p *backup.Point) string {
	if p == nil {
		return "run a drill: it restores apart and proves what it finds"
	}
	return string(p.Subject) + " at " + p.Target + ", restored and proven"
}

func provenAt(p *backup.Point) *time.Time {
	if p == nil {
		return nil
	}
	return p.Proven
}

// drillTime is the last drill that passed, against what was promised.
func drillTime(s backup.Status) (value, note string) {
	d := s.LastPassed
	if d == nil {
		return "not measured", "promised within " + seconds(s.RTO)
	}
	value = seconds(d.Recovery)
	note = "drill of " + day(d.Started) + "; promised within " + seconds(s.RTO)
	if d.FullSize > d.Recovery*1.05 {
		note = seconds(d.FullSize) + " for everything; " + note
	}
	return value, note
}

func drillValue(s backup.Status) string { value, _ := drillTime(s); return value }
func drillNote(s backup.Status) string  { _, note := drillTime(s); return note }

func next(t *time.Time, now time.Time) string {
	switch {
	case t == nil:
		return "not planned"
	case t.Before(now):
		return "due since " + age(now.Sub(*t))
	}
	return "in " + age(t.Sub(now))
}

func nextNote(s backup.Status, now time.Time) string {
	return "next drill " + next(s.NextDrill, now)
}

// dayState is how a day of the calendar stands: by its worst.
func dayState(d backup.Day) state {
	switch {
	case d.Worst == backup.Fail:
		return state{bad, "a drill failed"}
	case d.Missed:
		return state{bad, "no backup"}
	case d.Failed > 0 && d.Points == 0:
		return state{bad, "every run failed"}
	case d.Failed > 0 || d.Worst == backup.Inconclusive:
		return state{warn, "something failed"}
	case d.Proven > 0:
		return state{ok, "proven"}
	case d.Points > 0:
		return state{info, "made, not proven"}
	case d.Covered:
		return state{info, "covered by an earlier point"}
	}
	return state{idle, "nothing"}
}

func dayText(d backup.Day) string {
	parts := []string{d.Day, dayState(d).word}
	if d.Points > 0 {
		parts = append(parts, plural(int64(d.Points), "point", "points"))
	}
	if d.Drills > 0 {
		parts = append(parts, plural(int64(d.Drills), "drill", "drills"))
	}
	if d.Held {
		parts = append(parts, "on hold")
	}
	return strings.Join(parts, ", ")
}

// dayNumber is the day of the month, of a date in ISO 8601.
func dayNumber(d backup.Day) string {
	t, err := time.Parse(time.DateOnly, d.Day)
	if err != nil {
		return "?"
	}
	return strconv.Itoa(t.Day())
}

func firstOfMonth(days []backup.Day, i int) string {
	t, err := time.Parse(time.DateOnly, days[i].Day)
	if err != nil || i > 0 && t.Day() != 1 {
		return ""
	}
	return t.Format("Jan")
}

// recoveryChart is how long each drill took, the oldest first.
func recoveryChart(list []backup.Drill) chart {
	c := chart{Title: "Recovery time", Series: []string{"Until it answered"}, Head: "Drill",
		Format: func(n int64) string { return seconds(float64(n) / 10) }}
	for _, d := range slices.Backward(list) {
		if d.Ended != nil && d.Recovery > 0 {
			c.Bars = append(c.Bars, bar{stamp(d.Started), [2]int64{int64(math.Round(d.Recovery * 10))}})
		}
	}
	if n := len(c.Bars); n > 0 {
		c.Text = fmt.Sprintf("Restore, replay and start, of %s.", plural(int64(n), "drill", "drills"))
		c.Ticks = []string{c.Bars[0].Label, c.Bars[n-1].Label}
		if n == 1 {
			c.Ticks = c.Ticks[:1]
		}
	}
	return c
}

func freeText(t backup.TargetStatus) string {
	if t.Free < 0 {
		return "not known"
	}
	text := bytesText(t.Free)
	if t.Total > 0 {
		text += " of " + bytesText(t.Total)
	}
	if t.FullAt != nil {
		text += ", full about " + day(*t.FullAt)
	}
	return text
}

func targetState(t backup.TargetStatus) state {
	switch {
	case !t.Reachable:
		return state{bad, "Not reachable"}
	case t.NewestProven == nil:
		return state{warn, "Nothing proven"}
	case len(t.NotApart) > 0:
		return state{warn, "Not apart"}
	}
	return state{ok, "Proven"}
}

func subjectsText(list []backup.Subject) string {
	var parts []string
	for _, s := range list {
		parts = append(parts, string(s))
	}
	return joinedList(parts)
}

func oldestText(t *time.Time, now time.Time) string {
	if t == nil {
		return "none"
	}
	return stamp(*t) + " UTC, " + age(now.Sub(*t)) + " ago"
}
