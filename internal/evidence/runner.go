package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

const (
	lookEvery = 5 * time.Second // for controls that are due
	atOnce    = 2               // controls run at a time, per node
	pageAge   = 10 * time.Second

	awaitEvery = 250 * time.Millisecond // for a run that another one began
)

// Options make a runner.
type Options struct {
	DB       *db.DB
	Controls []Control
	Signer   *Signer
	Node     uint32
	Mode     string // development or production: said in every observation
	Log      *slog.Logger
	Clock    func() time.Time
	Look     time.Duration                     // how often to look for due controls; 0: every 5 s
	Jitter   func(time.Duration) time.Duration // nil: a tenth, either way
	Changed  func(c *Control, was, is State)   // told when a control's state changes here; may be nil
}

// Runner runs controls and says how they stand. Safe for concurrent use.
type Runner struct {
	Options
	slots chan struct{}

	mu       sync.Mutex
	progress map[string]string // of running controls
	hung     map[string]bool   // collectors that have not returned, whatever their context says
	read     picture
	readAt   time.Time
	last     map[string]State
	jobs     []*Job
}

// NewRunner makes a runner. It refuses a catalogue that could never be green,
// or that would be green for too long.
func NewRunner(o Options) (*Runner, error) {
	seen := map[string]bool{}
	for i := range o.Controls {
		c := &o.Controls[i]
		switch {
		case c.ID == "" || seen[c.ID]:
			return nil, fmt.Errorf("control %q: its id is missing or given twice", c.ID)
		case c.Fresh <= 0:
			return nil, fmt.Errorf("control %s: evidence must stop counting at some time", c.ID)
		case !c.Attested() && (c.Every <= 0 || c.Fresh <= c.Every || c.Timeout <= 0):
			return nil, fmt.Errorf("control %s: it needs an interval, a longer freshness bound and a timeout", c.ID)
		}
		seen[c.ID] = true
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Look <= 0 {
		o.Look = lookEvery
	}
	if o.Jitter == nil {
		o.Jitter = func(d time.Duration) time.Duration {
			return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
		}
	}
	return &Runner{Options: o, slots: make(chan struct{}, atOnce), progress: map[string]string{}, hung: map[string]bool{}, last: map[string]State{}}, nil
}

func (r *Runner) scope(c *Control) string {
	if c.PerNode {
		return fmt.Sprintf("node:%d", r.Node)
	}
	return ""
}

// Run runs controls when they are due, until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	tick := time.NewTicker(r.Look)
	defer tick.Stop()
	registered := false
	var running sync.WaitGroup
	defer running.Wait()
	for {
		if r.DB.Healthy() {
			if !registered {
				registered = register(ctx, r.DB, r.Signer, r.Node) == nil
			}
			if err := r.round(ctx, &running); err != nil && ctx.Err() == nil {
				r.Log.Warn("controls were not run", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// round starts what is due and has a free slot.
func (r *Runner) round(ctx context.Context, running *sync.WaitGroup) error {
	list, err := schedules(ctx, r.DB)
	if err != nil {
		return err
	}
	now := r.Clock()
	for i := range r.Controls {
		c := &r.Controls[i]
		at := slices.IndexFunc(list, func(s schedule) bool { return s.Control == c.ID && s.Scope == r.scope(c) })
		// Whether it is due is decided by the database's clock, in claim. This
		// only spares asking for what certainly is not.
		if c.Attested() || at >= 0 && (list[at].Running || list[at].Next.After(now.Add(clockError))) {
			continue
		}
		select {
		case r.slots <- struct{}{}:
		default:
			return nil
		}
		running.Go(func() {
			defer func() { <-r.slots }()
			if _, err := r.run(ctx, c, principal.Node("evidence"), false, nil); err != nil && !errors.Is(err, errBusy) && ctx.Err() == nil {
				r.Log.Warn("a control was not run", "control", c.ID, "error", err)
			}
		})
	}
	return nil
}

// errBusy means that the control is not due, or that a node runs it now.
var errBusy = problem.New(problem.Conflict, "control-running", "The control is being run at this moment.").WithMend("Wait for it: `foundry controls show` tells when it has ended.")

// run runs one control once: claims it, looks, signs and stores.
func (r *Runner) run(ctx context.Context, c *Control, p principal.Principal, force bool, progress func(string)) ([]Observation, error) {
	scope, lease := r.scope(c), uuid.New()
	ok, err := claim(ctx, r.DB, c, scope, r.Node, lease, force)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errBusy
	}
	r.say(c, progress, "started")
	defer r.say(c, nil, "")
	began := r.Clock()
	findings := r.look(ctx, c, func(text string) { r.say(c, progress, text) })
	if ctx.Err() != nil {
		return nil, ctx.Err() // the node stops: the lease runs out, and the control is run again
	}
	all := r.observations(c, scope, began, findings)
	store, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseGrace-5*time.Second)
	defer cancel()
	if err := finish(store, r.DB, c, scope, lease, r.Jitter(c.Every), p, all); err != nil {
		return nil, err
	}
	r.forget()
	r.tellChange(ctx, c)
	return all, nil
}

// look calls the collector within its time. Whatever goes wrong becomes a
// finding, because silence must not look like success.
func (r *Runner) look(ctx context.Context, c *Control, progress func(string)) []Finding {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	type answer struct {
		findings []Finding
		err      error
	}
	if !r.enter(c) {
		return []Finding{unclear(c.ID, "The run before this one still hangs; a second one is not started.")}
	}
	done := make(chan answer, 1)
	go func() { // a collector that ignores ctx must not hold the runner
		var a answer
		defer func() {
			if v := recover(); v != nil {
				r.Log.Error("a collector panicked", "control", c.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				a = answer{err: errors.New("the collector failed by a defect of its own")}
			}
			r.leave(c)
			done <- a
		}()
		a.findings, a.err = c.Collect(ctx, progress)
	}()
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		select {
		case a = <-done:
		default:
			a.err = ctx.Err()
		}
	}
	switch {
	case errors.Is(a.err, context.DeadlineExceeded):
		a.findings = append(a.findings, unclear(c.ID, fmt.Sprintf("The collector did not finish within %s.", c.Timeout)))
	case a.err != nil:
		a.findings = append(a.findings, unclear(c.ID, "The collector failed: "+sentence(a.err)))
	case len(a.findings) == 0:
		a.findings = []Finding{unclear(c.ID, "The collector found nothing to look at.")}
	}
	return a.findings
}

// enter refuses a second call of a collector that never returned, or they
// would pile up.
func (r *Runner) enter(c *Control) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hung[c.ID] {
		return false
	}
	r.hung[c.ID] = true
	return true
}

func (r *Runner) leave(c *Control) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hung, c.ID)
}

