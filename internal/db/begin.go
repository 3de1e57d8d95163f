package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/problem"
)

// BeginEpoch is TakeEpoch for a database that others keep and that is reached as
// gateways reach it, by whoever may be the migrator there. It writes only where
// the timeline is the one given: a server that led before has an older one, and
// learns nothing. It returns the epoch of the timeline's leader, which another
// may have written already.
func BeginEpoch(ctx context.Context, cfg Config, epoch int64, node string, timeline int64) (int64, error) {
	pc, err := cfg.withDefaults().pool(Migrator)
	if err != nil {
		return 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, pc.ConnConfig)
	if err != nil {
		return 0, unavailable(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var at int64
	err = conn.QueryRow(ctx, `SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END`).Scan(&at)
	if err != nil {
		return 0, fmt.Errorf("asking the database for its timeline: %w", err)
	}
	if at != timeline {
		return 0, problem.New(problem.Conflict, "database-timeline", fmt.Sprintf("The database that answers is on timeline %d, and not the leader of timeline %d.", at, timeline)).
			WithMend("It is tried again; look at `foundry database patroni status` if it stays so.")
	}
	if _, err := conn.Exec(ctx, `INSERT INTO fleet_epoch (epoch, node) SELECT $1, $2 WHERE NOT EXISTS (SELECT FROM fleet_epoch WHERE epoch >= $1)`, epoch, node); err != nil {
		return 0, fmt.Errorf("writing the epoch into the database: %w", err)
	}
	return readEpoch(ctx, conn.PgConn())
}
