package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/problem"
)

// Where the fleet keeps who runs its database.
const (
	databasePrimary = "database/primary"   // who is named, for good
	databaseLease   = "leases-of/database" // who runs it, for as long as it says so
)

// primaryRecord names the node that may run the fleet's database. It changes
// only while nobody holds the lease.
type primaryRecord struct {
	Node   string    `json:"node"`
	Epoch  int64     `json:"epoch"`
	Since  time.Time `json:"since"`
	Run    string    `json:"run,omitempty"`    // the recovery that made it so
	Before string    `json:"before,omitempty"` // the node that was named before
}

// primaryLease is the sign of life of the node that runs it.
type primaryLease struct {
	Node    string `json:"node"`
	Epoch   int64  `json:"epoch"`
	Address string `json:"address,omitempty"` // empty: it is reached on its own node only
	Ready   bool   `json:"ready"`
}

// FleetDatabase is the fleet's database as this node sees it.
type FleetDatabase struct {
	State   string    `json:"state"`
	Words   string    `json:"words"`
	Primary string    `json:"primary,omitempty"` // who runs it, as last heard
	Epoch   int64     `json:"epoch,omitempty"`
	Own     int64     `json:"own_epoch,omitempty"` // of the data on this node; 0: it has none
	Until   time.Time `json:"until,omitzero"`      // until when this node may run it without another answer of the fleet, by its clock

	Next      string            `json:"next,omitempty"`      // what to do about it; empty: nothing
	Reshipped *ledger.Reshipped `json:"reshipped,omitempty"` // what the newest primary lacked of this gateway's journal
}

// States of the fleet's database on a node.
const (
	DatabasePrimary  = "primary"  // it runs here
	DatabaseStarting = "starting" // it is about to
	DatabaseFollows  = "follows"  // it runs elsewhere
	DatabaseNone     = "none"     // it runs nowhere
	DatabaseFenced   = "fenced"   // this node has a copy that may not run
	DatabaseWaiting  = "waiting"  // this node may run it, and the fleet does not answer
)

// check reports the first thing in the database's section that is wrong.
func (c DatabaseConfig) check(fleetOff bool) error {
	switch {
	case c.Fleet && c.DSN != "":
		return problem.New(problem.Invalid, "database-twice", "The database is either the fleet's or the one of a connection string.").WithField("database.fleet").WithMend("Remove database.dsn or database.fleet.")
	case c.Fleet && fleetOff:
		return problem.New(problem.Invalid, "database-fleet-off", "Without a fleet there is no database of the fleet.").WithField("database.fleet").WithMend("Remove fleet.off.")
	case c.Lease != 0 && (time.Duration(c.Lease) < 5*time.Second || time.Duration(c.Lease) > time.Minute):
		return problem.New(problem.Invalid, "database-lease", "The lease of the fleet's database is between 5 seconds and a minute.").WithField("database.lease").WithMend("Use for example 10s.")
	}
	for _, a := range []struct{ field, at string }{{"database.listen", c.Listen}, {"database.advertise", c.Advertise}} {
		host, port, err := net.SplitHostPort(a.at)
		if n, perr := strconv.Atoi(port); a.at != "" && (err != nil || host == "" || perr != nil || n < 1 || n > 65535) {
			return problem.New(problem.Invalid, "database-listen", fmt.Sprintf("%q is no address to listen at.", a.at)).WithField(a.field).WithMend("Write it as 10.0.0.1:8493.")
		}
	}
	return nil
}

// databasePort is where PostgreSQL listens for other nodes.
const databasePort = "8493"

// doors are where this node's PostgreSQL listens, and how others reach it.
func (c Config) databaseDoors() (listen, advertise string) {
	beside := func(clients string) string {
		if host, _, err := net.SplitHostPort(clients); err == nil {
			return net.JoinHostPort(host, databasePort)
		}
		return ""
	}
	listen, advertise = c.Database.Listen, c.Database.Advertise
	if listen == "" {
		listen = beside(c.Fleet.Listen.Clients)
	}
	if advertise == "" && c.Database.Listen == "" {
		advertise = beside(c.Fleet.Advertise.Clients)
	}
	if advertise == "" {
		advertise = listen
	}
	return listen, advertise
}

// mayRunDatabase says whether this node has the role database.
func (d *Daemon) mayRunDatabase() bool { return slices.Contains(d.roles, member.Database) }

// followsFleet says whether this node uses the fleet's own database.
func (d *Daemon) followsFleet() bool { return d.config.Database.Fleet || d.mayRunDatabase() }

