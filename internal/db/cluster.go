package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/missionopsai/foundry/internal/problem"
)

// ClusterOptions says where the private cluster lives and who runs it.
type ClusterOptions struct {
	Dir       string            // <data-dir>/postgres: holds data, log, etc and run
	SocketDir string            // empty: Dir/run, or a short directory elsewhere if that path is too long
	BinDir    string            // empty: the newest server found on this machine that is at least MinimumMajor
	User      string            // who runs the server when this process is root; empty: postgres, else nobody
	Log       *slog.Logger      // nil: silent
	Settings  map[string]string // server settings over the defaults
	Superuser bool              // lets the bootstrap superuser sign in too: for throw-away clusters of tests
	Archive   *Archive          // how finished WAL segments leave it; nil: they do not
	Door      *Door             // where other nodes reach it; nil: nowhere
	// Watchdog is how the process that ends the server after its deadline is
	// started, which calls [Watchdog]. With it the server runs only until Until,
	// see [Cluster.Extend].
	Watchdog func() *exec.Cmd
	Until    Moment
}

// Cluster is a private PostgreSQL server, started and supervised by this
// process. It has no TCP port and no passwords: the kernel says which user is
// at the other end of the socket, and only the user that runs Foundry may sign
// in, only as Foundry's roles. A server that dies is started again; a server
// whose supervisor dies shuts itself down.
type Cluster struct {
	o    ClusterOptions
	log  *slog.Logger
	who  account
	me   string // who runs this process
	srv  server
	at   layout
	held *os.File
	args []string // of the server, over its configuration file
	life supervisor

	until  deadline
	dog    *watchdog      // nil: the server may run for good
	signer *countersigner // likewise
}

// StartCluster makes the cluster if there is none, starts its server and waits
// until it answers. A start that fails is explained by a *problem.Error.
func StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	c := &Cluster{o: o, log: o.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := c.prepare(ctx); err != nil {
		if c.held != nil {
			_ = c.held.Close()
		}
		return nil, err
	}
	if o.Watchdog != nil {
		c.until.at.Store(int64(o.Until))
		c.dog = &watchdog{command: o.Watchdog, log: c.log, data: c.at.data}
		if err := c.dog.start(o.Until); err != nil {
			_ = c.held.Close()
			return nil, err
		}
	}
	start := time.Now()
	c.life.begin(c)
	if err := c.waitReady(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		_ = c.Stop(stop)
		return nil, err
	}
	if c.dog != nil {
		c.signer = newCountersigner(c)
		select {
		case <-c.signer.begun:
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			defer cancel()
			_ = c.Stop(stop)
			return nil, context.Cause(ctx)
		}
	}
	c.log.Info("database server is ready", "postgresql", c.srv.major, "pid", c.PID(), "socket", c.at.run, "took", time.Since(start))
	return c, nil
}

// prepare does everything up to the start of the server.
func (c *Cluster) prepare(ctx context.Context) (err error) {
	if c.who, err = findAccount(c.o.User); err != nil {
		return err
	}
	dir, err := filepath.Abs(c.o.Dir)
	if err != nil {
		return err
	}
	made, err := dataMajor(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	if c.srv, err = findServer(ctx, c.o.BinDir, made); err != nil {
		return err
	}
	if c.at, err = makeLayout(c.o, c.who, c.log); err != nil {
		return err
	}
	if c.held, err = c.at.acquire(); err != nil {
		return err
	}
	if err = waitForDeparted(ctx, c.at.data); err != nil {
		return err
	}
	if err = c.who.reachable(ctx, c.srv.dir, c.at.dir); err != nil {
		return err
	}
	me, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil {
		return fmt.Errorf("finding the name of the user that runs Foundry: %w", err)
	}
	c.me = me.Username
	if err = writeSettings(c.at, c.who, c.me, c.o); err != nil {
		return err
	}
	if made == 0 {
		return c.create(ctx)
	}
	if err = c.checkRecovery(); err != nil {
		return err
	}
	if err = stopSurvivors(ctx, c.at.data); err != nil {
		return err
	}
	if err = clearStaleLocks(c.at.data, c.at.run, c.at.port); err != nil {
		return err
	}
	return c.refreshRoles(ctx)
}

// waitReady waits until the server says that it is ready, and then tries.
func (c *Cluster) waitReady(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-c.life.failed:
			return err
		case <-ctx.Done():
			return problem.New(problem.Timeout, "server-slow", "The database server did not become ready in time.").
				WithMend("After a crash it first repeats what was not yet in its files; its log is in " + c.at.log + ".").Wrap(context.Cause(ctx))
		case <-tick.C:
		}
		if p, err := readPidFile(c.at.data); err != nil || p.pid != c.PID() || p.status != "ready" {
			continue
		}
		pc, err := c.Config().withDefaults().pool(Reader)
		if err != nil {
			return err
		}
		conn, err := pgx.ConnectConfig(ctx, pc.ConnConfig)
		if err != nil {
			return c.explainFirst(err)
		}
		c.life.ready()
		return conn.Close(ctx)
	}
}

// explainFirst explains why a server that says it is ready lets nobody in:
// most of its files are first opened by the first session.
func (c *Cluster) explainFirst(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && refusedLogin(err) == nil && !gone(err) {
		return diagnose(c.at.dir, "the first session", pe.Severity+":  "+pe.Message, err)
	}
	return unavailable(err)
}

// Config returns how to reach the cluster. It stays the same across restarts.
func (c *Cluster) Config() Config {
	return Config{DSN: "host=" + quoteDSN(c.at.run) + " port=" + c.at.port + " sslmode=disable dbname=" + databaseName}
}

// writeAccess writes who may come in.
func (c *Cluster) writeAccess() error { return writeAccess(c.at, c.who, c.me, c.o) }

func quoteDSN(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

// DataDir returns the server's data directory.
func (c *Cluster) DataDir() string { return c.at.data }

// LogDir returns where the server writes its log.
func (c *Cluster) LogDir() string { return c.at.log }

// BinDir returns where the server's programs are.
func (c *Cluster) BinDir() string { return c.srv.dir }

// Port names the server's socket, and is where it listens for other nodes.
func (c *Cluster) Port() string { return c.at.port }

// PID returns the process id of the server, 0 while it is down.
func (c *Cluster) PID() int { return int(c.life.pid.Load()) }

// Restarts returns how often the server was started again after it died.
func (c *Cluster) Restarts() int { return int(c.life.restarts.Load()) }

// Stop shuts the server down: open transactions are rolled back, everything
// committed is in its files. When ctx ends first the server is made to stop at
// once, which loses nothing either, but the next start is longer.
func (c *Cluster) Stop(ctx context.Context) error {
	if c.signer != nil {
		c.signer.end()
	}
	err := c.life.end(ctx)
	if c.dog != nil {
		c.dog.end()
	}
	if filepath.Dir(c.at.run) != c.at.dir && c.o.SocketDir == "" {
		_ = os.Remove(c.at.run) // the short one; stays if something else is in it
	}
	if cerr := c.held.Close(); err == nil && cerr != nil && !isClosedFile(cerr) {
		err = cerr
	}
	return err
}
