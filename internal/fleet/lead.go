package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
)

// Confirmed is a loss that was confirmed, or its end, with the signals that it
// was confirmed by. It is evidence: kept until it is trimmed.
type Confirmed struct {
	ID      string          `json:"id"` // in the order of time
	At      time.Time       `json:"at"`
	By      string          `json:"by"` // the leader
	Epoch   int64           `json:"epoch"`
	Ended   bool            `json:"ended,omitempty"`
	Verdict verdict.Verdict `json:"verdict"`
}

// kept is how many confirmed losses and ends the fleet keeps when nobody
// anchors them: the oldest go.
const kept = 1000

// trimEvery is how often the leader looks whether too much is kept.
const trimEvery = 10 * time.Second

// leading stands for leadership, and judges for the fleet while it lasts.
func (s *Service) leading(ctx context.Context) {
	for ctx.Err() == nil {
		if s.draining() {
			s.pause(ctx)
			continue
		}
		term, err := s.m.Lead(ctx, leaderPath)
		if err != nil {
			s.pause(ctx)
			continue
		}
		s.log.Info("this node leads the fleet", "epoch", term.Epoch())
		s.reign(ctx, term)
		s.log.Info("this node no longer leads the fleet", "epoch", term.Epoch())
	}
}

func (s *Service) draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[s.m.Name()].Draining
}

// Term is this node's term while it leads the fleet. Whoever writes for the
// fleet goes through it.
func (s *Service) Term() (*member.Term, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term, s.term != nil
}

func (s *Service) reign(ctx context.Context, term *member.Term) {
	s.setTerm(term)
	defer s.setTerm(nil)
	life, end := context.WithCancel(ctx)
	defer end()
	ruled, err := s.inherit(life)
	var trimmed time.Time
	every(life, s.o.Every, nil, func() {
		select {
		case <-term.Done():
			end()
			return
		default:
		}
		switch {
		case s.draining():
			give, cancel := context.WithTimeout(context.WithoutCancel(life), time.Second)
			_ = term.Resign(give)
			cancel()
			end()
		case err != nil:
			ruled, err = s.inherit(life)
		default:
			if err := s.rule(life, term, ruled); errors.Is(err, member.ErrNotLeader) {
				end()
			} else if err != nil {
				s.log.Debug("a verdict could not be written", "error", err)
			}
			if now := s.o.Now(); now.Sub(trimmed) >= trimEvery {
				s.trim(life, term)
				trimmed = now
			}
		}
	})
	if ctx.Err() != nil {
		give, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = term.Resign(give)
	}
}

func (s *Service) setTerm(t *member.Term) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = t
}

// inherit reads what the leaders before have held.
func (s *Service) inherit(ctx context.Context) (map[string]verdict.Verdict, error) {
	one, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	entries, _, err := s.m.Store().List(one, verdictsPath)
	if err != nil {
		return nil, err
	}
	out := map[string]verdict.Verdict{}
	for _, e := range entries {
		var v verdict.Verdict
		if e.Decode(&v) == nil {
			out[v.Subject] = v
		}
	}
	return out, nil
}

// rule judges for the fleet and writes what has changed. Nobody's own sight is
// more to it than anybody else's.
func (s *Service) rule(ctx context.Context, term *member.Term, ruled map[string]verdict.Verdict) error {
	s.mu.Lock()
	scene := s.scene("", ruled)
	s.mu.Unlock()
	scene.Epoch = term.Epoch()
	if len(scene.Members) == 0 {
		return nil
	}
	now := verdict.Judge(scene)
	if now[verdict.Fleet].State == verdict.Unknown {
		return nil // it does not hear a majority, and will not lead for long
	}
	var writes []member.Write
	put := func(about map[string]*verdict.Verdict) error {
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if _, err := s.m.Store().PutAll(one, writes, member.During(term)); err != nil {
			return err
		}
		for subject, v := range about {
			if delete(ruled, subject); v != nil {
				ruled[subject] = *v
			}
		}
		writes = nil
		clear(about)
		return nil
	}
	about := map[string]*verdict.Verdict{}
	for _, v := range changed(ruled, now) {
		writes = append(writes, member.Write{Path: verdictsPath + v.Subject, Value: v})
		about[v.Subject] = &v
		was := ruled[v.Subject].State == verdict.Lost
		if is := v.State == verdict.Lost; is != was {
			writes = append(writes, s.confirmed(scene.Now, term, v, ruled[v.Subject], !is))
		}
		if len(writes) >= batch {
			if err := put(about); err != nil {
				return err
			}
		}
	}
	for subject := range ruled {
		if _, still := now[subject]; !still {
			writes = append(writes, member.Write{Path: verdictsPath + subject})
			about[subject] = nil
		}
	}
	if len(writes) == 0 {
		return nil
	}
	return put(about)
}

func (s *Service) confirmed(now time.Time, term *member.Term, v, before verdict.Verdict, ended bool) member.Write {
	c := Confirmed{At: now.Round(0).UTC(), By: s.m.Name(), Epoch: term.Epoch(), Ended: ended, Verdict: v}
	if ended {
		c.Verdict.Since, c.Verdict.Against = before.Since, v.Against
	}
	c.ID = fmt.Sprintf("%016x-%016x-%s", c.Epoch, c.At.UnixNano(), strings.ReplaceAll(v.Subject, "/", "-"))
	return member.Write{Path: provenPath + c.ID, Value: c}
}

// trim bounds what the fleet keeps where nobody takes it to the audit log.
func (s *Service) trim(ctx context.Context, term *member.Term) {
	all, err := s.Confirmed(ctx)
	if err != nil {
		return
	}
	for _, c := range all[:max(0, len(all)-kept)] {
		_ = term.Delete(ctx, provenPath+c.ID)
	}
}

// Anchor takes what was confirmed to where it stays for good, oldest first,
// while term holds: that of whoever has such a place, which the leader of the
// fleet need not have. What was taken and could not be removed is taken again,
// under the same id.
func (s *Service) Anchor(ctx context.Context, term *member.Term, keep func(context.Context, Confirmed) error) error {
	all, err := s.Confirmed(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := keep(ctx, c); err != nil {
			return err
		}
		if err := term.Delete(ctx, provenPath+c.ID); err != nil {
			return err
		}
	}
	return nil
}

// Confirmed lists what was confirmed and is not trimmed yet, oldest first.
func (s *Service) Confirmed(ctx context.Context) ([]Confirmed, error) {
	one, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	entries, _, err := s.m.Store().List(one, provenPath)
	if err != nil {
		return nil, err
	}
	found := map[string]Confirmed{}
	for _, e := range entries {
		var c Confirmed
		if e.Decode(&c) == nil {
			found[c.ID] = c
		}
	}
	var out []Confirmed
	for _, id := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[id])
	}
	return out, nil
}
