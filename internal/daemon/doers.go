package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// world is what steps of a recovery reach outside of Foundry from this process.
type world struct {
	machine  *host.Host
	mover    *dns.Mover // nil: no zones are configured
	machines map[string]supplier.Machines
	store    *member.Store
	apart    time.Duration // between two readings of a server's power; 0: as usual
}

// tendEvery is how often it is looked whether a machine that is cut off still is.
const tendEvery = 10 * time.Second

// makeWorld opens what the configuration allows. It asks nobody.
func (d *Daemon) makeWorld(context.Context) (err error) {
	c := d.config.Continuity
	d.machine = host.New(host.Options{Config: c.Allow, Dir: filepath.Join(d.config.DataDir, "host"), Doors: d.fleetDoors, Log: d.log, Clock: d.clock})
	d.machines = map[string]supplier.Machines{}
	for _, s := range c.Suppliers {
		m := s.Machines()
		if m == nil {
			continue
		}
		if err := m.Check(); err != nil {
			return problem.From(err).WithField("continuity.suppliers." + s.Name + "." + problem.From(err).Field)
		}
		d.machines[s.Name] = m
	}
	if m := d.Member(); m != nil {
		d.store = m.Store()
	}
	if len(c.DNS.Zones) > 0 {
		if d.mover, err = c.DNS.mover(dns.Options{Log: d.log}); err != nil {
			return problem.From(err).WithField("continuity.dns." + problem.From(err).Field)
		}
	}
	return nil
}

// runWorld keeps up, until ctx ends, what was begun: a quarantine over restarts,
// and providers that are taken out of use.
func (d *Daemon) runWorld(ctx context.Context) {
	d.running.Go(func() { d.machine.Tend(ctx, tendEvery) })
	if d.Member() != nil {
		d.running.Go(func() {
			repeat(ctx, 5*time.Second, nil, "whether this machine may be opened again is not known", d.openAgain, d)
		})
	}
	if d.gateway != nil && d.Member() != nil {
		d.running.Go(func() { d.followRouting(ctx) })
	}
}

// worldDoers do the steps that act outside of Foundry. Kinds of the database
// (restore, promote, the lease of a fence) are not among them.
func (d *Daemon) worldDoers(desk *order.Desk) map[string]recovery.Doer {
	return map[string]recovery.Doer{
		"fence":       {Do: d.fenceByPower, Says: d.saysFence, Again: true},
		"provision":   {Do: d.provision, Says: d.saysProvision, Again: true},
		"dns":         {Do: d.moveNames, Look: d.namesMoved, Says: d.saysNames, Again: true},
		"switch":      {Do: d.switchOr(desk), Says: d.saysSwitch, Again: true},
		"failback":    {Do: d.failbackOr(desk), Says: d.saysFailback, Again: true},
		"start":       {Do: onNode(desk, host.Start), Says: saysOnNode("Starts"), Again: true},
		"rebuild":     {Do: onNode(desk, host.Rebuild), Says: saysOnNode("Rebuilds"), Again: true},
		"certificate": {Do: onNode(desk, host.Certificate), Says: saysOnNode("Brings the certificates to"), Again: true},
		"isolate": {Do: d.isolate(desk), Says: func(t recovery.Task) string {
			return "Cuts off " + strings.Join(concernedNodes(t), ", ") + ", and knocks at its doors from other nodes."
		}, Again: true},
		"capture": {Do: d.capture(desk), Says: func(t recovery.Task) string {
			return "Keeps evidence on " + strings.Join(concernedNodes(t), ", ") + "."
		}, Again: true},
	}
}

// worldCarries do on this node what orders say.
func (d *Daemon) worldCarries() map[string]order.Carry {
	out := map[string]order.Carry{"host.isolate": d.carryIsolate, "host.lift": d.carryLift, "host.capture": d.carryCapture, "host.probe": d.carryProbe}
	for _, act := range []string{host.Start, host.Stop, host.Restart, host.Switch, host.Rebuild, host.Certificate, host.Failback} {
		out["host."+act] = func(ctx context.Context, o order.Order, progress func(order.Progress)) (map[string]string, string, error) {
			did, err := d.machine.Act(ctx, act, fields(o.Args["functions"]), func(words string, done, total int) {
				progress(order.Progress{Words: words, Done: int64(done), Total: int64(total), Unit: "steps"})
			})
			facts, words := map[string]string{}, []string{}
			for i, one := range did {
				facts[fmt.Sprintf("%02d", i+1)] = strings.TrimSpace(fmt.Sprintf("%s: %s %s", one.What, one.Words, one.After))
				words = append(words, one.What)
			}
			return facts, act + ": " + strings.Join(words, ", "), err
		}
	}
	return out
}

// worldAgain are the kinds of orders whose effect is the same as of once.
func worldAgain() map[string]bool {
	return map[string]bool{"host.isolate": true, "host.lift": true, "host.capture": true, "host.probe": true}
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == '\n' })
}

// give has an order carried out, and shows how far it is. What a node's own
// configuration does not allow people do.
func give(ctx context.Context, desk *order.Desk, t recovery.Task, node, kind string, args map[string]string) (order.Answer, error) {
	a, err := desk.GiveTold(ctx, t.Term, t.Order(node, kind, args), func(a order.Answer) {
		if a.Progress != nil {
			t.Progress(*a.Progress)
		}
	})
	if err == nil {
		return a, nil
	}
	switch a.Code {
	case "host-nothing-allowed", "host-quarantine-not-allowed", "host-capture-not-allowed", "host-program-absent", "host-compose-absent", "order-kind":
		return a, recovery.ByHand(node + ": " + a.Words)
	}
	return a, err
}

// onNode does an act by an order to the node of the step.
func onNode(desk *order.Desk, act string) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	return func(ctx context.Context, t recovery.Task) (recovery.Receipt, error) {
		node := t.Node()
		if node == "" {
			return recovery.Receipt{}, recovery.ByHand("The plan does not say on which node this is done.")
		}
		a, err := give(ctx, desk, t, node, "host."+act, map[string]string{"functions": strings.Join(t.Functions, "\n")})
		return recovery.Receipt{Words: a.Words, Facts: a.Facts}, err
	}
}

func saysOnNode(verb string) func(recovery.Task) string {
	return func(t recovery.Task) string {
		return fmt.Sprintf("%s what belongs to %s on %s, as that node's own configuration allows.", verb, strings.Join(t.Functions, ", "), t.Node())
	}
}

// concernedNodes are the nodes that a step is about: the one that it names, or
// those that were lost.
func concernedNodes(t recovery.Task) []string {
	if t.Step.Node != "" {
		return []string{t.Step.Node}
	}
	return t.Run.Lost
}
