package db

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/missionopsai/foundry/internal/problem"
)

// Role is a database role. Grants and policies name these roles literally.
type Role string

const (
	Migrator  Role = "foundry_migrator"  // owns the schema; used only to migrate
	App       Role = "foundry_app"       // sees one organisation at a time
	Shipper   Role = "foundry_shipper"   // inserts, and sees nothing
	Reader    Role = "foundry_reader"    // sees every organisation, writes nothing
	Sequencer Role = "foundry_sequencer" // orders the audit log
)

// Roles lists every role.
var Roles = []Role{Migrator, App, Shipper, Reader, Sequencer}

// Login is how a role signs in to an external server. The zero Login is the
// role's own name without a password, as on the private cluster.
type Login struct {
	User     string // empty: the role's own name; otherwise a login that is a member of the role
	Password string
}

// String hides the password.
func (l Login) String() string { return l.User }

// GoString hides the password.
func (l Login) GoString() string { return fmt.Sprintf("db.Login{User:%q}", l.User) }

// LogValue hides the password.
func (l Login) LogValue() slog.Value { return slog.StringValue(l.User) }

// Config says where the database is and who signs in.
type Config struct {
	DSN   string         // connection string or URL, without user and password
	Users map[Role]Login // a role that is absent signs in under its own name

	// Find says where the server is at this moment, in the place of DSN. Nobody
	// is the migrator that way: a schema is migrated where the server runs.
	Find   func() (Way, error)
	Epochs *Epochs // of a database that may have a successor; nil: it cannot

	MaxConns       map[Role]int32 // absent: a default for a small server, 20 in all
	AcquireTimeout time.Duration  // longest wait for a connection; default 2 s
	ConnectTimeout time.Duration  // longest wait for a new connection; default 2 s
	Heartbeat      time.Duration  // how often the change counter is polled; default 500 ms
	SilenceTimeout time.Duration  // a server silent for this long is away; default 5 s
}

const rollbackTimeout = 2 * time.Second

func (c Config) withDefaults() Config {
	conns := map[Role]int32{Migrator: 2, App: 10, Shipper: 2, Reader: 4, Sequencer: 2}
	maps.Copy(conns, c.MaxConns)
	c.MaxConns = conns
	for p, d := range map[*time.Duration]time.Duration{
		&c.AcquireTimeout: 2 * time.Second,
		&c.ConnectTimeout: 2 * time.Second,
		&c.Heartbeat:      500 * time.Millisecond,
		&c.SilenceTimeout: 5 * time.Second,
	} {
		if *p <= 0 {
			*p = d
		}
	}
	return c
}

// login returns who signs in as a role.
func (c Config) login(role Role) Login {
	l := c.Users[role]
	if l.User == "" {
		l.User = string(role)
	}
	return l
}

// pool returns the pool configuration of a role.
func (c Config) pool(role Role) (*pgxpool.Config, error) {
	if c.Find != nil {
		c.DSN = "host=nowhere.invalid dbname=" + databaseName + " sslmode=disable" // Find replaces the host
	}
	if err := checkDSN(c.DSN); err != nil {
		return nil, err
	}
	pc, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, badDSN(err)
	}
	cc := pc.ConnConfig
	l := c.login(role)
	cc.User, cc.Password = l.User, l.Password
	cc.ConnectTimeout = c.ConnectTimeout
	delete(cc.RuntimeParams, "options") // PGOPTIONS of the shell must not change what a role does
	maps.Copy(cc.RuntimeParams, runtimeParams(role))
	// A cancelled query is cancelled on the server and its connection kept;
	// the driver's default throws the connection away.
	cc.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: pg, CancelRequestDelay: 0, DeadlineDelay: time.Second}
	}
	cc.OnNotice = unsigned
	pc.MaxConns = c.MaxConns[role]
	pc.MinConns, pc.MinIdleConns = 0, 0
	pc.MaxConnIdleTime = 5 * time.Minute
	// transact replaces a dead connection at BEGIN, and the heartbeat empties
	// the pools when the server returns: a ping would only cost a round trip.
	pc.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	c.prepare(pc, role)
	return pc, nil
}

// dsnKeys are the settings a connection string may carry. What is missing here
// would change who signs in, or what a role's session may do.
var dsnKeys = []string{"host", "port", "dbname", "sslmode", "ssl", "sslrootcert", "sslcert", "sslkey",
	"sslnegotiation", "sslsni", "sslcertmode", "channel_binding", "require_auth", "target_session_attrs",
	"min_protocol_version", "max_protocol_version"}

func parseDSN(dsn string, keys []string) (*pgx.ConnConfig, error) {
	var o pgx.ParseConfigOptions
	o.ConnStringAllowedKeys = keys
	return pgx.ParseConfigWithOptions(dsn, o)
}

// checkDSN refuses a connection string that cannot be read, names no database
// or says more than where the database is.
func checkDSN(dsn string) error {
	cc, err := parseDSN(dsn, dsnKeys)
	switch {
	case err == nil && cc.Database == "":
		return problem.New(problem.Invalid, "database-dsn-name", "The database connection string names no database.").
			WithField("database").WithMend("Add dbname=foundry, or /foundry at the end of the URL.")
	case err == nil:
		return nil
	}
	if _, asUser := parseDSN(dsn, append([]string{"user", "password", "passfile", "service", "servicefile"}, dsnKeys...)); asUser == nil {
		return problem.New(problem.Invalid, "database-dsn-user", "The database connection string says who signs in, but each of Foundry's roles signs in by itself.").
			WithField("database").WithMend("Remove user, password, passfile and service from it, and configure the logins per role.")
	}
	return badDSN(err)
}

// badDSN drops the driver's text from what is shown: it quotes the string,
// which may hold a password.
func badDSN(err error) error {
	return problem.New(problem.Invalid, "database-dsn", "The database connection string cannot be read, or has a setting that is not allowed there.").
		WithField("database").
		WithMend("Write it as postgres://host:5432/foundry?sslmode=verify-full or host=… port=… dbname=…; allowed are: " + strings.Join(dsnKeys, ", ") + ".").
		Wrap(err)
}

// runtimeParams are session settings each role starts with. The limits are
// generous: they stop what has gone wrong, not what is slow.
func runtimeParams(role Role) map[string]string {
	p := map[string]string{
		"application_name":                    "foundry " + strings.TrimPrefix(string(role), "foundry_"),
		"search_path":                         "public",
		"timezone":                            "UTC",
		"statement_timeout":                   "60s",
		"lock_timeout":                        "15s",
		"idle_in_transaction_session_timeout": "60s",
	}
	switch role {
	case Reader:
		p["default_transaction_read_only"] = "on"
	case Migrator:
		p["statement_timeout"] = "0" // a backfill may be long; a wait for a lock may not
	}
	return p
}
