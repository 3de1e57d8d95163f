package probe

import (
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxClone bounds what a clone may bring.
const maxClone = 512 << 20

// gitSettings are given to every run, over whatever this machine configures:
// nothing that a server sends is run, and no redirect is followed.
var gitSettings = []string{
	"protocol.allow=never", "core.hooksPath=/dev/null", "core.fsmonitor=false", "credential.helper=", "http.followRedirects=false",
	"http.sslVerify=true", "http.proxy=", "transfer.fsckObjects=true", "fetch.recurseSubmodules=false", "submodule.recurse=false", "gc.auto=0",
	"maintenance.auto=false", "transfer.bundleURI=false",
}

// git asks a repository for a head, and clones it one commit deep where the
// target says so. Git itself does it: what it cannot read is no repository.
func (l *look) git(ctx context.Context) finding {
	program, err := exec.LookPath("git")
	if err != nil {
		return unknown(NotAvailable, "This machine has no Git.")
	}
	g, f := l.gitRun(ctx, program)
	if g == nil {
		return f
	}
	ref := l.t.word("ref", "HEAD")
	out, err := g.run(ctx, "", "ls-remote", "--quiet", "--", g.url, ref)
	if err != nil {
		return l.gitFailed(ctx, out)
	}
	hash := headOf(out.stdout.String(), ref)
	if hash == "" {
		return bad(NoRef, "%s answers, but has no %s.", l.t.place(), ref)
	}
	l.fact("head", hash)
	if !l.t.yes("clone") {
		return good("%s answers; %s is at %.12s.", l.t.place(), ref, hash)
	}
	return l.gitClone(ctx, g, ref, hash)
}

// headOf finds a ref in the answer of ls-remote, whose patterns match the
// ends of names, too.
func headOf(out, ref string) string {
	for line := range strings.Lines(out) {
		hash, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if ok && name == ref && (len(hash) == 40 || len(hash) == 64) && strings.Trim(hash, "0123456789abcdef") == "" {
			return hash
		}
	}
	return ""
}

// gitClone brings one commit to a directory of its own, and throws it away.
func (l *look) gitClone(ctx context.Context, g *gitRun, ref, hash string) finding {
	dir, err := os.MkdirTemp("", "foundry-probe-git-")
	if err != nil {
		return unknown(NotAvailable, "This machine has no place for a clone.")
	}
	defer os.RemoveAll(dir)
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	var tooMuch atomic.Bool
	go func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-limited.Done():
				return
			case <-tick.C:
				if sizeOf(dir) > maxClone {
					tooMuch.Store(true)
					cancel()
				}
			}
		}
	}()
	out, err := g.run(limited, dir, "init", "--quiet", "--bare", ".")
	if err == nil {
		out, err = g.run(limited, dir, "fetch", "--quiet", "--depth=1", "--no-tags", "--", g.url, ref)
	}
	switch {
	case tooMuch.Load():
		return bad(TooMuch, "One commit of %s is larger than %d MiB.", l.t.place(), maxClone>>20)
	case err != nil:
		return l.gitFailed(ctx, out)
	}
	out, err = g.run(limited, dir, "rev-parse", "--verify", "--quiet", "FETCH_HEAD^{tree}")
	if err != nil || out.stdout.Len() == 0 {
		return bad(BadContent, "What %s sends for %s is no commit with files.", l.t.place(), ref)
	}
	l.fact("clone_bytes", fmt.Sprint(sizeOf(dir)))
	return good("%s can be cloned; %s is at %.12s.", l.t.place(), ref, hash)
}

func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil // files come and go meanwhile
	})
	return n
}

// gitRun is Git with what it needs to reach one repository.
type gitRun struct {
	program, url string
	set, env     []string
}

type gitOutput struct{ stdout, stderr limitedBuffer }

