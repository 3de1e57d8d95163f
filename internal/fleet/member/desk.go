package member

import (
	"context"
	"crypto"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Desk is where people act on the membership: it asks whether they may, acts,
// and leaves an act in the fleet's list, from which it comes into the audit
// log (see [Member.Anchor]).
type Desk struct {
	// Member is this process's; nil while there is none.
	Member func() *Member
	// May says whether somebody may do something to a node, and audits a denial.
	May func(ctx context.Context, p principal.Principal, action policy.Action, target string) error
}

func (d *Desk) open(ctx context.Context, p principal.Principal, action policy.Action, target string) (*Member, error) {
	if err := d.May(ctx, p, action, target); err != nil {
		return nil, err
	}
	if m := d.Member(); m != nil {
		return m, nil
	}
	return nil, problem.New(problem.Unsupported, "fleet-off", "This node is in no fleet: the configuration has fleet: {off: true}, or the node has not joined one yet.").
		WithMend("Remove the line and restart the node, or use an invitation with `foundry node join`.")
}

// Status says how the fleet is.
func (d *Desk) Status(ctx context.Context, p principal.Principal) (Status, error) {
	m, err := d.open(ctx, p, "fleet.read", "")
	if err != nil {
		return Status{}, err
	}
	return m.Status(ctx), nil
}

// Invited is a new invitation with its token, which is shown once.
type Invited struct {
	Invitation
	Token string `json:"token"`
}

// Invite makes an invitation.
func (d *Desk) Invite(ctx context.Context, p principal.Principal, name string, roles []Role) (Invited, error) {
	m, err := d.open(ctx, p, "fleet.invite", name)
	if err != nil {
		return Invited{}, err
	}
	token, i, err := m.Invite(ctx, p.String(), name, roles)
	return Invited{i, token}, err
}

// Invitations lists them.
func (d *Desk) Invitations(ctx context.Context, p principal.Principal) ([]Invitation, error) {
	m, err := d.open(ctx, p, "fleet.read", "")
	if err != nil {
		return nil, err
	}
	return m.Invitations(ctx)
}

// Revoke ends an invitation.
func (d *Desk) Revoke(ctx context.Context, p principal.Principal, selector string) error {
	m, err := d.open(ctx, p, "fleet.invite", selector)
	if err != nil {
		return err
	}
	return m.Revoke(ctx, p.String(), selector)
}

// Drain takes work away from a node, or gives it back.
func (d *Desk) Drain(ctx context.Context, p principal.Principal, name string, draining bool) (Node, error) {
	m, err := d.open(ctx, p, "fleet.drain", name)
	if err != nil {
		return Node{}, err
	}
	if err := m.Drain(ctx, p.String(), name, draining); err != nil {
		return Node{}, err
	}
	return m.Node(ctx, name)
}

// Certify makes the certificate of a program beside a node.
func (d *Desk) Certify(ctx context.Context, p principal.Principal, s Service, public crypto.PublicKey, hosts []string) (cert, authority []byte, err error) {
	m, err := d.open(ctx, p, "fleet.certify", s.Node)
	if err != nil {
		return nil, nil, err
	}
	return m.Issue(ctx, p.String(), s, public, hosts)
}

// Remove takes a node out of the fleet.
func (d *Desk) Remove(ctx context.Context, p principal.Principal, name string) error {
	m, err := d.open(ctx, p, "fleet.remove", name)
	if err != nil {
		return err
	}
	return m.Remove(ctx, p.String(), name)
}

// TakeOver asks whether somebody may recover, on this node, what a lost one
// left for it, and enters into the fleet's list that they do.
func (d *Desk) TakeOver(ctx context.Context, p principal.Principal, from, reason string) error {
	m, err := d.open(ctx, p, "fleet.take-over", from)
	if err != nil {
		return err
	}
	m.act(ctx, Act{By: p.String(), Act: "node.take-over", Target: from, Details: map[string]string{"reason": reason}})
	return nil
}

// Taken is a snapshot that was made.
type Taken struct {
	Path string `json:"path"`
}

// Snapshot makes one now.
func (d *Desk) Snapshot(ctx context.Context, p principal.Principal) (Taken, error) {
	m, err := d.open(ctx, p, "fleet.snapshot", "")
	if err != nil {
		return Taken{}, err
	}
	path, err := m.Snapshot(ctx)
	if err != nil {
		return Taken{}, err
	}
	m.act(ctx, Act{By: p.String(), Act: "node.snapshot", Target: m.o.Name})
	return Taken{path}, nil
}
