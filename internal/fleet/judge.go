package fleet

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// watchers are told of verdicts, in the order in which they were given.
type watchers struct {
	mu    sync.Mutex
	next  int
	local map[int]func(verdict.Verdict)
	ruled map[int]func(verdict.Verdict)
}

func (w *watchers) add(ruled bool, f func(verdict.Verdict)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.local == nil {
		w.local, w.ruled = map[int]func(verdict.Verdict){}, map[int]func(verdict.Verdict){}
	}
	to, id := w.local, w.next
	if ruled {
		to = w.ruled
	}
	w.next++
	to[id] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(to, id)
	}
}

func (w *watchers) tell(ruled bool, news []verdict.Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.local
	if ruled {
		to = w.ruled
	}
	for _, v := range news {
		for _, id := range slices.Sorted(maps.Keys(to)) {
			to[id](v)
		}
	}
}

// Watch calls f whenever this node's own view of a subject changes: at once,
// and without asking anybody, so that traffic can go around what it no longer
// reaches. Nothing that cannot be taken back may follow from it. f must not
// block, and must not call stop.
func (s *Service) Watch(f func(verdict.Verdict)) (stop func()) { return s.watch.add(false, f) }

// WatchRuled calls f for every verdict that the leader wrote: what the fleet
// holds, with its epoch. f must not block, and must not call stop.
func (s *Service) WatchRuled(f func(verdict.Verdict)) (stop func()) { return s.watch.add(true, f) }

// Held is what this node holds of a subject now.
func (s *Service) Held(subject string) (verdict.Verdict, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.held[subject]
	return v, ok
}

// Ruled is what the fleet holds of a subject, as far as this node has heard.
func (s *Service) Ruled(subject string) (verdict.Verdict, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.ruled[subject]
	return v, ok
}

func (s *Service) judging(ctx context.Context) {
	every(ctx, s.o.Every, s.kick, func() {
		s.mu.Lock()
		before := maps.Clone(s.held)
		for subject, v := range s.ruled {
			if v.State == verdict.Lost {
				before[subject] = v // which this node alone does not end
			}
		}
		scene := s.scene(s.m.Name(), before)
		s.mu.Unlock()
		if len(scene.Members) == 0 {
			return
		}
		now := verdict.Judge(scene)
		s.mu.Lock()
		news := changed(s.held, now)
		s.held, s.heldAt = now, scene.Now
		s.mu.Unlock()
		s.watch.tell(false, news)
	})
}

// soonAgain has a failure judged a second time once it is old enough to be a
// suspicion, instead of at the next turn.
func (s *Service) soonAgain() {
	after := s.o.Rules.Suspect
	if after == 0 {
		after = verdict.Default().Suspect
	}
	time.AfterFunc(after+time.Millisecond, s.soon)
}

// changed lists what is held otherwise than before, in order.
func changed(before, now map[string]verdict.Verdict) (out []verdict.Verdict) {
	for _, subject := range slices.Sorted(maps.Keys(now)) {
		if signature(before[subject]) != signature(now[subject]) {
			out = append(out, now[subject])
		}
	}
	return out
}

// sign is what of a verdict has to change for it to be another. Its words
// change with every answer's time.
type sign struct {
	state            verdict.State
	also             string
	own, back        bool
	accuses, defends string
}

func signature(v verdict.Verdict) sign {
	also := ""
	for _, a := range v.Also {
		also += string(a) + " "
	}
	return sign{v.State, also, v.Own, !v.Back.IsZero(), who(v.For), who(v.Against)}
}

func who(of []verdict.Observation) string {
	var names []string
	for _, o := range of {
		names = append(names, o.Observer+" "+o.Signal)
	}
	slices.Sort(names)
	out := ""
	for _, n := range slices.Compact(names) {
		out += n + ","
	}
	return out
}

// scene is everything that this node knows now.
func (s *Service) scene(speaker string, before map[string]verdict.Verdict) verdict.Scene {
	sc := verdict.Scene{Now: s.o.Now(), Speaker: speaker, Before: before, Rules: s.o.Rules, Subjects: s.subjects}
	for _, n := range s.nodes {
		m := verdict.Member{Name: n.Name, Votes: n.Votes(), Drained: n.Draining, Bare: s.bare(n)}
		if p := s.beats[n.Name]; p != nil {
			m.Heard, m.LeaseEnded, m.Offset = p.heard, p.ended, p.offset()
		}
		if n.Name == s.m.Name() {
			m.Offset = 0
		}
		sc.Members = append(sc.Members, m)
	}
	for _, o := range s.own {
		sc.Observations = append(sc.Observations, o.Observation)
	}
	for _, subjects := range s.seen {
		for _, list := range subjects {
			sc.Observations = append(sc.Observations, list...)
		}
	}
	return sc
}

// bare reports whether a node has no role beside its vote and hosts nothing of
// the plan's.
func (s *Service) bare(n member.Node) bool {
	for _, role := range n.Roles {
		if role != member.Fleet && role != member.Witness {
			return false
		}
	}
	return !slices.ContainsFunc(s.subjects, func(sub verdict.Subject) bool { return slices.Contains(sub.Hosts, n.Name) })
}
