package db

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/missionopsai/foundry/internal/problem"
)

// Way is how the server is reached at one moment.
type Way struct {
	Name  string      // of the node that runs it
	Host  string      // or the directory of a Unix socket
	Port  uint16      //
	TLS   *tls.Config // nil over a socket
	Epoch int64       // in which it is the primary: a database of a lower one is refused
}

// Epochs remembers the highest epoch of the database that this process heard
// of or saw. A database of a lower one has had a successor, and is refused.
type Epochs struct{ highest atomic.Int64 }

// Raise notes an epoch.
func (e *Epochs) Raise(to int64) {
	for now := e.highest.Load(); to > now && !e.highest.CompareAndSwap(now, to); now = e.highest.Load() {
	}
}

// Highest is the highest so far; 0: none.
func (e *Epochs) Highest() int64 { return e.highest.Load() }

// ErrEpoch says that a database was refused because it has had a successor.
var ErrEpoch = problem.New(problem.Unavailable, "database-epoch", "The database that answers was the fleet's once and has had a successor: it is not used.").
	WithMend("Stop it. Its node rejoins with `foundry database rejoin`, and keeps its data as evidence.")

// epochQuery finds no table in a database from before there were epochs.
const epochQuery = `SELECT coalesce(max(epoch), 0)::text FROM fleet_epoch`

// check refuses a server of a lower epoch.
func (e *Epochs) check(ctx context.Context, conn *pgconn.PgConn) error {
	epoch, err := readEpoch(ctx, conn)
	if err != nil {
		return err
	}
	if epoch < e.Highest() {
		return fmt.Errorf("%w (epoch %d, not %d)", ErrEpoch, epoch, e.Highest())
	}
	e.Raise(epoch)
	return nil
}

func readEpoch(ctx context.Context, conn *pgconn.PgConn) (int64, error) {
	all, err := conn.Exec(ctx, epochQuery).ReadAll()
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "42P01" { // undefined_table
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("asking the database for its epoch: %w", err)
	}
	if len(all) != 1 || len(all[0].Rows) != 1 {
		return 0, errors.New("the database did not say its epoch")
	}
	return strconv.ParseInt(string(all[0].Rows[0][0]), 10, 64)
}

// TakeEpoch writes into the database of a primary that takes office that its
// epoch has begun. It is done over the server's own socket: nobody may be the
// migrator from elsewhere.
func TakeEpoch(ctx context.Context, cfg Config, epoch int64, node string) error {
	pc, err := cfg.withDefaults().pool(Migrator)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, pc.ConnConfig)
	if err != nil {
		return unavailable(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	now, err := readEpoch(ctx, conn.PgConn())
	if err != nil {
		return err
	}
	if now > epoch {
		return problem.New(problem.Conflict, "database-epoch-ahead", fmt.Sprintf("This database was the primary in epoch %d already, and the fleet is at %d.", now, epoch)).
			WithMend("The fleet's record is older than the database: look at both before anything is started.")
	}
	_, err = conn.Exec(ctx, `INSERT INTO fleet_epoch (epoch, node) VALUES ($1, $2) ON CONFLICT DO NOTHING`, epoch, node)
	if err != nil {
		return fmt.Errorf("writing the epoch into the database: %w", err)
	}
	return nil
}

// apply points a connection that is about to be made.
func (w Way) apply(c *pgconn.Config) {
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = w.Host, w.Port, w.TLS, nil
}

// ways are the servers that a connection string names, each with its ways in
// the order in which the driver tries them (with TLS and without).
func ways(c *pgconn.Config) [][]*pgconn.FallbackConfig {
	all := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	var out [][]*pgconn.FallbackConfig
	for _, f := range all {
		if n := len(out) - 1; n >= 0 && out[n][0].Host == f.Host && out[n][0].Port == f.Port {
			out[n] = append(out[n], f)
			continue
		}
		out = append(out, []*pgconn.FallbackConfig{f})
	}
	return out
}

func use(c *pgconn.Config, w []*pgconn.FallbackConfig) {
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = w[0].Host, w[0].Port, w[0].TLSConfig, w[1:]
}

// writable finds what is wanted of a server in a connection string.
var writable = regexp.MustCompile(`target_session_attrs\s*=\s*'?(read-write|primary)`)

// chooses says whether the connection string has the driver choose among
// several servers the one that can be written.
func (c Config) chooses() bool {
	return writable.MatchString(c.DSN) || os.Getenv("PGTARGETSESSIONATTRS") == "read-write" || os.Getenv("PGTARGETSESSIONATTRS") == "primary"
}

// prepare makes a pool's connections go to the right server, and refuse the
// wrong one.
func (c Config) prepare(pc *pgxpool.Config, role Role) {
	cc := pc.ConnConfig
	if role == Reader && c.chooses() {
		// This role is read-only on every server: what is asked is whether the
		// server is a primary.
		cc.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	if e := c.Epochs; e != nil {
		before := cc.ValidateConnect
		cc.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			if before != nil {
				if err := before(ctx, conn); err != nil {
					return err
				}
			}
			return e.check(ctx, conn)
		}
	}
	if c.Find == nil {
		return
	}
	pc.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		w, err := c.Find()
		if err != nil {
			return err
		}
		if c.Epochs != nil {
			c.Epochs.Raise(w.Epoch)
		}
		w.apply(&cc.Config)
		return nil
	}
}

