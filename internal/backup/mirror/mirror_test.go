package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/targettest"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
}

func refuses(t testing.TB, err error, want string) {
	t.Helper()
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != want || p.Mend == "" {
		t.Errorf("got %v (%v), want %q with a mend", err, errors.Unwrap(err), want)
	}
}

func newMirrors(t testing.TB, change ...func(*mirror.Options)) *mirror.Mirrors {
	t.Helper()
	memory, err := os.MkdirTemp("/dev/shm", "foundry-test-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(memory) })
	rt, err := engine.OpenRuntime(filepath.Join(memory, "runtime"), t.TempDir(), true)
	must(t, err)
	o := mirror.Options{Dir: filepath.Join(t.TempDir(), "mirrors"), Runtime: rt, Timeout: time.Minute}
	for _, c := range change {
		c(&o)
	}
	m, err := mirror.New(o)
	must(t, err)
	t.Cleanup(func() {
		if left, _ := os.ReadDir(rt.Dir()); len(left) > 0 {
			t.Errorf("left in memory: %v", left)
		}
	})
	return m
}

func secret(t testing.TB, text string) config.Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return config.Secret{File: path}
}

func overHTTPS(t testing.TB, g *targettest.Git, name string) mirror.Config {
	return mirror.Config{Name: name, URL: g.URL + "/" + name + ".git", User: g.User, Password: secret(t, g.Password), CA: g.CA, Private: true}
}

func overSSH(t testing.TB, g *targettest.Git, name string) mirror.Config {
	return mirror.Config{Name: name, URL: g.SSHURL(name + ".git"), Key: config.Secret{File: g.SSH.GitKey}, KnownHosts: g.SSH.KnownHosts, Private: true}
}

func opened(t testing.TB, c mirror.Config) mirror.Repository {
	t.Helper()
	r, err := mirror.Open(c, "backup.mirrors[0]", true)
	must(t, err)
	return r
}

// bothWays runs a test over HTTPS and over SSH.
func bothWays(t *testing.T, test func(t *testing.T, g *targettest.Git, c func(testing.TB, *targettest.Git, string) mirror.Config)) {
	for name, way := range map[string]func(testing.TB, *targettest.Git, string) mirror.Config{"https": overHTTPS, "ssh": overSSH} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, targettest.StartGit(t), way)
		})
	}
}

func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	return strings.TrimSpace(targettest.Run(t, dir, "git", append([]string{"-c", "safe.directory=*"}, args...)...))
}

func TestAMirrorHoldsEveryBranchAndTagAndKnowsItsAge(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, g *targettest.Git, way func(testing.TB, *targettest.Git, string) mirror.Config) {
		bare := g.Repository(t, "app.git")
		targettest.Commit(t, bare, "main", "a", "1")
		git(t, bare, "symbolic-ref", "HEAD", "refs/heads/main")
		git(t, bare, "tag", "v1", "main")
		m := newMirrors(t)
		r := opened(t, way(t, g, "app"))
		if _, ever := (mirror.State{}).Age(time.Now()); ever {
			t.Error("a mirror that never was has an age")
		}
		s, err := m.Fetch(t.Context(), r)
		must(t, err)
		newest := targettest.Commit(t, bare, "side", "b", "2")
		s, err = m.Fetch(t.Context(), r)
		must(t, err)
		if s.Refs != 3 || s.Commit != newest || s.Branch != "main" || s.Bytes == 0 || len(s.Kept) != 0 || time.Since(s.At) > time.Minute {
			t.Errorf("got %+v", s)
		}
		if age, ever := s.Age(time.Now()); !ever || age > time.Minute || age < 0 {
			t.Errorf("age %v %v", age, ever)
		}
		if again, err := m.State("app"); err != nil || again.Commit != newest {
			t.Errorf("noted: %+v %v", again, err)
		}
		if names, err := m.List(); err != nil || len(names) != 1 || names[0] != "app" {
			t.Errorf("%q %v", names, err)
		}
		if got := git(t, m.Path("app"), "rev-parse", "refs/heads/side"); got != newest {
			t.Errorf("side is at %s", got)
		}
	})
}

