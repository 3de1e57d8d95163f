package member

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/missionopsai/foundry/internal/durable"
	"github.com/missionopsai/foundry/internal/problem"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

type memberOf = membership.Member

// Recovery says from what a fleet is founded again on a surviving node.
type Recovery struct {
	Snapshot string // a file made by [Member.Snapshot]
	FromData bool   // or what this node's own disk has
	// Despite goes on although most members answer. Whoever sets it makes two
	// fleets of one.
	Despite bool
}

// Recovered is what a recovery brought.
type Recovered struct {
	Node     string   `json:"node"`
	Revision int64    `json:"revision"` // every epoch from now on is above this
	Before   int64    `json:"before"`   // revision of what was recovered
	Lost     []string `json:"lost"`     // members that have to be invited again
	Kept     string   `json:"kept"`     // where the store as it was lies
}

// epochs began then: a revision is never above the microseconds since.
var beginning = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// raised is the revision from which a recovered fleet goes on. It has to be
// above every revision that any member can have had, also those that this
// node never heard of, and above that of any other recovery from the same
// snapshot. No fleet writes more than once in a microsecond, so that the
// microseconds since a fixed day are above them all; only a clock that was
// set back could make them less, and then what this node has seen counts.
func raised(from, seen int64, now time.Time) int64 {
	least := max(from, seen)
	if by := now.Sub(beginning).Microseconds(); by > least {
		return by
	}
	return least + 1_000_000_000
}

// Recover founds the fleet again on this node, which then is its only member,
// while nothing runs in o.Dir. It is for the loss of the majority, and
// refuses while most members answer.
func Recover(ctx context.Context, o Options, r Recovery) (out Recovered, err error) {
	o.Roles = []Role{Fleet}
	m, err := prepare(o)
	if err != nil {
		return out, err
	}
	m.life, m.stop = context.WithCancel(ctx)
	defer m.stop()
	if !m.files.belongs() {
		return out, problem.New(problem.NotFound, "fleet-absent", "There is no member of a fleet in "+o.Dir+".").WithMend("Name the data directory of a surviving member.")
	}
	if (r.Snapshot == "") == !r.FromData {
		return out, problem.New(problem.Invalid, "recover-from", "A fleet is recovered from a snapshot or from this node's data.").WithMend("Give --snapshot FILE or --from-data.")
	}
	before := m.files.read()
	m.o.Roles = before.Roles
	if !slices.Contains(before.Roles, Fleet) {
		return out, cannotSign()
	}
	if err := m.identify(); err != nil {
		return out, err
	}
	defer m.tls.memory.Close()
	if err := m.refuseIfAlive(ctx, before, r.Despite); err != nil {
		return out, err
	}
	source := r.Snapshot
	if r.FromData {
		if source, err = m.ownData(ctx); err != nil {
			return out, err
		}
		defer os.Remove(source)
	}
	out.Node = before.Name
	for _, k := range before.Members {
		if k.Voter && k.Name != before.Name {
			out.Lost = append(out.Lost, k.Name)
		}
	}
	if err := m.restore(source, before, &out); err != nil {
		return out, err
	}
	return out, m.files.update(func(n *record) {
		n.Initial, n.High = "", out.Revision
		n.Members = slices.DeleteFunc(slices.Clone(n.Members), func(k knownMember) bool { return k.Voter && k.Name != n.Name })
		n.Recovered = &recovery{At: m.clock().UTC(), From: map[bool]string{true: "data", false: "snapshot"}[r.FromData], Revision: out.Revision}
	})
}

// refuseIfAlive asks the others: a second fleet beside one that works would
// be worse than no fleet.
func (m *Member) refuseIfAlive(ctx context.Context, r record, despite bool) error {
	voters, there := 0, 0
	for _, k := range r.Members {
		if !k.Voter {
			continue
		}
		voters++
		if k.Name != r.Name && m.reach(ctx, k.Addresses.Peers) {
			there++
		}
	}
	if there <= (voters-1)/2 && (there == 0 || voters > 2) || despite {
		return nil
	}
	return problem.New(problem.Conflict, "fleet-alive", fmt.Sprintf("%d other members of %d answer: the fleet is not lost.", there, voters)).
		WithMend("Start this node and let it catch up. If it must be founded anew all the same, stop the others first, for good.")
}

