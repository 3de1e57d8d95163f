package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/scenario"
)

// changed writes what was seen from outside into the timeline.
func (r *runner) changed(c change) {
	words := map[string]string{
		"node-suspected":    "%s is suspected: the others go around it.",
		"node-lost":         "The fleet confirms the loss of %s.",
		"node-fine":         "The fleet holds %s to be fine.",
		"incident-open":     "The incident %s is open.",
		"recovery-started":  "The recovery %s begins.",
		"recovery-done":     "The recovery %s is done.",
		"name-points":       "Clients' name points to %s.",
		"database-on":       "The database takes writes on %s.",
		"step-fence-done":   "Step %s: what was lost is known to write no more.",
		"step-restore-done": "Step %s: restored.", "step-promote-done": "Step %s: promoted.", "step-start-done": "Step %s: started.",
		"clients-told":       "Clients are told, says the timeline of %s.",
		"step-validate-done": "Step %s: every check passed.", "step-dns-done": "Step %s: names moved.", "step-notify-done": "Step %s: clients told.",
	}[c.what]
	if words == "" {
		r.act("seen", c.about, c.what+" "+c.words, map[string]string{"at": c.at.UTC().Format(time.RFC3339Nano), "what": c.what})
		return
	}
	says := fmt.Sprintf(words, c.about)
	ref := r.moment(c.at, "seen", "seen", c.about, says)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[c.what+" "+c.about] = ref
	if _, ok := r.seen[c.what]; !ok {
		r.seen[c.what] = ref
	}
	r.say(says)
}

// surviving are the gateways that nothing was done to.
func (r *runner) surviving() map[string]bool {
	out := map[string]bool{}
	for _, n := range r.lab.gateways() {
		if !r.hurt[n.name] {
			out[n.name] = true
		}
	}
	return out
}

// measure reckons everything that there is a measure for, and holds it against
// the targets.
func (r *runner) measure(ctx context.Context) error {
	aims := map[string]scenario.Target{}
	for _, t := range r.o.Scenario.Targets {
		aims[t.Measure] = t
	}
	for _, name := range []string{"suspicion", "answers", "confirmation", "fenced", "writable", "validated", "dns", "recovery", "notices", "gap", "lost", "writers"} {
		aim, aimed := aims[name]
		m := exercise.Measure{Name: name, Says: scenario.Measures[name], Aimed: aimed, Within: aim.Within, AtMost: aim.AtMost}
		r.take(ctx, &m)
		if !m.Known && !aimed {
			continue
		}
		if m.Known {
			m.From = append(m.From, r.act("measured", name, m.Says, map[string]string{"took": m.Took.String(), "count": fmt.Sprint(m.Count)}))
		}
		r.rec.Measures = append(r.rec.Measures, m)
	}
	r.facts()
	return nil
}

// span measures from one thing that was seen to another.
func (r *runner) span(m *exercise.Measure, from time.Time, key string) {
	at, ok := r.lab.seen.when(key)
	if !ok || from.IsZero() {
		m.Why = "it was not seen"
		return
	}
	m.Known, m.Took = true, max(lookEvery, at.Sub(from)) // no shorter time can be seen
	m.From = append(m.From, r.sightings(key)...)
}

