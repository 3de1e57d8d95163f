package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/patroni"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

// keeper is Patroni on a node with the role patroni, and the PostgreSQL that
// it keeps there.
type keeper struct {
	dir   string // its files, the data and the socket
	bin   string // of PostgreSQL
	owner *user.User
	ready bool // configured: it starts with its node
	proc  process
}

// keeperPackages bring what a database that Patroni keeps takes.
const keeperPackages = "apt-get install --no-install-recommends patroni python3-idna postgresql"

// newKeeper finds what Patroni takes on this machine. PostgreSQL refuses to run
// as root.
func newKeeper(dir string) (*keeper, error) {
	lacks := func(what string) error {
		return problem.New(problem.Unavailable, "sandbox-patroni", "A database that Patroni keeps needs "+what+", which this machine has not.").WithMend("Install it: " + keeperPackages)
	}
	for _, program := range []string{"patroni", "psql"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, lacks("the program " + program)
		}
	}
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return nil, lacks("a server of PostgreSQL")
	}
	k := &keeper{dir: filepath.Join(dir, "patroni"), bin: bins[len(bins)-1]}
	var err error
	if os.Geteuid() != 0 {
		k.owner, err = user.Current()
		return k, err
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		return nil, lacks("the program setpriv (of util-linux)")
	}
	if k.owner, err = user.Lookup("postgres"); err != nil {
		return nil, lacks("the user postgres")
	}
	return k, nil
}

// kept says whether Patroni keeps the database of the sandbox.
func (l *Lab) kept() bool {
	return slices.ContainsFunc(l.nodes, func(n *node) bool { return n.keeper != nil })
}

// keepers are the nodes with a Patroni.
func (l *Lab) keepers() (out []*node) {
	for _, n := range l.nodes {
		if n.keeper != nil {
			out = append(out, n)
		}
	}
	return out
}

// founder is the node that founds a fleet whose database Patroni keeps: a
// gateway starts for the first time only with its database, and Patroni needs
// the fleet's store before that.
func (l *Lab) founder() (*node, error) {
	for _, n := range l.nodes {
		if n.has("fleet") && !n.has("gateway") {
			return n, nil
		}
	}
	return nil, problem.New(problem.Invalid, "sandbox-founder", "Of a fleet whose database Patroni keeps every member is a gateway: none can start before there is a database.").
		WithMend("Give one node the roles fleet and patroni, without gateway.")
}

// beginKept brings the fleet up as docs/guides/patroni.md has an operator do:
// the fleet's store, Patroni on it, and then the gateways.
func (l *Lab) beginKept(ctx context.Context, say func(string)) error {
	if l.o.Scenario.Fleet.Data > 0 {
		return problem.New(problem.Invalid, "sandbox-data", "Nothing is put into a database that Patroni keeps: its standbys have it already.").WithMend("Remove the line data of the fleet.")
	}
	founder, err := l.founder()
	if err != nil {
		return err
	}
	if err := l.beginMembers(ctx, founder, say); err != nil {
		return err
	}
	if err := l.beginKeepers(ctx, founder, say); err != nil {
		return err
	}
	say("making the roles of the database")
	if err := l.makeRoles(ctx, l.keepers()); err != nil {
		return err
	}
	for i, n := range l.gateways() {
		say("starting the gateway of " + n.name)
		if err := l.beginGateway(ctx, founder, n); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		say("putting the plan in force")
		if err := l.govern(ctx); err != nil {
			return err
		}
	}
	say("waiting until every server has everything")
	return l.awaitCluster(ctx, founder, func(s *patroni.Status) bool { return inStep(s, l.keepers()[0].name) && s.Epoch > 0 })
}

