package governance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// States of a register's entry.
const (
	Current   = "current"
	Soon      = "soon"    // lapses within its notice, or thirty days
	Lapsed    = "lapsed"  // overdue
	Undated   = "undated" // nothing says when: never counts as current
	soonAhead = 30 * 24 * time.Hour
)

// Due is an entry of the registers, and how it stands.
type Due struct {
	plan.Entry
	Done  time.Time `json:"done_at,omitzero"` // when somebody last said that it was done
	By    string    `json:"done_by,omitempty"`
	Note  string    `json:"note,omitempty"`
	Due   time.Time `json:"due_at,omitzero"`
	State string    `json:"state"`
}

// Register lists everything in the plan in force that lapses or comes round,
// what has lapsed first.
func (g *Plans) Register(ctx context.Context, p principal.Principal) ([]Due, error) {
	if err := g.o.Guard.Authorise(ctx, p, "plan.read", policy.Resource{}); err != nil {
		return nil, err
	}
	_, read, err := g.current(ctx)
	if err != nil {
		return nil, err
	}
	return g.register(ctx, read, g.o.Clock())
}

// ActionRegister lists what exercises and incidents left to be done and is not
// done: the part of the registers that a plan does not write. It needs no plan.
func (g *Plans) ActionRegister(ctx context.Context, p principal.Principal) ([]Due, error) {
	if err := g.o.Guard.Authorise(ctx, p, "exercise.read", policy.Resource{}); err != nil {
		return nil, err
	}
	return registerOf(&plan.Plan{}, nil, g.actions(ctx), g.o.Clock()), nil
}

// confirmed is what was last done of what comes round.
func (g *Plans) confirmed(ctx context.Context) (done map[string]confirmation, err error) {
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		done, err = selectConfirmations(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading what was confirmed: %w", err)
	}
	return done, nil
}

func (g *Plans) register(ctx context.Context, read *plan.Plan, now time.Time) ([]Due, error) {
	done, err := g.confirmed(ctx)
	if err != nil {
		c, err := g.copyFor(err)
		if err != nil {
			return nil, err
		}
		return registerOf(read, c.Confirmed, c.Actions, now), nil
	}
	return registerOf(read, done, g.actions(ctx), now), nil
}

// registerOf is the register of a plan, with what was done besides.
func registerOf(read *plan.Plan, done map[string]confirmation, actions []Action, now time.Time) []Due {
	out := []Due{}
	for _, e := range withActions(read.Register(), actions) {
		c := done[e.Key]
		d := Due{Entry: e, Done: c.Done, By: c.Actor, Note: c.Note, Due: e.Due(c.Done)}
		d.State = stateOf(&d, now)
		out = append(out, d)
	}
	rank := func(d Due) int { return slices.Index([]string{Lapsed, Undated, Soon, Current}, d.State) }
	slices.SortStableFunc(out, func(a, b Due) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		if c := a.Due.Compare(b.Due); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return out
}

func stateOf(d *Due, now time.Time) string {
	ahead := soonAhead
	if d.Notice.Known() {
		ahead = max(ahead, d.Notice.Longest())
	}
	if d.Every.Known() {
		ahead = min(ahead, d.Every.Longest()/4) // a daily check-in is not due soon all the time
	}
	if d.Kind == kindAction {
		ahead = actionAhead
	}
	switch {
	case d.Due.IsZero():
		return Undated
	case !now.Before(d.Due):
		return Lapsed
	case !now.Before(d.Due.Add(-ahead)):
		return Soon
	}
	return Current
}

// NewConfirmation says that something of the registers was done.
type NewConfirmation struct {
	Entry string    `json:"entry" doc:"Key of the entry, as the register lists it."`
	Done  time.Time `json:"done_at,omitzero" doc:"When; now when left out."`
	Note  string    `json:"note,omitempty" doc:"What shows it: where the minutes lie, who took part."`
}

// Confirm notes that something that comes round was done. What expires by a
// date is renewed in the plan itself.
func (g *Plans) Confirm(ctx context.Context, p principal.Principal, n NewConfirmation) (Due, error) {
	if len(n.Note) > 1000 {
		return Due{}, problem.New(problem.Invalid, "plan-confirmation", "The note is too long.").WithField("note").WithMend("Use at most 1000 characters.")
	}
	now := g.o.Clock()
	if n.Done.IsZero() {
		n.Done = now
	}
	if n.Done.After(now.Add(time.Minute)) {
		return Due{}, problem.New(problem.Invalid, "plan-confirmation", "It cannot have been done in the future.").WithField("done_at").WithMend("Say when it was done.")
	}
	if err := g.o.Guard.Authorise(ctx, p, "plan.confirm", policy.Resource{}); err != nil {
		return Due{}, err
	}
	_, read, err := g.stored(ctx)
	if err != nil {
		return Due{}, err
	}
	entries := read.Register()
	i := slices.IndexFunc(entries, func(e plan.Entry) bool { return e.Key == n.Entry })
	switch {
	case i < 0 && strings.HasPrefix(n.Entry, kindAction+" "):
		return Due{}, problem.New(problem.Conflict, "plan-entry-action", "This is an action that an exercise or an incident left.").WithField("entry").WithMend("Say that it is done where it is from: `foundry exercise action` or `foundry incident action`.")
	case i < 0:
		return Due{}, problem.New(problem.NotFound, "plan-entry", fmt.Sprintf("The registers have no entry %q.", n.Entry)).WithField("entry").WithMend("`foundry plan register` lists them.")
	case !entries[i].Until.IsZero():
		return Due{}, problem.New(problem.Conflict, "plan-entry-dated", "This entry ends on a date that the plan gives.").WithField("entry").WithMend("Renew it, and hand in the plan with the new date.")
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := insertConfirmation(ctx, tx, n, p.String()); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "plan.confirm", n.Entry, map[string]any{"done_at": n.Done.UTC()})
	})
	if err != nil {
		return Due{}, err
	}
	all, err := g.register(ctx, read, now)
	if err != nil {
		return Due{}, err
	}
	return all[slices.IndexFunc(all, func(d Due) bool { return d.Key == n.Entry })], nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	if strings.Contains(many, "%d") {
		return fmt.Sprintf(many, n)
	}
	return many
}

func join(names []string) string {
	const most = 4
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
