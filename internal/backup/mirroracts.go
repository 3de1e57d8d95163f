package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Fetch begins to bring a mirror up to date, and says how it stands. It goes on
// in the background: whoever asked looks at the mirror until nothing is done
// with it any more.
func (c *Code) Fetch(ctx context.Context, p principal.Principal, name string) (MirrorStatus, error) {
	if err := c.may(ctx, p, "backup.fetch", name); err != nil {
		return MirrorStatus{}, err
	}
	r, err := c.repository(ctx, name)
	if err != nil {
		return MirrorStatus{}, err
	}
	if err := c.begin(ctx, p, "backup.fetch", name, Fetching, map[string]any{"url": withoutSecrets(r.URL)}); err != nil {
		return MirrorStatus{}, err
	}
	c.goOn(name, func(ctx context.Context) { c.fetch(ctx, r) })
	return c.one(name)
}

// goOn does the rest of an act in the background.
func (c *Code) goOn(name string, do func(ctx context.Context)) {
	c.o.Background(func() {
		defer c.end(name)
		defer func() {
			if v := recover(); v != nil {
				c.o.Log.Error("work on a mirror panicked", "panic", fmt.Sprint(v), "mirror", name)
			}
		}()
		do(c.life)
	})
}

// repository finds what a name stands for, with its credentials.
func (c *Code) repository(ctx context.Context, name string) (mirror.Repository, error) {
	if c.o.Mirrors == nil {
		return mirror.Repository{}, c.kept(name)
	}
	if i := c.named(name); i >= 0 {
		return mirror.Open(c.o.Config.Mirrors[i], fmt.Sprintf("backup.mirrors[%d]", i), c.o.Development)
	}
	if g := c.o.Config.Gitea; g != nil && strings.Contains(name, "+") {
		found, err := mirror.Discover(ctx, *g, "backup.gitea")
		if err != nil {
			return mirror.Repository{}, err
		}
		for _, r := range found {
			if r.Name == name {
				return r, nil
			}
		}
	}
	if _, err := c.one(name); err != nil {
		return mirror.Repository{}, err
	}
	return mirror.Repository{}, problem.New(problem.Conflict, "mirror-unconfigured", "The mirror "+name+" lies here, but the configuration names its repository no more.").
		WithField("name").WithMend("Name it again under backup.mirrors to fetch it. What lies here can still be proven and pushed.")
}

func (c *Code) fetch(ctx context.Context, r mirror.Repository) {
	s, err := c.o.Mirrors.Fetch(ctx, r)
	if len(s.Kept) > 0 {
		c.o.Alarm(notify.Critical, "mirror-history-lost", map[string]string{"mirror": r.Name, "refs": fmt.Sprint(len(s.Kept)), "kept": s.Kept[0].As})
	}
	if err != nil { // it stands in the mirror's state, for whoever asked
		c.o.Log.Warn("a mirror was not fetched", "mirror", r.Name, "code", problem.From(err).Code, "error", err)
	}
}

// kept is why a mirror that is named is not kept; nil: it may be.
func (c *Code) kept(name string) error {
	s, err := c.one(name)
	if err == nil && s.Code == "mirror-no-target" {
		return problem.New(problem.Conflict, s.Code, s.Reason).WithMend(s.Mend)
	}
	return err
}

// there refuses what needs a mirror that was fetched at least once.
func (c *Code) there(name string) error {
	if err := c.kept(name); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.o.Mirrors.Path(name), "HEAD")); err != nil {
		return problem.New(problem.Conflict, "mirror-empty", "The mirror "+name+" was never fetched: there is nothing in it.").WithField("name").WithMend("`foundry backup mirrors fetch " + name + "`, or restore it from a backup of the files.")
	}
	return nil
}

// Prove begins to clone a mirror, check every object and check its newest commit
// out, and to build it where the configuration says how.
func (c *Code) Prove(ctx context.Context, p principal.Principal, name string) (MirrorStatus, error) {
	if err := c.may(ctx, p, "backup.prove", name); err != nil {
		return MirrorStatus{}, err
	}
	if err := c.there(name); err != nil {
		return MirrorStatus{}, err
	}
	if err := c.begin(ctx, p, "backup.prove", name, Proving, nil); err != nil {
		return MirrorStatus{}, err
	}
	c.goOn(name, func(ctx context.Context) {
		proof := c.prove(ctx, name)
		c.note(name, func(n *noted) { n.Proof = &TriedMirror{At: c.o.Clock().UTC(), Proof: proof} })
		c.entered(ctx, "backup.mirror-proof", name, map[string]any{"outcome": proof.Outcome, "commit": proof.Commit})
	})
	return c.one(name)
}

