//go:build faults

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/principal"
)

// process is a whole process with a place in the fleet and no gateway, as
// `foundry serve --role fleet` starts it, and its operator.
type process struct {
	*Daemon
	t    *testing.T
	who  principal.Principal
	ends func() // as a process is ended in order
}

// wall is a clock that somebody can set; one that stands still goes on only
// when it is set.
type wall struct {
	still time.Time
	ahead atomic.Int64
}

func stopped() *wall { return &wall{still: time.Now()} }

func (w *wall) set(ahead time.Duration) { w.ahead.Store(int64(ahead)) }

func (w *wall) now() time.Time {
	if w.still.IsZero() {
		return time.Now().Add(time.Duration(w.ahead.Load()))
	}
	return w.still.Add(time.Duration(w.ahead.Load()))
}

// operated starts a process that confirms losses in a second; it ends with the
// test.
func operated(t *testing.T, c Config, w *wall, roles ...member.Role) *process {
	t.Helper()
	if len(roles) == 0 {
		roles = []member.Role{member.Fleet}
	}
	d, err := Serve(t.Context(), Options{Config: c, Version: "recovery", Log: slog.New(slog.DiscardHandler), Clock: w.now,
		rules: verdict.Rules{Suspect: 200 * time.Millisecond, Confirm: time.Second, Recover: 500 * time.Millisecond}}, roles)
	if err != nil {
		t.Fatal(err)
	}
	ends := sync.OnceFunc(func() {
		if err := d.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(ends)
	return &process{d, t, principal.Principal{Kind: principal.Local, UID: os.Geteuid()}, ends}
}

// goesBy puts a plan into force and waits until this process goes by it.
func (p *process) goesBy(text string) {
	p.t.Helper()
	tell(p.t, p.Daemon, text)
	membertest.Await(p.t, "the plan is followed", func(context.Context) bool {
		f := p.planned.Plan()
		return f != nil && string(f.Text) == text
	})
}

// opens begins an incident by hand, as its operator does.
func (p *process) opens(in incident.Begin) string {
	p.t.Helper()
	if in.Title == "" {
		in.Title = "The old machine is lost"
	}
	in.Mode = incident.Real
	b, err := p.incident.Open(p.t.Context(), p.who, in)
	if err != nil {
		p.t.Fatal(err)
	}
	return b.State.ID
}

func (p *process) starts(incident, plan string) recovery.Shown {
	p.t.Helper()
	r, mine, err := p.recovery.Start(p.t.Context(), p.who, recovery.Start{Plan: plan, Incident: incident})
	if err != nil || !mine {
		p.t.Fatalf("starting %s: %v %v", plan, mine, err)
	}
	return r
}

// until waits for a run to be as holds says.
func (p *process) until(run, what string, holds func(recovery.Shown) bool) (r recovery.Shown) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			for _, s := range r.Steps {
				p.t.Logf("%s of %s is %s: %s %+v", s.Name, r.ID, s.State, s.Words, s.Receipt)
			}
		}
	}()
	membertest.Await(p.t, what, func(ctx context.Context) bool {
		var err error
		r, err = p.recovery.Get(ctx, p.who, run)
		return err == nil && holds(r)
	})
	return r
}

// stepOf is a step of a run.
func stepOf(r recovery.Shown, name string) *recovery.StepState {
	return &r.Steps[slices.IndexFunc(r.Steps, func(s recovery.StepState) bool { return s.Name == name })]
}

// comesTo waits until a step has a state and says what it waits for.
func (p *process) comesTo(run, step string, state recovery.State) (r recovery.Shown, s *recovery.StepState) {
	p.t.Helper()
	r = p.until(run, step+" is "+string(state), func(r recovery.Shown) bool {
		s := stepOf(r, step)
		return s.State == state && (state != recovery.Failed && state != recovery.Indeterminate || s.Need != nil)
	})
	return r, stepOf(r, step)
}

// goesOn tries a step again until it is done.
func (p *process) goesOn(run, step string) recovery.Shown {
	p.t.Helper()
	return p.until(run, step+" is done", func(r recovery.Shown) bool {
		switch s := stepOf(r, step); s.State {
		case recovery.Failed, recovery.Indeterminate:
			_, _ = p.recovery.Retry(p.t.Context(), p.who, run, recovery.Word{Step: step, Words: "It may do better now."})
			return false
		default:
			return s.State == recovery.Done
		}
	})
}

// acts are the acts of an incident's timeline, as "act step outcome code".
func (p *process) acts(id string) (out []string) {
	p.t.Helper()
	line, err := p.incident.Timeline(p.t.Context(), p.who, id)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := range line.Entries {
		if a, ok := line.Entries[i].Read().(*incident.Act); ok {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", a.Act, a.Step, a.Outcome, a.Facts["code"])))
		}
	}
	return out
}

// proven fails where the receipt of a step is not in the timeline.
func (p *process) proven(r recovery.Shown) {
	p.t.Helper()
	line, err := p.incident.Timeline(p.t.Context(), p.who, r.Incident)
	if err != nil {
		p.t.Fatal(err)
	}
	there := map[string]bool{}
	for i := range line.Entries {
		if a, ok := line.Entries[i].Read().(*incident.Act); ok {
			there[a.Facts["receipt"]] = true
		}
	}
	for _, s := range r.Steps {
		for _, receipt := range append(slices.Clone(s.Earlier), *s.Receipt) {
			if !there[receipt.Hash()] {
				p.t.Errorf("a receipt of %s is not in the timeline: %+v", s.Name, receipt)
			}
		}
	}
	if err := incident.Verify(line.Entries); err != nil {
		p.t.Error(err)
	}
}