// follower knows where the fleet's database is.
type follower struct {
	keeper *keeper // nil: without the role database

	followed atomic.Pointer[followed]
	epochs   db.Epochs
	moving   sync.Mutex // one change at a time
	remote   primaryLease
	again    atomic.Pointer[ledger.Reshipped]
	turns    atomic.Pointer[db.DB]          // what is told when it moves
	ships    atomic.Pointer[ledger.Shipper] // likewise; nil until the journal is open
}

// followed is where the database is now.
type followed struct {
	way *db.Way // nil: nowhere
	why error
}

var errNobody = errors.New("no node of the fleet runs the database")

// findDatabase says where the database is at this moment.
func (d *Daemon) findDatabase() (db.Way, error) {
	f := d.followed.Load()
	if f == nil || f.way == nil {
		if f != nil && f.why != nil {
			return db.Way{}, f.why
		}
		return db.Way{}, errNobody
	}
	return *f.way, nil
}

// moveDatabase has the gateway go to another server, or to none. What was
// shipped to the one before may not be in the new one: the shipper asks it.
func (d *Daemon) moveDatabase(way *db.Way, why error) {
	d.moving.Lock()
	defer d.moving.Unlock()
	before := d.followed.Load()
	if before != nil && sameWay(before.way, way) {
		return
	}
	d.followed.Store(&followed{nil, why}) // nothing goes anywhere meanwhile
	turn := func() {
		if to := d.turns.Load(); to != nil {
			to.Turn()
		}
	}
	turn()
	if way == nil {
		return
	}
	d.epochs.Raise(way.Epoch)
	if s := d.ships.Load(); s != nil {
		had := s.Queue().Shipped
		s.Forget()
		if epoch := way.Epoch; had != (journal.Position{}) {
			d.running.Go(func() { d.compareShipped(epoch, had) })
		}
	}
	d.followed.Store(&followed{way: way})
	turn()
}

func sameWay(a, b *db.Way) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Host == b.Host && a.Port == b.Port && a.Epoch == b.Epoch
}

// compareShipped says what a database lacks that took another's place.
func (d *Daemon) compareShipped(epoch int64, had journal.Position) {
	if d.turns.Load().WaitHealthy(d.life) != nil || d.epochs.Highest() != epoch {
		return
	}
	r, err := d.ships.Load().Compare(d.life, had)
	if err != nil {
		return
	}
	d.again.Store(&r)
	if r.Has != r.Had {
		d.log.Warn("the database has had a successor that lacks what was shipped last: what the journal holds is shipped again", "epoch", epoch, "had", r.Had, "has", r.Has, "journal_from", r.From)
	}
}

