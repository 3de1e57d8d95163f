package console

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/problem"
)

// An invitation's token stands behind the # of its link: browsers keep that
// part to themselves, so it is in no server's log, no proxy's and no Referer.
// A script moves it into the form and out of the address; without scripts the
// invited person pastes the link into the same form. Either way the token
// travels in the body of a POST.

const (
	invitationCookie = "__Host-foundry-invitation"
	invitationLife   = 15 * time.Minute // to sign in between opening an invitation and joining
)

type invitationData struct {
	v          *visit
	token      string
	invitation access.Invitation
	member     bool   // the invited person has an account
	where      string // the organisation
	form       form
}

func (c *Console) invitationPage(v *visit) error {
	return v.show(page{Title: "Your invitation"}, invitationBody(form{}))
}

// openInvitation shows what an invitation is to, without using it up.
func (c *Console) openInvitation(v *visit) error {
	f, err := readForm(v.r, "token")
	if err != nil {
		return err
	}
	return c.showInvitation(v, tokenIn(f.value("token")), form{}, 0)
}

// tokenIn finds the token in what was pasted: the link, or only its end.
func tokenIn(text string) string {
	if _, after, found := strings.Cut(text, "#"); found {
		text = after
	}
	return strings.TrimSpace(text)
}

func (c *Console) showInvitation(v *visit, token string, f form, status int) error {
	if c.People == nil {
		return errNoPeople
	}
	ctx, cancel := v.ctx()
	defer cancel()
	in, member, err := c.People.OpenInvitation(ctx, v.client(), token)
	if err != nil {
		if err := v.signInProblem(&f, err, "token"); err != nil {
			return err
		}
		f.problem.Field = "token"
		return v.show(page{Title: "Your invitation", Status: f.problem.Kind.Status()}, invitationBody(f))
	}
	d := invitationData{v: v, token: token, invitation: in, member: member, where: c.names().organisation(in.Organisation), form: f}
	if f.values == nil {
		d.form.values = map[string]string{"name": in.Name}
	}
	if member && in.Kind == access.InviteMember {
		k := cookie(invitationCookie, token, invitationLife)
		k.SameSite = http.SameSiteStrictMode
		http.SetCookie(v.w, k)
	}
	v.session = nil
	return v.show(page{Title: invitationTitle(d), Status: status}, acceptBody(d))
}

// acceptInvitation makes the account. Its first page is where a second factor
// is set up.
func (c *Console) acceptInvitation(v *visit) error {
	if c.People == nil {
		return errNoPeople
	}
	if err := v.r.ParseForm(); err != nil {
		return badForm(err)
	}
	get := v.r.PostForm.Get
	f := form{values: map[string]string{"name": strings.TrimSpace(get("name"))}}
	token := tokenIn(get("token"))
	err := error(nil)
	if get("password") != get("again") {
		err = problem.New(problem.Invalid, "password-differs", "The two passwords are not the same.").WithField("again").WithMend("Type it again.")
	}
	var in access.SignedIn
	if err == nil {
		// Hashing a password takes a moment; a database that is slow too must
		// not leave the person with half an account.
		ctx, cancel := context.WithTimeout(v.r.Context(), 2*pageTimeout)
		defer cancel()
		in, err = c.People.Accept(ctx, v.client(), token, access.Acceptance{Name: f.value("name"), Password: get("password")})
	}
	if err != nil {
		if err := v.signInProblem(&f, err, "password"); err != nil {
			return err
		}
		return c.showInvitation(v, token, f, f.problem.Kind.Status())
	}
	return c.finish(v, in, toOverview)
}

// joinPage is where a person who has an account accepts an invitation, once
// they are signed in.
func (c *Console) joinPage(v *visit) error {
	if _, err := v.person(); err != nil {
		return err
	}
	k, err := v.r.Cookie(invitationCookie)
	if err != nil {
		return v.seeOther(toInvitation)
	}
	ctx, cancel := v.ctx()
	defer cancel()
	in, _, err := c.People.OpenInvitation(ctx, v.client(), k.Value)
	if err != nil {
		return err
	}
	d := invitationData{v: v, invitation: in, where: c.names().organisation(in.Organisation)}
	return v.show(page{Title: "Join " + d.where}, joinBody(d))
}

func (c *Console) join(v *visit) error {
	p, err := v.person()
	if err != nil {
		return err
	}
	k, err := v.r.Cookie(invitationCookie)
	if err != nil {
		return v.seeOther(toInvitation)
	}
	ctx, cancel := v.ctx()
	defer cancel()
	in, err := c.People.Join(ctx, p, k.Value)
	if err != nil {
		return err
	}
	http.SetCookie(v.w, cookie(invitationCookie, "", -time.Second))
	v.enter(in)
	if in.Session.Enrolment {
		return v.seeOther(toEnrol)
	}
	return v.seeOther(toOverview)
}

func invitationTitle(d invitationData) string {
	switch d.invitation.Kind {
	case access.InviteBootstrap:
		return "Set up Foundry"
	case access.InviteRecovery:
		return "Choose how you sign in"
	}
	return "Join " + d.where
}
