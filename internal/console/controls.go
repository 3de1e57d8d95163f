package console

import (
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/problem"
)

func (c *Console) controlRoutes() []Route {
	return []Route{
		{Pattern: "GET " + toControls, Action: "controls.list", do: c.controls},
		{Pattern: "POST " + toControls + "/run", Action: "controls.run", do: c.runControls},
		{Pattern: "GET " + toControls + "/{control}", Action: "controls.read", do: c.control},
		{Pattern: "POST " + toControls + "/{control}/run", Action: "controls.run", do: c.runControls},
	}
}

var errNoControls = problem.New(problem.Unavailable, "controls-away", "Controls are not kept on this node.").WithMend("Ask a gateway node.")

type controlsData struct {
	v     *visit
	board []evidence.Status
	state string
	count map[evidence.State]int
}

func (c *Console) controls(v *visit) error {
	if c.Controls == nil {
		return errNoControls
	}
	ctx, cancel := v.ctx()
	defer cancel()
	board, err := c.Controls.Board(ctx)
	if err != nil {
		return err
	}
	d := controlsData{v: v, state: v.r.URL.Query().Get("state"), count: map[evidence.State]int{}}
	for _, s := range board {
		d.count[s.State]++
		if d.state == "" || string(s.State) == d.state {
			d.board = append(d.board, s)
		}
	}
	return v.show(page{Title: "Controls", Path: toControls, Live: true}, controlsBody(d))
}

// runControls runs one control, or every one that a machine checks.
func (c *Console) runControls(v *visit) error {
	if c.RunControls == nil {
		return errNoControls
	}
	var ids []string
	to := templ.SafeURL(toControls)
	if id := v.r.PathValue("control"); id != "" {
		ids, to = []string{id}, controlLink(id)
	}
	ctx, cancel := v.ctx()
	defer cancel()
	if _, err := c.RunControls(ctx, v.who(), ids); err != nil {
		return err
	}
	return v.seeOther(to)
}

func controlLink(id string) templ.SafeURL { return templ.SafeURL(toControls + "/" + id) }

type controlData struct {
	v       *visit
	status  evidence.Status
	history []evidence.Observation
	next    string
	paged   bool
	away    bool
}

const historyPage = 25

func (c *Console) control(v *visit) error {
	if c.Controls == nil {
		return errNoControls
	}
	ctx, cancel := v.ctx()
	defer cancel()
	d := controlData{v: v}
	var err error
	if d.status, err = c.Controls.Show(ctx, v.r.PathValue("control")); err != nil {
		return err
	}
	before := uuid.Nil
	if text := v.r.URL.Query().Get("before"); text != "" {
		if before, err = uuid.Parse(text); err != nil {
			return problem.New(problem.Invalid, "cursor", "That is not a page of this list.")
		}
		d.paged = true
	}
	d.history, err = evidence.History(ctx, c.DB, d.status.ID, before, historyPage+1)
	if d.away = away(err); err != nil && !d.away {
		return err
	}
	if len(d.history) > historyPage {
		d.history = d.history[:historyPage]
		d.next = d.history[historyPage-1].ID.String()
	}
	p := page{Title: d.status.ID + " " + d.status.Title, Path: toControls, Live: before == uuid.Nil, Crumbs: []crumb{{"Controls", toControls}}}
	p.Notice = map[string]string{"attested": "The statement is signed and recorded."}[v.r.URL.Query().Get("done")]
	return v.show(p, controlBody(d))
}

// controlState is how a control stands: one of the five statuses.
func controlState(s evidence.Status) state {
	if s.Running {
		return state{info, "Running"}
	}
	return standing(s.State)
}

func standing(s evidence.State) state {
	switch s {
	case evidence.Passing:
		return state{ok, "Passes"}
	case evidence.Failing:
		return state{bad, "Fails"}
	case evidence.Unclear:
		return state{warn, "Inconclusive"}
	}
	return state{idle, "Overdue"}
}

func resultState(r evidence.Result) state {
	switch r {
	case evidence.Pass:
		return state{ok, "Pass"}
	case evidence.Fail:
		return state{bad, "Fail"}
	}
	return state{warn, "Inconclusive"}
}

func stateLink(s string) templ.SafeURL { return with(toControls, "state", s) }

// freshText says until when what was seen counts.
func freshText(s evidence.Standing, now time.Time) string {
	switch {
	case s.Until.IsZero():
		return "no evidence yet"
	case now.After(s.Until):
		return "out of date since " + age(now.Sub(s.Until))
	}
	return "counts for " + age(s.Until.Sub(now)) + " more"
}

func joinedList(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, "; ")
}

func olderEvidence(d controlData) templ.SafeURL {
	if d.next == "" {
		return ""
	}
	return with(toControls+"/"+d.status.ID, "before", d.next)
}
