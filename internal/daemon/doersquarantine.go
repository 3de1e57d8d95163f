package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

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
