package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/problem"
)

// node is a node of a test: an agent in the store of a fleet of one.
type node struct {
	t     *testing.T
	m     *member.Member
	term  *member.Term
	name  string
	dir   string
	kinds map[string]Carry
	again map[string]bool
	plan  string
	desk  *Desk

	mu   sync.Mutex
	done []string // what was carried out: id#attempt
	stop func()
}

// carried is a kind of order that notes that it was done.
func (n *node) carried(_ context.Context, o Order, _ func(Progress)) (map[string]string, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done = append(n.done, key(o.ID, o.Attempt))
	return map[string]string{"kind": o.Kind}, "It was done.", nil
}

func (n *node) times() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.done)
}

// start starts the node's agent; it ends with stop, or with the test.
func (n *node) start() {
	n.t.Helper()
	a := &Agent{Store: n.m.Store(), Node: n.name, Dir: n.dir, Kinds: n.kinds, Again: n.again, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Plan: func(context.Context, string) (string, error) { return n.plan, nil }}
	ctx, cancel := context.WithCancel(n.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			n.t.Errorf("the agent of %s ended: %v", n.name, err)
		}
	})
	n.t.Cleanup(n.stop)
}

func (n *node) order(step string, attempt int) Order {
	o := New("rec-1", step, n.name, "note", attempt)
	o.Plan = n.plan
	return o
}

func (n *node) give(o Order) Answer {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), membertest.Patience)
	defer cancel()
	a, err := n.desk.Give(ctx, n.term, o)
	if !a.Over() || (err == nil) != (a.State == Done) {
		n.t.Fatalf("giving %s: %v", o.ID, err)
	}
	return a
}

// answered waits until an attempt has an answer of a state.
func (n *node) answered(o Order, state string) (a Answer) {
	n.t.Helper()
	membertest.Await(n.t, o.ID+" is answered with "+state, func(ctx context.Context) bool {
		got, ok, err := n.desk.Look(ctx, o)
		a = got
		return err == nil && ok && a.State == state
	})
	return a
}

// lead wins the next term, as the leader after this one.
func (n *node) lead() *member.Term {
	n.t.Helper()
	if n.term != nil {
		if err := n.term.Resign(n.t.Context()); err != nil {
			n.t.Fatal(err)
		}
	}
	term, err := n.m.Lead(n.t.Context(), "leader-of-"+n.name)
	if err != nil {
		n.t.Fatal(err)
	}
	n.term = term
	return term
}

func TestAnOrder(t *testing.T) {
	f := membertest.Start(t, 1)
	for name, try := range map[string]func(*node){
		"is carried out once, and its answer is given again":                     once,
		"that a leader before gave is not given a second time":                   taken,
		"of an epoch before is refused":                                          outdated,
		"of another plan than its run's is refused":                              otherPlan,
		"of a kind that the node is not set up for is refused":                   otherKind,
		"that came too late is refused":                                          late,
		"in another's place is not carried out":                                  misplaced,
		"is unclear when the node's process stopped while it was at it":          interrupted,
		"is begun again after a stop where its kind allows it":                   begunAgain,
		"is unclear when the node took it and forgot":                            forgotten,
		"that no node takes is taken back, and is not done when the node comes":  unheard,
		"of another attempt waits for the one before":                            oneAtATime,
		"that is withdrawn tells who carries it out to end":                      withdrawnMidway,
		"of a leader whose term is over is not given":                            termOver,
		"that panics is unclear, and the node goes on":                           panics,
		"says how far it is":                                                     progressing,
		"that fails says why, in words for people and without the node's inside": failing,
		"that asks for something else under the same attempt is not given":       changed,
	} {
		t.Run(name, func(t *testing.T) {
			n := &node{t: t, m: f.Members[0], name: fmt.Sprintf("n%d", names.Add(1)), dir: filepath.Join(t.TempDir(), "orders"), plan: "aaaa"}
			n.kinds = map[string]Carry{"note": n.carried}
			n.desk = &Desk{Store: n.m.Store(), Heard: time.Minute}
			n.lead()
			try(n)
		})
	}
}

