package exercise

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

// Desk carries an exercise out at a desktop: it says what comes next, and takes
// what people answer. Everything is in the timeline at once, so that an
// exercise which was interrupted goes on where it was.
type Desk struct {
	Scenario *scenario.Scenario
	Log      *incident.Log
	Clock    func() time.Time
	Owner    string        // of gaps that name nobody
	Close    time.Duration // by when gaps without a date are closed

	step, line int
	offset     time.Duration // of the exercise's clock, at since
	since      time.Time
	shown      time.Time // when what waits for an answer was shown
	gaps       []Gap
	answered   []Line // of every act that has ended, in order
}

// Prompt is what comes next.
type Prompt struct {
	Step  string        `json:"step"` // title
	First bool          `json:"first,omitempty"`
	Verb  string        `json:"verb"`
	Words string        `json:"words"`
	Who   string        `json:"who,omitempty"` // asked, or the source of what is told
	Clock time.Duration `json:"clock_ns"`      // of the exercise
	Due   time.Duration `json:"due_ns,omitempty"`
	Asks  string        `json:"asks,omitempty"` // what has to be answered: words, decision, check; "": nothing
}

// Reply is what was answered.
type Reply struct {
	Who   string    `json:"who,omitempty"`
	Words string    `json:"words,omitempty"`
	Why   string    `json:"why,omitempty"` // of a decision
	Yes   bool      `json:"yes,omitempty"` // of a check
	Owner string    `json:"owner,omitempty"`
	Due   time.Time `json:"due,omitzero"` // of the gap that a no leaves
}

// asks are the verbs that need an answer, and of what kind.
var asks = map[string]string{"ask": "words", "decision": "decision", "check": "check"}

// with begins the words of a timeline's first entry that say who takes part.
const with = "With "

// Begin opens the exercise's timeline.
func (d *Desk) Begin(participants []string) error {
	now := d.Clock()
	d.since = now
	words := ""
	if len(participants) > 0 {
		words = with + strings.Join(participants, ", ") + "."
	}
	_, err := d.Log.Append(&incident.Opened{Title: "Exercise: " + d.Scenario.Title, Category: incident.Outage, Mode: incident.Desktop, Scenario: d.Scenario.Name, Started: now, Detected: now, Words: words})
	if err != nil {
		return err
	}
	_, err = d.Log.Append(&incident.Evidence{Name: "scenario", Capture: incident.CaptureOther, Hash: sum(d.Scenario.Text), Size: int64(len(d.Scenario.Text)), Bytes: d.Scenario.Text, Taken: now, How: "as it is walked through"})
	return err
}

// Next is what comes next; false: the exercise is at its end.
func (d *Desk) Next() (Prompt, bool) {
	if d.step >= len(d.Scenario.Desktop) {
		return Prompt{}, false
	}
	s := d.Scenario.Desktop[d.step]
	a := s.Do[d.line]
	if a.Verb == "at" && a.At > d.now() {
		d.offset, d.since = a.At, d.Clock() // the time between is skipped, not waited for
	}
	if d.shown.IsZero() {
		d.shown = d.Clock()
	}
	p := Prompt{Step: s.Title, First: d.line == 0, Verb: a.Verb, Words: a.Args["words"], Clock: d.now(), Due: a.Within, Asks: asks[a.Verb]}
	switch a.Verb {
	case "at", "inject":
		p.Verb, p.Who, p.Due = "inject", a.Args["source"], 0
	case "ask", "decision":
		p.Who = a.Args["role"]
	case "declare":
		p.Words = a.Args["title"]
	case "recover":
		p.Words = "The recovery plan " + a.Args["plan"] + " would be started now."
	case "hold":
		p.Words = "Time passes: " + a.Args["time"]
	}
	return p, true
}

// now is the exercise's clock.
func (d *Desk) now() time.Duration { return d.offset + d.Clock().Sub(d.since) }

// Answer takes what was answered to what Next said, and goes on.
func (d *Desk) Answer(r Reply) error {
	p, more := d.Next()
	if !more {
		return fmt.Errorf("the exercise is at its end")
	}
	if err := p.takes(r); err != nil {
		return err
	}
	took := d.Clock().Sub(d.shown)
	act := &incident.Act{Act: "exercise." + p.Verb, Target: p.Who, Step: fmt.Sprintf("%d/%d", d.step+1, d.line+1), Words: p.Words,
		Facts: map[string]string{"clock": p.Clock.Round(time.Second).String(), "took": took.Round(time.Second).String()}}
	put := func(k, v string) {
		if v != "" {
			act.Facts[k] = v
		}
	}
	put("answer", r.Words)
	put("answered_by", r.Who)
	late := p.Asks != "" && p.Due > 0 && took > p.Due
	if late {
		put("late", (took - p.Due).Round(time.Second).String())
	}
	switch p.Asks {
	case "decision":
		put("why", r.Why)
		if _, err := d.Log.Append(&incident.Decision{About: d.Scenario.Desktop[d.step].Do[d.line].Args["id"], Words: r.Words + " Because: " + r.Why}); err != nil {
			return err
		}
	case "check":
		act.Outcome = map[bool]string{true: "yes", false: "no"}[r.Yes]
	}
	line := told(d.Scenario.Desktop[d.step].Do[d.line], act, d.shown, took)
	e, err := d.Log.Append(act)
	if err != nil {
		return err
	}
	line.From = Ref{e.Incident, e.N}
	if err := d.gap(p, r, late, line.From); err != nil {
		return err
	}
	d.answered = append(d.answered, line)
	d.advance()
	return nil
}

