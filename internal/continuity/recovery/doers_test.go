package recovery

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/plan"
)

const waited = `version: 1
organisation: {name: Heard}
people: [{name: ann}]
nodes: [{name: n1}, {name: n2}, {name: far, isolated: true}]
functions:
  - {name: web, host: [n1], hostnames: [www.example.eu], probes: [{name: page, kind: https, target: "https://www.example.eu/"}, {name: port, kind: tcp, target: "n1:5432"}, {name: name, kind: dns, target: "www.example.eu"}]}
  - {name: plain, host: [n1], probes: [{name: port, kind: tcp, target: "192.0.2.1:25"}]}
  - {name: other, host: [n2], probes: [{name: port, kind: tcp, target: "n2:25"}]}
clients: [{name: acme, functions: [web]}, {name: zeta, functions: [other]}, {name: all}]
notices: [{name: news, event: outage, to: clients, within: 2h}, {name: law, event: personal-data-breach, to: regulator, within: 72h}]
recovery: [{name: back, functions: [web], onto: [n2], steps: [{name: s, kind: watch, takes: 1h}]}]
`

// waiting is what a doer that waits for an incident is given: an incident that
// the test changes, and what was asked of people.
type waiting struct {
	t     *testing.T
	state incident.State
	task  Task
	asked []string
	wrote []incident.Body
	steps int
}

func waits(t *testing.T, step plan.Step) *waiting {
	t.Helper()
	p, err := plan.Parse("fleet.yaml", []byte(waited))
	if err != nil {
		t.Fatal(err)
	}
	w := &waiting{t: t}
	w.task = Task{Run: Run{ID: "rec-1", Name: "back", Incident: "inc-1", Onto: []string{"n2"}, Lost: []string{"n1"}}, Step: step, Plan: p, Attempt: 1, Functions: []string{"web"},
		Progress: func(order.Progress) { w.steps++ },
		Ask: func(n *Need) {
			if n != nil {
				w.asked = append(w.asked, n.Words)
			}
		},
		Incident: func(context.Context) (*incident.State, error) { return &w.state, nil },
		Record: func(_ context.Context, b incident.Body) (*incident.Entry, error) {
			w.wrote = append(w.wrote, b)
			return &incident.Entry{N: 9}, nil
		}}
	return w
}

// change is a change of the incident, and whether the doer is done with it.
type change struct {
	what string
	do   func(*incident.State)
	done bool
}

// goes has a doer wait while the incident changes, on a clock of its own.
func (w *waiting) goes(d Doer, changes ...change) (r Receipt) {
	synctest.Test(w.t, func(t *testing.T) {
		var err error
		over := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { defer close(over); r, err = d.Do(ctx, w.task) }()
		for _, c := range changes {
			if c.do != nil {
				c.do(&w.state)
			}
			time.Sleep(2 * pollEvery) // of the bubble: nobody waits
			synctest.Wait()
			ended := false
			select {
			case <-over:
				ended = true
			default:
			}
			if ended != c.done {
				t.Fatalf("%s: it has ended: %v (%+v, %v), asked %q", c.what, ended, r, err, w.asked)
			}
		}
		cancel()
		<-over
		if !changes[len(changes)-1].done && !errors.Is(err, context.Canceled) {
			t.Errorf("told to end, it ended with %v", err)
		}
		if changes[len(changes)-1].done && err != nil {
			t.Error(err)
		}
	})
	return r
}

func signal(source, from string, ok bool, entry int) incident.SignalSeen {
	return incident.SignalSeen{Signal: incident.Signal{Source: source, From: from, OK: ok}, Entry: entry}
}