func TestWhatARemoteLosesStaysInTheMirror(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose func(t *testing.T, bare string)
		kept []string
		dead bool // the fetch fails
	}{
		"a branch removed": {func(t *testing.T, bare string) { git(t, bare, "update-ref", "-d", "refs/heads/side") }, []string{"refs/heads/side"}, false},
		"a branch forced": {func(t *testing.T, bare string) {
			git(t, bare, "update-ref", "-d", "refs/heads/side")
			targettest.Commit(t, bare, "side", "other", "another history")
		}, []string{"refs/heads/side"}, false},
		"a tag moved": {func(t *testing.T, bare string) { git(t, bare, "update-ref", "refs/tags/v1", "refs/heads/side") }, []string{"refs/tags/v1"}, false},
		"everything": {func(t *testing.T, bare string) {
			must(t, os.RemoveAll(bare))
			targettest.Run(t, "", "git", "init", "-q", "--bare", bare)
		}, []string{"refs/heads/main", "refs/heads/side", "refs/tags/v1"}, false},
		"the repository":   {func(t *testing.T, bare string) { must(t, os.RemoveAll(bare)) }, nil, true},
		"nothing, it grew": {func(t *testing.T, bare string) { targettest.Commit(t, bare, "side", "more", "x") }, nil, false},
		"refs of the mirror's own": {func(t *testing.T, bare string) {
			git(t, bare, "update-ref", "refs/foundry/20200101T000000Z/heads/main", "refs/heads/side")
		}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := targettest.StartGit(t)
			bare := g.Repository(t, "app.git")
			targettest.Commit(t, bare, "main", "a", "1")
			side := targettest.Commit(t, bare, "side", "b", "2")
			git(t, bare, "tag", "v1", "main")
			m := newMirrors(t)
			r := opened(t, overHTTPS(t, g, "app"))
			_, err := m.Fetch(t.Context(), r)
			must(t, err)
			was := git(t, m.Path("app"), "for-each-ref", "--format=%(objectname) %(refname)")
			c.lose(t, bare)
			for range 2 { // the second fetch removes nothing of what the first one kept
				s, err := m.Fetch(t.Context(), r)
				if c.dead {
					refuses(t, err, "mirror-missing")
					if now := git(t, m.Path("app"), "for-each-ref", "--format=%(objectname) %(refname)"); now != was {
						t.Errorf("the mirror changed from\n%s\nto\n%s", was, now)
					}
					continue
				}
				must(t, err)
				_ = s
			}
			kept := git(t, m.Path("app"), "for-each-ref", "--format=%(objectname) %(refname)", "refs/foundry")
			if got := strings.Count(kept, "refs/foundry/"); got != len(c.kept) {
				t.Fatalf("kept are %q, want %q", kept, c.kept)
			}
			for _, ref := range c.kept {
				if !strings.Contains(kept, "/"+strings.TrimPrefix(ref, "refs/")) {
					t.Errorf("%s is not among %q", ref, kept)
				}
			}
			git(t, m.Path("app"), "cat-file", "-e", side)
			git(t, m.Path("app"), "fsck", "--full")
		})
	}
}

func TestWhatAKilledFetchWasAboutToLoseIsSavedByTheNext(t *testing.T) {
	t.Parallel()
	g := targettest.StartGit(t)
	bare := g.Repository(t, "app.git")
	main := targettest.Commit(t, bare, "main", "a", "1")
	m := newMirrors(t)
	r := opened(t, overHTTPS(t, g, "app"))
	_, err := m.Fetch(t.Context(), r)
	must(t, err)
	// As after a kill between the fetch and what follows it.
	must(t, os.WriteFile(filepath.Join(m.Path("app"), "foundry-before.json"), []byte(`{"refs/heads/main":"`+main+`","refs/heads/gone":"`+main+`"}`), 0o600))
	_, err = m.Fetch(t.Context(), r)
	must(t, err)
	if kept := git(t, m.Path("app"), "for-each-ref", "--format=%(refname)", "refs/foundry"); !strings.HasSuffix(kept, "/heads/gone") || strings.Count(kept, "\n") != 0 {
		t.Errorf("kept is %q", kept)
	}
}

