// Package sandbox knows how a throwaway fleet of real processes is set up on
// this machine, broken by a scenario, and looked at: every node is this very
// binary with a data directory and an address of its own, the database,
// the name server and the mail are real, and the supplier of models is a
// simulator, as it is nowhere else.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/continuity/scenario"
	"github.com/missionopsai/foundry/internal/fleet/survivor"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options set up a sandbox.
type Options struct {
	Scenario  *scenario.Scenario
	Dir       string // where the report and the timelines go; made
	Binary    string // this program
	Version   string
	Socket    func(dataDir string) string // of a node's local interface
	Authority func(dataDir string) string // certificate that its clients trust
	Told      func(Told)                  // progress, for people; may be nil
	Keep      bool                        // leaves the nodes' directories for a look
	Log       *slog.Logger
}

// Told is a line of progress.
type Told struct {
	At    time.Time
	Step  string // title, when a step begins
	Words string
	Done  bool // the line before it is done
	OK    bool
}

// Lab is a sandbox.
type Lab struct {
	o       Options
	dir     string // of the throwaway nodes
	net     *network
	nodes   []*node
	models  *models
	own     *models // the fleet's own; nil: it has none
	mailbox *mailbox
	names   *names
	crowd   *crowd
	writer  *writer
	seen    *watch
}

// newLab sets everything up and waits until the fleet is whole.
func newLab(ctx context.Context, o Options, say func(string)) (l *Lab, err error) {
	dir, err := os.MkdirTemp("", "fdy-sandbox-")
	if err != nil {
		return nil, problem.New(problem.Unavailable, "sandbox-directory", "The sandbox has no place: "+err.Error()+".").WithMend("Make room below " + os.TempDir() + ", or set TMPDIR.")
	}
	l = &Lab{o: o, dir: dir}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	// The database's unprivileged user passes through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return l, err
	}
	// Backups go there as another user.
	if err := errors.Join(os.MkdirAll(l.vault(), 0o777), os.Chmod(l.vault(), 0o777)); err != nil {
		return l, err
	}
	f := o.Scenario.Fleet
	if l.net, err = newNetwork(len(f.Nodes)); err != nil {
		return l, err
	}
	if !l.net.spaces {
		if cuts(o.Scenario) {
			return l, problem.New(problem.Unavailable, errNoSpaces.Code, "This scenario cuts networks, and networks of their own cannot be made: "+l.net.why+".").WithMend(errNoSpaces.Mend)
		}
		say("All nodes share this machine's loopback, and nothing can be cut: " + l.net.why + ".")
	}
	for i, n := range f.Nodes {
		made := newNode(l, i+1, n)
		if slices.Contains(n.Roles, "patroni") {
			if made.keeper, err = newKeeper(made.dir); err != nil {
				return l, err
			}
		}
		if err := errors.Join(os.MkdirAll(made.dir, 0o711), os.Chmod(made.dir, 0o711)); err != nil {
			return l, err
		}
		l.nodes = append(l.nodes, made)
	}
	if err := l.services(f); err != nil {
		return l, err
	}
	if l.kept() {
		return l, l.beginKept(ctx, say)
	}
	for i, n := range l.nodes {
		say(fmt.Sprintf("starting %s (%s)", n.name, n.rolesText()))
		if err := l.begin(ctx, i, n); err != nil {
			return l, err
		}
		if i == 0 && l.shared() { // the plan says who may take over: who joins is given what it needs for that
			say("putting the plan in force")
			if err := l.govern(ctx); err != nil {
				return l, err
			}
			if err := l.fill(ctx, n, say); err != nil {
				return l, err
			}
		}
	}
	return l, l.armed(ctx, say)
}

// cuts says whether a scenario takes networks away.
func cuts(s *scenario.Scenario) bool {
	for _, step := range s.Sandbox {
		if slices.ContainsFunc(step.Do, func(a scenario.Act) bool { return a.Verb == "cut" || a.Verb == "isolate" }) {
			return true
		}
	}
	return false
}

// armed waits until the node that is to take over holds what that takes: keys,
// the way to the backups, and a backup.
func (l *Lab) armed(ctx context.Context, say func(string)) error {
	first, next := l.databases()
	if next == nil {
		return nil
	}
	say(fmt.Sprintf("waiting until %s could take over from %s", next.name, first.name))
	var lacked string
	return poll(ctx, 3*time.Minute, func() error {
		var all []survivor.Readiness
		if err := next.call(ctx, "GET", "/fleet/readiness", nil, &all); err != nil {
			return err
		}
		for _, r := range all {
			if r.From != first.name || r.To != next.name {
				continue
			}
			if r.State == survivor.Ready {
				return nil
			}
			if lacks := strings.Join(r.Missing, " "); lacks != lacked {
				lacked = lacks
				say("  it lacks: " + lacks)
			}
			return fmt.Errorf("%s could not take over from %s: %s", next.name, first.name, lacked)
		}
		return errors.New("the plan has nobody take over")
	})
}

