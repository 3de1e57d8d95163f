package recovery

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// drive is one run in the hands of one leader.
type drive struct {
	e    *Executor
	term *member.Term
	id   string
	plan *plan.Plan // that the run goes by
	kick chan struct{}

	told   string             // what was logged last
	begun  map[string]int     // step → attempt that this process wanted to begin
	passed map[string]passing // validations that this process saw pass
	spares map[string]bool    // step#attempt → a doer has said that it destroys nothing
	wrote  map[string]time.Time

	mu    sync.Mutex
	doing map[string]*doing // by step
	over  []result
}

type passing struct {
	attempt int
	at      time.Time // with a monotonic part
}

// doing is an attempt that this process is at.
type doing struct {
	attempt  int
	cancel   context.CancelCauseFunc
	progress *order.Progress
	need     *Need
	noted    bool // what was told stands in the run
	asked    bool // what is needed stands in the run
}

// result is how an attempt ended.
type result struct {
	step    string
	attempt int
	receipt Receipt
	hand    string // a doer cannot: why
	again   string // it has to wait for its gate once more: why
}

var errAbandoned = errors.New("the run was given up")

func newDrive(e *Executor, term *member.Term, id string) *drive {
	return &drive{e: e, term: term, id: id, kick: make(chan struct{}, 1), begun: map[string]int{}, passed: map[string]passing{}, spares: map[string]bool{},
		wrote: map[string]time.Time{}, doing: map[string]*doing{}}
}

func (d *drive) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

func (d *drive) point(name string) {
	if d.e.at != nil {
		d.e.at(name)
	}
}

