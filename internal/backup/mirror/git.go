package mirror

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/problem"
)

// settings are given to every run of Git, over whatever a repository's own
// configuration says. Nothing of the user's or the system's is read.
var settings = []string{
	"protocol.allow=never", "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.pager=cat", "core.sshCommand=/bin/false", "safe.directory=*",
	"credential.helper=", "http.followRedirects=false", "http.sslVerify=true", "http.proxy=", "http.lowSpeedLimit=1000", "http.lowSpeedTime=120",
	// Nothing is ever thrown away: what a remote has lost must stay.
	"gc.auto=0", "maintenance.auto=false", "gc.pruneExpire=never", "fetch.writeCommitGraph=false", "fetch.recurseSubmodules=false", "submodule.recurse=false",
	// Objects that could harm whoever checks them out are refused; what old
	// versions of Git wrote, and harms nobody, is not.
	"transfer.fsckObjects=true", "fetch.fsckObjects=true", "fetch.fsck.zeroPaddedFilemode=ignore", "fetch.fsck.badTimezone=ignore",
	"fetch.fsck.missingSpaceBeforeDate=ignore", "fetch.fsck.missingNameBeforeEmail=ignore", "fetch.fsck.missingSpaceBeforeEmail=ignore",
	"pack.threads=2", "pack.windowMemory=128m", "core.bigFileThreshold=32m",
}

// run is one or more runs of Git with the same credentials, which are in files
// in memory for no longer than that.
type run struct {
	m      *Mirrors
	url    string // as Git is given it
	set    []string
	env    []string
	redact []string
}

// with prepares to reach a repository, and removes its secrets afterwards.
func (m *Mirrors) with(ctx context.Context, r Repository, use func(*run) error) error {
	u, err := r.address()
	if err != nil {
		return err
	}
	rt, err := m.o.Runtime.Sub("git-"+r.Name+"-"+rand.Text()[:8], -1, -1)
	if err != nil {
		return err
	}
	defer rt.Close()
	g := m.local()
	g.redact = []string{r.password}
	switch u.Scheme {
	case "https":
		err = g.https(ctx, u, r, rt)
	case "ssh":
		err = g.ssh(ctx, u, r, rt)
	default:
		g.url, g.set = u.String(), append(g.set, "protocol.file.allow=always")
	}
	if err != nil {
		return err
	}
	return use(g)
}

// local is a run that reaches nothing but this machine's disk.
func (m *Mirrors) local() *run {
	return &run{m: m, env: []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/false", "SSH_ASKPASS=/bin/false",
		"GIT_OPTIONAL_LOCKS=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_ADVICE=0", "HOME=/nonexistent",
	}}
}

// https hands the password over in a file that Git's own helper reads, which
// gives it to this host only.
func (g *run) https(ctx context.Context, u *url.URL, r Repository, rt *engine.Runtime) error {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	at, err := resolve(ctx, host, r.Private)
	if err != nil {
		return err
	}
	g.url, g.set = u.String(), append(g.set, "protocol.https.allow=always")
	if net.ParseIP(host) == nil {
		g.set = append(g.set, "http.curloptResolve="+host+":"+port+":"+at.String())
	}
	if r.ca != "" {
		if r.CA, err = rt.Write("ca.pem", r.ca); err != nil {
			return err
		}
	}
	if r.CA != "" {
		g.set = append(g.set, "http.sslCAInfo="+r.CA)
	}
	if r.password == "" {
		return nil
	}
	user := r.User
	if user == "" {
		user = "git"
	}
	path, err := rt.Write("credentials", (&url.URL{Scheme: "https", User: url.UserPassword(user, r.password), Host: u.Host}).String()+"\n")
	if err != nil {
		return err
	}
	if strings.ContainsAny(path, "'\\\n") {
		return problem.New(problem.Invalid, "runtime-unusable", "The path of the directory for secrets has quotes or backslashes in it.").WithField("backup.runtime_dir")
	}
	g.set = append(g.set, "credential.helper=store --file='"+path+"'")
	return nil
}

