package member

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/missionopsai/foundry/internal/problem"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// revokedPath is where the signed list of certificates lies that no longer
// count.
const revokedPath = "revoked"

type revokedList struct {
	Number int64    `json:"number"`
	Issued []Issued `json:"issued"`
	List   []byte   `json:"list"` // DER, RFC 5280
}

func (f *files) readRevoked() ([]byte, error) {
	der, err := os.ReadFile(f.path(revokedFile))
	if err != nil {
		return nil, unusable(f.path(revokedFile), err)
	}
	return der, nil
}

// Nodes are all nodes of the fleet, by name.
func (m *Member) Nodes(ctx context.Context) ([]Node, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	entries, _, err := m.store.List(ctx, "nodes/")
	if err != nil {
		return nil, err
	}
	return decodeNodes(entries)
}

func decodeNodes(entries []Entry) ([]Node, error) {
	out := make([]Node, len(entries))
	for i, e := range entries {
		if err := e.Decode(&out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Node is one of them.
func (m *Member) Node(ctx context.Context, name string) (n Node, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if CheckName(name) != nil {
		return n, noNode(name)
	}
	e, err := m.store.Get(ctx, "nodes/"+name)
	if errors.Is(err, ErrAbsent) {
		return n, noNode(name)
	}
	if err != nil {
		return n, err
	}
	return n, e.Decode(&n)
}

func noNode(name string) error {
	return problem.New(problem.NotFound, "node-unknown", fmt.Sprintf("There is no node %q in the fleet.", name)).WithField("name").WithMend("`foundry node list` shows them.")
}

// Drain takes work away from a node, or gives it back: it leads nothing and
// is given nothing. It goes on voting.
func (m *Member) Drain(ctx context.Context, by, name string, draining bool) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := m.Node(ctx, name); err != nil {
		return err
	}
	var n Node
	_, err := m.store.Update(ctx, "nodes/"+name, &n, func() error {
		if n.Name == "" {
			return noNode(name)
		}
		n.Draining = draining
		return nil
	})
	if err != nil {
		return err
	}
	act := "node.drain"
	if !draining {
		act = "node.undrain"
	}
	m.act(ctx, Act{By: by, Act: act, Target: name})
	return nil
}

// Remove takes a node out of the fleet for good: its vote first, then every
// certificate it was ever given. It may be down.
func (m *Member) Remove(ctx context.Context, by, name string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	n, err := m.Node(ctx, name)
	if err != nil {
		return err
	}
	if name == m.o.Name {
		return problem.New(problem.Conflict, "node-removes-itself", "A node does not remove itself.").WithField("name").
			WithMend("Run this on another member. To end a fleet of one, stop the node and delete its folder fleet.")
	}
	if m.tls.authority.key == nil {
		return cannotSign()
	}
	if n.Votes() {
		if err := m.removeVote(ctx, n); err != nil {
			return err
		}
	}
	if err := m.revokeNode(ctx, n); err != nil {
		return err
	}
	m.act(ctx, Act{By: by, Act: "node.remove", Target: name, Details: map[string]string{"roles": roleList(n.Roles)}})
	return nil
}

func (m *Member) removeVote(ctx context.Context, n Node) error {
	list, err := m.client.MemberList(ctx)
	if err != nil {
		return worded(err)
	}
	for _, x := range list.Members {
		if strconv.FormatUint(x.ID, 16) != n.Member {
			continue
		}
		_, err := m.client.MemberRemove(ctx, x.ID)
		switch {
		case errors.Is(err, rpctypes.ErrUnhealthy), errors.Is(err, rpctypes.ErrMemberNotEnoughStarted):
			return problem.New(problem.Conflict, "node-needed", fmt.Sprintf("Without %s too few members would be left that answer: nothing could be decided any more.", n.Name)).WithField("name").
				WithMend("Bring another member back, or let another join, first.").Wrap(err)
		case err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound):
			return worded(err)
		}
	}
	return nil
}

// revokeNode takes the node off the list and its certificates out of use, in
// one step.
func (m *Member) revokeNode(ctx context.Context, nodes ...Node) error {
	for {
		e, err := m.store.Get(ctx, revokedPath)
		var l revokedList
		if err == nil {
			err = e.Decode(&l)
		}
		if err != nil && !errors.Is(err, ErrAbsent) {
			return err
		}
		l.Number++
		l.Issued = slices.DeleteFunc(l.Issued, func(i Issued) bool { return m.clock().After(i.NotAfter.Add(clockError)) })
		writes := []Write{}
		for _, n := range nodes {
			l.Issued = append(l.Issued, n.Issued...)
			writes = append(writes, Write{Path: "nodes/" + n.Name}, Write{Path: "leases/" + n.Name})
		}
		if l.List, err = m.tls.authority.revoke(l.Number, l.Issued, m.clock()); err != nil {
			return err
		}
		_, err = m.store.PutAll(ctx, append(writes, Write{revokedPath, l}), IfRevision(revokedPath, e.Revision))
		if !errors.Is(err, ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}
