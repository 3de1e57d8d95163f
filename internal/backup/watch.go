package backup

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/backup/scratch"
	"github.com/missionopsai/foundry/internal/backup/target"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

// watched is what is known of the archive at one target.
type watched struct {
	LSN     string    // the server's word: everything before it was archived
	Written time.Time // of the newest sentinel before it
	Seen    time.Time // when the repository was last listed
	Gap     string    // the first missing segment; from the listing
	Behind  string    // what the server says was archived and the repository does not have
	Failure string    // why it could not be listed
}

// listEvery is how often the repository itself is asked which segments it has.
// Every segment of the retention is listed, which a bucket answers in seconds.
const listEvery = time.Hour

// watch looks at the archive and tells people what is wrong.
func (b *Backups) watch(ctx context.Context) error {
	if b.Configured() {
		b.watchAway()
		b.watchServers(ctx)
		if err := b.watchArchive(ctx); err != nil {
			return err
		}
		b.watchSpace(ctx)
	}
	s, err := b.status(ctx)
	if err != nil {
		return err
	}
	for _, p := range s.Problems {
		severity := notify.Warning
		if p.Severity == string(notify.Critical) {
			severity = notify.Critical
		}
		b.alarm(severity, p.Code, p.Target, map[string]string{"reason": p.Reason, "next": p.Mend})
	}
	return nil
}

// watchArchive compares what the server says it archived with what is there.
func (b *Backups) watchArchive(ctx context.Context) error {
	if b.o.Database == nil || b.o.Archived == nil {
		return nil
	}
	lsn, failing, err := b.archived(ctx)
	if err != nil {
		return err
	}
	written, err := b.writtenBefore(ctx, lsn)
	if err != nil {
		return err
	}
	now := b.o.Clock()
	for _, t := range b.tasks() {
		if t.subject != Database {
			continue
		}
		b.mu.Lock()
		w := b.watched[t.target.Name]
		b.mu.Unlock()
		w.LSN, w.Written = lsn, written
		if b.o.Archive != nil && lsn != "" && (w.Seen.IsZero() || now.Sub(w.Seen) >= listEvery || now.Before(w.Seen)) {
			w = b.list(ctx, t.target, w)
		}
		if failing != "" {
			w.Failure = failing
		} else if w.Behind == "" && w.Gap == "" && w.Seen.After(time.Time{}) {
			w.Failure = ""
		}
		b.mu.Lock()
		b.watched[t.target.Name] = w
		b.mu.Unlock()
		if lsn == "" {
			continue
		}
		if err := b.noteArchived(ctx, t.target.Name, w); err != nil {
			return err
		}
	}
	return nil
}

// list asks a repository which segments it has.
func (b *Backups) list(ctx context.Context, t target.Target, w watched) watched {
	a, _, err := b.o.Archive(ctx, t)
	w.Seen = b.o.Clock()
	if err != nil {
		w.Failure = problem.From(err).Detail
		return w
	}
	w.Gap, w.Behind = "", ""
	start := b.oldestStart(ctx, t.Name)
	if gaps := a.Gaps(start); len(gaps) > 0 {
		w.Gap = gaps[0]
	}
	if start == "" {
		return w // no backup yet: nothing needs the segments
	}
	if c := a.Check(start, w.LSN); c.Outcome == scratch.Fail && w.Gap == "" {
		w.Behind = c.Reason
	}
	return w
}

// relist has the archive at a target looked at anew: an expiry took segments
// away, and what was seen meanwhile may have looked like a gap.
func (b *Backups) relist(target string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.watched[target]
	w.Seen = time.Time{}
	b.watched[target] = w
}

// oldestStart is the segment with which the oldest backup there begins that no
// run was about to remove.
func (b *Backups) oldestStart(ctx context.Context, target string) (start string) {
	err := b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce(min(start_wal), '') FROM (SELECT start_wal FROM backup_points p WHERE target = $1 AND subject = 'database' AND gone_at IS NULL AND start_wal <> ''
			AND NOT `+plannedToGo+` ORDER BY stopped_at LIMIT 1) oldest`, target).Scan(&start)
	})
	if err != nil {
		return ""
	}
	return start
}

// writtenBefore is when the newest sentinel was written whose place in the log
// is before a position.
func (b *Backups) writtenBefore(ctx context.Context, lsn string) (at time.Time, err error) {
	if lsn == "" {
		return at, nil
	}
	err = b.o.DB.Read(ctx, func(tx pgx.Tx) error {
		var t *time.Time
		if err := tx.QueryRow(ctx, `SELECT at FROM backup_sentinels WHERE wal_lsn < $1::pg_lsn ORDER BY id DESC LIMIT 1`, lsn).Scan(&t); err != nil {
			return err
		}
		if t != nil {
			at = *t
		}
		return nil
	})
	if noRows(err) {
		return time.Time{}, nil
	}
	return at, err
}

// noteArchived keeps how far the archive came, for other nodes and after a
// restart.
func (b *Backups) noteArchived(ctx context.Context, target string, w watched) error {
	gap := w.Gap
	if gap == "" && w.Behind != "" {
		gap = "the end"
	}
	if w.Written.IsZero() {
		return nil
	}
	return b.o.DB.Org(ctx, uuid.Nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO backup_archived (target, wal_lsn, written_at, gap) VALUES ($1, $2::pg_lsn, $3, $4)
			ON CONFLICT (target) DO UPDATE SET wal_lsn = excluded.wal_lsn, written_at = excluded.written_at, gap = excluded.gap, seen_at = now()
			WHERE backup_archived.wal_lsn <> excluded.wal_lsn OR backup_archived.gap <> excluded.gap OR backup_archived.seen_at < now() - interval '5 minutes'`, target, w.LSN, w.Written, gap)
		return err
	})
}

// spaceEvery is how often targets are asked how much room they have.
const spaceEvery = 5 * time.Minute

func (b *Backups) watchSpace(ctx context.Context) {
	for _, t := range b.o.Targets {
		b.mu.Lock()
		old, known := b.seen[t.Name]
		b.mu.Unlock()
		now := b.o.Clock()
		if known && now.Sub(old.At) < spaceEvery && !now.Before(old.At) {
			continue
		}
		s := b.spaceOf(ctx, t)
		s.Stored = old.Stored
		b.mu.Lock()
		b.seen[t.Name] = s
		b.mu.Unlock()
	}
}

// ArchivedTo is up to which position of the write-ahead log every target has
// everything, as far as is known: what lies before survives the loss of this
// node. Empty: not known. Without targets for the database it is false.
func (b *Backups) ArchivedTo() (lsn string, waits bool) {
	waits = false
	var least uint64
	for _, t := range b.tasks() {
		if t.subject != Database {
			continue
		}
		waits = true
		b.mu.Lock()
		w := b.watched[t.target.Name]
		b.mu.Unlock()
		n, err := scratch.ParseLSN(w.LSN)
		if err != nil || w.Gap != "" || w.Behind != "" {
			return "", true
		}
		if least == 0 || n < least {
			least = n
		}
	}
	if least == 0 {
		return "", waits
	}
	return scratch.FormatLSN(least), waits
}
