package db

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Backup is the role of the backup engine's own session. It exists on private
// clusters only and is no role of Foundry's: only the user that runs the
// server may be it (pg_ident.conf), in the maintenance database only. It may
// begin and end a backup, switch segments and read settings, and sees no table.
const Backup Role = "foundry_backup"

// MaintenanceDatabase is the database that the role Backup signs in to.
const MaintenanceDatabase = "postgres"

// Archive says how finished WAL segments leave a cluster.
type Archive struct {
	// Command is archive_command for a data directory: it has to exit 0 only
	// when the segment %p is safe. PostgreSQL gives it to a shell. nil, or an
	// empty command, keeps all segments in pg_wal until there is one.
	Command func(data string) string
	// Timeout finishes a segment that is not full after this time, if anything
	// was written. Default 30 s.
	Timeout time.Duration
}

// settings switch archiving on. wal_level is replica anyway.
func (a *Archive) settings(data string) map[string]string {
	if a == nil {
		return nil
	}
	s := map[string]string{"archive_mode": "on", "archive_command": "", "archive_timeout": "30s"}
	if a.Command != nil {
		s["archive_command"] = a.Command(data)
	}
	if a.Timeout > 0 {
		s["archive_timeout"] = strconv.FormatInt(max(1, int64(a.Timeout/time.Second)), 10) + "s"
	}
	return s
}

// backupStatements make the role Backup. The privileges on functions hold in
// the database they are given in: the maintenance database.
func backupStatements() []string {
	return []string{
		fmt.Sprintf("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') THEN CREATE ROLE %[1]s; END IF; END $$", Backup),
		fmt.Sprintf("ALTER ROLE %s WITH %s CONNECTION LIMIT 8", Backup, attributes),
		fmt.Sprintf("COMMENT ON ROLE %s IS 'Foundry: begins and ends backups'", Backup),
		quietStatement(Backup),
		// pg_read_all_settings: where the data directory is. pg_checkpoint: a
		// backup begins at once, not with the next checkpoint.
		fmt.Sprintf("GRANT pg_read_all_settings, pg_checkpoint TO %s", Backup),
		fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal(), pg_create_restore_point(text) TO %s", Backup),
	}
}

// recoverySignal asks the next start to replay the archive (PostgreSQL 12 and newer).
const recoverySignal = "recovery.signal"

// checkRecovery keeps a data directory that was restored and not yet replayed
// from being started as if it were whole: without the archive PostgreSQL
// would replay what happens to lie in pg_wal, and go on from there. And it
// removes what the restore left in postgresql.auto.conf, which would win over
// postgresql.conf; nobody else writes that file, since no superuser signs in.
func (c *Cluster) checkRecovery() error {
	for _, name := range []string{recoverySignal, "standby.signal"} {
		if _, err := os.Lstat(filepath.Join(c.at.data, name)); err == nil {
			return problem.New(problem.Conflict, "recovery-unfinished", "The database in "+c.at.dir+" was restored from a backup, but not yet brought to its point in time.").
				WithMend("Continue with `foundry recover`, which began it; nothing is lost.")
		}
	}
	if err := os.Remove(filepath.Join(c.at.data, "postgresql.auto.conf")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileProblem(c.at.data, err)
	}
	return nil
}
