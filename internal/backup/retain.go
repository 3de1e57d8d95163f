package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// StartExpire removes what is older than the retention, and what nothing holds.
func (b *Backups) StartExpire(ctx context.Context, p principal.Principal, in TargetRequest) (Job, error) {
	if err := b.may(ctx, p, "backup.expire"); err != nil {
		return Job{}, err
	}
	chosen, err := b.choose(nil, in.Targets)
	if err != nil {
		return Job{}, err
	}
	var all []*work
	for _, t := range chosen {
		r := b.newRun(KindExpire, t, false)
		r.DryRun = in.DryRun
		all = append(all, &work{run: r, task: t, do: func(ctx context.Context, w *work) error { return b.expireAt(ctx, w, in.DryRun) }})
	}
	return b.launch(ctx, p, KindExpire, all)
}

// expireAt removes what is older than the retention at one target.
func (b *Backups) expireAt(ctx context.Context, w *work, dry bool) error {
	t := w.task
	w.say("removing what is older than the retention")
	points, err := t.engine.Points(ctx, t.target)
	if err != nil {
		return err
	}
	held, err := b.heldOf(ctx, t, points)
	if err != nil {
		return err
	}
	before := b.o.Clock().Add(-b.o.Config.keep())
	if err := mayExpire(points, before); err != nil {
		return err
	}
	planned := func(labels []string) error {
		w.change(func(r *Run) { r.Gone = labels })
		return b.notePlanned(ctx, w.run.ID, labels)
	}
	e, err := t.engine.Expire(ctx, t.target, engine.ExpireRequest{Before: before, Held: held, DryRun: dry, Planned: planned})
	if err != nil {
		return err
	}
	kept := append(withReason(e.KeptForChain, "needed to restore the oldest day, or by a younger backup"), withReason(e.KeptByHold, "held")...)
	kept = append(kept, withReason(e.KeptByLock, "the target does not let it go yet")...)
	w.change(func(r *Run) { r.Gone, r.Kept = e.Gone, kept })
	if !dry {
		if err := b.proveExpired(ctx, t, points, e, held, before); err != nil {
			return err
		}
	}
	if said := b.purge(ctx, t.target, dry); said != "" {
		w.change(func(r *Run) { r.Kept = append(r.Kept, said) })
	}
	return nil
}

// purge removes for good what a bucket with object lock kept of what was
// removed before, where the lock is over, and says what stays until when. That
// something stays, or that a bucket does not say, is no failure: the next
// expiry asks again.
func (b *Backups) purge(ctx context.Context, t target.Target, dry bool) string {
	if t.Lock == nil || t.Lock.Mode != target.ObjectLock {
		return ""
	}
	p, err := t.Purge(ctx, b.o.Clock(), dry)
	if err != nil {
		b.o.Log.Warn("what a bucket keeps of what was removed was not looked at", "target", t.Name, "error", chain(err))
		return "removed files: " + problem.From(err).Detail + " The next expiry looks again."
	}
	if p.Kept == 0 {
		return ""
	}
	until := "until its lock is over"
	if !p.Until.IsZero() {
		until = "the last of them until " + stamp(p.Until)
	}
	return fmt.Sprintf("%d files that were removed or replaced, %d bytes: the bucket keeps them, %s", p.Kept, p.KeptBytes, until)
}

func withReason(labels []string, why string) (out []string) {
	for _, l := range labels {
		out = append(out, l+": "+why)
	}
	return out
}

// mayExpire refuses to touch anything while a clock is wrong: with one that is
// years ahead every backup is older than the retention.
func mayExpire(points []engine.Point, before time.Time) error {
	for _, p := range points {
		if p.Broken == "" && p.Stopped.After(before) {
			return nil // something within the retention stays
		}
	}
	if len(points) == 0 {
		return nil
	}
	return problem.New(problem.Conflict, "expire-all", "Every backup there is older than the retention: nothing is removed.").
		WithMend("Make a backup first. If there is a younger one, the clock of this node is wrong.")
}

