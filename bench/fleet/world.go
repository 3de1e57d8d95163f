//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/missionopsai/foundry/internal/daemon"
	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// patience is how long anything that is waited for may take: longer than
// anything takes on a machine that others use.
const patience = 3 * time.Minute

// world is a fleet of processes, each a member of its own.
type world struct {
	program string
	env     []string
	nodes   []*node
}

// node is one member: `foundry serve --role fleet`.
type node struct {
	*world
	name   string
	config daemon.Config
	local  *http.Client // over its socket

	cmd *exec.Cmd
}

// addresses are n hosts on this machine. With root they are such as nodes have,
// on which others may look by SSH; else of the loopback network.
func addresses(n int) (hosts []string, free func()) {
	for i := range n {
		at := fmt.Sprintf("10.98.77.%d", i+1)
		if out, err := exec.Command("ip", "addr", "add", at+"/32", "dev", "lo").CombinedOutput(); err != nil && !bytes.Contains(out, []byte("already assigned")) {
			hosts = nil
			break
		}
		hosts = append(hosts, at)
	}
	return hosts, func() {
		for _, at := range hosts {
			_ = exec.Command("ip", "addr", "del", at+"/32", "dev", "lo").Run()
		}
	}
}

// newWorld starts a fleet of size members and waits until all of them vote and
// see each other.
func newWorld(ctx context.Context, dir, program string, size int, hosts, env []string) (w *world, err error) {
	w = &world{program: program, env: env}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return w, err
	}
	for i := range size {
		n := &node{world: w, name: fmt.Sprint("node-", i+1)}
		n.config.DataDir = filepath.Join(dir, n.name)
		n.config.Fleet.Name = n.name
		doors, err := membertest.Ports(3)
		if err != nil {
			return w, err
		}
		if len(hosts) > i {
			for d := range doors {
				doors[d] = net.JoinHostPort(hosts[i], strconv.Itoa(8490+d))
			}
		}
		n.config.Fleet.Listen = daemon.DoorsConfig{Peers: doors[0], Clients: doors[1], Join: doors[2]}
		text := fmt.Sprintf("data_dir: %s\nfleet:\n  name: %s\n  listen: {peers: %q, clients: %q, join: %q}\n", n.config.DataDir, n.name, doors[0], doors[1], doors[2])
		if err := os.WriteFile(n.file(), []byte(text), 0o600); err != nil {
			return w, err
		}
		socket := daemon.SocketPath(n.config.DataDir)
		n.local = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
		w.nodes = append(w.nodes, n)
		if i > 0 {
			token, err := w.nodes[0].run(ctx, "node", "invite", n.name, "--roles", "fleet")
			if err != nil {
				return w, err
			}
			if _, err := n.run(ctx, "node", "join", strings.Fields(token)[0], "--config", n.file()); err != nil {
				return w, err
			}
		}
		if err := n.start(); err != nil {
			return w, err
		}
		if err := n.until(ctx, "to answer", func(s member.Status) bool { return s.Majority && s.Voters == i+1 }); err != nil {
			return w, err
		}
	}
	return w, w.settled(ctx)
}

func (n *node) file() string { return n.config.DataDir + ".yaml" }

func (n *node) start() error {
	log, err := os.OpenFile(n.config.DataDir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = exec.Command(n.program, "serve", "--config", n.file(), "--role", "fleet")
	n.cmd.Env, n.cmd.Stderr = append(os.Environ(), n.env...), log
	return n.cmd.Start()
}

// stop ends the process; with SIGKILL it has no say in it.
func (n *node) stop(by syscall.Signal) {
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(by)
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.stop(syscall.SIGKILL)
	}
}

