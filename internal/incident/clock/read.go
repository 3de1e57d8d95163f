package clock

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

// Read says how every clock stands, the most urgent first. The present is
// never before what was last written down: a node whose clock was set back
// wins no time.
func Read(rules []Rule, facts []Fact, now time.Time) []Reading {
	for i := range facts {
		if facts[i].Recorded.After(now) {
			now = facts[i].Recorded
		}
	}
	out := make([]Reading, 0, len(rules))
	for i := range rules {
		r := Reading{Rule: rules[i]}
		switch r.Kind {
		case RPO:
			r.exposure(facts, now)
		case Update:
			r.cadence(facts, now)
		default:
			r.single(facts, now)
		}
		r.Says = r.words(now)
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Reading) int {
		if c := cmp.Compare(urgency(a), urgency(b)); c != 0 {
			return c
		}
		if c := a.Due.Compare(b.Due); c != 0 {
			return c
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return out
}

func urgency(r Reading) int {
	return slices.Index([]State{Expired, Unclear, Running, Waiting, Missed, Met, Void}, r.State)
}

// single is a clock that starts once and ends once.
func (r *Reading) single(facts []Fact, now time.Time) {
	if !r.start(facts) {
		r.State = Waiting
		if end := r.end(facts); end != nil && end.Name == Unfounded {
			r.State, r.Ended = Void, end
		}
		return
	}
	r.settle(r.end(facts), now)
	r.steps(0)
}

// start finds the bound that runs out first, of those that something has
// started. A fact that is said twice counts from the earliest: what somebody
// writes later can make a clock end sooner, never later.
func (r *Reading) start(facts []Fact) bool {
	for i := range r.Bounds {
		b := &r.Bounds[i]
		from := first(facts, b.From)
		if from == nil {
			continue
		}
		if due, ok := b.Due(from.At); ok && (r.Started == nil || due.Before(r.Due)) {
			r.Started, r.Due, r.Bound = from, due, b
		}
	}
	return r.Started != nil
}

// first is the earliest fact of a name. One that is said to lie after the
// moment at which it was written counts from that moment.
func first(facts []Fact, ref Ref) (out *Fact) {
	for i := range facts {
		f := facts[i]
		if f.Ref != ref {
			continue
		}
		if f.At.After(f.Recorded) {
			f.At = f.Recorded
		}
		if out == nil || f.At.Before(out.At) {
			out = &f
		}
	}
	return out
}

// end is the fact that ends the clock: one of those that its rule names, with
// evidence, not ahead of its time, and with nothing after it that undoes it.
func (r *Reading) end(facts []Fact) (out *Fact) {
	undone := -1
	for i := range facts {
		if slices.Contains(r.Reopens, facts[i].Ref) {
			undone = max(undone, facts[i].Entry)
		}
	}
	for i := range facts {
		f := facts[i]
		if f.Entry <= undone || !slices.Contains(r.Ends, f.Ref) || !f.Ends() {
			continue
		}
		if out == nil || f.At.Before(out.At) {
			out = &f
		}
	}
	return out
}

// Ends says whether a fact can end a clock: it names what shows it, and was
// not written down before it was so.
func (f *Fact) Ends() bool { return len(f.Evidence) > 0 && !f.At.After(f.Recorded) }

func (r *Reading) settle(end *Fact, now time.Time) {
	r.Ended = end
	switch {
	case end != nil && end.Name == Unfounded:
		r.State = Void
		r.Took = max(0, end.At.Sub(r.Started.At))
	case end != nil:
		r.Took = max(0, end.At.Sub(r.Started.At))
		r.State = Met
		if end.At.After(r.Due) {
			r.State = Missed
		}
		r.After = r.State == Met && end.Recorded.After(r.Due)
	default:
		r.Took, r.Left = max(0, now.Sub(r.Started.At)), r.Due.Sub(now)
		r.State = Running
		if r.Left <= 0 {
			r.State = Expired
		}
	}
}

// steps are the instants at which somebody hears of a clock that runs.
func (r *Reading) steps(round int) {
	if r.State != Running && r.State != Expired {
		return
	}
	whole := r.Due.Sub(r.Started.At)
	for _, s := range r.Escalate {
		at := r.Started.At.Add(time.Duration(float64(whole) * s.Share))
		if s.Share == 1 {
			at = r.Due // no rounding of the end
		}
		r.Steps = append(r.Steps, Escalation{Clock: r.ID, Round: round, Share: s.Share, At: at, Who: s.Who})
	}
}

// cadence is a clock that begins anew with every update, until all is restored.
func (r *Reading) cadence(facts []Fact, now time.Time) {
	if !r.start(facts) {
		r.State = Waiting
		return
	}
	base := r.Started
	end := r.end(facts)
	var sent []Fact
	for i := range facts {
		f := facts[i]
		if f.Of == r.Of && (f.Name == Updated || f.Name == Told) && f.Ends() && f.At.After(base.At) && (end == nil || !f.At.After(end.At)) {
			sent = append(sent, f)
		}
	}
	slices.SortStableFunc(sent, func(a, b Fact) int { return a.At.Compare(b.At) })
	for i := range sent {
		if sent[i].At.After(r.Due) {
			r.Count++
		}
		r.Started = &sent[i]
		r.Due, _ = r.Bound.Due(sent[i].At)
	}
	r.settle(end, now)
	if r.State == Missed {
		r.Count++ // the last interval, too
	}
	if end != nil && r.State == Met && r.Count > 0 {
		r.State = Missed
	}
	r.steps(len(sent))
}

// exposure is how much of a function's latest data nothing could bring back:
// what was written between the newest point that can be restored and the
// moment it stopped. A point that was proven by restoring it counts before
// one that is only expected; without any, nothing is known, which is not zero.
func (r *Reading) exposure(facts []Fact, now time.Time) {
	stopped := first(facts, Ref{Lost, r.Of})
	if stopped == nil {
		stopped = first(facts, Ref{Start, ""})
	}
	point := newest(facts, Ref{RecoveredPoint, r.Of})
	proven := point != nil
	if !proven {
		point = newest(facts, Ref{RecoverablePoint, r.Of})
	}
	if end := r.end(facts); end != nil && end.Name == Unfounded {
		r.State, r.Ended = Void, end
		return
	}
	switch {
	case stopped == nil && point == nil:
		r.State = Waiting
		return
	case point == nil:
		r.State = Unclear
		return
	}
	until := now // it still writes, and nothing keeps it
	if stopped != nil {
		until = stopped.At
	}
	r.Started, r.Took = point, max(0, until.Sub(point.At))
	for i := range r.Bounds {
		if due, ok := r.Bounds[i].Due(point.At); ok && (r.Bound == nil || due.Before(r.Due)) {
			r.Due, r.Bound = due, &r.Bounds[i]
		}
	}
	switch {
	case r.Bound == nil:
		r.State = Unclear
	case until.After(r.Due) && proven:
		r.State, r.Ended = Missed, point
	case until.After(r.Due):
		r.State, r.Left = Expired, r.Due.Sub(until)
	case proven:
		r.State, r.Ended = Met, point
	default:
		r.State, r.Left = Running, r.Due.Sub(until)
	}
	if stopped == nil {
		r.steps(0)
	}
}

// newest is the latest point of which there is evidence. Where the same point
// was proven twice, the last word counts.
func newest(facts []Fact, ref Ref) (out *Fact) {
	for i := range facts {
		f := facts[i]
		if f.Ref == ref && f.Ends() && (out == nil || f.Entry > out.Entry && ref.Name == RecoveredPoint || f.At.After(out.At) && ref.Name != RecoveredPoint) {
			out = &f
		}
	}
	return out
}

// words says a reading in one sentence.
func (r *Reading) words(now time.Time) string {
	short := func(d time.Duration) string { return plan.FormatDuration(d.Abs().Truncate(time.Second)) }
	bound := ""
	if r.Bound != nil {
		bound = " of " + r.Bound.Within.String()
		if r.Bound.Assumed {
			bound += " (assumed: no number is given)"
		}
	}
	switch r.State {
	case Waiting:
		return "has not started"
	case Void:
		return "void: there was nothing"
	case Unclear:
		return "it is not known up to which point data can be brought back"
	case Met, Missed:
		out := fmt.Sprintf("took %s%s", short(r.Took), bound)
		if r.Kind == RPO {
			out = fmt.Sprintf("%s of data lost at most%s", short(r.Took), bound)
		}
		if r.Count > 0 {
			out += fmt.Sprintf("; %d came too late", r.Count)
		}
		if r.After {
			out += "; its end was written down after the bound"
		}
		return out
	case Expired:
		if r.Kind == RPO {
			return fmt.Sprintf("%s of data exposed%s", short(r.Took), bound)
		}
		return fmt.Sprintf("ran out %s ago%s", short(r.Left), bound)
	}
	if r.Kind == RPO {
		return fmt.Sprintf("%s of data exposed%s", short(r.Took), bound)
	}
	return fmt.Sprintf("%s left%s", short(r.Left), bound)
}
