package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// stage is a runner over looks whose time is the bubble's, and what it told.
type stage struct {
	*Runner
	mu      sync.Mutex
	told    []Result
	started []string // names, as looks began
	running atomic.Int32
	most    atomic.Int32
}

// newStage makes a runner whose looks take what a function says, or until
// their context ends.
func newStage(parallel int, answer func(s Spec, n int) (time.Duration, bool)) *stage {
	st := &stage{}
	count := map[string]int{}
	st.Runner = NewRunner(RunnerOptions{Parallel: parallel, Tell: func(r Result) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.told = append(st.told, r)
	}, run: func(ctx context.Context, s Spec, _ Env) Result {
		ctx, cancel := context.WithTimeout(ctx, s.timeout())
		defer cancel()
		st.mu.Lock()
		count[s.Name]++
		st.started = append(st.started, s.Name)
		takes, ok := answer(s, count[s.Name])
		st.mu.Unlock()
		st.most.Store(max(st.most.Load(), st.running.Add(1)))
		defer st.running.Add(-1)
		r := Result{Probe: s.Name, Function: s.Function, Signal: s.Kind, At: time.Now(), OK: ok, Words: "Staged.", Tries: 1}
		if !ok {
			r.Code = Refused
		}
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			r.OK, r.Code = false, Timeout
		}
		r.Took = time.Since(r.At)
		return r
	}})
	return st
}

func (st *stage) results(name string) (out []Result) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, r := range st.told {
		if r.Probe == name {
			out = append(out, r)
		}
	}
	return out
}

// runFor watches specs for a while.
func (st *stage) runFor(t *testing.T, d time.Duration, specs ...Spec) {
	t.Helper()
	if err := st.Set(specs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := st.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if n := st.running.Load(); n != 0 {
		t.Fatalf("%d looks run on after the end", n)
	}
}

func tcpSpec(i int) Spec {
	return Spec{Name: fmt.Sprint("p", i), Kind: TCP, Target: fmt.Sprintf("h%d:1", i)}
}

func TestAFailureIsToldAfterThreeLooksAndWithinThreeSeconds(t *testing.T) {
	second := time.Second
	for _, c := range []struct {
		name  string
		spec  Spec
		looks func(n int) (time.Duration, bool)
		ok    bool
		tries int
		told  time.Duration // at the latest, after the first look began
	}{
		{"one that answers", Spec{}, func(int) (time.Duration, bool) { return 10 * time.Millisecond, true }, true, 1, second},
		{"one that refuses once", Spec{}, func(n int) (time.Duration, bool) { return 0, n > 1 }, true, 2, second},
		{"one that refuses twice", Spec{}, func(n int) (time.Duration, bool) { return 0, n > 2 }, true, 3, second},
		{"one that refuses", Spec{}, func(int) (time.Duration, bool) { return 0, false }, false, 3, second},
		{"one that hangs", Spec{}, func(int) (time.Duration, bool) { return time.Hour, true }, false, 3, 3 * second},
		{"one that hangs once", Spec{}, func(n int) (time.Duration, bool) {
			if n == 1 {
				return time.Hour, true
			}
			return 0, true
		}, true, 2, 3 * second},
		{"one that is slow", Spec{}, func(int) (time.Duration, bool) { return 2500 * time.Millisecond, true }, true, 3, 3 * second},
		{"one that has a second", Spec{Timeout: second}, func(int) (time.Duration, bool) { return time.Hour, true }, false, 3, 4 * second},
		{"one that may take long, and does", Spec{Timeout: 20 * second}, func(int) (time.Duration, bool) { return 15 * second, true }, true, 1, 15 * second},
		{"one that may take long, and refuses", Spec{Timeout: 20 * second}, func(int) (time.Duration, bool) { return 0, false }, false, 3, second},
		{"one that may take long, and hangs", Spec{Timeout: 20 * second}, func(int) (time.Duration, bool) { return time.Hour, true }, false, 3, 23 * second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := newStage(0, func(_ Spec, n int) (time.Duration, bool) { return c.looks(n) })
				c.spec.Name, c.spec.Kind, c.spec.Target = "p", TCP, "h:1"
				if err := st.Set([]Spec{c.spec}); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				r, err := st.Look(t.Context(), "p")
				if err != nil || r.OK != c.ok || r.Tries != c.tries {
					t.Fatalf("%+v, %v", r, err)
				}
				if took := time.Since(began); took > c.told {
					t.Fatalf("told after %s, not %s", took, c.told)
				}
				if len(st.results("p")) != 1 || st.Latest()["p"].OK != c.ok {
					t.Fatal("it was not told once")
				}
				synctest.Wait()
				if st.running.Load() != 0 {
					t.Fatal("a look goes on that nobody waits for")
				}
			})
		})
	}
}

func TestSlowTargetsDoNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(4, func(s Spec, _ int) (time.Duration, bool) {
			if strings.HasPrefix(s.Target, "slow") {
				return time.Hour, true
			}
			return 10 * time.Millisecond, true
		})
		var specs []Spec
		for i := range 100 {
			specs = append(specs, tcpSpec(i))
		}
		for i := range 100 { // a hundred services of one dead machine
			specs = append(specs, Spec{Name: fmt.Sprint("slow", i), Kind: TCP, Target: "slow:1"})
		}
		st.runFor(t, 5*time.Minute, specs...)
		for i := range 100 {
			if n := len(st.results(fmt.Sprint("p", i))); n < 8 || n > 11 {
				t.Fatalf("p%d was looked at %d times in ten periods", i, n)
			}
		}
	})
}

func TestNoMoreRunsAtOnceThanMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(4, func(Spec, int) (time.Duration, bool) { return 500 * time.Millisecond, true })
		var specs []Spec
		for i := range 200 {
			specs = append(specs, tcpSpec(i))
		}
		st.runFor(t, 2*time.Minute, specs...)
		if st.most.Load() > 4 {
			t.Fatalf("%d at once", st.most.Load())
		}
		if len(st.told) < 300 {
			t.Fatalf("only %d results", len(st.told))
		}
	})
}

func TestLooksAtOneAddressKeepApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Time
		st := newStage(0, func(Spec, int) (time.Duration, bool) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			return 0, false // and is looked at again each time
		})
		var specs []Spec
		for i := range 50 {
			specs = append(specs, Spec{Name: fmt.Sprint(i), Kind: TCP, Target: "one:1", Every: time.Minute})
		}
		st.runFor(t, 3*time.Minute, specs...)
		slices.SortFunc(at, time.Time.Compare)
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < apart {
				t.Fatalf("two looks %s apart", gap)
			}
		}
		if len(at) < 3*50*2 {
			t.Fatalf("only %d looks", len(at))
		}
	})
}

func TestAStartIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		perSecond := map[int64]int{}
		st := newStage(0, func(Spec, int) (time.Duration, bool) {
			mu.Lock()
			defer mu.Unlock()
			perSecond[time.Now().Unix()]++
			return 0, true
		})
		var specs []Spec
		for i := range 300 {
			specs = append(specs, tcpSpec(i))
		}
		st.runFor(t, 30*time.Second, specs...)
		for s, n := range perSecond {
			if n > 60 { // ten on average
				t.Fatalf("%d looks in second %d", n, s)
			}
		}
		if len(st.Latest()) < 290 {
			t.Fatalf("only %d were looked at within a period", len(st.Latest()))
		}
	})
}

func TestWhatIsWatchedChangesWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0, func(s Spec, _ int) (time.Duration, bool) {
			if s.Target == "hangs:1" {
				return time.Hour, true
			}
			return 0, true
		})
		hangs := Spec{Name: "hangs", Kind: TCP, Target: "hangs:1", Timeout: 20 * time.Second, Every: time.Second}
		if err := st.Set([]Spec{tcpSpec(1), hangs}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = st.Run(ctx); close(ended) }()
		<-time.After(2 * time.Minute)
		one := len(st.results("p1"))
		if one < 3 {
			t.Fatalf("p1 has %d results", one)
		}
		before := len(st.results("hangs"))
		if err := st.Set([]Spec{tcpSpec(2)}); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Minute)
		if len(st.results("p1")) != one || len(st.results("p2")) < 3 || len(st.results("hangs")) != before {
			t.Fatalf("p1 %d (was %d), p2 %d, hangs %d (was %d)", len(st.results("p1")), one, len(st.results("p2")), len(st.results("hangs")), before)
		}
		if got := st.Latest(); len(got) != 1 || !got["p2"].OK {
			t.Fatal(got)
		}
		if _, err := st.Look(ctx, "p1"); problem.From(err).Kind != problem.NotFound {
			t.Fatal(err)
		}
		cancel()
		<-ended
	})
}

func TestAStopIsCleanAndTellsNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage(0, func(Spec, int) (time.Duration, bool) { return time.Hour, true })
		var specs []Spec
		for i := range 100 {
			specs = append(specs, tcpSpec(i))
		}
		st.runFor(t, time.Second, specs...)
		if len(st.told) != 0 {
			t.Fatalf("%d looks that were broken off were told", len(st.told))
		}
	})
}

