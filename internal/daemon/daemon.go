// Package daemon knows how the parts make one process: it is the only place
// that wires them, and main and the end-to-end tests start the same struct.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/console"
	"github.com/missionopsai/foundry/internal/continuity/exercise"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/verdict"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/journal"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/gateway/simulator"
	"github.com/missionopsai/foundry/internal/governance"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Options start a daemon.
type Options struct {
	Config   Config
	Version  string
	Log      *slog.Logger
	Clock    func() time.Time
	Progress func(step string) // told what is being done while starting; may be nil
	// Passphrase asks an operator for what unlocks an age identity; may be nil.
	Passphrase func(ctx context.Context) ([]byte, error)
	Roles      []member.Role // of this process; empty: those of `foundry up`

	rules verdict.Rules // of the fleet's judge, in tests that do not wait half a minute

	// Watchdog is the program that is started as `database watchdog`; empty: this
	// process's own.
	Watchdog string
}

// Daemon is a running node.
type Daemon struct {
	config   Config
	version  string
	log      *slog.Logger
	clock    func() time.Time
	watchdog string
	node     node
	started  time.Time

	countryAssumed bool
	passphrase     func(ctx context.Context) ([]byte, error)

	lock      *lock
	cluster   atomic.Pointer[db.Cluster] // nil with a database elsewhere
	db        *db.DB
	guard     *access.Guard
	keyring   *keys.Keyring
	vault     *keys.Vault
	authority *authority
	journal   *journal.Journal
	shipper   *ledger.Shipper
	budgets   *ledger.Budgets
	auditLog  *audit.Log
	gateway   *gateway.Gateway
	verifier  *access.Verifier
	api       *api.API
	registry  *prometheus.Registry
	console   *console.Console
	simulator *http.Server
	servers   []*server
	identity
	assurance
	staff
	rescue
	plans     *governance.Plans
	exercises *exercise.Archive
	safety
	membership
	lookout
	incidents
	world
	recoveries
	follower
	patronis

	gateways *ledger.Gateways // of this database

	// FirstKey is the token of the key made on the very first start; empty
	// afterwards.
	FirstKey string

	life    context.Context // of the background work
	stop    context.CancelFunc
	serving context.Context // of every request
	cut     context.CancelCauseFunc
	running sync.WaitGroup
	failed  chan error
}

// Start brings a node up. When it returns without an error the node answers.
func Start(ctx context.Context, o Options) (_ *Daemon, err error) {
	d := newDaemon(o)
	d.countryAssumed = o.Config.Node.Country == ""
	if err := d.config.Check(); err != nil { // before anything is made
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = d.Stop(context.WithoutCancel(ctx))
		}
	}()
	d.life, d.stop = context.WithCancel(context.Background())
	d.serving, d.cut = context.WithCancelCause(context.Background())
	step := o.Progress
	if step == nil {
		step = func(string) {}
	}
	if fenced, err := d.startFenced(ctx); err != nil {
		return nil, err
	} else if fenced {
		return d, nil
	}
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"Preparing the data directory", d.prepare},
		{"Taking the addresses", d.listen},
		{"Preparing the backups", d.prepareBackups},
		{"Calling the fleet", d.startFleet},
		{"Starting PostgreSQL", d.startDatabase},
		{"Reading the policies", d.loadPolicies},
		{"Preparing the vault", d.makeVault},
		{"Opening the audit log", d.openAuditLog},
		{"Opening the journal", d.openJournal},
		{"Making the gateway", d.makeGateway},
		{"Making the first organisation and key", d.bootstrap},
		{"Reading who is signed in", d.makePeople},
		{"Making the service of backups", d.makeBackups},
		{"Reading the continuity plan", d.makePlans},
		{"Reading the exercises", d.makeExercises},
		{"Reading the controls", d.makeAssurance},
		{"Joining the fleet", d.awaitFleet},
		{"Looking at the fleet", d.makeLookout},
		{"Reading what a recovery may do here", d.makeWorld},
		{"Reading the incidents", d.makeIncidents},
		{"Looking for Patroni", d.makePatroni},
		{"Reading the recoveries", d.makeRecovery},
		{"Mirroring who may sign in without the database", d.makeDoor},
		{"Opening the interfaces", d.makeInterfaces},
	} {
		step(s.name)
		if err := s.do(ctx); err != nil {
			return nil, err
		}
	}
	d.run(d.life)
	d.serve()
	d.settle()
	return d, nil
}

// prepare takes the data directory and reads identity and keys.
func (d *Daemon) prepare(context.Context) (err error) {
	if d.config.DataDir, err = prepareDir(d.config.DataDir); err != nil {
		return err
	}
	if d.lock, err = takeLock(d.config.DataDir, d.clock()); err != nil {
		return err
	}
	if d.node, err = nextBoot(d.config.DataDir); err != nil {
		return err
	}
	if err := d.openKeys(); err != nil {
		return err
	}
	if d.authority, err = openAuthority(d.config.DataDir, d.keyring, d.clock()); err != nil {
		return err
	}
	mac, err := d.keyring.MACKey("api key tag")
	if err != nil {
		return fmt.Errorf("deriving the token MAC key: %w", err)
	}
	d.verifier = access.NewVerifier(mac)
	d.takeHandover()
	return nil
}

