package exercise

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

type timeline = incident.Timeline

// Action is something that an exercise left to be done.
type Action struct {
	ID    string    `json:"id"`
	Title string    `json:"title"`
	Owner string    `json:"owner"`
	Due   time.Time `json:"due"`
	Done  time.Time `json:"done_at,omitzero"`
	Words string    `json:"words,omitempty"` // what shows that it is done, or why it was put off
	By    string    `json:"changed_by,omitempty"`
}

// maxActions bounds what one exercise leaves to be done.
const maxActions = 200

// closeAnyway is by when gaps are closed where the plan does not say.
const closeAnyway = 90 * 24 * time.Hour

// leaves makes actions of what an exercise found: of its gaps, with the owner
// and day that people gave them, and of every target and line that was missed.
func leaves(r *Record, e *Held, owner string, inForce *plan.Plan) ([]Action, error) {
	within, of := closeAnyway, owner
	if inForce != nil {
		for i, d := range governance.ExerciseDuties(inForce, e.Of, string(e.Mode)) {
			if d.Close.Known() && (i == 0 || d.Close.Longest() < within) {
				within = d.Close.Longest()
			}
			of = cmp.Or(of, d.Owner)
		}
		of = cmp.Or(of, inForce.Organisation.Owner)
		if owner != "" && inForce.Person(owner) == nil {
			return nil, problem.New(problem.Invalid, "exercise-owner", fmt.Sprintf("The plan in force names nobody %q.", owner)).WithField("owner").WithMend("Name a person of the plan.")
		}
	}
	var out []Action
	e.ToDo = map[string]string{}
	add := func(id, title, by string, due time.Time) {
		if due.IsZero() {
			due = r.Ended.Add(within)
		}
		if title == "" {
			title = id
		}
		e.ToDo[id] = title
		out = append(out, Action{ID: id, Title: title, Owner: cmp.Or(by, of), Due: due})
	}
	for i, g := range r.Gaps {
		add(fmt.Sprintf("gap-%d", i+1), g.Says, g.Owner, g.Due)
	}
	for i := range r.Measures {
		if m := &r.Measures[i]; m.Aimed && !m.Kept() {
			result, aim, _ := m.Words()
			add("target-"+m.Name, fmt.Sprintf("Target %s: %s, %s.", m.Name, result, aim), "", time.Time{})
		}
	}
	for i, says := range e.Failed {
		add(fmt.Sprintf("line-%d", i+1), "Was not so: "+says, "", time.Time{})
	}
	if e.Outcome == Aborted && len(out) == 0 {
		add("again", "Hold the exercise again: it did not come to its end.", "", time.Time{})
	}
	if len(out) > maxActions {
		return nil, changed(fmt.Sprintf("It found %d things that were missing; %d are the most.", len(out), maxActions))
	}
	for _, x := range out {
		if x.Owner == "" || len(x.Owner) > 200 {
			return nil, problem.New(problem.Invalid, "exercise-owner", "Nobody owns what was missing: "+x.Title).WithField("owner").WithMend("Name who does with --owner, or write an owner at the duty in the plan.")
		}
	}
	return out, nil
}

// bound reports whether the timeline holds the digest of the record.
func bound(r *Record, timelines map[string]*timeline) bool {
	digest := r.Digest()
	own := timelines[r.ID]
	for i := range own.Entries {
		if a, ok := own.Entries[i].Read().(*incident.Act); ok && a.Act == ActEnded && a.Facts[FactRecord] == digest {
			return true
		}
	}
	return false
}

func page(r *Record, timelines map[string]*timeline) ([]byte, error) {
	var out bytes.Buffer
	err := Page(&out, r, timelines)
	return out.Bytes(), err
}

// Open are the actions that are not done, for the registers of the plan.
func (a *Archive) Open(ctx context.Context) (out []governance.Action, err error) {
	all, err := a.all(ctx)
	for _, h := range all {
		for _, x := range h.Actions {
			if x.Done.IsZero() {
				out = append(out, governance.Action{Key: "exercise " + h.ID + "/" + x.ID, Of: "exercise " + h.ID, Title: x.Title, Owner: x.Owner, Due: x.Due})
			}
		}
	}
	return out, err
}

// ActionChange is what is said of an action.
type ActionChange struct {
	Done  bool      `json:"done,omitempty" doc:"It is done."`
	Owner string    `json:"owner,omitempty" doc:"Who does it from now on."`
	Due   time.Time `json:"due,omitzero" doc:"Until when it is put off."`
	Words string    `json:"words" maxLength:"1000" doc:"What shows that it is done, or why it was changed."`
}

// Do says that an action is done, is put off, or is somebody else's.
func (a *Archive) Do(ctx context.Context, p principal.Principal, id, action string, c ActionChange) (Action, error) {
	if err := a.o.Guard.Authorise(ctx, p, "exercise.run", policy.Resource{ID: id}); err != nil {
		return Action{}, err
	}
	bad := func(field, detail, mend string) error {
		return problem.New(problem.Invalid, "exercise-action", detail).WithField(field).WithMend(mend)
	}
	now := a.o.Clock()
	switch {
	case c.Words == "" || len(c.Words) > 1000:
		return Action{}, bad("words", "Nothing says what shows it, or why.", "Say in 1 to 1000 characters what shows that it is done, or why it is changed.")
	case !c.Done && c.Due.IsZero() && c.Owner == "":
		return Action{}, bad("done", "Nothing is changed.", "Say that it is done, until when it is put off, or who owns it.")
	case !c.Due.IsZero() && !c.Due.After(now):
		return Action{}, bad("due", "An action has a day ahead of it.", "Name a day to come.")
	}
	err := a.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		x, err := selectActionForChange(ctx, tx, id, action)
		if err != nil {
			return err
		}
		if !x.Done.IsZero() {
			return problem.New(problem.Conflict, "exercise-action-done", "The action is done already.").WithMend("`foundry exercise actions` lists the open ones.")
		}
		x.Owner, x.Words, x.By = cmp.Or(c.Owner, x.Owner), c.Words, p.String()
		if !c.Due.IsZero() {
			x.Due = c.Due
		}
		if c.Done {
			x.Done = now
		}
		if err := insertActionChange(ctx, tx, id, &x); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "exercise.run", id, map[string]any{"action": action, "done": c.Done, "due": x.Due.UTC(), "owner": x.Owner})
	})
	if err != nil {
		return Action{}, err
	}
	if a.o.Changed != nil {
		a.o.Changed()
	}
	h, err := a.held(ctx, id)
	for _, x := range h.Actions {
		if x.ID == action {
			return x, err
		}
	}
	return Action{}, err
}
