package daemon

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/inference"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/missionopsai/foundry/internal/sovereignty"
)

// Modes of operation.
const (
	Development = "development" // the default of `up`: shown as a banner on every page
	Production  = "production"  // refuses what the security invariants forbid
)

// Config is the configuration file. The zero value works.
type Config struct {
	Mode     string         `yaml:"mode,omitempty" json:"mode,omitempty" jsonschema:"enum=development,enum=production,description=Default development."`
	DataDir  string         `yaml:"data_dir,omitempty" json:"data_dir,omitempty" jsonschema:"description=Where the database\\, keys and journal live. Default ./var."`
	Node     NodeConfig     `yaml:"node,omitempty" json:"node,omitzero"`
	Listen   ListenConfig   `yaml:"listen,omitempty" json:"listen,omitzero"`
	TLS      TLSConfig      `yaml:"tls,omitempty" json:"tls,omitzero"`
	Database DatabaseConfig `yaml:"database,omitempty" json:"database,omitzero"`
	Keys     KeysConfig     `yaml:"keys,omitempty" json:"keys,omitzero"`
	Policies []string       `yaml:"policies,omitempty" json:"policies,omitempty" jsonschema:"description=Files with Cedar policies beside the built-in ones. They may forbid anything and permit what the schema allows; foundry policy check validates them."`
	Log      LogConfig      `yaml:"log,omitempty" json:"log,omitzero"`
	Audit    AuditConfig    `yaml:"audit,omitempty" json:"audit,omitzero"`

	Mail   notify.Config   `yaml:"mail,omitempty" json:"mail,omitzero"`
	Notify notify.Channels `yaml:"notify,omitempty" json:"notify,omitzero"`

	Fleet FleetConfig `yaml:"fleet,omitempty" json:"fleet,omitzero"`

	Inference inference.Config `yaml:"inference,omitempty" json:"inference,omitzero" jsonschema:"description=The front of an Ollama on this machine\\, for a process with the role inference."`

	Backup backup.Config `yaml:"backup,omitempty" json:"backup,omitzero"`

	Continuity ContinuityConfig `yaml:"continuity,omitempty" json:"continuity,omitzero"`

	gateway.Config `yaml:",inline"`
}

// NodeConfig says where this node stands.
type NodeConfig struct {
	Name    string `yaml:"name,omitempty" json:"name,omitempty" jsonschema:"description=Default: the host name."`
	Country string `yaml:"country,omitempty" json:"country,omitempty" jsonschema:"description=ISO 3166-1 code of the country this node stands in. Required in production; development assumes FI."`

	Supplier string `yaml:"supplier,omitempty" json:"supplier,omitempty" jsonschema:"description=Who runs the machine. Targets of backups have to be with another."`
	// Assumed says that the country was not stated.
	Assumed bool   `yaml:"-" json:"-"`
	Account string `yaml:"account,omitempty" json:"account,omitempty" jsonschema:"description=The account or contract there."`
}

// ListenConfig says where the node can be reached.
type ListenConfig struct {
	HTTPS     string `yaml:"https,omitempty" json:"https,omitempty" jsonschema:"description=Address of the TLS 1.3 listener. Default localhost:8443."`
	HTTP      string `yaml:"http,omitempty" json:"http,omitempty" jsonschema:"description=Address that redirects to HTTPS. Default localhost:8080; off to have none."`
	Proxy     string `yaml:"proxy,omitempty" json:"proxy,omitempty" jsonschema:"description=Plain HTTP for a reverse proxy on this machine: a loopback address\\, or unix:/path."`
	PublicURL string `yaml:"public_url,omitempty" json:"public_url,omitempty" jsonschema:"description=How clients reach this node\\, when it differs from the HTTPS address."`
}

// TLSConfig names an own certificate; without one the local authority makes it.
type TLSConfig struct {
	Certificate string        `yaml:"certificate,omitempty" json:"certificate,omitempty" jsonschema:"description=PEM file with the certificate and its chain."`
	Key         config.Secret `yaml:"key,omitempty" json:"key,omitzero"`
	Names       []string      `yaml:"names,omitempty" json:"names,omitempty" jsonschema:"description=More names and addresses for the certificate of the local authority."`
}

