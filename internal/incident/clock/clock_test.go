package clock

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
	"pgregory.net/rapid"
)

var began = time.Date(2026, 3, 28, 22, 0, 0, 0, time.UTC) // a Saturday night; summer time begins at 01:00

func after(d time.Duration) time.Time { return began.Add(d) }

// line writes facts as a timeline would hold them.
type line []Fact

func (l line) add(name, of string, at, recorded time.Duration, evidence ...string) line {
	return append(l, Fact{Ref: Ref{name, of}, At: after(at), Recorded: after(recorded), Entry: len(l) + 1, Evidence: evidence})
}

func one(t testing.TB, rules []Rule, facts line, now time.Duration) Reading {
	t.Helper()
	got := Read(rules, facts, after(now))
	if len(got) != 1 {
		t.Fatalf("%d readings", len(got))
	}
	return got[0]
}

func simple(t testing.TB) []Rule {
	return []Rule{{ID: "rto/web", Kind: RTO, Of: "web", Bounds: []Bound{{From: Ref{Lost, "web"}, Within: span(t, "4h")}},
		Ends: []Ref{{Restored, "web"}, {Unfounded, ""}}, Reopens: []Ref{{Lost, "web"}}, Escalate: usual("ceo")}}
}

func TestAClockRunsEscalatesAndEnds(t *testing.T) {
	lost := line{}.add(Lost, "web", 0, time.Minute)
	for _, c := range []struct {
		name  string
		facts line
		now   time.Duration
		state State
		left  time.Duration
	}{
		{"nothing has started it", nil, time.Hour, Waiting, 0},
		{"it runs", lost, time.Hour, Running, 3 * time.Hour},
		{"it is over to the instant", lost, 4 * time.Hour, Expired, 0},
		{"it has run out", lost, 5 * time.Hour, Expired, -time.Hour},
		{"an end without evidence is none", lost.add(Restored, "web", time.Hour, time.Hour), 2 * time.Hour, Running, 2 * time.Hour},
		{"another function's end is none", lost.add(Restored, "mail", time.Hour, time.Hour, "entry:1"), 2 * time.Hour, Running, 2 * time.Hour},
		{"an end that is said ahead is none", lost.add(Restored, "web", 3*time.Hour, time.Hour, "entry:1"), 2 * time.Hour, Running, 2 * time.Hour},
		{"it was met", lost.add(Restored, "web", 3*time.Hour, 3*time.Hour, "entry:1"), 9 * time.Hour, Met, 0},
		{"it was missed", lost.add(Restored, "web", 4*time.Hour+time.Second, 5*time.Hour, "entry:1"), 9 * time.Hour, Missed, 0},
		{"lost again, it goes on from its first start", lost.add(Restored, "web", time.Hour, time.Hour, "entry:1").add(Lost, "web", 3*time.Hour, 3*time.Hour), 3 * time.Hour, Running, time.Hour},
		{"a false alarm, with evidence, makes it void", lost.add(Unfounded, "", time.Hour, time.Hour, "entry:1"), 2 * time.Hour, Void, 0},
		{"a start that is said ahead counts from when it was said", line{}.add(Lost, "web", 10*time.Hour, time.Hour), 4 * time.Hour, Running, time.Hour},
		{"a clock of a node that was set back wins no time", lost.add(Aware, "", time.Hour, 3*time.Hour), time.Minute, Running, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := one(t, simple(t), c.facts, c.now)
			if got.State != c.state || got.Left != c.left {
				t.Errorf("got %s with %s left (%s), want %s with %s", got.State, got.Left, got.Says, c.state, c.left)
			}
		})
	}
}

func TestAnEndWrittenAfterTheBoundIsMarked(t *testing.T) {
	facts := line{}.add(Lost, "web", 0, 0).add(Restored, "web", 3*time.Hour, 30*time.Hour, "entry:1")
	if got := one(t, simple(t), facts, 31*time.Hour); got.State != Met || !got.After || !strings.Contains(got.Says, "written down after") {
		t.Errorf("got %s, %v: %s", got.State, got.After, got.Says)
	}
}

