//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// machine is one node of a fleet, on a machine of a network of its own.
type machine struct {
	t    testing.TB
	net  *network
	i    int // on the network, from 1
	name string
	dir  string

	roles string // of its process

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	log    *logBuffer
}

// newFleet starts a fleet of real processes, each in a network namespace of
// its own, and waits until all of them vote.
func newFleet(t testing.TB, size int) (*network, []*machine) {
	t.Helper()
	n := newNetwork(t, size)
	var all []*machine
	for i := 1; i <= size; i++ {
		m := newMachine(t, n, i, fmt.Sprint("node-", i), "fleet", "")
		all = append(all, m)
		if i > 1 {
			m.join(all[0])
		}
		m.start()
	}
	for _, m := range all {
		m.until("all members to answer", func(p fleet.Picture) bool { return p.Majority && m.fine(p, all...) })
	}
	return n, all
}

// newMachine prepares a node that start starts; more is configuration.
func newMachine(t testing.TB, n *network, i int, name, roles, more string) *machine {
	t.Helper()
	m := &machine{t: t, net: n, i: i, name: name, dir: tempDir(t), roles: roles, log: &logBuffer{}}
	at := n.address(i)
	text := fmt.Sprintf("data_dir: %s/d\nfleet:\n  name: %s\n  listen: {peers: %q, clients: %q, join: %q}\n%s", m.dir, m.name, at+":8490", at+":8491", at+":8492", more)
	if err := os.WriteFile(filepath.Join(m.dir, "node.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", m.name, m.log.tail(3000))
		}
	})
	return m
}

// join makes it a node of another's fleet.
func (m *machine) join(of *machine) {
	m.t.Helper()
	token := strings.Fields(of.say("node", "invite", m.name, "--roles", m.roles))[0]
	m.say("node", "join", token, "--config", filepath.Join(m.dir, "node.yaml"))
}

func (m *machine) start() {
	m.t.Helper()
	cmd := m.net.on(m.i, binary, "serve", "--config", filepath.Join(m.dir, "node.yaml"), "--role", m.roles, "--json")
	cmd.Stderr = m.log
	// A test that dies takes the node with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	exited, started := make(chan struct{}), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread that started the process
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	m.cmd, m.exited = cmd, exited
	m.mu.Unlock()
}

// kill ends the process without a word. `ip netns exec` becomes the program.
func (m *machine) kill() {
	m.mu.Lock()
	cmd, exited := m.cmd, m.exited
	m.cmd = nil
	m.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-exited
	}
}

// signal stops the process and has it go on; the network does not notice.
func (m *machine) signal(sig syscall.Signal) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.cmd.Process.Signal(sig); err != nil {
		m.t.Fatalf("%s gets %s: %v", m.name, sig, err)
	}
}

func (m *machine) run(args ...string) said {
	var out, text bytes.Buffer
	cmd := m.net.on(m.i, binary, append(args, "--data-dir", filepath.Join(m.dir, "d"))...)
	cmd.Stdout, cmd.Stderr = &out, &text
	_ = cmd.Run()
	return said{out.String(), text.String(), cmd.ProcessState.ExitCode()}
}

// say is run for a command that must succeed, soon.
func (m *machine) say(args ...string) (out string) {
	m.t.Helper()
	eventually(m.t, m.name+" to do "+strings.Join(args[:2], " "), func() (bool, string) {
		s := m.run(args...)
		out = s.out
		return s.code == 0, s.err
	})
	return out
}

// picture is the fleet as this node sees it; false: it does not answer.
func (m *machine) picture() (p fleet.Picture, ok bool) {
	s := m.run("fleet", "status", "--json")
	return p, json.Unmarshal([]byte(s.out), &p) == nil && p.Node != ""
}

func (m *machine) until(what string, met func(fleet.Picture) bool) (p fleet.Picture) {
	m.t.Helper()
	took := eventually(m.t, m.name+" to see "+what, func() (bool, string) {
		var ok bool
		p, ok = m.picture()
		return ok && met(p), sketch(p)
	})
	m.t.Logf("%s saw %s after %s", m.name, what, took.Round(100*time.Millisecond))
	return p
}

// fine reports whether every machine is fine in a picture.
func (m *machine) fine(p fleet.Picture, all ...*machine) bool {
	return !slices.ContainsFunc(all, func(other *machine) bool { return stateOf(p, other.name) != verdict.Fine })
}

func stateOf(p fleet.Picture, name string) verdict.State {
	for _, n := range p.Nodes {
		if n.Name == name {
			return n.Verdict.State
		}
	}
	return ""
}

func sketch(p fleet.Picture) string {
	out := []string{fmt.Sprintf("%s: majority %v, %s leads at %d;", p.Node, p.Majority, p.Leader, p.Epoch)}
	for _, n := range p.Nodes {
		out = append(out, fmt.Sprintf("%s %s (%s);", n.Name, n.Verdict.State, n.Verdict.Words))
	}
	return strings.Join(out, " ")
}