// openJournal recovers the journal and makes what reads it.
func (d *Daemon) openJournal(context.Context) (err error) {
	d.journal, err = journal.Open(filepath.Join(d.config.DataDir, "journal"), journal.Options{
		Node: d.node.Number, Boot: d.node.Boot, Seal: d.keyring.Seal, Open: d.keyring.Open,
		MaxBytes: d.config.Limits.JournalBytes, Log: d.log,
	})
	if err != nil {
		return err
	}
	d.hold = d.holdJournal()
	d.shipper = ledger.NewShipper(d.journal, d.db, ledger.ShipperOptions{Node: d.node.Number, Boot: d.node.Boot, Seal: d.keyring.Seal, Release: d.hold.Release, Log: d.log})
	d.ships.Store(d.shipper)
	d.budgets = ledger.NewBudgets(d.db, ledger.BudgetOptions{Node: d.node.Number, Boot: d.node.Boot, Log: d.log, Alarm: d.budgetAlarm})
	return nil
}

func (d *Daemon) makeGateway(ctx context.Context) (err error) {
	d.registry = prometheus.NewRegistry()
	config := d.config.Config
	listener, dial := simulator.Listen()
	d.simulator = simulator.Serve(listener, simulator.New(simulator.Options{Format: simulator.OpenAI, Forget: true, Commands: true}))
	if len(config.Providers) == 0 {
		config.Providers = findProviders(ctx, d.config.Node.Country)
	}
	for i := range config.Providers {
		homeFacts(&config.Providers[i], d.config.Node.Country)
	}
	d.gateway, err = gateway.New(gateway.Options{
		Config: config, Node: d.node.Number, Boot: d.node.Boot, DB: d.db,
		Recorder: ledger.NewRecorder(d.journal, d.node.Number, d.node.Boot), Budgets: d.budgets, Verifier: d.verifier,
		Seal: d.keyring.Seal, Open: d.keyring.Open, Snapshot: filepath.Join(d.config.DataDir, "snapshot.sealed"),
		Fleet: d.reachNode, Fallbacks: ledger.NewFallbacks(d.db, ledger.FallbackOptions{Node: d.node.Number, Log: d.log, Told: d.fallbackTold}),
		Simulator: dial, Metrics: gateway.NewMetrics(d.registry), Log: d.log, Clock: d.clock,
	})
	if err != nil {
		return err
	}
	d.makeGateways()
	if err := d.gateway.Restore(); err != nil {
		d.log.Warn("the snapshot of keys and policies was not used", "error", err)
	}
	if err := d.gateway.Refresh(ctx); err != nil {
		if d.gateway.Age() > 24*time.Hour {
			return err // no snapshot either: nobody could be answered
		}
		d.log.Warn("starting from the snapshot of keys and policies", "error", err)
	}
	for _, p := range d.gateway.Providers() {
		if p.Facts.Own {
			d.gateway.ProbeOnce(ctx, p) // so that models are there from the first moment
		}
	}
	return nil
}

// FirstOrganisation is the organisation made on the very first start.
const FirstOrganisation = "default"

// bootstrap makes the first organisation and key where there is none.
func (d *Daemon) bootstrap(ctx context.Context) error {
	known := d.verifier.Directory()
	org := known.OrganisationNamed(FirstOrganisation) // left without a key by a start that was killed
	if len(known.Keys()) > 0 || len(known.Organisations()) > 0 && org == nil || !d.db.Healthy() {
		return nil
	}
	who := principal.Node("bootstrap")
	if org == nil {
		made, err := access.CreateOrganisation(ctx, d.db, d.guard, who, FirstOrganisation)
		if err != nil {
			return err
		}
		org = &made
	}
	_, token, err := d.verifier.CreateKey(ctx, d.db, d.guard, who, access.NewKey{Organisation: org.ID, Name: "first-key"})
	if err != nil {
		return err
	}
	d.FirstKey = token
	return d.gateway.Refresh(ctx)
}

func (d *Daemon) makeInterfaces(context.Context) error {
	d.registerMetrics()
	store := ledger.NewStore(d.db, d.guard)
	if err := d.makeStaff(store); err != nil {
		return err
	}
	if err := d.makeGlass(); err != nil {
		return err
	}
	d.makeCode()
	d.makeDesk()
	d.api = api.New(api.Options{Grants: d.grants, Register: d.register, Exercises: d.exercises,
		Version: d.version, DB: d.db, Gateway: d.gateway, Verifier: d.verifier, Guard: d.guard, Store: store, People: d.people, Sessions: d.sessions,
		Encryption: d.encryption(), Status: func() any { return d.Status() }, Link: d.consoleLink, Audit: d.auditLog, Log: d.log,
		Controls: d.controls, RunControls: d.startControls, Outbox: d.outbox, Backups: d.backups, Node: fmt.Sprint(d.node.Number), Glass: d.glass, VerifyRecord: d.verifyRecord, Code: d.code, Plans: d.plans, Nodes: d.desk, Window: d.window, Marks: d.marks, Reconcile: d.reconcile, Door: d.door, Incidents: d.incident, Recoveries: d.recovery, Patroni: d.patroni})
	d.console = console.New(d.consoleOptions(store))
	return nil
}

