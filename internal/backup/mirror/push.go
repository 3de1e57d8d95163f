package mirror

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/missionopsai/foundry/internal/problem"
)

// PushHere is Push of a mirror of this node, which is not fetched meanwhile.
func (m *Mirrors) PushHere(ctx context.Context, name string, to Repository) (refs int, err error) {
	err = m.locked(name, func() error {
		refs, err = m.Push(ctx, m.Path(name), to)
		return err
	})
	return refs, err
}

// Push brings a mirror, for example a restored one, to a new server: branches,
// tags and notes. What the old server kept of merge requests, and what the
// mirror saved below refs/foundry/, stays in the mirror. A repository that
// holds anything is not touched.
func (m *Mirrors) Push(ctx context.Context, mirror string, to Repository) (refs int, err error) {
	if _, err := os.Stat(filepath.Join(mirror, "HEAD")); err != nil {
		return 0, problem.New(problem.NotFound, "mirror-missing", "There is no mirror in "+mirror+".").WithMend("Restore it first: `foundry backup list` names what there is.").Wrap(err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.o.Timeout)
	defer cancel()
	all, err := m.refs(ctx, m.local(), mirror)
	if err != nil {
		return 0, err
	}
	want := map[string]string{}
	for name, id := range all {
		for _, space := range []string{"refs/heads/", "refs/tags/", "refs/notes/"} {
			if strings.HasPrefix(name, space) {
				want[name] = id
			}
		}
	}
	if len(want) == 0 {
		return 0, problem.New(problem.Conflict, "mirror-empty", "The mirror has no branch: there is nothing to bring anywhere.").WithMend("Look below refs/foundry/ in it for what its remote has lost.")
	}
	err = m.with(ctx, to, func(g *run) error {
		there, err := g.git(ctx, mirror, "ls-remote", "--quiet", g.url)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(there.Out)) != "" {
			return problem.New(problem.Conflict, "mirror-destination", "The repository "+to.Name+" on the new server is not empty. It was not touched.").
				WithField("url").WithMend("Make a new, empty repository there: without a first commit, a readme or a licence.")
		}
		// Objects were checked when they were fetched; the new server checks them again.
		if _, err := g.git(ctx, mirror, "push", "--quiet", "--atomic", "--no-verify", "--recurse-submodules=no", g.url,
			"refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*", "refs/notes/*:refs/notes/*"); err != nil {
			return err
		}
		after, err := g.git(ctx, mirror, "ls-remote", "--quiet", "--refs", g.url)
		if err != nil {
			return err
		}
		got := parseRefs(strings.ReplaceAll(string(after.Out), "\t", " "))
		for name, id := range want {
			if got[name] != id {
				return problem.New(problem.Upstream, "mirror-not-taken", fmt.Sprintf("Git ended without an error, but the new server does not have %s.", name)).
					WithMend("Look at the new server: does it refuse some branches? Push again to a new, empty repository.")
			}
		}
		return nil
	})
	return len(want), err
}
