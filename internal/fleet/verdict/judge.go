package verdict

import (
	"cmp"
	"slices"
	"time"
)

// Judge gives a verdict on every member, every subject and the fleet.
func Judge(s Scene) map[string]Verdict {
	c := convene(s)
	out := map[string]Verdict{Fleet: c.fleet()}
	// Nodes first: what became of the hosts speaks on their functions.
	for _, subject := range c.subjects {
		if c.isNode(subject.Name) {
			out[subject.Name] = c.settle(c.node(subject))
		}
	}
	for _, subject := range c.subjects {
		if !c.isNode(subject.Name) {
			out[subject.Name] = c.settle(c.function(subject, out))
		}
	}
	out[Fleet] = c.settle(out[Fleet])
	return out
}

// court is a scene in the order in which it is judged.
type court struct {
	Scene
	rules     Rules
	members   map[string]Member
	names     []string // of the members that count, in order
	subjects  []Subject
	sights    map[sightKey]*sight
	heard     map[string]bool // whose voice counts
	voters    int
	votes     int  // voters that are heard
	majority  bool // so that anything may be decided
	ownClock  bool // the speaker's clock is the one that is off
	offClocks int
	disputed  map[string]dispute
}

// look is an observation whose time the speaker can compare.
type look struct {
	*Observation
	since time.Time
	kind  kind
}

type sightKey struct{ subject, observer string }

// sight is all that one observer sees of one subject.
type sight struct {
	looks  []look
	voice  voice
	summed bool
	says   bool // anything but conditions
}

func convene(s Scene) *court {
	c := &court{Scene: s, rules: s.Rules.orDefault(), members: map[string]Member{}, heard: map[string]bool{}, sights: make(map[sightKey]*sight, len(s.Observations)/2)}
	for _, m := range s.Members {
		c.members[m.Name] = m
	}
	listed := map[string]bool{}
	for _, sub := range s.Subjects {
		if !listed[sub.Name] {
			c.subjects, listed[sub.Name] = append(c.subjects, sub), true
		}
	}
	for name, m := range c.members {
		c.names = append(c.names, name)
		if !listed[Node(name)] {
			c.subjects = append(c.subjects, Subject{Name: Node(name)})
		}
		// An ended lease silences too: what it said last is not what it sees.
		fresh := !m.Heard.IsZero() && s.Now.Sub(m.Heard) <= c.rules.Stale && m.LeaseEnded.IsZero()
		c.heard[name] = name == s.Speaker || fresh
		if m.Votes {
			c.voters++
			if c.heard[name] {
				c.votes++
			}
		}
	}
	slices.Sort(c.names)
	slices.SortFunc(c.subjects, func(a, b Subject) int { return cmp.Compare(a.Name, b.Name) })
	c.majority = c.votes*2 > c.voters
	c.clocks()
	c.collect()
	c.disputed = c.disputes()
	return c
}

func (r Rules) orDefault() Rules {
	d := Default()
	return Rules{
		Suspect: cmp.Or(r.Suspect, d.Suspect), Confirm: cmp.Or(r.Confirm, d.Confirm), Recover: cmp.Or(r.Recover, d.Recover),
		Stale: cmp.Or(r.Stale, d.Stale), Slow: cmp.Or(r.Slow, d.Slow), Clock: cmp.Or(r.Clock, d.Clock),
		FlapWindow: cmp.Or(r.FlapWindow, d.FlapWindow), Flaps: cmp.Or(r.Flaps, d.Flaps),
	}
}

// clocks finds out whether the speaker's own clock is the one that is off: to
// it, more than half of the others seem to be, and to the same side.
func (c *court) clocks() {
	ahead, behind, others := 0, 0, 0
	for _, name := range c.names {
		if name == c.Speaker || !c.heard[name] {
			continue
		}
		others++
		switch m := c.members[name]; {
		case m.Offset > c.rules.Clock:
			ahead++
		case m.Offset < -c.rules.Clock:
			behind++
		}
	}
	c.offClocks = max(ahead, behind)
	c.ownClock = others >= 2 && c.offClocks*2 > others
}

