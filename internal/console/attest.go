package console

import (
	"time"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// attestRoutes are about controls that no machine can check.
func (c *Console) attestRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toControls + "/{control}/attest", Action: "controls.attest", shared: true, do: c.attestPage},
		{Pattern: "POST " + toControls + "/{control}/attest", Action: "controls.attest", shared: true, do: c.attest},
	}
}

type attestData struct {
	v      *visit
	status evidence.Status
	latest *evidence.Observation // the attestation before
	until  time.Time             // the last day that can be chosen
	form   form
}

func attestLink(id string) templ.SafeURL { return controlLink(id) + "/attest" }

func (c *Console) attestPage(v *visit) error { return c.showAttest(v, form{}, 0) }

func (c *Console) showAttest(v *visit, f form, status int) error {
	if c.Controls == nil {
		return errNoControls
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := attestData{v: v, form: f}
	var err error
	if d.status, err = c.Controls.Show(ctx, v.r.PathValue("control")); err != nil {
		return err
	}
	d.until = v.now.Add(d.status.Fresh).UTC()
	if len(d.status.Evidence) > 0 {
		d.latest = &d.status.Evidence[0]
	}
	if d.form.values == nil {
		d.form.values = map[string]string{"owner": ownerOf(v.who()), "expires": d.until.Format(time.DateOnly)}
	}
	return v.show(page{Title: "Answer for " + d.status.ID, Path: toControls, Status: status,
		Crumbs: []crumb{{"Controls", toControls}, {d.status.ID, controlLink(d.status.ID)}}}, attestBody(d))
}

// ownerOf is what the visitor most likely answers as: the role that lets them.
func ownerOf(p principal.Principal) string {
	if p.Roles.Has(principal.PlatformSecurity) {
		return principal.PlatformSecurity.String()
	}
	return ""
}

// ownerRoles are offered as owners; an account's id is one as well.
func ownerRoles() (out []string) {
	for _, r := range principal.AllRoles() {
		if r.Platform() {
			out = append(out, r.String())
		}
	}
	return out
}

func (c *Console) attest(v *visit) error {
	if c.Controls == nil {
		return errNoControls
	}
	f, err := readForm(v.r, "owner", "statement", "expires")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	a := evidence.Attestation{Control: v.r.PathValue("control"), Owner: f.value("owner"), Statement: f.value("statement")}
	if a.Expires, err = c.lastMoment(v, a.Control, f.value("expires")); err == nil {
		_, err = c.Controls.AttestAs(ctx, c.Guard, v.who(), a)
	}
	if err != nil {
		if problem.From(err).Code == "control-checked" {
			return err
		}
		if err := f.mended(err, "statement"); err != nil {
			return err
		}
		return c.showAttest(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(with(string(controlLink(a.Control)), "done", "attested"))
}

// lastMoment is the end of the day that was chosen, or as late as the control
// allows on the last day that can be chosen.
func (c *Console) lastMoment(v *visit, control, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return day, problem.New(problem.Invalid, "attestation-expiry", "That is not a date.").WithField("expires").WithMend("Write it as YYYY-MM-DD.")
	}
	known, err := c.Controls.Control(control)
	if err != nil {
		return day, err
	}
	if latest := v.now.Add(known.Fresh).UTC(); day.Format(time.DateOnly) == latest.Format(time.DateOnly) {
		return time.Time{}, nil
	}
	return day.AddDate(0, 0, 1), nil
}
