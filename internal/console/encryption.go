package console

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func (c *Console) encryptionRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toEncryption, Action: "keys.status", do: c.encryption},
		{Pattern: "POST " + toEncryption + "/{organisation}/rotate", Action: "keys.rotate", do: c.rotateKeys},
		{Pattern: "GET " + toEncryption + "/{organisation}/shred", Action: "keys.shred", do: c.shredPage},
		{Pattern: "POST " + toEncryption + "/{organisation}/shred", Action: "keys.shred", do: c.requestShred},
		{Pattern: "GET " + toShreds + "/{shred}", Action: "keys.status", do: c.shred},
		{Pattern: "POST " + toShreds + "/{shred}/approve", Action: "keys.status", do: c.onShred}, // decided with the request's organisation
		{Pattern: "POST " + toShreds + "/{shred}/cancel", Action: "keys.status", do: c.onShred},
	}
}

const toShreds = "/console/shreds"

var errNoVault = problem.New(problem.Unavailable, "vault-away", "Keys are not kept on this node.").WithMend("Ask a gateway node.")

type encryptionData struct {
	v        *visit
	names    names
	status   keys.Status
	keysets  []keys.KeysetStatus
	shreds   []keys.Shred
	storage  keys.StorageReport
	platform bool
	without  []*access.Organisation // whose keyset is not made yet
}

// keysetName is whose a keyset is.
func keysetName(n names, org uuid.UUID) string {
	if org == uuid.Nil {
		return "The installation"
	}
	return n.organisation(org)
}

func keysetLink(org uuid.UUID, act string) templ.SafeURL {
	name := org.String()
	if org == uuid.Nil {
		name = platformName
	}
	return templ.SafeURL(toEncryption + "/" + name + "/" + act)
}

func (c *Console) encryption(v *visit) error {
	if c.Vault == nil {
		return errNoVault
	}
	ctx, cancel := v.ctx()
	defer cancel()
	s, err := c.Vault.Status(ctx)
	if err != nil {
		return err
	}
	org := v.who().Organisation
	d := encryptionData{v: v, names: c.names(), status: *s, platform: v.who().Platform()}
	only := &org
	if d.platform {
		only = nil
	}
	for _, k := range s.Keysets {
		if d.platform || k.Organisation == org {
			d.keysets = append(d.keysets, k)
		}
	}
	if d.shreds, err = c.Vault.Shreds(ctx, only); err != nil {
		return err
	}
	if d.platform && c.Storage != nil && v.may("keys.storage", uuid.Nil) {
		d.storage = c.Storage(ctx)
	}
	if d.platform {
		for _, o := range d.names.directory.Organisations() {
			if !slices.ContainsFunc(d.keysets, func(k keys.KeysetStatus) bool { return k.Organisation == o.ID }) {
				d.without = append(d.without, o)
			}
		}
		slices.SortFunc(d.without, func(a, b *access.Organisation) int { return cmp.Compare(a.Name, b.Name) })
	}
	running := false
	for _, k := range d.keysets {
		running = running || k.Rotation != nil && k.Rotation.Ended == nil
	}
	p := page{Title: "Encryption", Path: toEncryption, Live: running}
	p.Notice = map[string]string{"held": "It is on legal hold. Its keys cannot be destroyed.", "released": "The hold is released."}[v.r.URL.Query().Get("done")]
	return v.show(p, encryptionBody(d))
}

