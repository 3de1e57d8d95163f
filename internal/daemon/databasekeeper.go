package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/problem"
)

// keeper runs the fleet's database on this node while the fleet names it, and
// at no other time.
//
// The database runs only under a lease of the fleet's store. The lease is
// renewed several times in its length; the server may run until the moment at
// which the last answered renewal was asked for, plus that length. After that
// moment this process ends it, or the watchdog does (see db.Watchdog), and the
// fleet's own idea of the lease ends no earlier. Whoever takes over waits for
// that end, and a margin. A fleet of one is never fenced: nobody could take
// over.
type keeper struct {
	d    *Daemon
	m    *member.Member
	log  *slog.Logger
	ttl  time.Duration
	dir  string // of the cluster
	door string // where it listens; empty: on its socket only
	name string // how other nodes reach that

	private *engine.Runtime
	settled chan struct{} // closed when it is known for the first time whether the database runs here
	settle  func()
	kick    chan struct{}

	life context.Context // outlasts the node's other work, which ships into the database to the end
	stop context.CancelCauseFunc
	done chan struct{} // closed when run has returned

	state atomic.Pointer[keeperState]
	acts  sync.Mutex // one of serve, restore, promote and rejoin at a time
	end   atomic.Pointer[context.CancelCauseFunc]
}

type keeperState struct {
	state, words string
	own          int64
	until        db.Moment
}

// office is what a node knows of the data that lie on it.
type office struct {
	Epoch    int64  `json:"epoch"`              // in which they were the primary's; 0: in none yet
	Restored string `json:"restored,omitempty"` // the recovery that brought them
	Served   bool   `json:"served,omitempty"`   // they were written in this epoch: without them there is no database to start
	Replaced string `json:"replaced,omitempty"` // which node took over, and when
	Fenced   string `json:"fenced,omitempty"`   // why they stay down although the fleet may still name this node
}

const defaultDatabaseLease = 10 * time.Second

func newKeeper(d *Daemon) (*keeper, error) {
	k := &keeper{d: d, m: d.Member(), log: d.log, ttl: time.Duration(d.config.Database.Lease), dir: filepath.Join(d.config.DataDir, "postgres"),
		settled: make(chan struct{}), kick: make(chan struct{}, 1), done: make(chan struct{})}
	k.life, k.stop = context.WithCancelCause(context.Background())
	if k.ttl == 0 {
		k.ttl = defaultDatabaseLease
	}
	k.settle = sync.OnceFunc(func() { close(k.settled) })
	k.door, k.name = d.config.databaseDoors()
	if k.door == "" {
		return k, nil
	}
	account, err := db.FindAccount("")
	if err != nil {
		return nil, err
	}
	all, err := engine.OpenRuntime(d.config.Backup.Runtime, k.dir, d.config.Mode == Production)
	if err != nil {
		return nil, err
	}
	k.private = all
	uid, gid := account.IDs()
	_, err = all.Sub("door", uid, gid)
	return k, err
}

func (k *keeper) close() error {
	if k.private == nil {
		return nil
	}
	return k.private.Close()
}

func (k *keeper) say(state, words string, own int64) {
	before := k.state.Swap(&keeperState{state: state, words: words, own: own})
	if before == nil || before.state != state || before.words != words {
		k.log.Info("the fleet's database on this node", "state", state, "words", words)
	}
	if state != DatabaseStarting {
		k.settle()
	}
}

// describe adds what this node knows of its own part.
func (k *keeper) describe(out *FleetDatabase) {
	s := k.state.Load()
	if s == nil {
		return
	}
	out.Own = s.own
	switch s.state {
	case DatabaseFollows, DatabaseNone:
		return // what was heard of the primary says more
	}
	out.State, out.Words = s.state, s.words
	if s.until > 0 {
		out.Until = time.Now().Add(s.until.Left()).UTC()
	}
}

// look has the keeper look at once whether anything has changed.
func (k *keeper) look() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