// told is a line of the scenario and what came of it, as its act in the
// timeline has it.
func told(a scenario.Act, b *incident.Act, began time.Time, took time.Duration) Line {
	line := Line{Says: a.Says, Began: began, Took: took, OK: b.Outcome != "no", Words: b.Outcome}
	line.Clock, _ = time.ParseDuration(b.Facts["clock"])
	answer, who := b.Facts["answer"], b.Facts["answered_by"]
	switch asks[a.Verb] {
	case "decision":
		line.Words = who + " decided: " + sentence(answer) + " Because: " + sentence(b.Facts["why"])
	case "words":
		line.Words = who + ": " + answer
	case "check":
		line.Words = map[string]string{"yes": "Yes", "no": "No: this is a gap"}[b.Outcome]
	}
	if late, err := time.ParseDuration(b.Facts["late"]); err == nil {
		line.Words = fmt.Sprintf("%s (%s too late)", line.Words, short(late))
	}
	return line
}

// said is a line of a scenario as a sentence, for people who do not know how a
// scenario is written.
func said(a scenario.Act) string {
	words := a.Args["words"]
	allowed := ""
	if a.Within > 0 && asks[a.Verb] != "" {
		allowed = " (" + short(a.Within) + " allowed)"
	}
	switch a.Verb {
	case "at", "inject":
		if from := a.Args["source"]; from != "" {
			return "News from " + from + ": " + words
		}
		return "News: " + words
	case "ask":
		return "Question to " + a.Args["role"] + ": " + words + allowed
	case "decision":
		return "Decision of " + a.Args["role"] + ": " + words + allowed
	case "check":
		return "Was it so? " + words
	}
	return a.Says
}

// sentence ends with a full stop, or as it does already.
func sentence(text string) string {
	if text = strings.TrimSpace(text); text != "" && !strings.ContainsAny(text[len(text)-1:], ".!?") {
		text += "."
	}
	return text
}

// gap makes an action of what was missing.
func (d *Desk) gap(p Prompt, r Reply, late bool, from Ref) error {
	words := ""
	switch {
	case p.Asks == "check" && !r.Yes:
		words = "Was not so: " + p.Words
	case late:
		words = "Took too long: " + p.Words
	default:
		return nil
	}
	if r.Owner == "" {
		r.Owner = d.Owner
	}
	if r.Due.IsZero() {
		r.Due = d.Clock().Add(d.Close)
	}
	id := fmt.Sprintf("gap-%d", len(d.gaps)+1)
	if _, err := d.Log.Append(&incident.Action{ID: id, Title: words, Owner: r.Owner, Due: r.Due, Source: from.String()}); err != nil {
		return err
	}
	d.gaps = append(d.gaps, Gap{Says: words, Owner: r.Owner, Due: r.Due, From: from})
	return nil
}

func (d *Desk) advance() {
	d.shown = time.Time{}
	if d.line++; d.line >= len(d.Scenario.Desktop[d.step].Do) {
		d.step, d.line = d.step+1, 0
	}
}

// takes refuses an answer that says nothing.
func (p *Prompt) takes(r Reply) error {
	missing := func(field, detail, mend string) error {
		return problem.New(problem.Invalid, "exercise-answer", detail).WithField(field).WithMend(mend)
	}
	switch {
	case p.Asks == "":
		return nil
	case r.Who == "" && p.Asks != "check":
		return missing("who", "Somebody has to answer.", "Name a person or a role of the plan.")
	case strings.TrimSpace(r.Words) == "" && p.Asks != "check":
		return missing("words", "The answer says nothing.", "Write what was said, or that nobody knew.")
	case p.Asks == "decision" && strings.TrimSpace(r.Why) == "":
		return missing("why", "The decision has no reason.", "Write why, or that there was no time to find out.")
	}
	return nil
}

