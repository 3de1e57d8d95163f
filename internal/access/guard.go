package access

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Guard decides whether somebody may do something, and audits every denial.
// Safe for concurrent use. A nil Guard denies everything.
type Guard struct {
	engine *policy.Engine
	db     *db.DB
	clock  func() time.Time
	mode   string

	window    time.Duration // in which equal denials become one entry
	mu        sync.Mutex
	repeated  map[denial]*repetition
	closed    bool
	unaudited atomic.Int64
}

// denial is what makes two denials equal.
type denial struct {
	actor        string
	organisation uuid.UUID
	action       policy.Action
	target, code string
}

// repetition counts the denials that are not in the audit log yet.
type repetition struct {
	by       principal.Principal
	decision policy.Decision
	times    int
	timer    *time.Timer
}

const (
	repeatWindow  = time.Second
	maxRepeated   = 10_000          // distinct denials counted at a time; further ones are written one by one
	denialTimeout = 2 * time.Second // how long a denied caller waits for its entry when the database is away
)

// CodeAway is the refusal of what needs the database, to who signed in while
// it was down.
const CodeAway = "session-away"

// NewGuard makes a guard. mode is development or production.
func NewGuard(e *policy.Engine, d *db.DB, clock func() time.Time, mode string) *Guard {
	return &Guard{engine: e, db: d, clock: clock, mode: mode, window: repeatWindow, repeated: map[denial]*repetition{}}
}

// Decide answers without a trace: for what a page shows, never for an act.
func (g *Guard) Decide(p principal.Principal, action policy.Action, r policy.Resource) policy.Decision {
	if g == nil {
		return policy.Decision{Code: policy.CodeFault, Policy: policy.DefaultPolicy, Reason: "There are no policies."}
	}
	if p.Away && !action.Away() {
		return policy.Decision{Code: CodeAway, Policy: policy.DefaultPolicy, Reason: "The database is down, and this session was opened without it."}
	}
	return g.engine.Decide(policy.Request{Principal: p, Action: action, Resource: r, Now: g.clock(), Mode: g.mode})
}

// Engine returns the policies in force.
func (g *Guard) Engine() *policy.Engine { return g.engine }

// Mode is development or production.
func (g *Guard) Mode() string { return g.mode }

// Authorise returns nil when the policies allow it, and otherwise a
// *problem.Error that says which policy denied it and which role would do. A
// denial is in the audit log when Authorise returns; of equal denials within a
// second the first is, and one entry counts the others.
func (g *Guard) Authorise(ctx context.Context, p principal.Principal, action policy.Action, r policy.Resource) error {
	d := g.Decide(p, action, r)
	if d.Allowed {
		return nil
	}
	denied := refusal(p, action, d)
	if g == nil {
		return denied
	}
	if err := g.record(ctx, p, action, r, d); err != nil {
		return denied.Wrap(err) // denied all the same; the entry is tried again
	}
	return denied
}