// ownData makes a snapshot of what this node's disk has, from a copy: the
// store itself is not changed until it is replaced.
func (m *Member) ownData(ctx context.Context) (string, error) {
	work, err := os.MkdirTemp(m.files.dir, "recovering-")
	if err != nil {
		return "", unusable(m.files.dir, err)
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, os.DirFS(m.files.path(etcdDir))); err != nil {
		return "", unusable(m.files.path(etcdDir), err)
	}
	alone := m.o
	m.o.Listen = Addresses{} // it speaks to nobody
	defer func() { m.o = alone }()
	c := m.server(m.files.read())
	c.Dir, c.ForceNewCluster = work, true
	e, err := m.begin(c)
	if err != nil {
		return "", m.startFailed(err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		return "", m.stoppedAtStart()
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(startPatience):
		return "", problem.New(problem.Internal, "recover-data", "This node's copy of the store does not start by itself.").WithMend("Recover from a snapshot: `foundry node recover --snapshot FILE`.")
	}
	shot := e.Server.Backend().Snapshot()
	f, err := os.CreateTemp(m.files.dir, "recovering-*"+snapshotSuffix)
	if err != nil {
		return "", unusable(m.files.dir, errors.Join(err, shot.Close()))
	}
	_, err = shot.WriteTo(f)
	return f.Name(), errors.Join(err, shot.Close(), f.Close())
}

// restore makes a store of one member from a snapshot and puts it in the
// place of the old one, which is kept.
func (m *Member) restore(source string, r record, out *Recovered) error {
	manager := snapshot.NewV3(zap.NewNop())
	status, err := manager.Status(source)
	if err != nil {
		return problem.New(problem.Invalid, "snapshot-unreadable", source+" is not a snapshot of a fleet's store, or is damaged.").WithField("snapshot").
			WithMend("Choose another: they lie in fleet/snapshots of every member's data directory.").Wrap(err)
	}
	now := m.clock()
	out.Before, out.Revision = status.Revision, raised(status.Revision, r.High, now)
	next := m.files.path(etcdDir + ".next")
	if err := os.RemoveAll(next); err != nil {
		return unusable(next, err)
	}
	self := peerURL(r.Advertise)
	err = manager.Restore(snapshot.RestoreConfig{
		SnapshotPath: source, Name: r.Name, OutputDataDir: next, PeerURLs: []string{self.String()}, InitialCluster: r.Name + "=" + self.String(),
		InitialClusterToken: fmt.Sprintf("%s-%d", r.Fleet, out.Revision), // another cluster: old members cannot speak to it
		SkipHashCheck:       !hashed(source), RevisionBump: uint64(out.Revision - out.Before), MarkCompacted: true,
	})
	if err != nil {
		return problem.New(problem.Invalid, "snapshot-not-restored", "The fleet's store was not made from "+source+": "+err.Error()+".").WithField("snapshot").
			WithMend("Nothing was changed. Choose another snapshot.").Wrap(err)
	}
	out.Kept = m.files.path(fmt.Sprintf("%s.before-%s", etcdDir, now.UTC().Format("20060102T150405.000Z")))
	if err := os.Rename(m.files.path(etcdDir), out.Kept); err != nil && !os.IsNotExist(err) {
		return unusable(out.Kept, err)
	}
	if err := os.Rename(next, m.files.path(etcdDir)); err != nil {
		return unusable(m.files.path(etcdDir), err)
	}
	return durable.SyncDir(m.files.dir)
}

// hashed says whether a file ends in the hash that a snapshot of a running
// store has.
func hashed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size()%512 == 32
}

// afterRecovery takes the lost members off the list and their certificates
// out of use, at the first start of the recovered fleet.
func (m *Member) afterRecovery(ctx context.Context, r recovery) error {
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return err
	}
	var lost []Node
	names := ""
	for _, n := range nodes {
		if n.Votes() && n.Name != m.o.Name {
			lost = append(lost, n)
			names += " " + n.Name
		}
	}
	if err := m.revokeNode(ctx, lost...); err != nil {
		return err
	}
	m.act(ctx, Act{By: "operator:local", Act: "node.recover", Target: m.o.Name, Details: map[string]string{"from": r.From, "revision": number(r.Revision), "lost": names, "at": r.At.Format(time.RFC3339)}})
	return m.files.update(func(n *record) { n.Recovered = nil })
}