// Resume goes on with an exercise whose timeline there is already.
func (d *Desk) Resume() error {
	t := d.Log.Timeline()
	if t.State.Mode != incident.Desktop || t.State.Scenario != d.Scenario.Name {
		return problem.New(problem.Conflict, "exercise-other", fmt.Sprintf("The timeline is of the scenario %s in the mode %s.", t.State.Scenario, t.State.Mode)).WithMend("Resume it with the scenario that it began with.")
	}
	if i := slices.IndexFunc(t.State.Evidence, func(h incident.Held) bool { return h.Name == "scenario" }); i < 0 || t.State.Evidence[i].Hash != sum(d.Scenario.Text) {
		return problem.New(problem.Conflict, "exercise-other", "The scenario was changed since the exercise began.").WithMend("Take the scenario as it was: it is in the timeline.")
	}
	d.since = d.Clock()
	for i := range t.Entries {
		e := &t.Entries[i]
		ref := Ref{e.Incident, e.N}
		switch b := e.Read().(type) {
		case *incident.Act:
			var step, line int
			if n, _ := fmt.Sscanf(b.Step, "%d/%d", &step, &line); n != 2 || step != d.step+1 || line != d.line+1 {
				continue
			}
			took, _ := time.ParseDuration(b.Facts["took"])
			entry := told(d.Scenario.Desktop[d.step].Do[d.line], b, e.At.Add(-took), took)
			entry.From = ref
			d.answered = append(d.answered, entry)
			d.offset, _ = time.ParseDuration(b.Facts["clock"])
			d.advance()
		case *incident.Action:
			d.gaps = append(d.gaps, Gap{Says: b.Title, Owner: b.Owner, Due: b.Due, From: ref})
		}
	}
	return nil
}

// Record is the exercise as far as it came. Checks that were answered with no
// are gaps and no failure: finding them is what it is for.
func (d *Desk) Record(program string) *Record {
	t := d.Log.Timeline()
	r := &Record{Version: 1, ID: t.State.ID, Scenario: d.Scenario.Name, Title: d.Scenario.Title, Source: d.Scenario.Source, Text: string(d.Scenario.Text), Mode: scenario.Desktop,
		Program: program, Began: t.State.OpenedAt, Ended: d.Clock(), Gaps: d.gaps}
	if b, ok := t.Entries[0].Read().(*incident.Opened); ok {
		if names, found := strings.CutPrefix(b.Words, with); found {
			r.With = strings.Split(strings.TrimSuffix(names, "."), ", ")
		}
	}
	i := 0
	for _, s := range d.Scenario.Desktop {
		st := Step{Title: s.Title}
		for range s.Do {
			if i == len(d.answered) {
				break
			}
			st.Lines = append(st.Lines, d.answered[i])
			i++
		}
		if len(st.Lines) > 0 {
			st.Began = st.Lines[0].Began
			r.Steps = append(r.Steps, st)
		}
	}
	d.measure(r, t)
	r.Outcome, r.Words = Passed, "It was walked through to its end, and nothing was missing."
	missed := slices.ContainsFunc(r.Measures, func(m Measure) bool { return !m.Kept() })
	switch {
	case i < d.acts():
		r.Outcome, r.Words = Aborted, fmt.Sprintf("It was ended after %d of %d lines.", i, d.acts())
	case len(d.gaps) > 0:
		r.Outcome, r.Words = Missed, fmt.Sprintf("It was walked through to its end, and found %s with an owner and a day. Talking it through proves no recovery time.", count(len(d.gaps), "gap", "gaps, each"))
	case missed:
		r.Outcome, r.Words = Missed, "It was walked through to its end, and deciding took longer than it may."
	}
	return r
}

// End writes into the timeline how it ended, with the digest of the record, and
// gives the record: from then on neither can be changed without the other.
func (d *Desk) End(program string) (*Record, error) {
	r := d.Record(program)
	if _, err := d.Log.Append(&incident.Act{Act: ActEnded, Words: string(r.Outcome) + ": " + r.Words, Facts: map[string]string{FactRecord: r.Digest()}}); err != nil {
		return nil, err
	}
	head := d.Log.Timeline().State.Head
	r.Timelines = []Source{{ID: r.ID, Title: "What was told, asked and answered", Entries: head.N, Head: head.Hash, File: r.ID + ".timeline"}}
	return r, nil
}

func (d *Desk) acts() (n int) {
	for _, s := range d.Scenario.Desktop {
		n += len(s.Do)
	}
	return n
}

// measure takes the one thing that can be measured at a desk: how long people
// took to decide, on the exercise's clock.
func (d *Desk) measure(r *Record, t *incident.Timeline) {
	for _, target := range d.Scenario.Targets {
		if target.Measure != "decided" {
			continue
		}
		m := Measure{Name: "decided", Says: scenario.Measures["decided"], Aimed: true, Within: target.Within, Why: "nothing was decided"}
		for i := range t.Entries {
			if b, ok := t.Entries[i].Read().(*incident.Act); ok && b.Act == "exercise.decision" {
				at, _ := time.ParseDuration(b.Facts["clock"])
				m.Known, m.Took, m.From = true, at, []Ref{{r.ID, t.Entries[i].N}}
			}
		}
		r.Measures = append(r.Measures, m)
	}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
