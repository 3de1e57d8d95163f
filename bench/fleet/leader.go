//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// killed is what followed one kill, in seconds.
type killed struct {
	store     float64 // until a survivor reads by a majority again
	leads     float64 // until another leads the fleet
	suspected float64 // until every survivor suspects it
	memory    spread  // of each member at its highest before, MB
}

// leaders kills the leader of the store again and again, in Foundry and in a
// plain etcd in turns, so that whatever else the machine does meets both.
func leaders(ctx context.Context, dir string, o options) error {
	hosts, free := addresses(3)
	defer free()
	w, err := newWorld(ctx, filepath.Join(dir, "three"), o.program, 3, hosts, nil)
	if err != nil {
		return err
	}
	defer w.close()
	e, err := newPlain(ctx, dir)
	if err != nil {
		return err
	}
	defer e.close()
	var ours, both []killed
	var plain, ratio spread
	for n := range o.kills {
		fmt.Fprintf(os.Stderr, "fleet: kill %d of %d\n", n+1, o.kills)
		reference, err := e.kill(ctx)
		if err != nil {
			return fmt.Errorf("killing plain etcd: %w", err)
		}
		k, other, err := w.kill(ctx)
		if err != nil {
			return err
		}
		plain, ours, ratio = append(plain, reference), append(ours, k), append(ratio, k.store/reference)
		if other {
			both = append(both, k)
		}
	}
	pick := func(list []killed, f func(killed) float64) (s spread) {
		for _, k := range list {
			s = append(s, f(k))
		}
		return s
	}
	store, suspected := pick(ours, func(k killed) float64 { return k.store }), pick(ours, func(k killed) float64 { return k.suspected })
	fmt.Printf("\n## The leader of three members is killed, %d times\n\nSeconds after the signal: median (lowest–highest). Load average at the end %s.\n\n| | target | measured |\n|---|---|---|\n", o.kills, loadAverage())
	fmt.Printf("| plain etcd, same times, no TLS: a survivor reads by a majority | | %s |\n", plain)
	fmt.Printf("| Foundry: a survivor reads by a majority | ≤ 1 | %s %s |\n", store, verdictOf(store.max() <= 1))
	fmt.Printf("| the same, against plain etcd in the same round | | %s |\n", ratio)
	fmt.Printf("| Foundry: every survivor suspects it | ≤ 3 | %s %s |\n", suspected, verdictOf(suspected.max() <= 3))
	fmt.Printf("| Foundry: another judges for the fleet (%d kills met both leaders) | | %s |\n", len(both), pick(both, func(k killed) float64 { return k.leads }))
	var peak spread
	for _, k := range ours {
		peak = append(peak, k.memory...)
	}
	fmt.Printf("| memory of a member at its highest, MB | ≤ 90 | %s %s |\n", peak, verdictOf(peak.max() <= 90))
	return nil
}

func verdictOf(reached bool) string {
	if reached {
		return "reached"
	}
	return "missed"
}

// kill kills the member that leads the store. both: it led the fleet too.
func (w *world) kill(ctx context.Context) (k killed, both bool, err error) {
	if err := w.settled(ctx); err != nil {
		return k, false, err
	}
	for _, n := range w.nodes {
		_, p := memory(n.cmd.Process.Pid)
		k.memory = append(k.memory, p)
	}
	var leader *node
	s, err := w.nodes[0].status(ctx)
	if err != nil {
		return k, false, err
	}
	for _, x := range s.Nodes {
		if x.Leader {
			leader = w.nodes[slices.IndexFunc(w.nodes, func(n *node) bool { return n.name == x.Name })]
		}
	}
	if leader == nil {
		return k, false, errors.New("nobody leads the store")
	}
	p, err := w.nodes[0].picture(ctx)
	if err != nil {
		return k, false, err
	}
	both = p.Leader == leader.name
	epoch := p.Epoch
	others := slices.DeleteFunc(slices.Clone(w.nodes), func(n *node) bool { return n == leader })
	type result struct {
		which *float64
		took  time.Duration
		err   error
	}
	results := make(chan result, 3)
	var turn atomic.Uint32
	since := time.Now()
	leader.stop(syscall.SIGKILL)
	measure := func(which *float64, ask func(context.Context) bool) {
		go func() {
			took, err := firstOf(ctx, since, ask)
			results <- result{which, took, err}
		}()
	}
	measure(&k.store, func(ctx context.Context) bool {
		s, err := others[turn.Add(1)%2].status(ctx)
		return err == nil && s.Majority
	})
	measure(&k.leads, func(ctx context.Context) bool {
		p, err := others[0].picture(ctx)
		return err == nil && p.Leader != "" && (p.Epoch > epoch || !both)
	})
	measure(&k.suspected, func(ctx context.Context) bool {
		for _, n := range others {
			p, err := n.picture(ctx)
			if err != nil {
				return false
			}
			for _, x := range p.Nodes {
				if x.Name == leader.name && x.Verdict.State == verdict.Fine {
					return false
				}
			}
		}
		return true
	})
	for range 3 {
		r := <-results
		*r.which = r.took.Seconds()
		err = errors.Join(err, r.err)
	}
	return k, both, errors.Join(err, leader.start())
}

