package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
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

// fenceByPower switches servers off at their suppliers, and says so only when
// they were read back as off.
func (d *Daemon) fenceByPower(ctx context.Context, t recovery.Task) (out recovery.Receipt, err error) {
	nodes := concernedNodes(t)
	if len(nodes) == 0 {
		return out, recovery.ByHand("Neither the step nor the run says which node is to be fenced.")
	}
	out.Facts = map[string]string{}
	for _, node := range nodes {
		f, err := d.powerOff(ctx, t, node)
		if err != nil {
			return out, err
		}
		out.Fences = append(out.Fences, f)
		for k, v := range f.Facts {
			out.Facts[node+"."+k] = v
		}
	}
	out.Words = "Switched off, and read back as off twice: " + strings.Join(nodes, ", ") + "."
	return out, nil
}

// powerOff is the fence of one node by its supplier.
func (d *Daemon) powerOff(ctx context.Context, t recovery.Task, node string) (recovery.Fence, error) {
	s, server, found := d.config.Continuity.supplierOf(node)
	m := d.machines[s.Name]
	if !found || m == nil {
		return recovery.Fence{}, recovery.ByHand("No supplier's interface is configured by which " + node + " could be switched off.")
	}
	// What is switched off is switched off under a term that holds now.
	if err := t.Term.Check(ctx); err != nil {
		return recovery.Fence{}, err
	}
	r, err := supplier.SwitchOff(ctx, m, server, supplier.Options{Clock: d.clock, Apart: d.apart})
	switch {
	case errors.Is(err, supplier.ErrBlind), errors.Is(err, supplier.ErrKey):
		return recovery.Fence{}, recovery.ByHand(problem.From(err).Detail)
	case err != nil:
		return recovery.Fence{}, err
	}
	facts := r.Facts()
	facts["supplier"] = s.Name
	return recovery.Fence{Node: node, By: recovery.FencedByPower, Facts: facts}, nil
}

func (d *Daemon) saysFence(t recovery.Task) string {
	var out []string
	for _, node := range concernedNodes(t) {
		if s, server, ok := d.config.Continuity.supplierOf(node); ok {
			out = append(out, fmt.Sprintf("Switches %s off: server %s at %s, and reads it back twice.", node, server, s.Name))
		} else {
			out = append(out, "Cannot switch "+node+" off: no supplier's interface is configured for it.")
		}
	}
	return strings.Join(out, " ")
}

// provision orders a server, and waits until it has joined the fleet.
func (d *Daemon) provision(ctx context.Context, t recovery.Task) (out recovery.Receipt, err error) {
	s, node, err := d.providerOf(t)
	if err != nil {
		return out, err
	}
	cloud, ok := d.machines[s.Name].(*supplier.Cloud)
	if !ok || s.Provision == nil {
		return out, recovery.ByHand(fmt.Sprintf("%s is not ordered by program: order it, start it into the rescue system, run installimage, then `foundry node invite %s` and `foundry node join` on it.", node, node))
	}
	m := d.Member()
	w := s.Provision.Wanted("foundry-"+node, orderName(t), "")
	if _, err := cloud.Find(ctx, w.Name); errors.Is(err, supplier.ErrAbsent) {
		if price, err := cloud.Price(ctx, w); err == nil {
			t.Progress(order.Progress{Words: "ordering " + w.Type + ": " + price.String()})
		}
		if err := t.Term.Check(ctx); err != nil {
			return out, err
		}
		text, err := newNodeConfig(s.Provision.Config)
		if err != nil {
			return out, err
		}
		var roles []member.Role
		for _, r := range s.Provision.RoleNames() {
			roles = append(roles, member.Role(r))
		}
		token, _, err := m.Invite(ctx, "node:recovery", node, roles)
		if err != nil {
			return out, err
		}
		if w.UserData, err = s.Provision.Setup(token, text).UserData(); err != nil {
			return out, err
		}
	}
	server, made, err := cloud.Provide(ctx, w)
	if errors.Is(err, supplier.ErrCost) {
		return out, recovery.ByHand(problem.From(err).Detail)
	}
	if err != nil {
		return out, err
	}
	out.Facts = map[string]string{"supplier": s.Name, "server": server.ID, "name": server.Name, "addresses": strings.Join(server.Addresses, " "), "ordered": strconv.FormatBool(made), "order": w.Order}
	t.Progress(order.Progress{Words: server.Name + " is there; waiting for it to join the fleet"})
	for {
		if n, err := m.Node(ctx, node); err == nil {
			out.Facts["joined_at"] = n.Joined.UTC().Format(time.RFC3339)
			out.Words = fmt.Sprintf("%s was provided by %s and has joined the fleet.", node, s.Name)
			return out, nil
		}
		select {
		case <-ctx.Done():
			out.Words = server.Name + " is there and has not joined the fleet in time."
			return out, problem.New(problem.Timeout, "provision-not-joined", out.Words).WithMend("Look at its log of the first start (/var/log/cloud-init-output.log).")
		case <-time.After(2 * time.Second):
		}
	}
}

