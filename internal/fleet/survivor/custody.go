package survivor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/plan"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options make a custody.
type Options struct {
	Member *member.Member
	Dir    string            // where the bundles for this node are kept beside the store, so that they open without it
	Plan   func() *plan.Plan // in force; nil where there is none
	Clock  func() time.Time
	Log    *slog.Logger
}

// Custody is what this node leaves for its survivors, and what it holds for
// others.
type Custody struct {
	o     Options
	self  string
	store *member.Store
}

// New makes a custody.
func New(o Options) *Custody {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Custody{o, o.Member.Name(), o.Member.Store()}
}

// Paths in the fleet's store.
func bundlePath(to, from string) string { return "survivors/" + to + "/" + from }
func sourcePath(from string) string     { return "survivors-of/" + from }
func holderPath(to string) string       { return "held/" + to }

// source is what a node says of what it left: the digest that a survivor's
// bundle must have to be of today.
type source struct {
	Digest string    `json:"digest"`
	Parts  []string  `json:"parts"`
	Made   time.Time `json:"made"`
}

// Deposited says what a deposit did, by names of nodes.
type Deposited struct {
	Digest    string            `json:"digest"`
	Sealed    []string          `json:"sealed,omitempty"`    // anew
	Current   []string          `json:"current,omitempty"`   // had it already
	Absent    []string          `json:"absent,omitempty"`    // named by the plan, not in the fleet
	Refused   map[string]string `json:"refused,omitempty"`   // named by the plan, and must not hold it: why
	Withdrawn []string          `json:"withdrawn,omitempty"` // no longer named: what they held they may have kept
}

// Changed says whether anything was written.
func (d Deposited) Changed() bool { return len(d.Sealed)+len(d.Withdrawn) > 0 }

// Deposit seals what survivors of this node need to each node that the plan
// names, all in one step: after it every survivor has the same, or what it had.
// What has not changed is left as it is.
func (c *Custody) Deposit(ctx context.Context, parts []Part) (Deposited, error) {
	done := Deposited{Digest: digest(parts), Refused: map[string]string{}}
	peers, err := c.peers(ctx)
	if err != nil {
		return done, err
	}
	had, err := c.depositedBy(ctx, c.self)
	if err != nil {
		return done, err
	}
	now := c.o.Clock()
	var writes []member.Write
	for _, n := range Needs(c.o.Plan()) {
		if n.From != c.self {
			continue
		}
		peer, joined := peers[n.To]
		before, has := had[n.To]
		switch {
		case n.Refused != "" || witness(peer):
			done.Refused[n.To] = n.Refused
			if n.Refused == "" {
				done.Refused[n.To] = n.To + " is a witness: it holds no key material"
			}
			continue // and what it has is withdrawn below
		case !joined || peer.Recipient == "":
			done.Absent = append(done.Absent, n.To)
			continue
		case has && before.Digest == done.Digest && before.Recipient == peer.Recipient:
			done.Current = append(done.Current, n.To)
		default:
			b, err := seal(c.self, n.To, peer.Recipient, parts, now)
			if err != nil {
				return done, err
			}
			writes = append(writes, member.Write{Path: bundlePath(n.To, c.self), Value: b})
			done.Sealed = append(done.Sealed, n.To)
		}
		delete(had, n.To)
	}
	for to := range had {
		writes = append(writes, member.Write{Path: bundlePath(to, c.self)})
		done.Withdrawn = append(done.Withdrawn, to)
	}
	slices.Sort(done.Withdrawn)
	var said source
	e, err := c.store.Get(ctx, sourcePath(c.self))
	if err == nil {
		err = e.Decode(&said)
	}
	if err != nil && !errors.Is(err, member.ErrAbsent) {
		return done, err
	}
	if said.Digest != done.Digest {
		said = source{Digest: done.Digest, Made: now.UTC()}
		for _, p := range parts {
			said.Parts = append(said.Parts, p.Name)
		}
		slices.Sort(said.Parts)
		writes = append(writes, member.Write{Path: sourcePath(c.self), Value: said})
	}
	if len(writes) == 0 {
		return done, nil
	}
	_, err = c.store.PutAll(ctx, writes)
	return done, err
}

// peers are the nodes of the fleet by name.
func (c *Custody) peers(ctx context.Context) (map[string]member.Node, error) {
	list, err := c.o.Member.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]member.Node, len(list))
	for _, n := range list {
		out[n.Name] = n
	}
	return out, nil
}

// witness says whether a node votes and is to hold nothing.
func witness(n member.Node) bool { return slices.Contains(n.Roles, member.Witness) }

// depositedBy are the bundles of one node, by the names of those who hold them.
func (c *Custody) depositedBy(ctx context.Context, from string) (map[string]bundle, error) {
	list, _, err := c.store.List(ctx, "survivors/")
	if err != nil {
		return nil, err
	}
	out := map[string]bundle{}
	for _, e := range list {
		if !strings.HasSuffix(e.Path, "/"+from) {
			continue
		}
		var b bundle
		if err := e.Decode(&b); err != nil {
			return nil, err
		}
		out[b.To] = b
	}
	return out, nil
}