// proveExpired asks the repository afterwards: what had to stay is there, and
// what is said to be gone is gone.
func (b *Backups) proveExpired(ctx context.Context, t task, was []engine.Point, e engine.Expired, held []string, before time.Time) error {
	now, err := t.engine.Points(ctx, t.target)
	if err != nil {
		return err
	}
	if err := b.catalogue(ctx, t.subject, t.target.Name, t.engine.Name(), now, fmt.Sprintf("Expired: older than %d days.", b.o.Config.KeepDays)); err != nil {
		return err
	}
	b.relist(t.target.Name)
	has := func(label string) bool {
		return slices.ContainsFunc(now, func(p engine.Point) bool { return p.Label == label })
	}
	for _, p := range was {
		young := !p.Stopped.Before(before)
		switch {
		case !has(p.Label) && (young || slices.Contains(held, p.Label)):
			return problem.New(problem.Internal, "expire-too-much", fmt.Sprintf("The engine removed the backup %s, which had to stay.", p.Label)).
				WithMend("Make a full backup at once: `foundry backup run --type full`, and drill it.")
		case slices.Contains(e.Gone, p.Label) && has(p.Label):
			return problem.New(problem.Internal, "expire-nothing", fmt.Sprintf("The engine says that it removed the backup %s, but it is still there.", p.Label)).
				WithMend("Look at the target's free space, and at whether it lets this node delete.")
		}
	}
	return b.measure(ctx, t.target, now)
}

// heldOf lists the labels that holds keep at a target.
func (b *Backups) heldOf(ctx context.Context, t task, points []engine.Point) (labels []string, err error) {
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		holds, err := readHolds(ctx, tx, `WHERE released_at IS NULL AND target IN ('', $1)`, t.target.Name)
		if err != nil {
			return err
		}
		labels = heldBy(holds, points)
		return nil
	})
	return labels, err
}

// heldBy lists the points that holds keep: those named, and those that
// restoring a moment of a span needs, which are the points within it and the
// last one before.
func heldBy(holds []Hold, points []engine.Point) (labels []string) {
	add := func(label string) {
		if !slices.Contains(labels, label) {
			labels = append(labels, label)
		}
	}
	for _, h := range holds {
		if h.Label != "" {
			for _, p := range points {
				if p.Label == h.Label {
					add(p.Label)
				}
			}
			continue
		}
		last := -1
		for i, p := range points {
			switch {
			case p.Stopped.After(*h.Until):
			case p.Stopped.After(*h.From):
				add(p.Label)
			case last < 0 || p.Stopped.After(points[last].Stopped):
				last = i
			}
		}
		if last >= 0 {
			add(points[last].Label)
		}
	}
	return labels
}

// Bounds of what people write.
const (
	shortestReason = 10
	longestReason  = 1000
	longestTicket  = 100
)

