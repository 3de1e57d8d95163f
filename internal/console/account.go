package console

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

func (c *Console) accountRoutes() []Route {
	own := func(pattern string, action string, do func(*visit) error) Route {
		return Route{Pattern: pattern, Action: actionNamed(action), own: true, do: do}
	}
	enrolling := func(pattern string, action string, do func(*visit) error) Route {
		r := own(pattern, action, do)
		r.enrolling = true
		return r
	}
	return []Route{
		own("GET "+toAccount, "account.read", c.account),
		own("POST "+toAccount+"/sessions/{session}/end", "session.end", c.endSession),
		own("POST "+toAccount+"/sessions/end-others", "session.end", c.endOthers),
		own("GET "+toPassword, "password.change", c.passwordPage),
		own("POST "+toPassword, "password.change", c.changePassword),
		own("GET "+toPasskeys+"/{passkey}", "passkey.rename", c.passkeyPage),
		own("POST "+toPasskeys+"/{passkey}", "passkey.rename", c.renamePasskey),
		own("POST "+toPasskeys+"/{passkey}/remove", "passkey.remove", c.removePasskey),
		own("GET "+toRecovery, "recovery.renew", c.recoveryPage),
		own("POST "+toRecovery, "recovery.renew", c.renewRecovery),
		own("POST "+toAuthenticator+"/remove", "totp.remove", c.removeAuthenticator),
		own("GET "+toPlaces, "account.read", c.places),
		own("POST "+toPlaces, "account.read", c.changePlace),
		enrolling("GET "+toJoin, "account.read", c.joinPage),
		enrolling("POST "+toJoin, "account.change", c.join),
		enrolling("GET "+toEnrol, "account.read", c.enrolPage),
		enrolling("GET "+toAuthenticator, "totp.enrol", c.authenticatorPage),
		enrolling("POST "+toAuthenticator, "totp.enrol", c.confirmAuthenticator),
		enrolling("POST "+toPasskeys+"/begin", "passkey.add", c.passkeyEnrolBegin),
		enrolling("POST "+toPasskeys, "passkey.add", c.passkeyEnrol),
		enrolling("GET "+toStepUp, "account.read", c.stepUpPage),
		enrolling("POST "+toStepUp, "account.read", c.stepUp),
		enrolling("POST "+toStepUp+"/passkey/begin", "account.read", c.stepUpPasskeyBegin),
		enrolling("POST "+toStepUp+"/passkey", "account.read", c.stepUpPasskey),
	}
}

type accountData struct {
	v        *visit
	names    names
	me       access.Person
	sessions []access.Session
	passkeys []access.Passkey
	form     form
}

func (c *Console) account(v *visit) error { return c.showAccount(v, form{}, page{}) }

func (c *Console) showAccount(v *visit, f form, shown page) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := accountData{v: v, names: c.names(), form: f}
	if d.me, err = c.People.Me(ctx, p); err != nil {
		return err
	}
	if d.sessions, err = c.People.MySessions(ctx, p); err != nil {
		return err
	}
	if d.passkeys, err = c.People.Passkeys(ctx, p); err != nil {
		return err
	}
	shown.Title, shown.Path = "Your account", toAccount
	shown.Notice = map[string]string{"password": "Your password is changed. Your other sessions have ended.", "passkey": "The passkey is added.",
		"removed": "It is removed.", "ended": "The session has ended.", "authenticator": "The authenticator app is set up."}[v.r.URL.Query().Get("done")]
	return v.show(shown, accountBody(d))
}

func (c *Console) endSession(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	id := v.r.PathValue("session")
	if id == v.session.id {
		return c.signOut(v)
	}
	if err := c.People.RevokeSession(ctx, p, id); err != nil {
		return err
	}
	return v.seeOther(with(toAccount, "done", "ended"))
}

// endOthers ends every session of the person but this one.
func (c *Console) endOthers(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	mine, err := c.People.MySessions(ctx, p)
	if err != nil {
		return err
	}
	for _, s := range mine {
		if s.ID == v.session.id {
			continue
		}
		if err := c.People.RevokeSession(ctx, p, s.ID); err != nil {
			return err
		}
	}
	return v.seeOther(with(toAccount, "done", "ended"))
}

func (c *Console) passwordPage(v *visit) error { return c.showPassword(v, form{}, 0) }

func (c *Console) showPassword(v *visit, f form, status int) error {
	if _, err := v.person(); err != nil {
		return err
	}
	return v.show(page{Title: "Change your password", Path: toAccount, Status: status, Crumbs: accountCrumbs}, passwordBody(f))
}

var accountCrumbs = []crumb{{"Your account", toAccount}}