// DatabaseConfig names an external PostgreSQL; without it a private cluster runs in the data directory.
type DatabaseConfig struct {
	DSN       string                   `yaml:"dsn,omitempty" json:"dsn,omitempty" jsonschema:"description=Connection string without user and password\\, for example: host=db1\\,db2 dbname=foundry sslmode=verify-full."`
	Passwords map[string]config.Secret `yaml:"passwords,omitempty" json:"passwords,omitempty" jsonschema:"description=Password of each role: foundry_migrator\\, foundry_app\\, foundry_shipper\\, foundry_reader\\, foundry_sequencer."`
	Fleet     bool                     `yaml:"fleet,omitempty" json:"fleet,omitempty" jsonschema:"description=Use the fleet's own database\\, wherever in the fleet it runs. A node with the role database does so always."`
	Listen    string                   `yaml:"listen,omitempty" json:"listen,omitempty" jsonschema:"description=With the role database: where PostgreSQL is reached by gateways on other nodes\\, host:port. Default: the host of fleet.listen.clients and port 8493; without that\\, nowhere."`
	Advertise string                   `yaml:"advertise,omitempty" json:"advertise,omitempty" jsonschema:"description=The same address as other nodes see it. Default: listen."`
	Lease     config.Duration          `yaml:"lease,omitempty" json:"lease,omitzero" jsonschema:"type=string,description=How long a node that the rest of the fleet does not reach goes on as the primary of the fleet's database. Default 10s; 5s to 1m."`
	Patroni   *PatroniConfig           `yaml:"patroni,omitempty" json:"patroni,omitempty" jsonschema:"description=The servers of dsn are kept by Patroni\\, with the fleet's store as its own."`
	BinDir    string                   `yaml:"bin_dir,omitempty" json:"bin_dir,omitempty" jsonschema:"description=Where the PostgreSQL server's programs are. Default: the newest found."`
}

// AuditConfig says how the audit log is looked after.
type AuditConfig struct {
	VerifyEvery config.Duration `yaml:"verify_every,omitempty" json:"verify_every,omitzero" jsonschema:"type=string,description=How often the whole log is read and computed again. At least 1h; default 24h."`
}

// leastVerifyEvery keeps verifications from being all that a node does.
const leastVerifyEvery = time.Hour

func (c AuditConfig) check() error {
	if every := time.Duration(c.VerifyEvery); every != 0 && every < leastVerifyEvery {
		return problem.New(problem.Invalid, "audit-verify-every", "The whole audit log is verified at most once an hour.").WithField("audit.verify_every").WithMend("Use for example 24h.")
	}
	return nil
}

// LogConfig says how the log is written.
type LogConfig struct {
	Format string `yaml:"format,omitempty" json:"format,omitempty" jsonschema:"enum=text,enum=json,description=Default text on a terminal\\, json otherwise."`
	Level  string `yaml:"level,omitempty" json:"level,omitempty" jsonschema:"enum=debug,enum=info,enum=warn,enum=error,description=Default info."`
}

// assumedCountry stands in for node.country in development, so that zero
// configuration works under the default policy, which admits the EEA.
const assumedCountry = "FI"

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	set := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	set(&c.Mode, Development)
	set(&c.DataDir, "var")
	set(&c.Listen.HTTPS, "localhost:8443")
	set(&c.Listen.HTTP, "localhost:8080")
	if c.Mode == Development {
		c.Node.Assumed = c.Node.Assumed || c.Node.Country == ""
		set(&c.Node.Country, assumedCountry)
	}
	return c
}