const keeperEvery = time.Second

// leave ends the server in order and gives its lease back, and returns when
// that is done.
func (k *keeper) leave() {
	k.stop(errStopping)
	<-k.done
}

// run keeps the database until ctx ends.
func (k *keeper) run(ctx context.Context) {
	for ctx.Err() == nil {
		k.acts.Lock()
		err := k.turn(ctx)
		k.acts.Unlock()
		if err != nil && ctx.Err() == nil {
			k.log.Warn("the fleet's database does not run here", "cause", err)
		}
		select {
		case <-ctx.Done():
		case <-k.m.Done():
			if !k.m.Alone() {
				k.say(DatabaseWaiting, "This node is no part of the fleet any more: the database stays down.", k.read().Epoch)
			}
			return
		case <-k.kick:
		case <-time.After(keeperEvery):
		}
	}
}

// turn looks once who the fleet names, and serves while that is this node.
func (k *keeper) turn(ctx context.Context) error {
	one, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	o := k.read()
	var r primaryRecord
	e, err := k.m.Store().Get(one, databasePrimary)
	switch {
	case errors.Is(err, member.ErrAbsent):
		if r, e.Revision, err = k.found(one, o); err != nil {
			return err
		}
		o = k.read()
	case err != nil:
		k.say(DatabaseWaiting, "The fleet does not answer this node: the database stays down until a majority says whose it is.", o.Epoch)
		return nil
	default:
		if err := e.Decode(&r); err != nil {
			return err
		}
	}
	switch {
	case r.Node != k.m.Name() && (o.Epoch > 0 || o.Restored == "" && k.hasData()):
		if why := fmt.Sprintf("%s is the fleet's primary since epoch %d", r.Node, r.Epoch); o.Replaced != why {
			o.Replaced = why
			if err := k.write(o); err != nil {
				return err
			}
		}
		k.say(DatabaseFenced, fmt.Sprintf("The database on this node stays down: %s is the fleet's primary since epoch %d. Its data are kept until this node rejoins: foundry database rejoin.", r.Node, r.Epoch), o.Epoch)
	case r.Node != k.m.Name():
		k.say(DatabaseFollows, fmt.Sprintf("%s is the fleet's primary, in epoch %d.", r.Node, r.Epoch), 0)
	case o.Fenced != "":
		k.say(DatabaseFenced, "The database on this node stays down: "+o.Fenced+". To start it again, or to put its data aside if another took over: foundry database rejoin.", o.Epoch)
	case o.Epoch != r.Epoch:
		k.say(DatabaseFenced, fmt.Sprintf("The fleet names this node as its primary in epoch %d, but the data here are of epoch %d: they stay down.", r.Epoch, o.Epoch), o.Epoch)
	case (o.Served || o.Restored != "") && !k.hasData():
		k.say(DatabaseFenced, fmt.Sprintf("The data of the fleet's database are gone from %s: an empty one is not started in their place. Recover them.", k.dir), o.Epoch)
	default:
		cancel()
		return k.serve(ctx, r, e.Revision)
	}
	return nil
}

// found names this node as the first primary of a fleet that has none.
func (k *keeper) found(ctx context.Context, o office) (primaryRecord, int64, error) {
	r := primaryRecord{Node: k.m.Name(), Epoch: o.Epoch + 1, Since: k.d.clock().UTC()}
	// First here: a node that the fleet names and that does not know it must not
	// be taken for one whose data were lost.
	if err := k.write(office{Epoch: r.Epoch}); err != nil {
		return r, 0, err
	}
	revision, err := k.m.Store().Put(ctx, databasePrimary, r, member.IfAbsent(databasePrimary), member.IfAbsent(databaseLease))
	if errors.Is(err, member.ErrChanged) {
		err = errors.Join(err, k.write(o))
	}
	return r, revision, err
}

