package incident

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Book keeps incidents in the fleet's store. It needs no database. Any node's
// book may write at any time: of two that write at once one is first, and the
// other looks again at what is allowed before it goes after it.
type Book struct {
	Store *member.Store
	Node  string
	Clock func() time.Time

	// Patience is how long most of the fleet has for an answer, where somebody
	// waits only so long; then what this node has is given. 3 s.
	Patience time.Duration

	// Authorise decides who may do what; (*access.Guard).Authorise.
	Authorise func(ctx context.Context, p principal.Principal, act policy.Action, on policy.Resource) error
}

// Paths below the fleet's prefix. They hold ids alone.
const (
	pathIndex = "incident-index/"
	pathRoot  = "incidents/"
)

func pathEntry(id string, n int) string { return fmt.Sprintf("%s%s/%08d", pathRoot, id, n) }
func pathHead(id string) string         { return pathRoot + id + "/head" }

// Timeline is an incident as it was read.
type Timeline struct {
	Entries []Entry
	State   *State
	Stale   bool // as this node has it: most of the fleet does not answer

	head int64 // revision of the head's value
}

// acts are what somebody must be allowed to do for an entry of a kind; any
// other kind asks for "incident.append".
var acts = map[Kind]policy.Action{
	KindOpened: "incident.open", KindApproval: "incident.approve", KindAssessment: "incident.assess",
	KindNotice: "incident.notice", KindClosed: "incident.close", KindDecision: "incident.decide",
}

func (b *Book) may(ctx context.Context, p principal.Principal, act policy.Action, id string) error {
	if b.Authorise == nil {
		return problem.New(problem.Denied, "incident-denied", "Nobody may do anything here: there is no guard.")
	}
	return b.Authorise(ctx, p, act, policy.Resource{ID: id})
}

// Open begins an incident.
func (b *Book) Open(ctx context.Context, p principal.Principal, o Opened) (*Timeline, error) {
	return b.open(ctx, p, "inc-"+b.Clock().UTC().Format("20060102")+"-"+strings.ToLower(rand.Text()[:6]), o)
}

// OpenOnce begins the incident of something that has a name of its own, such as
// a verdict: of several nodes that see the same, one opens it, and the others
// get the one that there is. The name holds letters, digits and hyphens.
func (b *Book) OpenOnce(ctx context.Context, p principal.Principal, name string, o Opened) (t *Timeline, mine bool, err error) {
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || name == "" {
		return nil, false, invalid("name", "An incident's name holds small letters, digits and hyphens.", "Use such as loss-node1-4711.")
	}
	id := "inc-" + name
	t, err = b.open(ctx, p, id, o)
	var already *problem.Error
	if errors.As(err, &already) && already.Code == "incident-open" {
		t, err = b.load(ctx, id)
		return t, false, err
	}
	return t, err == nil, err
}

func (b *Book) open(ctx context.Context, p principal.Principal, id string, o Opened) (*Timeline, error) {
	if o.Mode == "" {
		o.Mode = Real
	}
	_, t, err := b.Append(ctx, p, id, &o)
	return t, err
}

// Append writes what somebody did. It returns when most of the fleet has it.
// An error that is "incident-indeterminate" says that it may have been
// written: what is in the timeline then counts.
func (b *Book) Append(ctx context.Context, p principal.Principal, id string, body Body) (*Entry, *Timeline, error) {
	act, ok := acts[body.kind()]
	if !ok {
		act = "incident.append"
	}
	if err := b.may(ctx, p, act, id); err != nil {
		return nil, nil, err
	}
	return b.append(ctx, p, id, body)
}

func (b *Book) append(ctx context.Context, p principal.Principal, id string, body Body) (*Entry, *Timeline, error) {
	var tried *Entry
	for {
		t, err := b.load(ctx, id)
		if errors.Is(err, ErrUnknown) && body.kind() == KindOpened {
			t, err = &Timeline{State: Fold(nil)}, nil
		}
		if err != nil {
			return nil, nil, indeterminate(tried, err)
		}
		if tried != nil { // a call that failed may have written
			if i := slices.IndexFunc(t.Entries, func(e Entry) bool { return e.ID == tried.ID }); i >= 0 {
				return &t.Entries[i], t, nil
			}
		}
		if t.Stale { // what is allowed cannot be told from what may be old
			return nil, nil, indeterminate(tried, member.ErrNoMajority)
		}
		now := b.Clock()
		if err := t.State.Check(body, p.String(), now); err != nil {
			return nil, t, err
		}
		var before *Entry
		if n := len(t.Entries); n > 0 {
			before = &t.Entries[n-1]
		}
		e, err := link(before, id, now, p.String(), b.Node, body.kind(), body)
		if err != nil {
			return nil, t, err
		}
		tried = &e
		err = b.write(ctx, t, &e)
		switch {
		case err == nil:
			t.Entries = append(t.Entries, e)
			t.State.Apply(&e)
			return &e, t, nil
		case errors.Is(err, member.ErrChanged):
		case ctx.Err() != nil:
			return nil, nil, indeterminate(tried, err)
		}
	}
}

func indeterminate(tried *Entry, err error) error {
	if tried == nil {
		return err
	}
	return problem.New(problem.Unavailable, "incident-indeterminate", "The fleet did not answer: it is not known whether the entry is in the timeline.").
		WithMend("Look at the timeline when the fleet answers, and write it again if it is not there.").Wrap(err)
}