// providerOf says who provides which node.
func (d *Daemon) providerOf(t recovery.Task) (s supplier.Config, node string, err error) {
	if node = t.Node(); node == "" {
		return s, "", recovery.ByHand("The plan does not say which node is to be provided.")
	}
	name := t.Step.Supplier
	if n := t.Plan.Node(node); name == "" && n != nil {
		name = n.Supplier
	}
	s, found := d.config.Continuity.supplierNamed(name)
	if !found {
		return s, node, recovery.ByHand(fmt.Sprintf("No interface of the supplier %q is configured: order %s there, and have it join.", name, node))
	}
	return s, node, nil
}

// orderName is what an order is called at a supplier: the same through all
// attempts, and as labels may be.
func orderName(t recovery.Task) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Run.ID+"."+t.Step.Name))
	return strings.Trim(name[:min(len(name), 60)], "-")
}

func (d *Daemon) saysProvision(t recovery.Task) string {
	s, node, err := d.providerOf(t)
	if err != nil {
		return problem.From(err).Detail
	}
	cloud, ok := d.machines[s.Name].(*supplier.Cloud)
	if !ok || s.Provision == nil {
		return "Asks a person to order " + node + " at " + s.Name + "."
	}
	ctx, cancel := context.WithTimeout(d.life, 10*time.Second)
	defer cancel()
	w := s.Provision.Wanted("foundry-"+node, orderName(t), "")
	price, err := cloud.Price(ctx, w)
	if err != nil {
		return fmt.Sprintf("Orders %s in %s at %s. What it costs could not be asked: %s", w.Type, w.Location, s.Name, problem.From(err).Detail)
	}
	words := fmt.Sprintf("Orders %s in %s at %s: %s; %s a month is allowed.", w.Type, w.Location, s.Name, price, w.Most)
	if err := price.Within(w.Most); err != nil {
		words += " It is therefore not ordered, and a person is asked."
	}
	return words
}

// isolate cuts nodes off, and has other nodes knock at their doors.
func (d *Daemon) isolate(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	return func(ctx context.Context, t recovery.Task) (out recovery.Receipt, err error) {
		nodes := concernedNodes(t)
		if len(nodes) == 0 {
			return out, recovery.ByHand("Neither the step nor the run says which node is to be cut off.")
		}
		out.Facts = map[string]string{}
		for _, node := range nodes {
			before := d.knock(ctx, desk, t, node, "before")
			a, err := give(ctx, desk, t, node, "host.isolate", map[string]string{"run": t.Run.ID, "exercise": strconv.FormatBool(t.Run.Mode != incident.Real)})
			if err != nil {
				return out, err
			}
			for k, v := range a.Facts {
				out.Facts[node+"."+k] = v
			}
			after := d.knock(ctx, desk, t, node, "after")
			how, proven := quarantineProof(before, after)
			out.Facts[node+".proof"] = how
			if !proven && len(after) > 0 && strings.Contains(strings.Join(slices.Collect(maps.Values(after)), " "), "=open") {
				return out, problem.New(problem.Conflict, "quarantine-open", node+" says that it is cut off, and other nodes still get in: "+how)
			}
			until, _ := time.Parse(time.RFC3339, a.Facts["until"])
			if _, err := t.Record(ctx, &incident.Quarantine{Node: node, Step: "done", At: d.clock(), Until: until, How: a.Facts["rules"] + "; " + how}); err != nil {
				return out, err
			}
		}
		out.Words = "Cut off: " + strings.Join(nodes, ", ") + "."
		return out, nil
	}
}

