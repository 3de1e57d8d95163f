package restic

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

const sharedLock = syscall.LOCK_SH

// Expire implements engine.Engine: it names the snapshots to forget one by
// one. restic's own rules count from the newest snapshot, not from today, so
// that a node which stopped backing up would keep its old ones for ever.
func (e *Engine) Expire(ctx context.Context, t target.Target, r engine.ExpireRequest) (gone engine.Expired, err error) {
	err = e.holdingSoon(ctx, t, "write", syscall.LOCK_EX, func() error {
		return e.holdingSoon(ctx, t, "read", syscall.LOCK_EX, func() error {
			return e.with(ctx, t, func(s *session) error {
				gone, err = s.expire(ctx, r)
				return err
			})
		})
	})
	return gone, err
}

func (s *session) expire(ctx context.Context, r engine.ExpireRequest) (engine.Expired, error) {
	points, err := s.points(ctx)
	if err != nil {
		return engine.Expired{}, err
	}
	plan := choose(points, r)
	if s.t.Lock != nil && s.t.Lock.Mode == target.AppendOnly {
		plan.KeptByLock, plan.Gone = plan.Gone, nil
	}
	if r.DryRun {
		return plan, nil
	}
	if len(plan.Gone) == 0 {
		return plan, s.finishPrune(ctx)
	}
	if err := r.Plan(plan.Gone); err != nil {
		return engine.Expired{}, err
	}
	if err := os.WriteFile(s.unpruned(), nil, 0o600); err != nil {
		s.e.o.Log.Warn("the beginning of an expiry could not be noted", "target", s.t.Name, "cause", err)
	}
	args := append([]string{"forget"}, plan.Gone...)
	_, err = s.run(ctx, command{op: opExpire, args: args, locks: true})
	refused := unwritable(err)
	if err != nil && !refused {
		return engine.Expired{}, err
	}
	// What is listed afterwards counts, not what was asked for.
	left, lerr := s.points(ctx)
	if lerr != nil {
		return engine.Expired{}, errors.Join(err, lerr)
	}
	plan.Gone, plan.KeptByLock = split(plan.Gone, left)
	if !refused && len(plan.KeptByLock) > 0 {
		return plan, problem.New(problem.Upstream, "engine-nothing", "restic ended without an error, and backups that it should have removed are still there.").
			WithMend("Check which program is called restic on this machine.")
	}
	if len(plan.Gone) == 0 {
		return plan, nil
	}
	return plan, s.prune(ctx)
}

// unpruned is a note that snapshots were forgotten whose space is not free yet.
func (s *session) unpruned() string {
	return strings.TrimSuffix(s.e.notesOf(s.t), ".pid") + ".unpruned"
}

// prune frees the space of what was forgotten. One that is killed loses
// nothing: its note stays, and the next expiry goes on.
func (s *session) prune(ctx context.Context) error {
	if _, err := s.run(ctx, command{op: opExpire, args: []string{"prune", "--max-unused", "5%"}, locks: true}); err != nil {
		return err
	}
	_ = os.Remove(s.unpruned())
	return nil
}

// finishPrune frees the space that an expiry which was killed did not.
func (s *session) finishPrune(ctx context.Context) error {
	if _, err := os.Lstat(s.unpruned()); err != nil {
		return nil
	}
	return s.prune(ctx)
}

// choose decides what goes. Of what is older than r.Before the newest whole one
// stays, and what came after it: the oldest moment that is promised is restored
// from it, and where nothing is younger it is the last good one.
func choose(points []engine.Point, r engine.ExpireRequest) (e engine.Expired) {
	var old []engine.Point
	for _, p := range points {
		if p.Started.Before(r.Before) {
			old = append(old, p)
		}
	}
	last := len(old) - 1
	for i := last; i >= 0; i-- {
		if old[i].Broken == "" {
			last = i
			break
		}
	}
	for i, p := range old {
		switch {
		case slices.ContainsFunc(r.Held, func(held string) bool {
			return len(held) >= 8 && (strings.HasPrefix(p.Label, held) || strings.HasPrefix(held, p.Label))
		}):
			e.KeptByHold = append(e.KeptByHold, p.Label)
		case i >= last:
			e.KeptForChain = append(e.KeptForChain, p.Label)
		default:
			e.Gone = append(e.Gone, p.Label)
		}
	}
	return e
}

// split tells what is gone from what is left.
func split(labels []string, left []engine.Point) (gone, kept []string) {
	for _, l := range labels {
		if slices.ContainsFunc(left, func(p engine.Point) bool { return p.Label == l }) {
			kept = append(kept, l)
		} else {
			gone = append(gone, l)
		}
	}
	return gone, kept
}
