package scenario

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
)

const small = `scenario small "A small one"
fleet {
	node one gateway fleet
	node two gateway fleet # a comment
	service dns
	data 10MB
}
target answers within 5s
target lost at most 0
sandbox {
	step "First" {
		%s
	}
}
`

func TestEveryShippedScenarioIsReadAndRehearsesTheShippedPlan(t *testing.T) {
	all, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Load("../../../examples/missionops-fixed")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, s := range all {
		for _, m := range s.Check(p) {
			t.Errorf("%s:%d: %s %s", s.Path, m.Place.Line, m.Detail, m.Mend)
		}
		if s.Path != s.Name+".scenario" {
			t.Errorf("%s lies in %s", s.Name, s.Path)
		}
		for _, x := range s.Source {
			sections[x] = true
		}
	}
	for _, want := range []string{"bcp 4.1", "bcp 4.2", "bcp 4.3", "bcp 4.4", "bcp 4.5"} {
		if !sections[want] {
			t.Errorf("no shipped scenario rehearses %s", want)
		}
	}
}

func TestALineSaysWhatItMeans(t *testing.T) {
	for _, c := range []struct {
		line string
		want Act
	}{
		{`kill one`, Act{Verb: "kill", Args: map[string]string{"node": "one"}}},
		{`cut one from all`, Act{Verb: "cut", Args: map[string]string{"node": "one", "other": "all"}}},
		{`cut one from two one way`, Act{Verb: "cut", Args: map[string]string{"node": "one", "other": "two", "one-way": "yes"}}},
		{`hold for 1m30s`, Act{Verb: "hold", Args: map[string]string{"time": "1m30s"}, Within: 90 * time.Second}},
		{`load 200 per second`, Act{Verb: "load", Args: map[string]string{"rate": "200"}}},
		{`inject "It is \"dark\"" from hetzner`, Act{Verb: "inject", Args: map[string]string{"words": `It is "dark"`, "source": "hetzner"}}},
		{`inject "It is dark"`, Act{Verb: "inject", Args: map[string]string{"words": "It is dark"}}},
		{`decide interim "Yes" as on-call`, Act{Verb: "decide", Args: map[string]string{"step": "interim", "words": "Yes", "person": "on-call"}}},
		{`wait until one is lost and not database answers within 30s`, Act{Verb: "wait", Within: 30 * time.Second, Until: []Condition{
			{Form: "node-state", Args: map[string]string{"node": "one", "state": "lost"}, Says: "one is lost"},
			{Form: "service-answers", Args: map[string]string{"service": "database"}, Not: true, Says: "not database answers"},
		}}},
		{`expect at most 1 node writes`, Act{Verb: "expect", Until: []Condition{{Form: "writers", Args: map[string]string{"count": "1"}, Says: "at most 1 node writes"}}}},
	} {
		s, err := Parse("x", fmt.Appendf(nil, small, c.line))
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		got := s.Sandbox[0].Do[0]
		c.want.Says, c.want.Place = c.line, got.Place
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.line, got, c.want)
		}
	}
}