func TestAConfirmationTakesTwoSignalsOfDifferentKindsAndObservers(t *testing.T) {
	sees := func(s ...incident.SignalSeen) func(*incident.State) {
		return func(state *incident.State) { state.Signals = append(state.Signals, s...) }
	}
	w := waits(t, plan.Step{Name: "sure", Kind: "confirm"})
	r := w.goes(Confirm(),
		change{"nothing", nil, false},
		change{"one signal", sees(signal("https", "n2", false, 2)), false},
		change{"the same kind from elsewhere", sees(signal("https", "n3", false, 3)), false},
		change{"another kind that works", sees(signal("tcp", "n3", true, 4)), false},
		change{"another kind from the same observers", sees(signal("ssh", "n2", false, 5), signal("ssh", "n2", false, 6)), true})
	// https of n3 and ssh of n2 do not depend on each other.
	if len(w.wrote) != 1 || len(w.asked) == 0 || !strings.Contains(w.asked[0], "a second one of another kind") {
		t.Fatalf("wrote %+v, asked %q", w.wrote, w.asked)
	}
	if f := w.wrote[0].(*incident.Fact); f.Fact != clock.Confirmed || !slices.Equal(f.Evidence, []string{"entry:3", "entry:5"}) || r.Facts["evidence"] != "entry:3 entry:5" {
		t.Errorf("confirmed by %+v, receipt %+v", f, r)
	}
	// Somebody has confirmed it: nothing is written again.
	w = waits(t, plan.Step{Name: "sure", Kind: "confirm"})
	w.goes(Confirm(), change{"confirmed by hand", func(s *incident.State) {
		s.Facts = append(s.Facts, clock.Fact{Ref: clock.Ref{Name: clock.Confirmed}, Evidence: []string{"entry:7"}})
	}, true})
	if len(w.wrote) != 0 {
		t.Errorf("confirmed twice: %+v", w.wrote)
	}
}

func TestANotificationWaitsForReceiptsOfAllWhomItIsFor(t *testing.T) {
	tells := func(to string, audience incident.Audience, at time.Time) func(*incident.State) {
		return func(s *incident.State) {
			s.Notices = append(s.Notices, incident.Sent{Notice: incident.Notice{ID: to, To: to, Audience: audience}, ToldAt: at, Entry: 4})
		}
	}
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	w := waits(t, plan.Step{Name: "tell", Kind: "notify", Notice: "news"})
	r := w.goes(Notify(),
		change{"nobody", nil, false},
		change{"somebody else", tells("zeta", incident.ToClient, now), false},
		change{"of one it was decided that nobody tells them", func(s *incident.State) {
			s.Decisions = append(s.Decisions, incident.Decided{Decision: incident.Decision{About: "no-notice", Target: "all"}, Approved: true})
		}, false},
		change{"the other is sent one, and it is not known to have arrived", tells("acme", incident.ToClient, time.Time{}), false},
		change{"it has", tells("acme", incident.ToClient, now), true})
	if r.Facts["told-acme"] != "entry:4" || r.Facts["told-all"] != "decided not to" || !strings.Contains(w.asked[0], "acme, all") {
		t.Errorf("%+v, asked %q", r, w.asked)
	}
	w = waits(t, plan.Step{Name: "tell", Kind: "notify", Notice: "law"})
	w.goes(Notify(),
		change{"nobody", nil, false},
		change{"assessed as a risk", func(s *incident.State) {
			s.Assessed = append(s.Assessed, incident.Assessed{Assessment: incident.Assessment{Personal: true, Risk: incident.RiskLikely}})
		}, false},
		change{"the authority of a regime", tells("UK", incident.ToRegulator, now), true})
	w = waits(t, plan.Step{Name: "tell", Kind: "notify"})
	if _, err := Notify().Do(t.Context(), w.task); err == nil {
		t.Error("the plan says nothing of whom to tell, and somebody was told")
	}
}

func TestAReviewIsWaitedForUntilItStandsInTheIncident(t *testing.T) {
	w := waits(t, plan.Step{Name: "learn", Kind: "review"})
	r := w.goes(Review(), change{"none", nil, false}, change{"held", func(s *incident.State) { s.Review = &incident.Review{Cause: "a disk"} }, true})
	if !strings.Contains(r.Words, "a disk") || len(w.asked) == 0 {
		t.Errorf("%+v, asked %q", r, w.asked)
	}
}

