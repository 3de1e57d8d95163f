package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// Agent carries out the orders to this node.
type Agent struct {
	Store *member.Store
	Node  string
	Dir   string // where it remembers what it has done; of its own
	Kinds map[string]Carry
	// Again names the kinds that are begun again after this process stopped
	// while it was at one.
	Again map[string]bool
	// Plan says by which plan a run goes: the hash of it.
	Plan  func(ctx context.Context, run string) (hash string, err error)
	Clock func() time.Time
	Log   *slog.Logger

	mu     sync.Mutex
	memory *memory
	jobs   map[string]*job // by id of the order
	tried  map[string]bool // attempts that this process wanted to take, and has not begun
	work   sync.WaitGroup
}

// job is an order that is being carried out.
type job struct {
	attempt int
	cancel  context.CancelCauseFunc
	done    chan struct{}
}

var errWithdrawn = errors.New("the order was withdrawn")

// Run carries orders out until ctx ends. What is being carried out then is told
// to end, and waited for.
func (a *Agent) Run(ctx context.Context) error {
	m, err := recall(a.Dir)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.memory, a.jobs, a.tried = m, map[string]*job{}, map[string]bool{}
	a.mu.Unlock()
	defer a.work.Wait()
	for told := false; ctx.Err() == nil; {
		if err := a.follow(ctx); err != nil && ctx.Err() == nil {
			if !told {
				a.Log.Warn("the fleet's orders to this node cannot be followed; trying again", "error", err)
			}
			told = true
		} else {
			told = false
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// follow looks at every order there is, and then at each that changes.
func (a *Agent) follow(ctx context.Context) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	prefix := orderPath(a.Node, "")
	all, revision, err := a.Store.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := a.see(ctx, e); err != nil {
			return err
		}
	}
	if err := a.publish(ctx); err != nil {
		return err
	}
	for event := range a.Store.Watch(watching, prefix, revision) {
		switch {
		case event.Err != nil:
			return event.Err
		case event.Deleted:
			a.withdrawn(strings.TrimPrefix(event.Path, prefix))
		default:
			if err := a.see(ctx, event.Entry); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// publish answers again what is over and may not have been heard.
func (a *Agent) publish(ctx context.Context) error {
	for _, r := range a.memory.unheard() {
		if err := a.say(ctx, r.Answer); err != nil {
			return err
		}
		if err := a.memory.heard(r.Answer); err != nil {
			return err
		}
	}
	return nil
}

// see looks at one order. An error means that the store or the disk did not
// answer: it is looked at again.
func (a *Agent) see(ctx context.Context, e member.Entry) error {
	var o Order
	if err := e.Decode(&o); err != nil {
		return err
	}
	if o.Node != a.Node || o.ID != o.Run+"/"+o.Step || e.Path != orderPath(a.Node, o.ID) {
		a.Log.Error("an order lies in another's place and is not carried out", "path", e.Path)
		return nil
	}
	if r, ok := a.memory.of(o.ID, o.Attempt); ok {
		return a.known(ctx, o, r, e.Revision)
	}
	if a.at(o.ID, o.Attempt) {
		return nil
	}
	refusal, err := a.refuses(ctx, o)
	if err != nil {
		return err
	}
	if refusal != nil {
		a.Log.Warn("an order was refused", "order", o.ID, "attempt", o.Attempt, "epoch", o.Epoch, "code", refusal.Code)
		return a.say(ctx, a.result(o, Refused, refusal.Detail, refusal.Code, nil))
	}
	if err := a.memory.saw(o.Epoch); err != nil {
		return err
	}
	return a.begin(ctx, o, e.Revision)
}

// known answers an order that this node has had before.
func (a *Agent) known(ctx context.Context, o Order, r record, revision int64) error {
	switch {
	case r.Heard:
		return nil
	case r.Answer.Over():
		return a.end(ctx, r.Answer)
	case a.at(o.ID, o.Attempt):
		return nil
	case a.Again[o.Kind]:
		return a.begin(ctx, o, revision)
	}
	return a.end(ctx, a.result(o, Unclear, "The node's process stopped while it was at this; whether it took effect it cannot say.", "", nil))
}

// refuses says why an order is not carried out; nil: it is.
func (a *Agent) refuses(ctx context.Context, o Order) (*problem.Error, error) {
	if highest := a.memory.highest(); o.Epoch < highest {
		return problem.New(problem.Conflict, "order-epoch-old", fmt.Sprintf("The order is of epoch %d, and a leader of epoch %d has acted since.", o.Epoch, highest)), nil
	}
	hash, err := a.Plan(ctx, o.Run)
	switch {
	case errors.Is(err, member.ErrAbsent):
		return problem.New(problem.Conflict, "order-run-unknown", "There is no run "+o.Run+"."), nil
	case err != nil:
		return nil, err
	case hash != o.Plan:
		return problem.New(problem.Conflict, "order-plan-other", "The order names another plan than its run goes by."), nil
	case a.Kinds[o.Kind] == nil:
		return problem.New(problem.Conflict, "order-kind", "This node is not set up to do "+o.Kind+"."), nil
	case !o.Until.IsZero() && a.Clock().After(o.Until):
		return problem.New(problem.Conflict, "order-late", "The order was to be begun until "+o.Until.UTC().Format(time.RFC3339)+"."), nil
	}
	return nil, nil
}

// begin takes an order, if it still stands as it was read, and carries it out.
func (a *Agent) begin(ctx context.Context, o Order, revision int64) error {
	a.mu.Lock()
	before := a.jobs[o.ID]
	a.mu.Unlock()
	if before != nil { // an attempt before this one: never two at once
		before.cancel(errWithdrawn)
		select {
		case <-before.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d := Desk{Store: a.Store}
	held, ok, err := d.Look(ctx, o)
	if err != nil {
		return err
	}
	if ok && !held.Over() && !a.Again[o.Kind] && !a.tried[key(o.ID, o.Attempt)] {
		// It was taken by a process that stopped before it remembered that.
		return a.end(ctx, a.result(o, Unclear, "The order was taken before, and this node does not know what became of it.", "", nil))
	}
	accepted := a.result(o, Accepted, "", "", nil)
	accepted.Ended = time.Time{}
	path := orderPath(a.Node, o.ID)
	a.tried[key(o.ID, o.Attempt)] = true // of this goroutine alone
	_, err = a.Store.Put(ctx, answerPath(a.Node, o.ID), accepted, member.IfRevision(path, revision))
	if errors.Is(err, member.ErrChanged) {
		return nil // it is another order by now, or was withdrawn
	}
	if err != nil {
		return err
	}
	if err := a.memory.keep(record{Order: o, Answer: accepted}); err != nil {
		return err
	}
	delete(a.tried, key(o.ID, o.Attempt))
	life, cancel := context.WithCancelCause(ctx)
	j := &job{attempt: o.Attempt, cancel: cancel, done: make(chan struct{})}
	a.mu.Lock()
	a.jobs[o.ID] = j
	a.mu.Unlock()
	a.work.Go(func() { a.carry(life, o, j) })
	return nil
}

// at says whether an attempt is being carried out.
func (a *Agent) at(id string, attempt int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.jobs[id]
	return j != nil && j.attempt == attempt
}

func (a *Agent) withdrawn(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if j := a.jobs[id]; j != nil {
		j.cancel(errWithdrawn)
	}
}

// carry does what an order says, and answers.
func (a *Agent) carry(ctx context.Context, o Order, j *job) {
	defer func() {
		a.mu.Lock()
		if a.jobs[o.ID] == j {
			delete(a.jobs, o.ID)
		}
		a.mu.Unlock()
		j.cancel(nil)
		close(j.done)
	}()
	progress, finish := a.progress(ctx, o)
	began := a.Clock().UTC()
	facts, words, err := a.do(ctx, o, progress)
	finish()
	var out Answer
	switch {
	case err == nil:
		out = a.result(o, Done, words, "", facts)
	case ctx.Err() != nil && context.Cause(ctx) != errWithdrawn:
		return // this process stops: it is told when it is back, and was at this
	case errors.Is(err, ErrUnclear), ctx.Err() != nil:
		out = a.result(o, Unclear, said(words, err), "", facts)
	default:
		out = a.result(o, Failed, said(words, err), problem.From(err).Code, facts)
	}
	out.Began = began
	if err := a.end(context.WithoutCancel(ctx), out); err != nil {
		a.Log.Warn("the answer to an order was not heard yet; it is given again", "order", o.ID, "error", err)
	}
}

// do calls the kind's function; one that panics has failed in an unknown state.
func (a *Agent) do(ctx context.Context, o Order, progress func(Progress)) (facts map[string]string, words string, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.Log.Error("an order panicked", "order", o.ID, "panic", fmt.Sprint(p))
			err = ErrUnclear
		}
	}()
	return a.Kinds[o.Kind](ctx, o, progress)
}

// said is what failed in words for people: those of an error that is not for
// them stay in the log.
func said(words string, err error) string {
	if p := problem.From(err); words == "" && p.Kind != problem.Internal {
		return p.Detail
	}
	if words == "" {
		return "It failed; the node's log says more."
	}
	return words
}

// progress gives a function that tells how far an order is, at most once a
// second, and one that ends the telling.
func (a *Agent) progress(ctx context.Context, o Order) (tell func(Progress), finish func()) {
	latest := make(chan Progress, 1)
	stop, stopped := make(chan struct{}), make(chan struct{})
	tell = func(p Progress) {
		select {
		case <-latest:
		default:
		}
		select {
		case latest <- p:
		default:
		}
	}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case p := <-latest:
				r := a.result(o, Running, p.Words, "", nil)
				r.Ended, r.Progress = time.Time{}, &p
				_ = a.say(ctx, r) // what it says next, it says with the next
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	return tell, func() { close(stop); <-stopped }
}

func (a *Agent) result(o Order, state, words, code string, facts map[string]string) Answer {
	now := a.Clock().UTC()
	return Answer{ID: o.ID, Attempt: o.Attempt, Epoch: o.Epoch, State: state, Words: words, Code: code, Facts: facts, Began: now, Ended: now}
}

// end keeps how an order ended, and answers it.
func (a *Agent) end(ctx context.Context, out Answer) error {
	if err := a.memory.keep(record{Answer: out}); err != nil {
		return err
	}
	if err := a.say(ctx, out); err != nil {
		return err
	}
	return a.memory.heard(out)
}

func (a *Agent) say(ctx context.Context, out Answer) error {
	_, err := a.Store.Put(ctx, answerPath(a.Node, out.ID), out)
	return err
}
