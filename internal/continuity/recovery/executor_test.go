package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

var (
	ann  = principal.Principal{Kind: principal.Person, ID: "1", SecondFactor: time.Now()}
	bob  = principal.Principal{Kind: principal.Person, ID: "2", SecondFactor: time.Now()}
	eve  = principal.Principal{Kind: principal.Person, ID: "3", SecondFactor: time.Now()}
	boss = principal.Principal{Kind: principal.Person, ID: "4", SecondFactor: time.Now()}
)

// lab is a fleet of one with an incident, people and doers.
type lab struct {
	t    *testing.T
	m    *member.Member
	p    *plan.Plan
	book *incident.Book
	desk *Desk
	id   string // of the incident

	mu    sync.Mutex
	did   []string       // step#attempt, as doers were called
	times map[string]int // points that were passed
	dies  func(point string) bool
}

func newLab(t *testing.T, m *member.Member, text string) *lab {
	t.Helper()
	p, err := plan.Parse("fleet.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	anybody := func(context.Context, principal.Principal, policy.Action, policy.Resource) error { return nil }
	l := &lab{t: t, m: m, p: p, times: map[string]int{}, book: &incident.Book{Store: m.Store(), Node: "n2", Clock: time.Now, Authorise: anybody}}
	l.desk = &Desk{Store: m.Store(), Book: l.book, Plan: func() *plan.Plan { return l.p }, Clock: time.Now, Doers: l.doers(),
		May: func(context.Context, principal.Principal, policy.Action, string) error { return nil },
		Who: func(_ context.Context, p principal.Principal, _ *plan.Plan) (string, error) {
			return map[string]string{ann.ID: "ann", bob.ID: "bob"}[p.ID], nil
		}}
	now := time.Now()
	line, err := l.book.Open(t.Context(), boss, incident.Opened{Title: "n1 is lost", Category: incident.Outage, Mode: incident.Real, Started: now, Detected: now, Scope: incident.Scope{Nodes: []string{"n1"}, Functions: []string{"web"}}})
	if err != nil {
		t.Fatal(err)
	}
	l.id = line.State.ID
	return l
}

func (l *lab) called(t Task) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.did = append(l.did, fmt.Sprintf("%s#%d", t.Step.Name, t.Attempt))
}

func (l *lab) doers() map[string]Doer {
	do := func(_ context.Context, t Task) (Receipt, error) {
		l.called(t)
		r := Receipt{Words: "It was done."}
		if t.Step.Kind == "fence" {
			r.Fences = []Fence{{Node: t.Step.Node, By: FencedByPower, Facts: map[string]string{"state": "off"}}}
		}
		return r, nil
	}
	out := map[string]Doer{}
	for _, kind := range []string{"fence", "start", "validate", "dns", "wipe"} {
		out[kind] = Doer{Do: do, Again: kind != "wipe"}
	}
	return out
}

