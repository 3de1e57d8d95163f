package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/problem"
)

// Where the fleet keeps which providers of models are taken out of use, and which
// gateways follow that.
const (
	routingOut      = "routing/out/"
	routingFollowed = "routing-followed/"
)

// outOfUse says why a provider is.
type outOfUse struct {
	Run   string    `json:"run"`
	Step  string    `json:"step"`
	Epoch int64     `json:"epoch"`
	Since time.Time `json:"since"`
}

// routesFollowed is what a gateway says it follows.
type routesFollowed struct {
	Out []string `json:"out"`
}

const followWithin = 15 * time.Second // for every gateway that is there

// followRouting keeps this gateway's routes as the fleet says, until ctx ends.
// Without the fleet it goes on with what it knew last.
func (d *Daemon) followRouting(ctx context.Context) {
	s := d.Member().Store()
	if old, _, err := s.ListLocal(ctx, routingOut); err == nil {
		d.gateway.Drain(providersOf(old))
	}
	for ctx.Err() == nil {
		if err := d.routeUntil(ctx, s); err != nil && ctx.Err() == nil {
			d.log.Debug("which providers are out of use is not followed; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// routeUntil follows until the watch ends. What is said to be followed stands
// under this node's presence, which may be another one later: so it is looked at
// now and then, too.
func (d *Daemon) routeUntil(life context.Context, s *member.Store) error {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	all, revision, err := s.List(ctx, routingOut)
	if err != nil {
		return err
	}
	use := func(all []member.Entry) error {
		d.gateway.Drain(providersOf(all))
		lease := d.Member().Presence()
		if lease == nil {
			return nil
		}
		_, err := s.Put(ctx, routingFollowed+d.Member().Name(), routesFollowed{Out: d.gateway.Drained()}, member.Under(lease))
		return err
	}
	if err := use(all); err != nil {
		return err
	}
	events := s.Watch(ctx, routingOut, revision)
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case e, open := <-events:
			if !open {
				return nil
			}
			if e.Err != nil {
				return e.Err
			}
		}
		if all, _, err = s.List(ctx, routingOut); err != nil {
			return err
		}
		if err := use(all); err != nil {
			return err
		}
	}
}

func providersOf(all []member.Entry) (out []string) {
	for _, e := range all {
		out = append(out, strings.TrimPrefix(e.Path, routingOut))
	}
	return out
}

// modelsSwitch says whether a step switches providers of models, and which of
// them it takes out of use: those of the suppliers that the functions stand on.
func (d *Daemon) modelsSwitch(t recovery.Task) (out []string, models bool, err error) {
	to := t.Plan.Supplier(t.Step.Supplier)
	if to == nil || !slices.Contains(to.Provides, "inference") {
		return nil, false, nil
	}
	target, _ := d.config.Continuity.supplierNamed(to.Name)
	var from []string
	add := func(name string) {
		if name != "" && name != to.Name && !slices.Contains(from, name) {
			from = append(from, name)
		}
	}
	for _, name := range t.Functions {
		f := t.Plan.Function(name)
		if f == nil {
			continue
		}
		for _, s := range f.Suppliers {
			add(s)
		}
		for _, h := range f.Host {
			if n := t.Plan.Node(h); n != nil {
				add(n.Supplier)
			}
		}
	}
	for _, name := range from {
		s, _ := d.config.Continuity.supplierNamed(name)
		providers := s.Providers
		if len(providers) == 0 {
			if p := t.Plan.Supplier(name); p == nil || !slices.Contains(p.Provides, "inference") {
				continue
			}
			providers = []string{name}
		}
		for _, p := range providers {
			if !target.Owns(p) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return nil, true, recovery.ByHand(fmt.Sprintf("Which providers of models are to be left for %s is not configured: name them in continuity.suppliers (providers) under %s.", to.Name, strings.Join(from, " or ")))
	}
	return out, true, nil
}

// switchOr switches providers of models on every gateway; what else a switch is
// about, a node does by its own configuration.
func (d *Daemon) switchOr(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	otherwise := onNode(desk, host.Switch)
	return func(ctx context.Context, t recovery.Task) (r recovery.Receipt, err error) {
		out, models, err := d.modelsSwitch(t)
		if !models {
			return otherwise(ctx, t)
		}
		if err != nil {
			return r, err
		}
		for _, p := range out {
			if _, err := t.Term.Put(ctx, routingOut+p, outOfUse{Run: t.Run.ID, Step: t.Step.Name, Epoch: t.Epoch, Since: d.clock().UTC()}); err != nil {
				return r, err
			}
		}
		r.Facts = map[string]string{"out_of_use": strings.Join(out, " "), "to": t.Step.Supplier}
		effects := d.switchEffects(out) // as long as this gateway has not followed yet, or none
		gateways, err := d.followedBy(ctx, t, func(f routesFollowed) bool {
			return !slices.ContainsFunc(out, func(p string) bool { return !slices.Contains(f.Out, p) })
		})
		r.Facts["followed_by"] = strings.Join(gateways, " ")
		for i, e := range effects {
			r.Facts[fmt.Sprintf("effect %03d", i+1)] = effectWords(e)
		}
		if err != nil {
			return r, err
		}
		r.Words = fmt.Sprintf("%s is out of use on %s; requests go on to what each organisation's policy allows.", strings.Join(out, ", "), strings.Join(gateways, ", "))
		return r, nil
	}
}

// failbackOr gives back what switches of this run have taken out of use; what
// else a way back is about, a node does by its own configuration.
func (d *Daemon) failbackOr(desk *order.Desk) func(context.Context, recovery.Task) (recovery.Receipt, error) {
	otherwise := onNode(desk, host.Failback)
	return func(ctx context.Context, t recovery.Task) (r recovery.Receipt, err error) {
		out := switchedOut(t)
		if len(out) == 0 {
			return otherwise(ctx, t)
		}
		back := []string{}
		for _, p := range out {
			v, err := d.store.Get(ctx, routingOut+p)
			if errors.Is(err, member.ErrAbsent) {
				continue
			}
			if err != nil {
				return r, err
			}
			var why outOfUse
			if err := v.Decode(&why); err != nil {
				return r, err
			}
			if why.Run != t.Run.ID {
				continue // another run has taken it out of use meanwhile, and gives it back itself
			}
			if err := t.Term.Delete(ctx, routingOut+p, member.IfRevision(routingOut+p, v.Revision)); err != nil {
				return r, err
			}
			back = append(back, p)
		}
		gateways, err := d.followedBy(ctx, t, func(f routesFollowed) bool {
			return !slices.ContainsFunc(back, func(p string) bool { return slices.Contains(f.Out, p) })
		})
		r.Facts = map[string]string{"given_back": strings.Join(back, " "), "followed_by": strings.Join(gateways, " ")}
		if err != nil {
			return r, err
		}
		r.Words = fmt.Sprintf("%s is in use again on %s.", strings.Join(out, ", "), strings.Join(gateways, ", "))
		return r, nil
	}
}

// switchedOut is what switches of a run have taken out of use.
func switchedOut(t recovery.Task) (out []string) {
	for i := range t.Run.Steps {
		if s := &t.Run.Steps[i]; s.Kind == "switch" && s.Receipt != nil {
			out = append(out, strings.Fields(s.Receipt.Facts["out_of_use"])...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// followedBy waits until every gateway that is there follows.
func (d *Daemon) followedBy(ctx context.Context, t recovery.Task, does func(routesFollowed) bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	for {
		var yes, no []string
		all, _, err := d.store.List(ctx, routingFollowed)
		for _, e := range all {
			var f routesFollowed
			if bad := e.Decode(&f); bad != nil || !does(f) {
				no = append(no, strings.TrimPrefix(e.Path, routingFollowed))
			} else {
				yes = append(yes, strings.TrimPrefix(e.Path, routingFollowed))
			}
		}
		if err == nil && len(no) == 0 && len(yes) > 0 {
			return yes, nil
		}
		t.Progress(order.Progress{Words: "waiting for gateways to follow", Done: int64(len(yes)), Total: int64(len(yes) + len(no)), Unit: "gateways"})
		select {
		case <-ctx.Done():
			if err != nil {
				return yes, err
			}
			if len(no) == 0 {
				return nil, problem.New(problem.Unavailable, "switch-no-gateway", "No gateway of the fleet follows the switch.").WithMend("See `foundry node status`; it is tried again as it stands.")
			}
			return yes, problem.New(problem.Unavailable, "switch-not-followed", "These gateways do not follow the switch: "+strings.Join(no, ", ")+".").WithMend("They follow as soon as they reach the fleet; try the step again then.")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// switchEffects is the dry run, where this process is a gateway.
func (d *Daemon) switchEffects(out []string) []gateway.Effect {
	if d.gateway == nil || d.verifier == nil {
		return nil
	}
	return d.gateway.Switch(d.verifier.Directory().Organisations(), out)
}

func effectWords(e gateway.Effect) string {
	words := fmt.Sprintf("%s, %s: from %s to %s", e.Organisation, e.Model, e.Now, e.Then)
	if e.Then == "" {
		words = fmt.Sprintf("%s, %s: from %s to nobody", e.Organisation, e.Model, e.Now)
	} else {
		words += "; a million tokens cost " + e.Cost
	}
	for _, c := range e.Refused {
		words += fmt.Sprintf("; %s is refused: %s", c.Class, c.Why)
	}
	return words
}

// maxEffects is how many lines a dry run has in a sentence.
const maxEffects = 60

func (d *Daemon) saysSwitch(t recovery.Task) string {
	out, models, err := d.modelsSwitch(t)
	switch {
	case !models:
		return saysOnNode("Switches")(t)
	case err != nil:
		return problem.From(err).Detail
	}
	words := "Takes " + strings.Join(out, ", ") + " out of use on every gateway."
	if d.gateway == nil {
		return words + " What that means for each organisation, a gateway can say."
	}
	effects := d.switchEffects(out)
	if len(effects) == 0 {
		return words + " No request of anybody goes there now."
	}
	for i, e := range effects {
		if i == maxEffects {
			words += fmt.Sprintf("\nand %d more", len(effects)-i)
			break
		}
		words += "\n" + effectWords(e)
	}
	return words
}

func (d *Daemon) saysFailback(t recovery.Task) string {
	if out := switchedOut(t); len(out) > 0 {
		return "Gives " + strings.Join(out, ", ") + " back to every gateway."
	}
	return saysOnNode("Goes back with")(t)
}

// newNodeConfig reads the configuration that a new node gets.
func newNodeConfig(path string) (string, error) {
	if path == "" {
		return "data_dir: /var/lib/foundry\n", nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", problem.New(problem.Invalid, "provision-config", "The configuration of the new node cannot be read: "+path+".").WithField("continuity.suppliers.provision.config").Wrap(err)
	}
	return string(text), nil
}
