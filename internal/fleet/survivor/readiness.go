package survivor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
)

// Fresh is for how long it counts that a survivor could open what it holds.
// Each looks every ten minutes.
const Fresh = time.Hour

// State is whether a node could take over.
type State string

const (
	Ready   State = "ready"   // it has opened today's bundle, and found a backup to restore, lately, and lacks nothing that it knows of
	Lacking State = "lacking" // something is missing: see Missing
	Refused State = "refused" // the plan names it, and it must not hold keys
)

// Readiness is what one node could take over from another now.
type Readiness struct {
	Need
	State   State     `json:"state"`
	Missing []string  `json:"missing,omitempty"`     // in words, each with what to do
	Made    time.Time `json:"made,omitzero"`         // when what it holds was sealed
	Opened  time.Time `json:"opened,omitzero"`       // when it last opened it
	Backing *Backing  `json:"backing,omitempty"`     // what it found of the backups; nil: it has not looked
	RPO     float64   `json:"rpo_seconds,omitempty"` // what the plan allows to be lost of it; 0: it says nothing
}

// Words says it in a sentence.
func (r Readiness) Words() string {
	what := strings.Join(r.Functions, ", ")
	switch r.State {
	case Ready:
		return fmt.Sprintf("%s could take over %s from %s now.", r.To, what, r.From) + r.Backing.words(time.Duration(r.RPO*float64(time.Second)))
	case Refused:
		return fmt.Sprintf("%s is named for %s of %s and holds nothing for it: %s.", r.To, what, r.From, r.Refused)
	}
	return fmt.Sprintf("%s could not take over %s from %s: %s.", r.To, what, r.From, strings.Join(r.Missing, "; "))
}

// Readiness says for every pair that the plan makes what is missing. With
// local set it reads what this member has, which may be old.
func (c *Custody) Readiness(ctx context.Context, local bool) ([]Readiness, error) {
	get, peers := c.store.Get, map[string]member.Node{}
	if local {
		get = c.store.GetLocal
		for _, n := range c.o.Member.Status(ctx).Nodes {
			peers[n.Name] = n.Node
		}
	} else {
		var err error
		if peers, err = c.peers(ctx); err != nil {
			return nil, err
		}
	}
	read := func(path string, into any) error {
		e, err := get(ctx, path)
		if err == nil {
			err = e.Decode(into)
		}
		if errors.Is(err, member.ErrAbsent) {
			return nil
		}
		return err
	}
	var out []Readiness
	for _, n := range Needs(c.o.Plan()) {
		r := Readiness{Need: n}
		if peer := peers[n.To]; r.Refused == "" && witness(peer) {
			r.Refused = n.To + " is a witness: it holds no key material"
		}
		if r.Refused != "" {
			r.State = Refused
			out = append(out, r)
			continue
		}
		var s source
		var b bundle
		var h holding
		if err := errors.Join(read(sourcePath(n.From), &s), read(bundlePath(n.To, n.From), &b), read(holderPath(n.To), &h)); err != nil {
			return nil, err
		}
		r.Made, r.Backing = b.Made, h.Of[n.From].Backing
		r.RPO = rpoOf(c.o.Plan(), n.Functions).Seconds()
		r.judge(peers, s, b, h, c.o.Clock())
		out = append(out, r)
	}
	return out, nil
}

// judge finds what is missing. The first cause hides those that follow from it.
func (r *Readiness) judge(peers map[string]member.Node, s source, b bundle, h holding, now time.Time) {
	lack := func(format string, args ...any) { r.Missing = append(r.Missing, fmt.Sprintf(format, args...)) }
	_, fromJoined := peers[r.From]
	to, toJoined := peers[r.To]
	opened := h.Of[r.From]
	switch {
	case !toJoined:
		lack("%s is not in the fleet: `foundry node invite %s` on a member, and `foundry node join` there", r.To, r.To)
	case to.Recipient == "":
		lack("%s has given no key to seal to: remove it and let it join again", r.To)
	case s.Digest == "" && !fromJoined:
		lack("%s is not in the fleet and has left nothing", r.From)
	case s.Digest == "" || b.Digest == "":
		lack("%s has left nothing for it yet: it does within a minute of being in the fleet with a plan in force", r.From)
	case b.Digest != s.Digest:
		lack("what it holds is of %s, and %s has changed keys or settings since", b.Made.Format(time.DateTime), r.From)
	case b.Recipient != to.Recipient:
		lack("what it holds is sealed to a key that it had before it joined anew; %s seals again within a minute, if it lives", r.From)
	case opened.Error != "":
		lack("it cannot open what it holds: %s", strings.TrimSuffix(opened.Error, "."))
	case opened.Digest != s.Digest:
		lack("it has not opened what it holds yet; it looks every ten minutes while its node runs")
	case now.Sub(h.At) > Fresh:
		lack("it last opened what it holds %s ago; its node should look every ten minutes", now.Sub(h.At).Round(time.Minute))
	case slices.Contains(s.Parts, Backups):
		if why := opened.Backing.lack(r.From, s.Digest, now); why != "" {
			lack("%s", why)
		}
	}
	if opened.Digest != "" && opened.Digest == s.Digest {
		r.Opened = h.At
	}
	if s.Digest != "" {
		for _, name := range Required {
			if !slices.Contains(s.Parts, name) {
				lack("%s left no %s", r.From, name)
			}
		}
	}
	if toJoined {
		r.Missing = append(r.Missing, h.Lacks...)
	}
	if r.State = Ready; len(r.Missing) > 0 {
		r.State = Lacking
	}
}