func TestOfSeveralBoundsTheOneThatEndsFirstCountsWhicheverStartsIt(t *testing.T) {
	rules := []Rule{{ID: "notice/acme", Kind: Notice, Of: "acme", Ends: []Ref{{Told, "acme"}}, Bounds: []Bound{
		{From: Ref{Confirmed, ""}, Within: span(t, "2h"), At: "plan"},
		{From: Ref{Detected, ""}, Within: span(t, "4h"), At: "agreement"},
		{From: Ref{ScopeKnown, ""}, Within: span(t, "as soon as possible"), At: "word"},
	}}}
	detected := line{}.add(Detected, "", 0, 0)
	if got := one(t, rules, detected, time.Hour); got.Bound.At != "agreement" || got.Left != 3*time.Hour {
		t.Errorf("before it is confirmed the agreement counts: %s, %s", got.Bound.At, got.Left)
	}
	early := detected.add(Confirmed, "", time.Hour, time.Hour, "entry:1")
	if got := one(t, rules, early, time.Hour); got.Bound.At != "plan" || got.Left != 2*time.Hour {
		t.Errorf("confirmed early, the plan counts: %s, %s", got.Bound.At, got.Left)
	}
	late := detected.add(Confirmed, "", 3*time.Hour, 3*time.Hour, "entry:1")
	if got := one(t, rules, late, 3*time.Hour); got.Bound.At != "agreement" || got.Left != time.Hour {
		t.Errorf("confirmed late, the agreement counts: %s, %s", got.Bound.At, got.Left)
	}
}

func TestTheRegulatorsClockStartsWhenItWasKnownAndGoesOnWhenTheRiskReturns(t *testing.T) {
	rules := slices.DeleteFunc(Rules(nil, Scope{Personal: Personal{Controller: true}, Clients: []string{}}), func(r Rule) bool { return r.Kind != Regulator })
	known := line{}.add(Aware, "", 2*time.Hour, 20*time.Hour).add(Risk, "", 20*time.Hour, 20*time.Hour)
	if got := one(t, rules, known, 20*time.Hour); got.Left != 54*time.Hour || got.Due.In(CalendarOf("GB").zone()).Format("Mon 15:04 MST") != "Wed 01:00 BST" {
		t.Errorf("72 hours from awareness, not from the assessment: %s left, until %s", got.Left, got.Due)
	}
	calm := known.add(NoRisk, "", 30*time.Hour, 30*time.Hour, "entry:3")
	if got := one(t, rules, calm, 100*time.Hour); got.State != Met {
		t.Errorf("assessed as no risk it is %s", got.State)
	}
	if got := one(t, rules, calm.add(Risk, "", 80*time.Hour, 80*time.Hour), 80*time.Hour); got.State != Expired || got.Left != -6*time.Hour {
		t.Errorf("assessed as a risk again it is %s, %s left", got.State, got.Left)
	}
	sooner := known.add(Aware, "", time.Hour, 21*time.Hour)
	if got := one(t, rules, sooner, 21*time.Hour); got.Left != 52*time.Hour {
		t.Errorf("it was known earlier still: %s left", got.Left)
	}
	told := known.add(RegulatorTold, "UK", 73*time.Hour, 73*time.Hour, "receipt:1")
	if got := one(t, rules, told, 99*time.Hour); got.State != Met || got.Took != 71*time.Hour {
		t.Errorf("told after 71 hours: %s, %s", got.State, got.Took)
	}
}

func TestUpdatesStartTheirClockAnewUntilAllIsRestored(t *testing.T) {
	rules := []Rule{{ID: "update/acme", Kind: Update, Of: "acme", Bounds: []Bound{{From: Ref{Told, "acme"}, Within: span(t, "4h")}}, Ends: []Ref{{AllRestored, ""}}, Escalate: usual()}}
	facts := line{}.add(Told, "acme", 0, 0, "r:0")
	if got := one(t, rules, facts, 3*time.Hour); got.State != Running || got.Left != time.Hour || got.Steps[0].Round != 0 {
		t.Errorf("got %+v", got)
	}
	facts = facts.add(Updated, "acme", 3*time.Hour, 3*time.Hour, "r:1")
	if got := one(t, rules, facts, 6*time.Hour); got.State != Running || got.Left != time.Hour || got.Steps[0].Round != 1 {
		t.Errorf("got %+v", got)
	}
	facts = facts.add(Updated, "acme", 8*time.Hour, 8*time.Hour) // not acknowledged by anybody
	if got := one(t, rules, facts, 8*time.Hour); got.State != Expired {
		t.Errorf("an update without a receipt counted: %+v", got)
	}
	facts = facts.add(Updated, "acme", 9*time.Hour, 9*time.Hour, "r:2").add(AllRestored, "", 10*time.Hour, 10*time.Hour, "entry:1")
	if got := one(t, rules, facts, 20*time.Hour); got.State != Missed || got.Count != 1 {
		t.Errorf("one of two updates came too late: %s, %d", got.State, got.Count)
	}
}

