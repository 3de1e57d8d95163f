package console_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/missionopsai/foundry/internal/console"
	fleets "github.com/missionopsai/foundry/internal/fleet"
	members "github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/problem"
)

var night = time.Date(2026, 11, 23, 3, 14, 20, 0, time.UTC)

// oneLost is a fleet of four at 03:14: node1 is lost, node3 sees node4 and is
// not seen by it.
func oneLost() *console.Fleet {
	since := night.Add(-2 * time.Minute)
	lost := verdict.Verdict{State: verdict.Lost, Since: since, Decided: since.Add(30 * time.Second), Words: "3 of 3 observers cannot reach it by https and ssh since 03:12:20", Quorum: 2, Epoch: 41,
		For: []verdict.Observation{{Observer: "node2", Signal: "https", Code: "timeout"}, {Observer: "node3", Signal: "ssh", Code: "no-route"}}}
	of := func(subject string, v verdict.Verdict) verdict.Verdict { v.Subject = subject; return v }
	fine := verdict.Verdict{State: verdict.Fine, Since: night.Add(-time.Hour), Words: "everybody who looks reaches it"}
	up := &probe.Uptime{From: night.Add(-24 * time.Hour), To: night, Up: 24*time.Hour - 2*time.Minute, Down: 2 * time.Minute, P50: 12 * time.Millisecond, P95: 80 * time.Millisecond}
	sight := func(node string, ok bool) fleets.Sight {
		if ok {
			return fleets.Sight{Node: node, OK: true, By: []string{"peer", "https"}}
		}
		return fleets.Sight{Node: node, Not: []string{"peer", "https"}, Codes: []string{"timeout"}}
	}
	nodes := []fleets.NodeView{
		{Name: "node1", Roles: []members.Role{members.Gateway, members.Fleet}, Votes: true, Heard: since, Verdict: of("node/node1", lost), Version: "1.4.0"},
		{Name: "node2", Roles: []members.Role{members.Gateway, members.Fleet}, Votes: true, Self: true, Leader: true, Verdict: of("node/node2", fine), Version: "1.4.0", Sees: []fleets.Sight{sight("node1", false), sight("node3", true), sight("node4", true)}},
		{Name: "node3", Roles: []members.Role{members.Witness}, Votes: true, Heard: night.Add(-time.Second), Clock: 3400 * time.Millisecond, Version: "1.4.1",
			Verdict: verdict.Verdict{Subject: "node/node3", State: verdict.Clock, Words: "its clock is 3.4 s ahead; its times are not used", Since: since}, Sees: []fleets.Sight{sight("node1", false), sight("node2", true), sight("node4", true)}},
		{Name: "node4", Roles: []members.Role{members.Inference}, Heard: night, Verdict: of("node/node4", fine), Version: "1.4.0", Draining: true, Sees: []fleets.Sight{sight("node1", false), sight("node2", true), sight("node3", false)}},
	}
	return &console.Fleet{
		Picture: func() fleets.Picture {
			return fleets.Picture{Node: "node2", At: night, Majority: true, Words: "2 of 3 voters answer.", Leader: "node2", Epoch: 41, Known: night, Nodes: nodes, Functions: []fleets.FunctionView{
				{Name: "platform", Title: "The platform", Hosts: []string{"node1"}, Critical: true, Looked: true, Verdict: of("function/platform", lost), Uptime: up, Budget: &probe.Budget{Left: -90 * time.Second}},
				{Name: "database", Hosts: []string{"node1", "node2"}, Critical: true, Looked: true, Verdict: of("function/database", fine), Uptime: up, Budget: &probe.Budget{Left: 40 * time.Minute}},
				{Name: "library", Hosts: []string{"node4"}},
			}}
		},
		Status: func(context.Context) members.Status {
			s := members.Status{Node: "node2", Majority: true, Words: "2 of 3 voters answer; none more may be lost.", Voters: 3, Answer: 2, Warnings: []string{"The certificate of node3 runs out in 6 days and was not renewed."}}
			for i, n := range nodes {
				s.Nodes = append(s.Nodes, members.NodeStatus{Node: members.Node{Name: n.Name}, Answers: i > 0})
			}
			return s
		},
		Readiness: func(context.Context) ([]survivor.Readiness, error) {
			return []survivor.Readiness{
				{Need: survivor.Need{From: "node1", To: "node2", Functions: []string{"database", "platform"}}, State: survivor.Ready, Opened: night.Add(-4 * time.Minute)},
				{Need: survivor.Need{From: "node1", To: "node4", Functions: []string{"platform"}}, State: survivor.Lacking, Missing: []string{"it has not opened what it holds yet; it looks every ten minutes while its node runs"}},
				{Need: survivor.Need{From: "node1", To: "node3", Functions: []string{"platform"}, Refused: "node3 is a witness: it holds no key material"}, State: survivor.Refused},
			}, nil
		},
		Confirmed: func(context.Context) ([]fleets.Confirmed, error) {
			return []fleets.Confirmed{{At: night.Add(-90 * time.Second), By: "node2", Epoch: 41, Verdict: of("node/node1", lost)}}, nil
		},
		Database: func() *console.FleetDatabase {
			return &console.FleetDatabase{State: "primary", Words: "This node runs the fleet's database, in epoch 2.", Primary: "node2", Epoch: 2, Own: 2, Until: night.Add(8 * time.Second), Lacked: 41, Gone: 3}
		},
	}
}

