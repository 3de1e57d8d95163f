package survivor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// Held is what a node left for this one, opened. It is secret as a whole.
type Held struct {
	From   string
	To     string // this node
	Fleet  string // id
	Made   time.Time
	Digest string
	Parts  []Part
	Latest []byte    // what changes by itself; nil: nothing is known of it
	Noted  time.Time // when that was sealed

	// Stale says that its node has changed keys or settings since, so that it
	// may open less than everything.
	Stale bool
	// Doubts say in words what is not known, or known to be wrong.
	Doubts []string
}

// Wipe ends what was opened.
func (h *Held) Wipe() {
	wipe(h.Parts)
	clear(h.Latest)
}

// Take opens what a node left for this one: from the store as a majority has
// it, as this member has it, or from the copy beside the store, whichever
// comes first. The caller authorises and audits it.
func (c *Custody) Take(ctx context.Context, from string) (Held, error) {
	if why := c.refused()[from]; why != "" {
		return Held{}, problem.New(problem.Denied, "survivor-refused", fmt.Sprintf("By the plan in force %s must not take over from %s: %s.", c.self, from, why)).
			WithMend("Recover from the emergency kit, or change the plan.")
	}
	k, err := c.find(ctx, from)
	if err != nil {
		return Held{}, err
	}
	return opened(c.own, k, from, c.o.Clock())
}

// find reads a bundle with what lies beside it.
func (c *Custody) find(ctx context.Context, from string) (kept, error) {
	for _, get := range []func(context.Context, string) (member.Entry, error){c.store.Get, c.store.GetLocal} {
		e, err := get(ctx, bundlePath(c.self, from))
		if errors.Is(err, member.ErrAbsent) {
			break
		}
		var k kept
		if err == nil {
			err = e.Decode(&k.bundle)
		}
		if err == nil {
			err = c.beside(ctx, get, from, &k)
		}
		if err == nil {
			k.Seen = c.o.Clock().UTC()
			return k, nil
		}
	}
	return readKept(c.o.Dir, from)
}

// OpenKept opens the copy that a node keeps beside the store, while its
// process runs or not. now is compared with when the copy was last looked at.
func OpenKept(own member.Own, dir, from string, now time.Time) (Held, error) {
	k, err := readKept(dir, from)
	if err != nil {
		return Held{}, err
	}
	return opened(own, k, from, now)
}

// opened opens a bundle, refuses what is not this fleet's, and says what is
// doubtful about it.
func opened(own member.Own, k kept, from string, now time.Time) (h Held, err error) {
	if k.Fleet != "" && k.Fleet != own.Fleet {
		return h, problem.New(problem.Denied, "survivor-other-fleet", fmt.Sprintf("What %s left was left in another fleet (%s), and %s is in the fleet %s.", from, k.Fleet, own.Name, own.Fleet)).
			WithMend("Recover from the emergency kit of the lost node.")
	}
	h = Held{From: from, To: own.Name, Fleet: own.Fleet, Made: k.Made, Digest: k.Digest}
	if h.Parts, err = k.open(own.Name, own.Open); err != nil {
		return h, err
	}
	if k.From != from {
		h.Wipe()
		return h, problem.New(problem.Conflict, "survivor-unreadable", fmt.Sprintf("In the place of what %s left is what %s left.", from, k.From)).WithMend("Recover from the emergency kit.")
	}
	doubt := func(format string, args ...any) { h.Doubts = append(h.Doubts, fmt.Sprintf(format, args...)) }
	if k.Fleet == "" {
		doubt("What %s left does not say of which fleet it is: it was left by an earlier version.", from)
	}
	switch {
	case k.Said != "" && k.Said != k.Digest:
		h.Stale = true
		doubt("What %s left is of %s, and it has changed keys or settings since: it may not open everything.", from, stamp(k.Made))
	case k.Said == "" || k.Seen.IsZero():
		doubt("Whether what %s left on %s is what it had last is not known.", from, stamp(k.Made))
	case now.Sub(k.Seen) > Fresh:
		doubt("What %s left was last compared with what it says %s ago: what it changed since is not in it.", from, now.Sub(k.Seen).Round(time.Minute))
	}
	h.note(own, k, doubt)
	return h, nil
}

// note opens what changes by itself. Without it a recovery proves less.
func (h *Held) note(own member.Own, k kept, doubt func(string, ...any)) {
	if k.Latest == nil {
		doubt("%s left no note of how far its database and its audit log had come: less can be proven.", h.From)
		return
	}
	parts, err := k.Latest.open(own.Name, own.Open)
	if err != nil || k.Latest.From != h.From || k.Latest.Fleet != k.Fleet || len(parts) != 1 || parts[0].Name != latest {
		wipe(parts)
		doubt("The note that %s left of how far it had come does not open: less can be proven.", h.From)
		return
	}
	h.Latest, h.Noted = parts[0].Body, k.Latest.Made
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// Follow calls told whenever somebody left something for this node, until ctx
// ends: what is not opened is not known to open.
func (c *Custody) Follow(ctx context.Context, told func()) {
	c.follow(ctx, told, "survivors/"+c.self+"/", "survivors-latest/"+c.self+"/")
}

// FollowPeers calls told whenever a node joins or changes, until ctx ends: it
// may be one that is to take over, and holds nothing yet.
func (c *Custody) FollowPeers(ctx context.Context, told func()) { c.follow(ctx, told, "nodes/", "") }

func (c *Custody) follow(ctx context.Context, told func(), one, other string) {
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(ctx)
		first := c.store.Watch(watching, one, 0)
		var second <-chan member.Event
		if other != "" {
			second = c.store.Watch(watching, other, 0)
		}
		for open := true; open; {
			var e member.Event
			select {
			case e, open = <-first:
			case e, open = <-second:
			}
			if open = open && e.Err == nil; open {
				told()
			}
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
		told() // what came meanwhile
	}
}

// followAgain is how soon a watch that ended is begun again.
const followAgain = 3 * time.Second