func TestEachProbeHasAName(t *testing.T) {
	r := NewRunner(RunnerOptions{})
	for _, specs := range [][]Spec{{tcpSpec(1), tcpSpec(1)}, {{Kind: TCP, Target: "h:1"}}} {
		if err := r.Set(specs); problem.From(err).Code != "probe-name" {
			t.Fatal(err)
		}
	}
}

func TestARunnerWatchesARealServerThatGoesAway(t *testing.T) {
	gone := make(chan struct{})
	port := closedPort(t)
	open := silentPort(t)
	told := make(chan Result, 100)
	h, err := OpenHistory(HistoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := NewRunner(RunnerOptions{Tell: func(r Result) { told <- r }, History: h})
	specs := []Spec{{Name: "open", Function: "f", Kind: TCP, Target: "localhost:" + open, Every: time.Second}, {Name: "closed", Function: "g", Kind: TCP, Target: "localhost:" + port, Every: time.Second},
		{Name: "unreadable", Function: "h", Kind: TCP, Target: "nonsense", Every: time.Second}}
	if err := r.Set(specs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _ = r.Run(ctx); close(gone) }()
	want := map[string]Code{"open": "", "closed": Refused, "unreadable": BadTarget}
	for len(want) > 0 {
		select {
		case got := <-told:
			if code, ok := want[got.Probe]; ok && got.Code != code {
				t.Fatalf("%+v", got)
			}
			delete(want, got.Probe)
		case <-time.After(2 * generous):
			t.Fatalf("not told of %v", want)
		}
	}
	cancel()
	<-gone
	if up, known := h.State("f", time.Now()); !up || !known {
		t.Error("the open port is not up")
	}
	if up, known := h.State("g", time.Now()); up || !known {
		t.Error("the closed port is up")
	}
	if _, known := h.State("h", time.Now()); known {
		t.Error("what cannot be read is known")
	}
}

func TestANodeWatchesWhatThePlanGivesIt(t *testing.T) {
	p, err := plan.Load("../../../examples/missionops-fixed")
	if err != nil {
		t.Fatal(err)
	}
	names := func(self string) (out []string) {
		for _, s := range FromPlan(&p.File, self) {
			if _, err := Parse(s.Kind, s.Target); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
			out = append(out, s.Name)
		}
		return out
	}
	shared := names("node-1")
	if !slices.Contains(shared, "production-platform/platform-answers") || slices.ContainsFunc(shared, func(n string) bool { return strings.HasPrefix(n, "nightingale/") }) {
		t.Errorf("node-1 watches %v", shared)
	}
	for _, isolated := range []string{"node-3", "node-4"} {
		if own := names(isolated); !slices.Equal(own, []string{"nightingale/nightingale-answers", "nightingale/nightingale-ssh"}) {
			t.Errorf("%s watches %v", isolated, own)
		}
	}
	for _, s := range FromPlan(&p.File, "node-1") {
		if s.Kind == PostgreSQL && s.Node != "node-1" {
			t.Errorf("%+v", s)
		}
	}
}

func TestProbesOfAPlanAreForThoseWhoAreNamed(t *testing.T) {
	span := func(s string) plan.Span {
		v, err := plan.ParseSpan(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	f := &plan.File{Nodes: []plan.Node{{Name: "a"}, {Name: "b"}, {Name: "w"}}, Functions: []plan.Function{{Name: "f", Host: []string{"a"}, Probes: []plan.Probe{
		{Name: "page", Kind: "https", Target: "https://f.example.org/", Every: span("10s"), From: []string{"b", "w"}},
		{Name: "unit", Kind: "systemd", Target: "caddy"},
		{Name: "disk", Kind: "disk", Target: "/", From: []string{"w"}},
		{Name: "port", Kind: "tcp", Target: "a:22", Every: span("regularly")},
		{Name: "odd", Kind: "tcp", Target: "no port"},
	}}}}
	for self, want := range map[string]string{
		"a": "f/unit@a, f/port@a, f/odd@a",
		"b": "f/page@, f/port@a, f/odd@a",
		"w": "f/page@, f/disk@w, f/port@a, f/odd@a",
	} {
		var got []string
		for _, s := range FromPlan(f, self) {
			got = append(got, s.Name+"@"+s.Node)
			if s.Name == "f/page" && s.every() != 10*time.Second || s.Name == "f/port" && s.every() != DefaultEvery {
				t.Errorf("%s every %s", s.Name, s.every())
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s watches %v, not %s", self, got, want)
		}
	}
}
