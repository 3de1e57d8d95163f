package console_test

import (
	"io"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/missionopsai/foundry/internal/console"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	fleets "github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident"
	clocks "github.com/missionopsai/foundry/internal/incident/clock"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// nightIncident is an incident two hours old: one clock has run out, one is
// nearly out, a decision waits for a second person, a notice is not sent.
func nightIncident(t *testing.T, mode incident.Mode) *incident.Timeline {
	t.Helper()
	began := night.Add(-2 * time.Hour)
	at := began
	l := incident.NewLog(io.Discard, "inc-20261123-aaaaaa", "node2", "node:fleet", func() time.Time { at = at.Add(time.Second); return at })
	rule := func(id string, kind clocks.Kind, of, title, within string) clocks.Rule {
		span, err := plan.ParseSpan(within)
		if err != nil {
			t.Fatal(err)
		}
		return clocks.Rule{ID: id, Kind: kind, Of: of, Title: title, Bounds: []clocks.Bound{{From: clocks.Ref{Name: clocks.Start}, Within: span}}, Ends: []clocks.Ref{{Name: clocks.Restored, Of: of}}}
	}
	for _, b := range []incident.Body{
		&incident.Opened{Title: "node1 is lost", Category: incident.Outage, Mode: mode, Scenario: "node-loss", Approvals: 2, Started: began, Detected: began,
			Scope: incident.Scope{Nodes: []string{"node1"}, Functions: []string{"platform"}, Clients: []string{"harbour"}},
			Rules: []clocks.Rule{rule("rto/platform", clocks.RTO, "platform", "The platform is back", "2h 10m"), rule("mtd/platform", clocks.MTD, "platform", "No lasting harm", "8h"), rule("notice/harbour", clocks.Notice, "harbour", "Harbour authority is told", "90m")}},
		&incident.Signal{Source: "https", From: "node2", Subject: "node/node1", At: began, Words: "no answer"},
		&incident.Decision{About: "restore", Target: "platform", Words: "Restore onto node2 from the copy of 01:12: node1 does not come back tonight."},
		&incident.Note{Words: "The provider's status page says power loss in hall 2."},
		&incident.Action{ID: "A1", Title: "Ask the provider for its report", Owner: "operations", Due: began.Add(time.Hour)},
	} {
		if _, err := l.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	return l.Timeline()
}

// nightRun is a recovery that a gate holds, with a step that needs somebody.
func nightRun() recovery.Shown {
	began := night.Add(-3 * time.Minute)
	return recovery.Shown{Run: recovery.Run{ID: "rec-20261123-bbbbbb", Name: "node-loss", Title: "Move the platform to node2", Incident: "inc-20261123-aaaaaa", Mode: incident.Real, Lost: []string{"node1"}, Onto: []string{"node2"}, Started: began,
		Steps: []recovery.StepState{
			{Name: "confirm", Kind: "confirm", State: recovery.Done, Began: began, Ended: began.Add(20 * time.Second)},
			{Name: "fence-node1", Kind: "fence", State: recovery.NeedsPerson, Began: began, Need: &recovery.Need{What: recovery.NeedSay, Words: "Switch node1 off at its supplier and read back that it is off", Who: []string{"anna"}}},
			{Name: "restore-database", Kind: "restore", State: recovery.Ready, Words: "node1 is not fenced yet: it may still write"},
			{Name: "fetch-backup", Kind: "command", State: recovery.Running, Began: began, Progress: &order.Progress{Words: "fetching", Done: 412, Total: 1024, Unit: "MiB"}},
			{Name: "move-name", Kind: "dns", State: recovery.Waiting},
		}}}
}

func nightOf(t *testing.T, f *console.Fleet, lines []*incident.Timeline, runs []recovery.Shown) console.Night {
	t.Helper()
	return console.Night{Fleet: f, Now: night, Database: true,
		Timelines:  func() ([]*incident.Timeline, error) { return lines, nil },
		Recoveries: func() ([]recovery.Shown, error) { return runs, nil }}
}

// quiet is a fleet in which nothing is wrong.
func quiet() *console.Fleet {
	f := oneLost()
	with := f.Picture
	f.Picture = func() fleets.Picture {
		p := with()
		for i := range p.Nodes {
			p.Nodes[i].Verdict = verdict.Verdict{Subject: p.Nodes[i].Verdict.Subject, State: verdict.Fine}
		}
		for i := range p.Functions {
			p.Functions[i].Verdict = verdict.Verdict{Subject: p.Functions[i].Verdict.Subject, State: verdict.Fine}
		}
		p.At = night.Add(-2 * time.Second)
		return p
	}
	return f
}

func TestCommandSaysCalmlyThatNothingIsWrong(t *testing.T) {
	server := httptest.NewServer(console.CommandAlone(nightOf(t, quiet(), nil, nil)))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL+"/console/command"))
	says(t, ctx, "Nothing is down.", "nothing waits for you", "03:14:18 UTC, 2 s ago", "2 of 3", "node2 leads, epoch 41", "Answers", "None runs")
	saysNot(t, ctx, "May be old", "What needs somebody", "Open incidents")
	clean(t, ctx, "command with nothing wrong, on a phone")
	pictured(t, ctx, "command-quiet")
}

