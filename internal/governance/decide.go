package governance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// errMoved means that another plan came into force since this decision looked.
var errMoved = errors.New("another plan came into force meanwhile")

// decideTries bounds how often a decision looks again: each time, another plan
// came into force.
const decideTries = 10

// Decide approves or rejects a revision. With enough approvals it comes into
// force at once; one rejection ends it.
//
// Where the plan in force names approvers with accounts, they decide on its
// successor: a plan cannot choose its own judges. The first plan, and one whose
// approvers are all gone, is decided on by those it names itself.
func (g *Plans) Decide(ctx context.Context, p principal.Principal, id uuid.UUID, approve bool, reason string) (Revision, error) {
	if len(reason) > 1000 || !approve && len(reason) < 10 {
		return Revision{}, problem.New(problem.Invalid, "plan-reason", "A rejection needs a reason.").WithField("reason").WithMend("Say in 10 to 1000 characters what has to be different.")
	}
	if err := g.o.Guard.Authorise(ctx, p, "plan.decide", policy.Resource{ID: id.String()}); err != nil {
		return Revision{}, err
	}
	if p.Kind == principal.System || p.Kind == principal.Key {
		return Revision{}, problem.New(problem.Denied, "plan-person", "Only a person approves a plan.").WithMend("Sign in.")
	}
	var err error
	for range decideTries {
		if err = g.decide(ctx, p, id, approve, reason); !errors.Is(err, errMoved) {
			break
		}
	}
	if err != nil {
		return Revision{}, err
	}
	r, err := g.find(ctx, id)
	if err == nil && r.State == InForce {
		g.nowInForce(ctx)
	}
	return r, err
}

// decide gives one voice. Plans are opened before the lock is taken, since
// opening one asks the database: whoever waits for the lock holds a connection
// already. Inside, it is made sure that they are still those that count.
func (g *Plans) decide(ctx context.Context, p principal.Principal, id uuid.UUID, approve bool, reason string) error {
	old, before, after, err := g.around(ctx, id)
	if err != nil {
		return err
	}
	r, err := g.find(ctx, id)
	if err != nil {
		return err
	}
	as, err := g.voice(ctx, p, before, after)
	if err != nil && !(r.By == p.String() && !approve) { // one's own may be taken back
		var denied *problem.Error
		if errors.As(err, &denied) && denied.Kind == problem.Denied {
			if e := audit.Deny(ctx, g.o.DB, p, uuid.Nil, "plan.decide", id.String(), map[string]any{"code": denied.Code}); e != nil {
				return e
			}
		}
		return err
	}
	return g.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := lockPlans(ctx, tx); err != nil {
			return err
		}
		if now, err := selectBefore(ctx, tx, id); err != nil || now != old {
			return errors.Join(err, errMoved)
		}
		r, err := selectRevision(ctx, tx, id)
		if err != nil {
			return err
		}
		if r.State != Waiting {
			return problem.New(problem.Conflict, "plan-decided", fmt.Sprintf("The revision is %s.", r.State)).WithField("id").WithMend("Hand in a new one.")
		}
		approvals := 0
		for _, d := range r.Decisions {
			if d.By == p.String() || as != "" && d.As == as {
				return problem.New(problem.Conflict, "plan-voice", "You have decided on this revision already.").WithMend("Somebody else has to.")
			}
			if as == "" || d.As != "" { // a voice from before anybody was named counts no more
				approvals++
			}
		}
		if err := insertDecision(ctx, tx, id, p.String(), as, approve, reason); err != nil {
			return err
		}
		details := map[string]any{"hash": r.Hash, "approved": approve}
		if as != "" {
			details["as"] = as
		}
		if err := audit.Append(ctx, tx, p, uuid.Nil, "plan.decide", id.String(), details); err != nil {
			return err
		}
		if !approve || approvals+1 < max(r.Needs, needs(before, after)) {
			return nil
		}
		return g.enforce(ctx, tx, p, r, before, after)
	})
}

// needs is how many different people a plan needs: as many as it asks for, and
// as the one that it replaces asks for.
func needs(before, after *plan.Plan) int {
	n := max(1, after.Organisation.Approvals)
	if before != nil {
		n = max(n, before.Organisation.Approvals)
	}
	return n
}

// voice says as whom of the plan somebody decides; "" where no plan names
// anybody with an account, and the role alone decides.
func (g *Plans) voice(ctx context.Context, p principal.Principal, plans ...*plan.Plan) (as string, err error) {
	named := false
	for _, read := range plans {
		if read == nil {
			continue
		}
		approvers := read.Approvers()
		found, err := g.principals(ctx, approvers)
		if err != nil {
			return "", err
		}
		named = named || len(approvers) > 0
		if len(found) == 0 {
			continue
		}
		if as := found[p.String()]; as != "" {
			return as, nil
		}
		return "", problem.New(problem.Denied, "plan-approver", "The plan names others to approve it.").WithMend("One of those under organisation.approvers has to sign in with the account that the plan gives them.")
	}
	if named {
		return "", problem.New(problem.Conflict, "plan-approver-none", "Nobody whom the plan names to approve it has an account here.").WithMend("Invite them with `foundry person invite`, or hand in the plan with accounts that exist.")
	}
	return "", nil
}

// principals turns account → name into principal → name, for the accounts that
// somebody active has.
func (g *Plans) principals(ctx context.Context, names map[string]string) (map[string]string, error) {
	if len(names) == 0 || g.o.Accounts == nil {
		return nil, nil
	}
	var accounts []string
	for account := range names {
		accounts = append(accounts, account)
	}
	known, err := g.o.Accounts(ctx, accounts)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for account, who := range known {
		if other := out[who]; other == "" || names[account] < other { // an address and an id may be one account: one voice
			out[who] = names[account]
		}
	}
	return out, nil
}

// nowInForce tells those who look at the plan that there is another one.
func (g *Plans) nowInForce(ctx context.Context) {
	if err := g.keepCopy(ctx); err != nil {
		g.o.Log.Error("the copy of the plan was not written; without the database the one before is shown", "error", err)
	}
	if g.o.InForce != nil {
		g.o.InForce()
	}
}

// reviewWithin is how soon a plan is looked at after a change of nodes,
// suppliers or people, where the plan itself says nothing.
const reviewWithin = 30 * 24 * time.Hour

// enforce puts a revision in force, and opens a review where it changes what
// the rest of the plan stands on.
func (g *Plans) enforce(ctx context.Context, tx pgx.Tx, p principal.Principal, r Revision, before, after *plan.Plan) error {
	if err := insertInForce(ctx, tx, r.ID); err != nil {
		return err
	}
	if err := audit.Append(ctx, tx, p, uuid.Nil, "plan.in-force", r.ID.String(), map[string]any{"hash": r.Hash}); err != nil {
		return err
	}
	if before == nil {
		return nil
	}
	var because []string
	for _, c := range plan.Diff(before, after) {
		if c.Review {
			because = append(because, c.Sentence)
		}
	}
	if len(because) == 0 {
		return nil
	}
	within := reviewWithin
	for _, d := range after.Duties {
		if d.Kind == "plan-review" && d.Within.Known() {
			within = d.Within.Longest()
		}
	}
	return insertReview(ctx, tx, uuid.Must(uuid.NewV7()), r.ID, because, g.o.Clock().Add(within))
}
