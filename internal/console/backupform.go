package console

import (
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/problem"
)

// formMoment is how a browser writes a date and time; here always in UTC.
const formMoment = "2006-01-02T15:04"

type drillFormData struct {
	v       *visit
	form    form
	targets []backup.TargetStatus
}

func (c *Console) drillPage(v *visit) error {
	return c.showDrillForm(v, form{values: map[string]string{"which": string(backup.Latest)}}, 0)
}

func (c *Console) showDrillForm(v *visit, f form, status int) error {
	if c.Backups == nil {
		return errNoBackups
	}
	ctx, cancel := v.ctx()
	defer cancel()
	targets, err := c.Backups.Targets(ctx, v.who())
	if err != nil {
		return err
	}
	return v.show(page{Title: "Run a drill", Path: toBackups, Status: status, Crumbs: backupCrumbs}, drillFormBody(drillFormData{v, f, targets}))
}

// drill starts a restore into a throw-away copy.
func (c *Console) drill(v *visit) error {
	if c.Backups == nil {
		return errNoBackups
	}
	f, err := readForm(v.r, "subject", "target", "which", "time")
	if err != nil {
		return err
	}
	in := backup.DrillRequest{Subject: backup.Subject(f.value("subject")), Target: f.value("target"), Which: backup.Which(f.value("which"))}
	if in.Which == backup.At {
		in.Time, err = readMoment(&f, "time", "A drill of a given time needs the time.")
	}
	if err == nil {
		ctx, cancel := v.ctx()
		defer cancel()
		var job backup.Job
		if job, err = c.Backups.StartDrill(ctx, v.who(), in); err == nil {
			return v.seeOther(jobLink(job.ID))
		}
	}
	if err := f.mended(err, "which"); err != nil {
		return err
	}
	return c.showDrillForm(v, f, f.problem.Kind.Status())
}

// readMoment reads a date and time of a form, in UTC.
func readMoment(f *form, name, missing string) (time.Time, error) {
	text := f.value(name)
	if text == "" {
		return time.Time{}, problem.New(problem.Invalid, "time-missing", missing).WithField(name).WithMend("Give date and time in UTC.")
	}
	for _, layout := range []string{formMoment, formMoment + ":05", time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, problem.New(problem.Invalid, "time-format", "That is no date and time.").WithField(name).WithMend("Write it as 2026-11-30T14:05, in UTC.")
}

type expireData struct {
	v    *visit
	form form
	keep int
}

func (c *Console) expirePage(v *visit) error { return c.showExpire(v, form{}, 0) }

func (c *Console) showExpire(v *visit, f form, status int) error {
	if c.Backups == nil {
		return errNoBackups
	}
	ctx, cancel := v.ctx()
	defer cancel()
	s, err := c.Backups.Status(ctx, v.who())
	if err != nil {
		return err
	}
	return v.show(page{Title: "Expire old points", Path: toBackups, Status: status, Crumbs: backupCrumbs}, expireBody(expireData{v, f, s.KeepDays}))
}

// expireWord is what is typed to remove points rather than list them.
const expireWord = "expire"

// expire lists what retention would remove, or removes it.
func (c *Console) expire(v *visit) error {
	if c.Backups == nil {
		return errNoBackups
	}
	f, err := readForm(v.r, "do", "confirm")
	if err != nil {
		return err
	}
	dry := f.value("do") != "remove"
	if !dry && f.value("confirm") != expireWord {
		f.problem = problem.New(problem.Invalid, "confirm", "Removed points do not come back.").WithField("confirm").WithMend("Type " + expireWord + " to go on.")
		return c.showExpire(v, f, f.problem.Kind.Status())
	}
	ctx, cancel := v.ctx()
	defer cancel()
	job, err := c.Backups.StartExpire(ctx, v.who(), backup.TargetRequest{DryRun: dry})
	if err != nil {
		return err
	}
	return v.seeOther(jobLink(job.ID))
}

type holdPointsData struct {
	v       *visit
	form    form
	targets []string
}

func (c *Console) holdPointsPage(v *visit) error {
	return c.showHoldPoints(v, form{values: map[string]string{"label": v.r.URL.Query().Get("label"), "target": v.r.URL.Query().Get("target")}}, 0)
}

func (c *Console) showHoldPoints(v *visit, f form, status int) error {
	if c.Backups == nil {
		return errNoBackups
	}
	ctx, cancel := v.ctx()
	defer cancel()
	targets, err := c.Backups.Targets(ctx, v.who())
	if err != nil {
		return err
	}
	d := holdPointsData{v: v, form: f}
	for _, t := range targets {
		d.targets = append(d.targets, t.Name)
	}
	return v.show(page{Title: "Hold points", Path: toBackups, Status: status, Crumbs: backupCrumbs}, holdPointsBody(d))
}

func (c *Console) holdPoints(v *visit) error {
	if c.Backups == nil {
		return errNoBackups
	}
	f, err := readForm(v.r, "target", "label", "from", "until", "reason", "ticket")
	if err != nil {
		return err
	}
	in := backup.NewHold{Target: f.value("target"), Label: f.value("label"), Reason: f.value("reason"), Ticket: f.value("ticket")}
	if err == nil && f.value("from") != "" {
		in.From, err = readMoment(&f, "from", "")
	}
	if err == nil && f.value("until") != "" {
		in.Until, err = readMoment(&f, "until", "")
	}
	if err == nil {
		ctx, cancel := v.ctx()
		defer cancel()
		if _, err = c.Backups.Hold(ctx, v.who(), in); err == nil {
			return v.seeOther(toBackups)
		}
	}
	if err := f.mended(err, "reason"); err != nil {
		return err
	}
	return c.showHoldPoints(v, f, f.problem.Kind.Status())
}

type releasePointsData struct {
	v    *visit
	form form
	hold backup.Hold
}

var errHoldUnknown = problem.New(problem.NotFound, "hold-unknown", "There is no such hold.").WithMend("Choose one from the page Backups and recovery.")

func (c *Console) releasePointsPage(v *visit) error { return c.showReleasePoints(v, form{}, 0) }

func (c *Console) showReleasePoints(v *visit, f form, status int) error {
	if c.Backups == nil {
		return errNoBackups
	}
	id, err := uuid.Parse(v.r.PathValue("hold"))
	if err != nil {
		return errHoldUnknown
	}
	ctx, cancel := v.ctx()
	defer cancel()
	list, err := c.Backups.Holds(ctx, v.who())
	if err != nil {
		return err
	}
	for _, h := range list {
		if h.ID == id {
			return v.show(page{Title: "Release a hold", Path: toBackups, Status: status, Crumbs: backupCrumbs}, releasePointsBody(releasePointsData{v, f, h}))
		}
	}
	return errHoldUnknown
}

func (c *Console) releasePoints(v *visit) error {
	if c.Backups == nil {
		return errNoBackups
	}
	id, err := uuid.Parse(v.r.PathValue("hold"))
	if err != nil {
		return errHoldUnknown
	}
	f, err := readForm(v.r, "reason")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := c.Backups.Release(ctx, v.who(), id, f.value("reason")); err != nil {
		if err := f.mended(err, "reason"); err != nil {
			return err
		}
		return c.showReleasePoints(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(toBackups)
}
