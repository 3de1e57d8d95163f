package verdict

import "slices"

// dispute is what an observer says against all the others.
type dispute struct {
	about  []string // subjects, in order
	others int      // how many agree against it, at least
}

// disputes finds the observers whose reports contradict all the others on more
// than half of what can be compared: at least two others, among them a member
// itself by its lease, who all say the same. A single path that is broken is
// not that: its observer agrees on the rest.
func (c *court) disputes() map[string]dispute {
	against, compared := map[string]map[string][]string{}, map[string]map[string]bool{}
	others := map[string]int{}
	for _, s := range c.subjects {
		votes := c.ballots(s)
		for who := range votes {
			rest, unanimous, says := 0, true, false
			for other, ok := range votes {
				if other != who {
					unanimous = unanimous && (rest == 0 || ok == says)
					rest, says = rest+1, ok
				}
			}
			if Node(who) == s.Name || rest < 2 || !unanimous {
				continue
			}
			if compared[who] == nil {
				compared[who], against[who] = map[string]bool{}, map[string][]string{}
			}
			place := place(s)
			compared[who][place] = true
			if votes[who] != says {
				against[who][place] = append(against[who][place], s.Name)
				if others[who] == 0 || rest < others[who] {
					others[who] = rest
				}
			}
		}
	}
	out := map[string]dispute{}
	for _, who := range c.names {
		// Who is in dispute stays so while a contradiction is left.
		held := c.Before[Node(who)]
		was := held.State == Disputed || slices.Contains(held.Also, Disputed)
		if n := len(against[who]); n == 0 || !was && n*2 <= len(compared[who]) {
			continue
		}
		d := dispute{others: others[who]}
		for _, subjects := range against[who] {
			d.about = append(d.about, subjects...)
		}
		slices.Sort(d.about)
		out[who] = d
	}
	return out
}

// ballots is who has for a while reached a subject, and who has not. A member's
// own is its lease.
func (c *court) ballots(s Subject) map[string]bool {
	out := map[string]bool{}
	var all []voice
	for _, name := range c.electors(s) {
		if v, ok := c.voice(s, name); ok && c.heard[name] && c.lasts(v.since, c.rules.Stale) {
			all = append(all, v)
		}
	}
	reach, fails := partition(all)
	if name := Name(s.Name); c.isNode(s.Name) {
		if sil, silent := c.silence(name); silent {
			fails = c.informed(fails, sil)
			if c.lasts(sil.since, c.rules.Stale) {
				out[name] = false
			}
		} else if c.alive(name) {
			out[name] = true
		}
	}
	for _, v := range reach {
		out[v.who] = true
	}
	for _, v := range fails {
		out[v.who] = false
	}
	return out
}

// place is where a subject is: all the functions of one host are reached, or
// not, by one path.
func place(s Subject) string {
	if len(s.Hosts) == 1 {
		return Node(s.Hosts[0])
	}
	return s.Name
}
