package daemon

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
)

// start starts the server, under its watchdog.
func (t *tenure) start(ctx context.Context) (*db.Cluster, error) {
	k := t.k
	entry, err := k.entry(ctx)
	if err != nil {
		return nil, err
	}
	o := db.ClusterOptions{Dir: k.dir, BinDir: k.d.config.Database.BinDir, Log: k.log, Archive: k.d.archive(), Until: db.Moment(t.until.Load()),
		Watchdog: func() *exec.Cmd { return k.d.program("database", "watchdog", filepath.Join(k.dir, "data")) }}
	if k.door != "" {
		o.Door = &db.Door{Listen: k.door, Private: filepath.Join(k.private.Dir(), "door"), Entry: entry}
	}
	// Renewals that come while the server starts are caught up with.
	c, err := db.StartCluster(ctx, o)
	if err != nil {
		return nil, err
	}
	c.Extend(db.Moment(t.until.Load()))
	return c, nil
}

// program is this program with other arguments. A binary that was replaced
// since this process started is not what started it.
func (d *Daemon) program(args ...string) *exec.Cmd {
	path := "/proc/self/exe"
	if d.watchdog != "" {
		path = d.watchdog
	}
	return exec.Command(path, args...)
}

// takeOffice brings the schema up to date, writes the epoch, and tells the fleet.
func (t *tenure) takeOffice(ctx context.Context, c *db.Cluster) error {
	k := t.k
	if err := db.Migrate(ctx, c.Config(), k.log); err != nil {
		return err
	}
	if err := db.TakeEpoch(ctx, c.Config(), t.r.Epoch, t.r.Node); err != nil {
		return err
	}
	o := k.read()
	o.Served = true
	if err := k.write(o); err != nil {
		return err
	}
	one, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := k.m.Store().Put(one, databaseLease, t.says(true), member.Under(t.lease.Load()), member.IfRevision(databasePrimary, t.revision(one))); err != nil {
		return err
	}
	port, err := strconv.ParseUint(c.Port(), 10, 16)
	if err != nil {
		return err
	}
	k.d.moveDatabase(&db.Way{Name: t.r.Node, Host: c.SocketDir(), Port: uint16(port), Epoch: t.r.Epoch}, nil)
	k.say(DatabasePrimary, fmt.Sprintf("This node runs the fleet's database, in epoch %d.", t.r.Epoch), t.r.Epoch)
	return nil
}

// revision is that of the record while it still names this tenure; -1, which
// nothing has, otherwise.
func (t *tenure) revision(ctx context.Context) int64 {
	var r primaryRecord
	e, err := t.k.m.Store().Get(ctx, databasePrimary)
	if err != nil || e.Decode(&r) != nil || r.Node != t.r.Node || r.Epoch != t.r.Epoch {
		return -1
	}
	return e.Revision
}

// giveBack ends the lease, so that others need not wait for its end. It is
// called when the server is down.
func (t *tenure) giveBack() {
	one, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := t.lease.Load().End(one); err == nil {
		t.k.log.Info("gave back the lease of the database", "epoch", t.r.Epoch)
	}
}

// entry is who may come in from outside, and by what this node is known.
func (k *keeper) entry(ctx context.Context) (db.Entry, error) {
	if k.door == "" {
		return db.Entry{}, nil
	}
	m, err := k.m.Material()
	if err != nil {
		return db.Entry{}, err
	}
	nodes, err := k.m.Nodes(ctx)
	if err != nil {
		return db.Entry{}, err
	}
	e := db.Entry{Certificate: m.Certificate, Key: m.Key, Authority: m.Authority, Revoked: m.Revoked}
	for _, n := range nodes {
		if slices.Contains(n.Roles, member.Gateway) {
			e.Admitted = append(e.Admitted, n.Name)
		}
	}
	return e, nil
}

// admitEvery is how often it is looked at what changed without anybody saying so.
const admitEvery = 30 * time.Second

// admit keeps up to date who may come in: nodes that join and go, and this
// node's renewed certificate.
func (t *tenure) admit(ctx context.Context, c *db.Cluster) {
	if t.k.door == "" {
		return
	}
	var last db.Entry
	for ctx.Err() == nil {
		watching, cancel := context.WithTimeout(ctx, admitEvery)
		nodes, revoked := t.k.m.Store().Watch(watching, "nodes/", 0), t.k.m.Store().Watch(watching, "revoked", 0)
		e, err := t.k.entry(ctx)
		if err == nil && !sameEntry(e, last) {
			if err = c.Admit(ctx, e); err == nil {
				last = e
			}
		}
		if err != nil && ctx.Err() == nil {
			t.k.log.Warn("who may use the database from other nodes was not brought up to date", "error", err)
		}
		select {
		case <-nodes:
		case <-revoked:
		case <-watching.Done():
		}
		cancel()
		select { // what belongs together comes together: the list of removed nodes is written a moment later
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func sameEntry(a, b db.Entry) bool {
	return slices.Equal(a.Certificate, b.Certificate) && slices.Equal(a.Key, b.Key) && slices.Equal(a.Authority, b.Authority) &&
		slices.Equal(a.Revoked, b.Revoked) && slices.Equal(slices.Sorted(slices.Values(a.Admitted)), slices.Sorted(slices.Values(b.Admitted)))
}