func TestExposureCountsFromTheNewestProvenPointAndIsNeverZeroForWantOfOne(t *testing.T) {
	rules := []Rule{{ID: "rpo/web", Kind: RPO, Of: "web", Bounds: []Bound{{From: Ref{RecoverablePoint, "web"}, Within: span(t, "24h")}}, Ends: []Ref{{Unfounded, ""}}}}
	for _, c := range []struct {
		name  string
		facts line
		state State
		took  time.Duration
	}{
		{"nothing is known", line{}, Waiting, 0},
		{"no point", line{}.add(Lost, "web", 0, 0), Unclear, 0},
		{"a point that nothing shows", line{}.add(Lost, "web", 0, 0).add(RecoverablePoint, "web", -time.Hour, 0), Unclear, 0},
		{"the newest of two", line{}.add(RecoverablePoint, "web", -30*time.Hour, 0, "o:1").add(RecoverablePoint, "web", -2*time.Hour, 0, "o:2").add(Lost, "web", 0, 0), Running, 2 * time.Hour},
		{"it was proven to be older", line{}.add(RecoverablePoint, "web", -2*time.Hour, 0, "o:1").add(Lost, "web", 0, 0).add(RecoveredPoint, "web", -25*time.Hour, time.Hour, "o:2"), Missed, 25 * time.Hour},
		{"it was proven, and less than the bound", line{}.add(Lost, "web", 0, 0).add(RecoveredPoint, "web", -time.Minute, time.Hour, "o:2"), Met, time.Minute},
		{"it still writes, and nothing keeps that", line{}.add(RecoverablePoint, "web", -20*time.Hour, 0, "o:1"), Expired, 25 * time.Hour},
	} {
		if got := one(t, rules, c.facts, 5*time.Hour); got.State != c.state || got.Took != c.took {
			t.Errorf("%s: got %s, %s; want %s, %s", c.name, got.State, got.Took, c.state, c.took)
		}
	}
}

func TestOfStepsThatAreDueTogetherOnlyTheLastIsTold(t *testing.T) {
	facts := line{}.add(Lost, "web", 0, 0)
	read := func(now time.Duration) []Reading { return Read(simple(t), facts, after(now)) }
	told := map[Key]bool{}
	for _, c := range []struct {
		now    time.Duration
		shares string
	}{{time.Hour, ""}, {2 * time.Hour, "0.5"}, {2 * time.Hour, ""}, {230 * time.Minute, "0.95"}, {4 * time.Hour, "1"}, {40 * time.Hour, ""}} {
		tell, passed := Pending(read(c.now), told, after(c.now))
		var got []string
		for _, e := range tell {
			got = append(got, fmt.Sprint(e.Share))
		}
		if strings.Join(got, " ") != c.shares {
			t.Errorf("after %s: told %v, want %q", c.now, got, c.shares)
		}
		for _, e := range append(tell, passed...) {
			told[e.Key()] = true
		}
	}
}

// timeline draws facts as they could follow each other, with evidence or
// without, written late or by nodes whose clocks differ.
func timeline(t *rapid.T) line {
	var out line
	for range rapid.IntRange(0, 12).Draw(t, "facts") {
		name := rapid.SampledFrom([]string{Start, Detected, Aware, Confirmed, Lost, Restored, AllRestored, Told, Updated, NoRisk, Risk, RegulatorTold, Unfounded, RecoverablePoint}).Draw(t, "fact")
		of := rapid.SampledFrom([]string{"", "web", "acme", "UK"}).Draw(t, "of")
		at := time.Duration(rapid.Int64Range(-100, 200).Draw(t, "at")) * time.Hour
		recorded := time.Duration(rapid.Int64Range(-100, 200).Draw(t, "recorded")) * time.Hour
		if rapid.Bool().Draw(t, "shown") {
			out = out.add(name, of, at, recorded, "entry:1")
		} else {
			out = out.add(name, of, at, recorded)
		}
	}
	return out
}

