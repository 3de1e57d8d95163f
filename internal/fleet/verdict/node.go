package verdict

import (
	"slices"
	"time"
)

// node judges a machine. One that is a member of the fleet speaks for itself
// by its lease: while that holds it is not lost, whoever says so.
func (c *court) node(s Subject) Verdict {
	name := Name(s.Name)
	m, member := c.members[name]
	v := Verdict{Subject: s.Name, Since: c.Now, Quorum: c.quorum(s)}
	own, has := c.voice(s, c.Speaker)
	v.Own = has && own.fails && c.lasts(own.since, c.rules.Suspect)
	if !c.majority {
		return c.unheard(v, own, has)
	}
	voices := c.voices(s)
	reach, fails := partition(voices)
	t := tally{c: c, s: s, name: name, member: member, voices: voices, reach: reach, fails: fails}
	t.sil, t.silent = c.silence(name)
	if m.Bare {
		// Its way to the fleet, and everybody's way to it: there is no more to
		// see of it.
		t.sil.kind = "lease"
	}
	v.For, v.Against = observations(failing(looksOf(voices))), nil
	switch before := c.Before[s.Name]; {
	case m.Drained:
		v.State, v.Words = Drained, c.drainedWords(t)
	case t.lost(&v):
	case before.State == Lost && !t.recovered(&v, before):
	case t.suspected(&v):
	case t.oneWay(&v):
	default:
		t.minor(&v)
	}
	t.also(&v)
	return v
}

// tally is what is known of one node.
type tally struct {
	c                    *court
	s                    Subject
	name                 string
	member, silent       bool
	sil                  look
	voices, reach, fails []voice
}

// lost confirms a loss. Beside the lease, a quorum fails to reach it by a kind
// of signal that does not depend on its Foundry.
func (t *tally) lost(v *Verdict) bool {
	c := t.c
	confirm := c.confirm(t.s)
	bad := c.lasting(t.fails, confirm)
	if t.member && (!t.silent || !c.lasts(t.sil.since, confirm)) || len(bad) == 0 || len(t.reach) > c.dissent() {
		return false
	}
	if len(t.reach) > 0 && t.member {
		bad = c.informed(bad, t.sil)
	}
	looks, times, enough := failing(looksOf(bad)), sinces(bad), c.doubt()
	if t.member {
		looks, times, enough = append(looks, t.sil), append(times, t.sil.since), 1
	}
	if len(bad) == 0 || len(times) < v.Quorum || !independent(looks, enough) {
		return false
	}
	v.State, v.Since = Lost, nth(times, v.Quorum)
	v.For, v.Against = observations(looks), observations(looksOf(t.reach))
	v.Words = c.lostWords(v, bad, t.voices, t.reach, t.silences())
	return true
}

// informed leaves out a voice that alone said that a member is away while it
// still lived: it says nothing new now. Two of them are no broken observer.
func (c *court) informed(bad []voice, sil look) []voice {
	early := func(b voice) bool { return b.since.Before(sil.since.Add(-c.rules.Stale)) }
	n := 0
	for _, b := range bad {
		if early(b) {
			n++
		}
	}
	if n >= c.doubt() {
		return bad
	}
	return slices.DeleteFunc(slices.Clone(bad), early)
}

func (t *tally) silences() []look {
	if t.silent {
		return []look{t.sil}
	}
	return nil
}

// recovered reports whether a loss has ended. What comes back is believed
// after a while only, and says so until then.
func (t *tally) recovered(v *Verdict, before Verdict) bool {
	c := t.c
	alive := c.alive(t.name)
	own := 0
	if alive {
		own = 1
	}
	back := !t.member || alive
	if back && (len(c.lasting(t.reach, c.rules.Recover))+own >= v.Quorum || len(t.voices) == 0) {
		return true
	}
	c.stillLost(v, before)
	if now := len(t.reach) + own; back && len(t.reach) > 0 && now >= v.Quorum {
		v.Back = nth(sinces(t.reach), max(1, v.Quorum-own))
		v.Words = c.backWords(before, v.Back, len(t.reach), len(t.voices))
	}
	return false
}

// suspected is what traffic goes around, and no more.
func (t *tally) suspected(v *Verdict) bool {
	c := t.c
	shown := c.lasting(t.fails, c.rules.Suspect)
	fresh := slices.ContainsFunc(shown, func(f voice) bool { return !c.lasts(f.since, c.rules.Stale) })
	ownFresh := slices.ContainsFunc(shown, func(f voice) bool { return f.who == c.Speaker && !c.lasts(f.since, c.rules.Stale) })
	quiet := t.member && !c.alive(t.name) // no heartbeat, whether or not the lease has ended
	enough := min(2, v.Quorum)
	count := len(shown)
	if quiet {
		count++
	}
	switch {
	case ownFresh:
	case t.silent && len(t.reach) > len(shown), len(shown) == 0 && !t.silent && len(t.voices) > 0:
		return false
	case t.silent:
	case t.member && !quiet && !fresh: // it lives: what fails is the way to it
		return false
	case count < enough || len(shown) < len(t.reach):
		return false
	}
	if len(shown) == 0 && !quiet {
		return false
	}
	v.State, v.Words = Suspected, c.suspectedWords(shown, t.voices, t.silences(), t.quietSince(), t.short(v.Quorum))
	v.Since = t.firstOf(shown)
	v.For, v.Against = append(observations(failing(looksOf(shown))), observations(t.silences())...), observations(looksOf(t.reach))
	return true
}

