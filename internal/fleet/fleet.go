// Package fleet knows which nodes and functions are there, who says so, who
// leads, and when that cannot be known.
//
// Every node looks at every function and every other node, publishes what it
// sees under its lease, and judges for itself from what everybody published;
// its own suspicion acts at once and only here. What the fleet holds is written
// by the leader alone, each write guarded by its epoch. Package verdict holds
// the rules.
package fleet

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/plan"
)

// Options are what a node needs to watch and to judge.
type Options struct {
	Member  *member.Member
	Plan    func() *plan.File // in force; may be nil, and may return nil
	Env     probe.Env
	History *probe.History // may be nil

	// Look says how a node of the fleet is looked at beside its own Foundry's
	// door: by HTTPS, by SSH. A way that never worked accuses nobody.
	Look func(member.Node) []probe.Spec

	// Doors are other doors of this node that the others look at: a way to see
	// it that does not depend on its place in the fleet.
	Doors []Door

	Every time.Duration // between heartbeats and looks at peers: 1 s
	Rules verdict.Rules
	Now   func() time.Time // with a monotonic part, as time.Now gives it
	Log   *slog.Logger
}

// Service watches, publishes, judges, and leads when it is its turn.
type Service struct {
	o      Options
	log    *slog.Logger
	m      *member.Member
	runner *probe.Runner
	pings  *pings

	mu       sync.Mutex
	nodes    map[string]member.Node
	beats    map[string]*pulse
	seen     map[string]map[string][]verdict.Observation // by observer and subject
	own      map[string]*sight                           // by probe
	dirty    map[string]bool                             // subjects to publish
	doors    map[string][]Door                           // of other nodes
	subjects []verdict.Subject
	ruled    map[string]verdict.Verdict // what the fleet holds
	held     map[string]verdict.Verdict // what this node holds
	heldAt   time.Time
	leader   string
	epoch    int64
	term     *member.Term

	watch watchers
	kick  chan struct{}
}

// pulse is what is known of a member's life.
type pulse struct {
	revision int64
	heard    time.Time
	ended    time.Time
	offsets  []time.Duration // of its clock, by the last heartbeats
}

// New prepares a service. Nothing happens before [Service.Run].
func New(o Options) (*Service, error) {
	if o.Member == nil {
		return nil, errors.New("fleet: a member is needed")
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Plan == nil {
		o.Plan = func() *plan.File { return nil }
	}
	s := &Service{o: o, log: o.Log, m: o.Member, nodes: map[string]member.Node{}, beats: map[string]*pulse{}, seen: map[string]map[string][]verdict.Observation{},
		own: map[string]*sight{}, dirty: map[string]bool{}, doors: map[string][]Door{}, ruled: map[string]verdict.Verdict{}, held: map[string]verdict.Verdict{}, kick: make(chan struct{}, 1)}
	s.pings = &pings{busy: map[string]bool{}, tried: map[probe.Spec]bool{}}
	s.runner = probe.NewRunner(probe.RunnerOptions{Env: o.Env, Tell: s.Tell, History: o.History, Log: o.Log})
	return s, s.Replan()
}

// Run works until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, part := range []func(context.Context){
		s.hearNodes, s.hearLeases, s.hearBeats, s.hearSeen, s.hearVerdicts, s.hearLeader, s.hearDoors,
		s.publishing, s.pinging, s.judging, s.leading,
		func(ctx context.Context) { _ = s.runner.Run(ctx) },
	} {
		all.Go(func() { part(ctx) })
	}
	<-ctx.Done()
	all.Wait()
	s.pings.wait()
	return nil
}

// Replan takes over the plan in force: what is watched, and by whom.
func (s *Service) Replan() error {
	p := s.o.Plan()
	var specs []probe.Spec
	if p != nil {
		specs = probe.FromPlan(p, s.m.Name())
	}
	s.mu.Lock()
	s.subjects = subjectsOf(p, slices.Sorted(maps.Keys(s.nodes)))
	for _, n := range s.nodes {
		specs = append(specs, s.looks(n)...)
	}
	watched := map[string]bool{}
	for _, spec := range specs {
		watched[spec.Name] = true
	}
	for name, o := range s.own {
		if o.by != "" && !watched[o.by] {
			delete(s.own, name)
			s.dirty[o.Subject] = true
		}
	}
	s.mu.Unlock()
	return s.runner.Set(specs)
}

// every calls f now and then every d, and whenever kick says so.
func every(ctx context.Context, d time.Duration, kick <-chan struct{}, f func()) {
	ticks := time.NewTicker(d)
	defer ticks.Stop()
	for {
		f()
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		case <-kick:
		}
	}
}

func (s *Service) soon() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Store paths.
const (
	nodesPath    = "nodes/"
	leasesPath   = "leases/"
	beatsPath    = "beats/"
	seenPath     = "seen/"
	doorsPath    = "doors/"
	verdictsPath = "verdicts/"
	provenPath   = "confirmed/"
	leaderPath   = "leader"
)
