package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// noticeConflict compares the rules for one event and one recipient. Different
// laws ask for different notices to different regulators, and the stages of
// one notice differ in what they state; those are not in conflict.
func noticeConflict(c *Context) {
	groups, keys := map[string][]int{}, []string(nil)
	for i := range c.Notices {
		n := &c.Notices[i]
		key := strings.Join([]string{n.Event, n.To}, " to ")
		if n.To == "regulator" {
			key += " by " + n.Law
		}
		if groups[key] == nil {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], i)
	}
	for _, key := range keys {
		c.oneNotice(groups[key])
	}
	c.agreements()
}

// oneNotice reports rules for one notice that differ.
func (c *Context) oneNotice(group []int) {
	slices.SortFunc(group, func(a, b int) int { return strings.Compare(c.Notices[a].Name, c.Notices[b].Name) })
	first := &c.Notices[group[0]]
	var names, words, paths []string
	different := false
	for _, i := range group {
		n := &c.Notices[i]
		names, words, paths = append(names, n.Name), append(words, fmt.Sprintf("%q says %s", n.Name, promised(n))), append(paths, at("notices", i))
		different = different || promised(n) != promised(first) && !stages(n, first)
	}
	if !different {
		return
	}
	c.Report(paths[0], these("notice", "notices", names), "Of the event %q, %s are told by several rules: %s.", first.Event, first.To, listed(words)).With(paths[1:]...)
}

// promised is what a notice promises, in words.
func promised(n *plan.Notice) string {
	within, from := "no time", ""
	if !n.Within.IsZero() {
		within = n.Within.String()
	}
	if n.From != "" {
		from = " from " + strings.ReplaceAll(n.From, "-", " ")
	}
	return within + from
}

// stages reports two notices of one matter that say different things.
func stages(a, b *plan.Notice) bool {
	x, y := slices.Sorted(slices.Values(a.States)), slices.Sorted(slices.Values(b.States))
	return len(x) > 0 && len(y) > 0 && !slices.Equal(x, y)
}

// agreements reports clients whose agreement asks for more than the rules for
// clients give. Agreements speak of disruptions; a plan that has no notice of
// outages is held against its notices of incidents.
func (c *Context) agreements() {
	for i := range c.Clients {
		client := &c.Clients[i]
		best := c.fastest("outage", client.Name)
		if best < 0 {
			best = c.fastest("security-incident", client.Name)
		}
		if !client.Notify.Known() {
			continue
		}
		path, subject := at("clients", i, "notify_within"), about("client", client.Name)
		if best < 0 {
			c.Report(path, subject, "Client %q is to be told within %s by its agreement, and no notice reaches it.", client.Name, client.Notify).
				Saying("Write a notice of the event outage to clients, or to client %q, within %s.", client.Name, client.Notify).As(Error)
			continue
		}
		if n := &c.Notices[best]; n.Within.Known() && n.Within.Longest() > client.Notify.Longest() {
			c.Report(path, subject, "Client %q is to be told within %s by its agreement, and notice %q, the fastest that reaches it, is due within %s.", client.Name, client.Notify, n.Name, n.Within).
				Saying("Tell clients within %s, or write a notice to client %q.", client.Notify, client.Name).With(at("notices", best, "within")).As(Error)
		}
	}
}

// fastest is the position of the notice of an event that reaches a client
// first; one without a number comes last. It is -1 when there is none.
func (c *Context) fastest(event, client string) int {
	best := -1
	for i := range c.Notices {
		n := &c.Notices[i]
		if n.Event != event || n.To != "clients" && n.To != client {
			continue
		}
		if best < 0 || earlier(n, &c.Notices[best]) {
			best = i
		}
	}
	return best
}

func earlier(a, b *plan.Notice) bool {
	if a.Within.Known() != b.Within.Known() {
		return a.Within.Known()
	}
	if a.Within.Longest() != b.Within.Longest() {
		return a.Within.Longest() < b.Within.Longest()
	}
	return a.Name < b.Name
}
