package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/access/policy"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/inference"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
)

// FleetConfig says how this node takes part in the fleet. Left out, the node
// is a fleet of one that nobody else reaches.
type FleetConfig struct {
	Off           bool            `yaml:"off,omitempty" json:"off,omitempty" jsonschema:"description=Start without a fleet."`
	Name          string          `yaml:"name,omitempty" json:"name,omitempty" jsonschema:"description=Of this node in the fleet. Default: node.name\\, or the host name. Fixed once the node belongs to a fleet."`
	Listen        DoorsConfig     `yaml:"listen,omitempty" json:"listen,omitzero"`
	Advertise     DoorsConfig     `yaml:"advertise,omitempty" json:"advertise,omitzero"`
	SnapshotEvery config.Duration `yaml:"snapshot_every,omitempty" json:"snapshot_every,omitzero" jsonschema:"type=string,description=How often the fleet's store is written into a file under fleet/snapshots. Default 1h."`
	SnapshotKeep  int             `yaml:"snapshot_keep,omitempty" json:"snapshot_keep,omitempty" jsonschema:"description=How many of these files are kept. Default 24."`
}

// DoorsConfig names a node's three doors: host:port.
type DoorsConfig struct {
	Peers   string `yaml:"peers,omitempty" json:"peers,omitempty" jsonschema:"description=Where other members replicate\\, for example 10.0.0.1:8490."`
	Clients string `yaml:"clients,omitempty" json:"clients,omitempty" jsonschema:"description=Where nodes that do not vote dial\\, for example 10.0.0.1:8491."`
	Join    string `yaml:"join,omitempty" json:"join,omitempty" jsonschema:"description=Where invitations are used and certificates renewed\\, for example 10.0.0.1:8492."`
}

func (c DoorsConfig) addresses() member.Addresses { return member.Addresses(c) }

// fleetRoles are the roles of `foundry up`.
var fleetRoles = []member.Role{member.Gateway, member.Fleet}

// FleetDir is where a node keeps what it is in the fleet.
func FleetDir(dataDir string) string { return filepath.Join(dataDir, "fleet") }

// membership is this process's place in the fleet.
type membership struct {
	roles   []member.Role // empty: those of `foundry up`
	member  atomic.Pointer[member.Member]
	joining chan error // the result of joining; nil: there is no fleet
	desk    *member.Desk
	front   atomic.Pointer[inference.Front] // nil: without the role inference
	acts    chan struct{}                   // an act waits to be entered into the audit log
	gives   atomic.Bool                     // this node can give its keys to a gateway that joins
}

// Member is this process's place in the fleet; nil while it has none.
func (d *Daemon) Member() *member.Member { return d.member.Load() }

// NodeName is what this node is called in the fleet, unless the fleet knows
// it by another name already.
func (c Config) NodeName() string {
	for _, name := range []string{c.Fleet.Name, c.Node.Name, hostName()} {
		if name != "" {
			return strings.Trim(strings.Map(func(r rune) rune {
				switch {
				case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
					return r
				case r >= 'A' && r <= 'Z':
					return r + 'a' - 'A'
				}
				return '-'
			}, name[:min(len(name), 40)]), "-")
		}
	}
	return "node"
}

func hostName() string {
	name, _ := os.Hostname()
	name, _, _ = strings.Cut(name, ".")
	return name
}

// checkFleet reports the first thing in the fleet's section that is wrong.
func (c Config) checkFleet() error {
	f := c.Fleet
	if f.Name != "" {
		if err := member.CheckName(f.Name); err != nil {
			return problem.From(err).WithField("fleet.name")
		}
	}
	if f.SnapshotKeep < 0 || f.SnapshotEvery < 0 || f.SnapshotEvery > 0 && time.Duration(f.SnapshotEvery) < time.Minute {
		return problem.New(problem.Invalid, "fleet-snapshots", "Snapshots of the fleet's store are made at most once a minute, and at least one is kept.").WithField("fleet.snapshot_every").WithMend("Use for example 1h and keep 24.")
	}
	return member.CheckAddresses(f.Listen.addresses(), f.Advertise.addresses())
}

// MemberOptions say how this node takes part in the fleet.
func (c Config) MemberOptions(roles []member.Role, version string, ring member.Ring) member.Options {
	return member.Options{
		Dir: FleetDir(c.DataDir), Name: c.NodeName(), Roles: roles, Ring: ring, Version: version,
		Listen: c.Fleet.Listen.addresses(), Advertise: c.Fleet.Advertise.addresses(),
		SnapshotEvery: time.Duration(c.Fleet.SnapshotEvery), SnapshotKeep: c.Fleet.SnapshotKeep,
	}
}

// fleetPatience is how long a node waits for a majority of its fleet before it
// answers without one.
const fleetPatience = 3 * time.Second

