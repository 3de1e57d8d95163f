package mirror

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/problem"
)

// Outcomes of a check.
const (
	Pass         = "pass"
	Fail         = "fail"
	Inconclusive = "inconclusive"
)

// Check is one thing that was looked at in a restored mirror.
type Check struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
}

// Proof is what a restored mirror was found to be good for.
type Proof struct {
	Name    string        `json:"name"`
	Outcome string        `json:"outcome"` // the worst of the checks; nothing proven is inconclusive
	Commit  string        `json:"commit,omitempty"`
	At      time.Time     `json:"commit_at,omitzero"`
	Refs    int           `json:"refs"`
	Files   int64         `json:"files"` // checked out
	Bytes   int64         `json:"bytes"`
	Took    time.Duration `json:"took"`
	Checks  []Check       `json:"checks"`
}

// Trial says what to prove of a restored mirror.
type Trial struct {
	Name     string
	Mirror   string   // the restored bare repository
	Expect   State    // as it was noted with the mirror; zero: unknown
	Scratch  string   // an absent directory to work in; removed at the end
	Build    []string // program and arguments; empty: nobody said how
	Bound    time.Duration
	BuildAs  *syscall.Credential // who builds; nil: as [Builder] says
	MaxBytes int64               // of the check-out; 0: 20 GiB
}

// Builder is who runs what a repository says is its build: never root.
func Builder() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534} // nobody, nogroup
}

// ProveHere proves a mirror of this node itself, which is not fetched meanwhile,
// against what was noted when it was fetched. What a backup of it is good for,
// only a drill says.
func (m *Mirrors) ProveHere(ctx context.Context, t Trial) (p Proof, err error) {
	err = m.locked(t.Name, func() error {
		t.Mirror = m.Path(t.Name)
		if t.Expect, err = m.State(t.Name); err != nil {
			t.Expect = State{} // then it is not known what there should be
		}
		p, err = m.Prove(ctx, t)
		return err
	})
	return p, err
}

// Prove clones a restored mirror, checks every object, checks a commit out
// and, if told how, builds it. A check that could not be made is inconclusive.
func (m *Mirrors) Prove(ctx context.Context, t Trial) (p Proof, err error) {
	began := m.o.Now()
	p.Name = t.Name
	if _, err := os.Lstat(t.Scratch); err == nil {
		return p, problem.New(problem.Conflict, "restore-not-empty", "The directory "+t.Scratch+" is there already.").WithMend("Name a new one.")
	}
	if err := os.MkdirAll(t.Scratch, 0o711); err != nil {
		return p, err
	}
	defer os.RemoveAll(t.Scratch)
	x := proving{m: m, t: t, g: m.local(), p: &p, work: filepath.Join(t.Scratch, "work")}
	x.g.set = append(x.g.set, "protocol.file.allow=always")
	for _, step := range []func(context.Context) bool{x.refs, x.fsck, x.clone, x.cloned, x.checkOut, x.build} {
		if ctx.Err() != nil {
			return p, context.Cause(ctx)
		}
		if !step(ctx) {
			break
		}
	}
	p.Took, p.Outcome = m.o.Now().Sub(began), worst(p.Checks)
	return p, nil
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func worst(checks []Check) string {
	outcome := Pass
	for _, c := range checks {
		if c.Outcome == Fail {
			return Fail
		}
		if c.Outcome != Pass {
			outcome = Inconclusive
		}
	}
	if len(checks) == 0 {
		return Inconclusive
	}
	return outcome
}

// proving is a trial under way.
type proving struct {
	m    *Mirrors
	t    Trial
	g    *run
	p    *Proof
	work string
	main map[string]string // the mirror's refs
}

func (x *proving) say(name, outcome, reason string) bool {
	x.p.Checks = append(x.p.Checks, Check{name, outcome, reason})
	return outcome != Fail
}

func (x *proving) failed(name string, err error) bool {
	return x.say(name, Fail, problem.From(err).Detail)
}

// refs compares what the mirror has with what was noted when it was fetched.
func (x *proving) refs(ctx context.Context) bool {
	if info, err := os.Stat(filepath.Join(x.t.Mirror, "HEAD")); err != nil || info.Size() == 0 {
		return x.say("refs", Fail, "There is no repository in what was restored.")
	}
	refs, err := x.m.refs(ctx, x.g, x.t.Mirror)
	if err != nil {
		return x.failed("refs", err)
	}
	x.main, x.p.Refs = refs, len(refs)
	if x.p.Commit, x.p.At, err = x.m.newest(ctx, x.g, x.t.Mirror); err != nil {
		return x.failed("refs", err)
	}
	switch e := x.t.Expect; {
	case x.p.Commit == "":
		return x.say("refs", Fail, "The repository has no commit on any branch.")
	case e.Fetched.IsZero():
		return x.say("refs", Inconclusive, many(len(refs), "ref")+"; how many there should be was not noted.")
	case e.Commit != x.p.Commit || e.Refs != len(refs):
		return x.say("refs", Fail, fmt.Sprintf("%s, the newest commit is %.12s; noted were %d and %.12s.", many(len(refs), "ref"), x.p.Commit, e.Refs, e.Commit))
	}
	return x.say("refs", Pass, fmt.Sprintf("%s, the newest commit is %.12s, as noted.", many(len(refs), "ref"), x.p.Commit))
}

// fsck reads every object of the mirror, also those that a remote has lost.
func (x *proving) fsck(ctx context.Context) bool {
	if _, err := x.g.git(ctx, x.t.Mirror, "fsck", "--full", "--no-dangling", "--no-progress"); err != nil {
		return x.failed("objects", err)
	}
	return x.say("objects", Pass, "git fsck --full finds every object whole.")
}

// clone makes a copy through Git's own protocol: no file is linked or copied.
func (x *proving) clone(ctx context.Context) bool {
	if _, err := x.g.git(ctx, x.t.Scratch, "clone", "--quiet", "--no-local", "--no-hardlinks", "--no-checkout", "--template=", "--", x.t.Mirror, x.work); err != nil {
		return x.failed("clone", err)
	}
	return x.say("clone", Pass, "It clones.")
}

// cloned checks the clone: every object, and every branch.
func (x *proving) cloned(ctx context.Context) bool {
	if _, err := x.g.git(ctx, x.work, "fsck", "--full", "--no-dangling", "--no-progress"); err != nil {
		return x.failed("clone objects", err)
	}
	out, err := x.g.git(ctx, x.work, "for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes/origin", "refs/tags")
	if err != nil {
		return x.failed("clone objects", err)
	}
	got := parseRefs(string(out.Out))
	for name, id := range x.main {
		as := name
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			as = "refs/remotes/origin/" + branch
		} else if !strings.HasPrefix(name, "refs/tags/") {
			continue
		}
		if got[as] != id {
			return x.say("clone objects", Fail, "The clone does not have "+name+" as the mirror has it.")
		}
	}
	return x.say("clone objects", Pass, "The clone has every branch and tag, and every object.")
}

