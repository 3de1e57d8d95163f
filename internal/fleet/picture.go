package fleet

import (
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// Picture is the fleet as this node sees it, and how old that is.
type Picture struct {
	Node      string         `json:"node"` // whose view it is
	At        time.Time      `json:"at"`
	Majority  bool           `json:"majority"`
	Words     string         `json:"words"`
	Leader    string         `json:"leader,omitempty"`
	Epoch     int64          `json:"epoch,omitempty"`
	Known     time.Time      `json:"known,omitzero"` // when a majority was last heard; what the fleet holds is not newer
	Nodes     []NodeView     `json:"nodes"`
	Functions []FunctionView `json:"functions"`
	Outside   []OutsideView  `json:"outside,omitempty"`
}

// NodeView is one node.
type NodeView struct {
	Name     string          `json:"name"`
	Roles    []member.Role   `json:"roles"`
	Votes    bool            `json:"votes"`
	Self     bool            `json:"self,omitempty"`
	Leader   bool            `json:"leader,omitempty"`
	Draining bool            `json:"draining,omitempty"`
	Version  string          `json:"version,omitempty"`
	Heard    time.Time       `json:"heard,omitzero"` // its last heartbeat
	Clock    time.Duration   `json:"clock_ns"`       // ahead of this node's
	Verdict  verdict.Verdict `json:"verdict"`
	Sees     []Sight         `json:"sees,omitempty"` // one of each other node that it looks at
}

// Sight is what one node sees of another.
type Sight struct {
	Node  string   `json:"node"`
	OK    bool     `json:"ok"` // by at least one signal
	By    []string `json:"by,omitempty"`
	Not   []string `json:"not,omitempty"` // the signals by which it does not
	Codes []string `json:"codes,omitempty"`
}

// FunctionView is one function of the plan.
type FunctionView struct {
	Name     string          `json:"name"`
	Title    string          `json:"title,omitempty"`
	Hosts    []string        `json:"hosts,omitempty"`
	Critical bool            `json:"critical,omitempty"`
	Verdict  verdict.Verdict `json:"verdict"`
	Looked   bool            `json:"looked"` // somebody looks at it
	Uptime   *probe.Uptime   `json:"uptime,omitempty"`
	Budget   *probe.Budget   `json:"budget,omitempty"`
}

// OutsideView is another fleet, as this one sees it from outside.
type OutsideView struct {
	Name    string          `json:"name"`
	Title   string          `json:"title,omitempty"`
	Verdict verdict.Verdict `json:"verdict"`
	Looked  bool            `json:"looked"`
}

// month is what the uptime of a function is shown over.
const month = 30 * 24 * time.Hour

// Picture shows everything. What the fleet holds is shown where a majority is
// heard, and this node's own view otherwise.
func (s *Service) Picture() Picture {
	s.mu.Lock()
	now := s.o.Now()
	p := Picture{Node: s.m.Name(), At: now.UTC(), Leader: s.leader, Epoch: s.epoch}
	whole := s.held[verdict.Fleet]
	p.Majority, p.Words = whole.State != verdict.Unknown && !s.heldAt.IsZero(), whole.Words
	p.Known = s.known(p.Majority, now)
	for _, n := range s.nodes {
		p.Nodes = append(p.Nodes, s.nodeView(n))
	}
	subjects := slices.Clone(s.subjects)
	views := map[string]verdict.Verdict{}
	looked := map[string]bool{}
	for _, sub := range subjects {
		views[sub.Name] = s.view(sub.Name)
		looked[sub.Name] = s.looked(sub.Name)
	}
	s.mu.Unlock()
	slices.SortFunc(p.Nodes, func(a, b NodeView) int { return strings.Compare(a.Name, b.Name) })
	for _, sub := range subjects {
		if name, ok := verdict.IsOutside(sub.Name); ok {
			p.Outside = append(p.Outside, s.outsideView(name, views[sub.Name], looked[sub.Name]))
			continue
		}
		p.Functions = append(p.Functions, s.functionView(sub, views[sub.Name], looked[sub.Name], now))
	}
	return p
}

// known is when a majority was last heard: the heartbeat without which there
// would have been none.
func (s *Service) known(majority bool, now time.Time) time.Time {
	if majority {
		return now.UTC()
	}
	var beats []time.Time
	voters := 0
	for _, n := range s.nodes {
		if !n.Votes() {
			continue
		}
		voters++
		if b := s.beats[n.Name]; b != nil && !b.heard.IsZero() {
			beats = append(beats, b.heard)
		}
	}
	if len(beats) < voters/2+1 || voters == 0 {
		return time.Time{}
	}
	slices.SortFunc(beats, func(a, b time.Time) int { return b.Compare(a) })
	return beats[voters/2].UTC()
}

// view is what is shown of a subject: a loss that the fleet holds, and what
// this node holds itself otherwise.
func (s *Service) view(subject string) verdict.Verdict {
	held, ok := s.held[subject]
	ruled, wrote := s.ruled[subject]
	majority := s.held[verdict.Fleet].State != verdict.Unknown
	switch {
	case wrote && majority && ruled.State == held.State:
		held.Epoch, held.Decided, held.Since = ruled.Epoch, ruled.Decided, ruled.Since
		return held
	case wrote && (!ok || majority && ruled.State == verdict.Lost):
		return ruled
	}
	return held
}

func (s *Service) looked(subject string) bool {
	for _, o := range s.own {
		if o.Subject == subject {
			return true
		}
	}
	for _, by := range s.seen {
		if len(by[subject]) > 0 {
			return true
		}
	}
	return false
}

func (s *Service) nodeView(n member.Node) NodeView {
	v := NodeView{Name: n.Name, Roles: n.Roles, Votes: n.Votes(), Self: n.Name == s.m.Name(), Leader: n.Name == s.leader, Draining: n.Draining, Version: n.Version,
		Verdict: s.view(verdict.Node(n.Name))}
	if b := s.beats[n.Name]; b != nil {
		v.Heard = b.heard.UTC()
		if !v.Self {
			v.Clock = b.offset()
		}
	}
	for _, other := range s.nodes {
		if sight, ok := s.sightOf(n.Name, other.Name); ok {
			v.Sees = append(v.Sees, sight)
		}
	}
	slices.SortFunc(v.Sees, func(a, b Sight) int { return strings.Compare(a.Node, b.Node) })
	return v
}

func (s *Service) sightOf(observer, node string) (out Sight, ok bool) {
	list := s.seen[observer][verdict.Node(node)]
	if observer == s.m.Name() {
		list = nil
		for _, o := range s.own {
			if o.Subject == verdict.Node(node) {
				list = append(list, o.Observation)
			}
		}
	}
	out.Node = node
	for _, o := range list {
		if o.OK {
			out.OK, out.By = true, append(out.By, o.Signal)
			continue
		}
		out.Not = append(out.Not, o.Signal)
		if !slices.Contains(out.Codes, o.Code) {
			out.Codes = append(out.Codes, o.Code)
		}
	}
	slices.Sort(out.By)
	slices.Sort(out.Not)
	slices.Sort(out.Codes)
	return out, len(list) > 0
}

func (s *Service) functionView(sub verdict.Subject, v verdict.Verdict, looked bool, now time.Time) FunctionView {
	name := verdict.Name(sub.Name)
	f := FunctionView{Name: name, Hosts: sub.Hosts, Verdict: v, Looked: looked}
	p := s.o.Plan()
	if p == nil {
		return f
	}
	for _, planned := range p.Functions {
		if planned.Name != name {
			continue
		}
		f.Title, f.Critical = planned.Title, planned.Critical != nil && *planned.Critical
		if s.o.History == nil {
			continue
		}
		up := s.o.History.Uptime(name, now.Add(-month), now)
		f.Uptime = &up
		if objective, ok := probe.ObjectiveOf(planned); ok {
			budget := s.o.History.Budget(name, objective, now)
			f.Budget = &budget
		}
	}
	return f
}

func (s *Service) outsideView(name string, v verdict.Verdict, looked bool) OutsideView {
	out := OutsideView{Name: name, Verdict: v, Looked: looked}
	if p := s.o.Plan(); p != nil {
		for _, w := range p.Watches {
			if w.Name == name {
				out.Title = w.Title
			}
		}
	}
	return out
}
