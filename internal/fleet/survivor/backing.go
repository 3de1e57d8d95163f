package survivor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/plan"
)

// Backing is what a node found when it looked at the backups of another's
// database, by what that one left for it: exactly what a take-over would use.
type Backing struct {
	At       time.Time `json:"at"`                 // when it looked
	Of       string    `json:"of"`                 // digest of the bundle that it looked with
	External bool      `json:"external,omitempty"` // no database runs on that node: none is restored
	Target   string    `json:"target,omitempty"`
	Label    string    `json:"label,omitempty"`   // of the backup that would be restored
	Stopped  time.Time `json:"stopped,omitzero"`  // when that was finished
	Reaches  time.Time `json:"reaches,omitzero"`  // until when the target has something of the database
	Noted    time.Time `json:"noted,omitzero"`    // when that node last said how far it was
	Skipped  []string  `json:"skipped,omitempty"` // targets that do not serve, in words
	Error    string    `json:"error,omitempty"`   // why nothing can be restored, in words
}

// longestGap is how far the backups may lie behind a node: further than that,
// they have stopped.
const longestGap = 24 * time.Hour

// Behind is how much would be lost if the other node were gone since it last
// said how far it was.
func (b Backing) Behind() time.Duration { return max(0, b.Noted.Sub(b.Reaches)) }

// lack says in words what of the backups is in the way of taking over; empty:
// nothing.
func (b *Backing) lack(from, bundle string, now time.Time) string {
	switch {
	case b == nil || b.Of != bundle:
		return "it has not looked at the backups of " + from + " with what it holds yet; it does within minutes while its node runs"
	case b.Error != "":
		return fmt.Sprintf("nothing can be restored there from the backups of %s: %s", from, strings.TrimSuffix(b.Error, "."))
	case now.Sub(b.At) > Fresh:
		return fmt.Sprintf("it last looked at the backups of %s %s ago; its node should look every half hour", from, now.Sub(b.At).Round(time.Minute))
	case !b.External && b.Behind() > longestGap:
		return fmt.Sprintf("the backups of %s end at %s: they have stopped", from, stamp(b.Reaches))
	}
	return ""
}

// words say what a take-over would bring, and when that was found.
func (b *Backing) words(rpo time.Duration) string {
	if b == nil || b.External {
		return ""
	}
	out := fmt.Sprintf(" At %s the backups at %s reached to %s, with the backup %s of %s.", stamp(b.At), b.Target, stamp(b.Reaches), b.Label, stamp(b.Stopped))
	if behind := b.Behind(); rpo > 0 && behind > rpo {
		out += fmt.Sprintf(" They were %s behind, and the plan allows %s.", behind.Round(time.Second), rpo)
	}
	for _, s := range b.Skipped {
		out += " " + s
	}
	return out
}

// rpoOf is the shortest that the plan allows to be lost of what lies in the
// database; 0: it says nothing.
func rpoOf(p *plan.Plan, functions []string) (out time.Duration) {
	for _, name := range functions {
		f := p.Function(name)
		if f == nil || f.Kind != "platform" && f.Kind != "database" || f.RPO.IsZero() || !f.RPO.Known() {
			continue
		}
		if rpo := f.RPO.Longest(); out == 0 || rpo < out {
			out = rpo
		}
	}
	return out
}

// Holds lists what other nodes left for this one, as digests of their bundles.
func (c *Custody) Holds(ctx context.Context) (map[string]string, error) {
	list, _, err := c.store.List(ctx, "survivors/"+c.self+"/")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	refused := c.refused()
	for _, e := range list {
		from := strings.TrimPrefix(e.Path, "survivors/"+c.self+"/")
		var b bundle
		if err := e.Decode(&b); err != nil {
			return nil, err
		}
		if member.CheckName(from) == nil && refused[from] == "" {
			out[from] = b.Digest
		}
	}
	return out, nil
}
