package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/evidence"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

// prepareMirrors checks what is said of repositories to be mirrored.
func (d *Daemon) prepareMirrors(c backup.Config) error {
	if len(c.Mirrors) == 0 && c.Gitea == nil {
		return nil
	}
	if _, err := d.namedMirrors(c); err != nil {
		return err
	}
	private, err := d.runtime.Sub("mirrors", -1, -1)
	if err != nil {
		return err
	}
	d.mirrors, err = mirror.New(mirror.Options{Dir: d.mirrorDir(), Runtime: private, Log: d.log, Now: d.clock})
	return err
}

// makeCode makes what people see of the mirrors, and do with them.
func (d *Daemon) makeCode() {
	c := d.config.Backup.WithDefaults()
	scratch := c.ScratchDir
	if scratch == "" {
		scratch = filepath.Join(d.config.DataDir, "scratch")
	}
	d.code = backup.NewCode(d.life, backup.CodeOptions{DB: d.db, Guard: d.guard, Mirrors: d.mirrors, Config: c, Tried: d.triedMirrors,
		Scratch: scratch, Notes: filepath.Join(d.config.DataDir, "backup", "mirror-acts.json"), Development: d.config.Mode != Production,
		Alarm:      func(s notify.Severity, code string, facts map[string]string) { d.alarm(s, code, uuid.Nil, facts) },
		Background: d.running.Go, Clock: d.clock, Log: d.log})
}

func (d *Daemon) mirrorDir() string { return filepath.Join(d.config.DataDir, "mirrors") }

