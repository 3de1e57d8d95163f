package exercise

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
)

// ActEnded is the last thing that an exercise writes into its timeline. Where
// it carries the digest of the record (FactRecord), nothing in the record can be
// changed without the timeline.
const (
	ActEnded   = "exercise.ended"
	FactRecord = "record"
)

// slack is how far a record's beginning and end may lie from the entries that
// were written then: a busy machine writes late.
const slack = 10 * time.Minute

// Digest is the hash of everything that a record says, but for the heads of the
// timelines: one of them holds this.
func (r *Record) Digest() string {
	bare := *r
	bare.Timelines = nil
	text, err := json.Marshal(&bare)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:])
}

// Trace reports the first thing that a record says otherwise than the entry
// that it names, or leaves out. Check has to be well before: every entry that is
// named is there.
func (r *Record) Trace(timelines map[string]*incident.Timeline) error {
	own := timelines[r.ID]
	if own == nil || len(own.Entries) == 0 {
		return fmt.Errorf("there is no timeline %s: an exercise has one of its own", r.ID)
	}
	s, err := scenario.Parse(r.Scenario+".scenario", []byte(r.Text))
	if err != nil {
		return fmt.Errorf("the scenario in the record is none: %w", err)
	}
	t := &tracer{r: r, s: s, all: timelines, own: own}
	for _, look := range []func() error{t.opening, t.ending, t.lines, t.measures, t.moments, t.facts, t.gaps, t.digest} {
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// tracer compares a record with its timelines.
type tracer struct {
	r   *Record
	s   *scenario.Scenario
	all map[string]*incident.Timeline
	own *incident.Timeline
}

// entry is what a reference names; Check has found it.
func (t *tracer) entry(ref Ref) *incident.Entry { return &t.all[ref.Timeline].Entries[ref.N-1] }

// act is the act that a reference names; nil: the entry is no act.
func (t *tracer) act(ref Ref) *incident.Act {
	a, _ := t.entry(ref).Read().(*incident.Act)
	return a
}

// acts calls do for each act of the exercise's own timeline with this name.
func (t *tracer) acts(name string, do func(Ref, *incident.Act) error) error {
	for i := range t.own.Entries {
		if a, ok := t.own.Entries[i].Read().(*incident.Act); ok && a.Act == name {
			if err := do(Ref{t.r.ID, t.own.Entries[i].N}, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func otherwise(ref Ref, said, is string) error {
	return fmt.Errorf("the record says %q, and the entry %s says %q", said, ref, is)
}

func (t *tracer) opening() error {
	first := Ref{t.r.ID, 1}
	o, ok := t.entry(first).Read().(*incident.Opened)
	switch {
	case !ok:
		return fmt.Errorf("the entry %s opens no exercise", first)
	case string(o.Mode) != string(t.r.Mode):
		return otherwise(first, string(t.r.Mode), string(o.Mode))
	case o.Scenario != t.r.Scenario || t.s.Name != t.r.Scenario:
		return otherwise(first, t.r.Scenario, o.Scenario)
	case t.r.Title != t.s.Title || !slices.Equal(t.r.Source, t.s.Source):
		return fmt.Errorf("the record gives the scenario another title or source than its text")
	case near(t.r.Began, t.entry(first).At) > slack:
		return otherwise(first, t.r.Began.Format(time.RFC3339), t.entry(first).At.Format(time.RFC3339))
	}
	for i := range t.own.Entries {
		if e, ok := t.own.Entries[i].Read().(*incident.Evidence); ok && e.Name == "scenario" && e.Hash != sum([]byte(t.r.Text)) {
			return fmt.Errorf("the scenario in the record is not the one of the entry %s", Ref{t.r.ID, t.own.Entries[i].N})
		}
	}
	return nil
}

// digest comes last: what differs is better named by its own entry.
func (t *tracer) digest() error {
	var bad error
	_ = t.acts(ActEnded, func(ref Ref, a *incident.Act) error {
		bad = nil
		if d := a.Facts[FactRecord]; d != "" && d != t.r.Digest() {
			bad = fmt.Errorf("the record was changed: the entry %s holds the digest of another", ref)
		}
		return nil
	})
	return bad
}

func near(a, b time.Time) time.Duration { return a.Sub(b).Abs() }

func (t *tracer) ending() error {
	var last *incident.Act
	var ref Ref
	_ = t.acts(ActEnded, func(at Ref, a *incident.Act) error { ref, last = at, a; return nil })
	if last == nil {
		return fmt.Errorf("the timeline %s does not say how the exercise ended", t.r.ID)
	}
	if says := string(t.r.Outcome) + ": " + t.r.Words; says != last.Words {
		return otherwise(ref, says, last.Words)
	}
	if near(t.r.Ended, t.entry(ref).At) > slack {
		return otherwise(ref, t.r.Ended.Format(time.RFC3339), t.entry(ref).At.Format(time.RFC3339))
	}
	if t.r.Mode == scenario.Desktop {
		return nil
	}
	again := *t.r
	if again.Judge(); again.Outcome != t.r.Outcome {
		return fmt.Errorf("what is recorded comes to %q, and the record says %q (%s)", again.Outcome, t.r.Outcome, ref)
	}
	return nil
}

// lines wants the lines of the scenario, each as its entry has it, and none
// left out.
func (t *tracer) lines() error {
	var want []string
	for _, s := range t.s.Steps(t.r.Mode) {
		for _, a := range s.Do {
			want = append(want, a.Says)
		}
	}
	named := map[Ref]bool{}
	n := 0
	for _, s := range t.r.Steps {
		for i := range s.Lines {
			l := &s.Lines[i]
			if n >= len(want) || l.Says != want[n] {
				return fmt.Errorf("the line %q of the record (%s) is not the next of its scenario", l.Says, l.From)
			}
			n++
			if named[l.From] {
				return fmt.Errorf("two lines of the record name the entry %s", l.From)
			}
			named[l.From] = true
			if err := t.line(l); err != nil {
				return err
			}
		}
	}
	if t.r.Outcome == Aborted {
		return nil // what was interrupted has entries, and no line
	}
	if n != len(want) {
		return fmt.Errorf("the record has %d of the %d lines of its scenario, and says that it went to its end", n, len(want))
	}
	return t.acts("exercise.line", func(ref Ref, a *incident.Act) error {
		if !named[ref] {
			return fmt.Errorf("the record leaves out the line of the entry %s: %s", ref, a.Words)
		}
		return nil
	})
}

func (t *tracer) line(l *Line) error {
	a := t.act(l.From)
	if a == nil || l.From.Timeline != t.r.ID {
		return fmt.Errorf("the entry %s is no line of the exercise", l.From)
	}
	if t.r.Mode != scenario.Desktop {
		was := map[bool]string{true: "so", false: "not so"}[l.OK]
		switch {
		case a.Words != l.Says+": "+l.Words:
			return otherwise(l.From, l.Says+": "+l.Words, a.Words)
		case a.Facts["outcome"] != was:
			return otherwise(l.From, was, a.Facts["outcome"])
		}
		return nil
	}
	switch {
	case !strings.Contains(l.Words, a.Facts["answer"]):
		return otherwise(l.From, l.Words, a.Facts["answer"])
	case l.OK == (a.Outcome == "no"):
		return otherwise(l.From, map[bool]string{true: "yes", false: "no"}[l.OK], a.Outcome)
	}
	return nil
}

// measures wants each measure as its entry has it, against the target of the
// scenario, and none left out.
func (t *tracer) measures() error {
	aims := map[string]scenario.Target{}
	for _, x := range t.s.Targets {
		aims[x.Measure] = x
	}
	named := map[Ref]bool{}
	for i := range t.r.Measures {
		m := &t.r.Measures[i]
		aim, aimed := aims[m.Name]
		if m.Aimed != aimed || m.Within != aim.Within || m.AtMost != aim.AtMost {
			return fmt.Errorf("the target of %s in the record is not that of the scenario", m.Name)
		}
		if !m.Known {
			continue
		}
		if err := t.measure(m, named); err != nil {
			return err
		}
	}
	return t.acts("exercise.measured", func(ref Ref, a *incident.Act) error {
		if !named[ref] {
			return fmt.Errorf("the record leaves out the measure of the entry %s: %s", ref, a.Target)
		}
		return nil
	})
}

func (t *tracer) measure(m *Measure, named map[Ref]bool) error {
	for _, ref := range m.From {
		a := t.act(ref)
		switch {
		case a == nil || ref.Timeline != t.r.ID:
			continue
		case a.Act == "exercise.measured" && a.Target == m.Name:
			named[ref] = true
			if is, said := a.Facts["took"]+", "+a.Facts["count"], fmt.Sprintf("%s, %d", m.Took, m.Count); is != said {
				return otherwise(ref, said, is)
			}
			return nil
		case t.r.Mode == scenario.Desktop && a.Act == "exercise.decision":
			if at, err := time.ParseDuration(a.Facts["clock"]); err != nil || at != m.Took {
				return otherwise(ref, m.Took.String(), a.Facts["clock"])
			}
			return nil
		}
	}
	return fmt.Errorf("the record measures %s, and none of the entries that it names says so (%v)", m.Name, m.From)
}

func (t *tracer) moments() error {
	for _, m := range t.r.Moments {
		a := t.act(m.From)
		switch {
		case a == nil:
			return fmt.Errorf("the entry %s is no moment", m.From)
		case a.Words != m.Says:
			return otherwise(m.From, m.Says, a.Words)
		case a.Facts["at"] != m.At.UTC().Format(time.RFC3339Nano):
			return otherwise(m.From, m.At.UTC().Format(time.RFC3339Nano), a.Facts["at"])
		}
	}
	if t.r.Event.IsZero() || t.r.Mode == scenario.Desktop {
		return nil
	}
	if near(t.r.Event, t.r.Began) > 24*time.Hour || t.r.Event.Before(t.r.Began) || t.r.Event.After(t.r.Ended) {
		return fmt.Errorf("the event of the record lies outside of the exercise")
	}
	return nil
}

var numbers = regexp.MustCompile(`[0-9]+`)

// facts wants every number of a fact in the entries that it names.
func (t *tracer) facts() error {
	for _, f := range t.r.Facts {
		there := map[string]bool{}
		for _, ref := range f.From {
			e := t.entry(ref)
			for _, n := range numbers.FindAllString(incident.Describe(*e), -1) {
				there[n] = true
			}
			if a, ok := e.Read().(*incident.Act); ok {
				for _, n := range numbers.FindAllString(a.Words, -1) {
					there[n] = true
				}
			}
		}
		for _, n := range numbers.FindAllString(f.Says, -1) {
			if !there[n] {
				return fmt.Errorf("the record says %q, and the entries that it names do not say %s (%v)", f.Says, n, f.From)
			}
		}
	}
	return nil
}

// gaps wants each gap as the timeline's action has it, and none left out.
func (t *tracer) gaps() error {
	var actions []incident.Action
	var at []Ref
	for i := range t.own.Entries {
		if a, ok := t.own.Entries[i].Read().(*incident.Action); ok {
			actions, at = append(actions, *a), append(at, Ref{t.r.ID, t.own.Entries[i].N})
		}
	}
	if len(actions) != len(t.r.Gaps) {
		return fmt.Errorf("the record has %s, and the timeline %s has %s", count(len(t.r.Gaps), "gap", "gaps"), t.r.ID, strconv.Itoa(len(actions)))
	}
	for i, g := range t.r.Gaps {
		a := actions[i]
		if is, said := a.Title+", "+a.Owner+", "+a.Due.UTC().Format(time.RFC3339), g.Says+", "+g.Owner+", "+g.Due.UTC().Format(time.RFC3339); is != said {
			return otherwise(at[i], said, is)
		}
	}
	return nil
}
