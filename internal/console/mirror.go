package console

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/problem"
)

const toMirrors = "/console/backups/mirrors"

func (c *Console) mirrorRoutes() []Route {
	with := func(do bounded) func(*visit) error { return within(absent(c.Code, errNoMirrors), do) }
	push := sheet(c.showPush)
	return []Route{
		{Pattern: "GET " + toMirrors, Action: "backup.read", do: with(c.mirrors)},
		{Pattern: "GET " + toMirrors + "/{mirror}", Action: "backup.read", do: with(c.mirror)},
		{Pattern: "POST " + toMirrors + "/{mirror}/fetch", Action: "backup.fetch", do: with(c.fetchMirror)},
		{Pattern: "POST " + toMirrors + "/{mirror}/prove", Action: "backup.prove", do: with(c.proveMirror)},
		{Pattern: "GET " + toMirrors + "/{mirror}/push", Action: "backup.push", do: with(push.empty)},
		{Pattern: "POST " + toMirrors + "/{mirror}/push", Action: "backup.push",
			do: with(push.sent("to", []string{"to", "user", "password", "key", "known_hosts", "ca", "private", "reason"}, c.pushMirror))},
	}
}

var errNoMirrors = problem.New(problem.Unavailable, "mirrors-away", "This node mirrors no repositories.").WithMend("Ask the node that runs the database.")

var mirrorCrumbs = []crumb{{"Backups and recovery", toBackups}, {"Mirrors of code", toMirrors}}

type mirrorsData struct {
	v    *visit
	list []backup.MirrorStatus
}

func (c *Console) mirrors(ctx context.Context, v *visit) error {
	list, err := c.Code.List(ctx, v.who())
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Doing != "" {
			c.working.note(v.now)
		}
	}
	return v.show(page{Title: "Mirrors of code", Path: toBackups, Live: true, Crumbs: backupCrumbs}, mirrorsBody(mirrorsData{v, list}))
}

type mirrorData struct {
	v *visit
	m backup.MirrorStatus
}

func (c *Console) mirror(ctx context.Context, v *visit) error {
	m, err := c.Code.Mirror(ctx, v.who(), v.r.PathValue("mirror"))
	if err != nil {
		return err
	}
	if m.Doing != "" {
		c.working.note(v.now)
	}
	return v.show(page{Title: m.Name, Path: toBackups, Live: true, Crumbs: mirrorCrumbs}, mirrorBody(mirrorData{v, m}))
}

func (c *Console) fetchMirror(ctx context.Context, v *visit) error {
	m, err := c.Code.Fetch(ctx, v.who(), v.r.PathValue("mirror"))
	if err != nil {
		return err
	}
	return v.seeOther(mirrorLink(m.Name))
}

func (c *Console) proveMirror(ctx context.Context, v *visit) error {
	m, err := c.Code.Prove(ctx, v.who(), v.r.PathValue("mirror"))
	if err != nil {
		return err
	}
	return v.seeOther(mirrorLink(m.Name))
}

type pushData struct {
	v    *visit
	form form
	m    backup.MirrorStatus
}

// showPush never shows a secret again: it is typed anew.
func (c *Console) showPush(ctx context.Context, v *visit, f form, status int) error {
	m, err := c.Code.Mirror(ctx, v.who(), v.r.PathValue("mirror"))
	if err != nil {
		return err
	}
	delete(f.values, "password")
	delete(f.values, "key")
	return v.show(page{Title: "Bring to another server", Path: toBackups, Status: status, Crumbs: append(mirrorCrumbs[:2:2], crumb{m.Name, mirrorLink(m.Name)})}, pushBody(pushData{v, f, m}))
}

func (c *Console) pushMirror(ctx context.Context, v *visit, f *form) (templ.SafeURL, error) {
	m, err := c.Code.Push(ctx, v.who(), v.r.PathValue("mirror"), backup.MirrorPush{To: f.value("to"), User: f.value("user"), Password: f.value("password"), Key: f.value("key"),
		KnownHosts: f.value("known_hosts"), CA: f.value("ca"), Private: f.value("private") != "", Reason: f.value("reason")})
	if err != nil {
		return "", pushProblem(err)
	}
	return mirrorLink(m.Name), nil
}

// pushProblem names the field of the form that a problem is about.
func pushProblem(err error) error {
	e := *problem.From(err) // a copy: it may be shared
	switch e.Field {
	case "to.url", "to.name":
		e.Field = "to"
	case "to.known_hosts":
		e.Field = "known_hosts"
	}
	return &e
}

func mirrorLink(name string) templ.SafeURL {
	return templ.SafeURL(toMirrors + "/" + url.PathEscape(name))
}

// mirrorState is how a mirror stands.
func mirrorState(m backup.MirrorStatus) state {
	switch {
	case m.Doing != "":
		return state{info, capital(m.Doing)}
	case m.Age < 0:
		return state{bad, "Never fetched"}
	case m.Outcome == backup.Fail:
		return state{bad, "Too old"}
	case !m.Configured:
		return state{idle, "Not configured"}
	case m.Code != "":
		return state{warn, "Last fetch failed"}
	}
	return state{ok, "Fresh"}
}

func mirrorAge(m backup.MirrorStatus) string {
	if m.Age < 0 {
		return "never"
	}
	return age(time.Duration(m.Age*float64(time.Second))) + " ago"
}

func mirrorLimit(m backup.MirrorStatus) string {
	return "at most " + age(time.Duration(m.MaxAge*float64(time.Second)))
}

// commitText is the newest commit, short, with its moment.
func commitText(m backup.MirrorStatus, now time.Time) string {
	if m.Commit == "" {
		return "none"
	}
	text := m.Commit[:min(12, len(m.Commit))]
	if m.CommitAt != nil {
		text += ", " + moment(*m.CommitAt, now) + " UTC"
	}
	return text
}

// triedState is what a proof of a mirror came to.
func triedState(t *backup.TriedMirror) state {
	if t == nil {
		return state{idle, "Never proven"}
	}
	return proofState(backup.Outcome(t.Proof.Outcome))
}

func triedText(t *backup.TriedMirror, now time.Time) string {
	if t == nil {
		return "never"
	}
	return fmt.Sprintf("%s ago, in %s", age(now.Sub(t.At)), span(t.Proof.Took))
}

func checkStateOf(c mirror.Check) state { return checkOutcome(backup.Outcome(c.Outcome)) }

// pushState is how bringing a mirror to another server went.
func pushState(p *backup.Push) state {
	switch {
	case p.Ended == nil:
		return state{info, "Running"}
	case p.Code != "":
		return state{bad, "Failed"}
	}
	return state{ok, "Arrived"}
}
