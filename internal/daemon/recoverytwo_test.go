//go:build faults

package daemon

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/incident"
)

// joinedBy starts a second process that joins the fleet of a first one. again
// starts it anew after its end.
func joinedBy(t *testing.T, first *process, name string) (second *process, again func() *process) {
	t.Helper()
	c := inFleet(t, name)
	roles := []member.Role{member.Fleet}
	membertest.Await(t, "the fleet takes "+name, func(ctx context.Context) bool {
		token, _, err := first.Member().Invite(ctx, "local:uid=0", name, roles)
		if err == nil {
			_, err = member.Join(ctx, c.MemberOptions(roles, "recovery", ring(t, c.DataDir)), token)
		}
		return err == nil
	})
	again = func() *process { return operated(t, c, &wall{}) }
	second = again()
	membertest.Await(t, "both vote", func(ctx context.Context) bool {
		s := first.Member().Status(ctx)
		return s.Majority && s.Voters == 2 && s.Answer == 2
	})
	return second, again
}

const pressed = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
nodes: [{name: one, roles: [fleet]}, {name: two, roles: [fleet]}, {name: old, roles: [gateway]}]
functions: [{name: web, mtd: 1 day, rto: 4h, host: [old], hostnames: [web.example.eu], probes: [{name: port, kind: tcp, target: "%s", every: 1h, from: [one]}]}]
recovery:
  - name: back
    functions: [web]
    onto: [one]
    steps:
      - {name: think, kind: decide}
%s
`

const asItWas = `      - {name: look, kind: validate, takes: 6s}`

const asItIsNow = `      - {name: look-again, kind: validate, takes: 6s}
      - {name: agree, kind: approve}`

// Two people press at the same moment, each on a node of their own: there is
// one run, both are shown it, and its steps are carried out once. While it goes
// on the plan is edited: it goes on by the one that it was started with.
func TestARecoveryIsStartedOnceWhoeverPressesAndGoesOnByItsOwnPlan(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two processes")
	}
	t.Parallel()
	one := operated(t, inFleet(t, "one"), &wall{})
	two, _ := joinedBy(t, one, "two")
	two.who.UID = one.who.UID
	door, open := one.door()
	open()
	nowhere := membertest.Free(t, 1)[0]
	one.goesBy(fmt.Sprintf(pressed, door, asItWas))
	text := one.planned.Plan().Hash()
	membertest.Await(t, "the other follows the plan", func(context.Context) bool { f := two.planned.Plan(); return f != nil && f.Hash() == text })

	type outcome struct {
		r    recovery.Shown
		mine bool
		err  error
	}
	var last outcome
	for round := range 8 {
		id := one.opens(incident.Begin{Title: fmt.Sprintf("Loss %d", round), Nodes: []string{"old"}, Functions: []string{"web"}})
		ready, results := make(chan struct{}), make(chan outcome, 4)
		var pressing sync.WaitGroup
		for _, p := range []*process{one, two, one, two} {
			pressing.Go(func() {
				<-ready
				var o outcome
				membertest.Await(t, "the button answers", func(ctx context.Context) bool {
					o.r, o.mine, o.err = p.recovery.Start(ctx, p.who, recovery.Start{Plan: "back", Incident: id})
					return o.err == nil
				})
				results <- o
			})
		}
		close(ready)
		pressing.Wait()
		close(results)
		begun := 0
		ids := map[string]bool{}
		for o := range results {
			ids[o.r.ID] = true
			if o.mine {
				begun++
				last = o
			}
		}
		if begun != 1 || len(ids) != 1 {
			t.Fatalf("of four who pressed %d began a run, and were shown %v", begun, ids)
		}
	}
	all, err := two.recovery.List(t.Context(), two.who)
	if err != nil || len(all) != 8 {
		t.Fatalf("there are %d runs of 8 incidents: %v", len(all), err)
	}

	run, id := last.r.ID, last.r.Incident
	one.until(run, "it waits for a decision", func(r recovery.Shown) bool {
		n := stepOf(r, "think").Need
		return n != nil && n.What == recovery.NeedDecide
	})
	one.goesBy(fmt.Sprintf(pressed, nowhere, asItIsNow))
	one.until(run, "it knows of the other plan", func(r recovery.Shown) bool { return r.Newer != "" })
	if _, err := two.recovery.Decide(t.Context(), two.who, run, recovery.Word{Step: "think", Words: "It is brought back."}); err != nil {
		t.Fatal(err)
	}
	one.goesOn(run, "look") // by the probe of its own plan: that of the other one looks nowhere
	end := one.until(run, "the run has ended", func(r recovery.Shown) bool { return !r.Ended.IsZero() })
	if end.Outcome != "done" || len(end.Steps) != 2 || end.Plan != text || end.Newer == text {
		t.Errorf("it ended as %+v", end.Run)
	}
	one.proven(end)
	acts := one.acts(id)
	if n := len(slices.DeleteFunc(slices.Clone(acts), func(a string) bool { return !strings.HasPrefix(a, "recovery.plan-changed") })); n != 1 {
		t.Errorf("that another plan came into force stands there %d times: %q", n, acts)
	}
	if n := len(slices.DeleteFunc(slices.Clone(acts), func(a string) bool { return !strings.HasPrefix(a, "recovery.begin") })); n != 1 {
		t.Errorf("it was begun %d times: %q", n, acts)
	}

	// One that is started now goes by the plan that is in force.
	next := one.starts(one.opens(incident.Begin{Title: "Another", Nodes: []string{"old"}, Functions: []string{"web"}}), "back")
	if len(next.Steps) != 3 || next.Steps[1].Name != "look-again" {
		t.Errorf("a new run has the steps %+v", next.Steps)
	}
}

const automatic = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
nodes: [{name: one, roles: [fleet]}, {name: two, roles: [fleet]}]
functions:
  - name: post
    mtd: 1 day
    rto: 4h
    probes:
      - {name: port, kind: tcp, target: "%[1]s", every: 1s, from: [one]}
      - {name: mail, kind: smtp, target: "%[2]s tls=none", every: 1s, from: [one]}
scenarios: [{name: post-lost, kind: node-loss, loses: [post], recovery: [by-itself, by-hand]}]
recovery:
  - {name: by-itself, functions: [post], starts: automatic, steps: [{name: think, kind: decide}]}
  - {name: by-hand, functions: [post], steps: [{name: think, kind: decide}]}
`

