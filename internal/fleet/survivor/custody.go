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
	own   member.Own
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
	return &Custody{o, o.Member.Own(), o.Member.Name(), o.Member.Store()}
}

// Paths in the fleet's store.
func bundlePath(to, from string) string { return "survivors/" + to + "/" + from }
func notePath(to, from string) string   { return "survivors-latest/" + to + "/" + from }
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
			b, err := seal(c.own, n.To, peer.Recipient, parts, now)
			if err != nil {
				return done, err
			}
			writes = append(writes, member.Write{Path: bundlePath(n.To, c.self), Value: b})
			done.Sealed = append(done.Sealed, n.To)
		}
		delete(had, n.To)
	}
	for to := range had {
		writes = append(writes, member.Write{Path: bundlePath(to, c.self)}, member.Write{Path: notePath(to, c.self)})
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

// Note seals what changes by itself to every node that holds a bundle of this
// one. It is no part of what makes a bundle current.
func (c *Custody) Note(ctx context.Context, body []byte) error {
	had, err := c.depositedBy(ctx, c.self)
	if err != nil || len(had) == 0 {
		return err
	}
	var writes []member.Write
	for to, b := range had {
		sealed, err := seal(c.own, to, b.Recipient, []Part{{latest, body}}, c.o.Clock())
		if err != nil {
			return err
		}
		writes = append(writes, member.Write{Path: notePath(to, c.self), Value: sealed})
	}
	_, err = c.store.PutAll(ctx, writes)
	return err
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

	Backing *Backing `json:"backing,omitempty"` // nil: it has not looked
}

// Look opens every bundle that was deposited for this node, keeps a copy of
// each beside the store, and tells the fleet what it could open. lacks is what
// this node knows to be missing besides: a program, space on its disk; backed is
// what it has found of the backups, by the nodes that they are of.
func (c *Custody) Look(ctx context.Context, lacks []string, backed map[string]Backing) error {
	list, _, err := c.store.List(ctx, "survivors/"+c.self+"/")
	if err != nil {
		return err
	}
	h := holding{At: c.o.Clock().UTC(), Of: map[string]held{}, Lacks: lacks}
	keep := map[string]bool{}
	refused := c.refused()
	for _, e := range list {
		from := strings.TrimPrefix(e.Path, "survivors/"+c.self+"/")
		if why := refused[from]; why != "" {
			h.Of[from] = held{Error: why} // and its copy goes
			continue
		}
		k := kept{Seen: h.At}
		if err := e.Decode(&k.bundle); err != nil {
			return err
		}
		keep[from] = true // while it does not open, the copy beside the store may
		parts, err := k.open(c.self, c.own.Open)
		if err == nil && k.From != from {
			err = problem.New(problem.Conflict, "survivor-unreadable", "It lies in the place of "+from+".")
		}
		if err != nil {
			c.o.Log.Warn("what a node deposited for this one does not open", "from", from, "error", err)
			h.Of[from] = held{Error: problem.From(err).Detail}
			continue
		}
		is := held{Digest: k.Digest, Parts: names(parts)}
		if b, looked := backed[from]; looked {
			is.Backing = &b
		}
		h.Of[from] = is
		wipe(parts)
		if err = c.beside(ctx, c.store.Get, from, &k); err != nil {
			return err
		}
		if err := c.keep(k); err != nil {
			h.Lacks = append(h.Lacks, "a copy beside the store: "+problem.From(err).Detail)
		}
	}
	c.drop(keep)
	_, err = c.store.Put(ctx, holderPath(c.self), h)
	return err
}

// refused says why this node must not hold what others left for it, by their
// names. A node that the plan says nothing of is not refused here: whoever
// left the bundle withdraws it.
func (c *Custody) refused() map[string]string {
	out := map[string]string{}
	for _, n := range Needs(c.o.Plan()) {
		if n.To == c.self && n.Refused != "" {
			out[n.From] = n.Refused
		}
	}
	return out
}

// beside reads what lies beside a bundle: what changes by itself, and which
// bundle its node says is of today.
func (c *Custody) beside(ctx context.Context, get func(context.Context, string) (member.Entry, error), from string, k *kept) error {
	var b bundle
	e, err := get(ctx, notePath(c.self, from))
	if err == nil {
		if err = e.Decode(&b); err == nil {
			k.Latest = &b
		}
	}
	if err != nil && !errors.Is(err, member.ErrAbsent) {
		return err
	}
	var said source
	e, err = get(ctx, sourcePath(from))
	if err == nil {
		err = e.Decode(&said)
	}
	if errors.Is(err, member.ErrAbsent) {
		err = nil
	}
	k.Said = said.Digest
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

func (c *Custody) file(from string) string { return fileOf(c.o.Dir, from) }

func fileOf(dir, from string) string { return filepath.Join(dir, from+".survivor") }

// kept is a bundle as it lies beside the store, with what this node knew of it
// when it last looked.
type kept struct {
	bundle
	Latest *bundle   `json:"latest,omitempty"`
	Seen   time.Time `json:"seen,omitzero"`  // when it was last compared with what its node says
	Said   string    `json:"said,omitempty"` // the digest that its node then said
}

// keep writes a bundle beside the store. It is sealed to this node's key.
func (c *Custody) keep(k kept) error {
	if c.o.Dir == "" || member.CheckName(k.From) != nil {
		return nil
	}
	body, err := json.Marshal(k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
		return err
	}
	return durable.Replace(c.file(k.From), body, 0o600)
}

// readKept reads what lies in a directory of what a node left.
func readKept(dir, from string) (k kept, err error) {
	nothing := problem.New(problem.NotFound, "survivor-nothing", fmt.Sprintf("Nothing that %s left is here.", from)).
		WithMend("See `foundry node readiness`: the plan names who takes over from whom. Otherwise recover from the emergency kit.")
	if dir == "" || member.CheckName(from) != nil {
		return k, nothing
	}
	body, err := os.ReadFile(fileOf(dir, from))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nothing
	}
	if err == nil {
		err = json.Unmarshal(body, &k)
	}
	if err != nil {
		return k, problem.New(problem.Internal, "survivor-file", fileOf(dir, from)+" cannot be read.").WithMend("Delete it: it is written again from the fleet's store.").Wrap(err)
	}
	return k, nil
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