// dial makes one connection as a pool would.
func dial(ctx context.Context, pc *pgxpool.Config) (*pgx.Conn, error) {
	cc := pc.ConnConfig.Copy()
	if pc.BeforeConnect != nil {
		if err := pc.BeforeConnect(ctx, cc); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, cc)
}

// dial makes one connection to where the pools' go.
func (d *DB) dial(ctx context.Context, pc *pgxpool.Config) (*pgx.Conn, error) {
	d.follow(pc)
	return dial(ctx, pc)
}

// follow has the connections of every role go to the server that the heartbeat
// found: a dead one that stands before it in the connection string would
// otherwise cost each of them its patience.
func (d *DB) follow(pc *pgxpool.Config) {
	if pc.BeforeConnect != nil || !d.cfg.chooses() || len(ways(&pc.ConnConfig.Config)) < 2 {
		return
	}
	pc.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		if found := d.found.Load(); found != nil {
			for _, w := range ways(&cc.Config) {
				if w[0].Host == found.host && w[0].Port == found.port {
					use(&cc.Config, w)
					return nil
				}
			}
		}
		return nil
	}
}

// place is a server of a connection string.
type place struct {
	host string
	port uint16
}

// search connects to the server that can be written, asking all at once: one
// that is gone without a word keeps nobody waiting.
func (d *DB) search(ctx context.Context, pc *pgxpool.Config) (*pgx.Conn, error) {
	all := ways(&pc.ConnConfig.Config)
	if d.cfg.Find != nil || len(all) < 2 || !d.cfg.chooses() {
		return dial(ctx, pc)
	}
	type answer struct {
		conn *pgx.Conn
		at   place
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer, len(all))
	for _, w := range all {
		cc := pc.ConnConfig.Copy()
		use(&cc.Config, w)
		go func() {
			conn, err := pgx.ConnectConfig(ctx, cc)
			answers <- answer{conn, place{w[0].Host, w[0].Port}, err}
		}()
	}
	var errs []error
	for n := range all {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		cancel()
		d.found.Store(&a.at)
		rest := len(all) - n - 1
		go func() {
			for range rest {
				if late := <-answers; late.conn != nil {
					_ = late.conn.Close(context.WithoutCancel(ctx))
				}
			}
		}()
		return a.conn, nil
	}
	cancel()
	return nil, errors.Join(errs...)
}

// Turn has the database looked for anew, after what [Config.Find] says has
// changed: connections to the server before are cut, also those in use.
func (d *DB) Turn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.turn != nil {
		d.turn()
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// turning is a context that ends at the next Turn.
func (d *DB) turning(life context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(life)
	d.mu.Lock()
	d.turn = cancel
	d.mu.Unlock()
	return ctx, cancel
}

// At is where the database is, as far as this DB knows.
func (d *DB) At() (host string, ok bool) {
	if d.cfg.Find != nil {
		w, err := d.cfg.Find()
		return w.Name, err == nil
	}
	if p := d.found.Load(); p != nil {
		return net.JoinHostPort(p.host, strconv.Itoa(int(p.port))), true
	}
	return "", false
}
