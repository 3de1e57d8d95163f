package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/incident"
)

// facts says of every recovery whether its gates held, by the times of its own
// record, and of every incident who was told.
func (r *runner) facts() {
	v := r.lab.seen.view()
	for _, run := range v.runs {
		r.order(run, "Fence", "fence", []string{"restore", "promote"}, "The database was taken over %s after what was lost was known to write no more.", "The database was taken over before what was lost was known to write no more.")
		r.order(run, "Checks", "validate", []string{"dns"}, "Names moved %s after every check had passed.", "Names moved before every check had passed.")
	}
	for _, i := range v.incidents {
		r.notices(i)
	}
}

// order says whether steps of some kinds began only after one of another kind
// was done.
func (r *runner) order(run *recovery.Run, about, first string, then []string, good, bad string) {
	var done, began time.Time
	for _, s := range run.Steps {
		switch {
		case s.Kind == first && s.State == recovery.Done:
			done = later(done, s.Ended)
		case slices.Contains(then, s.Kind) && !s.Began.IsZero() && (began.IsZero() || s.Began.Before(began)):
			began = s.Began
		}
	}
	if began.IsZero() {
		return // nothing was let through
	}
	held := !done.IsZero() && !began.Before(done)
	words := bad
	if held {
		words = fmt.Sprintf(good, began.Sub(done).Round(10*time.Millisecond))
	}
	ref := r.act("gates", run.ID, words, map[string]string{first: done.UTC().Format(time.RFC3339Nano), strings.Join(then, " or "): began.UTC().Format(time.RFC3339Nano)})
	r.fact(about, words, held, append(r.sightings("step-"+first+"-done"), ref)...)
}

// notices says who was told of an incident, and of whom nobody knows.
func (r *runner) notices(i *incident.State) {
	var told, not, unclear []string
	for _, n := range i.Notices {
		switch {
		case n.Audience != incident.ToClient:
		case !n.ToldAt.IsZero():
			told = append(told, n.To)
		case n.Unclear:
			unclear = append(unclear, n.To)
		default:
			not = append(not, n.To)
		}
	}
	if len(told)+len(not)+len(unclear) == 0 {
		return
	}
	var words []string
	for _, g := range []struct {
		who  []string
		says string
	}{{told, "Told, with the carrier's receipt: %s."}, {unclear, "It is not known whether this was delivered to: %s."}, {not, "Not told: %s."}} {
		if len(g.who) > 0 {
			words = append(words, fmt.Sprintf(g.says, strings.Join(g.who, ", ")))
		}
	}
	ref := r.act("notices", i.ID, strings.Join(words, " "), nil)
	r.fact("Notices", strings.Join(words, " "), len(not)+len(unclear) == 0, append(r.sightings("clients-told"), ref)...)
}

// sightings are the entry in which something was seen; none: it was not.
func (r *runner) sightings(key string) []exercise.Ref {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ref, ok := r.seen[key]; ok {
		return []exercise.Ref{ref}
	}
	return nil
}
