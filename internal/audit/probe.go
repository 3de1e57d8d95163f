package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Probe makes a synthetic access and waits until it is in the log with a proof
// that holds (security policy, section 4: audit logs of all significant access
// events). It returns the proof and how long that took. It needs Run to be
// running, as in earnest; ctx bounds the wait.
func (l *Log) Probe(ctx context.Context) (Bundle, time.Duration, error) {
	start := l.o.Clock()
	r, err := newRecord(principal.Node("audit"), uuid.Nil, ActCheck, "synthetic access", Done, nil)
	if err != nil {
		return Bundle{}, 0, err
	}
	if err := l.appends.store(ctx, r); err != nil {
		return Bundle{}, 0, fmt.Errorf("the synthetic access was not stored: %w", err)
	}
	for {
		passed := l.nextPass()
		l.Kick()
		select {
		case <-passed:
		case <-ctx.Done():
			s := l.Status()
			return Bundle{}, l.o.Clock().Sub(start), problem.New(problem.Unavailable, "audit-probe-late", "The synthetic access is stored, but is not proven in time.").
				WithMend("See what `foundry status` says of the audit log; its last failure: " + s.Failure).Wrap(context.Cause(ctx))
		}
		b, err := l.Prove(ctx, r.id)
		if err == nil {
			return b, l.o.Clock().Sub(start), nil
		}
		if p := problem.From(err); p.Code != "audit-entry-waiting" && p.Code != "audit-checkpoint-none" {
			return Bundle{}, l.o.Clock().Sub(start), err
		}
	}
}

// nextPass is closed when the sequencer has finished another pass.
func (l *Log) nextPass() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.passed == nil {
		l.passed = make(chan struct{})
	}
	return l.passed
}
