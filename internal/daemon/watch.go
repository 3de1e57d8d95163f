package daemon

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/console"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
)

// lookout is what this process sees of the fleet, and what it holds for others.
type lookout struct {
	planned *fleet.Planned
	watcher *fleet.Service
	history *probe.History
	rules   verdict.Rules
	custody *survivor.Custody
	window  *fleet.Window
	tell    chan struct{} // the plan in force may be another
	deposit chan struct{} // who takes over from this node may be another
	left    chan struct{} // somebody left something for this node

	backings backings
	told     time.Time // when survivors were last told how far this node has come
}

// makeLookout makes what watches the fleet. Without a member there is nothing
// to watch from.
func (d *Daemon) makeLookout(ctx context.Context) (err error) {
	m := d.Member()
	if m == nil {
		return nil
	}
	d.tell, d.deposit, d.left = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	d.planned = fleet.NewPlanned(m.Store(), d.log, d.planChanged)
	if err := d.planned.Read(ctx); err != nil {
		d.log.Warn("the plan that the fleet watches by was not read", "error", err)
	}
	if d.history, err = probe.OpenHistory(probe.HistoryOptions{Path: filepath.Join(FleetDir(d.config.DataDir), "history"), Log: d.log}); err != nil {
		return err
	}
	env, err := d.probeEnv(m)
	if err != nil {
		return err
	}
	d.watcher, err = fleet.New(fleet.Options{Member: m, Plan: d.planned.File, Env: env, History: d.history, Look: lookBySSH, Doors: d.doors(), Rules: d.rules, Log: d.log})
	if err != nil {
		return err
	}
	d.custody = survivor.New(survivor.Options{Member: m, Dir: filepath.Join(FleetDir(d.config.DataDir), "survivors"), Plan: d.planned.Plan, Clock: d.clock, Log: d.log})
	d.window = &fleet.Window{Service: d.watcher, Custody: d.custody, May: func(ctx context.Context, p principal.Principal, action policy.Action, target string) error {
		return d.desk.May(ctx, p, action, target)
	}}
	return nil
}