// consoleLink makes a one-time sign-in link for the console.
func (d *Daemon) consoleLink(p principal.Principal) (string, time.Time, error) {
	return d.console.Link(p)
}

// run starts the background work.
func (d *Daemon) run(ctx context.Context) {
	d.running.Go(func() { holdMemory(ctx) })
	d.running.Go(func() { d.gateway.Run(ctx) })
	d.runGateways(ctx)
	d.running.Go(func() { d.runAuditLog(ctx) })
	d.runPeople(ctx)
	d.runDoor(ctx)
	d.running.Go(func() { d.sendMail(ctx) })
	d.running.Go(func() { d.runControls(ctx) })
	d.runRescue(ctx)
	d.runBackups(ctx)
	d.runFleet(ctx)
	d.runLookout(ctx)
	d.runWorld(ctx)
	d.runRecovery(ctx)
	d.runPatroni(ctx)
	d.runIncidents(ctx)
	d.running.Go(func() { d.runRegister(ctx) })
	d.running.Go(func() { d.plans.Watch(ctx, planWatchEvery) })
	d.running.Go(func() { d.vault.Run(ctx) })
	d.running.Go(func() {
		if err := d.shipper.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("shipping stopped", "error", err)
		}
	})
	d.running.Go(func() {
		// What earlier starts left open becomes "outcome unknown", and what
		// their budget leases had left goes back.
		if err := ledger.Recover(ctx, d.journal, d.shipper, d.budgets); err != nil && ctx.Err() == nil {
			d.log.Error("earlier starts were not put in order", "error", err)
		}
	})
	d.running.Go(func() {
		if err := d.budgets.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("budget leasing stopped", "error", err)
		}
	})
}

// Wait blocks until ctx ends or the node cannot go on.
func (d *Daemon) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.failed:
		return err
	}
}

const (
	drainTimeout = 10 * time.Second // for requests in flight
	cutTimeout   = 2 * time.Second  // for telling the clients of the others
	flushTimeout = 10 * time.Second // for what is not shipped yet
)

// Stop ends the node: no new requests, those in flight finish, the journal is
// shipped as far as the database answers, PostgreSQL shuts down.
func (d *Daemon) Stop(ctx context.Context) error {
	errs := []error{d.drain(ctx)}
	if d.stop != nil {
		d.stop()
	}
	d.running.Wait()
	d.closeLookout()
	if d.keeper == nil { // otherwise the database needs its lease until everything is shipped
		d.leaveFleet(ctx)
	}
	flush, cancelFlush := context.WithTimeout(ctx, flushTimeout)
	defer cancelFlush()
	if d.shipper != nil && d.db.Healthy() {
		if err := d.shipper.Flush(flush); err != nil {
			d.log.Warn("not everything was shipped; the next start ships the rest", "error", err)
		}
		if err := d.budgets.Close(flush); err != nil {
			d.log.Warn("budget leases were not returned", "error", err)
		}
		d.leaveGateways(flush)
	}
	d.handPeopleOver(flush)
	if d.guard != nil && d.db.Healthy() {
		if err := d.guard.Close(flush); err != nil {
			d.log.Warn("some denials were not entered into the audit log", "error", err)
		}
	}
	d.closeAuditLog(flush)
	if d.journal != nil {
		errs = append(errs, d.journal.Close(flush))
	}
	if d.simulator != nil {
		_ = d.simulator.Close()
	}
	if d.db != nil {
		d.db.Close()
	}
	errs = append(errs, d.stopDatabase(flush))
	if d.keeper != nil {
		d.leaveFleet(ctx)
	}
	d.closeBackups()
	if d.lock != nil {
		d.lock.release()
	}
	return errors.Join(errs...)
}

// drain stops every listener at once and waits for the requests in flight.
// Those that outlast it are ended with an error that their clients see.
func (d *Daemon) drain(ctx context.Context) error {
	var stopping errgroup.Group
	cut := time.AfterFunc(drainTimeout, func() { d.cut(gateway.ErrStopping) })
	defer cut.Stop()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout+cutTimeout)
	defer cancel()
	for _, s := range d.servers {
		stopping.Go(func() error { return s.stop(ctx) })
	}
	return stopping.Wait()
}

// URL is how clients reach the node.
func (d *Daemon) URL() string {
	if u := d.config.Listen.PublicURL; u != "" {
		return strings.TrimSuffix(u, "/")
	}
	_, port, _ := net.SplitHostPort(d.httpsAddress())
	host, _, _ := net.SplitHostPort(d.config.Listen.HTTPS)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "https://" + net.JoinHostPort(host, port)
}

// DataDir is the absolute path of the data directory.
func (d *Daemon) DataDir() string { return d.config.DataDir }

// Mode is development or production.
func (d *Daemon) Mode() string { return d.config.Mode }