// checkOut writes the newest commit's files.
func (x *proving) checkOut(ctx context.Context) bool {
	limit := x.t.MaxBytes
	if limit == 0 {
		limit = 20 << 30
	}
	if _, err := x.g.git(ctx, x.work, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--detach", x.p.Commit); err != nil {
		return x.failed("check-out", err)
	}
	out, err := x.g.git(ctx, x.work, "status", "--porcelain", "--ignore-submodules=all")
	if err != nil {
		return x.failed("check-out", err)
	}
	if text := strings.TrimSpace(string(out.Out)); text != "" {
		return x.say("check-out", Fail, "The files are not those of the commit.")
	}
	_ = filepath.WalkDir(x.work, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		if info, err := d.Info(); err == nil {
			x.p.Files, x.p.Bytes = x.p.Files+1, x.p.Bytes+info.Size()
		}
		return nil
	})
	if x.p.Bytes > limit {
		return x.say("check-out", Fail, "The files are more than a check-out may hold.")
	}
	if x.p.Files == 0 {
		return x.say("check-out", Inconclusive, "The newest commit has no files.")
	}
	return x.say("check-out", Pass, fmt.Sprintf("%s with %d bytes.", many(int(x.p.Files), "file"), x.p.Bytes))
}

// build runs what the operator said builds the code: bounded in time, as
// nobody, with nothing of this node's environment, and killed with all it began.
func (x *proving) build(ctx context.Context) bool {
	if len(x.t.Build) == 0 {
		return true
	}
	as := x.t.BuildAs
	if as == nil {
		as = Builder()
	}
	home := filepath.Join(x.t.Scratch, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return x.say("build", Inconclusive, "The directory for building cannot be made.")
	}
	if as != nil {
		if err := giveTo(x.t.Scratch, as); err != nil {
			return x.say("build", Inconclusive, "The files cannot be given to the account that builds.")
		}
	}
	bound := x.t.Bound
	if bound == 0 {
		bound = 15 * time.Minute
	}
	limited, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	child := engine.Child{
		Path: "/usr/bin/env", Args: append([]string{"--"}, x.t.Build...), Dir: x.work, As: as, Quiet: true,
		Env: []string{"HOME=" + home, "TMPDIR=" + home, "GIT_CONFIG_NOSYSTEM=1"},
	}
	out, err := child.Run(limited)
	last := ""
	if n := len(out.Last); n > 0 {
		last = " It said at last: " + out.Last[n-1]
	}
	switch {
	case limited.Err() != nil:
		return x.say("build", Inconclusive, "The build was not done in "+bound.String()+".")
	case err != nil && out.Exit < 0:
		return x.say("build", Inconclusive, "The build could not be run, or was killed.")
	case err != nil && out.Exit == 127:
		return x.say("build", Inconclusive, "The program "+x.t.Build[0]+" is not there."+last)
	case err != nil:
		return x.say("build", Fail, fmt.Sprintf("The build ended with %d.%s", out.Exit, last))
	}
	return x.say("build", Pass, "It builds.")
}

// giveTo makes an account the owner of a tree.
func giveTo(root string, as *syscall.Credential) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(as.Uid), int(as.Gid))
	})
}
