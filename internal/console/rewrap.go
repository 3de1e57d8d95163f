package console

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// nodeKeyRoutes are about the node's own key-encryption key and about the
// search for a canary: of the platform, whoever asks.
func (c *Console) nodeKeyRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toRewrap, Action: "keys.rewrap", shared: true, do: c.rewrapPage},
		{Pattern: "POST " + toRewrap, Action: "keys.rewrap", shared: true, do: c.rewrap},
		{Pattern: "GET " + toCanary, Action: "keys.storage", shared: true, do: c.canaryPage},
		{Pattern: "POST " + toCanary, Action: "keys.search", shared: true, do: c.startCanary},
	}
}

const (
	toRewrap = toEncryption + "/rewrap"
	toCanary = toEncryption + "/canary"
)

// rewrapTime bounds a rewrap: some milliseconds for each keyset.
const rewrapTime = 5 * time.Minute

type rewrapData struct {
	v      *visit
	names  names
	status keys.Status
	older  []uuid.UUID // whose keysets another key than the one in force wraps
	form   form
	done   *keys.Rewrapped
	fresh  bool // what was done took a new key
}

func (c *Console) rewrapPage(v *visit) error { return c.showRewrap(v, rewrapData{}, 0) }

func (c *Console) showRewrap(v *visit, d rewrapData, status int) error {
	if c.Vault == nil {
		return errNoVault
	}
	ctx, cancel := v.ctx()
	defer cancel()
	s, err := c.Vault.Status(ctx)
	if err != nil {
		return err
	}
	d.v, d.names, d.status = v, c.names(), *s
	for _, k := range s.Keysets {
		if k.DestroyedAt == nil && k.KEK != s.KEK.Fingerprint {
			d.older = append(d.older, k.Organisation)
		}
	}
	if d.form.values == nil {
		d.form.values = map[string]string{"with": "present"}
	}
	return v.show(page{Title: "Wrap the keys anew", Path: toEncryption, Status: status, Crumbs: encryptionCrumbs}, rewrapBody(d))
}

// rewrap wraps every keyset anew. Once begun it goes on without the browser:
// half of it would be safe, but nobody would know why it is half.
func (c *Console) rewrap(v *visit) error {
	if c.Vault == nil {
		return errNoVault
	}
	f, err := readForm(v.r, "with", "fingerprint")
	if err != nil {
		return err
	}
	d := rewrapData{form: f, fresh: f.value("with") == "new"}
	wrong := func(code, detail, field, mend string) error {
		d.form.problem = problem.New(problem.Invalid, code, detail).WithField(field).WithMend(mend)
		return c.showRewrap(v, d, d.form.problem.Kind.Status())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.r.Context()), rewrapTime)
	defer cancel()
	if !slices.Contains([]string{"present", "new"}, f.value("with")) {
		return wrong("rewrap-with", "It is wrapped with the key in force, or with a new one.", "with", "Choose one of the two.")
	}
	if d.fresh {
		s, err := c.Vault.Status(ctx)
		if err != nil {
			return err
		}
		if f.value("fingerprint") != s.KEK.Fingerprint {
			return wrong("fingerprint-differs", "That is not the fingerprint of the key in force.", "fingerprint", "Type "+s.KEK.Fingerprint+".")
		}
	}
	_ = http.NewResponseController(v.w).SetWriteDeadline(time.Now().Add(rewrapTime + pageTimeout)) // not every writer has one
	out, err := c.Vault.Rewrap(ctx, v.who(), d.fresh)
	if err != nil {
		return err
	}
	d.done, d.form = &out, form{}
	return c.showRewrap(v, d, 0)
}