// short reports whether a loss would be confirmed by now, if there were a
// second kind of signal.
func (t *tally) short(quorum int) bool {
	confirm := t.c.confirm(t.s)
	old := t.c.lasting(t.fails, confirm)
	return t.silent && t.c.lasts(t.sil.since, confirm) && len(old)+1 >= quorum && !independent(append(failing(looksOf(old)), t.sil), 1)
}

// quietSince is the last heartbeat of a member that gives none.
func (t *tally) quietSince() time.Time {
	if t.member && !t.c.alive(t.name) {
		return t.c.members[t.name].Heard
	}
	return time.Time{}
}

func (t *tally) firstOf(shown []voice) time.Time {
	times := sinces(shown)
	if quiet := t.quietSince(); !quiet.IsZero() {
		times = append(times, quiet)
	}
	if len(times) == 0 {
		return t.c.Now
	}
	return nth(times, 1)
}

// oneWay is a network that is broken in one direction, or in a part: the node
// lives, and not everybody who should reaches it.
func (t *tally) oneWay(v *Verdict) bool {
	c := t.c
	shown := c.lasting(t.fails, c.rules.Stale)
	seen := slices.DeleteFunc(slices.Clone(shown), func(f voice) bool { return !c.reaches(t.name, f.who) })
	switch {
	case t.silent:
		v.Words = c.silentWords(t)
		v.Since = t.sil.since
		v.For = append(observations(t.silences()), v.For...)
	case len(shown) > 0 && len(seen) > 0 && t.member:
		v.Words, v.Since = c.seesWords(seen, shown, t.voices), nth(sinces(seen), 1)
	case len(shown) >= 2 || len(shown) > 0 && len(t.reach) == 0:
		v.Words, v.Since = c.partWords(t.member, shown, t.reach, t.voices), nth(sinces(shown), 1)
	default:
		return false
	}
	v.State, v.Against = OneWay, observations(looksOf(t.reach))
	return true
}

// reaches reports whether a member that is heard reaches another now.
func (c *court) reaches(from, to string) bool {
	if !c.heard[from] {
		return false
	}
	v, ok := c.voice(Subject{Name: Node(to)}, from)
	return ok && v.reach
}

// minor is a node that is there, with what is to be said of it beside that.
func (t *tally) minor(v *Verdict) {
	c := t.c
	v.State, v.Words, v.Since = Fine, c.fineWords(t.voices, t.reach, t.fails, t.member), c.Now
	if len(t.reach) > 0 {
		v.Since = nth(sinces(t.reach), 1)
		v.Against = nil
	}
	if !t.member && len(t.reach) == 0 {
		v.State, v.Words = Unknown, c.unseenWords(t.voices)
	}
	for _, state := range t.traits() {
		v.State, v.Since = state, c.Now
		v.Words = c.traitWords(t, state)
		break
	}
}

// traits are the lesser things that hold of a node, the worst first.
func (t *tally) traits() (out []State) {
	c := t.c
	if _, bad := c.disputed[t.name]; bad && t.member {
		out = append(out, Disputed)
	}
	if c.flapping(t.voices) {
		out = append(out, Flapping)
	}
	if t.member && (t.name != c.Speaker && !c.ownClock && c.skewed(c.members[t.name]) || t.name == c.Speaker && c.ownClock) {
		out = append(out, Clock)
	}
	if c.slow(t.reach) || t.member && !t.silent && !c.alive(t.name) && t.name != c.Speaker {
		out = append(out, Slow)
	}
	if _, bad := c.conditions(t.s); bad {
		out = append(out, Wrong)
	}
	return out
}

func (t *tally) also(v *Verdict) {
	for _, state := range t.traits() {
		if state != v.State {
			v.Also = append(v.Also, state)
		}
	}
}

// flapping wants more than one observer who sees it come and go: one alone has
// a bad network.
func (c *court) flapping(voices []voice) bool {
	n := 0
	for _, v := range voices {
		if slices.ContainsFunc(v.looks, func(l look) bool { return l.Changes >= c.rules.Flaps }) {
			n++
		}
	}
	return n > 0 && n >= min(c.doubt(), len(voices)) && n*2 > len(voices)
}

// slow wants most of those who reach it.
func (c *court) slow(reach []voice) bool {
	n := 0
	for _, v := range reach {
		if v.slow {
			n++
		}
	}
	return n > 0 && n*2 > len(reach)
}

// conditions lists the conditions that are not met. One observer suffices:
// mostly, only one can look.
func (c *court) conditions(s Subject) (out []look, bad bool) {
	for _, name := range c.electors(s) {
		if _, disputed := c.disputed[name]; disputed || !c.heard[name] {
			continue
		}
		sight := c.sights[sightKey{s.Name, name}]
		if sight == nil {
			continue
		}
		for _, l := range sight.looks {
			if l.kind.condition() && !l.OK && c.lasts(l.since, c.rules.Suspect) {
				out = append(out, l)
			}
		}
	}
	return out, len(out) > 0
}

// stillLost keeps a loss, and the evidence on which it was confirmed.
func (c *court) stillLost(v *Verdict, before Verdict) {
	v.State, v.Since, v.For, v.Against = Lost, before.Since, before.For, before.Against
	v.Quorum, v.Words = before.Quorum, c.stillWords(before)
}
