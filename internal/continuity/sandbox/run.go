package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
)

// runner carries a scenario out.
type runner struct {
	o   Options
	lab *Lab
	rec *exercise.Record
	log *incident.Log

	event time.Time
	since time.Time       // when what was done first had been done: a kill takes its time on a busy machine
	away  map[string]bool // nodes that were taken away and not given back
	hurt  map[string]bool // nodes that something was ever done to

	mu   sync.Mutex
	seen map[string]exercise.Ref // where the timeline says that a change was seen, since the event

	incidents []*incident.Timeline // of the fleet, as a survivor had them at the end
}

// Run sets a sandbox up, carries its scenario out, and writes the report and
// the timelines into o.Dir. The record comes back with an error too, as far as
// it came.
func Run(ctx context.Context, o Options) (*exercise.Record, error) {
	if len(o.Scenario.Sandbox) == 0 {
		return nil, problem.New(problem.Invalid, "scenario-mode", fmt.Sprintf("The scenario %s has no part for a sandbox.", o.Scenario.Name)).WithMend("Run it with --mode desktop.")
	}
	if o.Told == nil {
		o.Told = func(Told) {}
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, problem.New(problem.Invalid, "exercise-directory", "The report cannot be written: "+err.Error()+".").WithField("--out").WithMend("Name a directory that can be written.")
	}
	r := &runner{o: o, away: map[string]bool{}, hurt: map[string]bool{}, seen: map[string]exercise.Ref{}}
	now := time.Now()
	id := "exc-" + now.UTC().Format("20060102") + "-" + strings.ToLower(rand.Text()[:6])
	r.rec = &exercise.Record{Version: 1, ID: id, Scenario: o.Scenario.Name, Title: o.Scenario.Title, Source: o.Scenario.Source, Text: string(o.Scenario.Text),
		Mode: scenario.Sandbox, Program: o.Version, Machine: machine(), Began: now}
	for _, n := range o.Scenario.Fleet.Nodes {
		r.rec.Fleet = append(r.rec.Fleet, exercise.Node{Name: n.Name, Roles: n.Roles})
	}
	f, err := os.OpenFile(filepath.Join(o.Dir, id+".timeline"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r.log = incident.NewLog(f, id, "sandbox", "exercise", time.Now)
	if _, err := r.log.Append(&incident.Opened{Title: "Exercise: " + o.Scenario.Title, Category: incident.Outage, Mode: incident.Sandbox, Scenario: o.Scenario.Name, Started: now, Detected: now}); err != nil {
		return nil, err
	}
	err = r.run(ctx)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		err = errors.New("it was interrupted")
	}
	if err != nil {
		r.rec.Outcome, r.rec.Words = exercise.Aborted, "It could not be carried to its end: "+err.Error()
		r.act("aborted", "", err.Error(), nil)
	}
	r.rec.Ended = time.Now()
	return r.rec, errors.Join(err, r.finish())
}

func (r *runner) run(ctx context.Context) (err error) {
	r.o.Told(Told{At: time.Now(), Step: "Setting up"})
	r.lab, err = newLab(ctx, r.o, func(words string) { r.say(words) })
	if err != nil {
		return err
	}
	defer r.lab.close()
	if err := r.people(ctx); err != nil {
		return err
	}
	r.lab.seen = newWatch(ctx, r.lab, r.changed)
	r.act("ready", "", "The fleet is set up.", nil)
	for _, s := range r.o.Scenario.Sandbox {
		if err := r.step(ctx, s); err != nil {
			return err
		}
	}
	return errors.Join(r.measure(ctx), r.collect(ctx))
}

func (r *runner) say(words string) { r.o.Told(Told{At: time.Now(), Words: words}) }

// act writes what the exercise did, or saw, into its timeline.
func (r *runner) act(what, target, words string, facts map[string]string) exercise.Ref {
	e, err := r.log.Append(&incident.Act{Act: "exercise." + what, Target: target, Words: words, Facts: facts})
	if err != nil {
		r.o.Log.Error("the exercise's timeline cannot be written", "error", err)
		return exercise.Ref{}
	}
	return exercise.Ref{Timeline: e.Incident, N: e.N}
}

// moment is an entry that the picture of the whole shows.
func (r *runner) moment(at time.Time, kind, what, target, words string) exercise.Ref {
	ref := r.act(what, target, words, map[string]string{"at": at.UTC().Format(time.RFC3339Nano)})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Moments = append(r.rec.Moments, exercise.Moment{At: at, Says: words, Kind: kind, From: ref})
	return ref
}

// step carries out the lines of a step, and goes on after one that was not as
// it had to be: what comes of the rest is to be known too.
func (r *runner) step(ctx context.Context, s scenario.Step) error {
	r.o.Told(Told{At: time.Now(), Step: s.Title})
	st := exercise.Step{Title: s.Title, Began: time.Now()}
	for _, a := range s.Do {
		r.o.Told(Told{At: time.Now(), Words: a.Says})
		line := exercise.Line{Says: a.Says, Began: time.Now(), OK: true}
		words, err := r.do(ctx, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		line.Took, line.Words = time.Since(line.Began), words
		if err != nil {
			line.OK, line.Words = false, err.Error()
		}
		outcome := "so"
		if !line.OK {
			outcome = "not so"
		}
		line.From = r.act("line", "", a.Says+": "+line.Words, map[string]string{"outcome": outcome, "took": line.Took.Round(time.Millisecond).String()})
		st.Lines = append(st.Lines, line)
		r.o.Told(Told{At: time.Now(), Words: line.Words, Done: true, OK: line.OK})
	}
	st.Ended = time.Now()
	r.rec.Steps = append(r.rec.Steps, st)
	return nil
}

// do carries out one line; words say what came of it.
func (r *runner) do(ctx context.Context, a scenario.Act) (words string, err error) {
	n := r.lab.node(a.Args["node"])
	switch a.Verb {
	case "kill", "pause", "cut":
		return r.harm(a, n)
	case "start":
		delete(r.away, n.name)
		r.moment(time.Now(), "done", "start", n.name, fmt.Sprintf("%s is started again.", n.name))
		return "", n.start()
	case "resume":
		delete(r.away, n.name)
		n.each(syscall.SIGCONT)
		r.moment(time.Now(), "done", "resume", n.name, fmt.Sprintf("%s goes on.", n.name))
		return "", nil
	case "heal":
		return "", r.heal(a.Args["node"])
	case "break", "mend":
		return "", r.breaks(a.Args["service"], a.Verb == "break")
	case "load":
		r.lab.crowd.rate(ctx, rate(a))
		return "", nil
	case "write":
		r.lab.writer.rate(ctx, rate(a))
		return "", nil
	case "hold":
		return "", wait(ctx, a.Within)
	case "wait":
		return r.wait(ctx, a)
	case "expect":
		return r.expect(ctx, a)
	case "inject", "note":
		r.moment(time.Now(), "told", a.Verb, "", a.Args["words"])
		return "", nil
	}
	return r.product(ctx, a)
}

// begin makes this moment the event that everything is measured from, if there
// was none before.
func (r *runner) begin() {
	if r.event.IsZero() {
		r.lab.seen.forget()
		r.mu.Lock()
		clear(r.seen)
		r.mu.Unlock()
		r.event = time.Now()
		r.rec.Event = r.event
	}
}

// harm takes something away; the first time is the event that everything is
// measured from.
func (r *runner) harm(a scenario.Act, n *node) (string, error) {
	words := map[string]string{"kill": "%s is killed: all its processes, at once.", "pause": "%s hangs: its processes stop and do not end.", "cut": "%s loses its network."}[a.Verb]
	r.begin()
	at := time.Now()
	r.hurt[n.name] = true
	var err error
	switch a.Verb {
	case "kill":
		r.away[n.name] = true
		n.kill()
	case "pause":
		r.away[n.name] = true
		n.each(syscall.SIGSTOP)
	case "cut":
		if other := a.Args["other"]; other != "all" {
			o := r.lab.node(other)
			if err = r.lab.net.drop(n.i, o.i); err == nil && a.Args["one-way"] == "" {
				err = r.lab.net.drop(o.i, n.i)
			}
			words = "%s and " + other + " lose each other."
			break
		}
		r.away[n.name] = true
		err = r.lab.net.isolate(n.i, a.Args["one-way"] != "")
	}
	if err != nil {
		return "", err
	}
	if r.since.IsZero() {
		r.since = time.Now()
	}
	r.moment(at, "event", a.Verb, n.name, fmt.Sprintf(words, n.name))
	return "", nil
}

func (r *runner) heal(name string) error {
	i := 0
	if name != "all" {
		i = r.lab.node(name).i
		delete(r.away, name)
	} else {
		clear(r.away)
	}
	r.moment(time.Now(), "done", "heal", name, fmt.Sprintf("%s has its network back.", name))
	return r.lab.net.heal(i)
}

func (r *runner) breaks(service string, broken bool) error {
	switch service {
	case "models":
		r.lab.models.broken.Store(broken)
	case "inference":
		if r.lab.own == nil {
			return errors.New("the fleet has no service inference")
		}
		r.lab.own.broken.Store(broken)
	case "mail":
		r.lab.mailbox.broken.Store(broken)
	case "dns":
		if broken {
			_ = r.lab.names.proc.signal(syscall.SIGSTOP)
		} else {
			_ = r.lab.names.proc.signal(syscall.SIGCONT)
		}
	default:
		return fmt.Errorf("this sandbox cannot break %s", service)
	}
	if broken {
		r.begin()
	}
	word := map[bool]string{true: "is broken", false: "works again"}[broken]
	r.moment(time.Now(), "event", "break", service, fmt.Sprintf("The service %s %s.", service, word))
	return nil
}

func (r *runner) wait(ctx context.Context, a scenario.Act) (string, error) {
	began := time.Now()
	var says string
	err := poll(ctx, a.Within, func() error {
		for _, c := range a.Until {
			ok, words := r.holds(ctx, c)
			if !ok {
				return fmt.Errorf("not so: %s (%s)", c.Says, words)
			}
			says = words
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(fmt.Sprintf("after %s %s", time.Since(began).Round(10*time.Millisecond), says)), nil
}

func (r *runner) expect(ctx context.Context, a scenario.Act) (string, error) {
	for _, c := range a.Until {
		if ok, words := r.holds(ctx, c); !ok {
			return "", fmt.Errorf("not so: %s (%s)", c.Says, words)
		}
	}
	return "", nil
}

func rate(a scenario.Act) int {
	n, _ := strconv.Atoi(a.Args["rate"])
	return n
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func machine() string {
	load, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(load) + " ?")
	return fmt.Sprintf("%s/%s, %d cores, load %s at the beginning", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), f[0])
}
