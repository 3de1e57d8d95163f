package backup

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/db"
)

// ServerArchived is what a server says of its archiving: the end of the last
// segment whose archive_command succeeded, when that was, and, while it fails,
// that it does. With several targets the command succeeds only when all of
// them have the segment.
func ServerArchived(ctx context.Context, d *db.DB) (lsn string, at time.Time, failing string, err error) {
	var name *string
	var done, failed *time.Time
	err = d.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT last_archived_wal, last_archived_time, last_failed_time FROM pg_stat_archiver`).Scan(&name, &done, &failed)
	})
	if err != nil {
		return "", at, "", err
	}
	if failed != nil && (done == nil || failed.After(*done)) {
		failing = "The server cannot archive its log since " + stamp(*failed) + " at the latest."
	}
	if name == nil || done == nil {
		return "", at, failing, nil
	}
	// The history file of a backup is named after the segment with which the
	// backup began, and goes after it.
	segment, _, _ := strings.Cut(*name, ".")
	if end, ok := scratch.SegmentEnd(segment); ok {
		lsn = scratch.FormatLSN(end)
	}
	return lsn, *done, failing, nil
}

// archivePatience is how long the archiving of the log may fail before it is
// called failing.
const archivePatience = 90 * time.Second

// archived is Options.Archived, and never less than it once was: what was
// archived stays so, though the server names only what it archived last.
func (b *Backups) archived(ctx context.Context) (lsn, failing string, err error) {
	lsn, _, failing, err = b.o.Archived(ctx)
	if err != nil {
		return "", "", err
	}
	now, nerr := scratch.ParseLSN(lsn)
	b.mu.Lock()
	defer b.mu.Unlock()
	// One push that fails is tried again a second later: that is nothing to
	// wake people for.
	switch at := b.o.Clock(); {
	case failing == "":
		b.failingSince = time.Time{}
	case b.failingSince.IsZero():
		b.failingSince, failing = at, ""
	case at.Sub(b.failingSince) < archivePatience && !at.Before(b.failingSince):
		failing = ""
	}
	if nerr == nil && now > b.claimed {
		b.claimed = now
	}
	if b.claimed == 0 {
		return "", failing, nil
	}
	return scratch.FormatLSN(b.claimed), failing, nil
}
