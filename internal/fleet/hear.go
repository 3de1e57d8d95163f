package fleet

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// follow keeps up with what lies below a prefix: the whole at first and
// whenever the thread is lost, then each change. whole is told whether what it
// gets is only what this member has, which may be old.
func (s *Service) follow(ctx context.Context, prefix string, whole func([]member.Entry), change func(member.Event)) {
	first := true
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		entries, at, err := s.m.Store().List(one, prefix)
		cancel()
		if err != nil {
			if first && ctx.Err() == nil {
				if entries, _, err := s.m.Store().ListLocal(ctx, prefix); err == nil {
					whole(entries)
					first = false
				}
			}
			s.pause(ctx)
			continue
		}
		first = false
		whole(entries)
		for e := range s.m.Store().Watch(ctx, prefix, at) {
			if e.Err != nil {
				if !errors.Is(e.Err, context.Canceled) {
					s.log.Debug("lost the thread of the fleet's store", "prefix", prefix, "error", e.Err)
				}
				break
			}
			change(e)
		}
		s.pause(ctx)
	}
}

func (s *Service) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(s.o.Every / 4):
	}
}

func (s *Service) hearNodes(ctx context.Context) {
	s.follow(ctx, nodesPath, func(all []member.Entry) {
		s.mu.Lock()
		clear(s.nodes)
		for _, e := range all {
			var n member.Node
			if e.Decode(&n) == nil {
				s.nodes[n.Name] = n
			}
		}
		s.mu.Unlock()
		s.replanned()
	}, func(e member.Event) {
		var n member.Node
		name := strings.TrimPrefix(e.Path, nodesPath)
		if !e.Deleted && e.Decode(&n) != nil {
			return
		}
		s.mu.Lock()
		if e.Deleted {
			delete(s.nodes, name)
			delete(s.beats, name)
			delete(s.seen, name)
		} else {
			s.nodes[name] = n
		}
		s.mu.Unlock()
		s.replanned()
	})
}

func (s *Service) replanned() {
	if err := s.Replan(); err != nil {
		s.log.Error("the probes of the plan cannot all be watched", "error", err)
	}
	s.soon()
}

func (s *Service) hearDoors(ctx context.Context) {
	take := func(e member.Entry) {
		var doors []Door
		if e.Decode(&doors) == nil {
			s.doors[strings.TrimPrefix(e.Path, doorsPath)] = doors
		}
	}
	s.follow(ctx, doorsPath, func(all []member.Entry) {
		s.mu.Lock()
		for _, e := range all {
			take(e)
		}
		s.mu.Unlock()
		s.replanned()
	}, func(e member.Event) {
		s.mu.Lock()
		if e.Deleted {
			delete(s.doors, strings.TrimPrefix(e.Path, doorsPath))
		} else {
			take(e.Entry)
		}
		s.mu.Unlock()
		s.replanned()
	})
}

func (s *Service) pulse(name string) *pulse {
	if s.beats[name] == nil {
		s.beats[name] = &pulse{}
	}
	return s.beats[name]
}

func (s *Service) hearLeases(ctx context.Context) {
	s.follow(ctx, leasesPath, func(all []member.Entry) {
		s.mu.Lock()
		defer s.mu.Unlock()
		there := map[string]bool{}
		for _, e := range all {
			there[strings.TrimPrefix(e.Path, leasesPath)] = true
		}
		for name := range s.nodes {
			s.lease(name, there[name])
		}
		for name := range there {
			s.lease(name, true)
		}
	}, func(e member.Event) {
		s.mu.Lock()
		s.lease(strings.TrimPrefix(e.Path, leasesPath), !e.Deleted)
		s.mu.Unlock()
		s.soon()
	})
}

func (s *Service) lease(name string, holds bool) {
	p := s.pulse(name)
	switch {
	case holds:
		p.ended = time.Time{}
	case p.ended.IsZero():
		p.ended = s.o.Now()
	}
}

func (s *Service) hearBeats(ctx context.Context) {
	s.follow(ctx, beatsPath, func(all []member.Entry) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range all {
			s.beat(e)
		}
	}, func(e member.Event) {
		if e.Deleted {
			return // its lease says so
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.beat(e.Entry)
	})
}

// offsets is of how many heartbeats the difference of a clock is taken: the
// quickest of them has the least delay in it.
const offsets = 5

