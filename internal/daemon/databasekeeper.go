package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
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
