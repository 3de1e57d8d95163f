package daemon

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
)

// incidents are what this process keeps and does of them.
type incidents struct {
	book      *incident.Book
	incident  *incident.Window
	teller    *notify.Outbox // tells people with or without a database
	watch     *incident.Watch
	post      *incident.Post
	calledFor map[string]bool // incidents that need no call any more
}

// Incidents are where people work on them; nil: this node keeps none.
func (d *Daemon) Incidents() *incident.Window { return d.incident }

// makeIncidents makes the book in the fleet's store. Whoever belongs to a fleet
// has one; the database may be down.
func (d *Daemon) makeIncidents(context.Context) error {
	m := d.Member()
	if m == nil {
		return nil
	}
	signer, err := evidence.OpenSigner(filepath.Join(d.config.DataDir, "evidence"), d.keyring.Seal, d.keyring.Open)
	if err != nil {
		return err
	}
	d.book = &incident.Book{Store: m.Store(), Node: m.Name(), Clock: d.clock, Authorise: func(ctx context.Context, p principal.Principal, act policy.Action, on policy.Resource) error {
		if d.guard != nil {
			return d.guard.Authorise(ctx, p, act, on)
		}
		return d.desk.May(ctx, p, act, on.ID)
	}}
	d.incident = &incident.Window{Book: d.book, Plan: d.planned.Plan, Signer: signer,
		Large: &incident.Keep{Dir: filepath.Join(d.config.DataDir, "incidents"), Node: m.Name(), Seal: d.keyring.Seal, Open: d.keyring.Open}}
	if d.teller = d.outbox; d.teller == nil {
		if d.teller, err = notify.New(notify.Options{Config: d.config.Mail, Channels: d.config.Notify, Clock: d.clock, Down: d.functionsDown}); err != nil {
			return err
		}
	}
	began := time.Now() // the counter is of this process, and nobody can set it
	d.watch = &incident.Watch{Book: d.book, Log: d.log, Tell: d.tellClock, Counter: func() time.Duration { return time.Since(began) }}
	d.post = &incident.Post{Book: d.book, Log: d.log, Send: d.postNotice}
	d.calledFor = map[string]bool{}
	return nil
}

// The elections of who tells, and who anchors: apart from that of the fleet's
// leader, who may be a witness that reaches nobody.
const (
	tellsIncidents   = "incident-tells"
	anchorsIncidents = "incident-anchors"
)

const (
	incidentEvery = 3 * time.Second
	anchorWithin  = time.Minute
	callAfter     = 15 * time.Second // for which the alarm of a loss has time to be raised
)

// runIncidents works until ctx ends.
func (d *Daemon) runIncidents(ctx context.Context) {
	if d.book == nil {
		return
	}
	changed := make(chan struct{}, 1)
	stop := d.watcher.WatchRuled(func(verdict.Verdict) { kick(changed) })
	context.AfterFunc(ctx, stop)
	d.running.Go(func() {
		repeat(ctx, incidentEvery, changed, "what the fleet holds is not in an incident yet", d.openForLosses, d)
	})
	if d.teller.CanTell() || d.Gateway() {
		d.running.Go(func() { repeat(ctx, incidentEvery, nil, "nobody is told of incidents", d.tellOfIncidents, d) })
	}
	if d.Gateway() {
		d.running.Go(func() {
			repeat(ctx, incidentEvery, nil, "incidents are not anchored in the audit log yet", d.anchorIncidents, d)
		})
	}
}

// openForLosses brings what the fleet holds into the timelines, while this node
// leads the fleet.
func (d *Daemon) openForLosses(ctx context.Context) error {
	if _, leads := d.watcher.Term(); !leads {
		return nil
	}
	p := d.watcher.Picture()
	if !p.Majority {
		return nil
	}
	var held []verdict.Verdict
	for _, n := range p.Nodes {
		held = append(held, n.Verdict)
	}
	for _, f := range p.Functions {
		if f.Looked {
			held = append(held, f.Verdict)
		}
	}
	opened, err := d.book.Ruled(ctx, d.planned.Plan(), held)
	for _, id := range opened {
		d.log.Warn("an incident was opened", "incident", id, "next", "foundry incident show "+id)
	}
	return err
}