func TestAWatchLastsAsLongAsThePlanSaysAndEndsWithALoss(t *testing.T) {
	for name, c := range map[string]struct {
		lost time.Duration // after which; 0: never
		want State
		took time.Duration
	}{
		"nothing is lost":         {0, Done, time.Hour},
		"lost after half of it":   {30 * time.Minute, Failed, 30 * time.Minute},
		"lost from the beginning": {time.Nanosecond, Failed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := waits(t, plan.Step{})
			w.task.Step = w.task.Plan.RecoveryPlan("back").Steps[0]
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r, err := Watch(func(string) (string, bool) {
					return "it does not answer", c.lost > 0 && (c.lost == time.Nanosecond || time.Since(began) >= c.lost)
				}).Do(t.Context(), w.task)
				took := time.Since(began)
				if err != nil || outcome(t.Context(), r, err).receipt.Outcome != c.want || took < c.took || took > c.took+pollEvery {
					t.Errorf("%+v %v after %s", r, err, took)
				}
				if c.want == Failed && (r.Code != "recovery-lost-again" || !strings.Contains(r.Words, "web is lost again")) || c.want == Done && w.steps == 0 {
					t.Errorf("%+v, %d times said how far", r, w.steps)
				}
			})
		})
	}
	w := waits(t, plan.Step{Name: "long", Takes: w1h(t)})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := Watch(func(string) (string, bool) { return "", false }).Do(ctx, w.task); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("told to end, it ended with %v", err)
		}
	})
}

func w1h(t *testing.T) plan.Span {
	t.Helper()
	s, err := plan.ParseSpan("1h")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Where a machine cannot look, people do: nothing is held to work for want of a
// probe.
func TestAValidationIsLeftToPeopleWhereNothingCanLook(t *testing.T) {
	d := Validate(&order.Desk{}, func(string) string { return "" })
	for name, change := range map[string]func(*Task){
		"no node":            func(t *Task) { t.Run.Onto = nil },
		"a node of no fleet": func(t *Task) { t.Step.Node = "far" },
	} {
		w := waits(t, plan.Step{Name: "look", Kind: "validate"})
		change(&w.task)
		if _, err := d.Do(t.Context(), w.task); err == nil {
			t.Errorf("%s: it was validated", name)
		} else if words, ok := handed(err); !ok || words == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is validated is what takes over, under the names that clients use, which
// have not moved yet.
func TestAProbeLooksAtTheNodeThatTakesOverAndNotAtTheLostOne(t *testing.T) {
	w := waits(t, plan.Step{})
	p := &Prober{Node: "n2", Env: func() probe.Env {
		return probe.Env{Address: func(string) (string, bool) { return "192.0.2.2", true }}
	}}
	specs, err := p.specs(w.task.Plan, order.Order{Args: map[string]string{"functions": "web\nplain\nother", "lost": "n1", "address": "198.51.100.2"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range specs {
		got[s.Name] = s.Target
	}
	want := map[string]string{"web/page": "https://www.example.eu/ at=198.51.100.2", "web/port": "n2:5432", "plain/port": "198.51.100.2:25", "other/port": "n2:25"}
	for name, target := range want {
		if got[name] != target {
			t.Errorf("%s looks at %q, want %q", name, got[name], target)
		}
	}
	if len(got) != len(want) {
		t.Errorf("it looks by %v: a name that has not moved shows nothing", got)
	}
	for _, bad := range []string{"", "nobody"} {
		if _, err := p.specs(w.task.Plan, order.Order{Args: map[string]string{"functions": bad}}); err == nil {
			t.Errorf("functions %q: there is nothing to look at, and it passed", bad)
		}
	}
}