func allRules(t testing.TB) []Rule {
	out := Rules(nil, Scope{Events: []string{"outage", "personal-data-breach"}, Clients: []string{"acme"}, Isolate: []string{"web"}, Personal: Personal{Controller: true, Processor: true, High: true}})
	return append(append(out, simple(t)...), Rule{ID: "rpo/web", Kind: RPO, Of: "web", Bounds: []Bound{{From: Ref{RecoverablePoint, "web"}, Within: span(t, "24h")}}})
}

func TestAStartedClockIsEndedByEvidenceAloneAndNeverWinsTime(t *testing.T) {
	rules := allRules(t)
	rapid.Check(t, func(t *rapid.T) {
		facts := timeline(t)
		cut := rapid.IntRange(0, len(facts)).Draw(t, "cut")
		now := time.Duration(rapid.Int64Range(-100, 300).Draw(t, "now")) * time.Hour
		before, then := byID(Read(rules, facts[:cut], after(now))), byID(Read(rules, facts, after(now)))
		if len(before) != len(rules) || len(then) != len(rules) {
			t.Fatal("a clock is gone")
		}
		for id, old := range before {
			new := then[id]
			if old.Kind == RPO || old.State == Waiting {
				continue
			}
			if new.State == Waiting {
				t.Fatalf("%s had started, and more facts stopped it", id)
			}
			if new.Ended != nil && len(new.Ended.Evidence) == 0 {
				t.Fatalf("%s was ended by %+v, which nothing shows", id, new.Ended)
			}
			if old.Started != nil && new.Started != nil && old.Kind != Update && new.Due.After(old.Due) {
				t.Fatalf("%s ended at %s, and now later: %s", id, old.Due, new.Due)
			}
			for k, s := range new.Steps {
				if s.At.After(new.Due) || k > 0 && s.At.Before(new.Steps[k-1].At) {
					t.Fatalf("%s is told of at %s, and runs out at %s", id, s.At, new.Due)
				}
			}
		}
		for id, later := range byID(Read(rules, facts, after(now+time.Hour))) {
			if then[id].State == Expired && later.State != Expired || later.Over() != then[id].Over() {
				t.Fatalf("%s: %s became %s by waiting", id, then[id].State, later.State)
			}
		}
	})
}

func TestALaterPlanTakesNoClockAwayAndMakesNoneLater(t *testing.T) {
	rules := allRules(t)
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string) (out []Rule) {
			for _, r := range rules {
				if rapid.Bool().Draw(t, name+" has "+r.ID) {
					r.Bounds = []Bound{{From: r.Bounds[0].From, Within: must(rapid.SampledFrom([]string{"1h", "4h", "3 days", "2 business days", "regularly"}).Draw(t, "within"))}}
					if rapid.Bool().Draw(t, "other ends") {
						r.Ends = []Ref{{Start, ""}}
					}
					out = append(out, r)
				}
			}
			return out
		}
		have, also := pick("have"), pick("also")
		facts, now := timeline(t), after(time.Hour)
		joined := byID(Read(Stricter(have, also), facts, now))
		for id, old := range byID(Read(have, facts, now)) {
			new, ok := joined[id]
			if !ok {
				t.Fatalf("%s is gone", id)
			}
			if old.Started != nil && old.Kind != RPO && old.Kind != Update && (new.Started == nil || new.Due.After(old.Due)) {
				t.Fatalf("%s ends at %s, not %s", id, new.Due, old.Due)
			}
			if !slices.Equal(old.Ends, new.Ends) {
				t.Fatalf("what ends %s has changed", id)
			}
		}
		for _, r := range also {
			if _, ok := joined[r.ID]; !ok {
				t.Fatalf("%s was not added", r.ID)
			}
		}
	})
}

func byID(all []Reading) map[string]Reading {
	out := map[string]Reading{}
	for _, r := range all {
		out[r.ID] = r
	}
	return out
}

func must(text string) plan.Span {
	s, err := plan.ParseSpan(text)
	if err != nil {
		panic(err)
	}
	return s
}
