package incident

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
)

// fleetNode is who writes for the fleet.
var fleetNode = principal.Node("fleet")

// Ruled brings what the fleet holds into the timelines: a loss opens an
// incident or goes into the one that it belongs to, and its end is a signal and
// a fact there. It goes by what is held now and by what is in the timelines, so
// it may be asked again at any time, by any leader: nothing is entered twice.
// It returns the incidents that it opened.
func (b *Book) Ruled(ctx context.Context, p *plan.Plan, held []verdict.Verdict) (opened []string, err error) {
	all, _, err := b.all(ctx)
	if err != nil {
		return nil, err
	}
	// a node before the functions on it: one incident for all
	held = slices.Clone(held)
	slices.SortStableFunc(held, func(x, y verdict.Verdict) int { return strings.Compare(y.Subject, x.Subject) })
	for i := range held {
		v := &held[i]
		t, ok := thing(v.Subject)
		if !ok {
			continue
		}
		if v.State != verdict.Lost {
			if err := b.back(ctx, all, v, t); err != nil {
				return opened, err
			}
			continue
		}
		line, fresh, err := b.lost(ctx, all, p, v, t)
		if err != nil {
			return opened, err
		}
		if fresh {
			opened = append(opened, line.State.ID)
		}
		if line != nil && !slices.ContainsFunc(all, func(x *Timeline) bool { return x.State.ID == line.State.ID }) {
			all = append(all, line)
		}
	}
	return opened, nil
}

// outstanding says whether a timeline has a loss of a subject without its end.
func outstanding(t *Timeline, subject string) (open bool) {
	for i := range t.Entries {
		if t.Entries[i].Kind != KindAct {
			continue
		}
		if a, ok := t.Entries[i].Read().(*Act); ok && a.Target == subject {
			switch a.Act {
			case ActLost:
				open = true
			case ActBack:
				open = false
			}
		}
	}
	return open
}

// lost enters a loss, where it is not entered yet.
func (b *Book) lost(ctx context.Context, all []*Timeline, p *plan.Plan, v *verdict.Verdict, t plan.Thing) (line *Timeline, fresh bool, err error) {
	for _, x := range all {
		if outstanding(x, v.Subject) {
			return nil, false, nil
		}
	}
	now := b.Clock()
	o := Loss(p, v, now)
	if line = belongs(all, o.Scope, t); line != nil {
		if more := o.Scope.beyond(line.State.Scope); len(more.Nodes)+len(more.Functions)+len(more.Clients) > 0 {
			more.Since, more.Rules, more.Plan, more.Words = o.Started, o.Rules, o.Plan, o.Words
			if _, _, err := b.append(ctx, fleetNode, line.State.ID, &more); err != nil {
				return nil, false, err
			}
		}
	} else if line, fresh, err = b.OpenOnce(ctx, fleetNode, LossName(v), o); err != nil {
		return nil, false, err
	}
	if !line.State.ClosedAt.IsZero() {
		return line, false, nil
	}
	line, err = b.enterLoss(ctx, line.State.ID, v, now)
	return line, fresh, err
}

// belongs finds the open incident that a loss is a part of: one that has
// reached it already, or one of what it takes with it.
func belongs(all []*Timeline, reached Scope, t plan.Thing) *Timeline {
	for _, x := range all {
		s := x.State
		if !s.ClosedAt.IsZero() || s.Mode != Real || x.Stale || s.OpenedBy != fleetNode.String() || s.Known(clock.AllRestored, "") != nil {
			continue
		}
		of := s.Scope.Functions
		if t.Kind == plan.KindNode && slices.Contains(s.Scope.Nodes, t.Name) || slices.ContainsFunc(reached.Functions, func(f string) bool { return slices.Contains(of, f) }) {
			return x
		}
	}
	return nil
}

// beyond is what a scope has that another lacks.
func (b Scope) beyond(have Scope) (out Scope) {
	lacking := func(a, h []string) (more []string) {
		for _, x := range a {
			if !slices.Contains(h, x) {
				more = append(more, x)
			}
		}
		return more
	}
	out.Nodes, out.Functions, out.Clients = lacking(b.Nodes, have.Nodes), lacking(b.Functions, have.Functions), lacking(b.Clients, have.Clients)
	return out
}