func (c *Console) changePassword(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	if err := v.r.ParseForm(); err != nil {
		return badForm(err)
	}
	get := v.r.PostForm.Get
	ctx, cancel := context.WithTimeout(v.r.Context(), 2*pageTimeout)
	defer cancel()
	var in access.SignedIn
	if get("password") != get("again") {
		err = problem.New(problem.Invalid, "password-differs", "The two passwords are not the same.").WithField("again").WithMend("Type it again.")
	} else {
		in, err = c.People.ChangePassword(ctx, p, v.client(), get("old"), get("password"))
	}
	if err != nil {
		if problem.From(err).Code == "step-up-required" {
			return err
		}
		var f form
		if err := v.signInProblem(&f, err, "password"); err != nil {
			return err
		}
		return c.showPassword(v, f, f.problem.Kind.Status())
	}
	v.enter(in)
	return v.seeOther(with(toAccount, "done", "password"))
}

func (c *Console) passkeyNamed(v *visit) (access.Passkey, error) {
	p, err := v.person()
	if err != nil {
		return access.Passkey{}, err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	all, err := c.People.Passkeys(ctx, p)
	if err != nil {
		return access.Passkey{}, err
	}
	for _, k := range all {
		if k.ID == v.r.PathValue("passkey") {
			return k, nil
		}
	}
	return access.Passkey{}, problem.New(problem.NotFound, "passkey-unknown", "You have no such passkey.").WithMend("Choose one on the page of your account.")
}

func (c *Console) passkeyPage(v *visit) error { return c.showPasskey(v, form{}, 0) }

func (c *Console) showPasskey(v *visit, f form, status int) error {
	k, err := c.passkeyNamed(v)
	if err != nil {
		return err
	}
	if f.values == nil {
		f.values = map[string]string{"name": k.Name}
	}
	return v.show(page{Title: k.Name, Path: toAccount, Status: status, Crumbs: accountCrumbs}, passkeyBody(k, f))
}

func (c *Console) renamePasskey(v *visit) error {
	f, err := readForm(v.r, "name")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.People.RenamePasskey(ctx, v.who(), v.r.PathValue("passkey"), f.value("name")); err != nil {
		if err := f.mended(err, "name"); err != nil {
			return err
		}
		return c.showPasskey(v, f, f.problem.Kind.Status())
	}
	return v.seeOther(toAccount)
}

func (c *Console) removePasskey(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.People.RemovePasskey(ctx, v.who(), v.r.PathValue("passkey")); err != nil {
		return err
	}
	return v.seeOther(with(toAccount, "done", "removed"))
}

func (c *Console) removeAuthenticator(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	if err := c.People.RemoveTOTP(ctx, v.who()); err != nil {
		return err
	}
	return v.seeOther(with(toAccount, "done", "removed"))
}

func (c *Console) recoveryPage(v *visit) error {
	if _, err := v.person(); err != nil {
		return err
	}
	return v.show(page{Title: "Recovery codes", Path: toAccount, Crumbs: accountCrumbs}, recoveryBody())
}

func (c *Console) renewRecovery(v *visit) error {
	ctx, cancel := v.ctx()
	defer cancel()
	codes, err := c.People.RenewRecoveryCodes(ctx, v.who())
	if err != nil {
		return err
	}
	return v.showCodes(codes, toAccount)
}

// showCodes shows recovery codes, on this answer only.
func (v *visit) showCodes(codes []string, next templ.SafeURL) error {
	return v.show(page{Title: "Your recovery codes", Path: toAccount}, codesBody(codes, next))
}

// enrolPage offers the second factors that there are.
func (c *Console) enrolPage(v *visit) error { return c.showEnrol(v, form{}, 0) }

func (c *Console) showEnrol(v *visit, f form, status int) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	me, err := c.People.Me(ctx, p)
	if err != nil {
		return err
	}
	if v.signed.Enrolment && me.Factors.Second() {
		return v.seeOther(toStepUp)
	}
	return v.show(v.plain(page{Title: "Add a second factor", Path: toAccount, Status: status, Crumbs: accountCrumbs}), enrolBody(v, me.Factors, f))
}

// plain takes the menu from a page for a session that must enrol first: none
// of its places would open.
func (v *visit) plain(p page) page {
	if v.signed != nil && v.signed.Enrolment {
		p.Bare, p.Crumbs = true, nil
	}
	return p
}

type authenticatorData struct {
	v    *visit
	e    access.TOTPEnrolment
	form form
}

func (c *Console) authenticatorPage(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	e, err := c.People.BeginTOTP(ctx, p)
	if err != nil {
		return err
	}
	return c.showAuthenticator(v, authenticatorData{e: e}, 0)
}

func (c *Console) showAuthenticator(v *visit, d authenticatorData, status int) error {
	d.v = v
	return v.show(v.plain(page{Title: "Authenticator app", Path: toAccount, Status: status, Crumbs: accountCrumbs}), authenticatorBody(d))
}

