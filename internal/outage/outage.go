// Package outage knows who may sign in while the database is down, and for how
// long what was opened then holds.
//
// What operators of the platform sign in with is mirrored in the fleet's store,
// sealed under the keyring of the gateways inside the fleet's own seal: a member
// that is no gateway, a witness for example, keeps it and cannot read it. The
// mirror follows the database within a second, and whoever loses their account,
// their role or a factor is barred there before the database has committed it.
//
// It opens only where no gateway of the fleet has reached the database for a
// while, and for incidents, recoveries, the fleet and its state only. What it
// opened ends when any gateway reaches the database again.
package outage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// Options is what a Door stands on.
type Options struct {
	Node  string
	Store *member.Store
	// Lease is taken for as long as this node reaches the database.
	Lease func(ctx context.Context, ttl time.Duration) (*member.Lease, error)
	// Enter writes an act into the fleet's list, from which it comes into the
	// audit log when the database is back.
	Enter func(ctx context.Context, a member.Act) error

	// Seal and Open are of the keyring that the gateways share.
	Seal, Open func(b, associated []byte) ([]byte, error)
	TokenKey   []byte // of the tag of session tokens

	Healthy  func() bool // whether the database answers this node
	Material func(context.Context) ([]access.Material, error)
	Settle   func(context.Context, []access.Spent) error
	Account  func(email string) []byte
	Verify   func(ctx context.Context, stored, password string) (bool, error)
	Limit    func(netip.Addr) error
	Web      *webauthn.WebAuthn // nil: no passkeys are offered here

	File  string // where this node remembers which mirror it has seen
	Clock func() time.Time
	Log   *slog.Logger
}

// Times of the door. They are no settings: each is what makes another one safe.
const (
	// Patience is how long no gateway may have reached the database before the
	// door opens: longer than a restart of the database, and than what slow
	// answers alone bring about.
	Patience = 30 * time.Second
	// SessionLife is how long a session without the database lasts at most.
	SessionLife = 30 * time.Minute
	// unsure is how long before the loss of the database the mirror may last have
	// been seen to be what the database says. Beyond it nobody knows who was
	// deactivated meanwhile.
	unsure = time.Minute
	// restarted is the same for a process that started without the database and
	// does not know when it was lost.
	restarted = time.Hour

	ceremonyLife = 5 * time.Minute
	reachTTL     = 10 * time.Second // after which a gateway that says nothing counts as one that does not reach the database
	agreeEvery   = 10 * time.Second
	noteEvery    = 30 * time.Second // how often the file is written while nothing changes
	clearAfter   = 2 * time.Minute  // after which a bar that the mirror has caught up with goes: longer than any transaction
	tickEvery    = time.Second
)

// Paths in the fleet's store. They hold ids and keyed hashes, no personal data.
const (
	pathMirror   = "signin/mirror"
	pathOutage   = "signin/outage"
	pathReach    = "signin/reach/"    // node: it reaches the database
	pathBarred   = "signin/barred/"   // person: may not sign in until the mirror has followed
	pathFailures = "signin/failures/" // account: tries that failed
	pathSpent    = "signin/spent/"    // person: steps and counts that were used
	pathUsed     = "signin/used/"     // ceremony: was finished
	pathSessions = "signin/sessions/" // selector
)

// Outage is a time without the database, as the fleet holds it.
type Outage struct {
	ID    string    `json:"id"`
	Since time.Time `json:"since"` // when the door opened
	By    string    `json:"by"`    // node
}

// Door is where people sign in while the database is down. Safe for concurrent
// use. A nil Door never opens.
type Door struct {
	Options
	began  time.Time // this process
	kicked chan struct{}
	lease  *member.Lease // only Tick uses it

	mu       sync.Mutex
	memory   memory
	noted    time.Time          // when the file was last written
	down     time.Time          // since when the database does not answer this node; zero: it answers
	looked   time.Time          // when the mirror was last compared
	known    map[uuid.UUID]bool // who is in the mirror, once this process has compared it
	tries    map[string]tries   // as this node has counted them: the store cannot take them back
	spent    map[uuid.UUID]spent
	waiting  map[uuid.UUID]bool // bars that the fleet has not taken yet
	refusals map[refusal]*refused
}

// memory is what a node remembers of the mirror, also across restarts.
type memory struct {
	Version int64     `json:"version"`
	Sum     []byte    `json:"sum"`
	Agreed  time.Time `json:"agreed"` // when the mirror was last seen to be what the database says
	Lost    time.Time `json:"lost,omitzero"`
}

// New makes a door.
func New(o Options) *Door {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Door{Options: o, began: o.Clock(), tries: map[string]tries{}, spent: map[uuid.UUID]spent{}, waiting: map[uuid.UUID]bool{},
		refusals: map[refusal]*refused{}, kicked: make(chan struct{}, 1)}
	d.recall()
	return d
}

// Away reports whether the database does not answer this node: then signing in
// goes by this door, or not at all.
func (d *Door) Away() bool { return d != nil && !d.Healthy() }