func (c *Console) rotateKeys(v *visit) error {
	if c.Rotate == nil {
		return errNoVault
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := c.Rotate(ctx, v.who(), v.subject().Organisation); err != nil {
		return err
	}
	return v.seeOther(toEncryption)
}

type shredData struct {
	v     *visit
	names names
	org   uuid.UUID
	shred *keys.Shred
	form  form
}

func (c *Console) shredPage(v *visit) error { return c.showShredPage(v, form{}, 0) }

func (c *Console) showShredPage(v *visit, f form, status int) error {
	d := shredData{v: v, names: c.names(), org: v.subject().Organisation, form: f}
	if c.Verifier.Directory().Organisation(d.org) == nil {
		return problem.New(problem.NotFound, "organisation-unknown", "There is no such organisation.").WithMend("Choose one from the list.")
	}
	return v.show(page{Title: "Shred the keys of " + d.names.organisation(d.org), Path: toEncryption, Status: status, Crumbs: []crumb{{"Encryption", toEncryption}}}, requestShredBody(d))
}

// requestShred asks for an organisation's keys to be destroyed, once its name
// was typed. Two other people have to approve.
func (c *Console) requestShred(v *visit) error {
	if c.Vault == nil {
		return errNoVault
	}
	f, err := readForm(v.r, "reason", "name")
	if err != nil {
		return err
	}
	org := v.subject().Organisation
	if name := c.names().organisation(org); f.value("name") != name {
		f.problem = problem.New(problem.Invalid, "name-differs", "That is not the organisation's name.").WithField("name").WithMend("Type " + name + ".")
		return c.showShredPage(v, f, f.problem.Kind.Status())
	}
	ctx, cancel := v.ctx()
	defer cancel()
	s, err := c.Vault.RequestShred(ctx, v.who(), org, f.value("reason"))
	if err != nil {
		if err := f.mended(err, "reason"); err != nil {
			return err
		}
		return c.showShredPage(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(shredLink(s.ID, ""))
}

func shredLink(id uuid.UUID, act string) templ.SafeURL {
	return templ.SafeURL(strings.TrimSuffix(toShreds+"/"+id.String()+"/"+act, "/"))
}

// shredNamed finds a request that the visitor may do something to.
func (c *Console) shredNamed(v *visit, action policy.Action) (*keys.Shred, error) {
	if c.Vault == nil {
		return nil, errNoVault
	}
	ctx, cancel := v.ctx()
	defer cancel()
	unknown := problem.New(problem.NotFound, "shred-unknown", "There is no such request.").WithMend("Choose one from the list.")
	id, err := uuid.Parse(v.r.PathValue("shred"))
	if err != nil {
		return nil, unknown
	}
	s, err := c.Vault.FindShred(ctx, id)
	if err != nil {
		return nil, err
	}
	if !v.who().Platform() && s.Organisation != v.who().Organisation {
		return nil, unknown
	}
	return s, c.Guard.Authorise(ctx, v.who(), action, policy.Resource{ID: id.String(), Organisation: s.Organisation, Owner: strings.TrimPrefix(s.RequestedBy, string(principal.Person)+":")})
}

func (c *Console) shred(v *visit) error {
	s, err := c.shredNamed(v, "keys.status")
	if err != nil {
		return err
	}
	d := shredData{v: v, names: c.names(), org: s.Organisation, shred: s}
	return v.show(page{Title: "Shredding of " + d.names.organisation(s.Organisation), Path: toEncryption, Crumbs: []crumb{{"Encryption", toEncryption}}}, shredBody(d))
}

func (c *Console) onShred(v *visit) error {
	action, do := policy.Action("keys.approve"), (*keys.Vault).ApproveShred
	if strings.HasSuffix(v.r.URL.Path, "/cancel") {
		action, do = "keys.restore", (*keys.Vault).CancelShred
	}
	s, err := c.shredNamed(v, action)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := do(c.Vault, ctx, v.who(), s.ID); err != nil {
		return err
	}
	return v.seeOther(shredLink(s.ID, ""))
}

func shredState(s keys.Shred) state {
	switch s.State {
	case keys.ShredApproved:
		return state{warn, "Counting down"}
	case keys.ShredExecuted:
		return state{bad, "Destroyed"}
	case keys.ShredCancelled:
		return state{idle, "Cancelled"}
	}
	return state{info, "Waits for approval"}
}

func keyStatusState(k keys.KeyStatus) state {
	switch k.Status {
	case "primary":
		return state{ok, "Seals"}
	case "enabled":
		return state{info, "Opens only"}
	case "disabled":
		return state{warn, "Disabled"}
	}
	return state{idle, capital(k.Status)}
}

func checkState(s string) state {
	switch s {
	case keys.Pass:
		return state{ok, "Protected"}
	case keys.Fail:
		return state{bad, "Not protected"}
	}
	return state{warn, "Not known"}
}

// bytesText renders a size in the largest binary unit.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return number(n) + "\u00a0B"
	}
	return strings.TrimSuffix(strings.TrimRight(formatFloat(v), "0"), ".") + "\u00a0" + units[i]
}

// left is how long something lasts yet.
func left(until *time.Time, now time.Time) string {
	if until == nil {
		return "–"
	}
	return age(until.Sub(now))
}