func (l *Lab) services(f *scenario.Fleet) (err error) {
	here := l.net.address(0)
	if l.models, err = newModels(here+":0", simulator.OpenAI); err != nil {
		return err
	}
	if slices.Contains(f.Services, "inference") {
		if l.own, err = newModels(here+":0", simulator.Ollama); err != nil {
			return err
		}
	}
	if slices.Contains(f.Services, "mail") {
		if l.mailbox, err = newMailbox(l.dir, here); err != nil {
			return err
		}
	}
	if slices.Contains(f.Services, "dns") {
		addr, err := l.net.free()
		if err != nil {
			return err
		}
		if l.names, err = newNames(filepath.Join(l.dir, "names"), addr, l.nodes[0].address()); err != nil {
			return err
		}
	}
	return nil
}

// begin configures a node, has it join, and starts it.
func (l *Lab) begin(ctx context.Context, i int, n *node) (err error) {
	if n.config, err = file(n.dir, "node.yaml", l.configuration(n)); err != nil {
		return err
	}
	if i > 0 {
		if err := l.join(ctx, l.nodes[0], n); err != nil {
			return err
		}
	}
	if err := n.start(); err != nil {
		return err
	}
	return l.await(ctx, n)
}

// join has a member invite a node, and that use the invitation.
func (l *Lab) join(ctx context.Context, by, n *node) error {
	var token string
	err := poll(ctx, 60*time.Second, func() error {
		out, err := by.run(ctx, "node", "invite", n.name, "--roles", n.rolesText())
		if f := strings.Fields(out); err == nil && len(f) > 0 {
			token = f[0]
			return nil
		}
		return errors.Join(err, errors.New("no invitation"))
	})
	if err != nil {
		return err
	}
	return poll(ctx, 60*time.Second, func() error {
		_, err := n.run(ctx, "node", "join", token, "--config", n.config)
		return err
	})
}

// await waits until a node that was started answers.
func (l *Lab) await(ctx context.Context, n *node) error {
	return poll(ctx, 90*time.Second, func() error {
		if !n.up() {
			return problem.New(problem.Unavailable, "sandbox-node", fmt.Sprintf("The node %s of the sandbox ended: %s", n.name, lastWords(n.proc.log.String()))).WithMend("Run it with --keep and look at its directory.")
		}
		if !n.has("gateway") || n.bare {
			var p picture
			return n.call(ctx, "GET", "/fleet/picture", nil, &p)
		}
		var s struct{ Database struct{ Healthy bool } }
		if err := n.call(ctx, "GET", "/status", nil, &s); err != nil || s.Database.Healthy {
			return err
		}
		return errors.New(n.name + " has no database")
	})
}

func (l *Lab) environment() []string {
	return append(os.Environ(), "NO_COLOR=1")
}

// gateways are the nodes that answer clients.
func (l *Lab) gateways() (out []*node) {
	for _, n := range l.nodes {
		if n.has("gateway") {
			out = append(out, n)
		}
	}
	return out
}

func (l *Lab) node(name string) *node {
	for _, n := range l.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// anyone is the first node that is up and answers, gateways first.
func (l *Lab) anyone(ctx context.Context) *node {
	for _, n := range slices.Concat(l.gateways(), l.nodes) {
		if !n.up() {
			continue
		}
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		var p picture
		err := n.call(one, "GET", "/fleet/picture", nil, &p)
		cancel()
		if err == nil && p.Majority {
			return n
		}
	}
	return nil
}

// close ends everything, whatever state it is in.
func (l *Lab) close() {
	if l.crowd != nil {
		l.crowd.rate(context.Background(), 0)
	}
	if l.writer != nil {
		l.writer.rate(context.Background(), 0)
	}
	if l.seen != nil {
		l.seen.close()
	}
	for _, n := range l.nodes {
		n.kill()
	}
	if l.names != nil {
		l.names.close()
	}
	if l.mailbox != nil {
		l.mailbox.close()
	}
	for _, m := range []*models{l.models, l.own} {
		if m != nil {
			m.close()
		}
	}
	if l.net != nil {
		l.net.close()
	}
	if !l.o.Keep {
		_ = os.RemoveAll(l.dir)
	}
}

// poll tries until it works, its time is over or ctx ends.
func poll(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		var final *problem.Error
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", within, err)
		case <-tick.C:
		}
	}
}

var detail = regexp.MustCompile(`"detail": "([^"]*)"`)

// lastWords are why a node says that it ended.
func lastWords(log string) string {
	if m := detail.FindAllStringSubmatch(log, -1); len(m) > 0 {
		return m[len(m)-1][1]
	}
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return lines[len(lines)-1]
}