func once(n *node) {
	n.start()
	first := n.give(n.order("start", 1))
	if first.State != Done || first.Facts["kind"] != "note" || first.Epoch != n.term.Epoch() {
		n.t.Fatalf("got %+v", first)
	}
	if again := n.give(n.order("start", 1)); again.Ended != first.Ended || n.times() != 1 {
		n.t.Fatalf("the second time: %+v, carried out %d times", again, n.times())
	}
	n.stop()
	n.start() // and after a restart
	if again := n.give(n.order("start", 1)); again.Ended != first.Ended || n.times() != 1 {
		n.t.Fatalf("after a restart: %+v, carried out %d times", again, n.times())
	}
	if next := n.give(n.order("start", 2)); next.Attempt != 2 || n.times() != 2 {
		n.t.Fatalf("another attempt: %+v, carried out %d times", next, n.times())
	}
}

func taken(n *node) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	n.kinds["note"] = func(ctx context.Context, o Order, p func(Progress)) (map[string]string, string, error) {
		close(begun)
		<-goOn
		return n.carried(ctx, o, p)
	}
	n.start()
	before := n.term
	ctx, cancel := context.WithCancel(n.t.Context())
	left, heard := make(chan error, 1), make(chan struct{})
	taken := sync.OnceFunc(func() { close(heard) })
	go func() {
		_, err := n.desk.GiveTold(ctx, before, n.order("start", 1), func(Answer) { taken() })
		left <- err
	}()
	<-begun
	<-heard  // that it was taken
	cancel() // the leader dies
	if err := <-left; !errors.Is(err, ErrUnending) {
		n.t.Errorf("who stopped waiting for an order that was taken got %v", err)
	}
	n.lead()
	second := make(chan Answer, 1)
	go func() { second <- n.give(n.order("start", 1)) }()
	membertest.Await(n.t, "the order stands under the new epoch", func(ctx context.Context) bool {
		var o Order
		e, err := n.m.Store().Get(ctx, orderPath(n.name, "rec-1/start"))
		return err == nil && e.Decode(&o) == nil && o.Epoch == n.term.Epoch()
	})
	close(goOn)
	if a := <-second; a.State != Done || a.Epoch != before.Epoch() || n.times() != 1 {
		n.t.Fatalf("got %+v, carried out %d times", a, n.times())
	}
}

// put writes an order as somebody would who does not ask the desk.
func (n *node) put(path string, o Order) {
	n.t.Helper()
	if _, err := n.m.Store().Put(n.t.Context(), path, o); err != nil {
		n.t.Fatal(err)
	}
}

func outdated(n *node) {
	n.start()
	old := n.term.Epoch()
	n.lead()
	n.give(n.order("first", 1))
	o := n.order("second", 1)
	o.Epoch = old
	n.put(orderPath(n.name, o.ID), o)
	if a := n.answered(o, Refused); a.Code != "order-epoch-old" || n.times() != 1 {
		n.t.Fatalf("got %+v, carried out %d times", a, n.times())
	}
	// The refusal does not stand in the way of who leads now.
	if a := n.give(n.order("second", 1)); a.State != Done {
		n.t.Fatalf("got %+v", a)
	}
	n.stop()
	n.start() // what was seen is remembered
	o = n.order("third", 1)
	o.Epoch = old
	n.put(orderPath(n.name, o.ID), o)
	if a := n.answered(o, Refused); a.Code != "order-epoch-old" {
		n.t.Fatalf("after a restart: %+v", a)
	}
}

func (n *node) refused(o Order, code string) {
	n.t.Helper()
	if a := n.give(o); a.State != Refused || a.Code != code || n.times() != 0 || !errors.Is(a.Err(), ErrRefused) {
		n.t.Fatalf("got %+v, carried out %d times", a, n.times())
	}
}

func otherPlan(n *node) {
	n.start()
	o := n.order("start", 1)
	o.Plan = "bbbb"
	n.refused(o, "order-plan-other")
}

func otherKind(n *node) {
	n.start()
	o := n.order("start", 1)
	o.Kind = "shell"
	n.refused(o, "order-kind")
}

