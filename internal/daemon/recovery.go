package daemon

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// recoveries are what this process does of them: it carries out orders to its
// node, leads while it leads the fleet, and lets people look and speak.
type recoveries struct {
	executor *recovery.Executor
	agent    *order.Agent
	recovery *recovery.Desk

	wentOn      map[string]bool // recoveries after whose restore this node's audit log goes on
	ownDesk     *recovery.Desk  // of what starts by itself: nobody has asked for it
	selfStarted map[string]bool // incident and recovery plan, as far as this process knows
}

// makeRecovery makes them. Whoever belongs to a fleet has them; the database may
// be down.
func (d *Daemon) makeRecovery(context.Context) error {
	m := d.Member()
	if m == nil {
		return nil
	}
	orders := &order.Desk{Store: m.Store()}
	// What the executor writes into a timeline nobody has asked for but itself.
	book := &incident.Book{Store: m.Store(), Node: m.Name(), Clock: d.clock, Authorise: func(_ context.Context, p principal.Principal, _ policy.Action, _ policy.Resource) error {
		if p.Kind == principal.System {
			return nil
		}
		return problem.New(problem.Denied, "recovery-not-itself", "This book is the executor's own.")
	}}
	doers := d.doers(orders)
	d.executor = &recovery.Executor{Store: m.Store(), Book: book, Node: m.Name(), Plan: d.planned.Plan, Doers: doers, Clock: time.Now, Log: d.log}
	env, err := d.probeEnv(m)
	if err != nil {
		return err
	}
	prober := &recovery.Prober{Store: m.Store(), Node: m.Name(), Env: func() probe.Env { return env }}
	kinds, again := prober.Carries()
	d.carries(kinds, again)
	d.agent = &order.Agent{Store: m.Store(), Node: m.Name(), Dir: filepath.Join(FleetDir(d.config.DataDir), "orders"), Kinds: kinds, Again: again, Plan: recovery.PlanOf(m.Store()), Clock: d.clock, Log: d.log}
	d.recovery = &recovery.Desk{Store: m.Store(), Book: d.book, Plan: d.planned.Plan, Clock: d.clock, Doers: doers, Who: d.personOfPlan, Measured: d.measuredIfKnown, Audit: d.auditRecovery,
		May: func(ctx context.Context, p principal.Principal, act policy.Action, target string) error {
			if d.guard != nil {
				return d.guard.Authorise(ctx, p, act, policy.Resource{ID: target})
			}
			return d.desk.May(ctx, p, act, target)
		}}
	own := *d.recovery
	own.Book, own.May = book, func(_ context.Context, p principal.Principal, _ policy.Action, _ string) error {
		if p.Kind == principal.System {
			return nil
		}
		return problem.New(problem.Denied, "recovery-not-itself", "This desk is the executor's own.")
	}
	d.ownDesk, d.selfStarted, d.wentOn = &own, map[string]bool{}, map[string]bool{}
	return nil
}

// doers do the steps of recoveries, by their kind. What is in none of the maps
// people do.
func (d *Daemon) doers(orders *order.Desk) map[string]recovery.Doer {
	out := map[string]recovery.Doer{
		"confirm":  recovery.Confirm(),
		"notify":   recovery.Notify(),
		"review":   recovery.Review(),
		"watch":    recovery.Watch(d.lostAgain),
		"validate": recovery.Validate(orders, d.clientAddress),
	}
	maps.Copy(out, d.worldDoers(orders))
	maps.Copy(out, d.databaseDoers(orders))
	maps.Copy(out, d.patroniDoers())
	return out
}

// carries adds what this node does by orders, and which of it may be begun
// again.
func (d *Daemon) carries(kinds map[string]order.Carry, again map[string]bool) {
	maps.Copy(kinds, d.worldCarries())
	maps.Copy(again, worldAgain())
	maps.Copy(kinds, d.databaseCarries())
	maps.Copy(again, databaseAgain())
}

// lostAgain says whether the fleet holds that a function is lost.
func (d *Daemon) lostAgain(function string) (string, bool) {
	v, known := d.watcher.Ruled(verdict.Function(function))
	return v.Words, known && v.State == verdict.Lost
}

// personOfPlan says which person of a plan has signed in.
func (d *Daemon) personOfPlan(ctx context.Context, p principal.Principal, of *plan.Plan) (string, error) {
	if d.people == nil {
		return "", nil
	}
	var accounts []string
	for i := range of.People {
		if a := of.People[i].Account; a != "" {
			accounts = append(accounts, a)
		}
	}
	named := d.people.Named
	if d.door.Away() {
		named = d.door.Named
	}
	known, err := named(ctx, accounts)
	if err != nil {
		return "", err
	}
	for i := range of.People {
		if a := of.People[i].Account; a != "" && known[a] == p.String() {
			return of.People[i].Name, nil
		}
	}
	return "", nil
}

// measuredIfKnown is what drills have measured, where the database can be asked.
func (d *Daemon) measuredIfKnown(ctx context.Context, p *plan.Plan) plan.Measured {
	if d.db == nil || !d.db.Healthy() {
		return plan.Measured{}
	}
	m, err := d.measuredForPlan(ctx, p)
	if err != nil {
		return plan.Measured{}
	}
	return m
}