// ssh hands key, pinned server key and address over in a configuration file:
// on its command line stand only that file and an alias.
func (g *run) ssh(ctx context.Context, u *url.URL, r Repository, rt *engine.Runtime) error {
	program, err := find(g.m.o.SSH, "ssh", "openssh-client")
	if err != nil {
		return err
	}
	if _, err := resolve(ctx, u.Hostname(), r.Private); err != nil {
		return err
	}
	known := []byte(r.hosts)
	if r.hosts == "" {
		known, err = os.ReadFile(r.KnownHosts)
	}
	if err != nil {
		return problem.New(problem.Invalid, "mirror-known-hosts", "The key of the server of the mirror "+r.Name+" is not pinned: its known_hosts file cannot be read.").
			WithField("known_hosts").WithMend("Ask whoever runs the server for its key, and write it to a file as ssh-keyscan would.").Wrap(err)
	}
	client := target.SSHClient{Host: u.Hostname(), User: u.User.Username()}
	if client.User == "" {
		client.User = "git"
	}
	if p := u.Port(); p != "" {
		if _, err := fmt.Sscanf(p, "%d", &client.Port); err != nil {
			return err
		}
	}
	if client.KeyFile, err = rt.Write("key", strings.TrimSpace(r.key)+"\n"); err != nil {
		return err
	}
	if client.KnownHosts, err = rt.Write("known_hosts", string(known)); err != nil {
		return err
	}
	text, err := client.Config()
	if err != nil {
		return err
	}
	path, err := rt.Write("ssh_config", text)
	if err != nil {
		return err
	}
	if strings.ContainsAny(program+path, "'\\\n") {
		return problem.New(problem.Invalid, "runtime-unusable", "The path of the directory for secrets has quotes or backslashes in it.").WithField("backup.runtime_dir")
	}
	g.env = append(g.env, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND='"+program+"' -F '"+path+"'")
	g.url, g.set = "ssh://"+target.SSHAlias+u.EscapedPath(), append(g.set, "protocol.ssh.allow=always")
	return nil
}

// git runs Git in a directory.
func (g *run) git(ctx context.Context, dir string, args ...string) (engine.Output, error) {
	return g.feed(ctx, dir, "", args...)
}

// feed runs Git with something to read.
func (g *run) feed(ctx context.Context, dir, stdin string, args ...string) (engine.Output, error) {
	program, err := find(g.m.o.Git, "git", "git")
	if err != nil {
		return engine.Output{}, err
	}
	all := make([]string, 0, 2*(len(settings)+len(g.set))+len(args))
	for _, s := range append(append([]string{}, settings...), g.set...) {
		all = append(all, "-c", s)
	}
	child := engine.Child{Path: program, Args: append(all, args...), Env: g.env, Dir: dir, Stdin: stdin, Redact: g.redact}
	out, err := child.Run(ctx)
	var exit *exec.ExitError
	if err != nil && (errors.As(err, &exit) || ctx.Err() == nil) {
		return out, explain(args[0], out, err)
	}
	return out, err
}

func find(named, name, pkg string) (string, error) {
	if named != "" {
		return named, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", problem.New(problem.Unavailable, "engine-missing", "The program "+name+" is not installed.").WithMend("Run `make setup`, or: apt-get install " + pkg).Wrap(err)
	}
	return filepath.Abs(path)
}

// failures are what Git says, in lower case, and what it means. The order
// counts: what follows from another failure comes after it.
var failures = []struct {
	say  []string
	kind problem.Kind
	code string
	what string
	mend string
}{
	{[]string{"host key verification failed", "host key is known for"}, problem.Denied, "mirror-host-key",
		"The server shows another host key than the pinned one. Nothing was sent.", "Find out why: only if whoever runs the server confirms a new key, write it to known_hosts."},
	{[]string{"permission denied (publickey", "authentication failed", "could not read username", "could not read password", "http basic: access denied", "returned error: 401", "returned error: 403"},
		problem.Unauthenticated, "mirror-credentials", "The server does not let this node in.", "Check the user and the key or token, and that they may read the repository."},
	{[]string{"ssl certificate problem", "certificate verification failed", "certificate subject name", "no alternative certificate subject"}, problem.Upstream, "mirror-certificate",
		"The server's certificate is not trusted.", "Name the PEM file of its authority in ca, or correct the address."},
	{[]string{"not allowed", "unsupported protocol"}, problem.Denied, "mirror-protocol", "The server asks for another protocol.", "Use an https or ssh address."},
	{[]string{"no space left on device", "disk quota exceeded"}, problem.Exhausted, "mirror-disk-full", "The disk that holds the mirrors is full.", "Free some space; what is mirrored already is not touched."},
	{[]string{"returned error: 301", "returned error: 302", "returned error: 307", "returned error: 308", "unable to update url base from redirection"}, problem.Upstream, "mirror-moved",
		"The server sends this node to another address, where it does not go.", "Find out where the repository is now, and correct url."},
	{[]string{"repository not found", "does not appear to be a git repository", "returned error: 404", "repository does not exist", "' not found", "no such repository"}, problem.NotFound, "mirror-missing",
		"The server does not have this repository, or not for this node.", "Check the address and the permissions. What the mirror holds stays."},
	{[]string{"fsck error", "object fsck", "loose object", "is corrupt", "bad object", "hash mismatch", "inflate: data stream error", "did not match any", "unable to read sha1", "missing blob", "missing tree", "missing commit", "broken link", "invalid sha1 pointer", "pack is corrupted", "index file corrupt", "not a git repository"},
		problem.Upstream, "mirror-corrupt", "The repository is damaged, or holds what Git does not accept.", "Look at it on the server with git fsck. What the mirror held before stays."},
	{[]string{"protocol error", "not valid: is this a git repository", "bad line length"}, problem.Upstream, "mirror-not-git",
		"What answers there is not a Git server, or not for this key.", "Check the address; a key may be for something else, such as SFTP only."},
	{[]string{"could not resolve host", "failed to connect", "couldn't connect", "connection refused", "connection timed out", "connection reset", "no route to host", "network is unreachable", "operation too slow", "early eof",
		"rpc failed", "unexpected disconnect", "hung up unexpectedly", "could not read from remote", "empty reply", "returned error: 5", "recv failure", "connection closed", "operation timed out"},
		problem.Unavailable, "mirror-gone", "The server cannot be reached, or ended the connection.", "Check that it runs and that this machine reaches it; the next run tries again."},
}

// explain turns what Git said into what to do.
func explain(what string, out engine.Output, err error) error {
	text := out.Text()
	cause := fmt.Errorf("git %s ended with %d: %s: %w", what, out.Exit, text[max(0, len(text)-600):], err)
	if p := known(text); p != nil {
		return p.Wrap(cause)
	}
	return problem.New(problem.Upstream, "mirror-failed", "Git could not "+what+".").WithMend("The log has what it said; the next run tries again.").Wrap(cause)
}

func known(text string) *problem.Error {
	low := strings.ToLower(text)
	for _, f := range failures {
		for _, say := range f.say {
			if strings.Contains(low, say) {
				p := problem.New(f.kind, f.code, f.what).WithMend(f.mend)
				if f.kind == problem.Unavailable {
					p = p.WithRetry(time.Minute)
				}
				return p
			}
		}
	}
	return nil
}