// startFleet begins to join while the rest of the node starts.
func (d *Daemon) startFleet(ctx context.Context) error {
	d.acts = make(chan struct{}, 1)
	if d.config.Fleet.Off {
		return nil
	}
	roles := d.roles
	if len(roles) == 0 {
		roles = fleetRoles
	}
	o := d.config.MemberOptions(roles, d.version, d.keyring)
	if d.config.Fleet.Name == "" && joined(o.Dir) {
		o.Name = "" // as the fleet knows it
	}
	o.Log, o.Clock, o.Patience, o.Note = d.log, d.clock, fleetPatience, d.noteAct
	if d.Gateway() {
		o.Give = d.giveKeys
	}
	d.joining = make(chan error, 1)
	d.running.Go(func() {
		m, err := member.Start(ctx, o)
		if err == nil {
			d.member.Store(m)
		}
		d.joining <- err
	})
	return nil
}

func joined(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "fleet.json"))
	return err == nil
}

// awaitFleet waits until the node has its place in the fleet.
func (d *Daemon) awaitFleet(ctx context.Context) error {
	if d.joining == nil {
		return nil
	}
	select {
	case err := <-d.joining:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// makeDesk makes where people act on the membership.
func (d *Daemon) makeDesk() {
	d.desk = &member.Desk{Member: d.Member, May: func(ctx context.Context, p principal.Principal, action policy.Action, target string) error {
		return d.guard.Authorise(ctx, p, action, policy.Resource{ID: target})
	}}
}

// noteAct is told of every act on this node's membership.
func (d *Daemon) noteAct(a member.Act) {
	d.log.Info("the fleet's membership", "act", a.Act, "target", a.Target, "by", a.By, "denied", a.Denied, "number", a.Number)
	select {
	case d.acts <- struct{}{}:
	default:
	}
}

// anchorEvery is how often acts of other nodes are looked for.
const anchorEvery = 10 * time.Second

// runFleet brings what was done to the fleet into the audit log, and tells
// when this node has left the fleet by itself.
func (d *Daemon) runFleet(ctx context.Context) {
	m := d.Member()
	if m == nil {
		return
	}
	d.gives.Store(true)
	d.running.Go(func() {
		for ctx.Err() == nil {
			if d.db.Healthy() {
				d.anchorActs(ctx, m)
			}
			select {
			case <-ctx.Done():
			case <-m.Done():
				return
			case <-time.After(anchorEvery):
			}
		}
	})
	d.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-m.Done():
			d.log.Error("this node takes no part in the fleet any more; the gateway goes on", "status", m.Status(context.WithoutCancel(ctx)).Words)
			d.alarm(notify.Critical, "fleet-member-stopped", uuid.Nil, map[string]string{"node": m.Name(), "next": "foundry node status"})
		}
	})
}

// anchorActs brings acts into the audit log for as long as this gateway is the
// one that does, and the database answers.
func (d *Daemon) anchorActs(ctx context.Context, m *member.Member) {
	term, err := m.Lead(ctx, anchorsActs)
	if err != nil {
		return
	}
	defer func() {
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = term.Resign(one)
	}()
	for ctx.Err() == nil && d.db.Healthy() {
		err := m.Anchor(ctx, func(a member.Act) error { return d.enterAct(ctx, a) })
		if err != nil && ctx.Err() == nil {
			d.log.Debug("acts of the fleet are not in the audit log yet", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-term.Done():
			return
		case <-d.acts:
		case <-time.After(anchorEvery):
		}
	}
}

// enterAct enters one act into the audit log. The number says which it is
// where it is entered twice.
func (d *Daemon) enterAct(ctx context.Context, a member.Act) error {
	details := map[string]any{"number": a.Number, "at": a.At, "node": a.Node}
	for k, v := range a.Details {
		details[k] = v
	}
	kind, id, _ := strings.Cut(a.By, ":")
	p := principal.Principal{Kind: principal.Kind(kind), ID: id}
	signIn := strings.HasPrefix(a.Act, "person.")
	if a.Denied && !signIn || kind == "node" || kind == "operator" {
		p = principal.Node("fleet")
		details["by"] = a.By
	}
	if p.Kind == principal.Local {
		_, _ = fmt.Sscanf(id, "uid=%d", &p.UID)
	}
	if a.Denied {
		if err := audit.Deny(ctx, d.db, p, uuid.Nil, a.Act, a.Target, details); err != nil {
			return err
		}
		if signIn {
			return nil
		}
		d.alarm(notify.Critical, "fleet-invitation-refused", uuid.Nil, map[string]string{"node": a.Target, "why": a.Details["why"], "invitation": a.Details["invitation"],
			"next": "foundry node invitations list"})
		return nil
	}
	return d.db.Org(ctx, uuid.Nil, func(tx pgx.Tx) error { return audit.Append(ctx, tx, p, uuid.Nil, a.Act, a.Target, details) })
}

// leaveFleet stops the member when the node stops.
func (d *Daemon) leaveFleet(ctx context.Context) {
	if m := d.Member(); m != nil {
		if err := m.Stop(ctx); err != nil {
			d.log.Warn("the fleet was not left in order", "error", err)
		}
	}
}