// write puts an entry after the head that was read, or not at all.
func (b *Book) write(ctx context.Context, t *Timeline, e *Entry) error {
	line, err := e.Encode()
	if err != nil {
		return err
	}
	writes := []member.Write{
		{Path: pathEntry(e.Incident, e.N), Value: string(line)}, // as text: the store may spell JSON as it likes
		{Path: pathHead(e.Incident), Value: Head{e.N, e.Hash}},
	}
	if e.N == 1 {
		writes = append(writes, member.Write{Path: pathIndex + e.Incident, Value: map[string]any{"opened_at": e.At}})
	}
	_, err = b.Store.PutAll(ctx, writes, member.IfAbsent(pathEntry(e.Incident, e.N)), member.IfRevision(pathHead(e.Incident), t.head))
	return err
}

// Read reads an incident for somebody. Where most of the fleet does not
// answer, it is what this node has, and marked so.
func (b *Book) Read(ctx context.Context, p principal.Principal, id string) (*Timeline, error) {
	if err := b.may(ctx, p, "incident.read", id); err != nil {
		return nil, err
	}
	return b.load(ctx, id)
}

// patience is how long most of the fleet has for an answer to somebody who
// waits only so long: time is left for what this node has.
func (b *Book) patience() time.Duration { return cmp.Or(b.Patience, 3*time.Second) }

// look reads what most of the fleet has, or else, and with local at once, what
// this node has.
func (b *Book) look(ctx context.Context, prefix string, local bool) (values []member.Entry, stale bool, err error) {
	if !local {
		within, cancel := ctx, context.CancelFunc(func() {})
		if until, set := ctx.Deadline(); set && time.Until(until) > b.patience() {
			within, cancel = context.WithTimeout(ctx, b.patience())
		}
		values, _, err = b.Store.List(within, prefix)
		cancel()
		if !errors.Is(err, member.ErrNoMajority) || ctx.Err() != nil {
			return values, false, err
		}
	}
	values, _, err = b.Store.ListLocal(ctx, prefix)
	return values, true, err
}

// load reads, checks and folds a timeline.
func (b *Book) load(ctx context.Context, id string) (*Timeline, error) {
	return b.loadFrom(ctx, id, false)
}

func (b *Book) loadFrom(ctx context.Context, id string, local bool) (*Timeline, error) {
	values, stale, err := b.look(ctx, pathRoot+id+"/", local)
	if err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return nil, ErrUnknown
	}
	t := &Timeline{Stale: stale}
	var head Head
	for _, v := range values {
		if v.Path == pathHead(id) {
			t.head = v.Revision
			err = v.Decode(&head)
		} else {
			err = t.line(id, v)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := Verify(t.Entries); err != nil {
		return nil, err
	}
	n := len(t.Entries)
	if n == 0 || head != (Head{n, t.Entries[n-1].Hash}) {
		return nil, broken(fmt.Sprintf("The head names entry %d, and the timeline ends with %d.", head.N, n), nil)
	}
	t.State = Fold(t.Entries)
	return t, nil
}

// line reads one stored entry, which must be where it belongs.
func (t *Timeline) line(id string, v member.Entry) error {
	var text string
	if err := v.Decode(&text); err != nil {
		return err
	}
	e, err := Decode([]byte(text))
	if err != nil {
		return err
	}
	if e.Incident != id || v.Path != pathEntry(id, e.N) {
		return broken(fmt.Sprintf("Entry %d of %s lies in another's place.", e.N, e.Incident), nil)
	}
	t.Entries = append(t.Entries, e)
	return nil
}

// List reads every incident for somebody, the newest first. One that does not
// verify is not left out: it is in broken, with why.
func (b *Book) List(ctx context.Context, p principal.Principal) (all []*Timeline, broken map[string]error, err error) {
	if err := b.may(ctx, p, "incident.read", ""); err != nil {
		return nil, nil, err
	}
	return b.all(ctx)
}

func (b *Book) all(ctx context.Context) (all []*Timeline, broken map[string]error, err error) {
	ids, local, err := b.look(ctx, pathIndex, false)
	if err != nil {
		return nil, nil, err
	}
	broken = map[string]error{}
	for _, v := range ids {
		id := strings.TrimPrefix(v.Path, pathIndex)
		t, err := b.loadFrom(ctx, id, local)
		switch {
		case errors.Is(err, ErrUnknown):
			broken[id] = brokenAway
		case errors.Is(err, ErrBroken):
			broken[id] = err
		case err != nil:
			return nil, nil, err
		default:
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(x, y *Timeline) int { return y.State.OpenedAt.Compare(x.State.OpenedAt) })
	return all, broken, nil
}

var brokenAway = broken("The timeline is gone, and the index still names it.", nil)

// All reads every incident for this process itself: nobody is asked.
func (b *Book) All(ctx context.Context) (all []*Timeline, broken map[string]error, err error) {
	return b.all(ctx)
}

// Enter writes what this process itself did: nobody is asked, and it is a
// subsystem that stands in the timeline.
func (b *Book) Enter(ctx context.Context, p principal.Principal, id string, body Body) (*Entry, *Timeline, error) {
	if p.Kind != principal.System {
		return nil, nil, problem.New(problem.Denied, "incident-denied", "People and keys write by what they may.")
	}
	return b.append(ctx, p, id, body)
}
