package console

import (
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

// Whoever is called at night takes the call with the link of the message, and
// need not sign in first. Looking takes nothing: programs that open links in
// messages, to see whether they are harmless, would otherwise silence a call.
// The token travels as an invitation's does.

const (
	toCall     = notify.TakePath
	toTakeCall = notify.TakePath + "/take"
)

type callData struct {
	token  string
	person string
	page   notify.Page
}

var errNoOutbox = problem.New(problem.Unavailable, "outbox-away", "Messages are not kept on this node.").WithMend("Open the link at a gateway node.")

func (c *Console) callPage(v *visit) error {
	return v.show(page{Title: "Your call"}, callForm(form{}))
}

// openCall shows what somebody is called for.
func (c *Console) openCall(v *visit) error {
	return c.call(v, false)
}

// takeCall takes it.
func (c *Console) takeCall(v *visit) error {
	return c.call(v, true)
}

func (c *Console) call(v *visit, take bool) error {
	if c.Outbox == nil {
		return errNoOutbox
	}
	f, err := readForm(v.r, "token")
	if err != nil {
		return err
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := callData{token: tokenIn(f.value("token"))}
	d.page, d.person, err = c.Outbox.LinkedPage(ctx, c.DB, d.token)
	if err == nil && take && d.page.Taken == nil {
		d.page, err = c.Outbox.TakeByLink(ctx, c.DB, d.token)
	}
	if err != nil {
		if err := v.signInProblem(&f, err, "token"); err != nil {
			return err
		}
		return v.show(page{Title: "Your call", Status: f.problem.Kind.Status()}, callForm(f))
	}
	return v.show(page{Title: "Your call"}, callBody(d))
}