func TestEveryRefusalOfAServerSaysWhatToMend(t *testing.T) {
	t.Parallel()
	g := targettest.StartGit(t)
	targettest.Commit(t, g.Repository(t, "app.git"), "main", "a", "1")
	forged := filepath.Join(t.TempDir(), "known")
	must(t, os.WriteFile(forged, []byte("[127.0.0.1]:"+strconv.Itoa(g.SSH.Port)+" "+targettest.StartSSH(t).HostKey+"\n"), 0o600))
	for name, c := range map[string]struct {
		way    func(testing.TB, *targettest.Git, string) mirror.Config
		change func(*mirror.Config)
		code   string
	}{
		"a wrong password":         {overHTTPS, func(c *mirror.Config) { c.Password = secret(t, "guess") }, "mirror-credentials"},
		"no password":              {overHTTPS, func(c *mirror.Config) { c.Password = config.Secret{} }, "mirror-credentials"},
		"no such repository":       {overHTTPS, func(c *mirror.Config) { c.URL = g.URL + "/nothing.git" }, "mirror-missing"},
		"an unknown authority":     {overHTTPS, func(c *mirror.Config) { c.CA = "" }, "mirror-certificate"},
		"nobody listens":           {overHTTPS, func(c *mirror.Config) { c.URL = "https://127.0.0.1:1/app.git" }, "mirror-gone"},
		"a name without address":   {overHTTPS, func(c *mirror.Config) { c.URL = "https://nothing.invalid/app.git" }, "mirror-gone"},
		"this machine":             {overHTTPS, func(c *mirror.Config) { c.Private = false }, "mirror-address"},
		"this machine over SSH":    {overSSH, func(c *mirror.Config) { c.Private = false }, "mirror-address"},
		"a cloud's own address":    {overHTTPS, func(c *mirror.Config) { c.URL = "https://169.254.169.254/app.git" }, "mirror-address"},
		"a forged host key":        {overSSH, func(c *mirror.Config) { c.KnownHosts = forged }, "mirror-host-key"},
		"no file of pinned keys":   {overSSH, func(c *mirror.Config) { c.KnownHosts = "/nowhere" }, "mirror-known-hosts"},
		"a key that is not known":  {overSSH, func(c *mirror.Config) { c.Key = config.Secret{File: targettest.StrangerKey(t)} }, "mirror-credentials"},
		"a key for something else": {overSSH, func(c *mirror.Config) { c.Key = config.Secret{File: g.SSH.KeyFile} }, "mirror-not-git"},
		"nothing there over SSH":   {overSSH, func(c *mirror.Config) { c.URL = g.SSHURL("nothing.git") }, "mirror-missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, conf := newMirrors(t), c.way(t, g, "app")
			c.change(&conf)
			s, err := m.Fetch(t.Context(), opened(t, conf))
			refuses(t, err, c.code)
			if s.Code != c.code || s.Mend == "" || !s.Fetched.IsZero() {
				t.Errorf("noted is %+v", s)
			}
			if text := fmt.Sprint(err, errors.Unwrap(err)); strings.Contains(text, g.Password) || strings.Contains(text, "guess") {
				t.Errorf("a password is in %s", text)
			}
		})
	}
}