// Validate reports the first thing that contradicts itself or that the mode
// forbids.
func (c Config) Validate() error {
	if c.Mode != Development && c.Mode != Production {
		return problem.New(problem.Invalid, "mode", fmt.Sprintf("%q is not a mode.", c.Mode)).WithField("mode").WithMend("Use development or production.")
	}
	if c.Node.Country == "" {
		return problem.New(problem.Invalid, "node-country", "In production the node's country must be stated.").WithField("node.country").
			WithMend("Write its ISO 3166-1 code, for example country: FI.")
	}
	if _, err := sovereignty.ParseJurisdiction(c.Node.Country); err != nil {
		e := problem.From(err)
		e.Field = "node.country"
		return e
	}
	if c.Mode == Production && !c.Keys.KEK.Set() && c.Keys.Age == nil {
		return problem.New(problem.Denied, "kek-missing", "In production the key-encryption key must come from outside the data directory.").WithField("keys.kek").
			WithMend("Give it as a systemd credential (keys: {kek: {credential: foundry-kek}}) or as a file on another volume.")
	}
	if err := c.checkKeys(); err != nil {
		return err
	}
	if err := c.Audit.check(); err != nil {
		return err
	}
	if err := c.checkFleet(); err != nil {
		return err
	}
	if (c.TLS.Certificate == "") != !c.TLS.Key.Set() {
		return problem.New(problem.Invalid, "tls-half", "A certificate and its key come together.").WithField("tls").WithMend("Give both tls.certificate and tls.key, or neither.")
	}
	if p := c.Listen.Proxy; p != "" && !strings.HasPrefix(p, "unix:") {
		host, _, err := net.SplitHostPort(p)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return problem.New(problem.Invalid, "proxy-listener", fmt.Sprintf("The plain-HTTP listener for a proxy may not be reachable from outside: %q.", p)).
				WithField("listen.proxy").WithMend("Use a loopback address such as 127.0.0.1:8081, or unix:/run/foundry/proxy.sock.")
		}
	}
	if c.Mode == Production && c.Database.DSN != "" {
		if err := trustworthy(c.Database.DSN); err != nil {
			return err
		}
	}
	if err := c.Database.check(c.Fleet.Off); err != nil {
		return err
	}
	if err := c.Database.checkPatroni(c.Fleet.Off); err != nil {
		return err
	}
	for role := range c.Database.Passwords {
		if !knownRole(role) {
			e := problem.New(problem.Invalid, "database-role", fmt.Sprintf("%q is not a role of the database.", role)).WithField("database.passwords." + role)
			if near := config.Nearest(role, roleNames()); near != "" {
				e.Mend = fmt.Sprintf("Did you mean %q?", near)
			}
			return e
		}
	}
	if err := c.Mail.Validate(c.Mode == Production); err != nil {
		return err
	}
	if err := c.Notify.Validate(); err != nil {
		return err
	}
	if err := c.Backup.Validate(); err != nil {
		return err
	}
	if err := c.Continuity.check(); err != nil {
		return err
	}
	return c.Config.Validate()
}

// Check is Validate for a file as it is written: with defaults, and with what
// the gateway makes of its providers. It connects to nothing.
func (c Config) Check() error {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return err
	}
	if err := c.checkPolicies(); err != nil {
		return err
	}
	return gateway.Check(c.Config)
}

// trustworthy refuses a connection string by which the database could be
// listened to or impersonated: anything but a Unix socket, loopback, or TLS
// with the server's name verified.
func trustworthy(dsn string) error {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return problem.New(problem.Invalid, "database-dsn", "The connection string cannot be read.").WithField("database.dsn").
			WithMend("Write it as key=value pairs, for example: host=db1 dbname=foundry sslmode=verify-full.")
	}
	hosts := []*pgconn.FallbackConfig{{Host: cfg.Host, TLSConfig: cfg.TLSConfig}}
	for _, h := range append(hosts, cfg.Fallbacks...) {
		ip := net.ParseIP(h.Host)
		if strings.HasPrefix(h.Host, "/") || h.Host == "localhost" || ip != nil && ip.IsLoopback() {
			continue
		}
		if h.TLSConfig == nil || h.TLSConfig.InsecureSkipVerify {
			return problem.New(problem.Denied, "database-plaintext", fmt.Sprintf("In production the connection to %s must be encrypted and its name verified.", h.Host)).
				WithField("database.dsn").WithMend("Add sslmode=verify-full and sslrootcert=FILE.")
		}
	}
	return nil
}
