package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/dns"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// defaultTTL is how long others may keep what a recovery moves. A name that is
// moved once may have to be moved again.
const defaultTTL = time.Minute

// keptNames is what a step keeps before it moves anything: what the names said
// before, and what was applied last.
type keptNames struct {
	First dns.Plan `json:"first"` // what puts them back
	Last  dns.Plan `json:"last"`
}

func namesPath(t recovery.Task) string { return "recovery-dns/" + t.Run.ID + "/" + t.Step.Name }

// cutover says where the names of the step's functions shall point to.
func (d *Daemon) cutover(t recovery.Task) (c dns.Cutover, words string, err error) {
	if d.mover == nil {
		return c, "", recovery.ByHand("No zone is configured on this node: move the names by hand.")
	}
	node := t.Node()
	list, known := d.config.Continuity.DNS.Addresses[node]
	if node == "" || !known {
		return c, "", recovery.ByHand(fmt.Sprintf("The addresses of %q are not configured (continuity.dns.addresses): move the names by hand.", node))
	}
	to, err := addresses(list)
	if err != nil {
		return c, "", err
	}
	c.Epoch = uint64(t.Epoch)
	var names []string
	for _, name := range t.Functions {
		f := t.Plan.Function(name)
		if f == nil {
			continue
		}
		ttl := uint32(d.config.Continuity.DNS.TTL.Or(defaultTTL) / time.Second)
		if f.DNSTTL.Known() {
			ttl = uint32(max(f.DNSTTL.Longest()/time.Second, 1))
		}
		for _, h := range f.Hostnames {
			h = strings.ToLower(strings.TrimSuffix(h, "."))
			if slices.Contains(names, h) {
				continue
			}
			names = append(names, h)
			for _, kind := range []string{"A", "AAAA"} {
				// A family that the node has no address of is taken away: half of the
				// clients would go on to what was lost.
				s := dns.Set{Key: dns.Key{Name: h, Type: kind}, Values: to[kind]}
				if len(s.Values) > 0 {
					s.TTL = ttl
				}
				c.Sets = append(c.Sets, s)
			}
		}
	}
	if len(names) == 0 {
		return c, "", recovery.ByHand("The plan gives no host names to " + strings.Join(t.Functions, ", ") + ": move them by hand.")
	}
	return c, fmt.Sprintf("%s to %s (%s)", strings.Join(names, ", "), node, strings.Join(list, ", ")), nil
}

// unvalidated says why names may not move: a validation that covers them has not
// passed in this run. The executor has asked already; this is asked again where
// the effect is.
func unvalidated(t recovery.Task) error {
	rp := t.Plan.RecoveryPlan(t.Run.Name)
	if rp == nil {
		return problem.New(problem.Conflict, "dns-plan-unknown", "The plan of this run is not known: names stay where they are.")
	}
	at := slices.IndexFunc(rp.Steps, func(s plan.Step) bool { return s.Name == t.Step.Name })
	for _, f := range t.Functions {
		passed := false
		for i := range rp.Steps {
			s := &rp.Steps[i]
			covers := s.Functions
			if len(covers) == 0 {
				covers = rp.Functions
			}
			if s.Kind != "validate" || i > at || !slices.Contains(covers, f) || i >= len(t.Run.Steps) {
				continue
			}
			if t.Run.Steps[i].State != recovery.Done {
				return problem.New(problem.Conflict, "dns-unvalidated", s.Name+" has not passed: names stay where they are.")
			}
			passed = true
		}
		if !passed {
			return problem.New(problem.Conflict, "dns-unvalidated", "Nothing has validated "+f+" in this run: its names stay where they are.")
		}
	}
	return nil
}

// namesPatience is how long a name server that does not answer is asked again:
// less than checks count for, so that what moves was looked at shortly before.
const namesPatience = 4 * time.Minute

