package backup

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db/dbtest"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

func TestTonightIsAnsweredByWhatWasTried(t *testing.T) {
	now := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	good := func() GlassStatus {
		return GlassStatus{At: now, Set: "1a2b3c4d", Threshold: 2, Shares: 3, Created: now.Add(-90 * 24 * time.Hour),
			Copies:    []KitCopy{{Place: "offsite: kit", At: now, Seen: now.Add(-30 * time.Minute)}, {Place: "second: kit", Failure: "It is away."}},
			LastDrill: &KitDrill{Set: "1a2b3c4d", Outcome: Pass, At: now.Add(-12 * 24 * time.Hour)}}
	}
	for name, c := range map[string]struct {
		change func(*GlassStatus)
		want   Outcome
		says   string
	}{
		"tried and seen":                      {func(*GlassStatus) {}, Pass, "Yes, if 2 of the 3 holders come: their shares were tried 12 days ago, and the kit was read at offsite 30 minutes ago."},
		"changed since":                       {func(s *GlassStatus) { s.Changed = []KitChange{{What: []string{"x"}}} }, Pass, "Since then the kit has changed."},
		"no key":                              {func(s *GlassStatus) { s.Set = "" }, Fail, "No. There is no recovery key"},
		"no copy":                             {func(s *GlassStatus) { s.Copies, s.Reason = s.Copies[1:], "No copy lies anywhere." }, Fail, "No. No copy lies anywhere."},
		"never tried":                         {func(s *GlassStatus) { s.LastDrill = nil }, Inconclusive, "Nobody knows. Nobody has tried"},
		"tried with shares from before":       {func(s *GlassStatus) { s.LastDrill.Set = "00000000" }, Inconclusive, "Nobody knows. Nobody has tried"},
		"the last drill failed":               {func(s *GlassStatus) { s.LastDrill.Outcome, s.LastDrill.Reason = Fail, "Bad." }, Fail, "No. The last drill with this key failed: Bad."},
		"a drill with old shares failed":      {func(s *GlassStatus) { s.LastDrill.Outcome, s.LastDrill.Set = Fail, "00000000" }, Inconclusive, "Nobody knows. Nobody has tried"},
		"the last drill proved nothing":       {func(s *GlassStatus) { s.LastDrill.Outcome, s.LastDrill.Reason = Inconclusive, "Dark." }, Inconclusive, "Nobody knows. The last drill proved nothing: Dark."},
		"tried more than a year ago":          {func(s *GlassStatus) { s.LastDrill.At = now.Add(-366 * 24 * time.Hour) }, Inconclusive, "more than a year ago"},
		"no copy was read since this morning": {func(s *GlassStatus) { s.Copies[0].Seen = now.Add(-5 * time.Hour) }, Inconclusive, "No copy of the kit was read for 5 hours."},
		"no copy was ever read":               {func(s *GlassStatus) { s.Copies[0].Seen = time.Time{} }, Inconclusive, "No copy of the kit was read for 90 days."},
	} {
		t.Run(name, func(t *testing.T) {
			s := good()
			c.change(&s)
			v := s.tonight()
			if v.Outcome != c.want || !strings.Contains(v.Reason, c.says) || v.Outcome != Pass && v.Next == "" {
				t.Errorf("got %+v, want %s and %q", v, c.want, c.says)
			}
		})
	}
}