func late(n *node) {
	n.start()
	o := n.order("start", 1)
	o.Until = time.Now().Add(-time.Hour)
	n.refused(o, "order-late")
}

func misplaced(n *node) {
	n.start()
	o := n.order("start", 1)
	o.Node = "another"
	n.put(orderPath(n.name, o.ID), o)
	o = n.order("start", 1)
	n.put(orderPath(n.name, "rec-2/start"), o)
	n.give(n.order("last", 1)) // the ones before were seen
	if n.times() != 1 {
		n.t.Fatalf("carried out: %v", n.done)
	}
}

// hang is carried out until the agent stops.
func (n *node) hang(begun chan<- struct{}) Carry {
	return func(ctx context.Context, o Order, p func(Progress)) (map[string]string, string, error) {
		n.carried(ctx, o, p)
		begun <- struct{}{}
		<-ctx.Done()
		return nil, "", ctx.Err()
	}
}

func (n *node) begun(o Order) {
	n.t.Helper()
	o.Epoch = n.term.Epoch()
	begun := make(chan struct{}, 1)
	carry := n.kinds["note"]
	n.kinds["note"] = n.hang(begun)
	n.start()
	n.put(orderPath(n.name, o.ID), o)
	<-begun
	n.stop()
	n.kinds["note"] = carry
}

func interrupted(n *node) {
	n.begun(n.order("start", 1))
	n.start()
	if a := n.give(n.order("start", 1)); a.State != Unclear || !errors.Is(a.Err(), ErrUnclear) || n.times() != 1 {
		n.t.Fatalf("got %+v, carried out %d times", a, n.times())
	}
}

func begunAgain(n *node) {
	n.again = map[string]bool{"note": true}
	n.begun(n.order("start", 1))
	n.start()
	if a := n.give(n.order("start", 1)); a.State != Done || n.times() != 2 {
		n.t.Fatalf("got %+v, carried out %d times", a, n.times())
	}
}

func forgotten(n *node) {
	n.begun(n.order("start", 1))
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Fatal(err)
	}
	n.start()
	if a := n.give(n.order("start", 1)); a.State != Unclear || n.times() != 1 {
		n.t.Fatalf("got %+v, carried out %d times", a, n.times())
	}
}

func unheard(n *node) {
	n.desk.Heard = 50 * time.Millisecond
	if _, err := n.desk.Give(n.t.Context(), n.term, n.order("start", 1)); !errors.Is(err, ErrUnheard) {
		n.t.Fatalf("got %v", err)
	}
	n.desk.Heard = time.Minute
	n.start()
	n.give(n.order("last", 1))
	if n.times() != 1 {
		n.t.Fatalf("carried out: %v", n.done)
	}
}

func oneAtATime(n *node) {
	begun := make(chan struct{}, 2)
	at := 0
	n.kinds["note"] = func(ctx context.Context, o Order, p func(Progress)) (map[string]string, string, error) {
		n.mu.Lock()
		at++
		if at > 1 {
			n.t.Error("two attempts at once")
		}
		n.mu.Unlock()
		defer func() { n.mu.Lock(); at--; n.mu.Unlock() }()
		if o.Attempt == 1 {
			return n.hang(begun)(ctx, o, p)
		}
		return n.carried(ctx, o, p)
	}
	n.start()
	o := n.order("start", 1)
	o.Epoch = n.term.Epoch()
	n.put(orderPath(n.name, o.ID), o)
	<-begun
	if a := n.give(n.order("start", 2)); a.State != Done || n.times() != 2 {
		n.t.Fatalf("got %+v, carried out %d times", a, n.times())
	}
}

func withdrawnMidway(n *node) {
	begun := make(chan struct{}, 1)
	n.kinds["note"] = n.hang(begun)
	n.start()
	o := n.order("start", 1)
	o.Epoch = n.term.Epoch()
	n.put(orderPath(n.name, o.ID), o)
	<-begun
	if err := n.desk.Withdraw(n.t.Context(), n.term, n.name, "rec-1"); err != nil {
		n.t.Fatal(err)
	}
	n.answered(o, Unclear)
}