// gitRun prepares. Without a run, the finding says why.
func (l *look) gitRun(ctx context.Context, program string) (*gitRun, finding) {
	u := *l.t.URL
	g := &gitRun{program: program, set: append([]string{"protocol." + u.Scheme + ".allow=always"}, gitSettings...), env: []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_ASKPASS=/bin/false", "SSH_ASKPASS=/bin/false", "GIT_OPTIONAL_LOCKS=0", "GIT_ADVICE=0",
	}}
	if u.Scheme == "file" {
		g.url, g.set = u.String(), append(g.set, "safe.directory=*")
		return g, finding{}
	}
	p, err := l.resolve(ctx, l.t.Host, l.t.Port)
	if err != nil {
		return nil, because(err, "Resolving")
	}
	var login Login
	var ok bool
	if l.env.Login != nil {
		if login, ok, err = l.env.Login(ctx, l.spec); err != nil {
			return nil, unknown(Credentials, "What to sign in to %s with cannot be read on this node.", l.t.place())
		}
	}
	if u.Scheme == "ssh" {
		if !ok || login.KeyFile == "" || login.KnownHosts == "" || strings.ContainsAny(login.KeyFile+login.KnownHosts, "'\"\\\n %") {
			return nil, unknown(Credentials, "%s is asked over SSH, and this node has no key for it, or does not know the server's.", l.t.place())
		}
		g.env = append(g.env, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o ClearAllForwardings=yes"+
			" -o StrictHostKeyChecking=yes -o IdentityFile="+login.KeyFile+" -o UserKnownHostsFile="+login.KnownHosts)
		g.url = u.String()
		return g, finding{}
	}
	if p.also != "" { // a node of the plan, where it answers
		u.Host = p.host + strings.TrimPrefix(u.Host, l.t.URL.Hostname())
	}
	if _, is := literal(p.host); !is && len(p.addrs) > 0 {
		g.set = append(g.set, fmt.Sprintf("http.curloptResolve=%s:%d:%s", p.host, p.port, p.addrs[0]))
	}
	if l.env.RootsFile != "" {
		g.set = append(g.set, "http.sslCAInfo="+l.env.RootsFile)
	}
	if ok && login.Password != "" {
		if u.Scheme != "https" {
			return nil, unknown(Credentials, "%s is asked in the clear, and a password is not sent that way.", l.t.place())
		}
		// In the environment, which other users cannot read, and for this host only.
		basic := base64.StdEncoding.EncodeToString([]byte(login.User + ":" + login.Password))
		g.env = append(g.env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http."+(&url.URL{Scheme: u.Scheme, Host: u.Host}).String()+"/.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic "+basic)
	}
	g.url = u.String()
	return g, finding{}
}

// run runs Git; the end of ctx ends everything that it started.
func (g *gitRun) run(ctx context.Context, dir string, args ...string) (*gitOutput, error) {
	all := make([]string, 0, 2*len(g.set)+len(args))
	for _, s := range g.set {
		all = append(all, "-c", s)
	}
	cmd := exec.CommandContext(ctx, g.program, append(all, args...)...)
	out := &gitOutput{}
	cmd.Env, cmd.Stdout, cmd.Stderr = g.env, &out.stdout, &out.stderr
	if cmd.Dir = dir; dir == "" {
		cmd.Dir = os.TempDir()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond
	return out, cmd.Run()
}

// gitFailed names the cause from what Git says, which itself may hold more
// than a result should.
func (l *look) gitFailed(ctx context.Context, out *gitOutput) finding {
	said := strings.ToLower(out.stderr.String())
	for _, own := range []string{l.t.URL.String(), l.t.URL.Path, l.t.URL.Host} { // names say nothing of causes
		if own != "" {
			said = strings.ReplaceAll(said, strings.ToLower(own), "…")
		}
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(said, w) {
				return true
			}
		}
		return false
	}
	switch {
	case ctx.Err() != nil:
		return bad(Timeout, "%s did not answer in time.", l.t.place())
	case has("couldn't find remote ref", "could not find remote ref"):
		return bad(NoRef, "%s answers, but does not have what is asked for.", l.t.place())
	case has("ssl certificate", "certificate verif", "server certificate"):
		return bad(BadCert, "The certificate of %s is not good.", l.t.place())
	case has("host key verification failed"):
		return bad(HostKey, "%s has another key than the one that is pinned.", l.t.place())
	case has("authentication failed", "could not read username", "permission denied", "error: 403", "error: 401"):
		return bad(Credentials, "%s refuses what this node signs in with.", l.t.place())
	case has("connection refused", "failed to connect", "couldn't connect"):
		return bad(Refused, "%s cannot be connected to.", l.t.place())
	case has("not found", "does not appear to be a git repository", "does not exist"):
		return bad(BadStatus, "There is no repository at %s.", l.t.place())
	case has("redirect", "error: 301", "error: 302", "error: 307", "error: 308"):
		return bad(BadRedirect, "%s redirects, which is not followed.", l.t.place())
	case has("requested url returned error"):
		return bad(BadStatus, "%s answers with an error.", l.t.place())
	case has("reset by peer", "hung up", "early eof", "empty reply"):
		return bad(Reset, "%s closes the connection.", l.t.place())
	}
	return bad(Protocol, "What answers at %s is no repository that Git can read.", l.t.place())
}
