package verdict

import (
	"slices"
	"time"
)

// voice is what one observer says of one subject by all its signals.
type voice struct {
	who   string
	reach bool      // it reaches it
	fails bool      // it does not, by any signal
	since time.Time // since when the one or the other
	slow  bool
	looks []look // without conditions
}

// voices are those that count on a subject: of electors that are heard and not
// in dispute, in order of their names.
func (c *court) voices(s Subject) (out []voice) {
	out = make([]voice, 0, len(c.names))
	for _, name := range c.electors(s) {
		if _, bad := c.disputed[name]; bad || !c.heard[name] {
			continue
		}
		if v, ok := c.voice(s, name); ok {
			out = append(out, v)
		}
	}
	return out
}

// voice is what one observer says, if it says anything.
func (c *court) voice(s Subject, name string) (voice, bool) {
	sight := c.sights[sightKey{s.Name, name}]
	if sight == nil {
		return voice{who: name}, false
	}
	if !sight.summed {
		sight.voice, sight.says = c.sum(s, name, sight.looks)
		sight.summed = true
	}
	return sight.voice, sight.says
}

// sum sums up one observer. A machine that answers by any signal is reached; a
// function works when all its signals say so, and what is mixed is neither.
func (c *court) sum(s Subject, name string, looks []look) (voice, bool) {
	v := voice{who: name, looks: looks}
	if slices.ContainsFunc(looks, func(l look) bool { return l.kind.condition() }) {
		v.looks = slices.DeleteFunc(slices.Clone(looks), func(l look) bool { return l.kind.condition() })
	}
	if len(v.looks) == 0 {
		return v, false
	}
	var good, bad []look
	for _, l := range v.looks {
		if l.OK || c.isNode(s.Name) && l.reached() {
			good = append(good, l)
		} else {
			bad = append(bad, l)
		}
	}
	if name == c.Speaker && len(bad) > 0 && c.isNode(s.Name) {
		// Of its own looks the speaker knows when each was: what worked before
		// another failed does not show that the machine is there now.
		last := nth(times(bad), len(bad))
		good = slices.DeleteFunc(good, func(l look) bool { return l.At.Before(last) })
	}
	v.fails = len(good) == 0
	v.reach = len(bad) == 0 || c.isNode(s.Name) && len(good) > 0
	counted := good
	if v.fails {
		counted = bad
	}
	v.since = counted[0].since
	quickest := counted[0].Took
	for _, l := range counted[1:] {
		// Not reached since the last signal failed; reached since the first
		// came for a machine, since the last for a function.
		if later := l.since.After(v.since); later == (v.fails || !c.isNode(s.Name)) {
			v.since = l.since
		}
		quickest = min(quickest, l.Took)
	}
	v.slow = v.reach && quickest > c.rules.Slow
	return v, true
}

// partition tells who reaches it from who does not. Others see parts of it.
func partition(voices []voice) (reach, fails []voice) {
	for _, v := range voices {
		switch {
		case v.reach:
			reach = append(reach, v)
		case v.fails:
			fails = append(fails, v)
		}
	}
	return reach, fails
}

// lasting are the voices that have said it for so long.
func (c *court) lasting(voices []voice, d time.Duration) (out []voice) {
	for _, v := range voices {
		if c.lasts(v.since, d) {
			out = append(out, v)
		}
	}
	return out
}

func looksOf(voices []voice) (out []look) {
	for _, v := range voices {
		out = append(out, v.looks...)
	}
	return out
}

func observations(looks []look) (out []Observation) {
	for _, l := range looks {
		out = append(out, *l.Observation)
	}
	return out
}

func failing(looks []look) []look {
	return slices.DeleteFunc(slices.Clone(looks), func(l look) bool { return l.OK })
}

func names(voices []voice) (out []string) {
	for _, v := range voices {
		out = append(out, v.who)
	}
	return out
}

// nth is when the n-th of the voices began to say it: since when a quorum of
// that size has stood.
func nth(times []time.Time, n int) time.Time {
	slices.SortFunc(times, time.Time.Compare)
	return times[min(n, len(times))-1]
}

func sinces(voices []voice) (out []time.Time) {
	for _, v := range voices {
		out = append(out, v.since)
	}
	return out
}

// silence is the voice of a member on itself once its lease has ended: it has
// said nothing since its last heartbeat. A lease is decided by the fleet's
// store, so that no observer can end one, or keep one.
func (c *court) silence(name string) (look, bool) {
	m, ok := c.members[name]
	if !ok || m.LeaseEnded.IsZero() {
		return look{}, false
	}
	since := m.LeaseEnded
	if !m.Heard.IsZero() && m.Heard.Before(since) {
		since = m.Heard
	}
	return look{&Observation{Observer: name, Subject: Node(name), Signal: "lease", Code: "ended", Since: since, At: m.LeaseEnded}, since, "fleet"}, true
}

func (c *court) isNode(subject string) bool { return len(subject) > 5 && subject[:5] == "node/" }

// alive reports whether a member shows by itself that it lives: its heartbeat
// has just come through the store, which takes a majority. Who judges lives,
// also before its first heartbeat has come back to it.
func (c *court) alive(name string) bool {
	m, ok := c.members[name]
	if ok && name == c.Speaker && m.Heard.IsZero() {
		return m.LeaseEnded.IsZero()
	}
	return ok && m.LeaseEnded.IsZero() && !m.Heard.IsZero() && c.Now.Sub(m.Heard) <= c.rules.Stale
}