// lead has an executor lead until it dies, or stop is called.
func (l *lab) lead() (ended <-chan struct{}, stop func()) {
	l.t.Helper()
	term, err := l.m.Lead(l.t.Context(), "leader-"+l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(l.t.Context())
	done := make(chan struct{})
	e := &Executor{Store: l.m.Store(), Book: l.book, Node: "n2", Plan: func() *plan.Plan { return l.p }, Doers: l.doers(), Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
	e.at = func(point string) {
		l.mu.Lock()
		l.times[point]++
		dies := l.dies != nil && l.dies(point)
		l.mu.Unlock()
		if dies {
			cancel()
		}
	}
	go func() {
		defer close(done)
		_ = e.Lead(ctx, term)
		_ = term.Resign(context.WithoutCancel(ctx))
	}()
	return done, func() { cancel(); <-done }
}

func (l *lab) start() Shown {
	l.t.Helper()
	r, began, err := l.desk.Start(l.t.Context(), boss, Start{Plan: "back", Incident: l.id})
	if err != nil || !began {
		l.t.Fatalf("starting: %v, %v", began, err)
	}
	return r
}

func (l *lab) await(id, what string, holds func(Shown) bool) (r Shown) {
	l.t.Helper()
	membertest.Await(l.t, what, func(ctx context.Context) bool {
		var err error
		r, err = l.desk.Get(ctx, boss, id)
		return err == nil && holds(r)
	})
	return r
}

func (l *lab) wiped(id string) {
	l.t.Helper()
	l.await(id, "the wipe waits for its approvals", func(r Shown) bool { return r.Steps[4].State == NeedsPerson || r.Steps[4].State.Over() })
	for _, p := range []principal.Principal{ann, bob} {
		if _, err := l.desk.Approve(l.t.Context(), p, id, Word{Step: "wipe"}, false); err != nil && problem.From(err).Code != "recovery-approved-twice" {
			l.t.Fatal(err)
		}
	}
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return problem.From(err).Code
}

func TestARecovery(t *testing.T) {
	m := membertest.Start(t, 1).Members[0]
	t.Run("goes from its start to its end, and all of it stands in the timeline", func(t *testing.T) {
		l := newLab(t, m, small)
		_, stop := l.lead()
		defer stop()
		r := l.start()
		again, began, err := l.desk.Start(t.Context(), ann, Start{Plan: "back", Incident: l.id})
		if err != nil || began || again.ID != r.ID {
			t.Fatalf("a second start: %v, %v, %s in place of %s", err, began, again.ID, r.ID)
		}
		l.await(r.ID, "the wipe waits", func(r Shown) bool { return r.Steps[4].State == NeedsPerson })
		if _, err := l.desk.Approve(t.Context(), eve, r.ID, Word{Step: "wipe"}, false); code(err) != "recovery-approver" {
			t.Errorf("a wrong approver: %v", err)
		}
		if _, err := l.desk.Approve(t.Context(), principal.Principal{Kind: principal.Local}, r.ID, Word{Step: "wipe"}, false); code(err) != "recovery-approver-unknown" {
			t.Errorf("nobody in particular: %v", err)
		}
		if _, err := l.desk.Skip(t.Context(), ann, r.ID, Word{Step: "wipe", Words: "why not"}); code(err) != "recovery-skip-gate" {
			t.Errorf("skipping a gate: %v", err)
		}
		l.wiped(r.ID)
		end := l.await(r.ID, "the run has ended", func(r Shown) bool { return !r.Ended.IsZero() })
		if end.Outcome != "done" || len(l.did) != 5 || len(end.Restored) != 1 {
			t.Errorf("got %s, carried out %v, restored %v", end.Outcome, l.did, end.Restored)
		}
		l.proven(end)
		line, _ := l.book.Read(t.Context(), boss, l.id)
		refused := 0
		for i := range line.Entries {
			if a, ok := line.Entries[i].Read().(*incident.Act); ok && a.Outcome == "refused" {
				refused++
			}
		}
		if refused != 3 {
			t.Errorf("%d refusals stand in the timeline", refused)
		}
	})
	t.Run("is walked through by people where nothing is set up", func(t *testing.T) {
		l := newLab(t, m, small)
		l.desk.Doers = nil
		e := &Executor{Store: m.Store(), Book: l.book, Node: "n2", Plan: func() *plan.Plan { return l.p }, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
		term, err := m.Lead(t.Context(), "people")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = e.Lead(t.Context(), term) }()
		r := l.start()
		said := func(i int, w Word, by ...principal.Principal) {
			l.await(r.ID, w.Step+" waits for a person", func(r Shown) bool { n := r.Steps[i].Need; return n != nil && n.What == NeedSay })
			for _, p := range by {
				if _, err := l.desk.Say(t.Context(), p, r.ID, w, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		off := Word{Step: "fence", Words: "Switched off.", Evidence: []string{"ticket:1"}, Facts: map[string]string{"fenced-by": FencedByPower, "state": "off"}}
		l.await(r.ID, "the fence waits", func(r Shown) bool { return r.Steps[0].State == NeedsPerson })
		if _, err := l.desk.Say(t.Context(), ann, r.ID, Word{Step: "fence", Words: "Surely.", Evidence: []string{"x"}}, false); code(err) != "recovery-fence-unread" {
			t.Errorf("a fence that nobody read back: %v", err)
		}
		said(0, off, ann, bob)
		for i, step := range []string{"start", "validate", "move"} {
			said(i+1, Word{Step: step, Words: "Done.", Evidence: []string{"ticket:2"}}, ann)
		}
		l.wiped(r.ID)
		said(4, Word{Step: "wipe", Words: "Wiped.", Evidence: []string{"ticket:3"}}, ann)
		l.proven(l.await(r.ID, "the run has ended", func(r Shown) bool { return r.Outcome == "done" }))
	})
	t.Run("that was given up ends, and can be started anew", func(t *testing.T) {
		l := newLab(t, m, small)
		_, stop := l.lead()
		defer stop()
		r := l.start()
		l.await(r.ID, "the wipe waits", func(r Shown) bool { return r.Steps[4].State == NeedsPerson })
		if _, err := l.desk.Abandon(t.Context(), ann, r.ID, "It answers again."); err != nil {
			t.Fatal(err)
		}
		l.await(r.ID, "it ends", func(r Shown) bool { return r.Outcome == "abandoned" })
		if second := l.start(); second.ID == r.ID {
			t.Error("the same run began again")
		}
	})
}

// proven fails where a receipt of a run is not in the timeline.
func (l *lab) proven(r Shown) {
	l.t.Helper()
	line, err := l.book.Read(l.t.Context(), boss, l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	hashes := map[string]int{}
	for i := range line.Entries {
		if a, ok := line.Entries[i].Read().(*incident.Act); ok {
			hashes[a.Facts["receipt"]] = line.Entries[i].N
		}
	}
	for _, s := range r.Steps {
		if s.Receipt == nil || hashes[s.Receipt.Hash()] == 0 {
			l.t.Errorf("%s: its receipt is not in the timeline: %+v", s.Name, s.Receipt)
		}
	}
}

// The leader dies at each point at which a leader can, once; another goes on.
func TestTheNextLeaderGoesOnWhereverOneDied(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills a leader at every point")
	}
	m := membertest.Start(t, 1).Members[0]
	l := newLab(t, m, small)
	killed := map[string]bool{}
	l.dies = func(point string) bool {
		if killed[point] {
			return false
		}
		killed[point] = true
		return true
	}
	r := l.start()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			ended, _ := l.lead()
			<-ended
			if now, err := l.desk.Get(t.Context(), boss, r.ID); err != nil || !now.Ended.IsZero() {
				return
			}
		}
	}()
	helping := time.NewTicker(50 * time.Millisecond)
	defer helping.Stop()
	end := l.await(r.ID, "the run has ended", func(now Shown) bool {
		for i, s := range now.Steps {
			switch {
			case s.Need == nil:
			case s.Need.What == NeedApprove:
				for _, p := range []principal.Principal{ann, bob} {
					_, _ = l.desk.Approve(t.Context(), p, r.ID, Word{Step: s.Name}, false)
				}
			case s.Need.What == NeedHelp && i == 4:
				_, _ = l.desk.Say(t.Context(), ann, r.ID, Word{Step: s.Name, Words: "I looked.", Evidence: []string{"ticket:1"}}, false)
			case s.Need.What == NeedHelp:
				_, _ = l.desk.Retry(t.Context(), ann, r.ID, Word{Step: s.Name})
			}
		}
		return !now.Ended.IsZero()
	})
	if end.Outcome != "done" {
		t.Errorf("got %s", end.Outcome)
	}
	l.proven(end)
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[string]int{}
	for _, did := range l.did {
		seen[did]++
	}
	if seen["wipe#1"] > 1 {
		t.Errorf("what may not be done twice was: %v", l.did)
	}
	t.Logf("leaders died at %d points, %d led: %v", len(killed), len(end.Reign), l.did)
}
