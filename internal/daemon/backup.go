package daemon

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/missionopsai/foundry/internal/audit"
	"github.com/missionopsai/foundry/internal/backup"
	"github.com/missionopsai/foundry/internal/backup/engine"
	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/pgbackrest"
	"github.com/missionopsai/foundry/internal/backup/restic"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

// safety is what keeps copies of this node elsewhere.
type safety struct {
	backups     *backup.Backups
	targets     []target.Target
	passphrases *backup.Passphrases
	runtime     *engine.Runtime    // secrets that the engines use; nil: there are none
	database    *pgbackrest.Engine // nil: the database is not backed up by this node
	files       *restic.Engine     // nil: files are not
	hold        *journalHold
	mirrors     *mirror.Mirrors // nil: no repository is mirrored
}

// prepareBackups opens the targets and makes the engines, so that the database
// can archive its log from its first moment. Without targets there is nothing
// to do; what is missing is said later, by the service.
func (d *Daemon) prepareBackups(ctx context.Context) (err error) {
	c := d.config.Backup.WithDefaults()
	if d.passphrases, err = backup.OpenPassphrases(d.config.DataDir, d.keyring.Seal, d.keyring.Open); err != nil {
		return err
	}
	for i, t := range c.Targets {
		opened, err := target.Open(t, fmt.Sprintf("backup.targets[%d]", i))
		if err != nil {
			return err
		}
		d.targets = append(d.targets, opened.Keep(filepath.Join(d.config.DataDir, "backup", "targets"), d.place(), d.config.Mode == Production))
	}
	if len(d.targets) == 0 {
		return nil
	}
	if err := d.refuseTogether(); err != nil {
		return err
	}
	if d.runtime, err = engine.OpenRuntime(c.Runtime, d.config.DataDir, d.config.Mode == Production); err != nil {
		return err
	}
	if d.runtime.Warning != "" {
		d.log.Warn(d.runtime.Warning)
	}
	if err := d.makeDatabaseEngine(ctx, c); err != nil {
		return err
	}
	private, err := d.runtime.Sub(restic.Name, -1, -1)
	if err != nil {
		return err
	}
	d.files, err = restic.New(restic.Options{Node: fmt.Sprint(d.node.Number), State: filepath.Join(d.config.DataDir, "backup", restic.Name), Runtime: private,
		Passphrase: d.passphrases.For(restic.Name), Processes: c.Processes, Log: d.log, Now: d.clock})
	if err != nil {
		return err
	}
	return d.prepareMirrors(c)
}