// holding is what a node says of the bundles that it was given.
type holding struct {
	At    time.Time       `json:"at"`
	Of    map[string]held `json:"of"`              // by the node they are of
	Lacks []string        `json:"lacks,omitempty"` // what else it would miss, in words
}

type held struct {
	Digest string   `json:"digest,omitempty"` // it opened
	Parts  []string `json:"parts,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// Look opens every bundle that was deposited for this node, keeps a copy of
// each beside the store, and tells the fleet what it could open. lacks is what
// this node knows to be missing besides: a program, space on its disk.
func (c *Custody) Look(ctx context.Context, lacks []string) error {
	list, _, err := c.store.List(ctx, "survivors/"+c.self+"/")
	if err != nil {
		return err
	}
	h := holding{At: c.o.Clock().UTC(), Of: map[string]held{}, Lacks: lacks}
	keep := map[string]bool{}
	for _, e := range list {
		var b bundle
		if err := e.Decode(&b); err != nil {
			return err
		}
		from := strings.TrimPrefix(e.Path, "survivors/"+c.self+"/")
		parts, err := b.open(c.self, c.o.Member.OpenOwn)
		if err == nil && b.From != from {
			err = problem.New(problem.Conflict, "survivor-unreadable", "It lies in the place of "+from+".")
		}
		if err != nil {
			c.o.Log.Warn("what a node deposited for this one does not open", "from", from, "error", err)
			h.Of[from] = held{Error: problem.From(err).Detail}
			keep[from] = true // the copy beside the store may still open
			continue
		}
		h.Of[from] = held{Digest: b.Digest, Parts: names(parts)}
		wipe(parts)
		keep[from] = true
		if err := c.keep(b); err != nil {
			h.Lacks = append(h.Lacks, "a copy beside the store: "+problem.From(err).Detail)
		}
	}
	c.drop(keep)
	_, err = c.store.Put(ctx, holderPath(c.self), h)
	return err
}

func names(parts []Part) (out []string) {
	for _, p := range parts {
		out = append(out, p.Name)
	}
	slices.Sort(out)
	return out
}

// wipe ends what was opened only to see that it opens.
func wipe(parts []Part) {
	for _, p := range parts {
		clear(p.Body)
	}
}

// Take opens what a node left for this one: from the store as a majority has
// it, as this member has it, or from the copy beside the store, whichever
// comes first. The caller authorises and audits it.
func (c *Custody) Take(ctx context.Context, from string) ([]Part, time.Time, error) {
	var b bundle
	path := bundlePath(c.self, from)
	e, err := c.store.Get(ctx, path)
	if err != nil && !errors.Is(err, member.ErrAbsent) {
		e, err = c.store.GetLocal(ctx, path)
	}
	if err == nil {
		err = e.Decode(&b)
	}
	if err != nil {
		if b, err = c.kept(from); err != nil {
			return nil, time.Time{}, err
		}
	}
	parts, err := b.open(c.self, c.o.Member.OpenOwn)
	return parts, b.Made, err
}

func (c *Custody) file(from string) string {
	return filepath.Join(c.o.Dir, from+".survivor")
}

// keep writes a bundle beside the store. It is sealed to this node's key.
func (c *Custody) keep(b bundle) error {
	if c.o.Dir == "" || strings.ContainsAny(b.From, "/\\") || strings.HasPrefix(b.From, ".") {
		return nil
	}
	if old, err := c.kept(b.From); err == nil && old.Digest == b.Digest && old.Recipient == b.Recipient {
		return nil
	}
	body, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
		return err
	}
	return durable.Replace(c.file(b.From), body, 0o600)
}

func (c *Custody) kept(from string) (b bundle, err error) {
	body, err := os.ReadFile(c.file(from))
	if errors.Is(err, fs.ErrNotExist) || c.o.Dir == "" {
		return b, problem.New(problem.NotFound, "survivor-nothing", fmt.Sprintf("Nothing that %s left is here.", from)).
			WithMend("See `foundry node readiness`: the plan names who takes over from whom. Otherwise recover from the emergency kit.")
	}
	if err == nil {
		err = json.Unmarshal(body, &b)
	}
	if err != nil {
		return b, problem.New(problem.Internal, "survivor-file", c.file(from)+" cannot be read.").WithMend("Delete it: it is written again from the fleet's store.").Wrap(err)
	}
	return b, nil
}

// drop removes copies of what this node is no longer to hold.
func (c *Custody) drop(keep map[string]bool) {
	files, _ := filepath.Glob(filepath.Join(c.o.Dir, "*.survivor"))
	for _, f := range files {
		if !keep[strings.TrimSuffix(filepath.Base(f), ".survivor")] {
			if err := os.Remove(f); err != nil {
				c.o.Log.Warn("a copy that is no longer wanted was not removed", "error", err)
			}
		}
	}
}
