package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/outage"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// publicRoutes are open to whoever reaches the node: they lead to a session.
func (c *Console) publicRoutes() {
	for pattern, do := range map[string]func(*visit) error{
		"GET " + toSignIn:                     c.signInPage,
		"POST " + toSignIn:                    c.signInPassword,
		"GET " + toSecond:                     c.secondPage,
		"POST " + toSecond:                    c.second,
		"POST " + toSignIn + "/passkey/begin": c.passkeyBegin,
		"POST " + toSignIn + "/passkey":       c.passkeySignIn,
		"GET " + toSignIn + "/{token}":        c.linkPage,
		"POST " + toSignIn + "/{token}":       c.signIn,
		"POST " + toTheme:                     c.setTheme,
		"GET " + toInvitation:                 c.invitationPage,
		"POST " + toInvitation:                c.openInvitation,
		"POST " + toInvitation + "/accept":    c.acceptInvitation,
		"GET " + toCall:                       c.callPage,
		"POST " + toCall:                      c.openCall,
		"POST " + toTakeCall:                  c.takeCall,
	} {
		c.mux.HandleFunc(pattern, c.open(do))
	}
}

// clientOf is where a request comes from, as far as this listener knows.
func clientOf(r *http.Request) access.Client {
	client := access.Client{Agent: r.UserAgent()}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		client.Address = at.Addr().Unmap()
	}
	return client
}

// step is a sign-in between the password and the second factor, as the browser
// keeps it: a handle that opens nothing by itself, and where to go afterwards.
type step struct {
	Ceremony string          `json:"c"`
	Factors  []access.Factor `json:"f"`
	Next     string          `json:"n"`
}

const (
	stepCookie = "__Host-foundry-step"
	stepLife   = 5 * time.Minute // access.Limits.CeremonyLife
)

func (v *visit) keepStep(s step) {
	body, _ := json.Marshal(s) // strings only
	k := cookie(stepCookie, base64.RawURLEncoding.EncodeToString(body), stepLife)
	k.SameSite = http.SameSiteStrictMode
	http.SetCookie(v.w, k)
}

func (v *visit) step() (s step, found bool) {
	k, err := v.r.Cookie(stepCookie)
	if err != nil {
		return s, false
	}
	body, err := base64.RawURLEncoding.DecodeString(k.Value)
	if err != nil || json.Unmarshal(body, &s) != nil || s.Ceremony == "" {
		return step{}, false
	}
	s.Next = localPath(s.Next)
	return s, true
}

func (s step) has(f access.Factor) bool { return slices.Contains(s.Factors, f) }

// signInData is what the pages of a sign-in show.
type signInData struct {
	v       *visit
	form    form
	next    string
	step    step
	links   bool // `foundry console` makes links here
	people  bool // people can sign in
	outage  outage.State
	waiting string
}

func (c *Console) signInPage(v *visit) error {
	err := c.identify(v, true)
	if err != nil && !away(err) {
		return err
	}
	if v.session != nil {
		return v.seeOther(templ.SafeURL(localPath(v.r.URL.Query().Get("next"))))
	}
	return c.showSignIn(v, signInData{next: v.r.URL.Query().Get("next")}, 0)
}