func TestTheFleetIsShownAtThreeInTheMorning(t *testing.T) {
	server := httptest.NewServer(console.FleetAlone(oneLost(), night))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(server.URL+"/console/fleet"))
	says(t, ctx, "node1: lost.", "3 of 3 observers cannot reach it by https and ssh since 03:12:20", "3 of 4", "no voter may be lost", "epoch 41",
		"node1 and node2 do not see each other", "node4 does not see node3", "overspent by 1 min", "99.86 %", "Nobody looks", "3.40 s ahead", "1 of 2",
		"it opened what it holds 4 min ago", "It has not opened what it holds yet", "Node3 is a witness", "node2 by https: timeout; node3 by ssh: no-route", "runs out in 6 days",
		"Runs here", "in epoch 2", "8s", "more, without another answer", "3 are in no journal")
	clean(t, ctx, "a fleet with one lost")
	pictured(t, ctx, "fleet-lost")
}

// Without a majority the page says so before anything else, shows what this
// node has, and how old that is.
func TestTheFleetIsShownWithoutAMajority(t *testing.T) {
	f := oneLost()
	with := f.Picture
	f.Picture = func() fleets.Picture {
		p := with()
		p.Majority, p.Leader, p.Epoch, p.Known = false, "", 0, night.Add(-3*time.Minute)
		p.Words = "2 of 3 members do not answer; nothing can be decided until one is back, or until an operator runs `foundry node recover`."
		return p
	}
	f.Readiness = func(context.Context) ([]survivor.Readiness, error) {
		return nil, problem.New(problem.Unavailable, "fleet-no-majority", "Most of the fleet's members do not answer.").WithMend("Bring one back.")
	}
	f.Confirmed = func(context.Context) ([]fleets.Confirmed, error) { t.Error("the fleet was asked"); return nil, nil }
	f.Database = func() *console.FleetDatabase {
		return &console.FleetDatabase{State: "fenced", Words: "The database on this node stays down: node1 is the fleet's primary since epoch 3.", Primary: "node1", Epoch: 3, Own: 2,
			Next: "Stop this node, run foundry database rejoin, and start it."}
	}
	server := httptest.NewServer(console.FleetAlone(f, night))
	t.Cleanup(server.Close)
	ctx := tab(t, nil)
	run(t, ctx, chromedp.EmulateViewport(390, 844), chromedp.Navigate(server.URL+"/console/fleet"))
	says(t, ctx, "Nothing can be decided.", "foundry node recover", "last heard 3 min ago", "nobody leads", "Bring one back.",
		"The fleet's database: Kept down.", "foundry database rejoin", "its data are of epoch 2", "it holds no lease")
	saysNot(t, ctx, "Nothing is lost", "Confirmed by the fleet")
	clean(t, ctx, "a fleet without a majority, on a phone")
	pictured(t, ctx, "fleet-none")
}
