package fleet

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/probe"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// sight is what this node sees by one probe.
type sight struct {
	verdict.Observation
	by      string      // the runner's probe; empty: this service's own
	changes []time.Time // within the window
}

// heartbeat is what a node writes every second. Whatever it has published and
// not taken back holds until then: only changes are written beside it.
type heartbeat struct {
	At time.Time `json:"at"` // by its own clock
}

// published is what one observer says of one subject by one probe.
type published struct {
	Probe   string        `json:"p"`
	Signal  string        `json:"s"`
	Ends    string        `json:"e,omitempty"`
	OK      bool          `json:"o,omitempty"`
	Code    string        `json:"c,omitempty"`
	Since   time.Time     `json:"t"`
	Took    time.Duration `json:"d,omitempty"`
	Changes int           `json:"n,omitempty"`
}

// Tell takes what a probe showed. Where it showed nothing, this node says
// nothing about it. What looks at a function on another node is a look at that
// node too.
func (s *Service) Tell(r probe.Result) {
	now := s.o.Now()
	s.mu.Lock()
	var changed bool
	if r.Function != "" {
		changed = s.take(r, r.Probe, verdict.Function(r.Function), now)
	}
	if r.Outside != "" {
		changed = s.take(r, r.Probe, verdict.Outside(r.Outside), now)
	}
	if _, known := s.nodes[r.Node]; known && r.Node != s.m.Name() && shows(r.Signal) {
		name := r.Probe
		if r.Function != "" {
			name = "node " + r.Node + " by " + r.Probe
		}
		changed = s.take(r, name, verdict.Node(r.Node), now) || changed
	}
	s.mu.Unlock()
	if changed {
		s.soon()
		if !r.OK {
			s.soonAgain()
		}
	}
}

// shows reports whether a signal shows from elsewhere whether a machine is
// there.
func shows(signal probe.Signal) bool {
	switch signal {
	case probe.Peer, probe.HTTPS, probe.TLS, probe.TCP, probe.SSH, probe.SMTP, probe.PostgreSQL:
		return true
	}
	return false
}

func (s *Service) take(r probe.Result, name, subject string, now time.Time) (changed bool) {
	old, had := s.own[name]
	ok := r.OK
	if subject == verdict.Node(r.Node) && verdict.Answered(string(r.Code)) {
		ok = true // whatever is wrong with the answer, a machine gave it
	}
	if r.Inconclusive {
		if had {
			delete(s.own, name)
			s.dirty[subject] = true
		}
		return had
	}
	if !had {
		if subject == verdict.Node(r.Node) && !ok {
			return false // a way to a node that never worked accuses nobody
		}
		old = &sight{Observation: verdict.Observation{Observer: s.m.Name(), Subject: subject, Signal: string(r.Signal), Probe: name, Ends: s.endOf(r)}}
		if r.Signal != probe.Peer {
			old.by = r.Probe
		}
		s.own[name] = old
	}
	slowly := s.o.Rules.Slow
	if slowly == 0 {
		slowly = verdict.Default().Slow
	}
	changed = !had || old.OK != ok
	if changed {
		if had {
			old.changes = append(old.changes, now)
		}
		// Since the look began that showed it, by this node's own clock.
		old.OK, old.Since, old.Heard, old.Watched = ok, now.Add(-max(0, r.Took)), now, had
	}
	before := old.Changes
	old.Changes = s.recent(old, now)
	publish := changed || old.Code != string(r.Code) || (old.Took > slowly) != (r.Took > slowly) || old.Changes != before
	old.Code, old.Took, old.At = string(r.Code), r.Took, now.Add(-max(0, r.Took))
	if publish {
		s.dirty[subject] = true
	}
	return changed
}

// recent counts the changes within the window, and forgets the others.
func (s *Service) recent(o *sight, now time.Time) int {
	window := s.o.Rules.FlapWindow
	if window == 0 {
		window = verdict.Default().FlapWindow
	}
	o.changes = slices.DeleteFunc(o.changes, func(at time.Time) bool { return now.Sub(at) > window })
	return len(o.changes)
}

// endOf is where a probe connects to.
func (s *Service) endOf(r probe.Result) string {
	if r.Signal == probe.Peer {
		return s.nodes[r.Node].Addresses.Clients
	}
	spec, ok := s.runner.Watched()[r.Probe]
	if !ok {
		return ""
	}
	target, err := probe.Parse(spec.Kind, spec.Target)
	if err != nil {
		return ""
	}
	return ends(target)
}

// publishing writes the heartbeat, and with it what has changed.
func (s *Service) publishing(ctx context.Context) {
	var under *member.Lease
	open := false
	every(ctx, s.o.Every, nil, func() {
		lease := s.m.Presence()
		if lease == nil {
			return
		}
		if lease != under {
			s.publishAll() // what was under the old lease has gone with it
			under = lease
			open = false
		}
		if !open {
			open = s.publishDoors(ctx)
		}
		s.publish(ctx, lease)
	})
}

// publishDoors tells where else this node can be looked at. It stays when the
// lease has ended: then most of all.
func (s *Service) publishDoors(ctx context.Context) bool {
	one, cancel := context.WithTimeout(ctx, 2*s.o.Every)
	defer cancel()
	_, err := s.m.Store().Put(one, doorsPath+s.m.Name(), slices.Concat([]Door{}, s.o.Doors))
	return err == nil
}

func (s *Service) publishAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.own {
		s.dirty[o.Subject] = true
	}
}

// batch is how many values go into one step of the store, which takes 128.
const batch = 100

func (s *Service) publish(ctx context.Context, lease *member.Lease) {
	s.mu.Lock()
	subjects := make([]string, 0, len(s.dirty))
	for subject := range s.dirty {
		subjects = append(subjects, subject)
	}
	slices.Sort(subjects)
	said := s.said(subjects)
	clear(s.dirty)
	s.mu.Unlock()

	self := s.m.Name()
	writes := []member.Write{{Path: beatsPath + self, Value: heartbeat{s.o.Now().Round(0).UTC()}}}
	for {
		n := min(len(subjects), batch)
		for _, subject := range subjects[:n] {
			w := member.Write{Path: seenPath + self + "/" + subject}
			if len(said[subject]) > 0 {
				w.Value = said[subject]
			}
			writes = append(writes, w)
		}
		if err := s.put(ctx, writes, lease); err != nil {
			s.again(subjects, err)
			return
		}
		if subjects = subjects[n:]; len(subjects) == 0 {
			return
		}
		writes = nil
	}
}

func (s *Service) said(subjects []string) map[string][]published {
	out := map[string][]published{}
	for _, o := range s.own {
		if _, wanted := slices.BinarySearch(subjects, o.Subject); wanted {
			out[o.Subject] = append(out[o.Subject], published{o.Probe, o.Signal, o.Ends, o.OK, o.Code, o.Since.Round(0).UTC(), o.Took, o.Changes})
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b published) int { return strings.Compare(a.Probe, b.Probe) })
	}
	return out
}

func (s *Service) put(ctx context.Context, writes []member.Write, lease *member.Lease) error {
	one, cancel := context.WithTimeout(ctx, 2*s.o.Every)
	defer cancel()
	_, err := s.m.Store().PutAll(one, writes, member.Under(lease))
	return err
}

// again keeps what could not be written for the next heartbeat.
func (s *Service) again(subjects []string, err error) {
	s.log.Debug("what this node sees could not be published", "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, subject := range subjects {
		s.dirty[subject] = true
	}
}