// quarantinePorts are knocked at to show that a machine is cut off.
var quarantinePorts = []string{"22", "80", "443", "5432", "8443"}

// knock has up to two other nodes knock at the doors of one; by node, what they
// saw. Nobody answering is no proof, and no failure either.
func (d *Daemon) knock(ctx context.Context, desk *order.Desk, t recovery.Task, node, when string) map[string]string {
	m := d.Member()
	target, err := m.Node(ctx, node)
	if err != nil || hostOf(target) == "" {
		return nil
	}
	var doors []string
	for _, p := range quarantinePorts {
		doors = append(doors, net.JoinHostPort(hostOf(target), p))
	}
	others, err := m.Nodes(ctx)
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for _, n := range others {
		if len(out) == 2 || n.Name == node || slices.Contains(concernedNodes(t), n.Name) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, 20*time.Second)
		o := t.Order(n.Name, "host.probe", map[string]string{"doors": strings.Join(doors, "\n")})
		o.Step, o.ID = o.Step+"."+node+"."+when, o.ID+"."+node+"."+when
		a, err := desk.Give(limited, t.Term, o)
		cancel()
		if err == nil {
			out[n.Name] = a.Facts["seen"]
		}
	}
	return out
}

// quarantineProof says what knocking shows. Doors that were closed before prove
// nothing.
func quarantineProof(before, after map[string]string) (words string, proven bool) {
	var parts []string
	was, is := false, false
	for _, node := range slices.Sorted(maps.Keys(after)) {
		was, is = was || strings.Contains(before[node], "=open"), is || strings.Contains(after[node], "=open")
		parts = append(parts, fmt.Sprintf("%s saw %s before and %s after", node, before[node], after[node]))
	}
	switch {
	case len(parts) == 0:
		return "no other node could knock", false
	case !was:
		parts = append(parts, "nothing was open before, so this proves little")
	}
	return strings.Join(parts, "; "), was && !is
}

// capture keeps evidence on nodes, and enters it into the incident.
func (d *Daemon) capture(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	return func(ctx context.Context, t recovery.Task) (out recovery.Receipt, err error) {
		nodes := concernedNodes(t)
		if len(nodes) == 0 {
			return out, recovery.ByHand("Neither the step nor the run says on which node evidence is to be kept.")
		}
		out.Facts = map[string]string{}
		for _, node := range nodes {
			a, err := give(ctx, desk, t, node, "host.capture", map[string]string{"id": t.Run.ID})
			if err != nil {
				return out, err
			}
			var list []host.Captured
			if err := json.Unmarshal([]byte(a.Facts["captured"]), &list); err != nil {
				return out, problem.New(problem.Upstream, "capture-garbled", node+" did not say what it has kept.").Wrap(err)
			}
			kept := 0
			for i := range list {
				e := evidenceOf(node, list[i])
				if e == nil {
					out.Facts[node+"."+list[i].Name] = "not kept: " + list[i].Failed
					continue
				}
				if _, err := t.Record(ctx, e); err != nil {
					return out, err
				}
				kept++
				out.Facts[node+"."+e.Name] = "sha256 " + e.Hash
			}
			out.Words = strings.TrimSpace(fmt.Sprintf("%s %d of %d kept on %s.", out.Words, kept, len(list), node))
		}
		return out, nil
	}
}