var (
	errElsewhere = problem.New(problem.Unavailable, "database-elsewhere", "The database does not answer this node, but another one reaches it.").WithRetry(5 * time.Second)
	errUnsure    = problem.New(problem.Unavailable, "signin-mirror-unsure", "The database is down, and this node does not know whether its copy of who may sign in is the last one.").
			WithMend("Sign in on another node. On the node itself, `foundry incident` and `foundry recovery` read without signing in; `foundry breakglass open` lets you act.")
	errOlder = problem.New(problem.Unavailable, "signin-mirror-older", "The fleet's copy of who may sign in is older than one that this node has seen.").
			WithMend("The fleet's store was set back. Sign in when the database is back; until then `foundry breakglass open` on the node lets you act.")
	errNoMirror = problem.New(problem.Unavailable, "signin-mirror-missing", "The database is down, and the fleet has no copy of who may sign in.").
			WithMend("`foundry breakglass open` on the node lets you act without signing in.")
)

func errNotYet(left time.Duration) error {
	return problem.New(problem.Unavailable, "database-away", "The database does not answer. When it has not for half a minute, operators of the platform can sign in without it.").
		WithMend("Wait, and try again.").WithRetry(max(left, time.Second))
}

// open says which outage it is that people may sign in during, or why they may
// not. It asks the fleet, as a majority of it has it.
func (d *Door) open(ctx context.Context) (Outage, error) {
	now := d.Clock()
	d.mu.Lock()
	down, m := d.down, d.memory
	d.mu.Unlock()
	if d.Healthy() {
		return Outage{}, errBack
	}
	if down.IsZero() || now.Sub(down) < Patience {
		return Outage{}, errNotYet(Patience - now.Sub(orNow(down, now)))
	}
	switch {
	case m.Agreed.IsZero(), !m.Lost.IsZero() && m.Lost.Sub(m.Agreed) > unsure, m.Lost.IsZero() && d.began.Sub(m.Agreed) > restarted:
		return Outage{}, errUnsure
	}
	o, err := d.outage(ctx)
	if errors.Is(err, member.ErrAbsent) {
		others, err := d.reachers(ctx)
		if err != nil {
			return Outage{}, err
		}
		if len(others) > 0 {
			e := *errElsewhere
			e.Mend = "Sign in there: " + others[0] + "."
			return Outage{}, &e
		}
		return Outage{}, errNotYet(tickEvery)
	}
	return o, err
}

func orNow(t, now time.Time) time.Time {
	if t.IsZero() {
		return now
	}
	return t
}

// errBack is what a session hears that was opened without the database.
var errBack = problem.New(problem.Unauthenticated, "session-database-back", "The database is back, and with it your session has ended that was opened without it.").WithMend("Sign in again.")

func (d *Door) outage(ctx context.Context) (o Outage, err error) {
	_, err = d.get(ctx, pathOutage, &o)
	return o, err
}

// reachers are the nodes that say that they reach the database.
func (d *Door) reachers(ctx context.Context) (out []string, err error) {
	all, _, err := d.Store.List(ctx, pathReach)
	for _, e := range all {
		if node := e.Path[len(pathReach):]; node != d.Node {
			out = append(out, node)
		}
	}
	return out, err
}

// State is what somebody is told who is about to sign in.
type State struct {
	Away bool           // the database does not answer
	Open bool           // operators can sign in all the same
	Why  *problem.Error // why not
}

// State says how it is now.
func (d *Door) State(ctx context.Context) State {
	if !d.Away() {
		return State{}
	}
	_, err := d.open(ctx)
	if err != nil {
		return State{Away: true, Why: problem.From(err)}
	}
	return State{Away: true, Open: true}
}

// box is a value of this package in the fleet's store: sealed again, bound to
// its path, under what gateways hold and other members do not.
type box struct {
	Sealed []byte `json:"sealed"`
}

func associated(path string) []byte { return []byte("foundry outage " + path) }

func (d *Door) boxed(path string, value any) (box, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return box{}, fmt.Errorf("writing %s: %w", path, err)
	}
	sealed, err := d.Seal(body, associated(path))
	if err != nil {
		return box{}, fmt.Errorf("sealing %s: %w", path, err)
	}
	return box{sealed}, nil
}

func (d *Door) unboxed(e member.Entry, into any) error {
	var b box
	if err := e.Decode(&b); err != nil {
		return err
	}
	body, err := d.Open(b.Sealed, associated(e.Path))
	if err != nil {
		return problem.New(problem.Internal, "signin-value-unreadable", "A value that people sign in with does not open: it was not written by a gateway of this fleet.").Wrap(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading %s: %w", e.Path, err)
	}
	return nil
}

// get reads a value and the revision at which it stands; absent: 0 and
// [member.ErrAbsent].
func (d *Door) get(ctx context.Context, path string, into any) (int64, error) {
	e, err := d.Store.Get(ctx, path)
	if err != nil {
		return 0, err
	}
	return e.Revision, d.unboxed(e, into)
}

// put writes a value.
func (d *Door) put(ctx context.Context, path string, value any, o ...member.PutOption) error {
	b, err := d.boxed(path, value)
	if err == nil {
		_, err = d.Store.Put(ctx, path, b, o...)
	}
	return err
}

// update changes a value, whoever else changes it at the same time. change is
// given the value anew for each try.
func update[T any](ctx context.Context, d *Door, path string, change func(*T) error) error {
	for {
		var value T
		revision, err := d.get(ctx, path, &value)
		if err != nil && !errors.Is(err, member.ErrAbsent) {
			return err
		}
		if err := change(&value); err != nil {
			return err
		}
		err = d.put(ctx, path, value, member.IfRevision(path, revision))
		if !errors.Is(err, member.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}

func sumOf(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}