// prove is inconclusive where a proof could not even be tried.
func (c *Code) prove(ctx context.Context, name string) mirror.Proof {
	proof, err := func() (mirror.Proof, error) {
		place, err := scratch.Make(c.o.Scratch)
		if err != nil {
			return mirror.Proof{}, err
		}
		defer func() { _ = place.Remove(context.WithoutCancel(ctx)) }()
		t := mirror.Trial{Name: name, Scratch: filepath.Join(place.Dir, "try"), BuildAs: mirror.Builder()}
		if i := c.named(name); i >= 0 {
			t.Build = c.o.Config.Mirrors[i].Build
		}
		return c.o.Mirrors.ProveHere(ctx, t)
	}()
	if err != nil {
		c.o.Log.Warn("a mirror was not proven", "mirror", name, "error", err)
		p := problem.From(err)
		proof.Name, proof.Outcome = name, mirror.Inconclusive
		proof.Checks = append(proof.Checks, mirror.Check{Name: "proof", Outcome: mirror.Inconclusive, Reason: strings.TrimSpace(p.Detail + " " + p.Mend)})
	}
	return proof
}

// Push begins to bring a mirror to a new server. The code leaves this node for
// an address that somebody typed: it needs a reason, a fresh second factor, and
// people are told.
func (c *Code) Push(ctx context.Context, p principal.Principal, name string, in MirrorPush) (MirrorStatus, error) {
	if err := c.may(ctx, p, "backup.push", name); err != nil {
		return MirrorStatus{}, err
	}
	if in.Reason = strings.TrimSpace(in.Reason); len(in.Reason) < 10 || len(in.Reason) > 1000 {
		return MirrorStatus{}, problem.New(problem.Invalid, "mirror-reason", "Bringing code to another server needs a reason of 10 to 1000 characters.").WithField("reason").WithMend("Say in a sentence why it goes there.")
	}
	if err := c.there(name); err != nil {
		return MirrorStatus{}, err
	}
	to, err := mirror.OpenWith(mirror.Config{Name: name, URL: in.To, User: in.User, Private: in.Private},
		mirror.Credentials{Password: in.Password, Key: in.Key, KnownHosts: in.KnownHosts, CA: in.CA}, c.o.Development)
	if err != nil {
		return MirrorStatus{}, err
	}
	push := Push{To: withoutSecrets(to.URL), By: p.String(), Began: c.o.Clock().UTC()}
	if err := c.begin(ctx, p, "backup.push", name, Pushing, map[string]any{"to": push.To, "reason": in.Reason}); err != nil {
		return MirrorStatus{}, err
	}
	c.note(name, func(n *noted) { n.Push = &push })
	c.o.Alarm(notify.Warning, "mirror-pushed."+name, map[string]string{"mirror": name, "to": push.To, "actor": push.By, "next": "foundry audit list --act backup.push"})
	c.goOn(name, func(ctx context.Context) { c.push(ctx, name, to, push) })
	return c.one(name)
}

func (c *Code) push(ctx context.Context, name string, to mirror.Repository, push Push) {
	refs, err := c.o.Mirrors.PushHere(ctx, name, to)
	ended := c.o.Clock().UTC()
	push.Ended, push.Refs = &ended, refs
	outcome := Pass
	if err != nil {
		p := problem.From(err)
		push.Refs, push.Code, push.Reason, push.Mend, outcome = 0, p.Code, p.Detail, p.Mend, Fail
		c.o.Log.Warn("a mirror was not brought to another server", "mirror", name, "code", p.Code, "error", err)
	}
	c.note(name, func(n *noted) { n.Push = &push })
	c.entered(ctx, "backup.mirror-pushed", name, map[string]any{"to": push.To, "outcome": outcome, "refs": push.Refs, "code": push.Code})
}

// noted is what was last done with a mirror by hand. It is not in the backups:
// a restored node proves anew.
type noted struct {
	Proof *TriedMirror `json:"proof,omitempty"`
	Push  *Push        `json:"push,omitempty"`
}

func readNotes(path string, log *slog.Logger) map[string]noted {
	out := map[string]noted{}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what was done with mirrors before is not known: its note cannot be read", "error", err)
		return map[string]noted{}
	}
	for name, n := range out { // half of a push that a killed node left
		if n.Push != nil && n.Push.Ended == nil {
			n.Push.Code, n.Push.Reason, n.Push.Mend = "mirror-interrupted", "The node ended before the push did.", "Look at the new server; push again to a new, empty repository."
			n.Push.Ended = &n.Push.Began
		}
		out[name] = n
	}
	return out
}

// note changes what is noted of a mirror, here and in the file.
func (c *Code) note(name string, change func(*noted)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.notes[name]
	change(&n)
	next := maps.Clone(c.notes)
	next[name] = n
	c.notes = next
	text, err := json.Marshal(next)
	if err == nil {
		err = writeFile(c.o.Notes, text, 0o600)
	}
	if err != nil {
		c.o.Log.Warn("what was done with a mirror is not noted", "mirror", name, "error", err)
	}
}