// auditRecovery enters what somebody did into the audit log, where that can be
// reached; the timeline, which has it in any case, is anchored there later.
func (d *Daemon) auditRecovery(ctx context.Context, p principal.Principal, act, target string, details map[string]any) {
	if d.db == nil || !d.db.Healthy() {
		return
	}
	if err := d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return audit.Append(ctx, tx, p, uuid.Nil, act, target, details) }); err != nil {
		d.log.Warn("an act of a recovery is in its incident and not in the audit log; the incident's anchor will be", "act", act, "error", err)
	}
}

// runRecovery works until ctx ends.
func (d *Daemon) runRecovery(ctx context.Context) {
	if d.executor == nil {
		return
	}
	d.running.Go(func() {
		if err := d.agent.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("this node carries no orders of recoveries out", "error", err)
		}
	})
	d.running.Go(func() { repeat(ctx, time.Second, nil, "recoveries are not led", d.leadRecoveries, d) })
	d.running.Go(func() {
		repeat(ctx, time.Second, nil, "a recovery that starts by itself has not started", d.startAutomatic, d)
	})
	if d.Gateway() {
		d.running.Go(func() {
			repeat(ctx, 2*time.Second, nil, "the audit log does not go on from the restored database", d.auditGoesOn, d)
		})
	}
}

// leadRecoveries carries recoveries out for as long as this node leads the
// fleet.
func (d *Daemon) leadRecoveries(ctx context.Context) error {
	term, leads := d.watcher.Term()
	if !leads {
		return nil
	}
	return d.executor.Lead(ctx, term)
}

// clientAddress is where clients reach a node, where that is configured.
func (d *Daemon) clientAddress(node string) string {
	if all := d.config.Continuity.DNS.Addresses[node]; len(all) > 0 {
		return all[0]
	}
	return ""
}

// startAutomatic starts, while this node leads the fleet, what the plan says
// starts by itself: the recovery plans of an incident that a confirmed loss has
// opened, as long as the loss lasts. Twice is once: an incident has one run of a
// plan.
func (d *Daemon) startAutomatic(ctx context.Context) error {
	if _, leads := d.watcher.Term(); !leads {
		return nil
	}
	p := d.planned.Plan()
	if p == nil || !slices.ContainsFunc(p.Recovery, func(r plan.RecoveryPlan) bool { return r.Starts == "automatic" }) {
		return nil
	}
	all, _, err := d.book.All(ctx)
	if err != nil {
		return err
	}
	var bad error
	for _, t := range all {
		s := t.State
		if t.Stale || !s.ClosedAt.IsZero() || s.OpenedBy != principal.Node("fleet").String() || !d.lossLasts(s) {
			continue
		}
		for i := range p.Scenarios {
			if !d.happened(s, &p.Scenarios[i]) {
				continue
			}
			for _, name := range p.Scenarios[i].Recovery {
				bad = errors.Join(bad, d.startByItself(ctx, p.RecoveryPlan(name), s, p.Scenarios[i].Name))
			}
		}
	}
	return bad
}

// happened says whether an incident is a scenario of the plan: the one that it
// was opened as, or, where a function was missed before the node that took it
// along, the one that loses what is lost now.
func (d *Daemon) happened(s *incident.State, sc *plan.Scenario) bool {
	if s.Scenario != "" {
		return s.Scenario == sc.Name
	}
	return slices.ContainsFunc(sc.Loses, func(name string) bool {
		if !slices.Contains(s.Scope.Nodes, name) && !slices.Contains(s.Scope.Functions, name) {
			return false
		}
		return d.heldLost(verdict.Node(name)) || d.heldLost(verdict.Function(name))
	})
}

func (d *Daemon) heldLost(subject string) bool {
	v, known := d.watcher.Ruled(subject)
	return known && v.State == verdict.Lost
}

// lossLasts says whether something that an incident is about is still held to
// be lost.
func (d *Daemon) lossLasts(s *incident.State) bool {
	return slices.ContainsFunc(s.Scope.Nodes, func(n string) bool { return d.heldLost(verdict.Node(n)) }) ||
		slices.ContainsFunc(s.Scope.Functions, func(f string) bool { return d.heldLost(verdict.Function(f)) })
}

func (d *Daemon) startByItself(ctx context.Context, rp *plan.RecoveryPlan, s *incident.State, scenario string) error {
	if rp == nil || rp.Starts != "automatic" || d.selfStarted[s.ID+" "+rp.Name] {
		return nil
	}
	_, mine, err := d.ownDesk.Start(ctx, principal.Node("recovery"), recovery.Start{Plan: rp.Name, Incident: s.ID, Scenario: scenario, Words: "The plan says that it starts by itself."})
	if err != nil {
		return err
	}
	d.selfStarted[s.ID+" "+rp.Name] = true
	if mine {
		d.log.Warn("a recovery has started by itself", "incident", s.ID, "plan", rp.Name)
	}
	return nil
}