func (k *keeper) hasData() bool {
	_, err := os.Stat(filepath.Join(k.dir, "data", "PG_VERSION"))
	return err == nil
}

func (k *keeper) officeFile() string { return filepath.Join(k.dir, "office.json") }

func (k *keeper) read() (o office) {
	body, err := os.ReadFile(k.officeFile())
	if errors.Is(err, fs.ErrNotExist) {
		return o
	}
	if err == nil {
		err = json.Unmarshal(body, &o)
	}
	if err != nil { // unreadable is not absent: whoever was the primary once may not forget it
		return office{Fenced: "what it knows of its own epoch cannot be read (" + k.officeFile() + ")"}
	}
	return o
}

func (k *keeper) write(o office) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(k.dir, mode); err != nil {
		return unusable(k.dir, err)
	}
	return replaceFile(k.officeFile(), append(body, '\n'), 0o600)
}

var (
	errLeaseLost = errors.New("the fleet was not reached for the time of the lease")
	errReplaced  = errors.New("the fleet names another node")
	errFencedOff = errors.New("this node was ordered to stop it")
	errStopping  = errors.New("this node stops")
)

// tenure is one time of running the database.
type tenure struct {
	k     *keeper
	r     primaryRecord
	lease atomic.Pointer[member.Lease]
	until atomic.Int64 // db.Moment
	over  context.CancelCauseFunc
}

// serve runs the database while the fleet lets it.
func (k *keeper) serve(ctx context.Context, r primaryRecord, revision int64) (err error) {
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	k.end.Store(&over)
	defer k.end.Store(nil)
	t := &tenure{k: k, r: r, over: over}
	if err := t.take(ctx, revision); err != nil {
		if errors.Is(err, member.ErrChanged) {
			k.say(DatabaseWaiting, "Another process still holds the lease of the database; waiting for its end.", r.Epoch)
			return nil
		}
		return err
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	defer over(nil)
	beside.Go(func() { t.renew(ctx) })
	beside.Go(func() { t.watch(ctx, revision) })
	defer t.giveBack()

	k.say(DatabaseStarting, fmt.Sprintf("This node is starting the fleet's database, in epoch %d.", r.Epoch), r.Epoch)
	cluster, err := t.start(ctx)
	if err != nil {
		if ctx.Err() == nil {
			k.failed(r, err)
		}
		return errors.Join(err, context.Cause(ctx))
	}
	k.d.cluster.Store(cluster)
	beside.Go(func() { t.admit(ctx, cluster) })
	defer func() {
		if errors.Is(context.Cause(ctx), errStopping) { // everything is shipped by now
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.ttl/2)
			defer cancel()
			err = errors.Join(err, cluster.Stop(one))
			return
		}
		k.d.moveDatabase(nil, errNobody)
		k.d.cluster.Store(nil)
		err = errors.Join(err, cluster.Fence(context.WithoutCancel(ctx)))
	}()
	if err := t.takeOffice(ctx, cluster); err != nil {
		if ctx.Err() == nil {
			k.failed(r, err)
		}
		return errors.Join(err, context.Cause(ctx))
	}
	<-ctx.Done()
	k.log.Warn("this node runs the fleet's database no more", "cause", context.Cause(ctx), "epoch", r.Epoch)
	return nil
}

// failed says that the database does not start. The very first start of a node
// is ended by it, so that whoever started it reads why.
func (k *keeper) failed(r primaryRecord, err error) {
	select {
	case <-k.settled:
	default:
		select {
		case k.d.failed <- err:
		default:
		}
	}
	k.say(DatabaseFenced, "The database does not start on this node: "+problem.From(err).Detail, r.Epoch)
}

