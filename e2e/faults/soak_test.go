//go:build faults

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// trouble is one thing that happens to a site, and what follows from it.
type trouble struct {
	name   string
	away   []*machine // dead, or cut off from a majority that is left: may be lost, and are after a while
	silent []*machine // of them: they are not asked how they see it
	parted []*machine // live, and do not hear a majority: say so, and accuse nobody
	unwell []*machine // clients need not be answered by these
	over   bool       // it has ended, and what it did heals
	begin  func()
	end    func()
}

// troubles are all that may happen, each with the machine that it is chosen to
// happen to first.
func (s *site) troubles(r *rand.Rand) []func() trouble {
	any := func() *machine { return s.all[r.IntN(len(s.all))] }
	others := func(m *machine) (list []*machine) {
		return slices.DeleteFunc(slices.Clone(s.all), func(o *machine) bool { return o == m })
	}
	places := func(list []*machine) (out []int) {
		for _, m := range list {
			out = append(out, m.i)
		}
		return out
	}
	gateway := func(m *machine) []*machine {
		if slices.Contains(s.gateways, m) {
			return []*machine{m}
		}
		return nil
	}
	heal := s.net.healAll
	return []func() trouble{
		func() trouble {
			m := any()
			return trouble{name: "killed", away: []*machine{m}, silent: []*machine{m}, unwell: gateway(m), begin: func() { s.kill(m) }, end: m.start}
		},
		func() trouble {
			m := s.gateways[r.IntN(len(s.gateways))]
			return trouble{name: "killed", away: []*machine{m}, silent: []*machine{m}, unwell: gateway(m), begin: func() { s.kill(m) }, end: m.start}
		},
		func() trouble {
			m := s.gateways[r.IntN(len(s.gateways))]
			return trouble{name: "killed over and over", away: []*machine{m}, silent: []*machine{m}, unwell: gateway(m), end: m.start, begin: func() {
				for range 4 {
					s.kill(m)
					m.start()
					pass(time.Duration(r.IntN(3000)) * time.Millisecond)
				}
				s.kill(m)
			}}
		},
		func() trouble {
			m := any()
			return trouble{name: "stopped", away: []*machine{m}, silent: []*machine{m}, unwell: gateway(m),
				begin: func() { m.signal(syscall.SIGSTOP) }, end: func() { m.signal(syscall.SIGCONT) }}
		},
		func() trouble { // from everybody, clients too
			m := any()
			return trouble{name: "cut off", away: []*machine{m}, parted: []*machine{m}, unwell: gateway(m), begin: func() { s.net.isolate(m.i) }, end: heal}
		},
		func() trouble { // its clients reach it, and it goes on answering them
			m := any()
			return trouble{name: "cut off from its peers", away: []*machine{m}, parted: []*machine{m},
				begin: func() { s.net.part([]int{m.i}, places(others(m))) }, end: heal}
		},
		func() trouble {
			m := any()
			return trouble{name: "mute", away: []*machine{m}, parted: []*machine{m}, begin: func() {
				for _, o := range others(m) {
					s.net.drop(m.i, o.i)
				}
			}, end: heal}
		},
		func() trouble {
			m := any()
			return trouble{name: "deaf", away: []*machine{m}, parted: []*machine{m}, begin: func() {
				for _, o := range others(m) {
					s.net.drop(o.i, m.i)
				}
			}, end: heal}
		},
		func() trouble { // somebody hears it, so that nobody may call it lost
			m := any()
			o := others(m)[r.IntN(len(s.all)-1)]
			return trouble{name: "one way to one", begin: func() { s.net.drop(m.i, o.i) }, end: heal}
		},
		func() trouble { // its answers do not reach its clients; its peers do
			m := s.gateways[r.IntN(len(s.gateways))]
			return trouble{name: "one way to clients", unwell: gateway(m), begin: func() { s.net.drop(m.i, s.crowd.at) }, end: heal}
		},
		func() trouble { // the smaller part cannot know, and the other goes on
			list := slices.Clone(s.all)
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			small := (len(list) - 1) / 2
			return trouble{name: "split", away: list[:small], parted: list[:small], begin: func() { s.net.part(places(list[:small]), places(list[small:])) }, end: heal}
		},
		func() trouble { // nobody can know, and every gateway answers
			return trouble{name: "shattered", parted: s.all, begin: func() {
				for _, m := range s.all {
					s.net.part([]int{m.i}, places(others(m)))
				}
			}, end: heal}
		},
		func() trouble { return trouble{name: "nothing", begin: func() {}, end: func() {}} },
	}
}