// run gives a command, and again until it succeeds.
func (n *node) run(ctx context.Context, args ...string) (string, error) {
	for end := time.Now().Add(patience); ; {
		var out, text strings.Builder
		cmd := exec.CommandContext(ctx, n.program, append(args, "--data-dir", n.config.DataDir)...)
		cmd.Stdout, cmd.Stderr = &out, &text
		err := cmd.Run()
		if err == nil {
			return out.String(), nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return "", fmt.Errorf("foundry %s: %w: %s", strings.Join(args, " "), err, &text)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// get asks the node over its socket.
func (n *node) get(ctx context.Context, path string, into any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/api/v1"+path, nil)
	if err != nil {
		return err
	}
	a, err := n.local.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(a.Body, 1000))
		return fmt.Errorf("%s: %s", a.Status, text)
	}
	return json.NewDecoder(a.Body).Decode(into)
}

func (n *node) status(ctx context.Context) (s member.Status, err error) {
	return s, n.get(ctx, "/fleet", &s)
}

func (n *node) picture(ctx context.Context) (p fleet.Picture, err error) {
	return p, n.get(ctx, "/fleet/picture", &p)
}

func (n *node) until(ctx context.Context, what string, met func(member.Status) bool) error {
	var s member.Status
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		if s, err = n.status(ctx); err == nil && met(s) {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("%s was not seen %s: %s: %s", n.name, what, s.Words, n.lastWords()), err, ctx.Err())
}

func (n *node) lastWords() []byte {
	text, _ := os.ReadFile(n.config.DataDir + ".log")
	return text[max(0, len(text)-1500):]
}

// settled waits until every member sees every other, and a leader.
func (w *world) settled(ctx context.Context) error {
	var last string
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		if last = w.unsettled(ctx); last == "" {
			return nil
		}
	}
	return errors.Join(errors.New("the members did not settle: "+last), ctx.Err())
}

func (w *world) unsettled(ctx context.Context) string {
	for _, n := range w.nodes {
		p, err := n.picture(ctx)
		if err != nil {
			return n.name + ": " + err.Error()
		}
		if !p.Majority || p.Leader == "" || len(p.Nodes) != len(w.nodes) {
			return n.name + ": " + p.Words
		}
		for _, other := range p.Nodes {
			if other.Verdict.State != verdict.Fine {
				return n.name + ": " + other.Name + " " + string(other.Verdict.State)
			}
		}
	}
	return ""
}

// publish brings a plan into force, as a gateway would: by way of the first
// member, which is in this process for as long as that takes.
func (w *world) publish(ctx context.Context, text string) error {
	n := w.nodes[0]
	n.stop(syscall.SIGTERM)
	d, err := daemon.Serve(ctx, daemon.Options{Config: n.config, Version: "bench"}, []member.Role{member.Fleet})
	if err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; pause(ctx, 200*time.Millisecond) {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		err = fleet.PublishPlan(one, d.Member().Store(), "sha256:"+uuid.NewString(), uuid.NewString(), time.Now(), []byte(text), nil)
		cancel()
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			break
		}
	}
	if err := errors.Join(err, d.Stop(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return errors.Join(n.start(), w.settled(ctx))
}

// memory reads VmRSS and VmHWM of a process, in MB.
func memory(pid int) (now, peak float64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		kB, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 64)
		switch name {
		case "VmRSS":
			now = kB * 1024 / 1e6
		case "VmHWM":
			peak = kB * 1024 / 1e6
		}
	}
	return now, peak
}

// processor is the time that a process has used, in seconds (proc(5); USER_HZ
// is 100 on every architecture of Debian).
func processor(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// spread is what was measured several times.
type spread []float64

func (s spread) String() string {
	if len(s) == 0 {
		return "–"
	}
	o := slices.Sorted(slices.Values(s))
	at := func(q float64) float64 { return o[min(len(o)-1, int(q*float64(len(o))))] }
	return fmt.Sprintf("%.2f (%.2f–%.2f, p90 %.2f)", at(0.5), o[0], o[len(o)-1], at(0.9))
}

func (s spread) max() float64 { return slices.Max(append(slices.Clone(s), 0)) }

// firstOf asks every 10 ms, without waiting for answers, and gives the time
// until the first that is as wanted.
func firstOf(ctx context.Context, since time.Time, ask func(context.Context) bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found := make(chan time.Duration, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	room := make(chan struct{}, 32)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case took := <-found:
			return took, nil
		case <-ctx.Done():
			return 0, errors.New("what was waited for did not come")
		case <-tick.C:
		}
		select {
		case room <- struct{}{}:
			asking.Go(func() {
				defer func() { <-room }()
				if ask(ctx) {
					select {
					case found <- time.Since(since):
					default:
					}
				}
			})
		default:
		}
	}
}
