package db

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/missionopsai/foundry/internal/problem"
)

//go:embed migrations/*.sql
var embedded embed.FS

// SchemaVersion is the number of the newest migration this binary knows.
var SchemaVersion = newest(embedded)

// migration is one numbered file.
type migration struct {
	version      int
	name         string
	sql          string
	checksum     string
	oldestBinary int
}

var (
	fileName     = regexp.MustCompile(`^(\d{4})_([a-z0-9_]+)\.sql$`)
	oldestBinary = regexp.MustCompile(`^-- oldest binary: (\d{1,9})\s*(?:\n|$)`)
)

// migrationLock is the key of the advisory lock that lets one node migrate at
// a time: the first eight bytes of SHA-256("foundry schema_migrations").
const migrationLock int64 = 0x466f756e64727901

// load reads the migrations of a file system in order.
func load(fsys fs.FS) ([]migration, error) {
	names, err := fs.Glob(fsys, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var all []migration
	oldest := 1
	for _, name := range names {
		m := fileName.FindStringSubmatch(path.Base(name))
		if m == nil {
			return nil, fmt.Errorf("migration %s: want a name like 0007_ledger.sql", path.Base(name))
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		sql := strings.ReplaceAll(string(text), "\r\n", "\n")
		version, _ := strconv.Atoi(m[1]) // four digits
		if n := len(all); version == 0 || n > 0 && all[n-1].version == version {
			return nil, fmt.Errorf("migration %s: the number is zero or taken", path.Base(name))
		}
		if o := oldestBinary.FindStringSubmatch(sql); o != nil {
			stated, _ := strconv.Atoi(o[1]) // at most nine digits
			if stated < oldest || stated > version {
				return nil, fmt.Errorf("migration %s: oldest binary %d, want %d to %d", path.Base(name), stated, oldest, version)
			}
			oldest = stated
		}
		sum := sha256.Sum256([]byte(sql))
		all = append(all, migration{version, m[2], sql, hex.EncodeToString(sum[:]), oldest})
	}
	return all, nil
}

func newest(fsys fs.FS) int {
	all, err := load(fsys)
	if err != nil || len(all) == 0 {
		return 0 // Migrate reports why
	}
	return all[len(all)-1].version
}

// Migrate brings the schema to SchemaVersion, as the migrator. One node does
// it at a time; others wait and find it done. A schema newer than this binary
// is left alone if it says that it still serves this binary, and is an error
// otherwise.
func Migrate(ctx context.Context, cfg Config, log *slog.Logger) error {
	return migrate(ctx, cfg, log, embedded)
}

func migrate(ctx context.Context, cfg Config, log *slog.Logger, fsys fs.FS) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	all, err := load(fsys)
	if err != nil {
		return err
	}
	pc, err := cfg.withDefaults().pool(Migrator)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, pc.ConnConfig)
	if err != nil {
		return unavailable(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx) // also releases the advisory lock
	}()
	if err := lockMigrations(ctx, conn); err != nil {
		return err
	}
	applied, err := readApplied(ctx, conn)
	if err != nil {
		return classify(ctx, conn.IsClosed(), fmt.Errorf("reading schema_migrations: %w", err))
	}
	todo, err := pending(all, applied)
	if err != nil {
		return err
	}
	for _, m := range todo {
		start := time.Now()
		if err := apply(ctx, conn, m); err != nil {
			return err
		}
		log.Info("migrated the schema", "version", m.version, "name", m.name, "took", time.Since(start))
	}
	return nil
}