// beginMembers starts every node as a member of the fleet and nothing else.
func (l *Lab) beginMembers(ctx context.Context, founder *node, say func(string)) (err error) {
	others := slices.DeleteFunc(slices.Clone(l.nodes), func(n *node) bool { return n == founder || len(n.withoutGateway()) == 0 })
	for _, n := range append([]*node{founder}, others...) {
		say(fmt.Sprintf("starting %s as a member of the fleet", n.name))
		n.bare = true
		if n.config, err = file(n.dir, "node.yaml", l.configuration(n)); err != nil {
			return err
		}
		if n != founder {
			if err := l.joinKept(ctx, founder, n); err != nil {
				return err
			}
		}
		if err := n.proc.start(n.command()); err != nil {
			return err
		}
		if err := l.await(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) withoutGateway() []string {
	return slices.DeleteFunc(slices.Clone(n.roles), func(r string) bool { return r == "gateway" })
}

// joinKept has a node join. What it is in the fleet is sealed with the keys that
// it has then: a gateway brings those of the first, as nobody is there yet to
// give them.
func (l *Lab) joinKept(ctx context.Context, founder, n *node) error {
	if first := l.gateways()[0]; n.has("gateway") && n != first {
		if err := copyKeys(first, n, "keys"); err != nil {
			return err
		}
	}
	return l.join(ctx, founder, n)
}

// copyKeys brings a directory of keys to another gateway, by hand.
func copyKeys(from, to *node, name string) error {
	source, into := filepath.Join(from.data(), name), filepath.Join(to.data(), name)
	if err := os.MkdirAll(into, 0o700); err != nil {
		return err
	}
	return filepath.WalkDir(source, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(into, e.Name()), text, 0o600)
	})
}

// beginKeepers starts Patroni on one node after another: the first is the
// primary, and the second the first standby.
func (l *Lab) beginKeepers(ctx context.Context, founder *node, say func(string)) error {
	all := l.keepers()
	doors := 0
	for _, n := range l.nodes {
		if n.has("fleet") {
			doors++
		}
	}
	for i, n := range all {
		say("starting Patroni on " + n.name)
		if err := l.configureKeeper(ctx, n, doors); err != nil {
			return err
		}
		if err := n.startKeeper(); err != nil {
			return err
		}
		first := all[0].name
		if err := l.awaitCluster(ctx, founder, func(s *patroni.Status) bool {
			if i == 0 {
				m, ok := s.Member(first)
				return s.Leader == first && ok && m.Works()
			}
			m, ok := s.Member(n.name)
			return inStep(s, first) && ok && m.Works() && slices.Contains(s.Answers, n.name)
		}); err != nil {
			return err
		}
	}
	return nil
}

// inStep says whether a node leads and a standby has everything.
func inStep(s *patroni.Status, leader string) bool {
	return s.Leader == leader && s.SyncOf == leader && len(s.Standbys) > 0
}

// awaitCluster waits until Patroni's cluster is as it has to be.
func (l *Lab) awaitCluster(ctx context.Context, by *node, so func(*patroni.Status) bool) error {
	return poll(ctx, 3*time.Minute, func() error {
		for _, n := range l.keepers() {
			if n.keeper.ready && !n.keeper.proc.runs() {
				text, _ := os.ReadFile(n.keeperLog())
				return problem.New(problem.Unavailable, "sandbox-patroni", fmt.Sprintf("Patroni of the node %s of the sandbox ended: %s", n.name, lastWords(string(text)))).WithMend("Run it with --keep and look at its directory.")
			}
		}
		var s patroni.Status
		if err := by.call(ctx, "GET", "/database/patroni", nil, &s); err != nil {
			return err
		}
		if s.Stale == "" && so(&s) {
			return nil
		}
		return errors.New("Patroni's cluster is not whole: " + s.Words)
	})
}