// soak is what came of a site in trouble.
type soak struct {
	*site
	strict bool // times are held to what is promised, not only to an end
	watch  *invariants
	out    struct {
		rounds, databases    map[string]int
		kills                int
		looks, unsure, false int
		confirmed, unknown   []time.Duration // from the trouble to the last who held it
		healed, answering    []time.Duration
	}
}

// longStream is how many words make a stream that takes seconds.
const longStream = 200

// Three gateways and two witnesses are killed, stopped and cut off in turn and
// at random, with their database there or away, while clients ask without
// pause. Who is left with a majority agrees on who is away within the time in
// which a loss is confirmed; who is cut off says that it cannot know, and
// accuses nobody; nobody who is there and can be reached is ever lost; whoever
// asks a gateway that nothing is wrong with is answered, whole and to the word;
// and at the end the ledger is what the clients saw.
//
// FOUNDRY_SOAK says for how long, FOUNDRY_SEED repeats the schedule of a run,
// FOUNDRY_TROUBLE keeps to those with a word in their name.
func TestClientsAreAnsweredWhileNodesAreKilledAndCutOverAndOver(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	t.Parallel()
	long, err := time.ParseDuration(os.Getenv("FOUNDRY_SOAK"))
	strict := err == nil
	if !strict {
		long = 3 * time.Minute
	}
	seed, err := strconv.ParseUint(os.Getenv("FOUNDRY_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("FOUNDRY_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := &soak{site: newSite(t, 3, 2), strict: strict, watch: newInvariants(t)}
	s.out.rounds, s.out.databases = map[string]int{}, map[string]int{}

	ctx, leave := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	t.Cleanup(func() { leave(); asking.Wait() })
	for _, m := range s.gateways {
		asking.Go(func() { s.crowd.stay(ctx, m.i) })
	}
	for i, first := range [][]int{{1, 2, 3}, {3, 1, 2}} {
		asking.Go(func() { s.crowd.wander(ctx, first, 40, i == 0, 4*time.Second) })
	}
	asking.Go(func() { s.crowd.wander(ctx, []int{2, 3, 1}, longStream, true, 30*time.Second) })

	var stalled time.Duration // what the machine itself adds to every answer
	asking.Go(func() {
		for ctx.Err() == nil {
			from := time.Now()
			pass(100 * time.Millisecond)
			stalled = max(stalled, time.Since(from)-100*time.Millisecond)
		}
	})

	began := time.Now()
	troubles := slices.DeleteFunc(s.troubles(r), func(make func() trouble) bool { return !strings.Contains(make().name, os.Getenv("FOUNDRY_TROUBLE")) })
	order := r.Perm(len(troubles)) // each once before any twice
	for n := 0; time.Since(began) < long && !t.Failed(); n++ {
		if n%len(order) == 0 {
			order = r.Perm(len(order))
		}
		// In every third round, those with an outcome to wait for are waited for.
		s.round(troubles[order[n%len(order)]](), r.IntN(3) == 0, time.Duration(4+r.IntN(10))*time.Second, r.IntN(4))
	}
	leave()
	asking.Wait()
	if !t.Failed() {
		s.settle()
	}
	t.Logf("this machine let a process that wanted to run wait for up to %s", stalled.Round(time.Millisecond))
	s.report(time.Since(began))
}

// round makes one trouble, holds it, ends it and waits until all is well.
func (s *soak) round(x trouble, confirm bool, hold time.Duration, database int) {
	t := s.t
	s.out.rounds[x.name]++
	where := ""
	back := func() {}
	switch database {
	case 0:
		where, back = ", the database frozen", s.frozen()
	case 1:
		where, back = ", the database stopped", s.stopped()
	}
	if where != "" {
		s.out.databases[strings.TrimPrefix(where, ", the database ")]++
	}
	t.Logf("%s: %s %s%s for %s, confirmed %v", time.Now().Format(time.TimeOnly), x.name, called(x.away), where, hold, confirm)
	for _, m := range x.unwell {
		s.unwell(m)
	}
	x.begin()
	began := time.Now()
	for time.Since(began) < hold && !t.Failed() {
		s.look(x)
		pass(500 * time.Millisecond)
	}
	if len(x.parted) > 0 {
		s.wait("those who are cut off to say that they cannot know", &s.out.unknown, began, x, func(p fleet.Picture) bool {
			return !named(p.Node, x.parted) || !p.Majority && stateOf(p, p.Node) == verdict.CutOff
		})
	}
	if confirm && len(x.away) > 0 {
		s.wait("those who are left to hold who is lost", &s.out.confirmed, began, x, func(p fleet.Picture) bool {
			if named(p.Node, x.away) {
				return true
			}
			return p.Majority && !slices.ContainsFunc(x.away, func(m *machine) bool { return stateOf(p, m.name) != verdict.Lost })
		})
	}
	if confirm && len(x.away) == 0 { // longer than a loss takes to be confirmed
		for time.Since(began) < 45*time.Second && !t.Failed() {
			s.look(x)
			pass(500 * time.Millisecond)
		}
	}
	early := database%2 == 0
	if early {
		back()
	}
	x.end()
	// What starts without its database starts without a lease of a budget, and
	// refuses what it may not spend: it is held to nothing before that is back.
	if !early && len(x.silent) > 0 {
		early = true
		back()
	}
	healed := time.Now()
	x.silent, x.parted, x.over = nil, nil, true
	var starting sync.WaitGroup
	for _, m := range x.unwell {
		starting.Go(func() { took := s.well(m); s.note(&s.out.answering, took) })
	}
	starting.Wait() // without its database, too
	if !early {
		back()
	}
	s.wait("all to be well again", &s.out.healed, healed, x, func(p fleet.Picture) bool {
		return p.Majority && p.Leader != "" && len(p.Nodes) == len(s.all) && !slices.ContainsFunc(p.Nodes, func(n fleet.NodeView) bool { return bad(n.Verdict.State) })
	})
}

func (s *soak) note(in *[]time.Duration, d time.Duration) {
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	*in = append(*in, d)
}

// bad are the states of a node that something is the matter with now.
func bad(state verdict.State) bool {
	return slices.Contains([]verdict.State{verdict.Suspected, verdict.Lost, verdict.OneWay, verdict.CutOff, verdict.Unknown, verdict.Disputed, verdict.Clock, ""}, state)
}

func called(list []*machine) string {
	var out []string
	for _, m := range list {
		out = append(out, m.name)
	}
	return strings.Join(out, "+")
}

func named(name string, list []*machine) bool {
	return slices.ContainsFunc(list, func(m *machine) bool { return m.name == name })
}

// look asks everybody who can be asked, and holds each to what it may say.
func (s *soak) look(x trouble) (all []fleet.Picture, missing error) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range s.all {
		if slices.Contains(x.silent, m) {
			continue
		}
		asking.Go(func() {
			p, err := m.sees()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = fmt.Errorf("%s: %w", m.name, err)
				return
			}
			all = append(all, p)
		})
	}
	asking.Wait()
	for _, p := range all {
		s.out.looks++
		s.watch.sees(p)
		for _, n := range p.Nodes {
			switch {
			case n.Verdict.State != verdict.Lost:
			case !named(n.Name, x.away):
				s.out.false++
				s.t.Errorf("%s is lost though it is there (%s): %s", n.Name, x.name, sketch(p))
			case named(p.Node, x.parted):
				s.out.false++
				s.t.Errorf("%s is cut off, and accuses %s (%s): %s", p.Node, n.Name, x.name, sketch(p))
			}
		}
		if !x.over && !named(p.Node, x.parted) && !p.Majority {
			s.out.unsure++
		}
	}
	return all, missing
}

