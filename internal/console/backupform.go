package console

import (
	"context"
	"time"

	"github.com/a-h/templ"
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

func (c *Console) drillPage(ctx context.Context, v *visit) error {
	return c.showDrillForm(ctx, v, form{values: map[string]string{"which": string(backup.Latest)}}, 0)
}

func (c *Console) showDrillForm(ctx context.Context, v *visit, f form, status int) error {
	targets, err := c.Backups.Targets(ctx, v.who())
	if err != nil {
		return err
	}
	return v.show(page{Title: "Run a drill", Path: toBackups, Status: status, Crumbs: backupCrumbs}, drillFormBody(drillFormData{v, f, targets}))
}

// drill starts a restore into a throw-away copy.
func (c *Console) drill(ctx context.Context, v *visit, f *form) (to templ.SafeURL, err error) {
	in := backup.DrillRequest{Subject: backup.Subject(f.value("subject")), Target: f.value("target"), Which: backup.Which(f.value("which"))}
	if in.Which == backup.At {
		if in.Time, err = readMoment(f, "time", "A drill of a given time needs the time."); err != nil {
			return "", err
		}
	}
	job, err := c.Backups.StartDrill(ctx, v.who(), in)
	return jobLink(job.ID), err
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

func (c *Console) showExpire(ctx context.Context, v *visit, f form, status int) error {
	s, err := c.Backups.Status(ctx, v.who())
	if err != nil {
		return err
	}
	return v.show(page{Title: "Expire old points", Path: toBackups, Status: status, Crumbs: backupCrumbs}, expireBody(expireData{v, f, s.KeepDays}))
}

// expireWord is what is typed to remove points rather than list them.
const expireWord = "expire"

// expire lists what retention would remove, or removes it.
func (c *Console) expire(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	dry := f.value("do") != "remove"
	if !dry && f.value("confirm") != expireWord {
		return "", problem.New(problem.Invalid, "confirm", "Removed points do not come back.").WithField("confirm").WithMend("Type " + expireWord + " to go on.")
	}
	job, err := c.Backups.StartExpire(ctx, v.who(), backup.TargetRequest{DryRun: dry})
	return jobLink(job.ID), err
}

type holdPointsData struct {
	v       *visit
	form    form
	targets []string
}

func (c *Console) holdPointsPage(ctx context.Context, v *visit) error {
	return c.showHoldPoints(ctx, v, form{values: map[string]string{"label": v.r.URL.Query().Get("label"), "target": v.r.URL.Query().Get("target")}}, 0)
}

func (c *Console) showHoldPoints(ctx context.Context, v *visit, f form, status int) error {
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

func (c *Console) holdPoints(ctx context.Context, v *visit, f *form) (to templ.SafeURL, err error) {
	in := backup.NewHold{Target: f.value("target"), Label: f.value("label"), Reason: f.value("reason"), Ticket: f.value("ticket")}
	if err == nil && f.value("from") != "" {
		in.From, err = readMoment(f, "from", "")
	}
	if err == nil && f.value("until") != "" {
		in.Until, err = readMoment(f, "until", "")
	}
	if err == nil {
		_, err = c.Backups.Hold(ctx, v.who(), in)
	}
	return toBackups, err
}

type releasePointsData struct {
	v    *visit
	form form
	hold backup.Hold
}

var errHoldUnknown = problem.New(problem.NotFound, "hold-unknown", "There is no such hold.").WithMend("Choose one from the page Backups and recovery.")

func (c *Console) showReleasePoints(ctx context.Context, v *visit, f form, status int) error {
	id, err := v.pathID("hold", errHoldUnknown)
	if err != nil {
		return err
	}
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

func (c *Console) releasePoints(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	id, err := v.pathID("hold", errHoldUnknown)
	if err != nil {
		return "", err
	}
	_, err = c.Backups.Release(ctx, v.who(), id, f.value("reason"))
	return toBackups, err
}
