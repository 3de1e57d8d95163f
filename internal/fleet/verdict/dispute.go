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
		if _, outside := IsOutside(s.Name); outside {
			continue // who answers one of this fleet and no other there would silence it here
		}
		votes := c.ballots(s)
		yes := 0
		for _, v := range votes {
			yes += order(v.reach)
		}
		for _, v := range votes {
			// What the others say, who must agree to be contradicted.
			rest, agree := len(votes)-1, yes-order(v.reach)
			if Node(v.who) == s.Name || rest < 2 || agree != 0 && agree != rest {
				continue
			}
			if compared[v.who] == nil {
				compared[v.who], against[v.who] = map[string]bool{}, map[string][]string{}
			}
			place := place(s)
			compared[v.who][place] = true
			if v.reach != (agree == rest) {
				against[v.who][place] = append(against[v.who][place], s.Name)
				if others[v.who] == 0 || rest < others[v.who] {
					others[v.who] = rest
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

// ballot is what one says of whether a subject is there.
type ballot struct {
	who   string
	reach bool
}

// ballots is who has for a while reached a subject, and who has not. A member's
// own is its lease.
func (c *court) ballots(s Subject) []ballot {
	all := make([]voice, 0, len(c.names))
	for _, name := range c.electors(s) {
		if v, ok := c.voice(s, name); ok && c.heard[name] && (v.reach || v.fails) && c.lasts(v.since, c.rules.Stale) {
			all = append(all, v)
		}
	}
	out := make([]ballot, 0, len(all)+1)
	if name := Name(s.Name); c.isNode(s.Name) {
		if sil, silent := c.silence(name); silent {
			reach, fails := partition(all)
			all = append(reach, c.informed(fails, sil)...)
			if c.lasts(sil.since, c.rules.Stale) {
				out = append(out, ballot{name, false})
			}
		} else if c.alive(name) {
			out = append(out, ballot{name, true})
		}
	}
	for _, v := range all {
		out = append(out, ballot{v.who, v.reach})
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