// Hold keeps points from being expired.
func (b *Backups) Hold(ctx context.Context, p principal.Principal, in NewHold) (h Hold, err error) {
	if err := b.may(ctx, p, "backup.hold"); err != nil {
		return h, err
	}
	in.Reason, in.Ticket = strings.TrimSpace(in.Reason), strings.TrimSpace(in.Ticket)
	switch n := len([]rune(in.Reason)); {
	case n < shortestReason || n > longestReason:
		return h, problem.New(problem.Invalid, "hold-reason", "A hold needs a reason of 10 to 1000 characters.").WithField("reason").WithMend("Say in a sentence why these backups must stay.")
	case in.Ticket == "" || len(in.Ticket) > longestTicket:
		return h, problem.New(problem.Invalid, "hold-ticket", "A hold needs a ticket.").WithField("ticket").WithMend("Name the case or ticket that it belongs to.")
	case in.Label == "" && (in.From.IsZero() || in.Until.IsZero() || in.Until.Before(in.From)):
		return h, problem.New(problem.Invalid, "hold-span", "What is to be held is not said.").WithField("label").WithMend("Name a backup, or give from and until.")
	case in.Label != "" && !in.From.IsZero():
		return h, problem.New(problem.Invalid, "hold-span", "A hold is on one backup or on a span, not on both.").WithField("from").WithMend("Leave one of them out.")
	}
	if in.Target != "" && !slices.ContainsFunc(b.o.Targets, func(t targetType) bool { return t.Name == in.Target }) {
		return h, problem.New(problem.NotFound, "target-unknown", fmt.Sprintf("There is no target %q.", in.Target)).WithField("target").WithMend("`foundry backup targets` shows them.")
	}
	err = b.onPlatform(ctx, func(tx pgx.Tx) error {
		if in.Label != "" {
			var found bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM backup_points WHERE label = $1 AND gone_at IS NULL AND ($2 = '' OR target = $2))`, in.Label, in.Target).Scan(&found); err != nil {
				return err
			}
			if !found {
				return problem.New(problem.NotFound, "point-unknown", fmt.Sprintf("There is no backup %q.", in.Label)).WithField("label").WithMend("`foundry backup list` shows them.")
			}
		}
		h = Hold{ID: uuid.Must(uuid.NewV7()), Target: in.Target, Label: in.Label, Reason: in.Reason, Ticket: in.Ticket, By: p.String()}
		if in.Label == "" {
			h.From, h.Until = &in.From, &in.Until
		}
		if err := tx.QueryRow(ctx, `INSERT INTO backup_holds (id, target, label, from_at, until_at, reason, ticket, actor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING placed_at`,
			h.ID, h.Target, h.Label, h.From, h.Until, h.Reason, h.Ticket, h.By).Scan(&h.Placed); err != nil {
			return err
		}
		return audit.Append(ctx, tx, p, uuid.Nil, "backup.hold", h.ID.String(), map[string]any{"target": h.Target, "point": h.Label, "from": h.From, "until": h.Until, "ticket": h.Ticket})
	})
	return h, err
}

// Release ends a hold. Releasing it again is refused: somebody else did it,
// and their reason stands.
func (b *Backups) Release(ctx context.Context, p principal.Principal, hold uuid.UUID, reason string) (h Hold, err error) {
	if err := b.may(ctx, p, "backup.release"); err != nil {
		return h, err
	}
	reason = strings.TrimSpace(reason)
	if n := len([]rune(reason)); n < shortestReason || n > longestReason {
		return h, problem.New(problem.Invalid, "hold-reason", "Ending a hold needs a reason of 10 to 1000 characters.").WithField("reason").WithMend("Say in a sentence why these backups may go.")
	}
	err = b.onPlatform(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE backup_holds SET released_at = now(), released_by = $2, release_reason = $3 WHERE id = $1 AND released_at IS NULL`, hold, p.String(), reason)
		if err != nil {
			return err
		}
		list, err := readHolds(ctx, tx, `WHERE id = $1`, hold)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return problem.New(problem.NotFound, "hold-unknown", "There is no such hold.").WithField("id").WithMend("`foundry backup hold --list` shows them.")
		case tag.RowsAffected() == 0:
			return problem.New(problem.Conflict, "hold-released", "The hold has been released already, by "+list[0].ReleasedBy+".").WithField("id").WithMend("There is nothing left to do.")
		}
		h = list[0]
		return audit.Append(ctx, tx, p, uuid.Nil, "backup.release", hold.String(), map[string]any{"ticket": h.Ticket})
	})
	return h, err
}

// enginePoints are the points of the repository of one, as heldBy wants them.
func enginePoints(points []Point, of *Point) (out []engine.Point) {
	for _, p := range points {
		if p.Target == of.Target && p.Engine == of.Engine {
			out = append(out, engine.Point{Label: p.Label, Stopped: p.Stopped})
		}
	}
	return out
}