// startFleetDatabase finds the fleet's database, and runs it here where this
// node is the one to. Without it the node starts all the same, and works from
// its snapshot.
func (d *Daemon) startFleetDatabase(ctx context.Context) error {
	if d.joining != nil { // the step that joins waits for the same
		select {
		case err := <-d.joining:
			d.joining <- err
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := d.runFleetDatabase(ctx); err != nil {
		return err
	}
	cfg := db.Config{Find: d.findDatabase, Epochs: &d.epochs}
	before := d.followed.Load()
	var err error
	if d.db, err = db.Open(ctx, cfg, d.log); err != nil {
		return err
	}
	d.turns.Store(d.db)
	if d.followed.Load() != before { // it moved meanwhile
		d.db.Turn()
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		_ = d.db.WaitHealthy(one)
		cancel()
	}
	// A primary hears within seconds of a node that has just joined, and lets it
	// in then.
	if f := d.followed.Load(); !d.db.Healthy() && f != nil && f.way != nil {
		one, cancel := context.WithTimeout(ctx, databasePatience)
		_ = d.db.WaitHealthy(one)
		cancel()
	}
	if !d.db.Healthy() {
		d.log.Warn("the fleet's database does not answer; starting without it", "cause", d.FleetDatabase().Words)
		d.running.Go(func() { d.migrateLater(cfg) })
		return nil
	}
	return d.migrateAdmitted(ctx, cfg)
}

// migrateAdmitted is migrate for a node that the primary lets in one role after
// another, as its rules are read anew.
func (d *Daemon) migrateAdmitted(ctx context.Context, cfg db.Config) error {
	for until := time.Now().Add(databasePatience); ; {
		err := d.migrate(ctx, cfg)
		if err == nil || problem.From(err).Code != "database-login" || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// databasePatience is how long a start waits to learn where the database is.
const databasePatience = 20 * time.Second

// runFleetDatabase follows the fleet's database, and keeps it where this node
// may run it, until the node stops.
func (d *Daemon) runFleetDatabase(ctx context.Context) error {
	if d.Member() == nil {
		return problem.New(problem.Invalid, "database-fleet-off", "Without a fleet there is no database of the fleet.").WithField("fleet.off").WithMend("Remove fleet.off, or the role database.")
	}
	known := make(chan struct{})
	d.running.Go(func() { d.followDatabase(d.life, sync.OnceFunc(func() { close(known) })) })
	wait := []<-chan struct{}{known}
	if d.mayRunDatabase() {
		k, err := newKeeper(d)
		if err != nil {
			return err
		}
		d.keeper = k
		go func() {
			defer close(k.done)
			k.run(k.life)
		}()
		wait = append(wait, k.settled)
	}
	patience := time.NewTimer(databasePatience)
	defer patience.Stop()
	for _, c := range wait {
		select {
		case <-c:
		case err := <-d.failed:
			return err
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// followDatabase hears from the fleet who runs the database, until ctx ends.
// While the fleet does not answer, whoever was last heard of is used: a primary
// that is not reached by the fleet stops by itself.
func (d *Daemon) followDatabase(ctx context.Context, known func()) {
	s := d.Member().Store()
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		all, revision, err := s.List(one, databaseLease)
		cancel()
		if err == nil {
			var l primaryLease
			for _, e := range all {
				if e.Path == databaseLease && e.Decode(&l) != nil {
					l = primaryLease{}
				}
			}
			d.heardPrimary(l)
			known()
			watching, end := context.WithCancel(ctx)
			for e := range s.Watch(watching, databaseLease, revision) {
				if e.Err != nil {
					break
				}
				var l primaryLease
				if !e.Deleted && e.Decode(&l) != nil {
					continue
				}
				d.heardPrimary(l)
			}
			end()
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// heardPrimary takes over what the fleet says of the primary.
func (d *Daemon) heardPrimary(l primaryLease) {
	d.moving.Lock()
	d.remote = l
	d.moving.Unlock()
	switch {
	case l.Node == d.Member().Name():
		return // the keeper says when it serves
	case !l.Ready || l.Epoch < d.epochs.Highest():
		d.moveDatabase(nil, errNobody)
	case l.Address == "":
		d.moveDatabase(nil, fmt.Errorf("%s runs the database, and listens for no other node: database.listen", l.Node))
	default:
		host, port, err := net.SplitHostPort(l.Address)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err = errors.Join(err, perr); err != nil {
			d.moveDatabase(nil, err)
			return
		}
		d.moveDatabase(&db.Way{Name: l.Node, Host: host, Port: uint16(n), TLS: d.Member().ClientTLS(l.Node), Epoch: l.Epoch}, nil)
	}
}

// FleetDatabase says how the fleet's database is, as this node sees it; nil:
// it uses another.
func (d *Daemon) FleetDatabase() *FleetDatabase {
	if !d.followsFleet() || d.Member() == nil {
		return nil
	}
	d.moving.Lock()
	l := d.remote
	d.moving.Unlock()
	out := FleetDatabase{State: DatabaseNone, Primary: l.Node, Epoch: max(l.Epoch, d.epochs.Highest()), Reshipped: d.again.Load()}
	switch {
	case l.Node == "":
		out.Words = "No node of the fleet runs its database."
	case !l.Ready:
		out.Words = fmt.Sprintf("%s is starting the fleet's database, in epoch %d.", l.Node, l.Epoch)
	default:
		out.State, out.Words = DatabaseFollows, fmt.Sprintf("%s runs the fleet's database, in epoch %d.", l.Node, l.Epoch)
	}
	if d.keeper != nil {
		d.keeper.describe(&out)
	}
	out.Next = out.Mend()
	return &out
}

// stopDatabase ends the server that runs here, and what keeps it.
func (d *Daemon) stopDatabase(ctx context.Context) error {
	var err error
	if d.keeper != nil {
		d.keeper.leave()
		err = d.keeper.close()
	}
	if c := d.cluster.Load(); c != nil {
		err = errors.Join(err, c.Stop(ctx))
	}
	return err
}

// archivedElsewhere is up to where the log of a database on another node has
// left it. Until it is known, everything waits: a journal that lets go what
// only that node has would lose it with the node.
func (d *Daemon) archivedElsewhere() (lsn string, waits bool) {
	to := d.turns.Load()
	if to == nil || !to.Healthy() {
		return "", true
	}
	one, cancel := context.WithTimeout(d.life, noteTimeout)
	defer cancel()
	archives := false
	err := to.Read(one, func(tx pgx.Tx) error {
		return tx.QueryRow(one, `SELECT current_setting('archive_mode') <> 'off'`).Scan(&archives)
	})
	if err != nil {
		return "", true
	}
	if !archives {
		return "", false
	}
	lsn, _, _, err = backup.ServerArchived(one, to)
	if err != nil {
		return "", true
	}
	return lsn, true
}
