package daemon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

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