// confirmAuthenticator takes the first code. The picture that was shown comes
// back with a wrong one, so that nobody has to scan twice.
func (c *Console) confirmAuthenticator(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	f, err := readForm(v.r, "ceremony", "uri", "secret", "code")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	done, err := c.People.ConfirmTOTP(ctx, p, f.value("ceremony"), f.value("code"))
	if err != nil {
		if problem.From(err).Code == "step-up-required" {
			return err
		}
		if err := v.signInProblem(&f, err, "code"); err != nil {
			return err
		}
		f.problem.Field = "code"
		if !strings.HasPrefix(f.value("uri"), "otpauth://") || len(f.value("uri")) > 500 {
			return v.seeOther(toAuthenticator)
		}
		again := authenticatorData{e: access.TOTPEnrolment{Ceremony: f.value("ceremony"), URI: f.value("uri"), Secret: f.value("secret")}, form: form{problem: f.problem}}
		return c.showAuthenticator(v, again, f.problem.Kind.Status())
	}
	return c.enrolled(v, done, "authenticator")
}

// enrolled goes on with the session as it is after a factor was added.
func (c *Console) enrolled(v *visit, done access.Enrolled, what string) error {
	first := v.signed.Enrolment
	v.enter(done.SignedIn)
	if len(done.Codes) > 0 {
		next := templ.SafeURL(toAccount)
		if first {
			next = toOverview
		}
		v.signed, v.session = &done.SignedIn.Session, c.sessions.person(done.SignedIn.Principal, &done.SignedIn.Session)
		v.as = done.SignedIn.Principal
		return v.showCodes(done.Codes, next)
	}
	if first {
		return v.seeOther(toOverview)
	}
	return v.seeOther(with(toAccount, "done", what))
}

func (c *Console) passkeyEnrolBegin(v *visit) error {
	return v.challenge(func(ctx context.Context) (access.PasskeyChallenge, error) {
		p, err := v.person()
		if err != nil {
			return access.PasskeyChallenge{}, err
		}
		return c.People.BeginPasskeyEnrolment(ctx, p)
	})
}

func (c *Console) passkeyEnrol(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	f, err := readForm(v.r, "ceremony", "answer", "name")
	if err != nil {
		return err
	}
	if f.value("name") == "" {
		f.values["name"] = fmt.Sprintf("%s, %s", v.signed.Device, day(v.now))
	}
	ctx, cancel := v.ctx()
	defer cancel()
	done, err := c.People.EnrolPasskey(ctx, p, f.value("ceremony"), f.value("name"), []byte(f.value("answer")))
	if err != nil {
		if problem.From(err).Code == "step-up-required" {
			return err
		}
		if err := v.signInProblem(&f, err, "name"); err != nil {
			return err
		}
		return c.showEnrol(v, f, f.problem.Kind.Status())
	}
	return c.enrolled(v, done, "passkey")
}

// places lists where a person with several memberships may act.
func (c *Console) places(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	me, err := c.People.Me(ctx, p)
	if err != nil {
		return err
	}
	return v.show(page{Title: "Where you act", Path: toAccount, Crumbs: accountCrumbs}, placesBody(v, c.names(), me.Memberships))
}

func (c *Console) changePlace(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	f, err := readForm(v.r, "to")
	if err != nil {
		return err
	}
	org, err := uuid.Parse(f.value("to"))
	if err != nil {
		return problem.New(problem.Invalid, "organisation", "That is no organisation.").WithMend("Choose one from the list.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	in, err := c.People.Enter(ctx, p, org)
	if err != nil {
		return err
	}
	v.enter(in)
	return v.seeOther(toOverview)
}

func roleWords(names []string) string {
	if len(names) == 0 {
		return "no role"
	}
	return strings.ReplaceAll(strings.Join(names, ", "), "-", " ")
}

func sessionState(s access.Session) state {
	switch {
	case s.Current:
		return state{ok, "This session"}
	case s.Enrolment:
		return state{warn, "No second factor"}
	}
	return state{info, "Open"}
}

// methodWords says how a session was opened.
func methodWords(method string) string {
	return strings.NewReplacer("+", " and ", "totp", "code", "recovery", "recovery code").Replace(method)
}

// usedText says when something was last used.
func usedText(at *time.Time) string {
	if at == nil {
		return "not used yet"
	}
	return "used " + stamp(*at) + " UTC"
}

func keptText(synced bool) string {
	if synced {
		return "Several devices of yours"
	}
	return "One device"
}

// codesFile is the file of recovery codes, made in the page: no request
// carries them again.
func codesFile(codes []string) templ.SafeURL {
	text := "Foundry recovery codes. Each works once.\r\n\r\n" + strings.Join(codes, "\r\n") + "\r\n"
	return templ.SafeURL("data:text/plain;charset=utf-8;base64," + base64.StdEncoding.EncodeToString([]byte(text)))
}

// grouped puts a secret into groups of four, for typing.
func grouped(secret string) string {
	var b strings.Builder
	for i, r := range secret {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

type drawnQR struct {
	path, box string
	width     int
}

// drawQR draws a QR code with the quiet zone of four modules that ISO/IEC
// 18004 asks for.
func drawQR(content string) drawnQR {
	path, width, err := qrPath(content)
	if err != nil {
		return drawnQR{}
	}
	return drawnQR{path, fmt.Sprintf("-4 -4 %d %d", width+8, width+8), width}
}
