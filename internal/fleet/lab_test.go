package fleet_test

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/fleet"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/plan"
)

// machine answers HTTPS and TCP until it is down. Its addresses stay.
type machine struct {
	t        testing.TB
	web, tcp string
	mu       sync.Mutex
	server   *httptest.Server
	plain    net.Listener
}

func newMachine(t testing.TB) *machine {
	m := &machine{t: t}
	m.up()
	t.Cleanup(m.down)
	return m
}

func (m *machine) up() {
	m.mu.Lock()
	defer m.mu.Unlock()
	listen := func(at string) net.Listener {
		// At every address, for each node has one of its own.
		_, port, _ := net.SplitHostPort(at)
		at = net.JoinHostPort("0.0.0.0", cmp.Or(port, "0"))
		l, err := net.Listen("tcp4", at)
		if err != nil {
			m.t.Fatal(err)
		}
		return l
	}
	m.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }))
	_ = m.server.Listener.Close()
	m.server.Listener, m.plain = listen(m.web), listen(m.tcp)
	m.server.StartTLS()
	here := func(l net.Listener) string {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.MustParseAddrPort(l.Addr().String()).Port()).String()
	}
	m.web, m.tcp = here(m.server.Listener), here(m.plain)
	plain := m.plain
	go func() {
		for {
			conn, err := plain.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
}

func (m *machine) down() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.server != nil {
		m.server.CloseClientConnections()
		m.server.Close()
		_ = m.plain.Close()
		m.server = nil
	}
}

// port is of HTTPS. Its certificate names another address than the node's.
func (m *machine) port() uint16 {
	at, err := netip.ParseAddrPort(m.web)
	if err != nil {
		m.t.Fatal(err)
	}
	return at.Port()
}

func (m *machine) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(m.server.Certificate())
	return pool
}

// lab is a fleet of real members, each on a machine of its own, with a service
// that watches.
type lab struct {
	t        testing.TB
	f        *membertest.Fleet
	machines map[string]*machine
	shop     *machine // what the plan's only function answers on
	plan     *plan.File
	rules    verdict.Rules
	services []*fleet.Service
	stops    []func()

	mu    sync.Mutex
	views map[string][]verdict.Verdict // by node and subject: what it held, one after the other
	wrote []verdict.Verdict            // what the fleet held, as the first node heard it
}

// quick are rules that let a test end soon. A test that is about what comes
// before a confirmation gives that more time, however slow the machine is.
var quick = verdict.Rules{Suspect: 300 * time.Millisecond, Confirm: 4 * time.Second, Recover: time.Second}

func confirmIn(d time.Duration) verdict.Rules {
	r := quick
	r.Confirm = d
	return r
}

const interval = 200 * time.Millisecond

