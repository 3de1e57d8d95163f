package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/continuity/dns/dnstest"
	"github.com/missionopsai/foundry/internal/continuity/host"
	"github.com/missionopsai/foundry/internal/continuity/order"
	"github.com/missionopsai/foundry/internal/continuity/recovery"
	"github.com/missionopsai/foundry/internal/continuity/supplier"
	"github.com/missionopsai/foundry/internal/continuity/supplier/suppliertest"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/prometheus/client_golang/prometheus"
)

const worldPlan = `version: 1
organisation: {name: Demo, owner: anna, country: FI}
people: [{name: anna}]
suppliers:
  - {name: home-host, jurisdiction: DE, provides: [hosting]}
  - {name: abroad, jurisdiction: FR, provides: [inference]}
nodes:
  - {name: node1, roles: [gateway, fleet]}
  - {name: node5, supplier: home-host, roles: [inference]}
functions:
  - {name: platform, mtd: 1 day, rto: 4h, host: [node1], hostnames: [api.example.eu], dns_ttl: 30s}
  - {name: shop, mtd: 1 day, rto: 4h, host: [node1], hostnames: [www.example.eu]}
  - {name: models, mtd: 1 day, rto: 4h, kind: inference, host: [node5]}
recovery:
  - name: move
    functions: [platform, shop]
    onto: [node1]
    steps:
      - {name: look, kind: validate, functions: [platform]}
      - {name: names, kind: dns, functions: [platform]}
      - {name: other-names, kind: dns, functions: [shop]}
  - name: reroute
    functions: [models]
    steps:
      - {name: switch, kind: switch, supplier: abroad}
      - {name: back, kind: failback}
  - name: cut
    functions: [platform]
    steps:
      - {name: fence, kind: fence, node: node5}
`

// scene is a process that reaches the world, a plan, and a term of leadership.
type scene struct {
	*Daemon
	plan *plan.Plan
	term *member.Term
}