// lockMigrations waits for the node that is migrating, for as long as ctx
// allows: its backfill may be long, and lock_timeout is not meant for that.
func lockMigrations(ctx context.Context, conn *pgx.Conn) error {
	held := false
	for {
		var got bool
		err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", migrationLock).Scan(&got)
		switch {
		case err == nil && got:
			return nil
		case err != nil && !(held && ctx.Err() != nil):
			return classify(ctx, conn.IsClosed(), fmt.Errorf("taking the migration lock: %w", err))
		}
		held = true
		select {
		case <-ctx.Done():
			return problem.New(problem.Conflict, "migration-held", "Another node is migrating the schema and has not finished.").
				WithMend("Wait for it, or look for a session in pg_stat_activity that holds the advisory lock.").Wrap(ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// row is a line of schema_migrations.
type row struct {
	version      int
	name         string
	checksum     string
	oldestBinary int
}

func readApplied(ctx context.Context, q interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}) ([]row, error) {
	rows, _ := q.Query(ctx, "select to_regclass('public.schema_migrations') is not null")
	migrated, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err != nil || !migrated {
		return nil, err
	}
	rows, _ = q.Query(ctx, "select version, name, checksum, oldest_binary from schema_migrations order by version")
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (m row, err error) {
		return m, r.Scan(&m.version, &m.name, &m.checksum, &m.oldestBinary)
	})
}

// pending compares what is known with what was applied.
func pending(all []migration, applied []row) ([]migration, error) {
	known := map[int]migration{}
	for _, m := range all {
		known[m.version] = m
	}
	top := 0
	if n := len(applied); n > 0 {
		top = applied[n-1].version
	}
	if err := serves(all, applied); err != nil {
		return nil, err
	}
	done := map[int]bool{}
	for _, r := range applied {
		done[r.version] = true
		if m, ok := known[r.version]; ok && m.checksum != r.checksum {
			return nil, problem.New(problem.Conflict, "migration-changed", fmt.Sprintf(
				"Migration %04d_%s is not the one that was applied to this database: the file was edited afterwards.", r.version, r.name)).
				WithMend("Use an unmodified release, or restore the file and write the change as a new migration.")
		}
	}
	var todo []migration
	for _, m := range all {
		switch {
		case done[m.version]:
		case m.version < top:
			return nil, problem.New(problem.Conflict, "migration-missed", fmt.Sprintf(
				"Migration %04d_%s was never applied to this database, but the later %04d was.", m.version, m.name, top)).
				WithMend("Use a release build; a database made by a development build in between has to be made anew.")
		default:
			todo = append(todo, m)
		}
	}
	return todo, nil
}

// serves refuses a schema that no longer serves a binary that knows all.
func serves(all []migration, applied []row) error {
	if len(applied) == 0 {
		return nil
	}
	mine := 0
	if len(all) > 0 {
		mine = all[len(all)-1].version
	}
	last := applied[len(applied)-1]
	if last.version <= mine || last.oldestBinary <= mine {
		return nil
	}
	return problem.New(problem.Conflict, "schema-newer", fmt.Sprintf(
		"The database has schema %d, which serves binaries that know schema %d or newer; this binary knows %d.", last.version, last.oldestBinary, mine)).
		WithMend("Start the newer release that migrated it; a schema is never taken back.")
}

func apply(ctx context.Context, conn *pgx.Conn, m migration) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		walled, err := readWalled(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, m.sql); err != nil {
			return err
		}
		if err := sawEveryRow(ctx, tx, m, walled); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "insert into schema_migrations (version, name, checksum, oldest_binary) values ($1, $2, $3, $4)",
			m.version, m.name, m.checksum, m.oldestBinary)
		return err
	})
	if err == nil {
		return nil
	}
	where := ""
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Position > 0 {
		chars := []rune(m.sql)
		where = fmt.Sprintf(" line %d", 1+strings.Count(string(chars[:min(int(pe.Position), len(chars))-1]), "\n"))
	}
	return classify(ctx, conn.IsClosed(), fmt.Errorf("migration %04d_%s%s: %w", m.version, m.name, where, err))
}

// CheckSchema reports whether the schema of the database serves this binary.
func CheckSchema(ctx context.Context, d *DB) error {
	all, err := load(embedded)
	if err != nil {
		return err
	}
	return d.Read(ctx, func(tx pgx.Tx) error {
		applied, err := readApplied(ctx, tx)
		if err != nil {
			return fmt.Errorf("reading schema_migrations: %w", err)
		}
		todo, err := pending(all, applied)
		if err != nil || len(todo) == 0 {
			return err
		}
		top := 0
		if n := len(applied); n > 0 {
			top = applied[n-1].version
		}
		return problem.New(problem.Conflict, "schema-older", fmt.Sprintf(
			"The database has schema %d; this binary needs %d.", top, SchemaVersion)).
			WithMend("Migrate it first: `foundry database migrate`.")
	})
}