// Killed, the leader is followed by another within seconds, nobody else is
// accused, and it finds its place again.
func TestALeaderIsKilledAndAnotherLeads(t *testing.T) {
	t.Parallel()
	_, all := newFleet(t, 3)
	before := all[0].until("a leader", func(p fleet.Picture) bool { return p.Leader != "" && p.Epoch > 0 })
	leader := all[slices.IndexFunc(all, func(m *machine) bool { return m.name == before.Leader })]
	others := slices.DeleteFunc(slices.Clone(all), func(m *machine) bool { return m == leader })
	leader.kill()
	for _, m := range others {
		p := m.until("another leader", func(p fleet.Picture) bool {
			return p.Majority && p.Leader != "" && p.Leader != leader.name && stateOf(p, leader.name) != verdict.Fine
		})
		if p.Epoch <= before.Epoch {
			t.Errorf("the epoch was %d and is %d", before.Epoch, p.Epoch)
		}
		if !m.fine(p, others...) {
			t.Errorf("somebody else is accused: %s", sketch(p))
		}
	}
	leader.start()
	for _, m := range all {
		m.until("all of them", func(p fleet.Picture) bool { return p.Majority && m.fine(p, all...) })
	}
}

// A node that is cut off says that it may be the one, and accuses nobody; the
// others confirm its loss with quorum and signals. With most of them gone, the
// one that is left says that nothing can be decided.
func TestACutOffNodeAccusesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("confirming losses takes minutes")
	}
	t.Parallel()
	n, all := newFleet(t, 3)
	n.isolate(3)
	all[2].until("that it may be cut off", func(p fleet.Picture) bool { return !p.Majority })
	for _, m := range all[:2] {
		m.until("a suspicion", func(p fleet.Picture) bool { return stateOf(p, "node-3") != verdict.Fine })
		if p, _ := m.picture(); !m.fine(p, all[:2]...) {
			t.Errorf("somebody else is accused: %s", sketch(p))
		}
	}
	end := time.Now().Add(45 * time.Second) // more than a loss takes to be confirmed
	for time.Now().Before(end) {
		if p, ok := all[2].picture(); ok && (stateOf(p, "node-1") == verdict.Lost || stateOf(p, "node-2") == verdict.Lost || p.Majority) {
			t.Fatalf("the node that is cut off accuses: %s", sketch(p))
		}
		pass(time.Second)
	}
	n.healAll()
	for _, m := range all {
		m.until("all of them again", func(p fleet.Picture) bool {
			return p.Majority && stateOf(p, "node-3") != verdict.Lost && stateOf(p, "node-3") != verdict.CutOff
		})
	}
	all[0].kill()
	all[1].kill()
	p := all[2].until("that nothing can be decided", func(p fleet.Picture) bool { return !p.Majority })
	if !strings.Contains(p.Words, "decided") {
		t.Errorf("it does not say so in words: %q", p.Words)
	}
	if s := all[2].run("node", "status"); s.code != 69 || !strings.Contains(s.out+s.err, "foundry node recover") {
		t.Errorf("exit code %d: %s%s", s.code, s.out, s.err)
	}
}

// One-way cables accuse nobody: as long as somebody hears a node, it is not
// lost.
func TestAOneWayCableLosesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes longer than a loss is confirmed in")
	}
	t.Parallel()
	n, all := newFleet(t, 3)
	n.drop(1, 3)
	for end := time.Now().Add(50 * time.Second); time.Now().Before(end); pass(time.Second) {
		for _, m := range all {
			if p, ok := m.picture(); ok && slices.ContainsFunc(p.Nodes, func(v fleet.NodeView) bool { return v.Verdict.State == verdict.Lost }) {
				t.Fatalf("somebody is lost: %s", sketch(p))
			}
		}
	}
	p := all[1].until("the cut", func(p fleet.Picture) bool { return stateOf(p, "node-1") != "" })
	t.Log(sketch(p))
	n.healAll()
	for _, m := range all {
		m.until("all of them again", func(p fleet.Picture) bool { return p.Majority && m.fine(p, all...) })
	}
}

// invariants hold what every picture must agree with.
type invariants struct {
	t       testing.TB
	leaders map[int64]string
	last    map[string]int64
	highest int64
}

func newInvariants(t testing.TB) *invariants {
	return &invariants{t: t, leaders: map[int64]string{}, last: map[string]int64{}}
}

func (i *invariants) sees(p fleet.Picture) {
	i.t.Helper()
	if p.Epoch == 0 || p.Leader == "" {
		return
	}
	if was, known := i.leaders[p.Epoch]; known && was != p.Leader {
		i.t.Errorf("%s and %s lead at epoch %d", was, p.Leader, p.Epoch)
	}
	if p.Epoch < i.last[p.Node] {
		i.t.Errorf("%s saw epoch %d, and now %d", p.Node, i.last[p.Node], p.Epoch)
	}
	i.leaders[p.Epoch], i.last[p.Node] = p.Leader, p.Epoch
	i.highest = max(i.highest, p.Epoch)
}
