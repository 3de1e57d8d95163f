package targettest

import (
	"crypto/subtle"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Git is a running Git server: `git http-backend` behind TLS, for one user
// with a password, and the same repositories over SSH.
type Git struct {
	Root     string // holds bare repositories
	URL      string // https://127.0.0.1:port
	CA       string // PEM file
	User     string
	Password string
	SSH      *SSH

	server *httptest.Server
}

// StartGit starts a server for the length of a test.
func StartGit(t testing.TB) *Git {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		missing(t, "Git")
	}
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		missing(t, "git http-backend")
	}
	s := StartSSH(t)
	g := &Git{Root: s.Root, User: "mirror", Password: "mirror-password-84c1", SSH: s}
	handler := &cgi.Handler{Path: backend, Dir: g.Root, Env: []string{
		"GIT_PROJECT_ROOT=" + g.Root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "REMOTE_USER=" + g.User, "HOME=" + Dir(t),
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	}, Stderr: locked{&process{}}}
	g.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(g.User+":"+g.Password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "sign in", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(g.server.Close)
	g.URL = g.server.URL
	g.CA = write(t, Dir(t), "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.server.Certificate().Raw})), 0o644)
	return g
}

// SSHURL is the address of a repository over SSH.
func (g *Git) SSHURL(repository string) string {
	return "ssh://" + g.SSH.User + "@127.0.0.1:" + strconv.Itoa(g.SSH.Port) + filepath.Join(g.Root, repository)
}

// Repository makes an empty bare repository that may be pushed to.
func (g *Git) Repository(t testing.TB, name string) (path string) {
	t.Helper()
	path = filepath.Join(g.Root, name)
	Run(t, "", "git", "init", "-q", "--bare", "-b", "main", path)
	Run(t, path, "git", "config", "http.receivepack", "true")
	return path
}

// Commit adds a commit with one file to a branch of a bare repository and returns its id.
func Commit(t testing.TB, bare, branch, file, text string) string {
	t.Helper()
	work := t.TempDir()
	Run(t, "", "git", "clone", "-q", bare, work)
	if _, err := os.Stat(filepath.Join(bare, "refs", "heads", branch)); err == nil {
		Run(t, work, "git", "checkout", "-q", "-B", branch, "origin/"+branch)
	} else {
		Run(t, work, "git", "checkout", "-q", "--orphan", branch)
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(work, file)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, file), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	Run(t, work, "git", "add", "-A")
	// Git's dates have whole seconds: two commits in one second would have no order.
	at := time.Now().Add(-30 * time.Second).Unix()
	if newest := strings.TrimSpace(Run(t, bare, "git", "for-each-ref", "--sort=-committerdate", "--count=1", "--format=%(committerdate:unix)", "refs/heads")); newest != "" {
		was, err := strconv.ParseInt(newest, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at = max(at, was+1)
	}
	Run(t, work, "env", fmt.Sprintf("GIT_COMMITTER_DATE=%d +0000", at), "git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "Adds "+file)
	Run(t, work, "git", "push", "-q", "--force", "origin", "HEAD:refs/heads/"+branch)
	return strings.TrimSpace(Run(t, work, "git", "rev-parse", "HEAD"))
}

// Run runs a program to its end, with nothing of this user's configuration of
// Git, and returns what it wrote.
func Run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