func (r *runner) take(ctx context.Context, m *exercise.Measure) {
	confirmed, _ := r.lab.seen.when("node-lost")
	validated, _ := r.lab.seen.when("step-validate-done")
	switch m.Name {
	case "suspicion":
		if r.span(m, r.event, "node-suspected"); !m.Known {
			r.span(m, r.event, "node-lost")
		}
	case "answers":
		m.Took, m.Known = r.lab.crowd.settled(r.surviving(), r.event)
		m.Known = m.Known && !r.event.IsZero()
		m.Why = "a surviving gateway answered nobody"
		if t := r.lab.crowd.tally(r.surviving(), r.event, time.Time{}); m.Known {
			ref := r.act("clients", "", fmt.Sprintf("Surviving gateways were asked %d times after the event: %d answers, %d failures.", t.asked, t.good, t.failed), nil)
			m.From = append(m.From, ref)
			r.fact("Clients", fmt.Sprintf("Surviving gateways were asked %d times after the event and answered %d of them.", t.asked, t.good), t.failed == 0, ref)
		}
	case "confirmation":
		r.span(m, r.event, "node-lost")
	case "fenced":
		r.span(m, r.event, "step-fence-done")
	case "validated":
		r.span(m, r.event, "step-validate-done")
	case "dns":
		r.span(m, validated, "name-points")
	case "recovery":
		r.span(m, confirmed, "name-points")
	case "writable":
		there, err := r.there(ctx)
		a, ok := r.lab.writer.firstBy(r.surviving(), there, later(r.event, r.since))
		m.Known, m.Took, m.Why = err == nil && ok && !r.event.IsZero(), a.at.Sub(r.event), "no write was accepted"
	case "notices":
		opened, _ := r.lab.seen.when("incident-open")
		if !confirmed.IsZero() {
			opened = confirmed
		}
		r.span(m, opened, "clients-told")
	case "gap", "lost":
		r.losses(ctx, m)
	case "writers":
		n, err := r.writers(ctx)
		m.Counted, m.Known, m.Count = true, err == nil, int64(n)
		if err != nil {
			m.Why = err.Error()
		}
	}
}

// losses compares what was acknowledged with what is there.
func (r *runner) losses(ctx context.Context, m *exercise.Measure) {
	m.Counted = m.Name == "lost"
	c, err := r.compare(ctx)
	if err != nil {
		m.Why = err.Error()
		return
	}
	if c.acknowledged == 0 {
		m.Why = "nothing was written"
		return
	}
	m.Known, m.Count = true, int64(c.lost)
	if !m.Counted {
		if c.newest.IsZero() || r.event.IsZero() {
			m.Known, m.Why = false, "nothing that was written before the event is there"
			return
		}
		if m.Took = r.event.Sub(c.newest); c.lost == 0 {
			m.Took = 0
		}
		return
	}
	words := fmt.Sprintf("Of %d acknowledged writes %d are lost; of %d whose answer never came %d are there.", c.acknowledged, c.lost, c.unclear, c.unclearThere)
	ref := r.act("compared", "", words, nil)
	m.From = append(m.From, ref)
	r.fact("Writes", words, c.lost == 0, ref)
}

func (r *runner) fact(about, says string, good bool, from ...exercise.Ref) {
	r.rec.Facts = append(r.rec.Facts, exercise.Fact{About: about, Says: says, Good: good, From: from})
}

// compare holds what was acknowledged against what is there now.
func (r *runner) compare(ctx context.Context) (compared, error) {
	looked := time.Now()
	there, err := r.there(ctx)
	if err != nil {
		return compared{}, err
	}
	return r.lab.writer.compare(there, r.event, looked), nil
}

// writers is how many nodes accepted writes at once: 2, where somebody was told
// that a write was made after another node had taken over, and it is not there.
func (r *runner) writers(ctx context.Context) (int, error) {
	if r.lab.writer.count() == 0 {
		return 0, errors.New("nothing was written")
	}
	primary := r.lab.seen.view().primary
	took, ok := r.lab.seen.when("database-on " + primary)
	if !ok {
		return 1, nil // nobody took over
	}
	looked := time.Now()
	there, err := r.there(ctx)
	if err != nil {
		return 0, err
	}
	if len(r.lab.writer.missing(there, took, looked)) > 0 {
		return 2, nil
	}
	return 1, nil
}

// there is what the database holds now of what was written.
func (r *runner) there(ctx context.Context) (map[string]bool, error) {
	n := r.lab.anyone(ctx)
	if n == nil {
		return nil, errors.New("no node with a majority answers")
	}
	var list []struct{ Name string }
	if err := n.call(ctx, "GET", "/organisations", nil, &list); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, o := range list {
		out[o.Name] = true
	}
	return out, nil
}
