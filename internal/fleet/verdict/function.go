package verdict

import (
	"slices"
	"time"
)

// function judges something the organisation must be able to do: what fails to
// a quorum by one kind of signal, and to more than one observer by another.
func (c *court) function(s Subject, nodes map[string]Verdict) Verdict {
	v := Verdict{Subject: s.Name, Since: c.Now, Quorum: c.quorum(s)}
	own, has := c.voice(s, c.Speaker)
	v.Own = has && slices.ContainsFunc(own.looks, func(l look) bool { return !l.OK && c.lasts(l.since, c.rules.Suspect) })
	if !c.majority {
		return c.unheard(v, own, has)
	}
	f := &question{c: c, s: s, voices: c.voices(s), nodes: nodes}
	f.hosts()
	f.draw()
	v.For = observations(failing(looksOf(f.voices)))
	switch before := c.Before[s.Name]; {
	case f.drained(&v):
	case f.lost(&v):
	case before.State == Lost && !f.recovered(&v, before):
	case f.suspected(&v):
	case f.partly(&v):
	default:
		f.minor(&v)
	}
	return v
}

// question is what is known of one function.
type question struct {
	c      *court
	s      Subject
	voices []voice
	lines  []line
	nodes  map[string]Verdict
	gone   []look // the silence of its hosts, when all of them are silent
}

// line is one way in which a function is looked at: a kind of signal and where
// it ends.
type line struct {
	kind      kind
	ends      string
	fails, ok []look // one of each observer, the last that failed, the last that came
}

func (f *question) draw() {
	for _, v := range f.voices {
		mine := map[[2]string]look{}
		var order [][2]string
		for _, l := range v.looks {
			key := [2]string{string(l.kind), l.Ends}
			old, seen := mine[key]
			if !seen {
				order = append(order, key)
			}
			// Of several probes on one line, the one that fails speaks; of
			// several that fail, the one that failed first.
			if !seen || old.OK && !l.OK || old.OK == l.OK && (l.OK == l.since.After(old.since)) && !l.since.Equal(old.since) {
				mine[key] = l
			}
		}
		for _, key := range order {
			f.add(key, mine[key])
		}
	}
}

func (f *question) add(key [2]string, l look) {
	i := slices.IndexFunc(f.lines, func(x line) bool { return string(x.kind) == key[0] && x.ends == key[1] })
	if i < 0 {
		f.lines, i = append(f.lines, line{kind: l.kind, ends: l.Ends}), len(f.lines)
	}
	if l.OK {
		f.lines[i].ok = append(f.lines[i].ok, l)
	} else {
		f.lines[i].fails = append(f.lines[i].fails, l)
	}
}

// hosts finds whether all machines that can carry the function are silent.
func (f *question) hosts() {
	for _, host := range f.s.Hosts {
		sil, silent := f.c.silence(host)
		if !silent || !f.c.lasts(sil.since, f.c.confirm(f.s)) {
			f.gone = nil
			return
		}
		f.gone = append(f.gone, sil)
	}
}

// older are the failures that have stood for so long.
func (c *court) older(looks []look, d time.Duration) (out []look) {
	for _, l := range looks {
		if c.lasts(l.since, d) {
			out = append(out, l)
		}
	}
	return out
}

func (f *question) lost(v *Verdict) bool {
	c := f.c
	if len(f.voices) == 0 {
		return f.lostWithHosts(v)
	}
	var primary []time.Time
	var evidence []look
	var against []look
	for _, l := range f.lines {
		bad := c.older(l.fails, c.confirm(f.s))
		enough := c.doubt()
		if l.kind.local() {
			enough = 1
		}
		n := len(bad) + len(f.silentElectors(bad))
		if len(bad) == 0 || n < enough || len(l.ok) > c.dissent() || len(l.ok) >= n {
			continue
		}
		evidence, against = append(evidence, bad...), append(against, l.ok...)
		if n >= v.Quorum {
			times := times(append(slices.Clone(bad), f.silentElectors(bad)...))
			if at := nth(times, v.Quorum); len(primary) == 0 || at.Before(primary[0]) {
				primary = []time.Time{at}
			}
		}
	}
	all := append(slices.Clone(evidence), f.gone...)
	if len(primary) == 0 || !independent(all, c.doubt()) {
		return false
	}
	v.State, v.Since, v.For, v.Against = Lost, primary[0], observations(all), observations(against)
	v.Words = c.lostFunctionWords(v, evidence, f)
	return true
}

// silentElectors are the hosts whose silence is a voice of its own: those who
// would look, and have not been heard.
func (f *question) silentElectors(bad []look) (out []look) {
	electors := f.c.electors(f.s)
	for _, g := range f.gone {
		if slices.Contains(electors, g.Observer) && !slices.ContainsFunc(bad, func(l look) bool { return l.Observer == g.Observer }) {
			out = append(out, g)
		}
	}
	return out
}

