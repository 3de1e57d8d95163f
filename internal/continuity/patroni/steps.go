package patroni

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// poll is how often a step of a recovery looks.
const poll = 500 * time.Millisecond

// errNotStrict says that a leader that does not answer may go on acknowledging.
var errNotStrict = problem.New(problem.Conflict, "patroni-not-strict", "The node does not answer, and Patroni is not strict: it may still acknowledge writes.").
	WithMend("Switch the server off, and say so.")

// Fenced waits until a node that may have led cannot have a write acknowledged
// any more, and says what shows it. The leader's key has to be another's, with a
// standby in step: while it is the node's own, or nobody's, nothing is known.
// Then either the node itself says that it follows, on the new timeline, or the
// time of the key passes once more by this process's own clock; a leader that
// hangs has no standby by then that would let it acknowledge anything, which is
// so in strict mode and in no other.
func (w *Watch) Fenced(ctx context.Context, node string, tell func(string)) (map[string]string, error) {
	var since db.Moment
	asked := false
	for {
		s, err := w.Look(ctx)
		why := err
		switch {
		case err != nil:
			since = 0
		case s.Leader == "" || s.SyncOf != s.Leader || len(s.Standbys) == 0:
			since, why = 0, errors.New("nobody leads with a standby in step yet")
		case s.Leader == node:
			since, why = 0, errors.New(node+" holds the leader's key")
			if !asked { // the fleet holds it for lost, and Patroni does not
				asked = true
				tell("asking Patroni to hand over from " + node)
				_, _ = w.Ask(ctx, func(m Member) error { return w.Client.Switchover(ctx, m, node, "") })
			}
		default:
			facts := map[string]string{"leader": s.Leader, "timeline": strconv.FormatInt(s.Timeline, 10), "key_revision": strconv.FormatInt(s.Since, 10)}
			if w.follows(ctx, s, node) {
				facts["state"] = "follows " + s.Leader
				return facts, nil
			}
			if s.Settings == nil || !s.Settings.Sync || !s.Settings.Strict {
				return nil, errNotStrict
			}
			if since == 0 {
				since = db.Now()
			}
			if -since.Left() >= s.TTL() {
				facts["waited"], facts["strict"] = s.TTL().String(), "true"
				return facts, nil
			}
			why = fmt.Errorf("%s leads, and %s does not say that it follows; %s more", s.Leader, node, (s.TTL() + since.Left()).Round(time.Second))
		}
		tell(why.Error())
		select {
		case <-ctx.Done():
			return nil, problem.New(problem.Conflict, "patroni-not-fenced", node+" is not fenced: "+why.Error()+".").
				WithMend("Switch it off, or look at Patroni: `foundry database patroni status`.").Wrap(ctx.Err())
		case <-time.After(poll):
		}
	}
}

// follows says whether a node itself says that it follows the leader.
func (w *Watch) follows(ctx context.Context, s Status, node string) bool {
	m, ok := s.Member(node)
	if !ok || !slices.Contains(s.Answers, node) {
		return false
	}
	leader, _ := s.Member(s.Leader)
	x, err := w.Client.Server(ctx, m)
	return err == nil && x.Role != Leader && x.State == "running" && x.Timeline > 0 && x.Timeline == leader.Timeline
}

// failoverAfter is how many times the leader's key may run out before Patroni is
// asked to choose. It chooses by itself long before.
const failoverAfter = 3

// Led waits until a member leads that is none of those, and reads back from it
// that it does. Where nobody leads for long, it asks for one who has everything,
// or for the one preferred; Patroni refuses who lacks something.
func (w *Watch) Led(ctx context.Context, lost []string, prefer string, tell func(string)) (s Status, by Server, err error) {
	var nobody db.Moment
	for {
		s, err = w.Look(ctx)
		m, ok := s.Member(s.Leader)
		switch {
		case err != nil:
		case ok && m.Works() && !slices.Contains(lost, s.Leader):
			leads, x, err := w.Client.Leads(ctx, m)
			if err == nil && leads {
				return s, x, nil
			}
		case s.Leader == "" && nobody == 0:
			nobody = db.Now()
		case s.Leader == "" && -nobody.Left() > failoverAfter*s.TTL():
			nobody = 0
			w.failover(ctx, s, lost, prefer, tell)
		}
		if s.Leader != "" {
			nobody = 0
		}
		tell("waiting for Patroni: " + s.Words)
		select {
		case <-ctx.Done():
			return s, by, problem.New(problem.Conflict, "patroni-nobody-leads", "No member that was not lost leads: "+s.Words).
				WithMend("`foundry database patroni status` says what is missing.").Wrap(ctx.Err())
		case <-time.After(poll):
		}
	}
}

func (w *Watch) failover(ctx context.Context, s Status, lost []string, prefer string, tell func(string)) {
	for _, c := range append(slices.Clone(s.Standbys), prefer) {
		m, ok := s.Member(c)
		if !ok || !slices.Contains(s.Answers, c) || slices.Contains(lost, c) {
			continue
		}
		err := w.Client.Failover(ctx, m, c)
		if err == nil {
			return
		}
		tell(err.Error())
	}
}

// InStep waits until a standby has everything again, and says who. It fails
// where the cluster is not strict: then what the lost leader acknowledged alone
// is on its disk and nowhere else.
func (w *Watch) InStep(ctx context.Context, tell func(string)) (Status, error) {
	for {
		s, err := w.Look(ctx)
		if err == nil && s.Settings != nil && (!s.Settings.Sync || !s.Settings.Strict) {
			return s, errNotStrict
		}
		if err == nil && s.Leader != "" && s.SyncOf == s.Leader && len(s.Standbys) > 0 {
			return s, nil
		}
		tell("waiting for a standby in step: " + strings.TrimSpace(s.Words))
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(poll):
		}
	}
}