func (c *Console) showSignIn(v *visit, d signInData, status int) error {
	v.session = nil // the page is for whoever is not signed in
	d.v, d.next, d.people, d.links = v, localPath(d.next), c.People != nil, c.Mode != "production"
	if d.form.problem != nil && d.form.problem.RetryAfter > 0 {
		d.waiting = age(d.form.problem.RetryAfter)
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d.outage = c.Door.State(ctx)
	return v.show(page{Title: "Sign in", Status: status}, signInBody(d))
}

// signInPassword takes the first of two factors. Where it is the only one that
// the person needs, they are signed in.
func (c *Console) signInPassword(v *visit) error {
	if c.People == nil {
		return errNoPeople
	}
	if err := v.r.ParseForm(); err != nil {
		return badForm(err)
	}
	f := form{values: map[string]string{"email": v.r.PostForm.Get("email")}}
	next := v.r.PostForm.Get("next")
	ctx, cancel := v.ctx()
	defer cancel()
	show := c.People.SignInPassword
	if c.Door.Away() {
		show = c.Door.SignInPassword
	}
	at, err := show(ctx, v.client(), f.value("email"), v.r.PostForm.Get("password"))
	switch {
	case err != nil:
		if err := v.signInProblem(&f, err, "email"); err != nil {
			return err
		}
		return c.showSignIn(v, signInData{form: f, next: next}, f.problem.Kind.Status())
	case at.SignedIn != nil:
		return c.finish(v, *at.SignedIn, next)
	}
	v.keepStep(step{at.Ceremony, at.Factors, localPath(next)})
	return v.seeOther(toSecond)
}

var errNoPeople = problem.New(problem.Unavailable, "sign-in-closed", "Nobody can sign in with an account here yet.").
	WithMend("On the server, run `foundry console` for a one-time link.")

// signInProblem keeps what the person can do something about on the page: a
// wrong password or code, and having to wait.
func (v *visit) signInProblem(f *form, err error, field string) error {
	e := *problem.From(err)
	switch e.Kind {
	case problem.Invalid, problem.Unauthenticated, problem.Denied, problem.RateLimited, problem.Conflict, problem.NotFound, problem.Unavailable, problem.Unsupported:
		if e.Field == "" {
			e.Field = field
		}
		if e.RetryAfter > 0 {
			v.w.Header().Set("Retry-After", e.RetryAfterSeconds())
		}
		f.problem = &e
		return nil
	}
	return err
}

func (c *Console) secondPage(v *visit) error { return c.showSecond(v, form{}, 0) }

func (c *Console) showSecond(v *visit, f form, status int) error {
	s, found := v.step()
	if !found {
		return v.seeOther(toSignIn)
	}
	d := signInData{v: v, form: f, step: s}
	if f.problem != nil && f.problem.RetryAfter > 0 {
		d.waiting = age(f.problem.RetryAfter)
	}
	return v.show(page{Title: "Second factor", Status: status}, secondBody(d))
}

// second takes a code of the authenticator app, or a recovery code.
func (c *Console) second(v *visit) error {
	s, found := v.step()
	if !found || c.People == nil {
		return v.seeOther(toSignIn)
	}
	f, err := readForm(v.r, "code", "recovery")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	var in access.SignedIn
	field, byCode, byRecovery := "code", c.People.SignInTOTP, c.People.SignInRecovery
	if outage.Ours(s.Ceremony) {
		byCode, byRecovery = c.Door.SignInTOTP, c.Door.SignInRecovery
	}
	if f.value("recovery") != "" {
		field = "recovery"
		in, err = byRecovery(ctx, v.client(), s.Ceremony, f.value("recovery"))
	} else {
		in, err = byCode(ctx, v.client(), s.Ceremony, f.value("code"))
	}
	if err != nil {
		f.values = nil // a code is of no use twice
		if err := v.signInProblem(&f, err, field); err != nil {
			return err
		}
		f.problem.Field = field
		return c.showSecond(v, f, f.problem.Kind.Status())
	}
	return c.finish(v, in, s.Next)
}

// passkeyBegin asks for a passkey: any that this browser has for the node, or
// after a password one of that person's.
func (c *Console) passkeyBegin(v *visit) error {
	return v.challenge(func(ctx context.Context) (access.PasskeyChallenge, error) {
		if c.People == nil {
			return access.PasskeyChallenge{}, errNoPeople
		}
		ceremony := ""
		if s, found := v.step(); found && v.r.URL.Query().Get("second") != "" {
			ceremony = s.Ceremony
		}
		if outage.Ours(ceremony) || ceremony == "" && c.Door.Away() {
			return c.Door.BeginPasskey(ctx, v.client(), ceremony)
		}
		return c.People.BeginPasskey(ctx, v.client(), ceremony)
	})
}

// challenge answers the script that asks the browser for a passkey.
func (v *visit) challenge(begin func(context.Context) (access.PasskeyChallenge, error)) error {
	ctx, cancel := v.ctx()
	defer cancel()
	asked, err := begin(ctx)
	if err != nil {
		problem.Write(v.w, err)
		return nil
	}
	v.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(v.w).Encode(asked)
}

func (c *Console) passkeySignIn(v *visit) error {
	if c.People == nil {
		return errNoPeople
	}
	f, err := readForm(v.r, "ceremony", "answer", "next")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	show := c.People.SignInPasskey
	if outage.Ours(f.value("ceremony")) {
		show = c.Door.SignInPasskey
	}
	in, err := show(ctx, v.client(), f.value("ceremony"), []byte(f.value("answer")))
	if err != nil {
		if err := v.signInProblem(&f, err, "passkey"); err != nil {
			return err
		}
		f.problem.Field = "passkey"
		return c.showSignIn(v, signInData{form: f, next: f.value("next")}, f.problem.Kind.Status())
	}
	return c.finish(v, in, f.value("next"))
}

// finish gives the browser its session and leads where the person wanted to
// go. A session that this browser had before ends: nobody keeps a second one
// open behind the first.
func (c *Console) finish(v *visit, in access.SignedIn, next string) error {
	if err := c.identify(v, false); err == nil && v.session != nil && v.session.id != in.Session.ID {
		c.leave(v)
	}
	v.enter(in)
	http.SetCookie(v.w, cookie(stepCookie, "", -time.Second))
	if in.Session.Enrolment {
		return v.seeOther(toEnrol)
	}
	if at := localPath(next); in.Principal.Away && at == toOverview {
		return v.seeOther(toCommand)
	}
	return v.seeOther(templ.SafeURL(localPath(next)))
}

// leave ends the visitor's session, and what its playground made.
func (c *Console) leave(v *visit) {
	c.revokeKeys(v)
	c.sessions.end(v.session)
	if v.signed == nil {
		c.record(v.who(), "session.end", v.session.id, nil)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.r.Context()), recordTimeout)
	defer cancel()
	end := c.People.SignOut
	if v.who().Away {
		end = c.Door.SignOut
	}
	if err := end(ctx, v.who()); err != nil {
		c.Log.Warn("a session was not ended", "session", v.session.id, "until", v.session.ends(), "error", err)
	}
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
	if err := c.identify(v, false); err == nil && v.session != nil { // of the same browser, whose cookie is replaced
		c.leave(v)
	}
	c.record(s.principal(), "session.create", s.id, map[string]any{"by": by.String()})
	http.SetCookie(v.w, cookie(cookieName, value, sessionLife))
	return v.seeOther(toOverview)
}

func (c *Console) signOut(v *visit) error {
	c.leave(v)
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
