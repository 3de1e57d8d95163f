package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/missionopsai/foundry/internal/problem"
)

// readWalled lists the tables whose rows even their owner, the migrator, sees
// only as far as a policy lets it.
func readWalled(ctx context.Context, tx pgx.Tx) ([]uint32, error) {
	rows, _ := tx.Query(ctx, `SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND relrowsecurity AND relforcerowsecurity`)
	return pgx.CollectRows(rows, pgx.RowTo[uint32])
}

// sawEveryRow refuses a migration that read or changed a table of which it
// does not see every row: its backfill would have left rows as they were and
// said nothing. Which tables it touched is told by the locks that it holds;
// a statement takes them even where a policy leaves it no row to scan. What
// there is to see is counted with the owner's exemption from row-level
// security put back for a moment, under the lock that this takes: both counts
// are of the same rows.
//
// It costs two counts and an exclusive lock of the table until the end of the
// migration, in migrations that move data; altering a table is not counted.
func sawEveryRow(ctx context.Context, tx pgx.Tx, m migration, walled []uint32) error {
	rows, _ := tx.Query(ctx, `SELECT DISTINCT c.oid::regclass::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
		  AND l.relation = ANY ($1) AND c.relrowsecurity AND c.relforcerowsecurity`, walled)
	touched, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, table := range touched { // quoted by regclass where it has to be
		var all, seen int64
		if _, err := tx.Exec(ctx, "ALTER TABLE "+table+" NO FORCE ROW LEVEL SECURITY"); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&all); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "ALTER TABLE "+table+" FORCE ROW LEVEL SECURITY"); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&seen); err != nil {
			return err
		}
		if seen != all {
			return problem.New(problem.Conflict, "migration-blind", fmt.Sprintf(
				"Migration %04d_%s works on the table %s, but sees %d of its %d rows. It was undone.", m.version, m.name, table, seen, all)).
				WithMend("As foundry_migrator: CREATE POLICY migrator ON " + table + " TO foundry_migrator USING (true) WITH CHECK (true), without a restrictive policy beside it; then start again.")
		}
	}
	return nil
}
