package member

import (
	"context"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

var errNotBuilt = problem.New(problem.Unsupported, "fleet-not-built", "This part of the fleet is not built yet.")

// Start brings this process into the fleet. On the very first start of a
// voter without an invitation it founds a fleet of one.
func Start(ctx context.Context, o Options) (*Member, error) { return nil, errNotBuilt }

// Stop leaves the fleet for now: leases end, the store closes.
func (m *Member) Stop(ctx context.Context) error { return errNotBuilt }

// Presence is the lease under which this node's presence stands; what this
// node publishes belongs under it.
func (m *Member) Presence() *Lease { return nil }

// Status says how the fleet is. It answers without a majority too.
func (m *Member) Status(ctx context.Context) Status { return Status{} }

// Nodes are all nodes of the fleet.
func (m *Member) Nodes(ctx context.Context) ([]Node, error) { return nil, errNotBuilt }

// Node is one of them.
func (m *Member) Node(ctx context.Context, name string) (Node, error) { return Node{}, errNotBuilt }

// Recipient is this node's age recipient.
func (m *Member) Recipient() string { return "" }

// OpenOwn opens what was encrypted by age to this node's recipient.
func (m *Member) OpenOwn(sealed []byte) ([]byte, error) { return nil, errNotBuilt }

// SealTo encrypts by age to a node's recipient.
func SealTo(recipient string, plaintext []byte) ([]byte, error) { return nil, errNotBuilt }

// Invite makes an invitation and returns its token, which is shown once.
func (m *Member) Invite(ctx context.Context, by, name string, roles []Role) (token string, _ Invitation, err error) {
	return "", Invitation{}, errNotBuilt
}

// Invitations lists them, without their hashes.
func (m *Member) Invitations(ctx context.Context) ([]Invitation, error) { return nil, errNotBuilt }

// Revoke ends an invitation that was not used.
func (m *Member) Revoke(ctx context.Context, by, selector string) error { return errNotBuilt }

// Drain takes work away from a node, or gives it back.
func (m *Member) Drain(ctx context.Context, by, name string, draining bool) error { return errNotBuilt }

// Remove takes a node out of the fleet for good: its vote, and its certificates.
func (m *Member) Remove(ctx context.Context, by, name string) error { return errNotBuilt }

// Joined is what a join brought.
type Joined struct {
	Fleet string   `json:"fleet"`
	Name  string   `json:"name"`
	Roles []Role   `json:"roles"`
	Nodes []string `json:"nodes"`
}

// Join uses an invitation and prepares o.Dir; [Start] then begins as a member.
func Join(ctx context.Context, o Options, token string) (Joined, error) { return Joined{}, errNotBuilt }

// Recovery says from what a fleet is founded again on a surviving node.
type Recovery struct {
	Snapshot string // a file made by [Member.Snapshot]
	FromData bool   // or what this node's own disk has
}

// Recovered is what a recovery brought.
type Recovered struct {
	Revision int64     `json:"revision"` // above every epoch that any node can have had
	Taken    time.Time `json:"taken"`    // when what was recovered was written
	Lost     []string  `json:"lost"`     // members that must be invited again
}

// Recover founds the fleet again on this node, which then is its only member.
func Recover(ctx context.Context, o Options, r Recovery) (Recovered, error) {
	return Recovered{}, errNotBuilt
}

// Snapshot writes the store into a file, sealed, and returns its path.
func (m *Member) Snapshot(ctx context.Context) (path string, err error) { return "", errNotBuilt }

// Acts lists what was done, the oldest first, from the one after a number on.
func (m *Member) Acts(ctx context.Context, after int64) ([]Act, error) { return nil, errNotBuilt }

func codeOf(err error) string { return problem.From(err).Code }

type (
	files      struct{}
	tlsFiles   struct{}
	joinServer struct{}
)
