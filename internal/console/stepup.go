package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/access/policy"
)

// stepUpData is a page that asks for the second factor again. An act that was
// refused for want of it waits on the page as a form, and goes on from there.
type stepUpData struct {
	v       *visit
	factors access.Factors
	next    string     // where to go afterwards
	again   string     // the act that waits: its address; empty: none
	values  url.Values // and its form
	form    form
}

// again is the form field that names the act which waits; its own fields come
// with waits before their names.
const (
	againField = "again"
	waits      = "f."
)

// secret reports whether a field must not wait in a page.
func secretField(name string) bool {
	return slices.Contains([]string{"password", "old", "again", "code", "recovery", "answer", "token"}, name)
}

// askAgain shows the step-up page to somebody who may do what they asked for
// once they have shown their second factor.
func (c *Console) askAgain(v *visit) error {
	if v.partial() {
		return v.lead(with(toStepUp, "next", localPath(v.r.URL.RequestURI())))
	}
	if v.r.Method == http.MethodGet {
		return v.lead(with(toStepUp, "next", localPath(v.r.URL.RequestURI())))
	}
	if err := v.r.ParseForm(); err != nil {
		return badForm(err)
	}
	d := stepUpData{again: localPath(v.r.URL.RequestURI()), values: url.Values{}, next: toOverview}
	for name, values := range v.r.PostForm {
		if !secretField(name) {
			d.values[name] = values
		}
	}
	return c.showStepUp(v, d, http.StatusForbidden)
}

func (c *Console) showStepUp(v *visit, d stepUpData, status int) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	read := c.People.Me
	if p.Away {
		read = c.Door.Me
	}
	me, err := read(ctx, p)
	if err != nil {
		return err
	}
	d.v, d.factors = v, me.Factors
	if p.Away { // a passkey is shown by signing in again
		d.factors.Passkeys = 0
	}
	return v.show(v.plain(page{Title: "Show your second factor", Status: status}), stepUpBody(d))
}

func (c *Console) stepUpPage(v *visit) error {
	return c.showStepUp(v, stepUpData{next: localPath(v.r.URL.Query().Get("next"))}, 0)
}

// readStepUp reads where to go afterwards, and the act that waits.
func readStepUp(v *visit) (stepUpData, error) {
	if err := v.r.ParseForm(); err != nil {
		return stepUpData{}, badForm(err)
	}
	d := stepUpData{next: localPath(v.r.PostForm.Get("next")), values: url.Values{}}
	if again := v.r.PostForm.Get(againField); again != "" && localPath(again) == again {
		d.again = again
	}
	for name, values := range v.r.PostForm {
		if rest, found := strings.CutPrefix(name, waits); found && !secretField(rest) {
			d.values[rest] = values
		}
	}
	return d, nil
}

func (c *Console) stepUp(v *visit) error {
	d, err := readStepUp(v)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	show := c.People.StepUpTOTP
	if v.who().Away {
		show = c.Door.StepUpTOTP
	}
	in, err := show(ctx, v.who(), v.client(), strings.TrimSpace(v.r.PostForm.Get("code")))
	return c.steppedUp(v, d, in, err)
}

func (c *Console) stepUpPasskeyBegin(v *visit) error {
	return v.challenge(func(ctx context.Context) (access.PasskeyChallenge, error) {
		return c.People.BeginStepUpPasskey(ctx, v.who())
	})
}

func (c *Console) stepUpPasskey(v *visit) error {
	d, err := readStepUp(v)
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	in, err := c.People.StepUpPasskey(ctx, v.who(), v.client(), v.r.PostForm.Get("ceremony"), []byte(v.r.PostForm.Get("answer")))
	return c.steppedUp(v, d, in, err)
}

// steppedUp goes on: back to the page, or to the act that waits, which the
// person sends once more with one press.
func (c *Console) steppedUp(v *visit, d stepUpData, in access.SignedIn, err error) error {
	if err != nil {
		if err := v.signInProblem(&d.form, err, "code"); err != nil {
			return err
		}
		d.form.problem.Field = "code"
		return c.showStepUp(v, d, d.form.problem.Kind.Status())
	}
	v.enter(in)
	if d.again == "" {
		return v.seeOther(templ.SafeURL(d.next))
	}
	v.as, v.signed = in.Principal, &in.Session
	return v.show(page{Title: "Go on"}, goOnBody(d))
}

// fields lists the form of the act that waits, in order.
func (d stepUpData) fields() (out [][2]string) {
	for name, values := range d.values {
		for _, value := range values {
			out = append(out, [2]string{name, value})
		}
	}
	slices.SortFunc(out, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return out
}

// actionNamed is an action of the policies.
func actionNamed(name string) policy.Action { return policy.Action(name) }