// planChanged is called when the fleet watches by another plan.
func (d *Daemon) planChanged() {
	kick(d.deposit)
	if d.watcher != nil {
		if err := d.watcher.Replan(); err != nil {
			d.log.Error("the probes of the plan cannot all be watched", "error", err)
		}
	}
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// probeEnv is what probes need from this node.
func (d *Daemon) probeEnv(m *member.Member) (env probe.Env, err error) {
	env.Now = d.clock
	if env.Roots, err = x509.SystemCertPool(); err != nil {
		env.Roots = x509.NewCertPool()
	}
	if d.authority != nil {
		env.Roots.AddCert(d.authority.cert)
	}
	env.Address = func(node string) (string, bool) {
		n, err := m.Node(d.life, node)
		if err != nil {
			return "", false
		}
		host := hostOf(n)
		return host, host != ""
	}
	if d.backups != nil {
		env.Backup = d.newestBackup
	}
	return env, nil
}

// hostOf is where a node of the fleet can be reached.
func hostOf(n member.Node) string {
	for _, a := range []string{n.Addresses.Join, n.Addresses.Peers, n.Addresses.Clients} {
		if host, _, err := net.SplitHostPort(a); err == nil && host != "" {
			return host
		}
	}
	return ""
}

// lookBySSH looks at a node by a door that Foundry does not serve. Where
// nothing ever answered there, it accuses nobody.
func lookBySSH(n member.Node) []probe.Spec {
	host := hostOf(n)
	if ip := net.ParseIP(host); host == "" || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return []probe.Spec{{Kind: "ssh", Target: net.JoinHostPort(host, "22")}}
}

// doors are where the others look at this node beside its place in the fleet:
// where its clients come in. A loss needs a kind of signal that does not end
// with a lease.
func (d *Daemon) doors() []fleet.Door {
	if !d.Gateway() {
		return nil
	}
	_, port, _ := net.SplitHostPort(d.httpsAddress())
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	return []fleet.Door{{Kind: probe.HTTPS, Port: uint16(n)}}
}

// newestBackup answers for the backups that this platform makes.
func (d *Daemon) newestBackup(ctx context.Context, _ string) (probe.Backup, error) {
	known, err := d.backups.Measured(ctx)
	if err != nil {
		return probe.Backup{}, err
	}
	b := probe.Backup{At: known.Proven, Proven: !known.Proven.IsZero()}
	if !b.Proven {
		b.Words = "no restore has been proven yet"
	}
	return b, nil
}

// The elections of who enters what into the audit log. They are two: one whom
// another work of this process holds is never won, and nothing would be entered.
const (
	anchorsActs   = "anchor"
	anchorsLosses = "anchor-losses"
)

// anchorLosses enters what the fleet confirmed into the audit log and raises
// the alarms, once: one gateway at a time does it for all.
func (d *Daemon) anchorLosses(ctx context.Context) error {
	term, err := d.Member().LeadFor(ctx, anchorsLosses, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = term.Resign(context.WithoutCancel(ctx)) }()
	for {
		if d.db.Healthy() {
			if err := d.watcher.Anchor(ctx, term, d.anchorLoss); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-term.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
	}
}

// anchorLoss enters a confirmed loss, or its end, into the audit log, and
// raises its alarm with it.
func (d *Daemon) anchorLoss(ctx context.Context, c fleet.Confirmed) error {
	act, alarm := "fleet.lost", "fleet-lost"
	if c.Ended {
		act = "fleet.back"
	}
	other, outside := verdict.IsOutside(c.Verdict.Subject)
	if outside {
		act = strings.Replace(act, ".", ".outside.", 1)
	}
	signals := make([]map[string]any, 0, len(c.Verdict.For))
	for _, o := range c.Verdict.For {
		signals = append(signals, map[string]any{"observer": o.Observer, "signal": o.Signal, "code": o.Code, "since": o.Since.UTC()})
	}
	details := map[string]any{"id": c.ID, "at": c.At.UTC(), "leader": c.By, "epoch": c.Epoch, "state": c.Verdict.State, "why": c.Verdict.Words, "signals": signals}
	severity := d.severityOfLoss(ctx, c.Verdict.Subject)
	return d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		if err := audit.Append(ctx, tx, principal.Node("fleet"), uuid.Nil, act, c.Verdict.Subject, details); err != nil || c.Ended {
			return err
		}
		facts := map[string]string{"lost": c.Verdict.Subject, "why": c.Verdict.Words, "since": c.Verdict.Since.UTC().Format(time.RFC3339), "next": "foundry fleet status"}
		if outside {
			alarm = outsideAlarm(other)
			facts["lost"] = "seen from outside: the fleet " + other + " does not answer"
			facts["next"] = "Tell its people: they may not know. Nothing of this fleet is concerned, and nothing follows from it there."
		}
		_, err := d.outbox.Alarm(ctx, tx, severity, alarm, uuid.Nil, facts)
		return err
	})
}

// outsideAlarm is the code of the alarm about another fleet: each has its own,
// so that one that is away does not keep another's alarm back.
func outsideAlarm(name string) string {
	code := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name), "-")
	return strings.TrimRight("outside-"+code[:min(len(code), 48)], "-")
}

const (
	tellEvery    = 30 * time.Second
	depositEvery = time.Minute
	lookEvery    = 10 * time.Minute
)

// runLookout watches until ctx ends.
func (d *Daemon) runLookout(ctx context.Context) {
	if d.watcher == nil {
		return
	}
	d.running.Go(func() { d.planned.Run(ctx) })
	d.running.Go(func() {
		if err := d.watcher.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the fleet is not watched any more", "error", err)
		}
	})
	if d.plans != nil {
		d.running.Go(func() { repeat(ctx, tellEvery, d.tell, "the fleet was not told which plan is in force", d.tellPlan, d) })
	}
	if d.Gateway() {
		d.running.Go(func() {
			repeat(ctx, time.Second, nil, "what the fleet confirmed is not in the audit log yet", d.anchorLosses, d)
		})
		d.running.Go(func() {
			repeat(ctx, depositEvery, d.deposit, "what survivors need was not deposited", d.leaveForSurvivors, d)
		})
		d.running.Go(func() { d.custody.FollowPeers(ctx, func() { kick(d.deposit) }) })
	}
	if !slices.Contains(d.Member().Roles(), member.Witness) {
		d.running.Go(func() {
			repeat(ctx, lookEvery, d.left, "what other nodes left here was not looked at", d.lookAtWhatIsHeld, d)
		})
		d.running.Go(func() { d.custody.Follow(ctx, func() { kick(d.left) }) })
		d.running.Go(func() { d.lookAtBackings(ctx) })
	}
}

