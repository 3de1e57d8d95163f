package console

import (
	"unicode/utf8"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// holdRoutes are about legal holds. Whoever may undo a destruction may forbid
// it; whoever may ask for one may allow it again.
func (c *Console) holdRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toEncryption + "/{organisation}/hold", Action: "keys.restore", do: c.holdPage},
		{Pattern: "POST " + toEncryption + "/{organisation}/hold", Action: "keys.restore", do: c.hold},
		{Pattern: "GET " + toEncryption + "/{organisation}/release", Action: "keys.shred", do: c.releasePage},
		{Pattern: "POST " + toEncryption + "/{organisation}/release", Action: "keys.shred", do: c.release},
	}
}

const shortestHold = 10 // characters: why is what a court asks first

type holdData struct {
	v      *visit
	org    uuid.UUID
	name   string
	keyset keys.KeysetStatus // without one: its zero value
	shred  *keys.Shred       // that the hold stops
	form   form
}

// heldOrganisation reads what the pages of a hold show.
func (c *Console) heldOrganisation(v *visit, f form) (holdData, error) {
	d := holdData{v: v, org: v.subject().Organisation, form: f}
	if c.Vault == nil {
		return d, errNoVault
	}
	o := c.Verifier.Directory().Organisation(d.org)
	if o == nil {
		return d, problem.New(problem.NotFound, "organisation-unknown", "There is no such organisation.").WithMend("Choose one from the list.")
	}
	d.name = o.Name
	ctx, cancel := v.ctx()
	defer cancel()
	s, err := c.Vault.Status(ctx)
	if err != nil {
		return d, err
	}
	for _, k := range s.Keysets {
		if k.Organisation == d.org {
			d.keyset = k
		}
	}
	all, err := c.Vault.Shreds(ctx, &d.org)
	for i := range all {
		if all[i].State == keys.ShredRequested || all[i].State == keys.ShredApproved {
			d.shred = &all[i]
		}
	}
	return d, err
}

var encryptionCrumbs = []crumb{{"Encryption", toEncryption}}

func (c *Console) holdPage(v *visit) error { return c.showHold(v, form{}, 0) }

func (c *Console) showHold(v *visit, f form, status int) error {
	d, err := c.heldOrganisation(v, f)
	if err != nil {
		return err
	}
	return v.show(page{Title: "Legal hold on " + d.name, Path: toEncryption, Status: status, Crumbs: encryptionCrumbs}, holdBody(d))
}

func (c *Console) hold(v *visit) error {
	f, err := readForm(v.r, "reason")
	if err != nil {
		return err
	}
	d, err := c.heldOrganisation(v, f)
	if err != nil {
		return err
	}
	if utf8.RuneCountInString(f.value("reason")) < shortestHold { // an empty one would release
		f.problem = problem.New(problem.Invalid, "hold-reason", "A hold needs a reason of at least 10 characters.").WithField("reason").WithMend("Name the case or the letter that asks for it.")
		return c.showHold(v, f, f.problem.Kind.Status())
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.Vault.Hold(ctx, v.who(), d.org, f.value("reason")); err != nil {
		if problem.From(err).Kind != problem.TooLarge {
			return err
		}
		f.problem = problem.From(err)
		return c.showHold(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(with(toEncryption, "done", "held"))
}

func (c *Console) releasePage(v *visit) error { return c.showRelease(v, form{}, 0) }

func (c *Console) showRelease(v *visit, f form, status int) error {
	d, err := c.heldOrganisation(v, f)
	if err != nil {
		return err
	}
	return v.show(page{Title: "Release " + d.name, Path: toEncryption, Status: status, Crumbs: encryptionCrumbs}, releaseBody(d))
}

// release ends a hold, once the organisation's name was typed: what it kept
// from being destroyed may be destroyed then.
func (c *Console) release(v *visit) error {
	f, err := readForm(v.r, "name")
	if err != nil {
		return err
	}
	d, err := c.heldOrganisation(v, f)
	if err != nil {
		return err
	}
	if f.value("name") != d.name {
		f.problem = problem.New(problem.Invalid, "name-differs", "That is not the organisation's name.").WithField("name").WithMend("Type " + d.name + ".")
		return c.showRelease(v, f, f.problem.Kind.Status())
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.Vault.Hold(ctx, v.who(), d.org, ""); err != nil {
		return err
	}
	return v.seeOther(with(toEncryption, "done", "released"))
}

// holdText says by whom and since when.
func holdText(k keys.KeysetStatus) string {
	if k.HoldAt == nil {
		return ""
	}
	return "since " + stamp(*k.HoldAt) + " UTC, by " + k.HoldBy
}

func holdLink(org uuid.UUID) templ.SafeURL { return keysetLink(org, "hold") }