func newLab(t testing.TB, n int, rules verdict.Rules, change func(i int, o *member.Options)) *lab {
	t.Helper()
	l := &lab{t: t, rules: rules, machines: map[string]*machine{}, shop: newMachine(t), views: map[string][]verdict.Verdict{}, services: make([]*fleet.Service, n), stops: make([]func(), n)}
	span := func(text string) (s plan.Span) {
		if err := s.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	l.plan = &plan.File{Functions: []plan.Function{{Name: "shop", Probes: []plan.Probe{
		{Name: "page", Kind: "https", Target: "https://" + l.shop.web + "/", Every: span("1 s")},
		{Name: "port", Kind: "tcp", Target: l.shop.tcp, Every: span("1 s")},
	}}}}
	for i := range n {
		l.machines[fmt.Sprintf("node%d", i+1)] = newMachine(t)
	}
	l.f = membertest.StartWith(t, n, change)
	t.Cleanup(func() {
		for i := range l.stops {
			l.stop(i)
		}
	})
	return l
}

func (l *lab) watch(i int) *fleet.Service {
	l.t.Helper()
	m := l.f.Members[i]
	s, err := fleet.New(fleet.Options{Member: m, Plan: func() *plan.File { return l.plan }, Every: interval, Rules: l.rules,
		Env: probe.Env{Roots: l.shop.roots()}, Look: func(n member.Node) []probe.Spec {
			on := l.machines[n.Name]
			return []probe.Spec{{Kind: probe.TCP, Target: on.tcp, Every: time.Second}}
		}, Doors: []fleet.Door{{Kind: probe.HTTPS, Port: l.machines[m.Name()].port()}}})
	if err != nil {
		l.t.Fatal(err)
	}
	s.Watch(func(v verdict.Verdict) {
		l.mu.Lock()
		defer l.mu.Unlock()
		key := m.Name() + " " + v.Subject
		l.views[key] = append(l.views[key], v)
	})
	if i == 0 {
		s.WatchRuled(func(v verdict.Verdict) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.wrote = append(l.wrote, v)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	l.services[i], l.stops[i] = s, func() { cancel(); <-done }
	return s
}

func (l *lab) watchAll() {
	l.t.Helper()
	for i := range l.services {
		l.watch(i)
	}
	l.await("everybody holds everything fine", func() bool {
		for i := range l.services {
			for _, subject := range l.subjects() {
				if v, ok := l.services[i].Held(subject); !ok || v.State != verdict.Fine {
					return false
				}
			}
			// Each way to each node has worked: only then its failure says something.
			for _, n := range l.services[i].Picture().Nodes {
				for _, sight := range n.Sees {
					if len(sight.By) < 3 {
						return false
					}
				}
				if len(n.Sees) < len(l.services)-1 {
					return false
				}
			}
		}
		return true
	})
}

func (l *lab) subjects() []string {
	out := []string{verdict.Fleet, "function/shop"}
	for name := range l.machines {
		out = append(out, verdict.Node(name))
	}
	slices.Sort(out)
	return out
}

func (l *lab) stop(i int) {
	if l.stops[i] != nil {
		l.stops[i]()
		l.stops[i], l.services[i] = nil, nil
	}
}

// kill takes a node's process and its machine at once.
func (l *lab) kill(i int) {
	l.t.Helper()
	name := l.f.Options[i].Name
	l.f.Kill(l.t, i)
	l.machines[name].down()
	l.stop(i)
}

func (l *lab) revive(i int) {
	l.t.Helper()
	l.machines[l.f.Options[i].Name].up()
	l.f.Restart(l.t, i)
	l.watch(i)
}

// await waits for what must come, and says what is held instead.
func (l *lab) await(what string, holds func() bool) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), membertest.Patience)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.t.Fatalf("waited in vain until %s; instead:\n%s", what, l.describe())
		}
	}
}

func (l *lab) describe() (out string) {
	for i, s := range l.services {
		if s == nil {
			continue
		}
		p := s.Picture()
		out += fmt.Sprintf("node%d: %s (leader %s, epoch %d)\n", i+1, p.Words, p.Leader, p.Epoch)
		for _, subject := range l.subjects() {
			held, _ := s.Held(subject)
			ruled, _ := s.Ruled(subject)
			out += fmt.Sprintf("  %-14s held %s: %s\n  %-14s ruled %s: %s\n", subject, held.State, held.Words, "", ruled.State, ruled.Words)
		}
	}
	return out
}

func (l *lab) ruled(subject string, state verdict.State) {
	l.t.Helper()
	l.await(fmt.Sprintf("the fleet holds %s %s", subject, state), func() bool {
		for _, s := range l.services {
			if s == nil {
				continue
			}
			if v, ok := s.Ruled(subject); !ok || v.State != state {
				return false
			}
		}
		return true
	})
}

// states lists how a node's view of a subject went.
func (l *lab) states(node, subject string) (out []verdict.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.views[node+" "+subject] {
		if len(out) == 0 || out[len(out)-1] != v.State {
			out = append(out, v.State)
		}
	}
	return out
}

// one is a service that runs.
func (l *lab) one() *fleet.Service {
	return l.services[slices.IndexFunc(l.services, func(s *fleet.Service) bool { return s != nil })]
}