// take takes the lease. One that an earlier process of this node left is
// replaced: its server ended with it, and the data directory is ours.
func (t *tenure) take(ctx context.Context, revision int64) error {
	one, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	k := t.k
	asked := db.Now()
	lease, err := k.m.Lease(one, k.ttl)
	if err != nil {
		return err
	}
	options := []member.PutOption{member.Under(lease), member.IfRevision(databasePrimary, revision), member.IfAbsent(databaseLease)}
	if old, err := k.m.Store().Get(one, databaseLease); err == nil {
		var l primaryLease
		if err := old.Decode(&l); err == nil && l.Node == t.r.Node && l.Epoch == t.r.Epoch {
			options[2] = member.IfRevision(databaseLease, old.Revision)
		}
	}
	if _, err := k.m.Store().Put(one, databaseLease, t.says(false), options...); err != nil {
		give, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		_ = lease.End(give)
		return err
	}
	t.lease.Store(lease)
	t.extend(asked.Add(k.ttl))
	return nil
}

func (t *tenure) says(ready bool) primaryLease {
	return primaryLease{Node: t.r.Node, Epoch: t.r.Epoch, Address: t.k.name, Ready: ready}
}

// extend notes until when the database may run.
func (t *tenure) extend(until db.Moment) {
	if t.k.m.Alone() {
		until = db.Forever
	}
	t.until.Store(int64(until))
	if c := t.k.d.cluster.Load(); c != nil {
		c.Extend(until)
	}
	if s := t.k.state.Load(); s != nil && s.state == DatabasePrimary {
		next := *s
		next.until = until
		t.k.state.CompareAndSwap(s, &next)
	}
}

// renew asks the fleet for more time, several times in the length of the
// lease, and ends the tenure when there is none left. It counts from when it
// asked, by a clock that goes on while the machine sleeps.
func (t *tenure) renew(ctx context.Context) {
	every := time.NewTicker(t.k.ttl / 5)
	defer every.Stop()
	left := t.k.m.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case <-left:
			if !t.k.m.Alone() {
				t.over(errLeaseLost)
				return
			}
			left = nil // a fleet of one whose store failed: nobody else can take over
		case <-every.C:
		}
		l := t.lease.Load()
		asked := db.Now()
		one, cancel := context.WithTimeout(ctx, t.k.ttl/5)
		ttl, gone, err := t.k.m.Renew(one, l)
		cancel()
		switch alone := t.k.m.Alone(); {
		case err == nil && !gone:
			t.extend(asked.Add(ttl))
		case alone:
			t.relet(ctx)
		case gone || ended(l) || db.Moment(t.until.Load()) != db.Forever && db.Moment(t.until.Load()).Left() <= 0:
			t.over(errLeaseLost)
			return
		case db.Moment(t.until.Load()) == db.Forever: // it was alone until now, and the answer is not there
			t.extend(asked.Add(t.k.ttl))
		}
	}
}

func ended(l *member.Lease) bool {
	select {
	case <-l.Done():
		return true
	default:
		return false
	}
}

// relet takes another lease in a fleet of one, whose database never stops for
// want of it.
func (t *tenure) relet(ctx context.Context) {
	if !ended(t.lease.Load()) {
		return
	}
	one, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	lease, err := t.k.m.Lease(one, t.k.ttl)
	if err != nil {
		return
	}
	t.lease.Store(lease)
	if _, err := t.k.m.Store().Put(one, databaseLease, t.says(t.k.state.Load().state == DatabasePrimary), member.Under(lease)); err != nil {
		t.k.log.Debug("the lease of the database is not in the fleet's store yet", "error", err)
	}
}

// watch ends the tenure when the fleet names another node, or another epoch.
func (t *tenure) watch(ctx context.Context, revision int64) {
	for ctx.Err() == nil {
		for e := range t.k.m.Store().Watch(ctx, databasePrimary, revision) {
			if e.Err != nil {
				break
			}
			revision = e.Revision
			var r primaryRecord
			if e.Path == databasePrimary && (e.Deleted || e.Decode(&r) == nil && (r.Node != t.r.Node || r.Epoch != t.r.Epoch)) {
				t.over(errReplaced)
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(keeperEvery):
		}
	}
}

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