// tellOfIncidents watches the clocks and sends notices while this node is the
// one that tells.
func (d *Daemon) tellOfIncidents(ctx context.Context) error {
	term, err := d.Member().LeadFor(ctx, tellsIncidents, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = term.Resign(context.WithoutCancel(ctx)) }()
	for {
		for what, do := range map[string]func(context.Context) error{"clocks": d.watch.Tick, "notices": d.post.Tick, "calls": d.callForIncidents, "calls that were taken": d.noteTaken} {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				d.log.Debug("incidents", "what", what, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-term.Done():
			return nil
		case <-time.After(incidentEvery):
		}
	}
}

// anchorIncidents puts the heads of timelines into the audit log: soon after
// the database is back, and every minute.
func (d *Daemon) anchorIncidents(ctx context.Context) error {
	term, err := d.Member().LeadFor(ctx, anchorsIncidents, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = term.Resign(context.WithoutCancel(ctx)) }()
	last := time.Time{}
	for was := false; ; {
		healthy := d.db.Healthy()
		if healthy && (!was || time.Since(last) >= anchorWithin) {
			if n, err := d.book.Anchor(ctx, d.db); err != nil {
				return err
			} else if n > 0 {
				d.log.Info("incidents were anchored in the audit log", "timelines", n)
			}
			last = time.Now()
		}
		was = healthy
		select {
		case <-ctx.Done():
			return nil
		case <-term.Done():
			return nil
		case <-time.After(incidentEvery):
		}
	}
}

// callForIncidents calls whoever is on call for a new incident, once. Of a loss
// the gateways raise an alarm that calls; only where it waits for a database
// that is away does the call go out without it.
func (d *Daemon) callForIncidents(ctx context.Context) error {
	all, _, err := d.book.All(ctx)
	if err != nil {
		return err
	}
	var waiting []fleet.Confirmed
	for _, t := range all {
		s := t.State
		if t.Stale || !s.ClosedAt.IsZero() || s.Mode != incident.Real || d.calledFor[s.ID] || s.Once[onceCalled] != 0 {
			continue
		}
		if s.OpenedBy == principal.Node("fleet").String() {
			if d.clock().Sub(s.OpenedAt) < callAfter {
				continue
			}
			if waiting == nil {
				if waiting, err = d.watcher.Confirmed(ctx); err != nil {
					return err
				}
				waiting = append(waiting, fleet.Confirmed{})
			}
			if !slices.ContainsFunc(waiting, func(c fleet.Confirmed) bool { return !c.Ended && lossOf(t, c.Verdict.Subject) }) {
				d.calledFor[s.ID] = true // the alarm of the loss was raised
				continue
			}
		}
		if err := d.callFor(ctx, s); err != nil {
			d.log.Debug("nobody was called for an incident yet", "incident", s.ID, "error", err)
		}
	}
	return nil
}

// onceCalled names the act that says that people were called.
const onceCalled = "called"

// lossOf says whether an incident has a loss of a subject.
func lossOf(t *incident.Timeline, subject string) bool {
	for i := range t.Entries {
		if a, ok := t.Entries[i].Read().(*incident.Act); ok && a.Act == incident.ActLost && a.Target == subject {
			return true
		}
	}
	return false
}

// severityOfLoss is how loud the alarm of a loss is: people who were called for
// its incident while the database was away are not called again.
func (d *Daemon) severityOfLoss(ctx context.Context, subject string) notify.Severity {
	if d.book == nil {
		return notify.Critical
	}
	all, _, err := d.book.All(ctx)
	if err != nil {
		return notify.Critical
	}
	for _, t := range all {
		if t.State.ClosedAt.IsZero() && t.State.Once[onceCalled] != 0 && lossOf(t, subject) {
			return notify.Warning
		}
	}
	return notify.Critical
}

// noteTaken writes into the timelines who took a call that was raised for them.
func (d *Daemon) noteTaken(ctx context.Context) error {
	if d.outbox == nil || !d.db.Healthy() {
		return nil
	}
	all, _, err := d.book.All(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		s := t.State
		if t.Stale || !s.ClosedAt.IsZero() {
			continue
		}
		pages, err := d.outbox.Taken(ctx, d.db, []string{"fleet-lost", alarmOfIncident(s.ID)}, s.OpenedAt.Add(-time.Minute))
		if err != nil {
			return err
		}
		for _, p := range pages {
			once := "page/" + p.ID.String()
			if s.Once[once] != 0 || p.Code == "fleet-lost" && s.OpenedBy != principal.Node("fleet").String() {
				continue
			}
			a := &incident.Act{Act: "call.taken", Target: p.Code, Outcome: "taken", Words: "Taken by " + p.By + " at " + p.Taken.UTC().Format(time.RFC3339) + ".", Once: once, Facts: map[string]string{"call": p.ID.String(), "by": p.By}}
			if _, _, err := d.book.Enter(ctx, principal.Node("incident"), s.ID, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// alarmOfIncident is the code of an incident's own alarm.
func alarmOfIncident(id string) string {
	id = strings.ToLower(id)
	return "incident." + id[:min(len(id), 50)]
}

// stableID makes one id of a name for good.
func stableID(name string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("foundry:incident:"+name))
}
