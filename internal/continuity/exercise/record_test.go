package exercise

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
)

// recorded is a short exercise with its timeline.
func recorded(t *testing.T) (*Record, map[string]*incident.Timeline) {
	t.Helper()
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	var file bytes.Buffer
	l := incident.NewLog(&file, "exc-1", "sandbox", "exercise", func() time.Time { now = now.Add(time.Second); return now })
	for _, b := range []incident.Body{
		&incident.Opened{Title: "Exercise: a loss", Category: incident.Outage, Mode: incident.Sandbox, Started: now, Detected: now},
		&incident.Act{Act: "exercise.kill", Target: "one"},
		&incident.Act{Act: "exercise.seen", Target: "one", Words: "The fleet confirms the loss of one."},
	} {
		if _, err := l.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	tl := l.Timeline()
	ref := Ref{"exc-1", 3}
	r := &Record{Version: 1, ID: "exc-1", Scenario: "loss", Title: "A <loss>", Mode: scenario.Sandbox, Text: "scenario loss \"A loss\"", Began: now, Event: now.Add(time.Second), Ended: now.Add(time.Minute),
		Steps:     []Step{{Title: "It dies", Began: now, Lines: []Line{{Says: "kill one", Began: now, OK: true, From: Ref{"exc-1", 2}}}}},
		Measures:  []Measure{{Name: "confirmation", Says: "from here to there", Known: true, Took: 20 * time.Second, Aimed: true, Within: 30 * time.Second, From: []Ref{ref}}},
		Facts:     []Fact{{About: "Clients", Says: "All were answered.", Good: true, From: []Ref{ref}}},
		Moments:   []Moment{{At: now.Add(20 * time.Second), Says: "It is lost.", Kind: "seen", From: ref}},
		Timelines: []Source{{ID: "exc-1", Title: "What was done", Entries: 3, Head: tl.State.Head.Hash, File: "exc-1.timeline"}}}
	return r, map[string]*incident.Timeline{"exc-1": tl}
}

func TestTheOutcomeFollowsFromWhatIsRecorded(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Record)
		want  Outcome
	}{
		"all is well":                {func(*Record) {}, Passed},
		"a line was not so":          {func(r *Record) { r.Steps[0].Lines[0].OK = false }, Failed},
		"a target was missed":        {func(r *Record) { r.Measures[0].Took = time.Minute }, Missed},
		"a target was not measured":  {func(r *Record) { r.Measures[0].Known = false }, Inconclusive},
		"nobody asked for it":        {func(r *Record) { r.Measures[0].Aimed, r.Measures[0].Took = false, time.Hour }, Passed},
		"more is lost than may be":   {func(r *Record) { r.Measures[0].Counted, r.Measures[0].Count = true, 1 }, Missed},
		"it did not come to its end": {func(r *Record) { r.Outcome = Aborted }, Aborted},
	} {
		r, _ := recorded(t)
		c.spoil(r)
		if r.Judge(); r.Outcome != c.want {
			t.Errorf("%s: %s (%s)", name, r.Outcome, r.Words)
		}
	}
}

func TestAReportThatCannotBeTracedIsNotWritten(t *testing.T) {
	for name, spoil := range map[string]func(*Record, map[string]*incident.Timeline){
		"a reference to no entry":      func(r *Record, _ map[string]*incident.Timeline) { r.Facts[0].From[0].N = 4 },
		"a reference to no timeline":   func(r *Record, _ map[string]*incident.Timeline) { r.Moments[0].From.Timeline = "exc-2" },
		"a measure of nothing":         func(r *Record, _ map[string]*incident.Timeline) { r.Measures[0].From = nil },
		"a fact of nothing":            func(r *Record, _ map[string]*incident.Timeline) { r.Facts[0].From = nil },
		"a line of nothing":            func(r *Record, _ map[string]*incident.Timeline) { r.Steps[0].Lines[0].From = Ref{} },
		"another head":                 func(r *Record, _ map[string]*incident.Timeline) { r.Timelines[0].Head = incident.Hash{} },
		"a timeline that was changed":  func(_ *Record, l map[string]*incident.Timeline) { l["exc-1"].Entries[1].By = "nobody" },
		"a timeline that is not there": func(_ *Record, l map[string]*incident.Timeline) { delete(l, "exc-1") },
	} {
		r, timelines := recorded(t)
		r.Judge()
		if err := Page(&bytes.Buffer{}, r, timelines); err != nil {
			t.Fatal(err)
		}
		spoil(r, timelines)
		var page bytes.Buffer
		if err := Page(&page, r, timelines); err == nil || page.Len() > 0 {
			t.Errorf("%s: it was written (%v)", name, err)
		}
	}
}

func TestThePageSaysWhatCameOfItAndLinksWhereThatStands(t *testing.T) {
	r, timelines := recorded(t)
	r.Judge()
	var page bytes.Buffer
	if err := Page(&page, r, timelines); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"A &lt;loss&gt;", "✓ Passed.", "20.0 s", "within 30.0 s", `href="#exc-1-3"`, `id="exc-1-3"`, r.Timelines[0].Head.String(), "An exercise (sandbox)", "The loss was certain after 20.0 s."} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, not := range []string{"<script", "http://", "https://", "<loss>"} {
		if strings.Contains(page.String(), not) {
			t.Errorf("the page has %q", not)
		}
	}
}