func TestACopyThatSomebodyChangedIsSeenAndSoIsWhatChangedInTheKit(t *testing.T) {
	w := newGlassWorld(t, dbtest.New(t), policy.Development)
	w.o.Look = func(_ context.Context, name string, sum [sha256.Size]byte) []KitCopy {
		c := KitCopy{Place: "offsite"}
		if sha256.Sum256(w.target[name]) == sum {
			c.Seen = w.now
		} else {
			c.Failure = "What lies there is not the newest kit."
		}
		return []KitCopy{c}
	}
	w.again()
	ctx := t.Context()
	if _, err := w.Look(ctx, console); problem.From(err).Code != "break-glass-no-key" {
		t.Errorf("without a key: %v", err)
	}
	w.make()
	w.now = w.now.Add(time.Minute)
	s, err := w.Look(ctx, console)
	if err != nil || len(s.Copies) != 1 || s.Copies[0].Failure != "" || !s.Copies[0].Seen.Equal(w.now) {
		t.Fatalf("%+v, %v", s.Copies, err)
	}
	seen := w.now
	for name := range w.target {
		w.target[name] = []byte("something else")
	}
	w.now = w.now.Add(time.Minute)
	if s, err = w.Look(ctx, console); err != nil || s.Copies[0].Failure == "" || !s.Copies[0].Seen.Equal(seen) || s.Ready || s.Tonight.Outcome != Fail {
		t.Errorf("a copy that was changed: %+v, %+v, %v", s.Copies, s.Tonight, err)
	}
	// It is made anew, and what changed meanwhile is named by its part.
	w.content.Settings = "b"
	w.now = w.now.Add(time.Minute)
	if err := w.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	w.again() // it survives a restart
	s, err = w.Look(ctx, console)
	if err != nil || s.Copies[0].Failure != "" || len(s.Changed) != 1 || strings.Join(s.Changed[0].What, "") != "the settings and the files that they name" {
		t.Errorf("%+v, %+v, %v", s.Copies, s.Changed, err)
	}
	for _, p := range []principal.Principal{{Kind: principal.Key, ID: "abcdefghij"}, someone(principal.Viewer)} {
		if _, err := w.Look(ctx, p); problem.From(err).Kind != problem.Denied {
			t.Errorf("%s may look: %v", p, err)
		}
	}
	// The briefing names people: only for those who may, and it is entered.
	if _, err := w.Briefing(ctx, someone(principal.PlatformOperator)); problem.From(err).Kind != problem.Denied {
		t.Errorf("an operator may read who holds what: %v", err)
	}
	printed, err := w.Briefing(ctx, someone(principal.PlatformSecurity))
	if err != nil || !strings.Contains(printed.Text, "Grace") {
		t.Errorf("%v", err)
	}
}

func TestAnOpeningIsActiveUntilItEndsAndIsDueWithinADay(t *testing.T) {
	w := newGlassWorld(t, dbtest.New(t), policy.Development)
	shares := w.make()
	o, err := w.Open(t.Context(), console, w.proof(shares[:2], nil))
	if err != nil {
		t.Fatal(err)
	}
	active := func(want bool, why string) {
		t.Helper()
		s, err := w.Status(t.Context(), console)
		if err != nil || len(s.Openings) != 1 || s.Openings[0].ID != o.ID || s.Openings[0].Active != want {
			t.Errorf("%s: %+v, %v", why, s.Openings, err)
		}
	}
	active(true, "opened")
	if due := o.ReviewDue(); !due.Equal(o.Opened.Add(24 * time.Hour)) {
		t.Errorf("due %s", due)
	}
	now := w.now
	w.now = o.Until.Add(time.Second)
	active(false, "its time is over")
	w.now = now
	if err := w.End(o.Token); err != nil {
		t.Fatal(err)
	}
	active(false, "ended")
}

func TestWhatAProbeFoundIsSaidInWords(t *testing.T) {
	gone := problem.New(problem.Unavailable, "target-gone", "Nobody answers.").WithMend("Start it.")
	full := problem.New(problem.Exhausted, "target-full", "It is full.").WithMend("Make room.")
	together := []target.Finding{{Rule: "volume", Detail: "Same disk.", Mend: "Another.", Fatal: true}}
	for name, c := range map[string]struct {
		found               target.Probe
		together            []target.Finding
		err                 error
		late                bool
		want                Outcome
		reachable, writable bool
		apart               bool
		lock                string
	}{
		"well":               {target.Probe{Deletes: target.DeletesNothing, Free: 1, Total: 2}, nil, nil, false, Pass, true, true, true, "this node can delete nothing there"},
		"locked":             {target.Probe{ObjectLock: true, Retention: "compliance", RetentionDays: 35, Deletes: target.DeletesMarks}, nil, nil, false, Pass, true, true, true, "locked for 35 days (compliance)"},
		"could be better":    {target.Probe{Deletes: target.DeletesForGood, Findings: []target.Finding{{Rule: "can-delete"}}}, nil, nil, false, Inconclusive, true, true, true, "none: this node can delete what is there"},
		"lost with the data": {target.Probe{Deletes: target.DeletesNothing}, together, nil, false, Fail, true, true, false, "this node can delete nothing there"},
		"gone":               {target.Probe{}, nil, gone, false, Fail, false, false, true, "not known"},
		"full":               {target.Probe{}, nil, full, false, Fail, true, false, true, "not known"},
		"too slow":           {target.Probe{}, nil, context.DeadlineExceeded, true, Fail, false, false, true, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			r := TargetProbe{Free: -1, Total: -1, Apart: true}
			r.judge(c.found, c.together, c.err, c.late)
			if r.Outcome != c.want || r.Reachable != c.reachable || r.Writable != c.writable || r.Apart != c.apart || r.Lock != c.lock || r.Reason == "" {
				t.Errorf("got %+v", r)
			}
			if c.err != nil && (r.Mend == "" || r.Code == "") {
				t.Errorf("it does not say what to do: %+v", r)
			}
		})
	}
}
