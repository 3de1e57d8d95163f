package patroni

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// Where the fleet keeps, sealed, what the members of a cluster share, and who
// opens its store for them.
const (
	secretsPath = "patroni/secrets/" // with the name of the cluster
	doorsPath   = "patroni/doors/"   // with the name of the node
)

// Desk is where people act on the cluster.
type Desk struct {
	Scope string
	Nodes *member.Desk
	Watch *Watch
}

// ErrOff says that this node knows of no Patroni.
var ErrOff = problem.New(problem.Unsupported, "patroni-off", "This node's configuration names no Patroni.").
	WithField("database.patroni").WithMend("Write database: {patroni: {}} into it, and restart the node.")

func (d *Desk) open(ctx context.Context, p principal.Principal, action policy.Action, target string) (*member.Member, error) {
	if err := d.Nodes.May(ctx, p, action, target); err != nil {
		return nil, err
	}
	if m := d.Nodes.Member(); m != nil && d.Watch != nil {
		return m, nil
	}
	return nil, ErrOff
}

// Status says how the cluster is now.
func (d *Desk) Status(ctx context.Context, p principal.Principal) (Status, error) {
	if _, err := d.open(ctx, p, "fleet.read", ""); err != nil {
		return Status{}, err
	}
	s, err := d.Watch.Look(ctx)
	if err != nil && !s.At.IsZero() {
		return s, nil // what it was, and why it is not newer
	}
	return s, err
}

// ReadSecrets reads those of the cluster; they are made when they are first asked for.
func ReadSecrets(ctx context.Context, store *member.Store, scope string) (s Secrets, err error) {
	path := secretsPath + scope
	for {
		e, err := store.Get(ctx, path)
		if err == nil {
			return s, e.Decode(&s)
		}
		if !errors.Is(err, member.ErrAbsent) {
			return s, err
		}
		s = NewSecrets()
		if _, err := store.Put(ctx, path, s, member.IfAbsent(path)); err == nil || !errors.Is(err, member.ErrChanged) {
			return s, err
		}
	}
}

// OpenDoor tells the fleet where a node opens its store for Patroni.
func OpenDoor(ctx context.Context, store *member.Store, node, address string) error {
	_, err := store.Put(ctx, doorsPath+node, address)
	return err
}

// Doors lists them, of nodes that the fleet still has.
func Doors(ctx context.Context, m *member.Member) (out []string, err error) {
	entries, _, err := m.Store().List(ctx, doorsPath)
	if err != nil {
		return nil, err
	}
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		var at string
		if !slices.ContainsFunc(nodes, func(n member.Node) bool { return doorsPath+n.Name == e.Path }) || e.Decode(&at) != nil {
			continue
		}
		out = append(out, at)
	}
	return out, nil
}

// Wanted is what is to be configured, and the public half of the key that stays
// on the node (PKIX, DER).
type Wanted struct {
	Node Node
	Key  []byte
}

// Configured is what a node gets.
type Configured struct {
	Config      string `json:"config"`
	Certificate string `json:"certificate"`
	Authority   string `json:"authority"`
	OpenSSL     string `json:"openssl"`
}

// Configure makes the files of a node, but for its key.
func (d *Desk) Configure(ctx context.Context, p principal.Principal, w Wanted) (out Configured, err error) {
	m, err := d.open(ctx, p, "fleet.certify", w.Node.Name)
	if err != nil {
		return out, err
	}
	key, err := x509.ParsePKIXPublicKey(w.Key)
	public, ok := key.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return out, problem.New(problem.Invalid, "patroni-key", "The key is not a public key of ECDSA.").WithField("key").WithMend("`foundry database patroni config` makes one.")
	}
	w.Node.Scope = d.Scope
	if w.Node.Stores, err = Doors(ctx, m); err != nil {
		return out, err
	}
	if w.Node.Secrets, err = ReadSecrets(ctx, m.Store(), d.Scope); err != nil {
		return out, err
	}
	config, err := w.Node.Config() // before a certificate is made for nothing
	if err != nil {
		return out, err
	}
	cert, authority, err := d.Nodes.Certify(ctx, p, member.Service{Name: Service, Node: w.Node.Name}, public, []string{w.Node.Address})
	if err != nil {
		return out, err
	}
	return Configured{string(config), string(cert), string(authority), OpenSSL}, nil
}

// Enforce sets what no acknowledged write can be lost without: strict
// synchronous mode, and that the leader goes on when the fleet's store is away.
func (d *Desk) Enforce(ctx context.Context, p principal.Principal) (Status, error) {
	node, err := d.open(ctx, p, "database.change", d.Scope)
	if err != nil {
		return Status{}, err
	}
	set := map[string]any{"synchronous_mode": true, "synchronous_mode_strict": true, "failsafe_mode": true}
	if _, err := d.Watch.Look(ctx); err != nil {
		return Status{}, err
	}
	by, err := d.Watch.Ask(ctx, func(m Member) error { return d.Watch.Client.Set(ctx, m, set) })
	if err != nil {
		return Status{}, err
	}
	node.Note(ctx, member.Act{By: p.String(), Act: "database.enforce", Target: d.Scope, Details: map[string]string{"asked": by, "set": "synchronous_mode synchronous_mode_strict failsafe_mode"}})
	return d.Watch.Look(ctx)
}

// Reinitialise has a member throw its data away and copy the leader's. A leader
// does not.
func (d *Desk) Reinitialise(ctx context.Context, p principal.Principal, name string) error {
	node, err := d.open(ctx, p, "database.change", name)
	if err != nil {
		return err
	}
	s, err := d.Watch.Look(ctx)
	if err != nil {
		return err
	}
	m, ok := s.Member(name)
	switch {
	case !ok:
		return problem.New(problem.NotFound, "patroni-member", "No Patroni of that name is there.").WithField("name").WithMend("`foundry database patroni status` lists them. One that is stopped has to be started first.")
	case s.Leader == "" || s.Leader == name:
		return problem.New(problem.Conflict, "patroni-leads", "What it would copy is not there: it leads itself, or nobody does.").WithField("name").WithMend("Wait until another member leads.")
	}
	if err := d.Watch.Client.Reinitialise(ctx, m); err != nil {
		return err
	}
	node.Note(ctx, member.Act{By: p.String(), Act: "database.reinitialise", Target: name, Details: map[string]string{"leader": s.Leader}})
	return nil
}