// wait looks until everybody sees what there is to see.
func (s *soak) wait(what string, in *[]time.Duration, from time.Time, x trouble, met func(fleet.Picture) bool) {
	s.t.Helper()
	for began := time.Now(); !s.t.Failed(); pass(250 * time.Millisecond) {
		all, missing := s.look(x)
		not := slices.IndexFunc(all, func(p fleet.Picture) bool { return !met(p) })
		if missing == nil && not < 0 {
			*in = append(*in, time.Since(from))
			s.t.Logf("  %s after %s", what, time.Since(from).Round(100*time.Millisecond))
			return
		}
		if time.Since(began) > 2*patience {
			state := fmt.Sprint(missing)
			if not >= 0 {
				state = sketch(all[not])
			}
			s.t.Errorf("waited for %s (%s %s) for %s: %s", what, x.name, called(x.away), time.Since(began).Round(time.Second), state)
		}
	}
}

// settle holds everything to account once all is over.
func (s *soak) settle() {
	indeterminate, sum := s.books()
	s.t.Logf("%d requests in the ledger, the outcome of %d is not known", sum, indeterminate)
	if out := s.gateways[0].run("audit", "verify"); out.code != 0 {
		s.t.Errorf("the audit log does not verify: %s%s", out.out, out.err)
	}
}