// makeDatabaseEngine makes what backs the private cluster up. Files of an
// external database are not this node's to copy.
func (d *Daemon) makeDatabaseEngine(ctx context.Context, c backup.Config) error {
	if d.config.Database.DSN != "" || d.followsFleet() && !d.mayRunDatabase() {
		d.log.Warn("the database is elsewhere: this node does not back it up")
		return nil
	}
	account, err := db.FindAccount("")
	if err != nil {
		return err
	}
	var targets []target.Target
	for _, t := range d.targets {
		if t.Kind != target.SFTPHost && t.Serves(pgbackrest.Name) {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil
	}
	d.database, err = pgbackrest.New(ctx, pgbackrest.Options{Targets: targets, Passphrase: d.passphrases.For(pgbackrest.Name), Runtime: d.runtime,
		Dir: filepath.Join(d.config.DataDir, pgbackrest.Name), Account: account, Processes: c.Processes, Clock: d.clock, Log: d.log,
		Server: func() (pgbackrest.Server, bool) {
			if d.cluster.Load() == nil || d.cluster.Load().PID() == 0 {
				return pgbackrest.Server{}, false
			}
			return pgbackrest.Of(d.cluster.Load()), true
		}})
	return err
}

// archive says how the log of the private cluster leaves it.
func (d *Daemon) archive() *db.Archive {
	if d.database == nil {
		return nil
	}
	return &db.Archive{Command: d.database.ArchiveCommand, Timeout: time.Duration(d.config.Backup.WithDefaults().ArchiveTimeout)}
}

// place is where the data stands.
func (d *Daemon) place() target.Place {
	return target.Place{Paths: []string{d.config.DataDir}, Host: d.config.Node.Name, Account: d.config.Node.Account, Supplier: d.config.Node.Supplier, Country: d.config.Node.Country}
}

// refuseTogether refuses, in production, a target that the loss of this node
// would take along. One that was accepted before and is away keeps no node
// from starting: it alone is refused, until it is back.
func (d *Daemon) refuseTogether() error {
	for i, t := range d.targets {
		for _, f := range t.Apart(d.place(), d.config.Mode == Production) {
			if f.Away() {
				d.log.Error("a target of backups is away: nothing is written there until it is back", "target", t.Name, "detail", f.Detail, "mend", f.Mend)
				continue
			}
			if f.Fatal && d.config.Mode == Production {
				return problem.New(problem.Denied, "target-"+f.Rule, f.Detail).WithField(fmt.Sprintf("backup.targets[%d].%s", i, f.Field)).WithMend(f.Mend)
			}
			d.log.Warn("a target of backups is not apart from the data", "target", t.Name, "rule", f.Rule, "detail", f.Detail)
		}
	}
	return nil
}

// makeBackups makes the service.
func (d *Daemon) makeBackups(context.Context) error {
	seed, err := d.keyring.MACKey("backup drill signature")
	if err != nil {
		return fmt.Errorf("deriving the key that signs records of drills: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed[:ed25519.SeedSize])
	public, _ := key.Public().(ed25519.PublicKey)
	name := "ed25519:" + hex.EncodeToString(public)
	c := d.config.Backup.WithDefaults()
	o := backup.Options{DB: d.db, Guard: d.guard, Config: c, Targets: d.targets, Place: d.place(), Mode: d.config.Mode, Node: d.node.Number, Boot: d.node.Boot,
		BinDir: d.config.Database.BinDir, Scratch: c.ScratchDir, Hooks: d.copyHooks(),
		Sign:  func(m []byte) (string, []byte, error) { return name, ed25519.Sign(key, m), nil },
		Alarm: func(s notify.Severity, code string, facts map[string]string) { d.alarm(s, code, uuid.Nil, facts) },
		Made:  d.backupMade, JournalHeld: d.hold.held, Background: d.running.Go, Clock: d.clock, Log: d.log}
	if o.Scratch == "" {
		o.Scratch = filepath.Join(d.config.DataDir, "scratch")
	}
	if d.database != nil {
		o.Database, o.Archive = d.database, d.archived
		o.Archived = func(ctx context.Context) (string, time.Time, string, error) { return backup.ServerArchived(ctx, d.db) }
	}
	if d.files != nil {
		o.Files, o.Sources, o.Restored = d.files, d.backupSources, d.proveMirrors
	}
	if d.backups, err = backup.New(o); err != nil {
		return err
	}
	d.registry.MustRegister(d.backups)
	return nil
}

// archived lists what a repository has of the log.
func (d *Daemon) archived(ctx context.Context, t target.Target) (scratch.Archive, time.Time, error) {
	a, err := d.database.Archive(ctx, t)
	if err != nil {
		return scratch.Archive{}, time.Time{}, err
	}
	newest, _ := a.Newest()
	return scratch.Archive{Names: a.Names(), Missing: a.Missing()}, newest.Stored, nil
}

// backupMade puts the emergency kit beside a backup.
func (d *Daemon) backupMade(ctx context.Context, _ target.Target) error { return d.glass.Renew(ctx) }

// backupSources are the files of this node that a recovery needs: everything
// in the data directory but the database, what is made anew, and the
// key-encryption key, which never goes where the data goes.
func (d *Daemon) backupSources(ctx context.Context) ([]string, error) {
	d.fetchMirrors(ctx)
	var out []string
	for _, name := range []string{"node.json", "ca", "journal", "audit", "evidence", "backup/passphrases.sealed", "backup/targets", "recovery", "breakglass", "mirrors"} {
		out = append(out, filepath.Join(d.config.DataDir, name))
	}
	wrapped, err := filepath.Glob(filepath.Join(d.config.DataDir, "keys", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range wrapped {
		if !secretKey(filepath.Base(path)) {
			out = append(out, path)
		}
	}
	return existing(append(out, d.config.Policies...)), nil
}

// copyHooks are the checks of a restored database that need what this node
// knows: its checkpoints, and its keys.
func (d *Daemon) copyHooks() []scratch.Hook {
	return []scratch.Hook{
		{Name: backup.CheckAudit, Look: func(ctx context.Context, copy *db.DB, recovered time.Time) (scratch.Outcome, string, error) {
			log, err := audit.OpenLog(audit.Options{DB: copy, Dir: filepath.Join(d.config.DataDir, "audit"), Node: d.node.Number, Seal: d.keyring.Seal, Open: d.keyring.Open})
			if err != nil {
				return scratch.Inconclusive, "", err
			}
			return backup.JudgeAudit(ctx, log, recovered)
		}},
		{Name: backup.CheckKeys, Look: func(ctx context.Context, copy *db.DB, _ time.Time) (scratch.Outcome, string, error) {
			return backup.JudgeKeys(ctx, copy, keys.NewVault(keys.VaultOptions{DB: copy, Keyring: d.keyring}), sealedColumns())
		}},
	}
}

// secretKey reports whether a file of the directory of keys holds, or may
// hold, a key-encryption key: those never go where the data goes.
func secretKey(name string) bool {
	return strings.HasPrefix(name, "kek") || strings.HasPrefix(name, ".")
}

// existing leaves out what is not there: nothing may be backed up that is
// skipped silently.
func existing(paths []string) (out []string) {
	for _, p := range paths {
		if _, err := os.Lstat(p); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// plantedNeedles are plaintexts that must not stand in any backup: names of
// tables and of files that are in all of them.
func (d *Daemon) plantedNeedles() [][]byte {
	return [][]byte{[]byte("backup_sentinels"), []byte("foundry_migrator"), []byte("audit_checkpoints")}
}

// backupSecrets are what opens the backups and the keys in them. The caller
// wipes them.
func (d *Daemon) backupSecrets() (map[string][]byte, error) {
	out := d.passphrases.All()
	m, err := d.keyMaterial()
	if err != nil || m.KEK == "" {
		return out, err
	}
	key, err := os.ReadFile(m.KEK)
	if err != nil {
		return out, fmt.Errorf("reading the %s: %w", m.Name, err)
	}
	if text := bytes.TrimSpace(key); len(text) >= 16 {
		out[m.Name] = text
	}
	return out, nil
}

// runBackups keeps the schedule.
func (d *Daemon) runBackups(ctx context.Context) {
	d.running.Go(func() { d.hold.run(ctx) })
	d.running.Go(func() {
		d.sealSample(ctx)
		if err := d.backups.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("backups stopped", "error", err)
		}
	})
}

// sealSample makes sure that there is a keyset, the installation's own, that a
// drill can try to open: on a new node nothing may have been sealed yet.
func (d *Daemon) sealSample(ctx context.Context) {
	if err := d.db.WaitHealthy(ctx); err != nil {
		return
	}
	c := sealedColumns()[0] // what is sealed is thrown away: making the keyset is the point
	if _, err := d.vault.Seal(ctx, uuid.Nil, keys.Place{Table: c.Table, Column: c.Column, Row: "sample"}, []byte("sample")); err != nil && ctx.Err() == nil {
		d.log.Warn("a sample for drills was not sealed", "error", err)
	}
}

// closeBackups removes the secrets of the engines.
func (d *Daemon) closeBackups() {
	if d.runtime == nil {
		return
	}
	if err := d.runtime.Close(); err != nil {
		d.log.Warn("secrets of the backups were not removed from memory", "error", err)
	}
}
