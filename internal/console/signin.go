package console

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// signInPage says how to sign in.
func (c *Console) signInPage(v *visit) error {
	if v.session != nil {
		return v.seeOther(toOverview)
	}
	return v.show(page{Title: "Sign in"}, signInBody())
}

// linkPage shows a button for a one-time link. Opening the link alone does
// not use it up: mail and chat scanners open links too.
func (c *Console) linkPage(v *visit) error {
	token := v.r.PathValue("token")
	if !c.links.Known(token) {
		return v.show(page{Title: "This link does not work any more", Status: http.StatusGone}, usedLinkBody())
	}
	return v.show(page{Title: "Sign in"}, linkBody(token))
}

func (c *Console) signIn(v *visit) error {
	by, known := c.links.Take(v.r.PathValue("token"))
	if !known {
		return v.show(page{Title: "This link does not work any more", Status: http.StatusGone}, usedLinkBody())
	}
	s, value, err := c.sessions.start(by)
	if err != nil {
		return err
	}
	if v.session != nil { // of the same browser, whose cookie is replaced
		c.sessions.end(v.session)
		c.record(v.who(), "session.end", v.session.id, nil)
	}
	c.record(s.principal(), "session.create", s.id, map[string]any{"by": by.String()})
	http.SetCookie(v.w, cookie(cookieName, value, sessionLife))
	return v.seeOther(toOverview)
}

func (c *Console) signOut(v *visit) error {
	c.sessions.end(v.session)
	c.revokeKeys(v)
	c.record(v.who(), "session.end", v.session.id, nil)
	http.SetCookie(v.w, cookie(cookieName, "", -time.Second))
	return v.seeOther(toSignIn)
}

// recordTimeout bounds how long signing in waits for a database that is away.
const recordTimeout = 2 * time.Second

// record audits a sign-in or sign-out. Without a database the log has to do:
// an operator must get in when the database is what is wrong.
func (c *Console) record(p principal.Principal, act, target string, details any) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	err := c.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, uuid.Nil, act, target, details)
	})
	if err != nil {
		c.Log.Warn("not audited in the database", "act", act, "actor", p.String(), "error", err)
	}
}

func (c *Console) setTheme(v *visit) error {
	if err := v.r.ParseForm(); err != nil {
		return badForm(err)
	}
	switch theme := v.r.PostForm.Get("theme"); theme {
	case "light", "dark":
		http.SetCookie(v.w, cookie(themeCookie, theme, 365*24*time.Hour))
	default:
		http.SetCookie(v.w, cookie(themeCookie, "", -time.Second))
	}
	http.Redirect(v.w, v.r, localPath(v.r.PostForm.Get("back")), http.StatusSeeOther)
	return nil
}

func badForm(err error) error {
	return problem.New(problem.Invalid, "form", "The form could not be read.").WithMend("Go back and send it again.").Wrap(err)
}