func TestTheHeadOfAScenarioSaysWhatIsSetUpAndWhatHasToBeReached(t *testing.T) {
	s, err := Parse("x", fmt.Appendf(nil, small, "kill two"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Fleet.Data != 10e6 || !slices.Equal(s.Fleet.Services, []string{"dns"}) || len(s.Fleet.Nodes) != 2 || s.Fleet.Database != "own" {
		t.Errorf("fleet %+v", s.Fleet)
	}
	if len(s.Targets) != 2 || s.Targets[0].Within != 5*time.Second || s.Targets[1].Measure != "lost" {
		t.Errorf("targets %+v", s.Targets)
	}
	if got := s.Modes(); !slices.Equal(got, []Mode{Sandbox}) {
		t.Errorf("modes %v", got)
	}
}

func TestAMistakeIsNamedWithItsPlaceAndItsMend(t *testing.T) {
	for _, c := range []struct{ line, code, mend string }{
		{`kil one`, "scenario-verb", "Is it kill?"},
		{`kill three`, "scenario-form", "Write: kill NODE"},
		{`kill`, "scenario-form", "Write: kill NODE"},
		{`kill one two`, "scenario-form", "Write: kill NODE"},
		{`hold for ever`, "scenario-form", "Write: hold for TIME"},
		{`hold for -5s`, "scenario-form", "Write: hold for TIME"},
		{`load many per second`, "scenario-form", "Write: load RATE per second"},
		{`load +5 per second`, "scenario-form", "Write: load RATE per second"},
		{`cut one from two in half`, "scenario-form", "Write: cut NODE from OTHER [one way]"},
		{`inject dark`, "scenario-form", `Write: inject "words" [from SOURCE]`},
		{`inject "dark`, "scenario-quote", `Close them; a quote inside is written \".`},
		{`break coffee`, "scenario-service", "There are: dns, mail, models, inference."},
		{`ask ceo "What?"`, "scenario-mode", "Move it to a part of another mode."},
		{`wait until one is lost`, "scenario-wait", "Write: wait until CONDITION within TIME"},
		{`wait until within 5s`, "scenario-wait", "Write: wait until CONDITION within TIME"},
		{`wait until one is lost within soon`, "scenario-duration", "Write 500ms, 30s, 5m or 2h."},
		{`expect one is los`, "scenario-state", "Is it lost?"},
		{`expect one is lost and`, "scenario-condition", "Remove it, or say what else has to be so."},
		{`expect database sleeps`, "scenario-condition", "Write: database is on NODE"},
		{`expect`, "scenario-condition", "Write: expect CONDITION"},
		{`kill one {`, "scenario-brace", "Close it by a line with }."},
	} {
		_, err := Parse("x", fmt.Appendf(nil, small, c.line))
		var bad *plan.Mistakes
		if !errors.As(err, &bad) {
			t.Errorf("%s: it was taken: %v", c.line, err)
			continue
		}
		i := slices.IndexFunc(bad.List, func(m plan.Mistake) bool { return m.Code == c.code })
		if i < 0 {
			t.Errorf("%s: %+v", c.line, bad.List)
			continue
		}
		if m := bad.List[i]; m.Mend != c.mend || m.Place.Line == 0 {
			t.Errorf("%s: mend %q at %+v", c.line, m.Mend, m.Place)
		}
	}
}

func TestAFileThatIsNoScenarioIsRefused(t *testing.T) {
	for text, code := range map[string]string{
		"":                                   "scenario-name",
		"scenario a \"A\"\n":                 "scenario-empty",
		"scenario a \"A\"\nscenario b \"B\"": "scenario-twice",
		"scenario a \"A\"\nsandbox {\nstep \"x\" {\nload 1 per second\n}\n}\n":                      "scenario-fleet",
		"scenario a \"A\"\ndesktop {\n}\n":                                                          "scenario-step",
		"scenario a \"A\"\ndesktop {\nstep \"x\" {\n}\n}\n":                                         "scenario-step",
		"scenario a \"A\"\ndesktop {\nstep \"x\" {\nat 5m inject \"a\"\nat 1m inject \"b\"\n}\n}\n": "scenario-clock",
		"scenario a \"A\"\ntarget speed within 5s\n":                                                "scenario-measure",
		"scenario a \"A\"\ntarget lost within 5s\n":                                                 "scenario-target",
		"scenario a \"A\"\nfleet {\nnode one gateway king\n}\n":                                     "scenario-role",
		"scenario a \"A\"\nfleet {\nnode one gateway fleet\ndatabase patroni\n}\n":                  "scenario-database",
		"scenario a \"A\"\nfleet {\nnode one fleet patroni\nnode two fleet patroni\n}\n":            "scenario-database",
		"scenario a \"A\"\nfleet {\nnode one fleet patroni\nnode two fleet database\n}\n":           "scenario-database",
		"scenario a \"A\"\nfleet {\nnode one gateway patroni\n}\n":                                  "scenario-role",
		"scenario a \"A\"\nfleet {\nnode one gateway\nnode one gateway\n}\n":                        "scenario-twice",
		"}\n":                      "scenario-brace",
		"{\n}\n":                   "scenario-brace",
		"scenari a \"A\"\n":        "scenario-word",
		"scenario a \"\xff\"\n":    "scenario-quote",
		"scenario a \"A\"\n\xff\n": "scenario-encoding",
		"scenario a \"A\"\ndesktop {\nstep \"x\" {\ny {\nz {\nq {\n}\n}\n}\n}\n}\n": "scenario-depth",
	} {
		_, err := Parse("x", []byte(text))
		var bad *plan.Mistakes
		if !errors.As(err, &bad) {
			t.Errorf("%q was taken", text)
			continue
		}
		if !slices.ContainsFunc(bad.List, func(m plan.Mistake) bool { return m.Code == code }) {
			t.Errorf("%q: %+v", text, bad.List)
		}
	}
}

func TestWhatAPlanHasNotIsNamed(t *testing.T) {
	s, err := Parse("x", []byte("scenario a \"A\"\nof nort-lost\ndesktop {\nstep \"x\" {\nrecover by move-sout\n}\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Load("../../../examples/three")
	if err != nil {
		t.Fatal(err)
	}
	got := s.Check(p)
	if len(got) != 2 || got[0].Mend != "Is it north-lost?" || got[1].Mend != "Is it move-south?" {
		t.Errorf("%+v", got)
	}
}

// Whatever stands in a file, reading it ends, and what is wrong has a place in
// it. What is read has only forms that the language has.
func FuzzParse(f *testing.F) {
	f.Add(small)
	all, err := Shipped()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range all {
		f.Add(string(s.Text))
	}
	for _, s := range []string{"scenario a \"A\"\ndesktop {\nstep \"\\\"\" {\nnote \"x\"\n}\n}", "{{{{{", "target lost at most 99999999999", "\xff\xfe"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x", []byte(text))
		var bad *plan.Mistakes
		if errors.As(err, &bad) {
			lines := strings.Count(text, "\n") + 1
			for _, m := range bad.List {
				if m.Place.Line < 1 || m.Place.Line > lines || m.Place.Column < 1 || m.Detail == "" || m.Mend == "" {
					t.Fatalf("%+v", m)
				}
			}
			_ = bad.Error()
			return
		}
		if err != nil || s.Name == "" {
			t.Fatalf("%v %+v", err, s)
		}
		for _, m := range s.Modes() {
			for _, st := range s.Steps(m) {
				for _, a := range st.Do {
					for _, c := range a.Until {
						if !slices.ContainsFunc(Conditions, func(f Form) bool { return f.Verb == c.Form }) {
							t.Fatalf("%+v", c)
						}
					}
				}
			}
		}
	})
}