func (s *Service) beat(e member.Entry) {
	p := s.pulse(strings.TrimPrefix(e.Path, beatsPath))
	if e.Revision <= p.revision {
		return
	}
	now := s.o.Now()
	p.revision, p.heard = e.Revision, now
	var b heartbeat
	if e.Decode(&b) == nil {
		p.offsets = append(p.offsets, b.At.Sub(now.Round(0)))
		p.offsets = p.offsets[max(0, len(p.offsets)-offsets):]
	}
}

// offset is how far a clock is ahead of this node's. Delay only ever makes it
// seem behind.
func (p *pulse) offset() (most time.Duration) {
	for i, o := range p.offsets {
		if i == 0 || o > most {
			most = o
		}
	}
	return most
}

func (s *Service) hearSeen(ctx context.Context) {
	began := true
	s.follow(ctx, seenPath, func(all []member.Entry) {
		s.mu.Lock()
		defer s.mu.Unlock()
		old := s.seen
		s.seen = map[string]map[string][]verdict.Observation{}
		for _, e := range all {
			s.sees(e, old, !began)
		}
		began = false
	}, func(e member.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.Deleted {
			observer, subject, _ := strings.Cut(strings.TrimPrefix(e.Path, seenPath), "/")
			delete(s.seen[observer], subject)
			return
		}
		s.sees(e.Entry, s.seen, true)
	})
}

// sees takes over what an observer published. What it said before, and says
// still, keeps the time at which it was heard.
func (s *Service) sees(e member.Entry, old map[string]map[string][]verdict.Observation, watched bool) {
	observer, subject, _ := strings.Cut(strings.TrimPrefix(e.Path, seenPath), "/")
	var list []published
	if observer == s.m.Name() || e.Decode(&list) != nil {
		return
	}
	now := s.o.Now()
	out := make([]verdict.Observation, 0, len(list))
	for _, p := range list {
		o := verdict.Observation{Observer: observer, Subject: subject, Signal: p.Signal, Probe: p.Probe, Ends: p.Ends, OK: p.OK, Code: p.Code,
			Since: p.Since, At: now, Took: p.Took, Changes: p.Changes, Heard: now, Watched: watched}
		for _, was := range old[observer][subject] {
			if was.Probe == o.Probe && was.Signal == o.Signal && was.OK == o.OK && was.Since.Equal(o.Since) {
				o.Heard, o.Watched = was.Heard, was.Watched
			}
		}
		out = append(out, o)
	}
	if s.seen[observer] == nil {
		s.seen[observer] = map[string][]verdict.Observation{}
	}
	s.seen[observer][subject] = out
}

func (s *Service) hearVerdicts(ctx context.Context) {
	s.follow(ctx, verdictsPath, func(all []member.Entry) {
		ruled := map[string]verdict.Verdict{}
		for _, e := range all {
			var v verdict.Verdict
			if e.Decode(&v) == nil {
				ruled[v.Subject] = v
			}
		}
		s.mu.Lock()
		var news []verdict.Verdict
		for subject, v := range ruled {
			if s.ruled[subject].State != v.State {
				news = append(news, v)
			}
		}
		s.ruled = ruled
		s.mu.Unlock()
		s.watch.tell(true, news)
	}, func(e member.Event) {
		var v verdict.Verdict
		subject := strings.TrimPrefix(e.Path, verdictsPath)
		if !e.Deleted && e.Decode(&v) != nil {
			return
		}
		s.mu.Lock()
		if e.Deleted {
			delete(s.ruled, subject)
		} else {
			s.ruled[subject] = v
		}
		s.mu.Unlock()
		if !e.Deleted {
			s.watch.tell(true, []verdict.Verdict{v})
		}
		s.soon()
	})
}

func (s *Service) hearLeader(ctx context.Context) {
	take := func(e member.Entry, gone bool) {
		var who struct {
			Node string `json:"node"`
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leader, s.epoch = "", 0; !gone && e.Decode(&who) == nil {
			s.leader, s.epoch = who.Node, e.Created
		}
	}
	s.follow(ctx, leaderPath, func(all []member.Entry) {
		take(member.Entry{}, true)
		for _, e := range all {
			if e.Path == leaderPath {
				take(e, false)
			}
		}
	}, func(e member.Event) {
		if e.Path == leaderPath {
			take(e.Entry, e.Deleted)
		}
	})
}