func world1(t *testing.T, c ContinuityConfig) *scene {
	t.Helper()
	p, err := plan.Parse("fleet.yaml", []byte(worldPlan))
	if err != nil {
		t.Fatal(err)
	}
	f := membertest.Start(t, 1)
	d := &Daemon{config: Config{DataDir: t.TempDir(), Continuity: c}, clock: time.Now, log: slog.New(slog.DiscardHandler), life: t.Context()}
	if err := d.config.Continuity.check(); err != nil {
		t.Fatal(err)
	}
	d.member.Store(f.Members[0])
	if err := d.makeWorld(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &scene{Daemon: d, plan: p}
	s.lead(t)
	return s
}

// lead begins another term: its epoch is higher.
func (s *scene) lead(t *testing.T) {
	t.Helper()
	if s.term != nil {
		if err := s.term.Resign(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.term, err = s.Member().Lead(t.Context(), "leader"); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) task(t *testing.T, name, step string, passed bool) recovery.Task {
	t.Helper()
	rp := s.plan.RecoveryPlan(name)
	run := recovery.Run{ID: "rec-20261123-abcdef", Name: name, Mode: incident.Real, Onto: rp.Onto}
	for i := range rp.Steps {
		st := recovery.StepState{Name: rp.Steps[i].Name, Kind: rp.Steps[i].Kind, State: recovery.Waiting}
		if passed && st.Kind == "validate" {
			st.State = recovery.Done
		}
		run.Steps = append(run.Steps, st)
	}
	i := slices.IndexFunc(rp.Steps, func(s plan.Step) bool { return s.Name == step })
	functions := rp.Steps[i].Functions
	if len(functions) == 0 {
		functions = rp.Functions
	}
	return recovery.Task{Run: run, Step: rp.Steps[i], Plan: s.plan, Attempt: 1, Epoch: s.term.Epoch(), Functions: functions, Term: s.term,
		Progress: func(order.Progress) {}, Ask: func(*recovery.Need) {}}
}

func TestNamesMoveOnARealServerOnlyAfterTheirValidationAndNeverBackToAnOlderEpoch(t *testing.T) {
	k := dnstest.Start(t)
	u := k.Provider("mover")
	s := world1(t, ContinuityConfig{DNS: DNSConfig{Zones: []ZoneConfig{{Name: k.Zone, Provider: "rfc2136", Server: k.Addr, KeyName: u.KeyName, Algorithm: u.Algorithm, Key: u.Secret, Authorities: []string{k.Addr}}},
		Addresses: map[string][]string{"node1": {"198.51.100.1", "2001:db8::51"}}, Visible: config.Duration(time.Minute)}})

	if _, err := s.moveNames(t.Context(), s.task(t, "move", "names", false)); problem.From(err).Code != "dns-unvalidated" {
		t.Fatalf("a validation has not passed: %v", err)
	}
	if _, err := s.moveNames(t.Context(), s.task(t, "move", "other-names", true)); problem.From(err).Code != "dns-unvalidated" {
		t.Fatalf("nothing validates the shop: %v", err)
	}
	if got := k.Values("api.example.eu", "A"); got != "192.0.2.1" {
		t.Fatalf("held, and moved to %q", got)
	}
	old := s.task(t, "move", "names", true)
	says := s.saysNames(old)
	if !strings.Contains(says, "api.example.eu A: 192.0.2.1 → 198.51.100.1") || k.Values("api.example.eu", "A") != "192.0.2.1" {
		t.Errorf("the dry run: %s", says)
	}
	if _, known, err := s.namesMoved(t.Context(), old); known || err != nil {
		t.Fatalf("nothing has moved yet: %v", err)
	}
	r, err := s.moveNames(t.Context(), old)
	if err != nil || k.Values("api.example.eu", "A") != "198.51.100.1" || k.Values("api.example.eu", "AAAA") != "2001:db8::51" || r.Facts["authorities"] != "true" || r.Facts["visible_after_gate"] == "" {
		t.Fatalf("%+v %v", r, err)
	}
	t.Logf("visible %s after the gate", r.Facts["visible_after_gate"])
	if _, known, err := s.namesMoved(t.Context(), old); !known || err != nil {
		t.Fatalf("a leader that looks does not see it: %v", err)
	}
	s.lead(t)
	again := s.task(t, "move", "names", true)
	if _, err := s.moveNames(t.Context(), again); err != nil {
		t.Fatalf("the next leader does it again: %v", err)
	}
	if _, err := s.moveNames(t.Context(), old); !errors.Is(err, member.ErrNotLeader) && !strings.Contains(err.Error(), "newer") {
		t.Fatalf("a leader of an older epoch moved names: %v", err)
	}
	var kept keptNames
	if v, err := s.store.Get(t.Context(), namesPath(old)); err != nil || v.Decode(&kept) != nil || kept.First.Zones[0].Changes[0].Before.Values[0] != "192.0.2.1" {
		t.Errorf("what puts the names back is not kept: %+v %v", kept, err)
	}
}

func own(name string) gateway.ProviderConfig {
	yes := true
	return gateway.ProviderConfig{Name: name, Kind: "openai-compatible", BaseURL: "http://127.0.0.1:1", Own: &yes, Controller: "FI", Processing: []string{"FI"}, Models: []gateway.ProviderModelConfig{{Name: "m", Tier: "routine"}}}
}

func TestASwitchOfModelsIsFollowedByEveryGatewayAndGivenBack(t *testing.T) {
	s := world1(t, ContinuityConfig{Suppliers: []supplier.Config{{Name: "home-host", Providers: []string{"ollama"}}}})
	var err error
	if s.gateway, err = gateway.New(gateway.Options{Config: gateway.Config{Providers: []gateway.ProviderConfig{own("ollama"), own("abroad")}}, Metrics: gateway.NewMetrics(prometheus.NewRegistry()), Log: s.log}); err != nil {
		t.Fatal(err)
	}
	task := s.task(t, "reroute", "switch", true)
	if says := s.saysSwitch(task); !strings.HasPrefix(says, "Takes ollama out of use on every gateway.") || len(s.gateway.Drained()) != 0 {
		t.Errorf("the dry run: %s", says)
	}
	ctx, stop := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() { s.followRouting(ctx); close(followed) }()
	defer func() { stop(); <-followed }()

	doers := s.worldDoers(&order.Desk{Store: s.store})
	r, err := doers["switch"].Do(t.Context(), task)
	if err != nil || r.Facts["out_of_use"] != "ollama" || r.Facts["followed_by"] != "node1" || !slices.Equal(s.gateway.Drained(), []string{"ollama"}) {
		t.Fatalf("%+v %v, out of use: %v", r, err, s.gateway.Drained())
	}
	if r, err := doers["switch"].Do(t.Context(), task); err != nil || r.Facts["out_of_use"] != "ollama" {
		t.Fatalf("twice: %+v %v", r, err)
	}
	back := s.task(t, "reroute", "back", true)
	back.Run.Steps[0].State, back.Run.Steps[0].Receipt = recovery.Done, &r
	if says := s.saysFailback(back); says != "Gives ollama back to every gateway." {
		t.Error(says)
	}
	other := back
	other.Run.ID = "rec-20261123-others"
	if _, err := doers["failback"].Do(t.Context(), other); err != nil || len(s.gateway.Drained()) != 1 {
		t.Fatalf("a run gave back what another took: %v %v", err, s.gateway.Drained())
	}
	if r, err := doers["failback"].Do(t.Context(), back); err != nil || r.Facts["followed_by"] != "node1" || len(s.gateway.Drained()) != 0 {
		t.Fatalf("%+v %v, out of use: %v", r, err, s.gateway.Drained())
	}
}

func TestAFenceByPowerIsOneOnlyWhereTheSupplierSaysOff(t *testing.T) {
	sim := suppliertest.NewRobot("u", "p")
	server := httptest.NewTLSServer(sim)
	defer server.Close()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("p"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		server string
		holds  bool
	}{{"321", true}, {"322", false}} {
		s := world1(t, ContinuityConfig{Suppliers: []supplier.Config{{Name: "home-host", Kind: "hetzner-robot", User: "u", Password: config.Secret{File: path}, Servers: map[string]string{"node5": c.server}}}})
		s.apart = time.Millisecond
		s.machines["home-host"] = &supplier.Robot{Endpoint: server.URL, Client: server.Client(), User: "u", Password: config.Secret{File: path}}
		r, err := s.fenceByPower(t.Context(), s.task(t, "cut", "fence", true))
		if c.holds && (err != nil || len(r.Fences) != 1 || r.Fences[0].Node != "node5" || r.Fences[0].By != recovery.FencedByPower || r.Fences[0].Facts["state"] != "off") {
			t.Errorf("%+v %v", r, err)
		}
		if !c.holds && (err == nil || len(r.Fences) != 0 || !strings.Contains(err.Error(), "does not say how the power")) {
			t.Errorf("a server of whose power nothing is known: %+v %v", r, err)
		}
	}
}

func TestMistakesInWhatARecoveryMayDoNameTheirField(t *testing.T) {
	for want, c := range map[string]ContinuityConfig{
		"continuity.allow.units[0].name":    {Allow: host.Config{Units: []host.Unit{{Name: "caddy"}}}},
		"continuity.suppliers[1].name":      {Suppliers: []supplier.Config{{Name: "a"}, {Name: "a"}}},
		"continuity.suppliers[1].servers.n": {Suppliers: []supplier.Config{{Name: "a", Kind: "hetzner-cloud", Servers: map[string]string{"n": "1"}}, {Name: "b", Kind: "hetzner-robot", Servers: map[string]string{"n": "2"}}}},
		"continuity.suppliers[0].kind":      {Suppliers: []supplier.Config{{Name: "a", Kind: "x"}}},
		"continuity.dns.zones[0].provider":  {DNS: DNSConfig{Zones: []ZoneConfig{{Name: "x.eu", Provider: "bind"}}}},
		"continuity.dns.addresses.node-1":   {DNS: DNSConfig{Addresses: map[string][]string{"node-1": {"www.example.eu"}}}},
		"continuity.dns.ttl":                {DNS: DNSConfig{TTL: config.Duration(time.Millisecond)}},
	} {
		if err := c.check(); err == nil || problem.From(err).Field != want {
			t.Errorf("%s: %v (%s)", want, err, problem.From(err).Field)
		}
	}
	if err := (ContinuityConfig{}).check(); err != nil {
		t.Error(err)
	}
}

func TestAProofOfAQuarantineNeedsADoorThatWasOpenBefore(t *testing.T) {
	for _, c := range []struct {
		before, after map[string]string
		proven        bool
	}{
		{map[string]string{"b": "22=open"}, map[string]string{"b": "22=silent"}, true},
		{map[string]string{"b": "22=open"}, map[string]string{"b": "22=open"}, false},
		{map[string]string{"b": "22=silent"}, map[string]string{"b": "22=silent"}, false},
		{nil, nil, false},
	} {
		if words, proven := quarantineProof(c.before, c.after); proven != c.proven || words == "" {
			t.Errorf("%v %v: %q %v", c.before, c.after, words, proven)
		}
	}
}

func TestWhatIsNotWholeIsNoCaptureForWhichAWipeWaits(t *testing.T) {
	whole := host.Captured{Name: "disk", Kind: "disk", Hash: "x", Size: 1, Place: "/a", Checked: true}
	if e := evidenceOf("n", whole); e.Capture != incident.CaptureDisk || !e.Checked || e.Place != "n:/a" {
		t.Errorf("%+v", e)
	}
	for _, c := range []host.Captured{{Kind: "disk", Hash: "x", Checked: true, Cut: true}, {Kind: "disk", Hash: "x", Checked: true, Failed: "it ended with 1"}} {
		if e := evidenceOf("n", c); e.Capture != incident.CaptureOther || e.Checked {
			t.Errorf("%+v", e)
		}
	}
	if evidenceOf("n", host.Captured{Failed: "nothing"}) != nil {
		t.Error("nothing is evidence")
	}
}

func TestANodeKnocksAtTheFleetsDoorsAndNowhereElse(t *testing.T) {
	s := world1(t, ContinuityConfig{})
	nodes, err := s.Member().Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.carryProbe(t.Context(), order.Order{Args: map[string]string{"doors": "192.0.2.1:22"}}, nil); problem.From(err).Code != "probe-elsewhere" {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(hostOf(nodes[0]), "0"))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	facts, _, err := s.carryProbe(t.Context(), order.Order{Args: map[string]string{"doors": l.Addr().String()}}, nil)
	if err != nil || facts["seen"] != port+"=open" {
		t.Fatalf("%v %v", facts, err)
	}
}