// report says what happened in numbers, and holds times to what is promised
// where that was asked for.
func (s *soak) report(took time.Duration) {
	t := s.t
	held, slowest := 0, asked{}
	counts := map[string]int{}
	for _, a := range s.crowd.everything() {
		key := fmt.Sprint(a.status, " ", a.code)
		switch {
		case a.good():
			key = "answered whole"
		case a.wrong != "":
			key = "wrong"
		case a.broken:
			key = "broken off and said so"
		case a.status == 200:
			key = "connection lost on the way"
		case a.status == 0:
			key = "no answer"
		}
		if s.held(a) {
			held++
			if a.words < longStream && a.end.Sub(a.at) > slowest.end.Sub(slowest.at) {
				slowest = a
			}
		} else {
			key += " (its gateway in trouble)"
		}
		counts[key]++
	}
	gap := s.crowd.longest()
	for _, m := range s.all {
		s.out.kills += len(s.kills[m.i])
	}
	t.Logf("%s: %d kills; rounds %v; database %v; epochs up to %d", took.Round(time.Second), s.out.kills, s.out.rounds, s.out.databases, s.watch.highest)
	t.Logf("requests %v; %d of gateways that nothing was wrong with, the slowest %s (%s)", counts, held, slowest.end.Sub(slowest.at).Round(time.Millisecond), slowest)
	t.Logf("the longest that somebody with several addresses waited between two answers: %s, until %s", gap.long.Round(time.Millisecond), gap.end.Format(time.TimeOnly))
	t.Logf("verdicts: %d pictures, %d false losses, %d without a majority though one was there", s.out.looks, s.out.false, s.out.unsure)
	t.Logf("loss agreed on after %s; cut off and said so after %s; all well after %s; gateways answer again after %s",
		spread(s.out.confirmed), spread(s.out.unknown), spread(s.out.healed), spread(s.out.answering))
	if s.strict && slowest.end.Sub(slowest.at) > 5*time.Second {
		t.Errorf("a client of a gateway that nothing was wrong with waited: %s", slowest)
	}
	if s.strict && gap.long > 10*time.Second {
		t.Errorf("a client with several addresses waited %s", gap.long)
	}
}

func spread(list []time.Duration) string {
	if len(list) == 0 {
		return "(none)"
	}
	list = slices.Sorted(slices.Values(list))
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
	return fmt.Sprintf("%s to %s, median %s of %d", round(list[0]), round(list[len(list)-1]), round(list[len(list)/2]), len(list))
}
