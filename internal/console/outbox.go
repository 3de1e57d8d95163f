package console

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

func (c *Console) outboxRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toOutbox, Action: "notify.list", do: c.outbox},
		{Pattern: "POST " + toOutbox + "/{message}/retry", Action: "notify.retry", do: c.retryMessage},
	}
}

type outboxData struct {
	v     *visit
	list  []notify.Notification
	state string
	sends bool
	next  string
	paged bool
}

const outboxPage = 50

// outboxStates are the states in filters, what needs somebody first.
var outboxStates = []notify.State{notify.Failed, notify.Indeterminate, notify.Expired, notify.Queued, notify.Sending, notify.Accepted}

func (c *Console) outbox(v *visit) error {
	if c.Outbox == nil {
		return problem.New(problem.Unavailable, "outbox-away", "Messages are not kept on this node.").WithMend("Ask a gateway node.")
	}
	q := v.r.URL.Query()
	f := notify.Filter{Organisation: v.who().Organisation, All: v.who().Platform(), State: notify.State(q.Get("state")), Limit: outboxPage + 1}
	d := outboxData{v: v, state: q.Get("state"), sends: c.Outbox.Sends()}
	var err error
	if text := q.Get("before"); text != "" {
		if f.Before, err = uuid.Parse(text); err != nil {
			return problem.New(problem.Invalid, "cursor", "That is not a page of this list.")
		}
		d.paged = true
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if d.list, err = c.Outbox.List(ctx, c.DB, f); err != nil {
		return err
	}
	if len(d.list) > outboxPage {
		d.list = d.list[:outboxPage]
		d.next = d.list[outboxPage-1].ID.String()
	}
	return v.show(page{Title: "Messages", Path: toOutbox, Live: !d.paged}, outboxBody(d))
}

func (d outboxData) older() templ.SafeURL {
	if d.next == "" {
		return ""
	}
	return with(toOutbox, "state", d.state, "before", d.next)
}

func (c *Console) retryMessage(v *visit) error {
	id, err := uuid.Parse(v.r.PathValue("message"))
	if err != nil || c.Outbox == nil {
		return problem.New(problem.NotFound, "message-unknown", "There is no such message.").WithMend("Choose one from the list.")
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := c.Outbox.RetryAs(ctx, c.DB, c.Guard, v.who(), id); err != nil {
		return err
	}
	return v.seeOther(toOutbox)
}

func messageState(s notify.State) state {
	switch s {
	case notify.Accepted:
		return state{ok, "Accepted"}
	case notify.Indeterminate:
		return state{warn, "Indeterminate"}
	case notify.Failed:
		return state{bad, "Failed"}
	case notify.Expired:
		return state{bad, "Expired"}
	case notify.Sending:
		return state{info, "Being sent"}
	}
	return state{idle, "Waits"}
}

func retryable(m notify.Notification) bool {
	return !m.Wiped && (m.State == notify.Failed || m.State == notify.Indeterminate || m.State == notify.Expired)
}

func templateWord(m notify.Notification) string {
	return strings.ReplaceAll(string(m.Template), "-", " ")
}

// currentIf marks the chosen one of some links.
func currentIf(chosen bool) templ.Attributes {
	if chosen {
		return templ.Attributes{"aria-current": "true"}
	}
	return nil
}

func hexAll(b []byte) string { return hex.EncodeToString(b) }

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// installation is whose keyset belongs to no organisation.
var installation = uuid.Nil