func TestAnAddressThatIsMoreThanAnAddressIsRefused(t *testing.T) {
	t.Parallel()
	key := config.Secret{File: "/key"}
	for _, c := range []mirror.Config{
		{Name: "a", URL: "ext::sh -c touch% /tmp/owned"},
		{Name: "a", URL: "--upload-pack=touch /tmp/owned"},
		{Name: "a", URL: "file:///etc"},
		{Name: "a", URL: "http://example.org/a.git"},
		{Name: "a", URL: "git://example.org/a.git"},
		{Name: "a", URL: "https://user:password@example.org/a.git"},
		{Name: "a", URL: "https://user@example.org/a.git"},
		{Name: "a", URL: "https://example.org/a.git?x=1"},
		{Name: "a", URL: "https://example.org/a\nb.git"},
		{Name: "a", URL: "https://example.org/$(id).git"},
		{Name: "a", URL: "ssh://-oProxyCommand=id/a.git", KnownHosts: "/k", Key: key},
		{Name: "a", URL: "ssh://git@example.org/a.git"},
		{Name: "a", URL: "git@example.org:a.git", KnownHosts: "/k", Key: key},
		{Name: "../a", URL: "https://example.org/a.git"},
		{Name: "a/b", URL: "https://example.org/a.git"},
		{Name: "-a", URL: "https://example.org/a.git"},
		{Name: "a.lock", URL: "https://example.org/a.git"},
		{Name: "", URL: "https://example.org/a.git"},
		{Name: "a", URL: "https://example.org/a.git", Build: []string{""}},
	} {
		if _, err := mirror.Open(c, "backup.mirrors[0]", false); err == nil {
			t.Errorf("%+v is let in", c)
		} else if problem.From(err).Code != "mirror-config" || !strings.HasPrefix(problem.From(err).Field, "backup.mirrors[0].") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := mirror.Open(mirror.Config{Name: "a.b-c_d+e", URL: "https://example.org/group/a.git"}, "f", false); err != nil {
		t.Error(err)
	}
}

func TestASymbolicUserOverSSHReachesNoCommandLine(t *testing.T) {
	t.Parallel()
	g := targettest.StartGit(t)
	for _, user := range []string{"-oProxyCommand=touch${IFS}owned", "a%20b", "%24%28id%29"} {
		c := overSSH(t, g, "app")
		c.URL = strings.Replace(c.URL, "ssh://"+g.SSH.User+"@", "ssh://"+user+"@", 1)
		r, err := mirror.Open(c, "f", false)
		if err == nil {
			_, err = newMirrors(t).Fetch(t.Context(), r)
		}
		if err == nil {
			t.Errorf("%s was let in", user)
		}
	}
}

func TestAMirrorStopsAtItsBoundAndKeepsWhatItHad(t *testing.T) {
	t.Parallel()
	g := targettest.StartGit(t)
	bare := g.Repository(t, "app.git")
	first := targettest.Commit(t, bare, "main", "a", "1")
	proxy := targettest.StartProxy(t, strings.TrimPrefix(g.URL, "https://"))
	m := newMirrors(t)
	c := overHTTPS(t, g, "app")
	c.URL, c.MaxMB = "https://"+proxy.Addr+"/app.git", 1
	r := opened(t, c)
	_, err := m.Fetch(t.Context(), r)
	must(t, err)
	noise := make([]byte, 24<<20)
	f, err := os.Open("/dev/urandom")
	must(t, err)
	_, err = f.Read(noise)
	must(t, errors.Join(err, f.Close()))
	targettest.Commit(t, bare, "main", "big", string(noise))
	proxy.Slow(3 << 20) // so that the bound is looked at several times while it comes
	s, err := m.Fetch(t.Context(), r)
	refuses(t, err, "mirror-too-large")
	if got := git(t, m.Path("app"), "rev-parse", "refs/heads/main"); got != first || s.Commit != first {
		t.Errorf("main is at %s, noted %s, want %s", got, s.Commit, first)
	}
}

func TestAFetchThatIsCutOrTooSlowIsTriedAgain(t *testing.T) {
	t.Parallel()
	g := targettest.StartGit(t)
	targettest.Commit(t, g.Repository(t, "app.git"), "main", "a", strings.Repeat("x", 1<<20))
	proxy := targettest.StartProxy(t, strings.TrimPrefix(g.URL, "https://"))
	m := newMirrors(t, func(o *mirror.Options) { o.Timeout = 20 * time.Second })
	c := overHTTPS(t, g, "app")
	c.URL = "https://" + proxy.Addr + "/app.git"
	r := opened(t, c)
	proxy.CutAfter(3000)
	_, err := m.Fetch(t.Context(), r)
	refuses(t, err, "mirror-gone")
	proxy.Heal()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	proxy.Slow(10)
	if _, err = m.Fetch(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("too slow: %v", err)
	}
	proxy.Heal()
	_, err = m.Fetch(t.Context(), r)
	must(t, err)
}

func TestNothingThatAServerOrAMirrorHoldsIsRun(t *testing.T) {
	t.Parallel()
	g := targettest.StartGit(t)
	bare := g.Repository(t, "app.git")
	owned := filepath.Join(t.TempDir(), "owned")
	targettest.Commit(t, bare, "main", ".gitattributes", "* filter=evil\n")
	m := newMirrors(t)
	r := opened(t, overHTTPS(t, g, "app"))
	_, err := m.Fetch(t.Context(), r)
	must(t, err)
	// Hooks and configuration in the mirror itself, as somebody who can write there would leave them.
	hook := "#!/bin/sh\ntouch " + owned + "\n"
	must(t, os.MkdirAll(filepath.Join(m.Path("app"), "hooks"), 0o700))
	for _, name := range []string{"reference-transaction", "post-checkout", "pre-receive", "post-update", "pre-push"} {
		must(t, os.WriteFile(filepath.Join(m.Path("app"), "hooks", name), []byte(hook), 0o700))
	}
	conf, err := os.OpenFile(filepath.Join(m.Path("app"), "config"), os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = conf.WriteString("[filter \"evil\"]\n\tsmudge = touch " + owned + "\n[core]\n\tfsmonitor = touch " + owned + "\n\tsshCommand = touch " + owned + "\n[uploadpack]\n\tpackObjectsHook = touch " + owned + "\n")
	must(t, errors.Join(err, conf.Close()))
	newest := targettest.Commit(t, bare, "main", "later", "1")
	s, err := m.Fetch(t.Context(), r)
	if must(t, err); s.Commit != newest {
		t.Fatalf("it was not fetched: %+v", s)
	}
	_, err = m.Prove(t.Context(), mirror.Trial{Name: "app", Mirror: m.Path("app"), Expect: s, Scratch: filepath.Join(t.TempDir(), "scratch")})
	must(t, err)
	// A submodule whose address is a command: Git's own check refuses the commit.
	targettest.Commit(t, bare, "main", ".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = -u./payload\n")
	_, err = m.Fetch(t.Context(), r)
	refuses(t, err, "mirror-corrupt")
	if _, err := os.Stat(owned); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was run")
	}
}