// enterLoss writes the signals, the confirmation that they are, and last the
// act that says that all of it is written.
func (b *Book) enterLoss(ctx context.Context, id string, v *verdict.Verdict, now time.Time) (*Timeline, error) {
	line, err := b.load(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, s := range lossSignals(v, now) {
		s.At = s.At.UTC().Truncate(time.Microsecond)
		if slices.ContainsFunc(line.State.Signals, func(x SignalSeen) bool {
			return x.Source == s.Source && x.From == s.From && x.Subject == s.Subject && x.At.Equal(s.At)
		}) {
			continue
		}
		if _, line, err = b.append(ctx, fleetNode, id, &s); err != nil {
			return nil, err
		}
	}
	if line.State.Known(clock.Confirmed, "") == nil && line.State.confirmable() == nil {
		var shown []string
		for _, s := range line.State.Signals {
			shown = append(shown, fmt.Sprintf("entry:%d", s.Entry))
		}
		f := &Fact{Fact: clock.Confirmed, At: notAfter(v.Decided, now), Evidence: shown, Words: "Confirmed by the fleet: observers and kinds of signal that do not depend on each other agree."}
		if _, line, err = b.append(ctx, fleetNode, id, f); err != nil {
			return nil, err
		}
	}
	a := &Act{Act: ActLost, Target: v.Subject, Outcome: "confirmed", Words: v.Words, Once: onceOf(ActLost, v.Subject, line),
		Facts: map[string]string{"epoch": fmt.Sprint(v.Epoch), "since": v.Since.UTC().Format(time.RFC3339), "decided": v.Decided.UTC().Format(time.RFC3339), "quorum": fmt.Sprint(v.Quorum)}}
	if _, again, err := b.append(ctx, fleetNode, id, a); err == nil {
		line = again
	} else if !codeIs(err, "incident-act-again") {
		return nil, err
	}
	return line, nil
}

// onceOf numbers the losses of one subject in one incident: it may come and go.
func onceOf(act, subject string, t *Timeline) string {
	n := 1
	for i := range t.Entries {
		if a, ok := t.Entries[i].Read().(*Act); ok && a.Act == act && a.Target == subject {
			n++
		}
	}
	return fmt.Sprintf("%s/%s/%d", act, subject, n)
}

// back enters that something answers again: a signal, the fact that a function
// is restored, and an act. It closes nothing.
func (b *Book) back(ctx context.Context, all []*Timeline, v *verdict.Verdict, t plan.Thing) error {
	if v.State != verdict.Fine && v.State != verdict.Slow {
		return nil // what cannot be known is not back
	}
	for _, x := range all {
		if !x.State.ClosedAt.IsZero() || x.Stale || x.State.Mode != Real {
			continue
		}
		if outstanding(x, v.Subject) {
			if err := b.enterBack(ctx, x, v, t, true); err != nil {
				return err
			}
			continue
		}
		// a function that went down with its node, and that nobody saw go
		if s := x.State; t.Kind == plan.KindFunction && s.OpenedBy == fleetNode.String() && slices.Contains(s.Scope.Functions, t.Name) && !s.up(t.Name) && v.Since.After(s.OpenedAt) {
			if err := b.enterBack(ctx, x, v, t, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Book) enterBack(ctx context.Context, x *Timeline, v *verdict.Verdict, t plan.Thing, act bool) error {
	id, now := x.State.ID, b.Clock()
	since := notAfter(v.Since, now)
	if since.Before(earliest(x.State.Facts, clock.Start)) {
		since = now
	}
	seen, line, err := b.append(ctx, fleetNode, id, &Signal{Source: "verdict", From: "fleet", Subject: v.Subject, At: since, OK: true, Words: "It answers again."})
	if err != nil {
		return err
	}
	if t.Kind == plan.KindFunction && !line.State.up(t.Name) {
		f := &Fact{Fact: clock.Restored, Of: t.Name, At: since, Evidence: []string{entryRef(seen)}, Words: "The fleet sees it answer again."}
		if _, line, err = b.append(ctx, fleetNode, id, f); err != nil {
			return err
		}
	}
	if !act {
		return nil
	}
	_, _, err = b.append(ctx, fleetNode, id, &Act{Act: ActBack, Target: v.Subject, Outcome: "back", Words: "It answers again.", Once: onceOf(ActBack, v.Subject, line)})
	if codeIs(err, "incident-act-again") {
		return nil
	}
	return err
}

// Interlock says whether a node may be destroyed now: no open incident, and no
// legal hold, forbids it. Who cannot read every timeline may destroy nothing.
func (b *Book) Interlock(ctx context.Context, node string) error {
	all, bad, err := b.all(ctx)
	if err != nil {
		return err
	}
	for id := range bad {
		return refuse("incident-interlock-unknown", "The timeline of "+id+" cannot be read: it is not known whether it forbids this.", "`foundry incident list` says what is wrong with it.")
	}
	var states []*State
	for _, t := range all {
		if t.Stale {
			return refuse("incident-interlock-stale", "Most of the fleet does not answer: it is not known whether an incident forbids this.", "Wait until the fleet answers.")
		}
		states = append(states, t.State)
	}
	return Interlock(states, node)
}