func unclear(subject, reason string) Finding {
	return Finding{Subject: subject, Result: Inconclusive, Reason: reason}
}

// sentence shows an error of a collector: its own words where it is for people.
func sentence(err error) string {
	var p *problem.Error
	if errors.As(err, &p) {
		return p.Detail
	}
	return strings.TrimSuffix(err.Error(), ".") + "."
}

const (
	maxFindings = 64
	maxReason   = 1000
)

// observations completes and signs findings.
func (r *Runner) observations(c *Control, scope string, began time.Time, findings []Finding) []Observation {
	run := uuid.Must(uuid.NewV7())
	if more := len(findings) - maxFindings; more > 0 {
		// Dropping the rest could drop a failure: the worst are kept.
		slices.SortStableFunc(findings, func(a, b Finding) int { return rank(b.Result) - rank(a.Result) })
		findings = append(findings[:maxFindings-1:maxFindings-1], Finding{Subject: c.ID, Result: worstResult(findings[maxFindings-1:]), Reason: fmt.Sprintf("And %d more subjects; this is the worst of them.", more+1), Covered: []string{"the remaining subjects"}})
	}
	var all []Observation
	for _, f := range findings {
		o := Observation{ID: uuid.Must(uuid.NewV7()), Run: run, Control: c.ID, Scope: scope, Subject: f.Subject, Result: f.Result, Reason: bounded(f.Reason),
			Covered: notNil(f.Covered), NotCovered: notNil(f.NotCovered), Observed: micro(began), Effective: micro(began), Expires: micro(began.Add(c.Fresh)),
			Collector: c.Collector, Version: c.Version, Mode: r.Mode, RawHash: rawHash(f.Raw), RawPlace: f.RawPlace}
		if !f.Effective.IsZero() {
			o.Effective = micro(f.Effective)
			// Old facts looked at today are as old as they are.
			if e := o.Effective.Add(c.Fresh); e.Before(o.Expires) {
				o.Expires = e
			}
		}
		if until := micro(f.Until); !f.Until.IsZero() && until.Before(o.Expires) {
			o.Expires = until
		}
		if len(f.Raw) <= MaxRaw && f.RawPlace == "" {
			o.Raw = f.Raw
		}
		switch {
		case f.Result != Pass && f.Result != Fail && f.Result != Inconclusive:
			o.Result, o.Reason = Inconclusive, "The collector gave no result."
		case f.Result == Pass && len(f.Covered) == 0:
			o.Result, o.Reason = Inconclusive, bounded("The collector says that it passed, but not what it looked at: "+f.Reason)
		case o.Reason == "":
			o.Reason = "The collector gave no reason."
		}
		r.Signer.sign(&o)
		all = append(all, o)
	}
	return all
}