func termOver(n *node) {
	n.start()
	old := n.term
	n.lead()
	if _, err := n.desk.Give(n.t.Context(), old, n.order("start", 1)); !errors.Is(err, member.ErrNotLeader) {
		n.t.Fatalf("got %v", err)
	}
	n.give(n.order("last", 1))
	if n.times() != 1 {
		n.t.Fatalf("carried out: %v", n.done)
	}
}

func panics(n *node) {
	n.kinds["wild"] = func(context.Context, Order, func(Progress)) (map[string]string, string, error) { panic("wild") }
	n.start()
	o := n.order("start", 1)
	o.Kind = "wild"
	if a := n.give(o); a.State != Unclear {
		n.t.Fatalf("got %+v", a)
	}
	n.give(n.order("last", 1))
}

func progressing(n *node) {
	heard := make(chan struct{})
	n.kinds["note"] = func(ctx context.Context, o Order, tell func(Progress)) (map[string]string, string, error) {
		tell(Progress{Words: "copying", Done: 1, Total: 3, Unit: "bytes"})
		<-heard
		return nil, "", nil
	}
	n.start()
	var once sync.Once
	a, err := n.desk.GiveTold(n.t.Context(), n.term, n.order("start", 1), func(a Answer) {
		if a.State == Running && a.Progress != nil && a.Progress.Total == 3 {
			once.Do(func() { close(heard) })
		}
	})
	if err != nil || a.State != Done {
		n.t.Fatalf("got %+v, %v", a, err)
	}
}

func failing(n *node) {
	n.kinds["plain"] = func(context.Context, Order, func(Progress)) (map[string]string, string, error) {
		return nil, "", errors.New("password=secret")
	}
	n.kinds["worded"] = func(context.Context, Order, func(Progress)) (map[string]string, string, error) {
		return map[string]string{"unit": "web"}, "", problem.New(problem.Conflict, "unit-failed", "The unit did not start.")
	}
	n.start()
	o := n.order("one", 1)
	o.Kind = "plain"
	if a := n.give(o); a.State != Failed || a.Words != "It failed; the node's log says more." {
		n.t.Errorf("got %+v", a)
	}
	o = n.order("two", 1)
	o.Kind = "worded"
	if a := n.give(o); a.State != Failed || a.Code != "unit-failed" || a.Words != "The unit did not start." || a.Facts["unit"] != "web" || a.Err() == nil {
		n.t.Errorf("got %+v", a)
	}
}

func changed(n *node) {
	n.start()
	n.give(n.order("start", 1))
	o := n.order("start", 1)
	o.Args = map[string]string{"service": "other"}
	if _, err := n.desk.Give(n.t.Context(), n.term, o); problem.From(err).Code != "order-other" || n.times() != 1 {
		n.t.Fatalf("got %v, carried out %d times", err, n.times())
	}
	if _, err := n.desk.Give(n.t.Context(), n.term, Order{Node: n.name}); problem.From(err).Code != "order-incomplete" {
		n.t.Fatalf("got %v", err)
	}
}

func TestANodeForgetsTheOldestOrdersFirst(t *testing.T) {
	m, err := recall(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m.path = filepath.Join(t.TempDir(), "gone", "orders.json") // not written: it is not what this is about
	for i := range mostRecords + 3 {
		m.keep(record{Answer: Answer{ID: "rec-1/x", Attempt: i + 1, State: Done}})
	}
	if _, ok := m.of("rec-1/x", 3); ok || len(m.state.Records) != mostRecords {
		t.Errorf("%d are kept, the oldest of them: %v", len(m.state.Records), ok)
	}
	if _, ok := m.of("rec-1/x", 4); !ok {
		t.Error("one that should be kept was forgotten")
	}
}

func TestWhatANodeCannotReadOfItsOrdersStopsIt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "orders.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := recall(dir); problem.From(err).Code != "order-memory" {
		t.Errorf("got %v", err)
	}
}

var names atomic.Int64 // of the nodes of these tests
