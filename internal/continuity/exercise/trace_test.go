package exercise

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

// copied is what a sandbox of three real nodes left, in a directory of the
// test's own.
func copied(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// spoilt changes the record in a directory.
func spoilt(t *testing.T, dir string, spoil func(*Record)) {
	t.Helper()
	path := filepath.Join(dir, RecordFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	spoil(&r)
	if text, err = json.Marshal(&r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func measureOf(r *Record, name string) *Measure {
	for i := range r.Measures {
		if r.Measures[i].Name == name {
			return &r.Measures[i]
		}
	}
	return nil
}

func TestWhatASandboxLeftIsWhole(t *testing.T) {
	for name, outcome := range map[string]Outcome{"passed": Passed, "failed": Failed} {
		r, err := Read(copied(t, name))
		if err != nil || r.Outcome != outcome {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An attack on a record says more than its timeline does, or leaves out what is
// there. What says so names the entry.
func TestARecordThatSaysOtherwiseThanItsTimelineIsRefusedWithTheEntry(t *testing.T) {
	for name, c := range map[string]struct {
		of, says string
		spoil    func(*Record)
	}{
		"a failed exercise has passed": {"failed", "#60", func(r *Record) {
			r.Outcome, r.Words = Passed, "Everything that had to be so was, and every target was reached."
		}},
		"a line that was not so is so": {"failed", "#", func(r *Record) {
			for i := range r.Steps {
				for j := range r.Steps[i].Lines {
					r.Steps[i].Lines[j].OK = true
				}
			}
			r.Judge()
		}},
		"a time is shorter":             {"passed", "#", func(r *Record) { measureOf(r, "confirmation").Took = time.Second }},
		"a loss is counted away":        {"passed", "#", func(r *Record) { measureOf(r, "lost").Count = -1 }},
		"a target is wider":             {"passed", "target", func(r *Record) { measureOf(r, "confirmation").Within += time.Hour }},
		"a target is gone":              {"passed", "target", func(r *Record) { m := measureOf(r, "confirmation"); m.Aimed, m.Within = false, 0 }},
		"a measure is gone":             {"passed", "leaves out", func(r *Record) { r.Measures = r.Measures[1:] }},
		"a measure names another":       {"passed", "none of the entries", func(r *Record) { measureOf(r, "confirmation").From = measureOf(r, "lost").From }},
		"a line is gone":                {"passed", "line", func(r *Record) { r.Steps[0].Lines = r.Steps[0].Lines[1:] }},
		"a step is gone":                {"passed", "lines of its scenario", func(r *Record) { r.Steps = r.Steps[:len(r.Steps)-1] }},
		"a line says more":              {"passed", "#", func(r *Record) { r.Steps[0].Lines[0].Words = "at once" }},
		"a line is another's":           {"passed", "not the next of its scenario", func(r *Record) { r.Steps[0].Lines[0].Says = "expect everything" }},
		"a fact has a greater number":   {"passed", "9999", func(r *Record) { r.Facts[0].Says = "Surviving gateways were asked 9999 times." }},
		"a moment is earlier":           {"passed", "#", func(r *Record) { r.Moments[0].At = r.Moments[0].At.Add(-time.Second) }},
		"a moment says another thing":   {"passed", "#", func(r *Record) { r.Moments[0].Says = "All is well." }},
		"it was on another day":         {"passed", "#1", func(r *Record) { r.Began = r.Began.AddDate(0, 1, 0) }},
		"it ended on another day":       {"passed", "#", func(r *Record) { r.Ended = r.Ended.AddDate(0, 1, 0) }},
		"it was in another mode":        {"passed", "#1", func(r *Record) { r.Mode = "live" }},
		"it was another scenario":       {"passed", "#1", func(r *Record) { r.Scenario = "primary-lost" }},
		"it has another title":          {"passed", "title", func(r *Record) { r.Title = "The end of the world" }},
		"the scenario's text is none":   {"passed", "scenario", func(r *Record) { r.Text = "scenario" }},
		"a gap was made up":             {"passed", "gap", func(r *Record) { r.Gaps = []Gap{{Says: "x", From: Ref{r.ID, 1}}} }},
		"a statement stands nowhere":    {"passed", "#4000", func(r *Record) { r.Facts[0].From[0].N = 4000 }},
		"the timeline is another's":     {"passed", "timeline", func(r *Record) { r.ID = "exc-1" }},
		"the event is before it begins": {"passed", "event", func(r *Record) { r.Event = r.Began.Add(-time.Hour) }},
		"a file is elsewhere":           {"passed", "outside", func(r *Record) { r.Timelines[0].File = "../x" }},
		"there are many timelines": {"passed", "names 52", func(r *Record) {
			for range maxTimelines + 1 {
				r.Timelines = append(r.Timelines, r.Timelines[0])
			}
		}},
	} {
		dir := copied(t, c.of)
		spoilt(t, dir, c.spoil)
		_, err := Read(dir)
		if p := problem.From(err); err == nil || p.Code != "exercise-changed" || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATimelineThatWasChangedIsRefused(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"a byte":          func(s string) string { return strings.Replace(s, "two is killed", "two is kissed", 1) },
		"an entry":        func(s string) string { i := strings.Index(s, "\n"); return s[i+1:] },
		"the end":         func(s string) string { return s[:strings.LastIndex(strings.TrimSpace(s), "\n")+1] },
		"everything":      func(string) string { return "" },
		"an entry is new": func(s string) string { return s + strings.SplitAfter(s, "\n")[0] },
	} {
		dir := copied(t, "passed")
		path := filepath.Join(dir, "exc-20261123-ghohub.timeline")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil {
			t.Errorf("%s is gone, and nobody says so", name)
		}
	}
}

// ended is a desktop exercise at its end, as it is left in a directory.
func ended(t *testing.T, yes bool) (string, *Record) {
	t.Helper()
	x := newTable(t)
	for _, r := range []Reply{{}, {Who: "on-call", Words: "Look."}, {}, {Who: "ceo", Words: "Move.", Why: "It lasts."}, {Yes: yes}} {
		if err := x.Answer(r); err != nil {
			t.Fatal(err)
		}
	}
	r, err := x.End("test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, r.ID+".timeline"), x.file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, r, map[string]*incident.Timeline{r.ID: x.Log.Timeline()}); err != nil {
		t.Fatal(err)
	}
	return dir, r
}

func TestTheRecordOfADeskIsBoundToItsTimeline(t *testing.T) {
	dir, r := ended(t, false)
	if again, err := Read(dir); err != nil || again.Outcome != Missed || again.Digest() != r.Digest() {
		t.Fatalf("%v", err)
	}
	for name, spoil := range map[string]func(*Record){
		"a gap is gone":                 func(r *Record) { r.Gaps = nil },
		"a gap has another owner":       func(r *Record) { r.Gaps[0].Owner = "nobody" },
		"a no is a yes":                 func(r *Record) { l := &r.Steps[1].Lines[2]; l.OK, l.Words = true, "yes" },
		"an answer is another":          func(r *Record) { r.Steps[0].Lines[1].Words = "on-call: Sleep." },
		"the decision was sooner":       func(r *Record) { measureOf(r, "decided").Took = time.Second },
		"it was made by another":        func(r *Record) { r.Program = "9.9" },
		"a decision's reason is better": func(r *Record) { r.Steps[1].Lines[1].Words += " And rightly." },
	} {
		dir, _ := ended(t, false)
		spoilt(t, dir, spoil)
		if _, err := Read(dir); err == nil || problem.From(err).Code != "exercise-changed" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABundleComesBackAsItWas(t *testing.T) {
	b, err := ReadBundle(copied(t, "passed"))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := b.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if len(packed) > 20<<10 {
		t.Errorf("it is packed into %d bytes", len(packed))
	}
	again, err := Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := again.Verify(); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, []byte("x"), packed[:len(packed)/2]} {
		if _, err := Unpack(bad); err == nil || problem.From(err).Code != "exercise-bundle" {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

// FuzzUnpack looks for bytes that somebody hands in and that the node does not
// survive.
func FuzzUnpack(f *testing.F) {
	for _, name := range []string{"passed", "failed"} {
		b, err := ReadBundle(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b.Record), b.Timelines["exc-20261123-ghohub.timeline"])
	}
	f.Add([]byte(`{"id":"x","version":1,"timelines":[{"id":"x","file":"x"}]}`), "")
	f.Fuzz(func(t *testing.T, record []byte, lines string) {
		b := &Bundle{Record: record, Timelines: map[string]string{"exc-20261123-ghohub.timeline": lines, "x": lines}}
		if packed, err := b.Pack(); err == nil {
			if _, err := Unpack(packed); err != nil {
				t.Fatal(err)
			}
		}
		_, _, _ = b.Verify()
	})
}