func rank(r Result) int { return map[Result]int{Pass: 0, Inconclusive: 1, Fail: 2}[r] }

func worstResult(all []Finding) Result {
	w := Pass
	for _, f := range all {
		if rank(f.Result) > rank(w) {
			w = f.Result
		}
	}
	return w
}

// micro keeps what PostgreSQL keeps, so that a signature holds after reading.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func bounded(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", " "), "?")
	for len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return s
}

// say keeps the progress of a running control; empty: it has ended.
func (r *Runner) say(c *Control, also func(string), text string) {
	r.mu.Lock()
	if text == "" {
		delete(r.progress, c.ID)
	} else {
		r.progress[c.ID] = text
	}
	r.mu.Unlock()
	if also != nil {
		also(text)
	}
}

// RunNow runs controls at once, whether due or not, and waits for them. Without
// ids it runs every control that a machine checks. The caller has authorised
// it. progress may be nil.
func (r *Runner) RunNow(ctx context.Context, p principal.Principal, ids []string, progress func(control, text string)) error {
	chosen, err := r.choose(ids)
	if err != nil {
		return err
	}
	if err := r.auditRun(ctx, p, chosen); err != nil {
		return err
	}
	if progress == nil {
		progress = func(string, string) {}
	}
	return r.runAll(ctx, p, chosen, len(ids) == 0, false, progress)
}

// runAll runs controls as slots become free. With wait, one that is being run
// already is waited for: what comes of it is as fresh as what was asked for.
func (r *Runner) runAll(ctx context.Context, p principal.Principal, chosen []*Control, all, wait bool, progress func(control, text string)) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range chosen {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-r.slots }()
			_, err := r.run(ctx, c, p, true, func(text string) { progress(c.ID, text) })
			if wait && errors.Is(err, errBusy) {
				progress(c.ID, "waiting for a run that had begun before")
				err = r.awaitOther(ctx, c)
			}
			progress(c.ID, "done")
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !ignorable(err, all) {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// awaitOther waits until a run that somebody else began has ended. Its lease
// bounds that.
func (r *Runner) awaitOther(ctx context.Context, c *Control) error {
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		list, err := schedules(ctx, r.DB)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(s schedule) bool { return s.Control == c.ID && s.Scope == r.scope(c) && s.Running }) {
			r.forget() // it may have been another node
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Control finds a control by its id, in any case.
func (r *Runner) Control(id string) (*Control, error) {
	for i := range r.Controls {
		if strings.EqualFold(r.Controls[i].ID, id) {
			return &r.Controls[i], nil
		}
	}
	return nil, problem.New(problem.NotFound, "control-unknown", fmt.Sprintf("There is no control %q.", id)).WithField("control").WithMend("`foundry controls list` shows them.")
}