// configureKeeper has the fleet write what Patroni on a node needs, once every
// door of its store is known.
func (l *Lab) configureKeeper(ctx context.Context, n *node, doors int) error {
	k := n.keeper
	config := filepath.Join(k.dir, patroni.FileConfig)
	network := "127.0.0.0/8" // on one loopback everybody comes from 127.0.0.1
	if l.net.spaces {
		network = l.net.prefix + "0/24"
	}
	err := poll(ctx, 90*time.Second, func() error {
		if _, err := n.run(ctx, "database", "patroni", "config", "--node", n.name, "--address", n.address(), "--network", network,
			"--dir", k.dir, "--data", filepath.Join(k.dir, "data"), "--socket", k.dir, "--bin", k.bin); err != nil {
			return err
		}
		text, err := os.ReadFile(config)
		if known := strings.Count(string(text), `:8494"`); err == nil && known < doors {
			err = fmt.Errorf("the store's door is known of %d of %d members", known, doors)
		}
		return err
	})
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(filepath.Join(k.dir, patroni.FileAuthority))
	if err != nil {
		return err
	}
	if _, err := file(l.dir, "fleet.pem", string(authority)); err != nil {
		return err
	}
	k.ready = true
	if os.Geteuid() != 0 {
		text, err := os.ReadFile(config)
		if err != nil {
			return err
		}
		mine := strings.NewReplacer("username: postgres", "username: "+k.owner.Username, "local all postgres peer", "local all "+k.owner.Username+" peer")
		return os.WriteFile(config, []byte(mine.Replace(string(text))), 0o600)
	}
	uid, gid := k.ids()
	return filepath.WalkDir(k.dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
}

func (k *keeper) ids() (uid, gid int) {
	uid, _ = strconv.Atoi(k.owner.Uid)
	gid, _ = strconv.Atoi(k.owner.Gid)
	return uid, gid
}

func (n *node) keeperLog() string { return filepath.Join(n.dir, "patroni.log") }

// startKeeper starts Patroni on the node's machine, as the user whom the
// database belongs to.
func (n *node) startKeeper() error {
	k := n.keeper
	if k == nil || !k.ready {
		return nil
	}
	argv := []string{"patroni", filepath.Join(k.dir, patroni.FileConfig)}
	if os.Geteuid() == 0 {
		// Changing the user forgets that it ends with this process.
		argv = append([]string{"setpriv", "--reuid", k.owner.Uid, "--regid", k.owner.Gid, "--init-groups", "--pdeathsig", "KILL", "--"}, argv...)
	}
	log, err := os.OpenFile(n.keeperLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := n.lab.net.on(n.i, argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = k.dir, log, log
	cmd.Env = append(n.lab.environment(), "OPENSSL_CONF="+filepath.Join(k.dir, patroni.FileOpenSSL), "HOME="+k.dir)
	return k.proc.start(cmd)
}

// sql runs statements on a node's server as its superuser, over the socket.
func (k *keeper) sql(ctx context.Context, statements string) (string, error) {
	cmd := exec.CommandContext(ctx, "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", k.dir, "-p", "5432", "-U", k.owner.Username, "-d", "postgres", "-f", "-")
	if os.Geteuid() == 0 {
		uid, gid := k.ids()
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	var out, bad bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = "/", strings.NewReader(statements), &out, &bad
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, strings.TrimSpace(bad.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// makeRoles makes Foundry's roles and database on the leader, and waits until
// every server has heard of them: one that has not refuses who signs in.
func (l *Lab) makeRoles(ctx context.Context, all []*node) error {
	statements, err := all[0].run(ctx, "database", "roles")
	if err != nil {
		return err
	}
	password := rand.Text()
	for _, r := range db.Roles {
		statements += fmt.Sprintf("ALTER ROLE %s PASSWORD '%s';\n", r, password)
	}
	if _, err := all[0].keeper.sql(ctx, statements); err != nil {
		return err
	}
	if _, err := file(l.dir, "database.password", password); err != nil {
		return err
	}
	for _, n := range all {
		if err := poll(ctx, 90*time.Second, func() error {
			out, err := n.keeper.sql(ctx, "SELECT count(*) FROM pg_authid WHERE rolname LIKE 'foundry_%' AND rolpassword IS NOT NULL AND EXISTS (SELECT FROM pg_database WHERE datname = 'foundry')")
			if err == nil && out != strconv.Itoa(len(db.Roles)) {
				err = fmt.Errorf("%s has %s of %d roles", n.name, out, len(db.Roles))
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// beginGateway starts a member anew, as a gateway too.
func (l *Lab) beginGateway(ctx context.Context, founder, n *node) (err error) {
	if first := l.gateways()[0]; n != first {
		if err := copyKeys(first, n, "ca"); err != nil { // clients know one authority
			return err
		}
	}
	n.bare = false
	if n.config, err = file(n.dir, "node.yaml", l.configuration(n)); err != nil {
		return err
	}
	if len(n.withoutGateway()) == 0 {
		err = l.joinKept(ctx, founder, n)
	} else {
		err = n.end(ctx)
	}
	if err != nil {
		return err
	}
	if err := n.proc.start(n.command()); err != nil {
		return err
	}
	return l.await(ctx, n)
}

// end ends the node's process in order, and leaves what runs beside it.
func (n *node) end(ctx context.Context) error {
	if err := n.proc.signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := poll(ctx, 60*time.Second, func() error {
		if n.proc.runs() {
			return errors.New(n.name + " does not end")
		}
		return nil
	})
	n.proc.kill()
	return err
}

// keptLines are the database in a node's configuration.
func (l *Lab) keptLines(n *node, line func(string, ...any)) {
	if n.bare || !n.has("gateway") {
		line("database: {patroni: {}}")
		return
	}
	var hosts, logins []string
	for _, k := range l.keepers() {
		hosts = append(hosts, k.address())
	}
	for _, r := range db.Roles {
		logins = append(logins, fmt.Sprintf("%s: {file: %q}", r, filepath.Join(l.dir, "database.password")))
	}
	line("database:\n  dsn: host=%s dbname=foundry target_session_attrs=read-write sslmode=verify-full sslrootcert=%s\n  passwords: {%s}\n  patroni: {}",
		strings.Join(hosts, ","), filepath.Join(l.dir, "fleet.pem"), strings.Join(logins, ", "))
}

// cluster is Patroni's cluster as a gateway saw it last.
func (n *node) cluster(ctx context.Context) (*patroni.Status, error) {
	var s struct {
		Database struct{ Patroni *patroni.Status }
	}
	if err := n.call(ctx, "GET", "/status", nil, &s); err != nil {
		return nil, err
	}
	switch c := s.Database.Patroni; {
	case c == nil:
		return nil, errors.New(n.name + " looks at no Patroni")
	case c.Stale != "":
		return nil, errors.New(n.name + " cannot look at Patroni: " + c.Stale)
	default:
		return c, nil
	}
}

// led is who led Patroni's cluster when somebody was last seen to, and on which
// timeline.
type led struct {
	node     string
	timeline int64
}

// settle says who takes writes: who holds the leader's key, and, where another
// held it before, on a later timeline. The key is taken before the server is
// promoted.
func (was *led) settle(leader string, timeline int64) string {
	if leader == "" || leader != was.node && was.node != "" && timeline <= was.timeline {
		return ""
	}
	*was = led{leader, max(timeline, was.timeline)}
	return leader
}

// follows says whether a node follows the leader, by the word of the others.
func (r *runner) follows(ctx context.Context, name string) (bool, string) {
	for _, n := range r.lab.gateways() {
		if !n.up() || n.name == name {
			continue
		}
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		s, err := n.cluster(one)
		cancel()
		if err != nil {
			continue
		}
		m, known := s.Member(name)
		leader, _ := s.Member(s.Leader)
		switch {
		case !known || !slices.Contains(s.Answers, name):
			return false, "its Patroni does not answer"
		case m.Name == s.Leader:
			return false, "it leads"
		case !m.Works() || m.Timeline != leader.Timeline:
			return false, fmt.Sprintf("it is %s on timeline %d, and %s leads on %d", m.State, m.Timeline, s.Leader, leader.Timeline)
		}
		return true, fmt.Sprintf("it follows %s on timeline %d", s.Leader, m.Timeline)
	}
	return false, "no other gateway sees Patroni"
}