// moveNames moves names once they may move, and waits until everybody sees it.
// A name server that does not answer is asked again for a while: nothing was
// changed there, and nobody has to be woken for a server that restarts.
func (d *Daemon) moveNames(ctx context.Context, t recovery.Task) (out recovery.Receipt, err error) {
	began := time.Now() // with its monotonic part: nobody can set it
	for {
		out, err = d.moveNamesOnce(ctx, t)
		if err == nil || problem.From(err).Code != "dns-unreachable" || errors.Is(err, recovery.ErrIndeterminate) || time.Since(began) >= d.config.Continuity.DNS.Patience.Or(namesPatience) {
			return out, err
		}
		t.Progress(order.Progress{Words: "trying again: " + problem.From(err).Detail})
		select {
		case <-ctx.Done():
			return out, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (d *Daemon) moveNamesOnce(ctx context.Context, t recovery.Task) (out recovery.Receipt, err error) {
	if err := unvalidated(t); err != nil {
		return out, err
	}
	c, words, err := d.cutover(t)
	if err != nil {
		return out, err
	}
	p, err := d.mover.Prepare(ctx, c)
	if err != nil {
		return out, err
	}
	if err := d.keepNames(ctx, t, p); err != nil {
		return out, err
	}
	if err := t.Term.Check(ctx); err != nil {
		return out, err
	}
	t.Progress(order.Progress{Words: "moving " + words})
	began := d.clock()
	r, err := d.mover.Apply(ctx, p)
	out.Facts = map[string]string{"epoch": fmt.Sprint(p.Epoch), "moves": words}
	for _, z := range r.Zones {
		out.Facts["zone "+z.Zone] = strings.TrimSpace(fmt.Sprintf("%s after %d attempts %s", z.State, z.Attempts, z.Reason))
	}
	if err != nil {
		if errors.Is(err, dns.ErrUnknown) {
			out.Words = problem.From(err).Detail // what is not known, and why
			return out, errors.Join(recovery.ErrIndeterminate, err)
		}
		return out, err
	}
	limited, cancel := context.WithTimeout(ctx, d.config.Continuity.DNS.Visible.Or(2*time.Minute))
	defer cancel()
	t.Progress(order.Progress{Words: "waiting until every server says so"})
	v, err := d.mover.Await(limited, p, 200*time.Millisecond)
	out.Facts["visible_after_gate"] = d.clock().Sub(began).Round(time.Millisecond).String()
	visibility(out.Facts, v)
	if err != nil {
		return out, err
	}
	out.Words = "Moved " + words + "; every server of the zones says so."
	return out, nil
}

func visibility(facts map[string]string, v dns.Visibility) {
	facts["authorities"] = fmt.Sprint(v.Authorities)
	if v.Stale > 0 {
		facts["resolvers_may_say_the_old_for"] = v.Stale.Round(time.Second).String()
	}
	for _, s := range v.Sights {
		if s.Authority {
			facts["seen "+s.Server+" "+s.Key.Name+" "+s.Key.Type] = strings.Join(s.Values, " ")
		}
	}
}

// keepNames writes down what a cutover replaces, before it is made.
func (d *Daemon) keepNames(ctx context.Context, t recovery.Task, p dns.Plan) error {
	var kept keptNames
	_, err := d.store.Update(ctx, namesPath(t), &kept, func() error {
		if kept.First.Epoch == 0 {
			kept.First = p
		}
		kept.Last = p
		return nil
	}, member.During(t.Term))
	return err
}

// namesMoved says whether an attempt that another leader began has moved the
// names: every server of the zones says what it wanted.
func (d *Daemon) namesMoved(ctx context.Context, t recovery.Task) (out recovery.Receipt, known bool, err error) {
	if d.mover == nil {
		return out, false, nil
	}
	v, err := d.store.Get(ctx, namesPath(t))
	if errors.Is(err, member.ErrAbsent) {
		return out, false, nil // nothing was kept, so nothing was moved: it is done from the beginning
	}
	if err != nil {
		return out, false, err
	}
	var kept keptNames
	if err := v.Decode(&kept); err != nil {
		return out, false, err
	}
	seen, err := d.mover.Look(ctx, kept.Last)
	if err != nil || !seen.Authorities {
		return out, false, err
	}
	out.Facts = map[string]string{"epoch": fmt.Sprint(kept.Last.Epoch)}
	visibility(out.Facts, seen)
	out.Words = "The names had been moved already; every server of the zones says so."
	return out, true, nil
}

// saysNames is the dry run: what the zones hold now, and would hold.
func (d *Daemon) saysNames(t recovery.Task) string {
	c, words, err := d.cutover(t)
	if err != nil {
		return problem.From(err).Detail
	}
	ctx, cancel := context.WithTimeout(d.life, 10*time.Second)
	defer cancel()
	if c.Epoch == 0 {
		c.Epoch = 1 << 62 // no run yet: what is shown is what a later decision than all others would do
	}
	p, err := d.mover.Prepare(ctx, c)
	if err != nil {
		return "Moves " + words + ". The zones could not be read: " + problem.From(err).Detail
	}
	var parts []string
	for _, z := range p.Zones {
		for _, ch := range z.Changes {
			parts = append(parts, fmt.Sprintf("%s %s: %s → %s", ch.After.Name, ch.After.Type, orNone(ch.Before.Values), orNone(ch.After.Values)))
		}
	}
	return "Moves " + words + ": " + strings.Join(parts, "; ") + "."
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " ")
}