// skewed reports whether the times that an observer states are not used.
func (c *court) skewed(m Member) bool { return m.Offset.Abs() > c.rules.Clock }

// collect sorts the observations by whom and of what, so that their order does
// not matter. Two of one observer by one probe are one: the one that looked
// last, and the failure when both did at once.
func (c *court) collect() {
	for i := range c.Observations {
		o := &c.Observations[i]
		m, known := c.members[o.Observer]
		if !known || o.Signal == "lease" || c.isNode(o.Subject) && Name(o.Subject) == o.Observer {
			continue // leases are the members' own; nobody is a witness of himself
		}
		key := sightKey{o.Subject, o.Observer}
		s := c.sights[key]
		if s == nil {
			s = &sight{looks: make([]look, 0, 4)}
			c.sights[key] = s
		}
		s.looks = append(s.looks, look{o, c.since(m, *o), kindOf(o.Signal)})
	}
	for _, s := range c.sights {
		slices.SortFunc(s.looks, func(a, b look) int {
			return cmp.Or(cmp.Compare(a.Signal, b.Signal), cmp.Compare(a.Ends, b.Ends), cmp.Compare(a.Probe, b.Probe), b.At.Compare(a.At), cmp.Compare(order(a.OK), order(b.OK)),
				a.Since.Compare(b.Since), a.Heard.Compare(b.Heard), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Took, b.Took), cmp.Compare(a.Changes, b.Changes))
		})
		s.looks = slices.CompactFunc(s.looks, func(a, b look) bool {
			return a.Signal == b.Signal && a.Ends == b.Ends && a.Probe == b.Probe
		})
	}
}

func order(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

// since is when what is seen began, by the speaker's clock. What a skewed
// observer says of times is replaced by when it was heard, and so is what
// cannot be: a change that was heard long after it is said to have happened, or
// before. Where it is not known when it was heard it began just now, which
// accuses nobody.
func (c *court) since(m Member, o Observation) time.Time {
	at, own := o.Since, m.Name == c.Speaker
	switch skewed := !own && (c.ownClock || c.skewed(m)); {
	case o.Heard.IsZero() && skewed:
		return c.Now
	case o.Heard.IsZero() || own:
	case skewed, at.After(o.Heard), o.Watched && at.Before(o.Heard.Add(-c.rules.Stale)):
		at = o.Heard
	}
	if at.IsZero() || at.After(c.Now) {
		return c.Now
	}
	return at
}

// lasts reports whether what began then has stood for so long.
func (c *court) lasts(since time.Time, d time.Duration) bool { return c.Now.Sub(since) >= d }

// confirm is how long a failure of a subject stands before it is a loss.
func (c *court) confirm(s Subject) time.Duration { return cmp.Or(s.Confirm, c.rules.Confirm) }

// electors are the members whose look at a subject counts.
func (c *court) electors(s Subject) []string {
	if len(s.From) == 0 {
		return c.names
	}
	var out []string
	for _, name := range c.names {
		if slices.Contains(s.From, name) {
			out = append(out, name)
		}
	}
	return out
}

// quorum is how many voices a loss needs: the majority of those who may have
// one, heard or not, and never a single one where there are three members.
func (c *court) quorum(s Subject) int {
	n := len(c.electors(s))
	return max(n/2+1, min(2, c.doubt()))
}

// doubt is how many voices a thing needs that one broken observer must not
// bring about alone.
func (c *court) doubt() int {
	if len(c.names) >= 3 {
		return 2
	}
	return 1
}

// dissent is how many who reach it do not prevent a loss: one, where it may be
// the broken observer. Two who reach it are believed.
func (c *court) dissent() int { return c.doubt() - 1 }

// settle keeps the times of what was held before and is held still.
func (c *court) settle(v Verdict) Verdict {
	v.Epoch, v.Decided = c.Epoch, c.Now
	if before, ok := c.Before[v.Subject]; ok && before.State == v.State {
		v.Decided = before.Decided
		if before.Since.Before(v.Since) {
			v.Since = before.Since
		}
	}
	return v
}