// plain is etcd as it is, three processes with the times that Foundry's
// members have.
type plain struct {
	self    string
	dirs    []string
	peers   []string
	clients []string
	dial    []*clientv3.Client
	cmds    []*exec.Cmd
}

// settings of a plain member, by way of its command line.
type settings struct {
	Name, Dir, Peer, Client, Initial string
	Again                            bool
}

func runEtcd(ctx context.Context, text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = s.Name, s.Dir, s.Initial
	c.TickMs, c.ElectionMs, c.PreVote = 50, 500, true // as internal/fleet/member has them
	peer, client := url.URL{Scheme: "http", Host: s.Peer}, url.URL{Scheme: "http", Host: s.Client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if s.Again {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	<-ctx.Done()
	e.Close()
	return nil
}

func newPlain(ctx context.Context, dir string) (e *plain, err error) {
	e = &plain{cmds: make([]*exec.Cmd, 3)}
	if e.self, err = os.Executable(); err != nil {
		return nil, err
	}
	ports, err := membertest.Ports(6)
	if err != nil {
		return nil, err
	}
	e.peers, e.clients = ports[:3], ports[3:]
	for i := range 3 {
		e.dirs = append(e.dirs, filepath.Join(dir, fmt.Sprint("etcd-", i)))
		if err := e.start(i, false); err != nil {
			return e, err
		}
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.clients[i]}, Logger: zap.NewNop()})
		if err != nil {
			return e, err
		}
		e.dial = append(e.dial, c)
	}
	return e, e.settled(ctx)
}

func (e *plain) start(i int, again bool) error {
	var initial []string
	for j, p := range e.peers {
		initial = append(initial, fmt.Sprintf("etcd-%d=http://%s", j, p))
	}
	text, err := json.Marshal(settings{fmt.Sprint("etcd-", i), e.dirs[i], e.peers[i], e.clients[i], strings.Join(initial, ","), again})
	if err != nil {
		return err
	}
	e.cmds[i] = exec.Command(e.self, "etcd", string(text))
	e.cmds[i].Stderr = io.Discard
	return e.cmds[i].Start()
}

func (e *plain) settled(ctx context.Context) error {
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		fine := 0
		for _, c := range e.dial {
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			if _, err := c.Get(one, "x"); err == nil {
				fine++
			}
			cancel()
		}
		if fine == len(e.cmds) {
			return nil
		}
	}
	return errors.Join(errors.New("plain etcd did not settle"), ctx.Err())
}

// kill kills its leader and gives the seconds until a survivor reads by a
// majority.
func (e *plain) kill(ctx context.Context) (float64, error) {
	if err := e.settled(ctx); err != nil {
		return 0, err
	}
	leader := -1
	for i, c := range e.dial {
		s, err := c.Status(ctx, e.clients[i])
		if err != nil {
			return 0, err
		}
		if s.Header.MemberId == s.Leader {
			leader = i
		}
	}
	if leader < 0 {
		return 0, errors.New("nobody leads")
	}
	other := e.dial[(leader+1)%3]
	since := time.Now()
	_ = e.cmds[leader].Process.Kill()
	_ = e.cmds[leader].Wait()
	took, err := firstOf(ctx, since, func(ctx context.Context) bool {
		_, err := other.Get(ctx, "x")
		return err == nil
	})
	return took.Seconds(), errors.Join(err, e.start(leader, true))
}

func (e *plain) close() {
	for _, c := range e.dial {
		_ = c.Close()
	}
	for _, c := range e.cmds {
		if c != nil && c.Process != nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
}