// lostWithHosts is a function that nobody looks at, and all of whose hosts are
// lost.
func (f *question) lostWithHosts(v *Verdict) bool {
	if len(f.s.Hosts) == 0 {
		return false
	}
	for i, host := range f.s.Hosts {
		on, ok := f.nodes[Node(host)]
		if !ok || on.State != Lost {
			return false
		}
		if i == 0 || on.Since.After(v.Since) {
			v.Since, v.For, v.Against, v.Quorum = on.Since, on.For, on.Against, on.Quorum
		}
	}
	v.State, v.Words = Lost, f.c.hostsWords(f.s.Hosts, v.Since)
	return true
}

// recovered wants a quorum that has found it working by one line for a while,
// and no line on which a quorum still finds it failing.
func (f *question) recovered(v *Verdict, before Verdict) bool {
	c := f.c
	if len(f.voices) == 0 && len(f.lines) == 0 && len(f.s.Hosts) > 0 {
		return !f.lostWithHosts(v)
	}
	var back time.Time
	n, down, believed := 0, false, false
	for _, l := range f.lines {
		if len(l.fails) >= v.Quorum {
			down = true
		}
		if len(l.ok) >= v.Quorum {
			if at := nth(times(l.ok), v.Quorum); back.IsZero() || at.Before(back) {
				back, n = at, len(l.ok)
			}
			believed = believed || len(c.older(l.ok, c.rules.Recover)) >= v.Quorum
		}
	}
	if believed && !down {
		return true
	}
	c.stillLost(v, before)
	if !back.IsZero() && !down {
		v.Back, v.Words = back, c.backWords(before, back, n, len(f.voices))
	}
	return false
}

func (f *question) suspected(v *Verdict) bool {
	c := f.c
	var shown, ok []look
	for _, l := range f.lines {
		bad := c.older(l.fails, c.rules.Suspect)
		enough := min(c.doubt(), max(1, len(c.electors(f.s))))
		if l.kind.local() {
			enough = 1
		}
		ownFresh := slices.ContainsFunc(bad, func(x look) bool { return x.Observer == c.Speaker && !c.lasts(x.since, c.rules.Stale) })
		if ownFresh || len(bad) >= enough && len(bad) > len(l.ok) || len(bad) > 0 && len(f.gone) > 0 {
			shown, ok = append(shown, bad...), append(ok, l.ok...)
		}
	}
	if len(shown) == 0 {
		return false
	}
	v.State, v.Since = Suspected, nth(times(shown), 1)
	v.For, v.Against = observations(append(slices.Clone(shown), f.gone...)), observations(ok)
	v.Words = c.suspectedFunctionWords(v, shown, ok, f)
	return true
}

// partly is a function that more than one observer does not reach, and as many
// or more do: a part of the network is broken.
func (f *question) partly(v *Verdict) bool {
	for _, l := range f.lines {
		bad := f.c.older(l.fails, f.c.rules.Stale)
		if len(bad) >= 2 && len(l.ok) >= len(bad) {
			v.State, v.Since = OneWay, nth(times(bad), 1)
			v.For, v.Against = observations(bad), observations(l.ok)
			v.Words = f.c.partLooksWords(bad, l.ok)
			return true
		}
	}
	return false
}

func (f *question) drained(v *Verdict) bool {
	away := 0
	for _, host := range f.s.Hosts {
		if f.c.members[host].Drained {
			away++
		}
	}
	if away == 0 || away < len(f.s.Hosts) || len(v.For) == 0 {
		return false
	}
	v.State, v.Words = Drained, "its host was drained by an operator; that is no loss"
	return true
}

func (f *question) minor(v *Verdict) {
	c := f.c
	reach, fails := partition(f.voices)
	v.State, v.Words = Fine, c.fineWords(f.voices, reach, fails, false)
	if len(reach) > 0 {
		v.Since = nth(sinces(reach), 1)
	}
	if !slices.ContainsFunc(looksOf(f.voices), func(l look) bool { return l.OK }) {
		v.State, v.Words = Unknown, c.unseenWords(f.voices)
	}
	switch conds, bad := c.conditions(f.s); {
	case c.flapping(f.voices):
		v.State, v.Words = Flapping, c.flapWords(f.voices)
	case bad:
		v.State, v.Since, v.Words = Wrong, nth(times(conds), 1), c.wrongWords(conds)
		v.For = observations(conds)
	case c.slow(reach):
		v.State, v.Words = Slow, c.slowWords(reach)
	}
	if v.State != Fine && v.State != Wrong {
		v.Since = c.Now
	}
}

func times(looks []look) (out []time.Time) {
	for _, l := range looks {
		out = append(out, l.since)
	}
	return out
}