// namedMirrors are those that the configuration names one by one.
func (d *Daemon) namedMirrors(c backup.Config) (out []mirror.Repository, err error) {
	for i, m := range c.Mirrors {
		r, err := mirror.Open(m, fmt.Sprintf("backup.mirrors[%d]", i), d.config.Mode != Production)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// freshMirror is how long a mirror is not fetched again: targets are backed up
// to one after the other, and each asks.
const freshMirror = time.Hour

// fetchMirrors brings every mirror up to date right before the files are
// backed up, so that nothing moves in them meanwhile. What cannot be fetched
// is said, and does not keep the rest from being backed up.
func (d *Daemon) fetchMirrors(ctx context.Context) {
	if d.mirrors == nil {
		return
	}
	c := d.config.Backup
	all, err := d.namedMirrors(c)
	if err != nil {
		d.mirrorFailed("configured", err)
	}
	if c.Gitea != nil {
		found, err := mirror.Discover(ctx, *c.Gitea, "backup.gitea")
		if err != nil {
			d.mirrorFailed("gitea", err)
		}
		all = append(all, found...)
	}
	for _, r := range all {
		if ctx.Err() != nil {
			return
		}
		s, _ := d.mirrors.State(r.Name) // one that cannot be read is written anew
		if age, ever := s.Age(d.clock()); ever && age < freshMirror && s.Code == "" {
			continue
		}
		s, err := d.mirrors.Fetch(ctx, r)
		if len(s.Kept) > 0 {
			d.alarm(notify.Critical, "mirror-history-lost", uuid.Nil, map[string]string{"mirror": r.Name, "refs": fmt.Sprint(len(s.Kept)), "kept": s.Kept[0].As})
		}
		if age, ever := s.Age(d.clock()); err != nil && (!ever || age > r.Oldest()) {
			d.mirrorFailed(r.Name, err)
		} else if err != nil {
			d.log.Warn("a mirror was not fetched; it is not too old yet", "mirror", r.Name, "error", err)
		}
	}
}

func (d *Daemon) mirrorFailed(name string, err error) {
	p := problem.From(err)
	d.log.Error("a mirror of repositories is not up to date", "mirror", name, "code", p.Code, "error", err)
	d.alarm(notify.Warning, "mirror-stale", uuid.Nil, map[string]string{"mirror": name, "code": p.Code, "next": p.Mend})
}

// proveMirrors tries every mirror that a restored copy of the files holds.
func (d *Daemon) proveMirrors(ctx context.Context, root string) (checks []backup.Check) {
	if d.mirrors == nil {
		return nil
	}
	copied, err := mirror.New(mirror.Options{Dir: filepath.Join(root, d.mirrorDir()), Log: d.log, Now: d.clock})
	if err != nil {
		return []backup.Check{mirrorCheck("mirrors", mirror.Fail, problem.From(err).Detail)}
	}
	names, err := copied.List()
	if err != nil || len(names) == 0 {
		return []backup.Check{mirrorCheck("mirrors", mirror.Inconclusive, "Mirrors are configured, and the copy holds none.")}
	}
	build := map[string][]string{}
	for _, m := range d.config.Backup.Mirrors {
		build[m.Name] = m.Build
	}
	proofs := map[string]tried{}
	defer func() { d.noteTried(proofs) }()
	for _, name := range names {
		state, _ := copied.State(name)
		p, err := d.mirrors.Prove(ctx, mirror.Trial{Name: name, Mirror: copied.Path(name), Expect: state, Scratch: filepath.Join(root, "..", "try-"+name), Build: build[name], BuildAs: mirror.Builder()})
		if err != nil {
			checks = append(checks, mirrorCheck("mirror "+name, mirror.Inconclusive, problem.From(err).Detail))
			continue
		}
		proofs[name] = tried{At: d.clock().UTC(), Proof: p}
		checks = append(checks, mirrorCheck("mirror "+name, p.Outcome, explainProof(p)))
	}
	return checks
}

func mirrorCheck(name, outcome, reason string) backup.Check {
	return backup.Check{Name: name, Outcome: backup.Outcome(outcome), Reason: reason}
}

// explainProof is the sentence of the worst check, or what was proven.
func explainProof(p mirror.Proof) string {
	for _, c := range p.Checks {
		if c.Outcome == p.Outcome && p.Outcome != mirror.Pass {
			return c.Name + ": " + c.Reason
		}
	}
	return fmt.Sprintf("It clones, every object is whole, and commit %.12s of %s checks out with %d files.", p.Commit, p.At.Format(time.RFC3339), p.Files)
}

// triedFile holds the proofs of the last drill, by mirror.
func (d *Daemon) triedFile() string { return filepath.Join(d.config.DataDir, "backup", "mirrors.json") }

type tried = backup.TriedMirror

func (d *Daemon) noteTried(proofs map[string]tried) {
	text, err := json.Marshal(proofs)
	if err == nil {
		if err = os.MkdirAll(filepath.Dir(d.triedFile()), 0o700); err == nil {
			err = durable.Replace(d.triedFile(), text, 0o600)
		}
	}
	if err != nil {
		d.log.Warn("the proof of restored mirrors was not noted", "error", err)
	}
}

func (d *Daemon) triedMirrors() map[string]tried {
	out := map[string]tried{}
	if text, err := os.ReadFile(d.triedFile()); err == nil && json.Unmarshal(text, &out) != nil {
		return nil // half a note proves nothing
	}
	return out
}

// mirrorControl is O-47: every mirror is fresh, and a restored copy of it was
// cloned and checked out.
func (d *Daemon) mirrorControl(context.Context, func(string)) ([]evidence.Finding, error) {
	if d.mirrors == nil {
		return []evidence.Finding{{Subject: "mirrors", Result: evidence.Inconclusive, Reason: "No repository of code is mirrored yet: name them under backup.mirrors or backup.gitea."}}, nil
	}
	names, err := d.mirrors.List()
	if err != nil {
		return nil, err
	}
	oldest := map[string]time.Duration{}
	for _, m := range d.config.Backup.Mirrors {
		oldest[m.Name] = m.Oldest()
		if !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return []evidence.Finding{{Subject: "mirrors", Result: evidence.Fail, Reason: "Nothing was mirrored yet."}}, nil
	}
	proofs, now := d.triedMirrors(), d.clock()
	var out []evidence.Finding
	for _, name := range names {
		s, err := d.mirrors.State(name)
		if err != nil {
			return nil, err
		}
		limit := oldest[name]
		if limit == 0 {
			limit = mirror.Config{}.Oldest()
			if g := d.config.Backup.Gitea; g != nil {
				limit = g.MaxAge.Or(limit)
			}
		}
		out = append(out, judgeMirror(s, proofs[name], now, limit, 2*time.Duration(d.config.Backup.WithDefaults().DrillEvery)))
	}
	return out, nil
}

// judgeMirror decides about one mirror.
func judgeMirror(s mirror.State, last tried, now time.Time, oldest, drilled time.Duration) evidence.Finding {
	f := evidence.Finding{Subject: "mirror " + s.Name, Result: evidence.Pass, Covered: []string{"when it was last fetched whole", "what a restored copy of it was good for"},
		NotCovered: []string{"Git LFS objects", "issues, requests, wikis and files of releases"}}
	age, ever := s.Age(now)
	switch {
	case !ever:
		f.Result, f.Reason = evidence.Fail, "It was never fetched. "+s.Reason
	case age > oldest:
		f.Result, f.Reason = evidence.Fail, fmt.Sprintf("It was last fetched on %s. %s", s.Fetched.Format(time.RFC3339), s.Reason)
	case last.At.IsZero():
		f.Result, f.Reason = evidence.Inconclusive, "It is fresh; no restored copy of it was tried yet."
	case now.Sub(last.At) > drilled:
		f.Result, f.Reason = evidence.Fail, "It is fresh, but a restored copy was last tried on "+last.At.Format(time.RFC3339)+"."
	case last.Proof.Outcome == mirror.Fail:
		f.Result, f.Reason = evidence.Fail, "A restored copy of it failed: "+explainProof(last.Proof)
	case last.Proof.Outcome != mirror.Pass:
		f.Result, f.Reason = evidence.Inconclusive, "A restored copy of it proved nothing: "+explainProof(last.Proof)
	default:
		f.Reason = fmt.Sprintf("It was fetched on %s with its newest commit %.12s of %s; a restored copy of %s was proven. %s",
			s.Fetched.Format(time.RFC3339), s.Commit, s.At.Format(time.RFC3339), last.At.Format(time.RFC3339), explainProof(last.Proof))
	}
	return f
}
