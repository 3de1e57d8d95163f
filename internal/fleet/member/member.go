// Package member knows who belongs to the fleet and what its members agreed
// on: an etcd that runs inside this process, mutual TLS from an authority of
// the fleet's own, invitations, leases, a leader with an epoch, and values
// that lie sealed on every disk.
//
// A process with the role fleet or witness votes and keeps a copy. Any other
// process dials those that do. Whoever works on a [Member] need not know
// which of the two it is.
package member

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Role is what a node does.
type Role string

// The roles of a node.
const (
	Gateway   Role = "gateway"   // API, console, jobs
	Fleet     Role = "fleet"     // votes, probes, recovers, issues certificates
	Inference Role = "inference" // stands in front of models
	Witness   Role = "witness"   // votes and probes, and holds no material to recover with
	Database  Role = "database"  // may run the fleet's own database
)

// Votes says whether a node with these roles keeps a copy and votes.
func Votes(roles []Role) bool {
	return slices.Contains(roles, Fleet) || slices.Contains(roles, Witness)
}

// Ring seals what lies in this node's files; keys.Keyring is one.
type Ring interface {
	Seal(plaintext, associated []byte) ([]byte, error)
	Open(sealed, associated []byte) ([]byte, error)
}

// Addresses are a node's three doors, each host:port. Empty: none; for a
// fleet of one the first two are taken on loopback.
type Addresses struct {
	Peers   string `json:"peers,omitempty"`   // where other members replicate
	Clients string `json:"clients,omitempty"` // where nodes that do not vote dial
	Join    string `json:"join,omitempty"`    // where invitations are used and certificates renewed
}

// Options start a member.
type Options struct {
	Dir       string // <data-dir>/fleet
	Name      string // of this node; fixed once the node belongs to a fleet
	Roles     []Role
	Ring      Ring
	Version   string // of the binary
	Schema    int    // of the values, see [Schema]; 0: this binary's
	Listen    Addresses
	Advertise Addresses // as other nodes see them; default: Listen

	Patience      time.Duration // how long a start waits for a majority before it goes on without; default 20 s
	Room          int64         // free bytes on the disk of Dir below which a member takes no part; default 24 MiB, negative: whatever is free
	SnapshotEvery time.Duration // default 1 h
	SnapshotKeep  int           // default 24
	CertLife      time.Duration // of the certificates that this node issues; default 90 days

	Log   *slog.Logger
	Clock func() time.Time

	// Note is told of each act and of each refused attempt, so that it can be
	// audited and, where it alarms, be sent. It must not block. May be nil.
	Note func(Act)

	// Give is asked what a node gets with its place, beside the fleet's own
	// secrets: it reaches the node encrypted to its recipient. Without a body it
	// gets nothing, for the reason given in words. May be nil.
	Give func(ctx context.Context, name string, roles []Role) (body []byte, why string, err error)

	// Take gets that on the node that joins, and says by which ring its files
	// are sealed from then on. Nil: nothing is taken.
	Take func(body []byte) (Ring, error)
}

// Member is this process's place in the fleet.
type Member struct {
	o      Options
	log    *slog.Logger
	clock  func() time.Time
	files  *files
	client *clientv3.Client
	seat   atomic.Pointer[seat] // of the etcd in this process; nil: this process dials
	store  *Store
	tls    *tlsFiles
	lines  lines
	join   *http.Server // nil: nobody can join here

	life    context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	stopping sync.Once

	mu       sync.Mutex
	ended    error // why it stopped by itself
	full     error // why it takes no part for now
	presence *Lease
	terms    map[*Term]bool
	draining bool
	since    time.Time
	shot     time.Time // the last snapshot
}

// Client is how to work on the fleet's store. Values that are put by it
// directly are not sealed: use [Member.Store].
func (m *Member) Client() *clientv3.Client { return m.client }

// Store is the fleet's sealed values.
func (m *Member) Store() *Store { return m.store }

// Name is this node's name in the fleet.
func (m *Member) Name() string { return m.o.Name }

// Roles are this process's roles.
func (m *Member) Roles() []Role { return slices.Clone(m.o.Roles) }

// Votes says whether this process keeps a copy and votes.
func (m *Member) Votes() bool { return m.etcd() != nil }

// Done is closed when the member has stopped, by itself or by [Member.Stop].
func (m *Member) Done() <-chan struct{} { return m.life.Done() }

// Sentinels of the package. Each is a *problem.Error.
var (
	ErrNoMajority = problem.New(problem.Unavailable, "fleet-no-majority", "Most of the fleet's members do not answer: nothing can be decided.").
			WithMend("Bring one back, or, if they are lost for good, run `foundry node recover` on a surviving node.")
	ErrNotLeader = problem.New(problem.Conflict, "fleet-not-leader", "This term of leadership has ended: another node leads, or nobody does.").
			WithMend("Nothing was written. The node that leads now decides anew.")
	ErrAbsent  = problem.New(problem.NotFound, "fleet-value-absent", "There is no such value in the fleet.")
	ErrChanged = problem.New(problem.Conflict, "fleet-value-changed", "The value was changed by another node meanwhile.").WithMend("Read it again and decide anew.")
)