// forgetful is a process that does not know what was started, and sees what
// this one sees.
func (p *process) forgetful() *Daemon {
	return &Daemon{log: p.log, lookout: lookout{watcher: p.watcher, planned: p.planned}, incidents: incidents{book: p.book},
		recoveries: recoveries{ownDesk: p.ownDesk, selfStarted: map[string]bool{}}}
}

// A confirmed loss starts the plan that starts by itself, and no other; once,
// whoever leads; and not where most of the fleet does not answer.
func TestARecoveryStartsByItselfOnceWherePlannedAndNotInAMinority(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two processes, and one of them again")
	}
	t.Parallel()
	one := operated(t, inFleet(t, "one"), &wall{})
	two, again := joinedBy(t, one, "two")
	o := newPostOffice(t)
	ports := []string{membertest.Free(t, 1)[0], o.at} // two: what ends at one door is one sign of it
	var listeners []net.Listener
	for _, at := range ports {
		l := membertest.Listen(t, at, nil)
		listeners = append(listeners, l)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go o.serve(c)
			}
		}()
	}
	one.goesBy(fmt.Sprintf(automatic, ports[0], ports[1]))
	sees := func(p *process, down bool) func(context.Context) bool {
		return func(context.Context) bool {
			for _, f := range p.watcher.Picture().Functions {
				if f.Name == "post" && f.Looked {
					return f.Verdict.Avoid() == down
				}
			}
			return false
		}
	}
	membertest.Await(t, "the post is seen to work", sees(one, false))
	membertest.Await(t, "by the other too", sees(two, false))

	// In a minority nothing begins, although the loss is there for everybody to see.
	two.ends()
	membertest.Await(t, "most of the fleet does not answer", func(ctx context.Context) bool {
		_, leads := one.watcher.Term()
		return !leads && !one.Member().Status(ctx).Majority
	})
	for _, l := range listeners {
		_ = l.Close()
	}
	membertest.Await(t, "the one that is left sees the loss", func(context.Context) bool {
		up, known := one.history.State("post", time.Now())
		return known && !up
	})
	if err := one.forgetful().startAutomatic(t.Context()); err != nil {
		t.Errorf("without a majority: %v", err)
	}
	if all, err := one.recovery.List(t.Context(), one.who); err != nil || len(all) != 0 {
		t.Fatalf("in a minority %d recoveries have begun (%v)", len(all), err)
	}

	two = again()
	back := time.Now()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, p := range []*process{one, two} {
			_, leads := p.watcher.Term()
			t.Logf("leads %v, sees %+v", leads, p.watcher.Picture().Functions)
		}
		all, err := one.incident.List(context.Background(), one.who)
		t.Logf("incidents: %+v %v", all, err)
	})
	var runs []recovery.Shown
	var err error
	membertest.Await(t, "the recovery starts by itself", func(ctx context.Context) bool {
		runs, err = one.recovery.List(ctx, one.who)
		return err == nil && len(runs) > 0
	})
	r := one.until(runs[0].ID, "it is being carried out", func(r recovery.Shown) bool { return stepOf(r, "think").Need != nil })
	if r.Name != "by-itself" || r.Starter != "system:recovery" || r.Started.Before(back.Add(-time.Minute)) || !slices.Contains(one.acts(r.Incident), "recovery.start  asked") {
		t.Errorf("what began is %+v", r.Run)
	}

	// Another process leads, which knows nothing of what this one has started.
	for _, p := range []*process{one, two, one, two} {
		if err := p.forgetful().startAutomatic(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if runs, err = two.recovery.List(t.Context(), two.who); err != nil || len(runs) != 1 {
		t.Errorf("%d recoveries have begun (%v): %+v", len(runs), err, runs)
	}
}
