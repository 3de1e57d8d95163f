package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// StartVerify has the engines check their repositories, and checks itself that
// the archive of the log has no gap. Both together prove less than a drill.
func (b *Backups) StartVerify(ctx context.Context, p principal.Principal, in TargetRequest) (Job, error) {
	if err := b.may(ctx, p, "backup.verify"); err != nil {
		return Job{}, err
	}
	chosen, err := b.choose(nil, in.Targets)
	if err != nil {
		return Job{}, err
	}
	var all []*work
	for _, t := range chosen {
		all = append(all, &work{run: b.newRun(KindVerify, t, false), task: t, do: b.verify})
	}
	return b.launch(ctx, p, KindVerify, all)
}

// verify looks for what an engine's own check does not see: points that are
// gone, and segments that are missing.
func (b *Backups) verify(ctx context.Context, w *work) error {
	t := w.task
	w.say("reading the repository")
	points, err := t.engine.Points(ctx, t.target)
	if err != nil {
		return err
	}
	lost, err := b.vanished(ctx, t, points)
	if err != nil {
		return err
	}
	if err := b.catalogue(ctx, t.subject, t.target.Name, t.engine.Name(), points, whyLost); err != nil {
		return err
	}
	var wrong []string
	if len(lost) > 0 {
		wrong = append(wrong, fmt.Sprintf("Backups are missing that nobody removed: %s.", strings.Join(lost, ", ")))
	}
	if len(points) == 0 {
		wrong = append(wrong, "The repository holds no backup.")
	}
	for i, p := range points {
		// A snapshot stands alone: once there is a whole one after it, one that
		// is not whole is no loss.
		mended := p.Type == engine.Snapshot && slices.ContainsFunc(points[i+1:], func(later engine.Point) bool { return later.Broken == "" })
		if p.Broken != "" && !mended {
			wrong = append(wrong, fmt.Sprintf("The engine says of %s: %s", p.Label, p.Broken))
		}
	}
	if t.subject == Database && b.o.Archive != nil {
		w.say("looking for gaps in the log")
		if said := b.verifyLog(ctx, t, len(points) > 0); said != "" {
			wrong = append(wrong, said)
		}
	}
	w.say("the engine checks its repository")
	if err := t.engine.Check(ctx, t.target, w.progress()); err != nil {
		p := problem.From(err)
		wrong = append(wrong, strings.TrimSpace(p.Detail+" "+p.Mend))
	}
	if len(wrong) > 0 {
		return problem.New(problem.Conflict, "verify-failed", strings.Join(wrong, " ")).WithMend("Make a full backup: `foundry backup run --type full`. Then prove it: `foundry backup drill`.")
	}
	return b.measure(ctx, t.target, points)
}

// verifyLog compares the segments in a repository with what the server says it
// archived.
func (b *Backups) verifyLog(ctx context.Context, t task, has bool) string {
	lsn := ""
	if b.o.Archived != nil {
		var err error
		if lsn, _, err = b.archived(ctx); err != nil {
			return "How far the log was archived cannot be asked."
		}
	}
	a, _, err := b.o.Archive(ctx, t.target)
	if err != nil {
		return problem.From(err).Detail
	}
	if !has {
		return ""
	}
	if c := a.Check(b.oldestStart(ctx, t.target.Name), lsn); c.Outcome == scratch.Fail {
		return c.Reason
	}
	return ""
}
