package probe

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository makes a bare repository with one commit on main, and returns its
// directory, what it lies in, and its head.
func repository(t *testing.T) (root, dir, head string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("this machine has no Git")
	}
	root = t.TempDir()
	dir = filepath.Join(root, "app.git")
	work := t.TempDir()
	git := func(in string, args ...string) string {
		cmd := exec.Command("git", args...)
		cmd.Dir = in
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git(work, "init", "--quiet", "--initial-branch=main")
	if err := os.WriteFile(filepath.Join(work, "file"), []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(work, "add", ".")
	git(work, "commit", "--quiet", "-m", "first")
	git(root, "clone", "--quiet", "--bare", work, dir)
	return root, dir, git(work, "rev-parse", "HEAD")
}

func TestARepositoryShowsItsHeadAndCanBeCloned(t *testing.T) {
	_, dir, head := repository(t)
	target := "file://" + dir
	for _, c := range []struct {
		words string
		code  Code
		says  string
	}{
		{"", "", "HEAD is at " + head[:12]},
		{" ref=refs/heads/main", "", ""},
		{" ref=refs/heads/main clone=yes", "", "can be cloned"},
		{" clone=yes", "", "can be cloned"},
		{" ref=refs/heads/gone", NoRef, "no refs/heads/gone"},
	} {
		if r := expect(t, Git, target+c.words, Env{}, c.code); !strings.Contains(r.Words, c.says) || c.code == "" && r.Facts["head"] != head {
			t.Errorf("%s says %q, not %q; %v", c.words, r.Words, c.says, r.Facts)
		}
	}
	for _, name := range []string{"-not", "-403", "-tls-certificate", "-permission denied"[:11]} { // what a name says is no cause
		expect(t, Git, "file://"+dir+name, Env{}, BadStatus)
	}
	t.Run("a repository whose objects are gone answers, and cannot be cloned", func(t *testing.T) {
		packs, _ := filepath.Glob(filepath.Join(dir, "objects", "*", "*"))
		for _, p := range packs {
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
		}
		if r := Run(t.Context(), Spec{Name: "p", Kind: Git, Target: target + " clone=yes", Timeout: generous}, Env{}); r.OK {
			t.Fatalf("%+v", r)
		}
	})
}

func TestARepositoryIsAskedOverTheNetwork(t *testing.T) {
	root, _, head := repository(t)
	t.Run("with Git's own protocol", func(t *testing.T) {
		port := serveTCP(t, func(conn net.Conn) {
			f, err := conn.(*net.TCPConn).File()
			if err != nil {
				return
			}
			defer f.Close()
			cmd := exec.Command("git", "-c", "safe.directory=*", "daemon", "--inetd", "--export-all", "--base-path="+root)
			cmd.Stdin, cmd.Stdout = f, f
			_ = cmd.Run()
		})
		if r := expect(t, Git, "git://localhost:"+port+"/app.git clone=yes", Env{}, ""); r.Facts["head"] != head {
			t.Fatal(r.Facts)
		}
	})
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	if _, err := os.Stat(backend.Path); err != nil {
		t.Skip("this machine has no git-http-backend")
	}
	a, stranger := newAuthority(t), newAuthority(t)
	cert := a.issue(nil, "localhost")
	port := serveWeb(t, "127.0.0.1:0", &cert, func(w http.ResponseWriter, r *http.Request) {
		switch user, password, ok := r.BasicAuth(); {
		case strings.HasPrefix(r.URL.Path, "/private/"):
			if !ok || user != "reader" || password != "hunter2" {
				w.Header().Set("WWW-Authenticate", "Basic")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/private")
			backend.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/moved/"):
			http.Redirect(w, r, strings.TrimPrefix(r.URL.Path, "/moved")+"?"+r.URL.RawQuery, http.StatusFound)
		default:
			backend.ServeHTTP(w, r)
		}
	})
	base := "https://localhost:" + port
	e := Env{RootsFile: a.rootsFile()}
	expect(t, Git, base+"/app.git clone=yes", e, "")
	expect(t, Git, base+"/other.git", e, BadStatus)
	expect(t, Git, base+"/moved/app.git", e, BadRedirect)
	expect(t, Git, base+"/app.git", Env{RootsFile: stranger.rootsFile()}, BadCert)
	expect(t, Git, base+"/private/app.git", e, Credentials)
	expect(t, Git, "https://localhost:"+closedPort(t)+"/app.git", e, Refused)
	for password, code := range map[string]Code{"hunter2": "", "wrong": Credentials} {
		e.Login = func(context.Context, Spec) (Login, bool, error) {
			return Login{User: "reader", Password: password}, true, nil
		}
		r := expect(t, Git, base+"/private/app.git", e, code)
		if strings.Contains(r.Words, password) {
			t.Error("a result shows a password")
		}
	}
	t.Run("a password is not sent in the clear", func(t *testing.T) {
		plain := serveWeb(t, "127.0.0.1:0", nil, backend.ServeHTTP)
		expect(t, Git, "http://localhost:"+plain+"/app.git", e, Credentials)
		e.Login = nil
		expect(t, Git, "http://localhost:"+plain+"/app.git", e, "")
	})
}

func TestGitThatHangsIsEndedWithAllItStarted(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("this machine has no Git")
	}
	expectWithin(t, Git, "git://localhost:"+silentPort(t)+"/app.git", Env{}, 500*time.Millisecond, Timeout)
	expectWithin(t, Git, "http://localhost:"+silentPort(t)+"/app.git", Env{}, 500*time.Millisecond, Timeout)
	expect(t, Git, "ssh://git@localhost/app.git", Env{}, Credentials)
}

func FuzzRefs(f *testing.F) {
	f.Add("0123456789012345678901234567890123456789\tHEAD\n", "HEAD")
	f.Add("x\tHEAD", "HEAD")
	f.Fuzz(func(t *testing.T, out, ref string) {
		if h := headOf(out, ref); h != "" && !strings.Contains(out, h+"\t"+ref) {
			t.Fatalf("%q is not in %q", h, out)
		}
	})
}