// repeat does something now, then again and again, and soon after a kick. What
// fails is tried again after a short while, and told once until it succeeds.
func repeat(ctx context.Context, every time.Duration, kicked <-chan struct{}, failed string, do func(context.Context) error, d *Daemon) {
	for told := false; ctx.Err() == nil; {
		next := every
		if err := do(ctx); err != nil && ctx.Err() == nil {
			if !told {
				d.log.Warn(failed, "error", err)
			}
			told, next = true, min(every, 5*time.Second)
		} else {
			told = false
		}
		select {
		case <-ctx.Done():
		case <-kicked:
		case <-time.After(next):
		}
	}
}

// tellPlan tells the fleet which plan is in force, so that nodes without a
// database watch by it.
func (d *Daemon) tellPlan(ctx context.Context) error {
	if !d.db.Healthy() {
		return nil // the fleet has what was told last
	}
	r, err := d.plans.Effective(ctx)
	if err != nil || r == nil {
		return err
	}
	return fleet.PublishPlan(ctx, d.Member().Store(), r.Hash, r.ID.String(), *r.Since, []byte(r.Text), r.Books)
}

// leaveForSurvivors seals what survivors of this node need to those whom the
// plan names.
func (d *Daemon) leaveForSurvivors(ctx context.Context) error {
	if d.planned.Plan() == nil {
		return nil
	}
	parts, err := d.survivorParts(ctx)
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range parts {
			clear(p.Body)
		}
	}()
	done, err := d.custody.Deposit(ctx, parts)
	if err != nil {
		return err
	}
	if now := d.clock(); done.Changed() || now.Sub(d.told) >= noteEvery {
		if err := d.noteForSurvivors(ctx); err != nil {
			return err
		}
		d.told = now
	}
	if !done.Changed() {
		return nil
	}
	d.log.Info("deposited what survivors of this node need", "sealed", done.Sealed, "withdrawn", done.Withdrawn, "absent", done.Absent)
	for _, node := range done.Withdrawn {
		d.alarm(notify.Warning, "survivor-withdrawn", uuid.Nil, map[string]string{"node": node, "why": "it held what is needed to take over, and the plan no longer names it", "next": "foundry keys rewrap --new"})
	}
	return nil
}

// lookAtWhatIsHeld opens what others left for this node, and says what it
// lacks besides.
func (d *Daemon) lookAtWhatIsHeld(ctx context.Context) error {
	return d.custody.Look(ctx, d.lacks(ctx), d.backings.found())
}

// lacks lists what a recovery on this machine would miss.
func (d *Daemon) lacks(ctx context.Context) (out []string) {
	for _, p := range []struct{ program, does string }{{"pgbackrest", "restores the database"}, {"restic", "restores files"}} {
		if _, err := exec.LookPath(p.program); err != nil {
			out = append(out, fmt.Sprintf("%s is not installed there, which %s: run `make setup` there", p.program, p.does))
		}
	}
	if err := db.HasServer(ctx, d.config.Database.BinDir); err != nil {
		out = append(out, "no PostgreSQL server that Foundry can run is installed there: run `make setup` there")
	}
	return out
}

// functionsDown are the functions of the plan that this node would go around
// now: messages do not go by a channel that depends on one of them.
func (d *Daemon) functionsDown() (out []string) {
	if d.watcher == nil {
		return nil
	}
	for _, f := range d.watcher.Picture().Functions {
		if f.Looked && f.Verdict.Avoid() {
			out = append(out, f.Name)
		}
	}
	return out
}

// consoleFleet is the fleet for the console.
func (d *Daemon) consoleFleet() *console.Fleet {
	if d.watcher == nil {
		return nil
	}
	return &console.Fleet{Picture: d.watcher.Picture, Status: d.Member().Status, Readiness: d.window.Ready, Confirmed: d.watcher.Confirmed, Database: d.consoleDatabase}
}

// closeLookout keeps what was remembered.
func (d *Daemon) closeLookout() {
	if d.history != nil {
		if err := d.history.Close(); err != nil {
			d.log.Warn("the history of probes was not written", "error", err)
		}
	}
}
