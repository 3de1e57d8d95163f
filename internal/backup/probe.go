package backup

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// probeBound is how long a look at one target may take: somebody waits for it.
const probeBound = 20 * time.Second

// TargetProbe is what a look at one place of backups found just now.
type TargetProbe struct {
	Name      string       `json:"name"`
	Kind      string       `json:"kind"`
	Place     string       `json:"place"`
	At        time.Time    `json:"at"`
	Outcome   Outcome      `json:"outcome"` // fail: no backup gets there; inconclusive: it does, and something should be better
	Reason    string       `json:"reason"`
	Mend      string       `json:"mend,omitempty"`
	Reachable bool         `json:"reachable"`
	Writable  bool         `json:"writable"`
	Code      string       `json:"code,omitempty"` // of what went wrong
	Free      int64        `json:"free_bytes"`     // -1: the target does not say
	Total     int64        `json:"total_bytes"`    // -1: likewise
	Lock      string       `json:"lock"`           // in words: who can delete what is there
	Apart     bool         `json:"apart"`          // a loss of the data would not take it along
	Seconds   float64      `json:"seconds"`
	Findings  []ProbeFound `json:"findings"`
}

// ProbeFound is one thing that should be better.
type ProbeFound struct {
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
	Mend   string `json:"mend"`
	Fatal  bool   `json:"fatal"` // the target is not used for it
}

// Probe looks at targets, all of them or the named ones, at the same time: each
// is written to, read and, where it lets this node, cleaned up again.
func (b *Backups) Probe(ctx context.Context, p principal.Principal, in TargetRequest) ([]TargetProbe, error) {
	if err := b.may(ctx, p, "backup.probe"); err != nil {
		return nil, err
	}
	var chosen []target.Target
	for i, name := range in.Targets {
		at := slices.IndexFunc(b.o.Targets, func(t target.Target) bool { return t.Name == name })
		if at < 0 {
			return nil, problem.New(problem.NotFound, "target-unknown", fmt.Sprintf("There is no target %q.", name)).WithField(fmt.Sprintf("targets[%d]", i)).WithMend("`foundry backup targets` shows them.")
		}
		chosen = append(chosen, b.o.Targets[at])
	}
	if len(in.Targets) == 0 {
		chosen = b.o.Targets
	}
	if len(chosen) == 0 {
		return nil, errNothing()
	}
	names := make([]string, len(chosen))
	for i, t := range chosen {
		names[i] = t.Name
	}
	// Entered before it is done: a probe writes.
	err := b.onPlatform(ctx, func(tx pgx.Tx) error {
		return audit.Append(ctx, tx, p, uuid.Nil, "backup.probe", "", map[string]any{"targets": names})
	})
	if err != nil {
		return nil, err
	}
	out := make([]TargetProbe, len(chosen))
	var wg sync.WaitGroup
	for i, t := range chosen {
		wg.Go(func() { out[i] = b.probe(ctx, t) })
	}
	wg.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range out {
		b.probed[r.Name] = r
	}
	return out, nil
}

func (b *Backups) probe(ctx context.Context, t target.Target) TargetProbe {
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	r := TargetProbe{Name: t.Name, Kind: t.Kind, Place: placeOf(t), At: b.o.Clock().UTC(), Free: -1, Total: -1, Apart: true, Findings: []ProbeFound{}}
	began := time.Now()
	found, err := t.Probe(ctx)
	r.Seconds = time.Since(began).Seconds()
	together := t.Apart(b.o.Place, b.production())
	for i := range together {
		together[i].Fatal = together[i].Fatal && b.production() // in development it is only named
	}
	r.judge(found, together, err, ctx.Err() != nil)
	return r
}

// judge says in words what a probe found.
func (r *TargetProbe) judge(found target.Probe, together []target.Finding, err error, late bool) {
	for _, f := range together {
		r.Apart = false
		r.Findings = append(r.Findings, ProbeFound{f.Rule, f.Detail, f.Mend, f.Fatal})
	}
	for _, f := range found.Findings {
		r.Findings = append(r.Findings, ProbeFound{f.Rule, f.Detail, f.Mend, f.Fatal})
	}
	if err != nil {
		r.failed(err, late)
		return
	}
	r.Reachable, r.Writable, r.Lock = true, true, lockWords(found)
	if found.Total > 0 {
		r.Free, r.Total = found.Free, found.Total
	}
	r.Outcome, r.Reason = Pass, "It can be reached and written, and nothing stands against it."
	if len(r.Findings) > 0 {
		r.Outcome, r.Reason = Inconclusive, fmt.Sprintf("It can be reached and written; %d things should be better.", len(r.Findings))
		if len(r.Findings) == 1 {
			r.Reason = "It can be reached and written; one thing should be better."
		}
	}
	for _, f := range r.Findings {
		if f.Fatal {
			r.Outcome, r.Reason = Fail, "It can be reached and written, and is not what it has to be."
		}
	}
}

// refusals are the codes of a target that answers, and takes nothing.
var refusals = []string{"target-full", "target-read-only", "target-denied", "target-credentials", "target-lies", "target-refused"}

func (r *TargetProbe) failed(err error, late bool) {
	p := problem.From(err)
	r.Outcome, r.Code, r.Reason, r.Mend, r.Lock = Fail, p.Code, p.Detail, p.Mend, "not known"
	if late {
		r.Code, r.Reason, r.Mend = "target-slow", fmt.Sprintf("It did not answer within %s.", probeBound), "Check that it runs, and the network on the way; then try again."
		return
	}
	r.Reachable = slices.Contains(refusals, p.Code)
}

// lockWords says who can delete what is at a target.
func lockWords(p target.Probe) string {
	switch {
	case p.ObjectLock && p.Retention != "":
		return fmt.Sprintf("locked for %d days (%s)", p.RetentionDays, p.Retention)
	case p.Deletes == target.DeletesNothing:
		return "this node can delete nothing there"
	case p.Deletes == target.DeletesMarks:
		return "what this node deletes there is kept by the bucket"
	case p.ObjectLock:
		return "the bucket can lock, and has no default retention: this node can delete what is there"
	}
	return "none: this node can delete what is there"
}
