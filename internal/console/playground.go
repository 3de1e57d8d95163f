package console

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

// The playground asks for models the way every program does: with an API key,
// through the same gateway, under the same policy, budget and ledger. Its key
// belongs to one session and organisation, lives for an hour, and its token
// stays in this process.
const playgroundKeyLife = time.Hour

type playgroundData struct {
	v       *visit
	choices choices
	model   string
	org     string
}

func (c *Console) playground(v *visit) error {
	q := v.r.URL.Query()
	d := playgroundData{v: v, choices: c.choices(v), model: q.Get("model"), org: q.Get("organisation")}
	return v.show(page{Title: "Playground", Path: toPlayground}, playgroundBody(d))
}

// chat passes a chat completion on to the gateway as a request of an
// organisation.
func (c *Console) chat(v *visit) error {
	token, err := c.playgroundToken(v)
	if err != nil {
		problem.Write(v.w, err)
		return nil
	}
	inner := v.r.Clone(v.r.Context())
	inner.URL = &url.URL{Path: "/v1/chat/completions"}
	inner.RequestURI = inner.URL.Path
	inner.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "Accept": {"text/event-stream"}}
	if class := v.r.Header.Get("X-Foundry-Data-Class"); class != "" {
		inner.Header.Set("X-Foundry-Data-Class", class)
	}
	c.Gateway.ServeHTTP(v.w, inner)
	return nil
}

// playgroundToken returns the token that this session uses for an
// organisation: one that was typed in, or its own, made on first use.
func (c *Console) playgroundToken(v *visit) (string, error) {
	if typed := v.r.Header.Get("X-Api-Key"); typed != "" {
		return typed, nil
	}
	o, err := c.organisationNamed(v.r.PathValue("organisation"))
	if err != nil {
		return "", err
	}
	s := v.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, found := s.keys[o.ID]; found && v.now.Before(old.until.Add(-time.Minute)) {
		return old.token, nil
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), pageTimeout)
	defer cancel()
	until := v.now.Add(playgroundKeyLife)
	k, token, err := c.Verifier.CreateKey(ctx, c.DB, c.Guard, v.who(), access.NewKey{Organisation: o.ID, ExpiresAt: &until,
		Name: "playground-" + s.id + "-" + v.now.Format("20060102-150405")})
	if away(err) {
		return "", problem.New(problem.Unavailable, "playground-key", "The database does not answer, so no key can be made for the playground.").
			WithMend("Paste an API key of the organisation below.").Wrap(err)
	}
	if err != nil {
		return "", err
	}
	if err := c.Gateway.Refresh(ctx); err != nil {
		return "", err
	}
	s.keys[o.ID] = playgroundKey{k.ID, token, until}
	return token, nil
}

// revokeKeys ends what the session's playground made. What cannot be ended
// now, because the database is away, ends by itself within the hour.
func (c *Console) revokeKeys(v *visit) {
	s := v.session
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.r.Context()), recordTimeout)
	defer cancel()
	if len(s.keys) == 0 {
		return
	}
	for org, k := range s.keys {
		delete(s.keys, org)
		if _, err := access.RevokeKey(ctx, c.DB, c.Guard, v.who(), k.id); err != nil {
			c.Log.Warn("a playground key was not revoked", "key", k.id, "until", k.until, "error", err)
		}
	}
	if err := c.Gateway.Refresh(ctx); err != nil {
		c.Log.Warn("revoked keys are not known to the gateway yet", "error", err)
	}
}
