package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/problem"
)

func roleNames() []string {
	var out []string
	for _, r := range db.Roles {
		out = append(out, string(r))
	}
	return out
}

func knownRole(name string) bool {
	for _, r := range db.Roles {
		if string(r) == name {
			return true
		}
	}
	return false
}

// startDatabase starts the private cluster, or finds the external server, and
// brings the schema up to date. An external server that is away does not stop
// the node: the gateway then works from its snapshot.
func (d *Daemon) startDatabase(ctx context.Context) error {
	if d.followsFleet() {
		return d.startFleetDatabase(ctx)
	}
	cfg, err := d.databaseConfig(ctx)
	if err != nil {
		return err
	}
	if d.db, err = db.Open(ctx, cfg, d.log); err != nil {
		return err
	}
	if !d.db.Healthy() {
		if d.cluster.Load() != nil {
			return d.db.WaitHealthy(ctx)
		}
		d.log.Warn("the database does not answer; starting without it")
		d.running.Go(func() { d.migrateLater(cfg) })
		return nil
	}
	return d.migrate(ctx, cfg)
}

func (d *Daemon) migrate(ctx context.Context, cfg db.Config) error {
	if cfg.Find == nil { // otherwise it is done where the server runs
		if err := db.Migrate(ctx, cfg, d.log); err != nil {
			return err
		}
	}
	if err := db.CheckSchema(ctx, d.db); err != nil {
		return err
	}
	if err := db.CheckRoles(ctx, d.db); err != nil || d.keyring == nil {
		return err
	}
	return d.keyring.Belongs(ctx, d.db)
}

// Migrate brings the schema of an external database up to date. A private
// cluster is migrated by the node that runs it.
func Migrate(ctx context.Context, c Config, log *slog.Logger) error {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Database.DSN == "" || c.Database.Fleet {
		return problem.New(problem.Invalid, "database-private", "The configuration names no external database.").WithField("database.dsn").
			WithMend("A private database is migrated by `foundry up`.")
	}
	d := &Daemon{config: c, log: log}
	cfg, err := d.databaseConfig(ctx)
	if err != nil {
		return err
	}
	return db.Migrate(ctx, cfg, log)
}

// migrateLater does at the database's return what could not be done at the
// start. A database that must not be used ends the node.
func (d *Daemon) migrateLater(cfg db.Config) {
	ctx := d.life // a node may be stopped before its database returns
	if err := d.db.WaitHealthy(ctx); err != nil {
		return
	}
	if err := d.migrateAdmitted(ctx, cfg); err != nil && ctx.Err() == nil {
		d.failed <- fmt.Errorf("the database came back but cannot be used: %w", err)
	}
}

func (d *Daemon) databaseConfig(ctx context.Context) (db.Config, error) {
	c := d.config.Database
	if c.DSN != "" {
		cfg := db.Config{DSN: c.DSN, Users: map[db.Role]db.Login{}, Epochs: &d.epochs}
		for role, secret := range c.Passwords {
			password, err := secret.Read("database.passwords." + role)
			if err != nil {
				return cfg, err
			}
			cfg.Users[db.Role(role)] = db.Login{Password: password}
		}
		return cfg, nil
	}
	cluster, err := db.StartCluster(ctx, db.ClusterOptions{Dir: filepath.Join(d.config.DataDir, "postgres"), BinDir: c.BinDir, Log: d.log, Archive: d.archive()})
	if err != nil {
		return db.Config{}, err
	}
	d.cluster.Store(cluster)
	return cluster.Config(), nil
}
