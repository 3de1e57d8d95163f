package backup

import (
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/backup/kit"
	"github.com/missionopsai/foundry/internal/problem"
)

// Bundle is what a node left, before it was lost, for the one that takes over
// from it: a kit without its shares. [Recover] reads it in the place of a kit.
type Bundle struct {
	Content kit.Content // wiped by the recovery
	Digest  string      // of what the lost node sealed: SHA-256, hex
	Taken   TakenOver
	Notes   []string // what a person has to know of it: that it is older than what the node said last
}

// TakenOver says of a recovery which node took over from which, and who wanted
// it. It holds no secret and no personal data.
type TakenOver struct {
	From   string    `json:"from"` // the lost node
	To     string    `json:"to"`   // the node that held its bundle
	Fleet  string    `json:"fleet"`
	Made   time.Time `json:"made"` // when the lost node sealed it
	By     string    `json:"by"`   // kind and id of the principal
	Reason string    `json:"reason"`
	Notes  []string  `json:"notes,omitempty"` // what was known to be wrong with the bundle
}

// openBundle takes what a node left in the place of a kit's content.
func (x *recovering) openBundle(b *Bundle) error {
	x.content = b.Content
	if err := x.content.Validate(); err != nil {
		return err
	}
	if len(b.Digest) != 64 || b.Taken.From == "" || b.Taken.To == "" {
		return problem.New(problem.Invalid, "bundle-unknown", "It is not known whose keys these are.").WithMend("Recover from the emergency kit.")
	}
	if err := x.begin(b.Digest); err != nil {
		return err
	}
	taken := b.Taken
	taken.Notes = b.Notes
	x.r.Taken = &taken
	for _, n := range b.Notes {
		x.r.note("%s", n)
	}
	return nil
}

// source says in words what a node is recovered from.
func (r *Recovery) source() string {
	if r.Taken != nil {
		return "what " + r.Taken.From + " left for " + r.Taken.To
	}
	return "an emergency kit"
}

// command is how the recovery was begun.
func (r *Recovery) command() string {
	if r.Taken != nil {
		return "foundry recover --take-over " + r.Taken.From + " …"
	}
	return "foundry recover --kit …"
}

// other names what another recovery was begun with.
func (r *Recovery) other() string {
	if t := r.Taken; t != nil {
		return fmt.Sprintf("another bundle, which %s left for %s on %s", t.From, t.To, stamp(t.Made))
	}
	return "another kit (set " + r.Kit.Set.String() + ", made " + stamp(r.Kit.Created) + ")"
}
