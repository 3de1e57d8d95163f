package verdict

import (
	"cmp"
	"fmt"
	"slices"
)

// fleet judges the whole: whether anything can be decided.
func (c *court) fleet() Verdict {
	v := Verdict{Subject: Fleet, State: Fine, Since: c.Now, Quorum: c.voters/2 + 1}
	away := c.voters - c.votes
	switch {
	case !c.majority:
		v.State, v.Words = Unknown, fmt.Sprintf("%s not heard; nothing can be decided until %s, or until an operator runs `foundry node recover`",
			ofVerb(away, c.voters, "member", "is", "are"), backAgain(v.Quorum-c.votes))
	case c.voters == 1:
		v.Words = "one member, which decides alone"
	case (c.votes-1)*2 > c.voters:
		v.Words = ofVerb(c.votes, c.voters, "member", "is", "are") + " heard"
	case away == 0:
		v.Words = ofVerb(c.votes, c.voters, "member", "is", "are") + " heard; if one goes, nothing can be decided"
	default:
		v.State, v.Words = Wrong, ofVerb(c.votes, c.voters, "member", "is", "are")+" heard; if one more goes, nothing can be decided"
	}
	return v
}

// unheard is what the speaker holds when it does not hear a majority: it may be
// the one that is cut off. It says what it sees itself, and accuses nobody.
func (c *court) unheard(v Verdict, own voice, has bool) Verdict {
	name := Name(v.Subject)
	switch {
	case v.Subject == Node(c.Speaker):
		v.State, v.Words = CutOff, c.cutOffWords()
	case has && own.reach:
		v.State, v.Since, v.Words = Fine, own.since, "reached from here; the majority of the fleet is not heard"
	case c.isNode(v.Subject) && c.heard[name]:
		v.State, v.Words = Fine, "its heartbeats come; the majority of the fleet is not heard"
	default:
		v.State, v.Words = Unknown, fmt.Sprintf("cannot be known from here: %s heard", ofVerb(c.votes, c.voters, "member", "is", "are"))
		if has && own.fails {
			v.Words += ", and this node alone does not reach it since " + c.clock(own.since)
		}
		if was := c.Before[v.Subject]; was.State == Lost || was.State == Unknown && was.Since.Before(c.Now) && len(was.For) > 0 {
			v.For = was.For
		}
	}
	return v
}

// outside names something that the speaker reaches and that is none of the
// members it does not hear: then it is not its own line that is cut.
func (c *court) outside() string {
	var found []string
	for _, s := range c.subjects {
		if c.isNode(s.Name) && c.members[Name(s.Name)].Name != "" || slices.ContainsFunc(s.Hosts, func(h string) bool { return c.members[h].Name != "" }) {
			continue
		}
		if v, ok := c.voice(s, c.Speaker); ok && v.reach {
			found = append(found, Name(s.Name))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.MinFunc(found, cmp.Compare)
}

func (c *court) cutOffWords() string {
	peers, heard := 0, 0
	for _, name := range c.names {
		if name != c.Speaker && c.members[name].Votes {
			peers++
			if c.heard[name] {
				heard++
			}
		}
	}
	words := fmt.Sprintf("it hears %d of its %s: this node may be the one that is cut off, and accuses nobody", heard, count(peers, "peer"))
	if there := c.outside(); there != "" {
		words += "; it does reach " + there + ", which is none of them"
	}
	return words
}
