package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// spaces are what is mirrored. Below refs/foundry/ the mirror keeps what a
// remote lost: no remote ever writes there, and no fetch removes anything there.
var spaces = []string{"heads", "tags", "notes", "pull", "merge-requests"}

const keptBelow = "refs/foundry/"

// Fetch brings a mirror up to date, and makes it where there is none. A fetch
// that was killed is repeated; what the one before it was about to lose is
// still saved. The state is noted whatever happens.
func (m *Mirrors) Fetch(ctx context.Context, r Repository) (s State, err error) {
	err = m.locked(r.Name, func() error {
		if s, err = m.State(r.Name); err != nil {
			m.o.Log.Warn("the state of a mirror is lost", "mirror", r.Name, "cause", err)
		}
		s.Name, s.URL, s.Tried, s.Code, s.Reason, s.Mend = r.Name, r.URL, m.o.Now().UTC(), "", "", ""
		limited, cancel := context.WithTimeout(ctx, m.o.Timeout)
		defer cancel()
		ferr := m.fetch(limited, r, &s)
		if ferr != nil {
			p := problem.From(ferr)
			s.Code, s.Reason, s.Mend = p.Code, p.Detail, p.Mend
		}
		if nerr := m.note(s); nerr != nil {
			return errors.Join(ferr, nerr)
		}
		return ferr
	})
	return s, err
}

func (m *Mirrors) fetch(ctx context.Context, r Repository, s *State) error {
	dir := m.Path(r.Name)
	if err := m.initialise(ctx, dir); err != nil {
		return err
	}
	local := m.local()
	before, err := m.takeUp(ctx, local, dir)
	if err != nil {
		return err
	}
	err = m.with(ctx, r, func(g *run) error {
		bounded, stop := m.bounded(ctx, r, dir)
		defer stop()
		args := []string{"fetch", "--quiet", "--prune", "--no-tags", "--force", "--no-write-fetch-head", "--refmap=", g.url}
		for _, space := range spaces {
			args = append(args, "+refs/"+space+"/*:refs/"+space+"/*")
		}
		if _, err := g.git(bounded, dir, args...); err != nil {
			return err
		}
		out, err := g.git(bounded, dir, "ls-remote", "--symref", g.url, "HEAD")
		if err == nil {
			s.Branch = mainBranch(string(out.Out))
		}
		return nil
	})
	// Also after a failure: a fetch that was cut may have moved some refs.
	kept, kerr := m.keep(context.WithoutCancel(ctx), local, dir, before)
	s.Kept = kept
	if err == nil {
		err = kerr
	}
	if err != nil {
		return err
	}
	if s.Branch != "" {
		if _, err := local.git(ctx, dir, "symbolic-ref", "HEAD", "refs/heads/"+s.Branch); err != nil {
			return err
		}
	}
	if len(kept) > 0 {
		m.o.Log.Warn("a remote lost history, which the mirror keeps", "mirror", r.Name, "refs", len(kept))
	}
	return m.measure(ctx, local, dir, s)
}

func (m *Mirrors) measure(ctx context.Context, g *run, dir string, s *State) error {
	refs, err := m.refs(ctx, g, dir)
	if err != nil {
		return err
	}
	s.Refs, s.Bytes, s.Fetched = len(refs), sizeOf(dir), m.o.Now().UTC()
	s.Commit, s.At, err = m.newest(ctx, g, dir)
	if err != nil {
		return err
	}
	if packs, _ := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack")); len(packs) > 50 {
		// -k: also what no ref reaches any more.
		_, err = g.git(ctx, dir, "repack", "-q", "-a", "-d", "-k")
	}
	return err
}

// initialise makes an empty repository, whole or not at all.
func (m *Mirrors) initialise(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	if _, err := os.Lstat(dir); err == nil {
		return problem.New(problem.Conflict, "mirror-foreign", "In the place of the mirror is something that is no repository: "+dir+".").WithMend("Move it away.")
	}
	next := dir + ".new"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if _, err := m.local().git(ctx, m.o.Dir, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", next); err != nil {
		return err
	}
	return os.Rename(next, dir)
}

