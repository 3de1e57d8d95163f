package governance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/plan/lint"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Standing is how the plan stands, on one page.
type Standing struct {
	At       time.Time      `json:"at"`
	Plan     *Revision      `json:"plan,omitempty"` // in force; nil: there is none
	Waiting  []Revision     `json:"waiting"`        // for approval
	Reviews  []Review       `json:"reviews"`        // the open ones first
	Findings []lint.Finding `json:"findings"`       // of the plan in force, now
	Singles  []plan.Single  `json:"single_points_of_failure"`
	Margins  []plan.Margin  `json:"margins"`
	Due      []Due          `json:"due"`                 // what of the registers has lapsed, lapses soon or has no date
	Measured plan.Measured  `json:"measured"`            // what stands in for assumptions
	Weakest  string         `json:"weakest"`             // the weakest point, in one sentence
	Copied   *time.Time     `json:"copied_at,omitempty"` // only while the database is away: of when this node's copy is
}

// Review is a look at the plan that a change asks for.
type Review struct {
	ID      uuid.UUID  `json:"id"`
	Because []string   `json:"because"`
	Opened  time.Time  `json:"opened_at"`
	Due     time.Time  `json:"due_at"`
	Closed  *time.Time `json:"closed_at,omitempty"`
	By      string     `json:"closed_by,omitempty"`
	Finding string     `json:"finding,omitempty"`
}

// Standing says how the plan stands.
func (g *Plans) Standing(ctx context.Context, p principal.Principal) (s Standing, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "plan.read", policy.Resource{}); err != nil {
		return s, err
	}
	return g.standing(ctx)
}

func (g *Plans) standing(ctx context.Context) (s Standing, err error) {
	s = Standing{At: g.o.Clock().UTC(), Waiting: []Revision{}, Findings: []lint.Finding{}, Singles: []plan.Single{}, Margins: []plan.Margin{}, Due: []Due{}}
	var all []Revision
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		if all, err = selectRevisions(ctx, tx); err != nil {
			return err
		}
		s.Reviews, err = selectReviews(ctx, tx)
		return err
	})
	if err != nil {
		c, err := g.copyFor(fmt.Errorf("reading the plan's revisions: %w", err))
		if err != nil {
			return s, err
		}
		s.Plan, s.Reviews, s.Copied = &c.Revision, c.Reviews, &c.At
		return s, g.judge(&s, c.read, c.Measured, c.Confirmed, c.Actions)
	}
	for i := range all {
		switch all[i].State {
		case Waiting:
			s.Waiting = append(s.Waiting, all[i])
		case InForce:
			s.Plan = &all[i]
		}
	}
	if s.Plan == nil {
		s.Weakest = "There is no plan: nobody has approved one."
		return s, nil
	}
	read, err := g.parse(ctx, s.Plan.ID)
	if err != nil {
		return s, err
	}
	done, err := g.confirmed(ctx)
	if err != nil {
		return s, err
	}
	return s, g.judge(&s, read, g.measured(ctx, read), done, g.actions(ctx))
}

// judge says how a plan that was read stands.
func (g *Plans) judge(s *Standing, read *plan.Plan, m plan.Measured, done map[string]confirmation, actions []Action) error {
	s.Measured = m
	s.Findings = lint.Check(read, lint.Options{Now: s.At, Measured: m}).Findings
	s.Singles = append(s.Singles, read.Singles(m)...)
	s.Margins = read.Margins(m, s.At)
	s.Due = slices.DeleteFunc(registerOf(read, done, actions, s.At), func(d Due) bool { return d.State == Current })
	s.Weakest = weakest(s)
	return nil
}

// weakest names the plan's weakest point: what takes most down alone, else
// the objective that is missed by most, else the worst finding.
func weakest(s *Standing) string {
	var worst *plan.Margin
	for i := range s.Margins {
		if m := &s.Margins[i]; worst == nil || m.Worst() > worst.Worst() {
			worst = m
		}
	}
	switch {
	case len(s.Singles) > 0:
		one := s.Singles[0]
		return fmt.Sprintf("If %s is lost, %s down with nothing to carry %s: %s.", one.Thing, plural(len(one.Functions), "1 critical function is", "%d critical functions are"), plural(len(one.Functions), "it", "them"), join(one.Functions))
	case worst != nil && worst.Worst() > 1:
		return fmt.Sprintf("%s would miss its objectives if it failed now.", worst.Function)
	case len(s.Findings) > 0:
		return s.Findings[0].Message
	}
	return "Nothing in the plan is known to be weak."
}

// List lists every revision, the newest first.
func (g *Plans) List(ctx context.Context, p principal.Principal) (out []Revision, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "plan.read", policy.Resource{}); err != nil {
		return nil, err
	}
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		out, err = selectRevisions(ctx, tx)
		return err
	})
	return out, err
}