// evidenceOf is a capture as an incident keeps it; nil: nothing was kept. What
// is not whole does not count as the disk or the memory for which a wipe waits.
func evidenceOf(node string, c host.Captured) *incident.Evidence {
	if c.Hash == "" {
		return nil
	}
	e := &incident.Evidence{Name: c.Name, Target: node, Capture: incident.Capture(c.Kind), Hash: c.Hash, Size: c.Size, Place: node + ":" + c.Place, Taken: c.Taken, How: c.How, Checked: c.Checked}
	if c.Cut || c.Failed != "" {
		e.Capture, e.Checked = incident.CaptureOther, false
		e.How += " (not whole)"
	}
	return e
}

func (d *Daemon) carryIsolate(ctx context.Context, o order.Order, _ func(order.Progress)) (map[string]string, string, error) {
	c, err := d.machine.Isolate(ctx, o.Args["run"], o.Args["exercise"] == "true", 0)
	if err != nil {
		return nil, "", err
	}
	return c.Facts(), "cut off", nil
}

func (d *Daemon) carryLift(ctx context.Context, _ order.Order, _ func(order.Progress)) (map[string]string, string, error) {
	return nil, "open again", d.machine.Lift(ctx)
}

func (d *Daemon) carryCapture(ctx context.Context, o order.Order, progress func(order.Progress)) (map[string]string, string, error) {
	list, err := d.machine.Capture(ctx, o.Args["id"], func(words string, done, total int) {
		progress(order.Progress{Words: words, Done: int64(done), Total: int64(total), Unit: "captures"})
	})
	text, bad := json.Marshal(list)
	return map[string]string{"captured": string(text)}, fmt.Sprintf("%d captured", len(list)), errors.Join(err, bad)
}

// carryProbe knocks at doors of nodes of the fleet, and at nothing else.
func (d *Daemon) carryProbe(ctx context.Context, o order.Order, _ func(order.Progress)) (map[string]string, string, error) {
	nodes, err := d.Member().Nodes(ctx)
	if err != nil {
		return nil, "", err
	}
	doors := fields(o.Args["doors"])
	for _, door := range doors {
		at, _, err := net.SplitHostPort(door)
		if err != nil || len(doors) > 20 || !slices.ContainsFunc(nodes, func(n member.Node) bool { return hostOf(n) == at }) {
			return nil, "", problem.New(problem.Denied, "probe-elsewhere", "A node knocks at doors of the fleet's nodes only.")
		}
	}
	var words []string
	for _, s := range host.Look(ctx, doors, 3*time.Second) {
		_, port, _ := net.SplitHostPort(s.Address)
		words = append(words, port+"="+s.How)
	}
	return map[string]string{"seen": strings.Join(words, " ")}, strings.Join(words, " "), nil
}

// fleetDoors are what stays open when this machine is cut off.
func (d *Daemon) fleetDoors(ctx context.Context) (out []host.Door, err error) {
	m := d.Member()
	if m == nil {
		return nil, nil
	}
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		byHost := map[string][]int{}
		for _, a := range []string{n.Addresses.Peers, n.Addresses.Clients, n.Addresses.Join} {
			at, port, err := net.SplitHostPort(a)
			if p, bad := strconv.Atoi(port); err == nil && bad == nil {
				byHost[at] = append(byHost[at], p)
			}
		}
		for at, ports := range byHost {
			if n.Name == m.Name() {
				out = append(out, host.Door{Node: n.Name, Ports: ports})
				continue
			}
			ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", at)
			if err != nil {
				return nil, err
			}
			for _, ip := range ips {
				out = append(out, host.Door{Node: n.Name, Addr: netip.Addr.Unmap(ip), Ports: ports})
			}
		}
	}
	return out, nil
}