// refs lists what is mirrored, by name.
func (m *Mirrors) refs(ctx context.Context, g *run, dir string) (map[string]string, error) {
	args := []string{"for-each-ref", "--format=%(objectname) %(refname)"}
	for _, space := range spaces {
		args = append(args, "refs/"+space)
	}
	out, err := g.git(ctx, dir, args...)
	if err != nil {
		return nil, err
	}
	return parseRefs(string(out.Out)), nil
}

var objectID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// parseRefs reads lines of an object's id and a ref's name.
func parseRefs(text string) map[string]string {
	refs := map[string]string{}
	for line := range strings.Lines(text) {
		id, name, ok := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if ok && objectID.MatchString(id) && strings.HasPrefix(name, "refs/") {
			refs[name] = id
		}
	}
	return refs
}

// mainBranch reads where the remote's HEAD points to (git-ls-remote(1), --symref).
func mainBranch(text string) string {
	for line := range strings.Lines(text) {
		if ref, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "ref: refs/heads/"); ok {
			name, what, _ := strings.Cut(ref, "\t")
			if what == "HEAD" && branchName(name) {
				return name
			}
		}
	}
	return ""
}

// branchName is narrower than git-check-ref-format(1): nothing that is an option, or climbs.
func branchName(name string) bool {
	return name != "" && len(name) < 250 && !strings.HasPrefix(name, "-") && !strings.Contains(name, "..") && !strings.ContainsAny(name, " ~^:?*[\\\x7f") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < 32 }) && !strings.HasSuffix(name, "/") && !strings.HasSuffix(name, ".lock")
}

// newest is the newest commit of all branches, by what commits say of themselves.
func (m *Mirrors) newest(ctx context.Context, g *run, dir string) (id string, at time.Time, err error) {
	out, err := g.git(ctx, dir, "for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(objectname) %(committerdate:unix)", "refs/heads")
	if err != nil {
		return "", time.Time{}, err
	}
	id, seconds, _ := strings.Cut(strings.TrimSpace(string(out.Out)), " ")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || !objectID.MatchString(id) {
		return "", time.Time{}, nil // no branch yet
	}
	return id, time.Unix(n, 0).UTC(), nil
}

// before is where the refs are noted while a fetch runs.
func before(dir string) string { return filepath.Join(dir, "foundry-before.json") }

// takeUp notes the refs before a fetch. If a fetch was killed, its note is
// still there, and what it lost is saved first.
func (m *Mirrors) takeUp(ctx context.Context, g *run, dir string) (map[string]string, error) {
	old := map[string]string{}
	if text, err := os.ReadFile(before(dir)); err == nil && json.Unmarshal(text, &old) == nil {
		if _, err := m.keep(ctx, g, dir, old); err != nil {
			return nil, err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	now, err := m.refs(ctx, g, dir)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(now)
	if err != nil {
		return nil, err
	}
	next := before(dir) + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return nil, err
	}
	return now, os.Rename(next, before(dir))
}

// keep saves every ref that is gone, or whose history was replaced, below
// refs/foundry/<time>/, and then forgets the note of the refs.
func (m *Mirrors) keep(ctx context.Context, g *run, dir string, old map[string]string) ([]Kept, error) {
	now, err := m.refs(ctx, g, dir)
	if err != nil {
		return nil, err
	}
	stamp := m.o.Now().UTC().Format("20060102T150405Z")
	var kept []Kept
	var commands strings.Builder
	for _, name := range slices.Sorted(maps.Keys(old)) {
		id := old[name]
		if now[name] == id || now[name] != "" && strings.HasPrefix(name, "refs/heads/") && m.includes(ctx, g, dir, id, now[name]) {
			continue
		}
		as := keptBelow + stamp + "/" + strings.TrimPrefix(name, "refs/")
		kept = append(kept, Kept{Ref: name, Commit: id, As: as})
		commands.WriteString("update " + as + " " + id + "\n")
	}
	if len(kept) > 0 {
		if _, err := g.feed(ctx, dir, commands.String(), "update-ref", "--stdin"); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(before(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	return kept, nil
}

// includes reports whether a commit's history holds another one.
func (m *Mirrors) includes(ctx context.Context, g *run, dir, old, now string) bool {
	_, err := g.git(ctx, dir, "merge-base", "--is-ancestor", old, now)
	return err == nil
}
