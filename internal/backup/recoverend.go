package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/problem"
)

// stepEvidence writes what happened, signed with the node's evidence key, to be
// printed and kept.
func (x *recovering) stepEvidence(_ context.Context, s *RecoveryStep) error {
	x.r.Finished, x.r.Fenced = x.o.Clock().UTC(), true
	if err := x.openRing(); err != nil {
		return err
	}
	signer, err := evidence.OpenSigner(filepath.Join(x.o.DataDir, "evidence"), x.ring.Seal, x.ring.Open)
	if err != nil {
		return err
	}
	text := x.r.Timeline()
	path := filepath.Join(x.o.DataDir, "recovery", "evidence.txt")
	if err := writeFile(path, []byte(text+signer.SignText(text)), 0o600); err != nil {
		return err
	}
	x.r.Evidence = path
	if err := setFence(x.o.DataDir, Fence{Since: x.r.Started, Reason: "This node was recovered from " + x.r.source() + ", and has not been activated.",
		Mend: "Look at what was recovered (" + path + "), then run `foundry recover --activate`."}); err != nil {
		return err
	}
	s.Said = path + ", signed by " + signer.ID()
	return nil
}

// Timeline tells a recovery to people: what, how far, and when. It holds no
// secret and no personal data.
func (r *Recovery) Timeline() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("FOUNDRY RECOVERY %s", r.ID)
	line("node %s, onto %s, with Foundry %s", r.Node, r.DataDir, r.Program)
	if t := r.Taken; t != nil {
		line("taken over: by %s from %s, with what it left on %s, SHA-256 %s", t.To, t.From, stamp(t.Made), r.KitHash)
		if t.Reason != "" {
			line("why: %s", t.Reason)
		}
	} else {
		line("kit: set %s, made %s, SHA-256 %s", r.Kit.Set, stamp(r.Kit.Created), r.KitHash)
	}
	if r.Wanted.IsZero() {
		line("asked for: the newest there is")
	} else {
		line("asked for: %s", stamp(r.Wanted))
	}
	if r.Point.Label != "" {
		line("restored from: %s backup %s of %s, at %s", r.Point.Type, r.Point.Label, stamp(r.Point.Stopped), r.Target)
	}
	if !r.Recovered.IsZero() {
		line("recovered point: %s", stamp(r.Recovered))
		line("lost: %s", span(r.Lost))
	}
	line("")
	for _, s := range r.Steps {
		took := "interrupted, or going on"
		if !s.Ended.IsZero() {
			took = span(s.Ended.Sub(s.Began).Seconds())
		}
		if s.Tries > 1 {
			took += fmt.Sprintf(", try %d", s.Tries)
		}
		line("%s  %-17s %s", s.Began.UTC().Format("15:04:05"), s.Name, took)
		if s.Said != "" {
			line("          %s", s.Said)
		}
	}
	if r.Proof != nil {
		line("")
		line("proof: %s", r.Proof.Outcome)
		for _, c := range r.Proof.Checks {
			line("  %-13s %s: %s", c.Outcome, c.Name, c.Reason)
		}
	}
	if len(r.Notes) > 0 {
		line("")
		for _, n := range r.Notes {
			line("note: %s", n)
		}
	}
	if !r.Finished.IsZero() {
		line("")
		line("finished %s, after %s", stamp(r.Finished), span(r.Finished.Sub(r.Started).Seconds()))
	}
	return b.String()
}

func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// ActivateOptions say on what conditions a recovered node may work.
type ActivateOptions struct {
	DataDir string
	// Unproven activates though the recovered point was not proven.
	Unproven bool
	// Reason is why, where Unproven is given. It goes into the audit log.
	Reason string
	Clock  func() time.Time
}

// Activate lifts the fence of a node that was recovered. Its next start opens a
// new timeline of the archive.
func Activate(_ context.Context, o ActivateOptions) (*Recovery, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, err
	}
	r, err := ReadRecovery(dir)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, problem.New(problem.NotFound, "recovery-none", "Nothing was recovered into "+dir+".").WithField("data-dir").
			WithMend("Name the data directory that was recovered with --data-dir.")
	}
	lock, err := holdDirectory(dir)
	if err != nil {
		return r, err
	}
	defer lock.Close()
	if !r.Activated.IsZero() { // the fence may be left of an activation that was killed
		return r, liftFence(dir)
	}
	if !r.done(StepEvidence) {
		return r, problem.New(problem.Conflict, "recovery-unfinished", "The recovery is not finished.").WithMend("Run `" + r.command() + "` again: it goes on where it was interrupted.")
	}
	if r.Proof == nil || r.Proof.Outcome != scratch.Pass {
		if err := unproven(r, o); err != nil {
			return r, err
		}
		r.note("Activated although the recovered point was not proven: %s", o.Reason)
	}
	if err := setCheckpointsAside(dir, r); err != nil {
		return r, err
	}
	r.Activated, r.Fenced = o.Clock().UTC(), false
	if err := r.write(); err != nil {
		return r, err
	}
	return r, liftFence(dir)
}

func unproven(r *Recovery, o ActivateOptions) error {
	if o.Unproven && len(strings.TrimSpace(o.Reason)) >= 10 {
		return nil
	}
	if o.Unproven {
		return problem.New(problem.Invalid, "recovery-reason", "Activating what was not proven needs a reason.").WithField("reason").WithMend("Say in a sentence why, with --reason; it goes into the audit log.")
	}
	why := "it was not looked at."
	outcome := string(scratch.Inconclusive)
	if r.Proof != nil {
		why, outcome = r.Proof.Reason, string(r.Proof.Outcome)
	}
	return problem.New(problem.Denied, "recovery-unproven", fmt.Sprintf("The recovered point was not proven (%s): %s", outcome, why)).
		WithMend("Recover another point with --at or --target into another directory; or, when you accept it, add --unproven and --reason.")
}

// setCheckpointsAside makes room for the audit log to go on where a database
// that lost its newest entries ends. What it had signed is kept as evidence:
// whoever holds a copy of it will see that entries are gone.
func setCheckpointsAside(dir string, r *Recovery) error {
	if !r.AuditBehind {
		return nil // the tree goes on from everything that was signed
	}
	kept := filepath.Join(dir, "recovery", "audit")
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return pathProblem(kept, err)
	}
	for _, name := range []string{"newest.json", "checkpoints.jsonl"} {
		from := filepath.Join(dir, "audit", name)
		if _, err := os.Lstat(from); err != nil {
			continue
		}
		if err := os.Rename(from, filepath.Join(kept, name)); err != nil {
			return pathProblem(from, err)
		}
		r.note("The audit log may have lost its newest entries: the checkpoints that it had signed are kept in %s.", kept)
	}
	return nil
}

// NoteAnnounced notes that a recovery is in the restored audit log.
func NoteAnnounced(dataDir string, at time.Time) error {
	r, err := ReadRecovery(dataDir)
	if err != nil || r == nil {
		return err
	}
	r.Announced = at.UTC()
	return r.write()
}
