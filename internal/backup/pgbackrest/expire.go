package pgbackrest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// Expire removes what is older than r.Before, but for what is needed to
// restore that very moment, what is held, and whatever these require.
//
// How pgBackRest 2.45 behaves, measured: `expire --set` removes one backup and
// all that depend on it, and refuses only the last full one. By itself it
// removes WAL only as far as retention-full counts; with retention by time,
// after --set, it removes none at all. Hence retention-full is out of reach in
// the configuration, backups go one by one by label, and then the WAL before
// the oldest full backup that is left goes with retention-archive = the number
// of full ones. A smaller number would keep those backups but cut holes into
// the WAL between them. Counting and removing are one step, by the target's
// lock: a full backup made in between would make the number too small.
//
// A held backup keeps all WAL from it on, so that it stays restorable to any
// moment after it.
func (e *Engine) Expire(ctx context.Context, t target.Target, r engine.ExpireRequest) (engine.Expired, error) {
	if _, err := e.configure(ctx, t); err != nil {
		return engine.Expired{}, err
	}
	release, err := e.holdSoon(ctx, t)
	if err != nil {
		return engine.Expired{}, err
	}
	defer release()
	points, err := e.Points(ctx, t)
	if err != nil {
		return engine.Expired{}, err
	}
	x := plan(points, r)
	if t.Lock != nil && t.Lock.Mode == target.AppendOnly {
		// pgBackRest takes a backup off its list before it removes the files.
		x.KeptByLock, x.Gone = x.Gone, nil
		return x, nil
	}
	if r.DryRun {
		return x, nil
	}
	if err := r.Plan(x.Gone); err != nil {
		return engine.Expired{}, err
	}
	for _, label := range slices.Backward(x.Gone) { // dependants first: an interruption leaves whole chains
		if _, err := e.run(ctx, t, nil, "--set="+label, "--log-level-console=warn", "expire"); err != nil && !alreadyGone(err) {
			return engine.Expired{}, err
		}
	}
	left, err := e.Points(ctx, t)
	if err != nil {
		return x, err
	}
	x.Gone = slices.DeleteFunc(x.Gone, func(label string) bool {
		stays := slices.ContainsFunc(left, func(p engine.Point) bool { return p.Label == label })
		if stays {
			x.KeptByLock = append(x.KeptByLock, label)
		}
		return stays
	})
	full := 0
	for _, p := range left {
		if p.Type == engine.Full {
			full++
		}
	}
	if full > 0 { // also where nothing goes now: an earlier run may have been interrupted before this
		_, err = e.run(ctx, t, nil, "--repo1-retention-archive-type=full", fmt.Sprintf("--repo1-retention-archive=%d", full), "--log-level-console=warn", "expire")
	}
	return x, err
}

// alreadyGone: an earlier run, interrupted, took it off the list.
func alreadyGone(err error) bool {
	var p *problem.Error
	return errors.As(err, &p) && p.Code == "point-missing" && p.Err != nil && !strings.Contains(p.Err.Error(), "cannot be expired")
}

// plan decides what goes.
func plan(points []engine.Point, r engine.ExpireRequest) (x engine.Expired) {
	byLabel := map[string]engine.Point{}
	for _, p := range points {
		byLabel[p.Label] = p
	}
	kept := map[string]*[]string{} // label to why; nil: it is young
	var keep func(label string, why *[]string)
	keep = func(label string, why *[]string) {
		if _, there := byLabel[label]; !there {
			return
		}
		if old, ok := kept[label]; ok && (old == nil || why != nil) {
			return
		}
		kept[label] = why
		for _, needed := range byLabel[label].Requires {
			if n, there := byLabel[needed]; there && n.Stopped.Before(r.Before) {
				keep(needed, cmpWhy(why, &x.KeptForChain))
			}
		}
	}
	anchor := ""
	for _, p := range points { // oldest first
		if !p.Stopped.Before(r.Before) {
			keep(p.Label, nil)
		} else if p.Broken == "" {
			anchor = p.Label
		}
	}
	keep(anchor, &x.KeptForChain)
	for _, label := range r.Held {
		keep(label, &x.KeptByHold)
	}
	for _, p := range points {
		switch why, ok := kept[p.Label]; {
		case !ok:
			x.Gone = append(x.Gone, p.Label)
		case why != nil:
			*why = append(*why, p.Label)
		}
	}
	return x
}

// cmpWhy is why something required is kept: for the reason of what requires
// it, or for the chain of a young one.
func cmpWhy(why, chain *[]string) *[]string {
	if why == nil {
		return chain
	}
	return why
}