func TestCommandShowsWhatIsDownWhatIsLeftAndWhatWaits(t *testing.T) {
	server := httptest.NewServer(console.CommandAlone(nightOf(t, oneLost(), []*incident.Timeline{nightIncident(t, incident.Real)}, []recovery.Shown{nightRun()})))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(server.URL+"/console/command"))
	says(t, ctx, "Node1: lost since 03:12:20 UTC, for 2 min", "30 min over", "Run out", "Nearly out", "10 min", "Running", "Switch node1 off at its supplier", "for anna", "foundry recovery say rec-20261123-bbbbbb fence-node1 --words '…' --evidence '…' --fact fenced-by=power-off --fact state=off",
		"waits for 2 of 2 approvals", "Held by a gate", "Node1 is not fenced yet: it may still write.", "412 of 1\u202f024 MiB", "1 of 5 steps are over", "Action A1 of operations was due", "phase: detection")
	saysNot(t, ctx, "Nothing is down", "Exercise,", "May be old")
	// The tightest first; what somebody has to do for a recovery before the rest.
	if got := eval[string](t, ctx, `[...document.querySelectorAll('.clocks .left')].map(e => e.textContent).join(', ')`); got != "30 min over, 10 min, 6 h 0 min" {
		t.Errorf("the clocks stand as %s", got)
	}
	if got := eval[string](t, ctx, `document.querySelector('.needs strong').innerText`); got != "fence-node1: Switch node1 off at its supplier and read back that it is off" {
		t.Errorf("first is asked for: %s", got)
	}
	clean(t, ctx, "command with an incident")
	pictured(t, ctx, "command-incident")
	run(t, ctx, chromedp.EmulateViewport(390, 844))
	clean(t, ctx, "command with an incident, on a phone")
}

func TestAnExerciseIsMarkedAsSuchOnCommand(t *testing.T) {
	r := nightRun()
	r.Mode = incident.Live
	server := httptest.NewServer(console.CommandAlone(nightOf(t, quiet(), []*incident.Timeline{nightIncident(t, incident.Live)}, []recovery.Shown{r})))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL+"/console/command"))
	says(t, ctx, "Exercise, live")
	if n := eval[int](t, ctx, `[...document.querySelectorAll('.clocks li, .needs li, .run, .rowsof > li')].filter(e => !e.innerText.includes('Exercise, live')).length`); n > 0 {
		t.Errorf("%d things of the exercise are not marked", n)
	}
	pictured(t, ctx, "command-exercise")
}

func TestCommandWorksWithoutADatabaseAndWithoutAMajority(t *testing.T) {
	f := oneLost()
	with := f.Picture
	f.Picture = func() fleets.Picture {
		p := with()
		p.Majority, p.Leader, p.Epoch, p.Known, p.Words = false, "", 0, night.Add(-3*time.Minute), "2 of 3 members do not answer."
		return p
	}
	line, r := nightIncident(t, incident.Real), nightRun()
	line.Stale, r.Stale = true, true
	n := nightOf(t, f, []*incident.Timeline{line}, []recovery.Shown{r})
	n.Database = false
	server := httptest.NewServer(console.CommandAlone(n))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL+"/console/command"))
	says(t, ctx, "Nothing can be decided.", "The database does not answer.", "03:11:20 UTC, 3 min ago", "no majority", "Away", "May be old", "node1 is lost", "Switch node1 off")
	saysNot(t, ctx, "Nothing is down")
	clean(t, ctx, "command without a majority, on a phone")
	pictured(t, ctx, "command-alone")
}

// What cannot be read is said, and takes nothing else from the page.
func TestCommandSaysWhatItCannotRead(t *testing.T) {
	n := nightOf(t, quiet(), nil, nil)
	n.Timelines = func() ([]*incident.Timeline, error) {
		return nil, problem.New(problem.Unavailable, "fleet-no-majority", "Most of the fleet's members do not answer.").WithMend("Bring one back.")
	}
	n.Recoveries = func() ([]recovery.Shown, error) { return []recovery.Shown{nightRun()}, nil }
	server := httptest.NewServer(console.CommandAlone(n))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.Navigate(server.URL+"/console/command"))
	says(t, ctx, "Incidents cannot be read.", "Bring one back.", "Move the platform to node2")
	saysNot(t, ctx, "Nothing is down")
}

func TestAnIncidentShowsItsClocksAndTheApprovalThatWaits(t *testing.T) {
	server := httptest.NewServer(console.CommandAlone(nightOf(t, oneLost(), []*incident.Timeline{nightIncident(t, incident.Real)}, nil)))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(server.URL+"/console/incidents/inc-20261123-aaaaaa"))
	says(t, ctx, "30 min over", "Nearly out", "platform for 2 h 0 min", "0 of 2 approvals", "Approve or reject", "They come from different people.", "Ask the provider for its report", "Late")
	saysNot(t, ctx, "Exercise")
	clean(t, ctx, "an incident with clocks")
	pictured(t, ctx, "incident-clocks")
}

func TestARecoveryShowsItsStepsTheGateAndWhatItWaitsFor(t *testing.T) {
	r := nightRun()
	r.Steps[0].Receipt = &recovery.Receipt{Step: "confirm", Words: "two signals that do not depend on each other", By: "node2"}
	r.Steps[2].State, r.Steps[2].Need = recovery.NeedsPerson, &recovery.Need{What: recovery.NeedApprove, Words: "restoring over data that are there needs approval", Who: []string{"anna", "ben"}, Count: 2}
	r.Steps[4].State, r.Steps[4].Need = recovery.Failed, &recovery.Need{What: recovery.NeedHelp, Words: "the server refused the change: try again, or say what is so"}
	server := httptest.NewServer(console.CommandAlone(nightOf(t, oneLost(), nil, []recovery.Shown{r})))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(server.URL+"/console/recoveries/rec-20261123-bbbbbb"))
	says(t, ctx, "Needs somebody", "Two signals that do not depend on each other.", "Receipt of node2.", "412 of", "It is done", "It failed", "Approve", "Reject", "Try it again", "Failed", "The supplier shows it as switched off")
	clean(t, ctx, "a recovery that waits")
	pictured(t, ctx, "recovery")
}
