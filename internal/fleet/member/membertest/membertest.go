// Package membertest starts members of a fleet on loopback, inside the
// process of a test.
package membertest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/keys"
)

// Patience is how long the helpers wait for a condition before they fail the test.
const Patience = 90 * time.Second

// Fleet is a running fleet. Members are named node1, node2, …
type Fleet struct {
	Members []*member.Member // nil where one was stopped or killed
	Options []member.Options // with which each was started
}

// Start starts a fleet of n members, each in a directory of its own, and
// waits until all vote. It ends with the test.
func Start(t testing.TB, n int) *Fleet {
	t.Helper()
	return StartWith(t, n, nil)
}

// StartWith is Start with options changed before each member starts.
func StartWith(t testing.TB, n int, change func(i int, o *member.Options)) *Fleet {
	t.Helper()
	f := &Fleet{Members: make([]*member.Member, n), Options: make([]member.Options, n)}
	for i := range n {
		f.Options[i] = Options(t, fmt.Sprintf("node%d", i+1), member.Gateway, member.Fleet)
		if change != nil {
			change(i, &f.Options[i])
		}
		if i == 0 {
			f.Restart(t, 0)
			continue
		}
		f.Join(t, 0, f.Options[i])
	}
	t.Cleanup(func() {
		for i := range f.Members {
			f.Kill(t, i)
		}
	})
	// All are invited before the first of them votes: etcd takes no member
	// while one that votes has been connected for less than five seconds.
	for i := 1; i < n; i++ {
		f.Restart(t, i)
	}
	f.Await(t, "every member votes", func(ctx context.Context) bool {
		for _, m := range f.Members {
			nodes, err := m.Nodes(ctx)
			if s := m.Status(ctx); err != nil || len(nodes) != n || !s.Majority || s.Voters != n || s.Answer != n {
				return false
			}
		}
		return true
	})
	return f
}

// Options are those of a new node, in a new directory, with free addresses.
func Options(t testing.TB, name string, roles ...member.Role) member.Options {
	t.Helper()
	dir := t.TempDir()
	ring, err := keys.Open(keys.Options{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	o := member.Options{Dir: filepath.Join(dir, "fleet"), Name: name, Roles: roles, Ring: ring, Version: "test", Log: slog.New(slog.DiscardHandler)}
	if member.Votes(roles) {
		free := Free(t, 3)
		o.Listen = member.Addresses{Peers: free[0], Clients: free[1], Join: free[2]}
	}
	return o
}

// Free gives n addresses, host:port, that are free until they are used. They
// are on a loopback address of this process and call: a port of 127.0.0.1 that
// was free a moment ago may be the source of somebody's connection by now.
func Free(t testing.TB, n int) []string {
	t.Helper()
	out, err := Ports(n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Ports is Free outside of a test.
func Ports(n int) (out []string, err error) {
	pid := os.Getpid()
	host := fmt.Sprintf("127.%d.%d.%d", 16+pid>>8&0x7f, pid&0xff, 1+calls.Add(1)%254)
	for range n {
		l, err := net.Listen("tcp", host+":0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // together, so that no two are the same
		out = append(out, l.Addr().String())
	}
	return out, nil
}

var calls atomic.Uint32 // of Free, in this process

// Join lets member i invite a node and uses the invitation. The node is not
// started.
func (f *Fleet) Join(t testing.TB, i int, o member.Options) {
	t.Helper()
	var token string
	f.Await(t, "the fleet can invite", func(ctx context.Context) (ok bool) {
		var err error
		token, _, err = f.Members[i].Invite(ctx, "person:test", o.Name, o.Roles)
		return err == nil
	})
	var err error
	f.Await(t, "the fleet takes another member", func(ctx context.Context) bool {
		if _, err = member.Join(ctx, o, token); err != nil {
			t.Logf("joining: %v", err)
		}
		return err == nil
	})
}

// Kill ends member i without letting it say goodbye.
func (f *Fleet) Kill(t testing.TB, i int) {
	t.Helper()
	if m := f.Members[i]; m != nil {
		f.Members[i] = nil
		m.Abandon()
	}
}

// Stop stops member i as a node is stopped.
func (f *Fleet) Stop(t testing.TB, i int) {
	t.Helper()
	if m := f.Members[i]; m != nil {
		f.Members[i] = nil
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		_ = m.Stop(ctx)
	}
}

// Restart starts member i from its directory.
func (f *Fleet) Restart(t testing.TB, i int) *member.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	m, err := member.Start(ctx, f.Options[i])
	if err != nil {
		t.Fatalf("starting %s: %v", f.Options[i].Name, err)
	}
	f.Members[i] = m
	return m
}

// Leader is the number of the member that leads the store; it waits for one.
func (f *Fleet) Leader(t testing.TB) (leader int) {
	t.Helper()
	f.Await(t, "a member leads", func(ctx context.Context) bool {
		for _, m := range f.Members {
			if m == nil {
				continue
			}
			for _, n := range m.Status(ctx).Nodes {
				for j, o := range f.Options {
					if n.Leader && n.Name == o.Name && f.Members[j] != nil {
						leader = j
						return true
					}
				}
			}
		}
		return false
	})
	return leader
}

// Await waits until a condition holds, and fails the test when it does not
// within [Patience].
func (f *Fleet) Await(t testing.TB, what string, holds func(ctx context.Context) bool) {
	t.Helper()
	Await(t, what, holds)
}

// Await waits until a condition holds, and fails the test when it does not
// within [Patience].
func Await(t testing.TB, what string, holds func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s in vain: %s", Patience, what)
		case <-tick.C:
		}
	}
}

// Listen listens at an address that somebody else had a moment ago, and says
// whenever somebody connects.
func Listen(t testing.TB, at string, told chan<- struct{}) net.Listener {
	t.Helper()
	var l net.Listener
	var err error
	Await(t, "the address is free", func(context.Context) bool {
		l, err = net.Listen("tcp", at)
		return err == nil
	})
	return &telling{l, told}
}

type telling struct {
	net.Listener
	told chan<- struct{}
}

func (l *telling) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		select {
		case l.told <- struct{}{}:
		default:
		}
	}
	return c, err
}