// run goes on with the run until it or the term has ended.
func (d *drive) run(ctx context.Context) {
	defer d.leave()
	for ctx.Err() == nil {
		wait := lookEvery
		ended, changed, err := d.pass(ctx)
		switch {
		case ended:
			return
		case changed:
			continue
		case err != nil && ctx.Err() == nil:
			wait = retryEvery
			if text := err.Error(); text != d.told {
				d.told = text
				d.e.Log.Warn("a recovery cannot go on now; trying again", "run", d.id, "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-d.kick:
		case <-time.After(wait):
		}
	}
}

// leave tells everything to end that this process is at: who leads next goes
// on with it.
func (d *drive) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.doing {
		x.cancel(member.ErrNotLeader)
	}
}

// pass makes the next change of the run, if there is one.
func (d *drive) pass(ctx context.Context) (ended, changed bool, err error) {
	r, revision, err := read(ctx, d.e.Store, d.id)
	if errors.Is(err, ErrUnknown) {
		return true, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if !r.Ended.IsZero() {
		return d.finish(ctx, &r)
	}
	if d.plan == nil {
		if d.plan, err = planOf(ctx, d.e.Store, d.id); err != nil {
			return false, false, err
		}
	}
	if r.Abandon != nil {
		d.stop()
	}
	w := d.world(ctx, &r)
	a, ok := d.result(&r, w)
	if !ok {
		a, ok = next(&r, w)
	}
	if !ok {
		a, ok = d.note(&r)
	}
	if !ok {
		return false, false, nil
	}
	return false, true, d.perform(ctx, &r, revision, a, w)
}

// finish takes back what nodes were still told to do.
func (d *drive) finish(ctx context.Context, r *Run) (ended, changed bool, err error) {
	desk := order.Desk{Store: d.e.Store}
	for _, node := range d.nodes(r) {
		if err := desk.Withdraw(ctx, d.term, node, r.ID); err != nil {
			return false, false, err
		}
	}
	return true, false, nil
}

// nodes are those that may have been given orders.
func (d *drive) nodes(r *Run) []string {
	out := append(slices.Clone(r.Lost), r.Onto...)
	if p, err := planOf(context.Background(), d.e.Store, d.id); d.plan == nil && err == nil {
		d.plan = p
	}
	if d.plan != nil {
		for i := range d.plan.Nodes {
			out = append(out, d.plan.Nodes[i].Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// stop tells everything to end that a run is at which somebody has given up.
func (d *drive) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.doing {
		x.cancel(errAbandoned)
	}
}

// world is what the run is decided by.
func (d *drive) world(ctx context.Context, r *Run) *World {
	w := &World{Now: d.e.Clock(), Epoch: d.term.Epoch(), Node: d.e.Node, Plan: d.plan, Doers: map[string]bool{}, Mine: map[string]int{}, Passed: map[string]instant{}, Spares: map[string]bool{}}
	if p := d.e.Plan(); p != nil {
		w.InForce = p.Hash()
	}
	if t, err := d.e.Book.Read(ctx, itself, r.Incident); err == nil && !t.Stale {
		w.Incident = t.State
	}
	for kind := range d.e.Doers {
		w.Doers[kind] = true
	}
	for name, p := range d.passed {
		w.Passed[name] = instant{p.attempt, w.Now.Sub(p.at)}
	}
	d.mu.Lock()
	for name, x := range d.doing {
		w.Mine[name] = x.attempt
	}
	for _, x := range d.over {
		w.Mine[x.step] = x.attempt
	}
	d.mu.Unlock()
	d.spare(ctx, r, w)
	return w
}

// spare asks doers whether restores that begin by themselves destroy anything.
func (d *drive) spare(ctx context.Context, r *Run, w *World) {
	rp := w.recoveryPlan(r)
	if rp == nil || rp.Starts != "automatic" || w.Incident == nil {
		return
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		doer := d.e.Doers[s.Kind]
		if s.Kind != "restore" || doer.Destroys == nil || s.State.Over() || s.State == Running || ordered(r, rp, i, w) != nil {
			continue
		}
		key := s.Name + "#" + strconv.Itoa(s.Attempt)
		spares, known := d.spares[key]
		if !known {
			limited, cancel := context.WithTimeout(ctx, grace)
			destroys, _, err := doer.Destroys(limited, d.task(r, i, w, &doing{attempt: s.Attempt + 1}))
			cancel()
			if spares = err == nil && !destroys; err == nil {
				d.spares[key] = spares
			}
		}
		w.Spares[s.Name] = spares
	}
}

// result takes the next attempt that has ended.
func (d *drive) result(r *Run, w *World) (action, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.over) > 0 {
		x := d.over[0]
		i := slices.IndexFunc(r.Steps, func(s StepState) bool { return s.Name == x.step })
		if i < 0 || r.Steps[i].State != Running || r.Steps[i].Attempt != x.attempt || r.Steps[i].Epoch != w.Epoch {
			d.over = d.over[1:] // nobody waits for it any more
			continue
		}
		if x.hand != "" {
			return action{what: actHand, step: i, need: byPerson(r, i, w, x.hand)}, true
		}
		if x.again != "" {
			return action{what: actAgain, step: i, words: x.again}, true
		}
		receipt := x.receipt
		return action{what: actSettle, step: i, receipt: &receipt}, true
	}
	return action{}, false
}

// note writes how far a step is, and what somebody has to do for it.
func (d *drive) note(r *Run) (action, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range r.Steps {
		s := &r.Steps[i]
		x := d.doing[s.Name]
		if x == nil || s.State != Running || x.attempt != s.Attempt {
			continue
		}
		if !x.asked {
			return action{what: actNote, step: i, need: x.need, progress: x.progress, doing: x}, true
		}
		if !x.noted && d.e.Clock().Sub(d.wrote[s.Name]) >= noteEvery {
			return action{what: actNote, step: i, need: s.Need, progress: x.progress, doing: x}, true
		}
	}
	return action{}, false
}

// perform writes a change into the timeline, then into the run, then does it.
func (d *drive) perform(ctx context.Context, r *Run, revision int64, a action, w *World) error {
	d.point("before " + a.what)
	n, err := d.enter(ctx, r, a, w)
	if err != nil && !(r.Abandon != nil && (errors.Is(err, incident.ErrOver) || errors.Is(err, incident.ErrUnknown))) {
		return err
	}
	d.point("entered " + a.what)
	a.entry = n
	if a.what == actBegin {
		d.begun[r.Steps[a.step].Name] = r.Steps[a.step].Attempt + 1
	}
	apply(r, a, w)
	if _, err := d.term.Put(ctx, pathRun(r.ID), r, member.IfRevision(pathRun(r.ID), revision)); err != nil {
		if errors.Is(err, member.ErrNotLeader) && d.term.Check(ctx) == nil {
			return nil // somebody has said something meanwhile
		}
		return err
	}
	d.point("wrote " + a.what)
	d.after(ctx, r, a, w)
	return nil
}

// enter writes what a change says into the timeline, once, and says at which
// entry it stands.
func (d *drive) enter(ctx context.Context, r *Run, a action, w *World) (int, error) {
	if a.what == actRestore {
		return d.back(ctx, r, a, w)
	}
	e := entry(r, a, w)
	if e == nil {
		return 0, nil
	}
	return once(ctx, d.e.Book, r.Incident, e)
}

// once writes an act that has a name of its own, whoever wrote it first.
func once(ctx context.Context, book *incident.Book, id string, e *incident.Act) (int, error) {
	written, t, err := book.Append(ctx, itself, id, e)
	var p *problem.Error
	switch {
	case err == nil:
		return written.N, nil
	case errors.As(err, &p) && p.Code == "incident-act-again" && t != nil:
		return t.State.Once[e.Once], nil
	}
	return 0, err
}

// after does what was written.
func (d *drive) after(ctx context.Context, r *Run, a action, w *World) {
	if a.step < 0 {
		return
	}
	s := &r.Steps[a.step]
	switch a.what {
	case actBegin:
		d.do(ctx, r, a.step, w, false)
	case actResume:
		d.do(ctx, r, a.step, w, d.begun[s.Name] != s.Attempt)
	case actNote:
		d.mu.Lock()
		a.doing.noted, a.doing.asked = a.doing.progress == a.progress, a.doing.need == a.need
		d.mu.Unlock()
		d.wrote[s.Name] = d.e.Clock()
	}
	if s.State == Done && s.Kind == "validate" && (a.what == actSettle || a.what == actHear) {
		d.passed[s.Name] = passing{s.Attempt, d.e.Clock()}
	}
}

// task is one attempt, for its doer.
func (d *drive) task(r *Run, i int, w *World, x *doing) Task {
	rp := w.recoveryPlan(r)
	run := *r
	run.Steps = slices.Clone(r.Steps)
	change := func(f func()) {
		d.mu.Lock()
		f()
		d.mu.Unlock()
		d.wake()
	}
	return Task{
		Run: run, Step: rp.Steps[i], Plan: w.Plan, Attempt: x.attempt, Epoch: w.Epoch, Began: r.Steps[i].Began, Functions: functionsOf(rp, &rp.Steps[i]), Term: d.term,
		Progress: func(p order.Progress) { change(func() { x.progress, x.noted = &p, false }) },
		Ask: func(n *Need) {
			change(func() {
				if n == nil && x.need == nil || n != nil && x.need != nil && n.Words == x.need.Words {
					return
				}
				x.need, x.asked = n, false
			})
		},
		Incident: func(ctx context.Context) (*incident.State, error) {
			t, err := d.e.Book.Read(ctx, itself, r.Incident)
			if err != nil {
				return nil, err
			}
			return t.State, nil
		},
		Record: func(ctx context.Context, b incident.Body) (*incident.Entry, error) {
			e, _, err := d.e.Book.Append(ctx, itself, r.Incident, b)
			return e, err
		},
	}
}

// do has an attempt done beside everything else.
func (d *drive) do(ctx context.Context, r *Run, i int, w *World, look bool) {
	s := &r.Steps[i]
	doer, known := d.e.Doers[s.Kind]
	x := &doing{attempt: s.Attempt, noted: true, asked: true}
	ctx, x.cancel = context.WithCancelCause(ctx)
	var stop context.CancelFunc = func() {}
	if !doer.Patient {
		ctx, stop = context.WithTimeout(ctx, bound(w.Plan, &w.recoveryPlan(r).Steps[i]))
	}
	d.mu.Lock()
	d.doing[s.Name] = x
	d.mu.Unlock()
	t := d.task(r, i, w, x)
	told := make(chan result, 1)
	late := ""
	if h := names(r, w.recoveryPlan(r), i, w); h != nil {
		late = h.Words
	}
	go func() { // waited for as long as it has, and no longer
		told <- d.attempt(ctx, doer, known, t, look, late)
	}()
	go func() {
		defer stop()
		var out result
		select {
		case out = <-told:
		case <-ctx.Done():
			late := time.NewTimer(grace)
			defer late.Stop()
			select {
			case out = <-told:
			case <-late.C:
				out = result{receipt: Receipt{Outcome: Indeterminate, Code: "recovery-unending", Words: "It did not end in its time, nor when it was told to."}}
			}
		}
		cause := context.Cause(ctx)
		x.cancel(nil)
		out.step, out.attempt = s.Name, x.attempt
		now := *w
		now.Now = d.e.Clock()
		out.receipt = filled(out.receipt, r, s, &now)
		d.mu.Lock()
		if d.doing[s.Name] == x {
			delete(d.doing, s.Name)
			if !errors.Is(cause, member.ErrNotLeader) {
				d.over = append(d.over, out)
			}
		}
		d.mu.Unlock()
		d.point("done " + s.Kind)
		d.wake()
	}()
}

// attempt looks, or does, and says how it ended.
func (d *drive) attempt(ctx context.Context, doer Doer, known bool, t Task, look bool, late string) (out result) {
	defer func() {
		if p := recover(); p != nil {
			d.e.Log.Error("a step panicked", "run", d.id, "step", t.Step.Name, "panic", p)
			out = result{receipt: Receipt{Outcome: Indeterminate, Code: "recovery-panic", Words: "The program failed while it was at this; its log says more."}}
		}
	}()
	if look {
		if !known {
			return result{receipt: Receipt{Outcome: Indeterminate, Words: "Another leader began this, and this one cannot look whether it was done."}}
		}
		if doer.Look != nil {
			r, sure, err := doer.Look(ctx, t)
			if err == nil && sure {
				return outcome(ctx, r, nil)
			}
			if err != nil {
				d.e.Log.Warn("whether a step was done could not be seen", "run", d.id, "step", t.Step.Name, "error", err)
			}
		}
		if !doer.Again {
			return result{receipt: Receipt{Outcome: Indeterminate, Words: "Another leader began this, and whether it was done cannot be seen."}}
		}
		if late != "" { // it was allowed to begin when another leader did
			return result{again: late}
		}
	}
	d.point("doing " + t.Step.Kind)
	if ctx.Err() != nil { // another may lead by now
		return result{receipt: Receipt{Outcome: Indeterminate, Words: "It was told to end before it began."}}
	}
	r, err := doer.Do(ctx, t)
	return outcome(ctx, r, err)
}

// back records that a function is restored, with the entry that shows it.
func (d *drive) back(ctx context.Context, r *Run, a action, w *World) (int, error) {
	if restoredSince(w.Incident, a.of) {
		return 0, nil
	}
	e, _, err := d.e.Book.Append(ctx, itself, r.Incident, restoredFact(r, a))
	var p *problem.Error
	switch {
	case err == nil:
		return e.N, nil
	case errors.As(err, &p) && p.Kind != problem.Unavailable:
		d.e.Log.Warn("that a function is back was not taken up in the incident", "run", r.ID, "function", a.of, "error", err)
		return 0, nil // the recovery does not wait for that
	}
	return 0, err
}

// outcome is what a doer's answer comes to.
func outcome(ctx context.Context, r Receipt, err error) result {
	if words, ok := handed(err); ok {
		return result{hand: words}
	}
	switch {
	case err == nil:
		if r.Outcome == "" {
			r.Outcome = Done
		}
		return result{receipt: r}
	case errors.Is(err, ErrIndeterminate), errors.Is(err, order.ErrUnclear), errors.Is(err, order.ErrUnending), ctx.Err() != nil:
		r.Outcome = Indeterminate
	default:
		r.Outcome = Failed
	}
	p := problem.From(err)
	r.Code = p.Code
	switch {
	case context.Cause(ctx) == errAbandoned:
		r.Words = "It was told to end, because the run was given up, and has not said how far it came."
	case ctx.Err() != nil:
		r.Words = "It did not end in its time."
	case r.Words != "":
	case p.Kind == problem.Internal:
		r.Words = "It failed; the leader's log says more."
	default:
		r.Words = p.Detail
	}
	return result{receipt: r}
}
