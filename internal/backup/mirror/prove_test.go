package mirror_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

// restored makes a mirror and a copy of it, as a restore would.
func restored(t *testing.T) (m *mirror.Mirrors, g *targettest.Git, copied string, s mirror.State) {
	t.Helper()
	g = targettest.StartGit(t)
	bare := g.Repository(t, "app.git")
	targettest.Commit(t, bare, "main", "build.sh", "#!/bin/sh\nset -e\n[ ! -e /proc/self/environ ] || ! grep -q SECRET /proc/self/environ\nid -u >who\necho built\n")
	targettest.Commit(t, bare, "side", "b", strings.Repeat("text ", 5000))
	git(t, bare, "tag", "v1", "main")
	targettest.Commit(t, bare, "main", "a", "newest")
	m = newMirrors(t)
	s, err := m.Fetch(t.Context(), opened(t, overHTTPS(t, g, "app")))
	must(t, err)
	copied = filepath.Join(targettest.Dir(t), "app.git")
	targettest.Run(t, "", "cp", "-a", m.Path("app"), copied)
	return m, g, copied, s
}

func outcome(p mirror.Proof, name string) string {
	for _, c := range p.Checks {
		if c.Name == name {
			return c.Outcome
		}
	}
	return ""
}

func TestARestoredMirrorIsProvenByCloningCheckingOutAndBuilding(t *testing.T) {
	t.Parallel()
	m, _, copied, s := restored(t)
	scratch := filepath.Join(targettest.Dir(t), "scratch")
	p, err := m.Prove(t.Context(), mirror.Trial{Name: "app", Mirror: copied, Expect: s, Scratch: scratch, Build: []string{"./build.sh"}})
	must(t, err)
	if p.Outcome != mirror.Pass || p.Commit != s.Commit || p.Refs != 3 || p.Files != 2 || p.Bytes == 0 || p.Took <= 0 || outcome(p, "build") != mirror.Pass {
		t.Errorf("got %+v", p)
	}
	if _, err := os.Stat(scratch); !os.IsNotExist(err) {
		t.Error("the scratch directory is left")
	}
}

func TestARestoredMirrorThatIsNotWhatWasMirroredFails(t *testing.T) {
	t.Parallel()
	m, _, good, s := restored(t)
	packs := func(dir string) []string {
		found, err := filepath.Glob(filepath.Join(dir, "objects/*/*"))
		must(t, err)
		return found
	}
	for name, c := range map[string]struct {
		harm  func(t *testing.T, dir string, e *mirror.State)
		check string
		want  string
	}{
		"an empty directory": {func(t *testing.T, dir string, _ *mirror.State) {
			must(t, os.RemoveAll(dir))
			must(t, os.Mkdir(dir, 0o700))
		}, "refs", mirror.Fail},
		"an empty repository": {func(t *testing.T, dir string, _ *mirror.State) {
			must(t, os.RemoveAll(dir))
			targettest.Run(t, "", "git", "init", "-q", "--bare", dir)
		}, "refs", mirror.Fail},
		"an older one": {func(t *testing.T, dir string, _ *mirror.State) {
			git(t, dir, "update-ref", "refs/heads/main", "refs/tags/v1")
		}, "refs", mirror.Fail},
		"one without a branch": {func(t *testing.T, dir string, _ *mirror.State) { git(t, dir, "update-ref", "-d", "refs/heads/side") }, "refs", mirror.Fail},
		"bytes flipped": {func(t *testing.T, dir string, _ *mirror.State) {
			for _, path := range packs(dir) {
				text, err := os.ReadFile(path)
				must(t, err)
				text[len(text)/2] ^= 1
				must(t, os.Chmod(path, 0o600))
				must(t, os.WriteFile(path, text, 0o600))
			}
		}, "", mirror.Fail},
		"objects missing": {func(t *testing.T, dir string, _ *mirror.State) {
			for _, path := range packs(dir) {
				must(t, os.Remove(path))
			}
		}, "", mirror.Fail},
		"nobody noted what to expect": {func(_ *testing.T, _ string, e *mirror.State) { *e = mirror.State{} }, "refs", mirror.Inconclusive},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(targettest.Dir(t), "app.git")
			targettest.Run(t, "", "cp", "-a", good, dir)
			expect := s
			c.harm(t, dir, &expect)
			p, err := m.Prove(t.Context(), mirror.Trial{Name: "app", Mirror: dir, Expect: expect, Scratch: filepath.Join(targettest.Dir(t), "scratch")})
			must(t, err)
			if p.Outcome != c.want || c.check != "" && outcome(p, c.check) != c.want {
				t.Errorf("got %+v, want %s to %s", p, c.check, c.want)
			}
		})
	}
}

func TestABuildIsBoundedAndNeverRunsAsRoot(t *testing.T) {
	t.Parallel()
	m, _, copied, s := restored(t)
	for name, c := range map[string]struct {
		build []string
		want  string
	}{
		"it fails":              {[]string{"sh", "-c", "echo reason; exit 3"}, mirror.Fail},
		"it is not there":       {[]string{"no-such-compiler"}, mirror.Inconclusive},
		"it does not end":       {[]string{"sh", "-c", "sleep 600 & sleep 600"}, mirror.Inconclusive},
		"it is root":            {[]string{"sh", "-c", "[ $(id -u) != 0 ] && [ $(id -g) != 0 ]"}, mirror.Pass},
		"no shell reads it":     {[]string{"echo", "; exit 1"}, mirror.Pass},
		"it has no environment": {[]string{"sh", "-c", `[ -z "$PWD_SECRET$GOPATH$SSH_AUTH_SOCK" ]`}, mirror.Pass},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := m.Prove(t.Context(), mirror.Trial{
				Name: "app", Mirror: copied, Expect: s, Scratch: filepath.Join(targettest.Dir(t), "scratch"), Build: c.build, Bound: 3 * time.Second,
			})
			must(t, err)
			if outcome(p, "build") != c.want {
				t.Errorf("got %+v, want the build to %s", p, c.want)
			}
		})
	}
}

func TestAMirrorIsBroughtToANewServerOnceAndWhole(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, g *targettest.Git, way func(testing.TB, *targettest.Git, string) mirror.Config) {
		m, _, copied, _ := restored(t)
		git(t, copied, "update-ref", "refs/foundry/20200101T000000Z/heads/lost", "refs/heads/main")
		fresh := g.Repository(t, "new.git")
		to := opened(t, way(t, g, "new"))
		n, err := m.Push(t.Context(), copied, to)
		must(t, err)
		if got := git(t, fresh, "for-each-ref", "--format=%(objectname) %(refname)"); n != 3 || got != git(t, copied, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags") {
			t.Errorf("%d refs: %s", n, got)
		}
		_, err = m.Push(t.Context(), copied, to)
		refuses(t, err, "mirror-destination")
		_, err = m.Push(t.Context(), filepath.Join(t.TempDir(), "nothing"), to)
		refuses(t, err, "mirror-missing")
	})
}
