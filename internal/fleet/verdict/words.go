package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// signals are the names of signals in a sentence.
var signals = map[string]string{
	"https": "HTTPS", "tcp": "TCP", "tls": "TLS", "dns": "DNS", "smtp": "SMTP", "postgresql": "PostgreSQL", "ssh": "SSH", "systemd": "systemd",
	"git": "Git", "disk": "disk space", "backup-age": "the age of its backup", "model": "its model", "unreachable": "connections that must not be",
	"peer": "its Foundry's door", "lease": "its lease",
}

func (c *court) clock(t time.Time) string {
	t, now := t.UTC(), c.Now.UTC()
	switch {
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format("15:04:05")
	case t.Year() == now.Year():
		return t.Format("2 January 15:04:05")
	}
	return t.Format("2 January 2006 15:04:05")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// ofVerb says "1 of 3 members is", "the only member is".
func ofVerb(n, of int, noun, one, many string) string {
	verb := many
	if n == 1 {
		verb = one
	}
	if of == 1 {
		return fmt.Sprintf("the only %s %s", noun, verb)
	}
	return fmt.Sprintf("%d of %d %ss %s", n, of, noun, verb)
}

// of says "3 of 4 observers", and "the only observer".
func of(n, all int) string {
	if all == 1 && n == 1 {
		return "the only observer"
	}
	return fmt.Sprintf("%d of %s", n, count(all, "observer"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func backAgain(n int) string {
	if n <= 1 {
		return "one is back"
	}
	return fmt.Sprintf("%d are back", n)
}

func list(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// by lists the signals of looks, without the leases.
func by(looks []look) string {
	var out []string
	for _, l := range looks {
		word := signals[l.Signal]
		if word == "" {
			word = l.Signal
		}
		if l.Signal != "lease" && !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	slices.Sort(out)
	return list(out)
}

func watchers(looks []look) int {
	var out []string
	for _, l := range looks {
		if !slices.Contains(out, l.Observer) {
			out = append(out, l.Observer)
		}
	}
	return len(out)
}

func (c *court) leaseWords(silent []look) string {
	switch len(silent) {
	case 0:
		return ""
	case 1:
		return ", and its lease ended at " + c.clock(silent[0].At)
	}
	return ", and the leases of its hosts have ended"
}

// alone names who says otherwise, and that it changes nothing.
func alone(voices []voice, what string) string {
	if len(voices) == 0 {
		return ""
	}
	return fmt.Sprintf("; only %s %s", list(names(voices)), what)
}

func (c *court) lostWords(v *Verdict, bad, all, reach []voice, silent []look) string {
	return fmt.Sprintf("%s cannot reach it by %s since %s%s%s", of(len(bad), len(all)), by(failing(looksOf(bad))), c.clock(v.Since), c.leaseWords(silent), alone(reach, "says otherwise"))
}

func (c *court) lostFunctionWords(v *Verdict, evidence []look, f *question) string {
	words := fmt.Sprintf("%s see it fail by %s since %s", of(watchers(evidence), len(f.voices)), by(evidence), c.clock(v.Since))
	if watchers(evidence) == 1 {
		words = strings.Replace(words, " see ", " sees ", 1)
	}
	if len(f.gone) > 0 {
		words += fmt.Sprintf(", and %s %s silent", list(f.s.Hosts), plural(len(f.s.Hosts), "is", "are"))
	}
	return words
}

func (c *court) hostsWords(hosts []string, since time.Time) string {
	return fmt.Sprintf("%s that it runs on %s lost since %s", list(hosts), plural(len(hosts), "is", "are"), c.clock(since))
}

func (c *court) stillWords(before Verdict) string {
	return fmt.Sprintf("lost since %s, and not back yet", c.clock(before.Since))
}

func (c *court) backWords(before Verdict, back time.Time, n, all int) string {
	return fmt.Sprintf("lost since %s; it answers %s again since %s, which is believed from %s on", c.clock(before.Since), of(n, all), c.clock(back), c.clock(back.Add(c.rules.Recover)))
}

func (c *court) suspectedWords(shown, all []voice, silent []look, quiet time.Time, short bool) string {
	if len(shown) == 0 && quiet.IsZero() {
		return "nothing has been heard of it yet"
	}
	if len(shown) == 0 {
		return fmt.Sprintf("nothing has been heard of it since %s", c.clock(quiet))
	}
	words := fmt.Sprintf("%s %s not reach it by %s since %s", of(len(shown), len(all)), plural(len(shown), "does", "do"), by(failing(looksOf(shown))), c.clock(nth(sinces(shown), 1)))
	if short {
		return words + c.leaseWords(silent) + "; a loss needs a second kind of signal, such as HTTPS or SSH"
	}
	if len(silent) > 0 {
		return words + c.leaseWords(silent) + "; not confirmed yet"
	}
	return words + "; not confirmed, traffic goes around it"
}

func (c *court) suspectedFunctionWords(v *Verdict, shown, ok []look, f *question) string {
	n := watchers(shown)
	words := fmt.Sprintf("%s %s it fail by %s since %s", of(n, max(len(f.voices), n)), plural(n, "sees", "see"), by(shown), c.clock(v.Since))
	reason := "not confirmed, traffic goes around it"
	electors := len(c.electors(f.s))
	switch {
	case electors < v.Quorum:
		reason = fmt.Sprintf("a loss needs %s, and %s at it", count(v.Quorum, "observer"), plural(electors, "only one looks", "fewer look"))
	case c.lasts(v.Since, c.confirm(f.s)) && n >= v.Quorum && !independent(append(slices.Clone(shown), f.gone...), c.doubt()):
		reason = "a loss needs a second kind of signal"
	}
	if len(ok) > 0 && watchers(ok) > 1 {
		words += fmt.Sprintf(", and %d see it work", watchers(ok))
	}
	return words + "; " + reason
}

func (c *court) silentWords(t *tally) string {
	return fmt.Sprintf("%s %s it by %s, but it does not reach the fleet: its lease ended at %s", of(len(t.reach), len(t.voices)), plural(len(t.reach), "reaches", "reach"), by(good(t.reach)), c.clock(t.sil.At))
}

func good(voices []voice) (out []look) {
	for _, l := range looksOf(voices) {
		if l.reached() {
			out = append(out, l)
		}
	}
	return out
}

func (c *court) seesWords(seen, shown, all []voice) string {
	return fmt.Sprintf("it reaches %s, but %s %s not reach it by %s since %s; it lives", list(names(seen)), of(len(shown), len(all)), plural(len(shown), "does", "do"), by(failing(looksOf(shown))), c.clock(nth(sinces(shown), 1)))
}

func (c *court) partWords(member bool, shown, reach, all []voice) string {
	words := fmt.Sprintf("%s %s not reach it by %s since %s", of(len(shown), len(all)), plural(len(shown), "does", "do"), by(failing(looksOf(shown))), c.clock(nth(sinces(shown), 1)))
	if len(reach) > 0 {
		return words + fmt.Sprintf(", and %s %s: a part of the network is broken", list(names(reach)), plural(len(reach), "does", "do"))
	}
	if member {
		words += ", but its heartbeats come: it lives"
	}
	return words
}

func (c *court) partLooksWords(bad, ok []look) string {
	n := watchers(bad) + watchers(ok)
	return fmt.Sprintf("%s see it fail by %s since %s, and %d see it work: a part of the network is broken", of(watchers(bad), n), by(bad), c.clock(nth(times(bad), 1)), watchers(ok))
}

func (c *court) fineWords(all, reach, fails []voice, member bool) string {
	if len(all) == 0 && member {
		return "its heartbeats come"
	}
	words := fmt.Sprintf("reached by %s", of(len(reach), len(all)))
	if len(fails) > 0 {
		words += alone(c.lasting(fails, c.rules.Suspect), "cannot")
	}
	return words
}

func (c *court) unseenWords(all []voice) string {
	if len(all) == 0 {
		return "nobody looks at it"
	}
	return fmt.Sprintf("only %s %s at it now, and %s not reach it", list(names(all)), plural(len(all), "looks", "look"), plural(len(all), "does", "do"))
}

func (c *court) drainedWords(t tally) string {
	if t.silent {
		return "drained by an operator, and silent since " + c.clock(t.sil.since) + "; that is no loss"
	}
	return "drained by an operator; that is no loss"
}

func (c *court) traitWords(t *tally, state State) string {
	switch state {
	case Disputed:
		return c.disputeWords(c.disputed[t.name])
	case Flapping:
		return c.flapWords(t.voices)
	case Clock:
		return c.clockWords(t.name)
	case Wrong:
		conds, _ := c.conditions(t.s)
		return c.wrongWords(conds)
	}
	if t.member && !c.alive(t.name) && t.name != c.Speaker {
		late := "nothing has been heard of it yet"
		if heard := c.members[t.name].Heard; !heard.IsZero() {
			late = "its heartbeats are late: the last came at " + c.clock(heard)
		}
		if len(t.voices) == 0 {
			return late
		}
		return fmt.Sprintf("reached by %s, but %s", of(len(t.reach), len(t.voices)), late)
	}
	return c.slowWords(t.reach)
}

func (c *court) disputeWords(d dispute) string {
	var about []string
	for _, subject := range d.about {
		about = append(about, Name(subject))
	}
	if len(about) > 4 {
		about = append(about[:3], fmt.Sprintf("%d others", len(about)-3))
	}
	return fmt.Sprintf("its reports on %s contradict all the others; they do not count while it is alone with them", list(about))
}

func (c *court) flapWords(voices []voice) string {
	n, changes := 0, 0
	for _, l := range looksOf(voices) {
		changes = max(changes, l.Changes)
	}
	for _, v := range voices {
		if slices.ContainsFunc(v.looks, func(l look) bool { return l.Changes >= c.rules.Flaps }) {
			n++
		}
	}
	return fmt.Sprintf("it comes and goes: %s saw up to %d changes in %s", of(n, len(voices)), changes, spell(c.rules.FlapWindow))
}

func (c *court) clockWords(name string) string {
	if name == c.Speaker {
		return fmt.Sprintf("its clock differs from that of %d others by more than %s; their times are not used", c.offClocks, spell(c.rules.Clock))
	}
	offset := c.members[name].Offset
	way := "ahead"
	if offset < 0 {
		way = "behind"
	}
	return fmt.Sprintf("its clock is %s %s; its times are not used, what it sees is", spell(offset.Abs()), way)
}

func (c *court) slowWords(reach []voice) string {
	n, took := 0, time.Duration(0)
	for _, v := range reach {
		if !v.slow {
			continue
		}
		n++
		for _, l := range v.looks {
			took = max(took, l.Took)
		}
	}
	return fmt.Sprintf("it answers, but slowly: %s waited longer than %s, up to %s", of(n, len(reach)), spell(c.rules.Slow), spell(took))
}

func (c *court) wrongWords(conds []look) string {
	return fmt.Sprintf("it works, but %s %s not as it must be since %s, %s %s", by(conds), plural(len(strings.Split(by(conds), " and ")), "is", "are"), c.clock(nth(times(conds), 1)), plural(watchers(conds), "says", "say"), list(whoLooks(conds)))
}

func whoLooks(looks []look) (out []string) {
	for _, l := range looks {
		if !slices.Contains(out, l.Observer) {
			out = append(out, l.Observer)
		}
	}
	return out
}

// spell says a duration as people do.
func spell(d time.Duration) string {
	switch {
	case d >= time.Minute && d%time.Minute == 0:
		return count(int(d/time.Minute), "minute")
	case d >= 10*time.Second:
		return count(int(d.Round(time.Second)/time.Second), "second")
	}
	return strings.TrimSuffix(d.Round(100*time.Millisecond).String(), ".0s")
}