// refusal is what the caller is told.
func refusal(p principal.Principal, action policy.Action, d policy.Decision) *problem.Error {
	switch d.Code {
	case CodeAway:
		return problem.New(problem.Denied, d.Code, fmt.Sprintf("%s is not possible now: the database is down, and your session was opened without it, for incidents, recoveries, the fleet and its state only.", action)).
			WithMend("Sign in again when the database is back.")
	case policy.CodeStepUp:
		return problem.New(problem.Denied, d.Code, fmt.Sprintf("%s needs a second factor shown within the last %d minutes (policy %q).",
			action, int(policy.StepUpAge.Minutes()), d.Policy)).WithMend("Confirm with your passkey or code, and try again.")
	case policy.CodeDenied:
		e := problem.New(problem.Denied, d.Code, fmt.Sprintf("%s is denied by the policy %q: %s", action, d.Policy, d.Reason)).
			WithMend("No role allows this.")
		switch {
		case d.Policy == "client-data-needs-a-grant" || d.Policy == "client-audit-log-needs-a-grant":
			e.Mend = "Ask for a grant with `foundry grant request`; somebody else has to approve it."
			if d.HasNearest {
				e.Mend += fmt.Sprintf(" In the organisation itself the role %s would do.", d.Nearest)
			}
		case d.Elsewhere:
			e.Mend = fmt.Sprintf("The role %s in that organisation would allow it: ask its administrator.", d.Nearest)
		case d.HasNearest:
			e.Mend = fmt.Sprintf("The role %s would allow it: ask whoever gives roles.", d.Nearest)
		}
		switch {
		case p.Kind == principal.Local && d.HasNearest:
			e.Mend = fmt.Sprintf("Sign in as a person with the role %s: `foundry login`. If nobody can: `foundry breakglass open`.", d.Nearest)
		case p.Session == principal.Emergency && d.HasNearest && d.Nearest.Platform():
			e.Mend = fmt.Sprintf("The scope of this emergency session does not reach so far: the role %s would. Open one with another: `foundry breakglass open --help`.", d.Nearest)
		}
		return e
	}
	return problem.New(problem.Denied, d.Code, fmt.Sprintf("%s is denied: %s", action, d.Reason)).WithMend("Tell whoever runs this platform.")
}

// record brings a denial into the audit log, or counts it with an equal one
// of the same second.
func (g *Guard) record(ctx context.Context, p principal.Principal, action policy.Action, r policy.Resource, d policy.Decision) error {
	k := denial{p.String(), p.Organisation, action, r.ID, d.Code}
	g.mu.Lock()
	known := g.repeated[k]
	if known != nil && !g.closed {
		known.times++
		g.mu.Unlock()
		return nil
	}
	if known = nil; !g.closed && len(g.repeated) < maxRepeated {
		known = &repetition{by: p, decision: d}
		known.timer = time.AfterFunc(g.window, func() { _ = g.write(context.Background(), k) })
		g.repeated[k] = known
	}
	g.mu.Unlock()
	err := g.deny(ctx, k, p, d, 1)
	if err == nil {
		return nil
	}
	if known == nil {
		g.unaudited.Add(1)
		return err
	}
	g.mu.Lock()
	known.times++
	g.mu.Unlock()
	return err
}

// deny writes one entry. A caller that hangs up does not get away without it.
func (g *Guard) deny(ctx context.Context, k denial, p principal.Principal, d policy.Decision, times int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), denialTimeout)
	defer cancel()
	details := map[string]any{"code": d.Code, "policy": d.Policy}
	if d.HasNearest {
		details["nearest_role"] = d.Nearest.String()
	}
	if times > 1 {
		details["times"] = times
	}
	return audit.Deny(ctx, g.db, p, k.organisation, string(k.action), k.target, details)
}

// write enters what was counted of a denial, and counts on until a window
// passes without one.
func (g *Guard) write(ctx context.Context, k denial) error {
	g.mu.Lock()
	r := g.repeated[k]
	if r == nil || r.times == 0 {
		delete(g.repeated, k)
		g.mu.Unlock()
		return nil
	}
	times := r.times
	r.times = 0
	g.mu.Unlock()
	err := g.deny(ctx, k, r.by, r.decision, times)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.closed:
		r.timer.Reset(g.window)
		if err != nil {
			r.times += times // tried again at the end of the next window
		}
	case err != nil:
		g.unaudited.Add(int64(times))
	}
	return err
}

// Unaudited is how many denials could not be entered into the audit log.
func (g *Guard) Unaudited() int64 { return g.unaudited.Load() }

// Close enters what was counted. The guard still decides afterwards, and
// audits each denial by itself.
func (g *Guard) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	var keys []denial
	for k, r := range g.repeated {
		r.timer.Stop()
		keys = append(keys, k)
	}
	g.mu.Unlock()
	var errs []error
	for _, k := range keys {
		errs = append(errs, g.write(ctx, k))
	}
	return errors.Join(errs...)
}