// Show shows a revision with its text, its findings now, what it changes and
// who has read it. The nil id is the plan in force.
func (g *Plans) Show(ctx context.Context, p principal.Principal, id uuid.UUID) (r Revision, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "plan.read", policy.Resource{ID: id.String()}); err != nil {
		return r, err
	}
	if id == uuid.Nil {
		var read *plan.Plan
		if r, read, err = g.current(ctx); err != nil {
			return r, err
		}
		if r.Copied != nil {
			g.fill(&r, read, plan.Measured{})
			return r, nil
		}
		id = r.ID
	}
	_, before, after, err := g.around(ctx, id)
	if err != nil {
		if c, e := g.copyFor(err); e == nil && c.Revision.ID == id {
			g.fill(&c.Revision, c.read, c.Measured)
			return c.Revision, nil
		}
		return r, err
	}
	if r, err = g.find(ctx, id); err != nil {
		return r, err
	}
	g.fill(&r, after, g.measured(ctx, after))
	if before != nil {
		r.Changes = plan.Diff(before, after)
	}
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		r.Read, err = selectAcknowledgements(ctx, tx, r.Hash)
		return err
	})
	return r, err
}

// fill adds what only one revision is shown with.
func (g *Plans) fill(r *Revision, read *plan.Plan, m plan.Measured) {
	r.Text, r.Books = string(read.Text), map[string]string{}
	for name, text := range read.Books {
		r.Books[name] = string(text)
	}
	r.Findings = lint.Check(read, lint.Options{Now: g.o.Clock(), Measured: m}).Findings
}

// Whatif says what falls with what in the plan in force.
func (g *Plans) Whatif(ctx context.Context, p principal.Principal, lost ...string) (o plan.Outcome, r Revision, read *plan.Plan, err error) {
	if err := g.o.Guard.Authorise(ctx, p, "plan.read", policy.Resource{}); err != nil {
		return o, r, nil, err
	}
	if r, read, err = g.current(ctx); err != nil {
		return o, r, nil, err
	}
	var things []plan.Thing
	for _, name := range lost {
		t, err := read.Thing(name)
		if err != nil {
			return o, r, nil, err
		}
		things = append(things, t)
	}
	return read.Falls(g.measured(ctx, read), things...), r, read, nil
}

// CloseReview says what a review of the plan has found.
func (g *Plans) CloseReview(ctx context.Context, p principal.Principal, id uuid.UUID, finding string) (out Review, err error) {
	if len(finding) < 10 || len(finding) > 2000 {
		return out, problem.New(problem.Invalid, "plan-finding", "It is not said what the review has found.").WithField("finding").WithMend("Say in 10 to 2000 characters what was looked at, and what follows.")
	}
	if err := g.o.Guard.Authorise(ctx, p, "plan.review", policy.Resource{ID: id.String()}); err != nil {
		return out, err
	}
	err = g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := insertReviewResult(ctx, tx, id, p.String(), finding); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, p, uuid.Nil, "plan.review", id.String(), nil); err != nil {
			return err
		}
		out, err = selectReview(ctx, tx, id)
		return err
	})
	return out, err
}

// find reads one revision without its text.
func (g *Plans) find(ctx context.Context, id uuid.UUID) (r Revision, err error) {
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		r, err = selectRevision(ctx, tx, id)
		return err
	})
	return r, err
}

// current is the revision in force, and its plan: this node's copy while the
// database is away.
func (g *Plans) current(ctx context.Context) (Revision, *plan.Plan, error) {
	r, read, err := g.stored(ctx)
	if err == nil || isNone(err) {
		return r, read, err
	}
	c, err := g.copyFor(err)
	if err != nil {
		return r, nil, err
	}
	return c.Revision, c.read, nil
}

// stored is the revision in force by the database, and its plan.
func (g *Plans) stored(ctx context.Context) (r Revision, read *plan.Plan, err error) {
	var all []Revision
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		all, err = selectRevisions(ctx, tx)
		return err
	})
	if err != nil {
		return r, nil, err
	}
	for _, r := range all {
		if r.State == InForce {
			read, err := g.parse(ctx, r.ID)
			return r, read, err
		}
	}
	return r, nil, problem.New(problem.NotFound, "plan-none", "There is no plan in force.").WithMend("Hand one in with `foundry plan submit`, and have it approved.")
}

// around is a revision's plan, and the one it changes: the one that was in
// force when it was handed in, or nil.
func (g *Plans) around(ctx context.Context, id uuid.UUID) (old uuid.UUID, before, after *plan.Plan, err error) {
	err = g.o.DB.Read(ctx, func(tx pgx.Tx) error {
		old, err = selectBefore(ctx, tx, id)
		return err
	})
	if err != nil {
		return old, nil, nil, err
	}
	if after, err = g.parse(ctx, id); err != nil {
		return old, nil, nil, err
	}
	if old != uuid.Nil {
		before, err = g.parse(ctx, old)
	}
	return old, before, after, err
}

// parse opens a revision's plan. Revisions never change, so it is read once.
func (g *Plans) parse(ctx context.Context, id uuid.UUID) (*plan.Plan, error) {
	g.mu.Lock()
	known := g.parsed[id]
	g.mu.Unlock()
	if known != nil {
		return known, nil
	}
	var sealed []byte
	err := g.o.DB.Read(ctx, func(tx pgx.Tx) (err error) {
		sealed, err = selectSealed(ctx, tx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	plain, err := g.o.Vault.Open(ctx, uuid.Nil, place(id), sealed)
	if err != nil {
		return nil, fmt.Errorf("opening a plan: %w", err)
	}
	var c content
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, fmt.Errorf("reading a plan: %w", err)
	}
	read, err := c.parse()
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.parsed[id] = read
	g.mu.Unlock()
	return read, nil
}
