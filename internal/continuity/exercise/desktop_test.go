package exercise

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

const walked = `scenario dark "It is dark"
target decided within 2h
desktop {
	step "Something is wrong" {
		inject "Nothing answers." from on-call
		ask on-call "What do you do?" within 10m
	}
	step "Later" {
		at 1h inject "Still nothing."
		decision move "Do we move?" of ceo within 15m
		check "Nobody moved names too early."
	}
}
`

// table is an exercise at a desk, with a clock that a test moves.
type table struct {
	*Desk
	t    *testing.T
	now  time.Time
	file bytes.Buffer
}

func newTable(t *testing.T) *table {
	t.Helper()
	s, err := scenario.Parse("dark.scenario", []byte(walked))
	if err != nil {
		t.Fatal(err)
	}
	x := &table{t: t, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	x.Desk = &Desk{Scenario: s, Clock: func() time.Time { return x.now }, Owner: "ceo", Close: 24 * time.Hour}
	x.Log = incident.NewLog(&x.file, "exc-1", "desktop", "exercise", x.Clock)
	if err := x.Begin([]string{"ceo", "on-call"}); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x *table) next(want string) Prompt {
	x.t.Helper()
	p, more := x.Next()
	if !more || p.Words != want {
		x.t.Fatalf("next is %+v, want %q", p, want)
	}
	return p
}

func (x *table) answers(after time.Duration, r Reply) {
	x.t.Helper()
	x.now = x.now.Add(after)
	if err := x.Answer(r); err != nil {
		x.t.Fatal(err)
	}
}

// walk answers everything up to a number of lines.
func (x *table) walk(lines int) {
	x.t.Helper()
	for i, step := range []struct {
		words string
		after time.Duration
		r     Reply
	}{
		{"Nothing answers.", time.Minute, Reply{}},
		{"What do you do?", 5 * time.Minute, Reply{Who: "on-call", Words: "Look by SSH."}},
		{"Still nothing.", time.Minute, Reply{}},
		{"Do we move?", 3 * time.Minute, Reply{Who: "ceo", Words: "Yes", Why: "it stays away"}},
		{"Nobody moved names too early.", time.Minute, Reply{Yes: true}},
	} {
		if i == lines {
			return
		}
		x.next(step.words)
		x.answers(step.after, step.r)
	}
}

func TestADeskWalksThroughItsScenarioOnItsOwnClock(t *testing.T) {
	x := newTable(t)
	x.walk(2)
	if p := x.next("Still nothing."); p.Clock < time.Hour || p.Clock > time.Hour+time.Second {
		t.Errorf("the clock is at %s and not where the scenario says", p.Clock)
	}
	x.answers(0, Reply{})
	x.next("Do we move?")
	x.answers(4*time.Minute, Reply{Who: "ceo", Words: "Yes", Why: "it stays away"})
	x.next("Nobody moved names too early.")
	x.answers(0, Reply{Yes: true})
	if _, more := x.Next(); more {
		t.Error("it goes on after its end")
	}
	r := x.Record("test")
	if r.Outcome != Passed || len(r.Gaps) != 0 || len(r.Steps) != 2 || len(r.Measures) != 1 {
		t.Fatalf("%+v", r)
	}
	if m := r.Measures[0]; !m.Known || m.Took < time.Hour+4*time.Minute || m.Took > time.Hour+5*time.Minute || !m.Kept() {
		t.Errorf("decided: %+v", m)
	}
	if d := x.Log.Timeline().State.Decisions; len(d) != 1 || !strings.Contains(d[0].Words, "it stays away") {
		t.Errorf("decisions: %+v", d)
	}
}

func TestWhatWasMissingBecomesAnActionWithAnOwnerAndADay(t *testing.T) {
	x := newTable(t)
	x.walk(1)
	x.next("What do you do?")
	x.answers(11*time.Minute, Reply{Who: "on-call", Words: "Nobody knew."}) // a minute too late
	x.next("Still nothing.")
	x.answers(0, Reply{})
	x.next("Do we move?")
	x.answers(0, Reply{Who: "ceo", Words: "No", Why: "wait"})
	x.next("Nobody moved names too early.")
	due := x.now.Add(72 * time.Hour)
	x.answers(0, Reply{Owner: "deputy", Due: due})
	r := x.Record("test")
	if r.Outcome != Missed || len(r.Gaps) != 2 {
		t.Fatalf("%s %+v", r.Outcome, r.Gaps)
	}
	if g := r.Gaps[0]; !strings.Contains(g.Says, "What do you do?") || g.Owner != "ceo" || g.Due.IsZero() {
		t.Errorf("the late answer: %+v", g)
	}
	if g := r.Gaps[1]; g.Owner != "deputy" || !g.Due.Equal(due) {
		t.Errorf("the check: %+v", g)
	}
	if a := x.Log.Timeline().State.Actions; len(a) != 2 {
		t.Errorf("actions in the timeline: %+v", a)
	}
}

func TestAnAnswerThatSaysNothingIsRefused(t *testing.T) {
	x := newTable(t)
	x.walk(1)
	for _, r := range []Reply{{}, {Who: "on-call"}, {Words: "Look."}, {Who: "on-call", Words: "  "}} {
		var bad *problem.Error
		if err := x.Answer(r); !errors.As(err, &bad) || bad.Kind != problem.Invalid || bad.Mend == "" {
			t.Errorf("%+v: %v", r, err)
		}
	}
	x.next("What do you do?")
	x.answers(0, Reply{Who: "on-call", Words: "Look."})
	x.next("Still nothing.")
	x.answers(0, Reply{})
	if err := x.Answer(Reply{Who: "ceo", Words: "Yes"}); err == nil {
		t.Error("a decision without a reason was taken")
	}
}

// Wherever it was interrupted, it goes on with the next line, and its report is
// the same as of one that was not.
func TestAnInterruptedExerciseGoesOnWhereItWas(t *testing.T) {
	for lines := range 6 {
		x := newTable(t)
		x.walk(lines)
		y := newTable(t)
		log, err := incident.ResumeLog(&y.file, x.Log.Timeline().Entries, "desktop", "exercise", y.Clock)
		if err != nil {
			t.Fatal(err)
		}
		y.Desk = &Desk{Scenario: x.Scenario, Log: log, Clock: y.Clock, Owner: "ceo", Close: x.Close}
		y.now = x.now.Add(time.Hour) // the pause does not count
		if err := y.Resume(); err != nil {
			t.Fatal(err)
		}
		before, _ := x.Next()
		after, _ := y.Next()
		if before.Words != after.Words || before.First != after.First || (after.Clock-before.Clock).Abs() > time.Minute {
			t.Errorf("after %d lines: %+v, want %+v", lines, after, before)
		}
		a, b := x.Record("t"), y.Record("t")
		if len(a.Steps) != len(b.Steps) || a.Outcome != b.Outcome || !slices.Equal(a.With, b.With) {
			t.Errorf("after %d lines: %+v and %+v", lines, a, b)
		}
		for i := range min(len(a.Steps), len(b.Steps)) {
			for k := range a.Steps[i].Lines {
				before, after := a.Steps[i].Lines[k], b.Steps[i].Lines[k]
				if before.Says != after.Says || before.Words != after.Words || before.From != after.From || (before.Clock-after.Clock).Abs() > time.Second {
					t.Errorf("after %d lines: %+v, want %+v", lines, after, before)
				}
			}
		}
	}
	x := newTable(t)
	other := *x.Scenario
	other.Text = []byte("changed")
	if err := (&Desk{Scenario: &other, Log: x.Log, Clock: x.Clock}).Resume(); err == nil {
		t.Error("it went on with another scenario")
	}
}

func TestTheReportOfADeskCanBeTraced(t *testing.T) {
	x := newTable(t)
	x.walk(5)
	r := x.Record("test")
	tl := x.Log.Timeline()
	r.Timelines = []Source{{ID: r.ID, Title: "It", Entries: tl.State.Head.N, Head: tl.State.Head.Hash, File: "exc-1.timeline"}}
	var page bytes.Buffer
	if err := Page(&page, r, map[string]*incident.Timeline{r.ID: tl}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.String(), "ceo decided: Yes. Because: it stays away.") {
		t.Error("the page does not say what was decided")
	}
	for _, want := range []string{"News from on-call: Nothing answers.", "Question to on-call: What do you do? (10 min allowed)", "Decision of ceo: Do we move? (15 min allowed)", "Was it so? Nobody moved names too early.", "01:00", "took part: ceo, on-call"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page has no %q", want)
		}
	}
}
